/* SPDX-License-Identifier: MIT */

#include "fs/dirent-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "format/name.h"

MapfsKey mapfs_dirent_name_key(const MapfsFs *fs, const MapfsName *name) {
    uint64_t hash = mapfs_dirent_hash(name->name, name->name_len, fs->hash_seed);

    return mapfs_dirent_key(name->parent, hash << MAPFS_DIRENT_SLOT_SHIFT);
}

int mapfs_dirent_parse(const MapfsItem *item, MapfsDirent *ret_dirent) {
    struct mapfs_disk_dirent dirent;

    if (item->value_len < sizeof(dirent))
        return mapfs_damage(0, "directory entry", "%" PRIu64 "/%" PRIu64 " has %zu bytes", item->key.object,
                            item->key.offset, item->value_len);
    memcpy(&dirent, item->value, sizeof(dirent));
    if (dirent.name_len == 0 || item->value_len != sizeof(dirent) + dirent.name_len)
        return mapfs_damage(0, "directory entry", "%" PRIu64 "/%" PRIu64 " has %zu bytes and a name of %u",
                            item->key.object, item->key.offset, item->value_len, dirent.name_len);
    *ret_dirent = (MapfsDirent){
        .cookie = item->key.offset,
        .ino = mapfs_le64_load(dirent.ino),
        .type = dirent.type,
        .name_len = dirent.name_len,
        .name = (const char *)item->value + sizeof(dirent),
    };
    return 0;
}

static bool key_in_bucket(MapfsKey key, MapfsKey bucket) {
    return key.object == bucket.object && key.kind == MAPFS_KIND_DIRENT &&
           key.offset >> MAPFS_DIRENT_SLOT_SHIFT == bucket.offset >> MAPFS_DIRENT_SLOT_SHIFT;
}

/* Walks a name's bucket: 1 and the entry, or 0 and the bits of the slots that are taken. */
static int bucket_search(MapfsFs *fs, const MapfsName *name, MapfsDirent *ret_dirent, unsigned *ret_taken) {
    const MapfsKey bucket = mapfs_dirent_name_key(fs, name);
    MapfsCursor cursor;
    MapfsItem item;
    unsigned taken = 0;
    int r = mapfs_cursor_begin(&cursor, mapfs_store_tree(fs->store), bucket, &item);

    while (r > 0 && key_in_bucket(item.key, bucket)) {
        MapfsDirent dirent;

        r = mapfs_dirent_parse(&item, &dirent);
        if (r < 0)
            return r;
        if (dirent.name_len == name->name_len && memcmp(dirent.name, name->name, name->name_len) == 0) {
            *ret_dirent = dirent;
            return 1;
        }
        taken |= 1u << (item.key.offset % MAPFS_DIRENT_SLOTS);
        r = mapfs_cursor_next(&cursor, &item);
    }
    if (r < 0)
        return r;
    *ret_taken = taken;
    return 0;
}

int mapfs_dirent_lookup(MapfsFs *fs, const MapfsName *name, MapfsDirent *ret_dirent) {
    unsigned taken;

    return bucket_search(fs, name, ret_dirent, &taken);
}

int mapfs_dirent_find_slot(MapfsFs *fs, const MapfsName *name, uint64_t *ret_cookie) {
    MapfsDirent dirent;
    unsigned taken;
    int r = bucket_search(fs, name, &dirent, &taken);

    if (r < 0)
        return r;
    if (r > 0)
        return -EEXIST;
    for (unsigned slot = 0; slot < MAPFS_DIRENT_SLOTS; slot++)
        if (!(taken & 1u << slot)) {
            *ret_cookie = mapfs_dirent_name_key(fs, name).offset | slot;
            return 0;
        }
    return -ENOSPC;
}

int mapfs_dirent_store(MapfsFs *fs, const MapfsName *name, uint64_t cookie, uint64_t ino, uint32_t mode) {
    uint8_t value[sizeof(struct mapfs_disk_dirent) + MAPFS_NAME_LEN_MAX];
    const struct mapfs_disk_dirent dirent = {
        .ino = mapfs_le64_store(ino),
        .type = mapfs_dirent_type_from_mode(mode),
        .name_len = (uint8_t)name->name_len,
    };

    memcpy(value, &dirent, sizeof(dirent));
    memcpy(value + sizeof(dirent), name->name, name->name_len);
    return mapfs_tree_put(mapfs_store_tree(fs->store), mapfs_dirent_key(name->parent, cookie), value,
                          sizeof(dirent) + name->name_len);
}

