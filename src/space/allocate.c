/* SPDX-License-Identifier: MIT */

/* Handing out: runs of data near a goal, nodes first fit. */

#include <errno.h>

#include "base/error.h"
#include "space/space-private.h"

/* Groups that are looked at for a run of the wished length before the longest run so far is taken. */
#define SEARCH_GROUPS 16u

/* A run being searched. */
typedef struct {
    uint64_t n_wanted;
    bool reserved_only; /* only blocks that the host has already */
    bool whole_chunks;  /* only runs that start with a chunk */
    MapfsRun best;
} Search;

/* How much of [start, end) may be taken at once: all, or as far as the host has reserved it. */
static uint64_t search_limit(const MapfsSpace *space, const Search *search, uint64_t start, uint64_t end) {
    uint64_t chunk = start / CHUNK_BLOCKS;

    if (!search->reserved_only)
        return end;
    while (chunk * CHUNK_BLOCKS < end && space_chunk_reserved(space, chunk))
        chunk++;
    return MAPFS_MIN(end, MAPFS_MAX(start, chunk * CHUNK_BLOCKS));
}

/* Looks through [start, end) of one loaded group; true when a run of the wished length was found. */
static bool search_range(const MapfsSpace *space, Search *search, uint64_t start, uint64_t end) {
    uint64_t at = mapfs_space_next_free(space, start, end);

    while (at < end) {
        uint64_t limit = search_limit(space, search, at, end);
        uint64_t n;

        if (limit == at || (search->whole_chunks && at % CHUNK_BLOCKS != 0)) {
            at = (at / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS;
            at = at < end ? mapfs_space_next_free(space, at, end) : end;
            continue;
        }
        n = MAPFS_MIN(mapfs_space_free_length(space, at, limit), search->n_wanted);
        if (n > search->best.n_blocks)
            search->best = (MapfsRun){{at}, n};
        if (n == search->n_wanted)
            return true;
        at = at + n < end ? mapfs_space_next_free(space, at + n, end) : end;
    }
    return false;
}

static int search_group(MapfsSpace *space, Search *search, uint64_t group, uint64_t from, bool *ret_done) {
    uint64_t start = MAPFS_MAX(group * MAPFS_GROUP_BLOCKS, from);
    uint64_t end = MAPFS_MIN((group + 1) * MAPFS_GROUP_BLOCKS, space->n_blocks);
    int r;

    *ret_done = false;
    if (space->groups[group].n_free == 0 || start >= end)
        return 0;
    r = mapfs_space_group_load(space, group);
    if (r < 0)
        return r;
    *ret_done = search_range(space, search, start, end);
    return 0;
}

/* Finds a run: the free blocks right at the goal, however few; else the first run of the wished length after it, around the
 * image; else the longest of the groups looked at. */
static int search_run(MapfsSpace *space, Search *search, uint64_t goal) {
    uint64_t first = goal / MAPFS_GROUP_BLOCKS;
    unsigned n_looked = 0;
    bool done = false;
    int r;

    r = mapfs_space_group_load(space, first);
    if (r < 0)
        return r;
    if (!search->reserved_only && goal % MAPFS_GROUP_BLOCKS != 0) {
        uint64_t n = mapfs_space_free_length(space, goal, MAPFS_MIN(goal + search->n_wanted, space->n_blocks));

        if (n > 0) {
            search->best = (MapfsRun){{goal}, n};
            return 0;
        }
    }
    /* The first group comes twice: from the goal on, and at the end from its start. */
    for (uint64_t i = 0; i <= space->n_groups && !done; i++) {
        uint64_t group = (first + i) % space->n_groups;

        r = search_group(space, search, group, i == 0 ? goal : 0, &done);
        if (r < 0)
            return r;
        if (space->groups[group].n_free > 0 && ++n_looked >= SEARCH_GROUPS &&
            (search->best.n_blocks > 0 || search->whole_chunks))
            break;
    }
    return search->best.n_blocks > 0 ? 0 : -ENOSPC;
}

/* A file that grows beside others, and whose next block is taken, goes on in a chunk of its own: right behind the others, their blocks would
 * alternate. */
static int search_apart(MapfsSpace *space, const MapfsSpaceWish *wish, Search *search, uint64_t goal) {
    Search chunk = {.n_wanted = CHUNK_BLOCKS, .whole_chunks = true};
    int r;

    if (!wish->apart || search->n_wanted >= CHUNK_BLOCKS)
        return search_run(space, search, goal);
    r = search_run(space, &chunk, goal);
    if (r < 0 && r != -ENOSPC)
        return r;
    if (r < 0 || (chunk.best.start.n != goal && chunk.best.n_blocks < CHUNK_BLOCKS))
        return search_run(space, search, goal);
    search->best = (MapfsRun){chunk.best.start, MAPFS_MIN(chunk.best.n_blocks, search->n_wanted)};
    return 0;
}

static bool nodes_keep_enough(const MapfsSpace *space, const MapfsSpaceWish *wish) {
    return space->n_reserved_free >= space->n_claimed + wish->n_keep;
}

/* Takes a run and gets the host's blocks for it; on failure it is free again. */
static int take_run(MapfsSpace *space, const MapfsSpaceWish *wish, MapfsRun run) {
    int r;

    mapfs_space_bits_set(space, run);
    r = mapfs_space_reserve_run(space, run);
    if (r == 0 && !nodes_keep_enough(space, wish))
        r = mapfs_space_ensure_reserved(space, space->n_claimed + wish->n_keep);
    if (r < 0)
        mapfs_space_bits_clear(space, run);
    return r;
}

static int allocate_locked(MapfsSpace *space, const MapfsSpaceWish *wish, MapfsRun *ret_run) {
    uint64_t keep = space->n_claimed + wish->n_keep;
    bool anywhere = wish->goal.n < space->first_usable || wish->goal.n >= space->n_blocks;
    uint64_t goal = anywhere ? space->data_cursor : wish->goal.n;
    Search search = {.n_wanted = wish->n_blocks};
    int r;

    if (space->n_free <= keep)
        return -ENOSPC;
    search.n_wanted = MAPFS_MIN(search.n_wanted, space->n_free - keep);
    if (goal >= space->n_blocks)
        goal = space->first_usable;
    r = search_apart(space, wish, &search, goal);
    if (r == 0)
        r = take_run(space, wish, search.best);
    if (r == -ENOSPC && space->n_reserved_free > space->n_claimed + wish->n_keep) {
        /* The host is full: what it has given already can still be used. */
        search =
            (Search){.n_wanted = MAPFS_MIN(wish->n_blocks, space->n_reserved_free - space->n_claimed - wish->n_keep),
                     .reserved_only = true};
        r = search_run(space, &search, goal);
        if (r == 0)
            r = take_run(space, wish, search.best);
    }
    if (r < 0)
        return r;
    if (anywhere)
        space->data_cursor = search.best.start.n + search.best.n_blocks;
    *ret_run = search.best;
    return 0;
}

int mapfs_space_allocate(MapfsSpace *space, const MapfsSpaceWish *wish, MapfsRun *ret_run) {
    int r;

    pthread_mutex_lock(&space->mutex);
    do
        r = allocate_locked(space, wish, ret_run);
    while (r == -ENOSPC && mapfs_space_wait_held(space));
    pthread_mutex_unlock(&space->mutex);
    return r;
}

int mapfs_space_claim(MapfsSpace *space, uint64_t n_blocks, uint64_t n_keep) {
    uint64_t n_needed;
    int r = 0;

    pthread_mutex_lock(&space->mutex);
    /* Claimed before the host is asked: meanwhile others see it. */
    space->n_claimed += n_blocks;
    n_needed = space->n_claimed + n_keep;
    do
        r = space->n_reserved_free < n_needed ? mapfs_space_ensure_reserved(space, n_needed) : 0;
    while (r == -ENOSPC && mapfs_space_wait_held(space));
    if (r < 0)
        space->n_claimed -= n_blocks;
    pthread_mutex_unlock(&space->mutex);
    return r;
}

void mapfs_space_unclaim(MapfsSpace *space, uint64_t n_blocks) {
    pthread_mutex_lock(&space->mutex);
    space->n_claimed -= n_blocks;
    pthread_mutex_unlock(&space->mutex);
}

/* The first free block of a reserved chunk at or after the cursor, or n_blocks. */
static uint64_t node_block(MapfsSpace *space) {
    uint64_t at = space->node_cursor;

    while (at < space->n_blocks) {
        uint64_t chunk = at / CHUNK_BLOCKS;
        uint64_t end = MAPFS_MIN((chunk + 1) * CHUNK_BLOCKS, space->n_blocks);

        if (space->groups[at / MAPFS_GROUP_BLOCKS].n_free == 0) {
            at = (at / MAPFS_GROUP_BLOCKS + 1) * MAPFS_GROUP_BLOCKS;
            continue;
        }
        if (space_chunk_reserved(space, chunk)) {
            at = mapfs_space_next_free(space, at, end);
            if (at < end)
                return at;
        }
        at = end;
    }
    return space->n_blocks;
}

int mapfs_space_allocate_node(MapfsSpace *space, MapfsBlock *ret_block) {
    uint64_t block;
    int r = 0;

    pthread_mutex_lock(&space->mutex);
    block = space->n_reserved_free > 0 ? node_block(space) : space->n_blocks;
    if (block < space->n_blocks) {
        mapfs_space_bits_set(space, (MapfsRun){{block}, 1});
        space->node_cursor = block + 1;
        *ret_block = (MapfsBlock){block};
    } else {
        r = -ENOSPC;
    }
    pthread_mutex_unlock(&space->mutex);
    return r;
}
