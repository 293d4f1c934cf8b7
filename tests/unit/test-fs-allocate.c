/* SPDX-License-Identifier: MIT */

/* Preallocation, holes, zeroed ranges, and where data and holes are told to be. Each test ends with the checker finding nothing. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

#include "fs-checked.h"
#include "fs/data-private.h"

#define ROOT MAPFS_INO_ROOT
#define BLOCK ((uint64_t)MAPFS_BLOCK_SIZE)
#define PUNCH (MAPFS_ALLOCATE_PUNCH | MAPFS_ALLOCATE_KEEP_SIZE)
#define KEEP MAPFS_ALLOCATE_KEEP_SIZE
#define ZERO MAPFS_ALLOCATE_ZERO

static int allocate(MapfsFs *fs, uint64_t ino, unsigned mode, uint64_t offset, uint64_t len) {
    return mapfs_fs_allocate(fs, ino, mode, (MapfsIoRange){offset, len});
}

static void write_at(MapfsFs *fs, uint64_t ino, uint64_t offset, size_t len, uint8_t salt) {
    g_autofree uint8_t *bytes = g_malloc(len);

    memset(bytes, salt, len);
    assert_int_equal(mapfs_fs_write(fs, ino, offset, bytes, len), len);
}

/* The range holds this byte alone. */
static void assert_bytes(MapfsFs *fs, uint64_t ino, uint64_t offset, size_t len, uint8_t salt) {
    g_autofree uint8_t *bytes = g_malloc(len);

    assert_int_equal(mapfs_fs_read(fs, ino, offset, bytes, len), len);
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != salt)
            fail_msg("byte %zu is %u, expected %u", (size_t)offset + i, bytes[i], salt);
    }
}

static uint64_t n_blocks(MapfsFs *fs, uint64_t ino) {
    return fs_attr(fs, ino).n_blocks;
}

static int set_size(MapfsFs *fs, uint64_t ino, uint64_t size) {
    MapfsAttr attr = {.size = size};

    return mapfs_fs_setattr(fs, ino, MAPFS_SET_SIZE, &attr, &attr);
}

/* The extent that holds a block of the file: true and what it is, or false for a hole. */
static bool extent_of(MapfsFs *fs, uint64_t ino, uint64_t logical, MapfsExtent *ret_extent) {
    int r;

    mapfs_store_read_lock(mapfs_fs_store(fs));
    r = mapfs_extent_find(mapfs_store_tree(mapfs_fs_store(fs)), ino, logical, ret_extent);
    mapfs_store_read_unlock(mapfs_fs_store(fs));
    assert_true(r >= 0);
    return r > 0 && ret_extent->logical <= logical;
}

/* Where the block lies in the image; 0 for a hole. */
static uint64_t place_of(MapfsFs *fs, uint64_t ino, uint64_t logical) {
    MapfsExtent extent;

    return extent_of(fs, ino, logical, &extent) ? extent.block + (logical - extent.logical) : 0;
}

static bool is_unwritten(MapfsFs *fs, uint64_t ino, uint64_t logical) {
    MapfsExtent extent;

    assert_true(extent_of(fs, ino, logical, &extent));
    return extent.flags == MAPFS_EXTENT_UNWRITTEN;
}

static uint64_t settled_free(MapfsFs *fs) {
    MapfsStoreStatus status;

    assert_int_equal(mapfs_fs_reclaim(fs), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_true(mapfs_store_make_room(mapfs_fs_store(fs)) >= 0);
    mapfs_store_status(mapfs_fs_store(fs), &status);
    return status.n_free + status.n_pending;
}

/* A file with a block in every second place. */
static uint64_t make_scattered(MapfsFs *fs, const char *name, unsigned n) {
    uint64_t ino = fs_make(fs, ROOT, name, 0100644);

    for (unsigned i = 0; i < n; i++)
        write_at(fs, ino, 2 * i * BLOCK, 1, 'x');
    assert_int_equal(n_blocks(fs, ino), n);
    return ino;
}

/* --- preallocation --- */

static void test_preallocation_reads_as_zeros_and_has_blocks(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);

    assert_int_equal(allocate(fs, ino, 0, 100, 10 * BLOCK), 0);
    assert_int_equal(fs_attr(fs, ino).size, 100 + 10 * BLOCK);
    assert_int_equal(n_blocks(fs, ino), 11);
    assert_bytes(fs, ino, 0, 100 + 10 * BLOCK, 0);
    fs_fixture_remount(*state, false);
    fs = fs_of(state);
    assert_int_equal(n_blocks(fs, ino), 11);
    assert_bytes(fs, ino, 0, 100 + 10 * BLOCK, 0);
    assert_true(is_unwritten(fs, ino, 10));
}

