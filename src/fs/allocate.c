/* SPDX-License-Identifier: MIT */

/* Preallocation, holes and zeroed ranges. Each goes in two passes of bounded steps, each a transaction:
 *
 *  - preallocation fills the holes of the range with unwritten extents. Nobody sees that; what cannot be finished is undone, and size and times change
 *    in one step at the end;
 *  - clearing makes a range read as zeros: blocks wholly in it are freed (a hole) or get new, unwritten blocks in their place (a zeroed range),
 *    and in those at its edges zeros are stored, as by a write. What a step has cleared is a smaller range cleared as a whole.
 *
 * A block becomes unwritten only when it is new. One that has held data might be referred to by a durable state, or its content be promised by
 * a checkpoint, and a later write would store into it where it lies. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/mutant.h"
#include "fs/data-private.h"
#include "fs/flags-private.h"

/* Extents that a step looks at and changes; and on an image that has no room for so many changes. */
#define STEP_EXTENTS 64u
#define STEP_EXTENTS_MIN 1u
/* Blocks that a step takes: a transaction keeps checkpoints waiting. */
#define STEP_BLOCKS 32768u
/* Blocks asked for at once: a fraction of a group, so that the first search finds them. */
#define WISH_BLOCKS 8192u

typedef struct {
    uint64_t logical, n_blocks;
    uint64_t near; /* block of the image to lie at, 0: anywhere */
} Piece;

/* New blocks of a step. */
typedef struct {
    uint64_t logical;
    MapfsRun run;
    uint32_t flags; /* of the extent */
} StepRun;

/* A block of which a part becomes zeros. */
typedef struct {
    uint64_t logical, from, to; /* from, to: bytes of the block */
    uint64_t block;             /* of the image, stored into where it lies; 0: none */
} Edge;

typedef struct {
    MapfsFs *fs;
    uint64_t ino;
    unsigned mode;
    unsigned flags;       /* MAPFS_WRITE_* of what changes size and times */
    uint64_t offset, end; /* bytes */
    uint64_t size, size_after;
    bool any_shared; /* of what the step clears */
    bool undoes;     /* gives preallocated blocks back; no edges, and times stay */
    unsigned n_max;
    MapfsTxn txn;
    GArray *pieces; /* Piece: what the step is to change */
    GArray *runs;   /* StepRun */
    GArray *taken;  /* Piece: what was preallocated so far */
    Edge edges[2];
    bool has_edges; /* they are still to be cleared */
    size_t inline_len;
    uint8_t inline_bytes[MAPFS_INLINE_MAX];
} Allocate;

/* --- looking --- */

typedef enum { WANT_HOLES, WANT_WRITTEN, WANT_MAPPED } Want;

static void piece_add(Allocate *allocate, uint64_t logical, uint64_t end, uint64_t near) {
    Piece piece = {logical, end - logical, near};

    if (end > logical)
        g_array_append_val(allocate->pieces, piece);
}

/* Collects what is wanted of the blocks [at, end), as far as n_max extents reach; *ret_next: where it ended. */
static int survey(Allocate *allocate, Want want, uint64_t at, uint64_t end, uint64_t *ret_next) {
    MapfsStore *store = allocate->fs->store;
    uint64_t near = 0;
    int r = 0;

    g_array_set_size(allocate->pieces, 0);
    allocate->any_shared = false;
    mapfs_store_read_lock(store);
    if (want != WANT_HOLES)
        r = mapfs_extent_reach(mapfs_store_tree(store), allocate->ino, at, allocate->n_max, &end);
    for (unsigned i = 0; at < end && i < allocate->n_max && r >= 0; i++) {
        MapfsExtent extent = {0};
        uint64_t start = end, stop = end;

        r = mapfs_extent_find(mapfs_store_tree(store), allocate->ino, at, &extent);
        if (r < 0)
            break;
        if (r > 0) {
            start = MAPFS_MIN(MAPFS_MAX(extent.logical, at), end);
            stop = MAPFS_MIN(extent.logical + extent.n_blocks, end);
        }
        if (want == WANT_HOLES)
            piece_add(allocate, at, start, near);
        else if (stop > start && (want == WANT_MAPPED || !(extent.flags & MAPFS_EXTENT_UNWRITTEN)))
            piece_add(allocate, start, stop, extent.block + (start - extent.logical));
        allocate->any_shared |= stop > start && (extent.flags & MAPFS_EXTENT_SHARED);
        near = extent.block + extent.n_blocks;
        at = stop;
    }
    mapfs_store_read_unlock(store);
    *ret_next = at;
    return r < 0 ? r : 0;
}

