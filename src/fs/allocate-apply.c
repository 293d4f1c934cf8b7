/* SPDX-License-Identifier: MIT */

/* Apply of the records that preallocation and holes add: PUNCH, and MAP where it turns unwritten blocks into written ones. */

#include <inttypes.h>

#include "base/error.h"
#include "fs/data-private.h"

/* The unwritten extent that holds `at`, where the file's block `extent->logical` lies at `extent->block`. */
static int unwritten_find(MapfsTree *tree, uint64_t ino, const MapfsExtent *extent, uint64_t at,
                          MapfsExtent *ret_found) {
    int r;

    r = mapfs_extent_find(tree, ino, at, ret_found);
    if (r < 0)
        return r;
    if (r == 0 || ret_found->logical > at || ret_found->flags != MAPFS_EXTENT_UNWRITTEN ||
        ret_found->block + (at - ret_found->logical) != extent->block + (at - extent->logical))
        return mapfs_damage(extent->block, "record",
                            "converts block %" PRIu64 " of inode %" PRIu64 ", which is not unwritten there", at, ino);
    return 0;
}

int mapfs_extent_convert(MapfsTxn *txn, uint64_t ino, const MapfsExtent *extent) {
    MapfsTree *tree = mapfs_store_tree(txn->store);
    uint64_t end = extent->logical + extent->n_blocks;
    int r = 0;

    for (uint64_t at = extent->logical; at < end && r == 0;) {
        MapfsExtent old;
        uint64_t stop;

        r = unwritten_find(tree, ino, extent, at, &old);
        if (r < 0)
            return r;
        stop = MAPFS_MIN(old.logical + old.n_blocks, end);
        r = mapfs_extent_cut(tree, ino, &old, at, stop);
        at = stop;
    }
    return r < 0 ? r : mapfs_extent_add(txn, ino, extent);
}

int mapfs_apply_punch(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) {
    const struct mapfs_disk_record_punch *punch = (const struct mapfs_disk_record_punch *)record;
    uint64_t ino = mapfs_le64_load(punch->ino), first = mapfs_le64_load(punch->logical);
    uint32_t flags = mapfs_le32_load(punch->flags);
    struct mapfs_disk_inode inode;
    uint64_t n_freed;
    int r;

    r = mapfs_apply_file_begin(fs, txn, ino, flags, &inode);
    if (r < 0)
        return r;
    r = mapfs_extent_drop(txn, ino, first, first + mapfs_le64_load(punch->n_blocks), &n_freed);
    if (r < 0)
        return mapfs_apply_broken(fs, r);
    inode.n_blocks = mapfs_le64_store(mapfs_le64_load(inode.n_blocks) - n_freed);
    return mapfs_apply_file_end(fs, record, ino, flags, &inode);
}
