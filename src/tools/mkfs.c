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
#include "tools/superblock.h"
#include "tools/tool.h"

static const char program[] = "mkfs.mapfs";
static const char help[] =
    "Usage: mkfs.mapfs [OPTION...] IMAGE\n"
    "Makes a mapfs filesystem in IMAGE: a new sparse file, or an existing file or block device.\n"
    "\n"
    "  -s, --size SIZE        of the image, with K, M, G, T or P; needed for a new file\n"
    "  -L, --label LABEL      up to 64 bytes\n"
    "  -U, --uuid UUID        instead of a random one\n"
    "  -d, --directory DIR|TAR  fill it from a directory or an archive\n"
    "  -f, --force            even if IMAGE holds something already\n"
    "      --offset BYTES     where the image begins in the file (default 0)\n"
    "  -h, --help             show this help\n"
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

/* What is known at the beginning of the file, other than a partition table, or NULL. */
static const char *mkfs_lookup_enclosing(const Mkfs *mkfs) {
    const MapfsImageOpen how = {.read_only = true};
    const char *name;
    MapfsImage *image;

    if (mapfs_image_open_file(mkfs->path, &how, &image) < 0)
        return NULL;
    name = mapfs_signature_lookup(image);
    mapfs_image_close(image);
    return name && !g_str_has_prefix(name, "a partition table") ? name : NULL;
}

/* Waits for a holder of the image at another offset that is about to let go. False after a message. */
static bool mkfs_wait_busy(const Mkfs *mkfs, uint64_t offset_bytes) {
    const MapfsImageOpen how = {.offset_bytes = offset_bytes, .exclusive = true, .wait_ms = MAPFS_WAIT_MS};
    g_autofree char *holder = NULL;
    MapfsImage *image;

    if (mapfs_image_open_file(mkfs->path, &how, &image) == 0) {
        mapfs_image_close(image);
        return true;
    }
    holder = mapfs_message_holder(mkfs->path, offset_bytes);
    mapfs_complain(program, "%s: a mapfs image in it, at offset %" PRIu64 ", is busy: %s", mkfs->path, offset_bytes,
                   holder);
    return false;
}

/* Whether the image at this offset, which is in use, ends before the new one. One that cannot be read may reach anywhere. */
static bool mkfs_ends_before(const Mkfs *mkfs, uint64_t offset_bytes) {
    struct mapfs_disk_superblock superblock;

    return mapfs_superblock_read(mkfs->path, offset_bytes, &superblock) == 0 &&
           mapfs_le64_load(superblock.n_blocks) <= (mkfs->offset_bytes - offset_bytes) / MAPFS_BLOCK_SIZE;
}

/* No image that is in use and begins in [start, end), which does not hold the new one's own offset, may overlap with the new one; its lock is
 * another. False after a message. */
static bool mkfs_check_busy(const Mkfs *mkfs, uint64_t start_bytes, uint64_t end_bytes) {
    uint64_t found;
    int r;

    while ((r = mapfs_image_holder_between(mkfs->path, start_bytes, end_bytes, &found)) == 1) {
        if (found < mkfs->offset_bytes && mkfs_ends_before(mkfs, found)) {
            /* Any one of several was told. */
            if (!mkfs_check_busy(mkfs, start_bytes, found))
                return false;
            start_bytes = found + MAPFS_BLOCK_SIZE;
        } else if (!mkfs_wait_busy(mkfs, found)) {
            return false;
        }
    }
    if (r < 0) {
        g_autofree char *message = mapfs_message_open(mkfs->path, mkfs->offset_bytes, r, NULL);
        mapfs_complain(program, "%s", message);
    }
    return r == 0;
}

/* An image at an offset must not be made in the midst of a filesystem that begins before it, at the file's first byte. False after a
 * message. */
static bool mkfs_check_enclosing(const Mkfs *mkfs, uint64_t file_bytes) {
    const char *name;

    if (mkfs->offset_bytes == 0 || mkfs->offset_bytes >= file_bytes || mkfs->force || mkfs_ends_before(mkfs, 0))
        return true;
    name = mkfs_lookup_enclosing(mkfs);
    if (name)
        mapfs_complain(program, "%s: there is %s at its beginning, which the offset may lie in; -f overwrites it",
                       mkfs->path, name);
    return !name;
}