/* --- changing --- */

static void record_map(const Allocate *allocate, const StepRun *run, struct mapfs_disk_record_map *ret_map) {
    memset(ret_map, 0, sizeof(*ret_map));
    mapfs_record_init(&ret_map->header, MAPFS_RECORD_MAP, sizeof(*ret_map), mapfs_fs_now());
    ret_map->ino = mapfs_le64_store(allocate->ino);
    ret_map->size = mapfs_le64_store(allocate->size);
    if (!run)
        return;
    ret_map->flags = mapfs_le32_store(MAPFS_WRITE_NO_TIMES);
    ret_map->birth_epoch = mapfs_le64_store(allocate->txn.epoch.n);
    ret_map->logical = mapfs_le64_store(run->logical);
    ret_map->block = mapfs_le64_store(run->run.start.n);
    ret_map->n_blocks = mapfs_le32_store((uint32_t)run->run.n_blocks);
    ret_map->extent_flags = mapfs_le32_store(run->flags);
}

static int apply_punch(Allocate *allocate, uint64_t first, uint64_t end) {
    struct mapfs_disk_record_punch punch;

    memset(&punch, 0, sizeof(punch));
    mapfs_record_init(&punch.header, MAPFS_RECORD_PUNCH, sizeof(punch), mapfs_fs_now());
    punch.ino = mapfs_le64_store(allocate->ino);
    punch.logical = mapfs_le64_store(first);
    punch.n_blocks = mapfs_le64_store(end - first);
    punch.flags = mapfs_le32_store(MAPFS_WRITE_NO_TIMES);
    return mapfs_record_run(allocate->fs, &allocate->txn, &punch.header);
}

/* Size and times, in the same transaction as what they belong to, or alone. */
static int apply_size(Allocate *allocate, uint64_t size) {
    struct mapfs_disk_record_map map;
    int r;

    record_map(allocate, NULL, &map);
    map.size = mapfs_le64_store(size);
    map.flags = mapfs_le32_store(allocate->flags);
    r = mapfs_record_run(allocate->fs, &allocate->txn, &map.header);
    if (r == 0)
        allocate->size = size;
    return r;
}

static int apply_runs(Allocate *allocate) {
    for (guint i = 0; i < allocate->runs->len; i++) {
        struct mapfs_disk_record_map map;
        int r;

        record_map(allocate, &g_array_index(allocate->runs, StepRun, i), &map);
        r = mapfs_record_run(allocate->fs, &allocate->txn, &map.header);
        if (r < 0)
            return i > 0 ? mapfs_apply_broken(allocate->fs, r) : r;
    }
    return 0;
}

static void cancel_runs(Allocate *allocate) {
    for (guint i = 0; i < allocate->runs->len; i++)
        mapfs_txn_cancel(&allocate->txn, g_array_index(allocate->runs, StepRun, i).run);
    g_array_set_size(allocate->runs, 0);
}

/* New unwritten blocks for a piece, as far as the step's bounds and the free blocks go; *ret_end: where that is. */
static int piece_allocate(Allocate *allocate, const Piece *piece, uint64_t *n_left, uint64_t *ret_end) {
    uint64_t at = piece->logical, end = piece->logical + piece->n_blocks, near = piece->near;

    while (at<end && * n_left> 0 && allocate->runs->len < allocate->n_max + MAPFS_N_ELEMENTS(allocate->edges)) {
        StepRun run = {.logical = at, .flags = MAPFS_EXTENT_UNWRITTEN};
        uint64_t n_wish = MAPFS_MIN(MAPFS_MIN(end - at, *n_left), WISH_BLOCKS);
        int r;

        r = mapfs_txn_allocate(&allocate->txn, (MapfsGoal){.block = {near}}, n_wish, &run.run);
        if (r == -ENOSPC && *n_left < STEP_BLOCKS) {
            *n_left = 0; /* what there is makes a step; the next one waits for room */
            break;
        }
        if (r < 0)
            return r;
        g_array_append_val(allocate->runs, run);
        at += run.run.n_blocks;
        near = run.run.start.n + run.run.n_blocks;
        *n_left -= run.run.n_blocks;
    }
    *ret_end = at;
    return 0;
}

