/* SPDX-License-Identifier: MIT */
#pragma once

/* A command's side of protocol.h, and the table of mounts. */

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"
#include "control/protocol.h"

/* One line of a mount table; the strings are the owner's. */
typedef struct {
    char *point;   /* absolute */
    char *type;    /* such as fuse.mapfs */
    char *source;  /* the image's absolute path */
    char *device;  /* MAJOR:MINOR, its own as long as it is mounted anywhere */
    char *options; /* of the mount and of its filesystem */
} MapfsMountEntry;

void mapfs_mount_entry_clear(MapfsMountEntry *entry);

/* The topmost mapfs mount at a mount point: 1 and the entry, 0 when there is none. `path` need not be absolute; neither it nor
 * anything below it is opened, so that a mount without its daemon cannot hang or fail the question. -errno. */
int mapfs_mount_lookup_point(const char *path, MapfsMountEntry *ret_entry) MAPFS_MUST_USE;

/* A mapfs mount of an image (absolute path) in the mount namespace of a process (0: this one): 1, 0 or -errno. */
int mapfs_mount_lookup_source(int pid, const char *source, MapfsMountEntry *ret_entry) MAPFS_MUST_USE;

/* The mount that a daemon serves, whatever its image is called by now: 1, the entry, and a process whose mount namespace it is in (0: it is in this
 * one); 0 for none, as far as one may look. */
int mapfs_mount_lookup_daemon(int pid, int *ret_space, MapfsMountEntry *ret_entry) MAPFS_MUST_USE;

/* A process in whose mount namespace this mount is there (still), as far as one may look: 1 and the pid, 0 for none. */
int mapfs_mount_lookup_elsewhere(const MapfsMountEntry *entry, int *ret_pid) MAPFS_MUST_USE;

/* Where an overlay is mounted that has a directory at or below `point` (absolute) as one of its layers: 1 and its mount point, to be freed, or
 * 0. The kernel keeps such a filesystem after its mount is gone, and does not call it busy. */
int mapfs_mount_lookup_overlay(const char *point, char **ret_overlay) MAPFS_MUST_USE;

/* Asks the daemon that serves a mount point. -ENOTCONN: it is gone. -ENOTTY: not a mapfs mount. Others as open(2). */
int mapfs_control_info(const char *point, struct mapfs_control_info *ret_info) MAPFS_MUST_USE;
int mapfs_control_sync(const char *point) MAPFS_MUST_USE;
