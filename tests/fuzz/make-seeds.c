/* SPDX-License-Identifier: MIT */

/* Makes the seeds of the corpus: small images with content of every kind. The same ones each time.
 *
 *     make-seeds DIRECTORY */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <glib.h>

#include "input.h"
#include "sample.h"

#define PACKED_MAX (4u << 20)
/* Some day in 2020, in disk time. */
#define SEED_TIME (UINT64_C(3725000000) * 1000000000)

static void must(const char *what, bool good) {
    if (good)
        return;
    (void)fprintf(stderr, "make-seeds: %s failed\n", what);
    exit(1);
}

static uint64_t create(MapfsFs *fs, const char *name, uint32_t mode) {
    const char *target = "abcdefgh/0123456789";
    MapfsNewInode made = {.mode = mode | 0644};
    MapfsAttr attr;

    if (S_ISLNK(mode)) {
        made.target = target;
        made.target_len = strlen(target);
    }
    must("create", mapfs_fs_create(fs, &(MapfsName){MAPFS_INO_ROOT, name, strlen(name)}, &made, &attr) == 0);
    return attr.ino;
}

static void write_at(MapfsFs *fs, uint64_t ino, uint64_t offset, size_t len, char value) {
    g_autofree char *data = g_malloc(len);

    memset(data, value, len);
    must("write", mapfs_fs_write(fs, ino, offset, data, len) == (int)len);
}

/* Enough names for index nodes. */
static void fill_names(MapfsFs *fs) {
    for (unsigned i = 0; i < 260; i++) {
        char name[32];

        (void)snprintf(name, sizeof(name), "file-with-a-name-%u", i);
        mapfs_fs_forget(fs, create(fs, name, i % 40 == 0 ? S_IFDIR : S_IFREG), 1);
    }
}

/* Extended attributes of many chunks, a target of three, content in the tree. */
static void fill_attributes(MapfsFs *fs) {
    uint64_t file = create(fs, "a0", S_IFREG);
    g_autofree char *bytes = g_malloc(65536);
    MapfsAttr attr;

    memset(bytes, 'x', 65536);
    write_at(fs, file, 0, 1000, 'i');
    for (unsigned i = 0; i < 6; i++) {
        char name[16];

        (void)snprintf(name, sizeof(name), "user.%u", i);
        must("setxattr", mapfs_fs_setxattr(fs, file, name, (MapfsBytes){bytes, i * i * 500}, 0) == 0);
    }
    must("symlink",
         mapfs_fs_create(fs, &(MapfsName){MAPFS_INO_ROOT, "a1", 2},
                         &(MapfsNewInode){.mode = S_IFLNK | 0777, .target = bytes, .target_len = 4000}, &attr) == 0);
    mapfs_fs_forget(fs, create(fs, "a2", S_IFLNK), 1);
    mapfs_fs_forget(fs, create(fs, "a3", S_IFCHR), 1);
}

/* A file of many extents, one that is unlinked and in use, and one that was cut. */
static void fill_extents(MapfsFs *fs) {
    uint64_t sparse = create(fs, "b0", S_IFREG), gone = create(fs, "b1", S_IFREG), cut = create(fs, "b2", S_IFREG);
    MapfsAttr attr = {.size = 10000};

    for (unsigned i = 0; i < 90; i++) {
        write_at(fs, sparse, i * UINT64_C(8192), 100, 'e');
        write_at(fs, gone, i * UINT64_C(8192), 4096, 0);
    }
    write_at(fs, sparse, UINT64_C(1) << 50, 10, 'f');
    write_at(fs, cut, 0, 60000, 0);
    must("truncate", mapfs_fs_setattr(fs, cut, MAPFS_SET_SIZE, &attr, &attr) == 0);
    must("unlink", mapfs_fs_unlink(fs, MAPFS_INO_ROOT, "b1", 2) == 0);
}

/* Most of the first group, so that the second has something too. */
static void fill_groups(MapfsFs *fs) {
    uint64_t large = create(fs, "c0", S_IFREG);

    for (uint64_t i = 0; i < 120; i++)
        write_at(fs, large, i << 20, 1u << 20, 0);
    write_at(fs, large, 3000, 100, 'g');
    write_at(fs, create(fs, "c1", S_IFREG), 0, 300000, 0);
}

