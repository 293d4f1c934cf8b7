/* SPDX-License-Identifier: MIT */

/* Transactions and space: claims and the reserve, when freed blocks come back, which blocks may be stored into, and what a cut
 * does with the groups that changed. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <glib.h>

#include "store-fixture.h"

static int sync_change(MapfsStore *store, uint64_t ino) {
    int r = store_add(store, ino);

    return r < 0 ? r : mapfs_store_sync(store);
}

/* True when the block can be handed out; it is taken and cancelled to find out. */
static bool is_free(MapfsStore *store, uint64_t block) {
    MapfsTxn txn;
    MapfsRun run;

    assert_int_equal(mapfs_txn_begin(store, MAPFS_TXN_GROWS, 1, &txn), 0);
    assert_int_equal(mapfs_txn_allocate(&txn, (MapfsGoal){.block = {block}}, 1, &run), 0);
    mapfs_txn_cancel(&txn, run);
    mapfs_txn_end(&txn);
    return run.start.n == block;
}

/* --- claims --- */

static void test_end_gives_the_claim_back(void **state) {
    StoreFixture *fixture = *state;
    MapfsTxn txn;

    /* Far more than the image has, were they kept. */
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 20, &txn), 0);
        if (i % 2)
            mapfs_txn_lock(&txn);
        mapfs_txn_end(&txn);
    }
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 100000, &txn), -ENOSPC);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    mapfs_txn_end(&txn);
}

/* Takes all that changes that grow may take. */
static void fill(MapfsStore *store) {
    MapfsTxn txn;
    MapfsRun run;

    assert_int_equal(mapfs_txn_begin(store, MAPFS_TXN_GROWS, 1, &txn), 0);
    while (mapfs_txn_allocate(&txn, (MapfsGoal){.block = {0}}, 64, &run) == 0)
        ;
    mapfs_txn_lock(&txn);
    (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
}

static void test_reserve_is_for_changes_that_free(void **state) {
    StoreFixture *fixture = *state;
    MapfsTxn txn;
    MapfsRun run;

    fill(fixture->store);
    assert_in_range(store_status(fixture->store).n_free, store_status(fixture->store).n_reserve,
                    store_status(fixture->store).n_reserve + 60);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 10, &txn), -ENOSPC);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_FREES, 10, &txn), 0);
    assert_int_equal(mapfs_txn_allocate(&txn, (MapfsGoal){.block = {0}}, 1, &run), 0);
    mapfs_txn_cancel(&txn, run);
    mapfs_txn_end(&txn);
}

static void test_full_image_still_syncs(void **state) {
    StoreFixture *fixture = *state;

    fill(fixture->store);
    for (unsigned i = 0; i < 10; i++) {
        MapfsTxn txn;

        assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_FREES, 1, &txn), 0);
        mapfs_txn_lock(&txn);
        (void)mapfs_txn_next_lsn(&txn);
        mapfs_txn_end(&txn);
        assert_int_equal(mapfs_store_sync(fixture->store), 0);
    }
    store_fixture_remount(fixture, false);
}

static void test_make_room_brings_pending_blocks_back(void **state) {
    StoreFixture *fixture = *state;
    MapfsRun run = store_take(fixture->store, 0, 200);
    MapfsTxn txn;

    fill(fixture->store);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    store_give(fixture->store, run);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 10, &txn), -ENOSPC);
    assert_int_equal(mapfs_store_make_room(fixture->store), 1);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 10, &txn), 0);
    mapfs_txn_end(&txn);
}

/* Retries end: what found nothing finds nothing again, without another checkpoint. */
static void test_make_room_without_pending_blocks_says_so(void **state) {
    StoreFixture *fixture = *state;
    uint64_t n_checkpoints;
    unsigned n = 0;

    fill(fixture->store);
    while (mapfs_store_make_room(fixture->store) > 0)
        assert_in_range(++n, 1, 4);
    n_checkpoints = store_status(fixture->store).n_checkpoints;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(mapfs_store_make_room(fixture->store), 0);
    assert_int_equal(store_status(fixture->store).n_checkpoints, n_checkpoints);
}

/* --- pending frees --- */

/* A change gives old nodes up whatever its kind, and its checkpoint may have been made long ago. */
static void test_make_room_finds_what_a_change_gave_up_before_the_last_checkpoint(void **state) {
    StoreFixture *fixture = *state;
    uint64_t settled;

    assert_int_equal(sync_change(fixture->store, 100), 0);
    while (mapfs_store_make_room(fixture->store) > 0)
        ;
    settled = store_status(fixture->store).n_pending;
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(store_add(fixture->store, 101 + i), 0);
        assert_int_equal(mapfs_store_sync(fixture->store), 0);
        assert_true(store_status(fixture->store).n_pending > settled);
        assert_true(mapfs_store_make_room(fixture->store) >= 0);
        assert_int_equal(store_status(fixture->store).n_pending, settled);
    }
}

