/* SPDX-License-Identifier: MIT */
#pragma once

/* What the passes of one check share. Nothing here outlives mapfs_check_run(). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "check/acl.h"
#include "check/check.h"
#include "check/used.h"
#include "check/vector.h"
#include "check/walk.h"
#include "format/items.h"
#include "format/node.h"
#include "format/superblock.h"

/* What is kept of each inode, in rising order of numbers. */
typedef struct {
    uint64_t ino;
    uint64_t parent; /* of a directory */
    uint32_t nlink;  /* as the inode says */
    uint32_t n_names;
    uint32_t n_subdirectories;
    uint8_t type;    /* DT_* */
    bool unlinked;   /* has an orphan item that says so */
    uint8_t visited; /* of a directory: see names.c */
} MapfsCheckInode;

/* What is kept of each directory entry. */
typedef struct {
    uint64_t ino;
    uint32_t directory; /* index of the directory's MapfsCheckInode */
    uint8_t type;
} MapfsCheckName;

typedef struct {
    uint64_t group;
    uint64_t address;
    uint64_t generation;
    uint32_t n_free;
} MapfsCheckGroup;

/* Work left over, as an orphan item says. */
typedef struct {
    uint64_t ino;
    uint64_t cut;
    uint32_t flags;
} MapfsCheckOrphan;

/* A written extent past the end of its file: right only if an orphan item's cut covers it. */
typedef struct {
    uint64_t ino;
    uint64_t logical;
} MapfsCheckBeyond;

/* Blocks that extents with MAPFS_EXTENT_SHARED refer to; see shared.c. */
typedef struct {
    uint64_t start, end;
    uint32_t n_refs;
} MapfsCheckCount;
typedef struct {
    MapfsVector starts, ends; /* of extents; uint64_t */
    MapfsVector counts;       /* items; MapfsCheckCount, in their order */
} MapfsCheckShared;

/* Names with one hash seen so far, of a directory or of the xattrs of an inode: at most as many as there are slots. */
typedef struct {
    uint64_t hash;
    unsigned n;
    uint8_t lengths[MAPFS_DIRENT_SLOTS];
    char names[MAPFS_DIRENT_SLOTS][MAPFS_NAME_LEN_MAX];
} MapfsCheckSameHash;

/* The inode whose items are being read. */
typedef struct {
    uint64_t object;
    bool exists;  /* its inode item was seen */
    bool stray;   /* items without inode were reported */
    bool damaged; /* an item was left out: its counts say nothing */
    uint32_t index;
    struct mapfs_disk_inode inode;
    uint8_t type;
    uint64_t n_blocks, extent_end;
    uint64_t n_inline_bytes;
    uint64_t n_entries, n_xattrs;
    uint64_t xattr_base, xattr_left; /* offset of chunk 0; bytes still to come */
    unsigned xattr_next;             /* chunk expected next */
} MapfsCheckCurrent;

typedef struct {
    MapfsImage *image;
    const MapfsCheckOptions *options;
    MapfsCheckReport *report;
    struct mapfs_disk_superblock superblock; /* in use, a copy */
    uint64_t n_blocks, generation, epoch, hash_seed, checksum_seed;
    MapfsUsed used;
    MapfsVector inodes, names, groups, orphans, beyond;
    MapfsCheckShared shared;
    MapfsCheckCurrent current;
    MapfsCheckSameHash same; /* of the current inode */
    MapfsAclReader acl;      /* the xattr being read, if it is a list */
    bool after_gap;          /* a part of the tree before the next item was left out */
} MapfsCheck;

/* Where a finding belongs. */
typedef struct {
    uint64_t block, object, ino;
} MapfsCheckPlace;

void mapfs_check_found(MapfsCheck *check, MapfsProblemNumber number, MapfsCheckPlace place, const char *format, ...)
    MAPFS_PRINTF(4, 5);
void mapfs_check_progress(MapfsCheck *check, const char *pass, uint64_t done, uint64_t total);

/* Marks a run as used by `what`; reports what lies outside the image or is used already. 1 when the run is wholly new, 0 when
 * something was reported, or -ENOMEM. */
int mapfs_check_claim(MapfsCheck *check, MapfsRun run, MapfsCheckPlace place, const char *what) MAPFS_MUST_USE;

/* The inode with this number, or NULL. */
MapfsCheckInode *mapfs_check_lookup_inode(const MapfsCheck *check, uint64_t ino);

/* The passes, in their order. 0 or -errno (out of memory); what they find is reported. */

/* Chooses the superblock: 1, or 0 when there is none and the check ends. */
int mapfs_check_superblocks(MapfsCheck *check) MAPFS_MUST_USE;
/* Reads the log after the superblock's head. */
void mapfs_check_log(MapfsCheck *check);
/* Walks the tree and hands each item to the two below. */
int mapfs_check_tree(MapfsCheck *check) MAPFS_MUST_USE;
/* Compares names, link counts, parents and orphans. */
void mapfs_check_names(MapfsCheck *check);
/* Compares the counts of shared blocks, and claims these. */
int mapfs_check_shared(MapfsCheck *check) MAPFS_MUST_USE;
/* Compares bitmaps, groups and counters with what is used. */
void mapfs_check_space(MapfsCheck *check);

/* An item of an inode; items come in the order of their keys. */
int mapfs_check_inode_item(MapfsCheck *check, const MapfsCheckItem *item) MAPFS_MUST_USE;
/* An item of a system object. */
int mapfs_check_system_item(MapfsCheck *check, const MapfsCheckItem *item) MAPFS_MUST_USE;
/* Blocks of an extent that says they may be shared, in the image; and an item that counts some. */
int mapfs_check_shared_extent(MapfsCheck *check, MapfsRun run) MAPFS_MUST_USE;
int mapfs_check_shared_item(MapfsCheck *check, const MapfsCheckItem *item) MAPFS_MUST_USE;
void mapfs_check_shared_clear(MapfsCheckShared *shared);
/* The items of the current inode are all seen. */
void mapfs_check_inode_finish(MapfsCheck *check);

/* The kinds of an inode's items that have files of their own. */
void mapfs_check_xattr_item(MapfsCheck *check, const MapfsCheckItem *item);
void mapfs_check_xattr_finish(MapfsCheck *check);
int mapfs_check_extent_item(MapfsCheck *check, const MapfsCheckItem *item) MAPFS_MUST_USE;
void mapfs_check_inline_item(MapfsCheck *check, const MapfsCheckItem *item);
int mapfs_check_dirent_item(MapfsCheck *check, const MapfsCheckItem *item) MAPFS_MUST_USE;

/* True when the name was seen with this hash before; keeps it. */
bool mapfs_check_same_name(MapfsCheckSameHash *same, uint64_t hash, const char *name, uint8_t name_len);
