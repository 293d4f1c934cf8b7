/* SPDX-License-Identifier: MIT */

/* Operations by the bytes of a script: four each, what is done and to whom. Names are those that the image has, and a few new ones. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <glib.h>

#include "target.h"

#define NAMES_MAX 96u
#define NAMES_NEW 16u
#define DIRECTORIES_MAX 12u
#define HELD_MAX 8u
#define DATA_LEN (1024u * 1024u)

typedef struct {
    char name[256];
    size_t len;
} Name;

typedef struct {
    MapfsFs *fs;
    uint8_t a, b, c; /* of the operation */
    Name *names;     /* NAMES_MAX */
    unsigned n_names;
    uint64_t directories[DIRECTORIES_MAX];
    unsigned n_directories;
    uint64_t held[HELD_MAX]; /* looked up and not forgotten yet; 0: none */
    uint8_t *data;           /* DATA_LEN */
} Operations;

/* --- whom --- */

static int collect_entry(void *user, const MapfsDirEntry *entry) {
    Operations *all = user;

    if (entry->cookie <= 2)
        return 1;
    if (all->n_names < NAMES_MAX && entry->name_len <= 255) {
        Name *name = &all->names[all->n_names++];

        memcpy(name->name, entry->name, entry->name_len);
        name->len = entry->name_len;
    }
    if (entry->type == 4 && all->n_directories < DIRECTORIES_MAX)
        all->directories[all->n_directories++] = entry->ino;
    return all->n_names < NAMES_MAX;
}

static void collect(Operations *all) {
    for (unsigned i = 0; i < NAMES_NEW; i++) {
        Name *name = &all->names[all->n_names++];

        name->len = (size_t)snprintf(name->name, sizeof(name->name), "%c%u", 'a' + (int)(i / 4), i % 4);
    }
    all->directories[all->n_directories++] = MAPFS_INO_ROOT;
    for (unsigned i = 0; i < all->n_directories; i++)
        (void)!mapfs_fs_readdir(all->fs, all->directories[i], &(MapfsDirScan){0, false, collect_entry, all});
}

static MapfsName name_of(const Operations *all, uint8_t index) {
    const Name *name = &all->names[index % all->n_names];

    return (MapfsName){all->directories[index / 7 % all->n_directories], name->name, name->len};
}

/* The inode of a name, looked up; 0 if there is none. */
static uint64_t inode_of(const Operations *all, uint8_t index) {
    MapfsName name = name_of(all, index);
    MapfsAttr attr;

    return mapfs_fs_lookup(all->fs, name.parent, name.name, name.name_len, &attr) < 0 ? 0 : attr.ino;
}

static uint64_t size_of(uint8_t byte) {
    static const uint64_t sizes[] = {0,     1,       100,   1536,  1537,     4095,       4096,
                                     4097,  8192,    40000, 65536, 1u << 20, 1ULL << 30, (1ULL << 60) - 4096,
                                     12345, 1u << 21};

    return sizes[byte % MAPFS_N_ELEMENTS(sizes)] + (byte >> 4);
}

/* --- what --- */

static void do_create(Operations *all) {
    static const uint32_t types[] = {S_IFREG, S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFCHR, S_IFSOCK, S_IFREG};
    MapfsNewInode made = {.mode = types[all->b % MAPFS_N_ELEMENTS(types)] | 0644, .rdev_major = 1};
    MapfsName name = name_of(all, all->a);
    MapfsAttr attr;

    if (S_ISLNK(made.mode)) {
        made.target = (const char *)all->data;
        made.target_len = 1 + (size_t)all->c * 16;
    }
    if (mapfs_fs_create(all->fs, &name, &made, &attr) < 0)
        return;
    if (S_ISDIR(made.mode) && all->n_directories < DIRECTORIES_MAX)
        all->directories[all->n_directories++] = attr.ino;
    mapfs_fs_forget(all->fs, attr.ino, 1);
}

static void do_write(Operations *all) {
    uint64_t ino = inode_of(all, all->a);

    if (ino == 0)
        return;
    (void)!mapfs_fs_write(all->fs, ino, size_of(all->b), all->data, MAPFS_MIN(size_of(all->c), DATA_LEN));
    mapfs_fs_forget(all->fs, ino, 1);
}

static void do_read(Operations *all) {
    g_autofree uint8_t *buffer = g_malloc(DATA_LEN);
    uint64_t ino = inode_of(all, all->a);

    if (ino == 0)
        return;
    (void)!mapfs_fs_read(all->fs, ino, size_of(all->b), buffer, MAPFS_MIN(size_of(all->c), DATA_LEN));
    mapfs_fs_forget(all->fs, ino, 1);
}

