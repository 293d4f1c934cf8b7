/* SPDX-License-Identifier: MIT */

/* Reading: the extents are looked up under the tree lock, the bytes are copied without it; a reader epoch keeps the blocks
 * from being handed out again meanwhile. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "fs/data-private.h"

/* What holes are read from. */
#define ZERO_LEN_BYTES 65536u
static const uint8_t zeros[ZERO_LEN_BYTES];

/* Runs at least this long are read from the host ahead of the copy; a shorter one is a page fault or two. */
#define READ_AHEAD_BLOCKS 4u
/* But a file that is read whole in one run that short has neighbours that will be read too: 64 KiB, aligned. */
#define READ_AROUND_BLOCKS 16u

static int read_add(MapfsRead *read, const void *bytes, size_t len) {
    /* A piece is at least a block long, but for the first and the last: there is always a place for it. */
    if (read->n_iov == MAPFS_IO_IOV_MAX)
        return -EIO;
    read->iov[read->n_iov++] = (struct iovec){(void *)(uintptr_t)bytes, len};
    read->len += len;
    return 0;
}

static int read_add_zeros(MapfsRead *read, size_t len) {
    int r = 0;

    while (len > 0 && r == 0) {
        size_t part = MAPFS_MIN(len, ZERO_LEN_BYTES);

        r = read_add(read, zeros, part);
        len -= part;
    }
    return r;
}

/* The bytes [offset, offset + len) that lie in one extent. */
static int read_add_extent(MapfsFs *fs, MapfsRead *read, const MapfsExtent *extent, uint64_t offset, size_t len) {
    MapfsRun run = {{extent->block}, extent->n_blocks};
    const uint8_t *bytes;

    if (extent->flags & MAPFS_EXTENT_UNWRITTEN)
        return read_add_zeros(read, len);
    if (mapfs_store_is_lost(fs->store, (MapfsEpoch){extent->birth_epoch}))
        return -EIO;
    bytes = mapfs_image_read(mapfs_store_image(fs->store), run);
    if (!bytes)
        return mapfs_damage(extent->block, "extent", "of %" PRIu64 " blocks does not lie in the image",
                            extent->n_blocks);
    return read_add(read, bytes + (offset - (extent->logical << MAPFS_BLOCK_SHIFT)), len);
}

static int read_extents(MapfsFs *fs, uint64_t ino, uint64_t offset, size_t len, MapfsRead *read) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    uint64_t end = offset + len;

    while (offset < end) {
        MapfsExtent extent;
        uint64_t start = end, stop = end;
        int r;

        r = mapfs_extent_find(tree, ino, offset >> MAPFS_BLOCK_SHIFT, &extent);
        if (r < 0)
            return r;
        if (r > 0) {
            start = MAPFS_MIN(MAPFS_MAX(extent.logical << MAPFS_BLOCK_SHIFT, offset), end);
            stop = MAPFS_MIN((extent.logical + extent.n_blocks) << MAPFS_BLOCK_SHIFT, end);
        }
        r = read_add_zeros(read, start - offset);
        if (r == 0 && stop > start)
            r = read_add_extent(fs, read, &extent, start, stop - start);
        if (r < 0)
            return r;
        offset = stop;
    }
    return 0;
}

static int read_inline(MapfsRead *read, uint64_t offset, size_t len, size_t inline_len) {
    size_t here = offset < inline_len ? MAPFS_MIN(len, inline_len - offset) : 0;
    int r = 0;

    if (here > 0)
        r = read_add(read, read->inline_bytes + offset, here);
    return r < 0 ? r : read_add_zeros(read, len - here);
}

static int read_locked(MapfsFs *fs, uint64_t ino, uint64_t offset, size_t len, MapfsRead *read) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    struct mapfs_disk_inode inode;
    uint64_t size;
    int r;

    r = mapfs_inode_load_file(tree, ino, &inode);
    if (r < 0)
        return r;
    size = MAPFS_MIN(mapfs_le64_load(inode.size), MAPFS_FILE_SIZE_MAX);
    if (offset >= size)
        return 0;
    len = (size_t)MAPFS_MIN(len, size - offset);
    if (mapfs_le64_load(inode.n_blocks) > 0)
        return read_extents(fs, ino, offset, len, read);
    r = mapfs_inline_load(tree, ino, size, read->inline_bytes);
    return r < 0 ? r : read_inline(read, offset, len, (size_t)r);
}

