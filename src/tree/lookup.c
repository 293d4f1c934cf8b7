/* SPDX-License-Identifier: MIT */
#include "tree/path-private.h"

int mapfs_tree_lookup(const MapfsTree *tree, MapfsKey key, MapfsItem *ret_item) {
    MapfsNodeRef ref = tree->root;
    const void *node;
    unsigned n_items;
    bool found;

    if (ref.level >= MAPFS_TREE_LEVELS_MAX)
        return mapfs_damage(ref.address.n, "tree root", "level is %u, at most %u expected", ref.level,
                            MAPFS_TREE_LEVELS_MAX - 1);
    for (;;) {
        int r = mapfs_node_open(tree, ref, &node, &n_items);
        if (r < 0)
            return r;
        if (ref.level == 0)
            break;
        ref = mapfs_index_child(node, mapfs_index_search(node, n_items, key), ref.level - 1u);
    }

    unsigned index = mapfs_leaf_search(node, n_items, key, &found);
    if (!found)
        return 0;
    int r = mapfs_leaf_item(node, index, ret_item);
    return r < 0 ? r : 1;
}

int mapfs_tree_lookup_ge(const MapfsTree *tree, MapfsKey key, MapfsItem *ret_item) {
    MapfsCursor cursor;

    return mapfs_cursor_begin(&cursor, tree, key, ret_item);
}

/* The last item below the pointer before the path's leaf. */
static int lookup_before(const MapfsTree *tree, const MapfsPath *path, MapfsItem *ret_item) {
    const void *node = NULL;
    unsigned level = 1, n_items = 0;

    while (level <= path->root_level && path->steps[level].index == 0)
        level++;
    if (level > path->root_level)
        return 0;

    node = path->steps[level].node;
    unsigned index = path->steps[level].index - 1;
    while (level > 0) {
        level--;
        int r = mapfs_node_open(tree, mapfs_index_child(node, index, level), &node, &n_items);
        if (r < 0)
            return r;
        index = n_items - 1;
    }
    int r = mapfs_leaf_item(node, index, ret_item);
    return r < 0 ? r : 1;
}

int mapfs_tree_lookup_le(const MapfsTree *tree, MapfsKey key, MapfsItem *ret_item) {
    MapfsPath path;
    MapfsItem item;
    int r = mapfs_path_descend(tree, key, &path);
    if (r < 0)
        return r;

    const MapfsPathStep *leaf = &path.steps[0];
    if (path.found || leaf->index > 0) {
        r = mapfs_leaf_item(leaf->node, path.found ? leaf->index : leaf->index - 1, &item);
        r = r < 0 ? r : 1;
    } else {
        r = lookup_before(tree, &path, &item);
    }
    if (r <= 0)
        return r;
    /* Callers go by it. Nodes may contradict each other, and the bytes of one that was checked may have changed since. */
    if (mapfs_key_compare(item.key, key) > 0)
        return mapfs_damage(leaf->ref.address.n, "tree node", "keys before it are not below its own");
    *ret_item = item;
    return 1;
}

/* Leaves from that of key `first` on, as far as one index node leads to them. *ret_next: where those that follow
 * begin; the greatest key when none do. */
static int leaves_of_index(const MapfsTree *tree, MapfsKey first, MapfsNodeRef *ret_refs, unsigned n_max,
                           MapfsKey *ret_next) {
    MapfsNodeRef ref = tree->root;
    const void *node;
    unsigned n_items, at, n = 0;

    *ret_next = (MapfsKey){.object = UINT64_MAX, .kind = UINT8_MAX, .offset = UINT64_MAX};
    for (;;) {
        int r = mapfs_node_open(tree, ref, &node, &n_items);
        if (r < 0)
            return r;
        at = mapfs_index_search(node, n_items, first);
        if (ref.level == 1)
            break;
        if (at + 1 < n_items)
            *ret_next = mapfs_index_key(node, at + 1);
        ref = mapfs_index_child(node, at, ref.level - 1u);
    }
    while (at < n_items && n < n_max)
        ret_refs[n++] = mapfs_index_child(node, at++, 0);
    if (at < n_items)
        *ret_next = mapfs_index_key(node, at);
    return (int)n;
}

int mapfs_tree_leaves(const MapfsTree *tree, MapfsKey first, MapfsKey last, MapfsNodeRef *ret_refs, unsigned n_max) {
    unsigned n = 0;

    if (tree->root.level >= MAPFS_TREE_LEVELS_MAX)
        return mapfs_damage(tree->root.address.n, "tree root", "level is %u, at most %u expected", tree->root.level,
                            MAPFS_TREE_LEVELS_MAX - 1);
    if (tree->root.level == 0) {
        ret_refs[0] = tree->root;
        return 1;
    }
    while (n < n_max && mapfs_key_compare(first, last) <= 0) {
        MapfsKey next;
        int r = leaves_of_index(tree, first, ret_refs + n, n_max - n, &next);

        if (r < 0)
            return n > 0 ? (int)n : r;
        n += (unsigned)r;
        if (mapfs_key_compare(next, first) <= 0)
            break;
        first = next;
    }
    return (int)n;
}
