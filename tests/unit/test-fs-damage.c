/* SPDX-License-Identifier: MIT */

/* File data whose items in the tree contradict each other or lead out of the image, as only a damaged image has them: an
 * error, and no byte stored where it does not belong. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

#include "fs-fixture.h"
#include "fs/acl-private.h"
#include "fs/data-private.h"
#include "fs/xattr-private.h"

#define ROOT MAPFS_INO_ROOT
#define BLOCK ((uint64_t)MAPFS_BLOCK_SIZE)

static int set_size(MapfsFs *fs, uint64_t ino, uint64_t size) {
    MapfsAttr attr = {.size = size};

    return mapfs_fs_setattr(fs, ino, MAPFS_SET_SIZE, &attr, &attr);
}

static uint64_t make_scattered(MapfsFs *fs, const char *name, unsigned n) {
    uint64_t ino = fs_make(fs, ROOT, name, 0100644);

    for (unsigned i = 0; i < n; i++)
        assert_int_equal(mapfs_fs_write(fs, ino, 2 * i * BLOCK, "x", 1), 1);
    return ino;
}

/* Changes an item behind the filesystem's back. */
static void damage_put(MapfsFs *fs, MapfsKey key, const void *value, size_t value_len) {
    MapfsTxn txn;

    assert_int_equal(mapfs_txn_begin(mapfs_fs_store(fs), MAPFS_TXN_FREES, 2, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_tree_put(mapfs_store_tree(mapfs_fs_store(fs)), key, value, value_len), 0);
    (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
}

static int abandon(void **state) {
    FsFixture *fixture = *state;

    mapfs_fs_abandon(fixture->fs);
    mapfs_image_close(fixture->image);
    g_free(fixture);
    return 0;
}

static void test_content_longer_than_its_file_is_damage(void **state) {
    const uint64_t sizes[] = {0, 1, 1400};
    MapfsFs *fs = fs_of(state);
    uint8_t bytes[MAPFS_INLINE_MAX];

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(sizes); i++) {
        uint64_t ino = fs_make(fs, ROOT, (const char *[]){"a", "b", "c"}[i], 0100644);
        struct mapfs_disk_inode inode;

        memset(bytes, 'c', sizeof(bytes));
        assert_int_equal(mapfs_fs_write(fs, ino, 0, bytes, sizeof(bytes)), sizeof(bytes));
        mapfs_store_read_lock(mapfs_fs_store(fs));
        assert_int_equal(mapfs_inode_load(mapfs_store_tree(mapfs_fs_store(fs)), ino, &inode), 0);
        mapfs_store_read_unlock(mapfs_fs_store(fs));
        inode.size = mapfs_le64_store(sizes[i]);
        damage_put(fs, mapfs_inode_key(ino), &inode, sizeof(inode));
        assert_int_equal(mapfs_fs_write(fs, ino, 0, "x", 1), -EUCLEAN);
        assert_int_equal(mapfs_fs_write(fs, ino, 100000, "x", 1), -EUCLEAN);
        assert_int_equal(set_size(fs, ino, 10), -EUCLEAN);
        assert_int_equal(set_size(fs, ino, 10000), -EUCLEAN);
        assert_int_equal(mapfs_fs_read(fs, ino, 0, bytes, sizeof(bytes)), sizes[i] > 0 ? -EUCLEAN : 0);
    }
}

static int sync_anyhow(MapfsFs *fs, uint64_t ino) {
    int r = mapfs_fs_write(fs, ino, 9 * BLOCK, "x", 1);

    return r < 0 ? r : mapfs_fs_sync(fs);
}

static void test_extents_outside_the_image_are_damage(void **state) {
    const struct {
        uint64_t block;
        uint32_t n_blocks;
    } bad[] = {
        {FS_FIXTURE_BLOCKS, 1}, {FS_FIXTURE_BLOCKS + 1, 2}, {UINT64_MAX, 1}, {UINT64_MAX - 1, 8}, {0, 1}, {1, 3}};
    MapfsFs *fs = fs_of(state);
    uint64_t ino = 0;
    MapfsExtent extent;
    int r;

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(bad); i++) {
        struct mapfs_disk_extent value;
        char name[2] = {(char)('a' + i), 0};
        uint8_t byte;

        ino = make_scattered(fs, name, 2);
        mapfs_store_read_lock(mapfs_fs_store(fs));
        assert_int_equal(mapfs_extent_find(mapfs_store_tree(mapfs_fs_store(fs)), ino, 0, &extent), 1);
        mapfs_store_read_unlock(mapfs_fs_store(fs));
        value = (struct mapfs_disk_extent){.block = mapfs_le64_store(bad[i].block),
                                           .n_blocks = mapfs_le32_store(bad[i].n_blocks),
                                           .birth_generation = mapfs_le64_store(extent.birth_generation),
                                           .birth_epoch = mapfs_le64_store(extent.birth_epoch)};
        damage_put(fs, mapfs_extent_key(ino, 0), &value, sizeof(value));
        r = mapfs_fs_read(fs, ino, 0, &byte, 1);
        assert_true(r == -EUCLEAN || bad[i].block < 2);
        /* Superblocks can be read, and so copied, but not stored into. */
        r = mapfs_fs_write(fs, ino, 0, "x", 1);
        assert_true(r == -EUCLEAN || (r == 1 && bad[i].block < 2));
        r = set_size(fs, ino, 20);
        assert_true(r == 0 || r == -EUCLEAN);
    }
    /* What was freed with them stops the store when it is given back, and does no other harm. */
    for (unsigned i = 0; i < 3; i++)
        r = sync_anyhow(fs, ino);
    assert_in_range(-r, 0, EUCLEAN);
}

