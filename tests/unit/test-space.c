/* SPDX-License-Identifier: MIT */

/* Which blocks are handed out, and what the host is asked for. The host is a stand-in that remembers which blocks it has given and
 * refuses more than it is allowed. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <glib.h>

#include "space-fixture.h"

static MapfsRun allocate(Test *test, uint64_t goal, uint64_t n_blocks) {
    const MapfsSpaceWish wish = {.goal = {goal}, .n_blocks = n_blocks};
    MapfsRun run;

    assert_int_equal(mapfs_space_allocate(test->space, &wish, &run), 0);
    assert_in_range(run.n_blocks, 1, n_blocks);
    for (uint64_t i = 0; i < run.n_blocks; i++)
        assert_true(test->host.given[run.start.n + i]);
    return run;
}

static int allocate_keep(Test *test, uint64_t n_blocks, uint64_t n_keep, MapfsRun *ret_run) {
    const MapfsSpaceWish wish = {.n_blocks = n_blocks, .n_keep = n_keep};

    return mapfs_space_allocate(test->space, &wish, ret_run);
}

static void assert_run(MapfsRun run, uint64_t start, uint64_t n_blocks) {
    assert_int_equal(run.start.n, start);
    assert_int_equal(run.n_blocks, n_blocks);
}

static void release(Test *test, uint64_t start, uint64_t n_blocks) {
    assert_int_equal(mapfs_space_release(test->space, (MapfsRun){{start}, n_blocks}), 0);
}

static uint64_t take_node_at(Test *test, MapfsNodePlace place) {
    MapfsBlock block;

    assert_int_equal(mapfs_space_allocate_node(test->space, place, &block), 0);
    assert_true(test->host.given[block.n]);
    return block.n;
}

static uint64_t take_node(Test *test) {
    return take_node_at(test, MAPFS_PLACE_NODES);
}

/* --- runs --- */

static void test_fresh_space_is_free_but_for_superblocks_and_log(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    assert_int_equal(status(&test).n_free, 4096 - FIRST_USABLE);
    assert_int_equal(status(&test).n_claimed, 0);
    assert_int_equal(status(&test).n_dirty_groups, 0);
    test_close(&test);
}

static void test_run_lies_at_its_goal(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    assert_run(allocate(&test, 1000, 50), 1000, 50);
    assert_run(allocate(&test, 1050, 50), 1050, 50);
    assert_int_equal(status(&test).n_free, 4096 - FIRST_USABLE - 100);
    test_close(&test);
}

static void test_short_stretch_at_the_goal_is_taken_first(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    (void)allocate(&test, 1010, 10);
    assert_run(allocate(&test, 1000, 50), 1000, 10);
    test_close(&test);
}

static void test_taken_goal_leads_to_the_next_stretch_of_full_length(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    (void)allocate(&test, 1000, 10); /* free: 1010 to 1019, and from 1030 on */
    (void)allocate(&test, 1020, 10);
    assert_run(allocate(&test, 1005, 50), 1030, 50);
    assert_run(allocate(&test, 1005, 10), 1010, 10);
    test_close(&test);
}

static void test_search_goes_around_the_image(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    (void)allocate(&test, 4000, 96);
    assert_run(allocate(&test, 4050, 30), FIRST_USABLE, 30);
    test_close(&test);
}

static void test_goal_that_is_none_means_anywhere(void **state) {
    const uint64_t goals[] = {0, 1, FIRST_USABLE - 1, 4096, UINT64_MAX};
    Test test;

    (void)state;
    test_open(&test, 4096);
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(goals); i++) {
        MapfsRun run = allocate(&test, goals[i], 8);

        assert_in_range(run.start.n, FIRST_USABLE, 4096 - 8);
        assert_int_equal(run.n_blocks, 8);
    }
    test_close(&test);
}

static void test_runs_without_goal_follow_each_other(void **state) {
    MapfsRun first, second;
    Test test;

    (void)state;
    test_open(&test, 4096);
    first = allocate(&test, 0, 20);
    second = allocate(&test, 0, 20);
    assert_int_equal(second.start.n, first.start.n + 20);
    test_close(&test);
}

/* The longest run there is, when none is long enough. */
static void test_fragmented_space_gives_its_longest_run(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    (void)allocate(&test, FIRST_USABLE, 4096 - FIRST_USABLE);
    assert_int_equal(status(&test).n_free, 0);
    release(&test, 100, 3);
    release(&test, 2000, 9);
    release(&test, 3000, 5);
    assert_run(allocate(&test, 50, 12), 2000, 9);
    test_close(&test);
}