/* Blocks for all pieces, or for those that the step's bounds let it have: then *next is where the rest begins. */
static int pieces_allocate(Allocate *allocate, uint64_t *next) {
    uint64_t n_left = STEP_BLOCKS;

    for (guint i = 0; i < allocate->pieces->len; i++) {
        const Piece *piece = &g_array_index(allocate->pieces, Piece, i);
        uint64_t end;
        int r;

        r = piece_allocate(allocate, piece, &n_left, &end);
        if (r < 0)
            return r;
        if (end < piece->logical + piece->n_blocks) {
            *next = end;
            return 0;
        }
    }
    return 0;
}

/* --- steps --- */

typedef int (*StepFunction)(Allocate *allocate, uint64_t *at, uint64_t end);

/* One step, smaller or after waiting for room when it met a full image. */
static int step_run(Allocate *allocate, StepFunction step, uint64_t *at, uint64_t end) {
    int r;

    allocate->n_max = STEP_EXTENTS;
    r = step(allocate, at, end);
    for (unsigned i = 0; r == -ENOSPC && i < MAPFS_ROOM_TRIES; i++) {
        int room;

        allocate->n_max = STEP_EXTENTS_MIN;
        r = step(allocate, at, end);
        if (r != -ENOSPC)
            break;
        room = mapfs_fs_make_room(allocate->fs);
        if (room < 0)
            return room;
        if (room == 0)
            break;
        allocate->n_max = STEP_EXTENTS;
        r = step(allocate, at, end);
    }
    return r;
}

static int steps_run(Allocate *allocate, StepFunction step, uint64_t at, uint64_t end) {
    int r;

    do
        r = step_run(allocate, step, &at, end);
    while (r == 0 && at < end);
    return r;
}

/* --- preallocation --- */

static void note_taken(Allocate *allocate) {
    for (guint i = 0; i < allocate->runs->len; i++) {
        const StepRun *run = &g_array_index(allocate->runs, StepRun, i);
        Piece *last =
            allocate->taken->len > 0 ? &g_array_index(allocate->taken, Piece, allocate->taken->len - 1) : NULL;
        Piece piece = {.logical = run->logical, .n_blocks = run->run.n_blocks};

        if (last && last->logical + last->n_blocks == run->logical)
            last->n_blocks += run->run.n_blocks;
        else
            g_array_append_val(allocate->taken, piece);
    }
    g_array_set_size(allocate->runs, 0);
}

/* True when the image could not hold the pieces even if it had nothing else to do: then there is no use in beginning. */
static bool pieces_exceed(const Allocate *allocate) {
    uint64_t n_blocks = 0;
    MapfsStoreStatus status;

    mapfs_store_status(allocate->fs->store, &status);
    for (guint i = 0; i < allocate->pieces->len; i++)
        n_blocks += g_array_index(allocate->pieces, Piece, i).n_blocks;
    return n_blocks + status.n_reserve > status.n_free + status.n_pending;
}

static int step_preallocate(Allocate *allocate, uint64_t *at, uint64_t end) {
    uint64_t next;
    int r;

    r = survey(allocate, WANT_HOLES, *at, end, &next);
    if (r == 0 && allocate->pieces->len > 0 && pieces_exceed(allocate))
        r = -ENOSPC;
    if (r < 0)
        return r;
    if (allocate->pieces->len > 0) {
        r = mapfs_txn_begin(allocate->fs->store, MAPFS_TXN_GROWS, 1 + mapfs_extent_changes(2 * allocate->n_max),
                            &allocate->txn);
        if (r < 0)
            return r;
        r = pieces_allocate(allocate, &next);
        if (r == 0) {
            mapfs_txn_lock(&allocate->txn);
            r = apply_runs(allocate);
        }
        if (r < 0)
            cancel_runs(allocate);
        mapfs_txn_end(&allocate->txn);
        note_taken(allocate);
    }
    if (r == 0)
        *at = next;
    return r;
}