static void test_preallocation_past_the_end_keeps_the_size(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644), place;

    write_at(fs, ino, 0, 5000, 'a');
    assert_int_equal(allocate(fs, ino, KEEP, 0, 20 * BLOCK), 0);
    assert_int_equal(fs_attr(fs, ino).size, 5000);
    assert_int_equal(n_blocks(fs, ino), 20);
    place = place_of(fs, ino, 15);
    write_at(fs, ino, 15 * BLOCK + 7, 10, 'b');
    assert_int_equal(place_of(fs, ino, 15), place);
    assert_int_equal(n_blocks(fs, ino), 20);
    assert_bytes(fs, ino, 0, 5000, 'a');
    assert_bytes(fs, ino, 5000, 15 * BLOCK + 7 - 5000, 0);
    assert_bytes(fs, ino, 15 * BLOCK + 7, 10, 'b');
    /* A file that grows keeps them, any other size gives back what lies past it. */
    assert_int_equal(set_size(fs, ino, 16 * BLOCK), 0);
    assert_int_equal(n_blocks(fs, ino), 20);
    assert_int_equal(set_size(fs, ino, 16 * BLOCK), 0);
    assert_int_equal(n_blocks(fs, ino), 16);
}

static void test_small_content_leaves_the_tree_for_preallocation(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);

    write_at(fs, ino, 0, 700, 'a');
    assert_int_equal(allocate(fs, ino, KEEP, 10 * BLOCK, BLOCK), 0);
    assert_int_equal(n_blocks(fs, ino), 2);
    assert_int_equal(fs_attr(fs, ino).size, 700);
    assert_bytes(fs, ino, 0, 700, 'a');
    assert_int_equal(set_size(fs, ino, 3 * BLOCK), 0);
    assert_bytes(fs, ino, 700, 3 * BLOCK - 700, 0);
}

static void test_write_converts_what_it_covers_and_no_more(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);
    uint64_t places[10];

    assert_int_equal(allocate(fs, ino, 0, 0, 10 * BLOCK), 0);
    for (uint64_t i = 0; i < 10; i++)
        places[i] = place_of(fs, ino, i);
    fs_fixture_remount(*state, false); /* blocks of a sealed epoch */
    fs = fs_of(state);
    write_at(fs, ino, 3 * BLOCK + 100, 2 * BLOCK, 'a');
    for (uint64_t i = 0; i < 10; i++) {
        assert_int_equal(place_of(fs, ino, i), places[i]);
        assert_int_equal(is_unwritten(fs, ino, i), i < 3 || i > 5);
    }
    assert_bytes(fs, ino, 0, 3 * BLOCK + 100, 0);
    assert_bytes(fs, ino, 3 * BLOCK + 100, 2 * BLOCK, 'a');
    assert_bytes(fs, ino, 5 * BLOCK + 100, 4 * BLOCK, 0);
    /* Written and sealed, they move like any other. */
    assert_int_equal(mapfs_fs_sync(fs), 0);
    write_at(fs, ino, 4 * BLOCK, 1, 'b');
    assert_int_not_equal(place_of(fs, ino, 4), places[4]);
    assert_int_equal(n_blocks(fs, ino), 10);
}

static void test_conversion_is_undone_by_a_crash_before_the_sync(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);

    assert_int_equal(allocate(fs, ino, 0, 0, 4 * BLOCK), 0);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    write_at(fs, ino, BLOCK, BLOCK, 'a');
    fs_fixture_remount(*state, true);
    fs = fs_of(state);
    assert_bytes(fs, ino, 0, 4 * BLOCK, 0);
    write_at(fs, ino, BLOCK, BLOCK, 'b');
    assert_int_equal(mapfs_fs_sync(fs), 0);
    fs_fixture_remount(*state, true);
    fs = fs_of(state);
    assert_bytes(fs, ino, BLOCK, BLOCK, 'b');
    assert_bytes(fs, ino, 2 * BLOCK, 2 * BLOCK, 0);
}