static void test_run_does_not_cross_groups(void **state) {
    Test test;

    (void)state;
    test_open(&test, 3 * MAPFS_GROUP_BLOCKS);
    assert_run(allocate(&test, MAPFS_GROUP_BLOCKS - 10, 50), MAPFS_GROUP_BLOCKS - 10, 10);
    assert_run(allocate(&test, MAPFS_GROUP_BLOCKS, 50), MAPFS_GROUP_BLOCKS, 50);
    assert_int_equal(status(&test).n_dirty_groups, 2);
    test_close(&test);
}

static void test_everything_can_be_taken_and_nothing_else(void **state) {
    const uint64_t n_blocks = MAPFS_GROUP_BLOCKS + 1000;
    g_autofree uint8_t *taken = g_malloc0(n_blocks);
    uint64_t n = 0;
    MapfsRun run;
    Test test;

    (void)state;
    test_open(&test, n_blocks);
    while (allocate_keep(&test, 777, 0, &run) == 0) {
        assert_true(run.start.n >= FIRST_USABLE && mapfs_run_fits(run, n_blocks));
        for (uint64_t i = 0; i < run.n_blocks; i++)
            assert_int_equal(taken[run.start.n + i]++, 0);
        n += run.n_blocks;
    }
    assert_int_equal(n, n_blocks - FIRST_USABLE);
    assert_int_equal(status(&test).n_free, 0);
    test_close(&test);
}

static void test_growing_files_do_not_alternate(void **state) {
    MapfsSpaceWish wish = {.apart = true, .n_blocks = 1};
    uint64_t end[2];
    unsigned n_breaks = 0;
    MapfsRun run;
    Test test;

    (void)state;
    test_open(&test, 16384);
    end[0] = allocate(&test, 1000, 1).start.n + 1;
    end[1] = allocate(&test, 1001, 1).start.n + 1;
    for (unsigned i = 0; i < 200; i++) {
        wish.goal.n = end[i % 2];
        assert_int_equal(mapfs_space_allocate(test.space, &wish, &run), 0);
        n_breaks += run.start.n != end[i % 2];
        end[i % 2] = run.start.n + run.n_blocks;
    }
    /* Only where one of them first meets the other, and where one runs into the other's stretch. */
    assert_in_range(n_breaks, 1, 3);
    test_close(&test);
}

/* --- claims and nodes --- */

static void test_claims_are_left_by_data(void **state) {
    MapfsRun run;
    Test test;
    uint64_t n = 0;

    (void)state;
    test_open(&test, 1024);
    assert_int_equal(mapfs_space_claim(test.space, 100, 0), 0);
    while (allocate_keep(&test, 64, 50, &run) == 0)
        n += run.n_blocks;
    assert_int_equal(n, 1024 - FIRST_USABLE - 150);
    /* What was claimed is really there. */
    for (unsigned i = 0; i < 100; i++)
        (void)take_node(&test);
    mapfs_space_unclaim(test.space, 100);
    assert_int_equal(status(&test).n_claimed, 0);
    assert_int_equal(status(&test).n_free, 50);
    test_close(&test);
}

static void test_claim_past_the_free_blocks_changes_nothing(void **state) {
    Test test;

    (void)state;
    test_open(&test, 1024);
    assert_int_equal(mapfs_space_claim(test.space, 1024 - FIRST_USABLE - 9, 10), -ENOSPC);
    assert_int_equal(status(&test).n_claimed, 0);
    assert_int_equal(mapfs_space_claim(test.space, 1024 - FIRST_USABLE - 10, 10), 0);
    assert_int_equal(mapfs_space_claim(test.space, 1, 10), -ENOSPC);
    assert_int_equal(mapfs_space_claim(test.space, 10, 0), 0);
    assert_int_equal(status(&test).n_claimed, 1024 - FIRST_USABLE);
    test_close(&test);
}

static void test_nodes_are_taken_first_fit(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    assert_int_equal(mapfs_space_claim(test.space, 20, 0), 0);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(take_node(&test), FIRST_USABLE + i);
    release(&test, FIRST_USABLE + 3, 1);
    release(&test, FIRST_USABLE + 7, 1);
    assert_int_equal(take_node(&test), FIRST_USABLE + 3);
    assert_int_equal(take_node(&test), FIRST_USABLE + 7);
    assert_int_equal(take_node(&test), FIRST_USABLE + 10);
    test_close(&test);
}

