/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <string.h>

#include "fs/apply-private.h"
#include "fs/dirent-private.h"
#include "fs/flags-private.h"

/* The record with room for the longest name. */
typedef union {
    struct mapfs_disk_record_name name;
    uint8_t bytes[sizeof(struct mapfs_disk_record_name) + MAPFS_NAME_LEN_MAX + 8];
} NameRecord;

static void record_build(uint16_t type, const MapfsName *name, uint64_t ino, NameRecord *ret_record) {
    ret_record->name = (struct mapfs_disk_record_name){
        .parent = mapfs_le64_store(name->parent),
        .ino = mapfs_le64_store(ino),
        .name_len = (uint8_t)name->name_len,
    };
    memcpy(ret_record->name.name, name->name, name->name_len);
    mapfs_record_init(&ret_record->name.header, type, sizeof(ret_record->name) + name->name_len, mapfs_fs_now());
}

/* --- lookup --- */

/* Where "." and ".." lead: 1 and the inode; 0 for other names. The kernel asks for them when it has a file handle alone (NFS,
 * open_by_handle_at): then "." stands for an inode of any type. What has no names any more can only be reached by those who have it open. */
static int dots_lookup(MapfsFs *fs, const MapfsName *name, uint64_t *ret_ino) {
    struct mapfs_disk_inode inode;
    bool self = name->name_len == 1;
    int r;

    if (name->name_len == 0 || name->name_len > 2 || memcmp(name->name, "..", name->name_len) != 0)
        return 0;
    r = mapfs_inode_load(mapfs_store_tree(fs->store), name->parent, &inode);
    if (r < 0)
        return r;
    if (mapfs_le32_load(inode.nlink) == 0)
        return -ESTALE;
    if (!self && !mapfs_inode_is_dir(&inode))
        return -ENOTDIR;
    *ret_ino = self ? name->parent : mapfs_le64_load(inode.parent);
    return 1;
}

/* Why a name was not found. */
static int lookup_failure(MapfsFs *fs, uint64_t parent) {
    struct mapfs_disk_inode inode;
    int r = mapfs_dir_load(fs, parent, &inode);

    return r < 0 ? r : -ENOENT;
}

static int lookup_held(MapfsFs *fs, const MapfsName *name, MapfsAttr *ret_attr) {
    struct mapfs_disk_inode inode;
    MapfsDirent dirent;
    int r = dots_lookup(fs, name, &dirent.ino);

    if (r == 0)
        r = mapfs_dirent_lookup(fs, name, &dirent);
    if (r == 0)
        return lookup_failure(fs, name->parent);
    if (r < 0)
        return r;
    r = mapfs_dirent_load_inode(fs, &dirent, &inode);
    if (r < 0)
        return r;
    mapfs_inode_to_attr(dirent.ino, &inode, ret_attr);
    mapfs_inode_table_count(fs->inodes, dirent.ino);
    return 0;
}

int mapfs_fs_lookup(MapfsFs *fs, uint64_t parent, const char *name, size_t name_len, MapfsAttr *ret_attr) {
    const MapfsName at = {parent, name, name_len};
    int r;

    if (name_len > MAPFS_NAME_LEN_MAX)
        return -ENAMETOOLONG;
    mapfs_name_prefetch(fs, &at);
    mapfs_store_read_lock(fs->store);
    r = lookup_held(fs, &at, ret_attr);
    mapfs_store_read_unlock(fs->store);
    return r;
}

void mapfs_fs_forget(MapfsFs *fs, uint64_t ino, uint64_t n) {
    if (mapfs_inode_table_forget(fs->inodes, ino, n))
        mapfs_fs_queue_reclaim(fs, ino);
}

/* --- link --- */

/* Which record gives the inode a name, or -errno. One that has none and that nobody uses is being reclaimed. */
static int link_record_type(MapfsFs *fs, uint64_t ino) {
    struct mapfs_disk_inode inode;
    int r = mapfs_inode_load(mapfs_store_tree(fs->store), ino, &inode);

    if (r == 0)
        r = mapfs_flags_check_change(&inode);
    if (r < 0)
        return r;
    if (mapfs_le32_load(inode.nlink) > 0)
        return (int)MAPFS_RECORD_LINK;
    return mapfs_inode_in_use(fs, ino) ? (int)MAPFS_RECORD_ADOPT : -ENOENT;
}

