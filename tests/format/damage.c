/* SPDX-License-Identifier: MIT */

#include "damage.h"

#include <string.h>

#include "base/error.h"
#include "format/items.h"
#include "format/node.h"
#include "format/superblock.h"

uint8_t *damage_block(MapfsImage *image, uint64_t block) {
    return mapfs_image_writable(image, (MapfsRun){.start = {block}, .n_blocks = 1});
}

static bool is_metadata(const uint8_t *block) {
    uint32_t magic = mapfs_le32_load(((const struct mapfs_disk_header *)(const void *)block)->magic);

    return magic == MAPFS_NODE_MAGIC || magic == MAPFS_BITMAP_MAGIC;
}

uint64_t damage_pick_metadata(MapfsImage *image, Random *random) {
    for (unsigned tries = 0; tries < 400; tries++) {
        uint64_t block = random_below(random, image->n_blocks);

        if (block < MAPFS_SUPERBLOCK_SLOTS || is_metadata(damage_block(image, block)))
            return block;
    }
    return 0;
}

void damage_reseal(MapfsImage *image, uint64_t block, uint64_t checksum_seed) {
    void *bytes = damage_block(image, block);

    if (block < MAPFS_SUPERBLOCK_SLOTS)
        mapfs_superblock_seal(bytes);
    else if (is_metadata(bytes))
        mapfs_header_seal(bytes, checksum_seed);
}

void damage_poke(uint8_t *bytes, uint64_t size, Random *random) {
    static const uint64_t numbers[] = {0,
                                       1,
                                       2,
                                       0x7f,
                                       0xff,
                                       0xffff,
                                       4096,
                                       4097,
                                       UINT32_MAX,
                                       MAPFS_INO_LIMIT,
                                       INT64_MAX,
                                       UINT64_MAX,
                                       512,
                                       511,
                                       0x80,
                                       0x8000,
                                       INT64_MAX - 1,
                                       MAPFS_OBJECT_PENDING};
    /* Headers and slots are met more often than free space. */
    uint64_t offset = random_below(random, random_below(random, 2) ? size : MAPFS_MIN(size, 600));
    uint64_t number = numbers[random_below(random, MAPFS_N_ELEMENTS(numbers))];

    switch (random_below(random, 4)) {
    case 0:
        bytes[offset] ^= (uint8_t)(1u << random_below(random, 8));
        break;
    case 1:
        bytes[offset] = (uint8_t)random_next(random);
        break;
    case 2:
        offset -= offset % 8;
        memcpy(bytes + offset, &number, sizeof(number));
        break;
    default:
        bytes[offset] = (uint8_t)(bytes[offset] + random_below(random, 7) - 3);
        break;
    }
}

uint64_t damage_sealed(MapfsImage *image, Random *random, uint64_t checksum_seed) {
    uint64_t block = damage_pick_metadata(image, random);

    for (uint64_t i = random_below(random, 3) + 1; i > 0; i--)
        damage_poke(damage_block(image, block), MAPFS_BLOCK_SIZE, random);
    damage_reseal(image, block, checksum_seed);
    return block;
}

uint64_t damage_by_copy(MapfsImage *image, Random *random, uint64_t checksum_seed) {
    uint64_t from = damage_pick_metadata(image, random), to = damage_pick_metadata(image, random);
    struct mapfs_disk_header *header = (void *)damage_block(image, to);
    struct mapfs_le64 generation = header->generation;

    if (from < MAPFS_SUPERBLOCK_SLOTS || to < MAPFS_SUPERBLOCK_SLOTS || from == to)
        return 0;
    memcpy(header, damage_block(image, from), MAPFS_BLOCK_SIZE);
    header->address = mapfs_le64_store(to);
    header->generation = generation;
    damage_reseal(image, to, checksum_seed);
    return to;
}

uint64_t damage_zero(MapfsImage *image, Random *random) {
    uint64_t block = damage_pick_metadata(image, random);

    memset(damage_block(image, block), 0, MAPFS_BLOCK_SIZE);
    return block;
}

uint64_t damage_swap(MapfsImage *image, Random *random, uint64_t *ret_other) {
    uint64_t a = damage_pick_metadata(image, random), b = random_below(random, image->n_blocks);
    uint8_t bytes[MAPFS_BLOCK_SIZE];

    memcpy(bytes, damage_block(image, a), sizeof(bytes));
    memcpy(damage_block(image, a), damage_block(image, b), sizeof(bytes));
    memcpy(damage_block(image, b), bytes, sizeof(bytes));
    *ret_other = b;
    return a;
}

