/* SPDX-License-Identifier: MIT */
#pragma once

/* The copy-on-write B+tree. It changes nodes that were born in the running generation where they lie, copies all others to
 * new blocks, and never looks at anything but nodes. Blocks come from, and go back to, a store: the transaction layer, or plain
 * memory in unit tests.
 *
 * Locks: lookups and cursors need the tree held for reading by the caller, changes for writing. A value pointer is valid until
 * the lock is dropped or the tree changes. Values lie at any byte: copy them out (or use the mapfs_le*_load of packed-safe copies). */

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"
#include "base/types.h"
#include "format/node.h"

/* Where nodes come from. -EUCLEAN is damage. None of them may change the tree. */
typedef struct {
    /* The node's 4096 bytes, checked once in full (mapfs_node_check) before the first use since mount. A node of the running generation
     * that was not allocated since it began is damage: the tree would ask for it writable. */
    int (*read)(void *store, MapfsNodeRef ref, const void **ret_node);
    /* The same bytes writable; only asked for nodes of the running generation. Never fails. */
    void *(*writable)(void *store, MapfsBlock address);
    /* A new block; its bytes are undefined. `names` (a hint): for a leaf of directory entries alone, to be put beside others of its kind,
     * since a listing reads them in a row. -ENOSPC. */
    int (*allocate)(void *store, bool names, MapfsBlock *ret_address, void **ret_node);
    /* The node is no longer part of the tree: one that was read, or one that was allocated for a change that then failed. Never
     * fails. A tree that is damaged so that two pointers lead to one node may release it twice: the store must bear that. */
    void (*release)(void *store, MapfsNodeRef ref);
} MapfsTreeStoreOps;

typedef struct {
    const MapfsTreeStoreOps *ops;
    void *store;
    MapfsNodeRef root;       /* guarded by the caller's lock */
    MapfsGeneration running; /* nodes of this generation are changed in place */
} MapfsTree;

/* A found item. */
typedef struct {
    MapfsKey key;
    const void *value;
    size_t value_len;
} MapfsItem;

/* Where a cursor stands; embedded, no memory of its own. */
typedef struct {
    const MapfsTree *tree;
    uint8_t n_levels;
    struct {
        const void *node;
        uint16_t index;
    } path[MAPFS_TREE_LEVELS_MAX];
} MapfsCursor;

/* Makes an empty tree: one leaf. */
int mapfs_tree_create(MapfsTree *tree) MAPFS_MUST_USE;

/* The item with this key: 1 and *ret_item, 0 if there is none, or -errno. */
int mapfs_tree_lookup(const MapfsTree *tree, MapfsKey key, MapfsItem *ret_item) MAPFS_MUST_USE;

/* The first item with a key >= (or the last with a key <=) `key`: 1, 0 or -errno. */
int mapfs_tree_lookup_ge(const MapfsTree *tree, MapfsKey key, MapfsItem *ret_item) MAPFS_MUST_USE;
int mapfs_tree_lookup_le(const MapfsTree *tree, MapfsKey key, MapfsItem *ret_item) MAPFS_MUST_USE;

/* The leaves, in rising order, from that of `first` on, of which the first ones can hold items up to `last`: how many, up to n_max (at least 1); or
 * -errno. It ends early where an index node cannot be read. The leaves themselves are not looked at. */
int mapfs_tree_leaves(const MapfsTree *tree, MapfsKey first, MapfsKey last, MapfsNodeRef *ret_refs,
                      unsigned n_max) MAPFS_MUST_USE;

/* Walks items in rising order from the first key >= `key`: 1 and the item, 0 at the end, or -errno. Each level's child is strictly
 * one level lower, so that no damage makes it loop. */
int mapfs_cursor_begin(MapfsCursor *cursor, const MapfsTree *tree, MapfsKey key, MapfsItem *ret_item) MAPFS_MUST_USE;
int mapfs_cursor_next(MapfsCursor *cursor, MapfsItem *ret_item) MAPFS_MUST_USE;

/* Adds an item; -EEXIST when the key is there, -EMSGSIZE when the value is longer than MAPFS_VALUE_LEN_MAX, -ENOSPC. With `value`
 * NULL the value is zeros; it must not lie in a node of the tree, whose bytes move. On failure the tree is as it was (copied nodes
 * aside). */
int mapfs_tree_insert(MapfsTree *tree, MapfsKey key, const void *value, size_t value_len) MAPFS_MUST_USE;

/* Gives an item a new value, of any length; -ENOENT when the key is not there. */
int mapfs_tree_replace(MapfsTree *tree, MapfsKey key, const void *value, size_t value_len) MAPFS_MUST_USE;

/* Replaces or inserts. */
int mapfs_tree_put(MapfsTree *tree, MapfsKey key, const void *value, size_t value_len) MAPFS_MUST_USE;

/* Removes an item; -ENOENT when the key is not there. Leaves that run low are joined with a neighbour, unless it cannot be read; the
 * root shrinks. */
int mapfs_tree_remove(MapfsTree *tree, MapfsKey key) MAPFS_MUST_USE;

/* The most blocks that one insert, replace, put or remove can allocate on this tree: every level copied and split, and a new root.
 * Joins allocate nothing. */
unsigned mapfs_tree_change_blocks_max(const MapfsTree *tree);

/* The most blocks that changes of items between two keys can allocate together, in rising order of the keys and each key once: up to n_puts (at most
 * MAPFS_TREE_PUTS_MAX) inserts or replacements, and after them any number of removals. Every node on the ways there is copied once, however many
 * items it holds; each put may split a leaf. 0 or -errno. */
#define MAPFS_TREE_PUTS_MAX 48u
int mapfs_tree_range_blocks_max(const MapfsTree *tree, MapfsKey first, MapfsKey last, unsigned n_puts,
                                unsigned *ret_n_blocks) MAPFS_MUST_USE;
