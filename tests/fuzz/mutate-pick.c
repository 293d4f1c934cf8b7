/* SPDX-License-Identifier: MIT */

/* Leaves taken apart and put together, and what of an input a mutation picks. */

#include <stdlib.h>
#include <string.h>

#include "mutate.h"

uint64_t fuzz_random_next(FuzzRandom *random) {
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return random->state * UINT64_C(0x2545f4914f6cdd1d);
}

uint64_t fuzz_random_below(FuzzRandom *random, uint64_t n) {
    return (fuzz_random_next(random) >> 11) % n;
}

bool fuzz_below(FuzzMutation *mutation, unsigned n, unsigned of) {
    return fuzz_random_below(&mutation->random, of) < n;
}

/* --- leaves --- */

static const struct mapfs_disk_leaf *block_leaf(const FuzzBlock *block) {
    return (const void *)block->bytes;
}

static bool is_node(const FuzzBlock *block) {
    return mapfs_le32_load(block_leaf(block)->header.magic) == MAPFS_NODE_MAGIC;
}

static bool leaf_load_item(const FuzzBlock *block, unsigned index, FuzzItem *item) {
    struct mapfs_disk_slot slot = block_leaf(block)->slots[index];
    size_t start = mapfs_le16_load(slot.value_offset), len = mapfs_le16_load(slot.value_len);

    if (start > MAPFS_BLOCK_SIZE || len > MAPFS_BLOCK_SIZE - start || len > MAPFS_VALUE_LEN_MAX)
        return false;
    item->key = (MapfsKey){mapfs_le64_load(slot.object), mapfs_le64_load(slot.offset), slot.kind};
    item->value_len = len;
    memcpy(item->value, block->bytes + start, len);
    return true;
}

bool fuzz_leaf_load(FuzzLeaf *leaf, const FuzzBlock *block) {
    unsigned n_items = mapfs_le16_load(block_leaf(block)->header.n_items);

    if (!is_node(block) || block_leaf(block)->header.level != 0 || n_items > MAPFS_LEAF_SLOTS_MAX)
        return false;
    leaf->n_items = n_items;
    for (unsigned i = 0; i < n_items; i++) {
        if (!leaf_load_item(block, i, &leaf->items[i]))
            return false;
    }
    return true;
}

void fuzz_leaf_store(const FuzzLeaf *leaf, FuzzBlock *block) {
    struct mapfs_disk_leaf *disk = (void *)block->bytes;
    size_t value_end = MAPFS_BLOCK_SIZE, slots_end = sizeof(disk->header);
    unsigned n = 0;

    memset(block->bytes + slots_end, 0, MAPFS_BLOCK_SIZE - slots_end);
    for (; n < leaf->n_items; n++) {
        const FuzzItem *item = &leaf->items[n];

        slots_end += sizeof(disk->slots[0]);
        if (slots_end + item->value_len > value_end)
            break;
        value_end -= item->value_len;
        disk->slots[n] = (struct mapfs_disk_slot){
            .object = mapfs_le64_store(item->key.object),
            .offset = mapfs_le64_store(item->key.offset),
            .kind = item->key.kind,
            .value_offset = mapfs_le16_store((uint16_t)value_end),
            .value_len = mapfs_le16_store((uint16_t)item->value_len),
        };
        memcpy(block->bytes + value_end, item->value, item->value_len);
    }
    disk->header.n_items = mapfs_le16_store((uint16_t)n);
}

static int item_compare(const void *a, const void *b) {
    const FuzzItem *x = a, *y = b;

    return mapfs_key_compare(x->key, y->key);
}

void fuzz_leaf_sort(FuzzLeaf *leaf) {
    unsigned n = 0;

    qsort(leaf->items, leaf->n_items, sizeof(leaf->items[0]), item_compare);
    /* Of two with the same key one stays. */
    for (unsigned i = 0; i < leaf->n_items; i++) {
        if (n > 0 && mapfs_key_compare(leaf->items[n - 1].key, leaf->items[i].key) == 0)
            continue;
        if (n != i)
            leaf->items[n] = leaf->items[i];
        n++;
    }
    leaf->n_items = n;
}

