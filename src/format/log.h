/* SPDX-License-Identifier: MIT */
#pragma once

/* The log: batches of records, and the records. A record says everything that is needed to repeat one change; the same struct
 * is built by an operation, applied to the tree, queued, and written to the log. */

#include "base/macros.h"
#include "base/types.h"
#include "format/le.h"

#define MAPFS_BATCH_MAGIC 0x4c50414du /* "MAPL" */

/* A batch starts on a fresh block of the log region and is contiguous in it: one that would pass the region's end starts at
 * its first block instead. It is valid only with the log's nonce, the next sequence, the checksum of the batch before it, and
 * contiguous LSNs. */
struct mapfs_disk_batch {
    struct mapfs_le32 magic;
    struct mapfs_le32 len_bytes; /* header and records, a multiple of 8; the rest of the last block is zero */
    struct mapfs_le64 checksum;  /* XXH3-64, seeded with checksum_seed, of len_bytes with this field zero */
    struct mapfs_le64 nonce;
    struct mapfs_le64 sequence;
    struct mapfs_le64 previous;   /* checksum of the batch before, 0 for the first of a nonce */
    struct mapfs_le64 generation; /* the running generation when the batch was cut */
    struct mapfs_le64 epoch;      /* the epoch that this batch closed */
    struct mapfs_le64 first_lsn;
    struct mapfs_le64 last_lsn;
    struct mapfs_le64 data_checksum; /* XXH3-64 of the file data that its records name, in their order */
    struct mapfs_le32 n_records;
    uint8_t reserved[44];
};
_Static_assert(sizeof(struct mapfs_disk_batch) == 128, "batch");

#define MAPFS_RECORD_CREATE 1u
#define MAPFS_RECORD_LINK 2u
#define MAPFS_RECORD_UNLINK 3u
#define MAPFS_RECORD_RENAME 4u
#define MAPFS_RECORD_SETATTR 5u
#define MAPFS_RECORD_XATTR 6u
#define MAPFS_RECORD_MAP 7u
#define MAPFS_RECORD_INLINE 8u
#define MAPFS_RECORD_TRUNCATE 9u
#define MAPFS_RECORD_RECLAIM 10u
#define MAPFS_RECORD_ADOPT 11u
#define MAPFS_RECORD_PUNCH 12u
#define MAPFS_RECORD_CLONE 14u

/* The longest record: an xattr of 64 KiB with its name. */
#define MAPFS_RECORD_LEN_MAX (66u * 1024u)

struct mapfs_disk_record {
    struct mapfs_le32 len_bytes; /* with this header, a multiple of 8, padded with zeros */
    struct mapfs_le16 type;
    struct mapfs_le16 reserved;
    struct mapfs_le64 lsn;
    struct mapfs_le64 time; /* of the operation */
};
_Static_assert(sizeof(struct mapfs_disk_record) == 24, "record");

/* A new inode with its first name, then the target of a symlink. All inodes but the root come from one. parent 0 (and no name) makes an
 * unnamed file, an orphan until MAPFS_RECORD_ADOPT. */
struct mapfs_disk_record_create {
    struct mapfs_disk_record header;
    struct mapfs_le64 parent;
    struct mapfs_le64 ino;
    struct mapfs_le64 rdev;
    struct mapfs_le32 mode;
    struct mapfs_le32 uid;
    struct mapfs_le32 gid;
    struct mapfs_le16 target_len;
    uint8_t name_len;
    uint8_t reserved;
    char bytes[]; /* name, target */
};
_Static_assert(sizeof(struct mapfs_disk_record_create) == 64, "create");

/* A further name of an inode (LINK), the first name of an unnamed one (ADOPT), or the end of one (UNLINK; of a directory too). The inode that
 * loses its last name becomes an orphan. */
struct mapfs_disk_record_name {
    struct mapfs_disk_record header;
    struct mapfs_le64 parent;
    struct mapfs_le64 ino;
    uint8_t name_len;
    uint8_t reserved[7];
    char name[];
};
_Static_assert(sizeof(struct mapfs_disk_record_name) == 48, "name");

#define MAPFS_RENAME_EXCHANGE 1u
#define MAPFS_RENAME_WHITEOUT \
    2u /* a new inode takes the old name: a character device 0:0 of mode 0, as overlayfs marks what is gone */

