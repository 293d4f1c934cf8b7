/* SPDX-License-Identifier: MIT */

/* Writing. begin finds out where each block of the range goes, commit lets records refer to it:
 *
 *  - a file that is and stays small: its content is put together in memory and becomes one INLINE record;
 *  - a block born in the running epoch: stored into where it lies;
 *  - a block of an unwritten extent: likewise, for nothing refers to its bytes until a record calls it written;
 *  - everything else: new blocks, with what the write leaves of the old ones copied over.
 *
 * The transaction is held from begin to commit, so a cut comes before or after the whole write. What lies past the end of a file in its
 * last block is zeros: new blocks are filled up with them, and what makes a file shorter stores them. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/mutant.h"
#include "fs/data-private.h"
#include "fs/flags-private.h"

/* Runs that one write can be spread over: its blocks, and one for content that leaves the tree. */
#define WRITE_RUNS_MAX (MAPFS_IO_LEN_MAX / MAPFS_BLOCK_SIZE + 2u)

typedef enum {
    PLACE_STAYS, /* where the file has them already */
    PLACE_FILLS, /* likewise, but unwritten: a record converts them */
    PLACE_NEW,   /* a record maps them */
} Place;

/* A stretch of the file's blocks and where they are stored. */
typedef struct {
    uint64_t logical;
    MapfsRun run;
    Place place;
} WriteRun;

struct MapfsWriteState {
    MapfsFs *fs;
    uint64_t ino, offset, size_before, size_after;
    size_t len;
    unsigned flags; /* MAPFS_WRITE_* of records */
    bool appends;
    MapfsTxn txn;
    bool is_inline;
    size_t inline_len;                          /* content in the tree before */
    struct mapfs_disk_record_inline *record;    /* of an inline write */
    uint8_t inline_bytes[MAPFS_INLINE_MAX + 8]; /* content in the tree before */
    uint64_t last_block; /* of the image: where the file's block before this one lies, for the goal */
    unsigned n_runs;
    WriteRun runs[WRITE_RUNS_MAX];
};

static int piece_add(MapfsWrite *write, void *memory, size_t len) {
    if (write->n_iov == MAPFS_IO_IOV_MAX)
        return -EIO;
    write->iov[write->n_iov++] = (struct iovec){memory, len};
    return 0;
}

/* --- in the tree --- */

static int begin_inline(MapfsWriteState *state, MapfsWrite *write) {
    size_t len = (size_t)state->size_after;
    int r;

    r = mapfs_txn_begin(state->fs->store, MAPFS_TXN_GROWS, 2 + MAPFS_STRIP_CHANGES, &state->txn);
    if (r < 0)
        return r;
    state->record = g_malloc0(sizeof(*state->record) + ((len + 7) & ~(size_t)7));
    mapfs_record_init(&state->record->header, MAPFS_RECORD_INLINE, sizeof(*state->record) + len, mapfs_fs_now());
    state->record->ino = mapfs_le64_store(state->ino);
    state->record->flags = mapfs_le32_store(state->flags);
    state->record->len_bytes = mapfs_le16_store((uint16_t)len);
    memcpy(state->record->bytes, state->inline_bytes, state->inline_len);
    return piece_add(write, state->record->bytes + state->offset, state->len);
}

/* --- blocks --- */

static uint64_t block_of(uint64_t offset) {
    return offset >> MAPFS_BLOCK_SHIFT;
}

static int run_add(MapfsWriteState *state, uint64_t logical, MapfsRun run, Place place) {
    WriteRun *last = state->n_runs > 0 ? &state->runs[state->n_runs - 1] : NULL;

    state->last_block = run.start.n + run.n_blocks - 1;
    if (last && last->place == place && last->logical + last->run.n_blocks == logical &&
        last->run.start.n + last->run.n_blocks == run.start.n) {
        last->run.n_blocks += run.n_blocks;
        return 0;
    }
    if (state->n_runs == WRITE_RUNS_MAX) {
        if (place == PLACE_NEW)
            mapfs_txn_cancel(&state->txn, run);
        return -EIO;
    }
    state->runs[state->n_runs++] = (WriteRun){logical, run, place};
    return 0;
}

