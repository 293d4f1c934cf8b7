/* SPDX-License-Identifier: MIT */
#include "world.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "clock.h"
#include "walk.h"

#define COMPARE_ONE_IN 16u
#define WARM_OPERATIONS 600u
/* A world that finds few new disks ends after so many operations for each that was asked for. */
#define OPERATIONS_PER_STATE 20u

static const StageProfile profiles[] = {
    /* name     names inodes  names removal data attributes xattrs   large sync stripe */
    {"mixed", 24, 60, {10, 5, 12, 2, 2}, 8, 8, 200},   {"names", 60, 200, {20, 8, 3, 2, 1}, 20, 12, 0},
    {"data", 8, 14, {3, 1, 20, 1, 0}, 3, 5, 100},      {"full", 12, 40, {6, 1, 20, 1, 3}, 2, 25, 0},
    {"small", 40, 150, {8, 4, 16, 2, 1}, 1000, 4, 0},  {"xattrs", 16, 40, {5, 3, 3, 2, 10}, 10, 8, 0},
    {"lazy", 24, 80, {8, 5, 10, 2, 2}, 8, 150, 300},   {"eager", 16, 30, {8, 6, 12, 2, 2}, 5, 2, 0},
    {"stripes", 10, 20, {4, 2, 20, 1, 1}, 20, 20, 30},
};

static void world_failed(World *world, const char *what) {
    if (world->failure->len == 0)
        g_string_append_printf(world->failure, "    %s\n", what);
}

static uint64_t world_tick(World *world) {
    world->tick++;
    clock_set(UINT64_C(1700000000000000000) + world->tick * 1000003);
    return world->tick;
}

static void log_add(World *world, const char *text) {
    char **slot = &world->recent[world->n_operations % WORLD_RECENT];

    g_free(*slot);
    *slot = g_strdup_printf("%u: %s", world->states->len, text);
    if (world->options.verbose)
        printf("%s\n", *slot);
    world->n_operations++;
}

static void push_state(World *world) {
    guint n_deltas = world->stage->model->deltas->len;
    GArray *between = world->stage->between;

    for (guint i = 0; i < between->len; i++) {
        g_array_append_val(world->states, g_array_index(between, uint64_t, i));
        g_array_append_val(world->marks, n_deltas); /* of the state after it: near enough to say what differs */
    }
    g_array_set_size(between, 0);
    g_array_append_val(world->states, world->stage->model->sum);
    g_array_append_val(world->marks, n_deltas);
}

void world_done(World *world) {
    log_add(world, world->stage->note->str);
    push_state(world);
    world_tick(world);
}

static void acknowledge(World *world, guint state) {
    world->acked = state;
    g_hash_table_remove_all(world->seen);
}

/* --- mounting --- */

/* Opens what is in memory, and makes a model of it. */
static bool world_mount(World *world) {
    g_autoptr(GString) error = g_string_new(NULL);
    Stage *stage = world->stage;
    MapfsFs *fs = NULL;
    uint64_t sum;
    int r;

    stage->broken = false;
    stage->trouble = world->trouble;
    r = mapfs_fs_open(world->image, &world->store_options, &fs);
    stage->fs = fs;
    if (r < 0) {
        g_string_append_printf(world->failure, "    mount gives %s (%s)\n", strerror(-r), mapfs_damage_last());
        return false;
    }
    model_free(stage->model);
    stage->model = model_new();
    if (walk_all(stage->fs, stage->model, &sum, error) < 0 || sum != stage->model->sum) {
        g_string_append_printf(world->failure, "    after a mount: %s\n", error->str);
        return false;
    }
    g_array_set_size(stage->model->deltas, 0);
    stage_adopt(stage);
    return true;
}

