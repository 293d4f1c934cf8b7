/* SPDX-License-Identifier: MIT */

#include "mutate.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* --- leaves --- */

static void leaf_remove(FuzzLeaf *leaf, unsigned index) {
    memmove(&leaf->items[index], &leaf->items[index + 1], (leaf->n_items - index - 1) * sizeof(leaf->items[0]));
    leaf->n_items--;
}

/* Puts an item where its key belongs, or into any leaf. */
static void insert_item(FuzzMutation *mutation, FuzzLeaf *leaf, const FuzzItem *item) {
    FuzzBlock *block = fuzz_below(mutation, 15, 16) ? fuzz_leaf_of(mutation, item->key) : fuzz_pick_node(mutation, 0);

    if (block && fuzz_leaf_load(leaf, block) && fuzz_leaf_insert(leaf, item))
        fuzz_leaf_store(leaf, block);
}

/* A changed key may belong to another leaf: the item then moves there, most of the time. */
static void change_item(FuzzMutation *mutation, FuzzLeaf *leaf, FuzzBlock *block) {
    unsigned index = (unsigned)fuzz_random_below(&mutation->random, leaf->n_items);
    MapfsKey before = leaf->items[index].key;
    FuzzItem changed = leaf->items[index];

    fuzz_item_change(mutation, &changed);
    if (mapfs_key_compare(before, changed.key) == 0 || fuzz_below(mutation, 1, 16)) {
        leaf->items[index] = changed;
        fuzz_leaf_store(leaf, block);
        return;
    }
    if (fuzz_below(mutation, 3, 4)) {
        leaf_remove(leaf, index);
        fuzz_leaf_store(leaf, block);
    }
    insert_item(mutation, leaf, &changed);
}

static void change_leaf(FuzzMutation *mutation) {
    FuzzBlock *block = fuzz_pick_node(mutation, 0);
    FuzzLeaf *leaf = malloc(sizeof(*leaf));

    if (!leaf)
        abort();
    if (block && fuzz_leaf_load(leaf, block) && leaf->n_items > 0) {
        unsigned index = (unsigned)fuzz_random_below(&mutation->random, leaf->n_items);

        if (fuzz_below(mutation, 1, 8)) {
            leaf_remove(leaf, index);
            fuzz_leaf_store(leaf, block);
        } else {
            change_item(mutation, leaf, block);
        }
    }
    free(leaf);
}

static void add_item(FuzzMutation *mutation) {
    FuzzLeaf *leaf = malloc(sizeof(*leaf));
    FuzzItem *item = calloc(1, sizeof(*item));

    if (!leaf || !item)
        abort();
    fuzz_item_make(mutation, item);
    if (fuzz_below(mutation, 1, 8))
        fuzz_item_change(mutation, item);
    insert_item(mutation, leaf, item);
    free(item);
    free(leaf);
}

/* --- index nodes --- */

static void change_pointer(FuzzMutation *mutation, struct mapfs_disk_pointer *pointer) {
    const FuzzBlock *other = fuzz_pick_node(mutation, -1);

    switch (fuzz_random_below(&mutation->random, 5)) {
    case 0:
        if (other)
            pointer->address = mapfs_le64_store(other->number);
        break;
    case 1: /* a whole reference, so that another node takes its place, or one appears twice */
        if (other) {
            pointer->address = mapfs_le64_store(other->number);
            pointer->generation = ((const struct mapfs_disk_header *)(const void *)other->bytes)->generation;
        }
        break;
    case 2:
        fuzz_change_integer(mutation, (uint8_t *)&pointer->object, 8);
        break;
    case 3:
        fuzz_change_integer(mutation, (uint8_t *)&pointer->offset, 8);
        break;
    default:
        fuzz_change_integer(mutation, (uint8_t *)&pointer->generation, 8);
        break;
    }
}

