/* SPDX-License-Identifier: MIT */

/* File data: content in the tree and in blocks, holes, odd offsets, sizes, full images, threads. Each test ends
 * with the checker finding nothing, and with the space back that deleted files had. */

#include <errno.h>
#include <pthread.h>
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

static int setup(void **state) {
    return fs_fixture_setup(state);
}

/* --- files and what they should hold --- */

static FsFile file_new(MapfsFs *fs, const char *name) {
    return (FsFile){.ino = fs_make(fs, ROOT, name, 0100644), .bytes = g_byte_array_new()};
}

static void file_clear(FsFile *file) {
    g_byte_array_unref(file->bytes);
}

static int set_size(MapfsFs *fs, uint64_t ino, uint64_t size) {
    MapfsAttr attr = {.size = size};

    return mapfs_fs_setattr(fs, ino, MAPFS_SET_SIZE, &attr, &attr);
}

static void file_truncate(MapfsFs *fs, FsFile *file, uint64_t size) {
    assert_int_equal(set_size(fs, file->ino, size), 0);
    bytes_set_size(file->bytes, size);
}

static void file_compare(MapfsFs *fs, const FsFile *file) {
    size_t len = file->bytes->len + 10;
    g_autofree uint8_t *data = g_malloc(len);

    assert_int_equal(fs_attr(fs, file->ino).size, file->bytes->len);
    assert_int_equal(mapfs_fs_read(fs, file->ino, 0, data, len), file->bytes->len);
    if (file->bytes->len > 0)
        assert_memory_equal(data, file->bytes->data, file->bytes->len);
}

