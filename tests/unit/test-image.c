/* SPDX-License-Identifier: MIT */
#include "test-image-files.h"

#include <linux/magic.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#include "image/image-private.h"

/* Mapping */

static void test_run_outside_the_image_gives_no_pointer(void **state) {
    MapfsImage *image;

    (void)state;
    assert_int_equal(mapfs_image_open_anonymous(10, &image), 0);
    assert_non_null(mapfs_image_read(image, run_of(0, 10)));
    assert_ptr_equal(mapfs_image_read(image, run_of(9, 1)), image->base + 9 * BLOCK);
    assert_null(mapfs_image_read(image, run_of(0, 11)));
    assert_null(mapfs_image_read(image, run_of(10, 1)));
    assert_null(mapfs_image_read(image, run_of(5, 0)));
    assert_null(mapfs_image_read(image, run_of(5, UINT64_MAX)));
    assert_null(mapfs_image_read(image, run_of(UINT64_MAX, 2)));
    assert_null(mapfs_image_writable(image, run_of(9, 2)));
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, &(MapfsRun){{10}, 1}, 1), -EINVAL);
    assert_int_equal(mapfs_image_reserve(image, run_of(8, 3)), -EINVAL);
    assert_int_equal(mapfs_image_discard(image, run_of(8, 3)), -EINVAL);
    assert_int_equal(mapfs_image_error(image), 0);
    mapfs_image_close(image);
}

static void check_views(MapfsImage *image) {
    uint8_t *writable = mapfs_image_writable(image, run_of(3, 1));
    const uint8_t *readable = mapfs_image_read(image, run_of(3, 1));

    assert_ptr_not_equal(writable, readable);
    memset(writable, 0x5a, BLOCK);
    for (size_t i = 0; i < BLOCK; i++)
        assert_int_equal(readable[i], 0x5a);
    assert_int_equal(((const uint8_t *)mapfs_image_read(image, run_of(4, 1)))[0], 0);
}

static void test_both_mappings_show_the_same_bytes(void **state) {
    char *path = files_path("/tmp");
    MapfsImage *image = files_create(path, 16);

    (void)state;
    check_views(image);
    mapfs_image_close(image);
    assert_int_equal(mapfs_image_open_anonymous(16, &image), 0);
    check_views(image);
    mapfs_image_close(image);
    files_remove(path);
}

static void store_into_base(void *unused) {
    MapfsImage *image; /* of its own: a child does not inherit mappings */

    (void)unused;
    if (mapfs_image_open_anonymous(1, &image) < 0)
        _exit(0);
    *(volatile uint8_t *)(uintptr_t)image->base = 1;
}

static void store_past_end(void *unused) {
    MapfsImage *image;

    (void)unused;
    if (mapfs_image_open_anonymous(1, &image) < 0)
        _exit(0);
    image->alias[BLOCK] = 1;
}

static void load_from_base(void *argument) {
    MapfsImage *image = argument;

    (void)*(const volatile uint8_t *)image->base;
}

static void test_stray_store_faults(void **state) {
    (void)state;
    files_check_dies(SIGSEGV, store_into_base, NULL);
    files_check_dies(SIGSEGV, store_past_end, NULL);
}

static void test_child_does_not_inherit_the_mapping(void **state) {
    MapfsImage *image;

    (void)state;
    assert_int_equal(mapfs_image_open_anonymous(1, &image), 0);
    files_check_dies(SIGSEGV, load_from_base, image);
    mapfs_image_close(image);
}

static void test_buffer_is_an_image(void **state) {
    uint8_t *buffer = g_aligned_alloc0(4, BLOCK, BLOCK);
    MapfsImage *image;

    (void)state;
    assert_int_equal(mapfs_image_open_buffer(buffer + 8, 3, &image), -EINVAL);
    assert_int_equal(mapfs_image_open_buffer(buffer, 4, &image), 0);
    *(uint8_t *)mapfs_image_writable(image, run_of(2, 1)) = 7;
    assert_int_equal(buffer[2 * BLOCK], 7);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_META, &(MapfsRun){{0}, 4}, 1), 0);
    mapfs_image_close(image);
    assert_int_equal(buffer[2 * BLOCK], 7);
    g_aligned_free(buffer);
}

/* Opening */

