/* SPDX-License-Identifier: MIT */

/* Work that is left over: files without names that are still open, tails of truncated files, and both at once. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "fs-fixture.h"
#include "fs/fs-private.h"

#define ROOT MAPFS_INO_ROOT
/* More extents than one step of truncate or reclaim frees. */
#define N_EXTENTS 300u

/* A file of N_EXTENTS extents: every other block is written. */
static uint64_t make_scattered(MapfsFs *fs, const char *name) {
    uint64_t ino = fs_make(fs, ROOT, name, S_IFREG | 0644);
    uint8_t block[MAPFS_BLOCK_SIZE];

    for (unsigned i = 0; i < N_EXTENTS; i++) {
        memset(block, (int)(i % 250) + 1, sizeof(block));
        assert_int_equal(mapfs_fs_write(fs, ino, 2ull * i * sizeof(block), block, sizeof(block)), sizeof(block));
    }
    return ino;
}

static void assert_scattered(MapfsFs *fs, uint64_t ino, unsigned n_extents) {
    uint8_t block[MAPFS_BLOCK_SIZE];

    for (unsigned i = 0; i < n_extents; i++) {
        assert_int_equal(mapfs_fs_read(fs, ino, 2ull * i * sizeof(block), block, sizeof(block)), sizeof(block));
        assert_int_equal(block[0], i % 250 + 1);
        assert_int_equal(block[sizeof(block) - 1], i % 250 + 1);
    }
}

static uint32_t orphan_flags(MapfsFs *fs, uint64_t ino) {
    struct mapfs_disk_orphan orphan;

    return mapfs_orphan_load(mapfs_store_tree(fs->store), ino, &orphan) == 1 ? mapfs_le32_load(orphan.flags) : 0;
}

/* The record of a truncate without the steps that follow: what a crash between them leaves. */
static void set_size_leaving_the_tail(MapfsFs *fs, uint64_t ino, uint64_t size) {
    struct mapfs_disk_record_truncate record = {
        .ino = mapfs_le64_store(ino), .size = mapfs_le64_store(size), .n_extents = mapfs_le32_store(64)};
    MapfsTxn txn;

    mapfs_record_init(&record.header, MAPFS_RECORD_TRUNCATE, sizeof(record), mapfs_fs_now());
    assert_int_equal(mapfs_fs_begin(fs, MAPFS_TXN_FREES, 100, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_record_run(fs, &txn, &record.header), 0);
    mapfs_txn_end(&txn);
    assert_true(orphan_flags(fs, ino) & MAPFS_ORPHAN_TRUNCATED);
    mapfs_fs_queue_reclaim(fs, ino);
}

static void set_size(MapfsFs *fs, uint64_t ino, uint64_t size) {
    MapfsAttr set = {.size = size}, attr;

    assert_int_equal(mapfs_fs_setattr(fs, ino, MAPFS_SET_SIZE, &set, &attr), 0);
    assert_int_equal(attr.size, size);
}

static uint64_t count_inodes(MapfsFs *fs) {
    MapfsStoreStatus status;

    mapfs_store_status(fs->store, &status);
    return status.n_inodes;
}

static void test_open_file_without_a_name_keeps_its_data(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_scattered(fs, "f");
    MapfsAttr attr;

    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_scattered(fs, ino, N_EXTENTS);
    assert_int_equal(mapfs_fs_write(fs, ino, 0, "new", 3), 3);
    mapfs_fs_forget(fs, ino, 1);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(mapfs_fs_getattr(fs, ino, &attr), -ESTALE);
    assert_int_equal(orphan_flags(fs, ino), 0);
    assert_int_equal(count_inodes(fs), 1);
}

static void test_crash_ends_an_open_file_without_a_name(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_scattered(fs, "f");
    MapfsAttr attr;

    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    fs_fixture_remount(*state, true);
    fs = fs_of(state);
    assert_int_equal(orphan_flags(fs, ino), MAPFS_ORPHAN_UNLINKED);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(mapfs_fs_getattr(fs, ino, &attr), -ESTALE);
    assert_int_equal(count_inodes(fs), 1);
}

static void test_removed_directory_and_its_xattrs_are_reclaimed(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "d", S_IFDIR);
    MapfsItem item;

    assert_int_equal(mapfs_fs_setxattr(fs, ino, "user.a", (MapfsBytes){"value", 5}, 0), 0);
    mapfs_fs_forget(fs, ino, 1);
    assert_int_equal(fs_rmdir(fs, ROOT, "d"), 0);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(count_inodes(fs), 1);
    assert_true(mapfs_tree_lookup_ge(mapfs_store_tree(fs->store), mapfs_inode_key(ino), &item) == 0 ||
                item.key.object != ino);
}

