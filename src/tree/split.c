/* SPDX-License-Identifier: MIT */
#include "tree/split-private.h"

/* A node per level and a new root. */
#define SPLIT_NODES_MAX (MAPFS_TREE_LEVELS_MAX + 1)

/* The new nodes of one change: by level the right half of the node there; the last may be a new root. */
typedef struct {
    unsigned n_nodes;
    struct {
        MapfsNodeRef ref;
        void *node;
    } nodes[SPLIT_NODES_MAX];
} SplitNodes;

/* How many nodes a split of the leaf makes: one per level up to the first index node with room, or a new root. */
static unsigned split_n_nodes(const MapfsPath *path) {
    unsigned level = 1;

    while (level <= path->root_level && path->steps[level].n_items == MAPFS_INDEX_POINTERS_MAX)
        level++;
    return level > path->root_level ? level + 1 : level;
}

static void split_release(MapfsTree *tree, const SplitNodes *split) {
    for (unsigned i = 0; i < split->n_nodes; i++)
        tree->ops->release(tree->store, split->nodes[i].ref);
}

static int split_allocate(MapfsTree *tree, const MapfsPath *path, SplitNodes *ret_split) {
    unsigned n_nodes = split_n_nodes(path);

    if (n_nodes > MAPFS_TREE_LEVELS_MAX && path->root_level + 1 == MAPFS_TREE_LEVELS_MAX)
        return mapfs_damage(tree->root.address.n, "tree root", "a tree of %u levels is full", MAPFS_TREE_LEVELS_MAX);

    ret_split->n_nodes = 0;
    while (ret_split->n_nodes < n_nodes) {
        unsigned level = ret_split->n_nodes;
        const bool names = level == 0 && mapfs_leaf_is_names(path->steps[0].node, path->steps[0].n_items);
        MapfsNodeRef ref = {.generation = tree->running, .level = (uint8_t)level};
        int r = tree->ops->allocate(tree->store, names, &ref.address, &ret_split->nodes[level].node);
        if (r < 0) {
            split_release(tree, ret_split);
            return r;
        }
        ret_split->nodes[level].ref = ref;
        ret_split->n_nodes++;
    }
    return 0;
}

/* The root was split: a new one above it leads to both halves. */
static void split_grow(MapfsTree *tree, const SplitNodes *split, const MapfsIndexPointer *right) {
    MapfsNodeRef ref = split->nodes[split->n_nodes - 1].ref;
    void *node = split->nodes[split->n_nodes - 1].node;
    MapfsIndexPointer left = {.address = tree->root.address, .generation = tree->root.generation};

    mapfs_node_init(node, ref);
    mapfs_index_insert(node, 0, 0, &left);
    mapfs_index_insert(node, 1, 1, right);
    tree->root = ref;
}

/* The leaf was split at `separator`: tells the index nodes above. */
static void split_propagate(MapfsTree *tree, MapfsPath *path, const SplitNodes *split, MapfsKey separator) {
    for (unsigned level = 1;; level++) {
        MapfsNodeRef below = split->nodes[level - 1].ref;
        MapfsIndexPointer pointer = {separator, below.address, below.generation};
        if (level > path->root_level) {
            split_grow(tree, split, &pointer);
            return;
        }

        MapfsPathStep *step = &path->steps[level];
        if (step->n_items < MAPFS_INDEX_POINTERS_MAX) {
            mapfs_index_insert(step->writable, step->n_items, step->index + 1, &pointer);
            return;
        }
        void *right = split->nodes[level].node;
        mapfs_node_init(right, split->nodes[level].ref);
        separator = mapfs_index_split(step->writable, right, step->index + 1, &pointer);
    }
}

int mapfs_split_store(MapfsTree *tree, MapfsPath *path, const MapfsLeafChange *change) {
    MapfsLeafSplit plan;
    SplitNodes split;
    MapfsPathStep *leaf = &path->steps[0];
    int r = mapfs_leaf_split_plan(leaf->node, leaf->n_items, change, &plan);
    if (r < 0)
        return r;
    if (!mapfs_path_admits(path, plan.separator))
        return mapfs_damage(leaf->ref.address.n, "tree node", "keys are outside of the range that its pointer gives");

    r = mapfs_path_make_writable(tree, path);
    if (r < 0)
        return r;
    r = split_allocate(tree, path, &split);
    if (r < 0)
        return r;

    mapfs_node_init(split.nodes[0].node, split.nodes[0].ref);
    mapfs_leaf_split(leaf->writable, split.nodes[0].node, change, &plan);
    split_propagate(tree, path, &split, plan.separator);
    return 0;
}
