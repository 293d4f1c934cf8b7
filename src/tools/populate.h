/* SPDX-License-Identifier: MIT */
#pragma once

/* Fills a filesystem from a directory or an archive, for mkfs.mapfs -d. */

#include <stdint.h>
#include <sys/stat.h>

#include "base/macros.h"
#include "fs/fs.h"

/* Whether the tree at `source` can be read, as far as that can be known before it is: asked before an image is overwritten. `image`: the file that is
 * to be filled, or NULL when there is none yet. 0, or -errno after *ret_message (to be freed) was set. */
int mapfs_populate_check(const char *source, const struct stat *image, char **ret_message) MAPFS_MUST_USE;

/* Copies the tree at `source` (a directory, or a tar or other archive that libarchive reads) into the root directory, with owners, modes, times,
 * hard links, devices, extended attributes, access control lists and holes. A file of a directory that is the one of `image` is left out, and
 * said to be on stderr. 0, or -errno after *ret_message (to be freed) was set. */
int mapfs_populate(MapfsFs *fs, const char *source, const struct stat *image, char **ret_message) MAPFS_MUST_USE;
