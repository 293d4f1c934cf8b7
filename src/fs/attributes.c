/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "format/time.h"
#include "fs/acl-private.h"
#include "fs/apply-private.h"
#include "fs/flags-private.h"
#include "fs/fs-private.h"
#include "fs/xattr-private.h"

/* Mask bits that a SETATTR record carries out. */
#define MASK_RECORD                                                                                         \
    (MAPFS_SET_MODE | MAPFS_SET_UID | MAPFS_SET_GID | MAPFS_SET_ATIME | MAPFS_SET_MTIME | MAPFS_SET_CTIME | \
     MAPFS_SET_ATIME_NOW | MAPFS_SET_MTIME_NOW | MAPFS_SET_KILL_PRIV | MAPFS_SET_FLAGS | MAPFS_SET_PROJECT)

int mapfs_fs_getattr(MapfsFs *fs, uint64_t ino, MapfsAttr *ret_attr) {
    const MapfsKey key = mapfs_inode_key(ino);
    struct mapfs_disk_inode inode;
    int r;

    mapfs_store_prefetch(fs->store, &key, 1);
    mapfs_store_read_lock(fs->store);
    r = mapfs_inode_load(mapfs_store_tree(fs->store), ino, &inode);
    mapfs_store_read_unlock(fs->store);
    if (r < 0)
        return r;
    mapfs_inode_to_attr(ino, &inode, ret_attr);
    return 0;
}

/* The mode without what a change of data or owner takes away: sgid only marks a program if the group may execute it,
 * and mandatory locking otherwise. */
static uint32_t mode_strip(uint32_t mode) {
    if (S_ISDIR(mode))
        return mode;
    mode &= ~(uint32_t)S_ISUID;
    if (mode & S_IXGRP)
        mode &= ~(uint32_t)S_ISGID;
    return mode;
}

int mapfs_apply_strip(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, struct mapfs_disk_inode *inode) {
    uint32_t mode = mapfs_le32_load(inode->mode);
    MapfsXattr xattr;
    uint32_t n_xattrs;
    int r;

    (void)txn; /* says that the tree is locked, as for all that changes it */
    if (!S_ISREG(mode))
        return 0;
    inode->mode = mapfs_le32_store(mode_strip(mode));
    n_xattrs = mapfs_le32_load(inode->n_xattrs);
    if (n_xattrs == 0)
        return 0;
    r = mapfs_xattr_lookup_capability(fs, ino, &xattr);
    if (r <= 0)
        return r;
    r = mapfs_tree_remove(mapfs_store_tree(fs->store), mapfs_xattr_key(ino, xattr.offset));
    if (r < 0)
        return r;
    inode->n_xattrs = mapfs_le32_store(n_xattrs - 1);
    return 0;
}

int mapfs_apply_file_begin(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, uint32_t flags,
                           struct mapfs_disk_inode *ret_inode) {
    int r;

    r = mapfs_inode_load(mapfs_store_tree(fs->store), ino, ret_inode);
    if (r < 0)
        return r;
    if (!S_ISREG(mapfs_le32_load(ret_inode->mode)))
        return -EINVAL;
    return flags & MAPFS_WRITE_STRIP ? mapfs_apply_strip(fs, txn, ino, ret_inode) : 0;
}

int mapfs_apply_file_end(MapfsFs *fs, const struct mapfs_disk_record *record, uint64_t ino, uint32_t flags,
                         struct mapfs_disk_inode *inode) {
    int r;

    if (!(flags & MAPFS_WRITE_NO_TIMES))
        mapfs_inode_touch(inode, mapfs_le64_load(record->time), true);
    r = mapfs_inode_store(mapfs_store_tree(fs->store), ino, inode);
    return r < 0 ? mapfs_apply_broken(fs, r) : 0;
}

