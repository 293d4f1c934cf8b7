/* SPDX-License-Identifier: MIT */

#include "format/node.h"

#include <inttypes.h>

#include "base/error.h"
#include "format/checksum.h"
#include "format/items.h"
#include "format/superblock.h"
#include "format/zero.h"

uint64_t mapfs_header_checksum(const void *block, uint64_t checksum_seed) {
    return mapfs_hash_sealed(block, MAPFS_BLOCK_SIZE, checksum_seed);
}

void mapfs_header_seal(void *block, uint64_t checksum_seed) {
    struct mapfs_disk_header *header = block;

    header->checksum = mapfs_le64_store(mapfs_header_checksum(block, checksum_seed));
}

static int header_check_checksum(const struct mapfs_disk_header *header, const char *object, MapfsBlock address,
                                 uint64_t checksum_seed) {
    uint64_t stored = mapfs_le64_load(header->checksum);
    uint64_t made = mapfs_header_checksum(header, checksum_seed);

    if (stored != made)
        return mapfs_damage(address.n, object, "checksum is %016" PRIx64 ", expected %016" PRIx64, stored, made);
    return 0;
}

/* What nodes and bitmaps have in common; `header` is a copy. */
static int header_check(const struct mapfs_disk_header *header, const char *object, MapfsNodeRef expected,
                        uint32_t magic) {
    uint64_t block = expected.address.n;

    if (mapfs_le32_load(header->magic) != magic)
        return mapfs_damage(block, object, "magic is %08" PRIx32 ", expected %08" PRIx32,
                            mapfs_le32_load(header->magic), magic);
    if (mapfs_le64_load(header->address) != block)
        return mapfs_damage(block, object, "says that it lies at block %" PRIu64, mapfs_le64_load(header->address));
    if (mapfs_le64_load(header->generation) != expected.generation.n)
        return mapfs_damage(block, object, "generation is %" PRIu64 ", expected %" PRIu64,
                            mapfs_le64_load(header->generation), expected.generation.n);
    if (header->level != expected.level)
        return mapfs_damage(block, object, "level is %u, expected %u", header->level, expected.level);
    if (header->reserved1 != 0 || !mapfs_zero_check(header->reserved2, sizeof(header->reserved2)))
        return mapfs_damage(block, object, "reserved bytes of the header are not zero");
    return 0;
}

static MapfsKey slot_key(const struct mapfs_disk_slot *slot) {
    return (MapfsKey){
        .object = mapfs_le64_load(slot->object), .offset = mapfs_le64_load(slot->offset), .kind = slot->kind};
}

/* Checks one slot and the place of its value, which must end where the value of the slot before begins (*value_end). */
static int leaf_check_slot(const struct mapfs_disk_leaf *leaf, unsigned index, unsigned n_items, size_t *value_end) {
    struct mapfs_disk_slot slot = leaf->slots[index];
    uint64_t block = mapfs_le64_load(leaf->header.address);
    size_t start = mapfs_le16_load(slot.value_offset);
    size_t len = mapfs_le16_load(slot.value_len);

    if (len > MAPFS_VALUE_LEN_MAX || start + len != *value_end || start < sizeof(leaf->header) + n_items * sizeof(slot))
        return mapfs_damage(block, "tree node", "value %u at offset %zu with %zu bytes is out of its place", index,
                            start, len);
    if (slot.reserved1 != 0 || mapfs_le16_load(slot.reserved2) != 0)
        return mapfs_damage(block, "tree node", "reserved bytes of slot %u are not zero", index);
    *value_end = start;
    return 0;
}

static int leaf_check(const struct mapfs_disk_leaf *leaf, unsigned n_items, uint64_t block) {
    size_t value_end = MAPFS_BLOCK_SIZE;
    MapfsKey previous = {0};

    if (n_items > MAPFS_LEAF_SLOTS_MAX)
        return mapfs_damage(block, "tree node", "a leaf cannot hold %u items", n_items);
    for (unsigned i = 0; i < n_items; i++) {
        MapfsKey key = slot_key(&leaf->slots[i]);
        int r;

        if (i > 0 && mapfs_key_compare(previous, key) >= 0)
            return mapfs_damage(block, "tree node", "keys of slots %u and %u do not rise", i - 1, i);
        r = leaf_check_slot(leaf, i, n_items, &value_end);
        if (r < 0)
            return r;
        previous = key;
    }
    return 0;
}

static int leaf_check_items(const struct mapfs_disk_leaf *leaf, unsigned n_items, uint64_t block) {
    for (unsigned i = 0; i < n_items; i++) {
        const struct mapfs_disk_slot *slot = &leaf->slots[i];
        int r;

        r = mapfs_item_check(block, slot_key(slot), (const uint8_t *)leaf + mapfs_le16_load(slot->value_offset),
                             mapfs_le16_load(slot->value_len));
        if (r < 0)
            return r;
    }
    return 0;
}

