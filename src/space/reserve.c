/* SPDX-License-Identifier: MIT */

/* Host blocks, reserved a chunk at a time before anything is stored. */

#include <errno.h>

#include "space/space-private.h"

/* A streaming writer's next chunks are asked for in one call of the host. */
#define AHEAD_CHUNKS 8u
/* A host that is full may have given chunks further on, before the mount. After so many that it refuses there is no hope. */
#define REFUSED_MAX 64u

static MapfsRun chunk_run(const MapfsSpace *space, uint64_t chunk, uint64_t n_chunks) {
    uint64_t start = chunk * CHUNK_BLOCKS;

    return (MapfsRun){{start}, MAPFS_MIN(n_chunks * CHUNK_BLOCKS, space->n_blocks - start)};
}

/* Calls the host without the mutex. A trim in between cannot undo it: it takes the host mutex too. */
static int host_reserve(MapfsSpace *space, MapfsRun run) {
    int r;

    pthread_mutex_unlock(&space->mutex);
    pthread_mutex_lock(&space->host_mutex);
    r = mapfs_image_reserve(space->image, run);
    pthread_mutex_lock(&space->mutex);
    return r;
}

static int reserve_chunks(MapfsSpace *space, uint64_t chunk, uint64_t n_chunks) {
    int r = host_reserve(space, chunk_run(space, chunk, n_chunks));

    for (uint64_t i = chunk; r == 0 && i < chunk + n_chunks; i++) {
        if (mapfs_space_group_load(space, i / GROUP_CHUNKS) == 0)
            mapfs_space_chunk_set_reserved(space, i);
    }
    pthread_mutex_unlock(&space->host_mutex);
    return r;
}

/* How many chunks from here on are wholly free and not yet reserved, up to AHEAD_CHUNKS. */
static uint64_t chunks_ahead(MapfsSpace *space, uint64_t chunk) {
    uint64_t n = 0;

    while (n < AHEAD_CHUNKS && (chunk + n + 1) * CHUNK_BLOCKS <= space->n_blocks) {
        if (space_chunk_reserved(space, chunk + n) || mapfs_space_group_load(space, (chunk + n) / GROUP_CHUNKS) < 0 ||
            mapfs_space_chunk_free(space, chunk + n) != CHUNK_BLOCKS)
            break;
        n++;
    }
    return n;
}

static int reserve_chunk(MapfsSpace *space, uint64_t chunk, uint64_t n_ahead) {
    int r = -ENOSPC;

    if (n_ahead > 0)
        r = reserve_chunks(space, chunk, n_ahead + 1);
    if (r < 0)
        r = reserve_chunks(space, chunk, 1);
    return r;
}

int mapfs_space_reserve_run(MapfsSpace *space, MapfsRun run) {
    uint64_t last = (run.start.n + run.n_blocks - 1) / CHUNK_BLOCKS;
    int r;

    for (uint64_t chunk = run.start.n / CHUNK_BLOCKS; chunk <= last; chunk++) {
        if (space_chunk_reserved(space, chunk))
            continue;
        /* Only long runs look ahead: they come from streams. */
        r = reserve_chunk(space, chunk,
                          chunk == last && run.n_blocks >= CHUNK_BLOCKS / 2 ? chunks_ahead(space, chunk + 1) : 0);
        if (r == -ENOSPC) {
            /* Not the whole chunk, but perhaps the run itself. */
            r = host_reserve(space, run);
            pthread_mutex_unlock(&space->host_mutex);
            return r;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

/* The chunk at or after this one that may be worth asking for; n_chunks for none. On a full host those alone that it has given something already. */
static uint64_t next_chunk(const MapfsSpace *space, uint64_t chunk, bool is_full) {
    uint64_t n_chunks = (space->n_blocks + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS;

    while (chunk < n_chunks) {
        if (space->groups[chunk / GROUP_CHUNKS].n_free == 0) {
            chunk = (chunk / GROUP_CHUNKS + 1) * GROUP_CHUNKS;
        } else if (space_chunk_reserved(space, chunk)) {
            chunk++;
        } else {
            uint64_t data = is_full ? mapfs_image_next_data(space->image, chunk * CHUNK_BLOCKS) / CHUNK_BLOCKS : chunk;

            if (data <= chunk)
                return chunk;
            chunk = data;
        }
    }
    return n_chunks;
}

int mapfs_space_ensure_reserved(MapfsSpace *space, uint64_t n_needed) {
    uint64_t n_chunks = (space->n_blocks + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS;
    uint64_t chunk = space->first_usable / CHUNK_BLOCKS;
    unsigned n_refused = 0;
    int r;

    if (space->n_free < n_needed)
        return -ENOSPC;
    while (space->n_reserved_free < n_needed && n_refused < REFUSED_MAX) {
        chunk = next_chunk(space, chunk, n_refused > 0);
        if (chunk >= n_chunks)
            break;
        r = mapfs_space_group_load(space, chunk / GROUP_CHUNKS);
        if (r < 0)
            return r;
        r = mapfs_space_chunk_free(space, chunk) > 0 ? reserve_chunks(space, chunk, 1) : 0;
        if (r < 0 && r != -ENOSPC)
            return r;
        n_refused += r == -ENOSPC;
        chunk++;
    }
    return space->n_reserved_free >= n_needed ? 0 : -ENOSPC;
}