int mapfs_apply_setattr(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) {
    const struct mapfs_disk_record_setattr *setattr = (const struct mapfs_disk_record_setattr *)record;
    MapfsTree *tree = mapfs_store_tree(fs->store);
    uint64_t ino = mapfs_le64_load(setattr->ino);
    uint32_t mask = mapfs_le32_load(setattr->mask);
    struct mapfs_disk_inode inode;
    int r = mapfs_inode_load(tree, ino, &inode);

    (void)txn;
    if (r < 0)
        return r;
    mapfs_inode_touch(&inode, mapfs_le64_load(record->time), false);
    if (mask & MAPFS_ATTR_MODE)
        inode.mode = mapfs_le32_store((mapfs_le32_load(inode.mode) & S_IFMT) | mapfs_le32_load(setattr->mode));
    if (mask & MAPFS_ATTR_UID)
        inode.uid = setattr->uid;
    if (mask & MAPFS_ATTR_GID)
        inode.gid = setattr->gid;
    if (mask & MAPFS_ATTR_ATIME)
        inode.atime = setattr->atime;
    if (mask & MAPFS_ATTR_MTIME)
        inode.mtime = setattr->mtime;
    if (mask & MAPFS_ATTR_CTIME)
        inode.ctime = setattr->ctime;
    if (mask & MAPFS_ATTR_BTIME)
        inode.btime = setattr->btime;
    if (mask & MAPFS_ATTR_FLAGS)
        inode.flags = setattr->flags;
    if (mask & MAPFS_ATTR_PROJECT)
        inode.project = setattr->project;
    return mapfs_inode_store(tree, ino, &inode);
}

/* The record for `mask` of an inode as it is now. */
static void setattr_build(uint64_t ino, const struct mapfs_disk_inode *inode, unsigned mask, const MapfsAttr *attr,
                          struct mapfs_disk_record_setattr *ret_record) {
    uint64_t now = mapfs_fs_now();
    uint32_t disk_mask = 0, old_mode = mapfs_le32_load(inode->mode);
    uint32_t mode = mask & MAPFS_SET_MODE ? attr->mode & 07777 : old_mode & 07777;
    struct mapfs_disk_record_setattr record = {.ino = mapfs_le64_store(ino)};

    if (mask & MAPFS_SET_KILL_PRIV)
        mode = mode_strip((old_mode & S_IFMT) | mode) & 07777;
    if (mask & MAPFS_SET_MODE || mode != (old_mode & 07777)) {
        disk_mask |= MAPFS_ATTR_MODE;
        record.mode = mapfs_le32_store(mode);
    }
    if (mask & MAPFS_SET_UID) {
        disk_mask |= MAPFS_ATTR_UID;
        record.uid = mapfs_le32_store(attr->uid);
    }
    if (mask & MAPFS_SET_GID) {
        disk_mask |= MAPFS_ATTR_GID;
        record.gid = mapfs_le32_store(attr->gid);
    }
    if (mask & (MAPFS_SET_ATIME | MAPFS_SET_ATIME_NOW)) {
        disk_mask |= MAPFS_ATTR_ATIME;
        record.atime = mapfs_le64_store(mask & MAPFS_SET_ATIME_NOW ? now : mapfs_time_from_timespec(attr->atime));
    }
    if (mask & (MAPFS_SET_MTIME | MAPFS_SET_MTIME_NOW)) {
        disk_mask |= MAPFS_ATTR_MTIME;
        record.mtime = mapfs_le64_store(mask & MAPFS_SET_MTIME_NOW ? now : mapfs_time_from_timespec(attr->mtime));
    }
    if (mask & MAPFS_SET_CTIME) {
        disk_mask |= MAPFS_ATTR_CTIME;
        record.ctime = mapfs_le64_store(mapfs_time_from_timespec(attr->ctime));
    }
    if (mask & MAPFS_SET_FLAGS) {
        disk_mask |= MAPFS_ATTR_FLAGS;
        record.flags = mapfs_le64_store(attr->flags);
    }
    if (mask & MAPFS_SET_PROJECT) {
        disk_mask |= MAPFS_ATTR_PROJECT;
        record.project = mapfs_le32_store(attr->project);
    }
    record.mask = mapfs_le32_store(disk_mask);
    *ret_record = record;
    mapfs_record_init(&ret_record->header, MAPFS_RECORD_SETATTR, sizeof(record), now);
}

