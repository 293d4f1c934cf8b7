/* SPDX-License-Identifier: MIT */
#pragma once

/* A world: one image with its history. Operations go on, and at many points in and between them disks are built that a
 * power cut could leave just then; each is verified once the operation at hand is over, when it is known what it did. Now and then the
 * world goes on from one of them, as after a reboot: that is how recovery itself is cut short. */

#include "image/recording.h"
#include "stage.h"

typedef struct {
    uint64_t n_states; /* disks to verify */
    uint64_t n_blocks; /* 0: chosen by the seed */
    bool verbose;
    const char *keep; /* file for the failing disk, or NULL */
} WorldOptions;

/* A disk as a power cut could leave it. */
typedef struct {
    uint8_t *bytes;
    const char *moment;
    MapfsCrashStrategy strategy;
    uint64_t seed;
    guint acked; /* index of the oldest state that it may show */
} Disk;

#define WORLD_QUEUE 24u
#define WORLD_RECENT 48u

typedef struct {
    WorldOptions options;
    uint64_t seed, n_blocks;
    Random random; /* of the crash points; the stage has its own */
    StageProfile profile;
    MapfsStoreOptions store_options;
    MapfsRecording *recording;
    MapfsImage *image; /* of the recording */
    Stage *stage;      /* its fs is NULL while nothing is mounted */

    /* The hash of the visible state after each operation, how many deltas its model had then, and which of them the last acknowledged
     * sync covered. */
    GArray *states, *marks;
    guint acked;

    Disk queue[WORLD_QUEUE];
    guint n_queued;
    GHashTable *seen; /* disks that were verified since the last acknowledged sync */
    uint64_t n_states, n_operations, tick;
    uint64_t n_warm; /* operations still to be done without power cuts, so that those meet a grown image */
    uint64_t n_reboots, n_kills, n_older, n_lives;
    unsigned n_host_full;       /* reservations of host space to refuse */
    uint64_t n_nested;          /* operations in the midst of checkpoints */
    bool trouble;               /* the host fails now and then */
    bool killed;                /* the process has died in a sync */
    char *recent[WORLD_RECENT]; /* what was done last */
    GString *failure;           /* empty while all is well */
} World;

/* Lives the world of this seed to its end. Returns how many disks were verified; *ret_failed tells whether one was wrong, which then has been printed. */
uint64_t world_run(uint64_t seed, const WorldOptions *options, bool *ret_failed);

/* verify.c: looks at a disk from all sides; false when something is wrong, which is in world->failure. *ret_state is the index of the state
 * that it shows. With `lives`, work goes on in it, and its bytes change. */
bool world_verify(World *world, const Disk *disk, bool lives, guint *ret_state);

/* The newest state, from number `first` on, with this hash. */
bool world_find_state(const World *world, uint64_t sum, guint first, guint *ret_state);

/* What follows each operation: the clock goes on, the state is noted. */
void world_done(World *world);

/* interleave.c: syncs, with operations in between; and the seams between the steps of a checkpoint. */
int world_sync_interleaved(World *world);
void world_interleave(World *world);

/* crash.c: the points at which disks are built. */
void world_note(World *world, const char *moment, unsigned n_disks);
void world_set_hooks(World *world);
/* Builds one disk; false if it was seen before. */
bool world_build(World *world, const char *moment, Disk *disk);
