/* SPDX-License-Identifier: MIT */

/* Renames: what they move, what they replace, and what they refuse. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "fs-fixture.h"
#include "fs/dirent-private.h"
#include "fs/fs-private.h"

#define ROOT MAPFS_INO_ROOT
#define EXCHANGE MAPFS_FS_RENAME_EXCHANGE
#define NOREPLACE MAPFS_FS_RENAME_NOREPLACE

/* /a/, /b/, /f, /a/g, /a/sub/, /b/h */
typedef struct {
    MapfsFs *fs;
    uint64_t a, b, f, g, sub, h;
} Scene;

static Scene scene(void **state) {
    MapfsFs *fs = ((FsFixture *)*state)->fs;
    Scene s = {.fs = fs};

    s.a = fs_make(fs, ROOT, "a", S_IFDIR | 0755);
    s.b = fs_make(fs, ROOT, "b", S_IFDIR | 0755);
    s.f = fs_make(fs, ROOT, "f", S_IFREG | 0644);
    s.g = fs_make(fs, s.a, "g", S_IFREG | 0644);
    s.sub = fs_make(fs, s.a, "sub", S_IFDIR | 0755);
    s.h = fs_make(fs, s.b, "h", S_IFREG | 0644);
    return s;
}

static void assert_dir(MapfsFs *fs, uint64_t dir, uint64_t n_entries, uint32_t nlink) {
    MapfsAttr attr = fs_attr(fs, dir);

    assert_int_equal(attr.size, n_entries);
    assert_int_equal(attr.nlink, nlink);
}

static void test_rename_in_a_directory_keeps_the_inode(void **state) {
    Scene s = scene(state);
    MapfsAttr before = fs_attr(s.fs, s.f), root = fs_attr(s.fs, ROOT), after;

    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(ROOT, "x"), 0), 0);
    assert_int_equal(fs_ino(s.fs, ROOT, "x"), s.f);
    assert_int_equal(fs_lookup(s.fs, ROOT, "f"), -ENOENT);
    assert_dir(s.fs, ROOT, 3, 4);
    after = fs_attr(s.fs, s.f);
    assert_memory_equal(&after.mtime, &before.mtime, sizeof(before.mtime));
    assert_int_equal(after.change, before.change + 1);
    assert_int_equal(fs_attr(s.fs, ROOT).change, root.change + 1);
}

static void test_rename_to_another_directory_moves_counts_and_parent(void **state) {
    Scene s = scene(state);

    assert_int_equal(fs_rename(s.fs, fs_at(s.a, "sub"), fs_at(s.b, "moved"), 0), 0);
    assert_dir(s.fs, s.a, 1, 2);
    assert_dir(s.fs, s.b, 2, 3);
    assert_int_equal(fs_attr(s.fs, s.sub).parent, s.b);
    assert_int_equal(fs_ino(s.fs, s.sub, ".."), s.b);
    assert_int_equal(fs_rename(s.fs, fs_at(s.a, "g"), fs_at(ROOT, "g"), 0), 0);
    assert_dir(s.fs, s.a, 0, 2);
    assert_dir(s.fs, ROOT, 4, 4);
    assert_int_equal(fs_attr(s.fs, s.g).parent, 0);
}

static void test_rename_over_a_file_ends_it(void **state) {
    Scene s = scene(state);
    struct mapfs_disk_orphan orphan;

    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(s.b, "h"), 0), 0);
    assert_int_equal(fs_ino(s.fs, s.b, "h"), s.f);
    assert_int_equal(fs_attr(s.fs, s.h).nlink, 0);
    assert_int_equal(mapfs_orphan_load(mapfs_store_tree(s.fs->store), s.h, &orphan), 1);
    assert_dir(s.fs, ROOT, 2, 4);
    assert_dir(s.fs, s.b, 1, 2);
}

static void test_rename_over_one_of_two_names_leaves_the_other(void **state) {
    Scene s = scene(state);
    struct mapfs_disk_orphan orphan;

    assert_int_equal(fs_link(s.fs, s.h, ROOT, "h2"), 0);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(s.b, "h"), 0), 0);
    assert_int_equal(fs_attr(s.fs, s.h).nlink, 1);
    assert_int_equal(mapfs_orphan_load(mapfs_store_tree(s.fs->store), s.h, &orphan), 0);
    assert_int_equal(fs_ino(s.fs, ROOT, "h2"), s.h);
}