static void test_nodes_lie_in_reserved_chunks_alone(void **state) {
    MapfsBlock block;
    Test test;

    (void)state;
    test_open(&test, 4096);
    assert_int_equal(mapfs_space_allocate_node(test.space, MAPFS_PLACE_NODES, &block), -ENOSPC);
    (void)allocate(&test, 1024, 10); /* the host is asked for the whole chunk */
    assert_int_equal(take_node(&test), 1034);
    test_close(&test);
}

static void test_names_lie_in_a_chunk_of_their_own(void **state) {
    Test test;

    (void)state;
    test_open(&test, 8192);
    assert_int_equal(mapfs_space_claim(test.space, 4 * CHUNK, 0), 0);
    assert_int_equal(take_node(&test), FIRST_USABLE);
    /* The last of the five chunks that the claim needs: the first holds the superblocks and the log, too. */
    for (uint64_t i = 0; i < 10; i++) {
        assert_int_equal(take_node_at(&test, MAPFS_PLACE_NAMES), 4 * CHUNK + i);
        assert_int_equal(take_node(&test), FIRST_USABLE + 1 + i);
    }
    release(&test, 4 * CHUNK + 3, 1);
    assert_int_equal(take_node_at(&test, MAPFS_PLACE_NAMES), 4 * CHUNK + 3);
    /* A full one is followed by another. */
    for (uint64_t i = 10; i < CHUNK; i++)
        assert_int_equal(take_node_at(&test, MAPFS_PLACE_NAMES), 4 * CHUNK + i);
    assert_int_equal(take_node_at(&test, MAPFS_PLACE_NAMES), 3 * CHUNK);
    test_close(&test);
}

static void test_nodes_and_names_take_each_other_s_room_when_theirs_is_gone(void **state) {
    const MapfsNodePlace places[] = {MAPFS_PLACE_NODES, MAPFS_PLACE_NAMES};
    MapfsBlock block;

    (void)state;
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(places); i++) {
        Test test;

        test_open(&test, 4096);
        test.host.n_given_max = 3 * CHUNK;
        assert_int_equal(mapfs_space_claim(test.space, 3 * CHUNK - FIRST_USABLE, 0), 0);
        assert_int_equal(take_node_at(&test, MAPFS_PLACE_NAMES), 2 * CHUNK);
        for (unsigned n = 1; n < 3 * CHUNK - FIRST_USABLE; n++)
            (void)take_node_at(&test, places[i]);
        assert_int_equal(mapfs_space_allocate_node(test.space, places[i], &block), -ENOSPC);
        release(&test, 2 * CHUNK + 7, 1);
        assert_int_equal(take_node_at(&test, places[i]), 2 * CHUNK + 7);
        release(&test, CHUNK + 9, 1);
        assert_int_equal(take_node_at(&test, places[i]), CHUNK + 9);
        test_close(&test);
    }
}

/* --- giving back --- */

static void test_released_blocks_are_handed_out_again(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    (void)allocate(&test, 1000, 100);
    release(&test, 1020, 30);
    assert_run(allocate(&test, 1020, 64), 1020, 30);
    test_close(&test);
}

static void test_release_over_a_group_boundary(void **state) {
    const uint64_t n_blocks = 2 * MAPFS_GROUP_BLOCKS;
    Test test;

    (void)state;
    test_open(&test, n_blocks);
    (void)allocate(&test, MAPFS_GROUP_BLOCKS - 10, 10);
    (void)allocate(&test, MAPFS_GROUP_BLOCKS, 10);
    release(&test, MAPFS_GROUP_BLOCKS - 10, 20);
    assert_int_equal(status(&test).n_free, n_blocks - FIRST_USABLE);
    test_close(&test);
}

static void test_release_of_free_or_foreign_blocks_is_damage(void **state) {
    const MapfsRun bad[] = {{{1000}, 0}, {{1000}, 11}, {{999}, 2},           {{FIRST_USABLE - 1}, 1},
                            {{0}, 4096}, {{4096}, 1},  {{4095}, UINT64_MAX}, {{UINT64_MAX}, 1},
                            {{4090}, 7}};
    Test test;

    (void)state;
    test_open(&test, 4096);
    (void)allocate(&test, 1000, 10);
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(bad); i++)
        assert_int_equal(mapfs_space_release(test.space, bad[i]), -EUCLEAN);
    assert_int_equal(status(&test).n_free, 4096 - FIRST_USABLE - 10);
    release(&test, 1000, 10);
    assert_int_equal(mapfs_space_release(test.space, (MapfsRun){{1000}, 10}), -EUCLEAN);
    test_close(&test);
}

