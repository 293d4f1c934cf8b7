/* SPDX-License-Identifier: MIT */
#pragma once

/* What the commands say to people: one line, which names the file, the cause, and the remedy if there is one. */

#include <stdint.h>

#include "base/macros.h"

/* Prints "PROGRAM: message" and a newline on stderr. */
void mapfs_complain(const char *program, const char *format, ...) MAPFS_PRINTF(2, 3);

/* For `--help` and wrong use: prints the text on stdout, or a hint on stderr; returns the exit status. */
int mapfs_usage_help(const char *text) MAPFS_MUST_USE;
int mapfs_usage_error(const char *program) MAPFS_MUST_USE;

/* Why the image at `path` could not be opened, for the errors of mapfs_image_open_file() and mapfs_store_open(). `fallback` is what else
 * could be tried when it may not be written ("mount it with -o ro"), or NULL. To be freed. */
char *mapfs_message_open(const char *path, uint64_t offset_bytes, int error, const char *fallback);

/* Who holds the image: "it is mounted at /mnt (daemon 1234)". To be freed. */
char *mapfs_message_holder(const char *path, uint64_t offset_bytes);

/* "1.5 GiB", for people. To be freed. */
char *mapfs_message_size(uint64_t bytes);
