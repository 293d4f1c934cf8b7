/* SPDX-License-Identifier: MIT */

#include "store-fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <glib.h>

static struct mapfs_disk_inode inode_new(uint32_t mode) {
    return (struct mapfs_disk_inode){
        .mode = mapfs_le32_store(mode),
        .nlink = mapfs_le32_store(S_ISDIR(mode) ? 2 : 1),
        .parent = mapfs_le64_store(S_ISDIR(mode) ? MAPFS_INO_ROOT : 0),
        .change = mapfs_le64_store(1),
    };
}

int store_format(MapfsImage *image, uint64_t log_blocks) {
    const MapfsStoreFormat how = {.label = "test", .log_blocks = log_blocks, .seed = 5, .time = UINT64_C(1) << 61};
    struct mapfs_disk_inode root = inode_new(S_IFDIR | 0755);

    return mapfs_store_format(image, &how, &root, sizeof(root));
}

/* --- the image --- */

static bool count_down(unsigned *counter) {
    return *counter > 0 && --*counter == 0;
}

static int hook_sync(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    StoreFixture *fixture = user;

    (void)channel;
    (void)runs;
    (void)n_runs;
    __atomic_add_fetch(&fixture->n_syncs, 1, __ATOMIC_RELAXED);
    return count_down(&fixture->fail_sync_in) ? -EIO : 0;
}

static int hook_reserve(void *user, MapfsRun run) {
    StoreFixture *fixture = user;

    (void)run;
    __atomic_add_fetch(&fixture->n_reserves, 1, __ATOMIC_RELAXED);
    if (!count_down(&fixture->fail_reserve_from))
        return 0;
    fixture->fail_reserve_from = 1;
    return -ENOSPC;
}

void store_fixture_open(StoreFixture *fixture, uint64_t n_blocks, const MapfsStoreOptions *options) {
    const MapfsStoreOptions none = {0};

    *fixture = (StoreFixture){0};
    assert_int_equal(mapfs_recording_open(n_blocks, &fixture->recording), 0);
    fixture->image = mapfs_recording_image(fixture->recording);
    assert_int_equal(store_format(fixture->image, 0), 0);
    mapfs_recording_set_hooks(
        fixture->recording, &(MapfsRecordingHooks){.sync_begin = hook_sync, .reserve = hook_reserve, .user = fixture});
    assert_int_equal(mapfs_store_open(fixture->image, options ? options : &none, &fixture->store), 0);
}

void store_fixture_close(StoreFixture *fixture) {
    MapfsStore *store = g_steal_pointer(&fixture->store);

    if (store) /* a test that has failed may have none */
        assert_int_equal(mapfs_store_close(store), 0);
    mapfs_image_close(fixture->image);
}

int store_fixture_setup(void **state) {
    StoreFixture *fixture = g_new0(StoreFixture, 1);

    *state = fixture;
    store_fixture_open(fixture, STORE_FIXTURE_BLOCKS, NULL);
    return 0;
}

int store_fixture_teardown(void **state) {
    store_fixture_close(*state);
    g_free(*state);
    return 0;
}

void store_fixture_remount(StoreFixture *fixture, bool crash) {
    const MapfsStoreOptions none = {0};
    MapfsStore *store = g_steal_pointer(&fixture->store);

    if (crash)
        mapfs_store_abandon(store);
    else
        assert_int_equal(mapfs_store_close(store), 0);
    assert_int_equal(mapfs_store_open(fixture->image, &none, &fixture->store), 0);
}

/* --- changes --- */

static MapfsKey inode_key(uint64_t ino) {
    return (MapfsKey){.object = ino, .kind = MAPFS_KIND_INODE};
}

int store_add(MapfsStore *store, uint64_t ino) {
    struct mapfs_disk_inode inode = inode_new(S_IFREG | 0644);
    MapfsTxn txn;
    int r;

    r = mapfs_txn_begin(store, MAPFS_TXN_GROWS, 1, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    r = mapfs_tree_insert(mapfs_store_tree(store), inode_key(ino), &inode, sizeof(inode));
    if (r == 0)
        (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
    return r;
}

int store_remove(MapfsStore *store, uint64_t ino) {
    MapfsTxn txn;
    int r;

    r = mapfs_txn_begin(store, MAPFS_TXN_FREES, 1, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    r = mapfs_tree_remove(mapfs_store_tree(store), inode_key(ino));
    if (r == 0)
        (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
    return r;
}

bool store_has(MapfsStore *store, uint64_t ino) {
    MapfsItem item;
    int r;

    mapfs_store_read_lock(store);
    r = mapfs_tree_lookup(mapfs_store_tree(store), inode_key(ino), &item);
    mapfs_store_read_unlock(store);
    assert_true(r >= 0);
    return r > 0;
}

MapfsRun store_take(MapfsStore *store, uint64_t goal, uint64_t n_blocks) {
    MapfsTxn txn;
    MapfsRun run;

    assert_int_equal(mapfs_txn_begin(store, MAPFS_TXN_GROWS, 1, &txn), 0);
    assert_int_equal(mapfs_txn_allocate(&txn, (MapfsGoal){.block = {goal}}, n_blocks, &run), 0);
    assert_non_null(mapfs_txn_data(&txn, run));
    mapfs_txn_lock(&txn);
    (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
    return run;
}

void store_give(MapfsStore *store, MapfsRun run) {
    MapfsTxn txn;

    assert_int_equal(mapfs_txn_begin(store, MAPFS_TXN_FREES, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    mapfs_txn_free(&txn, run);
    (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
}

MapfsStoreStatus store_status(MapfsStore *store) {
    MapfsStoreStatus status;

    mapfs_store_status(store, &status);
    return status;
}
