/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "fs/acl-private.h"
#include "fs/apply-private.h"
#include "fs/dirent-private.h"
#include "fs/flags-private.h"

/* The record with room for the longest name and target. */
typedef union {
    struct mapfs_disk_record_create create;
    uint8_t bytes[sizeof(struct mapfs_disk_record_create) + MAPFS_NAME_LEN_MAX + MAPFS_SYMLINK_LEN_MAX + 8];
} CreateRecord;

static unsigned target_n_chunks(size_t target_len) {
    return (unsigned)((target_len + MAPFS_SYMLINK_CHUNK - 1) / MAPFS_SYMLINK_CHUNK);
}

/* --- apply --- */

/* The new inode as the record describes it. */
static void create_inode(const struct mapfs_disk_record_create *record, struct mapfs_disk_inode *ret_inode) {
    uint32_t mode = mapfs_le32_load(record->mode);
    bool named = mapfs_le64_load(record->parent) != 0;

    *ret_inode = (struct mapfs_disk_inode){
        .size = mapfs_le64_store(mapfs_le16_load(record->target_len)),
        .atime = record->header.time,
        .mtime = record->header.time,
        .ctime = record->header.time,
        .btime = record->header.time,
        .change = mapfs_le64_store(1),
        .parent = S_ISDIR(mode) ? record->parent : mapfs_le64_store(0),
        .rdev = record->rdev,
        .mode = record->mode,
        .uid = record->uid,
        .gid = record->gid,
        .nlink = mapfs_le32_store(!named          ? 0
                                  : S_ISDIR(mode) ? 2
                                                  : 1),
    };
}

static int create_target(MapfsTree *tree, const struct mapfs_disk_record_create *record) {
    const char *target = record->bytes + record->name_len;
    size_t len = mapfs_le16_load(record->target_len);
    MapfsKey key = {.object = mapfs_le64_load(record->ino), .kind = MAPFS_KIND_INLINE};

    for (; key.offset < len; key.offset += MAPFS_SYMLINK_CHUNK) {
        int r = mapfs_tree_insert(tree, key, target + key.offset, MAPFS_MIN(len - key.offset, MAPFS_SYMLINK_CHUNK));

        if (r < 0)
            return r;
    }
    return 0;
}

/* All but the inode itself. */
static int create_rest(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record_create *record, uint64_t cookie,
                       struct mapfs_disk_inode *parent) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    uint64_t ino = mapfs_le64_load(record->ino);
    uint32_t mode = mapfs_le32_load(record->mode);
    const MapfsName name = {mapfs_le64_load(record->parent), record->bytes, record->name_len};
    int r = create_target(tree, record);

    if (r < 0)
        return r;
    mapfs_txn_count_inodes(txn, 1);
    if (name.parent == 0)
        return mapfs_apply_orphan(fs, txn, ino);
    r = mapfs_dirent_store(fs, &name, cookie, ino, mode);
    if (r < 0)
        return r;
    mapfs_dir_count(parent, 1, S_ISDIR(mode), mapfs_le64_load(record->header.time));
    return mapfs_inode_store(tree, name.parent, parent);
}

int mapfs_apply_create(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *header) {
    const struct mapfs_disk_record_create *record = (const struct mapfs_disk_record_create *)header;
    uint64_t ino = mapfs_le64_load(record->ino), cookie = 0;
    uint32_t mode = mapfs_le32_load(record->mode);
    const MapfsName name = {mapfs_le64_load(record->parent), record->bytes, record->name_len};
    struct mapfs_disk_inode parent, inode;
    int r;

    if (name.parent != 0) {
        r = mapfs_dir_load(fs, name.parent, &parent);
        if (r < 0)
            return r;
        if (S_ISDIR(mode) && mapfs_le32_load(parent.nlink) >= MAPFS_LINK_MAX)
            return -EMLINK;
        r = mapfs_dirent_find_slot(fs, &name, &cookie);
        if (r < 0)
            return r;
    }
    create_inode(record, &inode);
    r = mapfs_tree_insert(mapfs_store_tree(fs->store), mapfs_inode_key(ino), &inode, sizeof(inode));
    if (r == -EEXIST)
        return mapfs_damage(0, "inode", "%" PRIu64 " is there before it is made", ino);
    if (r < 0)
        return r;
    r = create_rest(fs, txn, record, cookie, &parent);
    return r < 0 ? mapfs_apply_broken(fs, r) : 0;
}

/* --- operation --- */