static void test_tail_of_a_truncated_file_is_reclaimed_and_reads_as_zeros(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_scattered(fs, "f");
    uint8_t byte = 1;

    set_size_leaving_the_tail(fs, ino, 5 * MAPFS_BLOCK_SIZE);
    set_size(fs, ino, 2 * N_EXTENTS * MAPFS_BLOCK_SIZE);
    assert_int_equal(mapfs_fs_read(fs, ino, 6 * MAPFS_BLOCK_SIZE, &byte, 1), 1);
    assert_int_equal(byte, 0);
    assert_scattered(fs, ino, 3);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(orphan_flags(fs, ino), 0);
    assert_int_equal(fs_attr(fs, ino).n_blocks, 3);
}

static void test_file_that_is_truncated_then_unlinked_keeps_what_is_left(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_scattered(fs, "f");
    MapfsAttr attr;

    set_size_leaving_the_tail(fs, ino, 20 * MAPFS_BLOCK_SIZE);
    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_scattered(fs, ino, 10);
    assert_int_equal(fs_attr(fs, ino).n_blocks, 10);
    assert_int_equal(orphan_flags(fs, ino), MAPFS_ORPHAN_UNLINKED);
    mapfs_fs_forget(fs, ino, 1);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(mapfs_fs_getattr(fs, ino, &attr), -ESTALE);
}

static void test_file_that_is_unlinked_then_truncated_keeps_what_is_left(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_scattered(fs, "f");

    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    set_size_leaving_the_tail(fs, ino, 20 * MAPFS_BLOCK_SIZE);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_scattered(fs, ino, 10);
    assert_int_equal(fs_attr(fs, ino).n_blocks, 10);
}

/* An image in which both kinds of work wait for one inode must pass all checks at the next mount. */
static void test_crash_with_both_kinds_of_work_on_one_inode(void **state) {
    for (unsigned unlink_first = 0; unlink_first < 2; unlink_first++) {
        MapfsFs *fs = fs_of(state);
        uint64_t ino = make_scattered(fs, "f");
        MapfsAttr attr;

        if (unlink_first)
            assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
        set_size_leaving_the_tail(fs, ino, 20 * MAPFS_BLOCK_SIZE);
        if (!unlink_first)
            assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
        assert_int_equal(mapfs_fs_sync(fs), 0);
        fs_fixture_remount(*state, true);
        fs = fs_of(state);
        assert_int_equal(mapfs_fs_getattr(fs, ino, &attr), 0);
        assert_int_equal(mapfs_fs_reclaim(fs), 0);
        assert_int_equal(mapfs_fs_getattr(fs, ino, &attr), -ESTALE);
        assert_int_equal(count_inodes(fs), 1);
    }
}

static uint64_t make_unnamed(MapfsFs *fs) {
    const MapfsNewInode new_inode = {.mode = S_IFREG | 0640, .uid = 5, .gid = 6};
    MapfsAttr attr;

    assert_int_equal(mapfs_fs_tmpfile(fs, ROOT, &new_inode, &attr), 0);
    assert_int_equal(attr.nlink, 0);
    assert_int_equal(attr.mode, S_IFREG | 0640);
    assert_int_equal(attr.gid, 6);
    return attr.ino;
}

static void test_file_made_without_a_name_lives_until_it_is_forgotten(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_unnamed(fs);
    MapfsAttr attr;
    char back[4];

    assert_int_equal(orphan_flags(fs, ino), MAPFS_ORPHAN_UNLINKED);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(mapfs_fs_write(fs, ino, 0, "data", 4), 4);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(mapfs_fs_read(fs, ino, 0, back, 4), 4);
    assert_memory_equal(back, "data", 4);
    assert_int_equal(fs_attr(fs, ROOT).size, 0);
    mapfs_fs_forget(fs, ino, 1);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(mapfs_fs_getattr(fs, ino, &attr), -ESTALE);
    assert_int_equal(count_inodes(fs), 1);
}

static void test_file_made_without_a_name_can_be_given_one(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_unnamed(fs);
    char back[4];

    assert_int_equal(mapfs_fs_write(fs, ino, 0, "data", 4), 4);
    assert_int_equal(fs_link(fs, ino, ROOT, "f"), 0);
    assert_int_equal(orphan_flags(fs, ino), 0);
    assert_int_equal(fs_attr(fs, ino).nlink, 1);
    assert_int_equal(fs_attr(fs, ROOT).size, 1);
    mapfs_fs_forget(fs, ino, 1);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(fs_link(fs, ino, ROOT, "g"), 0);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    fs_fixture_remount(*state, true);
    fs = fs_of(state);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(fs_ino(fs, ROOT, "f"), ino);
    assert_int_equal(fs_attr(fs, ino).nlink, 2);
    assert_int_equal(mapfs_fs_read(fs, ino, 0, back, 4), 4);
    assert_memory_equal(back, "data", 4);
    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    assert_int_equal(fs_unlink(fs, ROOT, "g"), 0);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(count_inodes(fs), 1);
}

