/* SPDX-License-Identifier: MIT */
#pragma once

/* Prints what lies in the tree, for mapfs dump. The bytes must have passed mapfs_node_check_layout() or mapfs_item_check(). */

#include <stddef.h>
#include <stdio.h>

#include "format/key.h"
#include "format/superblock.h"

/* One line: the key, and the value in words. */
void mapfs_dump_item(FILE *out, MapfsKey key, const void *value, size_t value_len);

void mapfs_dump_superblock(FILE *out, const struct mapfs_disk_superblock *superblock);
