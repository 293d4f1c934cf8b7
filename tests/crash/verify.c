/* SPDX-License-Identifier: MIT */

/* What every disk that a power cut leaves must be: clean to the checker, mountable, in a state that a prefix of the operations gave,
 * no older than the last acknowledged sync, and fit to live on. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "check/check.h"
#include "world.h"
#include "walk.h"

/* One in so many disks is also looked at through its older superblock, and lives on. */
#define OLDER_ONE_IN 3u
#define LIVES_ONE_IN 5u

static void failed(World *world, const char *format, ...) MAPFS_PRINTF(2, 3);

static void failed(World *world, const char *format, ...) {
    va_list args;

    va_start(args, format);
    g_string_append_vprintf(world->failure, format, args);
    va_end(args);
}

static void problem_found(void *user, const MapfsProblem *problem) {
    World *world = user;

    if (problem->kind->severity == MAPFS_SEVERITY_PROBLEM)
        failed(world, "    problem %d (%s): %s\n", problem->kind->number, problem->kind->name, problem->message);
}

static bool check_clean(World *world, MapfsImage *image, const char *when) {
    const MapfsCheckOptions options = {.found = problem_found, .user = world, .n_per_kind_max = 4};
    MapfsCheckReport report;
    int r = mapfs_check_run(image, &options, &report);

    if (r < 0)
        failed(world, "    %s: the checker gives %s\n", when, strerror(-r));
    else if (report.n_problems > 0)
        failed(world, "    %s: the checker finds %" PRIu64 " problems\n", when, report.n_problems);
    return r == 0 && report.n_problems == 0;
}

bool world_find_state(const World *world, uint64_t sum, guint first, guint *ret_state) {
    for (guint i = world->states->len; i-- > first;) {
        if (g_array_index(world->states, uint64_t, i) != sum)
            continue;
        *ret_state = i;
        return true;
    }
    return false;
}

static Model *model_of(MapfsFs *fs) {
    g_autoptr(GString) error = g_string_new(NULL);
    Model *model = model_new();
    uint64_t sum;

    /* What cannot be read is missing in it; that has been told already. */
    (void)walk_all(fs, model, &sum, error);
    g_array_set_size(model->deltas, 0);
    return model;
}

static void explain_state(World *world, MapfsFs *fs, const Disk *disk, uint64_t sum) {
    Model *found = model_of(fs);
    guint older, nearest;

    if (world_find_state(world, sum, 0, &older)) {
        failed(world, "    it shows state %u, older than the acknowledged state %u of %u\n", older, disk->acked,
               world->states->len - 1);
    } else {
        g_autoptr(GString) text = g_string_new(NULL);

        nearest = model_nearest(world->stage->model, world->marks, disk->acked, found, text);
        failed(world, "    it shows no state; from %u to %u, number %u is nearest:\n%s", disk->acked,
               world->states->len - 1, nearest, text->str);
    }
    model_free(found);
}

/* Opens and reads everything. */
static bool mounts(World *world, MapfsImage *image, bool read_only, uint64_t *ret_sum, MapfsFs **ret_fs) {
    const MapfsStoreOptions options = {.read_only = read_only, .discard = world->store_options.discard};
    g_autoptr(GString) error = g_string_new(NULL);
    MapfsFs *fs;
    int r = mapfs_fs_open(image, &options, &fs);

    if (r < 0) {
        failed(world, "    it does not mount: %s (%s)\n", strerror(-r), mapfs_damage_last());
        return false;
    }
    if (walk_all(fs, NULL, ret_sum, error) < 0) {
        failed(world, "    it cannot be read: %s\n", error->str);
        mapfs_fs_abandon(fs);
        return false;
    }
    *ret_fs = fs;
    return true;
}

/* --- the older superblock --- */

/* The slot in use when both are valid. */
static bool newer_slot(const uint8_t *bytes, size_t *ret_slot) {
    uint64_t generations[MAPFS_SUPERBLOCK_SLOTS];

    for (size_t i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++) {
        struct mapfs_disk_superblock superblock;

        memcpy(&superblock, bytes + i * MAPFS_BLOCK_SIZE, sizeof(superblock));
        if (mapfs_superblock_judge(&superblock) != MAPFS_SUPERBLOCK_VALID)
            return false;
        generations[i] = mapfs_le64_load(superblock.generation);
    }
    *ret_slot = generations[1] > generations[0];
    return true;
}