static uint64_t n_blocks(MapfsFs *fs, uint64_t ino) {
    return fs_attr(fs, ino).n_blocks;
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

static void file_delete(MapfsFs *fs, const char *name, uint64_t ino) {
    assert_int_equal(fs_unlink(fs, ROOT, name), 0);
    mapfs_fs_forget(fs, ino, 1);
}

/* --- sizes --- */

static void test_small_content_lies_in_the_tree(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile file = file_new(fs, "f");

    file_write(fs, &file, 0, 1, 1);
    file_write(fs, &file, 700, 300, 2);
    assert_int_equal(n_blocks(fs, file.ino), 0);
    file_compare(fs, &file);
    file_write(fs, &file, MAPFS_INLINE_MAX - 1, 1, 3);
    assert_int_equal(n_blocks(fs, file.ino), 0);
    file_compare(fs, &file);
    file_write(fs, &file, MAPFS_INLINE_MAX, 1, 4);
    assert_int_equal(n_blocks(fs, file.ino), 1);
    file_compare(fs, &file);
    file_truncate(fs, &file, 100);
    file_compare(fs, &file);
    file_truncate(fs, &file, 0);
    assert_int_equal(n_blocks(fs, file.ino), 0);
    file_write(fs, &file, 3, 5, 5);
    assert_int_equal(n_blocks(fs, file.ino), 0);
    file_compare(fs, &file);
    file_clear(&file);
}

static void test_content_leaves_the_tree_for_a_far_write(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile file = file_new(fs, "f");

    file_write(fs, &file, 10, 1000, 1);
    file_write(fs, &file, 10 * BLOCK + 5, 100, 2);
    assert_int_equal(n_blocks(fs, file.ino), 2);
    file_compare(fs, &file);
    file_clear(&file);
}

static void test_content_leaves_the_tree_for_a_size(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile file = file_new(fs, "f");

    file_write(fs, &file, 10, 1000, 1);
    file_truncate(fs, &file, 900);
    file_truncate(fs, &file, 1200);
    assert_int_equal(n_blocks(fs, file.ino), 0);
    file_compare(fs, &file);
    file_truncate(fs, &file, 3 * BLOCK + 1);
    assert_int_equal(n_blocks(fs, file.ino), 1);
    file_compare(fs, &file);
    file_clear(&file);
}

static void test_holes_take_no_blocks_and_read_as_zeros(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile file = file_new(fs, "f");

    file_truncate(fs, &file, 100 * BLOCK);
    assert_int_equal(n_blocks(fs, file.ino), 0);
    file_write(fs, &file, 50 * BLOCK + 7, 10, 1);
    assert_int_equal(n_blocks(fs, file.ino), 1);
    file_write(fs, &file, 20 * BLOCK, 2 * BLOCK, 2);
    assert_int_equal(n_blocks(fs, file.ino), 3);
    file_compare(fs, &file);
    file_write(fs, &file, 10 * BLOCK, 60 * BLOCK, 3);
    assert_int_equal(n_blocks(fs, file.ino), 60);
    file_compare(fs, &file);
    file_clear(&file);
}

static void test_largest_file(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);
    uint8_t bytes[10];

    assert_int_equal(mapfs_fs_write(fs, ino, MAPFS_FILE_SIZE_MAX - 3, "end", 3), 3);
    assert_int_equal(fs_attr(fs, ino).size, MAPFS_FILE_SIZE_MAX);
    assert_int_equal(mapfs_fs_read(fs, ino, MAPFS_FILE_SIZE_MAX - 6, bytes, 10), 6);
    assert_memory_equal(bytes, "\0\0\0end", 6);
    assert_int_equal(mapfs_fs_read(fs, ino, MAPFS_FILE_SIZE_MAX, bytes, 10), 0);
    assert_int_equal(mapfs_fs_read(fs, ino, UINT64_MAX - 5, bytes, 10), 0);
    assert_int_equal(mapfs_fs_write(fs, ino, MAPFS_FILE_SIZE_MAX - 2, "end", 3), -EFBIG);
    assert_int_equal(mapfs_fs_write(fs, ino, MAPFS_FILE_SIZE_MAX, "e", 1), -EFBIG);
    assert_int_equal(mapfs_fs_write(fs, ino, UINT64_MAX, "end", 3), -EFBIG);
    assert_int_equal(set_size(fs, ino, MAPFS_FILE_SIZE_MAX + 1), -EFBIG);
    assert_int_equal(set_size(fs, ino, UINT64_MAX), -EFBIG);
    assert_int_equal(set_size(fs, ino, MAPFS_FILE_SIZE_MAX), 0);
    assert_int_equal(set_size(fs, ino, MAPFS_FILE_SIZE_MAX - 3), 0);
    /* The block stays: three bytes less do not empty it. */
    assert_int_equal(n_blocks(fs, ino), 1);
    assert_int_equal(set_size(fs, ino, MAPFS_FILE_SIZE_MAX), 0);
    assert_int_equal(mapfs_fs_read(fs, ino, MAPFS_FILE_SIZE_MAX - 6, bytes, 10), 6);
    assert_memory_equal(bytes, "\0\0\0\0\0\0", 6);
}

static void test_only_regular_files_have_data(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t directory = fs_make(fs, ROOT, "d", 0040755), fifo = fs_make(fs, ROOT, "p", 0010644);
    uint8_t byte;

    assert_int_equal(mapfs_fs_write(fs, directory, 0, "x", 1), -EISDIR);
    assert_int_equal(mapfs_fs_read(fs, directory, 0, &byte, 1), -EISDIR);
    assert_int_equal(set_size(fs, directory, 0), -EISDIR);
    assert_int_equal(mapfs_fs_write(fs, fifo, 0, "x", 1), -EINVAL);
    assert_int_equal(mapfs_fs_read(fs, fifo, 0, &byte, 1), -EINVAL);
    assert_int_equal(set_size(fs, fifo, 0), -EINVAL);
    assert_int_equal(mapfs_fs_write(fs, 999, 0, "x", 1), -ESTALE);
    assert_int_equal(mapfs_fs_read(fs, 999, 0, &byte, 1), -ESTALE);
}

/* --- the end of a file --- */

