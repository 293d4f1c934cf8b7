/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "format/time.h"
#include "fs/fs-private.h"

uint64_t mapfs_fs_now(void) {
    struct timespec now;

    /* Cannot fail: the clock exists and the pointer is good. */
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return mapfs_time_from_timespec(now);
}

int mapfs_inode_load(MapfsTree *tree, uint64_t ino, struct mapfs_disk_inode *ret_inode) {
    MapfsItem item;
    int r = mapfs_tree_lookup(tree, mapfs_inode_key(ino), &item);

    if (r < 0)
        return r;
    if (r == 0)
        return -ESTALE;
    if (item.value_len != sizeof(*ret_inode))
        return mapfs_damage(0, "inode", "%" PRIu64 " has an item of %zu bytes, expected %zu", ino, item.value_len,
                            sizeof(*ret_inode));
    memcpy(ret_inode, item.value, sizeof(*ret_inode));
    return 0;
}

int mapfs_inode_load_file(MapfsTree *tree, uint64_t ino, struct mapfs_disk_inode *ret_inode) {
    int r = mapfs_inode_load(tree, ino, ret_inode);

    if (r == 0 && !S_ISREG(mapfs_le32_load(ret_inode->mode)))
        r = S_ISDIR(mapfs_le32_load(ret_inode->mode)) ? -EISDIR : -EINVAL;
    return r;
}

int mapfs_inode_store(MapfsTree *tree, uint64_t ino, const struct mapfs_disk_inode *inode) {
    return mapfs_tree_replace(tree, mapfs_inode_key(ino), inode, sizeof(*inode));
}

void mapfs_inode_touch(struct mapfs_disk_inode *inode, uint64_t time, bool data) {
    inode->ctime = mapfs_le64_store(time);
    if (data)
        inode->mtime = mapfs_le64_store(time);
    inode->change = mapfs_le64_store(mapfs_le64_load(inode->change) + 1);
}

void mapfs_inode_to_attr(uint64_t ino, const struct mapfs_disk_inode *inode, MapfsAttr *ret_attr) {
    uint64_t rdev = mapfs_le64_load(inode->rdev);

    *ret_attr = (MapfsAttr){
        .ino = ino,
        .size = mapfs_le64_load(inode->size),
        .n_blocks = mapfs_le64_load(inode->n_blocks),
        .change = mapfs_le64_load(inode->change),
        .flags = mapfs_le64_load(inode->flags),
        .parent = mapfs_le64_load(inode->parent),
        .atime = mapfs_time_to_timespec(mapfs_le64_load(inode->atime)),
        .mtime = mapfs_time_to_timespec(mapfs_le64_load(inode->mtime)),
        .ctime = mapfs_time_to_timespec(mapfs_le64_load(inode->ctime)),
        .btime = mapfs_time_to_timespec(mapfs_le64_load(inode->btime)),
        .mode = mapfs_le32_load(inode->mode),
        .uid = mapfs_le32_load(inode->uid),
        .gid = mapfs_le32_load(inode->gid),
        .nlink = mapfs_le32_load(inode->nlink),
        .rdev_major = (uint32_t)(rdev >> 32),
        .rdev_minor = (uint32_t)rdev,
        .project = mapfs_le32_load(inode->project),
    };
}

int mapfs_orphan_load(MapfsTree *tree, uint64_t ino, struct mapfs_disk_orphan *ret_orphan) {
    MapfsItem item;
    int r = mapfs_tree_lookup(tree, mapfs_orphan_key(ino), &item);

    if (r <= 0)
        return r;
    if (item.value_len != sizeof(*ret_orphan))
        return mapfs_damage(0, "orphan", "%" PRIu64 " has an item of %zu bytes, expected %zu", ino, item.value_len,
                            sizeof(*ret_orphan));
    memcpy(ret_orphan, item.value, sizeof(*ret_orphan));
    return 1;
}
