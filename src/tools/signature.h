/* SPDX-License-Identifier: MIT */
#pragma once

/* Recognizes what a file or device holds already, so that mkfs does not destroy it by mistake. */

#include "image/image.h"

/* What begins in the image, such as "an ext2, ext3 or ext4 filesystem", or NULL for nothing known. */
const char *mapfs_signature_lookup(const MapfsImage *image);