static void *unclaim_later(void *user) {
    (void)usleep(20000);
    mapfs_txn_end(user);
    return NULL;
}

/* A claim is the most that a change could need: nobody is refused for one that is about to be given back. */
static void test_begin_waits_for_claims_that_others_give_back(void **state) {
    StoreFixture *fixture = *state;
    MapfsTxn first, second;
    pthread_t thread;
    unsigned n = 1;

    while (mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, n, &first) == 0) {
        mapfs_txn_end(&first);
        n++;
    }
    assert_true(n > 2);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, n - 1, &first), 0);
    assert_int_equal(pthread_create(&thread, NULL, unclaim_later, &first), 0);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, n - 1, &second), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    mapfs_txn_end(&second);
}

static void test_freed_blocks_come_back_when_the_next_generation_is_durable(void **state) {
    StoreFixture *fixture = *state;
    MapfsRun run = store_take(fixture->store, 1000, 50);
    uint64_t n_pending;

    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    assert_int_equal(sync_change(fixture->store, 10), 0);
    n_pending = store_status(fixture->store).n_pending;
    store_give(fixture->store, run);
    assert_int_equal(store_status(fixture->store).n_pending, n_pending + 50);
    assert_false(is_free(fixture->store, run.start.n));
    /* Durable is now the generation that freed them: the slot before it still refers to them. */
    assert_int_equal(sync_change(fixture->store, 11), 0);
    assert_false(is_free(fixture->store, run.start.n));
    assert_int_equal(sync_change(fixture->store, 12), 0);
    assert_true(is_free(fixture->store, run.start.n));
}

static void test_reader_holds_what_was_freed_since(void **state) {
    StoreFixture *fixture = *state;
    MapfsRun run = store_take(fixture->store, 1000, 50);
    unsigned reader;

    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    reader = mapfs_store_reader_enter(fixture->store);
    store_give(fixture->store, run);
    for (uint64_t ino = 10; ino < 16; ino++) {
        assert_int_equal(sync_change(fixture->store, ino), 0);
        assert_false(is_free(fixture->store, run.start.n));
    }
    mapfs_store_reader_leave(fixture->store, reader);
    assert_int_equal(sync_change(fixture->store, 16), 0);
    assert_true(is_free(fixture->store, run.start.n));
}

static void test_reader_holds_nothing_that_was_freed_before(void **state) {
    StoreFixture *fixture = *state;
    MapfsRun run = store_take(fixture->store, 1000, 50);
    unsigned reader;

    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    store_give(fixture->store, run);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    reader = mapfs_store_reader_enter(fixture->store);
    assert_int_equal(sync_change(fixture->store, 10), 0);
    assert_true(is_free(fixture->store, run.start.n));
    mapfs_store_reader_leave(fixture->store, reader);
}

static void test_pending_blocks_survive_a_crash(void **state) {
    StoreFixture *fixture = *state;
    MapfsRun run = store_take(fixture->store, 1000, 50);

    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    store_give(fixture->store, run);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    store_fixture_remount(fixture, true);
    assert_in_range(store_status(fixture->store).n_pending, 50, 80);
    assert_false(is_free(fixture->store, run.start.n));
    assert_int_equal(sync_change(fixture->store, 10), 0);
    assert_true(is_free(fixture->store, run.start.n));
    /* Given back in memory alone: the crash takes that back too. */
    store_fixture_remount(fixture, true);
    assert_false(is_free(fixture->store, run.start.n));
}

static void test_changes_do_not_use_space_up(void **state) {
    StoreFixture *fixture = *state;
    uint64_t n_free = store_status(fixture->store).n_free + store_status(fixture->store).n_pending;

    for (unsigned i = 0; i < 300; i++) {
        MapfsRun run = store_take(fixture->store, 0, 100);

        assert_int_equal(store_add(fixture->store, 10), 0);
        if (i % 3 == 0)
            assert_int_equal(mapfs_store_sync(fixture->store), 0);
        store_give(fixture->store, run);
        assert_int_equal(store_remove(fixture->store, 10), 0);
        assert_int_equal(mapfs_store_sync(fixture->store), 0);
    }
    /* Nodes and bitmap in use now, and no more. */
    assert_in_range(store_status(fixture->store).n_free + store_status(fixture->store).n_pending, n_free - 3, n_free);
}