/* Reads that are open must end first. */
static void world_unmount(World *world, bool orderly) {
    Stage *stage = world->stage;
    int r;

    stage_release(stage);
    if (!orderly) {
        mapfs_fs_abandon(stage->fs);
        stage->fs = NULL;
        return;
    }
    r = mapfs_fs_close(stage->fs);
    stage->fs = NULL;
    (void)stage_result(stage, STAGE_FREES, 0, r);
    if (r == 0)
        acknowledge(world, world->states->len - 1);
    else
        stage->broken = true;
}

static void world_remount(World *world) {
    stage_note(world->stage, "unmount and mount");
    world_unmount(world, true);
    if (world->stage->broken || stage_failed(world->stage))
        return;
    world_note(world, "after an unmount", 1);
    if (!world_mount(world))
        return;
    if (world->stage->model->sum != g_array_index(world->states, uint64_t, world->acked))
        stage_fail(world->stage, "the state after the mount is another than before");
}

/* --- verifying --- */

static void print_failure(World *world, const Disk *disk) {
    static const char *const strategies[MAPFS_CRASH_N_STRATEGIES] = {
        "all old", "all new", "random pages", "random sectors", "one page new", "one page old", "one moment",
    };
    g_autoptr(GString) text = g_string_new(NULL);

    g_string_append_printf(text, "seed %" PRIu64 ": replay with explore --world %" PRIu64, world->seed, world->seed);
    if (world->options.n_blocks > 0)
        g_string_append_printf(text, " --blocks %" PRIu64, world->options.n_blocks);
    g_string_append_printf(text, " --states %" PRIu64 "\n  %s world of %" PRIu64 " blocks, disk %" PRIu64 "\n",
                           world->options.n_states, world->profile.name, world->n_blocks, world->n_states);
    for (uint64_t i = MAPFS_MAX(world->n_operations, WORLD_RECENT) - WORLD_RECENT; i < world->n_operations; i++)
        g_string_append_printf(text, "    %s\n", world->recent[i % WORLD_RECENT]);
    if (disk)
        g_string_append_printf(text, "  power cut %s, %s, build seed %" PRIu64 ", acknowledged up to state %u:\n",
                               disk->moment, strategies[disk->strategy], disk->seed, disk->acked);
    g_string_append(text, world->failure->str);
    fwrite(text->str, 1, text->len, stdout);
    fflush(stdout);
}

static void keep_disk(const World *world, const Disk *disk) {
    FILE *file;

    if (!world->options.keep)
        return;
    file = fopen(world->options.keep, "w");
    if (!file || fwrite(disk->bytes, MAPFS_BLOCK_SIZE, world->n_blocks, file) != world->n_blocks)
        perror(world->options.keep);
    if (file && fclose(file) != 0)
        perror(world->options.keep);
}

/* Builds the disk anew: verifying may have changed it. */
static void disk_wrong(World *world, Disk *disk, bool rebuild) {
    if (rebuild)
        mapfs_recording_build(world->recording, disk->strategy, disk->seed, disk->bytes);
    print_failure(world, disk);
    keep_disk(world, disk);
}

static void verify_queue(World *world) {
    guint state;

    for (guint i = 0; i < world->n_queued && world->failure->len == 0; i++) {
        Disk *disk = &world->queue[i];

        if (world->n_states == world->options.n_states)
            break;
        world->n_states++;
        if (!world_verify(world, disk, true, &state))
            disk_wrong(world, disk, false);
    }
    world->n_queued = 0;
}

/* --- steps --- */

/* Forgets the states that came after this one, and how the ones before were made. */
static void world_go_back(World *world, guint state) {
    g_array_set_size(world->states, state + 1);
    g_array_set_size(world->marks, state + 1);
    for (guint i = 0; i <= state; i++)
        g_array_index(world->marks, guint, i) = 0;
}