static int add_new(MapfsWriteState *state, uint64_t logical, uint64_t n_blocks) {
    while (n_blocks > 0) {
        MapfsGoal goal = {.block = {state->last_block ? state->last_block + 1 : 0},
                          .apart =
                              logical >= block_of(state->size_before) && state->size_before >= 16 * MAPFS_BLOCK_SIZE};
        MapfsRun run;
        int r;

        r = mapfs_txn_allocate(&state->txn, goal, n_blocks, &run);
        if (r == 0)
            r = run_add(state, logical, run, PLACE_NEW);
        if (r < 0)
            return r;
        logical += run.n_blocks;
        n_blocks -= run.n_blocks;
    }
    return 0;
}

/* Whether the write may store into this extent's blocks where they lie. */
static Place place_of(const MapfsWriteState *state, const MapfsExtent *extent) {
    if (extent->flags == MAPFS_EXTENT_UNWRITTEN)
        return PLACE_FILLS;
    return extent->flags == 0 && mapfs_txn_unsealed(&state->txn, (MapfsEpoch){extent->birth_epoch}) ? PLACE_STAYS
                                                                                                    : PLACE_NEW;
}

/* Blocks of the file that move together, or stay. They are looked up first and allocated then: allocating may call the host, which must not
 * happen under the tree lock. */
typedef struct {
    uint64_t logical, n_blocks, block; /* block 0: must move */
    Place place;
} Stretch;

static void stretch_add(GArray *stretches, Stretch stretch) {
    Stretch *last = stretches->len > 0 ? &g_array_index(stretches, Stretch, stretches->len - 1) : NULL;

    if (last && last->place == PLACE_NEW && stretch.place == PLACE_NEW)
        last->n_blocks += stretch.n_blocks;
    else
        g_array_append_val(stretches, stretch);
}

/* Adds what begins at block `at`; returns its length. */
static int find_stretch(MapfsWriteState *state, MapfsTree *tree, uint64_t at, uint64_t end, GArray *stretches) {
    Stretch stretch = {.logical = at, .n_blocks = end - at, .place = PLACE_NEW};
    MapfsExtent extent;
    int r;

    r = mapfs_extent_find(tree, state->ino, at, &extent);
    if (r < 0)
        return r;
    if (r > 0 && extent.logical > at) {
        stretch.n_blocks = MAPFS_MIN(extent.logical, end) - at;
    } else if (r > 0) {
        stretch.n_blocks = MAPFS_MIN(extent.logical + extent.n_blocks, end) - at;
        stretch.place = place_of(state, &extent);
        stretch.block = stretch.place == PLACE_NEW ? 0 : extent.block + (at - extent.logical);
    }
    stretch_add(stretches, stretch);
    return (int)stretch.n_blocks;
}

static int find_stretches(MapfsWriteState *state, uint64_t first, uint64_t end, GArray *stretches) {
    MapfsStore *store = state->fs->store;
    MapfsTree *tree = mapfs_store_tree(store);
    MapfsExtent before;
    int r = 0;

    mapfs_store_read_lock(store);
    if (first > 0) {
        r = mapfs_extent_find(tree, state->ino, first - 1, &before);
        if (r > 0 && before.logical < first)
            state->last_block = before.block + (first - 1 - before.logical);
    }
    for (uint64_t at = first; at < end && r >= 0;) {
        r = find_stretch(state, tree, at, end, stretches);
        at += r > 0 ? (uint64_t)r : 0;
    }
    mapfs_store_read_unlock(store);
    return r < 0 ? r : 0;
}

