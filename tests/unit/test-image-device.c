/* SPDX-License-Identifier: MIT */
#include "test-image-files.h"

#include <linux/loop.h>
#include <sys/ioctl.h>

#include "base/macros.h"

/* Images on block devices: loop devices over files. Needs root and a free loop device, and skips without. */

/* A loop device over a file, as "/dev/loopN" in `ret_path`; false when there can be none here. It goes away with the last open of
 * it. The returned descriptor keeps it. */
static bool loop_open(const char *backing, char **ret_path, int *ret_fd) {
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int file = open(backing, O_RDWR | O_CLOEXEC);
    int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
    g_autofree char *path = g_strdup_printf("/dev/loop%d", number);
    struct loop_config config = {.fd = (uint32_t)file, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
    int fd = number < 0 ? -1 : open(path, O_RDWR | O_CLOEXEC);
    bool works = file >= 0 && fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0;

    if (control >= 0)
        (void)close(control);
    if (file >= 0)
        (void)close(file);
    if (!works) {
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    *ret_path = g_steal_pointer(&path);
    *ret_fd = fd;
    return true;
}

static void test_device_is_mapped_synced_and_claimed(void **state) {
    static const MapfsRun runs[] = {{{200}, 2}, {{3}, 1}};
    char *backing = files_path("/var/tmp"), *device;
    MapfsImage *image, *second;
    uint8_t byte;
    int fd, pid = 0;

    (void)state;
    mapfs_image_close(files_create(backing, 256));
    if (!loop_open(backing, &device, &fd)) {
        files_remove(backing);
        skip();
    }
    assert_int_equal(files_open_exclusive(device, 0, &image), 0);
    assert_int_equal(image->n_blocks, 256);
    assert_int_equal(files_open_exclusive(device, 100, &second), -EBUSY);
    assert_int_equal(mapfs_image_holder(device, 0, &pid), 1);
    assert_int_equal(pid, getpid());
    assert_true(open(device, O_RDWR | O_EXCL | O_CLOEXEC) < 0); /* so the kernel does not mount it either */

    memset(mapfs_image_writable(image, runs[0]), 0x31, 2 * BLOCK);
    memset(mapfs_image_writable(image, runs[1]), 0x32, BLOCK);
    assert_int_equal(mapfs_image_reserve(image, runs[0]), 0);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, runs, 2), 0);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_META, runs, 2), 0);
    files_read(backing, (off_t)(201 * BLOCK), &byte, 1);
    assert_int_equal(byte, 0x31);
    files_read(backing, (off_t)(3 * BLOCK), &byte, 1);
    assert_int_equal(byte, 0x32);
    assert_int_equal(mapfs_image_host_free(image), UINT64_MAX);
    assert_true(mapfs_image_host_allocated(image) == UINT64_MAX);
    mapfs_image_close(image);
    assert_int_equal(files_open_exclusive(device, 0, &image), 0);
    mapfs_image_close(image);

    MapfsImageOpen longer = {.create = true, .size_bytes = 257 * BLOCK};
    assert_int_equal(mapfs_image_open_file(device, &longer, &image), -ENOSPC);
    (void)close(fd);
    g_free(device);
    files_remove(backing);
}

static void check_failing_write_back(const char *device) {
    static const MapfsRun runs[] = {{{0}, 64}, {{128}, 64}};
    MapfsImage *image;

    assert_int_equal(files_open_exclusive(device, 0, &image), 0);
    memset(mapfs_image_writable(image, run_of(0, 256)), 1, 256 * BLOCK);
    int r = mapfs_image_sync(image, MAPFS_SYNC_DATA, runs, 2);
    assert_true(r == -EIO || r == -ENOSPC);
    assert_int_equal(mapfs_image_error(image), r);
    /* The kernel has told its error, and would say 0 now. */
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, runs, 2), r);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_META, runs, 1), r);
    mapfs_image_close(image);
}

static void test_failing_write_back_is_an_error_that_stays(void **state) {
    char *directory = files_mount_small("256k"), *device;
    int fd;

    (void)state;
    if (!directory)
        skip(); /* needs to mount a small tmpfs */
    g_autofree char *backing = g_build_filename(directory, "backing", NULL);
    mapfs_image_close(files_create(backing, 256)); /* four times what the host has */
    if (!loop_open(backing, &device, &fd)) {
        files_unmount(directory);
        skip();
    }
    check_failing_write_back(device);
    (void)close(fd);
    g_free(device);
    files_unmount(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device_is_mapped_synced_and_claimed),
        cmocka_unit_test(test_failing_write_back_is_an_error_that_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