struct mapfs_disk_record_rename {
    struct mapfs_disk_record header;
    struct mapfs_le64 old_parent;
    struct mapfs_le64 new_parent;
    struct mapfs_le64 ino;      /* that moves */
    struct mapfs_le64 replaced; /* inode that had the new name, 0 for none */
    struct mapfs_le64 whiteout; /* inode made for the old name, 0 for none */
    struct mapfs_le32 flags;    /* MAPFS_RENAME_* */
    struct mapfs_le32 whiteout_uid;
    struct mapfs_le32 whiteout_gid;
    uint8_t old_name_len;
    uint8_t new_name_len;
    uint8_t reserved[2];
    char names[]; /* old, new */
};
_Static_assert(sizeof(struct mapfs_disk_record_rename) == 80, "rename");

#define MAPFS_ATTR_MODE 1u
#define MAPFS_ATTR_UID 2u
#define MAPFS_ATTR_GID 4u
#define MAPFS_ATTR_ATIME 8u
#define MAPFS_ATTR_MTIME 16u
#define MAPFS_ATTR_CTIME 32u
#define MAPFS_ATTR_FLAGS 64u
#define MAPFS_ATTR_BTIME 128u
#define MAPFS_ATTR_PROJECT 256u
#define MAPFS_ATTR_KNOWN 511u

struct mapfs_disk_record_setattr {
    struct mapfs_disk_record header;
    struct mapfs_le64 ino;
    struct mapfs_le32 mask; /* MAPFS_ATTR_*; ctime is the record's time unless masked in */
    struct mapfs_le32 mode; /* permission bits alone */
    struct mapfs_le32 uid;
    struct mapfs_le32 gid;
    struct mapfs_le64 atime;
    struct mapfs_le64 mtime;
    struct mapfs_le64 ctime;
    struct mapfs_le64 btime;
    struct mapfs_le64 flags;
    struct mapfs_le32 project;
    struct mapfs_le32 reserved;
};
_Static_assert(sizeof(struct mapfs_disk_record_setattr) == 96, "setattr");

#define MAPFS_XATTR_REMOVE 1u
#define MAPFS_XATTR_SET_MODE 2u /* `mode` too becomes the inode's permission bits (POSIX ACLs) */

struct mapfs_disk_record_xattr {
    struct mapfs_disk_record header;
    struct mapfs_le64 ino;
    struct mapfs_le32 flags;
    struct mapfs_le32 value_len;
    struct mapfs_le32 mode;
    uint8_t name_len;
    uint8_t reserved[3];
    char bytes[]; /* name, value */
};
_Static_assert(sizeof(struct mapfs_disk_record_xattr) == 48, "xattr record");

/* What a change of data does to the inode besides. */
#define MAPFS_WRITE_STRIP 1u    /* suid, sgid (with group execute) and security.capability go */
#define MAPFS_WRITE_NO_TIMES 2u /* times stay: moves of data that no program sees */
#define MAPFS_WRITE_KNOWN (MAPFS_WRITE_STRIP | MAPFS_WRITE_NO_TIMES)
#define MAPFS_WRITE_CONVERT \
    4u /* of MAP alone: the blocks are the file's there already, unwritten, and become written */

/* File data at home in new blocks: blocks logical .. logical + n_blocks - 1 of the file now lie at block .., whatever lay there
 * before is freed (or converted, see above). n_blocks 0: data was stored into blocks that the file has; size and times alone change. */
struct mapfs_disk_record_map {
    struct mapfs_disk_record header;
    struct mapfs_le64 ino;
    struct mapfs_le64 logical;
    struct mapfs_le64 block;
    struct mapfs_le64 size; /* of the file afterwards */
    struct mapfs_le64 birth_epoch;
    struct mapfs_le32 n_blocks;
    struct mapfs_le32 extent_flags;
    struct mapfs_le32 flags; /* MAPFS_WRITE_* */
    struct mapfs_le32 reserved;
};
_Static_assert(sizeof(struct mapfs_disk_record_map) == 80, "map");

/* The blocks source_logical .. source_logical + n_blocks - 1 of the file `source` are from now on those of the file `ino` at `logical` too: written
 * ones are shared, and whatever lay there before is freed. Holes and unwritten blocks become holes. */