static int place_blocks(MapfsWriteState *state, uint64_t first, uint64_t end) {
    g_autoptr(GArray) stretches = g_array_new(FALSE, FALSE, sizeof(Stretch));
    int r;

    r = find_stretches(state, first, end, stretches);
    for (guint i = 0; i < stretches->len && r == 0; i++) {
        const Stretch *stretch = &g_array_index(stretches, Stretch, i);
        MapfsRun run = {{stretch->block}, stretch->n_blocks};

        if (stretch->place == PLACE_FILLS)
            r = mapfs_txn_fill(&state->txn, run);
        if (r == 0 && stretch->place == PLACE_NEW)
            r = add_new(state, stretch->logical, stretch->n_blocks);
        else if (r == 0)
            r = run_add(state, stretch->logical, run, stretch->place);
    }
    return r;
}

/* --- the bytes around the write --- */

/* Where one block of the file lies now: 1 and its bytes, 0 for a hole, or -errno. */
static int old_block(MapfsWriteState *state, uint64_t logical, const uint8_t **ret_bytes, MapfsExtent *ret_extent) {
    MapfsStore *store = state->fs->store;
    const uint8_t *bytes;
    int r;

    mapfs_store_read_lock(store);
    r = mapfs_extent_find(mapfs_store_tree(store), state->ino, logical, ret_extent);
    mapfs_store_read_unlock(store);
    if (r <= 0 || ret_extent->logical > logical || (ret_extent->flags & MAPFS_EXTENT_UNWRITTEN))
        return r < 0 ? r : 0;
    bytes = mapfs_image_read(mapfs_store_image(store),
                             (MapfsRun){{ret_extent->block + (logical - ret_extent->logical)}, 1});
    if (!bytes)
        return mapfs_damage(ret_extent->block, "extent", "of %" PRIu64 " blocks does not lie in the image",
                            ret_extent->n_blocks);
    *ret_bytes = bytes;
    return 1;
}

/* Fills a new block with what the file has there: old bytes up to the end of the file, then zeros. */
static int fill_block(MapfsWriteState *state, uint64_t logical, uint8_t *memory) {
    uint64_t start = logical << MAPFS_BLOCK_SHIFT;
    size_t n_old = 0;
    const uint8_t *bytes = state->inline_bytes;
    MapfsExtent extent;
    int r = 1;

    if (state->size_before > start)
        n_old = (size_t)MAPFS_MIN(state->size_before - start, MAPFS_BLOCK_SIZE);
    if (state->inline_len > 0)
        n_old = logical == 0 ? MAPFS_MIN(n_old, state->inline_len) : 0;
    else if (n_old > 0)
        r = old_block(state, logical, &bytes, &extent);
    if (r < 0)
        return r;
    if (r == 0)
        n_old = 0;
    memcpy(memory, bytes, n_old);
    memset(memory + n_old, 0, MAPFS_BLOCK_SIZE - n_old);
    return 0;
}

/* Fills the blocks of a run without bytes of its own that the write [from, to) does not cover whole. */
static int run_fill(MapfsWriteState *state, const WriteRun *run, uint8_t *memory, uint64_t from, uint64_t to) {
    for (uint64_t i = 0; i < run->run.n_blocks; i++) {
        uint64_t start = (run->logical + i) << MAPFS_BLOCK_SHIFT;
        int r;

        if (start >= from && start + MAPFS_BLOCK_SIZE <= to)
            continue;
        r = fill_block(state, run->logical + i, memory + (i << MAPFS_BLOCK_SHIFT));
        if (r < 0)
            return r;
    }
    return 0;
}

