/* SPDX-License-Identifier: MIT */
#pragma once

/* Nodes of a tree in plain memory, for tests. Each block is an allocation of its own, so that a sanitizer sees an access past its
 * end. The store fails the test when the tree breaks a promise: writes to a sealed block, releases one twice, reads one that it
 * gave back, or reads the checksum of a sealed one (seen with AddressSanitizer only). */

#include <glib.h>

#include "tree/tree.h"

typedef struct {
    MapfsTree tree;
    GPtrArray *blocks;      /* of TreeStoreBlock, by address */
    GArray *free_addresses; /* of uint64_t: released in the generation that they were born in */
    unsigned n_live;        /* blocks of the newest state */
    unsigned n_allocates;   /* since the test last set it to 0 */
    unsigned n_names;       /* those of the allocates that were for leaves of names */
    unsigned n_releases;
    unsigned n_reads;
    unsigned fail_allocate; /* this allocate from now on gives -ENOSPC, 0 for none */
    unsigned fail_read;     /* this read from now on gives -EUCLEAN, 0 for none */
    bool hostile;           /* a wrong address or generation is damage and no fault of the tree */
    GRand *disturb;         /* with this set, any call may change bytes of any block */
} TreeStore;

/* An empty tree of generation 1. */
void tree_store_init(TreeStore *store);
void tree_store_clear(TreeStore *store);

/* Seals every node of the running generation, as a checkpoint does, and begins the next. */
void tree_store_next_generation(TreeStore *store);

/* Fails the test if a sealed block has changed since it was sealed. */
void tree_store_check_sealed(TreeStore *store);

/* The bytes of a block, for tests that damage it; NULL when there is none. */
void *tree_store_block(TreeStore *store, uint64_t address);

/* Changes a few random bytes somewhere. */
void tree_store_disturb(TreeStore *store, GRand *rand);

/* What a walk over a state found. */
typedef struct {
    uint64_t n_items, n_leaves, n_nodes;
    uint64_t used_bytes; /* of the leaves */
    uint64_t digest;     /* of all keys and values in order */
} TreeStoreShape;

/* Walks the state below `root` and fails the test at anything wrong: headers, layout of each node, order of keys across nodes, bounds that
 * the pointers give, generations, empty nodes, checksums of unsealed nodes that are not 0. */
TreeStoreShape tree_store_check(TreeStore *store, MapfsNodeRef root);

/* The same of the newest state, and that no block got lost. */
TreeStoreShape tree_store_check_newest(TreeStore *store);

/* Fills `value` with bytes that depend on key and version. */
void tree_store_make_value(MapfsKey key, uint32_t version, void *value, size_t value_len);

/* Inserts such a value and fails the test if that fails. */
void tree_store_insert(TreeStore *store, MapfsKey key, uint32_t version, size_t value_len);

/* The seed of a random test: $MAPFS_TEST_SEED or a new one; printed. */
uint32_t tree_store_seed(const char *test);

/* How much longer than usual the random tests run: $MAPFS_TEST_FACTOR or 1. */
unsigned tree_store_factor(void);
