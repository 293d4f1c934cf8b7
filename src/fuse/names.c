/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "fuse/session-private.h"

void mapfs_handle_lookup(fuse_req_t req, fuse_ino_t parent, const char *name) {
    MapfsAttr attr;
    int r = mapfs_fs_lookup(mapfs_request_session(req)->fs, parent, name, strlen(name), &attr);

    if (r == -ENOENT && (r = mapfs_request_result(req, r)) == -ENOENT) {
        /* Node 0 says that there is none, and that this may be remembered. */
        const struct fuse_entry_param none = {.entry_timeout = MAPFS_FUSE_TIMEOUT};

        (void)fuse_reply_entry(req, &none);
        return;
    }
    mapfs_reply_entry(req, r, &attr);
}

/* A new inode belongs to the user who asks. */
static int request_prepare(fuse_req_t req, MapfsNewInode *new_inode) {
    const struct fuse_ctx *context = fuse_req_ctx(req);

    new_inode->uid = context->uid;
    new_inode->gid = context->gid;
    new_inode->umask = context->umask;
    return mapfs_request_may_change(req);
}

/* Makes an inode of any type. */
static int request_create(fuse_req_t req, fuse_ino_t parent, const char *name, MapfsNewInode *new_inode,
                          MapfsAttr *ret_attr) {
    int r = request_prepare(req, new_inode);

    if (r < 0)
        return r;
    return mapfs_fs_create(mapfs_request_session(req)->fs, &(MapfsName){parent, name, strlen(name)}, new_inode,
                           ret_attr);
}

/* Answering ENOSYS here would make the kernel use MKNOD, and then check the new file's mode before it opens it: open(path,
 * O_CREAT | O_WRONLY, 0444) would fail for ordinary users. No RELEASE follows, since OPEN is not implemented. */
void mapfs_handle_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi) {
    MapfsNewInode new_inode = {.mode = S_IFREG | (mode & 07777)};
    MapfsAttr attr;
    int r = request_create(req, parent, name, &new_inode, &attr);

    fi->keep_cache = 1;
    fi->parallel_direct_writes = 1;
    mapfs_reply_create(req, r, &attr, fi);
}

/* A file without a name: open(2) with O_TMPFILE. Which of them linkat(2) may name is the kernel's to say (O_EXCL forbids it). */
void mapfs_handle_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi) {
    MapfsNewInode new_inode = {.mode = S_IFREG | (mode & 07777)};
    MapfsAttr attr;
    int r = request_prepare(req, &new_inode);

    if (r == 0)
        r = mapfs_fs_tmpfile(mapfs_request_session(req)->fs, parent, &new_inode, &attr);
    fi->keep_cache = 1;
    fi->parallel_direct_writes = 1;
    mapfs_reply_create(req, r, &attr, fi);
}

void mapfs_handle_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev) {
    MapfsNewInode new_inode = {.mode = mode};
    MapfsAttr attr;
    int r;

    if (S_ISCHR(mode) || S_ISBLK(mode)) {
        new_inode.rdev_major = major(rdev);
        new_inode.rdev_minor = minor(rdev);
    }
    r = request_create(req, parent, name, &new_inode, &attr);
    mapfs_reply_entry(req, r, &attr);
}

void mapfs_handle_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode) {
    MapfsNewInode new_inode = {.mode = S_IFDIR | (mode & 07777)};
    MapfsAttr attr;
    int r = request_create(req, parent, name, &new_inode, &attr);

    mapfs_reply_entry(req, r, &attr);
}

void mapfs_handle_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name) {
    MapfsNewInode new_inode = {.mode = S_IFLNK | 0777, .target = target, .target_len = strlen(target)};
    MapfsAttr attr;
    int r = request_create(req, parent, name, &new_inode, &attr);

    mapfs_reply_entry(req, r, &attr);
}

void mapfs_handle_readlink(fuse_req_t req, fuse_ino_t ino) {
    char target[MAPFS_SYMLINK_LEN_MAX + 1];
    int r = mapfs_request_result(req, mapfs_fs_readlink(mapfs_request_session(req)->fs, ino, target));

    if (r < 0)
        (void)fuse_reply_err(req, -r);
    else
        (void)fuse_reply_readlink(req, target);
}

void mapfs_handle_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name) {
    MapfsAttr attr;
    int r = mapfs_request_may_change(req);

    if (r == 0)
        r = mapfs_fs_link(mapfs_request_session(req)->fs, ino, &(MapfsName){new_parent, new_name, strlen(new_name)},
                          &attr);
    mapfs_reply_entry(req, r, &attr);
}

void mapfs_handle_unlink(fuse_req_t req, fuse_ino_t parent, const char *name) {
    int r = mapfs_request_may_change(req);

    if (r == 0)
        r = mapfs_fs_unlink(mapfs_request_session(req)->fs, parent, name, strlen(name));
    mapfs_reply_status(req, r);
}

void mapfs_handle_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name) {
    int r = mapfs_request_may_change(req);

    if (r == 0)
        r = mapfs_fs_rmdir(mapfs_request_session(req)->fs, parent, name, strlen(name));
    mapfs_reply_status(req, r);
}

/* Linux has it since 3.18, its C library since 2.28. */
#ifndef RENAME_WHITEOUT
#define RENAME_WHITEOUT 4
#endif

/* The other flags have the kernel's values on both sides; which go together, the kernel has looked at. */
void mapfs_handle_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                         const char *new_name, unsigned int flags) {
    const MapfsName from = {.parent = parent, .name = name, .name_len = strlen(name)};
    const MapfsName to = {.parent = new_parent, .name = new_name, .name_len = strlen(new_name)};
    MapfsFs *fs = mapfs_request_session(req)->fs;
    MapfsNewInode whiteout = {0};
    int r = request_prepare(req, &whiteout);

    if (r == 0 && flags & RENAME_WHITEOUT)
        r = mapfs_fs_rename_whiteout(fs, &from, &to, flags & ~(unsigned)RENAME_WHITEOUT, &whiteout);
    else if (r == 0)
        r = mapfs_fs_rename(fs, &from, &to, flags);
    mapfs_reply_status(req, r);
}
