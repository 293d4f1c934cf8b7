/* SPDX-License-Identifier: MIT */
#pragma once

/* What chattr(1) forbids and what it hands down. FUSE's kernel side knows nothing of these flags, so operations ask here, with the tree held
 * and before they change anything; records are applied without asking. The rules are those of Linux: an immutable inode does not change at
 * all, but for its flags; an append-only file grows at its end and nothing else, and an append-only directory gains names and loses none. */

#include <errno.h>

#include "fs/fs-private.h"

static inline bool mapfs_inode_has_flags(const struct mapfs_disk_inode *inode, uint64_t flags) {
    return (mapfs_le64_load(inode->flags) & flags) != 0;
}

/* A change of mode, owner, set times, extended attributes, size, data that is there, holes: 0 or -EPERM. */
static inline int mapfs_flags_check_change(const struct mapfs_disk_inode *inode) {
    return mapfs_inode_has_flags(inode, MAPFS_INODE_IMMUTABLE | MAPFS_INODE_APPEND) ? -EPERM : 0;
}

/* The same of an inode that is not loaded; -ESTALE. */
int mapfs_flags_check_ino(MapfsTree *tree, uint64_t ino) MAPFS_MUST_USE;

/* Times that become now, data behind the end of an append-only file, a new name in a directory: 0 or -EPERM. */
static inline int mapfs_flags_check_append(const struct mapfs_disk_inode *inode) {
    return mapfs_inode_has_flags(inode, MAPFS_INODE_IMMUTABLE) ? -EPERM : 0;
}

/* The loaded directory loses its name of the loaded inode: 0 or -EPERM. */
static inline int mapfs_flags_check_unlink(const struct mapfs_disk_inode *dir, const struct mapfs_disk_inode *inode) {
    int r = mapfs_flags_check_change(dir);

    return r < 0 ? r : mapfs_flags_check_change(inode);
}

/* A write of [offset, end), `appends` if the writer opened the file with O_APPEND: 0 or -EPERM. */
static inline int mapfs_flags_check_write(const struct mapfs_disk_inode *inode, uint64_t end, bool appends) {
    if (appends && end > mapfs_le64_load(inode->size))
        return mapfs_flags_check_append(inode);
    return mapfs_flags_check_change(inode);
}

/* What setattr of `mask` (MAPFS_SET_*) meets: 0 or -EPERM. */
int mapfs_flags_check_setattr(const struct mapfs_disk_inode *inode, unsigned mask,
                              const MapfsAttr *attr) MAPFS_MUST_USE;

/* The flags that an inode of this type and mode takes over from its loaded directory. */
uint64_t mapfs_flags_inherited(const struct mapfs_disk_inode *dir, uint32_t mode);
