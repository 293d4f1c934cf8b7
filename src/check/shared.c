/* SPDX-License-Identifier: MIT */

/* Shared blocks: how many extents refer to each, against what the items say. Only where extents begin and end is kept, in two lists; sorted,
 * they tell the count of every block in one pass: as many as have begun before it and not ended. Items come in their order after
 * all extents. */

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "check/check-private.h"

static uint64_t number_at(const MapfsVector *vector, size_t i) {
    return ((const uint64_t *)vector->data)[i];
}

int mapfs_check_shared_extent(MapfsCheck *check, MapfsRun run) {
    MapfsCheckShared *shared = &check->shared;
    uint64_t end = run.start.n + run.n_blocks;
    int r;

    check->report->n_shared_extents++;
    /* One that goes on where the one before ended changes no count there. */
    if (shared->ends.n > 0 && number_at(&shared->ends, shared->ends.n - 1) == run.start.n) {
        ((uint64_t *)shared->ends.data)[shared->ends.n - 1] = end;
        return 0;
    }
    r = mapfs_vector_push(&shared->starts, &run.start.n, sizeof(run.start.n));
    return r < 0 ? r : mapfs_vector_push(&shared->ends, &end, sizeof(end));
}

int mapfs_check_shared_item(MapfsCheck *check, const MapfsCheckItem *item) {
    const MapfsCheckPlace place = {.block = item->block, .object = item->key.object};
    MapfsCheckShared *shared = &check->shared;
    const MapfsCheckCount *last =
        shared->counts.n > 0 ? &((const MapfsCheckCount *)shared->counts.data)[shared->counts.n - 1] : NULL;
    struct mapfs_disk_shared value;
    MapfsCheckCount count;

    memcpy(&value, item->value, sizeof(value));
    count = (MapfsCheckCount){.start = item->key.offset,
                              .end = item->key.offset + mapfs_le64_load(value.n_blocks),
                              .n_refs = mapfs_le32_load(value.n_refs)};
    if (last && last->end > count.start) {
        mapfs_check_found(check, MAPFS_PROBLEM_SHARED_COUNT, place, "block %" PRIu64 " is counted as shared twice",
                          count.start);
        count.start = MAPFS_MIN(last->end, count.end);
    }
    return mapfs_vector_push(&shared->counts, &count, sizeof(count));
}

static int number_compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* A stretch of blocks with one count, by extents or by items. */
typedef struct {
    uint64_t start, end;
    uint64_t n_refs;
} Stretch;

/* Where the pass is: all before `at` has been compared. */
typedef struct {
    MapfsCheck *check;
    uint64_t at, n_open;
    size_t i_start, i_end, i_count;
    Stretch used; /* by extents, joined over changes of count */
} Sweep;

/* The next place after `at` where a count changes; UINT64_MAX at the end. */
static uint64_t sweep_next(const Sweep *sweep) {
    const MapfsCheckShared *shared = &sweep->check->shared;
    uint64_t next = UINT64_MAX;

    if (sweep->i_start < shared->starts.n)
        next = number_at(&shared->starts, sweep->i_start);
    if (sweep->i_end < shared->ends.n)
        next = MAPFS_MIN(next, number_at(&shared->ends, sweep->i_end));
    if (sweep->i_count < shared->counts.n) {
        const MapfsCheckCount *count = &((const MapfsCheckCount *)shared->counts.data)[sweep->i_count];

        next = MAPFS_MIN(next, count->start > sweep->at ? count->start : count->end);
    }
    return next;
}

/* What the items say of the blocks at hand: 0 when none has them. */
static uint32_t sweep_counted(const Sweep *sweep) {
    const MapfsVector *counts = &sweep->check->shared.counts;
    const MapfsCheckCount *count;

    if (sweep->i_count >= counts->n)
        return 0;
    count = &((const MapfsCheckCount *)counts->data)[sweep->i_count];
    return count->start <= sweep->at ? count->n_refs : 0;
}

/* Moves to a place where a count changes. */
static void sweep_advance(Sweep *sweep, uint64_t to) {
    const MapfsCheckShared *shared = &sweep->check->shared;

    sweep->at = to;
    while (sweep->i_start < shared->starts.n && number_at(&shared->starts, sweep->i_start) <= to) {
        sweep->i_start++;
        sweep->n_open++;
    }
    while (sweep->i_end < shared->ends.n && number_at(&shared->ends, sweep->i_end) <= to) {
        sweep->i_end++;
        sweep->n_open--;
    }
    while (sweep->i_count < shared->counts.n &&
           ((const MapfsCheckCount *)shared->counts.data)[sweep->i_count].end <= to)
        sweep->i_count++;
}

static int sweep_claim(Sweep *sweep) {
    MapfsRun run = {{sweep->used.start}, sweep->used.end - sweep->used.start};
    int r = 0;

    if (run.n_blocks > 0)
        r = mapfs_check_claim(sweep->check, run, (MapfsCheckPlace){.block = run.start.n}, "shared extents");
    sweep->used = (Stretch){0};
    return r < 0 ? r : 0;
}

/* The blocks from `at` to `end`, of which nothing changes the count. */
static int sweep_stretch(Sweep *sweep, uint64_t end) {
    uint32_t counted = sweep_counted(sweep);
    int r = 0;

    if (sweep->n_open > 1)
        sweep->check->report->n_shared += end - sweep->at;
    if (sweep->n_open > 0)
        sweep->check->report->n_saved += (sweep->n_open - 1) * (end - sweep->at);
    if (sweep->n_open > 0 && sweep->used.end != sweep->at)
        r = sweep_claim(sweep);
    if (sweep->n_open > 0)
        sweep->used = (Stretch){.start = sweep->used.end == 0 ? sweep->at : sweep->used.start, .end = end};
    if (counted == sweep->n_open || (counted == 0 && sweep->n_open == 1))
        return r;
    mapfs_check_found(sweep->check, MAPFS_PROBLEM_SHARED_COUNT, (MapfsCheckPlace){.block = sweep->at},
                      "blocks %" PRIu64 "+%" PRIu64 ": %" PRIu64 " extents share them, %" PRIu32 " are counted",
                      sweep->at, end - sweep->at, sweep->n_open, counted);
    return r;
}

int mapfs_check_shared(MapfsCheck *check) {
    MapfsCheckShared *shared = &check->shared;
    Sweep sweep = {.check = check};
    uint64_t next;
    int r = 0;

    if ((shared->starts.n > 0 || shared->counts.n > 0) &&
        !(mapfs_le64_load(check->superblock.feature_incompat) & MAPFS_FEATURE_INCOMPAT_SHARED))
        mapfs_check_found(check, MAPFS_PROBLEM_SHARED_FEATURE, (MapfsCheckPlace){0},
                          "blocks are shared, but the superblock does not have that feature");
    if (shared->starts.n > 0) {
        qsort(shared->starts.data, shared->starts.n, sizeof(uint64_t), number_compare);
        qsort(shared->ends.data, shared->ends.n, sizeof(uint64_t), number_compare);
    }
    while (r == 0 && (next = sweep_next(&sweep)) != UINT64_MAX) {
        if (sweep.n_open > 0 || sweep_counted(&sweep) > 0)
            r = sweep_stretch(&sweep, next);
        sweep_advance(&sweep, next);
    }
    return r < 0 ? r : sweep_claim(&sweep);
}

void mapfs_check_shared_clear(MapfsCheckShared *shared) {
    mapfs_vector_clear(&shared->starts);
    mapfs_vector_clear(&shared->ends);
    mapfs_vector_clear(&shared->counts);
}