/* Content that lies in the tree gets a block: a file has the one or the other. */
static int step_leave_tree(Allocate *allocate, uint64_t *at, uint64_t end) {
    StepRun run = {.logical = 0};
    uint8_t *memory = NULL;
    int r;

    r = mapfs_txn_begin(allocate->fs->store, MAPFS_TXN_GROWS, 2 + mapfs_extent_changes(1), &allocate->txn);
    if (r < 0)
        return r;
    r = mapfs_txn_allocate(&allocate->txn, (MapfsGoal){.block = {0}}, 1, &run.run);
    if (r == 0) {
        g_array_append_val(allocate->runs, run);
        memory = mapfs_txn_data(&allocate->txn, run.run);
        r = memory ? 0 : mapfs_txn_data_damage(run.run);
    }
    if (r == 0) {
        memcpy(memory, allocate->inline_bytes, allocate->inline_len);
        memset(memory + allocate->inline_len, 0, MAPFS_BLOCK_SIZE - allocate->inline_len);
        mapfs_txn_lock(&allocate->txn);
        r = apply_runs(allocate);
    }
    if (r < 0)
        cancel_runs(allocate);
    mapfs_txn_end(&allocate->txn);
    g_array_set_size(allocate->runs, 0);
    if (r == 0)
        *at = end;
    return r;
}

/* --- clearing --- */

/* Looks where a block lies of which a part is to become zeros, and takes a new one for it if it must move. */
static int edge_prepare(Allocate *allocate, Edge *edge) {
    MapfsStore *store = allocate->fs->store;
    StepRun run = {.logical = edge->logical};
    MapfsExtent extent;
    const uint8_t *bytes;
    uint8_t *memory;
    uint64_t block;
    int r;

    edge->block = 0;
    if (edge->to <= edge->from || (edge->logical << MAPFS_BLOCK_SHIFT) + edge->from >= allocate->size)
        return 0;
    mapfs_store_read_lock(store);
    r = mapfs_extent_find(mapfs_store_tree(store), allocate->ino, edge->logical, &extent);
    mapfs_store_read_unlock(store);
    if (r <= 0 || extent.logical > edge->logical || (extent.flags & MAPFS_EXTENT_UNWRITTEN))
        return r < 0 ? r : 0;
    block = extent.block + (edge->logical - extent.logical);
    if (extent.flags == 0 && mapfs_txn_unsealed(&allocate->txn, (MapfsEpoch){extent.birth_epoch})) {
        edge->block = block;
        return 0;
    }
    bytes = mapfs_image_read(mapfs_store_image(store), (MapfsRun){{block}, 1});
    if (!bytes)
        return mapfs_damage(block, "extent", "of %" PRIu64 " blocks does not lie in the image", extent.n_blocks);
    r = mapfs_txn_allocate(&allocate->txn, (MapfsGoal){.block = {extent.block}}, 1, &run.run);
    if (r < 0)
        return r;
    g_array_append_val(allocate->runs, run);
    memory = mapfs_txn_data(&allocate->txn, run.run);
    if (!memory)
        return mapfs_txn_data_damage(run.run);
    memcpy(memory, bytes, MAPFS_BLOCK_SIZE);
    memset(memory + edge->from, 0, edge->to - edge->from);
    return 0;
}

/* Last, when nothing but damage can keep the step from being done. */
static int edges_store(Allocate *allocate) {
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(allocate->edges); i++) {
        const Edge *edge = &allocate->edges[i];
        uint8_t *memory;

        if (edge->block == 0)
            continue;
        memory = mapfs_txn_data(&allocate->txn, (MapfsRun){{edge->block}, 1});
        if (!memory)
            return mapfs_damage(edge->block, "extent", "does not lie in the image");
        memset(memory + edge->from, 0, edge->to - edge->from);
    }
    return 0;
}

/* What must not be: written blocks become unwritten where they lie. */
static void pieces_keep(Allocate *allocate) {
    for (guint i = 0; i < allocate->pieces->len; i++) {
        const Piece *piece = &g_array_index(allocate->pieces, Piece, i);
        StepRun run = {piece->logical, {{piece->near}, piece->n_blocks}, MAPFS_EXTENT_UNWRITTEN};

        g_array_append_val(allocate->runs, run);
    }
}

