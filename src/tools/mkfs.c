/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <glib.h>

#include "format/checksum.h"
#include "format/time.h"
#include "fs/fs.h"
#include "image/image.h"
#include "tools/messages.h"
#include "tools/number.h"
#include "tools/populate.h"
#include "tools/signature.h"
#include "tools/tool.h"

static const char program[] = "mkfs.mapfs";
static const char help[] =
    "Usage: mkfs.mapfs [OPTION...] IMAGE\n"
    "Makes a mapfs filesystem in IMAGE: a new sparse file, or an existing file or block device.\n"
    "\n"
    "  -s, --size SIZE        of the image, with K, M, G or T; needed for a new file\n"
    "  -L, --label LABEL      up to 64 bytes\n"
    "  -U, --uuid UUID        instead of a random one\n"
    "  -d, --directory DIR|TAR  fill it from a directory or an archive\n"
    "  -f, --force            even if IMAGE holds something already\n"
    "      --offset BYTES     where the image begins in the file (default 0)\n"
    "      --help             show this help\n"
    "\n"
    "With -U and $SOURCE_DATE_EPOCH the image of the same source is the same byte for byte each time.\n";

typedef struct {
    const char *path;
    const char *source; /* of -d */
    char *label;
    uint64_t size_bytes; /* 0: as large as the file */
    uint64_t offset_bytes;
    uint8_t uuid[MAPFS_UUID_LEN];
    bool has_uuid;
    bool force;
    bool is_new;   /* the file is made by this command, and goes if it fails */
    bool is_dated; /* $SOURCE_DATE_EPOCH is set */
    uint64_t time; /* disk time of everything that this command makes */
} Mkfs;

#define IMAGE_BYTES_MIN ((uint64_t)MAPFS_IMAGE_BLOCKS_MIN * MAPFS_BLOCK_SIZE)
#define IMAGE_BYTES_MAX (MAPFS_IMAGE_BLOCKS_MAX * MAPFS_BLOCK_SIZE)

/* Whether what is there may be overwritten: nobody uses it, and it is nothing known. False after a message. */
static bool mkfs_check_present(const Mkfs *mkfs) {
    const MapfsImageOpen how = {.offset_bytes = mkfs->offset_bytes, .exclusive = true, .wait_ms = MAPFS_WAIT_MS};
    const char *name;
    MapfsImage *image;
    int r;

    r = mapfs_image_open_file(mkfs->path, &how, &image);
    if (r == -ENODATA)
        return true; /* too short for anything */
    if (r < 0) {
        g_autofree char *message = mapfs_message_open(mkfs->path, mkfs->offset_bytes, r, NULL);
        mapfs_complain(program, "%s", message);
        return false;
    }
    name = mkfs->force ? NULL : mapfs_signature_lookup(image);
    mapfs_image_close(image);
    if (name)
        mapfs_complain(program, "%s: there is %s in it; -f overwrites it", mkfs->path, name);
    return !name;
}

static bool mkfs_check_size(const Mkfs *mkfs, uint64_t size_bytes) {
    g_autofree char *size = mapfs_message_size(size_bytes);

    if (size_bytes < IMAGE_BYTES_MIN) {
        g_autofree char *min = mapfs_message_size(IMAGE_BYTES_MIN);
        mapfs_complain(program, "%s: %s is too small for an image: the least is %s; give a larger size with -s",
                       mkfs->path, size, min);
        return false;
    }
    if (size_bytes > IMAGE_BYTES_MAX) {
        g_autofree char *max = mapfs_message_size(IMAGE_BYTES_MAX);
        mapfs_complain(program, "%s: %s is too large for an image: the most is %s", mkfs->path, size, max);
        return false;
    }
    return true;
}

/* Decides about the size, before anything is made or changed. */
static bool mkfs_prepare(Mkfs *mkfs) {
    struct stat st;

    if (mkfs->size_bytes > 0 && !mkfs_check_size(mkfs, mkfs->size_bytes))
        return false;
    if (stat(mkfs->path, &st) < 0) {
        if (errno != ENOENT) {
            mapfs_complain(program, "%s: %s", mkfs->path, strerror(errno));
            return false;
        }
        mkfs->is_new = true;
        if (mkfs->size_bytes == 0)
            mapfs_complain(program, "%s: a new image needs a size, as in -s 1G", mkfs->path);
        return mkfs->size_bytes > 0;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        mapfs_complain(program, "%s: neither a file nor a block device", mkfs->path);
        return false;
    }
    if (S_ISREG(st.st_mode) && st.st_size == 0 && mkfs->size_bytes == 0) {
        mapfs_complain(program, "%s: an empty file needs a size, as in -s 1G", mkfs->path);
        return false;
    }
    return mkfs_check_present(mkfs);
}