static void change_index(FuzzMutation *mutation) {
    FuzzBlock *block = fuzz_pick_node(mutation, fuzz_below(mutation, 3, 4) ? 1 : 2);
    struct mapfs_disk_index *node;
    unsigned n, index;

    if (!block)
        return;
    node = (void *)block->bytes;
    n = MAPFS_MIN(mapfs_le16_load(node->header.n_items), MAPFS_INDEX_POINTERS_MAX);
    if (n == 0)
        return;
    index = (unsigned)fuzz_random_below(&mutation->random, n);
    switch (fuzz_random_below(&mutation->random, 4)) {
    case 0:
        memmove(&node->pointers[index], &node->pointers[index + 1], (n - index - 1) * sizeof(node->pointers[0]));
        node->header.n_items = mapfs_le16_store((uint16_t)(n - 1));
        break;
    case 1:
        if (n == MAPFS_INDEX_POINTERS_MAX)
            break;
        memmove(&node->pointers[index + 1], &node->pointers[index], (n - index) * sizeof(node->pointers[0]));
        node->header.n_items = mapfs_le16_store((uint16_t)(n + 1));
        change_pointer(mutation, &node->pointers[index]);
        break;
    default:
        change_pointer(mutation, &node->pointers[index]);
        break;
    }
}

/* A root above the root: deeper trees than small images have. */
static void add_level(FuzzMutation *mutation) {
    struct mapfs_disk_superblock *superblock = fuzz_superblock(mutation);
    const FuzzBlock *old;
    struct mapfs_disk_index *node;
    FuzzBlock *block;
    uint64_t old_number;

    old = superblock ? fuzz_input_find(mutation->input, mapfs_le64_load(superblock->root_address)) : NULL;
    if (!old)
        return;
    old_number = old->number;
    block = fuzz_input_add(mutation->input, 18 + fuzz_random_below(&mutation->random, mutation->input->n_blocks));
    old = fuzz_input_find(mutation->input, old_number); /* blocks have moved */
    if (!block || block == old)
        return;
    memset(block->bytes, 0, MAPFS_BLOCK_SIZE);
    block->seal = FUZZ_SEAL;
    node = (void *)block->bytes;
    memcpy(&node->header, old->bytes, sizeof(node->header));
    node->header.level++;
    node->header.n_items = mapfs_le16_store(1);
    node->header.address = mapfs_le64_store(block->number);
    node->pointers[0].address = mapfs_le64_store(old_number);
    node->pointers[0].generation = node->header.generation;
    superblock = fuzz_superblock(mutation);
    superblock->root_address = mapfs_le64_store(block->number);
    superblock->root_level = mapfs_le32_store(node->header.level);
}

/* --- nodes as such --- */

static void change_header(FuzzMutation *mutation) {
    static const struct {
        uint8_t offset, width;
    } fields[] = {{offsetof(struct mapfs_disk_header, level), 1},
                  {offsetof(struct mapfs_disk_header, n_items), 2},
                  {offsetof(struct mapfs_disk_header, address), 8},
                  {offsetof(struct mapfs_disk_header, generation), 8},
                  {offsetof(struct mapfs_disk_header, owner), 8}};
    size_t field = fuzz_random_below(&mutation->random, MAPFS_N_ELEMENTS(fields));
    FuzzBlock *block = fuzz_pick_block(mutation);

    if (block)
        fuzz_change_integer(mutation, block->bytes + fields[field].offset, fields[field].width);
}

static void change_bytes(FuzzMutation *mutation) {
    FuzzBlock *block = fuzz_pick_block(mutation);
    size_t start, len;

    if (!block)
        return;
    start = fuzz_random_below(&mutation->random, MAPFS_BLOCK_SIZE);
    len = MAPFS_MIN(MAPFS_BLOCK_SIZE - start, 1 + fuzz_random_below(&mutation->random, 64));
    (void)mutation->bytes_mutate(block->bytes + start, len, len); /* the block stays as long as it is */
}

