/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "fs/apply-private.h"
#include "fs/dirent-private.h"

/* A listing goes through the directory in steps: what a step needs is brought near without a lock, then it runs under
 * the tree's read lock. */
#define STEP_ENTRIES 32u

#define COOKIE_SELF 1u
#define COOKIE_PARENT 2u

typedef struct {
    MapfsFs *fs;
    uint64_t dir;
    uint64_t cookie; /* continue after */
    bool plus;
    MapfsDirCallback callback;
    void *user;
} Listing;

/* The inode of an entry for readdirplus. A damaged one must not hide the others: its entry goes without attributes. */
static const MapfsAttr *listing_attr(const Listing *listing, uint64_t ino, MapfsAttr *attr) {
    struct mapfs_disk_inode inode;

    if (!listing->plus || mapfs_inode_load(mapfs_store_tree(listing->fs->store), ino, &inode) < 0)
        return NULL;
    mapfs_inode_to_attr(ino, &inode, attr);
    return attr;
}

/* 1: taken, 0: no room. */
static int listing_emit(Listing *listing, const MapfsDirent *dirent) {
    MapfsAttr attr;
    const MapfsDirEntry entry = {
        .name = dirent->name,
        .name_len = dirent->name_len,
        .ino = dirent->ino,
        .cookie = dirent->cookie,
        .type = dirent->type,
        .attr = listing_attr(listing, dirent->ino, &attr),
    };

    if (listing->callback(listing->user, &entry) == 0)
        return 0;
    if (entry.attr && dirent->cookie > COOKIE_PARENT)
        mapfs_inode_table_count(listing->fs->inodes, dirent->ino);
    listing->cookie = dirent->cookie;
    return 1;
}

/* "." and "..": 1 when the entries may follow. */
static int listing_dots(Listing *listing, const struct mapfs_disk_inode *dir) {
    if (listing->cookie < COOKIE_SELF &&
        !listing_emit(listing, &(MapfsDirent){COOKIE_SELF, listing->dir, DT_DIR, 1, "."}))
        return 0;
    if (listing->cookie < COOKIE_PARENT &&
        !listing_emit(listing, &(MapfsDirent){COOKIE_PARENT, mapfs_le64_load(dir->parent), DT_DIR, 2, ".."}))
        return 0;
    return 1;
}

/* The first entry after the cookie: 1, 0 at the end, or -errno. */
static int listing_first(const Listing *listing, MapfsCursor *cursor, MapfsItem *item) {
    if (listing->cookie >= (uint64_t)INT64_MAX)
        return 0;
    return mapfs_cursor_begin(cursor, mapfs_store_tree(listing->fs->store),
                              mapfs_dirent_key(listing->dir, listing->cookie + 1), item);
}

static bool item_is_entry(const MapfsItem *item, uint64_t dir) {
    return item->key.object == dir && item->key.kind == MAPFS_KIND_DIRENT;
}

/* The inodes of the next step's entries. */
static unsigned listing_collect(const Listing *listing, MapfsKey *keys) {
    MapfsCursor cursor;
    MapfsItem item;
    unsigned n = 0;
    int r = listing_first(listing, &cursor, &item);

    while (r > 0 && item_is_entry(&item, listing->dir) && n < STEP_ENTRIES) {
        MapfsDirent dirent;

        if (mapfs_dirent_parse(&item, &dirent) < 0)
            break;
        keys[n++] = mapfs_inode_key(dirent.ino);
        r = mapfs_cursor_next(&cursor, &item);
    }
    return n;
}

static void listing_prefetch(const Listing *listing) {
    MapfsStore *store = listing->fs->store;
    MapfsKey keys[STEP_ENTRIES] = {mapfs_inode_key(listing->dir), mapfs_dirent_key(listing->dir, listing->cookie + 1)};
    unsigned n;

    mapfs_store_prefetch(store, keys, 2);
    if (!listing->plus)
        return;
    mapfs_store_read_lock(store);
    n = listing_collect(listing, keys);
    mapfs_store_read_unlock(store);
    mapfs_store_prefetch(store, keys, n);
}

/* One step: 1 when there is more, 0 at the end or when the caller's room is, or -errno. */
static int listing_step(Listing *listing) {
    struct mapfs_disk_inode dir;
    MapfsCursor cursor;
    MapfsItem item;
    int r = mapfs_inode_load(mapfs_store_tree(listing->fs->store), listing->dir, &dir);

    if (r < 0)
        return r;
    if (!mapfs_inode_is_dir(&dir))
        return -ENOTDIR;
    if (!listing_dots(listing, &dir))
        return 0;
    r = listing_first(listing, &cursor, &item);
    for (unsigned n = 0; r > 0 && item_is_entry(&item, listing->dir); n++) {
        MapfsDirent dirent;

        if (n == STEP_ENTRIES)
            return 1;
        r = mapfs_dirent_parse(&item, &dirent);
        if (r < 0)
            return r;
        if (!listing_emit(listing, &dirent))
            return 0;
        r = mapfs_cursor_next(&cursor, &item);
    }
    return r < 0 ? r : 0;
}

int mapfs_fs_readdir(MapfsFs *fs, uint64_t ino, const MapfsDirScan *scan) {
    Listing listing = {.fs = fs,
                       .dir = ino,
                       .cookie = scan->cookie,
                       .plus = scan->plus,
                       .callback = scan->callback,
                       .user = scan->user};
    int r;

    do {
        uint64_t before = listing.cookie;

        listing_prefetch(&listing);
        mapfs_store_read_lock(fs->store);
        r = listing_step(&listing);
        mapfs_store_read_unlock(fs->store);
        /* What the caller has taken must reach it, with the lookups that were counted; it will come again for the
         * rest. */
        if (r < 0 && (before != scan->cookie || listing.cookie != before))
            return 0;
    } while (r > 0);
    return r;
}
