/* SPDX-License-Identifier: MIT */
#pragma once

/* The filesystem: inodes, directories, file data and extended attributes of one open image, one entry per operation.
 * An operation checks, builds a record, and applies it; the same apply serves recovery.
 *
 * All functions may be called from any thread. Names are bytes with a length, without NUL and '/', checked here
 * (-ENAMETOOLONG, -EINVAL). Permission checks are the caller's (the kernel's). Changes take effect whole or not at
 * all, and -ENOSPC is only returned after freed blocks were waited for. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <time.h>

#include "base/macros.h"
#include "base/types.h"
#include "format/items.h"
#include "image/image.h"
#include "txn/store.h"

typedef struct MapfsFs MapfsFs;

typedef struct {
    uint64_t ino;
    uint64_t size;
    uint64_t n_blocks; /* of 4096 bytes, mapped */
    uint64_t change;
    uint64_t flags;  /* MAPFS_INODE_* */
    uint64_t parent; /* of a directory */
    struct timespec atime, mtime, ctime, btime;
    uint32_t mode, uid, gid, nlink;
    uint32_t rdev_major, rdev_minor;
    uint32_t project;
    uint32_t reserved; /* 0: two of the same inode are the same bytes */
} MapfsAttr;

/* Opens the filesystem of an image that the caller keeps open until after close; options and errors as
 * mapfs_store_open. With options->threads a thread reclaims orphans; otherwise mapfs_fs_reclaim() does it when
 * called. */
int mapfs_fs_open(MapfsImage *image, const MapfsStoreOptions *options, MapfsFs **ret_fs) MAPFS_MUST_USE;
int mapfs_fs_close(MapfsFs *fs) MAPFS_MUST_USE;
void mapfs_fs_abandon(MapfsFs *fs);
MapfsStore *mapfs_fs_store(MapfsFs *fs);

/* From here on every change is dated so (disk time) instead of by the clock: the same changes then make the same bytes. Before the first
 * change, and with options->threads off. */
void mapfs_fs_set_time(MapfsFs *fs, uint64_t time);

/* All that was changed before is durable when this returns 0. */
int mapfs_fs_sync(MapfsFs *fs) MAPFS_MUST_USE;

/* Does the work that waits (orphans without lookups); returns when none is left, or with the first error: -EUCLEAN for one that
 * damage keeps. */
int mapfs_fs_reclaim(MapfsFs *fs) MAPFS_MUST_USE;

/* Frees what is worth waiting for: orphans nobody uses, then by checkpoints what is pending. 1 if something became free, 0, or -errno. */
int mapfs_fs_make_room(MapfsFs *fs) MAPFS_MUST_USE;

/* Told of damage that is met by work which no request waits for, in its thread and with a lock held: it only takes note. What came before the call is told
 * at once. NULL: nobody is told any more. */
typedef void (*MapfsDamageCallback)(void *user, const char *what);
void mapfs_fs_on_damage(MapfsFs *fs, MapfsDamageCallback callback, void *user);

/* --- inodes --- */

/* Operations that return an attr with an ino by name (lookup, create, link, readdir plus) count one lookup of it, as
 * the kernel does; forget takes n back. An inode without names lives until its lookups are forgotten. */
int mapfs_fs_lookup(MapfsFs *fs, uint64_t parent, const char *name, size_t name_len,
                    MapfsAttr *ret_attr) MAPFS_MUST_USE;
void mapfs_fs_forget(MapfsFs *fs, uint64_t ino, uint64_t n);

/* -ESTALE when there is no such inode. */
int mapfs_fs_getattr(MapfsFs *fs, uint64_t ino, MapfsAttr *ret_attr) MAPFS_MUST_USE;

#define MAPFS_SET_MODE 1u
#define MAPFS_SET_UID 2u
#define MAPFS_SET_GID 4u
#define MAPFS_SET_SIZE 8u
#define MAPFS_SET_ATIME 16u
#define MAPFS_SET_MTIME 32u
#define MAPFS_SET_CTIME 64u
#define MAPFS_SET_ATIME_NOW 128u
#define MAPFS_SET_MTIME_NOW 256u
#define MAPFS_SET_KILL_PRIV 512u /* strip suid, sgid and security.capability */
/* What chattr(1) and project numbers are for; who may, is the caller's to ask. Flags forbid changes (-EPERM): see flags-private.h. */
#define MAPFS_SET_FLAGS 1024u
#define MAPFS_SET_PROJECT 2048u
int mapfs_fs_setattr(MapfsFs *fs, uint64_t ino, unsigned mask, const MapfsAttr *attr,
                     MapfsAttr *ret_attr) MAPFS_MUST_USE;

/* --- names --- */

typedef struct {
    uint64_t parent;
    const char *name;
    size_t name_len;
} MapfsName;

typedef struct {
    uint32_t mode;     /* type and permissions */
    uint32_t umask;    /* permissions that go, unless the directory has a default access control list */
    uint32_t uid, gid; /* gid is replaced by the parent's when that is setgid; a directory then gets the bit too */
    uint32_t rdev_major, rdev_minor;
    const char *target; /* of a symlink, else NULL */
    size_t target_len;
} MapfsNewInode;
/* Files, directories, symlinks, devices, fifos, sockets. -EEXIST. */
int mapfs_fs_create(MapfsFs *fs, const MapfsName *at, const MapfsNewInode *new_inode,
                    MapfsAttr *ret_attr) MAPFS_MUST_USE;