static int open_plain(const char *path) {
    MapfsImageOpen how = {0};
    MapfsImage *image;

    int r = mapfs_image_open_file(path, &how, &image);
    if (r == 0)
        mapfs_image_close(image);
    return r;
}

static void test_what_is_no_image_is_refused(void **state) {
    char *path = files_path("/tmp");
    g_autofree char *directory = g_path_get_dirname(path);
    MapfsImageOpen bad_offset = {.offset_bytes = 512}, far_offset = {.offset_bytes = 4 * BLOCK};
    MapfsImageOpen locked_reader = {.exclusive = true, .read_only = true};
    MapfsImageOpen longer = {.size_bytes = 3 * BLOCK}, create_nothing = {.create = true};
    MapfsImage *image;

    (void)state;
    assert_int_equal(open_plain(path), -ENOENT);
    assert_int_equal(mapfs_image_open_file(path, &create_nothing, &image), -ENOENT);
    assert_int_equal(open_plain(directory), -EMEDIUMTYPE);
    assert_int_equal(open_plain("/dev/null"), -EMEDIUMTYPE);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(open_plain(path), -EMEDIUMTYPE);
    assert_int_equal(unlink(path), 0);
    files_write(path, 0);
    assert_int_equal(open_plain(path), -ENODATA);
    files_write(path, BLOCK - 1);
    assert_int_equal(open_plain(path), -ENODATA);
    files_write(path, 2 * BLOCK + 1);
    assert_int_equal(open_plain(path), 0);
    assert_int_equal(mapfs_image_open_file(path, &bad_offset, &image), -EINVAL);
    assert_int_equal(mapfs_image_open_file(path, &far_offset, &image), -ENODATA);
    assert_int_equal(mapfs_image_open_file(path, &locked_reader, &image), -EINVAL);
    assert_int_equal(mapfs_image_open_file(path, &longer, &image), -ENODATA);
    files_remove(path);
}

static void test_create_grows_a_file_and_never_cuts_it(void **state) {
    char *path = files_path("/tmp");
    MapfsImageOpen smaller = {.create = true, .size_bytes = 4 * BLOCK};
    MapfsImage *image = files_create(path, 8);
    struct stat st;

    (void)state;
    mapfs_image_close(image);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 8 * BLOCK);
    assert_int_equal(mapfs_image_open_file(path, &smaller, &image), 0);
    assert_int_equal(image->n_blocks, 4);
    mapfs_image_close(image);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 8 * BLOCK);
    files_remove(path);
}

static void test_image_at_offset_leaves_the_rest_alone(void **state) {
    char *path = files_path("/tmp");
    MapfsImageOpen at_two = {.create = true, .offset_bytes = 2 * BLOCK, .size_bytes = 3 * BLOCK};
    MapfsImageOpen first = {.size_bytes = 2 * BLOCK};
    MapfsImage *image, *low;
    uint8_t byte;

    (void)state;
    files_write(path, 2 * BLOCK);
    assert_int_equal(mapfs_image_open_file(path, &at_two, &image), 0);
    assert_int_equal(mapfs_image_open_file(path, &first, &low), 0);
    assert_int_equal(low->n_blocks, 2);
    memset(mapfs_image_writable(image, run_of(0, 3)), 0xee, 3 * BLOCK);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, &(MapfsRun){{0}, 3}, 1), 0);
    assert_int_equal(mapfs_image_reserve(image, run_of(0, 3)), 0);
    files_read(path, (off_t)(2 * BLOCK), &byte, 1);
    assert_int_equal(byte, 0xee);
    assert_int_equal(((const uint8_t *)mapfs_image_read(low, run_of(1, 1)))[BLOCK - 1], 0);
    int r = mapfs_image_discard(image, run_of(0, 1)); /* must not reach before the offset */
    assert_true(r == 0 || r == -EOPNOTSUPP);
    memset(mapfs_image_writable(low, run_of(0, 2)), 0x11, 2 * BLOCK);
    assert_int_equal(((const uint8_t *)mapfs_image_read(image, run_of(1, 1)))[0], 0xee);
    mapfs_image_close(low);
    mapfs_image_close(image);
    files_remove(path);
}

