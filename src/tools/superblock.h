/* SPDX-License-Identifier: MIT */
#pragma once

/* The superblock of an image that is not opened as a filesystem: perhaps unmounted, live, or damaged. */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "format/superblock.h"
#include "image/image.h"

/* Copies and judges both slots of an open image. */
typedef struct {
    struct mapfs_disk_superblock slots[MAPFS_SUPERBLOCK_SLOTS];
    MapfsSuperblockVerdict verdicts[MAPFS_SUPERBLOCK_SLOTS];
    bool is_misplaced[MAPFS_SUPERBLOCK_SLOTS]; /* valid, but it belongs into the other slot */
    int newest;                                /* valid slot, or -1 */
} MapfsSuperblockPair;
void mapfs_superblock_pair_load(const MapfsImage *image, MapfsSuperblockPair *ret_pair);

/* 0, or why the image must be refused although its other slot may be valid: -EPROTONOSUPPORT or -EOPNOTSUPP with a note, when a slot is of a version,
 * or has incompat features, that this program does not know. */
int mapfs_superblock_pair_check_known(const MapfsSuperblockPair *pair) MAPFS_MUST_USE;

/* The slot with a valid superblock that belongs into the other, in an image that has no superblock to go on from; -1 for none, or when it cannot be
 * read. */
int mapfs_superblock_lookup_misplaced(const char *path, uint64_t offset_bytes) MAPFS_MUST_USE;

/* The newest valid superblock of the image at `path`. Errors as mapfs_image_open_file() and mapfs_store_open(). */
int mapfs_superblock_read(const char *path, uint64_t offset_bytes,
                          struct mapfs_disk_superblock *ret_superblock) MAPFS_MUST_USE;
