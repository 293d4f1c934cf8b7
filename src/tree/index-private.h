/* SPDX-License-Identifier: MIT */
#pragma once

/* Index nodes: pointers to nodes one level lower. The key of a pointer is a lower bound of what is below it, but for the first
 * pointer, whose key nobody looks at: searches take it for everything below the second. */

#include "tree/node-private.h"

/* A pointer, loaded. */
typedef struct {
    MapfsKey key;
    MapfsBlock address;
    MapfsGeneration generation;
} MapfsIndexPointer;

static inline MapfsKey mapfs_index_key(const void *node, unsigned index) {
    const struct mapfs_disk_pointer *pointer = &((const struct mapfs_disk_index *)node)->pointers[index];
    return (MapfsKey){mapfs_le64_load(pointer->object), mapfs_le64_load(pointer->offset), pointer->kind};
}

/* What the pointer at `index` promises of its child, which is on `level`. */
static inline MapfsNodeRef mapfs_index_child(const void *node, unsigned index, unsigned level) {
    const struct mapfs_disk_pointer *pointer = &((const struct mapfs_disk_index *)node)->pointers[index];
    return (MapfsNodeRef){
        .address = {mapfs_le64_load(pointer->address)},
        .generation = {mapfs_le64_load(pointer->generation)},
        .level = (uint8_t)level,
    };
}

/* The pointer to follow for a key: the last one with a key <= `key`, or the first. n_items is at least 1. */
unsigned mapfs_index_search(const void *node, unsigned n_items, MapfsKey key);

/* Makes the pointer at `index` lead to another block; its key stays. */
void mapfs_index_set_child(void *node, unsigned index, MapfsNodeRef child);

/* Puts a pointer in at `index`; there must be room. */
void mapfs_index_insert(void *node, unsigned n_items, unsigned index, const MapfsIndexPointer *pointer);

/* Takes a pointer out. The range of keys of the first one goes to the second. */
void mapfs_index_remove(void *node, unsigned n_items, unsigned index);

/* Splits a full node while a pointer goes in at `index` (at least 1). `right` is an initialized empty one. Returns
 * the first key of the right half. */
MapfsKey mapfs_index_split(void *left, void *right, unsigned index, const MapfsIndexPointer *pointer);

/* Makes `target` hold the pointers of `left` and then those of `right`, whose first gets the key `separator`. One of the
 * two may be `target` itself; together they must fit. */
void mapfs_index_join(void *target, MapfsNodeItems left, MapfsNodeItems right, MapfsKey separator);

/* 0, or -EUCLEAN when a pointer is to a younger node than the one that it lies in: copying never makes such. */
int mapfs_index_check_generations(const void *node, unsigned n_items) MAPFS_MUST_USE;
