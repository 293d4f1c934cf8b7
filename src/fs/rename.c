/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <string.h>

#include "fs/apply-private.h"
#include "fs/dirent-private.h"

/* The record with room for the longest names. */
typedef union {
    struct mapfs_disk_record_rename rename;
    uint8_t bytes[sizeof(struct mapfs_disk_record_rename) + 2 * MAPFS_NAME_LEN_MAX + 8];
} RenameRecord;

static int rename_validate(const MapfsName *from, const MapfsName *to, unsigned flags) {
    int r = mapfs_name_validate(from);

    if (r < 0)
        return r;
    r = mapfs_name_validate(to);
    if (r < 0)
        return r;
    if (flags & ~(MAPFS_FS_RENAME_NOREPLACE | MAPFS_FS_RENAME_EXCHANGE))
        return -EINVAL;
    /* The two contradict each other. */
    return flags == (MAPFS_FS_RENAME_NOREPLACE | MAPFS_FS_RENAME_EXCHANGE) ? -EINVAL : 0;
}

static void rename_build(const MapfsName *from, const MapfsName *to, uint64_t ino, uint64_t replaced,
                         RenameRecord *ret_record) {
    struct mapfs_disk_record_rename *rename = &ret_record->rename;

    *rename = (struct mapfs_disk_record_rename){
        .old_parent = mapfs_le64_store(from->parent),
        .new_parent = mapfs_le64_store(to->parent),
        .ino = mapfs_le64_store(ino),
        .replaced = mapfs_le64_store(replaced),
        .old_name_len = (uint8_t)from->name_len,
        .new_name_len = (uint8_t)to->name_len,
    };
    memcpy(rename->names, from->name, from->name_len);
    memcpy(rename->names + from->name_len, to->name, to->name_len);
    mapfs_record_init(&rename->header, MAPFS_RECORD_RENAME, sizeof(*rename) + from->name_len + to->name_len,
                      mapfs_fs_now());
}

/* Parents that are no directories have no entries either: say which it is. */
static int dirs_validate(MapfsFs *fs, const MapfsName *from, const MapfsName *to) {
    struct mapfs_disk_inode dir;
    int r = mapfs_dir_load(fs, from->parent, &dir);

    return r < 0 ? r : mapfs_dir_load(fs, to->parent, &dir);
}

static int rename_locked(MapfsFs *fs, MapfsTxn *txn, const MapfsName *from, const MapfsName *to, unsigned flags) {
    MapfsDirent old, new;
    RenameRecord record;
    int r = dirs_validate(fs, from, to), found;

    if (r < 0)
        return r;
    r = mapfs_dirent_lookup(fs, from, &old);
    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    found = mapfs_dirent_lookup(fs, to, &new);
    if (found < 0)
        return found;
    if (found && flags & MAPFS_FS_RENAME_NOREPLACE)
        return -EEXIST;
    if (!found && flags & MAPFS_FS_RENAME_EXCHANGE)
        return -ENOENT;
    /* Two names of one inode: POSIX wants both to stay. */
    if (found && new.ino == old.ino)
        return 0;
    rename_build(from, to, old.ino, found ? new.ino : 0, &record);
    if (flags & MAPFS_FS_RENAME_EXCHANGE)
        record.rename.flags = mapfs_le32_store(MAPFS_RENAME_EXCHANGE);
    return mapfs_record_run(fs, txn, &record.rename.header);
}

int mapfs_fs_rename(MapfsFs *fs, const MapfsName *from, const MapfsName *to, unsigned flags) {
    MapfsTxn txn;
    int r = rename_validate(from, to, flags);

    if (r < 0)
        return r;
    mapfs_name_prefetch(fs, from);
    mapfs_name_prefetch(fs, to);
    r = mapfs_fs_begin(fs, MAPFS_TXN_GROWS, MAPFS_RENAME_CHANGES, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    r = rename_locked(fs, &txn, from, to, flags);
    mapfs_txn_end(&txn);
    return r;
}
