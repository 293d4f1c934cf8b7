/* SPDX-License-Identifier: MIT */

/* Names that come and go: the apply of LINK, ADOPT and UNLINK. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "fs/apply-private.h"
#include "fs/dirent-private.h"

int mapfs_apply_orphan(MapfsFs *fs, MapfsTxn *txn, uint64_t ino) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    struct mapfs_disk_orphan orphan;
    int r = mapfs_orphan_load(tree, ino, &orphan);

    (void)txn;
    if (r < 0)
        return r;
    if (r == 0)
        memset(&orphan, 0, sizeof(orphan));
    orphan.flags = mapfs_le32_store(mapfs_le32_load(orphan.flags) | MAPFS_ORPHAN_UNLINKED);
    r = mapfs_tree_put(tree, mapfs_orphan_key(ino), &orphan, sizeof(orphan));
    if (r < 0)
        return r;
    if (mapfs_inode_table_set_orphan(fs->inodes, ino, true))
        mapfs_fs_queue_reclaim(fs, ino);
    return 0;
}

/* The opposite: the inode has a name again. What was left to cut off it stays to be done. */
static int orphan_adopt(MapfsFs *fs, uint64_t ino, struct mapfs_disk_orphan *orphan) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    uint32_t flags = mapfs_le32_load(orphan->flags) & ~MAPFS_ORPHAN_UNLINKED;

    (void)mapfs_inode_table_set_orphan(fs->inodes, ino, false); /* true is only told of new orphans */
    if (flags == 0)
        return mapfs_tree_remove(tree, mapfs_orphan_key(ino));
    orphan->flags = mapfs_le32_store(flags);
    return mapfs_tree_replace(tree, mapfs_orphan_key(ino), orphan, sizeof(*orphan));
}

static MapfsName record_name(const struct mapfs_disk_record_name *record) {
    return (MapfsName){mapfs_le64_load(record->parent), record->name, record->name_len};
}

/* Gives a loaded inode one more name. */
static int link_change(MapfsFs *fs, const struct mapfs_disk_record_name *record, uint64_t cookie,
                       struct mapfs_disk_inode *parent, struct mapfs_disk_inode *inode) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    const MapfsName name = record_name(record);
    uint64_t ino = mapfs_le64_load(record->ino), time = mapfs_le64_load(record->header.time);
    int r = mapfs_dirent_store(fs, &name, cookie, ino, mapfs_le32_load(inode->mode));

    if (r < 0)
        return r;
    inode->nlink = mapfs_le32_store(mapfs_le32_load(inode->nlink) + 1);
    mapfs_inode_touch(inode, time, false);
    r = mapfs_inode_store(tree, ino, inode);
    if (r < 0)
        return r;
    mapfs_dir_count(parent, 1, 0, time);
    return mapfs_inode_store(tree, name.parent, parent);
}

/* What a new name of the inode in record must find: a directory with a free slot, and no directory to link. */
static int link_validate(MapfsFs *fs, const struct mapfs_disk_record_name *record, uint64_t *ret_cookie,
                         struct mapfs_disk_inode *ret_parent, struct mapfs_disk_inode *ret_inode) {
    const MapfsName name = record_name(record);
    int r = mapfs_inode_load(mapfs_store_tree(fs->store), mapfs_le64_load(record->ino), ret_inode);

    if (r < 0)
        return r;
    if (mapfs_inode_is_dir(ret_inode))
        return -EPERM;
    r = mapfs_dir_load(fs, name.parent, ret_parent);
    if (r < 0)
        return r;
    r = mapfs_dirent_find_slot(fs, &name, ret_cookie);
    if (r < 0)
        return r;
    return mapfs_le32_load(ret_inode->nlink) >= MAPFS_LINK_MAX ? -EMLINK : 0;
}

int mapfs_apply_link(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *header) {
    const struct mapfs_disk_record_name *record = (const struct mapfs_disk_record_name *)header;
    struct mapfs_disk_inode parent, inode;
    uint64_t cookie;
    int r = link_validate(fs, record, &cookie, &parent, &inode);

    (void)txn;
    if (r < 0)
        return r;
    if (mapfs_le32_load(inode.nlink) == 0)
        return -ENOENT;
    r = link_change(fs, record, cookie, &parent, &inode);
    return r < 0 ? mapfs_apply_broken(fs, r) : 0;
}

