/* SPDX-License-Identifier: MIT */
#pragma once

/* Which blocks are free: a bitmap per block group, loaded when first needed, and what the host has reserved for it. A set bit is a
 * block that must not be handed out: in use, or freed but not yet given back by mapfs_space_release().
 *
 * Two kinds of blocks are handed out. Nodes (and bitmaps) are taken one by one, first fit, only from chunks of 1 MiB for which the host
 * has already reserved its blocks, so that neither a full image nor a full host can stop a change half-way: whoever wants nodes claims
 * them first. Data is taken in runs near a goal, and its chunks are reserved on the way.
 *
 * Locks: one mutex inside, never held over a call of the host; host reservations and trims exclude each other by a
 * second one. All functions may be called from any thread, except those of the cut, which the store calls while nobody allocates. */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "base/types.h"
#include "format/node.h"
#include "image/image.h"

typedef struct MapfsSpace MapfsSpace;

/* All blocks from `first_usable` on are free until groups are added. The image must outlive the space. */
int mapfs_space_new(MapfsImage *image, uint64_t n_blocks, uint64_t first_usable, uint64_t checksum_seed,
                    MapfsSpace **ret_space) MAPFS_MUST_USE;
void mapfs_space_free(MapfsSpace *space);

/* Tells the bitmap of a group as the tree has it. -EUCLEAN when the numbers make no sense. */
int mapfs_space_add_group(MapfsSpace *space, uint64_t group, MapfsNodeRef bitmap, uint32_t n_free) MAPFS_MUST_USE;

/* Instead of it: which blocks of a group are taken, in host order, 504 words. A `bitmap` with an address says just the same, else the group counts
 * as changed. Before anything is handed out, once a group, and for all groups that have an item. */
int mapfs_space_preset_group(MapfsSpace *space, uint64_t group, const uint64_t *words,
                             MapfsNodeRef bitmap) MAPFS_MUST_USE;

/* Blocks that a data run wants, and what must stay behind for nodes. */
typedef struct {
    MapfsBlock goal;   /* 0: anywhere */
    bool apart;        /* if not at the goal, then at the start of a free stretch, away from other files that grow */
    uint64_t n_blocks; /* at most */
    uint64_t n_keep;   /* free blocks that must be left, claims aside */
} MapfsSpaceWish;

/* Takes 1 to wish->n_blocks contiguous blocks, with host blocks behind them. -ENOSPC, -EUCLEAN. */
int mapfs_space_allocate(MapfsSpace *space, const MapfsSpaceWish *wish, MapfsRun *ret_run) MAPFS_MUST_USE;

/* Gets host blocks for a run that is taken already and has never been stored into. -ENOSPC, -EUCLEAN when it is not taken. */
int mapfs_space_back(MapfsSpace *space, MapfsRun run) MAPFS_MUST_USE;

/* Claims n blocks for nodes beside all claims so far and n_keep: 0, or -ENOSPC and nothing is claimed. */
int mapfs_space_claim(MapfsSpace *space, uint64_t n_blocks, uint64_t n_keep) MAPFS_MUST_USE;
void mapfs_space_unclaim(MapfsSpace *space, uint64_t n_blocks);

/* Waits until one of those who have claims gives some back; false at once when nobody has any, or when not even all of them would make n_needed
 * blocks free. Not by somebody who has a claim. */
bool mapfs_space_wait_claims(MapfsSpace *space, uint64_t n_needed);

/* Where a node goes, as long as there is room to choose. */
typedef enum {
    MAPFS_PLACE_NODES, /* first fit */
    MAPFS_PLACE_NAMES, /* chunks of their own: listings read them, and nothing else, in a row */
} MapfsNodePlace;

/* Takes one block for a node; the caller has a claim, which this does not lower. */
int mapfs_space_allocate_node(MapfsSpace *space, MapfsNodePlace place, MapfsBlock *ret_block) MAPFS_MUST_USE;

/* Gives blocks back. -EUCLEAN when they are not all taken (nothing is changed then). */
int mapfs_space_release(MapfsSpace *space, MapfsRun run) MAPFS_MUST_USE;

/* Gives host blocks of free runs of at least n_min blocks back, as far as enough blocks for nodes stay reserved: all claims and n_keep.
 * Waits for the host, a few MiB at a time, and holds back nobody but who needs new blocks of the host meanwhile. *ret_n_blocks: how many
 * free blocks the host was told of, on failure too. -EOPNOTSUPP or another -errno of the host; -EUCLEAN. */
typedef struct {
    MapfsRun range;
    uint64_t n_min;
    uint64_t n_keep;
} MapfsSpaceTrim;
int mapfs_space_trim(MapfsSpace *space, const MapfsSpaceTrim *what, uint64_t *ret_n_blocks) MAPFS_MUST_USE;

/* What is worth a trim: mapfs_space_release() notes the places. They ripen when two calls of ripen come without another release there, so
 * that what is freed and taken again all the time is left alone. False when nothing is noted any more. */
bool mapfs_space_trim_ripen(MapfsSpace *space);
/* The last ripe range of a few MiB, which is then no longer noted; false when there is none. */
bool mapfs_space_trim_next(MapfsSpace *space, MapfsRun *ret_range);
/* Notes the whole image: nobody knows what was freed. */
void mapfs_space_trim_note_all(MapfsSpace *space);

typedef struct {
    uint64_t n_free; /* clear bits */
    uint64_t n_claimed;
    uint64_t n_dirty_groups;
} MapfsSpaceStatus;
void mapfs_space_status(MapfsSpace *space, MapfsSpaceStatus *ret_status);

/* --- the cut --- */

/* The i-th group that changed since the last mapfs_space_clean(): 1 and its number, bitmap as last set, free count; 0 past the last. */
typedef struct {
    uint64_t group;
    MapfsNodeRef bitmap;
    uint32_t n_free;
} MapfsSpaceGroup;
int mapfs_space_dirty_group(MapfsSpace *space, uint64_t index, MapfsSpaceGroup *ret_group) MAPFS_MUST_USE;
/* The group's bitmap lies there from now on. */
void mapfs_space_set_bitmap(MapfsSpace *space, uint64_t group, MapfsNodeRef bitmap);
/* Stores the group's bits into a bitmap block (MAPFS_NODE_SPACE bytes). */
void mapfs_space_store_bits(MapfsSpace *space, uint64_t group, uint8_t *bits);
/* Nothing has changed any more. */
void mapfs_space_clean(MapfsSpace *space);
