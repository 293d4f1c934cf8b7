/* SPDX-License-Identifier: MIT */

/* Extents. Of two that claim a block, the one met first keeps it, and the other gets a copy of the bytes: whose they are cannot be told, and
 * neither loses them. Where a block is no file's (a tree node, the log), or lies outside the image, there is a hole then. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "repair/repair-private.h"

/* A part of an extent whose blocks have the same fate. */
typedef struct {
    uint64_t logical, block, n_blocks;
    uint64_t birth_generation, birth_epoch;
    uint32_t flags;
} Piece;

typedef enum {
    FATE_KEEP,
    FATE_COPY,
    FATE_HOLE,
} Fate;

static Fate block_fate(const MapfsRepair *repair, uint64_t block, bool is_shared) {
    if (block < repair->first_usable || block >= repair->n_blocks || mapfs_used_has(&repair->source->nodes, block))
        return FATE_HOLE;
    if (!mapfs_used_has(&repair->kept, block))
        return FATE_KEEP;
    return is_shared && mapfs_used_has(&repair->shared, block) ? FATE_KEEP : FATE_COPY;
}

static MapfsKey extent_key(const RepairCurrent *current, uint64_t logical) {
    return (MapfsKey){.object = current->object, .kind = MAPFS_KIND_EXTENT, .offset = logical};
}

/* Its blocks are the file's from here on. */
static int piece_keep(MapfsRepair *repair, RepairCurrent *current, const Piece *piece) {
    const MapfsRun run = {{piece->block}, piece->n_blocks};
    uint64_t n_new;
    int r;

    current->n_blocks += piece->n_blocks;
    r = mapfs_used_set(&repair->kept, run, &n_new);
    return r < 0 || !(piece->flags & MAPFS_EXTENT_SHARED) ? r : mapfs_repair_note_shared(repair, run);
}

static int piece_put(MapfsRepair *repair, RepairCurrent *current, const Piece *piece) {
    const struct mapfs_disk_extent extent = {
        .block = mapfs_le64_store(piece->block),
        .n_blocks = mapfs_le32_store((uint32_t)piece->n_blocks),
        .flags = mapfs_le32_store(piece->flags),
        .birth_generation = mapfs_le64_store(piece->birth_generation),
        .birth_epoch = mapfs_le64_store(piece->birth_epoch),
    };
    int r;

    r = piece_keep(repair, current, piece);
    return r < 0 ? r : mapfs_repair_put(repair, extent_key(current, piece->logical), &extent, sizeof(extent));
}

static void say_blocks(MapfsRepair *repair, const RepairCurrent *current, const Piece *piece, const char *what) {
    mapfs_repair_say(repair, MAPFS_REPAIR_LOST, current->object,
                     "file %" PRIu64 ": its blocks %" PRIu64 " to %" PRIu64 " %s", current->object, piece->logical,
                     piece->logical + piece->n_blocks - 1, what);
}

/* Copies up to n blocks of a piece into new ones: how many, or -errno. */
static int copy_some(MapfsRepair *repair, const Piece *piece, Piece *ret_copy) {
    MapfsTxn txn;
    MapfsRun run;
    void *memory;
    int r;

    r = mapfs_rescue_begin(repair->store, 1, &txn);
    if (r < 0)
        return r;
    r = mapfs_txn_allocate(&txn, (MapfsGoal){0}, piece->n_blocks, &run);
    if (r == 0) {
        memory = mapfs_txn_data(&txn, run);
        if (memory)
            memcpy(memory, repair->image->base + (piece->block << MAPFS_BLOCK_SHIFT),
                   run.n_blocks << MAPFS_BLOCK_SHIFT);
        *ret_copy = *piece;
        ret_copy->block = run.start.n;
        ret_copy->n_blocks = run.n_blocks;
        ret_copy->flags &= ~MAPFS_EXTENT_SHARED;
        ret_copy->birth_generation = txn.generation.n;
        ret_copy->birth_epoch = txn.epoch.n;
        r = memory ? 0 : -EIO;
    }
    mapfs_txn_end(&txn);
    return r;
}

static int piece_copy(MapfsRepair *repair, RepairCurrent *current, Piece piece) {
    say_blocks(repair, current, &piece,
               "are in use by another file too: it gets a copy, which may hold that one's data");
    while (piece.n_blocks > 0) {
        Piece copy;
        int r;

        r = copy_some(repair, &piece, &copy);
        if (r == -ENOSPC) {
            say_blocks(repair, current, &piece, "are a hole now: there is no room for a copy");
            return 0;
        }
        if (r == 0)
            r = piece_put(repair, current, &copy);
        if (r < 0)
            return r;
        piece.logical += copy.n_blocks;
        piece.block += copy.n_blocks;
        piece.n_blocks -= copy.n_blocks;
    }
    return 0;
}

static int piece_settle(MapfsRepair *repair, RepairCurrent *current, const Piece *piece, Fate fate) {
    if (fate == FATE_KEEP)
        return piece_put(repair, current, piece);
    /* Of blocks that read as zeros there is nothing to copy. */
    if (fate == FATE_COPY && !(piece->flags & MAPFS_EXTENT_UNWRITTEN))
        return piece_copy(repair, current, *piece);
    if (fate == FATE_HOLE)
        say_blocks(repair, current, piece, "are a hole now: where they should lie there is none of its data");
    return 0;
}

/* How many blocks at the start of a piece have one fate. */
static uint64_t fate_length(const MapfsRepair *repair, const Piece *piece, Fate *ret_fate) {
    uint64_t n = 1;

    bool is_shared = piece->flags & MAPFS_EXTENT_SHARED;

    *ret_fate = block_fate(repair, piece->block, is_shared);
    while (n < piece->n_blocks && block_fate(repair, piece->block + n, is_shared) == *ret_fate)
        n++;
    return n;
}