/* --- a full host --- */

/* Takes all that was claimed for nodes, once. */
static void take_claimed(Host *host) {
    Test *test = host->user;
    MapfsBlock block;

    host->on_reserve = NULL;
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(mapfs_space_allocate_node(test->space, MAPFS_PLACE_NODES, &block), 0);
}

static void test_data_that_waits_for_the_host_leaves_the_nodes_what_they_claimed(void **state) {
    const uint64_t lens[] = {100, 300, 1000, 3000};

    (void)state;
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(lens); i++) {
        Test test;
        MapfsRun run;

        test_open(&test, 4096);
        assert_int_equal(mapfs_space_claim(test.space, 200, 0), 0);
        test.host.user = &test;
        test.host.on_reserve = take_claimed;
        run = allocate(&test, FIRST_USABLE, lens[i]); /* where the claimed blocks lie */
        assert_true(run.n_blocks > 0);
        if (test.host.on_reserve)
            take_claimed(&test.host);
        test_close(&test);
    }
}

/* What the host gives the nodes may be where the run lies: then the nodes need more. */
static void test_data_that_lies_where_the_nodes_room_is_given_leads_to_more_room(void **state) {
    const MapfsSpaceWish wish = {.goal = {FIRST_USABLE}, .n_blocks = 10, .n_keep = CHUNK - FIRST_USABLE};
    MapfsRun run;
    Test test;

    (void)state;
    test_open(&test, 4096);
    assert_int_equal(mapfs_space_allocate(test.space, &wish, &run), 0);
    assert_run(run, FIRST_USABLE, 10);
    assert_int_equal(test.host.n_given, 2 * CHUNK);
    test_close(&test);
}

typedef struct {
    Test *test;
    int result;
} Claimer;

static void *claimer_main(void *argument) {
    Claimer *claimer = argument;

    do
        claimer->result = mapfs_space_claim(claimer->test->space, 10, 0);
    while (claimer->result == -ENOSPC && mapfs_space_wait_claims(claimer->test->space, 10));
    return NULL;
}

/* Each counts, and waits for, what others will give back, and not what others only ask for. */
static void test_claims_on_a_full_host_do_not_wait_for_each_other(void **state) {
    pthread_t threads[8];
    Claimer claimers[8];
    Test test;

    (void)state;
    test_open(&test, 4096);
    test.host.n_given_max = 0;
    test.host.reserve_us = 2000;
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(threads); i++) {
        claimers[i] = (Claimer){.test = &test};
        assert_int_equal(pthread_create(&threads[i], NULL, claimer_main, &claimers[i]), 0);
    }
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(threads); i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(claimers[i].result, -ENOSPC);
    }
    assert_in_range(test.host.n_reserves, 8, 8 * 16);
    assert_int_equal(status(&test).n_claimed, 0);
    test_close(&test);
}

/* As after a mount, when nobody knows yet what the host has given. */
static void test_claim_finds_what_a_full_host_has_given_further_on(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    memset(test.host.given + 7 * CHUNK, 1, CHUNK);
    test.host.n_given = CHUNK;
    test.host.n_given_max = CHUNK;
    assert_int_equal(mapfs_space_claim(test.space, 100, 0), 0);
    assert_in_range(take_node(&test), 7 * CHUNK, 8 * CHUNK - 1);
    test_close(&test);
}

static void test_claim_on_a_full_host_is_refused(void **state) {
    MapfsBlock block;
    Test test;

    (void)state;
    test_open(&test, 4096);
    test.host.n_given_max = CHUNK;
    /* The first chunk holds the superblocks and the log. */
    assert_int_equal(mapfs_space_claim(test.space, CHUNK, 0), -ENOSPC);
    assert_int_equal(status(&test).n_claimed, 0);
    assert_int_equal(mapfs_space_claim(test.space, CHUNK - FIRST_USABLE, 0), 0);
    for (unsigned i = 0; i < CHUNK - FIRST_USABLE; i++)
        (void)take_node(&test);
    assert_int_equal(mapfs_space_allocate_node(test.space, MAPFS_PLACE_NODES, &block), -ENOSPC);
    test_close(&test);
}

