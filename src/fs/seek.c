/* SPDX-License-Identifier: MIT */

/* Where data and holes begin, by the extents. Content in the tree is data, unwritten extents are holes, and so is the end of the file. */

#include <errno.h>
#include <sys/stat.h>

#include "fs/data-private.h"

/* Extents looked at under one hold of the tree lock. */
#define SEEK_EXTENTS 256u

typedef struct {
    uint64_t offset; /* of the question */
    uint64_t size;
    MapfsSeek what;
    uint64_t at; /* block to look at next */
    uint64_t result;
} Seek;

/* The answer is byte `at`, or what lies behind it in the same block. 1. */
static int seek_found(Seek *seek, uint64_t at) {
    seek->result = MAPFS_MAX(at, seek->offset);
    return 1;
}

/* Looks at one extent: 1 when it gives the answer, 0 to go on, or -errno. */
static int seek_extent(Seek *seek, MapfsTree *tree, uint64_t ino) {
    uint64_t size = seek->size;
    bool is_data = false;
    MapfsExtent extent;
    int r;

    if (seek->at << MAPFS_BLOCK_SHIFT >= size)
        return seek->what == MAPFS_SEEK_HOLE ? seek_found(seek, size) : -ENXIO;
    r = mapfs_extent_find(tree, ino, seek->at, &extent);
    if (r < 0)
        return r;
    if (r == 0)
        return seek->what == MAPFS_SEEK_HOLE ? seek_found(seek, seek->at << MAPFS_BLOCK_SHIFT) : -ENXIO;
    is_data = !(extent.flags & MAPFS_EXTENT_UNWRITTEN);
    if (seek->what == MAPFS_SEEK_HOLE && (extent.logical > seek->at || !is_data))
        return seek_found(seek, seek->at << MAPFS_BLOCK_SHIFT);
    if (seek->what == MAPFS_SEEK_DATA && is_data && extent.logical << MAPFS_BLOCK_SHIFT < size)
        return seek_found(seek, MAPFS_MAX(extent.logical, seek->at) << MAPFS_BLOCK_SHIFT);
    seek->at = extent.logical + extent.n_blocks;
    return 0;
}

static int seek_inline(Seek *seek, uint64_t inline_len) {
    if (seek->what == MAPFS_SEEK_DATA)
        return seek->offset < inline_len ? seek_found(seek, 0) : -ENXIO;
    return seek_found(seek, inline_len);
}

/* With the tree held: 1, 0 or -errno as above. */
static int seek_locked(Seek *seek, MapfsTree *tree, uint64_t ino) {
    uint8_t bytes[MAPFS_INLINE_MAX];
    struct mapfs_disk_inode inode;
    int r;

    r = mapfs_inode_load(tree, ino, &inode);
    if (r < 0)
        return r;
    if (!S_ISREG(mapfs_le32_load(inode.mode)))
        return -EINVAL;
    seek->size = mapfs_le64_load(inode.size);
    if (seek->offset >= seek->size)
        return -ENXIO;
    if (mapfs_le64_load(inode.n_blocks) == 0) {
        r = mapfs_inline_load(tree, ino, seek->size, bytes);
        return r < 0 ? r : seek_inline(seek, (uint64_t)r);
    }
    for (unsigned i = 0; i < SEEK_EXTENTS; i++) {
        r = seek_extent(seek, tree, ino);
        if (r != 0)
            return r;
    }
    return 0;
}

int mapfs_fs_seek(MapfsFs *fs, uint64_t ino, uint64_t offset, MapfsSeek what, uint64_t *ret_offset) {
    const MapfsKey keys[] = {mapfs_inode_key(ino), mapfs_extent_key(ino, offset >> MAPFS_BLOCK_SHIFT)};
    Seek seek = {.offset = offset, .what = what, .at = offset >> MAPFS_BLOCK_SHIFT};
    int r;

    mapfs_store_prefetch(fs->store, keys, MAPFS_N_ELEMENTS(keys));
    do {
        mapfs_store_read_lock(fs->store);
        r = seek_locked(&seek, mapfs_store_tree(fs->store), ino);
        mapfs_store_read_unlock(fs->store);
    } while (r == 0);
    if (r < 0)
        return r;
    *ret_offset = seek.result;
    return 0;
}
