/* SPDX-License-Identifier: MIT */
#include "tree/path-private.h"

#include <inttypes.h>

int mapfs_path_descend(const MapfsTree *tree, MapfsKey key, MapfsPath *ret_path) {
    MapfsNodeRef ref = tree->root;

    if (ref.level >= MAPFS_TREE_LEVELS_MAX)
        return mapfs_damage(ref.address.n, "tree root", "level is %u, at most %u expected", ref.level,
                            MAPFS_TREE_LEVELS_MAX - 1);
    ret_path->root_level = ref.level;
    for (;;) {
        MapfsPathStep *step = &ret_path->steps[ref.level];
        int r = mapfs_node_open(tree, ref, &step->node, &step->n_items);
        if (r < 0)
            return r;
        step->ref = ref;
        step->writable = NULL;
        if (ref.level == 0) {
            step->index = mapfs_leaf_search(step->node, step->n_items, key, &ret_path->found);
            return 0;
        }
        step->index = mapfs_index_search(step->node, step->n_items, key);
        ref = mapfs_index_child(step->node, step->index, ref.level - 1u);
    }
}

/* Copies the node of a step to a new block. The tree does not lead there yet. */
static int step_copy(MapfsTree *tree, MapfsPathStep *step) {
    MapfsNodeRef ref = {.generation = tree->running, .level = step->ref.level};

    if (ref.level > 0) {
        /* A younger child than its parent cannot be, and the copy would make it look right. */
        int r = mapfs_index_check_generations(step->node, step->n_items);
        if (r < 0)
            return r;
    }
    const bool names = ref.level == 0 && mapfs_leaf_is_names(step->node, step->n_items);
    int r = tree->ops->allocate(tree->store, names, &ref.address, &step->writable);
    if (r < 0)
        return r;
    mapfs_node_copy(step->writable, step->node);
    mapfs_node_set_ref(step->writable, ref);
    step->ref = ref;
    return 0;
}

int mapfs_path_make_writable(MapfsTree *tree, MapfsPath *path) {
    if (tree->root.generation.n > tree->running.n)
        return mapfs_damage(tree->root.address.n, "tree root",
                            "generation is %" PRIu64 ", at most %" PRIu64 " expected", tree->root.generation.n,
                            tree->running.n);

    for (unsigned level = path->root_level + 1; level-- > 0;) {
        MapfsPathStep *step = &path->steps[level];
        MapfsNodeRef old = step->ref;
        if (old.generation.n == tree->running.n) {
            step->writable = tree->ops->writable(tree->store, old.address);
            continue;
        }
        int r = step_copy(tree, step);
        if (r < 0)
            return r;
        if (level == path->root_level)
            tree->root = step->ref;
        else
            mapfs_index_set_child(path->steps[level + 1].writable, path->steps[level + 1].index, step->ref);
        tree->ops->release(tree->store, old);
    }
    return 0;
}

bool mapfs_path_admits(const MapfsPath *path, MapfsKey separator) {
    /* The nearest keys around the leaf: each is in the lowest index node that has a pointer on that side. */
    bool below = false, above = false;

    for (unsigned level = 1; level <= path->root_level && !(below && above); level++) {
        const MapfsPathStep *step = &path->steps[level];
        const void *node = step->writable ? step->writable : step->node;
        if (!below && step->index > 0) {
            below = true;
            if (mapfs_key_compare(mapfs_index_key(node, step->index), separator) >= 0)
                return false;
        }
        if (!above && step->index + 1 < step->n_items) {
            above = true;
            if (mapfs_key_compare(separator, mapfs_index_key(node, step->index + 1)) >= 0)
                return false;
        }
    }
    return true;
}