/* The checkpoint in between lists what it stored; a later store into the same blocks must not make it invalid. */
static void test_abandoned_write_into_preallocated_blocks_leaves_zeros(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);
    g_autofree MapfsWrite *write = g_new(MapfsWrite, 1);

    assert_int_equal(allocate(fs, ino, 0, 0, 4 * BLOCK), 0);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    assert_int_equal(mapfs_fs_write_begin(fs, ino, (MapfsIoRange){BLOCK, 2 * BLOCK}, 0, write), 0);
    for (unsigned i = 0; i < write->n_iov; i++)
        memset(write->iov[i].iov_base, 'z', write->iov[i].iov_len);
    mapfs_fs_write_abort(fs, write);
    assert_bytes(fs, ino, 0, 4 * BLOCK, 0);
    assert_int_equal(fs_create(fs, ROOT, "after", 0100644), 0);
    assert_int_equal(mapfs_fs_sync(fs), 0);
    write_at(fs, ino, BLOCK, 2 * BLOCK, 'a');
    fs_fixture_remount(*state, true);
    fs = fs_of(state);
    assert_int_not_equal(fs_ino(fs, ROOT, "after"), 0);
    assert_bytes(fs, ino, 0, 4 * BLOCK, 0);
}

static void test_preallocation_that_does_not_fit_takes_nothing(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644), scattered = make_scattered(fs, "s", 300);
    uint64_t before = settled_free(fs);

    assert_int_equal(allocate(fs, ino, 0, 0, UINT64_C(1) << 50), -ENOSPC);
    assert_int_equal(allocate(fs, ino, KEEP, 0, FS_FIXTURE_BLOCKS * BLOCK), -ENOSPC);
    assert_int_equal(n_blocks(fs, ino), 0);
    assert_int_equal(fs_attr(fs, ino).size, 0);
    /* The holes one by one would fit for a long time. */
    assert_int_equal(allocate(fs, scattered, 0, 0, (FS_FIXTURE_BLOCKS + 300) * BLOCK), -ENOSPC);
    assert_int_equal(n_blocks(fs, scattered), 300);
    assert_int_equal(fs_attr(fs, scattered).size, 598 * BLOCK + 1);
    assert_true(settled_free(fs) + 8 >= before); /* but for a few nodes that were split */
}

/* Takes all but about `n_left` of what a preallocation may have. */
static void fill(MapfsFs *fs, uint64_t ino, uint64_t n_left) {
    MapfsStoreStatus status;

    mapfs_store_status(mapfs_fs_store(fs), &status);
    for (uint64_t n = status.n_free; n > n_left; n--) {
        if (allocate(fs, ino, KEEP, 0, (n - n_left) * BLOCK) == 0)
            return;
    }
    fail();
}

static void test_preallocated_blocks_can_be_written_on_a_full_image(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644), other = fs_make(fs, ROOT, "g", 0100644), n;

    fill(fs, ino, 0);
    n = n_blocks(fs, ino);
    assert_true(n > FS_FIXTURE_BLOCKS / 2);
    assert_int_equal(allocate(fs, other, 0, 0, 200 * BLOCK), -ENOSPC);
    for (uint64_t i = 0; i < n; i += 32)
        write_at(fs, ino, i * BLOCK, MAPFS_MIN(n - i, UINT64_C(32)) * BLOCK, (uint8_t)(i / 32 + 1));
    for (uint64_t i = 0; i < n; i += 32)
        assert_bytes(fs, ino, i * BLOCK, MAPFS_MIN(n - i, UINT64_C(32)) * BLOCK, (uint8_t)(i / 32 + 1));
    assert_int_equal(n_blocks(fs, ino), n);
}

static void test_full_image_takes_holes_and_zeroed_ranges(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644), n, before;

    fill(fs, ino, 0);
    n = n_blocks(fs, ino);
    for (uint64_t i = 0; i < n; i += 32)
        write_at(fs, ino, i * BLOCK, MAPFS_MIN(n - i, UINT64_C(32)) * BLOCK, 'x');
    assert_int_equal(allocate(fs, ino, ZERO, 0, n * BLOCK), 0);
    assert_int_equal(n_blocks(fs, ino), n);
    assert_bytes(fs, ino, 0, n * BLOCK, 0);
    before = settled_free(fs);
    for (uint64_t i = 0; i < n; i += 2)
        assert_int_equal(allocate(fs, ino, PUNCH, i * BLOCK, BLOCK), 0);
    assert_int_equal(n_blocks(fs, ino), n / 2);
    assert_true(settled_free(fs) > before + n / 3);
    assert_int_equal(allocate(fs, ino, 0, 0, 64 * BLOCK), 0);
}

/* --- holes --- */

static void test_hole_gives_blocks_back_and_clears_its_edges(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644), before;

    write_at(fs, ino, 0, 100 * BLOCK, 'a');
    before = settled_free(fs);
    assert_int_equal(allocate(fs, ino, PUNCH, 10 * BLOCK + 100, 50 * BLOCK), 0);
    assert_int_equal(n_blocks(fs, ino), 100 - 49);
    assert_int_equal(fs_attr(fs, ino).size, 100 * BLOCK);
    assert_bytes(fs, ino, 0, 10 * BLOCK + 100, 'a');
    assert_bytes(fs, ino, 10 * BLOCK + 100, 50 * BLOCK, 0);
    assert_bytes(fs, ino, 60 * BLOCK + 100, 40 * BLOCK - 100, 'a');
    assert_true(settled_free(fs) >= before + 45);
}

