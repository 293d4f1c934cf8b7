/* SPDX-License-Identifier: MIT */
#pragma once

/* What the steps of one repair share. Their order is that of the declarations below. */

#include <stddef.h>

#include "base/types.h"
#include "check/acl.h"
#include "check/used.h"
#include "check/vector.h"
#include "check/walk.h"
#include "format/items.h"
#include "format/superblock.h"
#include "repair/repair.h"
#include "txn/rescue.h"

/* A state that a superblock names, as far as a walk could see it. */
typedef struct {
    struct mapfs_disk_superblock superblock;
    unsigned slot;
    bool is_valid;
    MapfsUsed nodes;      /* its sound tree nodes */
    MapfsVector gaps;     /* MapfsWalkRange: what unusable nodes should hold, in order */
    MapfsVector groups;   /* RepairGroup, in order */
    uint64_t n_bad_items; /* in sound nodes */
} RepairState;

typedef struct {
    uint64_t group, n_free;
    MapfsNodeRef bitmap;
    bool is_kept; /* its bitmap is right and stays */
} RepairGroup;

/* What is kept of each inode, in rising order of numbers. */
typedef struct {
    uint64_t ino;
    uint64_t parent;    /* of a directory, as stored */
    uint64_t named_in;  /* of a directory: the one whose entry for it is kept, 0 if none is */
    uint64_t n_entries; /* of a directory: entries kept */
    uint64_t size;      /* as stored */
    uint32_t nlink;     /* as stored */
    uint32_t n_names;   /* entries kept that name it */
    uint32_t n_subdirectories;
    uint8_t type;    /* DT_* */
    uint8_t orphan;  /* flags of its orphan item */
    uint8_t visited; /* of a directory: see links.c */
    bool is_dead;    /* goes with all its items */
} RepairInode;

/* A name that has to be stored anew. */
typedef struct {
    uint64_t directory, ino;
    uint8_t name_len;
    char name[MAPFS_NAME_LEN_MAX];
} RepairName;

/* A leaf that the scan found, of keys that are missing. */
typedef struct {
    MapfsKey first, last;
    uint64_t generation, address;
} RepairLeaf;

/* The newest bitmap of a group that the scan found. */
typedef struct {
    uint64_t address, generation;
} RepairBitmap;

typedef struct {
    MapfsImage *image;
    const MapfsRepairOptions *options;
    MapfsRepairReport *report;
    RepairState states[MAPFS_SUPERBLOCK_SLOTS]; /* the first is the one that a mount would take */
    RepairState *source;                        /* of these, the one to go on from */
    const RepairState *older;                   /* the other one, if it is whole and the source's tree has gaps */
    bool goes_back;                             /* there is no room for that: the older one is to be the source */
    struct mapfs_disk_superblock superblock;    /* the source's, with what can be put right in it */
    uint64_t n_blocks, first_usable, hash_seed, checksum_seed, generation, epoch;
    bool is_rebuilt;                        /* the tree is made anew; else the source's is changed */
    MapfsUsed protected;                    /* what any state refers to, as far as is known */
    MapfsUsed kept;                         /* what stays: blocks of extents, and of the source's tree if that does */
    MapfsUsed shared;                       /* of these, blocks of extents that say they may be shared */
    MapfsVector shared_starts, shared_ends; /* uint64_t: first block, and that behind the last, of each such extent */
    MapfsVector leaves;                     /* RepairLeaf */
    RepairBitmap *bitmaps;                  /* of each group, after a scan */
    MapfsUsed marked;                       /* after a scan: what those bitmaps say is in use */
    MapfsStore *store;
    MapfsTree *tree;
    uint64_t n_changes; /* of the tree, so far */
    uint64_t n_steps;   /* items read or changed */
    MapfsVector inodes; /* RepairInode */
    MapfsVector names;  /* RepairName */
    uint64_t next_ino, n_items_estimate;
    MapfsAclReader acl; /* the xattr being read, if it is a list */
} MapfsRepair;

/* --- repair.c --- */

/* Says what was done; printf-like. */
void mapfs_repair_say(MapfsRepair *repair, MapfsRepairKind kind, uint64_t ino, const char *format, ...)
    MAPFS_PRINTF(4, 5);
void mapfs_repair_say_range(MapfsRepair *repair, uint64_t first_ino, uint64_t last_ino, const char *message);
void mapfs_repair_progress(MapfsRepair *repair, const char *pass, uint64_t done, uint64_t total);

/* --- the steps --- */

/* state.c: judges the slots, walks over what they name, chooses the source, and protects what was seen. */
int mapfs_repair_find_state(MapfsRepair *repair) MAPFS_MUST_USE;
/* The tree of a superblock, as far as the image goes. */
MapfsWalkTree mapfs_repair_tree(const MapfsRepair *repair, const struct mapfs_disk_superblock *superblock);
/* Notes blocks that must not be stored into; what lies outside the image is left out. */
int mapfs_repair_protect(MapfsRepair *repair, MapfsRun run) MAPFS_MUST_USE;
/* Notes what an item refers to. */
int mapfs_repair_protect_item(MapfsRepair *repair, const MapfsCheckItem *item) MAPFS_MUST_USE;

