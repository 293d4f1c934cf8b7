/* SPDX-License-Identifier: MIT */
#pragma once

/* Nodes of the tree and bitmaps of the block groups: one block each, with the same 64-byte header.
 *
 * A leaf (level 0) holds slots that grow up from the header and values that grow down from the end. The values lie without
 * gaps in the order of their slots: slot 0 has the last bytes of the block, and slot i ends where slot i-1 begins.
 * An index node (level 1 and up) holds pointers; the key of a pointer is at most the smallest key below it; that of a
 * node's first pointer is never looked at. */

#include "base/macros.h"
#include "base/types.h"
#include "format/key.h"
#include "format/le.h"

#define MAPFS_NODE_MAGIC 0x4e50414du   /* "MAPN" */
#define MAPFS_BITMAP_MAGIC 0x4250414du /* "MAPB" */

/* Owners of nodes. A bitmap's owner is its group. */
#define MAPFS_OWNER_MAIN UINT64_C(1)

struct mapfs_disk_header {
    struct mapfs_le32 magic;
    uint8_t level; /* 0 for leaves and bitmaps */
    uint8_t reserved1;
    struct mapfs_le16 n_items;  /* 0 for bitmaps; index nodes have at least one */
    struct mapfs_le64 checksum; /* XXH3-64, seeded, of the block with this field zero; made at the cut */
    struct mapfs_le64 address;
    struct mapfs_le64 generation; /* of the checkpoint that it was born in */
    struct mapfs_le64 owner;
    uint8_t reserved2[24];
};
_Static_assert(sizeof(struct mapfs_disk_header) == 64, "header");

struct mapfs_disk_slot {
    struct mapfs_le64 object;
    struct mapfs_le64 offset;
    uint8_t kind;
    uint8_t reserved1;
    struct mapfs_le16 value_offset; /* from the start of the block */
    struct mapfs_le16 value_len;
    struct mapfs_le16 reserved2;
};
_Static_assert(sizeof(struct mapfs_disk_slot) == 24, "slot");

struct mapfs_disk_pointer {
    struct mapfs_le64 object;
    struct mapfs_le64 offset;
    uint8_t kind;
    uint8_t reserved[7];
    struct mapfs_le64 address;
    struct mapfs_le64 generation; /* must be that of the child's header */
};
_Static_assert(sizeof(struct mapfs_disk_pointer) == 40, "pointer");

#define MAPFS_NODE_SPACE (MAPFS_BLOCK_SIZE - (unsigned)sizeof(struct mapfs_disk_header))          /* 4032 */
#define MAPFS_INDEX_POINTERS_MAX (MAPFS_NODE_SPACE / (unsigned)sizeof(struct mapfs_disk_pointer)) /* 100 */
#define MAPFS_LEAF_SLOTS_MAX (MAPFS_NODE_SPACE / (unsigned)sizeof(struct mapfs_disk_slot))        /* 168 */
/* Slot and value together take at most half a leaf, so that one split always makes room for any item. */
#define MAPFS_VALUE_LEN_MAX 1984u
/* 50^11 blocks are more than an image can have: a deeper tree is damage. */
#define MAPFS_TREE_LEVELS_MAX 12u

struct mapfs_disk_leaf {
    struct mapfs_disk_header header;
    struct mapfs_disk_slot slots[MAPFS_LEAF_SLOTS_MAX];
};
_Static_assert(sizeof(struct mapfs_disk_leaf) == 4096, "leaf fills a block");

struct mapfs_disk_index {
    struct mapfs_disk_header header;
    struct mapfs_disk_pointer pointers[MAPFS_INDEX_POINTERS_MAX];
    uint8_t reserved[32];
};
_Static_assert(sizeof(struct mapfs_disk_index) == 4096, "index node fills a block");

/* Blocks of a group: as many as the bits of one bitmap. Bit i of byte j (value 1 << i) is block 8 * j + i of the group.
 * A set bit is a block in use, a pending free, or one past the end of the image. */
#define MAPFS_GROUP_BLOCKS (MAPFS_NODE_SPACE * 8u) /* 32256 blocks, 126 MiB */

struct mapfs_disk_bitmap {
    struct mapfs_disk_header header;
    uint8_t bits[MAPFS_NODE_SPACE];
};
_Static_assert(sizeof(struct mapfs_disk_bitmap) == 4096, "bitmap fills a block");

/* What a pointer promises about the block that it leads to. */
typedef struct {
    MapfsBlock address;
    MapfsGeneration generation;
    uint8_t level;
} MapfsNodeRef;

/* XXH3-64 of a node or bitmap with its checksum field taken as zero, seeded with the superblock's checksum_seed. */
uint64_t mapfs_header_checksum(const void *block, uint64_t checksum_seed);

/* Stores the checksum of a finished node or bitmap. */
void mapfs_header_seal(void *block, uint64_t checksum_seed);

/* Checks a node in full: magic, address, generation, level, owner, checksum, then bounds, order of keys and layout of values, and
 * every item by mapfs_item_check(). Reads only the 4096 bytes at `node`, which must be stable: copy them out of a mapping. 0, or -EUCLEAN with a
 * note. */
int mapfs_node_check(const void *node, MapfsNodeRef expected, uint64_t checksum_seed) MAPFS_MUST_USE;

/* The same without the checksum, for nodes that are not sealed yet (tests, asserts). */
int mapfs_node_check_layout(const void *node, MapfsNodeRef expected) MAPFS_MUST_USE;

/* The same without the items: header, bounds, order of keys and layout of values, so that the checker can name each bad item. */
int mapfs_node_check_frame(const void *node, MapfsNodeRef expected) MAPFS_MUST_USE;

/* Checks header and checksum of the bitmap of `group`. 0, or -EUCLEAN with a note. */
int mapfs_bitmap_check(const void *bitmap, MapfsNodeRef expected, uint64_t group,
                       uint64_t checksum_seed) MAPFS_MUST_USE;
