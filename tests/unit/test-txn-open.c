/* SPDX-License-Identifier: MIT */

/* Formatting, opening and closing of stores: which superblock wins, what is refused and why, and what a close leaves. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <glib.h>

#include "base/error.h"
#include "store-fixture.h"

static struct mapfs_disk_superblock *slot_of(MapfsImage *image, uint64_t slot) {
    return mapfs_image_writable(image, (MapfsRun){{slot}, 1});
}

/* The slot that a checkpoint of this generation used. */
static struct mapfs_disk_superblock *slot_of_generation(StoreFixture *fixture, uint64_t generation) {
    return slot_of(fixture->image, generation % MAPFS_SUPERBLOCK_SLOTS);
}

static int open_only(MapfsImage *image, bool read_only) {
    const MapfsStoreOptions options = {.read_only = read_only};
    MapfsStore *store;
    int r;

    mapfs_damage_clear();
    r = mapfs_store_open(image, &options, &store);
    if (r == 0)
        mapfs_store_abandon(store);
    return r;
}

/* --- refusals --- */

static void test_image_without_superblock_is_empty(void **state) {
    MapfsImage *image;

    (void)state;
    assert_int_equal(mapfs_image_open_anonymous(512, &image), 0);
    assert_int_equal(open_only(image, false), -ENODATA);
    assert_int_equal(open_only(image, true), -ENODATA);
    mapfs_image_close(image);
}

static void test_image_shorter_than_its_superblocks_is_empty(void **state) {
    MapfsImage *image;

    (void)state;
    assert_int_equal(mapfs_image_open_anonymous(1, &image), 0);
    assert_int_equal(open_only(image, false), -ENODATA);
    assert_string_not_equal(mapfs_damage_last(), "");
    mapfs_image_close(image);
}

static void test_other_content_is_foreign(void **state) {
    MapfsImage *image;

    (void)state;
    assert_int_equal(mapfs_image_open_anonymous(512, &image), 0);
    memset(slot_of(image, 0), 'x', MAPFS_BLOCK_SIZE);
    assert_int_equal(open_only(image, false), -EMEDIUMTYPE);
    memset(slot_of(image, 1), 'y', MAPFS_BLOCK_SIZE);
    assert_int_equal(open_only(image, false), -EMEDIUMTYPE);
    mapfs_image_close(image);
}

/* What is done to the only valid slot (generation 1, slot 1), and what the open says. */
static void test_superblocks_are_refused_with_a_reason(void **state) {
    enum { FLIP, VERSION, INCOMPAT, LOG, GENERATION };
    const struct {
        int what, expected;
    } cases[] = {{FLIP, -EUCLEAN},
                 {VERSION, -EPROTONOSUPPORT},
                 {INCOMPAT, -EOPNOTSUPP},
                 {LOG, -EUCLEAN},
                 {GENERATION, -EUCLEAN}};

    (void)state;
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(cases); i++) {
        struct mapfs_disk_superblock *slot;
        MapfsImage *image;

        assert_int_equal(mapfs_image_open_anonymous(512, &image), 0);
        assert_int_equal(store_format(image, 0), 0);
        slot = slot_of(image, 1);
        switch (cases[i].what) {
        case FLIP:
            slot->label[0] ^= 1;
            break;
        case VERSION:
            slot->version = mapfs_le32_store(MAPFS_FORMAT_VERSION + 1);
            break;
        case INCOMPAT:
            slot->feature_incompat = mapfs_le64_store(UINT64_C(1) << 40);
            break;
        case LOG:
            slot->log_blocks = mapfs_le64_store(UINT64_MAX);
            break;
        default:
            slot->generation = mapfs_le64_store(0);
        }
        if (cases[i].what != FLIP)
            mapfs_superblock_seal(slot);
        assert_int_equal(open_only(image, false), cases[i].expected);
        assert_string_not_equal(mapfs_damage_last(), "");
        assert_int_equal(open_only(image, true), cases[i].expected);
        mapfs_image_close(image);
    }
}