static int clear_prepare(Allocate *allocate, uint64_t *next) {
    int r = 0;

    for (unsigned i = 0; allocate->has_edges && r == 0 && i < MAPFS_N_ELEMENTS(allocate->edges); i++)
        r = edge_prepare(allocate, &allocate->edges[i]);
    if (r == 0 && MAPFS_MUTANT("unwritten-in-place") && !allocate->any_shared)
        pieces_keep(allocate);
    else if (r == 0 && (allocate->mode & MAPFS_ALLOCATE_ZERO))
        r = pieces_allocate(allocate, next);
    if (r == 0 && allocate->has_edges)
        r = edges_store(allocate);
    return r;
}

static int clear_apply(Allocate *allocate, uint64_t first, uint64_t next, bool is_last) {
    bool begun = allocate->runs->len > 0;
    int r;

    mapfs_txn_lock(&allocate->txn);
    r = apply_runs(allocate);
    if (r == 0 && !(allocate->mode & MAPFS_ALLOCATE_ZERO) && next > first) {
        r = apply_punch(allocate, first, next);
        begun |= r == 0;
    }
    if (r == 0 && !allocate->undoes)
        r = apply_size(allocate, is_last ? allocate->size_after : allocate->size);
    if (r < 0 && begun && r != -EIO)
        r = mapfs_apply_broken(allocate->fs, r);
    return r;
}

/* True when the block of an edge may be shared: it then moves, and one is taken from its count. */
static bool edges_shared(Allocate *allocate) {
    MapfsStore *store = allocate->fs->store;
    bool any = false;

    mapfs_store_read_lock(store);
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(allocate->edges); i++) {
        bool shared = true; /* damage is met again by who looks closer */
        int r = mapfs_extent_any_shared(mapfs_store_tree(store), allocate->ino, allocate->edges[i].logical, 0, &shared);

        any |= r < 0 || shared;
    }
    mapfs_store_read_unlock(store);
    return any;
}

/* Changes of items that a step which clears may make. */
static unsigned clear_changes(Allocate *allocate) {
    unsigned n_extents = (allocate->mode & MAPFS_ALLOCATE_ZERO ? 2 : 1) * allocate->n_max;
    /* Inode, what is stripped; for each edge a split; extents that go, and those that come. */
    unsigned n_edges = MAPFS_N_ELEMENTS(allocate->edges);
    unsigned n = 2 + MAPFS_STRIP_CHANGES + 2 * n_edges + mapfs_extent_changes(n_extents);

    if (allocate->any_shared)
        n += mapfs_shared_changes(allocate->n_max);
    if (allocate->has_edges && edges_shared(allocate))
        n += n_edges * mapfs_shared_changes_whole(1);
    return n;
}

/* A zeroed range gives back what it takes, unless others have the blocks too. */
static MapfsTxnKind clear_kind(const Allocate *allocate) {
    if (!(allocate->mode & MAPFS_ALLOCATE_ZERO))
        return MAPFS_TXN_FREES;
    return allocate->any_shared ? MAPFS_TXN_GROWS : MAPFS_TXN_KEEPS;
}

static int step_clear(Allocate *allocate, uint64_t *at, uint64_t end) {
    bool zeroes = allocate->mode & MAPFS_ALLOCATE_ZERO;
    uint64_t first = *at, next;
    int r;

    r = survey(allocate, zeroes ? WANT_WRITTEN : WANT_MAPPED, first, end, &next);
    if (r < 0)
        return r;
    /* Nothing to do here; the last step sets size and times all the same. */
    if (allocate->pieces->len == 0 && !allocate->has_edges && (next < end || allocate->undoes)) {
        *at = next;
        return 0;
    }
    r = mapfs_txn_begin(allocate->fs->store, clear_kind(allocate), clear_changes(allocate), &allocate->txn);
    if (r < 0)
        return r;
    r = clear_prepare(allocate, &next);
    if (r == 0)
        r = clear_apply(allocate, first, next, next >= end);
    if (r < 0)
        cancel_runs(allocate);
    mapfs_txn_end(&allocate->txn);
    g_array_set_size(allocate->runs, 0);
    if (r < 0)
        return r;
    allocate->has_edges = false;
    *at = next;
    return 0;
}

