/* SPDX-License-Identifier: MIT */

/* Copies that share blocks: what both files hold afterwards, what it costs, and when blocks come back. Each test ends with the checker
 * finding nothing, which compares the counts with the extents. The random test prints its seed; MAPFS_TEST_SEED=N runs it again. */

#include <errno.h>
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

#include "fs-checked.h"
#include "fs/data-private.h"

#define ROOT MAPFS_INO_ROOT
#define BLOCK ((uint64_t)MAPFS_BLOCK_SIZE)
#define N_FILES 5u
#define FILE_BLOCKS 160u
#define DEFAULT_STEPS 4000u

static int setup(void **state) {
    return fs_fixture_setup(state);
}

/* What the checker counts in the durable state of now. */
static MapfsCheckReport synced_report(void **state) {
    FsFixture *fixture = *state;

    assert_int_equal(mapfs_fs_sync(fixture->fs), 0);
    return fs_check_image(fixture->image);
}

/* --- files and what they should hold --- */

static FsFile file_new(MapfsFs *fs, const char *name) {
    FsFile file = {.ino = fs_make(fs, ROOT, name, 0100644), .bytes = g_byte_array_new()};

    g_strlcpy(file.name, name, sizeof(file.name));
    return file;
}

static void file_truncate(MapfsFs *fs, FsFile *file, uint64_t size) {
    MapfsAttr attr = {.size = size};

    assert_int_equal(mapfs_fs_setattr(fs, file->ino, MAPFS_SET_SIZE, &attr, &attr), 0);
    bytes_set_size(file->bytes, size);
}

/* A place in a file. */
typedef struct {
    FsFile *file;
    uint64_t offset;
} Place;

static Place at(FsFile *file, uint64_t offset) {
    return (Place){file, offset};
}

static int copy_step(MapfsFs *fs, Place from, Place to, uint64_t len, uint64_t *ret_len) {
    const MapfsCopyRange range = {from.file->ino, from.offset, to.file->ino, to.offset, len};

    return mapfs_fs_copy_range(fs, &range, 0, ret_len);
}

/* In the model: as far as the source goes. */
static void model_copy(Place from, Place to, uint64_t len) {
    if (len == 0)
        return;
    if (to.offset + len > to.file->bytes->len)
        bytes_set_size(to.file->bytes, to.offset + len);
    memmove(to.file->bytes->data + to.offset, from.file->bytes->data + from.offset, len);
}

/* Copies all, in as many steps as it takes; returns how many. */
static unsigned file_copy(MapfsFs *fs, Place from, Place to, uint64_t len) {
    unsigned n_steps = 0;

    if (from.offset >= from.file->bytes->len)
        len = 0;
    else
        len = MIN(len, from.file->bytes->len - from.offset);
    while (len > 0) {
        uint64_t n = 0;

        assert_int_equal(copy_step(fs, from, to, len, &n), 0);
        assert_in_range(n, 1, len);
        model_copy(from, to, n);
        from.offset += n;
        to.offset += n;
        len -= n;
        n_steps++;
    }
    return n_steps;
}

static void file_compare(MapfsFs *fs, const FsFile *file) {
    size_t len = file->bytes->len + 10;
    g_autofree uint8_t *data = g_malloc(len);

    assert_int_equal(fs_attr(fs, file->ino).size, file->bytes->len);
    assert_int_equal(mapfs_fs_read(fs, file->ino, 0, data, len), file->bytes->len);
    for (size_t i = 0; i < file->bytes->len; i++)
        if (data[i] != file->bytes->data[i])
            fail_msg("%s differs at byte %zu of %u", file->name, i, file->bytes->len);
}

static void file_clear(FsFile *file) {
    g_byte_array_unref(file->bytes);
}

static void file_delete(MapfsFs *fs, FsFile *file) {
    assert_int_equal(fs_unlink(fs, ROOT, file->name), 0);
    mapfs_fs_forget(fs, file->ino, 1);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
}

static uint64_t n_blocks(MapfsFs *fs, const FsFile *file) {
    return fs_attr(fs, file->ino).n_blocks;
}

