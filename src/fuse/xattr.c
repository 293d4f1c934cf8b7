/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include <glib.h>

#include "fuse/session-private.h"

/* The kernel hands on access control lists (system.posix_acl_*) even to who has not asked for them. A list that is stored but not honoured
 * would be worse than none: cp -p trusts it to set the mode. */
static int name_check(const char *name) {
    return g_str_has_prefix(name, "system.") ? -EOPNOTSUPP : 0;
}

void mapfs_handle_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                           int flags) {
    int r = mapfs_request_may_change(req);

    if (r == 0)
        r = name_check(name);
    if (r == 0)
        r = mapfs_fs_setxattr(mapfs_request_session(req)->fs, ino, name, (MapfsBytes){value, size}, (unsigned)flags);
    mapfs_reply_status(req, r);
}

/* The kernel asks with the caller's size, at most 64 KiB; with none it wants the length alone. */
static char *reply_buffer_new(size_t size) {
    return size > 0 ? g_try_malloc(size) : NULL;
}

void mapfs_handle_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size) {
    g_autofree char *buffer = reply_buffer_new(size);
    int r = size > 0 && !buffer ? -ENOMEM : name_check(name);

    if (r == 0)
        r = mapfs_fs_getxattr(mapfs_request_session(req)->fs, ino, name, buffer, size);
    mapfs_reply_xattr(req, r, buffer);
}

void mapfs_handle_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
    g_autofree char *buffer = reply_buffer_new(size);

    if (size > 0 && !buffer) {
        mapfs_reply_status(req, -ENOMEM);
        return;
    }
    mapfs_reply_xattr(req, mapfs_fs_listxattr(mapfs_request_session(req)->fs, ino, buffer, size), buffer);
}

void mapfs_handle_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name) {
    int r = mapfs_request_may_change(req);

    if (r == 0)
        r = name_check(name);
    if (r == 0)
        r = mapfs_fs_removexattr(mapfs_request_session(req)->fs, ino, name);
    mapfs_reply_status(req, r);
}