static void test_rename_over_an_empty_directory_ends_it(void **state) {
    Scene s = scene(state);

    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "b"), fs_at(s.a, "sub"), 0), 0);
    assert_int_equal(fs_ino(s.fs, s.a, "sub"), s.b);
    assert_int_equal(fs_attr(s.fs, s.sub).nlink, 0);
    assert_int_equal(fs_attr(s.fs, s.b).parent, s.a);
    assert_dir(s.fs, ROOT, 2, 3);
    assert_dir(s.fs, s.a, 2, 3);
}

static void test_rename_in_a_directory_over_another_takes_one_subdirectory(void **state) {
    Scene s = scene(state);

    fs_make(s.fs, ROOT, "empty", S_IFDIR);
    assert_dir(s.fs, ROOT, 4, 5);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "a"), fs_at(ROOT, "empty"), 0), 0);
    assert_dir(s.fs, ROOT, 3, 4);
    assert_int_equal(fs_ino(s.fs, ROOT, "empty"), s.a);
}

static void test_rename_refuses_what_does_not_fit(void **state) {
    Scene s = scene(state);

    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "none"), fs_at(ROOT, "x"), 0), -ENOENT);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(ROOT, "a"), 0), -EISDIR);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "a"), fs_at(ROOT, "f"), 0), -ENOTDIR);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "a"), fs_at(ROOT, "b"), 0), -ENOTEMPTY);
    assert_int_equal(fs_rename(s.fs, fs_at(s.a, "sub"), fs_at(ROOT, "a"), 0), -ENOTEMPTY);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(s.g, "x"), 0), -ENOTDIR);
    assert_int_equal(fs_rename(s.fs, fs_at(s.g, "x"), fs_at(ROOT, "y"), 0), -ENOTDIR);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(999, "x"), 0), -ESTALE);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(ROOT, ".."), 0), -EINVAL);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(ROOT, "x"), 8), -EINVAL);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(ROOT, "x"), EXCHANGE | NOREPLACE), -EINVAL);
    assert_dir(s.fs, ROOT, 3, 4);
    assert_dir(s.fs, s.a, 2, 3);
}

static void test_rename_of_a_directory_below_itself_is_refused(void **state) {
    Scene s = scene(state);
    uint64_t deep = fs_make(s.fs, s.sub, "deep", S_IFDIR);

    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "a"), fs_at(s.a, "x"), 0), -EINVAL);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "a"), fs_at(s.sub, "x"), 0), -EINVAL);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "a"), fs_at(deep, "x"), 0), -EINVAL);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "a"), fs_at(s.sub, "deep"), EXCHANGE), -EINVAL);
    assert_int_equal(fs_rename(s.fs, fs_at(s.sub, "deep"), fs_at(ROOT, "a"), EXCHANGE), -EINVAL);
    assert_int_equal(fs_rename(s.fs, fs_at(s.sub, "deep"), fs_at(ROOT, "deep"), 0), 0);
}

static void test_rename_of_two_names_of_one_inode_does_nothing(void **state) {
    Scene s = scene(state);

    assert_int_equal(fs_link(s.fs, s.f, s.a, "f2"), 0);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(s.a, "f2"), 0), 0);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(ROOT, "f"), 0), 0);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "a"), fs_at(ROOT, "a"), 0), 0);
    assert_int_equal(fs_ino(s.fs, ROOT, "f"), s.f);
    assert_int_equal(fs_ino(s.fs, s.a, "f2"), s.f);
    assert_int_equal(fs_attr(s.fs, s.f).nlink, 2);
}

static void test_noreplace_refuses_a_taken_name(void **state) {
    Scene s = scene(state);

    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(s.a, "g"), NOREPLACE), -EEXIST);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(ROOT, "f"), NOREPLACE), -EEXIST);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(s.a, "x"), NOREPLACE), 0);
    assert_int_equal(fs_ino(s.fs, s.a, "x"), s.f);
}

static void test_exchange_swaps_files_and_directories(void **state) {
    Scene s = scene(state);

    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(s.a, "sub"), EXCHANGE), 0);
    assert_int_equal(fs_ino(s.fs, ROOT, "f"), s.sub);
    assert_int_equal(fs_ino(s.fs, s.a, "sub"), s.f);
    assert_int_equal(fs_attr(s.fs, s.sub).parent, ROOT);
    assert_dir(s.fs, ROOT, 3, 5);
    assert_dir(s.fs, s.a, 2, 2);
    assert_int_equal(fs_attr(s.fs, s.f).nlink, 1);
    assert_int_equal(fs_attr(s.fs, s.sub).nlink, 2);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "a"), fs_at(ROOT, "b"), EXCHANGE), 0);
    assert_int_equal(fs_ino(s.fs, ROOT, "a"), s.b);
    assert_dir(s.fs, ROOT, 3, 5);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "f"), fs_at(ROOT, "none"), EXCHANGE), -ENOENT);
}

