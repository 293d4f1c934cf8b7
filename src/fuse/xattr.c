/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <glib.h>

#include "fuse/loop.h"
#include "fuse/session-private.h"

/* As in Linux. */
#define LIST_LEN_MAX 65536u

/* The kernel hands on names of any kind. Other filesystems know these. */
static int name_check(const char *name) {
    static const char *const prefixes[] = {"user.", "trusted.", "security."};

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(prefixes); i++) {
        if (g_str_has_prefix(name, prefixes[i]))
            return name[strlen(prefixes[i])] == '\0' ? -EINVAL : 0;
    }
    return strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0 ? 0
                                                                                                         : -EOPNOTSUPP;
}

/* A new access list takes setgid away from who is not in the file's group: the kernel says so in a field that libfuse does not hand
 * on. A kernel that does not say is not asked twice: only root keeps the bit. */
static unsigned sgid_flag(fuse_req_t req) {
    const bool kill =
        mapfs_request_session(req)->tells_sgid ? mapfs_loop_setxattr_kills_sgid() : fuse_req_ctx(req)->uid != 0;

    return kill ? MAPFS_XATTR_FLAG_KILL_SGID : 0;
}

void mapfs_handle_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                           int flags) {
    int r = mapfs_request_may_change(req);

    if (r == 0)
        r = name_check(name);
    if (r == 0)
        r = mapfs_fs_setxattr(mapfs_request_session(req)->fs, ino, name, (MapfsBytes){value, size},
                              (unsigned)flags | sgid_flag(req));
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

/* Takes the trusted attributes out of a list of names, as other filesystems do for all but root. Returns its new length. */
static size_t list_hide_trusted(char *list, size_t len) {
    size_t kept = 0;

    for (size_t at = 0; at < len;) {
        size_t n = strlen(list + at) + 1;

        if (!g_str_has_prefix(list + at, "trusted.")) {
            memmove(list + kept, list + at, n);
            kept += n;
        }
        at += n;
    }
    return kept;
}

/* The list that the user who asks may see: its length, and in `buffer` as much as fits. */
static int list_for_user(fuse_req_t req, fuse_ino_t ino, char *buffer, size_t size) {
    MapfsFs *fs = mapfs_request_session(req)->fs;
    g_autofree char *whole = NULL;
    size_t len;
    int r;

    if (fuse_req_ctx(req)->uid == 0)
        return mapfs_fs_listxattr(fs, ino, buffer, size);
    whole = g_try_malloc(LIST_LEN_MAX);
    r = whole ? mapfs_fs_listxattr(fs, ino, whole, LIST_LEN_MAX) : -ENOMEM;
    if (r < 0)
        return r;
    len = list_hide_trusted(whole, (size_t)r);
    if (size > 0 && len > size)
        return -ERANGE;
    if (size > 0)
        memcpy(buffer, whole, len);
    return (int)len;
}

void mapfs_handle_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size) {
    g_autofree char *buffer = reply_buffer_new(size);

    if (size > 0 && !buffer) {
        mapfs_reply_status(req, -ENOMEM);
        return;
    }
    mapfs_reply_xattr(req, list_for_user(req, ino, buffer, size), buffer);
}

void mapfs_handle_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name) {
    int r = mapfs_request_may_change(req);

    if (r == 0)
        r = name_check(name);
    if (r == 0)
        r = mapfs_fs_removexattr(mapfs_request_session(req)->fs, ino, name);
    mapfs_reply_status(req, r);
}
