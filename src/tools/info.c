/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <glib.h>

#include "base/error.h"
#include "control/client.h"
#include "format/time.h"
#include "image/image.h"
#include "tools/facts.h"
#include "tools/messages.h"
#include "tools/number.h"
#include "tools/superblock.h"
#include "tools/tool.h"

static const char program[] = "mapfs info";
static const char help[] = "Usage: mapfs info [--json] [--offset BYTES] IMAGE|MOUNTPOINT\n"
                           "Tells about an image, mounted or not, or about a mount.\n"
                           "\n"
                           "      --json             as one JSON object\n"
                           "      --offset BYTES     where the image begins in the file (default 0)\n"
                           "  -h, --help             show this help\n";

static void facts_add_identity(MapfsFacts *facts, const uint8_t *uuid, const char *label) {
    char text[37];

    mapfs_uuid_print(uuid, text);
    mapfs_facts_text(facts, "uuid", "UUID", text);
    mapfs_facts_text(facts, "label", *label ? "Label" : NULL, label);
}

/* What of the image is in use, and what the host could have back. The host keeps a pool for the next changes. */
static void facts_add_use(MapfsFacts *facts, uint64_t live_bytes, uint64_t host_allocated) {
    mapfs_facts_bytes(facts, "live_bytes", "Live", live_bytes);
    if (host_allocated == UINT64_MAX) /* a device */
        return;
    mapfs_facts_bytes(facts, "host_allocated_bytes", "Allocated on the host", host_allocated);
    mapfs_facts_bytes(facts, "reclaimable_bytes", "Reclaimable",
                      host_allocated - MAPFS_MIN(host_allocated, live_bytes));
}

/* What a running mount says of itself. */
static void facts_add_mount(MapfsFacts *facts, const struct mapfs_control_info *info) {
    const uint64_t block = MAPFS_BLOCK_SIZE;

    mapfs_facts_number(facts, "pid", "Daemon", info->pid);
    mapfs_facts_text(facts, "daemon_version", NULL, info->version);
    mapfs_facts_text(facts, "view", "View", info->view);
    mapfs_facts_text(facts, "cache", "Cache", info->cache);
    mapfs_facts_time(facts, "mount_time", "Mounted since", (int64_t)info->start_time);
    if (info->error < 0)
        mapfs_facts_text(facts, "error", "Takes no changes",
                         info->error == -EUCLEAN ? "damage was found; unmount, and run fsck.mapfs"
                                                 : strerror(-info->error));
    facts_add_identity(facts, info->uuid, info->label);
    mapfs_facts_bytes(facts, "size_bytes", "Size", info->n_blocks * block);
    mapfs_facts_bytes(facts, "free_bytes", "Free", info->n_free * block);
    mapfs_facts_bytes(facts, "available_bytes", "Available", info->n_available * block);
    mapfs_facts_bytes(facts, "pending_bytes", "Freed, in use until the next checkpoint", info->n_pending * block);
    mapfs_facts_bytes(facts, "reserve_bytes", "Reserve", info->n_reserve * block);
    facts_add_use(facts, (info->n_blocks - MAPFS_MIN(info->n_blocks, info->n_free + info->n_pending)) * block,
                  info->host_allocated);
    if (info->host_free != UINT64_MAX)
        mapfs_facts_bytes(facts, "host_free_bytes", "Free on the host", info->host_free);
    mapfs_facts_number(facts, "inodes", "Inodes", info->n_inodes);
    mapfs_facts_number(facts, "generation", "Generation", info->durable_generation);
    mapfs_facts_number(facts, "checkpoints", "Checkpoints since mount", info->n_checkpoints);
}