/* What a file held past its end never comes back, in whatever way and epoch it grows over it. */
static void test_old_bytes_past_the_end_do_not_come_back(void **state) {
    const uint64_t sizes[] = {BLOCK + 100, BLOCK, 2 * BLOCK + 1, 1, 3 * BLOCK - 1};
    MapfsFs *fs = fs_of(state);

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(sizes) * 16; i++) {
        uint64_t size = sizes[i / 16];
        FsFile file = file_new(fs, "f");

        file_write(fs, &file, 0, 3 * BLOCK, 9);
        if (i & 1)
            assert_int_equal(mapfs_fs_sync(fs), 0);
        file_truncate(fs, &file, size);
        if (i & 2)
            assert_int_equal(mapfs_fs_sync(fs), 0);
        if (i & 4)
            file_write(fs, &file, size + 200, 10, 1);
        else
            file_truncate(fs, &file, size + 5000);
        file_compare(fs, &file);
        if (i & 8) {
            fs_fixture_remount(*state, false);
            fs = fs_of(state);
            file_compare(fs, &file);
        }
        file_delete(fs, "f", file.ino);
        file_clear(&file);
    }
}

static void test_appends_survive_a_sync_and_only_that(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile file = file_new(fs, "f");

    file_write(fs, &file, 0, 3000, 1); /* past what fits into the tree */
    for (unsigned i = 0; i < 50; i++) {
        file_write(fs, &file, file.bytes->len, 333, (uint8_t)i);
        assert_int_equal(mapfs_fs_sync(fs), 0);
        /* Stored, but never synced: gone after the crash, and nothing else with it. */
        if (i % 5 == 0) {
            uint8_t junk[500];

            memset(junk, 'j', sizeof(junk));
            assert_int_equal(mapfs_fs_write(fs, file.ino, file.bytes->len, junk, sizeof(junk)), sizeof(junk));
            assert_int_equal(mapfs_fs_write(fs, file.ino, 10, junk, sizeof(junk)), sizeof(junk));
            fs_fixture_remount(*state, true);
            fs = fs_of(state);
            file_compare(fs, &file);
        }
    }
    file_compare(fs, &file);
    file_clear(&file);
}

/* --- begin, commit, abort --- */

static void test_aborted_write_changes_nothing(void **state) {
    const MapfsIoRange ranges[] = {{0, 10}, {100, 5000}, {4000, 3}, {9000, 100}, {12286, 3}, {20000, 1}};
    g_autofree MapfsWrite *write = g_new(MapfsWrite, 1);
    MapfsFs *fs = fs_of(state);

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(ranges) * 4; i++) {
        FsFile file = file_new(fs, "f");

        file_write(fs, &file, 0, i & 2 ? 12287 : 1000, 1);
        if (i & 1)
            assert_int_equal(mapfs_fs_sync(fs), 0);
        assert_int_equal(mapfs_fs_write_begin(fs, file.ino, ranges[i / 4], 0, write), 0);
        mapfs_fs_write_abort(fs, write);
        file_compare(fs, &file);
        file_truncate(fs, &file, 30000);
        file_compare(fs, &file);
        file_delete(fs, "f", file.ino);
        file_clear(&file);
    }
}

static void test_write_aborted_after_its_stores_leaves_no_byte_past_the_end(void **state) {
    g_autofree MapfsWrite *write = g_new(MapfsWrite, 1);
    MapfsFs *fs = fs_of(state);
    FsFile file = file_new(fs, "f");

    file_write(fs, &file, 0, 5000, 1);
    assert_int_equal(mapfs_fs_write_begin(fs, file.ino, (MapfsIoRange){5000, 6000}, 0, write), 0);
    for (unsigned i = 0; i < write->n_iov; i++)
        memset(write->iov[i].iov_base, 'a', write->iov[i].iov_len);
    mapfs_fs_write_abort(fs, write);
    file_truncate(fs, &file, 20000);
    file_compare(fs, &file);
    file_clear(&file);
}

static void test_lengths_of_writes_are_checked(void **state) {
    g_autofree MapfsWrite *write = g_new(MapfsWrite, 1);
    MapfsFs *fs = fs_of(state);
    FsFile file = file_new(fs, "f");

    assert_int_equal(mapfs_fs_write_begin(fs, file.ino, (MapfsIoRange){0, 0}, 0, write), -EINVAL);
    assert_int_equal(mapfs_fs_write_begin(fs, file.ino, (MapfsIoRange){0, MAPFS_IO_LEN_MAX + 1}, 0, write), -EINVAL);
    /* The most blocks that one write can touch. */
    file_write(fs, &file, 0, 3 * MAPFS_IO_LEN_MAX, 1);
    file_write(fs, &file, 4095, MAPFS_IO_LEN_MAX, 2);
    file_compare(fs, &file);
    file_clear(&file);
}