/* The piece of one run that the write covers, after the blocks around it are filled. */
static int run_prepare(MapfsWriteState *state, const WriteRun *run, MapfsWrite *write) {
    uint64_t start = run->logical << MAPFS_BLOCK_SHIFT, end = start + (run->run.n_blocks << MAPFS_BLOCK_SHIFT);
    uint64_t from = MAPFS_MAX(start, state->offset), to = MAPFS_MIN(end, state->offset + state->len);
    uint8_t *memory = mapfs_txn_data(&state->txn, run->run);
    int r = 0;

    if (!memory)
        return mapfs_txn_data_damage(run->run);
    if (run->place != PLACE_STAYS)
        r = run_fill(state, run, memory, from, to);
    if (r < 0 || to <= from)
        return r;
    return piece_add(write, memory + (from - start), (size_t)(to - from));
}

static int prepare_blocks(MapfsWriteState *state, MapfsWrite *write) {
    uint64_t first = block_of(state->offset), end = block_of(state->offset + state->len - 1) + 1;
    int r = 0;

    if (state->inline_len > 0 && first > 0)
        r = place_blocks(state, 0, 1);
    if (r == 0)
        r = place_blocks(state, first, end);
    for (unsigned i = 0; i < state->n_runs && r == 0; i++)
        r = run_prepare(state, &state->runs[i], write);
    return r;
}

static void cancel_runs(MapfsWriteState *state) {
    for (unsigned i = 0; i < state->n_runs; i++) {
        if (state->runs[i].place == PLACE_NEW)
            mapfs_txn_cancel(&state->txn, state->runs[i].run);
        else if (state->runs[i].place == PLACE_FILLS && !MAPFS_MUTANT("broken-promise"))
            mapfs_txn_forget(&state->txn, state->runs[i].run);
    }
    state->n_runs = 0;
}

/* What the write meets. */
typedef struct {
    unsigned n_extents;
    unsigned n_shared_changes; /* of counts */
    uint64_t n_own;            /* blocks that the write gives back when it moves them */
} Survey;

static int survey_extent(MapfsTree *tree, const MapfsExtent *extent, MapfsRun run, Survey *survey) {
    bool sole = true;
    int r = 0;

    survey->n_extents++;
    if (extent->flags & MAPFS_EXTENT_SHARED)
        r = mapfs_shared_is_sole(tree, run, &sole);
    if (sole)
        survey->n_own += run.n_blocks;
    else
        survey->n_shared_changes += mapfs_shared_changes_whole(run.n_blocks);
    return r;
}

static int survey_blocks(MapfsWriteState *state, uint64_t first, uint64_t end, Survey *ret_survey) {
    MapfsTree *tree = mapfs_store_tree(state->fs->store);
    int r = 0;

    *ret_survey = (Survey){0};
    mapfs_store_read_lock(state->fs->store);
    for (uint64_t at = first; at < end && r == 0;) {
        MapfsExtent extent;

        r = mapfs_extent_find(tree, state->ino, at, &extent);
        if (r <= 0 || extent.logical >= end)
            break;
        r = survey_extent(tree, &extent, mapfs_extent_clip(&extent, at, end), ret_survey);
        at = extent.logical + extent.n_blocks;
    }
    mapfs_store_read_unlock(state->fs->store);
    return r < 0 ? r : 0;
}

static int begin_blocks(MapfsWriteState *state, MapfsWrite *write) {
    uint64_t first = block_of(state->offset), end = block_of(state->offset + state->len - 1) + 1;
    MapfsTxnKind kind = MAPFS_TXN_GROWS;
    unsigned n_changes;
    Survey survey;
    int r;

    r = survey_blocks(state, first, end, &survey);
    if (r < 0)
        return r;
    /* Inode, content that leaves the tree, what is stripped, old extents; new runs may be many on a full image. */
    n_changes = 2 + MAPFS_STRIP_CHANGES + mapfs_extent_changes(survey.n_extents) + survey.n_shared_changes +
                (unsigned)((end - first) / 32);
    /* An overwrite gives back as much as it takes, two checkpoints later: it works on a full image too. */
    if (survey.n_own == end - first)
        kind = MAPFS_TXN_KEEPS;
    r = mapfs_txn_begin(state->fs->store, kind, n_changes, &state->txn);
    if (r < 0)
        return r;
    r = prepare_blocks(state, write);
    if (r < 0) {
        cancel_runs(state);
        mapfs_txn_end(&state->txn);
    }
    return r;
}