/* A regular file without a name, an orphan from its birth; `dir` only says whose group and rules it takes over. mapfs_fs_link() can give
 * it a name. */
int mapfs_fs_tmpfile(MapfsFs *fs, uint64_t dir, const MapfsNewInode *new_inode, MapfsAttr *ret_attr) MAPFS_MUST_USE;
/* `buffer` has MAPFS_SYMLINK_LEN_MAX + 1 bytes; NUL-terminated. */
int mapfs_fs_readlink(MapfsFs *fs, uint64_t ino, char *buffer) MAPFS_MUST_USE;
/* Also of an inode without names, as long as somebody has it looked up; which of these may get one (files of O_TMPFILE without O_EXCL,
 * and no unlinked ones) is for the caller to know. -ENOENT, -EPERM for a directory, -EMLINK. */
int mapfs_fs_link(MapfsFs *fs, uint64_t ino, const MapfsName *at, MapfsAttr *ret_attr) MAPFS_MUST_USE;
int mapfs_fs_unlink(MapfsFs *fs, uint64_t parent, const char *name, size_t name_len) MAPFS_MUST_USE;
int mapfs_fs_rmdir(MapfsFs *fs, uint64_t parent, const char *name, size_t name_len) MAPFS_MUST_USE;

#define MAPFS_FS_RENAME_NOREPLACE 1u /* as RENAME_* of Linux */
#define MAPFS_FS_RENAME_EXCHANGE 2u
int mapfs_fs_rename(MapfsFs *fs, const MapfsName *from, const MapfsName *to, unsigned flags) MAPFS_MUST_USE;
/* Renames, and in the same step makes at the old name what overlayfs takes for a name that is gone: a character device 0:0, with the owner
 * that `whiteout` gives. `flags`: 0 or NOREPLACE. */
int mapfs_fs_rename_whiteout(MapfsFs *fs, const MapfsName *from, const MapfsName *to, unsigned flags,
                             const MapfsNewInode *whiteout) MAPFS_MUST_USE;

typedef struct {
    const char *name;
    size_t name_len;
    uint64_t ino;
    uint64_t cookie; /* continue after this entry */
    uint8_t type;    /* DT_* */
    /* With plus, the inode's; one lookup is counted if the callback takes the entry (none of "." and ".."). NULL without
     * plus, and for a damaged inode, of which no lookup is counted. */
    const MapfsAttr *attr;
} MapfsDirEntry;
/* 1: taken, go on. 0: no room, stop. Runs under the tree's read lock: must not call back or block. */
typedef int (*MapfsDirCallback)(void *user, const MapfsDirEntry *entry);
typedef struct {
    uint64_t cookie; /* go on after this entry; 0: from the start */
    bool plus;
    MapfsDirCallback callback;
    void *user;
} MapfsDirScan;
/* Entries from there on, "." and ".." first. */
int mapfs_fs_readdir(MapfsFs *fs, uint64_t ino, const MapfsDirScan *scan) MAPFS_MUST_USE;

/* --- extended attributes (full names) ---
 *
 * POSIX access control lists are extended attributes too, system.posix_acl_access and system.posix_acl_default: they must be valid (-EINVAL), and an
 * access list changes the mode, as the mode's changes change it. */
#define MAPFS_XATTR_FLAG_CREATE 1u /* as XATTR_* of Linux */
#define MAPFS_XATTR_FLAG_REPLACE 2u
#define MAPFS_XATTR_FLAG_KILL_SGID 4u /* with an access list: the mode loses setgid */
typedef struct {
    const void *bytes;
    size_t len;
} MapfsBytes;
int mapfs_fs_setxattr(MapfsFs *fs, uint64_t ino, const char *name, MapfsBytes value, unsigned flags) MAPFS_MUST_USE;
/* Size 0 asks for the length. >= 0 length, -ENODATA, -ERANGE. */
int mapfs_fs_getxattr(MapfsFs *fs, uint64_t ino, const char *name, void *buffer, size_t size) MAPFS_MUST_USE;
int mapfs_fs_listxattr(MapfsFs *fs, uint64_t ino, char *buffer, size_t size) MAPFS_MUST_USE;
int mapfs_fs_removexattr(MapfsFs *fs, uint64_t ino, const char *name) MAPFS_MUST_USE;

/* --- data --- */

#define MAPFS_IO_LEN_MAX (1024u * 1024u)
#define MAPFS_IO_IOV_MAX 260u

/* A read in progress: up to MAPFS_IO_LEN_MAX bytes as pieces of the mapping (holes are pieces of a page of zeros),
 * valid until read_end. The pieces stay what they were even if the file changes meanwhile, as far as blocks go. */