/* Free blocks, when all that was freed has come back. */
static uint64_t settled_free(MapfsFs *fs) {
    MapfsStoreStatus status;

    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_true(mapfs_store_make_room(mapfs_fs_store(fs)) >= 0);
    mapfs_store_status(mapfs_fs_store(fs), &status);
    return status.n_free + status.n_pending;
}

/* --- sharing --- */

static void test_copy_takes_no_blocks(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile a = file_new(fs, "a"), b = file_new(fs, "b");
    MapfsCheckReport report;
    uint64_t before;

    file_write(fs, &a, 0, 1000 * BLOCK + 100, 1);
    before = settled_free(fs);
    assert_int_equal(file_copy(fs, at(&a, 0), at(&b, 0), UINT64_MAX), 1);
    file_compare(fs, &a);
    file_compare(fs, &b);
    assert_int_equal(n_blocks(fs, &b), 1001);
    assert_in_range(settled_free(fs), before - 8, before + 8);
    report = synced_report(state);
    assert_int_equal(report.n_shared, 1001);
    assert_int_equal(report.n_saved, 1001);
    file_clear(&a);
    file_clear(&b);
}

static void test_blocks_come_back_with_the_last_file(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile files[3] = {file_new(fs, "a"), file_new(fs, "b"), file_new(fs, "c")};
    uint64_t before = settled_free(fs);

    file_write(fs, &files[0], 0, 500 * BLOCK, 1);
    file_copy(fs, at(&files[0], 0), at(&files[1], 0), UINT64_MAX);
    file_copy(fs, at(&files[1], 0), at(&files[2], 0), UINT64_MAX);
    assert_int_equal(synced_report(state).n_saved, 1000);
    file_delete(fs, &files[0]);
    file_compare(fs, &files[1]);
    assert_in_range(settled_free(fs), before - 520, before - 500);
    assert_int_equal(synced_report(state).n_saved, 500);
    file_delete(fs, &files[2]);
    assert_in_range(settled_free(fs), before - 520, before - 500);
    assert_int_equal(synced_report(state).n_shared, 0);
    file_compare(fs, &files[1]);
    file_delete(fs, &files[1]);
    assert_in_range(settled_free(fs), before - 8, before + 8);
    for (unsigned i = 0; i < 3; i++)
        file_clear(&files[i]);
}

static void test_a_write_to_one_does_not_show_in_the_other(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile a = file_new(fs, "a"), b = file_new(fs, "b");

    /* All in one epoch: what is not sealed must not be stored into either. */
    file_write(fs, &a, 0, 100 * BLOCK + 50, 1);
    file_copy(fs, at(&a, 0), at(&b, 0), UINT64_MAX);
    file_write(fs, &a, 10 * BLOCK + 5, 100, 2);
    file_write(fs, &b, 20 * BLOCK, 3 * BLOCK, 3);
    file_write(fs, &a, 100 * BLOCK + 50, 10, 4);
    file_write(fs, &b, 0, 1, 5);
    file_compare(fs, &a);
    file_compare(fs, &b);
    file_truncate(fs, &b, 50 * BLOCK + 7);
    file_truncate(fs, &a, 60 * BLOCK + 9);
    file_truncate(fs, &a, 61 * BLOCK);
    file_truncate(fs, &b, 70 * BLOCK);
    file_compare(fs, &a);
    file_compare(fs, &b);
    (void)synced_report(state); /* it ends the test itself */
    file_write(fs, &a, 30 * BLOCK + 5, 100, 6);
    file_write(fs, &b, 31 * BLOCK + 5, 100, 7);
    file_compare(fs, &a);
    file_compare(fs, &b);
    file_clear(&a);
    file_clear(&b);
}

static void test_holes_stay_holes(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile a = file_new(fs, "a"), b = file_new(fs, "b");

    file_write(fs, &a, 100 * BLOCK, BLOCK, 1);
    file_write(fs, &a, 300 * BLOCK, BLOCK, 1);
    file_truncate(fs, &a, 400 * BLOCK + 1);
    file_write(fs, &b, 0, 50 * BLOCK, 2);
    assert_int_equal(file_copy(fs, at(&a, 0), at(&b, 0), UINT64_MAX), 1);
    assert_int_equal(n_blocks(fs, &b), 2);
    file_compare(fs, &b);
    file_clear(&a);
    file_clear(&b);
}