static void test_hole_within_a_block(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);

    write_at(fs, ino, 0, 2 * BLOCK, 'a');
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(allocate(fs, ino, PUNCH, 100 + 1000 * i, 50), 0);
        assert_bytes(fs, ino, 100 + 1000 * i, 50, 0);
        assert_bytes(fs, ino, 150 + 1000 * i, 950, 'a');
        assert_int_equal(n_blocks(fs, ino), 2);
        assert_int_equal(mapfs_fs_sync(fs), 0); /* the second one moves the block */
    }
    assert_bytes(fs, ino, BLOCK, BLOCK, 'a');
}

static void test_hole_at_the_end_drops_the_last_block_and_what_is_past_it(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);

    write_at(fs, ino, 0, 3 * BLOCK + 10, 'a');
    assert_int_equal(allocate(fs, ino, KEEP, 0, 10 * BLOCK), 0);
    assert_int_equal(allocate(fs, ino, PUNCH, 3 * BLOCK, UINT64_C(1) << 59), 0);
    assert_int_equal(n_blocks(fs, ino), 3);
    assert_int_equal(fs_attr(fs, ino).size, 3 * BLOCK + 10);
    assert_bytes(fs, ino, 3 * BLOCK, 10, 0);
    assert_int_equal(allocate(fs, ino, PUNCH, 0, MAPFS_FILE_SIZE_MAX), 0);
    assert_int_equal(n_blocks(fs, ino), 0);
    assert_bytes(fs, ino, 0, 3 * BLOCK + 10, 0);
    /* Back into the tree, once it is small and has no blocks. */
    assert_int_equal(set_size(fs, ino, 50), 0);
    write_at(fs, ino, 10, 10, 'b');
    assert_int_equal(n_blocks(fs, ino), 0);
    assert_bytes(fs, ino, 10, 10, 'b');
    assert_bytes(fs, ino, 20, 30, 0);
}

static void test_hole_in_small_content(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);

    write_at(fs, ino, 0, 700, 'a');
    assert_int_equal(allocate(fs, ino, PUNCH, 100, 200), 0);
    assert_bytes(fs, ino, 0, 100, 'a');
    assert_bytes(fs, ino, 100, 200, 0);
    assert_bytes(fs, ino, 300, 400, 'a');
    assert_int_equal(allocate(fs, ino, PUNCH, 600, 5000), 0);
    assert_int_equal(allocate(fs, ino, PUNCH, 5000, 5000), 0);
    assert_bytes(fs, ino, 600, 100, 0);
    assert_int_equal(fs_attr(fs, ino).size, 700);
    assert_int_equal(n_blocks(fs, ino), 0);
}

static void test_hole_over_more_extents_than_a_step_takes(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_scattered(fs, "f", 500);

    assert_int_equal(allocate(fs, ino, PUNCH, BLOCK, 990 * BLOCK), 0);
    assert_bytes(fs, ino, BLOCK, 990 * BLOCK, 0);
    assert_int_equal(n_blocks(fs, ino), 500 - 495);
    assert_bytes(fs, ino, 0, 1, 'x');
    assert_bytes(fs, ino, 998 * BLOCK, 1, 'x');
}

/* --- zeroed ranges --- */

static void test_zeroed_range_keeps_blocks_but_not_those_that_held_data(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);
    uint64_t places[20];

    write_at(fs, ino, 0, 20 * BLOCK, 'a');
    for (uint64_t i = 0; i < 20; i++)
        places[i] = place_of(fs, ino, i);
    assert_int_equal(allocate(fs, ino, ZERO, 3 * BLOCK + 5, 10 * BLOCK), 0);
    assert_int_equal(n_blocks(fs, ino), 20);
    assert_bytes(fs, ino, 0, 3 * BLOCK + 5, 'a');
    assert_bytes(fs, ino, 3 * BLOCK + 5, 10 * BLOCK, 0);
    assert_bytes(fs, ino, 13 * BLOCK + 5, 7 * BLOCK - 5, 'a');
    for (uint64_t i = 4; i < 13; i++) {
        assert_true(is_unwritten(fs, ino, i));
        for (unsigned k = 0; k < 20; k++)
            assert_int_not_equal(place_of(fs, ino, i), places[k]);
    }
}

