/* SPDX-License-Identifier: MIT */
#pragma once

/* Leaves: slots and values of one block. The layout is told in format/node.h. */

#include "tree/node-private.h"

/* One change that a leaf takes: the value becomes that of the item at `index`, or of a new item that goes there. */
typedef struct {
    MapfsKey key;
    const void *value; /* NULL for zeros */
    size_t value_len;
    unsigned index;
    bool replaces;
} MapfsLeafChange;

/* Room that an item takes. */
static inline unsigned mapfs_leaf_item_bytes(size_t value_len) {
    return (unsigned)sizeof(struct mapfs_disk_slot) + (unsigned)value_len;
}

static inline MapfsKey mapfs_leaf_key(const void *leaf, unsigned index) {
    const struct mapfs_disk_slot *slot = &((const struct mapfs_disk_leaf *)leaf)->slots[index];
    return (MapfsKey){mapfs_le64_load(slot->object), mapfs_le64_load(slot->offset), slot->kind};
}

/* True when a leaf holds entries of one directory and nothing else. */
bool mapfs_leaf_is_names(const void *leaf, unsigned n_items);

/* Position of the first item with a key >= `key`, up to n_items; *ret_equal tells whether it is equal. */
unsigned mapfs_leaf_search(const void *leaf, unsigned n_items, MapfsKey key, bool *ret_equal);

/* The item at `index`, which is below n_items. 0 or -EUCLEAN. */
int mapfs_leaf_item(const void *leaf, unsigned index, MapfsItem *ret_item) MAPFS_MUST_USE;

/* Where the values begin: the end of the free room. 0 or -EUCLEAN. */
int mapfs_leaf_values_start(const void *leaf, unsigned n_items, unsigned *ret_start) MAPFS_MUST_USE;

/* True when the change fits without a split; -EUCLEAN when the leaf is damaged. */
int mapfs_leaf_has_room(const void *leaf, unsigned n_items, const MapfsLeafChange *change) MAPFS_MUST_USE;

/* Makes the change in a leaf that has room for it. 0 or -EUCLEAN, then without a change. */
int mapfs_leaf_store(void *leaf, unsigned n_items, const MapfsLeafChange *change) MAPFS_MUST_USE;

/* Takes the item at `index` out. 0 or -EUCLEAN, then without a change. */
int mapfs_leaf_remove(void *leaf, unsigned n_items, unsigned index) MAPFS_MUST_USE;

/* A split that was thought through and cannot fail any more. */
typedef struct {
    struct mapfs_disk_leaf copy; /* the leaf before, checked */
    unsigned n_items;
    unsigned n_left;    /* items that stay, the change counted in */
    MapfsKey separator; /* first key of the right half */
} MapfsLeafSplit;

/* Chooses where to split a leaf that has no room for the change. 0 or -EUCLEAN. */
int mapfs_leaf_split_plan(const void *leaf, unsigned n_items, const MapfsLeafChange *change,
                          MapfsLeafSplit *ret_split) MAPFS_MUST_USE;

/* Does it: `left` is the leaf itself, `right` an initialized empty one. */
void mapfs_leaf_split(void *left, void *right, const MapfsLeafChange *change, const MapfsLeafSplit *split);

/* Bytes that the items of a leaf take. 0 or -EUCLEAN. */
int mapfs_leaf_used_bytes(const void *leaf, unsigned n_items, unsigned *ret_used) MAPFS_MUST_USE;

/* Makes `target` hold the items of `left` and then those of `right`; one of the two may be `target` itself. They must
 * fit. 0, or -EUCLEAN when one is damaged or they are not in order, then without a change. */
int mapfs_leaf_join(void *target, MapfsNodeItems left, MapfsNodeItems right) MAPFS_MUST_USE;