static void test_read_only_image_changes_nothing(void **state) {
    char *path = files_path("/tmp");
    MapfsImageOpen how = {.read_only = true};
    MapfsImage *image = files_create(path, 4);

    (void)state;
    mapfs_image_close(image);
    assert_int_equal(mapfs_image_open_file(path, &how, &image), 0);
    assert_null(image->alias);
    assert_null(mapfs_image_writable(image, run_of(0, 1)));
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, &(MapfsRun){{0}, 1}, 1), -EROFS);
    assert_int_equal(mapfs_image_reserve(image, run_of(0, 1)), -EROFS);
    assert_int_equal(mapfs_image_discard(image, run_of(0, 1)), -EROFS);
    mapfs_image_write_out(image, &(MapfsRun){{0}, 1}, 1);
    mapfs_image_read_ahead(image, run_of(0, 4));
    mapfs_image_drop(image, run_of(0, 4));
    assert_int_equal(mapfs_image_error(image), 0);
    mapfs_image_close(image);
    files_remove(path);
}

/* Sync */

static bool is_ext4(const char *path) {
    struct statfs st;

    return statfs(path, &st) == 0 && st.f_type == EXT4_SUPER_MAGIC;
}

/* Bytes of the mapping at `start` that are dirty, by the kernel's account. */
static uint64_t dirty_kib(const void *start) {
    g_autofree char *text = NULL;
    g_autofree char *head = g_strdup_printf("%lx-", (unsigned long)(uintptr_t)start);
    unsigned long shared = 0, own = 0;

    assert_true(g_file_get_contents("/proc/self/smaps", &text, NULL, NULL));
    const char *at = strstr(text, head);
    assert_non_null(at);
    assert_int_equal(sscanf(strstr(at, "Shared_Dirty:"), "Shared_Dirty: %lu", &shared), 1);
    assert_int_equal(sscanf(strstr(at, "Private_Dirty:"), "Private_Dirty: %lu", &own), 1);
    return shared + own;
}

static void check_sync_cleans(MapfsSyncChannel channel) {
    static const MapfsRun scattered[] = {{{900}, 1}, {{10}, 3}, {{12}, 5}, {{500}, 2}, {{17}, 1}};
    char *path = files_path("/var/tmp");
    MapfsImage *image = files_create(path, 1024);

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(scattered); i++)
        memset(mapfs_image_writable(image, scattered[i]), (int)i + 1, scattered[i].n_blocks * BLOCK);
    assert_true(dirty_kib(image->alias) >= 4);
    assert_int_equal(mapfs_image_sync(image, channel, scattered, MAPFS_N_ELEMENTS(scattered)), 0);
    if (is_ext4(path))
        assert_int_equal(dirty_kib(image->alias), 0);
    /* One run takes another way. */
    memset(mapfs_image_writable(image, run_of(700, 1)), 9, BLOCK);
    assert_int_equal(mapfs_image_sync(image, channel, &(MapfsRun){{700}, 1}, 1), 0);
    if (is_ext4(path))
        assert_int_equal(dirty_kib(image->alias), 0);
    else
        print_message("# SKIP in part: /var/tmp is not ext4, dirty pages cannot be told\n");
    mapfs_image_close(image);
    files_remove(path);
}

static void test_sync_leaves_no_dirty_page(void **state) {
    (void)state;
    check_sync_cleans(MAPFS_SYNC_DATA);
    check_sync_cleans(MAPFS_SYNC_META);
}

static void check_sync_many(const char *parent) {
    enum { N = 300 }; /* more than the runs that are kept on the stack */
    char *path = files_path(parent);
    MapfsImage *image = files_create(path, 4 * N);
    MapfsRun runs[N];

    for (unsigned i = 0; i < N; i++) {
        runs[i] = run_of((i * 7919u % N) * 4, 1);
        memset(mapfs_image_writable(image, runs[i]), (int)(i % 255) + 1, BLOCK);
    }
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, runs, N), 0);
    if (is_ext4(path))
        assert_int_equal(dirty_kib(image->alias), 0);
    for (unsigned i = 0; i < N; i++) {
        uint8_t byte;
        files_read(path, (off_t)(runs[i].start.n * BLOCK), &byte, 1);
        assert_int_equal(byte, (int)(i % 255) + 1);
    }
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, NULL, 0), 0);
    mapfs_image_close(image);
    files_remove(path);
}

static void test_sync_takes_many_scattered_runs(void **state) {
    (void)state;
    check_sync_many("/var/tmp");
    check_sync_many("/dev/shm");
}

