/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/apply-private.h"
#include "fs/dirent-private.h"
#include "fs/flags-private.h"

/* The record with room for the longest names. */
typedef union {
    struct mapfs_disk_record_rename rename;
    uint8_t bytes[sizeof(struct mapfs_disk_record_rename) + 2 * MAPFS_NAME_LEN_MAX + 8];
} RenameRecord;

/* A rename as it was asked for. */
typedef struct {
    const MapfsName *from, *to;
    unsigned flags;                /* MAPFS_FS_RENAME_* */
    const MapfsNewInode *whiteout; /* NULL: none */
} RenameRequest;

static int rename_validate(const RenameRequest *request) {
    unsigned flags = request->flags;
    int r = mapfs_name_validate(request->from);

    if (r < 0)
        return r;
    r = mapfs_name_validate(request->to);
    if (r < 0)
        return r;
    if (flags & ~(MAPFS_FS_RENAME_NOREPLACE | MAPFS_FS_RENAME_EXCHANGE))
        return -EINVAL;
    /* An exchange needs the new name, and leaves no old one for a whiteout. */
    return flags & MAPFS_FS_RENAME_EXCHANGE && (flags & MAPFS_FS_RENAME_NOREPLACE || request->whiteout) ? -EINVAL : 0;
}

static void rename_build(const RenameRequest *request, uint64_t ino, uint64_t replaced, RenameRecord *ret_record) {
    struct mapfs_disk_record_rename *rename = &ret_record->rename;
    const MapfsName *from = request->from, *to = request->to;

    *rename = (struct mapfs_disk_record_rename){
        .old_parent = mapfs_le64_store(from->parent),
        .new_parent = mapfs_le64_store(to->parent),
        .ino = mapfs_le64_store(ino),
        .replaced = mapfs_le64_store(replaced),
        .flags = mapfs_le32_store(request->flags & MAPFS_FS_RENAME_EXCHANGE ? MAPFS_RENAME_EXCHANGE : 0),
        .old_name_len = (uint8_t)from->name_len,
        .new_name_len = (uint8_t)to->name_len,
    };
    memcpy(rename->names, from->name, from->name_len);
    memcpy(rename->names + from->name_len, to->name, to->name_len);
    mapfs_record_init(&rename->header, MAPFS_RECORD_RENAME, sizeof(*rename) + from->name_len + to->name_len,
                      mapfs_fs_now());
}

/* A whiteout gets the group that any new inode in `dir` gets. */
static int rename_add_whiteout(MapfsTxn *txn, const MapfsNewInode *whiteout, const struct mapfs_disk_inode *dir,
                               struct mapfs_disk_record_rename *rename) {
    MapfsIno ino;
    int r = mapfs_txn_next_ino(txn, &ino);

    if (r < 0)
        return r;
    rename->flags = mapfs_le32_store(MAPFS_RENAME_WHITEOUT);
    rename->whiteout = mapfs_le64_store(ino.n);
    rename->whiteout_uid = mapfs_le32_store(whiteout->uid);
    rename->whiteout_gid = mapfs_le32_load(dir->mode) & S_ISGID ? dir->gid : mapfs_le32_store(whiteout->gid);
    return 0;
}

/* Parents that are no directories have no entries either: say which it is. */
static int dirs_load(MapfsFs *fs, const RenameRequest *request, struct mapfs_disk_inode ret_dirs[2]) {
    int r = mapfs_dir_load(fs, request->from->parent, &ret_dirs[0]);

    return r < 0 ? r : mapfs_dir_load(fs, request->to->parent, &ret_dirs[1]);
}

/* What chattr forbids: the old name goes, and so does, or a new one comes, `new` (NULL: nothing there yet). */
static int rename_check_flags(MapfsFs *fs, const struct mapfs_disk_inode dirs[2], const MapfsDirent *old,
                              const MapfsDirent *new) {
    struct mapfs_disk_inode inode;
    int r = mapfs_dirent_load_inode(fs, old, &inode);

    if (r == 0)
        r = mapfs_flags_check_unlink(&dirs[0], &inode);
    if (r < 0)
        return r;
    if (!new)
        return mapfs_flags_check_append(&dirs[1]);
    r = mapfs_dirent_load_inode(fs, new, &inode);
    return r < 0 ? r : mapfs_flags_check_unlink(&dirs[1], &inode);
}

static int rename_locked(MapfsFs *fs, MapfsTxn *txn, const RenameRequest *request) {
    const unsigned flags = request->flags;
    struct mapfs_disk_inode dirs[2];
    MapfsDirent old, new;
    RenameRecord record;
    int r = dirs_load(fs, request, dirs), found;

    if (r < 0)
        return r;
    r = mapfs_dirent_lookup(fs, request->from, &old);
    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    found = mapfs_dirent_lookup(fs, request->to, &new);
    if (found < 0)
        return found;
    if (found && flags & MAPFS_FS_RENAME_NOREPLACE)
        return -EEXIST;
    if (!found && flags & MAPFS_FS_RENAME_EXCHANGE)
        return -ENOENT;
    /* Two names of one inode: POSIX wants both to stay. */
    if (found && new.ino == old.ino)
        return 0;
    r = rename_check_flags(fs, dirs, &old, found ? &new : NULL);
    if (r < 0)
        return r;
    rename_build(request, old.ino, found ? new.ino : 0, &record);
    if (request->whiteout)
        r = rename_add_whiteout(txn, request->whiteout, &dirs[0], &record.rename);
    if (r < 0)
        return r;
    return mapfs_record_run(fs, txn, &record.rename.header);
}

static int rename_run(MapfsFs *fs, const RenameRequest *request) {
    MapfsTxn txn;
    int r = rename_validate(request);

    if (r < 0)
        return r;
    mapfs_name_prefetch(fs, request->from);
    mapfs_name_prefetch(fs, request->to);
    r = mapfs_fs_begin(fs, MAPFS_TXN_GROWS, request->whiteout ? MAPFS_WHITEOUT_CHANGES : MAPFS_RENAME_CHANGES, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    r = rename_locked(fs, &txn, request);
    mapfs_txn_end(&txn);
    return r;
}

int mapfs_fs_rename(MapfsFs *fs, const MapfsName *from, const MapfsName *to, unsigned flags) {
    return rename_run(fs, &(RenameRequest){from, to, flags, NULL});
}

int mapfs_fs_rename_whiteout(MapfsFs *fs, const MapfsName *from, const MapfsName *to, unsigned flags,
                             const MapfsNewInode *whiteout) {
    return rename_run(fs, &(RenameRequest){from, to, flags, whiteout});
}
