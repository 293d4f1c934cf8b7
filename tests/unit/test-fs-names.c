/* SPDX-License-Identifier: MIT */

/* Names: create, lookup, link, unlink, rmdir, symlinks, and what they do to the directories. */

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
#include "fs/dirent-private.h"
#include "fs/fs-private.h"

#define ROOT MAPFS_INO_ROOT

static bool later(struct timespec a, struct timespec b) {
    return a.tv_sec > b.tv_sec || (a.tv_sec == b.tv_sec && a.tv_nsec > b.tv_nsec);
}

static void test_format_makes_an_empty_root(void **state) {
    MapfsAttr root = fs_attr(fs_of(state), ROOT);

    assert_int_equal(root.mode, S_IFDIR | 0755);
    assert_int_equal(root.uid, 7);
    assert_int_equal(root.gid, 8);
    assert_int_equal(root.nlink, 2);
    assert_int_equal(root.size, 0);
    assert_int_equal(root.parent, ROOT);
}

static void test_create_is_found_by_lookup_with_the_same_attributes(void **state) {
    MapfsFs *fs = fs_of(state);
    const MapfsNewInode new_inode = {.mode = S_IFREG | 0640, .uid = 11, .gid = 12};
    MapfsAttr made, found;

    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){ROOT, "file", 4}, &new_inode, &made), 0);
    assert_int_equal(mapfs_fs_lookup(fs, ROOT, "file", 4, &found), 0);
    assert_memory_equal(&made, &found, sizeof(made));
    assert_int_equal(found.mode, S_IFREG | 0640);
    assert_int_equal(found.uid, 11);
    assert_int_equal(found.gid, 12);
    assert_int_equal(found.nlink, 1);
    assert_int_equal(found.size, 0);
    assert_true(found.ino > ROOT);
}

static void test_create_makes_every_type(void **state) {
    static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK};
    MapfsFs *fs = fs_of(state);

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(types); i++) {
        const char name[2] = {(char)('a' + i), 0};
        const MapfsNewInode new_inode = {.mode = types[i] | 0600, .rdev_major = 5, .rdev_minor = 300};
        bool device = types[i] == S_IFCHR || types[i] == S_IFBLK;
        MapfsAttr attr;

        assert_int_equal(mapfs_fs_create(fs, &(MapfsName){ROOT, name, 1}, &new_inode, &attr), 0);
        assert_int_equal(attr.mode, types[i] | 0600);
        assert_int_equal(attr.rdev_major, device ? 5 : 0);
        assert_int_equal(attr.rdev_minor, device ? 300 : 0);
    }
    fs_fixture_remount(*state, false);
    fs = fs_of(state);
    assert_int_equal(fs_attr(fs, fs_ino(fs, ROOT, "c")).rdev_minor, 300);
}

static void test_create_refuses_bad_names_modes_and_parents(void **state) {
    MapfsFs *fs = fs_of(state);
    const MapfsNewInode file = {.mode = S_IFREG}, with_target = {.mode = S_IFREG, .target = "x", .target_len = 1};
    char name[256];
    MapfsAttr attr;

    memset(name, 'n', sizeof(name));
    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){ROOT, name, 256}, &file, &attr), -ENAMETOOLONG);
    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){ROOT, name, 255}, &file, &attr), 0);
    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){ROOT, name, 0}, &file, &attr), -EINVAL);
    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){ROOT, "a/b", 3}, &file, &attr), -EINVAL);
    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){ROOT, "a\0b", 3}, &file, &attr), -EINVAL);
    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){ROOT, "..", 2}, &file, &attr), -EINVAL);
    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){ROOT, "t", 1}, &with_target, &attr), -EINVAL);
    assert_int_equal(fs_create(fs, ROOT, "t", 0644), -EINVAL);
    assert_int_equal(fs_create(fs, ROOT, "t", S_IFREG | 0200000), -EINVAL);
    assert_int_equal(fs_create(fs, 999, "t", S_IFREG), -ESTALE);
    assert_int_equal(fs_create(fs, ROOT, "f", S_IFREG), 0);
    assert_int_equal(fs_create(fs, ROOT, "f", S_IFREG), -EEXIST);
    assert_int_equal(fs_create(fs, fs_ino(fs, ROOT, "f"), "t", S_IFREG), -ENOTDIR);
}