/* Leaves with entries of the root directory, which have been read, as runs of a pending free: the store gives their blocks back although
 * the tree goes on using them. At most n_max, in their order. */
static unsigned leaves_collect(MapfsFs *fs, struct mapfs_disk_pending_run *runs, unsigned n_max) {
    MapfsCursor cursor;
    MapfsItem item;
    unsigned n = 0;
    int r;

    mapfs_store_read_lock(mapfs_fs_store(fs));
    r = mapfs_cursor_begin(&cursor, mapfs_store_tree(mapfs_fs_store(fs)),
                           (MapfsKey){.object = ROOT, .kind = MAPFS_KIND_DIRENT}, &item);
    for (; r > 0 && item.key.object == ROOT && n < n_max; r = mapfs_cursor_next(&cursor, &item)) {
        const struct mapfs_disk_header *header = cursor.path[0].node;

        if (n == 0 || runs[n - 1].block.raw != header->address.raw)
            runs[n++] = (struct mapfs_disk_pending_run){.block = header->address, .n_blocks = mapfs_le32_store(1)};
    }
    mapfs_store_read_unlock(mapfs_fs_store(fs));
    return n;
}

static int run_compare(const void *a, const void *b) {
    const struct mapfs_disk_pending_run *x = a, *y = b;

    return mapfs_le64_load(x->block) < mapfs_le64_load(y->block) ? -1 : 1;
}

static int list_nothing(void *user, const MapfsDirEntry *entry) {
    (void)user;
    (void)entry;
    return 1;
}

/* Gives the blocks of leaves back, which a walk then reads again. */
static void free_leaves(MapfsFs *fs) {
    struct mapfs_disk_pending_run runs[MAPFS_PENDING_RUNS_MAX];
    MapfsKey key = {.object = MAPFS_OBJECT_PENDING + 1, .kind = MAPFS_KIND_PENDING};
    unsigned n = leaves_collect(fs, runs, MAPFS_PENDING_RUNS_MAX);

    assert_true(n > 10);
    qsort(runs, n, sizeof(runs[0]), run_compare);
    key.offset = mapfs_le64_load(runs[0].block);
    damage_put(fs, key, runs, n * sizeof(runs[0]));
    assert_int_equal(mapfs_fs_sync(fs), 0);
    assert_int_equal(mapfs_fs_readdir(fs, ROOT, &(MapfsDirScan){0, false, list_nothing, NULL}), 0);
}

#define N_CHANGES 4u

/* Each takes a new block for data. */
static int change_data(MapfsFs *fs, uint64_t ino, unsigned change) {
    switch (change) {
    case 0:
        return set_size(fs, ino, 5000);
    case 1:
        return mapfs_fs_allocate(fs, ino, 0, (MapfsIoRange){0, 20000});
    case 2:
        return mapfs_fs_write(fs, ino, 4000, "x", 1);
    default:
        return mapfs_fs_allocate(fs, ino, MAPFS_ALLOCATE_ZERO, (MapfsIoRange){0, 20000});
    }
}