/* A change of owner takes privileges away from all but directories, unless the caller says what the mode is to be. */
static bool mask_strips(unsigned mask, const struct mapfs_disk_inode *inode) {
    if (S_ISDIR(mapfs_le32_load(inode->mode)))
        return false;
    if (mask & MAPFS_SET_KILL_PRIV)
        return true;
    return mask & (MAPFS_SET_UID | MAPFS_SET_GID) && !(mask & MAPFS_SET_MODE);
}

unsigned mapfs_attr_changes(unsigned mask) {
    return 3 + (mask & MAPFS_SET_MODE ? MAPFS_ACL_CHANGES : 0);
}

/* The new mode and the list that has to follow it. */
static int records_run(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_inode *inode,
                       struct mapfs_disk_record_setattr *record) {
    int r = mapfs_record_run(fs, txn, &record->header);

    if (r < 0 || !(mapfs_le32_load(record->mask) & MAPFS_ATTR_MODE))
        return r;
    r = mapfs_acl_follow_mode(fs, txn, mapfs_le64_load(record->ino), inode, mapfs_le32_load(record->mode));
    /* The records are one change to the caller. */
    return r < 0 ? mapfs_apply_broken(fs, r) : 0;
}

int mapfs_attr_change(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, unsigned mask, const MapfsAttr *attr) {
    struct mapfs_disk_record_setattr record;
    struct mapfs_disk_inode inode;
    bool removed = false;
    int r = mapfs_inode_load(mapfs_store_tree(fs->store), ino, &inode);

    if (r == 0 && mask & MAPFS_SET_MODE)
        r = mapfs_acl_check(fs, ino, &inode);
    if (r < 0)
        return r;
    if (mask_strips(mask, &inode)) {
        mask |= MAPFS_SET_KILL_PRIV;
        r = mapfs_xattr_remove_capability(fs, txn, ino, &inode);
        if (r < 0)
            return r;
        removed = r > 0;
    }
    setattr_build(ino, &inode, mask, attr, &record);
    r = records_run(fs, txn, &inode, &record);
    return r < 0 && removed ? mapfs_apply_broken(fs, r) : r;
}

static int setattr_locked(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, unsigned mask, const MapfsAttr *attr) {
    struct mapfs_disk_inode inode;
    int r = mapfs_inode_load(mapfs_store_tree(fs->store), ino, &inode);

    if (r == 0)
        r = mapfs_flags_check_setattr(&inode, mask, attr);
    return r < 0 ? r : mapfs_attr_change(fs, txn, ino, mask, attr);
}

static int setattr_run(MapfsFs *fs, uint64_t ino, unsigned mask, const MapfsAttr *attr) {
    const MapfsKey key = mapfs_inode_key(ino);
    MapfsTxn txn;
    int r;

    mapfs_store_prefetch(fs->store, &key, 1);
    r = mapfs_fs_begin(fs, MAPFS_TXN_FREES, mapfs_attr_changes(mask), &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    r = setattr_locked(fs, &txn, ino, mask, attr);
    mapfs_txn_end(&txn);
    return r;
}

int mapfs_fs_setattr(MapfsFs *fs, uint64_t ino, unsigned mask, const MapfsAttr *attr, MapfsAttr *ret_attr) {
    int r = 0;

    if (mask & MAPFS_SET_FLAGS && attr->flags & ~MAPFS_INODE_FLAGS_KNOWN)
        return -EOPNOTSUPP;
    if (mask & MAPFS_SET_SIZE)
        r = mapfs_fs_truncate(fs, ino, mask & (MAPFS_SET_SIZE | MASK_RECORD), attr);
    else if (mask & MASK_RECORD)
        r = setattr_run(fs, ino, mask & MASK_RECORD, attr);
    if (r < 0)
        return r;
    return mapfs_fs_getattr(fs, ino, ret_attr);
}