static void test_edges_are_copied(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile a = file_new(fs, "a"), b = file_new(fs, "b");

    file_write(fs, &a, 0, 600 * BLOCK + 100, 1);
    file_write(fs, &b, 0, 700 * BLOCK, 2);
    /* The other file goes on after it: the last part must be copied. */
    file_copy(fs, at(&a, 0), at(&b, 0), UINT64_MAX);
    file_compare(fs, &b);
    assert_int_equal(synced_report(state).n_shared, 600);
    /* The same offset in a block: copied up to a block's start, then shared. */
    file_copy(fs, at(&a, 123), at(&b, 5 * BLOCK + 123), 500 * BLOCK);
    file_compare(fs, &b);
    /* Different ones: all copied. */
    file_copy(fs, at(&a, 123), at(&b, 1000), 500 * BLOCK);
    file_compare(fs, &b);
    file_compare(fs, &a);
    file_clear(&a);
    file_clear(&b);
}

static void test_copy_within_a_file(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile a = file_new(fs, "a");
    uint64_t n;

    file_write(fs, &a, 0, 100 * BLOCK, 1);
    file_copy(fs, at(&a, 0), at(&a, 200 * BLOCK), 100 * BLOCK);
    file_copy(fs, at(&a, 50 * BLOCK), at(&a, 100 * BLOCK), 50 * BLOCK);
    file_copy(fs, at(&a, 200 * BLOCK), at(&a, 10 * BLOCK), 20 * BLOCK);
    file_compare(fs, &a);
    assert_int_equal(copy_step(fs, at(&a, 0), at(&a, 5 * BLOCK), 6 * BLOCK, &n), -EINVAL);
    assert_int_equal(copy_step(fs, at(&a, 5 * BLOCK), at(&a, 0), 6 * BLOCK, &n), -EINVAL);
    file_clear(&a);
}

static void test_small_files_are_copied(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile a = file_new(fs, "a"), b = file_new(fs, "b"), c = file_new(fs, "c");

    file_write(fs, &a, 0, 100, 1);
    file_copy(fs, at(&a, 0), at(&b, 0), UINT64_MAX);
    file_compare(fs, &b);
    assert_int_equal(n_blocks(fs, &b), 0);
    /* A file that lies in the tree, and is to get blocks behind its content. */
    file_write(fs, &c, 0, 100 * BLOCK, 2);
    file_copy(fs, at(&c, 0), at(&b, 2 * BLOCK), UINT64_MAX);
    file_compare(fs, &b);
    file_copy(fs, at(&c, 0), at(&a, 0), UINT64_MAX);
    file_compare(fs, &a);
    file_clear(&a);
    file_clear(&b);
    file_clear(&c);
}

