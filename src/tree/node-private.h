/* SPDX-License-Identifier: MIT */
#pragma once

/* What leaves and index nodes have in common, and reads of node bytes that stay safe whatever the bytes are.
 *
 * A node lies in a mapping whose bytes may change at any moment (a bad disk, zeros after a lost page, a foreign writer). So each
 * count, offset and length is loaded once, compared with the bounds of the block, and used from the local. Garbage may then lead to
 * garbage or -EUCLEAN, never to an access outside the block. */

#include <string.h>

#include "base/error.h"
#include "base/macros.h"
#include "format/node.h"
#include "tree/tree.h"

/* A node and how many items of it are to be taken. */
typedef struct {
    const void *node;
    unsigned n_items;
} MapfsNodeItems;

/* One load that the compiler must not repeat: a value that was compared with a bound must be the one that is used. */
static inline uint16_t mapfs_node_load16(const struct mapfs_le16 *field) {
    return le16toh(__atomic_load_n(&field->raw, __ATOMIC_RELAXED));
}

static inline int mapfs_node_key_compare(struct mapfs_le64 object, uint8_t kind, struct mapfs_le64 offset,
                                         MapfsKey key) {
    uint64_t value = mapfs_le64_load(object);
    if (value != key.object)
        return value < key.object ? -1 : 1;
    if (kind != key.kind)
        return kind < key.kind ? -1 : 1;
    value = mapfs_le64_load(offset);
    if (value != key.offset)
        return value < key.offset ? -1 : 1;
    return 0;
}

/* Gets a node and compares its header with what its pointer promised. *ret_n_items is within the bounds of its level, and at least 1
 * unless the node is the root of a tree that is one leaf. 0 or -errno. */
int mapfs_node_open(const MapfsTree *tree, MapfsNodeRef ref, const void **ret_node,
                    unsigned *ret_n_items) MAPFS_MUST_USE;

/* Copies a node, but neither reads nor writes the field of the checksum: a checkpoint may be storing it into the source
 * at this moment. */
void mapfs_node_copy(void *target, const void *source);

/* Makes a fresh block a node without items. */
void mapfs_node_init(void *node, MapfsNodeRef ref);

/* Gives a node of the running generation another number of items, and takes its checksum away. */
void mapfs_node_set_n_items(void *node, unsigned n_items);

/* Gives a copied node its own place. */
void mapfs_node_set_ref(void *node, MapfsNodeRef ref);

/* True when an item that goes between two others looks like one of a rising row: a split there then leaves a full node behind, and
 * what follows the row no longer shares a node with its end. */
bool mapfs_node_key_rises(MapfsKey left_key, MapfsKey key, MapfsKey right_key);