static void test_data_on_a_full_host_takes_what_the_host_has_given(void **state) {
    uint64_t n = 0;
    MapfsRun run;
    Test test;

    (void)state;
    test_open(&test, 4096);
    assert_int_equal(mapfs_space_claim(test.space, 100, 0), 0);
    test.host.n_given_max = test.host.n_given;
    while (allocate_keep(&test, 10, 20, &run) == 0)
        n += run.n_blocks;
    assert_int_equal(n, CHUNK - FIRST_USABLE - 120);
    for (unsigned i = 0; i < 100; i++)
        (void)take_node(&test);
    test_close(&test);
}

static void test_host_that_has_less_than_a_chunk_gives_what_it_has(void **state) {
    Test test;

    (void)state;
    test_open(&test, 4096);
    test.host.n_given_max = 20;
    assert_run(allocate(&test, 1030, 20), 1030, 20);
    test_close(&test);
}

static void test_failed_reservation_leaves_the_run_free(void **state) {
    MapfsRun run;
    Test test;

    (void)state;
    test_open(&test, 4096);
    test.host.error = -EIO;
    assert_int_equal(allocate_keep(&test, 10, 0, &run), -EIO);
    assert_int_equal(mapfs_space_claim(test.space, 10, 0), -EIO);
    assert_int_equal(status(&test).n_free, 4096 - FIRST_USABLE);
    assert_int_equal(status(&test).n_claimed, 0);
    test.host.error = 0;
    (void)allocate(&test, 0, 10);
    test_close(&test);
}

static void test_host_is_asked_for_chunks_not_blocks(void **state) {
    Test test;

    (void)state;
    test_open(&test, 8192);
    for (unsigned i = 0; i < 200; i++)
        (void)allocate(&test, 1024 + i, 1);
    assert_int_equal(test.host.n_reserves, 1);
    test_close(&test);
}

/* --- bitmaps of the image --- */

/* Stores the group's bitmap into a block, as a checkpoint does. */
static MapfsNodeRef store_bitmap(Test *test, uint64_t group, uint64_t address) {
    MapfsNodeRef ref = {{address}, {3}, 0};
    struct mapfs_disk_bitmap *bitmap = mapfs_image_writable(&test->host.image, (MapfsRun){{address}, 1});

    memset(bitmap, 0, sizeof(*bitmap));
    bitmap->header.magic = mapfs_le32_store(MAPFS_BITMAP_MAGIC);
    bitmap->header.address = mapfs_le64_store(address);
    bitmap->header.generation = mapfs_le64_store(3);
    bitmap->header.owner = mapfs_le64_store(group);
    mapfs_space_store_bits(test->space, group, bitmap->bits);
    mapfs_header_seal(bitmap, SEED);
    mapfs_space_set_bitmap(test->space, group, ref);
    return ref;
}

static void reopen_empty(Test *test) {
    uint64_t n_blocks = test->host.image.n_blocks;

    mapfs_space_free(test->space);
    assert_int_equal(mapfs_space_new(&test->host.image, n_blocks, FIRST_USABLE, SEED, &test->space), 0);
}

static void test_bitmap_is_loaded_when_first_needed(void **state) {
    const uint64_t n_blocks = 2 * MAPFS_GROUP_BLOCKS + 500;
    MapfsNodeRef ref;
    Test test;
    uint64_t n_free;

    (void)state;
    test_open(&test, n_blocks);
    (void)allocate(&test, MAPFS_GROUP_BLOCKS + 100, 50);
    ref = store_bitmap(&test, 1, 77);
    n_free = status(&test).n_free;
    reopen_empty(&test);
    assert_int_equal(mapfs_space_add_group(test.space, 1, ref, MAPFS_GROUP_BLOCKS - 50), 0);
    assert_int_equal(status(&test).n_free, n_free);
    assert_int_equal(status(&test).n_dirty_groups, 0);
    assert_run(allocate(&test, MAPFS_GROUP_BLOCKS + 90, 50), MAPFS_GROUP_BLOCKS + 90, 10);
    assert_run(allocate(&test, MAPFS_GROUP_BLOCKS + 100, 50), MAPFS_GROUP_BLOCKS + 150, 50);
    release(&test, MAPFS_GROUP_BLOCKS + 100, 50);
    test_close(&test);
}