static void test_create_keeps_count_of_entries_and_subdirectories(void **state) {
    MapfsFs *fs = fs_of(state);
    MapfsAttr before = fs_attr(fs, ROOT), after;

    fs_make(fs, ROOT, "d", S_IFDIR | 0700);
    fs_make(fs, ROOT, "f", S_IFREG | 0600);
    after = fs_attr(fs, ROOT);
    assert_int_equal(after.size, 2);
    assert_int_equal(after.nlink, 3);
    assert_true(later(after.mtime, before.mtime));
    assert_true(later(after.ctime, before.ctime));
    assert_int_equal(after.change, before.change + 2);
    assert_int_equal(fs_attr(fs, fs_ino(fs, ROOT, "d")).nlink, 2);
    assert_int_equal(fs_attr(fs, fs_ino(fs, ROOT, "d")).parent, ROOT);
}

static void test_setgid_directory_hands_its_group_down(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t dir = fs_make(fs, ROOT, "d", S_IFDIR | S_ISGID | 0755);
    const MapfsNewInode file = {.mode = S_IFREG | 0644, .uid = 1, .gid = 2}, sub = {.mode = S_IFDIR | 0755, .gid = 2};
    MapfsAttr attr, set = {.gid = 50};

    assert_int_equal(mapfs_fs_setattr(fs, dir, MAPFS_SET_GID, &set, &attr), 0);
    assert_int_equal(attr.mode, S_IFDIR | S_ISGID | 0755);
    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){dir, "f", 1}, &file, &attr), 0);
    assert_int_equal(attr.gid, 50);
    assert_int_equal(attr.mode, S_IFREG | 0644);
    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){dir, "s", 1}, &sub, &attr), 0);
    assert_int_equal(attr.gid, 50);
    assert_int_equal(attr.mode, S_IFDIR | S_ISGID | 0755);
}

static void test_lookup_tells_why_nothing_was_found(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG);
    char name[256];
    MapfsAttr attr;

    memset(name, 'n', sizeof(name));
    assert_int_equal(fs_lookup(fs, ROOT, "none"), -ENOENT);
    assert_int_equal(fs_lookup(fs, file, "none"), -ENOTDIR);
    assert_int_equal(fs_lookup(fs, 999, "none"), -ESTALE);
    assert_int_equal(mapfs_fs_lookup(fs, ROOT, name, 256, &attr), -ENAMETOOLONG);
    assert_int_equal(mapfs_fs_getattr(fs, 999, &attr), -ESTALE);
    assert_int_equal(mapfs_fs_getattr(fs, 0, &attr), -ESTALE);
    assert_int_equal(mapfs_fs_getattr(fs, MAPFS_OBJECT_GROUPS, &attr), -ESTALE);
}

static void test_lookup_knows_dot_and_dot_dot(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t dir = fs_make(fs, ROOT, "d", S_IFDIR), file = fs_make(fs, dir, "f", S_IFREG);

    assert_int_equal(fs_ino(fs, dir, "."), dir);
    assert_int_equal(fs_ino(fs, dir, ".."), ROOT);
    assert_int_equal(fs_ino(fs, ROOT, ".."), ROOT);
    assert_int_equal(fs_lookup(fs, file, ".."), -ENOTDIR);
    assert_int_equal(fs_lookup(fs, dir, "..."), -ENOENT);
}

static void test_symlink_targets_of_every_length_come_back(void **state) {
    MapfsFs *fs = fs_of(state);
    static const size_t lens[] = {1, 1535, 1536, 1537, 3072, 3073, 4095};
    char target[4096], back[MAPFS_SYMLINK_LEN_MAX + 1];

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(lens); i++) {
        const char name[2] = {(char)('a' + i), 0};

        for (size_t k = 0; k < lens[i]; k++)
            target[k] = (char)('A' + (k * 7 + i) % 50);
        target[lens[i]] = '\0';
        assert_int_equal(fs_symlink(fs, ROOT, name, target), 0);
        fs_fixture_remount(*state, false);
        fs = fs_of(state);
        assert_int_equal(mapfs_fs_readlink(fs, fs_ino(fs, ROOT, name), back), 0);
        assert_string_equal(back, target);
        assert_int_equal(fs_attr(fs, fs_ino(fs, ROOT, name)).size, lens[i]);
    }
}

