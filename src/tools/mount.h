/* SPDX-License-Identifier: MIT */
#pragma once

/* One mount as it was asked for on a command line, for `mapfs mount` and for the helper of mount(8). */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "tools/mount-options.h"

typedef struct {
    const char *program;
    const char *image, *point; /* as given */
    const char *space; /* file of the mount namespace to mount in (the image is looked for in the caller's), or NULL */
    bool foreground;
    bool
        flags_are_complete; /* mount(8) hands over all flags that a remount is to leave, and not only those that change */
    MapfsMountOptions options;
} MapfsMountRequest;

void mapfs_mount_request_init(MapfsMountRequest *request, const char *program);
void mapfs_mount_request_clear(MapfsMountRequest *request);

/* Reads the list of an option -o. False after a message. */
bool mapfs_mount_request_add_options(MapfsMountRequest *request, const char *list, bool sloppy) MAPFS_MUST_USE;

/* Takes the two names behind the options, from optind on. False after a message. */
bool mapfs_mount_request_take_names(MapfsMountRequest *request, int argc, char **argv) MAPFS_MUST_USE;

/* Mounts, or changes what is mounted, and returns the exit status. In the process that serves the mount it returns when that ends. */
int mapfs_mount_request_run(const MapfsMountRequest *request) MAPFS_MUST_USE;

/* Runs the program again with `image` in the place of the request's, and one more option unless it is NULL. Returns when that
 * was not possible. */
void mapfs_mount_request_rerun(const MapfsMountRequest *request, const char *image, const char *option);

/* Changes the flags of what is mounted at the request's mount point. The exit status. */
int mapfs_remount(const MapfsMountRequest *request) MAPFS_MUST_USE;

/* Goes to another mount namespace with the calling thread alone. -errno. */
int mapfs_mount_space_enter(const char *path) MAPFS_MUST_USE;