/* What lies in the image. */
static void facts_add_superblock(MapfsFacts *facts, const struct mapfs_disk_superblock *superblock,
                                 uint64_t host_allocated) {
    const uint64_t n_free = mapfs_le64_load(superblock->n_free_blocks);
    const uint64_t n_pending = mapfs_le64_load(superblock->n_pending_blocks);
    const uint64_t block = MAPFS_BLOCK_SIZE, n_blocks = mapfs_le64_load(superblock->n_blocks);
    char label[MAPFS_LABEL_LEN + 1] = {0};

    memcpy(label, superblock->label, MAPFS_LABEL_LEN);
    facts_add_identity(facts, superblock->uuid, label);
    mapfs_facts_number(facts, "format_version", "Format", mapfs_le32_load(superblock->version));
    mapfs_facts_number(facts, "block_size", "Block size", mapfs_le32_load(superblock->block_size));
    mapfs_facts_bytes(facts, "size_bytes", "Size", n_blocks * block);
    mapfs_facts_bytes(facts, "free_bytes", "Free", n_free * block);
    mapfs_facts_bytes(facts, "pending_bytes", "Freed, in use until the next checkpoint", n_pending * block);
    facts_add_use(facts, (n_blocks - MAPFS_MIN(n_blocks, n_free + n_pending)) * block, host_allocated);
    mapfs_facts_bytes(facts, "log_bytes", "Log", mapfs_le64_load(superblock->log_blocks) * block);
    mapfs_facts_number(facts, "inodes", "Inodes", mapfs_le64_load(superblock->n_inodes));
    mapfs_facts_number(facts, "generation", "Generation", mapfs_le64_load(superblock->generation));
    mapfs_facts_bool(facts, "clean", "Unmounted in order", mapfs_le64_load(superblock->flags) & MAPFS_SUPERBLOCK_CLEAN);
    mapfs_facts_number(facts, "feature_compat", NULL, mapfs_le64_load(superblock->feature_compat));
    mapfs_facts_number(facts, "feature_ro_compat", NULL, mapfs_le64_load(superblock->feature_ro_compat));
    mapfs_facts_number(facts, "feature_incompat", NULL, mapfs_le64_load(superblock->feature_incompat));
    mapfs_facts_time(facts, "mkfs_time", "Made", mapfs_time_to_timespec(mapfs_le64_load(superblock->mkfs_time)).tv_sec);
    mapfs_facts_time(facts, "write_time", "Written",
                     mapfs_time_to_timespec(mapfs_le64_load(superblock->write_time)).tv_sec);
}

static int info_of_mount(MapfsFacts *facts, const MapfsMountEntry *entry) {
    struct mapfs_control_info info;
    int r;

    r = mapfs_control_info(entry->point, &info);
    if (r < 0) {
        g_autofree char *message = mapfs_message_control(entry, entry->point, r);
        mapfs_complain(program, "%s", message);
        return MAPFS_EXIT_FAILURE;
    }
    mapfs_facts_text(facts, "image", "Image", info.source);
    if (info.offset_bytes > 0)
        mapfs_facts_bytes(facts, "offset_bytes", "Offset in the file", info.offset_bytes);
    mapfs_facts_text(facts, "state", NULL, "mounted");
    mapfs_facts_text(facts, "mountpoint", "Mounted at", entry->point);
    mapfs_facts_text(facts, "mount_options", "Mount options", entry->options);
    facts_add_mount(facts, &info);
    return MAPFS_EXIT_OK;
}

/* Who uses the image, as far as it can be told. */
static void facts_add_holder(MapfsFacts *facts, const char *path, uint64_t offset_bytes) {
    g_autofree char *holder = NULL;
    g_autofree char *point = NULL;
    int pid = 0;

    if (mapfs_image_holder(path, offset_bytes, &pid) != 1) {
        mapfs_facts_text(facts, "state", "State", "not in use");
        return;
    }
    holder = mapfs_message_holder_at(path, offset_bytes, &point);
    mapfs_facts_text(facts, "state", "State", holder);
    if (pid > 0)
        mapfs_facts_number(facts, "pid", NULL, (uint64_t)pid);
    if (point)
        mapfs_facts_text(facts, "mountpoint", NULL, point);
}