static void test_zeroed_range_fills_holes_and_grows_the_file(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);

    write_at(fs, ino, 0, 100, 'a');
    assert_int_equal(allocate(fs, ino, ZERO | KEEP, 50, 5 * BLOCK), 0);
    assert_int_equal(fs_attr(fs, ino).size, 100);
    assert_int_equal(n_blocks(fs, ino), 6);
    assert_bytes(fs, ino, 0, 50, 'a');
    assert_bytes(fs, ino, 50, 50, 0);
    assert_int_equal(allocate(fs, ino, ZERO, 2 * BLOCK, 20 * BLOCK + 3), 0);
    assert_int_equal(fs_attr(fs, ino).size, 22 * BLOCK + 3);
    assert_int_equal(n_blocks(fs, ino), 23);
    assert_bytes(fs, ino, 0, 50, 'a');
    assert_bytes(fs, ino, 50, 22 * BLOCK - 47, 0);
}

static void test_zeroed_range_over_more_extents_than_a_step_takes(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = make_scattered(fs, "f", 300);

    assert_int_equal(allocate(fs, ino, ZERO, 0, 700 * BLOCK), 0);
    assert_int_equal(n_blocks(fs, ino), 700);
    assert_bytes(fs, ino, 0, 700 * BLOCK, 0);
    assert_int_equal(fs_attr(fs, ino).size, 700 * BLOCK);
}

/* What a copy shares: the other file keeps its bytes, whatever is cleared in this one, in many steps too. */
static void test_clearing_shared_blocks_leaves_the_copy_alone(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644), copy = fs_make(fs, ROOT, "g", 0100644), len;
    MapfsCopyRange range = {.from_ino = ino, .to_ino = copy, .len = 200 * BLOCK};

    write_at(fs, ino, 0, 200 * BLOCK, 'a');
    for (; range.len > 0; range.from_offset += len, range.to_offset += len, range.len -= len)
        assert_int_equal(mapfs_fs_copy_range(fs, &range, 0, &len), 0);
    assert_int_equal(place_of(fs, copy, 7), place_of(fs, ino, 7));
    for (uint64_t i = 0; i < 100; i += 2) /* counts of their own for many parts */
        assert_int_equal(allocate(fs, copy, i % 4 ? PUNCH : ZERO, i * BLOCK, BLOCK), 0);
    assert_bytes(fs, ino, 0, 200 * BLOCK, 'a');
    assert_int_equal(allocate(fs, ino, PUNCH, 5, 70 * BLOCK), 0);
    assert_int_equal(allocate(fs, ino, ZERO, 70 * BLOCK + 5, 100 * BLOCK), 0);
    assert_bytes(fs, ino, 0, 5, 'a');
    assert_bytes(fs, ino, 5, 170 * BLOCK, 0);
    assert_bytes(fs, ino, 170 * BLOCK + 5, 30 * BLOCK - 5, 'a');
    for (uint64_t i = 0; i < 200; i++)
        assert_bytes(fs, copy, i * BLOCK, BLOCK, i < 100 && i % 2 == 0 ? 0 : 'a');
}

/* --- attributes and errors --- */

static void test_every_mode_changes_times_and_strips_when_asked(void **state) {
    const unsigned modes[] = {0, KEEP, PUNCH, ZERO, ZERO | KEEP};
    MapfsFs *fs = fs_of(state);

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(modes) * 4; i++) {
        uint64_t ino = fs_make(fs, ROOT, "f", 0106777);
        MapfsAttr before, after;

        if (i & 1)
            write_at(fs, ino, 0, 3 * BLOCK, 'a');
        else
            write_at(fs, ino, 0, 10, 'a');
        before = fs_attr(fs, ino);
        assert_int_equal(allocate(fs, ino, modes[i / 4] | (i & 2 ? MAPFS_ALLOCATE_KILL_PRIV : 0), 0, 5000), 0);
        after = fs_attr(fs, ino);
        assert_true(after.change > before.change);
        assert_true(after.ctime.tv_sec > before.ctime.tv_sec || after.ctime.tv_nsec != before.ctime.tv_nsec);
        assert_int_equal(after.mtime.tv_nsec, after.ctime.tv_nsec);
        assert_int_equal(after.mode, i & 2 ? 0100777 : 0106777);
        assert_int_equal(fs_unlink(fs, ROOT, "f"), 0);
        mapfs_fs_forget(fs, ino, 1);
    }
}

