/* SPDX-License-Identifier: MIT */

/* Syncs and checkpoints: what they cost, what they wait for, what threads share, and what is left when one fails. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <glib.h>

#include "store-fixture.h"

/* --- errors --- */

static void *sync_run(void *argument) {
    StoreFixture *fixture = argument;

    return GINT_TO_POINTER(mapfs_store_sync(fixture->store));
}

static void superblocks_copy(const StoreFixture *fixture, uint8_t *ret_bytes) {
    memcpy(ret_bytes, mapfs_image_read(fixture->image, (MapfsRun){{0}, 2}), 2 * MAPFS_BLOCK_SIZE);
}

/* What a transaction leaves half done, or a page that was lost under it, must not get a superblock: the kernel would write it some time, whatever
 * the sync said. */
static void test_error_while_a_sync_waits_for_transactions_keeps_both_superblocks(void **state) {
    StoreFixture *fixture = *state;
    g_autofree uint8_t *before = g_malloc(2 * MAPFS_BLOCK_SIZE), *after = g_malloc(2 * MAPFS_BLOCK_SIZE);
    pthread_t thread;
    MapfsTxn txn;
    void *result;

    assert_int_equal(store_add(fixture->store, 10), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    superblocks_copy(fixture, before);
    assert_int_equal(store_add(fixture->store, 11), 0);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    assert_int_equal(pthread_create(&thread, NULL, sync_run, fixture), 0);
    g_usleep(100000); /* until it waits for the transaction; earlier, it would meet the error at its beginning */
    mapfs_image_fail(fixture->image, -EIO);
    mapfs_txn_lock(&txn);
    mapfs_txn_end(&txn);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal(GPOINTER_TO_INT(result), -EIO);
    superblocks_copy(fixture, after);
    assert_memory_equal(before, after, 2 * MAPFS_BLOCK_SIZE);
    mapfs_store_abandon(fixture->store);
    mapfs_image_close(fixture->image);
    store_fixture_open(fixture, STORE_FIXTURE_BLOCKS, NULL);
}

/* --- cost --- */

static void test_sync_with_nothing_changed_costs_no_checkpoint(void **state) {
    StoreFixture *fixture = *state;
    unsigned n_syncs;
    uint64_t n;

    assert_int_equal(store_add(fixture->store, 10), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    n = store_status(fixture->store).n_checkpoints;
    n_syncs = fixture->n_syncs;
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(mapfs_store_sync(fixture->store), 0);
    assert_int_equal(store_status(fixture->store).n_checkpoints, n);
    assert_int_equal(fixture->n_syncs, n_syncs);
}

static void test_small_checkpoint_is_one_host_sync(void **state) {
    StoreFixture *fixture = *state;

    for (uint64_t ino = 10; ino < 15; ino++) {
        assert_int_equal(store_add(fixture->store, ino), 0);
        fixture->n_syncs = 0;
        assert_int_equal(mapfs_store_sync(fixture->store), 0);
        assert_int_equal(fixture->n_syncs, 1);
    }
}

/* Stores n_blocks of data that no file has afterwards. */
static void store_blocks(MapfsStore *store, uint64_t n_blocks) {
    MapfsTxn txn;

    assert_int_equal(mapfs_txn_begin(store, MAPFS_TXN_GROWS, 1, &txn), 0);
    while (n_blocks > 0) {
        MapfsRun run;

        assert_int_equal(mapfs_txn_allocate(&txn, (MapfsGoal){.apart = false}, n_blocks, &run), 0);
        assert_non_null(mapfs_txn_data(&txn, run));
        mapfs_txn_lock(&txn);
        mapfs_txn_free(&txn, run);
        (void)mapfs_txn_next_lsn(&txn);
        mapfs_txn_end(&txn);
        n_blocks -= run.n_blocks;
        if (n_blocks > 0)
            assert_int_equal(mapfs_txn_begin(store, MAPFS_TXN_GROWS, 1, &txn), 0);
    }
}

static void test_large_checkpoint_publishes_after_its_data(void **state) {
    StoreFixture fixture;

    (void)state;
    store_fixture_open(&fixture, STORE_FIXTURE_BLOCKS, NULL);
    store_blocks(fixture.store, 600);
    fixture.n_syncs = 0;
    assert_int_equal(mapfs_store_sync(fixture.store), 0);
    assert_int_equal(fixture.n_syncs, 2);
    mapfs_store_abandon(g_steal_pointer(&fixture.store));
    mapfs_image_close(fixture.image);
}

static void test_synced_data_needs_no_luck(void **state) {
    StoreFixture *fixture = *state;
    size_t len = (size_t)STORE_FIXTURE_BLOCKS * MAPFS_BLOCK_SIZE;
    g_autofree uint8_t *disk = g_malloc(len);
    MapfsRun run;
    MapfsTxn txn;

    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    assert_int_equal(mapfs_txn_allocate(&txn, (MapfsGoal){.block = {0}}, 20, &run), 0);
    memset(mapfs_txn_data(&txn, run), 'd', run.n_blocks * MAPFS_BLOCK_SIZE);
    mapfs_txn_lock(&txn);
    (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    mapfs_recording_build(fixture->recording, MAPFS_CRASH_ALL_OLD, 1, disk);
    for (size_t i = 0; i < run.n_blocks * MAPFS_BLOCK_SIZE; i++)
        assert_int_equal(disk[run.start.n * MAPFS_BLOCK_SIZE + i], 'd');
}

/* --- what a sync waits for --- */

typedef struct {
    MapfsStore *store;
    uint64_t ino;     /* added first, 0 for none */
    bool added, done; /* atomic */
    int result;
} Syncer;

static void *syncer_main(void *user) {
    Syncer *syncer = user;
    int r = syncer->ino > 0 ? store_add(syncer->store, syncer->ino) : 0;

    __atomic_store_n(&syncer->added, true, __ATOMIC_SEQ_CST);
    syncer->result = r < 0 ? r : mapfs_store_sync(syncer->store);
    __atomic_store_n(&syncer->done, true, __ATOMIC_SEQ_CST);
    return NULL;
}

static void test_sync_waits_for_begun_transactions(void **state) {
    StoreFixture *fixture = *state;
    Syncer syncer = {.store = fixture->store, .ino = 10};
    pthread_t thread;
    MapfsTxn txn;

    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    assert_int_equal(pthread_create(&thread, NULL, syncer_main, &syncer), 0);
    usleep(50000);
    assert_false(__atomic_load_n(&syncer.done, __ATOMIC_SEQ_CST));
    mapfs_txn_lock(&txn);
    (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(syncer.result, 0);
    store_fixture_remount(fixture, true);
    assert_true(store_has(fixture->store, 10));
}

/* A host whose syncs wait until they are let go. */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool held, waiting;
    unsigned n_syncs;
} Holder;

static int hold_sync(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    Holder *holder = user;

    (void)channel;
    (void)runs;
    (void)n_runs;
    pthread_mutex_lock(&holder->mutex);
    holder->n_syncs++;
    holder->waiting = true;
    pthread_cond_broadcast(&holder->cond);
    while (holder->held)
        pthread_cond_wait(&holder->cond, &holder->mutex);
    pthread_mutex_unlock(&holder->mutex);
    return 0;
}

static void holder_init(Holder *holder, StoreFixture *fixture) {
    *holder = (Holder){.held = true};
    pthread_mutex_init(&holder->mutex, NULL);
    pthread_cond_init(&holder->cond, NULL);
    mapfs_recording_set_hooks(fixture->recording, &(MapfsRecordingHooks){.sync_begin = hold_sync, .user = holder});
}

static void holder_wait(Holder *holder) {
    pthread_mutex_lock(&holder->mutex);
    while (!holder->waiting)
        pthread_cond_wait(&holder->cond, &holder->mutex);
    pthread_mutex_unlock(&holder->mutex);
}

static void holder_let_go(Holder *holder) {
    pthread_mutex_lock(&holder->mutex);
    holder->held = false;
    pthread_cond_broadcast(&holder->cond);
    pthread_mutex_unlock(&holder->mutex);
}

#define N_SYNCERS 8u

static void test_syncs_that_arrive_together_share_a_checkpoint(void **state) {
    StoreFixture *fixture = *state;
    Syncer syncers[N_SYNCERS];
    pthread_t threads[N_SYNCERS];
    uint64_t n = store_status(fixture->store).n_checkpoints;
    static Holder holder; /* the last checkpoint of the teardown comes through it too */

    holder_init(&holder, fixture);
    for (unsigned i = 0; i < N_SYNCERS; i++) {
        syncers[i] = (Syncer){.store = fixture->store, .ino = 10 + i};
        assert_int_equal(pthread_create(&threads[i], NULL, syncer_main, &syncers[i]), 0);
        if (i == 0)
            holder_wait(&holder); /* the first is in the middle of its checkpoint when the others come */
    }
    for (unsigned i = 0; i < N_SYNCERS; i++)
        while (!__atomic_load_n(&syncers[i].added, __ATOMIC_SEQ_CST))
            usleep(1000);
    usleep(100000);
    holder_let_go(&holder);
    for (unsigned i = 0; i < N_SYNCERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(syncers[i].result, 0);
    }
    mapfs_recording_set_hooks(fixture->recording, NULL);
    /* One for the first, one for the others; more for threads that were slow to come, but not one for each. */
    assert_in_range(store_status(fixture->store).n_checkpoints, n + 2, n + N_SYNCERS - 1);
    store_fixture_remount(fixture, true);
    for (unsigned i = 0; i < N_SYNCERS; i++)
        assert_true(store_has(fixture->store, 10 + i));
}

static void test_changes_go_on_while_a_checkpoint_is_written(void **state) {
    StoreFixture *fixture = *state;
    Syncer syncer = {.store = fixture->store, .ino = 10};
    pthread_t thread;
    static Holder holder; /* the last checkpoint of the teardown comes through it too */

    holder_init(&holder, fixture);
    assert_int_equal(pthread_create(&thread, NULL, syncer_main, &syncer), 0);
    holder_wait(&holder);
    for (uint64_t ino = 20; ino < 200; ino++)
        assert_int_equal(store_add(fixture->store, ino), 0);
    assert_true(store_has(fixture->store, 10));
    assert_false(__atomic_load_n(&syncer.done, __ATOMIC_SEQ_CST));
    holder_let_go(&holder);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(syncer.result, 0);
    mapfs_recording_set_hooks(fixture->recording, NULL);
    /* They belong to the next generation. */
    store_fixture_remount(fixture, true);
    assert_true(store_has(fixture->store, 10));
    assert_false(store_has(fixture->store, 20));
}

/* --- early checkpoints --- */

static void test_epoch_that_dirties_much_is_closed_early(void **state) {
    StoreFixture *fixture = *state;
    uint64_t n = store_status(fixture->store).n_checkpoints, n_dirty_max = 0;

    for (uint64_t ino = 10; ino < 4000; ino++) {
        assert_int_equal(store_add(fixture->store, ino), 0);
        n_dirty_max = MAPFS_MAX(n_dirty_max, store_status(fixture->store).n_dirty);
    }
    assert_true(store_status(fixture->store).n_checkpoints > n);
    assert_in_range(n_dirty_max, 8, STORE_FIXTURE_BLOCKS / 8);
}

static bool wait_for_checkpoint(MapfsStore *store, uint64_t durable) {
    for (unsigned i = 0; i < 500; i++) {
        if (store_status(store).durable.n > durable)
            return true;
        usleep(10000);
    }
    return false;
}

static void test_interval_ends_in_a_checkpoint(void **state) {
    const MapfsStoreOptions options = {.threads = true, .commit_seconds = 1};
    StoreFixture fixture;

    (void)state;
    store_fixture_open(&fixture, STORE_FIXTURE_BLOCKS, &options);
    assert_int_equal(store_add(fixture.store, 10), 0);
    assert_true(wait_for_checkpoint(fixture.store, 1));
    store_fixture_remount(&fixture, true);
    assert_true(store_has(fixture.store, 10));
    store_fixture_close(&fixture);
}

static void test_large_epoch_is_closed_by_the_thread(void **state) {
    const MapfsStoreOptions options = {.threads = true, .commit_seconds = 3600};
    StoreFixture fixture;

    (void)state;
    store_fixture_open(&fixture, STORE_FIXTURE_BLOCKS, &options);
    for (uint64_t ino = 10; ino < 4000; ino++)
        assert_int_equal(store_add(fixture.store, ino), 0);
    assert_true(wait_for_checkpoint(fixture.store, 1));
    store_fixture_close(&fixture);
}

static void test_threads_give_freed_blocks_back(void **state) {
    const MapfsStoreOptions options = {.threads = true, .commit_seconds = 1};
    StoreFixture fixture;
    unsigned n = 0;

    (void)state;
    store_fixture_open(&fixture, STORE_FIXTURE_BLOCKS, &options);
    store_give(fixture.store, store_take(fixture.store, 0, 1000));
    /* No further change: the settling checkpoints alone bring them. */
    while (store_status(fixture.store).n_pending >= 256) {
        assert_in_range(++n, 1, 1000);
        usleep(10000);
    }
    store_fixture_close(&fixture);
}

/* --- failures --- */

/* Every disk that the failed syncs could leave mounts, with the state before or the one that was being written. */
static void assert_disks_mount(StoreFixture *fixture, bool may_be_new) {
    size_t len = (size_t)STORE_FIXTURE_BLOCKS * MAPFS_BLOCK_SIZE;
    uint8_t *disk = aligned_alloc(MAPFS_BLOCK_SIZE, len);

    for (unsigned seed = 0; seed < 200; seed++) {
        MapfsImage *image;
        MapfsStore *store;

        mapfs_recording_build(fixture->recording, (MapfsCrashStrategy)(seed % MAPFS_CRASH_N_STRATEGIES), seed, disk);
        assert_int_equal(mapfs_image_open_buffer(disk, STORE_FIXTURE_BLOCKS, &image), 0);
        assert_int_equal(mapfs_store_open(image, &(MapfsStoreOptions){0}, &store), 0);
        assert_true(store_has(store, 10));
        if (!may_be_new)
            assert_false(store_has(store, 11));
        assert_false(store_has(store, 12));
        assert_int_equal(store_add(store, 13), 0);
        assert_int_equal(mapfs_store_close(store), 0);
        mapfs_image_close(image);
    }
    free(disk);
}

static void test_failed_sync_is_final(void **state) {
    StoreFixture *fixture = *state;

    for (unsigned n = 1; n <= 2; n++) { /* of the data, of the superblock */
        StoreFixture broken;
        MapfsTxn txn;

        store_fixture_open(&broken, STORE_FIXTURE_BLOCKS, NULL);
        assert_int_equal(store_add(broken.store, 10), 0);
        assert_int_equal(mapfs_store_sync(broken.store), 0);
        assert_int_equal(store_add(broken.store, 11), 0);
        store_blocks(broken.store, 600); /* too much for one flush */
        broken.fail_sync_in = n;
        assert_int_equal(mapfs_store_sync(broken.store), -EIO);
        broken.n_syncs = 0;
        assert_int_equal(mapfs_store_sync(broken.store), -EIO);
        assert_int_equal(mapfs_store_error(broken.store), -EIO);
        assert_int_equal(store_add(broken.store, 12), -EIO);
        assert_int_equal(mapfs_txn_begin(broken.store, MAPFS_TXN_FREES, 1, &txn), -EIO);
        assert_int_equal(mapfs_store_make_room(broken.store), -EIO);
        assert_int_equal(mapfs_store_close(g_steal_pointer(&broken.store)), -EIO);
        assert_int_equal(broken.n_syncs, 0);
        assert_disks_mount(&broken, n == 2);
        mapfs_image_close(broken.image);
    }
    assert_true(store_has(fixture->store, 1));
}

/* Pages whose write-out failed may be dropped by the host and read as what the disk has: only what is durable is read from there on. */
static void test_failed_sync_leaves_only_the_durable_readable(void **state) {
    StoreFixture *fixture = *state;
    MapfsTree *tree = mapfs_store_tree(fixture->store);
    MapfsKey key = {.object = 10, .kind = MAPFS_KIND_INODE};
    struct mapfs_disk_superblock superblock;
    MapfsEpoch durable;
    MapfsItem item;

    assert_int_equal(store_add(fixture->store, 10), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    mapfs_store_superblock(fixture->store, &superblock);
    durable.n = mapfs_le64_load(superblock.epoch);
    assert_false(mapfs_store_is_lost(fixture->store, (MapfsEpoch){durable.n + 1}));

    mapfs_image_lose_writes(fixture->image, -EIO);
    assert_false(mapfs_store_is_lost(fixture->store, durable));
    assert_true(mapfs_store_is_lost(fixture->store, (MapfsEpoch){durable.n + 1}));
    assert_int_equal(mapfs_tree_lookup(tree, key, &item), 1);
    mapfs_store_abandon(g_steal_pointer(&fixture->store));
}

static void test_failed_sync_keeps_what_it_did_not_write_from_readers(void **state) {
    StoreFixture *fixture = *state;
    MapfsTree *tree = mapfs_store_tree(fixture->store);
    MapfsKey key = {.object = 10, .kind = MAPFS_KIND_INODE};
    MapfsItem item;

    assert_int_equal(store_add(fixture->store, 10), 0);
    assert_int_equal(mapfs_tree_lookup(tree, key, &item), 1);
    fixture->fail_sync_in = 1;
    assert_int_equal(mapfs_store_sync(fixture->store), -EIO);
    assert_int_equal(mapfs_tree_lookup(tree, key, &item), -EIO);
    mapfs_store_abandon(g_steal_pointer(&fixture->store));
}

static void test_failed_sync_fails_those_who_share_it(void **state) {
    StoreFixture *fixture = *state;
    Syncer syncers[N_SYNCERS];
    pthread_t threads[N_SYNCERS];

    fixture->fail_sync_in = 1;
    for (unsigned i = 0; i < N_SYNCERS; i++) {
        syncers[i] = (Syncer){.store = fixture->store, .ino = 10 + i};
        assert_int_equal(pthread_create(&threads[i], NULL, syncer_main, &syncers[i]), 0);
    }
    for (unsigned i = 0; i < N_SYNCERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(syncers[i].result, -EIO);
    }
    mapfs_store_abandon(g_steal_pointer(&fixture->store));
}

/* A damaged node that a change needs is an error of that change; the store goes on. */
static void test_damaged_node_fails_the_change_that_needs_it(void **state) {
    StoreFixture *fixture = *state;
    struct mapfs_disk_superblock superblock;
    uint8_t *root;

    assert_int_equal(store_add(fixture->store, 10), 0);
    store_fixture_remount(fixture, false);
    mapfs_store_superblock(fixture->store, &superblock);
    root = mapfs_image_writable(fixture->image, (MapfsRun){{mapfs_le64_load(superblock.root_address)}, 1});
    mapfs_store_abandon(g_steal_pointer(&fixture->store));
    root[300] ^= 1;
    assert_int_equal(mapfs_store_open(fixture->image, &(MapfsStoreOptions){.read_only = true}, &fixture->store), 0);
    {
        MapfsItem item;
        MapfsKey key = {.object = 10, .kind = MAPFS_KIND_INODE};

        mapfs_store_read_lock(fixture->store);
        assert_int_equal(mapfs_tree_lookup(mapfs_store_tree(fixture->store), key, &item), -EUCLEAN);
        mapfs_store_read_unlock(fixture->store);
    }
    assert_int_equal(mapfs_store_close(g_steal_pointer(&fixture->store)), 0);
}

/* --- threads --- */

#define N_WORKERS 4u
#define WORKER_ROUNDS 300u

typedef struct {
    MapfsStore *store;
    unsigned number;
    int result;
} Worker;

static int worker_write(Worker *worker) {
    MapfsTxn txn;
    MapfsRun run;
    int r;

    r = mapfs_txn_begin(worker->store, MAPFS_TXN_FREES, 1, &txn);
    if (r < 0)
        return r;
    r = mapfs_txn_allocate(&txn, (MapfsGoal){.block = {0}, .apart = true}, 64, &run);
    if (r == 0) {
        memset(mapfs_txn_data(&txn, run), (int)worker->number, run.n_blocks * MAPFS_BLOCK_SIZE);
        mapfs_txn_lock(&txn);
        mapfs_txn_free(&txn, run); /* as if overwritten at once */
        (void)mapfs_txn_next_lsn(&txn);
    }
    mapfs_txn_end(&txn);
    return r;
}

static void *worker_main(void *user) {
    Worker *worker = user;

    for (unsigned i = 0; i < WORKER_ROUNDS && worker->result >= 0; i++) {
        int r = worker_write(worker);

        if (r == -ENOSPC)
            r = mapfs_store_make_room(worker->store);
        if (r >= 0 && i % 16 == worker->number)
            r = mapfs_store_sync(worker->store);
        (void)store_status(worker->store);
        worker->result = r;
    }
    return NULL;
}

/* Streams of data, with write-behind, checkpoints and reclaim beside them. */
static void test_writers_and_syncs_work_side_by_side(void **state) {
    const MapfsStoreOptions options = {.threads = true, .discard = true, .commit_seconds = 1};
    Worker workers[N_WORKERS];
    pthread_t threads[N_WORKERS];
    MapfsImage *image;
    MapfsStore *store;
    MapfsStoreStatus status;
    uint64_t n_free;

    (void)state;
    assert_int_equal(mapfs_image_open_anonymous(8192, &image), 0);
    assert_int_equal(store_format(image, 0), 0);
    assert_int_equal(mapfs_store_open(image, &options, &store), 0);
    n_free = store_status(store).n_free + store_status(store).n_pending;
    for (unsigned i = 0; i < N_WORKERS; i++) {
        workers[i] = (Worker){.store = store, .number = i + 1};
        assert_int_equal(pthread_create(&threads[i], NULL, worker_main, &workers[i]), 0);
    }
    for (unsigned i = 0; i < N_WORKERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_in_range(workers[i].result, 0, 1);
    }
    /* Blocks that are being given back count as both for a moment. */
    for (unsigned i = 0; i < 500; i++) {
        status = store_status(store);
        if (status.n_free + status.n_pending <= n_free)
            break;
        usleep(10000);
    }
    assert_in_range(status.n_free + status.n_pending, n_free - 4, n_free);
    assert_int_equal(mapfs_store_close(store), 0);
    mapfs_image_close(image);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_error_while_a_sync_waits_for_transactions_keeps_both_superblocks,
                                        store_fixture_setup, store_fixture_teardown),
        TEST(test_sync_with_nothing_changed_costs_no_checkpoint),
        TEST(test_small_checkpoint_is_one_host_sync),
        TEST(test_large_checkpoint_publishes_after_its_data),
        TEST(test_synced_data_needs_no_luck),
        TEST(test_sync_waits_for_begun_transactions),
        TEST(test_syncs_that_arrive_together_share_a_checkpoint),
        TEST(test_changes_go_on_while_a_checkpoint_is_written),
        TEST(test_epoch_that_dirties_much_is_closed_early),
        cmocka_unit_test(test_interval_ends_in_a_checkpoint),
        cmocka_unit_test(test_large_epoch_is_closed_by_the_thread),
        cmocka_unit_test(test_threads_give_freed_blocks_back),
        TEST(test_failed_sync_is_final),
        TEST(test_failed_sync_leaves_only_the_durable_readable),
        TEST(test_failed_sync_keeps_what_it_did_not_write_from_readers),
        TEST(test_failed_sync_fails_those_who_share_it),
        TEST(test_damaged_node_fails_the_change_that_needs_it),
        cmocka_unit_test(test_writers_and_syncs_work_side_by_side),
    };

    return cmocka_run_group_tests_name("txn-sync", tests, NULL, NULL);
}