static bool older_is_whole(World *world, MapfsImage *image) {
    uint64_t sum;
    MapfsFs *fs;
    guint state;
    bool found;

    if (!check_clean(world, image, "through the older superblock") || !mounts(world, image, true, &sum, &fs))
        return false;
    found = world_find_state(world, sum, 0, &state);
    if (!found)
        failed(world, "    through the older superblock it shows no state that ever was\n");
    mapfs_fs_abandon(fs);
    return found;
}

/* The newer slot may be lost to a bad sector: the state before stays whole until the next is durable. */
static bool verify_older(World *world, MapfsImage *image, uint8_t *bytes) {
    uint8_t saved[MAPFS_BLOCK_SIZE];
    size_t slot;
    bool ok;

    if (!newer_slot(bytes, &slot))
        return true;
    world->n_older++;
    bytes += slot * MAPFS_BLOCK_SIZE;
    memcpy(saved, bytes, sizeof(saved));
    memset(bytes, 0, sizeof(saved));
    ok = older_is_whole(world, image);
    memcpy(bytes, saved, sizeof(saved));
    return ok;
}

/* --- life goes on --- */

static void live(Stage *stage) {
    uint64_t n_operations = 1 + random_below(&stage->random, 12);
    int r = 0;

    if (random_once_in(&stage->random, 2))
        stage_reclaim(stage);
    for (uint64_t i = 0; i < n_operations && !stage_failed(stage); i++)
        stage_step(stage);
    if (!stage_failed(stage) && random_once_in(&stage->random, 2)) {
        r = mapfs_fs_sync(stage->fs);
        stage_step(stage);
    }
    if (r < 0)
        stage_fail(stage, "sync gives %d", r);
    if (!stage_failed(stage))
        stage_compare(stage);
}

static bool lives_on(World *world, MapfsImage *image, MapfsFs *fs, uint64_t seed) {
    Stage *stage = stage_new(seed, &world->profile);
    uint64_t sum;
    bool ok;
    int r;

    world->n_lives++;
    stage->fs = fs;
    stage->model = model_of(fs);
    stage_adopt(stage);
    live(stage);
    r = mapfs_fs_close(fs);
    if (r < 0)
        stage_fail(stage, "close gives %d", r);
    model_unmount(stage->model);
    ok = !stage_failed(stage);
    if (!ok)
        failed(world, "    after recovery: %s: %s\n", stage->note->str, stage->failure->str);
    ok = ok && check_clean(world, image, "after recovery and work") && mounts(world, image, false, &sum, &fs);
    if (ok) {
        ok = sum == stage->model->sum;
        if (!ok)
            failed(world, "    after recovery, work and a new mount it is not as it was\n");
        mapfs_fs_abandon(fs);
    }
    model_free(stage->model);
    stage_free(stage);
    return ok;
}

/* --- all of it --- */

static bool verify_mounted(World *world, MapfsImage *image, const Disk *disk, bool lives, guint *ret_state) {
    uint64_t sum;
    MapfsFs *fs;

    if (!mounts(world, image, false, &sum, &fs))
        return false;
    if (!world_find_state(world, sum, disk->acked, ret_state)) {
        explain_state(world, fs, disk, sum);
        mapfs_fs_abandon(fs);
        return false;
    }
    if (lives)
        return lives_on(world, image, fs, disk->seed);
    mapfs_fs_abandon(fs);
    return true;
}

bool world_verify(World *world, const Disk *disk, bool lives, guint *ret_state) {
    Random random = {disk->seed};
    bool older = random_once_in(&random, OLDER_ONE_IN);
    MapfsImage *image;
    bool ok;

    lives = lives && random_once_in(&random, LIVES_ONE_IN);
    if (mapfs_image_open_buffer(disk->bytes, world->n_blocks, &image) < 0) {
        failed(world, "    no memory for it\n");
        return false;
    }
    ok = check_clean(world, image, "as the power cut left it");
    if (ok && older)
        ok = verify_older(world, image, disk->bytes);
    if (ok)
        ok = verify_mounted(world, image, disk, lives, ret_state);
    mapfs_image_close(image);
    return ok;
}