static void test_bitmap_cannot_free_what_is_no_block(void **state) {
    const uint64_t n_blocks = MAPFS_GROUP_BLOCKS + 500;
    struct mapfs_disk_bitmap *bitmap;
    MapfsNodeRef ref;
    MapfsRun run;
    Test test;

    (void)state;
    test_open(&test, n_blocks);
    (void)allocate(&test, MAPFS_GROUP_BLOCKS, 1);
    ref = store_bitmap(&test, 1, 77);
    bitmap = mapfs_image_writable(&test.host.image, (MapfsRun){{77}, 1});
    memset(bitmap->bits, 0, sizeof(bitmap->bits)); /* all free, past the end of the image too */
    mapfs_header_seal(bitmap, SEED);
    reopen_empty(&test);
    assert_int_equal(mapfs_space_add_group(test.space, 1, ref, 500), 0);
    for (uint64_t n = 0; n < 500; n += run.n_blocks) {
        run = allocate(&test, MAPFS_GROUP_BLOCKS, 500);
        assert_true(mapfs_run_fits(run, n_blocks));
    }
    test_close(&test);
}

static void test_damaged_bitmap_is_damage_to_who_needs_it(void **state) {
    const uint64_t n_blocks = 2 * MAPFS_GROUP_BLOCKS;
    const MapfsSpaceWish wish = {.goal = {MAPFS_GROUP_BLOCKS + 200}, .n_blocks = 10};
    const struct {
        uint32_t n_free_off;
        bool damage_block;
        uint64_t generation;
    } cases[] = {{1, false, 3}, {0, true, 3}, {0, false, 4}};
    MapfsNodeRef ref;
    MapfsRun run;
    Test test;

    (void)state;
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(cases); i++) {
        test_open(&test, n_blocks);
        (void)allocate(&test, MAPFS_GROUP_BLOCKS + 100, 50);
        ref = store_bitmap(&test, 1, 77);
        ref.generation.n = cases[i].generation;
        if (cases[i].damage_block)
            ((uint8_t *)mapfs_image_writable(&test.host.image, (MapfsRun){{77}, 1}))[1000] ^= 1;
        reopen_empty(&test);
        assert_int_equal(mapfs_space_add_group(test.space, 1, ref, MAPFS_GROUP_BLOCKS - 50 - cases[i].n_free_off), 0);
        assert_int_equal(mapfs_space_allocate(test.space, &wish, &run), -EUCLEAN);
        assert_int_equal(mapfs_space_release(test.space, (MapfsRun){{MAPFS_GROUP_BLOCKS + 100}, 50}), -EUCLEAN);
        /* The other group still serves. */
        assert_run(allocate(&test, 500, 10), 500, 10);
        test_close(&test);
    }
}

static void test_group_summaries_that_make_no_sense_are_damage(void **state) {
    const uint64_t n_blocks = MAPFS_GROUP_BLOCKS + 500;
    const struct {
        uint64_t group, address;
        uint32_t n_free;
    } bad[] = {
        {2, 100, 10},
        {UINT64_MAX, 100, 10},
        {1, 100, 501},
        {0, 100, MAPFS_GROUP_BLOCKS - FIRST_USABLE + 1},
        {1, FIRST_USABLE - 1, 10},
        {1, 0, 10},
        {1, n_blocks, 10},
    };
    Test test;

    (void)state;
    test_open(&test, n_blocks);
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(bad); i++)
        assert_int_equal(
            mapfs_space_add_group(test.space, bad[i].group, (MapfsNodeRef){{bad[i].address}, {1}, 0}, bad[i].n_free),
            -EUCLEAN);
    assert_int_equal(status(&test).n_free, n_blocks - FIRST_USABLE);
    assert_int_equal(mapfs_space_add_group(test.space, 1, (MapfsNodeRef){{100}, {1}, 0}, 10), 0);
    assert_int_equal(mapfs_space_add_group(test.space, 1, (MapfsNodeRef){{100}, {1}, 0}, 10), -EUCLEAN);
    test_close(&test);
}

