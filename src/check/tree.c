/* SPDX-License-Identifier: MIT */

/* The walk over the tree: each node is claimed before it is read, so that none is read twice and the walk ends, and its bytes
 * are copied out before they are judged, so that they cannot change afterwards. A child is strictly one level lower. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <glib.h>

#include "base/error.h"
#include "check/check-private.h"

#define PROGRESS_NODES 256u

typedef struct {
    union {
        struct mapfs_disk_header header;
        struct mapfs_disk_leaf leaf;
        struct mapfs_disk_index index;
    } node;
    MapfsNodeRef ref;
    unsigned next;         /* pointer to follow next */
    bool has_lower;        /* not on the tree's left edge */
    bool has_upper;        /* not on the right edge */
    MapfsKey lower, upper; /* keys here are >= lower and < upper */
} WalkLevel;

typedef struct {
    MapfsCheck *check;
    unsigned top; /* level of the node at hand */
    WalkLevel levels[MAPFS_TREE_LEVELS_MAX];
} Walk;

static MapfsKey slot_key(const struct mapfs_disk_slot *slot) {
    return (MapfsKey){
        .object = mapfs_le64_load(slot->object), .offset = mapfs_le64_load(slot->offset), .kind = slot->kind};
}

static MapfsKey pointer_key(const struct mapfs_disk_pointer *pointer) {
    return (MapfsKey){
        .object = mapfs_le64_load(pointer->object), .offset = mapfs_le64_load(pointer->offset), .kind = pointer->kind};
}

/* Tests a node's first and last key, between which its keys are known to rise, against the range of its place. */
static bool level_in_order(const WalkLevel *level) {
    unsigned n_items = mapfs_le16_load(level->node.header.n_items);
    MapfsKey first, last;

    if (n_items == 0)
        return true;
    if (level->ref.level == 0) {
        first = slot_key(&level->node.leaf.slots[0]);
        last = slot_key(&level->node.leaf.slots[n_items - 1]);
    } else {
        first = pointer_key(&level->node.index.pointers[0]);
        last = pointer_key(&level->node.index.pointers[n_items - 1]);
        /* The key of the first pointer of each level is never looked at. */
        if (level->has_lower && n_items > 1 &&
            mapfs_key_compare(first, pointer_key(&level->node.index.pointers[1])) >= 0)
            return false;
        if (!level->has_lower && n_items == 1)
            return true;
    }
    if (level->has_lower && mapfs_key_compare(first, level->lower) < 0)
        return false;
    return !level->has_upper || mapfs_key_compare(last, level->upper) < 0;
}

static int level_read(MapfsCheck *check, WalkLevel *level) {
    const MapfsRun run = {.start = level->ref.address, .n_blocks = 1};
    const MapfsCheckPlace place = {.block = level->ref.address.n};
    const void *bytes = mapfs_image_read(check->image, run);
    int r;

    if (!bytes || !mapfs_run_fits(run, check->n_blocks)) {
        mapfs_check_found(check, MAPFS_PROBLEM_NODE_OUTSIDE, place,
                          "a pointer of the tree leads to block %" PRIu64 " past the end of the image", place.block);
        return 0;
    }
    r = mapfs_check_claim(check, run, place, "tree node");
    if (r <= 0)
        return r;
    check->report->n_nodes++;
    memcpy(&level->node, bytes, sizeof(level->node));
    if (mapfs_le64_load(level->node.header.checksum) != mapfs_header_checksum(&level->node, check->checksum_seed)) {
        mapfs_check_found(check, MAPFS_PROBLEM_NODE_CHECKSUM, place,
                          "tree node at block %" PRIu64 ": its checksum does not match", place.block);
        return 0;
    }
    if (mapfs_node_check_frame(&level->node, level->ref) < 0) {
        mapfs_check_found(check, MAPFS_PROBLEM_NODE_LAYOUT, place, "%s", mapfs_damage_last());
        return 0;
    }
    if (!level_in_order(level)) {
        mapfs_check_found(check, MAPFS_PROBLEM_NODE_ORDER, place,
                          "tree node at block %" PRIu64 ": keys are outside the range of its place", place.block);
        return 0;
    }
    return 1;
}

/* Reads the node of a level whose ref and bounds are set: 1 when it can be used, 0 when a problem was reported. */
static int level_load(MapfsCheck *check, WalkLevel *level) {
    int r = level_read(check, level);

    if (r == 0) {
        /* What is lost may belong to the inode before the gap and to the one after it. */
        check->report->incomplete = true;
        check->current.damaged = true;
        check->after_gap = true;
    }
    return r;
}