/* A pending item that frees blocks which are free already: fail, rather than hand them out twice. */
static void test_pending_item_of_free_blocks_stops_the_store(void **state) {
    StoreFixture *fixture = *state;
    struct mapfs_disk_pending_run value = {.block = mapfs_le64_store(1500), .n_blocks = mapfs_le32_store(8)};
    MapfsKey key = {.object = MAPFS_OBJECT_PENDING + 1, .kind = MAPFS_KIND_PENDING, .offset = 1500};
    MapfsTxn txn;

    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_FREES, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_tree_insert(mapfs_store_tree(fixture->store), key, &value, sizeof(value)), 0);
    (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
    assert_true(mapfs_store_sync(fixture->store) < 0);
    assert_int_equal(store_add(fixture->store, 10), -EIO);
    assert_int_equal(mapfs_store_sync(fixture->store), -EIO);
    mapfs_store_abandon(g_steal_pointer(&fixture->store));
}

/* Counters that a damaged image has made impossible: the slot that is overwritten must stay one that mounts. */
static void test_impossible_counters_are_not_published(void **state) {
    StoreFixture *fixture = *state;
    struct mapfs_disk_superblock superblock;
    uint64_t durable = store_status(fixture->store).durable.n;
    MapfsTxn txn;

    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_FREES, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    mapfs_txn_count_inodes(&txn, -1);
    (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
    assert_true(mapfs_store_sync(fixture->store) < 0);
    assert_int_equal(mapfs_store_sync(fixture->store), -EIO);
    mapfs_store_abandon(g_steal_pointer(&fixture->store));
    assert_int_equal(mapfs_superblock_load(fixture->image, &superblock), 0);
    assert_int_equal(mapfs_le64_load(superblock.generation), durable);
}

/* --- sealing --- */

static void test_blocks_of_a_closed_epoch_are_sealed(void **state) {
    StoreFixture *fixture = *state;
    MapfsEpoch birth;
    MapfsTxn txn;

    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    birth = txn.epoch;
    assert_true(mapfs_txn_unsealed(&txn, birth));
    mapfs_txn_end(&txn);
    assert_int_equal(store_add(fixture->store, 10), 0);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    assert_true(mapfs_txn_unsealed(&txn, birth));
    mapfs_txn_end(&txn);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    assert_false(mapfs_txn_unsealed(&txn, birth));
    assert_true(txn.epoch.n > birth.n);
    mapfs_txn_end(&txn);
    store_fixture_remount(fixture, true);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    assert_false(mapfs_txn_unsealed(&txn, birth));
    mapfs_txn_end(&txn);
}

static void test_memory_outside_the_image_is_not_handed_out(void **state) {
    StoreFixture *fixture = *state;
    const MapfsRun bad[] = {{{0}, 1},   {{2}, 1},          {{STORE_FIXTURE_BLOCKS}, 1}, {{STORE_FIXTURE_BLOCKS - 1}, 2},
                            {{100}, 0}, {{UINT64_MAX}, 1}, {{1000}, UINT64_MAX}};
    MapfsTxn txn;

    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(bad); i++)
        assert_null(mapfs_txn_data(&txn, bad[i]));
    mapfs_txn_end(&txn);
}

/* What a damaged extent or bitmap may ask for: nobody would check the node again. */
static void test_node_in_use_is_not_handed_out_as_data(void **state) {
    StoreFixture *fixture = *state;
    unsigned n_free = 0;
    MapfsBlock root;
    MapfsTxn txn;

    assert_true(store_has(fixture->store, 1));
    root = mapfs_store_tree(fixture->store)->root.address;
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    assert_null(mapfs_txn_data(&txn, (MapfsRun){root, 1}));
    assert_null(mapfs_txn_data(&txn, (MapfsRun){{root.n - 1}, 3}));
    mapfs_txn_end(&txn);
    for (uint64_t ino = 10; ino < 400; ino++)
        assert_int_equal(store_add(fixture->store, ino), 0);
    for (uint64_t ino = 10; ino < 400; ino++)
        assert_int_equal(store_remove(fixture->store, ino), 0);
    for (uint64_t ino = 10; ino < 14; ino++)
        assert_int_equal(sync_change(fixture->store, ino), 0);
    /* Nodes that were freed and given back are blocks like others. */
    for (uint64_t block = 34; block < 120; block++) {
        bool expected = is_free(fixture->store, block);

        assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
        if (expected)
            assert_non_null(mapfs_txn_data(&txn, (MapfsRun){{block}, 1}));
        n_free += expected;
        mapfs_txn_end(&txn);
    }
    assert_in_range(n_free, 10, 85);
}

