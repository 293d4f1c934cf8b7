/* SPDX-License-Identifier: MIT */

#include "fs/fs.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "fs/dirent-private.h"
#include "fs/fs-private.h"

/* An inode takes some 250 bytes of the tree with its name: what statfs tells of inodes that could still be made. */
#define INODES_PER_BLOCK 16u

static MapfsFs *fs_new(MapfsStore *store, bool read_only) {
    MapfsFs *fs = g_new0(MapfsFs, 1);

    fs->store = store;
    fs->inodes = mapfs_inode_table_new();
    fs->read_only = read_only;
    fs->hash_seed = mapfs_store_hash_seed(store);
    mapfs_reclaim_queue_init(&fs->reclaim_queue);
    return fs;
}

static void fs_free(MapfsFs *fs) {
    mapfs_reclaim_queue_clear(&fs->reclaim_queue);
    mapfs_inode_table_free(fs->inodes);
    g_free(fs);
}

static int root_check(MapfsFs *fs) {
    struct mapfs_disk_inode root;
    int r;

    mapfs_store_read_lock(fs->store);
    r = mapfs_dir_load(fs, MAPFS_INO_ROOT, &root);
    mapfs_store_read_unlock(fs->store);
    if (r == -ESTALE || r == -ENOTDIR || r == -ENOENT)
        return mapfs_damage(0, "root directory", "inode %u is not a directory in use", (unsigned)MAPFS_INO_ROOT);
    return r;
}

/* Queues what earlier mounts have left. Nobody has looked anything up yet. Damage here costs space, and no more than
 * that; the checker tells. */
static void orphans_queue(MapfsFs *fs) {
    MapfsCursor cursor;
    MapfsItem item;
    int r;

    mapfs_store_read_lock(fs->store);
    r = mapfs_cursor_begin(&cursor, mapfs_store_tree(fs->store), mapfs_orphan_key(0), &item);
    while (r > 0 && item.key.object == MAPFS_OBJECT_ORPHANS && item.key.kind == MAPFS_KIND_ORPHAN) {
        mapfs_fs_queue_reclaim(fs, item.key.offset);
        r = mapfs_cursor_next(&cursor, &item);
    }
    mapfs_store_read_unlock(fs->store);
}

int mapfs_fs_open(MapfsImage *image, const MapfsStoreOptions *options, MapfsFs **ret_fs) {
    MapfsStore *store;
    MapfsFs *fs;
    int r = mapfs_store_open(image, options, &store);

    if (r < 0)
        return r;
    fs = fs_new(store, options->read_only);
    r = root_check(fs);
    if (r == 0 && !fs->read_only) {
        orphans_queue(fs);
        if (options->threads)
            r = mapfs_reclaim_start(fs);
    }
    if (r < 0) {
        mapfs_fs_abandon(fs);
        return r;
    }
    *ret_fs = fs;
    return 0;
}

int mapfs_fs_close(MapfsFs *fs) {
    int r;

    mapfs_reclaim_stop(fs);
    r = mapfs_store_close(fs->store);
    fs_free(fs);
    return r;
}

void mapfs_fs_abandon(MapfsFs *fs) {
    if (!fs)
        return;
    mapfs_reclaim_stop(fs);
    mapfs_store_abandon(fs->store);
    fs_free(fs);
}

MapfsStore *mapfs_fs_store(MapfsFs *fs) {
    return fs->store;
}

int mapfs_fs_sync(MapfsFs *fs) {
    return mapfs_store_sync(fs->store);
}

/* Blocks that the host can still give to the image, with those that it has given already and that are free in it. */
static uint64_t host_available(MapfsFs *fs, const MapfsStoreStatus *status) {
    MapfsImage *image = mapfs_store_image(fs->store);
    uint64_t host_free = mapfs_image_host_free(image), allocated, used;

    if (host_free == UINT64_MAX)
        return UINT64_MAX;
    allocated = mapfs_image_host_allocated(image);
    if (allocated == UINT64_MAX)
        return UINT64_MAX;
    allocated >>= MAPFS_BLOCK_SHIFT;
    used = status->n_blocks - MAPFS_MIN(status->n_free + status->n_pending, status->n_blocks);
    return (host_free >> MAPFS_BLOCK_SHIFT) + (allocated > used ? allocated - used : 0);
}

void mapfs_fs_statfs(MapfsFs *fs, MapfsFsStatus *ret_status) {
    MapfsStoreStatus status;
    uint64_t n_free, n_available;

    mapfs_store_status(fs->store, &status);
    n_free = status.n_free + status.n_pending;
    n_available = MAPFS_MIN(n_free, host_available(fs, &status));
    n_available -= MAPFS_MIN(n_available, status.n_reserve);
    *ret_status = (MapfsFsStatus){
        .n_blocks = status.n_blocks,
        .n_free = n_free,
        .n_available = n_available,
        .n_inodes = status.n_inodes + n_available * INODES_PER_BLOCK,
        .n_inodes_free = n_available * INODES_PER_BLOCK,
    };
}

void mapfs_fs_set_time(MapfsFs *fs, uint64_t time) {
    fs->fixed_time = time;
    mapfs_store_set_time(fs->store, time);
}

int mapfs_fs_format(MapfsImage *image, const MapfsFsFormat *how) {
    const struct mapfs_disk_inode root = {
        .atime = mapfs_le64_store(how->store.time),
        .mtime = mapfs_le64_store(how->store.time),
        .ctime = mapfs_le64_store(how->store.time),
        .btime = mapfs_le64_store(how->store.time),
        .change = mapfs_le64_store(1),
        .parent = mapfs_le64_store(MAPFS_INO_ROOT),
        .mode = mapfs_le32_store(S_IFDIR | (how->root_mode & 07777)),
        .uid = mapfs_le32_store(how->root_uid),
        .gid = mapfs_le32_store(how->root_gid),
        .nlink = mapfs_le32_store(2),
    };

    return mapfs_store_format(image, &how->store, &root, sizeof(root));
}
