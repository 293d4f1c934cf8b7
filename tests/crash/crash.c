/* SPDX-License-Identifier: MIT */

/* Where power cuts are tried, and which disks they leave. */

#include <errno.h>

#include <xxhash.h>

#include "world.h"

bool world_build(World *world, const char *moment, Disk *disk) {
    uint64_t hash;

    disk->moment = moment;
    disk->strategy = (MapfsCrashStrategy)random_below(&world->random, MAPFS_CRASH_N_STRATEGIES);
    disk->seed = random_draw(&world->random);
    disk->acked = world->acked;
    mapfs_recording_build(world->recording, disk->strategy, disk->seed, disk->bytes);
    hash = XXH3_64bits(disk->bytes, world->n_blocks * MAPFS_BLOCK_SIZE);
    return g_hash_table_add(world->seen, g_memdup2(&hash, sizeof(hash)));
}

void world_note(World *world, const char *moment, unsigned n_disks) {
    if (world->n_warm > 0)
        return;
    mapfs_recording_note(world->recording);
    for (unsigned i = 0; i < n_disks; i++) {
        /* More than fit: each has the same chance to stay. */
        guint slot = world->n_queued < WORLD_QUEUE ? world->n_queued : (guint)random_below(&world->random, WORLD_QUEUE);

        if (world_build(world, moment, &world->queue[slot]) && slot == world->n_queued)
            world->n_queued++;
    }
}

/* The sync fails for good: the host cannot write, or the process that waits for it is killed. */
static int sync_failure(World *world) {
    if (world->n_warm > 0 || !world->stage->fs)
        return 0;
    if (world->trouble && random_once_in(&world->random, 60))
        return -EIO;
    world->killed = random_once_in(&world->random, 60);
    world->stage->trouble |= world->killed;
    return world->killed ? -EINTR : 0;
}

static int sync_begin(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    World *world = user;

    (void)runs;
    (void)n_runs;
    if (!world->stage)
        return 0;
    world_interleave(world);
    world_note(world, channel == MAPFS_SYNC_DATA ? "before the sync of data" : "before the sync of the superblock",
               1 + (unsigned)random_below(&world->random, 4));
    return sync_failure(world);
}

static void sync_end(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    World *world = user;

    (void)runs;
    (void)n_runs;
    if (!world->stage)
        return;
    world_note(world, channel == MAPFS_SYNC_DATA ? "after the sync of data" : "after the sync of the superblock",
               1 + (unsigned)random_below(&world->random, 4));
    world_interleave(world);
}

static int reserve(void *user, MapfsRun run) {
    World *world = user;

    (void)run;
    if (!world->stage)
        return 0;
    world_note(world, "in a reservation of host space", 1);
    if (world->trouble && world->n_host_full == 0 && random_once_in(&world->random, 3))
        world->n_host_full = 1 + (unsigned)random_below(&world->random, 30);
    if (world->n_host_full == 0)
        return 0;
    world->n_host_full--;
    return -ENOSPC;
}

void world_set_hooks(World *world) {
    const MapfsRecordingHooks hooks = {
        .sync_begin = sync_begin, .sync_end = sync_end, .reserve = reserve, .user = world};

    mapfs_recording_set_hooks(world->recording, &hooks);
}