static void test_symlink_refuses_bad_targets(void **state) {
    MapfsFs *fs = fs_of(state);
    char target[4097], back[MAPFS_SYMLINK_LEN_MAX + 1];
    const MapfsNewInode nul = {.mode = S_IFLNK | 0777, .target = "a\0b", .target_len = 3};
    MapfsAttr attr;

    memset(target, 't', 4096);
    target[4096] = '\0';
    assert_int_equal(fs_symlink(fs, ROOT, "l", target), -ENAMETOOLONG);
    assert_int_equal(fs_symlink(fs, ROOT, "l", ""), -ENOENT);
    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){ROOT, "l", 1}, &nul, &attr), -EINVAL);
    assert_int_equal(mapfs_fs_readlink(fs, ROOT, back), -EINVAL);
    assert_int_equal(mapfs_fs_readlink(fs, 999, back), -ESTALE);
}

static void test_link_adds_a_name(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG), dir = fs_make(fs, ROOT, "d", S_IFDIR);
    MapfsAttr before = fs_attr(fs, file), after;

    assert_int_equal(fs_link(fs, file, dir, "g"), 0);
    assert_int_equal(fs_ino(fs, dir, "g"), file);
    after = fs_attr(fs, file);
    assert_int_equal(after.nlink, 2);
    assert_true(later(after.ctime, before.ctime));
    assert_false(later(after.mtime, before.mtime));
    assert_int_equal(fs_attr(fs, dir).size, 1);
    assert_int_equal(fs_attr(fs, dir).nlink, 2);
}

static void test_link_refuses_directories_and_taken_names(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG), dir = fs_make(fs, ROOT, "d", S_IFDIR);

    assert_int_equal(fs_link(fs, dir, ROOT, "e"), -EPERM);
    assert_int_equal(fs_link(fs, file, ROOT, "d"), -EEXIST);
    assert_int_equal(fs_link(fs, file, file, "x"), -ENOTDIR);
    assert_int_equal(fs_link(fs, 999, ROOT, "x"), -ESTALE);
    assert_int_equal(fs_link(fs, file, 999, "x"), -ESTALE);
    assert_int_equal(fs_link(fs, file, ROOT, ""), -EINVAL);
    mapfs_fs_forget(fs, file, 1);
    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    assert_int_equal(fs_link(fs, file, ROOT, "x"), -ENOENT);
    assert_int_equal(fs_attr(fs, file).nlink, 0);
}

static void set_nlink(MapfsFs *fs, uint64_t ino, uint32_t nlink) {
    struct mapfs_disk_inode inode;
    MapfsTxn txn;

    assert_int_equal(mapfs_fs_begin(fs, MAPFS_TXN_GROWS, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_inode_load(mapfs_store_tree(fs->store), ino, &inode), 0);
    inode.nlink = mapfs_le32_store(nlink);
    assert_int_equal(mapfs_inode_store(mapfs_store_tree(fs->store), ino, &inode), 0);
    mapfs_txn_end(&txn);
}

static void test_link_counts_have_a_limit(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG), dir = fs_make(fs, ROOT, "d", S_IFDIR);

    set_nlink(fs, file, MAPFS_LINK_MAX);
    set_nlink(fs, dir, MAPFS_LINK_MAX);
    assert_int_equal(fs_link(fs, file, ROOT, "g"), -EMLINK);
    assert_int_equal(fs_create(fs, dir, "sub", S_IFDIR), -EMLINK);
    assert_int_equal(fs_create(fs, dir, "file", S_IFREG), 0);
    assert_int_equal(fs_create(fs, ROOT, "sub", S_IFDIR), 0);
    assert_int_equal(fs_rename(fs, fs_at(ROOT, "sub"), fs_at(dir, "sub"), 0), -EMLINK);
}

