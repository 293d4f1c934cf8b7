/* SPDX-License-Identifier: MIT */
#pragma once

/* Builds images item by item, without the engine, so that each rule of the format can be broken alone. */

#include <stdbool.h>
#include <stdint.h>

#include "check/check.h"
#include "format/items.h"
#include "format/node.h"
#include "format/superblock.h"
#include "image/image.h"

#define BUILD_ITEMS_MAX 128u
#define BUILD_BLOCKS 256u
#define BUILD_LOG_BLOCKS 16u
#define BUILD_BITMAP 18u /* block of the only bitmap */
#define BUILD_FIRST_NODE 20u
#define BUILD_FIRST_DATA 100u /* extents and pending frees lie from here on */
#define BUILD_GENERATION 7u
#define BUILD_EPOCH 9u
#define BUILD_HASH_SEED UINT64_C(0x1234567890abcdef)
#define BUILD_CHECKSUM_SEED UINT64_C(0xfedcba0987654321)

/* Inodes of the sample. */
#define SAMPLE_FILE 2u      /* "hello" and "sub/again": inline data, two xattrs, one of 5000 bytes */
#define SAMPLE_DATA 3u      /* "data": extents, a hole, an unwritten extent past its end */
#define SAMPLE_DIRECTORY 4u /* "sub" */
#define SAMPLE_SYMLINK 5u   /* "link": a target of 2000 bytes */
#define SAMPLE_FIFO 6u      /* "fifo" */
#define SAMPLE_UNLINKED 7u  /* no name, an orphan with one extent */
#define SAMPLE_CUT 8u       /* "sub/cut": truncated to nothing, an extent still to go */
#define SAMPLE_DEEP 9u      /* "sub/deep": a directory */
#define SAMPLE_INODES 9u

typedef struct {
    MapfsKey key;
    uint64_t len; /* 64 bits, so that the value is aligned */
    uint8_t value[MAPFS_VALUE_LEN_MAX + 8];
} BuildItem;

typedef struct {
    BuildItem items[BUILD_ITEMS_MAX];
    unsigned n_items;
    unsigned items_per_leaf, pointers_per_node; /* smaller than what fits makes a deeper tree */
    uint64_t leak, unmark;                      /* blocks to mark, or not to, against the truth; 0 for none */
    bool without_bitmap;
    struct mapfs_disk_superblock superblock; /* root, counters and checksum are filled in by build_image() */
} Build;

/* The sample, valid. */
void build_init(Build *build);

void build_put(Build *build, MapfsKey key, const void *value, size_t len); /* adds or replaces */
void build_remove(Build *build, MapfsKey key);
BuildItem *build_find(Build *build, MapfsKey key);

/* The inode's value, to be changed. */
struct mapfs_disk_inode *build_inode(Build *build, uint64_t ino);
void build_add_inode(Build *build, uint64_t ino, uint32_t mode, uint32_t nlink);
void build_add_name(Build *build, uint64_t directory, const char *name, uint64_t ino, uint8_t type);
MapfsKey build_name_key(const Build *build, uint64_t directory, const char *name);
void build_add_extent(Build *build, uint64_t ino, uint64_t logical, uint64_t block, uint32_t n_blocks);
void build_add_pending(Build *build, uint64_t generation, uint64_t block, uint32_t n_blocks);
void build_add_xattr(Build *build, uint64_t ino, const char *name, const char *value, size_t value_len);

/* An anonymous image of BUILD_BLOCKS blocks with the items. To be closed. */
MapfsImage *build_image(Build *build);

/* Blocks of a built image, to be changed; then sealed again. */
void *image_block(MapfsImage *image, uint64_t block);
struct mapfs_disk_superblock *image_superblock(MapfsImage *image);
void image_reseal_superblock(MapfsImage *image);

/* What the checker says of it. */
MapfsCheckReport image_check(MapfsImage *image);
void image_report_assert_clean(const MapfsCheckReport *report);

/* cmocka's, for tests that take a sample as their state. */
int build_setup(void **state);
int build_teardown(void **state);