/* --- planting --- */

static void plant_extent(uint8_t *value, Random *random) {
    struct mapfs_disk_extent *extent = (void *)value;

    switch (random_below(random, 5)) {
    case 0:
        extent->block = mapfs_le64_store(MAPFS_FIRST_BLOCK + random_below(random, 600));
        break;
    case 1:
        extent->n_blocks = mapfs_le32_store(1 + (uint32_t)random_below(random, 40));
        break;
    case 2:
        extent->flags = mapfs_le32_store((uint32_t)random_below(random, 2));
        break;
    case 3:
        extent->birth_generation = mapfs_le64_store(1 + random_below(random, 1000));
        break;
    default:
        extent->block = mapfs_le64_store(mapfs_le64_load(extent->block) + random_below(random, 9) - 4);
        break;
    }
}

static void plant_dirent(uint8_t *value, Random *random) {
    struct mapfs_disk_dirent *dirent = (void *)value;

    switch (random_below(random, 3)) {
    case 0:
        dirent->ino = mapfs_le64_store(1 + random_below(random, 60));
        break;
    case 1:
        dirent->type = (uint8_t)(random_below(random, 2) ? 8 : 4);
        break;
    default:
        value[sizeof(*dirent)] = (uint8_t)('a' + random_below(random, 26));
        break;
    }
}

static void plant_inode(uint8_t *value, Random *random) {
    struct mapfs_disk_inode *inode = (void *)value;

    switch (random_below(random, 6)) {
    case 0:
        inode->size = mapfs_le64_store(random_below(random, 5000));
        break;
    case 1:
        inode->nlink = mapfs_le32_store((uint32_t)random_below(random, 6));
        break;
    case 2:
        inode->parent = mapfs_le64_store(random_below(random, 40));
        break;
    case 3:
        inode->n_blocks = mapfs_le64_store(random_below(random, 100));
        break;
    case 4:
        inode->n_xattrs = mapfs_le32_store((uint32_t)random_below(random, 5));
        break;
    default:
        inode->mode = mapfs_le32_store((random_below(random, 2) ? 0100000u : 0040000u) | 0755u);
        break;
    }
}

static void plant_item(struct mapfs_disk_leaf *leaf, unsigned index, Random *random) {
    const struct mapfs_disk_slot *slot = &leaf->slots[index];
    uint8_t *stored = (uint8_t *)leaf + mapfs_le16_load(slot->value_offset);
    _Alignas(8) uint8_t value[MAPFS_VALUE_LEN_MAX];
    size_t len = mapfs_le16_load(slot->value_len);

    memcpy(value, stored, len);
    switch (slot->kind) {
    case MAPFS_KIND_INODE:
        plant_inode(value, random);
        break;
    case MAPFS_KIND_EXTENT:
        plant_extent(value, random);
        break;
    case MAPFS_KIND_DIRENT:
        plant_dirent(value, random);
        break;
    case MAPFS_KIND_GROUP:
        value[random_below(random, 2) ? 16 : 0] ^= (uint8_t)(1u << random_below(random, 8));
        break;
    case MAPFS_KIND_PENDING:
        value[8] = (uint8_t)(1 + random_below(random, 30));
        break;
    default:
        value[random_below(random, len)] ^= (uint8_t)(1u << random_below(random, 8));
        break;
    }
    memcpy(stored, value, len);
}

uint64_t damage_plant(MapfsImage *image, Random *random, uint64_t checksum_seed) {
    uint64_t block = damage_pick_metadata(image, random);
    struct mapfs_disk_leaf *leaf = (void *)damage_block(image, block);
    unsigned n_items = mapfs_le16_load(leaf->header.n_items);
    const MapfsNodeRef ref = {{block}, {mapfs_le64_load(leaf->header.generation)}, 0};

    if (block < MAPFS_SUPERBLOCK_SLOTS || n_items < 2 || mapfs_node_check(leaf, ref, checksum_seed) < 0)
        return 0;
    if (random_below(random, 8) == 0)
        leaf->header.n_items = mapfs_le16_store((uint16_t)(n_items - 1));
    else
        plant_item(leaf, (unsigned)random_below(random, n_items), random);
    damage_reseal(image, block, checksum_seed);
    return block;
}
