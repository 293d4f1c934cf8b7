/* SPDX-License-Identifier: MIT */

#include "sample.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <glib.h>
#include <linux/posix_acl.h>

#include "format/acl.h"

#define WALK_INODES_MAX 2000u
#define WALK_DEPTH_MAX 12u
#define WALK_NAMES_MAX 512u
#define WALK_READ_MAX (256u * 1024u)
#define SAMPLE_NAMES 24u
#define SAMPLE_DIRECTORIES_MAX 8u

uint64_t random_next(Random *random) {
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return random->state * UINT64_C(0x2545f4914f6cdd1d);
}

uint64_t random_below(Random *random, uint64_t n) {
    return random_next(random) % n;
}

/* --- the walk --- */

typedef struct {
    char name[256];
    uint8_t name_len;
    uint64_t cookie;
} Entry;

typedef struct {
    Entry *entries;
    size_t n;
} Listing;

typedef struct {
    MapfsFs *fs;
    WalkResult *result;
    uint8_t *buffer; /* WALK_READ_MAX bytes */
} Walk;

static void note(Walk *walk, int r) {
    if (r < 0 && walk->result->error == 0)
        walk->result->error = r;
}

static int keep_entry(void *user, const MapfsDirEntry *entry) {
    Listing *listing = user;
    Entry *kept;

    if (listing->n == WALK_NAMES_MAX)
        return 0;
    if (entry->name_len <= 2 && memcmp(entry->name, "..", entry->name_len) == 0)
        return 1;
    kept = &listing->entries[listing->n++];
    memcpy(kept->name, entry->name, MAPFS_MIN(entry->name_len, 255));
    kept->name_len = (uint8_t)entry->name_len;
    kept->cookie = entry->cookie;
    return 1;
}

static void walk_xattrs(Walk *walk, uint64_t ino) {
    char names[65536];
    int len = mapfs_fs_listxattr(walk->fs, ino, names, sizeof(names));

    note(walk, len == -ERANGE ? 0 : len);
    for (int at = 0; at < len; at += (int)strlen(names + at) + 1)
        note(walk, mapfs_fs_getxattr(walk->fs, ino, names + at, walk->buffer, WALK_READ_MAX));
}

/* The start, the end and the middle: a file can be 2^60 bytes long. */
static void walk_data(Walk *walk, const MapfsAttr *attr) {
    const uint64_t offsets[] = {0, attr->size / 2, attr->size > 5000 ? attr->size - 5000 : 0};

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(offsets); i++) {
        int n = mapfs_fs_read(walk->fs, attr->ino, offsets[i], walk->buffer, WALK_READ_MAX);

        note(walk, n);
        walk->result->n_bytes += n > 0 ? (uint64_t)n : 0;
    }
}

static void walk_directory(Walk *walk, uint64_t ino, unsigned depth);

static void walk_inode(Walk *walk, const MapfsAttr *attr, unsigned depth) {
    MapfsAttr again;
    char target[MAPFS_SYMLINK_LEN_MAX + 1];

    walk->result->n_inodes++;
    note(walk, mapfs_fs_getattr(walk->fs, attr->ino, &again));
    walk_xattrs(walk, attr->ino);
    if (S_ISREG(attr->mode))
        walk_data(walk, attr);
    if (S_ISLNK(attr->mode))
        note(walk, mapfs_fs_readlink(walk->fs, attr->ino, target));
    if (S_ISDIR(attr->mode) && depth < WALK_DEPTH_MAX)
        walk_directory(walk, attr->ino, depth + 1);
}

static void walk_directory(Walk *walk, uint64_t ino, unsigned depth) {
    g_autofree Entry *entries = g_new(Entry, WALK_NAMES_MAX);
    Listing listing = {.entries = entries};

    note(walk, mapfs_fs_readdir(walk->fs, ino, &(MapfsDirScan){0, false, keep_entry, &listing}));
    for (size_t i = 0; i < listing.n && walk->result->n_inodes < WALK_INODES_MAX; i++) {
        MapfsAttr attr;
        int r = mapfs_fs_lookup(walk->fs, ino, entries[i].name, entries[i].name_len, &attr);

        note(walk, r);
        if (r < 0)
            continue;
        walk_inode(walk, &attr, depth);
        mapfs_fs_forget(walk->fs, attr.ino, 1);
    }
}

void sample_walk(MapfsFs *fs, WalkResult *ret_result) {
    g_autofree uint8_t *buffer = g_malloc(WALK_READ_MAX);
    Walk walk = {.fs = fs, .result = ret_result, .buffer = buffer};
    MapfsFsStatus status;
    MapfsAttr root;
    int r;

    *ret_result = (WalkResult){0};
    mapfs_fs_statfs(fs, &status);
    r = mapfs_fs_getattr(fs, MAPFS_INO_ROOT, &root);
    note(&walk, r);
    if (r == 0)
        walk_inode(&walk, &root, 0);
}