bool fuzz_leaf_insert(FuzzLeaf *leaf, const FuzzItem *item) {
    size_t used = item->value_len + sizeof(struct mapfs_disk_slot);

    for (unsigned i = 0; i < leaf->n_items; i++)
        used += leaf->items[i].value_len + sizeof(struct mapfs_disk_slot);
    if (leaf->n_items == MAPFS_LEAF_SLOTS_MAX || used > MAPFS_NODE_SPACE)
        return false;
    leaf->items[leaf->n_items++] = *item;
    fuzz_leaf_sort(leaf);
    return true;
}

/* --- picking --- */

struct mapfs_disk_superblock *fuzz_superblock(const FuzzMutation *mutation) {
    struct mapfs_disk_superblock *newest = NULL;

    for (uint64_t i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++) {
        FuzzBlock *block = fuzz_input_find(mutation->input, i);
        struct mapfs_disk_superblock *superblock = block ? (void *)block->bytes : NULL;

        if (superblock && (!newest || mapfs_le64_load(superblock->generation) > mapfs_le64_load(newest->generation)))
            newest = superblock;
    }
    return newest;
}

FuzzBlock *fuzz_pick_block(FuzzMutation *mutation) {
    if (mutation->input->n_used == 0)
        return NULL;
    return &mutation->input->blocks[fuzz_random_below(&mutation->random, mutation->input->n_used)];
}

static FuzzBlock *root_block(const FuzzMutation *mutation) {
    const struct mapfs_disk_superblock *superblock = fuzz_superblock(mutation);

    return superblock ? fuzz_input_find(mutation->input, mapfs_le64_load(superblock->root_address)) : NULL;
}

static unsigned pointers_of(const FuzzBlock *block) {
    unsigned n = mapfs_le16_load(block_leaf(block)->header.n_items);

    return block_leaf(block)->header.level == 0 ? 0 : MAPFS_MIN(n, MAPFS_INDEX_POINTERS_MAX);
}

static FuzzBlock *child_of(const FuzzMutation *mutation, const FuzzBlock *block, unsigned index) {
    const struct mapfs_disk_index *node = (const void *)block->bytes;

    return fuzz_input_find(mutation->input, mapfs_le64_load(node->pointers[index].address));
}

/* From the root down, any way, to the level; to where the way ends with -1. */
static FuzzBlock *pick_by_walk(FuzzMutation *mutation, int level) {
    FuzzBlock *block = root_block(mutation);

    for (unsigned i = 0; block && is_node(block) && i < MAPFS_TREE_LEVELS_MAX; i++) {
        unsigned n = pointers_of(block);

        if (block_leaf(block)->header.level == level || n == 0 || (level < 0 && fuzz_below(mutation, 1, 4)))
            return level < 0 || block_leaf(block)->header.level == level ? block : NULL;
        block = child_of(mutation, block, (unsigned)fuzz_random_below(&mutation->random, n));
    }
    return NULL;
}

FuzzBlock *fuzz_pick_node(FuzzMutation *mutation, int level) {
    FuzzBlock *block = fuzz_below(mutation, 15, 16) ? pick_by_walk(mutation, level) : NULL;

    for (unsigned i = 0; !block && i < 16; i++) {
        FuzzBlock *any = fuzz_pick_block(mutation);

        if (any && is_node(any) && (level < 0 || block_leaf(any)->header.level == level))
            block = any;
    }
    return block;
}

static unsigned index_search(const FuzzBlock *block, MapfsKey key) {
    const struct mapfs_disk_index *node = (const void *)block->bytes;
    unsigned n = pointers_of(block), i = 0;

    while (i + 1 < n) {
        const struct mapfs_disk_pointer *next = &node->pointers[i + 1];
        MapfsKey next_key = {mapfs_le64_load(next->object), mapfs_le64_load(next->offset), next->kind};

        if (mapfs_key_compare(next_key, key) > 0)
            break;
        i++;
    }
    return i;
}

FuzzBlock *fuzz_leaf_of(const FuzzMutation *mutation, MapfsKey key) {
    FuzzBlock *block = root_block(mutation);

    for (unsigned i = 0; block && is_node(block) && i < MAPFS_TREE_LEVELS_MAX; i++) {
        if (pointers_of(block) == 0)
            return block;
        block = child_of(mutation, block, index_search(block, key));
    }
    return NULL;
}

