/* SPDX-License-Identifier: MIT */
#include "tree/path-private.h"

/* Goes down from the node on `level` of the cursor's path, which is open, along the first pointers of all below it. */
static int cursor_descend_first(MapfsCursor *cursor, unsigned level) {
    unsigned n_items;

    while (level > 0) {
        MapfsNodeRef ref = mapfs_index_child(cursor->path[level].node, cursor->path[level].index, level - 1);
        level--;
        int r = mapfs_node_open(cursor->tree, ref, &cursor->path[level].node, &n_items);
        if (r < 0)
            return r;
        cursor->path[level].index = 0;
    }
    return 0;
}

/* Number of items of a node of the path. The bytes may have changed since it was opened. */
static unsigned cursor_n_items(const MapfsCursor *cursor, unsigned level) {
    const struct mapfs_disk_header *header = cursor->path[level].node;
    unsigned n_items = mapfs_node_load16(&header->n_items);
    unsigned n_max = level ? MAPFS_INDEX_POINTERS_MAX : MAPFS_LEAF_SLOTS_MAX;
    return MAPFS_MIN(n_items, n_max);
}

/* From a leaf that is used up to the first item of the next: 1, 0 when there is none, or -errno. */
static int cursor_next_leaf(MapfsCursor *cursor) {
    unsigned level = 1;

    while (level < cursor->n_levels && cursor->path[level].index + 1u >= cursor_n_items(cursor, level))
        level++;
    if (level >= cursor->n_levels)
        return 0;
    cursor->path[level].index++;
    int r = cursor_descend_first(cursor, level);
    return r < 0 ? r : 1;
}

static int cursor_item(const MapfsCursor *cursor, MapfsItem *ret_item) {
    int r = mapfs_leaf_item(cursor->path[0].node, cursor->path[0].index, ret_item);
    return r < 0 ? r : 1;
}

static int cursor_damage(const MapfsCursor *cursor) {
    const struct mapfs_disk_header *header = cursor->path[0].node;

    return mapfs_damage(mapfs_le64_load(header->address), "tree node", "keys are not above those before them");
}

/* Steps into the next leaf. Its keys must be above `floor`: nodes that are reached twice, as only damage makes them, would else let
 * a walk go on for longer than anybody can wait. */
static int cursor_cross(MapfsCursor *cursor, MapfsKey floor, MapfsItem *ret_item) {
    MapfsItem item;
    int r = cursor_next_leaf(cursor);
    if (r <= 0)
        return r;
    r = cursor_item(cursor, &item);
    if (r < 0)
        return r;

    if (mapfs_key_compare(item.key, floor) <= 0)
        return cursor_damage(cursor);
    *ret_item = item;
    return 1;
}

int mapfs_cursor_begin(MapfsCursor *cursor, const MapfsTree *tree, MapfsKey key, MapfsItem *ret_item) {
    MapfsPath path;
    MapfsItem item;
    int r = mapfs_path_descend(tree, key, &path);
    if (r < 0)
        return r;

    cursor->tree = tree;
    cursor->n_levels = (uint8_t)(path.root_level + 1);
    for (unsigned level = 0; level <= path.root_level; level++) {
        cursor->path[level].node = path.steps[level].node;
        cursor->path[level].index = (uint16_t)path.steps[level].index;
    }
    if (path.steps[0].index >= path.steps[0].n_items)
        return cursor_cross(cursor, key, ret_item);
    r = cursor_item(cursor, &item);
    if (r < 0)
        return r;
    /* Callers go by it. The bytes of a node that was in order when it was checked may have changed since. */
    if (mapfs_key_compare(item.key, key) < 0)
        return cursor_damage(cursor);
    *ret_item = item;
    return 1;
}

int mapfs_cursor_next(MapfsCursor *cursor, MapfsItem *ret_item) {
    unsigned index = cursor->path[0].index, n_items = cursor_n_items(cursor, 0);

    MapfsKey floor = mapfs_leaf_key(cursor->path[0].node, MAPFS_MIN(index, MAPFS_LEAF_SLOTS_MAX - 1));
    MapfsItem item;

    if (n_items == 0)
        return 0;
    if (index + 1 >= n_items)
        return cursor_cross(cursor, floor, ret_item);
    cursor->path[0].index++;
    int r = cursor_item(cursor, &item);
    if (r < 0)
        return r;
    if (mapfs_key_compare(item.key, floor) <= 0)
        return cursor_damage(cursor);
    *ret_item = item;
    return 1;
}
