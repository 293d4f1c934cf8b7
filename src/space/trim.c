/* SPDX-License-Identifier: MIT */

/* Giving host blocks back, of runs that are free. Not at once: a hole that is filled again costs more than the block, and a punch blocks the
 * page faults of all threads. What was freed is noted by the chunk, and whoever trims comes later and in small steps. */

#include <errno.h>

#include "space/space-private.h"

/* A punch blocks the page faults of all threads: at most 4 MiB at a time. */
#define STEP_CHUNKS 4u
#define STEP_BLOCKS (STEP_CHUNKS * CHUNK_BLOCKS)

/* The blocks of reserved chunks that a trim of the run makes useless for nodes. */
static uint64_t reserved_lost(const MapfsSpace *space, MapfsRun run) {
    uint64_t n = 0;

    for (uint64_t chunk = run.start.n / CHUNK_BLOCKS; chunk * CHUNK_BLOCKS < run.start.n + run.n_blocks; chunk++)
        n += space_chunk_reserved(space, chunk) ? mapfs_space_chunk_free(space, chunk) : 0;
    return n;
}

/* Keeps others away from a free run; false when the nodes need its chunks. */
static bool hold(MapfsSpace *space, MapfsRun run, uint64_t n_keep) {
    uint64_t n_lost = reserved_lost(space, run);

    if (n_lost > 0 && space->n_reserved_free < space->n_claimed + n_keep + n_lost)
        return false;
    for (uint64_t chunk = run.start.n / CHUNK_BLOCKS; chunk * CHUNK_BLOCKS < run.start.n + run.n_blocks; chunk++)
        mapfs_space_chunk_clear_reserved(space, chunk);
    mapfs_space_bits_hold(space, run, true);
    space->held = run;
    return true;
}

static void unhold(MapfsSpace *space) {
    mapfs_space_bits_hold(space, space->held, false);
    space->held.n_blocks = 0;
    pthread_cond_broadcast(&space->held_cond);
}

bool mapfs_space_wait_held(MapfsSpace *space) {
    MapfsRun held = space->held;

    if (held.n_blocks == 0)
        return false;
    while (space->held.n_blocks > 0 && space->held.start.n == held.start.n)
        pthread_cond_wait(&space->held_cond, &space->mutex);
    return true;
}

/* The first free run of n_min blocks in [start, end) of one group, not longer than a step; false without one. */
static bool find_run(const MapfsSpace *space, const MapfsSpaceTrim *what, uint64_t start, MapfsRun *ret_run) {
    uint64_t end =
        MAPFS_MIN(what->range.start.n + what->range.n_blocks, (start / MAPFS_GROUP_BLOCKS + 1) * MAPFS_GROUP_BLOCKS);

    for (uint64_t n; start < end; start += n) {
        start = mapfs_space_next_free(space, start, end);
        n = start < end ? mapfs_space_free_length(space, start, end) : 0;
        if (n >= what->n_min && n > 0) {
            *ret_run = (MapfsRun){{start}, MAPFS_MIN(n, STEP_BLOCKS)};
            return true;
        }
    }
    return false;
}

/* A group that was never used needs no bits in memory: one look at all groups of a large image must not leave them there. */
static void forget_bits(MapfsSpace *space, uint64_t group) {
    SpaceGroup *g = &space->groups[group];

    if (g->bitmap.n != 0 || g->dirty)
        return;
    /* Nodes are looked for in reserved chunks without loading. */
    for (uint64_t chunk = group * GROUP_CHUNKS; chunk < (group + 1) * GROUP_CHUNKS; chunk++) {
        if (space_chunk_reserved(space, chunk))
            return;
    }
    g_free(g->bits);
    g->bits = NULL;
}

/* Looks at a group from *at on, gives one run back, and sets *at to where to go on. Both mutexes held; drops and retakes `mutex`. */
static int trim_one(MapfsSpace *space, const MapfsSpaceTrim *what, uint64_t *at, uint64_t *n_blocks) {
    uint64_t group = *at / MAPFS_GROUP_BLOCKS;
    MapfsRun run;
    int r;

    r = mapfs_space_group_load(space, group);
    if (r < 0)
        return r;
    if (!find_run(space, what, *at, &run)) {
        *at = (group + 1) * MAPFS_GROUP_BLOCKS;
        forget_bits(space, group);
        return 0;
    }
    *at = run.start.n + run.n_blocks;
    if (!hold(space, run, what->n_keep))
        return 0;
    pthread_mutex_unlock(&space->mutex);
    r = mapfs_image_discard(space->image, run);
    pthread_mutex_lock(&space->mutex);
    unhold(space);
    if (r == 0)
        *n_blocks += run.n_blocks;
    return r;
}