static void test_ro_compat_features_allow_reading_alone(void **state) {
    struct mapfs_disk_superblock *slot;
    MapfsImage *image;

    (void)state;
    assert_int_equal(mapfs_image_open_anonymous(512, &image), 0);
    assert_int_equal(store_format(image, 0), 0);
    slot = slot_of(image, 1);
    slot->feature_ro_compat = mapfs_le64_store(4);
    mapfs_superblock_seal(slot);
    assert_int_equal(open_only(image, false), -EROFS);
    assert_int_equal(open_only(image, true), 0);
    slot->feature_ro_compat = mapfs_le64_store(0);
    slot->feature_compat = mapfs_le64_store(4);
    mapfs_superblock_seal(slot);
    assert_int_equal(open_only(image, false), 0);
    mapfs_image_close(image);
}

static void test_newer_slot_of_another_version_is_not_overlooked(void **state) {
    StoreFixture *fixture = *state;
    struct mapfs_disk_superblock *newest;

    assert_int_equal(store_add(fixture->store, 10), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    newest = slot_of_generation(fixture, store_status(fixture->store).durable.n);
    newest->feature_incompat = mapfs_le64_store(UINT64_C(1) << 40);
    mapfs_superblock_seal(newest);
    assert_int_equal(open_only(fixture->image, false), -EOPNOTSUPP);
    newest->feature_incompat = mapfs_le64_store(0);
    mapfs_superblock_seal(newest);
}

static void test_image_cut_short_is_refused(void **state) {
    MapfsImage *image, *part;

    (void)state;
    assert_int_equal(mapfs_image_open_anonymous(512, &image), 0);
    assert_int_equal(store_format(image, 0), 0);
    assert_int_equal(mapfs_image_open_buffer((void *)(uintptr_t)image->base, 511, &part), 0);
    assert_int_equal(open_only(part, false), -ENOSPC);
    assert_int_equal(open_only(part, true), -ENOSPC);
    mapfs_image_close(part);
    mapfs_image_close(image);
}

static void put_group(MapfsStore *store, MapfsKey key, const struct mapfs_disk_group *group) {
    MapfsTxn txn;

    assert_int_equal(mapfs_txn_begin(store, MAPFS_TXN_GROWS, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_tree_put(mapfs_store_tree(store), key, group, sizeof(*group)), 0);
    (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
}

/* A bitmap that says to be of the generation that the next mount begins would be stored into in place, though the durable state needs it. */
static void test_bitmap_of_a_generation_to_come_is_refused(void **state) {
    const MapfsKey key = {.object = MAPFS_OBJECT_GROUPS, .kind = MAPFS_KIND_GROUP};
    MapfsImage *image;
    MapfsStore *store;

    (void)state;
    for (uint64_t ahead = 0; ahead < 3; ahead++) {
        struct mapfs_disk_group group;
        MapfsItem item;

        /* The second of two groups, which nothing touches. */
        assert_int_equal(mapfs_image_open_anonymous(MAPFS_GROUP_BLOCKS + 2048, &image), 0);
        assert_int_equal(store_format(image, 0), 0);
        assert_int_equal(mapfs_store_open(image, &(MapfsStoreOptions){0}, &store), 0);
        store_give(store, store_take(store, MAPFS_GROUP_BLOCKS + 100, 8));
        assert_int_equal(mapfs_store_sync(store), 0);
        mapfs_store_read_lock(store);
        assert_int_equal(mapfs_tree_lookup(mapfs_store_tree(store), (MapfsKey){key.object, 1, key.kind}, &item), 1);
        memcpy(&group, item.value, sizeof(group));
        mapfs_store_read_unlock(store);
        group.bitmap_generation = mapfs_le64_store(store_status(store).durable.n + 1 + ahead);
        put_group(store, (MapfsKey){key.object, 1, key.kind}, &group);
        assert_int_equal(mapfs_store_sync(store), 0);
        mapfs_store_abandon(store);
        assert_int_equal(open_only(image, false), ahead == 0 ? 0 : -EUCLEAN);
        mapfs_image_close(image);
    }
}

static void test_damaged_group_summary_is_refused(void **state) {
    StoreFixture *fixture = *state;
    struct mapfs_disk_group group = {.bitmap_address = mapfs_le64_store(50),
                                     .bitmap_generation = mapfs_le64_store(1),
                                     .n_free = mapfs_le32_store(5)};
    MapfsKey key = {.object = MAPFS_OBJECT_GROUPS, .kind = MAPFS_KIND_GROUP, .offset = 9};

    put_group(fixture->store, key, &group);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    assert_int_equal(open_only(fixture->image, false), -EUCLEAN);
    assert_int_equal(open_only(fixture->image, true), 0);
}

/* A root that was never sealed: the newest superblock is whole, the tree is not. */
static void test_damaged_root_is_refused(void **state) {
    StoreFixture *fixture = *state;
    struct mapfs_disk_superblock superblock;
    uint8_t *root;

    mapfs_store_superblock(fixture->store, &superblock);
    root = mapfs_image_writable(fixture->image, (MapfsRun){{mapfs_le64_load(superblock.root_address)}, 1});
    root[200] ^= 1;
    assert_int_equal(open_only(fixture->image, false), -EUCLEAN);
    root[200] ^= 1;
    assert_int_equal(open_only(fixture->image, false), 0);
}

/* --- which state --- */

static void test_newest_slot_wins(void **state) {
    StoreFixture *fixture = *state;

    for (uint64_t ino = 10; ino < 15; ino++) {
        assert_int_equal(store_add(fixture->store, ino), 0);
        assert_int_equal(mapfs_store_sync(fixture->store), 0);
        store_fixture_remount(fixture, true);
        assert_true(store_has(fixture->store, ino));
        assert_int_equal(store_status(fixture->store).durable.n, ino - 8);
    }
}

static void test_unsynced_changes_are_gone_after_a_crash(void **state) {
    StoreFixture *fixture = *state;

    assert_int_equal(store_add(fixture->store, 10), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    assert_int_equal(store_add(fixture->store, 11), 0);
    store_fixture_remount(fixture, true);
    assert_true(store_has(fixture->store, 10));
    assert_false(store_has(fixture->store, 11));
    assert_int_equal(store_add(fixture->store, 12), 0);
    store_fixture_remount(fixture, false);
    assert_true(store_has(fixture->store, 12));
}

static void test_torn_newest_slot_leaves_the_state_before(void **state) {
    StoreFixture *fixture = *state;
    uint64_t newest;

    assert_int_equal(store_add(fixture->store, 10), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    assert_int_equal(store_add(fixture->store, 11), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    newest = store_status(fixture->store).durable.n;
    ((uint8_t *)slot_of_generation(fixture, newest))[100] ^= 1;
    store_fixture_remount(fixture, true);
    assert_int_equal(store_status(fixture->store).durable.n, newest - 1);
    assert_true(store_has(fixture->store, 10));
    assert_false(store_has(fixture->store, 11));
    /* The torn slot is the one that is used next. */
    assert_int_equal(store_add(fixture->store, 12), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    store_fixture_remount(fixture, true);
    assert_int_equal(store_status(fixture->store).durable.n, newest);
    assert_true(store_has(fixture->store, 12));
}

/* The block that the first of the listed runs begins with. */
static uint8_t *listed_block(StoreFixture *fixture, uint64_t generation) {
    const struct mapfs_disk_superblock *slot = slot_of_generation(fixture, generation);

    assert_true(mapfs_le32_load(slot->n_written) > 0);
    return mapfs_image_writable(fixture->image, (MapfsRun){{mapfs_le64_load(slot->written[0].block)}, 1});
}

/* A block of a checkpoint is missing after a power cut; then, before the next checkpoint, the very same bytes are stored there again. */
static void test_rejected_checkpoint_does_not_come_back(void **state) {
    StoreFixture *fixture = *state;
    uint64_t newest;
    uint8_t *block;

    assert_int_equal(store_add(fixture->store, 10), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    assert_int_equal(store_add(fixture->store, 11), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    newest = store_status(fixture->store).durable.n;
    block = listed_block(fixture, newest);
    block[MAPFS_BLOCK_SIZE - 1] ^= 1;
    store_fixture_remount(fixture, true);
    assert_int_equal(store_status(fixture->store).durable.n, newest - 1);
    block[MAPFS_BLOCK_SIZE - 1] ^= 1;
    store_fixture_remount(fixture, true);
    assert_int_equal(store_status(fixture->store).durable.n, newest - 1);
    assert_false(store_has(fixture->store, 11));
}

/* After an error of write-back the host calls the pages clean, and keeps in memory what the disk does not have. */
static void test_mount_after_a_failed_sync_stands_on_the_disk(void **state) {
    uint8_t *disk = aligned_alloc(MAPFS_BLOCK_SIZE, (size_t)STORE_FIXTURE_BLOCKS * MAPFS_BLOCK_SIZE);

    (void)state;
    for (uint64_t ino = 11; ino < 40; ino++) { /* which pages are lost, and with what, differs */
        StoreFixture fixture;
        MapfsImage *image;

        store_fixture_open(&fixture, STORE_FIXTURE_BLOCKS, NULL);
        for (uint64_t before = 10; before < ino; before++)
            assert_int_equal(store_add(fixture.store, before), 0);
        assert_int_equal(mapfs_store_sync(fixture.store), 0);
        assert_int_equal(store_add(fixture.store, ino), 0);
        fixture.fail_sync_in = 1;
        assert_int_equal(mapfs_store_sync(fixture.store), -EIO);
        fixture.image->error = 0; /* it is of the open file, and the next process opens another */
        fixture.image->writes_lost = false;
        store_fixture_remount(&fixture, true);
        assert_int_equal(store_add(fixture.store, 100), 0);
        assert_int_equal(mapfs_store_sync(fixture.store), 0);
        mapfs_recording_build(fixture.recording, MAPFS_CRASH_ALL_OLD, 0, disk);
        store_fixture_close(&fixture);

        assert_int_equal(mapfs_image_open_buffer(disk, STORE_FIXTURE_BLOCKS, &image), 0);
        fixture = (StoreFixture){.image = image};
        assert_int_equal(mapfs_store_open(image, &(MapfsStoreOptions){0}, &fixture.store), 0);
        assert_true(store_has(fixture.store, 10));
        assert_true(store_has(fixture.store, 100));
        mapfs_store_abandon(fixture.store);
        mapfs_image_close(image);
    }
    free(disk);
}

/* Whether a disk shows what was acknowledged, whatever became of the sync in progress. */
static void assert_disks_have(MapfsRecording *recording, uint64_t ino) {
    uint8_t *disk = aligned_alloc(MAPFS_BLOCK_SIZE, (size_t)STORE_FIXTURE_BLOCKS * MAPFS_BLOCK_SIZE);

    for (unsigned seed = 0; seed < 4 * MAPFS_CRASH_N_STRATEGIES; seed++) {
        MapfsImage *image;
        MapfsStore *store;

        mapfs_recording_build(recording, (MapfsCrashStrategy)(seed % MAPFS_CRASH_N_STRATEGIES), seed, disk);
        assert_int_equal(mapfs_image_open_buffer(disk, STORE_FIXTURE_BLOCKS, &image), 0);
        assert_int_equal(mapfs_store_open(image, &(MapfsStoreOptions){0}, &store), 0);
        assert_true(store_has(store, ino));
        mapfs_store_abandon(store);
        mapfs_image_close(image);
    }
    free(disk);
}

/* The unmount's superblock alone is in memory, clean and lost: the next checkpoint must not take the place of the one before. */
static void test_mount_after_a_failed_unmount_stands_on_the_disk(void **state) {
    (void)state;
    for (uint64_t ino = 11; ino < 30; ino++) { /* with what its page is lost differs */
        StoreFixture fixture;

        store_fixture_open(&fixture, STORE_FIXTURE_BLOCKS, NULL);
        for (uint64_t before = 10; before < ino; before++) {
            assert_int_equal(store_add(fixture.store, before), 0);
            assert_int_equal(mapfs_store_sync(fixture.store), 0);
        }
        assert_int_equal(store_add(fixture.store, ino), 0);
        fixture.fail_sync_in = 2;
        assert_int_equal(mapfs_store_close(g_steal_pointer(&fixture.store)), -EIO);
        fixture.image->error = 0; /* as above */
        fixture.image->writes_lost = false;
        assert_int_equal(mapfs_store_open(fixture.image, &(MapfsStoreOptions){0}, &fixture.store), 0);
        assert_int_equal(store_add(fixture.store, 100), 0);
        fixture.fail_sync_in = 1;
        assert_int_equal(mapfs_store_sync(fixture.store), -EIO);
        assert_disks_have(fixture.recording, ino - 1);
        mapfs_store_abandon(fixture.store);
        mapfs_image_close(fixture.image);
    }
}

static void test_counters_survive(void **state) {
    StoreFixture *fixture = *state;
    MapfsTxn txn;
    MapfsIno ino, next;
    uint64_t lsn;

    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_txn_next_ino(&txn, &ino), 0);
    lsn = mapfs_txn_next_lsn(&txn);
    mapfs_txn_count_inodes(&txn, 2);
    mapfs_txn_count_inodes(&txn, -1);
    mapfs_txn_end(&txn);
    store_fixture_remount(fixture, false);
    assert_int_equal(store_status(fixture->store).n_inodes, 2);
    assert_int_equal(mapfs_txn_begin(fixture->store, MAPFS_TXN_GROWS, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_txn_next_ino(&txn, &next), 0);
    assert_int_equal(next.n, ino.n + 1);
    assert_int_equal(mapfs_txn_next_lsn(&txn), lsn + 1);
    mapfs_txn_count_inodes(&txn, -1);
    mapfs_txn_end(&txn);
}

/* --- closing --- */

static bool is_clean(StoreFixture *fixture) {
    struct mapfs_disk_superblock superblock;

    assert_int_equal(mapfs_superblock_load(fixture->image, &superblock), 0);
    return mapfs_le64_load(superblock.flags) & MAPFS_SUPERBLOCK_CLEAN;
}

static void test_close_marks_the_image_as_clean(void **state) {
    StoreFixture *fixture = *state;

    assert_true(is_clean(fixture)); /* mkfs closes too */
    assert_int_equal(store_add(fixture->store, 10), 0);
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    assert_false(is_clean(fixture));
    store_fixture_remount(fixture, true);
    assert_false(is_clean(fixture));
    store_fixture_remount(fixture, false); /* also when it changes nothing */
    assert_true(is_clean(fixture));
    assert_int_equal(store_add(fixture->store, 11), 0);
    store_fixture_remount(fixture, false);
    assert_true(is_clean(fixture));
    assert_true(store_has(fixture->store, 11));
}

static void test_mount_without_changes_stores_nothing(void **state) {
    StoreFixture *fixture = *state;
    size_t len = (size_t)STORE_FIXTURE_BLOCKS * MAPFS_BLOCK_SIZE;
    g_autofree uint8_t *before = g_memdup2(fixture->image->base, len);

    assert_true(store_has(fixture->store, 1));
    assert_int_equal(mapfs_store_sync(fixture->store), 0);
    store_fixture_remount(fixture, false);
    assert_int_equal(fixture->n_syncs, 2); /* each mount makes sure of the superblocks */
    assert_memory_equal(before, fixture->image->base, len);
}

static void test_read_only_store_refuses_changes(void **state) {
    StoreFixture *fixture = *state;
    const MapfsStoreOptions options = {.read_only = true};
    MapfsStore *store;
    MapfsTxn txn;

    assert_int_equal(mapfs_store_open(fixture->image, &options, &store), 0);
    assert_int_equal(mapfs_store_error(store), -EROFS);
    assert_int_equal(mapfs_txn_begin(store, MAPFS_TXN_FREES, 1, &txn), -EROFS);
    assert_int_equal(mapfs_store_make_room(store), -EROFS);
    assert_int_equal(mapfs_store_sync(store), 0);
    assert_true(store_has(store, 1));
    assert_int_equal(store_status(store).n_free, store_status(fixture->store).n_free);
    assert_int_equal(mapfs_store_close(store), 0);
    assert_int_equal(fixture->n_syncs, 1); /* of the fixture's own mount */
}

/* --- formatting --- */

static void test_same_seed_and_time_make_the_same_bytes(void **state) {
    const size_t len = 512 * (size_t)MAPFS_BLOCK_SIZE;
    struct mapfs_disk_inode root = {.mode = mapfs_le32_store(S_IFDIR | 0755), .nlink = mapfs_le32_store(2)};
    MapfsStoreFormat how = {.label = "a label", .uuid = "0123456789abcde", .seed = 9, .time = 1000};
    MapfsImage *images[3];

    (void)state;
    root.parent = mapfs_le64_store(MAPFS_INO_ROOT);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(mapfs_image_open_anonymous(512, &images[i]), 0);
        how.seed = i == 2 ? 10 : 9;
        assert_int_equal(mapfs_store_format(images[i], &how, &root, sizeof(root)), 0);
    }
    assert_memory_equal(images[0]->base, images[1]->base, len);
    assert_memory_not_equal(images[0]->base, images[2]->base, len);
    for (unsigned i = 0; i < 3; i++)
        mapfs_image_close(images[i]);
}

static void test_format_over_an_old_image_forgets_it(void **state) {
    StoreFixture *fixture = *state;

    for (uint64_t ino = 10; ino < 14; ino++) {
        assert_int_equal(store_add(fixture->store, ino), 0);
        assert_int_equal(mapfs_store_sync(fixture->store), 0);
    }
    mapfs_store_abandon(fixture->store);
    assert_int_equal(store_format(fixture->image, 0), 0);
    assert_int_equal(mapfs_store_open(fixture->image, &(MapfsStoreOptions){0}, &fixture->store), 0);
    assert_int_equal(store_status(fixture->store).durable.n, 1);
    assert_false(store_has(fixture->store, 10));
}

static void test_sizes_that_make_no_image_are_refused(void **state) {
    const struct {
        uint64_t n_blocks, log_blocks;
        int expected;
    } cases[] = {
        {MAPFS_IMAGE_BLOCKS_MIN - 1, 0, -EINVAL},
        {MAPFS_IMAGE_BLOCKS_MIN, 0, 0},
        {MAPFS_IMAGE_BLOCKS_MIN, MAPFS_IMAGE_BLOCKS_MIN, -EINVAL},
        {1024, MAPFS_LOG_BLOCKS_MIN - 1, -EINVAL},
        {1024, MAPFS_LOG_BLOCKS_MIN, 0},
        {4 * (MAPFS_LOG_BLOCKS_MAX + 1), MAPFS_LOG_BLOCKS_MAX + 1, -EINVAL},
        {4 * (MAPFS_LOG_BLOCKS_MAX + 1), MAPFS_LOG_BLOCKS_MAX, 0},
    };

    (void)state;
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(cases); i++) {
        MapfsImage *image;

        assert_int_equal(mapfs_image_open_anonymous(cases[i].n_blocks, &image), 0);
        assert_int_equal(store_format(image, cases[i].log_blocks), cases[i].expected);
        assert_int_equal(open_only(image, false), cases[i].expected == 0 ? 0 : -ENODATA);
        mapfs_image_close(image);
    }
}

static void test_full_host_stops_a_format(void **state) {
    StoreFixture *fixture = *state;

    fixture->fail_reserve_from = 1;
    mapfs_store_abandon(fixture->store);
    assert_int_equal(store_format(fixture->image, 0), -ENOSPC);
    fixture->fail_reserve_from = 2;
    assert_int_equal(store_format(fixture->image, 0), -ENOSPC);
    /* Neither leaves an old superblock over new blocks. */
    assert_int_equal(open_only(fixture->image, false), -ENODATA);
    fixture->fail_reserve_from = 0;
    assert_int_equal(store_format(fixture->image, 0), 0);
    assert_int_equal(mapfs_store_open(fixture->image, &(MapfsStoreOptions){0}, &fixture->store), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, store_fixture_setup, store_fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_image_without_superblock_is_empty),
        cmocka_unit_test(test_image_shorter_than_its_superblocks_is_empty),
        cmocka_unit_test(test_other_content_is_foreign),
        cmocka_unit_test(test_superblocks_are_refused_with_a_reason),
        cmocka_unit_test(test_ro_compat_features_allow_reading_alone),
        TEST(test_newer_slot_of_another_version_is_not_overlooked),
        cmocka_unit_test(test_image_cut_short_is_refused),
        cmocka_unit_test(test_bitmap_of_a_generation_to_come_is_refused),
        TEST(test_damaged_group_summary_is_refused),
        TEST(test_damaged_root_is_refused),
        TEST(test_newest_slot_wins),
        TEST(test_unsynced_changes_are_gone_after_a_crash),
        TEST(test_torn_newest_slot_leaves_the_state_before),
        TEST(test_rejected_checkpoint_does_not_come_back),
        cmocka_unit_test(test_mount_after_a_failed_sync_stands_on_the_disk),
        cmocka_unit_test(test_mount_after_a_failed_unmount_stands_on_the_disk),
        TEST(test_counters_survive),
        TEST(test_close_marks_the_image_as_clean),
        TEST(test_mount_without_changes_stores_nothing),
        TEST(test_read_only_store_refuses_changes),
        cmocka_unit_test(test_same_seed_and_time_make_the_same_bytes),
        TEST(test_format_over_an_old_image_forgets_it),
        cmocka_unit_test(test_sizes_that_make_no_image_are_refused),
        TEST(test_full_host_stops_a_format),
    };

    return cmocka_run_group_tests_name("txn-open", tests, NULL, NULL);
}
