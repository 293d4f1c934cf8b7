/* SPDX-License-Identifier: MIT */
#pragma once

/* How many extents refer to a block: items of MAPFS_KIND_SHARED, each for a run of blocks with the same count of 2 and up. An extent that
 * may have such blocks carries MAPFS_EXTENT_SHARED; what no item has then belongs to that extent alone. So an extent without the flag
 * costs nothing, and the flag of one that has become alone can stay.
 *
 * Only the owner of an extent, who has its inode locked, can let a count of 1 grow: an extent found to be alone stays so until the lock is
 * dropped. */

#include "fs/fs-private.h"

/* A run of blocks with one count. */
typedef struct {
    MapfsRun run;
    uint32_t n_refs; /* 1: there is no item */
} MapfsShared;

/* Changes of items that mapfs_shared_set() makes: what is left of an item on both sides and the part itself, or two neighbours joined. */
#define MAPFS_SHARED_CHANGES 3u

/* The longest part of a run that has one count: from the run's start, or with `from_end` up to its end. The run has a block at least.
 * -EUCLEAN. Tree held. */
int mapfs_shared_part(MapfsTree *tree, MapfsRun run, bool from_end, MapfsShared *ret_part) MAPFS_MUST_USE;

/* Gives what mapfs_shared_part() has found another count, at least 1. Tree locked. */
int mapfs_shared_set(MapfsTree *tree, const MapfsShared *part, uint32_t n_refs) MAPFS_MUST_USE;

/* Counts one more reference to each block of the run. -EOVERFLOW, and then a part may have been counted. Tree locked. */
int mapfs_shared_add(MapfsTree *tree, MapfsRun run) MAPFS_MUST_USE;

/* True when all of the run belongs to one extent alone. Tree held. */
int mapfs_shared_is_sole(MapfsTree *tree, MapfsRun run, bool *ret_sole) MAPFS_MUST_USE;