static void test_unlink_takes_one_name(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG);
    struct mapfs_disk_orphan orphan;

    assert_int_equal(fs_link(fs, file, ROOT, "g"), 0);
    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    assert_int_equal(fs_lookup(fs, ROOT, "f"), -ENOENT);
    assert_int_equal(fs_attr(fs, file).nlink, 1);
    assert_int_equal(mapfs_orphan_load(mapfs_store_tree(fs->store), file, &orphan), 0);
    assert_int_equal(fs_unlink(fs, ROOT, "g"), 0);
    assert_int_equal(fs_attr(fs, file).nlink, 0);
    assert_int_equal(fs_attr(fs, ROOT).size, 0);
    assert_int_equal(mapfs_orphan_load(mapfs_store_tree(fs->store), file, &orphan), 1);
    assert_int_equal(mapfs_le32_load(orphan.flags), MAPFS_ORPHAN_UNLINKED);
}

static void test_unlink_and_rmdir_refuse_what_does_not_fit(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t dir = fs_make(fs, ROOT, "d", S_IFDIR), file = fs_make(fs, dir, "f", S_IFREG);

    assert_int_equal(fs_unlink(fs, ROOT, "none"), -ENOENT);
    assert_int_equal(fs_unlink(fs, ROOT, "d"), -EISDIR);
    assert_int_equal(fs_unlink(fs, file, "x"), -ENOTDIR);
    assert_int_equal(fs_unlink(fs, 999, "x"), -ESTALE);
    assert_int_equal(fs_unlink(fs, ROOT, ".."), -EINVAL);
    assert_int_equal(fs_rmdir(fs, ROOT, "none"), -ENOENT);
    assert_int_equal(fs_rmdir(fs, dir, "f"), -ENOTDIR);
    assert_int_equal(fs_rmdir(fs, ROOT, "d"), -ENOTEMPTY);
    assert_int_equal(fs_unlink(fs, dir, "f"), 0);
    assert_int_equal(fs_rmdir(fs, ROOT, "d"), 0);
}

static void test_removed_directory_takes_no_names(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t dir = fs_make(fs, ROOT, "d", S_IFDIR), file = fs_make(fs, ROOT, "f", S_IFREG);
    struct mapfs_disk_orphan orphan;

    assert_int_equal(fs_rmdir(fs, ROOT, "d"), 0);
    assert_int_equal(fs_attr(fs, dir).nlink, 0);
    assert_int_equal(fs_attr(fs, ROOT).nlink, 2);
    assert_int_equal(mapfs_orphan_load(mapfs_store_tree(fs->store), dir, &orphan), 1);
    assert_int_equal(fs_create(fs, dir, "x", S_IFREG), -ENOENT);
    assert_int_equal(fs_link(fs, file, dir, "x"), -ENOENT);
    assert_int_equal(fs_rename(fs, fs_at(ROOT, "f"), fs_at(dir, "x"), 0), -ENOENT);
    assert_int_equal(fs_lookup(fs, dir, "x"), -ENOENT);
}

static void test_unlinked_inode_is_queued_with_its_last_lookup(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG), ino;
    MapfsAttr attr;

    assert_int_equal(mapfs_fs_lookup(fs, ROOT, "f", 1, &attr), 0);
    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    assert_true(mapfs_inode_in_use(fs, file));
    assert_false(mapfs_reclaim_queue_take(fs, &ino));
    mapfs_fs_forget(fs, file, 1);
    assert_false(mapfs_reclaim_queue_take(fs, &ino));
    mapfs_fs_forget(fs, file, 1);
    assert_false(mapfs_inode_in_use(fs, file));
    assert_true(mapfs_reclaim_queue_take(fs, &ino));
    assert_int_equal(ino, file);
    assert_false(mapfs_reclaim_queue_take(fs, &ino));
}

static void test_unlink_without_lookups_queues_at_once_and_so_does_a_mount(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG), ino;

    mapfs_fs_forget(fs, file, 1);
    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    assert_true(mapfs_reclaim_queue_take(fs, &ino));
    assert_int_equal(ino, file);
    fs_fixture_remount(*state, false);
    fs = fs_of(state);
    assert_true(mapfs_reclaim_queue_take(fs, &ino));
    assert_int_equal(ino, file);
}

static void test_inode_numbers_are_never_reused(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t last = 0;

    for (unsigned i = 0; i < 20; i++) {
        uint64_t ino = fs_make(fs, ROOT, "f", S_IFREG);

        assert_true(ino > last);
        last = ino;
        mapfs_fs_forget(fs, ino, 1);
        assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
        if (i % 5 == 0) {
            fs_fixture_remount(*state, false);
            fs = fs_of(state);
        }
    }
}

