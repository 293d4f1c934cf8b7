/* SPDX-License-Identifier: MIT */

/* Reading and changing the tree under repair. Each change is a transaction of its own: all of them together become durable at the end, or
 * none. */

#include <errno.h>
#include <string.h>

#include "repair/repair-private.h"

/* Items read or changed until the pages of the image are let go: a few hundred MiB of nodes. */
#define DROP_STEPS 1048576u

/* Lets go of the image's pages now and then: a tree that is read and written from end to end would else fill the memory. */
static void pages_drop(MapfsRepair *repair) {
    if (++repair->n_steps % DROP_STEPS == 0)
        mapfs_image_drop(repair->image, (MapfsRun){{0}, repair->n_blocks});
}

/* One change of the tree: an insert or a new value, or, without value, a removal. */
static int change(MapfsRepair *repair, MapfsKey key, const void *value, size_t value_len) {
    MapfsTxn txn;
    int r;

    r = mapfs_rescue_begin(repair->store, 1, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    if (value)
        r = mapfs_tree_put(repair->tree, key, value, value_len);
    else
        r = mapfs_tree_remove(repair->tree, key);
    mapfs_txn_end(&txn);
    repair->n_changes++;
    pages_drop(repair);
    return r == -ENOENT ? 0 : r;
}

int mapfs_repair_put(MapfsRepair *repair, MapfsKey key, const void *value, size_t value_len) {
    return change(repair, key, value, value_len);
}

int mapfs_repair_remove(MapfsRepair *repair, MapfsKey key) {
    return change(repair, key, NULL, 0);
}

int mapfs_repair_get(const MapfsRepair *repair, MapfsKey key, void *value, size_t size) {
    MapfsItem item;
    int r;

    r = mapfs_tree_lookup(repair->tree, key, &item);
    if (r <= 0)
        return r < 0 ? r : -ENOENT;
    memcpy(value, item.value, MAPFS_MIN(item.value_len, size));
    return (int)item.value_len;
}

/* The key right after one; false when there is none. */
static bool key_step(MapfsKey *key) {
    if (++key->offset != 0)
        return true;
    if (++key->kind != 0)
        return true;
    return ++key->object != 0;
}

int mapfs_repair_read(MapfsRepair *repair, RepairReader *reader) {
    MapfsItem item;
    int r;

    if (reader->is_at_end)
        return 0;
    pages_drop(repair);
    if (reader->has_begun && reader->n_changes == repair->n_changes)
        r = mapfs_cursor_next(&reader->cursor, &item);
    else
        r = mapfs_cursor_begin(&reader->cursor, repair->tree, reader->next, &item);
    if (r <= 0)
        return r;
    reader->has_begun = true;
    reader->n_changes = repair->n_changes;
    if (item.value_len > sizeof(reader->value))
        return -EUCLEAN; /* a node that was read has none such */
    reader->key = reader->next = item.key;
    memcpy(reader->value, item.value, item.value_len);
    reader->value_len = item.value_len;
    reader->is_at_end = !key_step(&reader->next);
    return 1;
}