static int fs_rename_whiteout(MapfsFs *fs, MapfsName from, MapfsName to, unsigned flags) {
    const MapfsNewInode owner = {.uid = 21, .gid = 22};

    return mapfs_fs_rename_whiteout(fs, &from, &to, flags, &owner);
}

static void assert_whiteout(MapfsFs *fs, uint64_t parent, const char *name, uint32_t gid) {
    uint64_t ino = fs_ino(fs, parent, name);
    MapfsAttr attr;

    assert_true(ino > 0);
    attr = fs_attr(fs, ino);
    assert_int_equal(attr.mode, S_IFCHR);
    assert_int_equal(attr.rdev_major, 0);
    assert_int_equal(attr.rdev_minor, 0);
    assert_int_equal(attr.nlink, 1);
    assert_int_equal(attr.size, 0);
    assert_int_equal(attr.uid, 21);
    assert_int_equal(attr.gid, gid);
}

static void test_whiteout_takes_the_old_name(void **state) {
    Scene s = scene(state);
    MapfsFsStatus before, after;

    mapfs_fs_statfs(s.fs, &before);
    assert_int_equal(fs_rename_whiteout(s.fs, fs_at(ROOT, "f"), fs_at(s.a, "moved"), 0), 0);
    mapfs_fs_statfs(s.fs, &after);
    assert_int_equal(after.n_inodes - after.n_inodes_free, before.n_inodes - before.n_inodes_free + 1);
    assert_whiteout(s.fs, ROOT, "f", 22);
    assert_int_equal(fs_ino(s.fs, s.a, "moved"), s.f);
    assert_dir(s.fs, ROOT, 3, 4);
    assert_dir(s.fs, s.a, 3, 3);
    /* In one directory, where the name is new there, and where it is taken. */
    assert_int_equal(fs_rename_whiteout(s.fs, fs_at(s.a, "moved"), fs_at(s.a, "f2"), MAPFS_FS_RENAME_NOREPLACE), 0);
    assert_dir(s.fs, s.a, 4, 3);
    assert_int_equal(fs_rename_whiteout(s.fs, fs_at(s.a, "f2"), fs_at(s.a, "g"), 0), 0);
    assert_whiteout(s.fs, s.a, "moved", 22);
    assert_whiteout(s.fs, s.a, "f2", 22);
    assert_int_equal(fs_ino(s.fs, s.a, "g"), s.f);
    assert_int_equal(fs_attr(s.fs, s.g).nlink, 0);
    assert_dir(s.fs, s.a, 4, 3);
}

static void test_whiteout_of_a_directory_counts_the_subdirectory_that_moved(void **state) {
    Scene s = scene(state);
    const MapfsAttr setgid = {.mode = 02755, .gid = 99};
    MapfsAttr attr;

    assert_int_equal(mapfs_fs_setattr(s.fs, s.a, MAPFS_SET_MODE | MAPFS_SET_GID, &setgid, &attr), 0);
    assert_int_equal(fs_rename_whiteout(s.fs, fs_at(s.a, "sub"), fs_at(ROOT, "sub"), 0), 0);
    assert_whiteout(s.fs, s.a, "sub", 99);
    assert_int_equal(fs_attr(s.fs, s.sub).parent, ROOT);
    assert_dir(s.fs, s.a, 2, 2);
    assert_dir(s.fs, ROOT, 4, 5);
    fs_fixture_remount(*state, false);
    s.fs = ((FsFixture *)*state)->fs;
    assert_whiteout(s.fs, s.a, "sub", 99);
    /* It is a name like any other. */
    assert_int_equal(fs_unlink(s.fs, s.a, "sub"), 0);
    assert_dir(s.fs, s.a, 1, 2);
}

static void test_whiteout_refuses_what_does_not_fit(void **state) {
    Scene s = scene(state);

    assert_int_equal(fs_rename_whiteout(s.fs, fs_at(ROOT, "f"), fs_at(s.a, "g"), EXCHANGE), -EINVAL);
    assert_int_equal(fs_rename_whiteout(s.fs, fs_at(ROOT, "f"), fs_at(s.a, "g"), NOREPLACE), -EEXIST);
    assert_int_equal(fs_rename_whiteout(s.fs, fs_at(ROOT, "none"), fs_at(s.a, "x"), 0), -ENOENT);
    assert_int_equal(fs_rename_whiteout(s.fs, fs_at(ROOT, "a"), fs_at(s.sub, "x"), 0), -EINVAL);
    assert_int_equal(fs_rename_whiteout(s.fs, fs_at(ROOT, "a"), fs_at(ROOT, "b"), 0), -ENOTEMPTY);
    assert_int_equal(fs_rename_whiteout(s.fs, fs_at(ROOT, "f"), fs_at(ROOT, "f"), 0), 0);
    assert_int_equal(fs_ino(s.fs, ROOT, "f"), s.f);
    assert_dir(s.fs, ROOT, 3, 4);
    assert_dir(s.fs, s.a, 2, 3);
}