static void *sync_often(void *argument) {
    MapfsImage *image = argument;

    for (uint64_t i = 0; i < 50; i++) {
        MapfsRun runs[] = {{{i}, 1}, {{200 + i}, 1}};
        int r = mapfs_image_sync(image, i % 2 ? MAPFS_SYNC_META : MAPFS_SYNC_DATA, runs, 2);
        if (r < 0)
            return GINT_TO_POINTER(r);
        mapfs_image_write_out(image, &(MapfsRun){{100 + i}, 1}, 1);
    }
    return NULL;
}

static void test_threads_sync_both_channels_at_once(void **state) {
    char *path = files_path("/var/tmp");
    MapfsImage *image = files_create(path, 256);
    pthread_t threads[3];

    (void)state;
    memset(mapfs_image_writable(image, run_of(0, 256)), 3, 256 * BLOCK);
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, sync_often, image), 0);
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(threads); i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    mapfs_image_close(image);
    files_remove(path);
}

static void test_first_error_stays_and_fails_every_sync(void **state) {
    MapfsImage *image;

    (void)state;
    assert_int_equal(mapfs_image_open_anonymous(4, &image), 0);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, &(MapfsRun){{0}, 1}, 1), 0);
    mapfs_image_fail(image, -ENOSPC);
    mapfs_image_fail(image, -EIO);
    assert_int_equal(mapfs_image_error(image), -ENOSPC);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, &(MapfsRun){{0}, 1}, 1), -ENOSPC);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_META, &(MapfsRun){{0}, 1}, 1), -ENOSPC);
    mapfs_image_close(image);
}

static void test_sync_of_a_file_cut_short_fails(void **state) {
    char *path = files_path("/var/tmp");
    MapfsImage *image = files_create(path, 16);

    (void)state;
    memset(mapfs_image_writable(image, run_of(12, 1)), 1, BLOCK);
    assert_int_equal(truncate(path, (off_t)(8 * BLOCK)), 0);
    /* The kernel has dropped the page, so msync alone would find nothing wrong. */
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, &(MapfsRun){{12}, 1}, 1), -EIO);
    assert_int_equal(mapfs_image_error(image), -EIO);
    mapfs_image_close(image);
    files_remove(path);
}

static bool ranges_hold(const MapfsByteRange *ranges, size_t n_ranges, uint64_t byte) {
    for (size_t i = 0; i < n_ranges; i++)
        if (byte >= ranges[i].start && byte < ranges[i].end)
            return true;
    return false;
}

static void test_merged_ranges_cover_the_same_and_stand_apart(void **state) {
    g_autoptr(GRand) rand = g_rand_new_with_seed(1);

    (void)state;
    for (int round = 0; round < 300; round++) {
        MapfsByteRange ranges[20], merged[20];
        size_t n = (size_t)g_rand_int_range(rand, 1, 20);
        for (size_t i = 0; i < n; i++) {
            ranges[i].start = (uint64_t)g_rand_int_range(rand, 0, 100);
            ranges[i].end = ranges[i].start + (uint64_t)g_rand_int_range(rand, 1, 12);
        }
        memcpy(merged, ranges, sizeof(ranges));
        size_t n_merged = mapfs_ranges_merge(merged, n);
        for (uint64_t byte = 0; byte < 120; byte++)
            assert_int_equal(ranges_hold(ranges, n, byte), ranges_hold(merged, n_merged, byte));
        for (size_t i = 1; i < n_merged; i++)
            assert_true(merged[i - 1].end < merged[i].start);
    }
}

/* Host space and residency */

static void check_space(const char *parent) {
    char *path = files_path(parent);
    MapfsImage *image = files_create(path, 1024);
    uint64_t before = mapfs_image_host_allocated(image);
    const uint8_t *bytes = mapfs_image_read(image, run_of(100, 512));

    assert_int_equal(mapfs_image_reserve(image, run_of(100, 512)), 0);
    assert_true(mapfs_image_host_allocated(image) >= before + 512 * BLOCK);
    memset(mapfs_image_writable(image, run_of(100, 512)), 0x77, 512 * BLOCK);
    assert_int_equal(mapfs_image_discard(image, run_of(100, 511)), 0);
    assert_true(mapfs_image_host_allocated(image) < before + 64 * BLOCK);
    assert_int_equal(bytes[511 * BLOCK], 0x77);
    assert_true(mapfs_image_host_free(image) > 0);
    assert_true(mapfs_image_host_free(image) < UINT64_MAX);
    mapfs_image_close(image);
    files_remove(path);
}

