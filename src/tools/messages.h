/* SPDX-License-Identifier: MIT */
#pragma once

/* What the commands say to people: one line, which names the file, the cause, and the remedy if there is one. */

#include <stdint.h>

#include "base/macros.h"
#include "control/client.h"

/* A name may hold line ends and escape sequences of terminals: control characters as octal digits behind a backslash, so that a line stays
 * one. To be freed. */
char *mapfs_message_printable(const char *text);

/* Prints "PROGRAM: message" and a newline on stderr, printable. */
void mapfs_complain(const char *program, const char *format, ...) MAPFS_PRINTF(2, 3);

/* For `--help` and wrong use: prints the text on stdout, or a hint on stderr; returns the exit status. */
int mapfs_usage_help(const char *text) MAPFS_MUST_USE;
int mapfs_usage_error(const char *program) MAPFS_MUST_USE;

/* Why the image at `path` could not be opened, for the errors of mapfs_image_open_file() and mapfs_store_open(). `fallback` is what else
 * could be tried when it may not be written ("mount it with -o ro"), or NULL. To be freed. */
char *mapfs_message_open(const char *path, uint64_t offset_bytes, int error, const char *fallback);

/* Why the daemon behind a mount did not answer, for the errors of mapfs_control_info() and mapfs_control_sync(). `given` is the mount point as
 * its user named it. To be freed. */
char *mapfs_message_control(const MapfsMountEntry *entry, const char *given, int error);

/* Why there is no mount to talk to, for the errors of mapfs_mount_lookup_point(), or 0: it found none. `path` is as its user named it. To be
 * freed. */
char *mapfs_message_no_mount(const char *path, int error);

/* The user who made a mount, as /proc/mounts tells it; -1 when it does not. */
int64_t mapfs_mount_owner(const MapfsMountEntry *entry) MAPFS_MUST_USE;

/* Who holds the image: "it is mounted at /mnt (daemon 1234)". To be freed. */
char *mapfs_message_holder(const char *path, uint64_t offset_bytes);

/* The same; *ret_point is where it is mounted, if that can be told and this process could unmount it there, else NULL. To be freed, too. */
char *mapfs_message_holder_at(const char *path, uint64_t offset_bytes, char **ret_point);

/* "1.5 GiB", for people. To be freed. */
char *mapfs_message_size(uint64_t bytes);