/* Every second block is another file's: a write is spread over as many runs as it has blocks. */
static void test_write_into_fragmented_space(void **state) {
    MapfsFs *fs = fs_of(state);
    g_autofree uint8_t *block = g_malloc0(BLOCK);
    FsFile file = file_new(fs, "f");
    unsigned n = 0;
    char name[16];

    for (int r = 0; r == 0;) {
        (void)snprintf(name, sizeof(name), "%u", n);
        r = fs_create(fs, ROOT, name, 0100644);
        if (r == 0 && mapfs_fs_write(fs, fs_ino(fs, ROOT, name), 0, block, BLOCK) > 0)
            n++;
        else
            r = -ENOSPC;
    }
    assert_in_range(n, 1000, FS_FIXTURE_BLOCKS);
    for (unsigned i = 0; i < n; i += 2) {
        (void)snprintf(name, sizeof(name), "%u", i);
        assert_int_equal(fs_unlink(fs, ROOT, name), 0);
    }
    (void)settled_free(fs);
    file_write(fs, &file, 100, 300 * BLOCK, 3);
    file_compare(fs, &file);
    file_write(fs, &file, 0, 300 * BLOCK, 4);
    file_compare(fs, &file);
    file_clear(&file);
}

/* --- a random file --- */

#define RANDOM_STEPS 3000u
#define RANDOM_SIZE (700u * 1024u)

static void random_step(MapfsFs *fs, FsFile *file, GRand *rand) {
    uint64_t offset = g_rand_int(rand) % RANDOM_SIZE;
    size_t len = g_rand_int(rand) % (g_rand_int(rand) % 8 ? 6000 : 200000) + 1;

    switch (g_rand_int(rand) % 16) {
    case 0:
        file_truncate(fs, file, offset);
        return;
    case 1:
        file_truncate(fs, file, file->bytes->len - g_rand_int(rand) % (file->bytes->len + 1));
        return;
    case 2:
        assert_int_equal(mapfs_fs_sync(fs), 0);
        return;
    case 3:
        file_truncate(fs, file, g_rand_int(rand) % 3000);
        return;
    case 4:
    case 5:
    case 6:
        file_write(fs, file, file->bytes->len, len % 5000 + 1, (uint8_t)g_rand_int(rand));
        return;
    default:
        file_write(fs, file, offset, len, (uint8_t)g_rand_int(rand));
    }
}

static void test_random_writes_and_sizes_agree_with_memory(void **state) {
    const char *text = getenv("MAPFS_TEST_SEED");
    uint32_t seed = text ? (uint32_t)strtoul(text, NULL, 0) : (uint32_t)time(NULL);
    GRand *rand = g_rand_new_with_seed(seed);
    MapfsFs *fs = fs_of(state);
    FsFile file = file_new(fs, "f");
    uint64_t n_free = settled_free(fs);

    print_message("# MAPFS_TEST_SEED=%u\n", seed);
    for (unsigned i = 0; i < RANDOM_STEPS; i++) {
        random_step(fs, &file, rand);
        if (i % 10 == 0)
            file_compare(fs, &file);
        if (i % 300 == 0) {
            bool crash = g_rand_boolean(rand);

            if (crash)
                assert_int_equal(mapfs_fs_sync(fs), 0);
            fs_fixture_remount(*state, crash);
            fs = fs_of(state);
            if (!crash)
                (void)fs_check_image(((FsFixture *)*state)->image);
            file_compare(fs, &file);
        }
    }
    file_truncate(fs, &file, 0);
    assert_in_range(settled_free(fs), n_free - 8, n_free + 8);
    file_clear(&file);
    g_rand_free(rand);
}

/* --- full images --- */

