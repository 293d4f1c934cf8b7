/* SPDX-License-Identifier: MIT */
#pragma once

/* What an image holds, inode by inode, as hashes: to tell what a damaged image has lost, without any code of the filesystem itself. */

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

#include "image/image.h"

typedef struct {
    uint64_t ino;
    uint32_t nlink;
    uint64_t attributes; /* what stat tells but for links and blocks, and the xattrs */
    uint64_t data;       /* bytes, holes being zeros; targets */
    uint64_t entries;    /* of a directory; lost+found aside */
} ManifestInode;

/* A block that holds something of an inode. */
typedef struct {
    uint64_t ino, start, n_blocks;
    bool is_data; /* else a leaf */
} ManifestBlock;

typedef struct {
    GArray *inodes; /* ManifestInode, in rising order */
    GArray *blocks; /* ManifestBlock */
} Manifest;

/* Reads an image that has nothing wrong with it; exits when it cannot. */
void manifest_load(Manifest *manifest, MapfsImage *image);
void manifest_clear(Manifest *manifest);

/* The inode with this number, or NULL. */
const ManifestInode *manifest_lookup(const Manifest *manifest, uint64_t ino);

/* True when the block holds something of the inode. */
bool manifest_touches(const Manifest *manifest, uint64_t ino, uint64_t block, bool is_data);