static void test_crash_ends_a_file_made_without_a_name(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_unnamed(fs);
    MapfsAttr attr;

    assert_int_equal(mapfs_fs_sync(fs), 0);
    assert_int_equal(fs_link(fs, ino, ROOT, "lost"), 0);
    fs_fixture_remount(*state, true);
    fs = fs_of(state);
    assert_int_equal(fs_lookup(fs, ROOT, "lost"), -ENOENT);
    assert_int_equal(fs_link(fs, ino, ROOT, "f"), -ENOENT);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(mapfs_fs_getattr(fs, ino, &attr), -ESTALE);
    assert_int_equal(count_inodes(fs), 1);
}

static void test_file_with_a_cut_tail_can_be_given_a_name(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_scattered(fs, "f");

    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    set_size_leaving_the_tail(fs, ino, 20 * MAPFS_BLOCK_SIZE);
    assert_int_equal(fs_link(fs, ino, ROOT, "g"), 0);
    assert_int_equal(orphan_flags(fs, ino), MAPFS_ORPHAN_TRUNCATED);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(orphan_flags(fs, ino), 0);
    assert_scattered(fs, ino, 10);
}

static void test_file_without_a_name_is_made_in_directories_alone(void **state) {
    MapfsFs *fs = fs_of(state);
    const MapfsNewInode file = {.mode = S_IFREG | 0600}, dir = {.mode = S_IFDIR | 0700};
    uint64_t ino = fs_make(fs, ROOT, "f", S_IFREG | 0644), gone = fs_make(fs, ROOT, "d", S_IFDIR | 0755);
    MapfsAttr attr;

    assert_int_equal(fs_rmdir(fs, ROOT, "d"), 0);
    assert_int_equal(mapfs_fs_tmpfile(fs, ino, &file, &attr), -ENOTDIR);
    assert_int_equal(mapfs_fs_tmpfile(fs, gone, &file, &attr), -ENOENT);
    assert_int_equal(mapfs_fs_tmpfile(fs, 999, &file, &attr), -ESTALE);
    assert_int_equal(mapfs_fs_tmpfile(fs, ROOT, &dir, &attr), -EINVAL);
    assert_int_equal(fs_link(fs, gone, ROOT, "again"), -EPERM);
}

static void test_handles_lead_to_inodes_with_names_alone(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG | 0644), dir = fs_make(fs, ROOT, "d", S_IFDIR | 0755);

    assert_int_equal(fs_ino(fs, file, "."), file);
    assert_int_equal(fs_ino(fs, dir, "."), dir);
    assert_int_equal(fs_ino(fs, dir, ".."), ROOT);
    assert_int_equal(fs_lookup(fs, file, ".."), -ENOTDIR);
    assert_int_equal(fs_lookup(fs, 999, "."), -ESTALE);
    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    assert_int_equal(fs_rmdir(fs, ROOT, "d"), 0);
    assert_int_equal(fs_lookup(fs, file, "."), -ESTALE);
    assert_int_equal(fs_lookup(fs, dir, "."), -ESTALE);
    assert_int_equal(fs_lookup(fs, dir, ".."), -ESTALE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fs_fixture_setup, fs_fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_open_file_without_a_name_keeps_its_data),
        TEST(test_crash_ends_an_open_file_without_a_name),
        TEST(test_removed_directory_and_its_xattrs_are_reclaimed),
        TEST(test_tail_of_a_truncated_file_is_reclaimed_and_reads_as_zeros),
        TEST(test_file_that_is_truncated_then_unlinked_keeps_what_is_left),
        TEST(test_file_that_is_unlinked_then_truncated_keeps_what_is_left),
        TEST(test_crash_with_both_kinds_of_work_on_one_inode),
        TEST(test_file_made_without_a_name_lives_until_it_is_forgotten),
        TEST(test_file_made_without_a_name_can_be_given_one),
        TEST(test_crash_ends_a_file_made_without_a_name),
        TEST(test_file_with_a_cut_tail_can_be_given_a_name),
        TEST(test_file_without_a_name_is_made_in_directories_alone),
        TEST(test_handles_lead_to_inodes_with_names_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
