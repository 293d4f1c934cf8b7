/* SPDX-License-Identifier: MIT */
#pragma once

/* The way from the root to a leaf, and how it becomes writable. */

#include "tree/index-private.h"
#include "tree/leaf-private.h"

/* One node of a path. */
typedef struct {
    MapfsNodeRef ref;
    const void *node;
    void *writable;   /* once mapfs_path_make_writable() was here; `node` is what it was before, to be read at most */
    unsigned n_items; /* kept up to date by whoever changes the node */
    unsigned index;   /* in an index node the pointer that was followed, in a leaf the item's place */
} MapfsPathStep;

typedef struct {
    unsigned root_level;
    bool found;                                 /* the item at steps[0].index has the key */
    MapfsPathStep steps[MAPFS_TREE_LEVELS_MAX]; /* by level: 0 is the leaf */
} MapfsPath;

/* Goes down to where `key` is or would be. Changes nothing. */
int mapfs_path_descend(const MapfsTree *tree, MapfsKey key, MapfsPath *ret_path) MAPFS_MUST_USE;

/* Makes every node of the path writable, from the root down: one of the running generation is taken as it is, another is copied to a
 * new block and released. After a failure the nodes above are copies, which is harmless. */
int mapfs_path_make_writable(MapfsTree *tree, MapfsPath *path) MAPFS_MUST_USE;

/* True when a key that a split is to put between the leaf and its right neighbour keeps the index nodes in order. */
bool mapfs_path_admits(const MapfsPath *path, MapfsKey separator);
