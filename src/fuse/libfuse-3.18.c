/* SPDX-License-Identifier: MIT */

/* What libfuse 3.18 and newer have, and 3.17 does not. */

#include <sys/stat.h>

#include "fuse/session-private.h"

bool mapfs_libfuse_kills_privileges(const struct fuse_file_info *fi) {
    return fi->kill_suidgid;
}

void mapfs_libfuse_choose_features(struct fuse_conn_info *connection) {
    /* A flag that the kernel does not know stays off. */
    (void)fuse_set_feature_flag(connection, FUSE_CAP_HANDLE_KILLPRIV_V2);
    fuse_unset_feature_flag(connection, FUSE_CAP_OVER_IO_URING); /* a reply from another thread can be lost in 3.18.3 */
}

/* Flags of inodes have the values of STATX_ATTR_* too. */
#define STATX_FLAGS (MAPFS_INODE_IMMUTABLE | MAPFS_INODE_APPEND | MAPFS_INODE_NODUMP)
_Static_assert(STATX_FLAGS == (STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP), "values");

static struct statx_timestamp statx_time(struct timespec time) {
    return (struct statx_timestamp){.tv_sec = time.tv_sec, .tv_nsec = (uint32_t)time.tv_nsec};
}

static void handle_statx(fuse_req_t req, fuse_ino_t ino, int flags, int mask, struct fuse_file_info *fi) {
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

void mapfs_libfuse_add_handlers(struct fuse_lowlevel_ops *handlers) {
    handlers->statx = handle_statx;
}