static MapfsRun iov_run(const MapfsImage *image, const struct iovec *iov) {
    const uint8_t *bytes = iov->iov_base;
    uint64_t first, last;

    if (bytes < image->base || bytes >= image->base + (image->n_blocks << MAPFS_BLOCK_SHIFT))
        return (MapfsRun){{0}, 0};
    first = (uint64_t)(bytes - image->base) >> MAPFS_BLOCK_SHIFT;
    last = (uint64_t)(bytes + iov->iov_len - 1 - image->base) >> MAPFS_BLOCK_SHIFT;
    return (MapfsRun){{first}, last - first + 1};
}

static void read_around(MapfsImage *image, MapfsRun run) {
    uint64_t first = run.start.n - run.start.n % READ_AROUND_BLOCKS;

    if (!mapfs_image_resident(image, run))
        mapfs_image_read_ahead(image, (MapfsRun){{first}, MAPFS_MIN(READ_AROUND_BLOCKS, image->n_blocks - first)});
}

static void read_ahead(MapfsImage *image, const MapfsRead *read, bool is_small) {
    for (unsigned i = 0; i < read->n_iov; i++) {
        MapfsRun run = iov_run(image, &read->iov[i]);

        if (run.n_blocks >= READ_AHEAD_BLOCKS)
            mapfs_image_read_ahead(image, run);
        else if (run.n_blocks > 0 && is_small)
            read_around(image, run);
    }
}

int mapfs_fs_read_begin(MapfsFs *fs, uint64_t ino, uint64_t offset, size_t len, MapfsRead *read) {
    const MapfsKey keys[] = {mapfs_inode_key(ino), mapfs_extent_key(ino, offset >> MAPFS_BLOCK_SHIFT)};
    int r;

    read->n_iov = 0;
    read->len = 0;
    len = MAPFS_MIN(len, MAPFS_IO_LEN_MAX);
    mapfs_store_prefetch(fs->store, keys, MAPFS_N_ELEMENTS(keys));
    read->reader = mapfs_store_reader_enter(fs->store);
    mapfs_store_read_lock(fs->store);
    r = read_locked(fs, ino, offset, len, read);
    mapfs_store_read_unlock(fs->store);
    if (r < 0) {
        mapfs_store_reader_leave(fs->store, read->reader);
        return r;
    }
    /* So little from the start on is mostly a whole file. */
    read_ahead(mapfs_store_image(fs->store), read, offset == 0 && read->len <= READ_AHEAD_BLOCKS * MAPFS_BLOCK_SIZE);
    return 0;
}

int mapfs_fs_read_end(MapfsFs *fs, MapfsRead *read) {
    const MapfsImage *image = mapfs_store_image(fs->store);
    int r = mapfs_sigbus_taken() ? -EIO : 0;

    mapfs_store_reader_leave(fs->store, read->reader);
    for (unsigned i = 0; i < read->n_iov && r == 0; i++) {
        MapfsRun run = iov_run(image, &read->iov[i]);

        if (run.n_blocks > 0 && mapfs_image_lost(image, run))
            r = -EIO;
    }
    return r;
}

static int read_copy(MapfsFs *fs, uint64_t ino, uint64_t offset, uint8_t *buffer, size_t len) {
    g_autofree MapfsRead *read = g_new(MapfsRead, 1);
    int r;

    r = mapfs_fs_read_begin(fs, ino, offset, len, read);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < read->n_iov; i++) {
        memcpy(buffer, read->iov[i].iov_base, read->iov[i].iov_len);
        buffer += read->iov[i].iov_len;
    }
    r = mapfs_fs_read_end(fs, read);
    return r < 0 ? r : (int)read->len;
}

int mapfs_fs_read(MapfsFs *fs, uint64_t ino, uint64_t offset, void *buffer, size_t len) {
    uint8_t *bytes = buffer;
    size_t n_done = 0;

    while (n_done < len) {
        int r = read_copy(fs, ino, offset + n_done, bytes + n_done, len - n_done);

        if (r < 0)
            return r;
        if (r == 0)
            break;
        n_done += (size_t)r;
    }
    return (int)n_done;
}