static void copy_range(MapfsFs *fs, uint64_t from, uint64_t to, uint64_t to_offset) {
    const MapfsCopyRange range = {.from_ino = from, .to_ino = to, .to_offset = to_offset, .len = UINT64_MAX};
    uint64_t len;

    must("copy_range", mapfs_fs_copy_range(fs, &range, 0, &len) == 0 && len > 0);
}

/* Blocks that two and three files have, parts of which are overwritten, and an unlinked one that is in use. */
static void fill_shared(MapfsFs *fs) {
    uint64_t files[4];
    MapfsAttr attr = {.size = 21000};

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(files); i++) {
        char name[8];

        (void)snprintf(name, sizeof(name), "e%u", i);
        files[i] = create(fs, name, S_IFREG);
    }
    for (unsigned i = 0; i < 12; i++)
        write_at(fs, files[0], i * UINT64_C(12288), 8192, 0);
    copy_range(fs, files[0], files[1], 0);
    copy_range(fs, files[0], files[2], 40960);
    copy_range(fs, files[2], files[2], 1u << 20);
    copy_range(fs, files[1], files[3], 0);
    write_at(fs, files[1], 30000, 100, 's');
    must("truncate", mapfs_fs_setattr(fs, files[2], MAPFS_SET_SIZE, &attr, &attr) == 0);
    must("unlink", mapfs_fs_unlink(fs, MAPFS_INO_ROOT, "e3", 2) == 0);
}

/* Unwritten extents, before and past the end of files, partly written; and holes. */
static void fill_unwritten(MapfsFs *fs) {
    uint64_t file = create(fs, "f0", S_IFREG), kept = create(fs, "f1", S_IFREG);

    must("allocate", mapfs_fs_allocate(fs, file, 0, (MapfsIoRange){0, 200000}) == 0);
    write_at(fs, file, 50000, 9000, 0);
    must("punch", mapfs_fs_allocate(fs, file, MAPFS_ALLOCATE_PUNCH | MAPFS_ALLOCATE_KEEP_SIZE,
                                    (MapfsIoRange){100000, 30000}) == 0);
    write_at(fs, kept, 0, 5000, 'k');
    must("allocate", mapfs_fs_allocate(fs, kept, MAPFS_ALLOCATE_KEEP_SIZE, (MapfsIoRange){0, 100000}) == 0);
    must("zero", mapfs_fs_allocate(fs, kept, MAPFS_ALLOCATE_ZERO, (MapfsIoRange){1000, 3000}) == 0);
    must("tmpfile",
         mapfs_fs_tmpfile(fs, MAPFS_INO_ROOT, &(MapfsNewInode){.mode = S_IFREG | 0600}, &(MapfsAttr){0}) == 0);
}

/* Access control lists that are inherited, a capability, flags, a whiteout. */
static void fill_lists(MapfsFs *fs) {
    static const uint8_t list[] = {2, 0,   0,   0,   1,   0,   7,  0, 255, 255, 255, 255, 2,   0,  5,
                                   0, 100, 0,   0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16, 0,
                                   7, 0,   255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255};
    static const uint8_t capability[20] = {1, 0, 0, 2};
    uint64_t dir = create(fs, "g0", S_IFDIR), file = create(fs, "g1", S_IFREG);
    MapfsAttr attr = {.flags = MAPFS_INODE_APPEND, .project = 7};

    must("default list",
         mapfs_fs_setxattr(fs, dir, "system.posix_acl_default", (MapfsBytes){list, sizeof(list)}, 0) == 0);
    must("list", mapfs_fs_setxattr(fs, file, "system.posix_acl_access", (MapfsBytes){list, sizeof(list)}, 0) == 0);
    must("capability",
         mapfs_fs_setxattr(fs, file, "security.capability", (MapfsBytes){capability, sizeof(capability)}, 0) == 0);
    must("create",
         mapfs_fs_create(fs, &(MapfsName){dir, "h0", 2}, &(MapfsNewInode){.mode = S_IFDIR | 0755}, &attr) == 0);
    must("create",
         mapfs_fs_create(fs, &(MapfsName){dir, "h1", 2}, &(MapfsNewInode){.mode = S_IFREG | 0644}, &attr) == 0);
    must("whiteout", mapfs_fs_rename_whiteout(fs, &(MapfsName){dir, "h1", 2}, &(MapfsName){MAPFS_INO_ROOT, "g2", 2}, 0,
                                              &(MapfsNewInode){.mode = S_IFCHR}) == 0);
    attr = (MapfsAttr){.flags = MAPFS_INODE_APPEND, .project = 7};
    must("flags", mapfs_fs_setattr(fs, file, MAPFS_SET_FLAGS | MAPFS_SET_PROJECT, &attr, &attr) == 0);
}

