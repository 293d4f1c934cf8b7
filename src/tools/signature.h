/* SPDX-License-Identifier: MIT */
#pragma once

/* Recognizes what a file or device holds already, so that mkfs does not destroy it by mistake. */

#include <stdint.h>

#include "base/macros.h"

/* What begins at this offset of the file: 1 and a name such as "an ext2, ext3 or ext4 filesystem", 0 for nothing known, or -errno. */
int mapfs_signature_lookup(const char *path, uint64_t offset_bytes, const char **ret_name) MAPFS_MUST_USE;