struct mapfs_disk_record_clone {
    struct mapfs_disk_record header;
    struct mapfs_le64 source;
    struct mapfs_le64 source_logical;
    struct mapfs_le64 ino; /* may be the same file, in a range apart */
    struct mapfs_le64 logical;
    struct mapfs_le64 n_blocks;
    struct mapfs_le64 size;  /* of `ino` afterwards */
    struct mapfs_le32 flags; /* MAPFS_WRITE_* */
    struct mapfs_le32 reserved;
};
_Static_assert(sizeof(struct mapfs_disk_record_clone) == 80, "clone");

/* A hole: what the file has in its blocks logical .. logical + n_blocks - 1 is freed. Size and inline data stay. */
struct mapfs_disk_record_punch {
    struct mapfs_disk_record header;
    struct mapfs_le64 ino;
    struct mapfs_le64 logical;
    struct mapfs_le64 n_blocks;
    struct mapfs_le32 flags; /* MAPFS_WRITE_* */
    struct mapfs_le32 reserved;
};
_Static_assert(sizeof(struct mapfs_disk_record_punch) == 56, "punch");

/* The whole content of a file that lies in the tree. */
struct mapfs_disk_record_inline {
    struct mapfs_disk_record header;
    struct mapfs_le64 ino;
    struct mapfs_le32 flags;     /* MAPFS_WRITE_* */
    struct mapfs_le16 len_bytes; /* the file's size afterwards, up to MAPFS_INLINE_MAX */
    struct mapfs_le16 reserved;
    uint8_t bytes[];
};
_Static_assert(sizeof(struct mapfs_disk_record_inline) == 40, "inline");

/* A new size. If it is not above the old one, extents at and after the cut, the first block that lies wholly past `size`, are freed: at once as
 * far as the bound goes, the rest by RECLAIM records (the inode is an orphan with that cut until then). A size within a block needs a MAP record before it that
 * moves the block, unless the block is not sealed. */
struct mapfs_disk_record_truncate {
    struct mapfs_disk_record header;
    struct mapfs_le64 ino;
    struct mapfs_le64 size;
    struct mapfs_le32 flags;     /* MAPFS_WRITE_* */
    struct mapfs_le32 n_extents; /* the bound, as of RECLAIM */
};
_Static_assert(sizeof(struct mapfs_disk_record_truncate) == 48, "truncate");

/* One bounded step of work on an orphan. `work` TRUNCATED: frees up to n_extents extents from the file's end, no lower than the cut; when
 * none is left, the orphan loses that flag. UNLINKED: frees up to n_extents extents from the end; when none is left, drops up to
 * n_extents other items; and when nothing is left, the orphan and the inode. */
struct mapfs_disk_record_reclaim {
    struct mapfs_disk_record header;
    struct mapfs_le64 ino;
    struct mapfs_le32 n_extents;
    struct mapfs_le32 work; /* one of MAPFS_ORPHAN_* */
};
_Static_assert(sizeof(struct mapfs_disk_record_reclaim) == 40, "reclaim");

/* Checks a record's lengths, type and names against `len_available` bytes. 0 or -EUCLEAN with a note. */
int mapfs_record_check(const void *record, size_t len_available) MAPFS_MUST_USE;

/* XXH3-64 of the first len_bytes of a batch with its checksum field taken as zero. */
uint64_t mapfs_batch_checksum(const void *batch, size_t len_bytes, uint64_t checksum_seed);

/* What the log promises about its next batch. A batch may begin below first_lsn, since what the superblock holds already is
 * skipped, but not above it, and must not end below it by more than one. */
typedef struct {
    uint64_t nonce, sequence, previous, first_lsn;
    uint64_t checksum_seed;
} MapfsBatchExpected;

/* Checks a batch's header, checksum, chain and every record's frame. `len_available` is what the log region has from here.
 * The bytes may change meanwhile: what is judged is a copy. 0 or -EUCLEAN with a note; what follows the last batch of a log is -EUCLEAN in the
 * ordinary course of things. -ENOMEM. */
int mapfs_batch_check(const void *batch, size_t len_available, const MapfsBatchExpected *expected) MAPFS_MUST_USE;