static int leaf_item(MapfsCheck *check, const MapfsCheckItem *item) {
    bool is_inode = item->key.object < MAPFS_INO_LIMIT;

    check->report->n_items++;
    if (check->current.object != item->key.object) {
        mapfs_check_inode_finish(check);
        check->current = (MapfsCheckCurrent){.object = item->key.object, .damaged = check->after_gap};
    }
    check->after_gap = false;
    if (mapfs_item_check(item->block, item->key, item->value, item->value_len) < 0) {
        check->current.damaged = true;
        check->report->incomplete = true;
        mapfs_check_found(check, MAPFS_PROBLEM_ITEM,
                          (MapfsCheckPlace){item->block, item->key.object, is_inode ? item->key.object : 0}, "%s",
                          mapfs_damage_last());
        return 0;
    }
    return is_inode ? mapfs_check_inode_item(check, item) : mapfs_check_system_item(check, item);
}

static int leaf_items(MapfsCheck *check, const WalkLevel *level) {
    const struct mapfs_disk_leaf *leaf = &level->node.leaf;
    unsigned n_items = mapfs_le16_load(leaf->header.n_items);

    for (unsigned i = 0; i < n_items; i++) {
        const struct mapfs_disk_slot *slot = &leaf->slots[i];
        const MapfsCheckItem item = {
            .block = level->ref.address.n,
            .key = slot_key(slot),
            .value = (const uint8_t *)leaf + mapfs_le16_load(slot->value_offset),
            .value_len = mapfs_le16_load(slot->value_len),
        };
        int r = leaf_item(check, &item);

        if (r < 0)
            return r;
    }
    return 0;
}

/* Sets ref and bounds of the level below for the next pointer of this one, and moves on. */
static void level_descend(WalkLevel *parent, WalkLevel *child) {
    const struct mapfs_disk_pointer *pointers = parent->node.index.pointers;
    unsigned n_items = mapfs_le16_load(parent->node.header.n_items);
    const struct mapfs_disk_pointer *pointer = &pointers[parent->next];

    child->ref = (MapfsNodeRef){.address = {mapfs_le64_load(pointer->address)},
                                .generation = {mapfs_le64_load(pointer->generation)},
                                .level = (uint8_t)(parent->ref.level - 1)};
    child->next = 0;
    child->has_lower = parent->next > 0 || parent->has_lower;
    child->lower = pointer_key(pointer);
    child->has_upper = parent->next + 1 < n_items || parent->has_upper;
    child->upper = parent->next + 1 < n_items ? pointer_key(pointer + 1) : parent->upper;
    parent->next++;
}

/* Handles the node at hand: goes down to its next child, or back up. 1 to go on, 0 at the end. */
static int walk_step(Walk *walk, unsigned root_level) {
    WalkLevel *level = &walk->levels[walk->top];
    MapfsCheck *check = walk->check;
    int r;

    if (level->ref.level > 0 && level->next < mapfs_le16_load(level->node.header.n_items)) {
        level_descend(level, level - 1);
        r = level_load(check, level - 1);
        if (r > 0)
            walk->top--;
        return r < 0 ? r : 1;
    }
    if (level->ref.level == 0) {
        r = leaf_items(check, level);
        if (r < 0)
            return r;
    }
    walk->top++;
    return walk->top <= root_level;
}

int mapfs_check_tree(MapfsCheck *check) {
    g_autofree Walk *walk = g_try_new(Walk, 1);
    unsigned root_level = mapfs_le32_load(check->superblock.root_level);
    uint64_t n_used = check->n_blocks - mapfs_le64_load(check->superblock.n_free_blocks);
    WalkLevel *root;
    int r;

    if (!walk)
        return -ENOMEM;
    walk->check = check;
    walk->top = root_level;
    root = &walk->levels[root_level];
    root->ref = (MapfsNodeRef){.address = {mapfs_le64_load(check->superblock.root_address)},
                               .generation = {mapfs_le64_load(check->superblock.root_generation)},
                               .level = (uint8_t)root_level};
    root->next = 0;
    root->has_lower = root->has_upper = false;
    r = level_load(check, root);
    if (r <= 0)
        return r;
    do {
        r = walk_step(walk, root_level);
        if (check->report->n_nodes % PROGRESS_NODES == 0)
            mapfs_check_progress(check, "tree", check->report->n_nodes + check->report->n_data_blocks, n_used);
    } while (r > 0);
    if (r == 0)
        mapfs_check_inode_finish(check);
    return r;
}
