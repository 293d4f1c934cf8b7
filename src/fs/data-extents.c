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
        ret_extent->block >= MAPFS_IMAGE_BLOCKS_MAX || ret_extent->logical > MAPFS_FILE_SIZE_MAX >> MAPFS_BLOCK_SHIFT)
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

/* What is found on the way back from a higher key must be what a change of its own key changes. Where a damaged tree has a key twice, it is not:
 * what is cut would be found again as it was, and freed again, for ever. */
static int extent_check_place(MapfsTree *tree, uint64_t ino, const MapfsExtent *extent) {
    MapfsExtent stored = {0};
    MapfsItem item;
    int r;

    r = mapfs_tree_lookup(tree, mapfs_extent_key(ino, extent->logical), &item);
    if (r > 0)
        r = extent_decode(&item, &stored);
    if (r < 0)
        return r;
    if (stored.block != extent->block || stored.n_blocks != extent->n_blocks)
        return mapfs_damage(0, "extent", "of inode %" PRIu64 " at its block %" PRIu64 " is there twice", ino,
                            extent->logical);
    return 0;
}

int mapfs_extent_cut(MapfsTree *tree, uint64_t ino, const MapfsExtent *extent, uint64_t first, uint64_t end) {
    MapfsExtent head = *extent, tail = *extent;
    int r;

    r = extent_check_place(tree, ino, extent);
    if (r < 0)
        return r;
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

/* What can go at once of some of an extent's blocks: those of one count. */
static int extent_part(MapfsTree *tree, const MapfsExtent *extent, MapfsRun run, bool from_end, MapfsShared *ret_part) {
    if (extent->flags & MAPFS_EXTENT_SHARED)
        return mapfs_shared_part(tree, run, from_end, ret_part);
    *ret_part = (MapfsShared){.run = run, .n_refs = 1};
    return 0;
}

/* Takes a part out of the extent. Of a part at its end, an error comes before any change, or is -EIO after the first: then nothing more of this mount is
 * published. From the midst, it may have cut the extent. */
static int extent_drop_part(MapfsTxn *txn, uint64_t ino, const MapfsExtent *extent, const MapfsShared *part) {
    MapfsTree *tree = mapfs_store_tree(txn->store);
    uint64_t first = extent->logical + (part->run.start.n - extent->block);
    int r;

    r = mapfs_extent_cut(tree, ino, extent, first, first + part->run.n_blocks);
    if (r < 0)
        return r;
    if (part->n_refs > 1) {
        r = mapfs_shared_set(tree, part, part->n_refs - 1);
        if (r < 0)
            mapfs_image_fail(mapfs_store_image(txn->store), -EIO);
        return r < 0 ? -EIO : 0;
    }
    mapfs_txn_free(txn, part->run);
    return 0;
}

int mapfs_extent_drop(MapfsTxn *txn, uint64_t ino, uint64_t first, uint64_t end, uint64_t *ret_dropped) {
    MapfsTree *tree = mapfs_store_tree(txn->store);
    uint64_t n_dropped = 0;

    while (first < end) {
        MapfsExtent extent;
        MapfsShared part;
        int r = mapfs_extent_find(tree, ino, first, &extent);

        if (r < 0)
            return r;
        if (r == 0 || extent.logical >= end)
            break;
        r = extent_part(tree, &extent, mapfs_extent_clip(&extent, first, end), false, &part);
        if (r == 0)
            r = extent_drop_part(txn, ino, &extent, &part);
        if (r < 0)
            return r;
        n_dropped += part.run.n_blocks;
        first = MAPFS_MAX(extent.logical, first) + part.run.n_blocks;
    }
    *ret_dropped = n_dropped;
    return 0;
}

static unsigned units_of(const MapfsExtent *extent) {
    return extent->flags & MAPFS_EXTENT_SHARED ? MAPFS_SHARED_UNITS : 1;
}

/* One step from the end: 1 when nothing is left past the cut, 0, or -errno as extent_drop_part(). */
static int tail_step(MapfsTxn *txn, uint64_t ino, uint64_t cut, unsigned *n_units, uint64_t *n_dropped) {
    MapfsTree *tree = mapfs_store_tree(txn->store);
    MapfsExtent last;
    MapfsShared part;
    uint64_t end;
    int r;

    r = mapfs_extent_last(tree, ino, &last);
    if (r < 0)
        return r;
    end = r > 0 ? last.logical + last.n_blocks : 0;
    if (end <= cut)
        return 1;
    if (*n_units == 0)
        return 0;
    r = extent_part(tree, &last, mapfs_extent_clip(&last, cut, end), true, &part);
    if (r == 0)
        r = extent_drop_part(txn, ino, &last, &part);
    if (r < 0)
        return r;
    *n_dropped += part.run.n_blocks;
    *n_units -= MAPFS_MIN(*n_units, units_of(&last));
    return 0;
}

int mapfs_extent_drop_tail(MapfsTxn *txn, uint64_t ino, uint64_t cut, unsigned n_units, uint64_t *ret_dropped) {
    int r = 0;

    *ret_dropped = 0;
    while (r == 0 && n_units > 0)
        r = tail_step(txn, ino, cut, &n_units, ret_dropped);
    if (r == 0)
        r = tail_step(txn, ino, cut, &n_units, ret_dropped); /* only looks: is there more? */
    /* What was dropped before damage was met is whole by itself; who comes for the rest meets it at once. */
    return r < 0 && r != -EIO && *ret_dropped > 0 ? 0 : r;
}

int mapfs_extent_reach(MapfsTree *tree, uint64_t ino, uint64_t first, unsigned n_units, uint64_t *end) {
    for (uint64_t at = first; at < *end;) {
        MapfsExtent extent;
        MapfsShared part;
        int r = mapfs_extent_find(tree, ino, at, &extent);

        if (r <= 0 || extent.logical >= *end)
            return r < 0 ? r : 0;
        at = MAPFS_MAX(extent.logical, at);
        if (n_units == 0) {
            *end = at;
            return 0;
        }
        r = extent_part(tree, &extent, mapfs_extent_clip(&extent, at, *end), false, &part);
        if (r < 0)
            return r;
        at += part.run.n_blocks;
        n_units -= MAPFS_MIN(n_units, units_of(&extent));
    }
    return 0;
}

int mapfs_extent_any_shared(MapfsTree *tree, uint64_t ino, uint64_t first, unsigned n_max, bool *ret_shared) {
    uint64_t before = UINT64_MAX;
    MapfsExtent extent;
    bool shared;
    int r;

    r = mapfs_extent_find(tree, ino, first, &extent);
    shared = r > 0 && (extent.flags & MAPFS_EXTENT_SHARED);
    for (unsigned i = 0; i < n_max && !shared && r > 0; i++) {
        r = extent_before(tree, ino, before, &extent);
        if (r <= 0 || extent.logical <= first)
            break;
        shared = (extent.flags & MAPFS_EXTENT_SHARED) != 0;
        before = extent.logical - 1;
    }
    *ret_shared = shared;
    return r < 0 ? r : 0;
}

int mapfs_extent_set_shared(MapfsTree *tree, uint64_t ino, const MapfsExtent *extent) {
    MapfsExtent shared = *extent;

    if (extent->flags & MAPFS_EXTENT_SHARED)
        return 0;
    shared.flags |= MAPFS_EXTENT_SHARED;
    return extent_replace(tree, ino, &shared);
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