static uint64_t fill(MapfsFs *fs, uint64_t ino, size_t step) {
    g_autofree uint8_t *bytes = g_malloc(step);
    uint64_t at = 0;

    memset(bytes, 'f', step);
    for (;;) {
        int r = mapfs_fs_write(fs, ino, at, bytes, step);

        if (r < 0) {
            assert_int_equal(r, -ENOSPC);
            return at;
        }
        at += (uint64_t)r;
    }
}

static void test_write_that_finds_no_room_changes_nothing(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t big = fs_make(fs, ROOT, "big", 0100644), n_free = settled_free(fs), size;
    FsFile file = file_new(fs, "f");

    file_write(fs, &file, 0, 10000, 1);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    size = fill(fs, big, 256 * 1024);
    assert_int_equal(fs_attr(fs, big).size, size);
    assert_true(size > FS_FIXTURE_BLOCKS * BLOCK * 8 / 10);
    {
        g_autofree uint8_t *bytes = g_malloc0(MAPFS_IO_LEN_MAX);

        assert_int_equal(mapfs_fs_write(fs, file.ino, 5000, bytes, MAPFS_IO_LEN_MAX), -ENOSPC);
    }
    file_compare(fs, &file);
    file_delete(fs, "big", big);
    assert_in_range(settled_free(fs), n_free - 12, n_free);
    /* And it is really usable again. */
    big = fs_make(fs, ROOT, "big", 0100644);
    assert_true(fill(fs, big, 256 * 1024) + 1024 * 1024 > size);
    file_delete(fs, "big", big);
    file_clear(&file);
}

static void test_full_image_can_be_overwritten(void **state) {
    MapfsFs *fs = fs_of(state);
    FsFile file = file_new(fs, "f");
    uint64_t big = fs_make(fs, ROOT, "big", 0100644);

    file_write(fs, &file, 0, 200 * BLOCK, 1);
    (void)fill(fs, big, 64 * 1024);
    for (unsigned i = 0; i < 20; i++)
        file_write(fs, &file, (i % 4) * 40 * BLOCK + i, 37 * BLOCK, (uint8_t)i);
    file_compare(fs, &file);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    file_clear(&file);
}

/* Each overwritten block makes extents, which make nodes: that must end before nothing can be deleted any more. */
static void test_image_full_of_overwrites_can_still_be_emptied(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t n_free = settled_free(fs), big = fs_make(fs, ROOT, "big", 0100644);
    uint64_t n = fill(fs, big, 64 * 1024) / BLOCK;
    g_autofree uint8_t *block = g_malloc(BLOCK);
    unsigned n_failed = 0;

    memset(block, 'o', BLOCK);
    /* 1021 is prime: every block once, none beside the one before. */
    for (uint64_t i = 0; i < n && n_failed < 20; i++) {
        int r = mapfs_fs_write(fs, big, (i * 1021 % n) * BLOCK, block, BLOCK);

        if (r < 0)
            assert_int_equal(r, -ENOSPC);
        n_failed += r < 0;
        if (i % 7 == 0)
            assert_int_equal(mapfs_fs_sync(fs), 0);
    }
    file_delete(fs, "big", big);
    assert_in_range(settled_free(fs), n_free - 12, n_free);
}

static void test_full_image_truncates_and_renames_and_unlinks(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t n_free = settled_free(fs), big, small[20];
    char name[8];

    for (unsigned i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof(name), "s%u", i);
        small[i] = fs_make(fs, ROOT, name, 0100644);
        assert_int_equal(mapfs_fs_write(fs, small[i], 3 * i * BLOCK, "small", 5), 5);
    }
    big = fs_make(fs, ROOT, "big", 0100644);
    (void)fill(fs, big, 4096);
    assert_int_equal(set_size(fs, big, fs_attr(fs, big).size - 1), 0);
    assert_int_equal(set_size(fs, big, 12345), 0);
    for (unsigned i = 0; i < 20; i++) {
        (void)snprintf(name, sizeof(name), "s%u", i);
        file_delete(fs, name, small[i]);
    }
    file_delete(fs, "big", big);
    assert_in_range(settled_free(fs), n_free - 12, n_free);
}

