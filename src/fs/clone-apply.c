/* SPDX-License-Identifier: MIT */

/* Apply of CLONE: blocks of one file become those of another too. */

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mutant.h"
#include "fs/data-private.h"

/* A CLONE record's numbers. */
typedef struct {
    uint64_t source, source_logical, ino, logical, n_blocks;
} Clone;

/* The part of an extent of the source that lies in the range. */
static int clone_extent(MapfsTxn *txn, const Clone *clone, const MapfsExtent *extent) {
    MapfsTree *tree = mapfs_store_tree(txn->store);
    MapfsRun run = mapfs_extent_clip(extent, clone->source_logical, clone->source_logical + clone->n_blocks);
    MapfsExtent copy = *extent;
    int r;

    r = mapfs_extent_set_shared(tree, clone->source, extent);
    if (r == 0 && !MAPFS_MUTANT("uncounted-share"))
        r = mapfs_shared_add(tree, run);
    if (r < 0)
        return r;
    copy.logical = clone->logical + (extent->logical + (run.start.n - extent->block) - clone->source_logical);
    copy.block = run.start.n;
    copy.n_blocks = run.n_blocks;
    copy.flags |= MAPFS_EXTENT_SHARED;
    return mapfs_extent_add(txn, clone->ino, &copy);
}

static int clone_extents(MapfsTxn *txn, const Clone *clone, uint64_t *ret_n_added) {
    MapfsTree *tree = mapfs_store_tree(txn->store);
    uint64_t end = clone->source_logical + clone->n_blocks;
    uint64_t n_added = 0;

    for (uint64_t at = clone->source_logical; at < end;) {
        MapfsExtent extent;
        int r = mapfs_extent_find(tree, clone->source, at, &extent);

        if (r < 0)
            return r;
        if (r == 0 || extent.logical >= end)
            break;
        if (!(extent.flags & MAPFS_EXTENT_UNWRITTEN)) {
            r = clone_extent(txn, clone, &extent);
            n_added += mapfs_extent_clip(&extent, at, end).n_blocks;
        }
        if (r < 0)
            return r;
        at = extent.logical + extent.n_blocks;
    }
    *ret_n_added = n_added;
    return 0;
}

/* All but the inodes. */
static int clone_blocks(MapfsTxn *txn, const Clone *clone, struct mapfs_disk_inode *inode) {
    uint64_t n_dropped, n_added = 0;
    int r = 0;

    mapfs_txn_need_feature(txn, MAPFS_FEATURE_INCOMPAT_SHARED);
    if (mapfs_le64_load(inode->n_blocks) == 0)
        r = mapfs_tree_remove(mapfs_store_tree(txn->store), mapfs_inline_key(clone->ino));
    if (r < 0 && r != -ENOENT)
        return r;
    r = mapfs_extent_drop(txn, clone->ino, clone->logical, clone->logical + clone->n_blocks, &n_dropped);
    if (r == 0)
        r = clone_extents(txn, clone, &n_added);
    if (r < 0)
        return r;
    inode->n_blocks = mapfs_le64_store(mapfs_le64_load(inode->n_blocks) + n_added - n_dropped);
    return 0;
}

int mapfs_apply_clone(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) {
    const struct mapfs_disk_record_clone *value = (const struct mapfs_disk_record_clone *)record;
    const Clone clone = {.source = mapfs_le64_load(value->source),
                         .source_logical = mapfs_le64_load(value->source_logical),
                         .ino = mapfs_le64_load(value->ino),
                         .logical = mapfs_le64_load(value->logical),
                         .n_blocks = mapfs_le64_load(value->n_blocks)};
    uint32_t flags = mapfs_le32_load(value->flags);
    struct mapfs_disk_inode inode;
    int r;

    r = mapfs_apply_file_begin(fs, txn, clone.source, 0, &inode);
    if (r == 0)
        r = mapfs_apply_file_begin(fs, txn, clone.ino, flags, &inode);
    if (r < 0)
        return r;
    r = clone_blocks(txn, &clone, &inode);
    if (r < 0)
        return mapfs_apply_broken(fs, r);
    inode.size = value->size;
    return mapfs_apply_file_end(fs, record, clone.ino, flags, &inode);
}