/* What is wrong with the directory otherwise, applying the record finds out. */
static int link_check_dir(MapfsFs *fs, uint64_t dir) {
    struct mapfs_disk_inode inode;
    int r = mapfs_inode_load(mapfs_store_tree(fs->store), dir, &inode);

    return r == 0 ? mapfs_flags_check_append(&inode) : 0;
}

static int link_locked(MapfsFs *fs, MapfsTxn *txn, const MapfsName *name, uint64_t ino, MapfsAttr *ret_attr) {
    struct mapfs_disk_inode inode;
    NameRecord record;
    int r = link_record_type(fs, ino);

    if (r < 0)
        return r;
    record_build((uint16_t)r, name, ino, &record);
    r = link_check_dir(fs, name->parent);
    if (r < 0)
        return r;
    r = mapfs_record_run(fs, txn, &record.name.header);
    if (r < 0)
        return r;
    r = mapfs_inode_load(mapfs_store_tree(fs->store), ino, &inode);
    if (r < 0)
        return mapfs_apply_broken(fs, r);
    mapfs_inode_to_attr(ino, &inode, ret_attr);
    mapfs_inode_table_count(fs->inodes, ino);
    return 0;
}

int mapfs_fs_link(MapfsFs *fs, uint64_t ino, const MapfsName *at, MapfsAttr *ret_attr) {
    const MapfsKey key = mapfs_inode_key(ino);
    MapfsTxn txn;
    int r = mapfs_name_validate(at);

    if (r < 0)
        return r;
    mapfs_name_prefetch(fs, at);
    mapfs_store_prefetch(fs->store, &key, 1);
    r = mapfs_fs_begin(fs, MAPFS_TXN_GROWS, MAPFS_NAME_CHANGES, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    r = link_locked(fs, &txn, at, ino, ret_attr);
    mapfs_txn_end(&txn);
    return r;
}

/* --- unlink, rmdir --- */

static int unlink_locked(MapfsFs *fs, MapfsTxn *txn, const MapfsName *name, bool dir) {
    struct mapfs_disk_inode parent, inode;
    MapfsDirent dirent;
    NameRecord record;
    int r = mapfs_dirent_lookup(fs, name, &dirent);

    if (r == 0)
        return lookup_failure(fs, name->parent);
    if (r < 0)
        return r;
    r = mapfs_dirent_load_inode(fs, &dirent, &inode);
    if (r < 0)
        return r;
    if (mapfs_inode_is_dir(&inode) != dir)
        return dir ? -ENOTDIR : -EISDIR;
    r = mapfs_dir_load(fs, name->parent, &parent);
    if (r == 0)
        r = mapfs_flags_check_unlink(&parent, &inode);
    if (r < 0)
        return r;
    record_build(MAPFS_RECORD_UNLINK, name, dirent.ino, &record);
    return mapfs_record_run(fs, txn, &record.name.header);
}

static int unlink_run(MapfsFs *fs, const MapfsName *name, bool dir) {
    MapfsTxn txn;
    int r = mapfs_name_validate(name);

    if (r < 0)
        return r;
    mapfs_name_prefetch(fs, name);
    r = mapfs_fs_begin(fs, MAPFS_TXN_FREES, MAPFS_NAME_CHANGES, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    r = unlink_locked(fs, &txn, name, dir);
    mapfs_txn_end(&txn);
    return r;
}

int mapfs_fs_unlink(MapfsFs *fs, uint64_t parent, const char *name, size_t name_len) {
    return unlink_run(fs, &(MapfsName){parent, name, name_len}, false);
}

int mapfs_fs_rmdir(MapfsFs *fs, uint64_t parent, const char *name, size_t name_len) {
    return unlink_run(fs, &(MapfsName){parent, name, name_len}, true);
}