static void test_odd_requests(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile a = file_new(fs, "a"), b = file_new(fs, "b");
    FsFile directory = {.ino = ROOT}, none = {.ino = 12345};
    uint64_t n = 1;

    file_write(fs, &a, 0, 10 * BLOCK, 1);
    assert_int_equal(copy_step(fs, at(&a, 10 * BLOCK), at(&b, 0), 100, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(copy_step(fs, at(&a, UINT64_MAX), at(&b, 0), UINT64_MAX, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(copy_step(fs, at(&a, 0), at(&b, 0), 0, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(copy_step(fs, at(&a, 0), at(&b, MAPFS_FILE_SIZE_MAX), 100, &n), -EFBIG);
    assert_int_equal(copy_step(fs, at(&a, 0), at(&b, MAPFS_FILE_SIZE_MAX - 5 * BLOCK), 10 * BLOCK, &n), -EFBIG);
    assert_int_equal(copy_step(fs, at(&a, 0), at(&directory, 0), 100, &n), -EISDIR);
    assert_int_equal(copy_step(fs, at(&directory, 0), at(&a, 0), 100, &n), -EISDIR);
    assert_int_equal(copy_step(fs, at(&a, 0), at(&none, 0), 100, &n), -ESTALE);
    assert_int_equal(n_blocks(fs, &b), 0);
    file_clear(&a);
    file_clear(&b);
}

/* A file in pieces: one step does not do all of it, and neither does one step of its deletion. */
static void test_file_of_many_extents(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile a = file_new(fs, "a"), b = file_new(fs, "b"), c = file_new(fs, "c");
    uint64_t before = settled_free(fs);

    for (unsigned i = 0; i < 300; i++) {
        file_write(fs, &a, 2 * i * BLOCK, BLOCK, (uint8_t)i);
        file_write(fs, &c, i * BLOCK, BLOCK, (uint8_t)i);
    }
    assert_in_range(file_copy(fs, at(&a, 0), at(&b, 0), UINT64_MAX), 2, 20);
    for (unsigned i = 0; i < 300; i += 3)
        file_write(fs, &a, 2 * i * BLOCK, BLOCK, (uint8_t)(i + 1));
    file_compare(fs, &a);
    file_compare(fs, &b);
    /* One extent whose counts are in pieces. */
    for (unsigned i = 0; i < 300; i += 8)
        file_copy(fs, at(&c, i * BLOCK), at(&b, (1000 + i) * BLOCK), 4 * BLOCK);
    file_compare(fs, &b);
    file_write(fs, &c, 0, 300 * BLOCK, 7);
    file_compare(fs, &b);
    file_copy(fs, at(&a, 0), at(&c, 0), UINT64_MAX);
    file_truncate(fs, &c, 100 * BLOCK + 3);
    file_compare(fs, &c);
    file_compare(fs, &a);
    (void)synced_report(state); /* it ends the test itself */
    file_delete(fs, &b);
    file_delete(fs, &a);
    file_compare(fs, &c);
    file_delete(fs, &c);
    assert_in_range(settled_free(fs), before - 8, before + 8);
    file_clear(&a);
    file_clear(&b);
    file_clear(&c);
}

/* --- counts --- */

static MapfsTree *locked_tree(MapfsFs *fs, MapfsTxn *txn) {
    assert_int_equal(mapfs_txn_begin(mapfs_fs_store(fs), MAPFS_TXN_GROWS, 8, txn), 0);
    mapfs_txn_lock(txn);
    return mapfs_store_tree(txn->store);
}

static uint64_t first_block(MapfsFs *fs, const FsFile *file) {
    MapfsExtent extent;

    mapfs_store_read_lock(mapfs_fs_store(fs));
    assert_int_equal(mapfs_extent_find(mapfs_store_tree(mapfs_fs_store(fs)), file->ino, 0, &extent), 1);
    mapfs_store_read_unlock(mapfs_fs_store(fs));
    return extent.block;
}

static void set_count(MapfsFs *fs, uint64_t block, uint64_t n, uint32_t n_refs) {
    const MapfsKey key = {.object = MAPFS_OBJECT_SHARED, .kind = MAPFS_KIND_SHARED, .offset = block};
    struct mapfs_disk_shared value = {.n_blocks = mapfs_le64_store(n), .n_refs = mapfs_le32_store(n_refs)};
    MapfsTxn txn;
    MapfsTree *tree = locked_tree(fs, &txn);

    assert_int_equal(mapfs_tree_put(tree, key, &value, sizeof(value)), 0);
    (void)mapfs_txn_next_lsn(&txn); /* so that a sync has something to do */
    mapfs_txn_end(&txn);
}

static void test_counts_that_are_full_make_copies(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile a = file_new(fs, "a"), b = file_new(fs, "b"), c = file_new(fs, "c");
    uint64_t block;

    file_write(fs, &a, 0, 100 * BLOCK, 1);
    file_copy(fs, at(&a, 0), at(&b, 0), UINT64_MAX);
    block = first_block(fs, &a);
    set_count(fs, block, 100, UINT32_MAX);
    file_copy(fs, at(&a, 0), at(&c, 0), UINT64_MAX);
    file_compare(fs, &c);
    assert_int_not_equal(first_block(fs, &c), block);
    set_count(fs, block, 100, 2);
    file_clear(&a);
    file_clear(&b);
    file_clear(&c);
}

static void test_checker_finds_wrong_counts(void **state) {
    static const struct {
        uint64_t n_blocks;
        uint32_t n_refs;
    } wrong[] = {{100, 3}, {99, 2}, {101, 2}};
    FsFixture *fixture = *state;
    MapfsFs *fs = fixture->fs;
    FsFile a = file_new(fs, "a"), b = file_new(fs, "b");
    const MapfsCheckOptions options = {0};
    MapfsCheckReport report;

    file_write(fs, &a, 0, 100 * BLOCK, 1);
    file_copy(fs, at(&a, 0), at(&b, 0), UINT64_MAX);
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(wrong); i++) {
        set_count(fs, first_block(fs, &a), wrong[i].n_blocks, wrong[i].n_refs);
        assert_int_equal(mapfs_fs_sync(fs), 0);
        assert_int_equal(mapfs_check_run(fixture->image, &options, &report), 0);
        assert_int_equal(report.n_problems, 1);
        assert_int_equal(report.n_of_kind[MAPFS_PROBLEM_SHARED_COUNT], 1);
    }
    set_count(fs, first_block(fs, &a), 100, 2);
    file_clear(&a);
    file_clear(&b);
}

/* Counts that lie must not crash anything, whatever is done with the files. */
static void test_damaged_counts_do_no_more_than_fail(void **state) {
    FsFixture *fixture = *state;
    static const struct {
        uint64_t n_blocks;
        uint32_t n_refs;
    } wrong[] = {{100, 0}, {0, 2}, {UINT64_MAX, 2}, {100, 1}, {50, 9}, {1, 2}};

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(wrong); i++) {
        FsFixture own;
        MapfsAttr attr = {.size = 3};
        uint8_t byte = 1;
        FsFile a, b;
        uint64_t n;

        fs_fixture_open(&own, FS_FIXTURE_BLOCKS, NULL);
        a = file_new(own.fs, "a");
        b = file_new(own.fs, "b");
        file_write(own.fs, &a, 0, 100 * BLOCK, 1);
        file_copy(own.fs, at(&a, 0), at(&b, 0), UINT64_MAX);
        set_count(own.fs, first_block(own.fs, &a), wrong[i].n_blocks, wrong[i].n_refs);
        /* Any of these may fail. */
        (void)copy_step(own.fs, at(&a, 0), at(&b, 200 * BLOCK), UINT64_MAX, &n);
        (void)mapfs_fs_write(own.fs, b.ino, 5, &byte, 1);
        (void)mapfs_fs_setattr(own.fs, a.ino, MAPFS_SET_SIZE, &attr, &attr);
        (void)fs_unlink(own.fs, ROOT, "b");
        mapfs_fs_forget(own.fs, b.ino, 1);
        (void)mapfs_fs_reclaim(own.fs);
        (void)mapfs_fs_sync(own.fs);
        mapfs_fs_abandon(own.fs);
        mapfs_image_close(own.image);
        file_clear(&a);
        file_clear(&b);
    }
    assert_int_equal(mapfs_fs_sync(fixture->fs), 0);
}

static void test_feature_is_set_by_the_first_copy(void **state) {
    MapfsFs *fs = fs_of(state);
    struct mapfs_disk_superblock superblock;
    FsFile a = file_new(fs, "a"), b = file_new(fs, "b");

    file_write(fs, &a, 0, 100 * BLOCK, 1);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    mapfs_store_superblock(mapfs_fs_store(fs), &superblock);
    assert_int_equal(mapfs_le64_load(superblock.feature_incompat), 0);
    file_copy(fs, at(&a, 0), at(&b, 0), UINT64_MAX);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    mapfs_store_superblock(mapfs_fs_store(fs), &superblock);
    assert_int_equal(mapfs_le64_load(superblock.feature_incompat), MAPFS_FEATURE_INCOMPAT_SHARED);
    fs_fixture_remount(*state, false);
    fs = fs_of(state);
    file_write(fs, &a, 0, 10, 1);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    mapfs_store_superblock(mapfs_fs_store(fs), &superblock);
    assert_int_equal(mapfs_le64_load(superblock.feature_incompat), MAPFS_FEATURE_INCOMPAT_SHARED);
    file_clear(&a);
    file_clear(&b);
}

/* --- a full image --- */

static void test_full_image(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile a = file_new(fs, "a"), b = file_new(fs, "b"), filler = file_new(fs, "filler");
    g_autofree uint8_t *data = g_malloc0(64 * BLOCK);
    uint64_t before, n = 0;
    int r;

    before = settled_free(fs);
    file_write(fs, &a, 0, 400 * BLOCK, 1);
    file_copy(fs, at(&a, 0), at(&b, 0), UINT64_MAX);
    do {
        r = mapfs_fs_write(fs, filler.ino, fs_attr(fs, filler.ino).size, data, 64 * BLOCK);
    } while (r > 0);
    assert_int_equal(r, -ENOSPC);
    do {
        r = mapfs_fs_write(fs, filler.ino, fs_attr(fs, filler.ino).size, data, BLOCK);
    } while (r > 0);
    assert_int_equal(r, -ENOSPC);
    /* Overwriting what is shared takes space, which there is none of; nothing is damaged by that. */
    do {
        r = mapfs_fs_write(fs, a.ino, (n++ % 400) * BLOCK, data, 1);
        if (r > 0)
            a.bytes->data[(n - 1) % 400 * BLOCK] = 0;
    } while (r > 0 && n < 1000);
    assert_true(r == -ENOSPC || n == 1000);
    file_compare(fs, &a);
    file_compare(fs, &b);
    /* Deletions work, and bring all of it back. */
    file_delete(fs, &b);
    file_compare(fs, &a);
    file_delete(fs, &a);
    file_delete(fs, &filler);
    assert_in_range(settled_free(fs), before - 8, before + 8);
    file_clear(&a);
    file_clear(&b);
    file_clear(&filler);
}

/* --- random --- */

typedef struct {
    FsFixture fixture;
    FsFile files[N_FILES];
    GRand *rand;
} Random;

static unsigned draw(Random *test, unsigned n) {
    return (unsigned)g_rand_int_range(test->rand, 0, (gint32)n);
}

static uint64_t draw_offset(Random *test) {
    return draw(test, FILE_BLOCKS) * BLOCK + (draw(test, 3) == 0 ? draw(test, MAPFS_BLOCK_SIZE) : 0);
}

static void random_copy(Random *test) {
    FsFile *from = &test->files[draw(test, N_FILES)], *to = &test->files[draw(test, N_FILES)];
    uint64_t from_offset = draw_offset(test), to_offset = draw_offset(test), n = 0;
    uint64_t len = draw(test, 2) == 0 ? UINT64_MAX >> 1 : 1 + draw(test, FILE_BLOCKS) * BLOCK;
    uint64_t left = from_offset < from->bytes->len ? from->bytes->len - from_offset : 0;
    uint64_t apart = from_offset < to_offset ? to_offset - from_offset : from_offset - to_offset;

    len = MIN(len, left);
    if (draw(test, 4) == 0)
        to_offset = from_offset;
    apart = from_offset < to_offset ? to_offset - from_offset : from_offset - to_offset;
    if (from == to && apart < len) {
        assert_int_equal(copy_step(test->fixture.fs, at(from, from_offset), at(to, to_offset), len, &n), -EINVAL);
        return;
    }
    file_copy(test->fixture.fs, at(from, from_offset), at(to, to_offset), len);
}

static void random_delete(Random *test) {
    FsFile *file = &test->files[draw(test, N_FILES)];

    assert_int_equal(fs_unlink(test->fixture.fs, ROOT, file->name), 0);
    mapfs_fs_forget(test->fixture.fs, file->ino, 1);
    if (draw(test, 2) == 0)
        assert_int_equal(mapfs_fs_reclaim(test->fixture.fs), 0);
    g_byte_array_set_size(file->bytes, 0);
    file->ino = fs_make(test->fixture.fs, ROOT, file->name, 0100644);
}

static void random_compare(Random *test) {
    for (unsigned i = 0; i < N_FILES; i++)
        file_compare(test->fixture.fs, &test->files[i]);
}

static void random_remount(Random *test) {
    assert_int_equal(mapfs_fs_sync(test->fixture.fs), 0);
    (void)fs_check_image(test->fixture.image); /* it ends the test itself */
    fs_fixture_remount(&test->fixture, draw(test, 2) == 0);
    for (unsigned i = 0; i < N_FILES; i++)
        assert_int_equal(fs_lookup(test->fixture.fs, ROOT, test->files[i].name), 0);
    random_compare(test);
}

static void random_step(Random *test) {
    FsFile *file = &test->files[draw(test, N_FILES)];
    uint64_t offset = draw_offset(test);

    switch (draw(test, 12)) {
    case 0:
        random_delete(test);
        break;
    case 1:
        file_truncate(test->fixture.fs, file, offset);
        break;
    case 2:
        assert_int_equal(mapfs_fs_sync(test->fixture.fs), 0);
        break;
    case 3:
        file_write(test->fixture.fs, file, offset, 1 + draw(test, 40) * BLOCK, (uint8_t)draw(test, 256));
        break;
    case 4:
    case 5:
    case 6:
        file_write(test->fixture.fs, file, offset, 1 + draw(test, 3 * MAPFS_BLOCK_SIZE), (uint8_t)draw(test, 256));
        break;
    default:
        random_copy(test);
        break;
    }
}

static uint32_t number_from_environment(const char *name, uint32_t otherwise) {
    const char *text = getenv(name);

    return text ? (uint32_t)strtoul(text, NULL, 0) : otherwise;
}

static void test_random_copies_writes_and_deletions(void **state) {
    uint32_t seed = number_from_environment("MAPFS_TEST_SEED", (uint32_t)time(NULL));
    uint32_t n_steps = number_from_environment("MAPFS_TEST_STEPS", DEFAULT_STEPS);
    Random test = {.rand = g_rand_new_with_seed(seed)};
    uint64_t before;

    (void)state; /* the test has its own */
    print_message("# MAPFS_TEST_SEED=%u\n", seed);
    fs_fixture_open(&test.fixture, 8192, NULL);
    before = settled_free(test.fixture.fs);
    for (unsigned i = 0; i < N_FILES; i++) {
        char name[16];

        snprintf(name, sizeof(name), "file %u", i);
        test.files[i] = file_new(test.fixture.fs, name);
    }
    for (uint32_t i = 1; i <= n_steps; i++) {
        random_step(&test);
        if (i % 50 == 0)
            random_compare(&test);
        if (i % 200 == 0)
            random_remount(&test);
    }
    for (unsigned i = 0; i < N_FILES; i++) {
        file_delete(test.fixture.fs, &test.files[i]);
        file_clear(&test.files[i]);
    }
    assert_in_range(settled_free(test.fixture.fs), before - 16, before + 16);
    assert_int_equal(mapfs_fs_sync(test.fixture.fs), 0);
    assert_int_equal(fs_check_image(test.fixture.image).n_shared_extents, 0);
    fs_fixture_close(&test.fixture);
    g_rand_free(test.rand);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_copy_takes_no_blocks, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_blocks_come_back_with_the_last_file, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_a_write_to_one_does_not_show_in_the_other, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_holes_stay_holes, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_edges_are_copied, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_copy_within_a_file, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_small_files_are_copied, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_odd_requests, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_file_of_many_extents, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_counts_that_are_full_make_copies, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_checker_finds_wrong_counts, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_damaged_counts_do_no_more_than_fail, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_feature_is_set_by_the_first_copy, setup, fs_checked_teardown),
        cmocka_unit_test_setup_teardown(test_full_image, setup, fs_checked_teardown),
        cmocka_unit_test(test_random_copies_writes_and_deletions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
