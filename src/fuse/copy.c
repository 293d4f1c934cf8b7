/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "fuse/session-private.h"

/* A part of a file to another one. The kernel has written back what it holds of both and drops its pages of the copy. */
void mapfs_handle_copy_file_range(fuse_req_t req, fuse_ino_t from_ino, off_t from_offset, struct fuse_file_info *from,
                                  fuse_ino_t to_ino, off_t to_offset, struct fuse_file_info *to, size_t len,
                                  int flags) {
    MapfsCopyRange range = {.from_ino = from_ino,
                            .from_offset = (uint64_t)from_offset,
                            .to_ino = to_ino,
                            .to_offset = (uint64_t)to_offset,
                            .len = len};
    /* The kernel leaves suid and sgid to us, and does not say here whether the caller may keep them: root may. */
    const unsigned how = fuse_req_ctx(req)->uid != 0 ? MAPFS_WRITE_FLAG_KILL_PRIV : 0;
    MapfsSession *session = mapfs_request_session(req);
    uint64_t n_copied = 0;
    int r;

    (void)from;
    (void)to;
    /* Before, the answer has 32 bits, whatever was asked for. */
    if (!session->copies_long)
        range.len = MAPFS_MIN(range.len, UINT32_MAX & ~(uint64_t)(MAPFS_BLOCK_SIZE - 1));
    r = mapfs_request_may_change(req);
    if (r == 0 && flags != 0)
        r = -EINVAL;
    if (r == 0)
        r = mapfs_fs_copy_range(session->fs, &range, how, &n_copied);
    r = mapfs_request_result(req, r);
    if (r < 0)
        (void)fuse_reply_err(req, -r);
    else
        (void)fuse_reply_write(req, n_copied);
}