/* One block in the place of another, its address made right. */
static void copy_block(FuzzMutation *mutation) {
    const FuzzBlock *from = fuzz_pick_node(mutation, -1);
    FuzzBlock *to = fuzz_pick_node(mutation, -1);
    struct mapfs_disk_header *header;
    struct mapfs_le64 generation;

    if (!from || !to || from == to)
        return;
    header = (void *)to->bytes;
    generation = header->generation;
    memcpy(to->bytes, from->bytes, MAPFS_BLOCK_SIZE);
    header->address = mapfs_le64_store(to->number);
    header->generation = generation;
}

static void drop_block(FuzzMutation *mutation) {
    FuzzBlock *block = fuzz_pick_block(mutation);

    if (!block)
        return;
    if (fuzz_below(mutation, 1, 2)) {
        block->seal ^= FUZZ_SEAL;
        return;
    }
    memmove(block, block + 1, (size_t)(mutation->input->blocks + mutation->input->n_used - block - 1) * sizeof(*block));
    mutation->input->n_used--;
}

/* --- the rest --- */

static void change_size(FuzzMutation *mutation) {
    struct mapfs_disk_superblock *superblock = fuzz_superblock(mutation);
    uint32_t n_blocks = (uint32_t)(1 + fuzz_random_below(&mutation->random, FUZZ_IMAGE_BLOCKS_MAX));

    if (fuzz_below(mutation, 3, 4))
        n_blocks = (uint32_t)(mutation->input->n_blocks + fuzz_random_below(&mutation->random, 65) - 32);
    if (n_blocks == 0 || n_blocks > FUZZ_IMAGE_BLOCKS_MAX)
        return;
    mutation->input->n_blocks = n_blocks;
    if (superblock && fuzz_below(mutation, 3, 4))
        superblock->n_blocks = mapfs_le64_store(n_blocks);
}

static void change_script(FuzzMutation *mutation) {
    FuzzInput *input = mutation->input;

    if (input->script_len == 0) {
        input->script_len = 16;
        memset(input->script, 1, input->script_len);
    }
    input->script_len = mutation->bytes_mutate(input->script, input->script_len, FUZZ_SCRIPT_MAX);
}

void fuzz_mutate(FuzzMutation *mutation) {
    static void (*const mutations[])(FuzzMutation *) = {
        change_leaf,        change_leaf,        change_leaf,   change_leaf,   change_leaf,   change_leaf,
        add_item,           add_item,           add_item,      add_item,      change_index,  change_index,
        add_level,          change_header,      change_bytes,  change_bytes,  copy_block,    drop_block,
        fuzz_change_bitmap, fuzz_change_bitmap, change_script, change_script, change_script,
    };
    /* Each of these alone makes most images unusable. */
    static void (*const rare[])(FuzzMutation *) = {fuzz_change_superblock, fuzz_change_superblock,
                                                   fuzz_change_superblock, fuzz_change_generations,
                                                   fuzz_change_batch,      change_size};

    if (fuzz_below(mutation, 1, 8))
        rare[fuzz_random_below(&mutation->random, MAPFS_N_ELEMENTS(rare))](mutation);
    else
        mutations[fuzz_random_below(&mutation->random, MAPFS_N_ELEMENTS(mutations))](mutation);
}

void fuzz_mutate_cross(FuzzMutation *mutation, const FuzzInput *other) {
    unsigned n = 1 + (unsigned)fuzz_random_below(&mutation->random, 4);

    if (fuzz_below(mutation, 1, 4)) {
        mutation->input->script_len = other->script_len;
        memcpy(mutation->input->script, other->script, other->script_len);
    }
    for (unsigned i = 0; i < n && other->n_used > 0; i++) {
        const FuzzBlock *from = &other->blocks[fuzz_random_below(&mutation->random, other->n_used)];
        FuzzBlock *to = fuzz_input_add(mutation->input, from->number);

        if (!to)
            continue;
        memcpy(to->bytes, from->bytes, MAPFS_BLOCK_SIZE);
        to->seal = from->seal;
    }
}
