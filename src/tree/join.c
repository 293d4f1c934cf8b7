/* SPDX-License-Identifier: MIT */
#include "tree/join-private.h"

/* Neighbours are looked at when a node is at most half full, and joined when the result is at most three quarters full: what was just
 * joined is not split again by the next few items, and what was just split not joined. */
#define JOIN_LOOK_BYTES (MAPFS_NODE_SPACE / 2)
#define JOIN_BYTES_MAX (MAPFS_NODE_SPACE / 4 * 3)

/* A node beside one of the path, under the same parent. */
typedef struct {
    MapfsNodeRef ref;
    MapfsNodeItems items;
    unsigned index; /* of its pointer in the parent */
} Neighbour;

static int node_used_bytes(const void *node, unsigned level, unsigned n_items, unsigned *ret_used) {
    if (level == 0)
        return mapfs_leaf_used_bytes(node, n_items, ret_used);
    *ret_used = n_items * (unsigned)sizeof(struct mapfs_disk_pointer);
    return 0;
}

static int neighbour_open(const MapfsTree *tree, const MapfsPathStep *parent, unsigned level, unsigned index,
                          Neighbour *ret_neighbour) {
    ret_neighbour->index = index;
    ret_neighbour->ref = mapfs_index_child(parent->writable, index, level);
    return mapfs_node_open(tree, ret_neighbour->ref, &ret_neighbour->items.node, &ret_neighbour->items.n_items);
}

/* Moves the neighbour's items into the path's node. 0 or -EUCLEAN, then without a change. */
static int join_items(MapfsPath *path, unsigned level, const Neighbour *neighbour) {
    MapfsPathStep *step = &path->steps[level], *parent = &path->steps[level + 1];
    MapfsNodeItems own = {step->writable, step->n_items};
    bool is_right = neighbour->index > parent->index;
    MapfsNodeItems left = is_right ? own : neighbour->items, right = is_right ? neighbour->items : own;

    if (level == 0)
        return mapfs_leaf_join(step->writable, left, right);
    mapfs_index_join(step->writable, left, right,
                     mapfs_index_key(parent->writable, MAPFS_MAX(parent->index, neighbour->index)));
    return 0;
}

/* Joins the path's node with the neighbour at `index` of the parent, if that goes. True when it went. */
static bool join_neighbour(MapfsTree *tree, MapfsPath *path, unsigned level, unsigned index) {
    MapfsPathStep *step = &path->steps[level], *parent = &path->steps[level + 1];
    unsigned used, neighbour_used;
    Neighbour neighbour;

    if (node_used_bytes(step->writable, level, step->n_items, &used) < 0 ||
        neighbour_open(tree, parent, level, index, &neighbour) < 0 ||
        node_used_bytes(neighbour.items.node, level, neighbour.items.n_items, &neighbour_used) < 0)
        return false;
    if (used + neighbour_used > JOIN_BYTES_MAX || join_items(path, level, &neighbour) < 0)
        return false;

    /* The node of the path is the one that stays, since it is writable; the left one's pointer stays, since its key is the lower
     * bound of both. */
    unsigned left = MAPFS_MIN(index, parent->index);
    mapfs_index_set_child(parent->writable, left, step->ref);
    mapfs_index_remove(parent->writable, parent->n_items, left + 1);
    parent->n_items--;
    parent->index = left;
    step->n_items += neighbour.items.n_items;
    tree->ops->release(tree->store, neighbour.ref);
    return true;
}

/* Joins the path's node with one neighbour, if it runs low. True when the parent lost a pointer. */
static bool join_low(MapfsTree *tree, MapfsPath *path, unsigned level) {
    MapfsPathStep *step = &path->steps[level], *parent = &path->steps[level + 1];
    unsigned used;

    if (node_used_bytes(step->writable, level, step->n_items, &used) < 0 || used > JOIN_LOOK_BYTES)
        return false;
    if (parent->index + 1 < parent->n_items && join_neighbour(tree, path, level, parent->index + 1))
        return true;
    return parent->index > 0 && join_neighbour(tree, path, level, parent->index - 1);
}

/* Drops the path's empty node. */
static void join_drop(MapfsTree *tree, MapfsPath *path, unsigned level) {
    MapfsPathStep *parent = &path->steps[level + 1];

    mapfs_index_remove(parent->writable, parent->n_items, parent->index);
    parent->n_items--;
    tree->ops->release(tree->store, path->steps[level].ref);
}

/* True when the leaf is empty and there is no other. */
static bool path_is_whole_tree(const MapfsPath *path) {
    for (unsigned level = 1; level <= path->root_level; level++)
        if (path->steps[level].n_items != 1)
            return false;
    return path->steps[0].n_items == 0;
}

/* A root with one child makes room for it. */
static void join_shrink(MapfsTree *tree) {
    const void *node;
    unsigned n_items;

    while (tree->root.level > 0) {
        MapfsNodeRef old = tree->root;
        if (mapfs_node_open(tree, old, &node, &n_items) < 0 || n_items != 1)
            return;
        tree->root = mapfs_index_child(node, 0, old.level - 1u);
        tree->ops->release(tree->store, old);
    }
}

void mapfs_join_path(MapfsTree *tree, MapfsPath *path) {
    if (path_is_whole_tree(path)) {
        tree->root = path->steps[0].ref;
        for (unsigned level = 1; level <= path->root_level; level++)
            tree->ops->release(tree->store, path->steps[level].ref);
        return;
    }

    unsigned level = 0;
    while (level < path->root_level) {
        if (path->steps[level].n_items == 0)
            join_drop(tree, path, level);
        else if (!join_low(tree, path, level))
            break;
        level++;
    }
    if (level == path->root_level && path->steps[level].n_items == 1)
        join_shrink(tree);
}
