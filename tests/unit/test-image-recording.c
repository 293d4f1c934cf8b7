/* SPDX-License-Identifier: MIT */
#include "test-image-files.h"

#include "image/recording.h"

#define SECTOR ((size_t)MAPFS_SECTOR_SIZE)
#define SECTORS (BLOCK / SECTOR)
#define N_SEEDS 400u

typedef struct {
    MapfsRecording *recording;
    MapfsImage *image;
    uint8_t *disk;
} Lab;

static Lab lab_open(uint64_t n_blocks) {
    Lab lab = {0};

    assert_int_equal(mapfs_recording_open(n_blocks, &lab.recording), 0);
    lab.image = mapfs_recording_image(lab.recording);
    lab.disk = g_malloc(n_blocks * BLOCK);
    return lab;
}

static void lab_close(Lab lab) {
    mapfs_image_close(lab.image);
    g_free(lab.disk);
}

static void lab_fill(Lab lab, uint64_t block, uint8_t value) {
    memset(mapfs_image_writable(lab.image, run_of(block, 1)), value, BLOCK);
}

static int lab_sync(Lab lab, uint64_t block) {
    return mapfs_image_sync(lab.image, MAPFS_SYNC_DATA, &(MapfsRun){{block}, 1}, 1);
}

/* The byte that all of a block has on a disk, or -1 if it is torn. */
static int lab_crash(Lab lab, MapfsCrashStrategy strategy, uint64_t seed, uint64_t block) {
    mapfs_recording_build(lab.recording, strategy, seed, lab.disk);
    for (size_t i = 1; i < BLOCK; i++)
        if (lab.disk[block * BLOCK + i] != lab.disk[block * BLOCK])
            return -1;
    return lab.disk[block * BLOCK];
}

static void test_only_a_sync_makes_bytes_durable(void **state) {
    Lab lab = lab_open(8);

    (void)state;
    lab_fill(lab, 2, 1);
    mapfs_recording_note(lab.recording);
    assert_int_equal(mapfs_recording_unsynced(lab.recording, NULL), 1);
    assert_int_equal(lab_crash(lab, MAPFS_CRASH_ALL_OLD, 0, 2), 0);
    assert_int_equal(lab_crash(lab, MAPFS_CRASH_ALL_NEW, 0, 2), 1);
    assert_int_equal(lab_sync(lab, 2), 0);
    assert_int_equal(mapfs_recording_unsynced(lab.recording, NULL), 0);
    for (unsigned strategy = 0; strategy < MAPFS_CRASH_N_STRATEGIES; strategy++)
        assert_int_equal(lab_crash(lab, strategy, 5, 2), 1);
    lab_close(lab);
}

static void test_sync_notes_what_it_finds(void **state) {
    Lab lab = lab_open(8);

    (void)state;
    lab_fill(lab, 2, 1); /* never noted by the test */
    lab_fill(lab, 3, 1);
    assert_int_equal(lab_sync(lab, 2), 0);
    assert_int_equal(lab_crash(lab, MAPFS_CRASH_ALL_OLD, 0, 2), 1);
    assert_int_equal(lab_crash(lab, MAPFS_CRASH_ALL_OLD, 0, 3), 0); /* not covered */
    assert_int_equal(lab_crash(lab, MAPFS_CRASH_ALL_NEW, 0, 3), 1);
    lab_close(lab);
}

static void test_every_version_since_the_sync_can_come_back(void **state) {
    static const MapfsCrashStrategy strategies[] = {MAPFS_CRASH_RANDOM_PAGES, MAPFS_CRASH_ONE_NEW, MAPFS_CRASH_ONE_OLD,
                                                    MAPFS_CRASH_MOMENT};
    Lab lab = lab_open(4);
    size_t n_versions;

    (void)state;
    lab_fill(lab, 1, 9);
    mapfs_recording_note(lab.recording);
    lab_fill(lab, 1, 10);
    assert_int_equal(lab_sync(lab, 1), 0);
    for (uint8_t value = 11; value < 15; value++) {
        lab_fill(lab, 1, value);
        mapfs_image_write_out(lab.image, &(MapfsRun){{0}, 1}, 1); /* notes too */
        mapfs_recording_note(lab.recording);                      /* nothing new */
    }
    assert_int_equal(mapfs_recording_unsynced(lab.recording, &n_versions), 1);
    assert_int_equal(n_versions, 4);
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(strategies); i++) {
        unsigned seen = 0;
        for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
            int value = lab_crash(lab, strategies[i], seed, 1);
            assert_true(value == -1 || (value >= 10 && value <= 14));
            seen |= value >= 0 ? 1u << value : 0;
        }
        /* ONE_NEW and ONE_OLD leave out the usual version, but for tears that hit every sector. */
        assert_int_equal((seen | 1u << 10 | 1u << 14), 0x1fu << 10);
    }
    lab_close(lab);
}

