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
};

static void store_seed(const MapfsImage *image, const char *directory, const char *name) {
    /* Discards and reclaims; then a few operations. */
    static const uint8_t script[] = {3, 0, 0, 0, 0, 1, 40, 2, 9, 2, 40, 5, 3, 3, 41, 0, 140, 5, 40, 45, 0, 4, 42, 0, 0};
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
