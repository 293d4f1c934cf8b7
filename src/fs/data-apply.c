/* SPDX-License-Identifier: MIT */

/* Apply of the records that change a file's data: MAP, INLINE. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/mutant.h"
#include "fs/data-private.h"

/* What is there gives way to the new extent. */
static int map_drop(MapfsTxn *txn, uint64_t ino, const MapfsExtent *extent, uint64_t *ret_freed) {
    uint64_t end = extent->logical + extent->n_blocks;
    MapfsTree *tree = mapfs_store_tree(txn->store);
    MapfsExtent old;

    if (MAPFS_MUTANT("unwritten-in-place") && extent->flags == MAPFS_EXTENT_UNWRITTEN &&
        mapfs_extent_find(tree, ino, extent->logical, &old) > 0 &&
        old.block - old.logical == extent->block - extent->logical) {
        *ret_freed = extent->n_blocks;
        return mapfs_extent_cut(tree, ino, &old, extent->logical, end);
    }
    return mapfs_extent_drop(txn, ino, extent->logical, end, ret_freed);
}

static int map_blocks(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record_map *map,
                      struct mapfs_disk_inode *inode) {
    MapfsExtent extent = {
        .logical = mapfs_le64_load(map->logical),
        .block = mapfs_le64_load(map->block),
        .n_blocks = mapfs_le32_load(map->n_blocks),
        .flags = mapfs_le32_load(map->extent_flags),
        .birth_generation = txn->generation.n,
        .birth_epoch = mapfs_le64_load(map->birth_epoch),
    };
    uint64_t ino = mapfs_le64_load(map->ino);
    uint64_t n_freed;
    int r;

    if (mapfs_le32_load(map->flags) & MAPFS_WRITE_CONVERT) {
        r = mapfs_extent_convert(txn, ino, &extent);
        return r < 0 ? mapfs_apply_broken(fs, r) : 0;
    }
    r = map_drop(txn, ino, &extent, &n_freed);
    if (r < 0)
        return mapfs_apply_broken(fs, r);
    r = mapfs_extent_add(txn, ino, &extent);
    if (r < 0)
        return mapfs_apply_broken(fs, r);
    inode->n_blocks = mapfs_le64_store(mapfs_le64_load(inode->n_blocks) + extent.n_blocks - n_freed);
    return 0;
}

/* A file that leaves the tree: its content is in the blocks that the record maps. */
static int inline_leave(MapfsFs *fs, uint64_t ino, const struct mapfs_disk_inode *inode) {
    int r;

    if (mapfs_le64_load(inode->n_blocks) > 0)
        return 0;
    r = mapfs_tree_remove(mapfs_store_tree(fs->store), mapfs_inline_key(ino));
    return r == -ENOENT ? 0 : r;
}

int mapfs_apply_map(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) {
    const struct mapfs_disk_record_map *map = (const struct mapfs_disk_record_map *)record;
    uint64_t ino = mapfs_le64_load(map->ino);
    uint32_t flags = mapfs_le32_load(map->flags);
    struct mapfs_disk_inode inode;
    int r;

    r = mapfs_apply_file_begin(fs, txn, ino, flags, &inode);
    if (r < 0)
        return r;
    if (mapfs_le32_load(map->n_blocks) > 0) {
        r = inline_leave(fs, ino, &inode);
        if (r < 0)
            return mapfs_apply_broken(fs, r);
        r = map_blocks(fs, txn, map, &inode);
        if (r < 0)
            return r;
    }
    inode.size = map->size;
    return mapfs_apply_file_end(fs, record, ino, flags, &inode);
}

int mapfs_apply_inline(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) {
    const struct mapfs_disk_record_inline *content = (const struct mapfs_disk_record_inline *)record;
    MapfsTree *tree = mapfs_store_tree(fs->store);
    uint64_t ino = mapfs_le64_load(content->ino);
    uint32_t flags = mapfs_le32_load(content->flags);
    uint16_t len_bytes = mapfs_le16_load(content->len_bytes);
    struct mapfs_disk_inode inode;
    int r;

    r = mapfs_apply_file_begin(fs, txn, ino, flags, &inode);
    if (r < 0)
        return r;
    if (mapfs_le64_load(inode.n_blocks) > 0)
        return mapfs_apply_broken(
            fs,
            mapfs_damage(0, "record", "puts the content of inode %" PRIu64 " into the tree, but it has extents", ino));
    if (len_bytes > 0)
        r = mapfs_tree_put(tree, mapfs_inline_key(ino), content->bytes, len_bytes);
    else
        r = mapfs_tree_remove(tree, mapfs_inline_key(ino));
    if (r < 0 && r != -ENOENT)
        return mapfs_apply_broken(fs, r);
    inode.size = mapfs_le64_store(len_bytes);
    return mapfs_apply_file_end(fs, record, ino, flags, &inode);
}