static void test_sectors_of_a_page_come_from_different_versions(void **state) {
    Lab lab = lab_open(4);
    unsigned n_torn = 0;

    (void)state;
    for (uint8_t value = 1; value < 4; value++) {
        lab_fill(lab, 1, value);
        mapfs_recording_note(lab.recording);
    }
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        n_torn += lab_crash(lab, MAPFS_CRASH_RANDOM_SECTORS, seed, 1) == -1;
        for (size_t i = 0; i < BLOCK; i++) {
            assert_int_equal(lab.disk[BLOCK + i], lab.disk[BLOCK + i / SECTOR * SECTOR]); /* a sector is never torn */
            assert_in_range(lab.disk[BLOCK + i], 0, 3);
        }
    }
    assert_true(n_torn > N_SEEDS / 2);
    lab_close(lab);
}

/* How many of the blocks are wholly `value` on the disk. */
static unsigned count_blocks(Lab lab, uint8_t value) {
    unsigned n = 0;

    for (uint64_t block = 0; block < lab.image->n_blocks; block++) {
        size_t i = 0;
        while (i < BLOCK && lab.disk[block * BLOCK + i] == value)
            i++;
        n += i == BLOCK;
    }
    return n;
}

static void test_one_page_stands_out(void **state) {
    Lab lab = lab_open(8);
    unsigned n_torn = 0;

    (void)state;
    for (uint64_t block = 0; block < 8; block++)
        lab_fill(lab, block, 1);
    mapfs_recording_note(lab.recording);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        mapfs_recording_build(lab.recording, MAPFS_CRASH_ONE_NEW, seed, lab.disk);
        assert_in_range(count_blocks(lab, 0), 7, 8); /* 8: torn with nothing new in it */
        n_torn += count_blocks(lab, 0) == 7 && count_blocks(lab, 1) == 0;
        mapfs_recording_build(lab.recording, MAPFS_CRASH_ONE_OLD, seed, lab.disk);
        assert_in_range(count_blocks(lab, 1), 7, 8);
    }
    assert_in_range(n_torn, N_SEEDS / 4, N_SEEDS * 3 / 4);
    lab_close(lab);
}

static void test_moment_keeps_the_order_of_stores(void **state) {
    Lab lab = lab_open(8);
    unsigned seen = 0;

    (void)state;
    for (uint64_t block = 0; block < 5; block++) {
        lab_fill(lab, block, 1);
        mapfs_recording_note(lab.recording);
    }
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        mapfs_recording_build(lab.recording, MAPFS_CRASH_MOMENT, seed, lab.disk);
        unsigned n = count_blocks(lab, 1);
        for (uint64_t block = 0; block < 8; block++)
            assert_int_equal(lab.disk[block * BLOCK], block < n ? 1 : 0);
        seen |= 1u << n;
    }
    assert_int_equal(seen, 0x3f);
    lab_close(lab);
}

static void test_same_seed_gives_the_same_disk(void **state) {
    Lab lab = lab_open(16);
    g_autofree uint8_t *other = g_malloc(16 * BLOCK);
    unsigned n_different = 0;

    (void)state;
    for (uint8_t i = 1; i < 60; i++) {
        lab_fill(lab, i % 16, i);
        mapfs_recording_note(lab.recording);
    }
    for (uint64_t seed = 0; seed < 20; seed++) {
        mapfs_recording_build(lab.recording, MAPFS_CRASH_RANDOM_SECTORS, seed, lab.disk);
        mapfs_recording_build(lab.recording, MAPFS_CRASH_RANDOM_SECTORS, seed, other);
        assert_memory_equal(lab.disk, other, 16 * BLOCK);
        mapfs_recording_build(lab.recording, MAPFS_CRASH_RANDOM_SECTORS, seed + 1, other);
        n_different += memcmp(lab.disk, other, 16 * BLOCK) != 0;
    }
    assert_int_equal(n_different, 20);
    lab_close(lab);
}

/* Hooks */