static void test_changed_groups_are_listed_until_clean(void **state) {
    MapfsSpaceGroup group;
    Test test;

    (void)state;
    test_open(&test, 3 * MAPFS_GROUP_BLOCKS);
    assert_int_equal(mapfs_space_dirty_group(test.space, 0, &group), 0);
    (void)allocate(&test, 2 * MAPFS_GROUP_BLOCKS + 5, 10);
    (void)allocate(&test, 500, 10);
    (void)allocate(&test, 2 * MAPFS_GROUP_BLOCKS + 50, 10);
    assert_int_equal(status(&test).n_dirty_groups, 2);
    assert_int_equal(mapfs_space_dirty_group(test.space, 0, &group), 1);
    assert_int_equal(group.group, 2);
    assert_int_equal(group.n_free, MAPFS_GROUP_BLOCKS - 20);
    assert_int_equal(group.bitmap.address.n, 0);
    mapfs_space_set_bitmap(test.space, 2, (MapfsNodeRef){{99}, {5}, 0});
    assert_int_equal(mapfs_space_dirty_group(test.space, 0, &group), 1);
    assert_int_equal(group.bitmap.address.n, 99);
    assert_int_equal(group.bitmap.generation.n, 5);
    assert_int_equal(mapfs_space_dirty_group(test.space, 1, &group), 1);
    assert_int_equal(group.group, 0);
    assert_int_equal(mapfs_space_dirty_group(test.space, 2, &group), 0);
    mapfs_space_clean(test.space);
    assert_int_equal(status(&test).n_dirty_groups, 0);
    assert_int_equal(mapfs_space_dirty_group(test.space, 0, &group), 0);
    release(&test, 500, 1);
    assert_int_equal(mapfs_space_dirty_group(test.space, 0, &group), 1);
    assert_int_equal(group.group, 0);
    test_close(&test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh_space_is_free_but_for_superblocks_and_log),
        cmocka_unit_test(test_run_lies_at_its_goal),
        cmocka_unit_test(test_short_stretch_at_the_goal_is_taken_first),
        cmocka_unit_test(test_taken_goal_leads_to_the_next_stretch_of_full_length),
        cmocka_unit_test(test_search_goes_around_the_image),
        cmocka_unit_test(test_goal_that_is_none_means_anywhere),
        cmocka_unit_test(test_runs_without_goal_follow_each_other),
        cmocka_unit_test(test_fragmented_space_gives_its_longest_run),
        cmocka_unit_test(test_run_does_not_cross_groups),
        cmocka_unit_test(test_everything_can_be_taken_and_nothing_else),
        cmocka_unit_test(test_growing_files_do_not_alternate),
        cmocka_unit_test(test_claims_are_left_by_data),
        cmocka_unit_test(test_claim_past_the_free_blocks_changes_nothing),
        cmocka_unit_test(test_nodes_are_taken_first_fit),
        cmocka_unit_test(test_nodes_lie_in_reserved_chunks_alone),
        cmocka_unit_test(test_names_lie_in_a_chunk_of_their_own),
        cmocka_unit_test(test_nodes_and_names_take_each_other_s_room_when_theirs_is_gone),
        cmocka_unit_test(test_released_blocks_are_handed_out_again),
        cmocka_unit_test(test_release_over_a_group_boundary),
        cmocka_unit_test(test_release_of_free_or_foreign_blocks_is_damage),
        cmocka_unit_test(test_data_that_waits_for_the_host_leaves_the_nodes_what_they_claimed),
        cmocka_unit_test(test_data_that_lies_where_the_nodes_room_is_given_leads_to_more_room),
        cmocka_unit_test(test_claims_on_a_full_host_do_not_wait_for_each_other),
        cmocka_unit_test(test_claim_finds_what_a_full_host_has_given_further_on),
        cmocka_unit_test(test_claim_on_a_full_host_is_refused),
        cmocka_unit_test(test_data_on_a_full_host_takes_what_the_host_has_given),
        cmocka_unit_test(test_host_that_has_less_than_a_chunk_gives_what_it_has),
        cmocka_unit_test(test_failed_reservation_leaves_the_run_free),
        cmocka_unit_test(test_host_is_asked_for_chunks_not_blocks),
        cmocka_unit_test(test_bitmap_is_loaded_when_first_needed),
        cmocka_unit_test(test_bitmap_cannot_free_what_is_no_block),
        cmocka_unit_test(test_damaged_bitmap_is_damage_to_who_needs_it),
        cmocka_unit_test(test_group_summaries_that_make_no_sense_are_damage),
        cmocka_unit_test(test_changed_groups_are_listed_until_clean),
    };

    return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}
