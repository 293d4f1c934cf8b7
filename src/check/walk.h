/* SPDX-License-Identifier: MIT */
#pragma once

/* A walk over the tree that some superblock names, for whoever trusts no byte of it: the checker, and the repair. Each node is
 * copied out before it is judged, so that its bytes cannot change afterwards; a child is strictly one level lower; what cannot be used is
 * told and left out. The pages of the nodes are let go behind the walk. */

#include <stdbool.h>

#include "base/macros.h"
#include "check/problem.h"
#include "format/key.h"
#include "format/node.h"
#include "image/image.h"

/* An item as it lies in a leaf whose frame is sound. The value is a copy, which is gone with the call. */
typedef struct {
    uint64_t block; /* of its leaf */
    MapfsKey key;
    const void *value;
    size_t value_len;
} MapfsCheckItem;

/* The keys that a node which cannot be used should hold: from `lower` up to, but not with, `upper`. */
typedef struct {
    bool has_lower, has_upper; /* else from the first, up to the last key there is */
    MapfsKey lower, upper;
} MapfsWalkRange;

typedef struct {
    /* A node is about to be read: 1 to go on, 0 to leave it out in silence or after a word of one's own, or -errno. Must say 0 to one that it
     * has seen before, or the walk may not end. */
    int (*enter)(void *user, MapfsNodeRef ref);
    /* A node was left out, by `enter` or because it cannot be used (then `number` and `message` say why; else they are 0 and NULL). */
    int (*gap)(void *user, MapfsNodeRef ref, const MapfsWalkRange *range, MapfsProblemNumber number,
               const char *message);
    /* A node is sound as far as its frame goes. May be NULL. */
    void (*node)(void *user, MapfsNodeRef ref);
    /* An item, in the order of the keys. 0 or -errno. */
    int (*item)(void *user, const MapfsCheckItem *item);
    void *user;
} MapfsWalkOps;

typedef struct {
    MapfsNodeRef root;
    uint64_t n_blocks; /* of the image, as its superblock says */
    uint64_t checksum_seed;
} MapfsWalkTree;

/* 0 at the end, -ENOMEM, or what a function of `ops` gave. */
int mapfs_walk_run(MapfsImage *image, const MapfsWalkTree *tree, const MapfsWalkOps *ops) MAPFS_MUST_USE;
