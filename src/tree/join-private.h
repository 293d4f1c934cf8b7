/* SPDX-License-Identifier: MIT */
#pragma once

/* Joins: nodes that run low take in a neighbour, empty ones go, and the root shrinks. Needs no block. */

#include "tree/path-private.h"

/* Tidies the writable path of an item that was removed from its leaf. Cannot fail: a neighbour that cannot be read is left
 * alone, and the tree is right without any join. */
void mapfs_join_path(MapfsTree *tree, MapfsPath *path);
