/* SPDX-License-Identifier: MIT */

/* The n-th call of the host fails, for every n until a whole run of operations passes without one: a reservation with -ENOSPC, once or
 * from then on, or a sync with -EIO. After each the image, and what a power cut could leave of it, opens, checks clean, and
 * holds what was synced. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

#include "fs-checked.h"
#include "image/recording.h"

#define ROOT MAPFS_INO_ROOT
#define N_BLOCKS 2048u
#define N_FILES 12u
#define FILE_LEN 70000u
#define N_DISKS MAPFS_CRASH_N_STRATEGIES

typedef struct {
    MapfsRecording *recording;
    MapfsImage *image;
    MapfsFs *fs;
    unsigned n_reserves, n_syncs;     /* so far */
    unsigned fail_reserve, fail_sync; /* which one fails, 0 for none */
    bool for_good;                    /* and all after it */
    unsigned n_synced;                /* steps that a successful sync covers */
    unsigned n_done;                  /* steps that succeeded */
} Run;

static bool fails(unsigned n, unsigned which, bool for_good) {
    return which > 0 && (n == which || (for_good && n > which));
}

static int hook_sync(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    Run *run = user;

    (void)channel;
    (void)runs;
    (void)n_runs;
    return fails(++run->n_syncs, run->fail_sync, run->for_good) ? -EIO : 0;
}

static int hook_reserve(void *user, MapfsRun blocks) {
    Run *run = user;

    (void)blocks;
    return fails(++run->n_reserves, run->fail_reserve, run->for_good) ? -ENOSPC : 0;
}

/* --- the operations --- */

static void name_of(unsigned i, char *name, size_t size) {
    (void)snprintf(name, size, "file %u", i);
}

/* Makes a file with content; then a sync, an overwrite, a truncation or an unlink of an earlier one. */
static int step_write(Run *run, unsigned i) {
    g_autofree uint8_t *bytes = g_malloc(FILE_LEN);
    char name[32];
    uint64_t ino;
    int r;

    name_of(i, name, sizeof(name));
    r = fs_create(run->fs, ROOT, name, 0100644);
    if (r < 0)
        return r;
    ino = fs_ino(run->fs, ROOT, name);
    memset(bytes, (int)i + 1, FILE_LEN);
    r = mapfs_fs_write(run->fs, ino, 0, bytes, FILE_LEN);
    if (r < 0)
        return r;
    r = mapfs_fs_write(run->fs, ino, 5000, bytes, 3000);
    return r < 0 ? r : 0;
}

static int step_rest(Run *run, unsigned i) {
    MapfsAttr attr = {.size = FILE_LEN};
    uint64_t ino;
    char name[32];
    int r;

    (void)snprintf(name, sizeof(name), "scratch %u", i);
    r = fs_create(run->fs, ROOT, name, 0100644);
    if (r < 0)
        return r;
    ino = fs_ino(run->fs, ROOT, name);
    for (uint64_t at = 0; at < 40; at++) {
        r = mapfs_fs_write(run->fs, ino, at * 9000, name, sizeof(name));
        if (r < 0)
            return r;
    }
    r = mapfs_fs_setattr(run->fs, ino, MAPFS_SET_SIZE, &attr, &attr);
    if (r < 0)
        return r;
    return i % 2 ? fs_unlink(run->fs, ROOT, name) : 0;
}

/* Goes on after an error, as programs do. The result of the whole: the first error. */
static int run_operations(Run *run) {
    int result = 0, r;

    for (unsigned i = 0; i < N_FILES; i++) {
        r = step_write(run, i);
        result = result < 0 ? result : r;
        if (r == 0 && result == 0)
            run->n_done = i + 1;
        r = step_rest(run, i);
        result = result < 0 ? result : r;
        r = mapfs_fs_reclaim(run->fs);
        result = result < 0 ? result : r;
        r = mapfs_fs_sync(run->fs);
        result = result < 0 ? result : r;
        if (r == 0)
            run->n_synced = run->n_done;
    }
    return result;
}

/* --- afterwards --- */

static void assert_files(MapfsFs *fs, unsigned n_files) {
    g_autofree uint8_t *bytes = g_malloc(FILE_LEN);
    char name[32];

    for (unsigned i = 0; i < n_files; i++) {
        name_of(i, name, sizeof(name));
        assert_int_equal(mapfs_fs_read(fs, fs_ino(fs, ROOT, name), 0, bytes, FILE_LEN), FILE_LEN);
        for (unsigned at = 0; at < FILE_LEN; at++)
            assert_int_equal(bytes[at], i + 1);
    }
}