/* False after a message. */
static bool mkfs_check_others(const Mkfs *mkfs, uint64_t file_bytes) {
    uint64_t end_bytes = file_bytes;

    if (mkfs->size_bytes > 0 && __builtin_add_overflow(mkfs->offset_bytes, mkfs->size_bytes, &end_bytes))
        end_bytes = UINT64_MAX;
    end_bytes = end_bytes / MAPFS_BLOCK_SIZE * MAPFS_BLOCK_SIZE;
    return mkfs_check_busy(mkfs, 0, mkfs->offset_bytes) &&
           mkfs_check_busy(mkfs, mkfs->offset_bytes + MAPFS_BLOCK_SIZE, end_bytes) &&
           mkfs_check_enclosing(mkfs, file_bytes) && mkfs_check_present(mkfs);
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
        if (errno != ENOENT || *mkfs->path == '\0') {
            g_autofree char *message = mapfs_message_open(mkfs->path, mkfs->offset_bytes, -errno, NULL);
            mapfs_complain(program, "%s", message);
            return false;
        }
        /* A device that is not there, rather than a file that fills the memory behind /dev. */
        if (g_str_has_prefix(mkfs->path, "/dev/") && !g_str_has_prefix(mkfs->path, "/dev/shm/")) {
            mapfs_complain(program, "%s: there is no such device", mkfs->path);
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
    if (S_ISREG(st.st_mode) && mkfs->size_bytes == 0 &&
        !mkfs_check_size(mkfs, (uint64_t)st.st_size - MAPFS_MIN((uint64_t)st.st_size, mkfs->offset_bytes)))
        return false;
    return mkfs_check_others(mkfs, S_ISBLK(st.st_mode) ? UINT64_MAX : (uint64_t)st.st_size);
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
        mapfs_complain(program, "%s: the filesystem that it lies on, or ulimit -f, does not allow a file of this size",
                       mkfs->path);
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
    struct stat st;
    MapfsFs *fs;
    int r;
    int synced;
    int closed;

    if (stat(mkfs->path, &st) < 0) {
        mapfs_complain(program, "%s: %s", mkfs->path, strerror(errno));
        return false;
    }
    r = mapfs_fs_open(image, &options, &fs);
    if (r < 0) {
        mapfs_complain(program, "%s: %s", mkfs->path, strerror(-r));
        return false;
    }
    if (mkfs->is_dated)
        mapfs_fs_set_time(fs, mkfs->time);
    r = mapfs_populate(fs, mkfs->source, &st, &message);
    if (r < 0)
        mapfs_complain(program, "%s", message);
    /* Entries that others have replaced are to be gone, whoever reclaims. */
    if (r == 0)
        r = mapfs_fs_reclaim(fs);
    if (r < 0 && !message)
        mapfs_complain(program, "%s: %s", mkfs->path, strerror(-r));
    /* Here and at the end: should the newest superblock be damaged, the one before must not show an empty filesystem. */
    synced = r == 0 ? mapfs_fs_sync(fs) : 0;
    closed = mapfs_fs_close(fs);
    if (r == 0 && (synced < 0 || closed < 0))
        mapfs_complain(program, "%s: %s", mkfs->path, strerror(synced < 0 ? -synced : -closed));
    return r == 0 && synced == 0 && closed == 0;
}

/* A source that is mistyped must not cost what the image holds. False after a message. */
static bool mkfs_check_source(const Mkfs *mkfs) {
    g_autofree char *message = NULL;
    struct stat st;

    if (!mkfs->source || mapfs_populate_check(mkfs->source, stat(mkfs->path, &st) == 0 ? &st : NULL, &message) == 0)
        return true;
    mapfs_complain(program, "%s", message);
    return false;
}

static int mkfs_run(Mkfs *mkfs) {
    MapfsImage *image;
    bool good;

    if (!mkfs_set_time(mkfs) || !mkfs_check_source(mkfs) || !mkfs_prepare(mkfs))
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
static bool mkfs_set_offset(Mkfs *mkfs, const char *value) {
    if (!mapfs_size_parse(value, &mkfs->offset_bytes) || mkfs->offset_bytes % MAPFS_BLOCK_SIZE != 0) {
        mapfs_complain(program, "the offset '%s' is not a multiple of 4096 bytes", value);
        return false;
    }
    if (mkfs->offset_bytes >= MAPFS_IMAGE_OFFSET_LIMIT) {
        g_autofree char *limit = mapfs_message_size(MAPFS_IMAGE_OFFSET_LIMIT);
        mapfs_complain(program, "the offset '%s' is too large: an image begins before %s of its file", value, limit);
        return false;
    }
    return true;
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
        return mkfs_set_offset(mkfs, value);
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

    while ((option = getopt_long(argc, argv, "s:L:U:d:fh", options, NULL)) != -1) {
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