/* --- begin, commit, abort --- */

static int begin_state(MapfsWriteState *state) {
    MapfsStore *store = state->fs->store;
    struct mapfs_disk_inode inode;
    int r;

    mapfs_store_read_lock(store);
    r = mapfs_inode_load_file(mapfs_store_tree(store), state->ino, &inode);
    if (r == 0)
        r = mapfs_flags_check_write(&inode, state->offset + state->len, state->appends);
    state->inline_len = 0;
    if (r == 0 && mapfs_le64_load(inode.n_blocks) == 0)
        r = mapfs_inline_load(mapfs_store_tree(store), state->ino, mapfs_le64_load(inode.size), state->inline_bytes);
    mapfs_store_read_unlock(store);
    if (r < 0)
        return r;
    state->inline_len = (size_t)r;
    state->size_before = mapfs_le64_load(inode.size);
    state->size_after = MAPFS_MAX(state->size_before, state->offset + state->len);
    state->is_inline = mapfs_le64_load(inode.n_blocks) == 0 && state->size_after <= MAPFS_INLINE_MAX;
    return 0;
}

static int begin_once(MapfsWriteState *state, MapfsWrite *write) {
    int r;

    write->n_iov = 0;
    state->n_runs = 0;
    state->last_block = 0;
    r = begin_state(state);
    if (r < 0)
        return r;
    return state->is_inline ? begin_inline(state, write) : begin_blocks(state, write);
}

static void state_free(MapfsWriteState *state) {
    g_free(state->record);
    g_free(state);
}

int mapfs_fs_write_begin(MapfsFs *fs, uint64_t ino, MapfsIoRange range, unsigned flags, MapfsWrite *write) {
    const MapfsKey keys[] = {mapfs_inode_key(ino), mapfs_extent_key(ino, block_of(range.offset))};
    MapfsWriteState *state;
    int r;

    if (range.len == 0 || range.len > MAPFS_IO_LEN_MAX)
        return -EINVAL;
    if (range.offset >= MAPFS_FILE_SIZE_MAX || range.len > MAPFS_FILE_SIZE_MAX - range.offset)
        return -EFBIG;
    mapfs_store_prefetch(fs->store, keys, MAPFS_N_ELEMENTS(keys));
    (void)mapfs_store_pace(fs->store, range.len); /* a sync waits the longer, that is all */
    state = g_new0(MapfsWriteState, 1);
    state->fs = fs;
    state->ino = ino;
    state->offset = range.offset;
    state->len = range.len;
    state->flags = flags & MAPFS_WRITE_FLAG_KILL_PRIV ? MAPFS_WRITE_STRIP : 0;
    state->appends = flags & MAPFS_WRITE_FLAG_APPEND;
    mapfs_inode_lock(fs, ino);
    r = mapfs_fs_finish_truncate(fs, ino);
    if (r == 0)
        r = begin_once(state, write);
    for (unsigned i = 0; r == -ENOSPC && i < MAPFS_ROOM_TRIES; i++) {
        int room = mapfs_fs_make_room(fs);

        r = room < 0 ? room : begin_once(state, write);
        /* No more is to come; but a checkpoint was made, and the next takes less. */
        if (room <= 0)
            break;
    }
    if (r < 0) {
        mapfs_inode_unlock(fs, ino);
        state_free(state);
        return r;
    }
    write->state = state;
    return 0;
}

