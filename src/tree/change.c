/* SPDX-License-Identifier: MIT */
#include "tree/tree.h"

#include <errno.h>

#include "tree/join-private.h"
#include "tree/split-private.h"

typedef enum {
    CHANGE_INSERT,
    CHANGE_REPLACE,
    CHANGE_PUT,
} ChangeMode;

int mapfs_tree_create(MapfsTree *tree) {
    MapfsNodeRef ref = {.generation = tree->running, .level = 0};
    void *node;
    int r = tree->ops->allocate(tree->store, false, &ref.address, &node);
    if (r < 0)
        return r;

    mapfs_node_init(node, ref);
    tree->root = ref;
    return 0;
}

static int change_in_place(MapfsTree *tree, MapfsPath *path, const MapfsLeafChange *change) {
    int r = mapfs_path_make_writable(tree, path);
    if (r < 0)
        return r;

    return mapfs_leaf_store(path->steps[0].writable, path->steps[0].n_items, change);
}

static int tree_change(MapfsTree *tree, MapfsKey key, const void *value, size_t value_len, ChangeMode mode) {
    MapfsPath path;

    if (value_len > MAPFS_VALUE_LEN_MAX)
        return -EMSGSIZE;
    int r = mapfs_path_descend(tree, key, &path);
    if (r < 0)
        return r;
    if (path.found && mode == CHANGE_INSERT)
        return -EEXIST;
    if (!path.found && mode == CHANGE_REPLACE)
        return -ENOENT;

    const MapfsPathStep *leaf = &path.steps[0];
    MapfsLeafChange change = {key, value, value_len, leaf->index, path.found};
    r = mapfs_leaf_has_room(leaf->node, leaf->n_items, &change);
    if (r < 0)
        return r;
    return r ? change_in_place(tree, &path, &change) : mapfs_split_store(tree, &path, &change);
}

int mapfs_tree_insert(MapfsTree *tree, MapfsKey key, const void *value, size_t value_len) {
    return tree_change(tree, key, value, value_len, CHANGE_INSERT);
}

int mapfs_tree_replace(MapfsTree *tree, MapfsKey key, const void *value, size_t value_len) {
    return tree_change(tree, key, value, value_len, CHANGE_REPLACE);
}

int mapfs_tree_put(MapfsTree *tree, MapfsKey key, const void *value, size_t value_len) {
    return tree_change(tree, key, value, value_len, CHANGE_PUT);
}

int mapfs_tree_remove(MapfsTree *tree, MapfsKey key) {
    MapfsPath path;
    int r = mapfs_path_descend(tree, key, &path);
    if (r < 0)
        return r;
    if (!path.found)
        return -ENOENT;

    MapfsPathStep *leaf = &path.steps[0];
    r = mapfs_path_make_writable(tree, &path);
    if (r < 0)
        return r;
    r = mapfs_leaf_remove(leaf->writable, leaf->n_items, leaf->index);
    if (r < 0)
        return r;
    leaf->n_items--;
    mapfs_join_path(tree, &path);
    return 0;
}

unsigned mapfs_tree_change_blocks_max(const MapfsTree *tree) {
    unsigned n_levels = tree->root.level + 1u;

    /* A split of every level: each is copied and gets a right half, and a new root comes on top. A removal only
     * copies. */
    return 2 * n_levels + 1;
}
