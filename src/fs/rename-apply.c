/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "fs/apply-private.h"
#include "fs/dirent-private.h"

/* A rename with what it found in the tree. Within one directory, `to` is a name in from's directory and only dirs[0]
 * is used. */
typedef struct {
    MapfsName from, to;
    MapfsDirent old, new; /* the entries; the names in them are not looked at after the first change */
    uint64_t new_cookie;  /* where the new name goes or is */
    uint64_t replaced;    /* inode, 0 for none */
    uint64_t whiteout;    /* new inode for the old name, 0 for none */
    uint32_t whiteout_uid, whiteout_gid;
    bool exchange;
    uint64_t time;
    struct mapfs_disk_inode dirs[2];      /* old and new parent */
    struct mapfs_disk_inode inode, other; /* that moves, and that is replaced or moves the other way */
} Rename;

static bool rename_is_local(const Rename *rename) {
    return rename->from.parent == rename->to.parent;
}

/* Whether the old name stays, for another inode. */
static bool rename_keeps_old(const Rename *rename) {
    return rename->exchange || rename->whiteout != 0;
}

/* --- look --- */

static int rename_load_dirs(MapfsFs *fs, Rename *rename) {
    int r = mapfs_dir_load(fs, rename->from.parent, &rename->dirs[0]);

    if (r < 0 || rename_is_local(rename))
        return r;
    return mapfs_dir_load(fs, rename->to.parent, &rename->dirs[1]);
}

/* Both entries as the record has them. */
static int rename_load_entries(MapfsFs *fs, uint64_t ino, Rename *rename) {
    int r = mapfs_dirent_lookup(fs, &rename->from, &rename->old);

    if (r < 0)
        return r;
    if (r == 0 || rename->old.ino != ino)
        return -ENOENT;
    r = mapfs_dirent_load_inode(fs, &rename->old, &rename->inode);
    if (r < 0)
        return r;
    r = mapfs_dirent_lookup(fs, &rename->to, &rename->new);
    if (r < 0)
        return r;
    if (r == 0) {
        if (rename->replaced != 0)
            return -ENOENT;
        return mapfs_dirent_find_slot(fs, &rename->to, &rename->new_cookie);
    }
    if (rename->replaced != rename->new.ino)
        return -EEXIST;
    rename->new_cookie = rename->new.cookie;
    return mapfs_dirent_load_inode(fs, &rename->new, &rename->other);
}

/* What POSIX demands of the inode that a rename replaces. */
static int rename_check_replaced(MapfsFs *fs, const Rename *rename) {
    if (mapfs_inode_is_dir(&rename->inode) && !mapfs_inode_is_dir(&rename->other))
        return -ENOTDIR;
    if (!mapfs_inode_is_dir(&rename->inode) && mapfs_inode_is_dir(&rename->other))
        return -EISDIR;
    return mapfs_inode_check_unlink(fs, rename->replaced, &rename->other);
}

/* No directory goes below itself. */
static int rename_check_loops(MapfsFs *fs, const Rename *rename) {
    int r = 0;

    if (rename_is_local(rename))
        return 0;
    if (mapfs_inode_is_dir(&rename->inode))
        r = mapfs_dir_is_within(fs, rename->to.parent, rename->old.ino);
    if (r == 0 && rename->exchange && mapfs_inode_is_dir(&rename->other))
        r = mapfs_dir_is_within(fs, rename->from.parent, rename->replaced);
    return r > 0 ? -EINVAL : r;
}

/* How many subdirectories a parent gains: dirs[0] the first, dirs[1] the second number. */
static void rename_count_subdirs(const Rename *rename, int ret_n[2]) {
    int moves = mapfs_inode_is_dir(&rename->inode);
    int other = rename->replaced != 0 && mapfs_inode_is_dir(&rename->other);

    ret_n[0] = rename->exchange ? other - moves : -moves;
    ret_n[1] = moves - other;
}

static int rename_check(MapfsFs *fs, Rename *rename) {
    uint64_t ino = rename->old.ino;
    int n_subdirs[2], r = rename_check_loops(fs, rename);

    if (r < 0)
        return r;
    if (rename->exchange && rename->replaced == 0)
        return -ENOENT;
    if (ino == rename->replaced)
        return -EINVAL;
    if (rename->replaced != 0 && !rename->exchange) {
        r = rename_check_replaced(fs, rename);
        if (r < 0)
            return r;
    }
    /* What is left of these can only come from damage: each inode below is changed on its own. */
    if (ino == MAPFS_INO_ROOT || ino == rename->from.parent || ino == rename->to.parent ||
        (rename->replaced != 0 && (rename->replaced == rename->from.parent || rename->replaced == rename->to.parent)))
        return mapfs_damage(0, "directory", "%" PRIu64 " or %" PRIu64 " is an entry of itself", ino, rename->replaced);
    rename_count_subdirs(rename, n_subdirs);
    for (unsigned i = 0; i < 2 && !rename_is_local(rename); i++)
        if (n_subdirs[i] > 0 && mapfs_le32_load(rename->dirs[i].nlink) >= MAPFS_LINK_MAX)
            return -EMLINK;
    return 0;
}

/* --- change --- */