/* Content in so many leaves that the index nodes are full. */
static void fill_leaves(MapfsFs *fs) {
    for (unsigned i = 0; i < 240; i++) {
        char name[8];

        (void)snprintf(name, sizeof(name), "i%u", i);
        write_at(fs, create(fs, name, S_IFREG), 0, 1500, 'l');
    }
}

static void fill_nothing(MapfsFs *fs) {
    (void)fs;
}

static void fill_mixed(MapfsFs *fs) {
    Random random = {.state = 77};

    sample_change(fs, &random, 150);
}

/* Until nothing fits any more. */
static void fill_full(MapfsFs *fs) {
    uint64_t large = create(fs, "d0", S_IFREG);
    uint8_t zeros[4096] = {0};

    for (uint64_t i = 0; mapfs_fs_write(fs, large, i * 8192, zeros, sizeof(zeros)) > 0; i++)
        continue;
}

typedef struct {
    const char *name;
    uint64_t n_blocks;
    void (*fill)(MapfsFs *fs);
    bool killed; /* ends without an orderly close */
} Seed;

static const Seed seeds[] = {
    {"empty", 256, fill_nothing, false},         {"names", 400, fill_names, false},
    {"attributes", 300, fill_attributes, false}, {"extents", 600, fill_extents, true},
    {"groups", 33000, fill_groups, false},       {"mixed", 512, fill_mixed, false},
    {"mixed-killed", 512, fill_mixed, true},     {"full", 300, fill_full, true},
    {"shared", 500, fill_shared, true},          {"unwritten", 500, fill_unwritten, true},
    {"lists", 300, fill_lists, false},           {"leaves", 900, fill_leaves, true},
};

static void store_seed(const MapfsImage *image, const char *directory, const char *name) {
    /* Discards and reclaims; then each operation once. */
    static const uint8_t script[] = {3,  0,  0,  0,  0,  1,  40, 2,  9,  2,  40, 5,  3, 3,  41, 0,  140, 5,
                                     40, 45, 0,  4,  42, 0,  0,  11, 16, 1,  8,  12, 1, 2,  5,  13, 1,   0,
                                     1,  14, 45, 46, 0,  15, 47, 5,  1,  16, 1,  9,  0, 10, 1,  0,  11};
    g_autofree char *path = g_strdup_printf("%s/seed-%s.img", directory, name);
    g_autofree uint8_t *packed = g_malloc(PACKED_MAX);
    FuzzInput *input = fuzz_input_new();
    size_t len;

    must("from_image", fuzz_input_from_image(input, image));
    memcpy(input->script, script, sizeof(script));
    input->script_len = sizeof(script);
    len = fuzz_input_pack(input, packed, PACKED_MAX);
    must("pack", len > 0);
    must("storing the seed", g_file_set_contents(path, (const char *)packed, (gssize)len, NULL));
    fuzz_input_free(input);
}

static void make_seed(const Seed *seed, const char *directory) {
    const MapfsFsFormat format = {.store = {.seed = 5, .time = SEED_TIME}, .root_mode = 0755};
    const MapfsStoreOptions options = {.discard = true};
    MapfsImage *image;
    MapfsFs *fs;

    must("open_anonymous", mapfs_image_open_anonymous(seed->n_blocks, &image) == 0);
    must("format", mapfs_fs_format(image, &format) == 0);
    must("open", mapfs_fs_open(image, &options, &fs) == 0);
    mapfs_fs_set_time(fs, SEED_TIME);
    seed->fill(fs);
    must("sync", mapfs_fs_sync(fs) == 0);
    if (seed->killed)
        mapfs_fs_abandon(fs);
    else
        must("close", mapfs_fs_close(fs) == 0);
    store_seed(image, directory, seed->name);
    mapfs_image_close(image);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        (void)fprintf(stderr, "usage: make-seeds DIRECTORY\n");
        return 2;
    }
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(seeds); i++)
        make_seed(&seeds[i], argv[1]);
    return 0;
}