static void do_setattr(Operations *all) {
    uint64_t ino = inode_of(all, all->a);
    MapfsAttr attr = {.size = size_of(all->c), .mode = all->c, .uid = all->c, .gid = all->c}, result;

    if (ino == 0)
        return;
    (void)!mapfs_fs_setattr(all->fs, ino, all->b % 2 ? MAPFS_SET_SIZE : all->b, &attr, &result);
    mapfs_fs_forget(all->fs, ino, 1);
}

static void do_xattr(Operations *all) {
    static const char *const names[] = {"user.0", "user.1", "user.2", "user.3", "security.capability", "trusted.x"};
    const char *name = names[all->b % MAPFS_N_ELEMENTS(names)];
    size_t len = all->c < 128 ? all->c : ((size_t)all->c - 127) * 512;
    uint64_t ino = inode_of(all, all->a);

    if (ino == 0)
        return;
    if (all->b & 0x80)
        (void)!mapfs_fs_removexattr(all->fs, ino, name);
    else
        (void)!mapfs_fs_setxattr(all->fs, ino, name, (MapfsBytes){all->data, len}, all->b >> 4 & 3);
    mapfs_fs_forget(all->fs, ino, 1);
}

static void do_unlink(Operations *all) {
    MapfsName name = name_of(all, all->a);

    if (mapfs_fs_unlink(all->fs, name.parent, name.name, name.name_len) == -EISDIR)
        (void)!mapfs_fs_rmdir(all->fs, name.parent, name.name, name.name_len);
}

static void do_rename(Operations *all) {
    MapfsName from = name_of(all, all->a), to = name_of(all, all->b);

    (void)!mapfs_fs_rename(all->fs, &from, &to, all->c % 4);
}

static void do_link(Operations *all) {
    MapfsName to = name_of(all, all->b);
    uint64_t ino = inode_of(all, all->a);
    MapfsAttr attr;

    if (ino == 0)
        return;
    if (mapfs_fs_link(all->fs, ino, &to, &attr) == 0)
        mapfs_fs_forget(all->fs, ino, 1);
    mapfs_fs_forget(all->fs, ino, 1);
}

/* An inode that is in use beyond the end of its last name. */
static void do_hold(Operations *all) {
    uint64_t *held = &all->held[all->b % HELD_MAX];

    if (*held != 0)
        mapfs_fs_forget(all->fs, *held, 1);
    *held = inode_of(all, all->a);
}

static void do_held(Operations *all) {
    uint64_t ino = all->held[all->b % HELD_MAX];
    MapfsAttr attr = {.size = size_of(all->c)}, result;

    if (ino == 0)
        return;
    if (all->a % 2)
        (void)!mapfs_fs_setattr(all->fs, ino, MAPFS_SET_SIZE, &attr, &result);
    else
        (void)!mapfs_fs_write(all->fs, ino, size_of(all->c), all->data, 5000);
}

/* Blocks of one file in another one, or elsewhere in the same. */
static void do_copy(Operations *all) {
    uint64_t from = inode_of(all, all->a), to = inode_of(all, all->b), len;
    MapfsCopyRange range = {.from_ino = from,
                            .from_offset = size_of(all->c & 7) & ~UINT64_C(15),
                            .to_ino = to,
                            .to_offset = size_of(all->c >> 4) & ~UINT64_C(15),
                            .len = all->c & 8 ? UINT64_MAX : 70000};

    if (from != 0 && to != 0)
        (void)!mapfs_fs_copy_range(all->fs, &range, all->c & 1 ? MAPFS_WRITE_FLAG_KILL_PRIV : 0, &len);
    if (from != 0)
        mapfs_fs_forget(all->fs, from, 1);
    if (to != 0)
        mapfs_fs_forget(all->fs, to, 1);
}

static void do_allocate(Operations *all) {
    static const unsigned modes[] = {0,
                                     MAPFS_ALLOCATE_KEEP_SIZE,
                                     MAPFS_ALLOCATE_PUNCH | MAPFS_ALLOCATE_KEEP_SIZE,
                                     MAPFS_ALLOCATE_ZERO,
                                     MAPFS_ALLOCATE_ZERO | MAPFS_ALLOCATE_KEEP_SIZE,
                                     MAPFS_ALLOCATE_PUNCH | MAPFS_ALLOCATE_KEEP_SIZE | MAPFS_ALLOCATE_KILL_PRIV};
    uint64_t ino = inode_of(all, all->a);

    if (ino == 0)
        return;
    (void)!mapfs_fs_allocate(all->fs, ino, modes[all->b % MAPFS_N_ELEMENTS(modes)],
                             (MapfsIoRange){size_of(all->b >> 3), (size_t)size_of(all->c)});
    mapfs_fs_forget(all->fs, ino, 1);
}

