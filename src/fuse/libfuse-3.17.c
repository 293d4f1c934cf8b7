/* SPDX-License-Identifier: MIT */

/* In the place of libfuse-3.18.c, for the libfuse of Debian 13: no statx, so no birth times; and a write does not tell whether it takes suid
 * away, so the kernel asks for that itself, before the write. */

#include "fuse/session-private.h"

bool mapfs_libfuse_kills_privileges(const struct fuse_file_info *fi) {
    (void)fi;
    return false;
}

void mapfs_libfuse_choose_features(struct fuse_conn_info *connection) {
    fuse_unset_feature_flag(connection, FUSE_CAP_HANDLE_KILLPRIV);
    fuse_unset_feature_flag(connection, FUSE_CAP_HANDLE_KILLPRIV_V2);
}

void mapfs_libfuse_add_handlers(struct fuse_lowlevel_ops *handlers) {
    (void)handlers;
}