/* Cutting nodes of the durable state is all that a change may do to it: its bytes stay. */
static void test_no_byte_of_the_durable_state_changes(void **state) {
    StoreFixture *fixture = *state;
    size_t len = (size_t)STORE_FIXTURE_BLOCKS * MAPFS_BLOCK_SIZE;
    g_autofree uint8_t *before = NULL;
    MapfsImage *copy;
    MapfsStore *store;

    for (uint64_t ino = 10; ino < 300; ino++)
        assert_int_equal(store_add(fixture->store, ino), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    for (uint64_t ino = 10; ino < 200; ino++)
        assert_int_equal(store_remove(fixture->store, ino), 0);
    (void)store_take(fixture->store, 0, 300);
    /* As after a crash that wrote everything that was stored so far. */
    before = aligned_alloc(MAPFS_BLOCK_SIZE, len);
    memcpy(before, fixture->image->base, len);
    assert_int_equal(mapfs_image_open_buffer(before, STORE_FIXTURE_BLOCKS, &copy), 0);
    assert_int_equal(mapfs_store_open(copy, &(MapfsStoreOptions){0}, &store), 0);
    for (uint64_t ino = 10; ino < 300; ino++)
        assert_true(store_has(store, ino));
    mapfs_store_abandon(store);
    mapfs_image_close(copy);
}

/* --- many groups --- */

#define N_GROUPS 400u

/* What an earlier mount freed all over a large image comes back in one go and dirties more groups than the blocks that this
 * mount has reserved so far: the cut must still find room for their bitmaps. */
static void test_cut_finds_room_for_the_bitmaps_of_many_groups(void **state) {
    const MapfsStoreOptions none = {0};
    MapfsImage *image;
    MapfsStore *store;
    MapfsRun runs[N_GROUPS];
    MapfsTxn txn;

    (void)state;
    /* Sparse memory: only what is stored takes room. */
    assert_int_equal(mapfs_image_open_anonymous((uint64_t)N_GROUPS * MAPFS_GROUP_BLOCKS, &image), 0);
    assert_int_equal(store_format(image, 0), 0);
    assert_int_equal(mapfs_store_open(image, &none, &store), 0);
    for (unsigned i = 0; i < N_GROUPS; i++)
        runs[i] = store_take(store, (uint64_t)i * MAPFS_GROUP_BLOCKS + 20000, 1);
    assert_int_equal(mapfs_store_sync(store), 0);
    for (unsigned i = 0; i < N_GROUPS; i++)
        store_give(store, runs[i]);
    assert_int_equal(mapfs_store_sync(store), 0);
    mapfs_store_abandon(store);
    assert_int_equal(mapfs_store_open(image, &none, &store), 0);
    /* A change that frees reserves least, and after it nobody looks any more what the cut will take. */
    assert_int_equal(mapfs_txn_begin(store, MAPFS_TXN_FREES, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
    assert_int_equal(mapfs_store_sync(store), 0);
    assert_int_equal(mapfs_store_close(store), 0);
    mapfs_image_close(image);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_end_gives_the_claim_back),
        TEST(test_reserve_is_for_changes_that_free),
        TEST(test_full_image_still_syncs),
        TEST(test_make_room_brings_pending_blocks_back),
        TEST(test_make_room_without_pending_blocks_says_so),
        TEST(test_make_room_finds_what_a_change_gave_up_before_the_last_checkpoint),
        TEST(test_begin_waits_for_claims_that_others_give_back),
        TEST(test_freed_blocks_come_back_when_the_next_generation_is_durable),
        TEST(test_reader_holds_what_was_freed_since),
        TEST(test_reader_holds_nothing_that_was_freed_before),
        TEST(test_pending_blocks_survive_a_crash),
        TEST(test_changes_do_not_use_space_up),
        TEST(test_pending_item_of_free_blocks_stops_the_store),
        TEST(test_impossible_counters_are_not_published),
        TEST(test_blocks_of_a_closed_epoch_are_sealed),
        TEST(test_memory_outside_the_image_is_not_handed_out),
        TEST(test_node_in_use_is_not_handed_out_as_data),
        TEST(test_no_byte_of_the_durable_state_changes),
        cmocka_unit_test(test_cut_finds_room_for_the_bitmaps_of_many_groups),
    };

    return cmocka_run_group_tests_name("txn-space", tests, NULL, NULL);
}