/* Through all data and holes, as cp(1) goes; in a damaged file too it must end. */
static void do_seek(Operations *all) {
    uint64_t ino = inode_of(all, all->a), offset = size_of(all->b);
    MapfsSeek what = all->c % 2 ? MAPFS_SEEK_DATA : MAPFS_SEEK_HOLE;

    for (unsigned i = 0; ino != 0 && i < 200; i++) {
        uint64_t found;

        if (mapfs_fs_seek(all->fs, ino, offset, what, &found) < 0)
            break;
        if (found < offset)
            fuzz_fail("a seek from %lu goes back to %lu", (unsigned long)offset, (unsigned long)found);
        offset = found;
        what = what == MAPFS_SEEK_DATA ? MAPFS_SEEK_HOLE : MAPFS_SEEK_DATA;
    }
    if (ino != 0)
        mapfs_fs_forget(all->fs, ino, 1);
}

static void do_whiteout(Operations *all) {
    const MapfsNewInode whiteout = {.mode = S_IFCHR};
    MapfsName from = name_of(all, all->a), to = name_of(all, all->b);

    (void)!mapfs_fs_rename_whiteout(all->fs, &from, &to, all->c % 2, &whiteout);
}

static void do_tmpfile(Operations *all) {
    const MapfsNewInode made = {.mode = S_IFREG | 0640, .umask = 022};
    MapfsName name = name_of(all, all->a);
    MapfsAttr attr, linked;

    if (mapfs_fs_tmpfile(all->fs, name.parent, &made, &attr) < 0)
        return;
    (void)!mapfs_fs_write(all->fs, attr.ino, 0, all->data, MAPFS_MIN(size_of(all->b), DATA_LEN));
    if (all->c % 2 && mapfs_fs_link(all->fs, attr.ino, &name, &linked) == 0)
        mapfs_fs_forget(all->fs, attr.ino, 1);
    mapfs_fs_forget(all->fs, attr.ino, 1);
}

/* Access control lists in the kernel's form: with named users, without, none, and some that are no lists. */
static void do_acl(Operations *all) {
    static const uint8_t minimal[] = {2, 0, 0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 4,   0,
                                      4, 0, 255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255};
    static const uint8_t named[] = {2, 0,   0,   0,   1,   0,   7,  0, 255, 255, 255, 255, 2,   0,  5,
                                    0, 100, 0,   0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16, 0,
                                    7, 0,   255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255};
    const char *name = all->b % 2 ? "system.posix_acl_access" : "system.posix_acl_default";
    MapfsBytes value = {named, sizeof(named)};
    uint64_t ino = inode_of(all, all->a);
    MapfsAttr attr = {.mode = all->c, .flags = all->c, .project = all->b}, result;

    if (all->c % 4 == 1)
        value = (MapfsBytes){minimal, sizeof(minimal)};
    if (all->c % 4 == 2)
        value.len = all->c % sizeof(named);
    if (ino == 0)
        return;
    (void)!mapfs_fs_setxattr(all->fs, ino, name, value, all->b & 4);
    if (all->b & 8)
        (void)!mapfs_fs_setattr(all->fs, ino, MAPFS_SET_MODE, &attr, &result);
    if (all->b & 16)
        (void)!mapfs_fs_setattr(all->fs, ino, MAPFS_SET_FLAGS | MAPFS_SET_PROJECT, &attr, &result);
    mapfs_fs_forget(all->fs, ino, 1);
}

static void do_whole(Operations *all) {
    switch (all->a % 4) {
    case 0:
        (void)!mapfs_fs_reclaim(all->fs);
        break;
    case 1:
        (void)!mapfs_store_make_room(mapfs_fs_store(all->fs));
        break;
    default:
        (void)!mapfs_fs_sync(all->fs);
        break;
    }
}

void fuzz_operations_run(MapfsFs *fs, const uint8_t *script, size_t len) {
    static void (*const operations[])(Operations *) = {
        do_create, do_write, do_setattr, do_xattr,    do_unlink, do_rename,   do_link,    do_hold, do_held,
        do_whole,  do_read,  do_copy,    do_allocate, do_seek,   do_whiteout, do_tmpfile, do_acl};
    g_autofree Name *names = g_new(Name, NAMES_MAX);
    g_autofree uint8_t *data = g_malloc(DATA_LEN);
    Operations all = {.fs = fs, .names = names, .data = data};

    memset(data, 'd', DATA_LEN);
    collect(&all);
    for (size_t at = 0; at + 4 <= len; at += 4) {
        all.a = script[at + 1];
        all.b = script[at + 2];
        all.c = script[at + 3];
        operations[script[at] % MAPFS_N_ELEMENTS(operations)](&all);
    }
    for (unsigned i = 0; i < HELD_MAX; i++) {
        if (all.held[i] != 0)
            mapfs_fs_forget(fs, all.held[i], 1);
    }
}
