/* SPDX-License-Identifier: MIT */

/* Giving host blocks back: which, when, and what others see meanwhile. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

#include "space-fixture.h"

static void allocate(Test *test, uint64_t start, uint64_t n_blocks) {
    const MapfsSpaceWish wish = {.goal = {start}, .n_blocks = n_blocks};
    MapfsRun run;

    assert_int_equal(mapfs_space_allocate(test->space, &wish, &run), 0);
    assert_int_equal(run.start.n, start);
    assert_int_equal(run.n_blocks, n_blocks);
}

static void release(Test *test, uint64_t start, uint64_t n_blocks) {
    assert_int_equal(mapfs_space_release(test->space, (MapfsRun){{start}, n_blocks}), 0);
}

static uint64_t trim(Test *test, uint64_t n_min, uint64_t n_keep) {
    const MapfsSpaceTrim what = {.range = {{0}, UINT64_MAX}, .n_min = n_min, .n_keep = n_keep};
    uint64_t n_blocks;

    assert_int_equal(mapfs_space_trim(test->space, &what, &n_blocks), 0);
    return n_blocks;
}

static uint64_t n_given(const Test *test, uint64_t start, uint64_t n_blocks) {
    uint64_t n = 0;

    for (uint64_t i = 0; i < n_blocks; i++)
        n += test->host.given[start + i];
    return n;
}

static void test_free_blocks_go_and_taken_ones_stay(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    allocate(&test, 1024, 1024);
    release(&test, 1100, 500);
    assert_int_equal(trim(&test, 1, 0), 4096 - FIRST_USABLE - 524);
    assert_int_equal(n_given(&test, 0, 4096), 524);
    assert_int_equal(n_given(&test, 1024, 76), 76);
    assert_int_equal(n_given(&test, 1600, 448), 448);
    assert_int_equal(status(&test).n_free, 4096 - FIRST_USABLE - 524);
    test_close(&test);
}

static void test_blocks_that_went_are_reserved_again_before_use(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    allocate(&test, 1024, 512);
    release(&test, 1024, 512);
    (void)trim(&test, 1, 0);
    assert_int_equal(n_given(&test, 1024, 512), 0);
    allocate(&test, 1024, 512);
    assert_int_equal(n_given(&test, 1024, 512), 512);
    test_close(&test);
}

static void test_short_runs_and_other_ranges_are_left(void **state) {
    const MapfsSpaceTrim what = {.range = {{1000}, 150}, .n_min = 16};
    uint64_t n_blocks;
    Test test;

    (void)state;
    test_open(&test, 2048);
    allocate(&test, 1000, 200);
    release(&test, 1010, 15);
    release(&test, 1030, 16);
    release(&test, 1140, 40);
    assert_int_equal(mapfs_space_trim(test.space, &what, &n_blocks), 0);
    assert_int_equal(n_blocks, 16);
    assert_int_equal(n_given(&test, 1000, 200), 184);
    test_close(&test);
}

/* Claimed blocks have the host's behind them: a trim must not take these away. */
static void test_what_is_claimed_or_kept_stays(void **state) {
    MapfsBlock block;
    Test test;

    (void)state;
    test_open(&test, 1024);
    assert_int_equal(mapfs_space_claim(test.space, 700, 40), 0);
    (void)trim(&test, 1, 40);
    test.host.error = -ENOSPC;
    for (unsigned i = 0; i < 740; i++) {
        assert_int_equal(mapfs_space_allocate_node(test.space, MAPFS_PLACE_NODES, &block), 0);
        assert_true(test.host.given[block.n]);
    }
    test_close(&test);
}

/* They are where the nodes look first, after the next mount too. */
static void test_first_blocks_are_what_stays_for_nodes(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    allocate(&test, FIRST_USABLE, 4000);
    release(&test, FIRST_USABLE, 4000);
    (void)trim(&test, 1, 300);
    assert_int_equal(n_given(&test, FIRST_USABLE, 300), 300);
    assert_true(n_given(&test, 1024, 3000) == 0);
    test_close(&test);
}

static void test_host_that_cannot_is_told(void **state) {
    const MapfsSpaceTrim what = {.range = {{0}, 4096}, .n_min = 1};
    uint64_t n_blocks = 7;
    Test test;

    (void)state;
    test_open(&test, 4096);
    test.host.discard_error = -EOPNOTSUPP;
    assert_int_equal(mapfs_space_trim(test.space, &what, &n_blocks), -EOPNOTSUPP);
    assert_int_equal(n_blocks, 0);
    allocate(&test, 1024, 512);
    test_close(&test);
}

/* --- while the host is busy with it --- */

static void look_at_held(Host *host) {
    Test *test = host->user;
    g_autofree uint8_t *bits = g_malloc(MAPFS_NODE_SPACE);
    MapfsSpaceGroup group;

    assert_int_equal(status(test).n_free, 1024 - FIRST_USABLE - 100);
    assert_int_equal(mapfs_space_dirty_group(test->space, 0, &group), 1);
    assert_int_equal(group.n_free, 1024 - FIRST_USABLE - 100);
    mapfs_space_store_bits(test->space, 0, bits);
    for (uint64_t i = 0; i < 1024; i++)
        assert_int_equal(bits[i / 8] >> (i % 8) & 1, i < FIRST_USABLE || (i >= 500 && i < 600));
    /* Nobody has freed them a second time either. */
    assert_int_equal(mapfs_space_release(test->space, (MapfsRun){{300}, 10}), -EUCLEAN);
    test->host.n_seen++;
}