/* The image opens, holds what was synced, takes a change, and is clean before and after. */
static void assert_usable(MapfsImage *image, unsigned n_files) {
    const MapfsStoreOptions none = {0};
    MapfsFs *fs;

    (void)fs_check_image(image);
    assert_int_equal(mapfs_fs_open(image, &none, &fs), 0);
    assert_files(fs, n_files);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(fs_create(fs, ROOT, "after", 0100644), 0);
    assert_int_equal(mapfs_fs_close(fs), 0);
    (void)fs_check_image(image);
}

static void assert_disks_usable(Run *run) {
    const size_t len = (size_t)N_BLOCKS * MAPFS_BLOCK_SIZE;
    void *disk = NULL;

    assert_int_equal(posix_memalign(&disk, MAPFS_BLOCK_SIZE, len), 0);
    for (unsigned i = 0; i < N_DISKS; i++) {
        MapfsImage *image;

        mapfs_recording_build(run->recording, (MapfsCrashStrategy)i, run->n_reserves * 1000 + run->n_syncs, disk);
        assert_int_equal(mapfs_image_open_buffer(disk, N_BLOCKS, &image), 0);
        assert_usable(image, run->n_synced);
        mapfs_image_close(image);
    }
    free(disk);
}

/* True when the run met the failure. */
static bool run_once(Run *run) {
    const MapfsFsFormat how = {.store = {.seed = 1, .time = UINT64_C(1) << 61}, .root_mode = 0755};
    const MapfsRecordingHooks hooks = {.sync_begin = hook_sync, .reserve = hook_reserve, .user = run};
    const MapfsStoreOptions options = {.discard = true};
    bool met;
    int r;

    assert_int_equal(mapfs_recording_open(N_BLOCKS, &run->recording), 0);
    run->image = mapfs_recording_image(run->recording);
    assert_int_equal(mapfs_fs_format(run->image, &how), 0);
    assert_int_equal(mapfs_fs_open(run->image, &options, &run->fs), 0);
    mapfs_recording_set_hooks(run->recording, &hooks);
    r = run_operations(run);
    met = (run->fail_reserve > 0 && run->n_reserves >= run->fail_reserve) ||
          (run->fail_sync > 0 && run->n_syncs >= run->fail_sync);
    if (!met || run->fail_sync > 0)
        assert_int_equal(r, met ? -EIO : 0);
    else
        assert_true(r == 0 || r == -ENOSPC);
    if (!met)
        assert_int_equal(run->n_synced, N_FILES);
    mapfs_recording_note(run->recording);
    assert_disks_usable(run);
    /* The end alone meets no failure; but one of a sync before it is final. */
    mapfs_recording_set_hooks(run->recording, NULL);
    r = mapfs_fs_close(run->fs);
    assert_int_equal(r, met && run->fail_sync > 0 ? -EIO : 0);
    if (r == 0)
        assert_usable(run->image, run->n_synced);
    mapfs_image_close(run->image);
    return met;
}

static void test_every_failing_sync_leaves_what_was_synced(void **state) {
    unsigned n = 0;
    bool met = true;

    (void)state;
    while (met) {
        Run run = {.fail_sync = ++n};

        met = run_once(&run);
    }
    assert_true(n > N_FILES);
}

static void test_every_failing_reservation_fails_no_more_than_its_operation(void **state) {
    unsigned n = 0;
    bool met = true;

    (void)state;
    while (met) {
        Run run = {.fail_reserve = ++n};

        met = run_once(&run);
    }
    assert_true(n > 3);
}

static void test_host_that_is_full_from_some_moment_on(void **state) {
    unsigned n = 0;
    bool met = true;

    (void)state;
    while (met) {
        Run run = {.fail_reserve = ++n, .for_good = true};

        met = run_once(&run);
    }
    assert_true(n > 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_failing_sync_leaves_what_was_synced),
        cmocka_unit_test(test_every_failing_reservation_fails_no_more_than_its_operation),
        cmocka_unit_test(test_host_that_is_full_from_some_moment_on),
    };

    return cmocka_run_group_tests_name("fs-faults", tests, NULL, NULL);
}
