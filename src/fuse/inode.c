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
    if (ino == FUSE_ROOT_ID)
        mapfs_reply_root(req, r, &attr);
    else
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

/* chown(path, -1, -1) changes no owner, but takes privileges away and touches the inode. The kernel sends it with no bit set, or with that of ctime
 * alone when it keeps times itself (cache=writeback), and nothing else so but what file_remove_privs() asks for: the same. */
#define CHOWN_OF_NOTHING MAPFS_SET_KILL_PRIV

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
        r = mapfs_fs_setattr(mapfs_request_session(req)->fs, ino,
                             (to_set & ~FUSE_SET_ATTR_CTIME) == 0 ? CHOWN_OF_NOTHING : set_mask(to_set), &attr,
                             &result);
    mapfs_reply_attr(req, r, &result);
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
        .f_files = status.n_inodes,
        .f_ffree = status.n_inodes_free,
        .f_favail = status.n_inodes_free,
        .f_namemax = MAPFS_NAME_LEN_MAX,
    };
    (void)fuse_reply_statfs(req, &statvfs);
}
