/* SPDX-License-Identifier: MIT */

/* File data whose items in the tree contradict each other or lead out of the image, as only a damaged image has them: an
 * error, and no byte stored where it does not belong. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

#include "fs-fixture.h"
#include "fs/data-private.h"

#define ROOT MAPFS_INO_ROOT
#define BLOCK ((uint64_t)MAPFS_BLOCK_SIZE)

static MapfsFs *fs_of(void **state) {
    return ((FsFixture *)*state)->fs;
}

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
        TEST(test_content_longer_than_its_file_is_damage),
        TEST(test_extents_outside_the_image_are_damage),
        TEST(test_inode_numbers_that_are_used_up_are_enospc),
    };

    return cmocka_run_group_tests_name("fs-damage", tests, NULL, NULL);
}
