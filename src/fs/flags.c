/* SPDX-License-Identifier: MIT */

#include <sys/stat.h>

#include "fs/flags-private.h"

/* As ext4 does it: what protects is never inherited, and what only matters for data not by devices and the like. */
#define FLAGS_INHERITED (MAPFS_INODE_SYNC | MAPFS_INODE_NODUMP | MAPFS_INODE_NOATIME)
#define FLAGS_OF_OTHERS (MAPFS_INODE_NODUMP | MAPFS_INODE_NOATIME)

/* What an append-only inode takes: times that become now, and less privileges. */
#define MASK_OF_APPEND (MAPFS_SET_ATIME_NOW | MAPFS_SET_MTIME_NOW | MAPFS_SET_KILL_PRIV)
#define MASK_KERNEL_TIMES (MAPFS_SET_MTIME | MAPFS_SET_CTIME)

/* An immutable inode can lose that flag, but nothing else may change as long as it is there. */
static int check_flags(const struct mapfs_disk_inode *inode, unsigned mask, const MapfsAttr *attr) {
    uint64_t old = mapfs_le64_load(inode->flags), now = mask & MAPFS_SET_FLAGS ? attr->flags : old;

    if (!(old & MAPFS_INODE_IMMUTABLE) || !(now & MAPFS_INODE_IMMUTABLE))
        return 0;
    if (now != old)
        return -EPERM;
    return mask & MAPFS_SET_PROJECT && attr->project != mapfs_le32_load(inode->project) ? -EPERM : 0;
}

int mapfs_flags_check_setattr(const struct mapfs_disk_inode *inode, unsigned mask, const MapfsAttr *attr) {
    const unsigned mask_others = mask & ~(MAPFS_SET_FLAGS | MAPFS_SET_PROJECT);

    if (mask != mask_others) {
        int r = check_flags(inode, mask, attr);

        if (r < 0)
            return r;
    }
    /* With the writeback cache the kernel tells the times of earlier writes so. */
    if (mask_others == 0 || mask_others == MASK_KERNEL_TIMES)
        return 0;
    return (mask_others & ~MASK_OF_APPEND) == 0 ? mapfs_flags_check_append(inode) : mapfs_flags_check_change(inode);
}

uint64_t mapfs_flags_inherited(const struct mapfs_disk_inode *dir, uint32_t mode) {
    bool is_other = !S_ISDIR(mode) && !S_ISREG(mode);

    return mapfs_le64_load(dir->flags) & (is_other ? FLAGS_OF_OTHERS : FLAGS_INHERITED);
}

int mapfs_flags_check_ino(MapfsTree *tree, uint64_t ino) {
    struct mapfs_disk_inode inode;
    int r = mapfs_inode_load(tree, ino, &inode);

    return r < 0 ? r : mapfs_flags_check_change(&inode);
}