/* guess.c: no slot is valid. Makes states of what is left of them in `slots` and fits the tree, the newer one first: 1, 0 when there is none, or -errno. */
int mapfs_repair_guess(MapfsRepair *repair, const struct mapfs_disk_superblock *slots) MAPFS_MUST_USE;

/* salvage.c: where the source's tree has gaps, looks through the image for leaves with keys that are missing. */
int mapfs_repair_scan(MapfsRepair *repair) MAPFS_MUST_USE;
/* Puts what it found into the gaps of the new tree, the newest last. */
int mapfs_repair_fill_gaps(MapfsRepair *repair) MAPFS_MUST_USE;

/* rebuild.c: opens the store over the protected blocks; makes the tree anew if the source's has faults that changes of items cannot mend. */
int mapfs_repair_open_store(MapfsRepair *repair) MAPFS_MUST_USE;
/* What the source's tree says of a block group, or NULL. */
RepairGroup *mapfs_repair_lookup_group(const MapfsRepair *repair, uint64_t group);

/* inodes.c: finds all inodes, and makes those of which there are only data or entries; sees to the root. */
int mapfs_repair_find_inodes(MapfsRepair *repair) MAPFS_MUST_USE;
/* The inode with this number, or NULL. */
RepairInode *mapfs_repair_lookup_inode(const MapfsRepair *repair, uint64_t ino);
/* A fresh inode of this type, without names. */
void mapfs_repair_make_inode(const MapfsRepair *repair, uint32_t mode, struct mapfs_disk_inode *ret_inode);

/* items.c: goes through all items and puts each right, or takes it out. */
int mapfs_repair_fix_items(MapfsRepair *repair) MAPFS_MUST_USE;

/* shared.c: notes an extent that stays and says that its blocks may be shared; counts them all anew. */
int mapfs_repair_note_shared(MapfsRepair *repair, MapfsRun run) MAPFS_MUST_USE;
int mapfs_repair_count_shared(MapfsRepair *repair) MAPFS_MUST_USE;

/* links.c: names against inodes: lost+found, link counts, parents, orphans. */
int mapfs_repair_fix_links(MapfsRepair *repair) MAPFS_MUST_USE;

/* space.c: frees what is protected and no longer used; publishes. */
int mapfs_repair_finish(MapfsRepair *repair) MAPFS_MUST_USE;

/* --- change.c: the tree --- */

int mapfs_repair_put(MapfsRepair *repair, MapfsKey key, const void *value, size_t value_len) MAPFS_MUST_USE;
/* Removing what is not there is no error. */
int mapfs_repair_remove(MapfsRepair *repair, MapfsKey key) MAPFS_MUST_USE;
/* Copies the value with this key: its length, or -ENOENT. At most `size` bytes are copied. */
int mapfs_repair_get(const MapfsRepair *repair, MapfsKey key, void *value, size_t size) MAPFS_MUST_USE;

/* Reads items in order, whatever is changed between two calls. All zeros but `next`: from that key on. */
typedef struct {
    MapfsKey next; /* no item before this one is given */
    bool has_begun, is_at_end;
    uint64_t n_changes;
    MapfsCursor cursor;
    MapfsKey key; /* the item, copied */
    _Alignas(8) uint8_t value[MAPFS_VALUE_LEN_MAX];
    size_t value_len;
} RepairReader;
/* 1 and the next item, 0 at the end, or -errno. */
int mapfs_repair_read(MapfsRepair *repair, RepairReader *reader) MAPFS_MUST_USE;

/* --- the item under repair, and its inode --- */

typedef struct {
    uint64_t object;
    RepairInode *inode;
    struct mapfs_disk_inode stored, fixed;
    bool may_lack; /* half reclaimed: xattrs, inline data and target may be incomplete */
    uint64_t n_blocks, extent_end, n_inline, n_xattrs;
    bool has_inline;
    /* The xattr whose chunks are being read. */
    uint64_t xattr_base, xattr_left;
    unsigned xattr_next;
    bool xattr_is_dropped;
} RepairCurrent;

/* extents.c, xattrs.c, names.c: an item of the current inode, in reader->key. */
int mapfs_repair_fix_extent(MapfsRepair *repair, RepairCurrent *current, RepairReader *reader) MAPFS_MUST_USE;
int mapfs_repair_fix_xattr(MapfsRepair *repair, RepairCurrent *current, const RepairReader *reader) MAPFS_MUST_USE;
/* The last xattr of the inode is complete or goes. */
int mapfs_repair_finish_xattr(MapfsRepair *repair, RepairCurrent *current) MAPFS_MUST_USE;
int mapfs_repair_fix_dirent(MapfsRepair *repair, RepairCurrent *current, const RepairReader *reader) MAPFS_MUST_USE;

/* names.c: gives an inode a name in a directory. 1, or 0 when the name is taken or its hash has no slot left. */
int mapfs_repair_add_name(MapfsRepair *repair, const RepairName *name) MAPFS_MUST_USE;
/* Takes out the entry of a directory that names a subdirectory. */
int mapfs_repair_unname(MapfsRepair *repair, uint64_t directory, uint64_t ino) MAPFS_MUST_USE;
/* The inode that a directory has under a name, 0 if none. */
int mapfs_repair_find_name(const MapfsRepair *repair, uint64_t directory, const char *name,
                           uint64_t *ret_ino) MAPFS_MUST_USE;