int mapfs_dirent_load_inode(MapfsFs *fs, const MapfsDirent *dirent, struct mapfs_disk_inode *ret_inode) {
    int r = mapfs_inode_load(mapfs_store_tree(fs->store), dirent->ino, ret_inode);

    return r == -ESTALE ? mapfs_damage(0, "directory entry", "there is no inode %" PRIu64, dirent->ino) : r;
}

int mapfs_dirent_lookup_any(MapfsFs *fs, uint64_t dir) {
    MapfsItem item;
    int r = mapfs_tree_lookup_ge(mapfs_store_tree(fs->store), mapfs_dirent_key(dir, 0), &item);

    if (r <= 0)
        return r;
    return item.key.object == dir && item.key.kind == MAPFS_KIND_DIRENT;
}

int mapfs_dir_load(MapfsFs *fs, uint64_t ino, struct mapfs_disk_inode *ret_inode) {
    struct mapfs_disk_inode inode;
    int r = mapfs_inode_load(mapfs_store_tree(fs->store), ino, &inode);

    if (r < 0)
        return r;
    if (!mapfs_inode_is_dir(&inode))
        return -ENOTDIR;
    if (mapfs_le32_load(inode.nlink) == 0)
        return -ENOENT;
    *ret_inode = inode;
    return 0;
}

int mapfs_dir_is_within(MapfsFs *fs, uint64_t dir, uint64_t ancestor) {
    /* In a damaged image parents may go round in a circle. The mark is set anew after 1, 2, 4, ... steps; a circle
     * brings the walk back to it (Brent). */
    uint64_t mark = 0, n_steps = 0, next_mark = 1;

    while (dir != MAPFS_INO_ROOT && dir != ancestor) {
        struct mapfs_disk_inode inode;
        int r = mapfs_inode_load(mapfs_store_tree(fs->store), dir, &inode);

        if (r < 0)
            return r == -ESTALE ? mapfs_damage(0, "directory", "%" PRIu64 " is a parent and does not exist", dir) : r;
        if (dir == mark)
            return mapfs_damage(0, "directory", "%" PRIu64 " is above itself", dir);
        if (++n_steps == next_mark) {
            mark = dir;
            next_mark *= 2;
        }
        dir = mapfs_le64_load(inode.parent);
    }
    return dir == ancestor;
}

void mapfs_dir_count(struct mapfs_disk_inode *dir, int n_entries, int n_subdirs, uint64_t time) {
    uint64_t size = mapfs_le64_load(dir->size);
    uint32_t nlink = mapfs_le32_load(dir->nlink);

    /* Only damage makes these numbers too small; they stay in their range then. */
    if (n_entries >= 0 || size > 0)
        size += (uint64_t)(int64_t)n_entries;
    if (n_subdirs >= 0 || nlink > 2)
        nlink += (uint32_t)n_subdirs;
    dir->size = mapfs_le64_store(size);
    dir->nlink = mapfs_le32_store(nlink);
    mapfs_inode_touch(dir, time, true);
}

int mapfs_name_validate(const MapfsName *name) {
    if (name->name_len > MAPFS_NAME_LEN_MAX)
        return -ENAMETOOLONG;
    return mapfs_name_check(name->name, name->name_len) ? 0 : -EINVAL;
}

void mapfs_name_prefetch(MapfsFs *fs, const MapfsName *name) {
    MapfsKey keys[2] = {mapfs_dirent_name_key(fs, name), mapfs_inode_key(name->parent)};
    MapfsDirent dirent;
    int r;

    mapfs_store_prefetch(fs->store, keys, 2);
    mapfs_store_read_lock(fs->store);
    r = mapfs_dirent_lookup(fs, name, &dirent);
    mapfs_store_read_unlock(fs->store);
    if (r <= 0)
        return;
    keys[0] = mapfs_inode_key(dirent.ino);
    mapfs_store_prefetch(fs->store, keys, 1);
}