static void test_errors(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644), directory = fs_make(fs, ROOT, "d", 0040755);
    uint64_t fifo = fs_make(fs, ROOT, "p", 0010644), found;

    assert_int_equal(allocate(fs, ino, MAPFS_ALLOCATE_PUNCH, 0, 10), -EOPNOTSUPP);
    assert_int_equal(allocate(fs, ino, 8, 0, 10), -EOPNOTSUPP);
    assert_int_equal(allocate(fs, ino, ZERO | PUNCH, 0, 10), -EOPNOTSUPP);
    assert_int_equal(allocate(fs, ino, 0, 0, 0), -EINVAL);
    assert_int_equal(allocate(fs, ino, 0, MAPFS_FILE_SIZE_MAX, 1), -EFBIG);
    assert_int_equal(allocate(fs, ino, PUNCH, 1, MAPFS_FILE_SIZE_MAX), -EFBIG);
    assert_int_equal(allocate(fs, ino, 0, MAPFS_FILE_SIZE_MAX - 5, 5), 0);
    assert_int_equal(fs_attr(fs, ino).size, MAPFS_FILE_SIZE_MAX);
    assert_int_equal(allocate(fs, directory, 0, 0, 10), -EISDIR);
    assert_int_equal(allocate(fs, fifo, 0, 0, 10), -ENODEV);
    assert_int_equal(allocate(fs, 999, 0, 0, 10), -ESTALE);
    assert_int_equal(mapfs_fs_seek(fs, fifo, 0, MAPFS_SEEK_DATA, &found), -EINVAL);
    assert_int_equal(mapfs_fs_seek(fs, 999, 0, MAPFS_SEEK_DATA, &found), -ESTALE);
}

/* --- where data is --- */

static void assert_seek(MapfsFs *fs, uint64_t ino, uint64_t offset, int64_t data, int64_t hole) {
    uint64_t found = 0;
    int r;

    r = mapfs_fs_seek(fs, ino, offset, MAPFS_SEEK_DATA, &found);
    if (r < 0)
        assert_int_equal(r, data);
    else
        assert_int_equal(found, data);
    r = mapfs_fs_seek(fs, ino, offset, MAPFS_SEEK_HOLE, &found);
    if (r < 0)
        assert_int_equal(r, hole);
    else
        assert_int_equal(found, hole);
}

static void test_seek_in_small_files(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);

    assert_seek(fs, ino, 0, -ENXIO, -ENXIO);
    write_at(fs, ino, 0, 700, 'a');
    assert_seek(fs, ino, 0, 0, 700);
    assert_seek(fs, ino, 699, 699, 700);
    assert_seek(fs, ino, 700, -ENXIO, -ENXIO);
    assert_seek(fs, ino, UINT64_MAX, -ENXIO, -ENXIO);
    assert_int_equal(set_size(fs, ino, 0), 0);
    assert_int_equal(set_size(fs, ino, 300), 0);
    assert_bytes(fs, ino, 0, 300, 0);
}

static void test_seek_finds_data_between_holes_and_unwritten_blocks(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);

    assert_int_equal(set_size(fs, ino, 100 * BLOCK + 10), 0);
    assert_seek(fs, ino, 5, -ENXIO, 5);
    assert_int_equal(allocate(fs, ino, KEEP, 10 * BLOCK, 200 * BLOCK), 0);
    assert_seek(fs, ino, 11 * BLOCK + 1, -ENXIO, 11 * BLOCK + 1);
    write_at(fs, ino, 20 * BLOCK + 5, 100, 'a');
    write_at(fs, ino, 21 * BLOCK, BLOCK, 'b');
    assert_int_equal(mapfs_fs_sync(fs), 0);
    write_at(fs, ino, 22 * BLOCK, 1, 'c'); /* another extent, of another epoch */
    assert_seek(fs, ino, 0, 20 * BLOCK, 0);
    assert_seek(fs, ino, 20 * BLOCK, 20 * BLOCK, 23 * BLOCK);
    assert_seek(fs, ino, 21 * BLOCK + 77, 21 * BLOCK + 77, 23 * BLOCK);
    assert_seek(fs, ino, 23 * BLOCK, -ENXIO, 23 * BLOCK);
    write_at(fs, ino, 100 * BLOCK, 10, 'd');
    assert_seek(fs, ino, 23 * BLOCK, 100 * BLOCK, 23 * BLOCK);
    assert_seek(fs, ino, 100 * BLOCK + 1, 100 * BLOCK + 1, 100 * BLOCK + 10);
    assert_seek(fs, ino, 100 * BLOCK + 10, -ENXIO, -ENXIO);
}