/* The bitmap calls blocks free that nodes of the tree lie in: whoever gets them for data must not store there. */
static void test_free_blocks_that_hold_nodes_take_no_data(void **state) {
    FsFixture *fixture = *state;
    char name[200], bytes[1000];
    uint64_t files[60];

    memset(bytes, 'b', sizeof(bytes));
    for (unsigned change = 0; change < N_CHANGES; change++) {
        bool is_refused = false;

        fs_fixture_close(fixture);
        fs_fixture_open(fixture, 512, NULL);
        for (unsigned i = 0; i < 400; i++) {
            (void)snprintf(name, sizeof(name), "%0150u", i);
            files[i % MAPFS_N_ELEMENTS(files)] = fs_make(fixture->fs, ROOT, name, 0100644);
        }
        for (unsigned i = 0; i < MAPFS_N_ELEMENTS(files); i++)
            assert_int_equal(mapfs_fs_write(fixture->fs, files[i], 0, bytes, sizeof(bytes)), sizeof(bytes));
        fs_fixture_remount(fixture, false);
        free_leaves(fixture->fs);
        for (unsigned i = 0; i < MAPFS_N_ELEMENTS(files); i++)
            is_refused |= change_data(fixture->fs, files[i], change) == -EUCLEAN;
        assert_true(is_refused);
        /* New nodes may have taken others of these blocks: an error, and no more. */
        (void)!mapfs_fs_readdir(fixture->fs, ROOT, &(MapfsDirScan){0, false, list_nothing, NULL});
        mapfs_fs_abandon(fixture->fs);
        fixture->fs = NULL;
    }
    mapfs_image_close(fixture->image);
    fs_fixture_open(fixture, 512, NULL);
}

/* Gives the file's extents in its last leaf the keys that those at the end of the leaf before have; returns the last key. Each lies at 3
 * times its number. */
static uint64_t repeat_extents(FsFixture *fixture, uint64_t ino, unsigned n_extents) {
    MapfsTree *tree = mapfs_store_tree(mapfs_fs_store(fixture->fs));
    const uint64_t last = UINT64_C(3) * (n_extents - 1);
    struct mapfs_disk_leaf *leaf;
    MapfsCursor cursor;
    MapfsItem item;
    uint64_t n_here;

    mapfs_store_read_lock(mapfs_fs_store(fixture->fs));
    assert_int_equal(mapfs_cursor_begin(&cursor, tree, mapfs_extent_key(ino, last), &item), 1);
    mapfs_store_read_unlock(mapfs_fs_store(fixture->fs));
    leaf = (struct mapfs_disk_leaf *)cursor.path[0].node;
    leaf = mapfs_image_writable(fixture->image, (MapfsRun){{mapfs_le64_load(leaf->header.address)}, 1});
    n_here = cursor.path[0].index + UINT64_C(1);
    assert_true(n_here < 60 && 2 * n_here < n_extents);
    assert_int_equal(mapfs_le64_load(leaf->slots[0].object), ino);
    assert_int_equal(leaf->slots[0].kind, MAPFS_KIND_EXTENT);
    for (uint64_t i = 0; i < n_here; i++)
        leaf->slots[i].offset = mapfs_le64_store(mapfs_le64_load(leaf->slots[i].offset) - 3 * n_here);
    return last - 3 * n_here;
}

/* What is found in one leaf is changed in the other: the cut of such an extent would begin again for ever. */
static void test_cut_of_an_extent_that_is_there_twice_ends(void **state) {
    const unsigned n_extents = 300;
    FsFixture *fixture = *state;
    uint8_t blocks[2 * MAPFS_BLOCK_SIZE] = {1};
    uint64_t ino = fs_make(fixture->fs, ROOT, "file", 0100644), last;

    for (unsigned i = 0; i < n_extents; i++)
        assert_int_equal(mapfs_fs_write(fixture->fs, ino, 3 * i * BLOCK, blocks, sizeof(blocks)), sizeof(blocks));
    last = repeat_extents(fixture, ino, n_extents);
    assert_int_equal(set_size(fixture->fs, ino, (last + 1) * BLOCK), -EUCLEAN);
    assert_int_equal(mapfs_fs_sync(fixture->fs), 0); /* nothing was left half done */
}