/* The power goes, and comes back. */
static void world_reboot(World *world) {
    Disk *disk = &world->queue[0];
    guint state;

    log_add(world, "power cut and reboot");
    world->n_reboots++;
    verify_queue(world);
    if (world->failure->len > 0)
        return;
    mapfs_recording_note(world->recording);
    (void)world_build(world, "for a reboot", disk); /* one that was seen before will do */
    world->n_states += world->n_states < world->options.n_states;
    if (!world_verify(world, disk, false, &state)) {
        disk_wrong(world, disk, true);
        return;
    }
    if (world->stage->fs)
        world_unmount(world, false);
    mapfs_recording_load(world->recording, disk->bytes);
    world_go_back(world, state);
    acknowledge(world, world->states->len - 1);
    if (!world_mount(world)) {
        print_failure(world, NULL);
        return;
    }
    if (random_once_in(&world->random, 2))
        stage_reclaim(world->stage);
}

/* The process is killed, and another one mounts what the kernel has in memory: nothing of that has become durable by the kill. */
static void world_kill(World *world) {
    guint state;

    log_add(world, "kill and mount");
    world->n_kills++;
    world_unmount(world, false);
    world->killed = false;
    world->image->error = 0; /* that and the next are another process's own */
    world->image->writes_lost = false;
    if (!world_mount(world)) {
        print_failure(world, NULL);
        return;
    }
    if (!world_find_state(world, world->stage->model->sum, world->acked, &state)) {
        world_failed(world, "after the kill it shows no state that it may");
        print_failure(world, NULL);
        return;
    }
    /* A power cut in the midst of the mount may still show what a failed sync has left, which the mount then gives up. */
    verify_queue(world);
    world_go_back(world, state);
    if (random_once_in(&world->random, 2))
        stage_reclaim(world->stage);
}

static void world_sync(World *world) {
    Stage *stage = world->stage;
    guint before = world->states->len - 1;
    int r;

    r = world_sync_interleaved(world);
    stage_note(stage, "sync");
    if (!stage_result(stage, STAGE_FREES, 0, r))
        return;
    if (stage->broken)
        return;
    acknowledge(world, before);
    /* Blocks of operations that came meanwhile are not sealed. */
    if (before == world->states->len - 1 && random_once_in(&stage->random, 2))
        stage_hold(stage);
}

static void world_operation(World *world) {
    Stage *stage = world->stage;

    if (random_once_in(&world->random, world->profile.sync_one_in))
        world_sync(world);
    else if (random_once_in(&world->random, 100))
        world_remount(world);
    else
        stage_step(stage);
    if (stage->held.active && random_once_in(&world->random, 25))
        stage_release(stage);
    log_add(world, stage->note->str);
}

static void world_step(World *world) {
    Stage *stage = world->stage;

    world_tick(world);
    world->n_warm -= world->n_warm > 0;
    /* Who meets an error of the disk may well just mount again. */
    if (world->killed || (stage->broken && random_once_in(&world->random, 2)) ||
        (!stage->broken && world->n_warm == 0 && random_once_in(&world->random, 100))) {
        world_kill(world);
        return;
    }
    if (stage->broken || (world->n_warm == 0 && random_once_in(&world->random, 70))) {
        world_reboot(world);
        return;
    }
    world_operation(world);
    if (stage_failed(stage) || world->failure->len > 0) {
        world_failed(world, stage->failure->str);
        print_failure(world, NULL);
        return;
    }
    push_state(world);
    world_note(world, "after the operation",
               random_once_in(&world->random, 2) ? 1 + (unsigned)random_below(&world->random, 3) : 0);
    verify_queue(world);
    if (!stage->broken && random_once_in(&world->random, COMPARE_ONE_IN)) {
        stage_compare(stage);
        if (stage_failed(stage) && world->failure->len == 0) {
            world_failed(world, stage->failure->str);
            print_failure(world, NULL);
        }
    }
}

/* --- birth and death --- */

static void midway(void *user) {
    World *world = user;

    if (random_once_in(&world->random, 8))
        world_note(world, "between the stores of a write and its commit", 1);
}