/* Takes out extents that begin within the one at hand, whose parts would take their keys. */
static int overlapping_drop(MapfsRepair *repair, const RepairCurrent *current, const Piece *extent, MapfsKey key) {
    RepairReader reader = {.next = {key.object, key.offset + 1, key.kind}};
    int r;

    while ((r = mapfs_repair_read(repair, &reader)) > 0) {
        if (reader.key.object != key.object || reader.key.kind != key.kind ||
            reader.key.offset >= extent->logical + extent->n_blocks)
            return 0;
        say_blocks(repair, current, &(Piece){.logical = reader.key.offset, .n_blocks = 1},
                   "began an extent within another: removed");
        r = mapfs_repair_remove(repair, reader.key);
        if (r < 0)
            return r;
    }
    return r;
}

/* Puts the parts of an extent in the place of its item; reading goes on behind them. */
static int extent_settle(MapfsRepair *repair, RepairCurrent *current, RepairReader *reader, Piece extent) {
    int r;

    r = overlapping_drop(repair, current, &extent, reader->key);
    if (r < 0)
        return r;
    r = mapfs_repair_remove(repair, reader->key);
    reader->next.offset = MAPFS_MAX(reader->next.offset, extent.logical + extent.n_blocks);
    while (r == 0 && extent.n_blocks > 0) {
        Piece piece = extent;
        Fate fate;

        piece.n_blocks = fate_length(repair, &extent, &fate);
        r = piece_settle(repair, current, &piece, fate);
        extent.logical += piece.n_blocks;
        extent.block += piece.n_blocks;
        extent.n_blocks -= piece.n_blocks;
    }
    return r;
}

/* --- what an extent may be --- */

/* Whether an orphan item allows a written extent past the end of its file. */
static bool orphan_covers(const MapfsRepair *repair, const RepairCurrent *current, uint64_t logical) {
    const MapfsKey key = {.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = current->object};
    struct mapfs_disk_orphan orphan;

    if (current->inode->orphan == 0)
        return false;
    if (mapfs_repair_get(repair, key, &orphan, sizeof(orphan)) != (int)sizeof(orphan))
        return false;
    return current->may_lack || ((current->inode->orphan & MAPFS_ORPHAN_TRUNCATED) &&
                                 logical << MAPFS_BLOCK_SHIFT >= mapfs_le64_load(orphan.cut));
}

/* Cuts what overlaps the extent before, and what lies past the end of the file. */
static void extent_trim(MapfsRepair *repair, const RepairCurrent *current, Piece *extent) {
    uint64_t end_of_file = mapfs_blocks_for_bytes(mapfs_le64_load(current->fixed.size));
    uint64_t n;

    if (extent->logical < current->extent_end) {
        n = MAPFS_MIN(extent->n_blocks, current->extent_end - extent->logical);
        say_blocks(repair, current, extent, "overlap those before: cut");
        extent->logical += n;
        extent->block += n;
        extent->n_blocks -= n;
    }
    if (extent->flags & MAPFS_EXTENT_UNWRITTEN || extent->logical + extent->n_blocks <= end_of_file ||
        orphan_covers(repair, current, MAPFS_MAX(extent->logical, end_of_file)))
        return;
    say_blocks(repair, current, extent, "go past its end: cut there");
    extent->n_blocks = extent->logical < end_of_file ? end_of_file - extent->logical : 0;
}

/* Inline data beside extents: what fits the size stays. 1 if the extent is gone. */
static int settle_inline(MapfsRepair *repair, RepairCurrent *current, const RepairReader *reader) {
    const MapfsKey key = {.object = current->object, .kind = MAPFS_KIND_INLINE};

    if (current->n_inline == mapfs_le64_load(current->stored.size)) {
        mapfs_repair_say(repair, MAPFS_REPAIR_LOST, current->object,
                         "file %" PRIu64 ": removed an extent beside its inline data", current->object);
        int r = mapfs_repair_remove(repair, reader->key);
        return r < 0 ? r : 1;
    }
    mapfs_repair_say(repair, MAPFS_REPAIR_LOST, current->object,
                     "file %" PRIu64 ": removed inline data beside its extents", current->object);
    current->has_inline = false;
    return mapfs_repair_remove(repair, key);
}

int mapfs_repair_fix_extent(MapfsRepair *repair, RepairCurrent *current, RepairReader *reader) {
    struct mapfs_disk_extent stored;
    Piece extent;
    Fate fate;
    int r;

    if (current->has_inline) {
        r = settle_inline(repair, current, reader);
        if (r != 0)
            return MAPFS_MIN(r, 0);
    }
    memcpy(&stored, reader->value, sizeof(stored));
    extent = (Piece){.logical = reader->key.offset,
                     .block = mapfs_le64_load(stored.block),
                     .n_blocks = mapfs_le32_load(stored.n_blocks),
                     .birth_generation = MAPFS_MIN(mapfs_le64_load(stored.birth_generation), repair->generation),
                     .birth_epoch = MAPFS_MIN(mapfs_le64_load(stored.birth_epoch), repair->epoch),
                     .flags = mapfs_le32_load(stored.flags)};
    extent_trim(repair, current, &extent);
    current->extent_end = MAPFS_MAX(current->extent_end, extent.logical + extent.n_blocks);
    if (extent.n_blocks == mapfs_le32_load(stored.n_blocks) &&
        extent.birth_generation == mapfs_le64_load(stored.birth_generation) &&
        extent.birth_epoch == mapfs_le64_load(stored.birth_epoch) &&
        fate_length(repair, &extent, &fate) == extent.n_blocks && fate == FATE_KEEP)
        return piece_keep(repair, current, &extent);
    return extent_settle(repair, current, reader, extent);
}
