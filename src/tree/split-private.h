/* SPDX-License-Identifier: MIT */
#pragma once

/* Splits: an item goes into a leaf without room for it, and pointers into the index nodes above as far as they are full. */

#include "tree/path-private.h"

/* Makes the change at the path's leaf, which is split. The path is made writable here. On failure the tree is as it was, copied
 * nodes aside: every block is allocated before the first change. */
int mapfs_split_store(MapfsTree *tree, MapfsPath *path, const MapfsLeafChange *change) MAPFS_MUST_USE;