/* Entries with other names in a bucket: names that share a 59-bit hash cannot be made, so they are put there. */
static void bucket_fill(MapfsFs *fs, const char *name, unsigned first, unsigned n, uint64_t ino) {
    const MapfsName at = fs_at(ROOT, name);
    uint64_t bucket = mapfs_dirent_name_key(fs, &at).offset;
    MapfsTxn txn;

    assert_int_equal(mapfs_fs_begin(fs, MAPFS_TXN_GROWS, n, &txn), 0);
    mapfs_txn_lock(&txn);
    for (unsigned slot = first; slot < first + n; slot++) {
        char other[8] = {'o', 't', 'h', 'e', 'r', '-', (char)('a' + slot), 0};

        assert_int_equal(mapfs_dirent_store(fs, &(MapfsName){ROOT, other, 7}, bucket | slot, ino, S_IFREG), 0);
    }
    mapfs_txn_end(&txn);
}

static void test_names_with_the_same_hash_take_the_slots(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG);
    MapfsDirent dirent;

    bucket_fill(fs, "collides", 0, 9, file);
    bucket_fill(fs, "collides", 10, 6, file);
    assert_int_equal(fs_lookup(fs, ROOT, "collides"), -ENOENT);
    assert_int_equal(fs_create(fs, ROOT, "collides", S_IFREG), 0);
    assert_int_equal(fs_lookup(fs, ROOT, "collides"), 0);
    assert_int_equal(mapfs_dirent_lookup(fs, &(MapfsName){ROOT, "collides", 8}, &dirent), 1);
    assert_int_equal(dirent.cookie % MAPFS_DIRENT_SLOTS, 9);
    assert_int_equal(fs_unlink(fs, ROOT, "collides"), 0);
    bucket_fill(fs, "collides", 9, 1, file);
    assert_int_equal(fs_create(fs, ROOT, "collides", S_IFREG), -ENOSPC);
    assert_int_equal(fs_link(fs, file, ROOT, "collides"), -ENOSPC);
    assert_int_equal(fs_rename(fs, fs_at(ROOT, "f"), fs_at(ROOT, "collides"), 0), -ENOSPC);
    assert_int_equal(mapfs_store_error(fs->store), 0);
}