int mapfs_apply_adopt(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *header) {
    const struct mapfs_disk_record_name *record = (const struct mapfs_disk_record_name *)header;
    uint64_t ino = mapfs_le64_load(record->ino), cookie;
    struct mapfs_disk_inode parent, inode;
    struct mapfs_disk_orphan orphan;
    int r = link_validate(fs, record, &cookie, &parent, &inode);

    (void)txn;
    if (r < 0)
        return r;
    r = mapfs_orphan_load(mapfs_store_tree(fs->store), ino, &orphan);
    if (r < 0)
        return r;
    if (r == 0 || mapfs_le32_load(inode.nlink) != 0)
        return -ENOENT;
    r = link_change(fs, record, cookie, &parent, &inode);
    if (r == 0)
        r = orphan_adopt(fs, ino, &orphan);
    return r < 0 ? mapfs_apply_broken(fs, r) : 0;
}

void mapfs_inode_unlink(struct mapfs_disk_inode *inode, uint64_t time) {
    uint32_t nlink = mapfs_inode_is_dir(inode) ? 0 : mapfs_le32_load(inode->nlink) - 1;

    inode->nlink = mapfs_le32_store(nlink);
    mapfs_inode_touch(inode, time, false);
}

int mapfs_inode_check_unlink(MapfsFs *fs, uint64_t ino, const struct mapfs_disk_inode *inode) {
    uint32_t nlink = mapfs_le32_load(inode->nlink);
    int r;

    if (nlink == 0 || ino == MAPFS_INO_ROOT)
        return mapfs_damage(0, "inode", "%" PRIu64 " has a name and %" PRIu32 " links", ino, nlink);
    if (!mapfs_inode_is_dir(inode))
        return 0;
    r = mapfs_dirent_lookup_any(fs, ino);
    return r > 0 ? -ENOTEMPTY : r;
}

/* Takes a loaded inode's name at a cookie away; of a directory it is the only one. */
static int unlink_change(MapfsFs *fs, const struct mapfs_disk_record_name *record, uint64_t cookie,
                         struct mapfs_disk_inode *parent, struct mapfs_disk_inode *inode) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    uint64_t dir = mapfs_le64_load(record->parent), ino = mapfs_le64_load(record->ino);
    uint64_t time = mapfs_le64_load(record->header.time);
    bool is_dir = mapfs_inode_is_dir(inode);
    int r = mapfs_tree_remove(tree, mapfs_dirent_key(dir, cookie));

    if (r < 0)
        return r;
    mapfs_inode_unlink(inode, time);
    r = mapfs_inode_store(tree, ino, inode);
    if (r < 0)
        return r;
    mapfs_dir_count(parent, -1, is_dir ? -1 : 0, time);
    return mapfs_inode_store(tree, dir, parent);
}

int mapfs_apply_unlink(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *header) {
    const struct mapfs_disk_record_name *record = (const struct mapfs_disk_record_name *)header;
    const MapfsName name = record_name(record);
    uint64_t ino = mapfs_le64_load(record->ino);
    struct mapfs_disk_inode parent, inode;
    MapfsDirent dirent;
    int r = mapfs_dir_load(fs, name.parent, &parent);

    if (r < 0)
        return r;
    r = mapfs_dirent_lookup(fs, &name, &dirent);
    if (r < 0)
        return r;
    if (r == 0 || dirent.ino != ino)
        return -ENOENT;
    if (ino == name.parent)
        return mapfs_damage(0, "directory", "%" PRIu64 " is an entry of itself", ino);
    r = mapfs_dirent_load_inode(fs, &dirent, &inode);
    if (r < 0)
        return r;
    r = mapfs_inode_check_unlink(fs, ino, &inode);
    if (r < 0)
        return r;
    r = unlink_change(fs, record, dirent.cookie, &parent, &inode);
    if (r == 0 && mapfs_le32_load(inode.nlink) == 0)
        r = mapfs_apply_orphan(fs, txn, ino);
    return r < 0 ? mapfs_apply_broken(fs, r) : 0;
}