static void test_image_is_told_that_what_is_held_is_free(void **state) {
    Test test;

    (void)state;
    test_open(&test, 1024);
    allocate(&test, 500, 100);
    test.host.on_discard = look_at_held;
    test.host.user = &test;
    (void)trim(&test, 1, 0);
    assert_int_equal(test.host.n_seen, 2);
    test_close(&test);
}

static void *take_all(void *user) {
    Test *test = user;
    const MapfsSpaceWish wish = {.n_blocks = 1024};
    MapfsRun run;
    uint64_t n = 0;

    while (mapfs_space_allocate(test->space, &wish, &run) == 0)
        n += run.n_blocks;
    return GUINT_TO_POINTER(n);
}

static void start_taking(Host *host) {
    Test *test = host->user;

    if (test->host.n_seen++ == 0)
        assert_int_equal(pthread_create(&host->thread, NULL, take_all, test), 0);
    g_usleep(20000);
}

static void test_who_needs_what_is_held_waits_for_it(void **state) {
    void *n_taken;
    Test test;

    (void)state;
    test_open(&test, 1024);
    test.host.on_discard = start_taking;
    test.host.user = &test;
    (void)trim(&test, 1, 0);
    assert_int_equal(pthread_join(test.host.thread, &n_taken), 0);
    assert_int_equal(GPOINTER_TO_UINT(n_taken), 1024 - FIRST_USABLE);
    assert_int_equal(n_given(&test, FIRST_USABLE, 1024 - FIRST_USABLE), 1024 - FIRST_USABLE);
    test_close(&test);
}

/* --- what is worth a trim --- */

static void assert_next(Test *test, uint64_t start, uint64_t n_blocks) {
    MapfsRun range;

    assert_true(mapfs_space_trim_next(test->space, &range));
    assert_int_equal(range.start.n, start);
    assert_int_equal(range.n_blocks, n_blocks);
}

static void assert_none(Test *test) {
    MapfsRun range;

    assert_false(mapfs_space_trim_next(test->space, &range));
}

static void test_what_was_freed_rests_first(void **state) {
    Test test;

    (void)state;
    test_open(&test, 8192);
    assert_false(mapfs_space_trim_ripen(test.space));
    allocate(&test, 1024, 512);
    assert_false(mapfs_space_trim_ripen(test.space));
    release(&test, 1030, 10);
    assert_none(&test);
    assert_true(mapfs_space_trim_ripen(test.space));
    assert_none(&test);
    assert_true(mapfs_space_trim_ripen(test.space));
    assert_next(&test, 1024, CHUNK);
    assert_none(&test);
    assert_false(mapfs_space_trim_ripen(test.space));
    test_close(&test);
}

static void test_chunk_where_more_is_freed_rests_again(void **state) {
    Test test;

    (void)state;
    test_open(&test, 8192);
    allocate(&test, 1024, 512);
    release(&test, 1024, 10);
    release(&test, 1300, 10);
    for (unsigned i = 0; i < 5; i++) {
        assert_true(mapfs_space_trim_ripen(test.space));
        release(&test, 1040 + i, 1);
    }
    assert_next(&test, 1280, CHUNK);
    assert_none(&test);
    assert_true(mapfs_space_trim_ripen(test.space));
    assert_true(mapfs_space_trim_ripen(test.space));
    assert_next(&test, 1024, CHUNK);
    test_close(&test);
}

static void test_ranges_come_in_small_steps_from_the_end(void **state) {
    Test test;

    (void)state;
    test_open(&test, 8192);
    allocate(&test, 1024, 9 * CHUNK);
    release(&test, 1024, 9 * CHUNK);
    (void)mapfs_space_trim_ripen(test.space);
    (void)mapfs_space_trim_ripen(test.space);
    assert_next(&test, 1024 + 5 * CHUNK, 4 * CHUNK);
    assert_next(&test, 1024 + 1 * CHUNK, 4 * CHUNK);
    assert_next(&test, 1024, CHUNK);
    assert_none(&test);
    test_close(&test);
}

static void test_whole_image_can_be_noted(void **state) {
    MapfsRun range;
    uint64_t n = 0;
    Test test;

    (void)state;
    test_open(&test, 8000);
    mapfs_space_trim_note_all(test.space);
    assert_true(mapfs_space_trim_ripen(test.space));
    assert_true(mapfs_space_trim_ripen(test.space));
    while (mapfs_space_trim_next(test.space, &range))
        n += range.n_blocks;
    assert_int_equal(n, 8192);
    test_close(&test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_free_blocks_go_and_taken_ones_stay),
        cmocka_unit_test(test_blocks_that_went_are_reserved_again_before_use),
        cmocka_unit_test(test_short_runs_and_other_ranges_are_left),
        cmocka_unit_test(test_what_is_claimed_or_kept_stays),
        cmocka_unit_test(test_first_blocks_are_what_stays_for_nodes),
        cmocka_unit_test(test_host_that_cannot_is_told),
        cmocka_unit_test(test_image_is_told_that_what_is_held_is_free),
        cmocka_unit_test(test_who_needs_what_is_held_waits_for_it),
        cmocka_unit_test(test_what_was_freed_rests_first),
        cmocka_unit_test(test_chunk_where_more_is_freed_rests_again),
        cmocka_unit_test(test_ranges_come_in_small_steps_from_the_end),
        cmocka_unit_test(test_whole_image_can_be_noted),
    };

    return cmocka_run_group_tests_name("space-trim", tests, NULL, NULL);
}
