/* SPDX-License-Identifier: MIT */
#pragma once

/* The values of the tree's items. */

#include "base/macros.h"
#include "base/types.h"
#include "format/key.h"
#include "format/le.h"

/* Times are unsigned 64-bit nanoseconds since 1901-12-13 20:45:52 UTC (-2^31 s), which reaches to the year 2486. */
#define MAPFS_TIME_EPOCH_SECONDS (-INT64_C(2147483648))

#define MAPFS_NAME_LEN_MAX 255u
#define MAPFS_SYMLINK_LEN_MAX 4095u
#define MAPFS_FILE_SIZE_MAX (UINT64_C(1) << 60)
#define MAPFS_LINK_MAX 0x7fffffffu
/* A file up to this size and without extents lies in the tree. */
#define MAPFS_INLINE_MAX 1536u
/* The target of a symlink is cut into chunks of this size (the last is shorter). */
#define MAPFS_SYMLINK_CHUNK 1536u

struct mapfs_disk_inode {
    struct mapfs_le64 size;     /* bytes; of a directory: number of entries; of a symlink: length of the target */
    struct mapfs_le64 n_blocks; /* blocks mapped by extents */
    struct mapfs_le64 flags;    /* MAPFS_INODE_* */
    struct mapfs_le64 atime;
    struct mapfs_le64 mtime;
    struct mapfs_le64 ctime;
    struct mapfs_le64 btime;
    struct mapfs_le64 change; /* grows with every change of data or metadata */
    struct mapfs_le64 parent; /* of a directory (the root's is itself); otherwise 0 */
    struct mapfs_le64 rdev;   /* of a device: major << 32 | minor; otherwise 0 */
    struct mapfs_le32 mode;   /* type and permissions as in stat(2) on Linux */
    struct mapfs_le32 uid;
    struct mapfs_le32 gid;
    struct mapfs_le32 nlink;    /* directories: 2 + number of subdirectories; 0 only while an orphan */
    struct mapfs_le32 n_xattrs; /* xattr names of this inode */
    struct mapfs_le32 project;
    uint8_t reserved[24];
};
_Static_assert(sizeof(struct mapfs_disk_inode) == 128, "inode");

/* Inode flags, set by chattr(1): values as FS_*_FL of Linux. */
#define MAPFS_INODE_SYNC UINT64_C(0x8)
#define MAPFS_INODE_IMMUTABLE UINT64_C(0x10)
#define MAPFS_INODE_APPEND UINT64_C(0x20)
#define MAPFS_INODE_NODUMP UINT64_C(0x40)
#define MAPFS_INODE_NOATIME UINT64_C(0x80)
#define MAPFS_INODE_FLAGS_KNOWN \
    (MAPFS_INODE_SYNC | MAPFS_INODE_IMMUTABLE | MAPFS_INODE_APPEND | MAPFS_INODE_NODUMP | MAPFS_INODE_NOATIME)

/* Extended attribute: this header, the name, and the first bytes of the value; the rest follows in items of the same
 * hash and slot with chunk 1, 2, ... Each chunk but the last fills MAPFS_XATTR_CHUNK bytes of item value. */
struct mapfs_disk_xattr {
    struct mapfs_le32 value_len;
    uint8_t name_len; /* 1 to 255, full name with its namespace */
    uint8_t reserved[3];
    char name[]; /* then the value */
};
_Static_assert(sizeof(struct mapfs_disk_xattr) == 8, "xattr");
#define MAPFS_XATTR_VALUE_MAX 65536u
#define MAPFS_XATTR_CHUNK 1920u
/* Offset of an xattr item: 52 bits of hash, 4 bits of slot, 8 bits of chunk. */
#define MAPFS_XATTR_SLOTS 16u
#define MAPFS_XATTR_HASH_SHIFT 12u
#define MAPFS_XATTR_SLOT_SHIFT 8u

/* A run of file data. The file's blocks key.offset .. key.offset + n_blocks - 1 lie at block .. of the image. */
struct mapfs_disk_extent {
    struct mapfs_le64 block;
    struct mapfs_le32 n_blocks; /* 1 to MAPFS_EXTENT_BLOCKS_MAX */
    struct mapfs_le32 flags;    /* MAPFS_EXTENT_* */
    struct mapfs_le64 birth_generation;
    struct mapfs_le64 birth_epoch;
    struct mapfs_le64 reserved; /* room for a checksum */
};
_Static_assert(sizeof(struct mapfs_disk_extent) == 40, "extent");
#define MAPFS_EXTENT_BLOCKS_MAX 32768u
#define MAPFS_EXTENT_UNWRITTEN 1u /* reads as zeros */
#define MAPFS_EXTENT_SHARED \
    2u /* others may refer to the blocks too: MAPFS_KIND_SHARED items count them; never unwritten */
#define MAPFS_EXTENT_FLAGS_KNOWN (MAPFS_EXTENT_UNWRITTEN | MAPFS_EXTENT_SHARED)

