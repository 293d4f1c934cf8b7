/* SPDX-License-Identifier: MIT */
#pragma once

/* The options of -o, for `mapfs mount` and the helpers of mount(8). */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "view/view.h"

typedef struct {
    MapfsViewKind view;
    bool read_only;
    bool remount; /* of what is mounted already */
    bool busy_poll;
    MapfsDiscard discard;
    bool cache_writeback;
    bool damage_read_only;
    unsigned commit_seconds; /* 0: the default */
    uint64_t offset_bytes;
    int64_t uid, gid; /* -1: as they are */
    char *fuse;       /* what libfuse and the kernel are given, comma separated, or NULL */
    char *fixed;      /* the names of those that only a new daemon could change, comma separated, each once, or NULL */
    unsigned long flags;         /* those of mount(2), as far as options set them */
    unsigned long flags_cleared; /* as far as options clear them */
} MapfsMountOptions;

void mapfs_mount_options_init(MapfsMountOptions *options);
void mapfs_mount_options_clear(MapfsMountOptions *options);

/* Takes a comma-separated list (a backslash keeps a comma from separating); later ones win. With `sloppy` unknown options are ignored. NULL,
 * or what is wrong, to be freed. */
char *mapfs_mount_options_parse(MapfsMountOptions *options, const char *list, bool sloppy) MAPFS_MUST_USE;

/* The flags of mount(2) that a list of options of a mounted filesystem stands for, as in a MapfsMountEntry: those of the mount and those of its
 * filesystem follow each other, and a flag of either counts ("ro,nosuid,rw" is read-only). */
unsigned long mapfs_mount_options_flags(const char *list) MAPFS_MUST_USE;

/* The text of --help. */
extern const char mapfs_mount_options_help[];
