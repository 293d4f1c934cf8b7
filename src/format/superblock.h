/* SPDX-License-Identifier: MIT */
#pragma once

/* The superblock: two slots, blocks 0 and 1, used in turn (generation & 1). It names the root of the tree, the log and the
 * counters of one checkpoint. The newest valid one wins. */

#include <stdbool.h>

#include "base/macros.h"
#include "base/types.h"
#include "format/le.h"

#define MAPFS_SUPERBLOCK_MAGIC "mapfs\r\n\x1a" /* 8 bytes; the line ending shows damage by text tools */
#define MAPFS_FORMAT_VERSION 1u
#define MAPFS_LABEL_LEN 64u
#define MAPFS_UUID_LEN 16u
#define MAPFS_SUPERBLOCK_SLOTS 2u
/* Nothing but the superblock slots lies below this block. */
#define MAPFS_FIRST_BLOCK MAPFS_SUPERBLOCK_SLOTS

/* The smallest image: two superblocks, MAPFS_LOG_BLOCKS_MIN of log, and room for a tree, bitmaps and the reserve. */
#define MAPFS_IMAGE_BLOCKS_MIN 256u
/* 2^48 blocks = 2^60 bytes: what a node id, an extent and an address space can still carry. */
#define MAPFS_IMAGE_BLOCKS_MAX (UINT64_C(1) << 48)
#define MAPFS_LOG_BLOCKS_MIN 16u
#define MAPFS_LOG_BLOCKS_MAX 16384u /* the log ends in the first block group */

/* Generations, epochs and log sequence numbers are below it: more than there can ever be. So counting on cannot wrap, and the
 * objects of pending frees have their place. */
#define MAPFS_COUNTER_LIMIT (UINT64_C(1) << 61)

/* Feature bits known to this version. Unknown compat bits are ignored, unknown ro_compat bits allow reading alone,
 * unknown incompat bits refuse the image. */
#define MAPFS_FEATURE_COMPAT_KNOWN UINT64_C(0)
#define MAPFS_FEATURE_RO_COMPAT_KNOWN UINT64_C(0)
/* Extents may share blocks: who does not count them would free them too early. Set by the first checkpoint with such an extent, and kept. */
#define MAPFS_FEATURE_INCOMPAT_SHARED (UINT64_C(1) << 0)
#define MAPFS_FEATURE_INCOMPAT_KNOWN MAPFS_FEATURE_INCOMPAT_SHARED

/* Set by an orderly unmount, cleared by the first checkpoint after a mount. A mount of an
 * image without it first syncs what it found. */
#define MAPFS_SUPERBLOCK_CLEAN (UINT64_C(1) << 0)
#define MAPFS_SUPERBLOCK_FLAGS_KNOWN MAPFS_SUPERBLOCK_CLEAN

/* Blocks that the checkpoint of this superblock stored. */
struct mapfs_disk_written {
    struct mapfs_le64 block;
    struct mapfs_le32 n_blocks;
    struct mapfs_le32 reserved;
};
_Static_assert(sizeof(struct mapfs_disk_written) == 16, "written");
#define MAPFS_WRITTEN_RUNS_MAX 236u
/* So many blocks are read at a mount, at most. */
#define MAPFS_WRITTEN_BLOCKS_MAX 1024u

