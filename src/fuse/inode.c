/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "fuse/session-private.h"

void mapfs_handle_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n) {
    mapfs_fs_forget(mapfs_request_session(req)->fs, ino, n);
    (void)mapfs_sigbus_taken(); /* nobody waits for this request: its fault must not fail the next one */
    fuse_reply_none(req);
}

void mapfs_handle_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets) {
    MapfsFs *fs = mapfs_request_session(req)->fs;

    for (size_t i = 0; i < count; i++)
        mapfs_fs_forget(fs, forgets[i].ino, forgets[i].nlookup);
    (void)mapfs_sigbus_taken(); /* as above */
    fuse_reply_none(req);
}

void mapfs_handle_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    MapfsAttr attr;
    int r;

    (void)fi; /* not given: there are no open files here */
    r = mapfs_fs_getattr(mapfs_request_session(req)->fs, ino, &attr);
    mapfs_reply_attr(req, r, &attr);
}

/* What libfuse's to_set bits mean here, one for one. */
static const struct {
    int fuse;
    unsigned fs;
} set_masks[] = {
    {FUSE_SET_ATTR_MODE, MAPFS_SET_MODE},
    /* The kernel leaves it to the server to strip suid and sgid on every change of owner. */
    {FUSE_SET_ATTR_UID, MAPFS_SET_UID | MAPFS_SET_KILL_PRIV},
    {FUSE_SET_ATTR_GID, MAPFS_SET_GID | MAPFS_SET_KILL_PRIV},
    {FUSE_SET_ATTR_SIZE, MAPFS_SET_SIZE},
    {FUSE_SET_ATTR_ATIME, MAPFS_SET_ATIME},
    {FUSE_SET_ATTR_MTIME, MAPFS_SET_MTIME},
    {FUSE_SET_ATTR_CTIME, MAPFS_SET_CTIME},
    {FUSE_SET_ATTR_ATIME_NOW, MAPFS_SET_ATIME_NOW},
    {FUSE_SET_ATTR_MTIME_NOW, MAPFS_SET_MTIME_NOW},
    {FUSE_SET_ATTR_KILL_SUID, MAPFS_SET_KILL_PRIV},
    {FUSE_SET_ATTR_KILL_SGID, MAPFS_SET_KILL_PRIV},
};

static unsigned set_mask(int to_set) {
    unsigned mask = 0;

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(set_masks); i++)
        mask |= to_set & set_masks[i].fuse ? set_masks[i].fs : 0;
    /* The kernel sends both bits for "now". */
    if (mask & MAPFS_SET_ATIME_NOW)
        mask &= ~MAPFS_SET_ATIME;
    if (mask & MAPFS_SET_MTIME_NOW)
        mask &= ~MAPFS_SET_MTIME;
    return mask;
}

void mapfs_handle_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *stat, int to_set, struct fuse_file_info *fi) {
    const MapfsAttr attr = {
        .mode = stat->st_mode,
        .uid = stat->st_uid,
        .gid = stat->st_gid,
        .size = (uint64_t)stat->st_size,
        .atime = stat->st_atim,
        .mtime = stat->st_mtim,
        .ctime = stat->st_ctim,
    };
    MapfsAttr result;
    int r;

    (void)fi;
    r = mapfs_request_may_change(req);
    if (r == 0)
        r = mapfs_fs_setattr(mapfs_request_session(req)->fs, ino, set_mask(to_set), &attr, &result);
    mapfs_reply_attr(req, r, &result);
}

/* Flags of inodes have the values of STATX_ATTR_* too. */
#define STATX_FLAGS (MAPFS_INODE_IMMUTABLE | MAPFS_INODE_APPEND | MAPFS_INODE_NODUMP)
_Static_assert(STATX_FLAGS == (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP), "values");

static struct statx_timestamp statx_time(struct timespec time) {
    return (struct statx_timestamp){.tv_sec = time.tv_sec, .tv_nsec = (uint32_t)time.tv_nsec};
}

void mapfs_handle_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask, struct fuse_file_info *fi) {
    MapfsSession *session = mapfs_request_session(req);
    struct statx statx;
    struct stat stat;
    MapfsAttr attr;
    int r;

    (void)flags;
    (void)mask;
    (void)fi;
    r = mapfs_request_result(req, mapfs_fs_getattr(session->fs, ino, &attr));
    if (r < 0) {
        (void)fuse_reply_err(req, -r);
        return;
    }
    mapfs_attr_to_stat(session, &attr, &stat);
    statx = (struct statx){
        .stx_mask = STATX_BASIC_STATS | STATX_BTIME,
        .stx_blksize = MAPFS_BLOCK_SIZE,
        .stx_nlink = (uint32_t)stat.st_nlink,
        .stx_uid = stat.st_uid,
        .stx_gid = stat.st_gid,
        .stx_mode = (uint16_t)stat.st_mode,
        .stx_ino = stat.st_ino,
        .stx_size = (uint64_t)stat.st_size,
        .stx_blocks = (uint64_t)stat.st_blocks,
        /* The kernel (6.18) does not look at these two yet. */
        .stx_attributes = attr.flags & STATX_FLAGS,
        .stx_attributes_mask = STATX_FLAGS,
        .stx_atime = statx_time(attr.atime),
        .stx_btime = statx_time(attr.btime),
        .stx_ctime = statx_time(attr.ctime),
        .stx_mtime = statx_time(attr.mtime),
        .stx_rdev_major = attr.rdev_major,
        .stx_rdev_minor = attr.rdev_minor,
    };
    (void)fuse_reply_statx(req, 0, &statx, MAPFS_FUSE_TIMEOUT);
}

void mapfs_handle_statfs(fuse_req_t req, fuse_ino_t ino) {
    MapfsFsStatus status;
    struct statvfs statvfs;
    int r;

    (void)ino;
    mapfs_fs_statfs(mapfs_request_session(req)->fs, &status);
    r = mapfs_request_result(req, 0);
    if (r < 0) {
        (void)fuse_reply_err(req, -r);
        return;
    }
    statvfs = (struct statvfs){
        .f_bsize = MAPFS_BLOCK_SIZE,
        .f_frsize = MAPFS_BLOCK_SIZE,
        .f_blocks = status.n_blocks,
        .f_bfree = status.n_free,
        .f_bavail = status.n_available,
        .f_files = status.n_inodes + status.n_inodes_free,
        .f_ffree = status.n_inodes_free,
        .f_favail = status.n_inodes_free,
        .f_namemax = MAPFS_NAME_LEN_MAX,
    };
    (void)fuse_reply_statfs(req, &statvfs);
}