/* --- changes --- */

typedef struct {
    MapfsFs *fs;
    Random *random;
    uint64_t directories[SAMPLE_DIRECTORIES_MAX];
    unsigned n_directories;
} Changer;

static uint64_t pick_directory(const Changer *changer) {
    return changer->directories[random_below(changer->random, changer->n_directories)];
}

static size_t pick_name(const Changer *changer, char name[32]) {
    return (size_t)snprintf(name, 32, "name-%u", (unsigned)random_below(changer->random, SAMPLE_NAMES));
}

/* Looks a random name up; 0 or -errno. The lookup is to be forgotten. */
static int pick_file(const Changer *changer, MapfsAttr *ret_attr) {
    char name[32];
    size_t len = pick_name(changer, name);

    return mapfs_fs_lookup(changer->fs, pick_directory(changer), name, len, ret_attr);
}

static void change_create(Changer *changer) {
    static const uint32_t types[] = {S_IFREG, S_IFREG, S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFCHR};
    MapfsNewInode made = {.mode = types[random_below(changer->random, MAPFS_N_ELEMENTS(types))] | 0644};
    char name[32], target[3000];
    size_t len = pick_name(changer, name);
    MapfsAttr attr;

    if (S_ISLNK(made.mode)) {
        memset(target, 'a', sizeof(target));
        made.target = target;
        made.target_len = 1 + random_below(changer->random, sizeof(target));
    }
    if (mapfs_fs_create(changer->fs, &(MapfsName){pick_directory(changer), name, len}, &made, &attr) < 0)
        return;
    if (S_ISDIR(made.mode) && changer->n_directories < SAMPLE_DIRECTORIES_MAX)
        changer->directories[changer->n_directories++] = attr.ino;
    mapfs_fs_forget(changer->fs, attr.ino, 1);
}

static void change_write(Changer *changer) {
    static const uint64_t lengths[] = {10, 1500, 5000, 40000};
    uint8_t data[40000];
    MapfsAttr attr;
    uint64_t offset;
    size_t len;

    if (pick_file(changer, &attr) < 0)
        return;
    len = 1 + random_below(changer->random, lengths[random_below(changer->random, MAPFS_N_ELEMENTS(lengths))]);
    offset = random_below(changer->random, 3) == 0 ? random_below(changer->random, 200000) : 0;
    memset(data, (int)random_next(changer->random), len);
    (void)!mapfs_fs_write(changer->fs, attr.ino, offset, data, len);
    mapfs_fs_forget(changer->fs, attr.ino, 1);
}

static void change_size(Changer *changer) {
    MapfsAttr attr, result;

    if (pick_file(changer, &attr) < 0)
        return;
    attr.size = random_below(changer->random, 2) ? random_below(changer->random, 100000) : attr.size / 2;
    (void)!mapfs_fs_setattr(changer->fs, attr.ino, MAPFS_SET_SIZE, &attr, &result);
    mapfs_fs_forget(changer->fs, attr.ino, 1);
}

/* A file, or a part of it, to another one or to the same. */
static void change_copy(Changer *changer) {
    MapfsAttr from, to;
    MapfsCopyRange range;
    uint64_t len;

    if (pick_file(changer, &from) < 0)
        return;
    if (pick_file(changer, &to) == 0) {
        range = (MapfsCopyRange){.from_ino = from.ino, .to_ino = to.ino, .len = UINT64_MAX};
        range.to_offset = random_below(changer->random, 4) * 5 * MAPFS_BLOCK_SIZE;
        range.from_offset = random_below(changer->random, 3) == 0 ? random_below(changer->random, 50000) : 0;
        (void)!mapfs_fs_copy_range(changer->fs, &range, 0, &len);
        mapfs_fs_forget(changer->fs, to.ino, 1);
    }
    mapfs_fs_forget(changer->fs, from.ino, 1);
}

static void change_xattr(Changer *changer) {
    uint8_t value[9000];
    char name[32];
    MapfsAttr attr;

    if (pick_file(changer, &attr) < 0)
        return;
    (void)snprintf(name, sizeof(name), "user.%u", (unsigned)random_below(changer->random, 6));
    memset(value, 'v', sizeof(value));
    if (random_below(changer->random, 3) == 0)
        (void)!mapfs_fs_removexattr(changer->fs, attr.ino, name);
    else
        (void)!mapfs_fs_setxattr(changer->fs, attr.ino, name,
                                 (MapfsBytes){value, random_below(changer->random, sizeof(value))}, 0);
    mapfs_fs_forget(changer->fs, attr.ino, 1);
}