/* Stores an attribute of any length in all its chunks, as setting a list never makes it. */
static void put_long_list(MapfsFs *fs, uint64_t ino, uint32_t value_len) {
    const size_t name_len = strlen(MAPFS_XATTR_ACL_ACCESS),
                 len = sizeof(struct mapfs_disk_xattr) + name_len + value_len;
    const MapfsKey key = mapfs_xattr_name_key(fs, ino, MAPFS_XATTR_ACL_ACCESS, name_len);
    g_autofree uint8_t *bytes = g_malloc0(len);
    const struct mapfs_disk_xattr head = {.value_len = mapfs_le32_store(value_len), .name_len = (uint8_t)name_len};
    struct mapfs_disk_inode inode;

    memcpy(bytes, &head, sizeof(head));
    memcpy(bytes + sizeof(head), MAPFS_XATTR_ACL_ACCESS, name_len);
    for (size_t at = 0; at < len; at += MAPFS_XATTR_CHUNK)
        damage_put(fs, mapfs_xattr_key(ino, key.offset + at / MAPFS_XATTR_CHUNK), bytes + at,
                   MAPFS_MIN(len - at, (size_t)MAPFS_XATTR_CHUNK));
    mapfs_store_read_lock(mapfs_fs_store(fs));
    assert_int_equal(mapfs_inode_load(mapfs_store_tree(mapfs_fs_store(fs)), ino, &inode), 0);
    mapfs_store_read_unlock(mapfs_fs_store(fs));
    inode.n_xattrs = mapfs_le32_store(1);
    damage_put(fs, mapfs_inode_key(ino), &inode, sizeof(inode));
}

/* A change of a list claims room for a list. */
static void test_access_list_longer_than_lists_are_is_damage(void **state) {
    /* Version 2; owner, group and others, as in <linux/posix_acl_xattr.h>: no more than a mode says. */
    static const uint8_t list[] = {2, 0, 0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 4,   0,
                                   4, 0, 255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255};
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "file", 0100644);
    MapfsAttr attr = {.mode = 0100600, .size = 5};

    put_long_list(fs, ino, 60000);
    assert_int_equal(mapfs_fs_setxattr(fs, ino, MAPFS_XATTR_ACL_ACCESS, (MapfsBytes){list, sizeof(list)}, 0), -EUCLEAN);
    assert_int_equal(mapfs_fs_setattr(fs, ino, MAPFS_SET_MODE, &attr, &attr), -EUCLEAN);
    attr = (MapfsAttr){.mode = 0100600, .size = 5};
    assert_int_equal(mapfs_fs_setattr(fs, ino, MAPFS_SET_MODE | MAPFS_SET_SIZE, &attr, &attr), -EUCLEAN);
    assert_int_equal(fs_attr(fs, ino).size, 0);
    assert_int_equal(mapfs_fs_sync(fs), 0);
}

static void note(void *user, const char *what) {
    unsigned *n_notes = user;

    assert_non_null(strstr(what, "tree node"));
    ++*n_notes;
}

/* Flips a byte of the leaf that holds the middle of a file's extents, each of which lies at twice its number, in the image that is mounted next. */
static void damage_middle(FsFixture *fixture, uint64_t ino, unsigned n_extents) {
    const MapfsKey key = mapfs_extent_key(ino, n_extents);
    MapfsNodeRef leaf;
    uint8_t *bytes;

    fs_fixture_remount(fixture, false);
    mapfs_store_read_lock(mapfs_fs_store(fixture->fs));
    assert_int_equal(mapfs_tree_leaves(mapfs_store_tree(mapfs_fs_store(fixture->fs)), key, key, &leaf, 1), 1);
    mapfs_store_read_unlock(mapfs_fs_store(fixture->fs));
    mapfs_fs_abandon(fixture->fs);
    bytes = mapfs_image_writable(fixture->image, (MapfsRun){leaf.address, 1});
    bytes[MAPFS_BLOCK_SIZE - 1] ^= 1;
    assert_int_equal(mapfs_fs_open(fixture->image, &(MapfsStoreOptions){0}, &fixture->fs), 0);
}