/* A write that does not happen may have stored past the end of the file, where zeros must be. */
static void zero_past_end(MapfsWriteState *state) {
    for (unsigned i = 0; i < state->n_runs; i++) {
        const WriteRun *run = &state->runs[i];
        uint64_t start = run->logical << MAPFS_BLOCK_SHIFT, len = run->run.n_blocks << MAPFS_BLOCK_SHIFT;
        uint64_t keep = MAPFS_MIN(state->size_before > start ? state->size_before - start : 0, len);
        uint8_t *memory = run->place == PLACE_STAYS ? mapfs_txn_data(&state->txn, run->run) : NULL;

        if (memory)
            memset(memory + keep, 0, len - keep);
    }
}

static int commit_run(MapfsWriteState *state, const WriteRun *run) {
    struct mapfs_disk_record_map map;

    memset(&map, 0, sizeof(map));
    mapfs_record_init(&map.header, MAPFS_RECORD_MAP, sizeof(map), mapfs_fs_now());
    map.ino = mapfs_le64_store(state->ino);
    map.size = mapfs_le64_store(state->size_after);
    map.birth_epoch = mapfs_le64_store(state->txn.epoch.n);
    map.flags = mapfs_le32_store(state->flags);
    if (run) {
        map.logical = mapfs_le64_store(run->logical);
        map.block = mapfs_le64_store(run->run.start.n);
        map.n_blocks = mapfs_le32_store((uint32_t)run->run.n_blocks);
        if (run->place == PLACE_FILLS)
            map.flags = mapfs_le32_store(state->flags | MAPFS_WRITE_CONVERT);
    }
    return mapfs_record_run(state->fs, &state->txn, &map.header);
}

static int commit_blocks(MapfsWriteState *state) {
    unsigned n_mapped = 0;
    int r = 0;

    for (unsigned i = 0; i < state->n_runs && r == 0; i++) {
        if (state->runs[i].place == PLACE_STAYS)
            continue;
        r = commit_run(state, &state->runs[i]);
        n_mapped += r == 0;
    }
    if (r == 0 && n_mapped == 0)
        r = commit_run(state, NULL);
    if (r < 0 && n_mapped > 0)
        return mapfs_apply_broken(state->fs, r);
    if (r < 0) {
        zero_past_end(state);
        cancel_runs(state);
    }
    return r;
}

int mapfs_fs_write_commit(MapfsFs *fs, MapfsWrite *write) {
    MapfsWriteState *state = write->state;
    int r;

    mapfs_txn_lock(&state->txn);
    r = state->is_inline ? mapfs_record_run(fs, &state->txn, &state->record->header) : commit_blocks(state);
    mapfs_txn_end(&state->txn);
    mapfs_inode_unlock(fs, state->ino);
    state_free(state);
    write->state = NULL;
    return r;
}

void mapfs_fs_write_abort(MapfsFs *fs, MapfsWrite *write) {
    MapfsWriteState *state = write->state;

    zero_past_end(state);
    cancel_runs(state);
    mapfs_txn_end(&state->txn);
    mapfs_inode_unlock(fs, state->ino);
    state_free(state);
    write->state = NULL;
}

static int write_copy(MapfsFs *fs, uint64_t ino, uint64_t offset, const uint8_t *bytes, size_t len) {
    g_autofree MapfsWrite *write = g_new(MapfsWrite, 1);
    int r;

    r = mapfs_fs_write_begin(fs, ino, (MapfsIoRange){offset, len}, 0, write);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < write->n_iov; i++) {
        memcpy(write->iov[i].iov_base, bytes, write->iov[i].iov_len);
        bytes += write->iov[i].iov_len;
    }
    return mapfs_fs_write_commit(fs, write);
}

int mapfs_fs_write(MapfsFs *fs, uint64_t ino, uint64_t offset, const void *data, size_t len) {
    const uint8_t *bytes = data;
    size_t n_done = 0;

    while (n_done < len) {
        size_t n = MAPFS_MIN(len - n_done, MAPFS_IO_LEN_MAX);
        int r = write_copy(fs, ino, offset + n_done, bytes + n_done, n);

        if (r < 0)
            return r;
        n_done += n;
    }
    return (int)n_done;
}