struct mapfs_disk_superblock {
    uint8_t magic[8];
    struct mapfs_le64 checksum; /* XXH3-64, seed 0, of the 4096 bytes with this field zero */
    struct mapfs_le32 version;
    struct mapfs_le32 block_size;
    struct mapfs_le64 generation; /* >= 1; this and the next two below MAPFS_COUNTER_LIMIT */
    struct mapfs_le64 epoch;      /* the epoch that this checkpoint closed */
    struct mapfs_le64 lsn;        /* the last record that this checkpoint holds; records at or below it are skipped */
    uint8_t uuid[MAPFS_UUID_LEN];
    struct mapfs_le64 feature_compat;
    struct mapfs_le64 feature_ro_compat;
    struct mapfs_le64 feature_incompat;
    struct mapfs_le64 n_blocks; /* of the image */
    struct mapfs_le64 log_start;
    struct mapfs_le64 log_blocks;
    struct mapfs_le64 log_nonce;    /* random; every batch of this log carries it */
    struct mapfs_le64 log_sequence; /* sequence of the first batch that is not part of this checkpoint */
    struct mapfs_le64 log_head;     /* block within the log region where that batch starts */
    struct mapfs_le64 log_previous; /* checksum of the batch before it, 0 when there is none */
    struct mapfs_le64 root_address;
    struct mapfs_le64 root_generation;
    struct mapfs_le32 root_level;
    struct mapfs_le32 reserved1;
    struct mapfs_le64 next_ino;
    struct mapfs_le64 hash_seed;        /* key of the hash of names */
    struct mapfs_le64 checksum_seed;    /* seed of the checksums of nodes, bitmaps and log batches */
    struct mapfs_le64 n_free_blocks;    /* bits that are clear */
    struct mapfs_le64 n_pending_blocks; /* in pending-free items */
    struct mapfs_le64 n_inodes;         /* inode items, orphans included */
    struct mapfs_le64 mkfs_time;        /* times as in inodes */
    struct mapfs_le64 write_time;
    struct mapfs_le64 flags;        /* MAPFS_SUPERBLOCK_* */
    uint8_t label[MAPFS_LABEL_LEN]; /* UTF-8, zero-filled; all 64 bytes may be used */
    /* A checkpoint that was written together with its superblock, under one flush: the superblock counts only if all that it
     * refers to has arrived too. With n_written 0 that is known. */
    struct mapfs_le64 written_checksum;
    struct mapfs_le32 n_written;
    struct mapfs_le32 reserved2;
    struct mapfs_disk_written written[MAPFS_WRITTEN_RUNS_MAX]; /* the first n_written are used, the rest is zero */
};
_Static_assert(sizeof(struct mapfs_disk_superblock) == 4096, "superblock fills a block");

/* XXH3-64 (seed 0) of a superblock with its checksum field taken as zero. */
uint64_t mapfs_superblock_checksum(const struct mapfs_disk_superblock *superblock);

/* Stores the checksum of a finished superblock. */
void mapfs_superblock_seal(struct mapfs_disk_superblock *superblock);

/* Checksum of the blocks that a valid superblock lists: each run's XXH3-64, seeded with that of the run before, the first with
 * checksum_seed. `image` is the whole image, of at least n_blocks. */
uint64_t mapfs_superblock_written_checksum(const struct mapfs_disk_superblock *superblock, const uint8_t *image);

/* True when a valid superblock's checkpoint has arrived whole, in an image of n_image_blocks. */
bool mapfs_superblock_is_whole(const struct mapfs_disk_superblock *superblock, const uint8_t *image,
                               uint64_t n_image_blocks);

/* What a slot holds. */
typedef enum {
    MAPFS_SUPERBLOCK_VALID,
    MAPFS_SUPERBLOCK_EMPTY,       /* all zeros */
    MAPFS_SUPERBLOCK_FOREIGN,     /* no magic */
    MAPFS_SUPERBLOCK_DAMAGED,     /* magic, but checksum or a field is wrong */
    MAPFS_SUPERBLOCK_VERSION,     /* valid checksum, other format version or block size */
    MAPFS_SUPERBLOCK_UNSUPPORTED, /* valid, but with incompat features unknown here */
} MapfsSuperblockVerdict;

/* Judges one slot by itself, whatever its bytes are. The 4096 bytes must be stable: copy them out of a mapping that others may
 * write. For all but VALID and EMPTY the reason is in mapfs_damage_last(). Whether the image is long enough (n_blocks) is the
 * caller's to ask. */
MapfsSuperblockVerdict mapfs_superblock_judge(const struct mapfs_disk_superblock *superblock);

/* Whether a valid superblock lies in the slot that it was written to. Else the image does not begin where its reader thinks. */
bool mapfs_superblock_is_placed(const struct mapfs_disk_superblock *superblock, unsigned slot);

/* Which of two judged slots is the state of the image: of those that are valid and in their place, the one with the greater generation. If the other is valid too and the
 * checkpoint of the newer has not arrived whole, that was never acknowledged, and the other counts. (The older one, and one that is
 * alone, are not asked: blocks that they list and do not refer to may have been used again.) -1 for none. `image` is the
 * mapping, which has n_image_blocks. */
int mapfs_superblock_choose(const struct mapfs_disk_superblock *slots, const MapfsSuperblockVerdict *verdicts,
                            const uint8_t *image, uint64_t n_image_blocks) MAPFS_MUST_USE;
