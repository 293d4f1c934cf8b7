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

/* Finds a run: the free blocks right at the goal, however few, unless a group begins there; else the first run of the wished length after it, around the
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

/* How many of the run's first blocks can go without taking more than n_spare that nodes could have. */
static uint64_t run_spared(const MapfsSpace *space, MapfsRun run, uint64_t n_spare) {
    uint64_t end = run.start.n + run.n_blocks, block = run.start.n;

    while (block < end) {
        uint64_t next = MAPFS_MIN((block / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS, end);

        if (space_chunk_reserved(space, block / CHUNK_BLOCKS)) {
            if (next - block > n_spare)
                return block + n_spare - run.start.n;
            n_spare -= next - block;
        }
        block = next;
    }
    return run.n_blocks;
}

/* Leaves the nodes what they have claimed, and n_keep, of the blocks that the host has given: others take them while the run waits for its own. 0,
 * perhaps with a shorter run; -EAGAIN after the host was asked for more: it may have given the run's own blocks, or others may have taken them; -ENOSPC.
 * ask becomes false when the host has no more. */
static int spare_nodes(MapfsSpace *space, const MapfsSpaceWish *wish, bool *ask, MapfsRun *run) {
    uint64_t keep = space->n_claimed + wish->n_keep;
    uint64_t n_reserved = mapfs_space_run_reserved(space, *run);

    if (space->n_reserved_free >= keep + n_reserved)
        return 0;
    if (*ask) {
        int r = mapfs_space_ensure_reserved(space, keep + n_reserved);

        *ask = r == 0;
        return r == 0 || r == -ENOSPC ? -EAGAIN : r;
    }
    run->n_blocks = run_spared(space, *run, space->n_reserved_free - MAPFS_MIN(keep, space->n_reserved_free));
    return run->n_blocks > 0 ? 0 : -ENOSPC;
}

/* Takes a run and gets the host's blocks for it; on failure it is free again. */
static int take_run(MapfsSpace *space, MapfsRun run) {
    int r;

    mapfs_space_bits_set(space, run);
    r = mapfs_space_reserve_run(space, run);
    if (r < 0)
        mapfs_space_bits_clear(space, run);
    return r;
}

static bool goal_is_none(const MapfsSpace *space, MapfsBlock goal) {
    return goal.n < space->first_usable || goal.n >= space->n_blocks;
}

static uint64_t allocate_goal(const MapfsSpace *space, const MapfsSpaceWish *wish) {
    uint64_t goal = goal_is_none(space, wish->goal) ? space->data_cursor : wish->goal.n;

    return goal < space->n_blocks ? goal : space->first_usable;
}

/* One look for a run. As spare_nodes(). */
static int find_and_take(MapfsSpace *space, const MapfsSpaceWish *wish, bool *ask, MapfsRun *ret_run) {
    uint64_t keep = space->n_claimed + wish->n_keep;
    Search search = {.n_wanted = wish->n_blocks};
    int r;

    if (space->n_free <= keep)
        return -ENOSPC;
    search.n_wanted = MAPFS_MIN(search.n_wanted, space->n_free - keep);
    r = search_apart(space, wish, &search, allocate_goal(space, wish));
    if (r == 0)
        r = spare_nodes(space, wish, ask, &search.best);
    if (r == 0)
        r = take_run(space, search.best);
    *ret_run = search.best;
    return r;
}

/* The host is full: what it has given already can still be used. */
static int take_reserved(MapfsSpace *space, const MapfsSpaceWish *wish, MapfsRun *ret_run) {
    uint64_t keep = space->n_claimed + wish->n_keep;
    Search search = {.reserved_only = true};
    int r;

    if (space->n_reserved_free <= keep)
        return -ENOSPC;
    search.n_wanted = MAPFS_MIN(wish->n_blocks, space->n_reserved_free - keep);
    r = search_run(space, &search, allocate_goal(space, wish));
    if (r == 0)
        r = take_run(space, search.best);
    *ret_run = search.best;
    return r;
}

static int allocate_locked(MapfsSpace *space, const MapfsSpaceWish *wish, MapfsRun *ret_run) {
    bool anywhere = goal_is_none(space, wish->goal), ask = true;
    int r;

    do
        r = find_and_take(space, wish, &ask, ret_run);
    while (r == -EAGAIN);
    if (r == -ENOSPC)
        r = take_reserved(space, wish, ret_run);
    if (r == 0 && anywhere)
        space->data_cursor = ret_run->start.n + ret_run->n_blocks;
    return r;
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

/* Without the host: what it has given already is enough. */
static bool claim_reserved(MapfsSpace *space, uint64_t n_blocks, uint64_t n_keep) {
    if (space->n_reserved_free < space->n_claimed + n_blocks + n_keep)
        return false;
    space->n_claimed += n_blocks;
    space->n_granted += n_blocks;
    return true;
}

/* With the grow mutex. Claimed before the host is asked: meanwhile others see it. */
static int claim_more(MapfsSpace *space, uint64_t n_blocks, uint64_t n_keep) {
    int r;

    if (claim_reserved(space, n_blocks, n_keep))
        return 0;
    space->n_claimed += n_blocks;
    r = mapfs_space_ensure_reserved(space, space->n_claimed + n_keep);
    if (r < 0)
        space->n_claimed -= n_blocks;
    else
        space->n_granted += n_blocks;
    return r;
}

bool mapfs_space_wait_claims(MapfsSpace *space, uint64_t n_needed) {
    bool wait;

    pthread_mutex_lock(&space->mutex);
    wait = space->n_granted > 0 && space->n_free >= n_needed;
    if (wait)
        pthread_cond_wait(&space->claim_cond, &space->mutex);
    pthread_mutex_unlock(&space->mutex);
    return wait;
}

int mapfs_space_claim(MapfsSpace *space, uint64_t n_blocks, uint64_t n_keep) {
    bool claimed;
    int r;

    pthread_mutex_lock(&space->mutex);
    claimed = claim_reserved(space, n_blocks, n_keep);
    pthread_mutex_unlock(&space->mutex);
    if (claimed)
        return 0;
    pthread_mutex_lock(&space->grow_mutex);
    pthread_mutex_lock(&space->mutex);
    do
        r = claim_more(space, n_blocks, n_keep);
    while (r == -ENOSPC && mapfs_space_wait_held(space));
    pthread_mutex_unlock(&space->mutex);
    pthread_mutex_unlock(&space->grow_mutex);
    return r;
}

void mapfs_space_unclaim(MapfsSpace *space, uint64_t n_blocks) {
    pthread_mutex_lock(&space->mutex);
    space->n_claimed -= n_blocks;
    space->n_granted -= n_blocks;
    pthread_cond_broadcast(&space->claim_cond);
    pthread_mutex_unlock(&space->mutex);
}

/* The first free block of a reserved chunk, or n_blocks when there is none. */
static uint64_t chunk_block(const MapfsSpace *space, uint64_t chunk, uint64_t from) {
    uint64_t end = MAPFS_MIN((chunk + 1) * CHUNK_BLOCKS, space->n_blocks);
    uint64_t at = MAPFS_MAX(from, chunk * CHUNK_BLOCKS);

    if (!space_chunk_reserved(space, chunk))
        return space->n_blocks;
    at = mapfs_space_next_free(space, at, end);
    return at < end ? at : space->n_blocks;
}

/* The first free block of a reserved chunk at or after the cursor, outside of the names' chunk; or n_blocks. */
static uint64_t node_block(const MapfsSpace *space) {
    uint64_t at = space->node_cursor;

    while (at < space->n_blocks) {
        uint64_t chunk = at / CHUNK_BLOCKS, block;

        if (space->groups[at / MAPFS_GROUP_BLOCKS].n_free == 0) {
            at = (at / MAPFS_GROUP_BLOCKS + 1) * MAPFS_GROUP_BLOCKS;
            continue;
        }
        block = chunk == space->names_chunk ? space->n_blocks : chunk_block(space, chunk, at);
        if (block < space->n_blocks)
            return block;
        at = (chunk + 1) * CHUNK_BLOCKS;
    }
    return space->n_blocks;
}

/* The last reserved chunk past the cursor of nodes that is wholly free: nodes get there last. */
static uint64_t names_find_chunk(const MapfsSpace *space) {
    uint64_t first = space->node_cursor / CHUNK_BLOCKS + 1;
    uint64_t chunk = space->n_blocks / CHUNK_BLOCKS;

    while (chunk > first) {
        chunk--;
        if (space->groups[chunk / GROUP_CHUNKS].n_free < CHUNK_BLOCKS)
            chunk -= chunk % GROUP_CHUNKS; /* the loop goes on before the group */
        else if (space_chunk_reserved(space, chunk) && mapfs_space_chunk_free(space, chunk) == CHUNK_BLOCKS)
            return chunk;
    }
    return CHUNK_NONE;
}

static uint64_t names_chunk_block(const MapfsSpace *space) {
    return space->names_chunk == CHUNK_NONE ? space->n_blocks : chunk_block(space, space->names_chunk, 0);
}

static uint64_t names_block(MapfsSpace *space) {
    uint64_t block = names_chunk_block(space);

    if (block < space->n_blocks)
        return block;
    if (space->n_names_apart > 0) {
        space->n_names_apart--;
        return space->n_blocks;
    }
    space->names_chunk = names_find_chunk(space);
    if (space->names_chunk == CHUNK_NONE)
        space->n_names_apart = CHUNK_BLOCKS;
    return names_chunk_block(space);
}

static uint64_t place_block(MapfsSpace *space, MapfsNodePlace place) {
    uint64_t block = place == MAPFS_PLACE_NAMES ? names_block(space) : space->n_blocks;

    if (block < space->n_blocks)
        return block;
    block = node_block(space);
    if (block == space->n_blocks)
        return names_chunk_block(space);
    space->node_cursor = block + 1;
    return block;
}

int mapfs_space_allocate_node(MapfsSpace *space, MapfsNodePlace place, MapfsBlock *ret_block) {
    uint64_t block;
    int r = 0;

    pthread_mutex_lock(&space->mutex);
    block = space->n_reserved_free > 0 ? place_block(space, place) : space->n_blocks;
    if (block < space->n_blocks) {
        mapfs_space_bits_set(space, (MapfsRun){{block}, 1});
        *ret_block = (MapfsBlock){block};
    } else {
        r = -ENOSPC;
    }
    pthread_mutex_unlock(&space->mutex);
    return r;
}