static int create_validate(const MapfsName *name, const MapfsNewInode *new_inode) {
    uint32_t mode = new_inode->mode;
    int r = mapfs_name_validate(name);

    if (r < 0)
        return r;
    if (mapfs_dirent_type_from_mode(mode) == 0 || mode & ~(uint32_t)(S_IFMT | 07777))
        return -EINVAL;
    if (!S_ISLNK(mode))
        return new_inode->target_len == 0 ? 0 : -EINVAL;
    if (new_inode->target_len > MAPFS_SYMLINK_LEN_MAX)
        return -ENAMETOOLONG;
    if (new_inode->target_len == 0)
        return -ENOENT;
    return memchr(new_inode->target, '\0', new_inode->target_len) ? -EINVAL : 0;
}

/* `parent` decides about the group, as in every Unix with setgid directories. Without a name, name->parent is 0. */
static void create_build(const MapfsName *name, const MapfsNewInode *new_inode, const struct mapfs_disk_inode *parent,
                         uint64_t ino, CreateRecord *ret_record) {
    struct mapfs_disk_record_create *create = &ret_record->create;
    uint32_t mode = new_inode->mode;
    bool device = S_ISCHR(mode) || S_ISBLK(mode), inherit = mapfs_le32_load(parent->mode) & S_ISGID;

    if (inherit && S_ISDIR(mode))
        mode |= S_ISGID;
    *create = (struct mapfs_disk_record_create){
        .parent = mapfs_le64_store(name->parent),
        .ino = mapfs_le64_store(ino),
        .rdev = mapfs_le64_store(device ? (uint64_t)new_inode->rdev_major << 32 | new_inode->rdev_minor : 0),
        .mode = mapfs_le32_store(mode),
        .uid = mapfs_le32_store(new_inode->uid),
        .gid = inherit ? parent->gid : mapfs_le32_store(new_inode->gid),
        .target_len = mapfs_le16_store((uint16_t)new_inode->target_len),
        .name_len = (uint8_t)name->name_len,
    };
    memcpy(create->bytes, name->name, name->name_len);
    if (new_inode->target_len > 0)
        memcpy(create->bytes + name->name_len, new_inode->target, new_inode->target_len);
    mapfs_record_init(&create->header, MAPFS_RECORD_CREATE, sizeof(*create) + name->name_len + new_inode->target_len,
                      mapfs_fs_now());
}

/* Where an inode is made. Without a name it belongs to no directory; `dir` is the one whose rules it follows. */
typedef struct {
    MapfsName name;
    uint64_t dir;
    const MapfsNewInode *how;
    unsigned n_inherit; /* changes claimed for what is inherited */
} Creation;

/* Makes the inode, with its lookup counted, and gives it what it inherits. */
static int create_run(MapfsFs *fs, MapfsTxn *txn, CreateRecord *record, const MapfsInherited *inherited,
                      MapfsAttr *ret_attr) {
    uint64_t ino = mapfs_le64_load(record->create.ino);
    struct mapfs_disk_inode inode;
    int r;

    /* Its lookup comes first, or an unnamed file would be taken for one that nobody uses. */
    mapfs_inode_table_count(fs->inodes, ino);
    r = mapfs_record_run(fs, txn, &record->create.header);
    if (r < 0) {
        (void)mapfs_inode_table_forget(fs->inodes, ino, 1); /* there is nothing to reclaim */
        return r;
    }
    create_inode(&record->create, &inode);
    if (inherited) {
        r = mapfs_inherit_store(fs, txn, ino, inherited, mapfs_le64_load(record->create.header.time));
        if (r == 0)
            r = mapfs_inode_load(mapfs_store_tree(fs->store), ino, &inode);
        if (r < 0)
            return mapfs_apply_broken(fs, r);
    }
    mapfs_inode_to_attr(ino, &inode, ret_attr);
    return 0;
}

/* 0, -errno, or 1 when more is inherited than changes were claimed for. */
static int create_in_dir(MapfsFs *fs, MapfsTxn *txn, const Creation *creation, const struct mapfs_disk_inode *dir,
                         MapfsAttr *ret_attr) {
    MapfsNewInode how = *creation->how;
    MapfsInherited inherited;
    CreateRecord record;
    MapfsIno ino;
    int r = mapfs_flags_check_append(dir);

    if (r < 0)
        return r;
    const int n_inherited = mapfs_inherit(fs, creation->dir, dir, &how, &inherited);
    if (n_inherited < 0)
        return n_inherited;
    if (n_inherited > 0 && creation->n_inherit < MAPFS_INHERIT_CHANGES)
        return 1;
    r = mapfs_txn_next_ino(txn, &ino);
    if (r < 0)
        return r;
    how.mode = inherited.mode;
    create_build(&creation->name, &how, dir, ino.n, &record);
    return create_run(fs, txn, &record, n_inherited > 0 ? &inherited : NULL, ret_attr);
}

