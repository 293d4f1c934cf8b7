/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files for file data share: extents as they are in memory, and what is done to them in the tree. */

#include "fs/apply-private.h"
#include "fs/fs-private.h"
#include "fs/shared-private.h"

/* A run of a file's blocks. */
typedef struct {
    uint64_t logical;
    uint64_t block;
    uint64_t n_blocks;
    uint32_t flags;
    uint64_t birth_generation, birth_epoch;
} MapfsExtent;

static inline MapfsKey mapfs_extent_key(uint64_t ino, uint64_t logical) {
    return (MapfsKey){.object = ino, .kind = MAPFS_KIND_EXTENT, .offset = logical};
}
static inline MapfsKey mapfs_inline_key(uint64_t ino) {
    return (MapfsKey){.object = ino, .kind = MAPFS_KIND_INLINE, .offset = 0};
}

/* Those of the extent's blocks that the file has within [first, end), of which there is one at least. */
static inline MapfsRun mapfs_extent_clip(const MapfsExtent *extent, uint64_t first, uint64_t end) {
    uint64_t start = MAPFS_MAX(extent->logical, first), stop = MAPFS_MIN(extent->logical + extent->n_blocks, end);

    return (MapfsRun){{extent->block + (start - extent->logical)}, stop - start};
}

/* The extent that holds `logical`, or else the first after it: 1, 0 if there is none, or -errno. Tree held. */
int mapfs_extent_find(MapfsTree *tree, uint64_t ino, uint64_t logical, MapfsExtent *ret_extent) MAPFS_MUST_USE;

/* The last extent of the file: 1, 0, or -errno. Tree held. */
int mapfs_extent_last(MapfsTree *tree, uint64_t ino, MapfsExtent *ret_extent) MAPFS_MUST_USE;

/* Work on extents is counted in units: one for an extent, and MAPFS_SHARED_UNITS for each part of a shared one that has one count. What n
 * units take of changes: mapfs_extent_changes(n), and mapfs_shared_changes(n) unless no extent is shared. */
#define MAPFS_SHARED_UNITS 8u

/* Takes the blocks [first, end) from the file; extents that reach over an edge are cut. Those that no other extent shares are
 * freed. *ret_dropped: blocks. As much as there is; see mapfs_extent_reach(). Tree locked. */
int mapfs_extent_drop(MapfsTxn *txn, uint64_t ino, uint64_t first, uint64_t end, uint64_t *ret_dropped) MAPFS_MUST_USE;

/* Drops at and after block `cut`, from the file's end, as much as n_units units are, at least one step, or as damage allows. 1 when nothing is
 * left, 0 when something is, or -errno without a change; -EIO when the image has failed. Tree locked. */
int mapfs_extent_drop_tail(MapfsTxn *txn, uint64_t ino, uint64_t cut, unsigned n_units,
                           uint64_t *ret_dropped) MAPFS_MUST_USE;

/* How far mapfs_extent_drop() comes from `first` with n_units units, at least one step: shortens *end. Tree held. */
int mapfs_extent_reach(MapfsTree *tree, uint64_t ino, uint64_t first, unsigned n_units, uint64_t *end) MAPFS_MUST_USE;

/* True when the first extent at and after block `first`, or one of the last n_max, may be shared. Tree held. */
int mapfs_extent_any_shared(MapfsTree *tree, uint64_t ino, uint64_t first, unsigned n_max,
                            bool *ret_shared) MAPFS_MUST_USE;

/* Marks an extent of the file as one whose blocks others may refer to. Tree locked. */
int mapfs_extent_set_shared(MapfsTree *tree, uint64_t ino, const MapfsExtent *extent) MAPFS_MUST_USE;

/* Takes the blocks [first, end) out of an extent that the file has: what is left of it stays, before and after. Nothing is freed. Tree locked.
 * -EUCLEAN if it is not what the file has there. */
int mapfs_extent_cut(MapfsTree *tree, uint64_t ino, const MapfsExtent *extent, uint64_t first,
                     uint64_t end) MAPFS_MUST_USE;

/* The file's blocks of `extent`, which lie there already in unwritten extents, become this extent. Tree locked. -EUCLEAN if they do not. */
int mapfs_extent_convert(MapfsTxn *txn, uint64_t ino, const MapfsExtent *extent) MAPFS_MUST_USE;

/* Adds an extent where the file has none, joined with the one before if they are one run of the same birth. Tree locked. */
int mapfs_extent_add(MapfsTxn *txn, uint64_t ino, const MapfsExtent *extent) MAPFS_MUST_USE;

/* Changes of tree items that dropping or adding in a range with this many extents may need: neighbours share leaves, of
 * which two adjacent ones hold more than 40 extents. */
static inline unsigned mapfs_extent_changes(unsigned n_extents) {
    return 4 + n_extents / 8;
}
static inline unsigned mapfs_shared_changes(unsigned n_units) {
    return MAPFS_SHARED_CHANGES * ((n_units + MAPFS_SHARED_UNITS - 1) / MAPFS_SHARED_UNITS);
}
/* The same for a stretch of blocks that is dropped whole, however many counts it has: they are neighbours too. */
static inline unsigned mapfs_shared_changes_whole(uint64_t n_blocks) {
    return MAPFS_SHARED_CHANGES + (unsigned)(n_blocks / 32);
}

/* The content of a file of this size that lies in the tree: its length (copied to `buffer` of MAPFS_INLINE_MAX bytes), 0 if it has
 * none, or -errno. Tree held. */
int mapfs_inline_load(MapfsTree *tree, uint64_t ino, uint64_t size, uint8_t *buffer) MAPFS_MUST_USE;

/* Ends the work on the inode's truncated tail, if there is any: what lies past the cut must be gone before the file grows.
 * Inode locked, nothing else. */
int mapfs_fs_finish_truncate(MapfsFs *fs, uint64_t ino) MAPFS_MUST_USE;

/* How often an operation that met a full image may try again. */
#define MAPFS_ROOM_TRIES 4u
