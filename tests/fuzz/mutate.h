/* SPDX-License-Identifier: MIT */
#pragma once

/* Changes of inputs that know what an image is made of: keys, items, pointers, counts, bitmaps, superblocks. What is changed keeps its frame most of
 * the time (a leaf is laid out anew, a bitmap's count follows), so that the lie is found by whoever believes the content. */

#include "format/key.h"
#include "format/node.h"
#include "format/superblock.h"
#include "input.h"

/* xorshift64*; the state is not 0. */
typedef struct {
    uint64_t state;
} FuzzRandom;
uint64_t fuzz_random_next(FuzzRandom *random);
uint64_t fuzz_random_below(FuzzRandom *random, uint64_t n);

/* Changes the bytes at `data` as libFuzzer itself does; returns their new number. */
typedef size_t (*FuzzBytesMutate)(uint8_t *data, size_t len, size_t len_max);

typedef struct {
    FuzzInput *input;
    FuzzRandom random;
    FuzzBytesMutate bytes_mutate;
} FuzzMutation;

/* One change, of any kind. */
void fuzz_mutate(FuzzMutation *mutation);

/* Takes some blocks of another input. */
void fuzz_mutate_cross(FuzzMutation *mutation, const FuzzInput *other);

/* --- what the files of the mutator share --- */

/* A leaf taken apart: its items can be changed without regard to their layout. */
typedef struct {
    MapfsKey key;
    size_t value_len;
    uint8_t value[MAPFS_VALUE_LEN_MAX];
} FuzzItem;
typedef struct {
    unsigned n_items;
    FuzzItem items[MAPFS_LEAF_SLOTS_MAX];
} FuzzLeaf;

/* False when the block is no leaf that can be taken apart. */
bool fuzz_leaf_load(FuzzLeaf *leaf, const FuzzBlock *block) MAPFS_MUST_USE;
/* Lays the items out; what does not fit any more is left out. */
void fuzz_leaf_store(const FuzzLeaf *leaf, FuzzBlock *block);
void fuzz_leaf_sort(FuzzLeaf *leaf);
/* False when the leaf is full. */
bool fuzz_leaf_insert(FuzzLeaf *leaf, const FuzzItem *item);

bool fuzz_below(FuzzMutation *mutation, unsigned n, unsigned of); /* true in n of `of` cases */

/* The superblock with the greatest generation, whatever else it holds, and that of the other slot; NULL if there is none. */
struct mapfs_disk_superblock *fuzz_superblock(const FuzzMutation *mutation);
FuzzBlock *fuzz_pick_block(FuzzMutation *mutation);
/* A node that the superblock leads to, most of the time; of this level, or of any with -1. NULL if none was found. */
FuzzBlock *fuzz_pick_node(FuzzMutation *mutation, int level);
/* The leaf where a key belongs. */
FuzzBlock *fuzz_leaf_of(const FuzzMutation *mutation, MapfsKey key);
/* A random item of the tree. */
bool fuzz_pick_item(FuzzMutation *mutation, FuzzItem *ret_item) MAPFS_MUST_USE;
/* A number that may mean something here: limits, blocks, inodes, generations. */
uint64_t fuzz_pick_number(FuzzMutation *mutation);
uint64_t fuzz_pick_ino(FuzzMutation *mutation);
/* Changes an integer of 1, 2, 4 or 8 bytes. */
void fuzz_change_integer(FuzzMutation *mutation, uint8_t *bytes, unsigned width);

/* mutate-items.c: an item of a kind, made from nothing; a field of an item. */
void fuzz_item_make(FuzzMutation *mutation, FuzzItem *ret_item);
void fuzz_item_change(FuzzMutation *mutation, FuzzItem *item);

/* mutate-space.c */
void fuzz_change_superblock(FuzzMutation *mutation);
void fuzz_change_bitmap(FuzzMutation *mutation);
void fuzz_change_generations(FuzzMutation *mutation);
void fuzz_change_batch(FuzzMutation *mutation);