static int create_locked(MapfsFs *fs, MapfsTxn *txn, const Creation *creation, MapfsAttr *ret_attr) {
    struct mapfs_disk_inode dir;
    MapfsDirent dirent;
    int r = mapfs_dir_load(fs, creation->dir, &dir);

    if (r < 0)
        return r;
    /* A name that is there is the ordinary failure, and must not use up an inode number. */
    if (creation->name.parent != 0) {
        r = mapfs_dirent_lookup(fs, &creation->name, &dirent);
        if (r != 0)
            return r < 0 ? r : -EEXIST;
    }
    return create_in_dir(fs, txn, creation, &dir, ret_attr);
}

/* Few directories hand anything down: changes for that are claimed once it is known. */
static int create_in_txn(MapfsFs *fs, Creation *creation, unsigned n_changes, MapfsAttr *ret_attr) {
    MapfsTxn txn;
    int r;

    do {
        r = mapfs_fs_begin(fs, MAPFS_TXN_GROWS, n_changes + creation->n_inherit, &txn);
        if (r < 0)
            return r;
        mapfs_txn_lock(&txn);
        r = create_locked(fs, &txn, creation, ret_attr);
        mapfs_txn_end(&txn);
        creation->n_inherit = MAPFS_INHERIT_CHANGES;
    } while (r > 0);
    return r;
}

int mapfs_fs_create(MapfsFs *fs, const MapfsName *at, const MapfsNewInode *new_inode, MapfsAttr *ret_attr) {
    Creation creation = {.name = *at, .dir = at->parent, .how = new_inode};
    int r = create_validate(at, new_inode);

    if (r < 0)
        return r;
    mapfs_name_prefetch(fs, at);
    return create_in_txn(fs, &creation, 3 + target_n_chunks(new_inode->target_len), ret_attr);
}

int mapfs_fs_tmpfile(MapfsFs *fs, uint64_t dir, const MapfsNewInode *new_inode, MapfsAttr *ret_attr) {
    const MapfsKey keys[] = {mapfs_inode_key(dir), mapfs_orphan_key(UINT64_MAX)};
    Creation creation = {.name = {.parent = 0, .name = "", .name_len = 0}, .dir = dir, .how = new_inode};

    if ((new_inode->mode & ~(uint32_t)07777) != S_IFREG || new_inode->target_len > 0)
        return -EINVAL;
    mapfs_store_prefetch(fs->store, keys, MAPFS_N_ELEMENTS(keys));
    return create_in_txn(fs, &creation, MAPFS_TMPFILE_CHANGES, ret_attr);
}

/* --- symlinks --- */

static int readlink_held(MapfsFs *fs, uint64_t ino, char *buffer) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    struct mapfs_disk_inode inode;
    MapfsKey key = {.object = ino, .kind = MAPFS_KIND_INLINE};
    size_t len;
    int r = mapfs_inode_load(tree, ino, &inode);

    if (r < 0)
        return r;
    if (!S_ISLNK(mapfs_le32_load(inode.mode)))
        return -EINVAL;
    len = mapfs_le64_load(inode.size);
    if (len > MAPFS_SYMLINK_LEN_MAX)
        return mapfs_damage(0, "symlink", "%" PRIu64 " has a target of %zu bytes", ino, len);
    for (; key.offset < len; key.offset += MAPFS_SYMLINK_CHUNK) {
        size_t n = MAPFS_MIN(len - key.offset, MAPFS_SYMLINK_CHUNK);
        MapfsItem item;

        r = mapfs_tree_lookup(tree, key, &item);
        if (r < 0)
            return r;
        if (r == 0 || item.value_len != n)
            return mapfs_damage(0, "symlink", "the target of %" PRIu64 " has no %zu bytes at %" PRIu64, ino, n,
                                key.offset);
        memcpy(buffer + key.offset, item.value, n);
    }
    buffer[len] = '\0';
    return 0;
}

int mapfs_fs_readlink(MapfsFs *fs, uint64_t ino, char *buffer) {
    const MapfsKey keys[2] = {mapfs_inode_key(ino), {.object = ino, .kind = MAPFS_KIND_INLINE}};
    int r;

    mapfs_store_prefetch(fs->store, keys, 2);
    mapfs_store_read_lock(fs->store);
    r = readlink_held(fs, ino, buffer);
    mapfs_store_read_unlock(fs->store);
    return r;
}