/* Directory entry. The key's offset is hash << 4 | slot with a 59-bit hash that is at least 1: positive as a signed 64-bit
 * number, and at least 16, so that it serves as readdir cookie beside those of "." (1) and ".." (2). Names with
 * the same hash take the 16 slots; a 17th is refused with ENOSPC. */
struct mapfs_disk_dirent {
    struct mapfs_le64 ino;
    uint8_t type; /* DT_* of Linux, that of the inode's mode */
    uint8_t name_len;
    uint8_t reserved[6];
    char name[];
};
_Static_assert(sizeof(struct mapfs_disk_dirent) == 16, "dirent");
#define MAPFS_DIRENT_SLOTS 16u
#define MAPFS_DIRENT_SLOT_SHIFT 4u

struct mapfs_disk_group {
    struct mapfs_le64 bitmap_address; /* a group without an item is all free */
    struct mapfs_le64 bitmap_generation;
    struct mapfs_le32 n_free; /* clear bits */
    struct mapfs_le32 reserved;
};
_Static_assert(sizeof(struct mapfs_disk_group) == 24, "group");

/* Work left over on an inode: with TRUNCATED its extents at and after `cut` bytes go, now; with UNLINKED it goes whole, once nobody uses it.
 * One inode can have both, for the one must not wait for the other. */
struct mapfs_disk_orphan {
    struct mapfs_le32 flags; /* MAPFS_ORPHAN_*, at least one */
    struct mapfs_le32 reserved;
    struct mapfs_le64 cut; /* bytes, a multiple of the block size; 0 unless truncated */
};
_Static_assert(sizeof(struct mapfs_disk_orphan) == 16, "orphan");
#define MAPFS_ORPHAN_UNLINKED 1u
#define MAPFS_ORPHAN_TRUNCATED 2u

/* How many extents refer to each block of a run. The blocks of extents with MAPFS_EXTENT_SHARED that no such item has belong to that extent
 * alone. */
struct mapfs_disk_shared {
    struct mapfs_le64 n_blocks;
    struct mapfs_le32 n_refs; /* at least 2 */
    struct mapfs_le32 reserved;
};
_Static_assert(sizeof(struct mapfs_disk_shared) == 16, "shared");

/* A kept state, as the superblock of its generation named it. */
struct mapfs_disk_snapshot {
    struct mapfs_le64 root_address;
    struct mapfs_le64 root_generation;
    struct mapfs_le32 root_level;
    struct mapfs_le32 flags;
    struct mapfs_le64 epoch;
    struct mapfs_le64 lsn;
    struct mapfs_le64 next_ino;
    struct mapfs_le64 time;
    uint8_t name_len;
    uint8_t reserved[7];
    char name[];
};
_Static_assert(sizeof(struct mapfs_disk_snapshot) == 64, "snapshot");

/* An item of pending frees holds 1 to MAPFS_PENDING_RUNS_MAX of these, in rising order and apart from each other.
 * The key's object is MAPFS_OBJECT_PENDING + the generation that freed them, its offset the first run's block. */
struct mapfs_disk_pending_run {
    struct mapfs_le64 block;
    struct mapfs_le32 n_blocks;
    struct mapfs_le32 reserved;
};
_Static_assert(sizeof(struct mapfs_disk_pending_run) == 16, "pending run");
#define MAPFS_PENDING_RUNS_MAX 64u

/* Hash of a name in a directory: 59 bits, at least 1. Keyed with the superblock's hash_seed. */
uint64_t mapfs_dirent_hash(const char *name, size_t name_len, uint64_t hash_seed);

/* Hash of an xattr's name: 52 bits. */
uint64_t mapfs_xattr_hash(const char *name, size_t name_len, uint64_t hash_seed);

/* Key offset of a chunk of an xattr. */
static inline uint64_t mapfs_xattr_offset(uint64_t hash, unsigned slot, unsigned chunk) {
    return hash << MAPFS_XATTR_HASH_SHIFT | (uint64_t)slot << MAPFS_XATTR_SLOT_SHIFT | chunk;
}

/* Type of a directory entry (DT_* of Linux) for the type bits of a mode and back; 0 for what is no type. */
uint8_t mapfs_dirent_type_from_mode(uint32_t mode);
uint32_t mapfs_mode_from_dirent_type(uint8_t type);

/* Whether an inode of this type (DT_* of Linux) may have items of this kind. */
bool mapfs_item_fits_type(uint8_t kind, uint8_t type);

/* Checks one item by itself: kind known and at home in this object, length, reserved bytes, ranges of fields. What needs other
 * items (link counts, overlaps, targets) is the checker's. `block` is only for the note. 0 or -EUCLEAN with a note. */
int mapfs_item_check(uint64_t block, MapfsKey key, const void *value, size_t value_len) MAPFS_MUST_USE;