bool fuzz_pick_item(FuzzMutation *mutation, FuzzItem *ret_item) {
    const FuzzBlock *block = fuzz_pick_node(mutation, 0);
    unsigned n_items = block ? mapfs_le16_load(block_leaf(block)->header.n_items) : 0;

    return n_items > 0 && n_items <= MAPFS_LEAF_SLOTS_MAX &&
           leaf_load_item(block, (unsigned)fuzz_random_below(&mutation->random, n_items), ret_item);
}

/* --- numbers --- */

static uint64_t superblock_number(FuzzMutation *mutation) {
    const struct mapfs_disk_superblock *superblock = fuzz_superblock(mutation);

    if (!superblock)
        return 0;
    switch (fuzz_random_below(&mutation->random, 7)) {
    case 0:
        return mapfs_le64_load(superblock->generation);
    case 1:
        return mapfs_le64_load(superblock->epoch);
    case 2:
        return mapfs_le64_load(superblock->n_blocks);
    case 3:
        return mapfs_le64_load(superblock->next_ino);
    case 4:
        return mapfs_le64_load(superblock->log_start) + mapfs_le64_load(superblock->log_blocks);
    case 5:
        return mapfs_le64_load(superblock->root_address);
    default:
        return mapfs_le64_load(superblock->n_free_blocks);
    }
}

static uint64_t limit_number(FuzzMutation *mutation) {
    static const uint64_t limits[] = {0,
                                      1,
                                      2,
                                      MAPFS_INO_LIMIT,
                                      UINT64_MAX,
                                      INT64_MAX,
                                      UINT32_MAX,
                                      INT32_MAX,
                                      UINT16_MAX,
                                      4096,
                                      1920,
                                      1536,
                                      MAPFS_OBJECT_GROUPS,
                                      1984,
                                      4095,
                                      65536,
                                      32768,
                                      MAPFS_GROUP_BLOCKS,
                                      1ULL << 60,
                                      1ULL << 62,
                                      255,
                                      256,
                                      100,
                                      168};

    return limits[fuzz_random_below(&mutation->random, MAPFS_N_ELEMENTS(limits))];
}

uint64_t fuzz_pick_number(FuzzMutation *mutation) {
    const FuzzBlock *block;
    uint64_t number;
    FuzzItem item;

    switch (fuzz_random_below(&mutation->random, 8)) {
    case 0:
        number = limit_number(mutation);
        break;
    case 1:
        number = superblock_number(mutation);
        break;
    case 2:
        block = fuzz_pick_block(mutation);
        number = block ? block->number : 0;
        break;
    case 3:
        number = fuzz_pick_item(mutation, &item) ? (fuzz_below(mutation, 1, 2) ? item.key.object : item.key.offset) : 0;
        break;
    case 4:
        number = fuzz_random_below(&mutation->random, mutation->input->n_blocks);
        break;
    case 5:
        number = UINT64_C(1) << fuzz_random_below(&mutation->random, 64);
        break;
    case 6:
        number = fuzz_random_next(&mutation->random) >> fuzz_random_below(&mutation->random, 64);
        break;
    default:
        number = fuzz_random_below(&mutation->random, 64);
        break;
    }
    return fuzz_below(mutation, 1, 4) ? number + fuzz_random_below(&mutation->random, 5) - 2 : number;
}

uint64_t fuzz_pick_ino(FuzzMutation *mutation) {
    FuzzItem item;

    for (unsigned i = 0; i < 4 && fuzz_below(mutation, 15, 16); i++) {
        if (fuzz_pick_item(mutation, &item) && item.key.object < MAPFS_INO_LIMIT)
            return item.key.object;
    }
    return fuzz_below(mutation, 1, 2) ? MAPFS_INO_ROOT : fuzz_pick_number(mutation);
}

void fuzz_change_integer(FuzzMutation *mutation, uint8_t *bytes, unsigned width) {
    uint64_t number = 0;

    memcpy(&number, bytes, width);
    number = le64toh(number);
    switch (fuzz_random_below(&mutation->random, 4)) {
    case 0:
        number += fuzz_random_below(&mutation->random, 9) - 4;
        break;
    case 1:
        number ^= UINT64_C(1) << fuzz_random_below(&mutation->random, 8 * width);
        break;
    default:
        number = fuzz_pick_number(mutation);
        break;
    }
    number = htole64(number);
    memcpy(bytes, &number, width);
}