static bool mkfs_open(const Mkfs *mkfs, MapfsImage **ret_image) {
    const MapfsImageOpen how = {
        .offset_bytes = mkfs->offset_bytes,
        .exclusive = true,
        .create = true,
        .size_bytes = mkfs->size_bytes / MAPFS_BLOCK_SIZE * MAPFS_BLOCK_SIZE,
        .wait_ms = MAPFS_WAIT_MS,
    };
    int r;

    r = mapfs_image_open_file(mkfs->path, &how, ret_image);
    if (r == 0)
        return true;
    if (r == -EFBIG)
        mapfs_complain(program, "%s: the filesystem that it lies on cannot have a file of this size", mkfs->path);
    else if (r == -ENOENT)
        mapfs_complain(program, "%s: the directory does not exist", mkfs->path);
    else if (r == -ENOSPC)
        mapfs_complain(program, "%s: there is not enough room for that; for a device leave -s out to use all of it",
                       mkfs->path);
    if (r != -EFBIG && r != -ENOENT && r != -ENOSPC) {
        g_autofree char *message = mapfs_message_open(mkfs->path, mkfs->offset_bytes, r, NULL);
        mapfs_complain(program, "%s", message);
    }
    return false;
}

/* Uuid, seed and time: all chosen by the user give the same bytes each time. */
static bool mkfs_identity(const Mkfs *mkfs, MapfsFsFormat *format) {
    if (getrandom(format->store.uuid, sizeof format->store.uuid, 0) != (ssize_t)sizeof format->store.uuid ||
        getrandom(&format->store.seed, sizeof format->store.seed, 0) != (ssize_t)sizeof format->store.seed) {
        mapfs_complain(program, "the kernel gives no random numbers: %s", strerror(errno));
        return false;
    }
    /* Version 4, variant 1 of RFC 4122. */
    format->store.uuid[6] = (uint8_t)((format->store.uuid[6] & 0x0f) | 0x40);
    format->store.uuid[8] = (uint8_t)((format->store.uuid[8] & 0x3f) | 0x80);
    if (mkfs->has_uuid)
        memcpy(format->store.uuid, mkfs->uuid, sizeof mkfs->uuid);
    format->store.time = mkfs->time;
    if (mkfs->has_uuid && mkfs->is_dated)
        format->store.seed = mapfs_hash(mkfs->uuid, sizeof mkfs->uuid, mkfs->time);
    return true;
}

/* The time of the image: the clock's, or that of $SOURCE_DATE_EPOCH. */
static bool mkfs_set_time(Mkfs *mkfs) {
    const char *epoch = getenv("SOURCE_DATE_EPOCH");
    struct timespec now;
    uint64_t seconds;

    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    mkfs->is_dated = epoch != NULL;
    if (epoch) {
        if (!mapfs_number_parse(epoch, INT64_MAX / 1000000000, &seconds)) {
            mapfs_complain(program, "SOURCE_DATE_EPOCH: '%s' is not a number of seconds", epoch);
            return false;
        }
        now = (struct timespec){.tv_sec = (time_t)seconds};
    }
    mkfs->time = mapfs_time_from_timespec(now);
    return true;
}

static bool mkfs_format(const Mkfs *mkfs, MapfsImage *image) {
    MapfsFsFormat format = {.root_uid = getuid(), .root_gid = getgid(), .root_mode = 0755};
    int r;

    if (!mkfs_identity(mkfs, &format))
        return false;
    if (mkfs->label)
        memcpy(format.store.label, mkfs->label, strlen(mkfs->label));
    if (!mkfs->is_new) {
        r = mapfs_image_discard(image, (MapfsRun){.n_blocks = image->n_blocks});
        (void)r; /* old data only takes room; not every host can drop it */
    }
    r = mapfs_fs_format(image, &format);
    if (r == -ENOSPC)
        mapfs_complain(program, "%s: the filesystem that it lies on is full", mkfs->path);
    else if (r < 0)
        mapfs_complain(program, "%s: %s", mkfs->path, strerror(-r));
    return r == 0;
}