static int rename_change_entries(MapfsFs *fs, const Rename *rename) {
    int r =
        mapfs_dirent_store(fs, &rename->to, rename->new_cookie, rename->old.ino, mapfs_le32_load(rename->inode.mode));

    if (r < 0)
        return r;
    if (rename->exchange)
        return mapfs_dirent_store(fs, &rename->from, rename->old.cookie, rename->replaced,
                                  mapfs_le32_load(rename->other.mode));
    if (rename->whiteout != 0)
        return mapfs_dirent_store(fs, &rename->from, rename->old.cookie, rename->whiteout, S_IFCHR);
    return mapfs_tree_remove(mapfs_store_tree(fs->store), mapfs_dirent_key(rename->from.parent, rename->old.cookie));
}

static int rename_change_dirs(MapfsFs *fs, Rename *rename) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    int n_old = rename_keeps_old(rename) ? 0 : -1, n_new = rename->replaced == 0 ? 1 : 0;
    int n_subdirs[2], r;

    rename_count_subdirs(rename, n_subdirs);
    if (rename_is_local(rename)) {
        mapfs_dir_count(&rename->dirs[0], n_old + n_new, n_subdirs[0] + n_subdirs[1], rename->time);
        return mapfs_inode_store(tree, rename->from.parent, &rename->dirs[0]);
    }
    mapfs_dir_count(&rename->dirs[0], n_old, n_subdirs[0], rename->time);
    r = mapfs_inode_store(tree, rename->from.parent, &rename->dirs[0]);
    if (r < 0)
        return r;
    mapfs_dir_count(&rename->dirs[1], n_new, n_subdirs[1], rename->time);
    return mapfs_inode_store(tree, rename->to.parent, &rename->dirs[1]);
}

/* An inode that now lies in `parent`. */
static int rename_change_moved(MapfsFs *fs, uint64_t ino, struct mapfs_disk_inode *inode, uint64_t parent,
                               uint64_t time) {
    if (mapfs_inode_is_dir(inode))
        inode->parent = mapfs_le64_store(parent);
    mapfs_inode_touch(inode, time, false);
    return mapfs_inode_store(mapfs_store_tree(fs->store), ino, inode);
}

static int rename_change_replaced(MapfsFs *fs, MapfsTxn *txn, Rename *rename) {
    int r;

    mapfs_inode_unlink(&rename->other, rename->time);
    r = mapfs_inode_store(mapfs_store_tree(fs->store), rename->replaced, &rename->other);
    if (r < 0 || mapfs_le32_load(rename->other.nlink) > 0)
        return r;
    return mapfs_apply_orphan(fs, txn, rename->replaced);
}

/* The first change: it can still be refused. */
static int rename_make_whiteout(MapfsFs *fs, MapfsTxn *txn, const Rename *rename) {
    const struct mapfs_le64 time = mapfs_le64_store(rename->time);
    const struct mapfs_disk_inode inode = {
        .atime = time,
        .mtime = time,
        .ctime = time,
        .btime = time,
        .change = mapfs_le64_store(1),
        .mode = mapfs_le32_store(S_IFCHR),
        .uid = mapfs_le32_store(rename->whiteout_uid),
        .gid = mapfs_le32_store(rename->whiteout_gid),
        .nlink = mapfs_le32_store(1),
    };

    int r = mapfs_tree_insert(mapfs_store_tree(fs->store), mapfs_inode_key(rename->whiteout), &inode, sizeof(inode));

    if (r == -EEXIST)
        return mapfs_damage(0, "inode", "%" PRIu64 " is there before it is made", rename->whiteout);
    if (r == 0)
        mapfs_txn_count_inodes(txn, 1);
    return r;
}

static int rename_change(MapfsFs *fs, MapfsTxn *txn, Rename *rename) {
    int r = rename_change_entries(fs, rename);

    if (r < 0)
        return r;
    r = rename_change_dirs(fs, rename);
    if (r < 0)
        return r;
    r = rename_change_moved(fs, rename->old.ino, &rename->inode, rename->to.parent, rename->time);
    if (r < 0 || rename->replaced == 0)
        return r;
    if (rename->exchange)
        return rename_change_moved(fs, rename->replaced, &rename->other, rename->from.parent, rename->time);
    return rename_change_replaced(fs, txn, rename);
}

int mapfs_apply_rename(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *header) {
    const struct mapfs_disk_record_rename *record = (const struct mapfs_disk_record_rename *)header;
    Rename rename = {
        .from = {mapfs_le64_load(record->old_parent), record->names, record->old_name_len},
        .to = {mapfs_le64_load(record->new_parent), record->names + record->old_name_len, record->new_name_len},
        .replaced = mapfs_le64_load(record->replaced),
        .whiteout = mapfs_le64_load(record->whiteout),
        .whiteout_uid = mapfs_le32_load(record->whiteout_uid),
        .whiteout_gid = mapfs_le32_load(record->whiteout_gid),
        .exchange = mapfs_le32_load(record->flags) & MAPFS_RENAME_EXCHANGE,
        .time = mapfs_le64_load(header->time),
    };
    int r;

    r = rename_load_dirs(fs, &rename);
    if (r < 0)
        return r;
    r = rename_load_entries(fs, mapfs_le64_load(record->ino), &rename);
    if (r < 0)
        return r;
    r = rename_check(fs, &rename);
    if (r < 0)
        return r;
    if (rename.whiteout != 0) {
        r = rename_make_whiteout(fs, txn, &rename);
        if (r < 0)
            return r;
    }
    r = rename_change(fs, txn, &rename);
    return r < 0 ? mapfs_apply_broken(fs, r) : 0;
}