static void test_reserve_takes_host_blocks_and_discard_gives_them_back(void **state) {
    (void)state;
    check_space("/var/tmp");
    check_space("/dev/shm");
}

static void test_reserve_on_a_full_host_is_enospc(void **state) {
    char *directory = files_mount_small("1M");
    MapfsImage *image;

    (void)state;
    if (!directory)
        skip(); /* needs to mount a small tmpfs */
    g_autofree char *path = g_build_filename(directory, "image", NULL);
    image = files_create(path, 1024);
    assert_int_equal(mapfs_image_host_free(image), 1 << 20);
    assert_int_equal(mapfs_image_reserve(image, run_of(0, 128)), 0);
    assert_int_equal(mapfs_image_host_free(image), 1 << 19);
    assert_int_equal(mapfs_image_reserve(image, run_of(128, 512)), -ENOSPC);
    assert_int_equal(mapfs_image_error(image), 0);
    memset(mapfs_image_writable(image, run_of(0, 128)), 1, 128 * BLOCK);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, &(MapfsRun){{0}, 128}, 1), 0);
    mapfs_image_close(image);
    files_unmount(directory);
}

static size_t resident_pages(const MapfsImage *image) {
    g_autofree unsigned char *map = g_malloc0(image->n_blocks);
    size_t n = 0;

    assert_int_equal(mincore((void *)(uintptr_t)image->base, image->n_blocks * BLOCK, map), 0);
    for (uint64_t i = 0; i < image->n_blocks; i++)
        n += map[i] & 1;
    return n;
}

static void test_drop_lets_go_and_read_ahead_brings_back(void **state) {
    enum { N = 4096 }; /* 16 MiB: two chunks */
    char *path = files_path("/var/tmp");
    MapfsImage *image = files_create(path, N);

    (void)state;
    memset(mapfs_image_writable(image, run_of(0, N)), 0x42, N * BLOCK);
    mapfs_image_drop(image, run_of(0, N)); /* still dirty: must not lose it */
    assert_int_equal(((const uint8_t *)mapfs_image_read(image, run_of(N - 1, 1)))[5], 0x42);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, &(MapfsRun){{0}, N}, 1), 0);
    mapfs_image_drop(image, run_of(0, N));
    if (is_ext4(path))
        assert_true(resident_pages(image) < N / 4);
    mapfs_image_read_ahead(image, run_of(1, N - 1));
    assert_true(resident_pages(image) > N * 3 / 4);
    assert_int_equal(((const uint8_t *)mapfs_image_read(image, run_of(N - 1, 1)))[5], 0x42);
    assert_int_equal(mapfs_image_error(image), 0);
    mapfs_image_close(image);
    files_remove(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run_outside_the_image_gives_no_pointer),
        cmocka_unit_test(test_both_mappings_show_the_same_bytes),
        cmocka_unit_test(test_stray_store_faults),
        cmocka_unit_test(test_child_does_not_inherit_the_mapping),
        cmocka_unit_test(test_buffer_is_an_image),
        cmocka_unit_test(test_what_is_no_image_is_refused),
        cmocka_unit_test(test_create_grows_a_file_and_never_cuts_it),
        cmocka_unit_test(test_image_at_offset_leaves_the_rest_alone),
        cmocka_unit_test(test_read_only_image_changes_nothing),
        cmocka_unit_test(test_sync_leaves_no_dirty_page),
        cmocka_unit_test(test_sync_takes_many_scattered_runs),
        cmocka_unit_test(test_threads_sync_both_channels_at_once),
        cmocka_unit_test(test_first_error_stays_and_fails_every_sync),
        cmocka_unit_test(test_sync_of_a_file_cut_short_fails),
        cmocka_unit_test(test_merged_ranges_cover_the_same_and_stand_apart),
        cmocka_unit_test(test_reserve_takes_host_blocks_and_discard_gives_them_back),
        cmocka_unit_test(test_reserve_on_a_full_host_is_enospc),
        cmocka_unit_test(test_drop_lets_go_and_read_ahead_brings_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
