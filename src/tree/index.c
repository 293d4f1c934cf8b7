/* SPDX-License-Identifier: MIT */
#include "tree/index-private.h"

#include <inttypes.h>

unsigned mapfs_index_search(const void *node, unsigned n_items, MapfsKey key) {
    const struct mapfs_disk_pointer *pointers = ((const struct mapfs_disk_index *)node)->pointers;
    unsigned low = 1, high = n_items; /* the first pointer's key is not compared */

    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (mapfs_node_key_compare(pointers[middle].object, pointers[middle].kind, pointers[middle].offset, key) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low - 1;
}

void mapfs_index_set_child(void *node, unsigned index, MapfsNodeRef child) {
    struct mapfs_disk_index *target = node;

    target->pointers[index].address = mapfs_le64_store(child.address.n);
    target->pointers[index].generation = mapfs_le64_store(child.generation.n);
    target->header.checksum = mapfs_le64_store(0);
}

static void index_store(struct mapfs_disk_index *node, unsigned index, const MapfsIndexPointer *pointer) {
    node->pointers[index] = (struct mapfs_disk_pointer){
        .object = mapfs_le64_store(pointer->key.object),
        .offset = mapfs_le64_store(pointer->key.offset),
        .kind = pointer->key.kind,
        .address = mapfs_le64_store(pointer->address.n),
        .generation = mapfs_le64_store(pointer->generation.n),
    };
}

static void index_set_key(struct mapfs_disk_index *node, unsigned index, MapfsKey key) {
    node->pointers[index].object = mapfs_le64_store(key.object);
    node->pointers[index].offset = mapfs_le64_store(key.offset);
    node->pointers[index].kind = key.kind;
}

void mapfs_index_insert(void *node, unsigned n_items, unsigned index, const MapfsIndexPointer *pointer) {
    struct mapfs_disk_index *target = node;

    memmove(&target->pointers[index + 1], &target->pointers[index], (n_items - index) * sizeof(target->pointers[0]));
    index_store(target, index, pointer);
    mapfs_node_set_n_items(node, n_items + 1);
}

void mapfs_index_remove(void *node, unsigned n_items, unsigned index) {
    struct mapfs_disk_index *target = node;

    memmove(&target->pointers[index], &target->pointers[index + 1],
            (n_items - index - 1) * sizeof(target->pointers[0]));
    mapfs_node_set_n_items(node, n_items - 1);
}

/* How many pointers stay on the left, the new one counted in: half, or all up to the new one when keys rise. */
static unsigned split_point(const struct mapfs_disk_index *left, unsigned index, MapfsKey key) {
    if (index == MAPFS_INDEX_POINTERS_MAX)
        return index;
    MapfsKey left_key = mapfs_index_key(left, index - 1);
    if (index >= MAPFS_INDEX_POINTERS_MAX / 2 && mapfs_node_key_rises(left_key, key, mapfs_index_key(left, index)))
        return index + 1;
    return (MAPFS_INDEX_POINTERS_MAX + 1) / 2;
}

MapfsKey mapfs_index_split(void *left, void *right, unsigned index, const MapfsIndexPointer *pointer) {
    struct mapfs_disk_index *source = left, *target = right;
    unsigned n_left = split_point(source, index, pointer->key);
    bool goes_left = index < n_left;
    unsigned n_stay = goes_left ? n_left - 1 : n_left, n_move = MAPFS_INDEX_POINTERS_MAX - n_stay;

    memcpy(target->pointers, &source->pointers[n_stay], n_move * sizeof(source->pointers[0]));
    mapfs_node_set_n_items(target, n_move);
    mapfs_node_set_n_items(source, n_stay);
    if (goes_left)
        mapfs_index_insert(source, n_stay, index, pointer);
    else
        mapfs_index_insert(target, n_move, index - n_stay, pointer);
    return mapfs_index_key(target, 0);
}

void mapfs_index_join(void *target, MapfsNodeItems left, MapfsNodeItems right, MapfsKey separator) {
    const struct mapfs_disk_index *left_node = left.node, *right_node = right.node;
    struct mapfs_disk_index *node = target;

    /* The right half first: it may lie where the left half goes. */
    memmove(&node->pointers[left.n_items], right_node->pointers, right.n_items * sizeof(node->pointers[0]));
    if (left_node != node)
        memcpy(node->pointers, left_node->pointers, left.n_items * sizeof(node->pointers[0]));
    index_set_key(node, left.n_items, separator);
    mapfs_node_set_n_items(node, left.n_items + right.n_items);
}

int mapfs_index_check_generations(const void *node, unsigned n_items) {
    const struct mapfs_disk_index *index = node;
    uint64_t generation = mapfs_le64_load(index->header.generation);

    for (unsigned i = 0; i < n_items; i++) {
        uint64_t child = mapfs_le64_load(index->pointers[i].generation);
        if (child > generation)
            return mapfs_damage(mapfs_le64_load(index->header.address), "tree node",
                                "pointer %u leads to generation %" PRIu64 ", the node is of %" PRIu64, i, child,
                                generation);
    }
    return 0;
}
