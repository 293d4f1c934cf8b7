/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "fuse/session-private.h"

/* Data goes from the mapping into the kernel in one copy. When a page of it cannot be read from the host, the kernel gives EIO
 * to the reader by itself. */
void mapfs_handle_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
    MapfsFs *fs = mapfs_request_session(req)->fs;
    MapfsRead read;
    int r;

    (void)fi;
    r = mapfs_fs_read_begin(fs, ino, (uint64_t)offset, MAPFS_MIN(size, (size_t)MAPFS_IO_LEN_MAX), &read);
    if (r < 0) {
        mapfs_reply_status(req, r);
        return;
    }
    r = mapfs_request_result(req, 0);
    if (r < 0)
        (void)fuse_reply_err(req, -r);
    else
        (void)fuse_reply_iov(req, read.iov, (int)read.n_iov);
    r = mapfs_fs_read_end(fs, &read);
    (void)r; /* too late for this request, which the kernel has ended with EIO in that case */
}

/* Room for libfuse's vector of buffers, which ends in an array of one by its type. */
typedef struct {
    _Alignas(struct fuse_bufvec) char bytes[sizeof(struct fuse_bufvec) + MAPFS_IO_IOV_MAX * sizeof(struct fuse_buf)];
} BufferRoom;

static struct fuse_bufvec *buffers_init(BufferRoom *room, const MapfsWrite *write) {
    struct fuse_bufvec *vector = (struct fuse_bufvec *)room->bytes;

    *vector = (struct fuse_bufvec){.count = write->n_iov};
    for (unsigned i = 0; i < write->n_iov; i++)
        vector->buf[i] = (struct fuse_buf){
            .size = write->iov[i].iov_len,
            .mem = write->iov[i].iov_base,
        };
    return vector;
}

/* One write of the first `range.len` bytes, at most MAPFS_IO_LEN_MAX, from memory or from the pipe that libfuse has spliced it into. */
static int request_write(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *source, MapfsIoRange range,
                         unsigned flags) {
    MapfsFs *fs = mapfs_request_session(req)->fs;
    MapfsWrite write;
    BufferRoom room;
    ssize_t n;
    int r;

    r = mapfs_fs_write_begin(fs, ino, range, flags, &write);
    if (r < 0)
        return r;
    n = fuse_buf_copy(buffers_init(&room, &write), source, 0);
    if (n != (ssize_t)range.len || mapfs_sigbus_taken()) {
        mapfs_fs_write_abort(fs, &write);
        return n < 0 ? (int)n : -EIO;
    }
    return mapfs_fs_write_commit(fs, &write);
}

/* As much of the range as fits into a full image; *range becomes that. Nothing is taken from the source by an attempt that finds no room. */
static int request_write_fitting(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *source, MapfsIoRange *range,
                                 unsigned flags) {
    int r = request_write(req, ino, source, *range, flags);

    while (r == -ENOSPC && range->len > MAPFS_BLOCK_SIZE) {
        uint64_t end = range->offset + range->len / 2;

        /* Up to the end of a block, unless that is where it began. */
        end -= end % MAPFS_BLOCK_SIZE < end - range->offset ? end % MAPFS_BLOCK_SIZE : 0;
        range->len = (size_t)(end - range->offset);
        r = request_write(req, ino, source, *range, flags);
    }
    return r;
}

/* Pages that the kernel writes back come without the flags of the file that they were written to. With the writeback cache that is all
 * there is, and without it they come from shared mappings, which nobody can append with. */
static unsigned write_flags(fuse_req_t req, const struct fuse_file_info *fi) {
    const bool cached = fi->writepage && mapfs_request_session(req)->config->cache_writeback;
    const unsigned kill = mapfs_libfuse_kills_privileges(fi) ? MAPFS_WRITE_FLAG_KILL_PRIV : 0;

    return kill | (fi->flags & O_APPEND || cached ? MAPFS_WRITE_FLAG_APPEND : 0);
}

void mapfs_handle_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *source, off_t offset,
                            struct fuse_file_info *fi) {
    MapfsIoRange range = {(uint64_t)offset, fuse_buf_size(source)};
    int r;

    r = mapfs_request_may_change(req);
    if (r == 0 && range.len > MAPFS_IO_LEN_MAX)
        r = -EINVAL; /* more than INIT agreed on */
    /* At the largest size of a file as much is written as fits, as everywhere; what begins there is -EFBIG below. */
    if (range.offset < MAPFS_FILE_SIZE_MAX)
        range.len = MAPFS_MIN(range.len, MAPFS_FILE_SIZE_MAX - range.offset);
    /* Of pages that it writes back the kernel takes all for written. */
    if (r == 0 && fi->writepage)
        r = request_write(req, ino, source, range, write_flags(req, fi));
    else if (r == 0)
        r = request_write_fitting(req, ino, source, &range, write_flags(req, fi));
    /* The kernel sends no FSYNC after a direct write of a file that was opened with O_SYNC. O_SYNC has the bit of O_DSYNC. */
    if (r == 0 && (fi->flags & O_DSYNC))
        r = mapfs_fs_sync(mapfs_request_session(req)->fs);
    r = mapfs_request_result(req, r);
    if (r < 0)
        (void)fuse_reply_err(req, -r);
    else
        (void)fuse_reply_write(req, range.len);
}

/* Of files and of directories. */
void mapfs_handle_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi) {
    (void)ino;
    (void)datasync;
    (void)fi;
    mapfs_reply_status(req, mapfs_fs_sync(mapfs_request_session(req)->fs));
}