/* A list of a few entries, or of several chunks. */
static void change_acl(Changer *changer) {
    unsigned n_users = (unsigned)random_below(changer->random, random_below(changer->random, 3) == 0 ? 480 : 5);
    const char *name = random_below(changer->random, 2) ? MAPFS_XATTR_ACL_ACCESS : MAPFS_XATTR_ACL_DEFAULT;
    uint8_t value[MAPFS_ACL_LEN_MAX];
    MapfsAcl acl = {.entries = {{ACL_USER_OBJ, 7, 0}}};
    MapfsAttr attr;

    for (acl.n_entries = 1; acl.n_entries <= n_users; acl.n_entries++)
        acl.entries[acl.n_entries] = (MapfsAclEntry){ACL_USER, 6, 1000 + acl.n_entries};
    acl.entries[acl.n_entries++] = (MapfsAclEntry){ACL_GROUP_OBJ, 5, 0};
    acl.entries[acl.n_entries++] = (MapfsAclEntry){ACL_MASK, (uint16_t)random_below(changer->random, 8), 0};
    acl.entries[acl.n_entries++] = (MapfsAclEntry){ACL_OTHER, 4, 0};
    if (pick_file(changer, &attr) < 0)
        return;
    (void)!mapfs_fs_setxattr(changer->fs, attr.ino, name, (MapfsBytes){value, mapfs_acl_format(&acl, value)}, 0);
    mapfs_fs_forget(changer->fs, attr.ino, 1);
}

static void change_names(Changer *changer) {
    char from[32], to[32];
    MapfsName old = {.parent = pick_directory(changer), .name = from, .name_len = pick_name(changer, from)};
    MapfsName new = {.parent = pick_directory(changer), .name = to, .name_len = pick_name(changer, to)};
    MapfsAttr attr;

    switch (random_below(changer->random, 4)) {
    case 0:
        (void)!mapfs_fs_unlink(changer->fs, old.parent, old.name, old.name_len);
        break;
    case 1:
        (void)!mapfs_fs_rmdir(changer->fs, old.parent, old.name, old.name_len);
        break;
    case 2:
        (void)!mapfs_fs_rename(changer->fs, &old, &new,
                               random_below(changer->random, 3) == 0 ? MAPFS_FS_RENAME_EXCHANGE : 0);
        break;
    default:
        if (mapfs_fs_lookup(changer->fs, old.parent, old.name, old.name_len, &attr) < 0)
            break;
        if (mapfs_fs_link(changer->fs, attr.ino, &(MapfsName){new.parent, new.name, new.name_len}, &attr) == 0)
            mapfs_fs_forget(changer->fs, attr.ino, 1);
        mapfs_fs_forget(changer->fs, attr.ino, 1);
        break;
    }
}

static int keep_directory(void *user, const MapfsDirEntry *entry) {
    Changer *changer = user;

    if (entry->type == DT_DIR && changer->n_directories < SAMPLE_DIRECTORIES_MAX)
        changer->directories[changer->n_directories++] = entry->ino;
    return 1;
}

void sample_change(MapfsFs *fs, Random *random, unsigned n_changes) {
    static void (*const changes[])(Changer *) = {change_create, change_create, change_write, change_write,
                                                 change_size,   change_copy,   change_xattr, change_acl,
                                                 change_names,  change_names};
    Changer changer = {.fs = fs, .random = random, .directories = {MAPFS_INO_ROOT}, .n_directories = 1};

    (void)!mapfs_fs_readdir(fs, MAPFS_INO_ROOT, &(MapfsDirScan){0, false, keep_directory, &changer});
    for (unsigned i = 0; i < n_changes; i++) {
        changes[random_below(random, MAPFS_N_ELEMENTS(changes))](&changer);
        if (random_below(random, 50) == 0)
            (void)!mapfs_fs_sync(fs);
    }
    (void)!mapfs_fs_reclaim(fs);
}

static void must(const char *what, int r) {
    if (r == 0)
        return;
    (void)fprintf(stderr, "%s an intact image: %s\n", what, strerror(-r));
    exit(2);
}

void sample_fill(MapfsImage *image, Random *random) {
    const MapfsFsFormat format = {.store = {.seed = random_next(random), .time = 1}, .root_mode = 0755};
    const MapfsStoreOptions options = {0};
    MapfsFs *fs;

    must("format", mapfs_fs_format(image, &format));
    for (unsigned i = 0; i < 3; i++) {
        must("open", mapfs_fs_open(image, &options, &fs));
        sample_change(fs, random, 120);
        must("sync", mapfs_fs_sync(fs));
        if (random_below(random, 2))
            mapfs_fs_abandon(fs);
        else
            must("close", mapfs_fs_close(fs));
    }
}
