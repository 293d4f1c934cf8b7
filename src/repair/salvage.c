/* SPDX-License-Identifier: MIT */

/* What a damaged node led to is still in the image, and older versions of it perhaps too. A scan finds them: each node says where it lies, of which
 * generation it is, and whose. Leaves that hold keys which the walk has missed fill the gaps, the older ones first, each in place of all that
 * older ones had between its first and its last key: so what was removed since does not come back, as far as that can be told.
 *
 * Which blocks are in use is not known where parts of the tree are missing. What the newest bitmap of each group marks is protected, and so is
 * all that the leaves refer to. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "repair/repair-private.h"

/* Pages are let go, and progress is told, each so many blocks. */
#define SCAN_STEP 16384u
/* So often the host is asked where it has bytes. */
#define HOLE_STEP 64u

typedef union {
    struct mapfs_disk_header header;
    struct mapfs_disk_leaf leaf;
    struct mapfs_disk_bitmap bitmap;
} Block;

static MapfsKey slot_key(const struct mapfs_disk_slot *slot) {
    return (MapfsKey){
        .object = mapfs_le64_load(slot->object), .offset = mapfs_le64_load(slot->offset), .kind = slot->kind};
}

static MapfsCheckItem leaf_item(const Block *block, unsigned index) {
    const struct mapfs_disk_slot *slot = &block->leaf.slots[index];

    return (MapfsCheckItem){
        .block = mapfs_le64_load(block->header.address),
        .key = slot_key(slot),
        .value = (const uint8_t *)block + mapfs_le16_load(slot->value_offset),
        .value_len = mapfs_le16_load(slot->value_len),
    };
}

static bool range_has(const MapfsWalkRange *range, MapfsKey key) {
    return (!range->has_lower || mapfs_key_compare(key, range->lower) >= 0) &&
           (!range->has_upper || mapfs_key_compare(key, range->upper) < 0);
}