static void test_seek_passes_many_extents_and_huge_holes(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);

    assert_int_equal(allocate(fs, ino, 0, 0, 1400 * BLOCK), 0);
    for (unsigned i = 0; i < 1400; i += 2) /* each between two holes makes an extent of its own */
        assert_int_equal(allocate(fs, ino, PUNCH, i * BLOCK, BLOCK), 0);
    assert_seek(fs, ino, 0, -ENXIO, 0);
    assert_int_equal(set_size(fs, ino, MAPFS_FILE_SIZE_MAX), 0);
    write_at(fs, ino, MAPFS_FILE_SIZE_MAX - 1, 1, 'z');
    assert_seek(fs, ino, 7, (int64_t)(MAPFS_FILE_SIZE_MAX - BLOCK), 7);
    assert_seek(fs, ino, MAPFS_FILE_SIZE_MAX - 1, (int64_t)(MAPFS_FILE_SIZE_MAX - 1), (int64_t)MAPFS_FILE_SIZE_MAX);
}

/* --- damage --- */

static int teardown_damaged(void **state) {
    FsFixture *fixture = *state;

    mapfs_fs_abandon(fixture->fs);
    mapfs_image_close(fixture->image);
    g_free(fixture);
    return 0;
}

static void put_extent(MapfsFs *fs, uint64_t ino, uint64_t block, uint32_t n) {
    const struct mapfs_disk_extent value = {
        .block = mapfs_le64_store(block),
        .n_blocks = mapfs_le32_store(n),
        .flags = mapfs_le32_store(MAPFS_EXTENT_UNWRITTEN),
        .birth_generation = mapfs_le64_store(1),
    };
    MapfsTxn txn;

    assert_int_equal(mapfs_txn_begin(mapfs_fs_store(fs), MAPFS_TXN_FREES, 2, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(
        mapfs_tree_put(mapfs_store_tree(mapfs_fs_store(fs)), mapfs_extent_key(ino, 0), &value, sizeof(value)), 0);
    (void)mapfs_txn_next_lsn(&txn);
    mapfs_txn_end(&txn);
}

static void test_unwritten_extents_of_a_damaged_image_are_not_filled(void **state) {
    const uint64_t blocks[] = {
        0, 1, 2, FS_FIXTURE_BLOCKS - 1, FS_FIXTURE_BLOCKS, FS_FIXTURE_BLOCKS - 40, UINT64_MAX / 2};
    MapfsFs *fs = fs_of(state);
    uint64_t ino = fs_make(fs, ROOT, "f", 0100644);
    uint8_t bytes[2 * MAPFS_BLOCK_SIZE];
    int r;

    assert_int_equal(allocate(fs, ino, 0, 0, 2 * BLOCK), 0);
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(blocks); i++) {
        put_extent(fs, ino, blocks[i], 2);
        assert_int_equal(mapfs_fs_write(fs, ino, 5, "x", 1), -EUCLEAN);
        assert_int_equal(mapfs_fs_write(fs, ino, BLOCK, "x", 1), -EUCLEAN);
        r = mapfs_fs_read(fs, ino, 0, bytes, sizeof(bytes)); /* zeros, or refused for where the blocks would lie */
        assert_true(r == -EUCLEAN || (r == (int)sizeof(bytes) && bytes[0] == 0));
    }
    assert_int_equal(mapfs_store_error(mapfs_fs_store(fs)), 0);
}

/* --- random --- */

typedef struct {
    uint64_t ino;
    uint8_t *bytes;
    uint64_t size;
} Model;

#define MODEL_MAX (40 * MAPFS_BLOCK_SIZE)

static void model_grow(Model *model, uint64_t size) {
    if (size > model->size)
        memset(model->bytes + model->size, 0, size - model->size);
    model->size = MAPFS_MAX(model->size, size);
}

static void random_change(MapfsFs *fs, Model *model, GRand *rand) {
    const unsigned modes[] = {0, KEEP, PUNCH, PUNCH, ZERO, ZERO | KEEP};
    uint64_t offset = (uint64_t)g_rand_int_range(rand, 0, MODEL_MAX - 1);
    uint64_t len = 1 + (uint64_t)g_rand_int_range(rand, 0, (gint32)MAPFS_MIN(MODEL_MAX - offset, 6 * BLOCK));
    unsigned mode = modes[g_rand_int_range(rand, 0, MAPFS_N_ELEMENTS(modes))];

    if (g_rand_int_range(rand, 0, 3) == 0)
        offset -= offset % BLOCK;
    switch (g_rand_int_range(rand, 0, 8)) {
    case 0:
    case 1:
    case 2:
        write_at(fs, model->ino, offset, len, (uint8_t)g_rand_int_range(rand, 1, 255));
        model_grow(model, offset + len);
        assert_int_equal(mapfs_fs_read(fs, model->ino, offset, model->bytes + offset, len), len);
        break;
    case 3:
        assert_int_equal(set_size(fs, model->ino, offset), 0);
        model_grow(model, offset);
        model->size = offset;
        break;
    default:
        assert_int_equal(allocate(fs, model->ino, mode, offset, len), 0);
        if (!(mode & KEEP))
            model_grow(model, offset + len);
        if (mode & ~KEEP && offset < model->size)
            memset(model->bytes + offset, 0, MAPFS_MIN(len, model->size - offset));
        break;
    }
}

static void model_compare(MapfsFs *fs, const Model *model) {
    g_autofree uint8_t *bytes = g_malloc(MODEL_MAX + 1);
    uint64_t at = 0, data, hole;

    assert_int_equal(fs_attr(fs, model->ino).size, model->size);
    assert_int_equal(mapfs_fs_read(fs, model->ino, 0, bytes, MODEL_MAX + 1), model->size);
    assert_memory_equal(bytes, model->bytes, model->size);
    while (at < model->size && mapfs_fs_seek(fs, model->ino, at, MAPFS_SEEK_DATA, &data) == 0) {
        for (; at < data; at++)
            assert_int_equal(bytes[at], 0);
        assert_int_equal(mapfs_fs_seek(fs, model->ino, at, MAPFS_SEEK_HOLE, &hole), 0);
        assert_true(hole > data && hole <= model->size);
        at = hole;
    }
    for (; at < model->size; at++)
        assert_int_equal(bytes[at], 0);
}

static void test_random_ranges_match_a_model(void **state) {
    const char *text = g_getenv("MAPFS_TEST_SEED");
    uint32_t seed = text ? (uint32_t)strtoul(text, NULL, 10) : 1;
    g_autofree uint8_t *bytes = g_malloc0(MODEL_MAX + 7 * BLOCK);
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    Model model = {.ino = fs_make(fs_of(state), ROOT, "f", 0100644), .bytes = bytes};

    print_message("# seed %u\n", seed);
    for (unsigned i = 0; i < 3000; i++) {
        random_change(fs_of(state), &model, rand);
        if (g_rand_int_range(rand, 0, 8) == 0)
            assert_int_equal(mapfs_fs_sync(fs_of(state)), 0);
        if (i % 8 == 0)
            model_compare(fs_of(state), &model);
        if (i % 500 == 499) {
            assert_int_equal(mapfs_fs_sync(fs_of(state)), 0);
            fs_fixture_remount(*state, true);
            assert_int_equal(fs_ino(fs_of(state), ROOT, "f"), model.ino);
            model_compare(fs_of(state), &model);
        }
    }
    model_compare(fs_of(state), &model);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, fs_fixture_setup, fs_checked_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_preallocation_reads_as_zeros_and_has_blocks),
        TEST(test_preallocation_past_the_end_keeps_the_size),
        TEST(test_small_content_leaves_the_tree_for_preallocation),
        TEST(test_write_converts_what_it_covers_and_no_more),
        TEST(test_conversion_is_undone_by_a_crash_before_the_sync),
        TEST(test_abandoned_write_into_preallocated_blocks_leaves_zeros),
        TEST(test_preallocation_that_does_not_fit_takes_nothing),
        TEST(test_preallocated_blocks_can_be_written_on_a_full_image),
        TEST(test_full_image_takes_holes_and_zeroed_ranges),
        TEST(test_hole_gives_blocks_back_and_clears_its_edges),
        TEST(test_hole_within_a_block),
        TEST(test_hole_at_the_end_drops_the_last_block_and_what_is_past_it),
        TEST(test_hole_in_small_content),
        TEST(test_hole_over_more_extents_than_a_step_takes),
        TEST(test_zeroed_range_keeps_blocks_but_not_those_that_held_data),
        TEST(test_zeroed_range_fills_holes_and_grows_the_file),
        TEST(test_zeroed_range_over_more_extents_than_a_step_takes),
        TEST(test_clearing_shared_blocks_leaves_the_copy_alone),
        TEST(test_every_mode_changes_times_and_strips_when_asked),
        TEST(test_errors),
        TEST(test_seek_in_small_files),
        TEST(test_seek_finds_data_between_holes_and_unwritten_blocks),
        TEST(test_seek_passes_many_extents_and_huge_holes),
        cmocka_unit_test_setup_teardown(test_unwritten_extents_of_a_damaged_image_are_not_filled, fs_fixture_setup,
                                        teardown_damaged),
        TEST(test_random_ranges_match_a_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
