/* SPDX-License-Identifier: MIT */

/* Extents in the tree. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "fs/data-private.h"

static int extent_decode(const MapfsItem *item, MapfsExtent *ret_extent) {
    struct mapfs_disk_extent extent;

    if (item->value_len != sizeof(extent))
        return mapfs_damage(0, "extent", "of inode %" PRIu64 " has a length of %zu bytes", item->key.object,
                            item->value_len);
    memcpy(&extent, item->value, sizeof(extent));
    *ret_extent = (MapfsExtent){
        .logical = item->key.offset,
        .block = mapfs_le64_load(extent.block),
        .n_blocks = mapfs_le32_load(extent.n_blocks),
        .flags = mapfs_le32_load(extent.flags),
        .birth_generation = mapfs_le64_load(extent.birth_generation),
        .birth_epoch = mapfs_le64_load(extent.birth_epoch),
    };
    if (ret_extent->n_blocks == 0 || ret_extent->n_blocks > MAPFS_EXTENT_BLOCKS_MAX ||
        ret_extent->logical > MAPFS_FILE_SIZE_MAX >> MAPFS_BLOCK_SHIFT)
        return mapfs_damage(0, "extent", "of inode %" PRIu64 " at its block %" PRIu64 " has %" PRIu64 " blocks",
                            item->key.object, ret_extent->logical, ret_extent->n_blocks);
    return 0;
}

static bool item_is_extent(const MapfsItem *item, uint64_t ino) {
    return item->key.object == ino && item->key.kind == MAPFS_KIND_EXTENT;
}

/* The last extent that starts at or before `logical`. */
static int extent_before(MapfsTree *tree, uint64_t ino, uint64_t logical, MapfsExtent *ret_extent) {
    MapfsItem item;
    int r;

    r = mapfs_tree_lookup_le(tree, mapfs_extent_key(ino, logical), &item);
    if (r <= 0)
        return r;
    if (!item_is_extent(&item, ino))
        return 0;
    r = extent_decode(&item, ret_extent);
    return r < 0 ? r : 1;
}

int mapfs_extent_find(MapfsTree *tree, uint64_t ino, uint64_t logical, MapfsExtent *ret_extent) {
    MapfsItem item;
    int r;

    r = extent_before(tree, ino, logical, ret_extent);
    if (r < 0 || (r > 0 && ret_extent->logical + ret_extent->n_blocks > logical))
        return r;
    r = mapfs_tree_lookup_ge(tree, mapfs_extent_key(ino, logical), &item);
    if (r <= 0)
        return r;
    if (!item_is_extent(&item, ino))
        return 0;
    r = extent_decode(&item, ret_extent);
    return r < 0 ? r : 1;
}

int mapfs_extent_last(MapfsTree *tree, uint64_t ino, MapfsExtent *ret_extent) {
    return extent_before(tree, ino, UINT64_MAX, ret_extent);
}

static void extent_encode(const MapfsExtent *extent, struct mapfs_disk_extent *ret_value) {
    *ret_value = (struct mapfs_disk_extent){
        .block = mapfs_le64_store(extent->block),
        .n_blocks = mapfs_le32_store((uint32_t)extent->n_blocks),
        .flags = mapfs_le32_store(extent->flags),
        .birth_generation = mapfs_le64_store(extent->birth_generation),
        .birth_epoch = mapfs_le64_store(extent->birth_epoch),
    };
}

static int extent_insert(MapfsTree *tree, uint64_t ino, const MapfsExtent *extent) {
    struct mapfs_disk_extent value;

    extent_encode(extent, &value);
    return mapfs_tree_insert(tree, mapfs_extent_key(ino, extent->logical), &value, sizeof(value));
}

static int extent_replace(MapfsTree *tree, uint64_t ino, const MapfsExtent *extent) {
    struct mapfs_disk_extent value;

    extent_encode(extent, &value);
    return mapfs_tree_replace(tree, mapfs_extent_key(ino, extent->logical), &value, sizeof(value));
}

/* Takes the middle [first, end) out of one extent: what is left of it stays, before and after. */
static int extent_cut(MapfsTree *tree, uint64_t ino, const MapfsExtent *extent, uint64_t first, uint64_t end) {
    MapfsExtent head = *extent, tail = *extent;
    int r;

    head.n_blocks = first - extent->logical;
    tail.logical = end;
    tail.block += end - extent->logical;
    tail.n_blocks = extent->logical + extent->n_blocks - end;
    if (head.n_blocks > 0)
        r = extent_replace(tree, ino, &head);
    else
        r = mapfs_tree_remove(tree, mapfs_extent_key(ino, extent->logical));
    if (r == 0 && tail.n_blocks > 0)
        r = extent_insert(tree, ino, &tail);
    return r;
}

int mapfs_extent_drop(MapfsTxn *txn, uint64_t ino, uint64_t first, uint64_t end, uint64_t *ret_freed) {
    MapfsTree *tree = mapfs_store_tree(txn->store);
    uint64_t n_freed = 0;

    while (first < end) {
        MapfsExtent extent;
        uint64_t start, stop;
        int r = mapfs_extent_find(tree, ino, first, &extent);

        if (r < 0)
            return r;
        if (r == 0 || extent.logical >= end)
            break;
        start = MAPFS_MAX(extent.logical, first);
        stop = MAPFS_MIN(extent.logical + extent.n_blocks, end);
        r = extent_cut(tree, ino, &extent, start, stop);
        if (r < 0)
            return r;
        mapfs_txn_free(txn, (MapfsRun){{extent.block + (start - extent.logical)}, stop - start});
        n_freed += stop - start;
        first = stop;
    }
    *ret_freed = n_freed;
    return 0;
}

static bool extents_join(const MapfsExtent *a, const MapfsExtent *b) {
    return a->logical + a->n_blocks == b->logical && a->block + a->n_blocks == b->block && a->flags == b->flags &&
           a->birth_generation == b->birth_generation && a->birth_epoch == b->birth_epoch &&
           a->n_blocks + b->n_blocks <= MAPFS_EXTENT_BLOCKS_MAX;
}

int mapfs_extent_add(MapfsTxn *txn, uint64_t ino, const MapfsExtent *extent) {
    MapfsTree *tree = mapfs_store_tree(txn->store);
    MapfsExtent before;
    int r = 0;

    if (extent->logical > 0)
        r = extent_before(tree, ino, extent->logical - 1, &before);
    if (r < 0)
        return r;
    if (r > 0 && extents_join(&before, extent)) {
        before.n_blocks += extent->n_blocks;
        return extent_replace(tree, ino, &before);
    }
    return extent_insert(tree, ino, extent);
}

int mapfs_inline_load(MapfsTree *tree, uint64_t ino, uint64_t size, uint8_t *buffer) {
    MapfsItem item;
    int r;

    r = mapfs_tree_lookup(tree, mapfs_inline_key(ino), &item);
    if (r <= 0)
        return r;
    if (item.value_len == 0 || item.value_len > MAPFS_INLINE_MAX)
        return mapfs_damage(0, "inline data", "of inode %" PRIu64 " has a length of %zu bytes", ino, item.value_len);
    /* Whoever puts content together has room for the file's size, and no more. */
    if (item.value_len > size)
        return mapfs_damage(0, "inline data", "of inode %" PRIu64 " has %zu bytes, its size is %" PRIu64, ino,
                            item.value_len, size);
    memcpy(buffer, item.value, item.value_len);
    return (int)item.value_len;
}
