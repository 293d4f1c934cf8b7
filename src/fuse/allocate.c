/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "fuse/session-private.h"

_Static_assert(MAPFS_ALLOCATE_KEEP_SIZE == FALLOC_FL_KEEP_SIZE && MAPFS_ALLOCATE_PUNCH == FALLOC_FL_PUNCH_HOLE &&
                   MAPFS_ALLOCATE_ZERO == FALLOC_FL_ZERO_RANGE,
               "the modes are Linux's");

/* The kernel refuses all other modes by itself. It leaves suid and sgid to be stripped here, as with all changes, but does not tell whether the caller
 * may keep them: root may. */
void mapfs_handle_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len,
                            struct fuse_file_info *fi) {
    const unsigned strip = fuse_req_ctx(req)->uid != 0 ? MAPFS_ALLOCATE_KILL_PRIV : 0;
    int r;

    (void)fi;
    r = mapfs_request_may_change(req);
    if (r == 0 && (offset < 0 || len <= 0))
        r = -EINVAL;
    if (r == 0)
        r = mapfs_fs_allocate(mapfs_request_session(req)->fs, ino, (unsigned)mode | strip,
                              (MapfsIoRange){(uint64_t)offset, (size_t)len});
    mapfs_reply_status(req, r);
}

/* SEEK_DATA and SEEK_HOLE; the kernel does the others itself. It asks without handing on first what it keeps back, so with the writeback cache
 * new data would be told to be a hole, and copies would miss it: then the kernel must answer by itself, all of a file being data. What lies in
 * the kernel alone could only be fetched by an invalidation, for which this thread would wait where not even a SIGKILL ends it. */
void mapfs_handle_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi) {
    uint64_t found = 0;
    int r;

    (void)fi;
    if (mapfs_request_session(req)->config->cache_writeback)
        r = -ENOSYS;
    else if (whence != SEEK_DATA && whence != SEEK_HOLE)
        r = -EINVAL;
    else if (offset < 0)
        r = -ENXIO;
    else
        r = mapfs_fs_seek(mapfs_request_session(req)->fs, ino, (uint64_t)offset,
                          whence == SEEK_DATA ? MAPFS_SEEK_DATA : MAPFS_SEEK_HOLE, &found);
    r = mapfs_request_result(req, r);
    if (r < 0)
        (void)fuse_reply_err(req, -r);
    else
        (void)fuse_reply_lseek(req, (off_t)found);
}
