/* SPDX-License-Identifier: MIT */

/* Fills an image that mkfs.mapfs has made, without a mount, for measurements of the checker and of repair:
 *
 *     fill-image SHAPE N IMAGE
 *
 * tree: N small files, 1000 in a directory. flat: N small files in one directory. links: N names of one file. shared: N extents that
 * share their blocks, 1000 in a file. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fs.h"

#define PER_PARENT UINT64_C(1000)
#define SYNC_EVERY UINT64_C(20000)

static void fail(const char *what, int r) {
    (void)fprintf(stderr, "fill-image: %s: %s\n", what, strerror(-r));
    exit(1);
}

static uint64_t make(MapfsFs *fs, uint64_t parent, uint64_t number, uint32_t mode) {
    const MapfsNewInode new_inode = {.mode = mode};
    char name[32];
    MapfsName at = {.parent = parent, .name = name};
    MapfsAttr attr;
    int r;

    at.name_len = (size_t)snprintf(name, sizeof(name), "name-%08" PRIu64, number);
    r = mapfs_fs_create(fs, &at, &new_inode, &attr);
    if (r < 0)
        fail("create", r);
    mapfs_fs_forget(fs, attr.ino, 1);
    return attr.ino;
}

static void make_small(MapfsFs *fs, uint64_t parent, uint64_t number) {
    static const char content[100] = "a small file";
    int r = mapfs_fs_write(fs, make(fs, parent, number, S_IFREG | 0644), 0, content, sizeof(content));

    if (r < 0)
        fail("write", r);
}

static void sync_now_and_then(MapfsFs *fs, uint64_t number) {
    int r = number % SYNC_EVERY == 0 ? mapfs_fs_sync(fs) : 0;

    if (r < 0)
        fail("sync", r);
}

static void fill_tree(MapfsFs *fs, uint64_t n) {
    uint64_t parent = 0;

    for (uint64_t i = 0; i < n; i++) {
        if (i % PER_PARENT == 0)
            parent = make(fs, MAPFS_INO_ROOT, i, S_IFDIR | 0755);
        make_small(fs, parent, i);
        sync_now_and_then(fs, i);
    }
}

static void fill_flat(MapfsFs *fs, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        make_small(fs, MAPFS_INO_ROOT, i);
        sync_now_and_then(fs, i);
    }
}

static void fill_links(MapfsFs *fs, uint64_t n) {
    uint64_t ino = make(fs, MAPFS_INO_ROOT, 0, S_IFREG | 0644);

    for (uint64_t i = 1; i < n; i++) {
        char name[32];
        MapfsName at = {.parent = MAPFS_INO_ROOT, .name = name};
        MapfsAttr attr;
        int r;

        at.name_len = (size_t)snprintf(name, sizeof(name), "name-%08" PRIu64, i);
        r = mapfs_fs_link(fs, ino, &at, &attr);
        if (r < 0)
            fail("link", r);
        mapfs_fs_forget(fs, ino, 1);
        sync_now_and_then(fs, i);
    }
}

static void copy_file(MapfsFs *fs, uint64_t from, uint64_t to, uint64_t len) {
    for (uint64_t at = 0; at < len;) {
        const MapfsCopyRange range = {from, at, to, at, len - at};
        uint64_t copied;
        int r = mapfs_fs_copy_range(fs, &range, 0, &copied);

        if (r < 0 || copied == 0)
            fail("copy", r);
        at += copied;
    }
}

static void fill_shared(MapfsFs *fs, uint64_t n) {
    const uint64_t len = PER_PARENT * 2 * MAPFS_BLOCK_SIZE - MAPFS_BLOCK_SIZE;
    uint64_t first = make(fs, MAPFS_INO_ROOT, 0, S_IFREG | 0644);

    for (uint64_t i = 0; i < PER_PARENT; i++) {
        static const uint8_t block[MAPFS_BLOCK_SIZE] = {1};
        int r = mapfs_fs_write(fs, first, i * 2 * MAPFS_BLOCK_SIZE, block, sizeof(block));

        if (r < 0)
            fail("write", r);
    }
    for (uint64_t i = 1; i < n / PER_PARENT; i++) {
        copy_file(fs, first, make(fs, MAPFS_INO_ROOT, i, S_IFREG | 0644), len);
        sync_now_and_then(fs, i * PER_PARENT);
    }
}

static void fill(MapfsFs *fs, const char *shape, uint64_t n) {
    static const struct {
        const char *shape;
        void (*fill)(MapfsFs *fs, uint64_t n);
    } shapes[] = {{"tree", fill_tree}, {"flat", fill_flat}, {"links", fill_links}, {"shared", fill_shared}};

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(shapes); i++) {
        if (strcmp(shape, shapes[i].shape) != 0)
            continue;
        shapes[i].fill(fs, n);
        return;
    }
    fail(shape, -EINVAL);
}

int main(int argc, char **argv) {
    const MapfsImageOpen how = {.exclusive = true};
    const MapfsStoreOptions options = {0};
    MapfsImage *image;
    MapfsFs *fs;
    int r;

    if (argc != 4) {
        (void)fprintf(stderr, "usage: fill-image tree|flat|links|shared N IMAGE\n");
        return 2;
    }
    r = mapfs_image_open_file(argv[3], &how, &image);
    if (r < 0)
        fail(argv[3], r);
    r = mapfs_fs_open(image, &options, &fs);
    if (r < 0)
        fail("open", r);
    fill(fs, argv[1], strtoull(argv[2], NULL, 0));
    r = mapfs_fs_close(fs);
    if (r < 0)
        fail("close", r);
    mapfs_image_close(image);
    return 0;
}
