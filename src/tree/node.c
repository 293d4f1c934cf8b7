/* SPDX-License-Identifier: MIT */
#include "tree/node-private.h"

#include <inttypes.h>

/* Where the checksum lies in the header. */
#define CHECKSUM_START offsetof(struct mapfs_disk_header, checksum)
#define CHECKSUM_END offsetof(struct mapfs_disk_header, address)

int mapfs_node_open(const MapfsTree *tree, MapfsNodeRef ref, const void **ret_node, unsigned *ret_n_items) {
    const void *node;
    int r = tree->ops->read(tree->store, ref, &node);
    if (r < 0)
        return r;

    const struct mapfs_disk_header *header = node;
    unsigned n_items = mapfs_node_load16(&header->n_items);
    uint64_t generation = mapfs_le64_load(header->generation);
    if (header->level != ref.level)
        return mapfs_damage(ref.address.n, "tree node", "level is %u, expected %u", header->level, ref.level);
    if (generation != ref.generation.n)
        return mapfs_damage(ref.address.n, "tree node", "generation is %" PRIu64 ", its pointer says %" PRIu64,
                            generation, ref.generation.n);
    if (n_items > (ref.level ? MAPFS_INDEX_POINTERS_MAX : MAPFS_LEAF_SLOTS_MAX))
        return mapfs_damage(ref.address.n, "tree node", "%u items do not fit into a node of level %u", n_items,
                            ref.level);
    if (n_items == 0 && (ref.level > 0 || tree->root.level > 0))
        return mapfs_damage(ref.address.n, "tree node", "a node of level %u below the root is empty", ref.level);

    *ret_node = node;
    *ret_n_items = n_items;
    return 0;
}

void mapfs_node_copy(void *target, const void *source) {
    memcpy(target, source, CHECKSUM_START);
    memset((uint8_t *)target + CHECKSUM_START, 0, CHECKSUM_END - CHECKSUM_START);
    memcpy((uint8_t *)target + CHECKSUM_END, (const uint8_t *)source + CHECKSUM_END, MAPFS_BLOCK_SIZE - CHECKSUM_END);
}

void mapfs_node_init(void *node, MapfsNodeRef ref) {
    struct mapfs_disk_header *header = node;

    /* All of it: what lies in the gap of a node goes to disk too, and must not be what the block held before. */
    memset(node, 0, MAPFS_BLOCK_SIZE);
    header->magic = mapfs_le32_store(MAPFS_NODE_MAGIC);
    header->level = ref.level;
    header->owner = mapfs_le64_store(MAPFS_OWNER_MAIN);
    mapfs_node_set_ref(node, ref);
}

void mapfs_node_set_n_items(void *node, unsigned n_items) {
    struct mapfs_disk_header *header = node;

    header->n_items = mapfs_le16_store((uint16_t)n_items);
    header->checksum = mapfs_le64_store(0);
}

void mapfs_node_set_ref(void *node, MapfsNodeRef ref) {
    struct mapfs_disk_header *header = node;

    header->address = mapfs_le64_store(ref.address.n);
    header->generation = mapfs_le64_store(ref.generation.n);
}

bool mapfs_node_key_rises(MapfsKey left_key, MapfsKey key, MapfsKey right_key) {
    /* Inode numbers rise, and what comes after the newest inode's items is the first system object. */
    if (key.object < MAPFS_OBJECT_SYSTEM && right_key.object >= MAPFS_OBJECT_SYSTEM)
        return true;
    /* A file that grows: its extents rise, and what comes after them is another object. */
    return left_key.object == key.object && left_key.kind == key.kind && right_key.object != key.object;
}