/* Where the first chunks end that have as many free blocks as nodes may need: those stay, since after the next mount the nodes look there first. */
static uint64_t pool_end(MapfsSpace *space, uint64_t n_keep) {
    uint64_t n_chunks = (space->n_blocks + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS, chunk, n = 0;

    pthread_mutex_lock(&space->mutex);
    for (chunk = space->first_usable / CHUNK_BLOCKS; chunk < n_chunks && n < space->n_claimed + n_keep; chunk++)
        n += space_chunk_reserved(space, chunk) ? mapfs_space_chunk_free(space, chunk) : 0;
    pthread_mutex_unlock(&space->mutex);
    return chunk < n_chunks ? MAPFS_MAX(chunk * CHUNK_BLOCKS, space->first_usable) : space->first_usable;
}

int mapfs_space_trim(MapfsSpace *space, const MapfsSpaceTrim *what, uint64_t *ret_n_blocks) {
    uint64_t at = MAPFS_MAX(what->range.start.n, pool_end(space, what->n_keep)), n_blocks = 0;
    MapfsSpaceTrim within = *what;
    int r = 0;

    within.range.start.n = MAPFS_MIN(what->range.start.n, space->n_blocks);
    within.range.n_blocks = MAPFS_MIN(what->range.n_blocks, space->n_blocks - within.range.start.n);
    while (r == 0 && at < within.range.start.n + within.range.n_blocks) {
        /* Dropped after each step: a reservation may be waiting. */
        pthread_mutex_lock(&space->host_mutex);
        pthread_mutex_lock(&space->mutex);
        r = trim_one(space, &within, &at, &n_blocks);
        pthread_mutex_unlock(&space->mutex);
        pthread_mutex_unlock(&space->host_mutex);
    }
    *ret_n_blocks = n_blocks;
    return r;
}

bool mapfs_space_trim_ripen(MapfsSpace *space) {
    uint64_t noted = 0;

    pthread_mutex_lock(&space->mutex);
    for (uint64_t i = 0; i < space_chunk_words(space); i++) {
        space->ripe[i] = (space->ripe[i] | space->aging[i]) & ~space->fresh[i];
        space->aging[i] = space->fresh[i];
        space->fresh[i] = 0;
        noted |= space->ripe[i] | space->aging[i];
    }
    pthread_mutex_unlock(&space->mutex);
    return noted != 0;
}

static bool chunk_ripe(const MapfsSpace *space, uint64_t chunk) {
    return (space->ripe[chunk / 64] >> (chunk % 64)) & 1;
}

/* From the end of the image on: the chunks that stay reserved for nodes should be the first. */
static bool next_locked(MapfsSpace *space, MapfsRun *ret_range) {
    uint64_t word = space_chunk_words(space), last, first;

    while (word > 0 && space->ripe[word - 1] == 0)
        word--;
    if (word == 0)
        return false;
    last = (word - 1) * 64 + 63 - (uint64_t)__builtin_clzll(space->ripe[word - 1]);
    first = last;
    while (first > 0 && last - first + 1 < STEP_CHUNKS && chunk_ripe(space, first - 1))
        first--;
    for (uint64_t chunk = first; chunk <= last; chunk++)
        space->ripe[chunk / 64] &= ~(UINT64_C(1) << (chunk % 64));
    *ret_range = (MapfsRun){{first * CHUNK_BLOCKS}, (last - first + 1) * CHUNK_BLOCKS};
    return true;
}

bool mapfs_space_trim_next(MapfsSpace *space, MapfsRun *ret_range) {
    bool found;

    pthread_mutex_lock(&space->mutex);
    found = next_locked(space, ret_range);
    pthread_mutex_unlock(&space->mutex);
    return found;
}

void mapfs_space_trim_note_all(MapfsSpace *space) {
    uint64_t n_chunks = (space->n_blocks + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS;

    pthread_mutex_lock(&space->mutex);
    for (uint64_t chunk = 0; chunk < n_chunks; chunk++)
        space->fresh[chunk / 64] |= UINT64_C(1) << (chunk % 64);
    pthread_mutex_unlock(&space->mutex);
}