/* The gap that a key lies in, or NULL. There are few, for each is a damaged node. */
static bool in_gap(const MapfsRepair *repair, MapfsKey key) {
    const MapfsWalkRange *gaps = repair->source->gaps.data;
    size_t low = 0, high = repair->source->gaps.n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (range_has(&gaps[middle], key))
            return true;
        if (gaps[middle].has_upper && mapfs_key_compare(key, gaps[middle].upper) >= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static bool item_is_wanted(const MapfsRepair *repair, const MapfsCheckItem *item) {
    return item->key.kind != MAPFS_KIND_GROUP && item->key.kind != MAPFS_KIND_PENDING && in_gap(repair, item->key) &&
           mapfs_item_check(item->block, item->key, item->value, item->value_len) == 0;
}

/* Whether a leaf can be of the source's tree, as far as its place tells. When the state before is whole, those of its tree and younger ones alone
 * can: older ones were out of use by then. */
static bool leaf_is_possible(const MapfsRepair *repair, const RepairLeaf *leaf) {
    const RepairState *older = repair->older;

    return !mapfs_used_has(&repair->source->nodes, leaf->address) &&
           (!older || leaf->generation > mapfs_le64_load(older->superblock.generation) ||
            mapfs_used_has(&older->nodes, leaf->address));
}

/* --- the scan --- */

static int leaf_keep(MapfsRepair *repair, const Block *block, uint64_t address) {
    unsigned n_items = mapfs_le16_load(block->header.n_items);
    RepairLeaf leaf = {.generation = mapfs_le64_load(block->header.generation), .address = address};
    bool is_wanted = false;

    if (n_items == 0 || !leaf_is_possible(repair, &leaf))
        return 0;
    for (unsigned i = 0; i < n_items; i++) {
        const MapfsCheckItem item = leaf_item(block, i);
        int r;

        if (!item_is_wanted(repair, &item))
            continue;
        is_wanted = true;
        r = mapfs_repair_protect_item(repair, &item);
        if (r < 0)
            return r;
    }
    if (!is_wanted)
        return 0;
    leaf.first = slot_key(&block->leaf.slots[0]);
    leaf.last = slot_key(&block->leaf.slots[n_items - 1]);
    return mapfs_vector_push(&repair->leaves, &leaf, sizeof(leaf));
}

static void bitmap_keep(MapfsRepair *repair, const Block *block, uint64_t address) {
    uint64_t group = mapfs_le64_load(block->header.owner), generation = mapfs_le64_load(block->header.generation);
    const MapfsNodeRef ref = {{address}, {generation}, 0};

    if (group >= (repair->n_blocks + MAPFS_GROUP_BLOCKS - 1) / MAPFS_GROUP_BLOCKS ||
        generation <= repair->bitmaps[group].generation ||
        mapfs_bitmap_check(block, ref, group, repair->checksum_seed) < 0)
        return;
    repair->bitmaps[group] = (RepairBitmap){address, generation};
}

static int block_look(MapfsRepair *repair, uint64_t address, const void *bytes, Block *block) {
    struct mapfs_disk_header header;
    MapfsNodeRef ref;
    int r;

    memcpy(&header, bytes, sizeof(header));
    ref = (MapfsNodeRef){{mapfs_le64_load(header.address)}, {mapfs_le64_load(header.generation)}, header.level};
    /* A younger one is of a generation that was never published. */
    if (ref.address.n != address || ref.generation.n > repair->generation ||
        (mapfs_le32_load(header.magic) != MAPFS_NODE_MAGIC && mapfs_le32_load(header.magic) != MAPFS_BITMAP_MAGIC))
        return 0;
    memcpy(block, bytes, sizeof(*block));
    if (mapfs_le32_load(block->header.magic) == MAPFS_BITMAP_MAGIC) {
        bitmap_keep(repair, block, address);
        return 0;
    }
    if (mapfs_le64_load(block->header.checksum) != mapfs_header_checksum(block, repair->checksum_seed) ||
        ref.level >= MAPFS_TREE_LEVELS_MAX || mapfs_node_check_frame(block, ref) < 0)
        return 0;
    r = mapfs_repair_protect(repair, (MapfsRun){{address}, 1});
    return r < 0 || ref.level > 0 ? r : leaf_keep(repair, block, address);
}

static int blocks_look(MapfsRepair *repair) {
    g_autofree Block *block = g_new(Block, 1);
    uint64_t dropped = repair->first_usable;
    int r = 0;

    for (uint64_t at = repair->first_usable; r == 0 && at < repair->n_blocks; at++) {
        if (at % HOLE_STEP == 0)
            at = mapfs_image_next_data(repair->image, at);
        if (at >= repair->n_blocks)
            break;
        r = block_look(repair, at, repair->image->base + (at << MAPFS_BLOCK_SHIFT), block);
        if (at - dropped < SCAN_STEP)
            continue;
        mapfs_image_drop(repair->image, (MapfsRun){{dropped}, at - dropped});
        dropped = at;
        mapfs_repair_progress(repair, "scanning", at, repair->n_blocks);
    }
    return r;
}

/* What the newest bitmaps mark is in use by somebody, if only by a node that cannot be read. */
static int bitmaps_protect(MapfsRepair *repair) {
    uint64_t n_groups = (repair->n_blocks + MAPFS_GROUP_BLOCKS - 1) / MAPFS_GROUP_BLOCKS;

    for (uint64_t group = 0; group < n_groups; group++) {
        const RepairBitmap *kept = &repair->bitmaps[group];
        const struct mapfs_disk_bitmap *bitmap;
        int r = 0;

        if (kept->address == 0)
            continue;
        bitmap = mapfs_image_read(repair->image, (MapfsRun){{kept->address}, 1});
        r = mapfs_repair_protect(repair, (MapfsRun){{kept->address}, 1});
        for (unsigned i = 0; r == 0 && i < MAPFS_GROUP_BLOCKS; i++) {
            const MapfsRun run = {{group * MAPFS_GROUP_BLOCKS + i}, 1};
            uint64_t n_new;

            if (run.start.n >= repair->n_blocks || !(bitmap->bits[i / 8] >> (i % 8) & 1))
                continue;
            r = mapfs_used_set(&repair->marked, run, &n_new);
            if (r == 0)
                r = mapfs_repair_protect(repair, run);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

int mapfs_repair_scan(MapfsRepair *repair) {
    uint64_t n_groups = (repair->n_blocks + MAPFS_GROUP_BLOCKS - 1) / MAPFS_GROUP_BLOCKS;
    int r;

    if (repair->source->gaps.n == 0)
        return 0;
    repair->bitmaps = g_try_new0(RepairBitmap, n_groups);
    if (!repair->bitmaps)
        return -ENOMEM;
    r = blocks_look(repair);
    if (r < 0)
        return r;
    repair->report->used_scan = true;
    return bitmaps_protect(repair);
}

/* --- filling --- */

static int leaf_compare(const void *a, const void *b) {
    const RepairLeaf *x = a, *y = b;

    if (x->generation != y->generation)
        return x->generation < y->generation ? -1 : 1;
    return x->address < y->address ? -1 : x->address > y->address;
}

/* What older leaves had between this leaf's first key and its last. */
static int leaf_make_room(MapfsRepair *repair, const RepairLeaf *leaf) {
    RepairReader reader = {.next = leaf->first};
    int r;

    while ((r = mapfs_repair_read(repair, &reader)) > 0) {
        if (mapfs_key_compare(reader.key, leaf->last) > 0)
            return 0;
        if (!in_gap(repair, reader.key))
            continue;
        r = mapfs_repair_remove(repair, reader.key);
        if (r < 0)
            return r;
    }
    return r;
}

/* An extent of a leaf that is not the newest may lead to blocks that belong to nobody any more. */
static bool extent_is_gone(const MapfsRepair *repair, const MapfsCheckItem *item) {
    struct mapfs_disk_extent extent;
    uint64_t block;

    if (item->key.kind != MAPFS_KIND_EXTENT)
        return false;
    memcpy(&extent, item->value, sizeof(extent));
    block = mapfs_le64_load(extent.block);
    return block < repair->n_blocks && repair->bitmaps[block / MAPFS_GROUP_BLOCKS].address != 0 &&
           !mapfs_used_has(&repair->marked, block);
}

static int leaf_fill(MapfsRepair *repair, const RepairLeaf *leaf) {
    g_autofree Block *block = g_new(Block, 1);
    const void *bytes = mapfs_image_read(repair->image, (MapfsRun){{leaf->address}, 1});
    const MapfsNodeRef ref = {{leaf->address}, {leaf->generation}, 0};
    unsigned n_items;
    int r;

    memcpy(block, bytes, sizeof(*block));
    /* It was sound when it was found, and nobody has stored there since; but the file may be in others' hands. */
    r = mapfs_node_check_frame(block, ref);
    if (r < 0)
        return r;
    n_items = mapfs_le16_load(block->header.n_items);
    r = leaf_make_room(repair, leaf);
    for (unsigned i = 0; r == 0 && i < n_items; i++) {
        const MapfsCheckItem item = leaf_item(block, i);

        if (!item_is_wanted(repair, &item))
            continue;
        if (extent_is_gone(repair, &item))
            mapfs_repair_say(repair, MAPFS_REPAIR_LOST, item.key.object,
                             "file %" PRIu64 ": its data from block %" PRIu64 " on, as an old node has it, is gone",
                             item.key.object, item.key.offset);
        else
            r = mapfs_repair_put(repair, item.key, item.value, item.value_len);
    }
    return r;
}

/* Says which inodes' items may be missing, or may be those of an earlier time. */
static void gap_say(MapfsRepair *repair, const MapfsWalkRange *gap) {
    uint64_t first = gap->has_lower ? gap->lower.object : 0;
    uint64_t last = gap->has_upper ? gap->upper.object : UINT64_MAX;
    g_autofree char *message = NULL;

    if (first >= MAPFS_INO_LIMIT) {
        if (first <= MAPFS_OBJECT_ORPHANS && last >= MAPFS_OBJECT_ORPHANS)
            mapfs_repair_say(repair, MAPFS_REPAIR_LOST, 0, "a tree node that told of deleted files could not be read");
        else
            mapfs_repair_say(repair, MAPFS_REPAIR_FIXED, 0, "a tree node that told of free space could not be read");
        return;
    }
    last = MAPFS_MIN(last, MAPFS_INO_LIMIT);
    message = g_strdup_printf("a tree node could not be read: of inodes %" PRIu64 " to %" PRIu64
                              " there may be parts missing, or as they were before",
                              first, last);
    mapfs_repair_say_range(repair, first, last, message);
}

int mapfs_repair_fill_gaps(MapfsRepair *repair) {
    const MapfsWalkRange *gaps = repair->source->gaps.data;
    RepairLeaf *leaves = repair->leaves.data;
    int r = 0;

    for (size_t i = 0; i < repair->source->gaps.n; i++)
        gap_say(repair, &gaps[i]);
    if (repair->leaves.n > 0)
        qsort(leaves, repair->leaves.n, sizeof(*leaves), leaf_compare);
    for (size_t i = 0; i < repair->leaves.n && r == 0; i++) {
        r = leaf_fill(repair, &leaves[i]);
        if (i % 64 == 0)
            mapfs_repair_progress(repair, "salvaging", i, repair->leaves.n);
    }
    return r;
}
