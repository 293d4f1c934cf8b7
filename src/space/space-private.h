/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of this folder share: the groups and their bits. */

#include <glib.h>
#include <pthread.h>

#include "space/space.h"

#define GROUP_WORDS (MAPFS_GROUP_BLOCKS / 64u) /* 504 */
#define CHUNK_BLOCKS 256u                      /* what is reserved on the host at a time: 1 MiB */
#define CHUNK_WORDS (CHUNK_BLOCKS / 64u)
#define CHUNK_NONE UINT64_MAX
#define GROUP_CHUNKS (MAPFS_GROUP_BLOCKS / CHUNK_BLOCKS) /* 126 */
_Static_assert(GROUP_CHUNKS *CHUNK_BLOCKS == MAPFS_GROUP_BLOCKS, "a group is whole chunks");

typedef struct {
    uint64_t *bits;    /* GROUP_WORDS words in host order, NULL until needed */
    MapfsBlock bitmap; /* 0: none in the image, the group is free but for what is unusable */
    MapfsGeneration generation;
    uint32_t n_free;
    bool dirty;
} SpaceGroup;

struct MapfsSpace {
    MapfsImage *image;
    uint64_t n_blocks;
    uint64_t first_usable;
    uint64_t checksum_seed;
    uint64_t n_groups;

    pthread_mutex_t mutex; /* guards all below */
    SpaceGroup *groups;
    uint64_t *reserved; /* a bit per chunk: the host has blocks for all of it */
    uint64_t n_free;
    uint64_t n_reserved_free;  /* free blocks in reserved chunks */
    uint64_t n_claimed;        /* granted, and the one that the host is being asked for */
    uint64_t n_granted;        /* of n_claimed: what somebody will give back */
    pthread_cond_t claim_cond; /* n_granted has become less */
    uint64_t node_cursor;      /* no free block of a reserved chunk lies below, but for the names' chunk */
    uint64_t names_chunk;      /* where names go; CHUNK_NONE: nowhere yet */
    unsigned n_names_apart;    /* so many more leaves of names go elsewhere before a chunk is looked for again */
    uint64_t data_cursor;      /* where the last data run without a goal ended */
    GArray *dirty;             /* uint64_t: groups that changed */
    /* A free run that a trim gives back to the host: its bits are set, so that nobody takes it, while all counters but n_reserved_free
     * and all that the image is told call it free. n_blocks 0: none. */
    MapfsRun held;
    pthread_cond_t held_cond; /* it came back */
    /* What is worth a trim, a bit per chunk: freed since the last mapfs_space_trim_ripen(); before it; before that, and not since. */
    uint64_t *fresh, *aging, *ripe;

    /* Taken before the others: one claim at a time asks the host, so that no two count each other and both fail. */
    pthread_mutex_t grow_mutex;
    pthread_mutex_t host_mutex; /* taken before `mutex`: one reservation or trim at a time */
};

static inline bool space_chunk_reserved(const MapfsSpace *space, uint64_t chunk) {
    return (space->reserved[chunk / 64] >> (chunk % 64)) & 1;
}

static inline uint64_t space_chunk_words(const MapfsSpace *space) {
    return space->n_groups * GROUP_CHUNKS / 64 + 1;
}

/* All with the mutex held. */

/* Loads the bits of a group; 0 or -EUCLEAN, -ENOMEM. */
int mapfs_space_group_load(MapfsSpace *space, uint64_t group) MAPFS_MUST_USE;

/* Blocks of the group that exist and are not fixed: what is free when nothing is stored. */
uint32_t mapfs_space_group_capacity(const MapfsSpace *space, uint64_t group);

/* Takes or gives back a run that lies in one loaded group; keeps all counters. */
void mapfs_space_bits_set(MapfsSpace *space, MapfsRun run);
void mapfs_space_bits_clear(MapfsSpace *space, MapfsRun run);

/* Sets or clears the bits of a run in one loaded group, and touches no counter. */
void mapfs_space_bits_hold(MapfsSpace *space, MapfsRun run, bool hold);

/* How many blocks of a run lie in reserved chunks. */
uint64_t mapfs_space_run_reserved(const MapfsSpace *space, MapfsRun run);

/* The first free block of [start, end), which begins in one loaded group and may end past it; else end, or the group's. */
uint64_t mapfs_space_next_free(const MapfsSpace *space, uint64_t start, uint64_t end);

/* After -ENOSPC: true when a trim held blocks back, which are here again. Drops and retakes the mutex. */
bool mapfs_space_wait_held(MapfsSpace *space);

/* Free blocks at the start of [start, end) within one loaded group. */
uint64_t mapfs_space_free_length(const MapfsSpace *space, uint64_t start, uint64_t end);

/* Clear bits of a chunk of a loaded group. */
unsigned mapfs_space_chunk_free(const MapfsSpace *space, uint64_t chunk);

/* Notes that the host has blocks for the chunk. */
void mapfs_space_chunk_set_reserved(MapfsSpace *space, uint64_t chunk);
void mapfs_space_chunk_clear_reserved(MapfsSpace *space, uint64_t chunk);

/* Makes at least `n_needed` free blocks lie in reserved chunks. Drops and retakes the mutex. 0, -ENOSPC, or -EUCLEAN. */
int mapfs_space_ensure_reserved(MapfsSpace *space, uint64_t n_needed) MAPFS_MUST_USE;

/* Reserves the chunks of a run on the host. Drops and retakes the mutex. */
int mapfs_space_reserve_run(MapfsSpace *space, MapfsRun run) MAPFS_MUST_USE;
