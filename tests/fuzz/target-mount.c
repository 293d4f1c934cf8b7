/* SPDX-License-Identifier: MIT */

/* Opening: superblocks, the store for reading and for writing, the root, the orphans. */

#include "target.h"

static void open_once(FuzzImage *image, bool read_only) {
    const MapfsStoreOptions options = {.read_only = read_only, .discard = true};
    struct mapfs_disk_superblock superblock;
    MapfsStoreStatus status;
    MapfsFsStatus counts;
    MapfsStore *store;
    MapfsFs *fs;

    (void)!mapfs_superblock_load(image->image, &superblock);
    if (mapfs_store_open(image->image, &options, &store) == 0) {
        mapfs_store_status(store, &status);
        mapfs_store_superblock(store, &superblock);
        mapfs_store_abandon(store);
    }
    if (mapfs_fs_open(image->image, &options, &fs) == 0) {
        mapfs_fs_statfs(fs, &counts);
        if (counts.n_available > counts.n_free)
            fuzz_fail("statfs says that more is available than is free");
        mapfs_fs_abandon(fs);
    }
}

void fuzz_target_run(const FuzzInput *input) {
    FuzzImage image;

    if (!fuzz_image_open(input, &image))
        return;
    fuzz_image_protect(&image, true);
    open_once(&image, true);
    /* A mount that changes nothing writes nothing. */
    open_once(&image, false);
    fuzz_image_close(&image);
}