/* What its host knows of the image. */
static void facts_add_host(MapfsFacts *facts, const char *path, uint64_t offset_bytes, uint64_t n_blocks,
                           uint64_t *ret_allocated) {
    const MapfsImageOpen how = {.offset_bytes = offset_bytes, .read_only = true};
    MapfsImage *image;

    *ret_allocated = UINT64_MAX;
    if (mapfs_image_open_file(path, &how, &image) < 0)
        return;
    *ret_allocated = mapfs_image_host_allocated(image);
    if (image->n_blocks < n_blocks)
        mapfs_facts_bytes(facts, "missing_bytes", "Truncated, missing at its end",
                          (n_blocks - image->n_blocks) * MAPFS_BLOCK_SIZE);
    mapfs_image_close(image);
}

/* What an orderly unmount has left is there until the first checkpoint of the next mount. */
static void superblock_note_writer(struct mapfs_disk_superblock *superblock, const char *path, uint64_t offset_bytes) {
    const uint64_t flags = mapfs_le64_load(superblock->flags);

    if (mapfs_image_is_written(path, offset_bytes) == 1)
        superblock->flags = mapfs_le64_store(flags & ~MAPFS_SUPERBLOCK_CLEAN);
}

static int info_of_image(MapfsFacts *facts, const char *path, uint64_t offset_bytes) {
    struct mapfs_disk_superblock superblock;
    uint64_t host_allocated;
    int r;

    r = mapfs_superblock_read(path, offset_bytes, &superblock);
    if (r < 0) {
        g_autofree char *message = mapfs_message_open(path, offset_bytes, r, NULL);
        mapfs_complain(program, "%s", message);
        return MAPFS_EXIT_FAILURE;
    }
    superblock_note_writer(&superblock, path, offset_bytes);
    mapfs_facts_text(facts, "image", "Image", path);
    facts_add_holder(facts, path, offset_bytes);
    facts_add_host(facts, path, offset_bytes, mapfs_le64_load(superblock.n_blocks), &host_allocated);
    facts_add_superblock(facts, &superblock, host_allocated);
    return MAPFS_EXIT_OK;
}

/* A directory is a mount point; anything else an image. The mount table is asked first, since the daemon may be dead. */
static int info_run(const char *path, uint64_t offset_bytes, bool as_json) {
    MapfsFacts *facts = mapfs_facts_new();
    MapfsMountEntry entry;
    struct stat st;
    int status;

    if (mapfs_mount_lookup_point(path, &entry) == 1) {
        status = info_of_mount(facts, &entry);
        mapfs_mount_entry_clear(&entry);
    } else if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
        g_autofree char *message = mapfs_message_no_mount(path, 0);
        mapfs_complain(program, "%s", message);
        status = MAPFS_EXIT_FAILURE;
    } else {
        status = info_of_image(facts, path, offset_bytes);
    }
    if (status == MAPFS_EXIT_OK)
        mapfs_facts_print(facts, as_json);
    mapfs_facts_free(facts);
    return status;
}

int mapfs_tool_info(int argc, char **argv) {
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'},
        {"offset", required_argument, NULL, 'O'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    uint64_t offset_bytes = 0;
    bool as_json = false;
    int option;

    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h')
            return mapfs_usage_help(help);
        if (option == '?')
            return mapfs_usage_error(program);
        if (option == 'j')
            as_json = true;
        else if (!mapfs_size_parse(optarg, &offset_bytes) || offset_bytes % MAPFS_BLOCK_SIZE != 0) {
            mapfs_complain(program, "the offset '%s' is not a multiple of 4096 bytes", optarg);
            return MAPFS_EXIT_USAGE;
        }
    }
    if (argc - optind != 1) {
        mapfs_complain(program, "one image or mount point is needed");
        return mapfs_usage_error(program);
    }
    return info_run(argv[optind], offset_bytes, as_json);
}