typedef struct {
    Lab lab;
    int result;
    unsigned n_begin, n_end;
    int old_at_begin, old_at_end;
} HookLog;

static int on_begin(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    HookLog *log = user;

    assert_int_equal(channel, MAPFS_SYNC_DATA);
    assert_int_equal(n_runs, 1);
    log->n_begin++;
    log->old_at_begin = lab_crash(log->lab, MAPFS_CRASH_ALL_OLD, 0, runs[0].start.n);
    lab_fill(log->lab, runs[0].start.n, 77); /* while the sync is in flight */
    return log->result;
}

static void on_end(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    HookLog *log = user;

    (void)channel;
    (void)n_runs;
    log->n_end++;
    log->old_at_end = lab_crash(log->lab, MAPFS_CRASH_ALL_OLD, 0, runs[0].start.n);
}

static void test_sync_in_flight_promises_nothing_yet(void **state) {
    HookLog log = {.lab = lab_open(4)};
    MapfsRecordingHooks hooks = {.sync_begin = on_begin, .sync_end = on_end, .user = &log};

    (void)state;
    mapfs_recording_set_hooks(log.lab.recording, &hooks);
    lab_fill(log.lab, 1, 5);
    assert_int_equal(lab_sync(log.lab, 1), 0);
    assert_int_equal(log.n_begin, 1);
    assert_int_equal(log.n_end, 1);
    assert_int_equal(log.old_at_begin, 0);
    assert_int_equal(log.old_at_end, 5);
    /* What was stored meanwhile is not promised, and can be there. */
    mapfs_recording_note(log.lab.recording);
    assert_int_equal(lab_crash(log.lab, MAPFS_CRASH_ALL_OLD, 0, 1), 5);
    assert_int_equal(lab_crash(log.lab, MAPFS_CRASH_ALL_NEW, 0, 1), 77);
    lab_close(log.lab);
}

static void test_failed_sync_makes_nothing_durable(void **state) {
    HookLog log = {.lab = lab_open(4), .result = -EIO};
    MapfsRecordingHooks hooks = {.sync_begin = on_begin, .sync_end = on_end, .user = &log};

    (void)state;
    mapfs_recording_set_hooks(log.lab.recording, &hooks);
    lab_fill(log.lab, 1, 5);
    assert_int_equal(lab_sync(log.lab, 1), -EIO);
    assert_int_equal(log.n_end, 0);
    assert_int_equal(lab_crash(log.lab, MAPFS_CRASH_ALL_OLD, 0, 1), 0);
    assert_int_equal(lab_crash(log.lab, MAPFS_CRASH_ALL_NEW, 0, 1), 5);
    mapfs_recording_set_hooks(log.lab.recording, NULL);
    assert_int_equal(lab_sync(log.lab, 1), -EIO); /* sticky */
    lab_close(log.lab);
}

static int fail_sync(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    (void)channel;
    (void)runs;
    (void)n_runs;
    return *(const int *)user;
}

static void test_pages_of_a_failed_sync_are_lost(void **state) {
    const MapfsRun both = run_of(1, 2);
    Lab lab = lab_open(4);
    int result = -EIO;

    (void)state;
    mapfs_recording_set_hooks(lab.recording, &(MapfsRecordingHooks){.sync_begin = fail_sync, .user = &result});
    lab_fill(lab, 1, 5);
    lab_fill(lab, 2, 6);
    assert_int_equal(mapfs_image_sync(lab.image, MAPFS_SYNC_DATA, &both, 1), -EIO);
    lab.image->error = 0; /* another process */
    lab.image->writes_lost = false;
    result = 0;
    lab_fill(lab, 2, 7);
    assert_int_equal(mapfs_image_sync(lab.image, MAPFS_SYNC_DATA, &both, 1), 0);
    assert_int_equal(lab_crash(lab, MAPFS_CRASH_ALL_OLD, 0, 1), 0); /* clean: not written */
    assert_int_equal(lab_crash(lab, MAPFS_CRASH_ALL_OLD, 0, 2), 7); /* stored into again */
    mapfs_image_drop(lab.image, both);
    assert_int_equal(mapfs_recording_unsynced(lab.recording, NULL), 0); /* what memory has, the disk has */
    assert_int_equal(*(const uint8_t *)mapfs_image_read(lab.image, run_of(1, 1)),
                     lab_crash(lab, MAPFS_CRASH_ALL_OLD, 0, 1));
    lab_close(lab);
}