static void test_unnamed_file_is_an_orphan_until_it_is_adopted(void **state) {
    MapfsFs *fs = fs_of(state);
    struct mapfs_disk_record_create create = {.mode = mapfs_le32_store(S_IFREG | 0600)};
    union {
        struct mapfs_disk_record_name name;
        uint8_t bytes[64];
    } adopt = {.name = {.parent = mapfs_le64_store(ROOT), .name_len = 4}};
    struct mapfs_disk_orphan orphan;
    uint64_t file, ino;
    MapfsIno next;
    MapfsTxn txn;

    memcpy(adopt.name.name, "born", 4);
    mapfs_record_init(&create.header, MAPFS_RECORD_CREATE, sizeof(create), mapfs_fs_now());
    mapfs_record_init(&adopt.name.header, MAPFS_RECORD_ADOPT, sizeof(adopt.name) + 4, mapfs_fs_now());
    assert_int_equal(mapfs_fs_begin(fs, MAPFS_TXN_GROWS, 12, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_txn_next_ino(&txn, &next), 0);
    file = next.n;
    create.ino = mapfs_le64_store(file);
    adopt.name.ino = mapfs_le64_store(file);
    assert_int_equal(mapfs_record_check(&create, sizeof(create)), 0);
    assert_int_equal(mapfs_record_check(&adopt, sizeof(adopt)), 0);
    assert_int_equal(mapfs_record_run(fs, &txn, &create.header), 0);
    assert_int_equal(mapfs_orphan_load(mapfs_store_tree(fs->store), file, &orphan), 1);
    assert_true(mapfs_reclaim_queue_take(fs, &ino));
    assert_int_equal(ino, file);
    assert_int_equal(mapfs_record_run(fs, &txn, &adopt.name.header), 0);
    assert_int_equal(mapfs_orphan_load(mapfs_store_tree(fs->store), file, &orphan), 0);
    assert_int_equal(mapfs_record_run(fs, &txn, &adopt.name.header), -EEXIST);
    mapfs_txn_end(&txn);
    assert_int_equal(fs_ino(fs, ROOT, "born"), file);
    assert_int_equal(fs_attr(fs, file).nlink, 1);
}

static void test_read_only_filesystem_takes_no_change(void **state) {
    FsFixture *fixture = *state;
    const MapfsStoreOptions options = {.read_only = true};
    uint64_t file = fs_make(fixture->fs, ROOT, "f", S_IFREG);
    MapfsAttr attr = {0};

    assert_int_equal(mapfs_fs_close(fixture->fs), 0);
    assert_int_equal(mapfs_fs_open(fixture->image, &options, &fixture->fs), 0);
    assert_int_equal(fs_ino(fixture->fs, ROOT, "f"), file);
    assert_int_equal(fs_create(fixture->fs, ROOT, "g", S_IFREG), -EROFS);
    assert_int_equal(fs_link(fixture->fs, file, ROOT, "g"), -EROFS);
    assert_int_equal(fs_unlink(fixture->fs, ROOT, "f"), -EROFS);
    assert_int_equal(fs_rename(fixture->fs, fs_at(ROOT, "f"), fs_at(ROOT, "g"), 0), -EROFS);
    assert_int_equal(mapfs_fs_setattr(fixture->fs, file, MAPFS_SET_MODE, &attr, &attr), -EROFS);
    assert_int_equal(mapfs_fs_setxattr(fixture->fs, file, "user.a", (MapfsBytes){"b", 1}, 0), -EROFS);
}

static void test_full_image_says_so_and_recovers(void **state) {
    MapfsFs *fs = fs_of(state);
    MapfsFsStatus before, full;
    char name[16];
    unsigned n = 0;
    int r;

    mapfs_fs_statfs(fs, &before);
    do {
        snprintf(name, sizeof(name), "%u", n);
        r = fs_create(fs, ROOT, name, S_IFREG);
        n += r == 0;
    } while (r == 0);
    assert_int_equal(r, -ENOSPC);
    assert_true(n > 1000);
    mapfs_fs_statfs(fs, &full);
    assert_true(full.n_free < before.n_free);
    assert_int_equal(fs_attr(fs, ROOT).size, n);
    /* The reserve lets everything be removed. */
    for (unsigned i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "%u", i);
        assert_int_equal(fs_unlink(fs, ROOT, name), 0);
        if (i % 16 == 0)
            assert_int_equal(mapfs_fs_reclaim(fs), 0);
    }
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    assert_int_equal(fs_create(fs, ROOT, "again", S_IFREG), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fs_fixture_setup, fs_fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_format_makes_an_empty_root),
        TEST(test_create_is_found_by_lookup_with_the_same_attributes),
        TEST(test_create_makes_every_type),
        TEST(test_create_refuses_bad_names_modes_and_parents),
        TEST(test_create_keeps_count_of_entries_and_subdirectories),
        TEST(test_setgid_directory_hands_its_group_down),
        TEST(test_lookup_tells_why_nothing_was_found),
        TEST(test_lookup_knows_dot_and_dot_dot),
        TEST(test_symlink_targets_of_every_length_come_back),
        TEST(test_symlink_refuses_bad_targets),
        TEST(test_link_adds_a_name),
        TEST(test_link_refuses_directories_and_taken_names),
        TEST(test_link_counts_have_a_limit),
        TEST(test_unlink_takes_one_name),
        TEST(test_unlink_and_rmdir_refuse_what_does_not_fit),
        TEST(test_removed_directory_takes_no_names),
        TEST(test_unlinked_inode_is_queued_with_its_last_lookup),
        TEST(test_unlink_without_lookups_queues_at_once_and_so_does_a_mount),
        TEST(test_inode_numbers_are_never_reused),
        TEST(test_names_with_the_same_hash_take_the_slots),
        TEST(test_unnamed_file_is_an_orphan_until_it_is_adopted),
        TEST(test_read_only_filesystem_takes_no_change),
        TEST(test_full_image_says_so_and_recovers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
