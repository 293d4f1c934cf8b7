/* SPDX-License-Identifier: MIT */
#pragma once

/* Which blocks of an image are in use: one bit per block, kept only for block groups that have any. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/types.h"
#include "format/node.h"

#define MAPFS_USED_WORDS (MAPFS_NODE_SPACE / 8)

/* Blocks in use of one group; bit i of word j is block 64 * j + i, and a set one is in use. */
typedef struct {
    uint64_t group;
    uint64_t words[MAPFS_USED_WORDS];
} MapfsUsedGroup;

/* A hash table of groups; all zeros is an empty one. */
typedef struct {
    MapfsUsedGroup **slots;
    size_t n, capacity; /* capacity: 0 or a power of 2 */
    MapfsUsedGroup *last;
} MapfsUsed;

void mapfs_used_clear(MapfsUsed *used);

/* The group's bits, or NULL if none was ever set. */
const MapfsUsedGroup *mapfs_used_lookup(const MapfsUsed *used, uint64_t group);

/* Sets a run's bits, which the caller has tested to lie in an image. *ret_n_new: how many were clear. 0 or -ENOMEM. */
int mapfs_used_set(MapfsUsed *used, MapfsRun run, uint64_t *ret_n_new) MAPFS_MUST_USE;

/* True when the block's bit is set. */
bool mapfs_used_has(const MapfsUsed *used, uint64_t block);

/* Sets all bits of `group`, which another one has. 0 or -ENOMEM. */
int mapfs_used_merge(MapfsUsed *used, const MapfsUsedGroup *group) MAPFS_MUST_USE;