static void test_rename_survives_a_remount(void **state) {
    Scene s = scene(state);

    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "a"), fs_at(s.b, "inside"), 0), 0);
    assert_int_equal(mapfs_fs_sync(s.fs), 0);
    assert_int_equal(fs_rename(s.fs, fs_at(s.b, "inside"), fs_at(ROOT, "lost"), 0), 0);
    fs_fixture_remount(*state, true);
    s.fs = ((FsFixture *)*state)->fs;
    assert_int_equal(fs_ino(s.fs, s.b, "inside"), s.a);
    assert_int_equal(fs_lookup(s.fs, ROOT, "lost"), -ENOENT);
}

/* Changes a directory's parent field, as damage would. */
static void set_parent(MapfsFs *fs, uint64_t dir, uint64_t parent) {
    struct mapfs_disk_inode inode;
    MapfsTxn txn;

    assert_int_equal(mapfs_fs_begin(fs, MAPFS_TXN_GROWS, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_inode_load(mapfs_store_tree(fs->store), dir, &inode), 0);
    inode.parent = mapfs_le64_store(parent);
    assert_int_equal(mapfs_inode_store(mapfs_store_tree(fs->store), dir, &inode), 0);
    mapfs_txn_end(&txn);
}

static void test_parents_in_a_circle_are_damage_and_no_endless_loop(void **state) {
    Scene s = scene(state);
    uint64_t deep = fs_make(s.fs, s.sub, "deep", S_IFDIR);

    set_parent(s.fs, s.a, deep);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "b"), fs_at(s.sub, "x"), 0), -EUCLEAN);
    set_parent(s.fs, s.a, s.a);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "b"), fs_at(s.sub, "x"), 0), -EUCLEAN);
    set_parent(s.fs, s.a, 12345);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "b"), fs_at(s.sub, "x"), 0), -EUCLEAN);
    set_parent(s.fs, s.a, ROOT);
    assert_int_equal(fs_rename(s.fs, fs_at(ROOT, "b"), fs_at(s.sub, "x"), 0), 0);
}

static void test_directory_that_is_an_entry_of_itself_is_damage(void **state) {
    Scene s = scene(state);
    uint64_t cookie;
    MapfsTxn txn;

    assert_int_equal(mapfs_fs_begin(s.fs, MAPFS_TXN_GROWS, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_dirent_find_slot(s.fs, &(MapfsName){s.b, "self", 4}, &cookie), 0);
    assert_int_equal(mapfs_dirent_store(s.fs, &(MapfsName){s.b, "self", 4}, cookie, s.b, S_IFDIR), 0);
    mapfs_txn_end(&txn);
    assert_int_equal(fs_rename(s.fs, fs_at(s.b, "self"), fs_at(s.b, "other"), 0), -EUCLEAN);
    assert_int_equal(fs_rename(s.fs, fs_at(s.b, "self"), fs_at(ROOT, "other"), 0), -EUCLEAN);
    assert_int_equal(fs_rmdir(s.fs, s.b, "self"), -EUCLEAN);
    assert_int_equal(mapfs_store_error(s.fs->store), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fs_fixture_setup, fs_fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_rename_in_a_directory_keeps_the_inode),
        TEST(test_rename_to_another_directory_moves_counts_and_parent),
        TEST(test_rename_over_a_file_ends_it),
        TEST(test_rename_over_one_of_two_names_leaves_the_other),
        TEST(test_rename_over_an_empty_directory_ends_it),
        TEST(test_rename_in_a_directory_over_another_takes_one_subdirectory),
        TEST(test_rename_refuses_what_does_not_fit),
        TEST(test_rename_of_a_directory_below_itself_is_refused),
        TEST(test_rename_of_two_names_of_one_inode_does_nothing),
        TEST(test_noreplace_refuses_a_taken_name),
        TEST(test_exchange_swaps_files_and_directories),
        TEST(test_whiteout_takes_the_old_name),
        TEST(test_whiteout_of_a_directory_counts_the_subdirectory_that_moved),
        TEST(test_whiteout_refuses_what_does_not_fit),
        TEST(test_rename_survives_a_remount),
        TEST(test_parents_in_a_circle_are_damage_and_no_endless_loop),
        TEST(test_directory_that_is_an_entry_of_itself_is_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