typedef struct {
    struct iovec iov[MAPFS_IO_IOV_MAX];
    unsigned n_iov;
    size_t len; /* 0 at the end of the file */
    unsigned reader;
    uint8_t inline_bytes[MAPFS_INLINE_MAX];
} MapfsRead;
int mapfs_fs_read_begin(MapfsFs *fs, uint64_t ino, uint64_t offset, size_t len, MapfsRead *read) MAPFS_MUST_USE;
/* 0, or -EIO when a page of it could not be read from the host. */
int mapfs_fs_read_end(MapfsFs *fs, MapfsRead *read) MAPFS_MUST_USE;

/* A write in progress: store `len` bytes (up to MAPFS_IO_LEN_MAX) into the pieces, in their order, then commit; or
 * abort, and the file is as it was (but for bytes stored into blocks that no checkpoint has). begin locks the inode
 * until then, in the same thread. */
typedef struct MapfsWriteState MapfsWriteState;
typedef struct {
    struct iovec iov[MAPFS_IO_IOV_MAX];
    unsigned n_iov;
    MapfsWriteState *state;
} MapfsWrite;
#define MAPFS_WRITE_FLAG_KILL_PRIV 1u
#define MAPFS_WRITE_FLAG_APPEND 2u /* the file was opened with O_APPEND: goes on past the end of an append-only one */
typedef struct {
    uint64_t offset; /* bytes */
    size_t len;
} MapfsIoRange;
int mapfs_fs_write_begin(MapfsFs *fs, uint64_t ino, MapfsIoRange range, unsigned flags,
                         MapfsWrite *write) MAPFS_MUST_USE;
int mapfs_fs_write_commit(MapfsFs *fs, MapfsWrite *write) MAPFS_MUST_USE;
void mapfs_fs_write_abort(MapfsFs *fs, MapfsWrite *write);
/* The two together, from memory, any length; `len` bytes written, or -errno (bytes before it may have been written). */
int mapfs_fs_write(MapfsFs *fs, uint64_t ino, uint64_t offset, const void *data, size_t len) MAPFS_MUST_USE;
/* Copies out; >= 0 bytes (short at the end of the file) or -errno. len up to INT_MAX. */
int mapfs_fs_read(MapfsFs *fs, uint64_t ino, uint64_t offset, void *buffer, size_t len) MAPFS_MUST_USE;

/* Copies a part of a file into another, or into a part of the same that lies apart: whole blocks are shared from then on. What is copied is one
 * step, as much as fits into one: *ret_len bytes, less than asked for where the step is too small or the file ends, 0 at its end.
 * `flags` as of write_begin. -EINVAL (no regular file, or the parts overlap), -EISDIR, -EFBIG, -ENOSPC, -ESTALE. */
typedef struct {
    uint64_t from_ino, from_offset;
    uint64_t to_ino, to_offset;
    uint64_t len;
} MapfsCopyRange;
int mapfs_fs_copy_range(MapfsFs *fs, const MapfsCopyRange *range, unsigned flags, uint64_t *ret_len) MAPFS_MUST_USE;

/* Blocks and zeros, as fallocate(2) with the flags of Linux: 0 or KEEP_SIZE preallocate (unwritten extents, which read as zeros; whole or not
 * at all), PUNCH | KEEP_SIZE makes a hole, ZERO with or without KEEP_SIZE makes a range read as zeros and keeps blocks for it. Large holes and zeroed
 * ranges go in steps: one that fails, or is cut short by a crash, may have cleared a part of the range. -EFBIG, -ENODEV (not a regular file), -EISDIR,
 * -EOPNOTSUPP (other modes), -EINVAL (no length). */
#define MAPFS_ALLOCATE_KEEP_SIZE 1u
#define MAPFS_ALLOCATE_PUNCH 2u
#define MAPFS_ALLOCATE_ZERO 16u
#define MAPFS_ALLOCATE_KILL_PRIV 0x80000000u /* strip suid, sgid and security.capability */
int mapfs_fs_allocate(MapfsFs *fs, uint64_t ino, unsigned mode, MapfsIoRange range) MAPFS_MUST_USE;

/* The first byte at or after `offset` that is data, or that is in a hole (at the end of the file is one). -ENXIO: past the end, or no data. */
typedef enum { MAPFS_SEEK_DATA, MAPFS_SEEK_HOLE } MapfsSeek;
int mapfs_fs_seek(MapfsFs *fs, uint64_t ino, uint64_t offset, MapfsSeek what, uint64_t *ret_offset) MAPFS_MUST_USE;

/* --- the whole --- */
typedef struct {
    uint64_t n_blocks, n_free, n_available; /* of 4096 bytes; available leaves the reserve out and looks at the host */
    uint64_t n_inodes, n_inodes_free;       /* n_inodes: those in use and those that could still be made */
} MapfsFsStatus;
void mapfs_fs_statfs(MapfsFs *fs, MapfsFsStatus *ret_status);

/* Fills in a root directory and formats the image (see mapfs_store_format). */
typedef struct {
    MapfsStoreFormat store;
    uint32_t root_uid, root_gid, root_mode; /* mode: permission bits */
} MapfsFsFormat;
int mapfs_fs_format(MapfsImage *image, const MapfsFsFormat *how) MAPFS_MUST_USE;