static void test_pages_outlive_a_killed_sync(void **state) {
    Lab lab = lab_open(4);
    int result = -EINTR;

    (void)state;
    mapfs_recording_set_hooks(lab.recording, &(MapfsRecordingHooks){.sync_begin = fail_sync, .user = &result});
    lab_fill(lab, 1, 5);
    assert_int_equal(lab_sync(lab, 1), -EIO);
    lab.image->error = 0; /* another process */
    lab.image->writes_lost = false;
    result = 0;
    assert_int_equal(lab_sync(lab, 1), 0);
    assert_int_equal(lab_crash(lab, MAPFS_CRASH_ALL_OLD, 0, 1), 5);
    lab_close(lab);
}

static int refuse(void *user, MapfsRun run) {
    (void)user;
    return run.n_blocks > 2 ? -ENOSPC : 0;
}

static void test_reserve_can_be_refused(void **state) {
    Lab lab = lab_open(8);

    (void)state;
    assert_int_equal(mapfs_image_reserve(lab.image, run_of(0, 8)), 0);
    mapfs_recording_set_hooks(lab.recording, &(MapfsRecordingHooks){.reserve = refuse});
    assert_int_equal(mapfs_image_reserve(lab.image, run_of(0, 2)), 0);
    assert_int_equal(mapfs_image_reserve(lab.image, run_of(0, 3)), -ENOSPC);
    lab_close(lab);
}

static void test_discarded_blocks_hold_no_zeros(void **state) {
    Lab lab = lab_open(4);

    (void)state;
    lab_fill(lab, 1, 5);
    assert_int_equal(lab_sync(lab, 1), 0);
    assert_int_equal(mapfs_image_discard(lab.image, run_of(1, 1)), 0);
    assert_int_not_equal(*(const uint8_t *)mapfs_image_read(lab.image, run_of(1, 1)), 0);
    assert_int_equal(lab_crash(lab, MAPFS_CRASH_ALL_OLD, 0, 1), 5);
    assert_int_not_equal(lab_crash(lab, MAPFS_CRASH_ALL_NEW, 0, 1), 5);
    lab_close(lab);
}

static void test_load_is_a_boot(void **state) {
    Lab lab = lab_open(4);
    g_autofree uint8_t *bytes = g_malloc(4 * BLOCK);

    (void)state;
    memset(bytes, 3, 4 * BLOCK);
    lab_fill(lab, 1, 5);
    mapfs_recording_note(lab.recording);
    lab_fill(lab, 2, 6); /* not noted */
    mapfs_image_fail(lab.image, -EIO);
    mapfs_recording_load(lab.recording, bytes);
    assert_int_equal(mapfs_image_error(lab.image), 0);
    assert_int_equal(mapfs_recording_unsynced(lab.recording, NULL), 0);
    assert_memory_equal(mapfs_image_read(lab.image, run_of(0, 4)), bytes, 4 * BLOCK);
    mapfs_recording_note(lab.recording);
    assert_int_equal(mapfs_recording_unsynced(lab.recording, NULL), 0);
    assert_int_equal(lab_crash(lab, MAPFS_CRASH_ALL_OLD, 0, 2), 3);
    lab_close(lab);
}

/* Random stores and syncs against a plain model: for each sector, all stamps that it had since the last sync. */

enum { MODEL_BLOCKS = 6, MODEL_SECTORS = MODEL_BLOCKS * 8 };

typedef struct {
    Lab lab;
    GRand *rand;
    uint64_t live[MODEL_SECTORS];
    GArray *allowed[MODEL_SECTORS]; /* of uint64_t: the durable one, then those noted */
    uint64_t next_stamp;
} Model;

static uint64_t stamp_at(const uint8_t *bytes, unsigned sector) {
    uint64_t stamp, last;

    memcpy(&stamp, bytes + sector * SECTOR, sizeof(stamp));
    memcpy(&last, bytes + (sector + 1) * SECTOR - sizeof(last), sizeof(last));
    assert_int_equal(stamp, last); /* a sector is whole */
    return stamp;
}

static void model_store(Model *model) {
    unsigned sector = (unsigned)g_rand_int_range(model->rand, 0, MODEL_SECTORS);
    uint8_t *bytes = mapfs_image_writable(model->lab.image, run_of(0, MODEL_BLOCKS));
    uint64_t stamp = g_rand_int_range(model->rand, 0, 4) ? model->next_stamp++ : model->live[sector];

    for (size_t i = 0; i < SECTOR; i += sizeof(stamp))
        memcpy(bytes + sector * SECTOR + i, &stamp, sizeof(stamp));
    model->live[sector] = stamp;
}

