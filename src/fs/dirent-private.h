/* SPDX-License-Identifier: MIT */
#pragma once

/* Entries of directories in the tree: from a name to its item and back. Names with the same hash share a bucket of
 * MAPFS_DIRENT_SLOTS keys; an entry keeps its key while it lives, which is what makes it a readdir cookie. The tree
 * is held, for changes locked for writing. */

#include "fs/fs-private.h"

/* An entry as found. `name` points into the tree. */
typedef struct {
    uint64_t cookie; /* offset of its key */
    uint64_t ino;
    uint8_t type; /* DT_* */
    uint8_t name_len;
    const char *name;
} MapfsDirent;

static inline MapfsKey mapfs_dirent_key(uint64_t dir, uint64_t cookie) {
    return (MapfsKey){.object = dir, .kind = MAPFS_KIND_DIRENT, .offset = cookie};
}

/* The key where the search for a name begins. */
MapfsKey mapfs_dirent_name_key(const MapfsFs *fs, const MapfsName *name);

/* Reads an item of kind DIRENT. 0 or -EUCLEAN. */
int mapfs_dirent_parse(const MapfsItem *item, MapfsDirent *ret_dirent) MAPFS_MUST_USE;

/* 1 and the entry, 0 if there is no such name, or -errno. */
int mapfs_dirent_lookup(MapfsFs *fs, const MapfsName *name, MapfsDirent *ret_dirent) MAPFS_MUST_USE;

/* A free cookie for a new name. -EEXIST when the name is there, -ENOSPC when its bucket is full. */
int mapfs_dirent_find_slot(MapfsFs *fs, const MapfsName *name, uint64_t *ret_cookie) MAPFS_MUST_USE;

/* Puts an entry at a cookie, new or in the place of one with the same name: one change. */
int mapfs_dirent_store(MapfsFs *fs, const MapfsName *name, uint64_t cookie, uint64_t ino, uint32_t mode) MAPFS_MUST_USE;

/* The inode that an entry leads to; there must be one. */
int mapfs_dirent_load_inode(MapfsFs *fs, const MapfsDirent *dirent, struct mapfs_disk_inode *ret_inode) MAPFS_MUST_USE;

/* 1 if the directory has an entry, 0 if it is empty, or -errno. */
int mapfs_dirent_lookup_any(MapfsFs *fs, uint64_t dir) MAPFS_MUST_USE;

/* The inode of a directory that can take names. -ESTALE, -ENOTDIR, -ENOENT when it has been removed. */
int mapfs_dir_load(MapfsFs *fs, uint64_t ino, struct mapfs_disk_inode *ret_inode) MAPFS_MUST_USE;

/* 1 if `ancestor` is `dir` or above it, 0 if not, or -errno. */
int mapfs_dir_is_within(MapfsFs *fs, uint64_t dir, uint64_t ancestor) MAPFS_MUST_USE;

/* Changes a loaded directory's number of entries and of subdirectories, and its times. */
void mapfs_dir_count(struct mapfs_disk_inode *dir, int n_entries, int n_subdirs, uint64_t time);

/* 0 if the loaded inode may lose a name: -ENOTEMPTY for a directory with entries, -EUCLEAN. */
int mapfs_inode_check_unlink(MapfsFs *fs, uint64_t ino, const struct mapfs_disk_inode *inode) MAPFS_MUST_USE;

/* Takes one link from the loaded inode, from a directory all. */
void mapfs_inode_unlink(struct mapfs_disk_inode *inode, uint64_t time);

/* 0, -ENAMETOOLONG, or -EINVAL for what cannot be a name. */
int mapfs_name_validate(const MapfsName *name) MAPFS_MUST_USE;

/* Brings what an operation on the name needs near: its entry, its directory, and the inode that it leads to. */
void mapfs_name_prefetch(MapfsFs *fs, const MapfsName *name);

static inline bool mapfs_inode_is_dir(const struct mapfs_disk_inode *inode) {
    return (mapfs_le32_load(inode->mode) & 0170000u) == 0040000u;
}