/* Clears the range; at its ends, what lies in blocks that it covers in part. Past the end of the file there is nothing to keep. */
static int clear(Allocate *allocate) {
    uint64_t first = mapfs_blocks_for_bytes(allocate->offset), end = allocate->end >> MAPFS_BLOCK_SHIFT;
    uint64_t front = allocate->offset >> MAPFS_BLOCK_SHIFT, back = end;
    uint64_t back_to = allocate->end % MAPFS_BLOCK_SIZE;

    if (allocate->end >= allocate->size) {
        end = mapfs_blocks_for_bytes(allocate->end);
        back_to = 0;
    }
    allocate->has_edges = true;
    if (front < first) {
        uint64_t start = front << MAPFS_BLOCK_SHIFT;

        allocate->edges[0] = (Edge){.logical = front,
                                    .from = allocate->offset - start,
                                    .to = MAPFS_MIN(allocate->end - start, MAPFS_BLOCK_SIZE)};
    }
    if (back_to > 0 && back >= first)
        allocate->edges[1] = (Edge){.logical = back, .from = 0, .to = back_to};
    return steps_run(allocate, step_clear, first, MAPFS_MAX(first, end));
}

/* A hole in content that lies in the tree. */
static int step_clear_inline(Allocate *allocate, uint64_t *at, uint64_t end) {
    struct {
        struct mapfs_disk_record_inline record;
        uint8_t bytes[MAPFS_INLINE_MAX + 8];
    } content;
    size_t len = allocate->inline_len;
    int r;

    memset(&content, 0, sizeof(content));
    mapfs_record_init(&content.record.header, MAPFS_RECORD_INLINE, sizeof(content.record) + len, mapfs_fs_now());
    content.record.ino = mapfs_le64_store(allocate->ino);
    content.record.flags = mapfs_le32_store(allocate->flags);
    content.record.len_bytes = mapfs_le16_store((uint16_t)len);
    memcpy((uint8_t *)&content + sizeof(content.record), allocate->inline_bytes, len);
    if (allocate->offset < len)
        memset((uint8_t *)&content + sizeof(content.record) + allocate->offset, 0,
               MAPFS_MIN(allocate->end, len) - allocate->offset);
    r = mapfs_txn_begin(allocate->fs->store, MAPFS_TXN_FREES, 2 + MAPFS_STRIP_CHANGES, &allocate->txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&allocate->txn);
    r = mapfs_record_run(allocate->fs, &allocate->txn, &content.record.header);
    mapfs_txn_end(&allocate->txn);
    if (r == 0)
        *at = end;
    return r;
}

/* --- the operation --- */

/* Size and times, when all is there. */
static int step_finish(Allocate *allocate, uint64_t *at, uint64_t end) {
    int r;

    r = mapfs_txn_begin(allocate->fs->store, MAPFS_TXN_KEEPS, 1 + MAPFS_STRIP_CHANGES, &allocate->txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&allocate->txn);
    r = apply_size(allocate, allocate->size_after);
    mapfs_txn_end(&allocate->txn);
    if (r == 0)
        *at = end;
    return r;
}

/* Gives back what was preallocated. What cannot be, for damage or want of room, stays the file's. */
static void undo(Allocate *allocate) {
    allocate->undoes = true;
    allocate->has_edges = false;
    allocate->mode = MAPFS_ALLOCATE_PUNCH;
    for (guint i = 0; i < allocate->taken->len; i++) {
        const Piece *piece = &g_array_index(allocate->taken, Piece, i);

        (void)steps_run(allocate, step_clear, piece->logical, piece->logical + piece->n_blocks); /* as said above */
    }
}

static int preallocate(Allocate *allocate) {
    int r = 0;

    if (allocate->inline_len > 0)
        r = steps_run(allocate, step_leave_tree, 0, 1);
    if (r == 0)
        r = steps_run(allocate, step_preallocate, allocate->offset >> MAPFS_BLOCK_SHIFT,
                      mapfs_blocks_for_bytes(allocate->end));
    if (r < 0)
        undo(allocate);
    return r;
}

