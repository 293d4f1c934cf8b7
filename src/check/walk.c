/* SPDX-License-Identifier: MIT */

#include "check/walk.h"

#include <errno.h>
#include <string.h>

#include <glib.h>

#include "base/error.h"

/* So many nodes are read before their pages are let go: 64 MiB. */
#define DROP_NODES 16384u

typedef struct {
    union {
        struct mapfs_disk_header header;
        struct mapfs_disk_leaf leaf;
        struct mapfs_disk_index index;
    } node;
    MapfsNodeRef ref;
    unsigned next; /* pointer to follow next */
    MapfsWalkRange range;
} WalkLevel;

typedef struct {
    MapfsImage *image;
    const MapfsWalkTree *tree;
    const MapfsWalkOps *ops;
    unsigned top;                     /* level of the node at hand */
    uint64_t n_read, lowest, highest; /* nodes since pages were last let go, and where they lie */
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

/* Tests a node's first and last key, between which its keys are known to rise, against the range of its place. Of an index node, the
 * key of the first pointer is not looked at. */
static bool level_in_order(const WalkLevel *level) {
    unsigned n_items = mapfs_le16_load(level->node.header.n_items);
    const MapfsWalkRange *range = &level->range;
    MapfsKey first, last;

    if (n_items <= (level->ref.level > 0 ? 1 : 0))
        return true;
    if (level->ref.level == 0) {
        first = slot_key(&level->node.leaf.slots[0]);
        last = slot_key(&level->node.leaf.slots[n_items - 1]);
    } else {
        first = pointer_key(&level->node.index.pointers[1]);
        last = pointer_key(&level->node.index.pointers[n_items - 1]);
    }
    if (range->has_lower && mapfs_key_compare(first, range->lower) < 0)
        return false;
    return !range->has_upper || mapfs_key_compare(last, range->upper) < 0;
}

/* Lets go of the pages that the walk has touched: what has been copied is not looked at again. */
static void walk_drop(Walk *walk, uint64_t block) {
    walk->lowest = walk->n_read == 0 ? block : MAPFS_MIN(walk->lowest, block);
    walk->highest = walk->n_read == 0 ? block : MAPFS_MAX(walk->highest, block);
    if (++walk->n_read < DROP_NODES)
        return;
    mapfs_image_drop(walk->image, (MapfsRun){{walk->lowest}, walk->highest - walk->lowest + 1});
    walk->n_read = 0;
}

/* Why a node that was copied cannot be used: 0 if it can. */
static MapfsProblemNumber node_judge(const Walk *walk, const WalkLevel *level) {
    const struct mapfs_disk_header *header = &level->node.header;

    if (mapfs_le64_load(header->checksum) != mapfs_header_checksum(header, walk->tree->checksum_seed)) {
        (void)mapfs_damage(level->ref.address.n, "tree node", "its checksum does not match"); /* for its note */
        return MAPFS_PROBLEM_NODE_CHECKSUM;
    }
    if (mapfs_node_check_frame(header, level->ref) < 0)
        return MAPFS_PROBLEM_NODE_LAYOUT;
    /* The tree never leaves one: with the last item of a leaf goes the leaf, unless it is the root. */
    if (mapfs_le16_load(header->n_items) == 0 && walk->tree->root.level > 0) {
        (void)mapfs_damage(level->ref.address.n, "tree node", "holds no items below the root"); /* as above */
        return MAPFS_PROBLEM_NODE_LAYOUT;
    }
    if (!level_in_order(level)) {
        (void)mapfs_damage(level->ref.address.n, "tree node", "keys are outside the range of its place"); /* as above */
        return MAPFS_PROBLEM_NODE_ORDER;
    }
    return 0;
}

/* Reads the node of a level whose ref and range are set: 1 when it can be used, 0 when it was told as a gap. */
static int level_load(Walk *walk, WalkLevel *level) {
    const MapfsRun run = {.start = level->ref.address, .n_blocks = 1};
    const void *bytes = mapfs_image_read(walk->image, run);
    const MapfsWalkOps *ops = walk->ops;
    MapfsProblemNumber number;
    int r;

    if (!bytes || !mapfs_run_fits(run, walk->tree->n_blocks)) {
        (void)mapfs_damage(run.start.n, "tree node", "lies past the end of the image"); /* for its note */
        return ops->gap(ops->user, level->ref, &level->range, MAPFS_PROBLEM_NODE_OUTSIDE, mapfs_damage_last());
    }
    r = ops->enter(ops->user, level->ref);
    if (r < 0)
        return r;
    if (r == 0)
        return ops->gap(ops->user, level->ref, &level->range, 0, NULL);
    memcpy(&level->node, bytes, sizeof(level->node));
    walk_drop(walk, run.start.n);
    number = node_judge(walk, level);
    if (number != 0)
        return ops->gap(ops->user, level->ref, &level->range, number, mapfs_damage_last());
    if (ops->node)
        ops->node(ops->user, level->ref);
    return 1;
}

static int leaf_items(Walk *walk, const WalkLevel *level) {
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
        int r = walk->ops->item(walk->ops->user, &item);

        if (r < 0)
            return r;
    }
    return 0;
}

/* Sets ref and range of the level below for the next pointer of this one, and moves on. */
static void level_descend(WalkLevel *parent, WalkLevel *child) {
    const struct mapfs_disk_pointer *pointers = parent->node.index.pointers;
    unsigned n_items = mapfs_le16_load(parent->node.header.n_items);
    const struct mapfs_disk_pointer *pointer = &pointers[parent->next];
    bool is_first = parent->next == 0, is_last = parent->next + 1 == n_items;

    child->ref = (MapfsNodeRef){.address = {mapfs_le64_load(pointer->address)},
                                .generation = {mapfs_le64_load(pointer->generation)},
                                .level = (uint8_t)(parent->ref.level - 1)};
    child->range = (MapfsWalkRange){
        .has_lower = !is_first || parent->range.has_lower,
        .has_upper = !is_last || parent->range.has_upper,
        .lower = is_first ? parent->range.lower : pointer_key(pointer),
        .upper = is_last ? parent->range.upper : pointer_key(pointer + 1),
    };
    child->next = 0;
    parent->next++;
}

/* Handles the node at hand: goes down to its next child, or back up. 1 to go on, 0 at the end. */
static int walk_step(Walk *walk) {
    WalkLevel *level = &walk->levels[walk->top];
    int r;

    if (level->ref.level > 0 && level->next < mapfs_le16_load(level->node.header.n_items)) {
        level_descend(level, level - 1);
        r = level_load(walk, level - 1);
        if (r > 0)
            walk->top--;
        return r < 0 ? r : 1;
    }
    if (level->ref.level == 0) {
        r = leaf_items(walk, level);
        if (r < 0)
            return r;
    }
    walk->top++;
    return walk->top <= walk->tree->root.level;
}

int mapfs_walk_run(MapfsImage *image, const MapfsWalkTree *tree, const MapfsWalkOps *ops) {
    g_autofree Walk *walk = g_try_new(Walk, 1);
    WalkLevel *root;
    int r;

    if (!walk)
        return -ENOMEM;
    walk->image = image;
    walk->tree = tree;
    walk->ops = ops;
    walk->top = tree->root.level;
    walk->n_read = 0;
    root = &walk->levels[tree->root.level];
    root->ref = tree->root;
    root->range = (MapfsWalkRange){0};
    root->next = 0;
    r = level_load(walk, root);
    if (r <= 0)
        return r;
    do
        r = walk_step(walk);
    while (r > 0);
    return r;
}