static bool mkfs_fill(const Mkfs *mkfs, MapfsImage *image) {
    /* A dated image must not depend on when a checkpoint by interval comes. */
    const MapfsStoreOptions options = {.threads = !mkfs->is_dated};
    g_autofree char *message = NULL;
    MapfsFs *fs;
    int r;
    int closed;

    r = mapfs_fs_open(image, &options, &fs);
    if (r < 0) {
        mapfs_complain(program, "%s: %s", mkfs->path, strerror(-r));
        return false;
    }
    if (mkfs->is_dated)
        mapfs_fs_set_time(fs, mkfs->time);
    r = mapfs_populate(fs, mkfs->source, &message);
    if (r < 0)
        mapfs_complain(program, "%s", message);
    closed = mapfs_fs_close(fs);
    if (r == 0 && closed < 0)
        mapfs_complain(program, "%s: %s", mkfs->path, strerror(-closed));
    return r == 0 && closed == 0;
}

static int mkfs_run(Mkfs *mkfs) {
    MapfsImage *image;
    bool good;

    if (!mkfs_set_time(mkfs) || !mkfs_prepare(mkfs))
        return MAPFS_EXIT_FAILURE;
    if (!mkfs_open(mkfs, &image)) {
        /* Perhaps the file was made and then could not be used. */
        if (mkfs->is_new)
            (void)unlink(mkfs->path);
        return MAPFS_EXIT_FAILURE;
    }
    good = mkfs_check_size(mkfs, image->n_blocks * MAPFS_BLOCK_SIZE) && mkfs_format(mkfs, image) &&
           (!mkfs->source || mkfs_fill(mkfs, image));
    mapfs_image_close(image);
    if (!good && mkfs->is_new)
        (void)unlink(mkfs->path);
    return good ? MAPFS_EXIT_OK : MAPFS_EXIT_FAILURE;
}

/* False after a message. */
static bool mkfs_set_option(Mkfs *mkfs, int option, char *value) {
    switch (option) {
    case 's':
        if (mapfs_size_parse(value, &mkfs->size_bytes) && mkfs->size_bytes > 0)
            return true;
        mapfs_complain(program, "'%s' is not a size, such as 500M, 10G or 1T", value);
        return false;
    case 'L':
        mkfs->label = value;
        if (strlen(value) <= MAPFS_LABEL_LEN && g_utf8_validate(value, -1, NULL))
            return true;
        mapfs_complain(program, "the label is longer than %u bytes, or not UTF-8", MAPFS_LABEL_LEN);
        return false;
    case 'U':
        mkfs->has_uuid = mapfs_uuid_parse(value, mkfs->uuid);
        if (!mkfs->has_uuid)
            mapfs_complain(program, "'%s' is not a uuid", value);
        return mkfs->has_uuid;
    case 'd':
        mkfs->source = value;
        return true;
    case 'f':
        mkfs->force = true;
        return true;
    case 'O':
        if (mapfs_size_parse(value, &mkfs->offset_bytes) && mkfs->offset_bytes % MAPFS_BLOCK_SIZE == 0)
            return true;
        mapfs_complain(program, "the offset '%s' is not a multiple of 4096 bytes", value);
        return false;
    default:
        g_assert_not_reached(); /* every option of the table is above */
    }
}

int mapfs_tool_mkfs(int argc, char **argv) {
    static const struct option options[] = {
        {"size", required_argument, NULL, 's'}, {"label", required_argument, NULL, 'L'},
        {"uuid", required_argument, NULL, 'U'}, {"directory", required_argument, NULL, 'd'},
        {"force", no_argument, NULL, 'f'},      {"offset", required_argument, NULL, 'O'},
        {"help", no_argument, NULL, 'h'},       {0},
    };
    Mkfs mkfs = {0};
    int option;

    while ((option = getopt_long(argc, argv, "s:L:U:d:f", options, NULL)) != -1) {
        if (option == 'h')
            return mapfs_usage_help(help);
        if (option == '?')
            return mapfs_usage_error(program);
        if (!mkfs_set_option(&mkfs, option, optarg))
            return MAPFS_EXIT_USAGE;
    }
    if (argc - optind != 1) {
        mapfs_complain(program, "one image is needed");
        return mapfs_usage_error(program);
    }
    mkfs.path = argv[optind];
    return mkfs_run(&mkfs);
}
