/* SPDX-License-Identifier: MIT */
#pragma once

/* What the tests of images share: places for files, opening with fewer words, and a small host to fill. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* The headers above are for cmocka.h. */
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "image/image.h"

#define BLOCK ((size_t)MAPFS_BLOCK_SIZE)

static inline MapfsRun run_of(uint64_t start, uint64_t n_blocks) {
    return (MapfsRun){{start}, n_blocks};
}

/* A name in a new directory of its own below `parent`; files_remove() removes both. */
static inline char *files_path(const char *parent) {
    g_autofree char *directory = g_build_filename(parent, "mapfs-test-XXXXXX", NULL);

    assert_non_null(g_mkdtemp(directory));
    return g_build_filename(directory, "image", NULL);
}

static inline void files_remove(char *path) {
    g_autofree char *directory = g_path_get_dirname(path);

    (void)unlink(path);
    assert_int_equal(rmdir(directory), 0);
    g_free(path);
}

/* A new image of n_blocks in a new file, without a lock. */
static inline MapfsImage *files_create(const char *path, uint64_t n_blocks) {
    MapfsImageOpen how = {.create = true, .size_bytes = n_blocks * BLOCK};
    MapfsImage *image = NULL;

    assert_int_equal(mapfs_image_open_file(path, &how, &image), 0);
    assert_int_equal(image->n_blocks, n_blocks);
    return image;
}

static inline int files_open_exclusive(const char *path, unsigned wait_ms, MapfsImage **ret_image) {
    MapfsImageOpen how = {.exclusive = true, .wait_ms = wait_ms};

    return mapfs_image_open_file(path, &how, ret_image);
}

static inline void files_write(const char *path, size_t len_bytes) {
    g_autofree char *bytes = g_malloc0(len_bytes + 1);

    assert_true(g_file_set_contents(path, bytes, (gssize)len_bytes, NULL));
}

static inline void files_read(const char *path, off_t offset, void *buffer, size_t len_bytes) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pread(fd, buffer, len_bytes, offset), len_bytes);
    (void)close(fd);
}

static inline int64_t files_clock_ms(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Mounts a tmpfs of `size` (as in its mount option) where this process alone sees it. The caller unmounts and frees what is
 * returned; NULL: not allowed here. */
static inline char *files_mount_small(const char *size) {
    g_autofree char *options = g_strdup_printf("size=%s", size);
    g_autofree char *directory = g_strdup("/tmp/mapfs-test-XXXXXX");

    if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
        return NULL;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return NULL;
    assert_non_null(g_mkdtemp(directory));
    if (mount("mapfs-test", directory, "tmpfs", 0, options) < 0) {
        (void)rmdir(directory);
        return NULL;
    }
    return g_steal_pointer(&directory);
}

static inline void files_unmount(char *directory) {
    assert_int_equal(umount2(directory, MNT_DETACH), 0);
    assert_int_equal(rmdir(directory), 0);
    g_free(directory);
}

/* Runs a child that must die by the signal. cmocka and the sanitizers have handlers of their own, which are put aside. */
static inline void files_check_dies(int signal_number, void (*run)(void *argument), void *argument) {
    const struct rlimit no_core = {0};
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        (void)setrlimit(RLIMIT_CORE, &no_core);
        (void)signal(signal_number, SIG_DFL);
        run(argument);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signal_number);
}
