/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "fs/apply-private.h"
#include "fs/dirent-private.h"

/* A listing goes through the directory in steps: what a step needs is brought near without a lock, then it runs under
 * the tree's read lock, and as far as nodes are there. */
#define STEP_ENTRIES 256u
/* With the attributes of each entry, which may lie anywhere. */
#define STEP_ENTRIES_PLUS 32u
/* The kernel asks for attributes in the first reply without knowing whether anybody wants them. In a directory with more entries than this, whose inodes may
 * lie anywhere, they come as far as they are there already. */
#define GUESS_ENTRIES 256u

#define COOKIE_SELF 1u
#define COOKIE_PARENT 2u

typedef struct {
    MapfsFs *fs;
    uint64_t dir;
    uint64_t cookie; /* continue after */
    bool plus;
    bool warm_attributes; /* no node is read for an attribute */
    MapfsDirCallback callback;
    void *user;
    MapfsTree tree; /* of this step */
} Listing;

/* The inode of an entry for readdirplus. A damaged one must not hide the others: its entry goes without attributes. */
static const MapfsAttr *listing_attr(const Listing *listing, uint64_t ino, MapfsAttr *attr) {
    MapfsTree warm = mapfs_store_tree_warm(listing->fs->store);
    struct mapfs_disk_inode inode;

    if (!listing->plus ||
        mapfs_inode_load(listing->warm_attributes ? &warm : mapfs_store_tree(listing->fs->store), ino, &inode) < 0)
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
    return mapfs_cursor_begin(cursor, &listing->tree, mapfs_dirent_key(listing->dir, listing->cookie + 1), item);
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

    while (r > 0 && item_is_entry(&item, listing->dir) && n < STEP_ENTRIES_PLUS) {
        MapfsDirent dirent;

        if (mapfs_dirent_parse(&item, &dirent) < 0)
            break;
        keys[n++] = mapfs_inode_key(dirent.ino);
        r = mapfs_cursor_next(&cursor, &item);
    }
    return n;
}

static void listing_prefetch(Listing *listing) {
    MapfsStore *store = listing->fs->store;
    MapfsKey keys[STEP_ENTRIES_PLUS] = {mapfs_inode_key(listing->dir),
                                        mapfs_dirent_key(listing->dir, listing->cookie + 1)};
    unsigned n;

    mapfs_store_prefetch_row(store, keys[1], mapfs_dirent_key(listing->dir, INT64_MAX));
    mapfs_store_prefetch(store, keys, 2); /* also where one index node ends and the next begins */
    if (!listing->plus || listing->warm_attributes)
        return;
    mapfs_store_read_lock(store);
    listing->tree = mapfs_store_tree_warm(store);
    n = listing_collect(listing, keys);
    mapfs_store_read_unlock(store);
    mapfs_store_prefetch(store, keys, n);
}

/* One step: 1 when there is more, 0 at the end or when the caller's room is, or -errno. */
static int listing_step(Listing *listing) {
    struct mapfs_disk_inode dir;
    MapfsCursor cursor;
    MapfsItem item;
    unsigned n_step = listing->plus ? STEP_ENTRIES_PLUS : STEP_ENTRIES;
    int r = mapfs_inode_load(&listing->tree, listing->dir, &dir);

    if (r < 0)
        return r;
    if (!mapfs_inode_is_dir(&dir))
        return -ENOTDIR;
    if (!listing_dots(listing, &dir))
        return 0;
    r = listing_first(listing, &cursor, &item);
    for (unsigned n = 0; r > 0 && item_is_entry(&item, listing->dir); n++) {
        MapfsDirent dirent;

        if (n == n_step)
            return 1;
        r = mapfs_dirent_parse(&item, &dirent);
        if (r < 0)
            return r;
        /* Who lists a directory must come to its end, whatever becomes of its bytes meanwhile. */
        if (dirent.cookie <= listing->cookie)
            return mapfs_damage(0, "directory", "%" PRIu64 " has an entry at %" PRIu64 " after that at %" PRIu64,
                                listing->dir, dirent.cookie, listing->cookie);
        if (!listing_emit(listing, &dirent))
            return 0;
        r = mapfs_cursor_next(&cursor, &item);
    }
    return r < 0 ? r : 0;
}

static int listing_step_on(Listing *listing, MapfsTree tree) {
    listing->tree = tree;
    return listing_step(listing);
}

/* A step on nodes that are there, or -EAGAIN when one is missing and nothing could be given. */
static int listing_step_warm(Listing *listing) {
    MapfsStore *store = listing->fs->store;
    uint64_t before = listing->cookie;
    int r;

    mapfs_store_read_lock(store);
    r = listing_step_on(listing, mapfs_store_tree_warm(store));
    mapfs_store_read_unlock(store);
    return r == -EAGAIN && listing->cookie != before ? 1 : r;
}

/* What those lack that were just brought near, because of damage or lack of memory, is read as it comes. */
static int listing_step_near(Listing *listing) {
    MapfsStore *store = listing->fs->store;
    int r;

    listing_prefetch(listing);
    r = listing_step_warm(listing);
    if (r != -EAGAIN)
        return r;
    mapfs_store_read_lock(store);
    r = listing_step_on(listing, *mapfs_store_tree(store));
    mapfs_store_read_unlock(store);
    return r;
}

static bool directory_is_large(MapfsFs *fs, uint64_t ino) {
    MapfsAttr attr;

    return mapfs_fs_getattr(fs, ino, &attr) == 0 && attr.size > GUESS_ENTRIES;
}

int mapfs_fs_readdir(MapfsFs *fs, uint64_t ino, const MapfsDirScan *scan) {
    Listing listing = {.fs = fs,
                       .dir = ino,
                       .cookie = scan->cookie,
                       .plus = scan->plus,
                       .warm_attributes = scan->plus && scan->cookie == 0 && directory_is_large(fs, ino),
                       .callback = scan->callback,
                       .user = scan->user};
    int r;

    do {
        uint64_t before = listing.cookie;

        /* Attributes are read where they are missing, and should not be under the lock. */
        r = scan->plus && !listing.warm_attributes ? -EAGAIN : listing_step_warm(&listing);
        if (r == -EAGAIN)
            r = listing_step_near(&listing);
        /* What the caller has taken must reach it, with the lookups that were counted; it will come again for the
         * rest. */
        if (r < 0 && (before != scan->cookie || listing.cookie != before))
            return 0;
    } while (r > 0);
    return r;
}