static int allocate_run(Allocate *allocate) {
    int r;

    if (allocate->mode & MAPFS_ALLOCATE_PUNCH)
        return allocate->inline_len > 0 ? steps_run(allocate, step_clear_inline, 0, 1) : clear(allocate);
    r = preallocate(allocate);
    if (r < 0)
        return r;
    return allocate->mode & MAPFS_ALLOCATE_ZERO ? clear(allocate) : steps_run(allocate, step_finish, 0, 1);
}

/* An append-only file may get room, also at its end, and loses nothing. */
static int check_flags(const Allocate *allocate, const struct mapfs_disk_inode *inode) {
    return allocate->mode & (MAPFS_ALLOCATE_PUNCH | MAPFS_ALLOCATE_ZERO) ? mapfs_flags_check_change(inode)
                                                                         : mapfs_flags_check_append(inode);
}

static int allocate_load(Allocate *allocate) {
    MapfsStore *store = allocate->fs->store;
    struct mapfs_disk_inode inode;
    int r;

    mapfs_store_read_lock(store);
    r = mapfs_inode_load(mapfs_store_tree(store), allocate->ino, &inode);
    if (r == 0 && !S_ISREG(mapfs_le32_load(inode.mode)))
        r = S_ISDIR(mapfs_le32_load(inode.mode)) ? -EISDIR : -ENODEV;
    if (r == 0)
        r = check_flags(allocate, &inode);
    if (r == 0 && mapfs_le64_load(inode.n_blocks) == 0)
        r = mapfs_inline_load(mapfs_store_tree(store), allocate->ino, mapfs_le64_load(inode.size),
                              allocate->inline_bytes);
    mapfs_store_read_unlock(store);
    if (r < 0)
        return r;
    allocate->inline_len = (size_t)r;
    allocate->size = mapfs_le64_load(inode.size);
    allocate->size_after =
        allocate->mode & MAPFS_ALLOCATE_KEEP_SIZE ? allocate->size : MAPFS_MAX(allocate->size, allocate->end);
    return 0;
}

static bool mode_is_valid(unsigned mode) {
    switch (mode & ~MAPFS_ALLOCATE_KILL_PRIV) {
    case 0:
    case MAPFS_ALLOCATE_KEEP_SIZE:
    case MAPFS_ALLOCATE_PUNCH | MAPFS_ALLOCATE_KEEP_SIZE:
    case MAPFS_ALLOCATE_ZERO:
    case MAPFS_ALLOCATE_ZERO | MAPFS_ALLOCATE_KEEP_SIZE:
        return true;
    default:
        return false;
    }
}

int mapfs_fs_allocate(MapfsFs *fs, uint64_t ino, unsigned mode, MapfsIoRange range) {
    const MapfsKey keys[] = {mapfs_inode_key(ino), mapfs_extent_key(ino, range.offset >> MAPFS_BLOCK_SHIFT)};
    g_autofree Allocate *allocate = NULL;
    int r;

    if (!mode_is_valid(mode))
        return -EOPNOTSUPP;
    if (range.len == 0)
        return -EINVAL;
    if (range.offset >= MAPFS_FILE_SIZE_MAX || range.len > MAPFS_FILE_SIZE_MAX - range.offset)
        return -EFBIG;
    mapfs_store_prefetch(fs->store, keys, MAPFS_N_ELEMENTS(keys));
    allocate = g_new0(Allocate, 1);
    allocate->fs = fs;
    allocate->ino = ino;
    allocate->mode = mode & ~MAPFS_ALLOCATE_KILL_PRIV;
    allocate->flags = mode & MAPFS_ALLOCATE_KILL_PRIV ? MAPFS_WRITE_STRIP : 0;
    allocate->offset = range.offset;
    allocate->end = range.offset + range.len;
    allocate->pieces = g_array_new(FALSE, FALSE, sizeof(Piece));
    allocate->runs = g_array_new(FALSE, FALSE, sizeof(StepRun));
    allocate->taken = g_array_new(FALSE, FALSE, sizeof(Piece));
    mapfs_inode_lock(fs, ino);
    r = mapfs_fs_finish_truncate(fs, ino);
    if (r == 0)
        r = allocate_load(allocate);
    if (r == 0)
        r = allocate_run(allocate);
    mapfs_inode_unlock(fs, ino);
    g_array_unref(allocate->pieces);
    g_array_unref(allocate->runs);
    g_array_unref(allocate->taken);
    return r;
}