static bool world_format(World *world) {
    const MapfsFsFormat how = {
        .store = {.seed = world->seed, .time = UINT64_C(1) << 61, .label = "world"},
        .root_mode = 0755,
    };
    int r;

    world_tick(world);
    r = mapfs_fs_format(world->image, &how);
    if (r < 0)
        g_string_append_printf(world->failure, "    mkfs gives %s (%s)\n", strerror(-r), mapfs_damage_last());
    return r == 0;
}

static bool world_begin(World *world) {
    if (mapfs_recording_open(world->n_blocks, &world->recording) < 0) {
        world_failed(world, "no memory");
        return false;
    }
    world->image = mapfs_recording_image(world->recording);
    for (guint i = 0; i < WORLD_QUEUE; i++)
        world->queue[i].bytes = aligned_alloc(MAPFS_BLOCK_SIZE, world->n_blocks * MAPFS_BLOCK_SIZE);
    if (!world_format(world))
        return false;
    world->stage = stage_new(random_draw(&world->random), &world->profile);
    world->trouble = random_once_in(&world->random, 5);
    world->stage->midway = midway;
    world->stage->user = world;
    world->n_warm = random_below(&world->random, WARM_OPERATIONS);
    world_set_hooks(world);
    if (!world_mount(world))
        return false;
    push_state(world);
    return true;
}

static void world_end(World *world) {
    if (world->stage && world->stage->fs)
        world_unmount(world, false);
    if (world->stage)
        model_free(world->stage->model);
    stage_free(world->stage);
    world->stage = NULL;
    if (world->recording)
        mapfs_image_close(world->image);
    for (guint i = 0; i < WORLD_QUEUE; i++)
        free(world->queue[i].bytes);
    for (guint i = 0; i < WORLD_RECENT; i++)
        g_free(world->recent[i]);
    g_array_unref(world->states);
    g_array_unref(world->marks);
    g_hash_table_unref(world->seen);
    g_string_free(world->failure, TRUE);
    g_free(world);
}

static World *world_new(uint64_t seed, const WorldOptions *options) {
    static const uint64_t sizes[] = {256, 272, 288, 320, 384, 512};
    World *world = g_new0(World, 1);

    world->options = *options;
    world->seed = seed;
    world->random.state = seed;
    world->profile = profiles[random_below(&world->random, MAPFS_N_ELEMENTS(profiles))];
    world->n_blocks = sizes[random_below(&world->random, MAPFS_N_ELEMENTS(sizes))];
    if (options->n_blocks > 0)
        world->n_blocks = options->n_blocks;
    world->store_options.discard = random_once_in(&world->random, 3);
    world->states = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    world->marks = g_array_new(FALSE, FALSE, sizeof(guint));
    world->seen = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    world->failure = g_string_new(NULL);
    return world;
}

uint64_t world_run(uint64_t seed, const WorldOptions *options, bool *ret_failed) {
    World *world = world_new(seed, options);
    uint64_t n_states;

    if (!world_begin(world))
        print_failure(world, NULL);
    while (world->failure->len == 0 && world->n_states < options->n_states &&
           world->n_operations < options->n_states * OPERATIONS_PER_STATE)
        world_step(world);
    if (options->verbose)
        printf("%s world of %" PRIu64 " blocks, seed %" PRIu64 ": %" PRIu64 " operations, %u met a full image, %" PRIu64
               " reboots, %" PRIu64 " kills, %" PRIu64 " disks through the older superblock, %" PRIu64
               " lived on, %" PRIu64 " operations in checkpoints\n",
               world->profile.name, world->n_blocks, seed, world->n_operations, world->stage ? world->stage->n_full : 0,
               world->n_reboots, world->n_kills, world->n_older, world->n_lives, world->n_nested);
    *ret_failed = world->failure->len > 0;
    n_states = world->n_states;
    world_end(world);
    return n_states;
}