static void model_note(Model *model) {
    for (unsigned i = 0; i < MODEL_SECTORS; i++)
        g_array_append_val(model->allowed[i], model->live[i]);
}

static void model_sync(Model *model) {
    uint64_t start = (uint64_t)g_rand_int_range(model->rand, 0, MODEL_BLOCKS);
    uint64_t n_blocks = (uint64_t)g_rand_int_range(model->rand, 1, (gint32)(MODEL_BLOCKS - start) + 1);
    MapfsRun runs[] = {run_of(start, n_blocks), run_of(0, 1)};

    assert_int_equal(mapfs_image_sync(model->lab.image, MAPFS_SYNC_DATA, runs, 2), 0);
    model_note(model);
    for (unsigned i = 0; i < MODEL_SECTORS; i++)
        if (i / 8 == 0 || (i / 8 >= start && i / 8 < start + n_blocks))
            g_array_remove_range(model->allowed[i], 0, model->allowed[i]->len - 1);
}

static bool model_allows(const Model *model, unsigned sector, uint64_t stamp) {
    for (guint i = 0; i < model->allowed[sector]->len; i++)
        if (g_array_index(model->allowed[sector], uint64_t, i) == stamp)
            return true;
    return false;
}

static void model_crash(Model *model) {
    MapfsCrashStrategy strategy = (MapfsCrashStrategy)g_rand_int_range(model->rand, 0, MAPFS_CRASH_N_STRATEGIES);

    mapfs_recording_note(model->lab.recording);
    model_note(model);
    mapfs_recording_build(model->lab.recording, strategy, g_rand_int(model->rand), model->lab.disk);
    for (unsigned i = 0; i < MODEL_SECTORS; i++) {
        uint64_t stamp = stamp_at(model->lab.disk, i);
        assert_true(model_allows(model, i, stamp));
        if (strategy == MAPFS_CRASH_ALL_OLD)
            assert_int_equal(stamp, g_array_index(model->allowed[i], uint64_t, 0));
        if (strategy == MAPFS_CRASH_ALL_NEW)
            assert_int_equal(stamp, model->live[i]);
    }
}

static void model_run(uint32_t seed) {
    Model model = {.lab = lab_open(MODEL_BLOCKS), .rand = g_rand_new_with_seed(seed), .next_stamp = 1};

    for (unsigned i = 0; i < MODEL_SECTORS; i++) {
        model.allowed[i] = g_array_new(FALSE, FALSE, sizeof(uint64_t));
        g_array_append_val(model.allowed[i], model.live[i]);
    }
    for (int step = 0; step < 400; step++) {
        int choice = g_rand_int_range(model.rand, 0, 20);
        if (choice < 15)
            model_store(&model);
        else if (choice < 19)
            model_crash(&model);
        else
            model_sync(&model);
    }
    for (unsigned i = 0; i < MODEL_SECTORS; i++)
        g_array_free(model.allowed[i], TRUE);
    g_rand_free(model.rand);
    lab_close(model.lab);
}

static void test_random_stores_match_the_model(void **state) {
    (void)state;
    for (uint32_t seed = 1; seed <= 30; seed++) {
        print_message("# seed %u\n", seed);
        model_run(seed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_a_sync_makes_bytes_durable),
        cmocka_unit_test(test_sync_notes_what_it_finds),
        cmocka_unit_test(test_every_version_since_the_sync_can_come_back),
        cmocka_unit_test(test_sectors_of_a_page_come_from_different_versions),
        cmocka_unit_test(test_one_page_stands_out),
        cmocka_unit_test(test_moment_keeps_the_order_of_stores),
        cmocka_unit_test(test_same_seed_gives_the_same_disk),
        cmocka_unit_test(test_sync_in_flight_promises_nothing_yet),
        cmocka_unit_test(test_failed_sync_makes_nothing_durable),
        cmocka_unit_test(test_pages_of_a_failed_sync_are_lost),
        cmocka_unit_test(test_pages_outlive_a_killed_sync),
        cmocka_unit_test(test_reserve_can_be_refused),
        cmocka_unit_test(test_discarded_blocks_hold_no_zeros),
        cmocka_unit_test(test_load_is_a_boot),
        cmocka_unit_test(test_random_stores_match_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