static int index_check(const struct mapfs_disk_index *node, unsigned n_items, MapfsNodeRef ref) {
    uint64_t block = ref.address.n;
    MapfsKey previous = {0};

    if (n_items == 0 || n_items > MAPFS_INDEX_POINTERS_MAX)
        return mapfs_damage(block, "tree node", "an index node cannot hold %u pointers", n_items);
    if (!mapfs_zero_check(node->reserved, sizeof(node->reserved)))
        return mapfs_damage(block, "tree node", "reserved bytes at the end are not zero");
    for (unsigned i = 0; i < n_items; i++) {
        struct mapfs_disk_pointer pointer = node->pointers[i];
        MapfsKey key = {
            .object = mapfs_le64_load(pointer.object), .offset = mapfs_le64_load(pointer.offset), .kind = pointer.kind};
        uint64_t address = mapfs_le64_load(pointer.address);
        uint64_t generation = mapfs_le64_load(pointer.generation);

        /* The first pointer's key is never looked at, and may be anything. */
        if (i > 1 && mapfs_key_compare(previous, key) >= 0)
            return mapfs_damage(block, "tree node", "keys of pointers %u and %u do not rise", i - 1, i);
        if (!mapfs_zero_check(pointer.reserved, sizeof(pointer.reserved)))
            return mapfs_damage(block, "tree node", "reserved bytes of pointer %u are not zero", i);
        if (address < MAPFS_FIRST_BLOCK || address == block)
            return mapfs_damage(block, "tree node", "pointer %u leads to block %" PRIu64, i, address);
        /* A node is at least as young as what it points to, since the change of a child changes its pointer. */
        if (generation == 0 || generation > ref.generation.n)
            return mapfs_damage(block, "tree node", "pointer %u has generation %" PRIu64 ", its node %" PRIu64, i,
                                generation, ref.generation.n);
        previous = key;
    }
    return 0;
}

int mapfs_node_check_layout(const void *node, MapfsNodeRef expected) {
    const struct mapfs_disk_leaf *leaf = node;
    int r;

    r = mapfs_node_check_frame(node, expected);
    if (r < 0 || expected.level > 0)
        return r;
    return leaf_check_items(leaf, mapfs_le16_load(leaf->header.n_items), expected.address.n);
}

int mapfs_node_check_frame(const void *node, MapfsNodeRef expected) {
    struct mapfs_disk_header header = *(const struct mapfs_disk_header *)node;
    unsigned n_items = mapfs_le16_load(header.n_items);
    int r;

    r = header_check(&header, "tree node", expected, MAPFS_NODE_MAGIC);
    if (r < 0)
        return r;
    if (mapfs_le64_load(header.owner) != MAPFS_OWNER_MAIN)
        return mapfs_damage(expected.address.n, "tree node", "owner is %" PRIu64 ", expected %" PRIu64,
                            mapfs_le64_load(header.owner), MAPFS_OWNER_MAIN);
    if (expected.level == 0)
        return leaf_check(node, n_items, expected.address.n);
    if (expected.level >= MAPFS_TREE_LEVELS_MAX)
        return mapfs_damage(expected.address.n, "tree node", "a tree cannot have a level %u", expected.level);
    return index_check(node, n_items, expected);
}

int mapfs_node_check(const void *node, MapfsNodeRef expected, uint64_t checksum_seed) {
    int r;

    r = header_check_checksum(node, "tree node", expected.address, checksum_seed);
    if (r < 0)
        return r;
    return mapfs_node_check_layout(node, expected);
}

int mapfs_bitmap_check(const void *bitmap, MapfsNodeRef expected, uint64_t group, uint64_t checksum_seed) {
    struct mapfs_disk_header header = *(const struct mapfs_disk_header *)bitmap;
    int r;

    r = header_check_checksum(bitmap, "bitmap", expected.address, checksum_seed);
    if (r < 0)
        return r;
    r = header_check(&header, "bitmap", expected, MAPFS_BITMAP_MAGIC);
    if (r < 0)
        return r;
    if (mapfs_le64_load(header.owner) != group)
        return mapfs_damage(expected.address.n, "bitmap", "belongs to group %" PRIu64 ", expected %" PRIu64,
                            mapfs_le64_load(header.owner), group);
    if (mapfs_le16_load(header.n_items) != 0)
        return mapfs_damage(expected.address.n, "bitmap", "counts %u items", mapfs_le16_load(header.n_items));
    return 0;
}