/* Of a file that goes, or becomes shorter, what comes before the damage goes. All else goes on: who unlinks must not cost others what they have written. */
static void test_damage_in_a_file_that_goes_is_its_own_alone(void **state) {
    const unsigned n_extents = 600;
    FsFixture *fixture = *state;
    unsigned n_notes = 0;

    for (unsigned i = 0; i < 2; i++) {
        const bool unlinks = i == 1;
        const char *name = unlinks ? "goes" : "shrinks";
        uint64_t ino = make_scattered(fixture->fs, name, n_extents), blocks;

        damage_middle(fixture, ino, n_extents);
        mapfs_fs_on_damage(fixture->fs, note, &n_notes);
        (void)fs_make(fixture->fs, ROOT, unlinks ? "kept 1" : "kept 0", 0100644);
        blocks = fs_attr(fixture->fs, ino).n_blocks;
        if (unlinks) {
            assert_int_equal(fs_unlink(fixture->fs, ROOT, name), 0);
            assert_int_equal(mapfs_fs_reclaim(fixture->fs), -EUCLEAN);
        } else {
            assert_int_equal(set_size(fixture->fs, ino, 0), 0);
            assert_int_equal(n_notes, 1);
            assert_int_equal(fs_attr(fixture->fs, ino).size, 0);
            assert_in_range(fs_attr(fixture->fs, ino).n_blocks, 1, blocks - 1);
            assert_int_equal(mapfs_fs_write(fixture->fs, ino, 0, "x", 1), -EUCLEAN);
        }
        assert_true(fs_create(fixture->fs, ROOT, unlinks ? "more 1" : "more 0", 0100644) >= 0);
        assert_int_equal(mapfs_fs_sync(fixture->fs), 0);
        fs_fixture_remount(fixture, true);
        assert_true(fs_ino(fixture->fs, ROOT, unlinks ? "kept 1" : "kept 0") != 0);
        assert_int_equal(fs_ino(fixture->fs, ROOT, name) != 0, !unlinks);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fs_fixture_setup, abandon)

/* As a hand may set it: no inode number is left, and all else goes on. */
static void test_inode_numbers_that_are_used_up_are_enospc(void **state) {
    FsFixture *fixture = *state;
    MapfsFs *fs = fixture->fs;
    MapfsAttr attr;

    (void)fs_make(fs, ROOT, "before", 0100644);
    assert_int_equal(mapfs_fs_close(fs), 0);
    for (uint64_t slot = 0; slot < MAPFS_SUPERBLOCK_SLOTS; slot++) {
        struct mapfs_disk_superblock *superblock = mapfs_image_writable(fixture->image, (MapfsRun){{slot}, 1});

        superblock->next_ino = mapfs_le64_store(MAPFS_INO_LIMIT - 1);
        mapfs_superblock_seal(superblock);
    }
    assert_int_equal(mapfs_fs_open(fixture->image, &(MapfsStoreOptions){0}, &fixture->fs), 0);
    fs = fixture->fs;
    (void)fs_make(fs, ROOT, "last", 0100644);
    assert_int_equal(fs_create(fs, ROOT, "one more", 0100644), -ENOSPC);
    assert_int_equal(mapfs_fs_tmpfile(fs, ROOT, &(MapfsNewInode){.mode = 0100600}, &attr), -ENOSPC);
    assert_int_equal(mapfs_fs_rename_whiteout(fs, &(MapfsName){ROOT, "last", 4}, &(MapfsName){ROOT, "new", 3}, 0,
                                              &(MapfsNewInode){.mode = 0020000}),
                     -ENOSPC);
    assert_int_equal(fs_unlink(fs, ROOT, "before"), 0);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    assert_int_equal(fs_rename(fs, fs_at(ROOT, "last"), fs_at(ROOT, "new"), 0), 0);
    assert_int_equal(mapfs_fs_sync(fs), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_content_longer_than_its_file_is_damage),      TEST(test_extents_outside_the_image_are_damage),
        TEST(test_free_blocks_that_hold_nodes_take_no_data),    TEST(test_cut_of_an_extent_that_is_there_twice_ends),
        TEST(test_access_list_longer_than_lists_are_is_damage), TEST(test_inode_numbers_that_are_used_up_are_enospc),
        TEST(test_damage_in_a_file_that_goes_is_its_own_alone),
    };

    return cmocka_run_group_tests_name("fs-damage", tests, NULL, NULL);
}