/* --- orphans --- */

static uint64_t make_scattered(MapfsFs *fs, const char *name, unsigned n) {
    uint64_t ino = fs_make(fs, ROOT, name, 0100644);

    for (unsigned i = 0; i < n; i++)
        assert_int_equal(mapfs_fs_write(fs, ino, 2 * i * BLOCK, "x", 1), 1);
    return ino;
}

static void test_crash_in_a_long_truncate_is_gone_on_with(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t n_free = settled_free(fs), ino = make_scattered(fs, "f", 400);
    MapfsTxn txn;
    struct mapfs_disk_record_truncate record = {
        .ino = mapfs_le64_store(ino), .size = mapfs_le64_store(1), .n_extents = mapfs_le32_store(64)};

    /* The record alone, as a crash right after it leaves it. */
    mapfs_record_init(&record.header, MAPFS_RECORD_TRUNCATE, sizeof(record), mapfs_fs_now());
    assert_int_equal(mapfs_txn_begin(mapfs_fs_store(fs), MAPFS_TXN_FREES, 40, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_record_run(fs, &txn, &record.header), 0);
    mapfs_txn_end(&txn);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    fs_fixture_remount(*state, true);
    fs = fs_of(state);
    (void)fs_check_image(((FsFixture *)*state)->image);
    assert_in_range(n_blocks(fs, ino), 300, 399);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(n_blocks(fs, ino), 1);
    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    assert_in_range(settled_free(fs), n_free - 12, n_free);
}

static void test_write_after_a_long_truncate_sees_zeros(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_scattered(fs, "f", 300);
    uint8_t byte = 1;

    assert_int_equal(set_size(fs, ino, BLOCK), 0);
    assert_int_equal(mapfs_fs_write(fs, ino, 600 * BLOCK, "y", 1), 1);
    assert_int_equal(n_blocks(fs, ino), 2);
    for (unsigned i = 1; i < 300; i++) {
        assert_int_equal(mapfs_fs_read(fs, ino, 2 * i * BLOCK, &byte, 1), 1);
        assert_int_equal(byte, 0);
    }
}

static void test_truncated_open_file_without_a_name_is_reclaimed(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t n_free = settled_free(fs), ino = make_scattered(fs, "f", 300);
    uint8_t byte;

    assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    assert_int_equal(n_blocks(fs, ino), 300);
    assert_int_equal(set_size(fs, ino, 100 * BLOCK), 0);
    assert_int_equal(n_blocks(fs, ino), 50);
    assert_int_equal(mapfs_fs_write(fs, ino, 1000 * BLOCK, "z", 1), 1);
    assert_int_equal(mapfs_fs_read(fs, ino, 98 * BLOCK, &byte, 1), 1);
    assert_int_equal(byte, 'x');
    mapfs_fs_forget(fs, ino, 1);
    assert_in_range(settled_free(fs), n_free - 12, n_free);
    assert_int_equal(mapfs_fs_write(fs, ino, 0, "z", 1), -ESTALE);
}

/* --- threads --- */

#define N_WORKERS 4u
#define WORKER_ROUNDS 150u

typedef struct {
    MapfsFs *fs;
    uint64_t ino, shared;
    unsigned number;
    const char *failure;
} Worker;

static const char *worker_round(Worker *worker, GByteArray *bytes, GRand *rand) {
    uint64_t offset = g_rand_int(rand) % 300000;
    size_t len = g_rand_int(rand) % 60000 + 1;
    g_autofree uint8_t *data = g_malloc(400000);
    int r;

    memset(data, (int)g_rand_int(rand), len);
    if (mapfs_fs_write(worker->fs, worker->ino, offset, data, len) != (int)len)
        return "write";
    if (offset + len > bytes->len)
        bytes_set_size(bytes, offset + len);
    memcpy(bytes->data + offset, data, len);
    if (g_rand_int(rand) % 8 == 0) {
        if (set_size(worker->fs, worker->ino, offset) < 0)
            return "truncate";
        bytes_set_size(bytes, offset);
    }
    if (g_rand_int(rand) % 8 == 0 && mapfs_fs_sync(worker->fs) < 0)
        return "sync";
    r = mapfs_fs_read(worker->fs, worker->ino, 0, data, 400000);
    if (r != (int)bytes->len || memcmp(data, bytes->data, bytes->len) != 0)
        return "content";
    /* A file that nobody changes meanwhile reads the same in all threads, wherever its neighbours move. */
    r = mapfs_fs_read(worker->fs, worker->shared, 0, data, 400000);
    for (int i = 0; i < r; i++) {
        if (data[i] != 's')
            return "shared content";
    }
    return r == 200000 ? NULL : "shared length";
}

static void *worker_main(void *user) {
    Worker *worker = user;
    GByteArray *bytes = g_byte_array_new();
    GRand *rand = g_rand_new_with_seed(worker->number);

    for (unsigned i = 0; i < WORKER_ROUNDS && !worker->failure; i++)
        worker->failure = worker_round(worker, bytes, rand);
    g_rand_free(rand);
    g_byte_array_unref(bytes);
    return NULL;
}

static void test_threads_write_and_read_side_by_side(void **state) {
    const MapfsStoreOptions options = {.threads = true, .discard = true, .commit_seconds = 1};
    g_autofree uint8_t *shared = g_malloc(200000);
    Worker workers[N_WORKERS];
    pthread_t threads[N_WORKERS];
    FsFixture fixture;

    (void)state;
    fs_fixture_open(&fixture, 8192, &options);
    memset(shared, 's', 200000);
    for (unsigned i = 0; i < N_WORKERS; i++) {
        char name[8];

        (void)snprintf(name, sizeof(name), "w%u", i);
        workers[i] = (Worker){.fs = fixture.fs, .number = i, .ino = fs_make(fixture.fs, ROOT, name, 0100644)};
    }
    workers[0].shared = fs_make(fixture.fs, ROOT, "shared", 0100644);
    assert_int_equal(mapfs_fs_write(fixture.fs, workers[0].shared, 0, shared, 200000), 200000);
    for (unsigned i = 0; i < N_WORKERS; i++) {
        workers[i].shared = workers[0].shared;
        assert_int_equal(pthread_create(&threads[i], NULL, worker_main, &workers[i]), 0);
    }
    for (unsigned i = 0; i < N_WORKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < N_WORKERS; i++)
        if (workers[i].failure)
            fail_msg("worker %u: %s", i, workers[i].failure);
    assert_int_equal(mapfs_fs_close(fixture.fs), 0);
    (void)fs_check_image(fixture.image);
    mapfs_image_close(fixture.image);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, fs_checked_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_small_content_lies_in_the_tree),
        TEST(test_content_leaves_the_tree_for_a_far_write),
        TEST(test_content_leaves_the_tree_for_a_size),
        TEST(test_holes_take_no_blocks_and_read_as_zeros),
        TEST(test_largest_file),
        TEST(test_only_regular_files_have_data),
        TEST(test_old_bytes_past_the_end_do_not_come_back),
        TEST(test_appends_survive_a_sync_and_only_that),
        TEST(test_aborted_write_changes_nothing),
        TEST(test_write_aborted_after_its_stores_leaves_no_byte_past_the_end),
        TEST(test_lengths_of_writes_are_checked),
        TEST(test_write_into_fragmented_space),
        TEST(test_random_writes_and_sizes_agree_with_memory),
        TEST(test_write_that_finds_no_room_changes_nothing),
        TEST(test_full_image_can_be_overwritten),
        TEST(test_image_full_of_overwrites_can_still_be_emptied),
        TEST(test_full_image_truncates_and_renames_and_unlinks),
        TEST(test_crash_in_a_long_truncate_is_gone_on_with),
        TEST(test_write_after_a_long_truncate_sees_zeros),
        TEST(test_truncated_open_file_without_a_name_is_reclaimed),
        cmocka_unit_test(test_threads_write_and_read_side_by_side),
    };

    return cmocka_run_group_tests_name("fs-data", tests, NULL, NULL);
}
