/* SPDX-License-Identifier: MIT */

/* Superblocks, bitmaps, generations, the log. */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "format/items.h"
#include "format/log.h"
#include "mutate.h"

#define SUPERBLOCK_FIELD(member) \
    { offsetof(struct mapfs_disk_superblock, member), sizeof(((struct mapfs_disk_superblock *)0)->member) }

static const struct {
    uint16_t offset;
    uint8_t width;
} superblock_fields[] = {
    SUPERBLOCK_FIELD(version),
    SUPERBLOCK_FIELD(generation),
    SUPERBLOCK_FIELD(epoch),
    SUPERBLOCK_FIELD(lsn),
    SUPERBLOCK_FIELD(feature_compat),
    SUPERBLOCK_FIELD(feature_ro_compat),
    SUPERBLOCK_FIELD(feature_incompat),
    SUPERBLOCK_FIELD(n_blocks),
    SUPERBLOCK_FIELD(log_start),
    SUPERBLOCK_FIELD(log_blocks),
    SUPERBLOCK_FIELD(log_nonce),
    SUPERBLOCK_FIELD(log_head),
    SUPERBLOCK_FIELD(root_address),
    SUPERBLOCK_FIELD(root_generation),
    SUPERBLOCK_FIELD(root_level),
    SUPERBLOCK_FIELD(next_ino),
    SUPERBLOCK_FIELD(hash_seed),
    SUPERBLOCK_FIELD(n_free_blocks),
    SUPERBLOCK_FIELD(n_pending_blocks),
    SUPERBLOCK_FIELD(n_inodes),
    SUPERBLOCK_FIELD(flags),
    SUPERBLOCK_FIELD(n_written),
    SUPERBLOCK_FIELD(next_ino),
    SUPERBLOCK_FIELD(n_blocks),
};

/* A list of written blocks that holds together. */
static void make_written(FuzzMutation *mutation, struct mapfs_disk_superblock *superblock) {
    uint32_t n = (uint32_t)fuzz_random_below(&mutation->random, 5);

    memset(superblock->written, 0, sizeof(superblock->written));
    superblock->n_written = mapfs_le32_store(n);
    for (uint32_t i = 0; i < n; i++) {
        const FuzzBlock *block = fuzz_pick_block(mutation);

        superblock->written[i].block = mapfs_le64_store(block ? block->number : fuzz_pick_number(mutation));
        superblock->written[i].n_blocks = mapfs_le32_store(1 + (uint32_t)fuzz_random_below(&mutation->random, 4));
    }
}

/* The state of the other slot becomes the newest one, or the newest goes into the wrong slot. */
static void swap_slots(FuzzMutation *mutation) {
    FuzzBlock *slots[MAPFS_SUPERBLOCK_SLOTS];
    struct mapfs_disk_superblock *target;
    unsigned to = (unsigned)fuzz_random_below(&mutation->random, 2);
    uint64_t generation;

    for (uint64_t i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++)
        slots[i] = fuzz_input_find(mutation->input, i);
    if (!slots[0] || !slots[1])
        return;
    generation = mapfs_le64_load(((const struct mapfs_disk_superblock *)(void *)slots[1 - to]->bytes)->generation);
    memcpy(slots[to]->bytes, slots[1 - to]->bytes, MAPFS_BLOCK_SIZE);
    target = (void *)slots[to]->bytes;
    target->generation = mapfs_le64_store(generation + 1);
}

void fuzz_change_superblock(FuzzMutation *mutation) {
    FuzzBlock *block = fuzz_input_find(mutation->input, fuzz_random_below(&mutation->random, MAPFS_SUPERBLOCK_SLOTS));
    size_t field = fuzz_random_below(&mutation->random, MAPFS_N_ELEMENTS(superblock_fields));
    struct mapfs_disk_superblock *superblock = fuzz_superblock(mutation);

    if (block && fuzz_below(mutation, 1, 8))
        superblock = (void *)block->bytes;
    if (!superblock)
        return;
    switch (fuzz_random_below(&mutation->random, 8)) {
    case 0:
        make_written(mutation, superblock);
        break;
    case 1:
        swap_slots(mutation);
        break;
    case 2:
        if (block)
            block->seal ^= fuzz_below(mutation, 1, 2) ? FUZZ_SEAL : FUZZ_SEAL_WRITTEN;
        break;
    default:
        fuzz_change_integer(mutation, (uint8_t *)superblock + superblock_fields[field].offset,
                            superblock_fields[field].width);
        break;
    }
}

/* --- bitmaps --- */

static FuzzBlock *pick_bitmap(FuzzMutation *mutation) {
    for (unsigned i = 0; i < mutation->input->n_used; i++) {
        FuzzBlock *block = &mutation->input->blocks[fuzz_random_below(&mutation->random, mutation->input->n_used)];
        const struct mapfs_disk_header *header = (const void *)block->bytes;

        if (mapfs_le32_load(header->magic) == MAPFS_BITMAP_MAGIC)
            return block;
    }
    return NULL;
}

/* The counts of the group and of the superblock follow. */
static void count_follow(FuzzMutation *mutation, uint64_t group, int delta) {
    MapfsKey key = {.object = MAPFS_OBJECT_GROUPS, .kind = MAPFS_KIND_GROUP, .offset = group};
    FuzzBlock *block = fuzz_leaf_of(mutation, key);
    struct mapfs_disk_superblock *superblock = fuzz_superblock(mutation);
    FuzzLeaf *leaf = malloc(sizeof(*leaf));

    if (!leaf)
        abort();
    if (block && fuzz_leaf_load(leaf, block)) {
        for (unsigned i = 0; i < leaf->n_items; i++) {
            struct mapfs_disk_group value;
            FuzzItem *item = &leaf->items[i];

            if (mapfs_key_compare(item->key, key) != 0 || item->value_len != sizeof(value))
                continue;
            memcpy(&value, item->value, sizeof(value));
            value.n_free = mapfs_le32_store(mapfs_le32_load(value.n_free) + (uint32_t)delta);
            memcpy(item->value, &value, sizeof(value));
        }
        fuzz_leaf_store(leaf, block);
    }
    if (superblock)
        superblock->n_free_blocks =
            mapfs_le64_store(mapfs_le64_load(superblock->n_free_blocks) + (uint64_t)(int64_t)delta);
    free(leaf);
}

void fuzz_change_bitmap(FuzzMutation *mutation) {
    FuzzBlock *block = pick_bitmap(mutation);
    const FuzzBlock *used = fuzz_pick_block(mutation);
    struct mapfs_disk_bitmap *bitmap;
    uint64_t group, bit;
    int delta = 0;

    if (!block)
        return;
    bitmap = (void *)block->bytes;
    group = mapfs_le64_load(bitmap->header.owner);
    bit = fuzz_below(mutation, 1, 2)
              ? used->number % MAPFS_GROUP_BLOCKS
              : fuzz_random_below(&mutation->random, mutation->input->n_blocks) % MAPFS_GROUP_BLOCKS;
    for (uint64_t n = 1 + fuzz_random_below(&mutation->random, 16); n > 0 && bit < MAPFS_GROUP_BLOCKS; n--, bit++) {
        uint8_t mask = (uint8_t)(1u << (bit % 8));

        delta += bitmap->bits[bit / 8] & mask ? 1 : -1;
        bitmap->bits[bit / 8] ^= mask;
    }
    if (fuzz_below(mutation, 3, 4))
        count_follow(mutation, group, delta);
}

/* --- generations --- */

/* Lifts the newest superblock to a far generation, its parity kept, so that what follows meets the end of the numbers. */
void fuzz_change_generations(FuzzMutation *mutation) {
    static const uint64_t far[] = {UINT64_MAX - 1, UINT64_MAX, 1ULL << 62, (1ULL << 62) - 2, 1ULL << 63, INT64_MAX};
    struct mapfs_disk_superblock *superblock = fuzz_superblock(mutation);
    uint64_t generation, parity;

    if (!superblock)
        return;
    parity = mapfs_le64_load(superblock->generation) & 1;
    generation =
        far[fuzz_random_below(&mutation->random, MAPFS_N_ELEMENTS(far))] - fuzz_random_below(&mutation->random, 6);
    superblock->generation = mapfs_le64_store((generation & ~UINT64_C(1)) | parity);
    if (fuzz_below(mutation, 1, 4))
        superblock->epoch = mapfs_le64_store(generation);
    if (fuzz_below(mutation, 1, 4))
        superblock->lsn = mapfs_le64_store(generation);
}

/* --- the log --- */

/* Records of all types with what they need to be taken for whole: lengths, names, small numbers. */
static size_t make_record(FuzzMutation *mutation, uint8_t *bytes, uint64_t lsn) {
    static const struct {
        uint16_t type, len_fixed;
    } types[] = {
        {MAPFS_RECORD_CREATE, sizeof(struct mapfs_disk_record_create)},
        {MAPFS_RECORD_LINK, sizeof(struct mapfs_disk_record_name)},
        {MAPFS_RECORD_UNLINK, sizeof(struct mapfs_disk_record_name)},
        {MAPFS_RECORD_RENAME, sizeof(struct mapfs_disk_record_rename)},
        {MAPFS_RECORD_SETATTR, sizeof(struct mapfs_disk_record_setattr)},
        {MAPFS_RECORD_XATTR, sizeof(struct mapfs_disk_record_xattr)},
        {MAPFS_RECORD_MAP, sizeof(struct mapfs_disk_record_map)},
        {MAPFS_RECORD_INLINE, sizeof(struct mapfs_disk_record_inline)},
        {MAPFS_RECORD_TRUNCATE, sizeof(struct mapfs_disk_record_truncate)},
        {MAPFS_RECORD_RECLAIM, sizeof(struct mapfs_disk_record_reclaim)},
        {MAPFS_RECORD_ADOPT, sizeof(struct mapfs_disk_record_name)},
        {MAPFS_RECORD_PUNCH, sizeof(struct mapfs_disk_record_punch)},
        {MAPFS_RECORD_CLONE, sizeof(struct mapfs_disk_record_clone)},
    };
    size_t type = fuzz_random_below(&mutation->random, MAPFS_N_ELEMENTS(types));
    size_t len = types[type].len_fixed, end = (len + fuzz_random_below(&mutation->random, 24) + 7) & ~(size_t)7;
    struct mapfs_disk_record header = {.len_bytes = mapfs_le32_store((uint32_t)end),
                                       .type = mapfs_le16_store(types[type].type),
                                       .lsn = mapfs_le64_store(lsn)};

    memset(bytes, 0, end);
    memcpy(bytes, &header, sizeof(header));
    /* The fields are 8 bytes long, or 4; small numbers are right in most of them. */
    for (size_t at = sizeof(header); at < len; at += 4) {
        uint64_t number = fuzz_random_below(&mutation->random, 5);

        if (at % 8 == 0 || fuzz_below(mutation, 1, 4))
            bytes[at] = (uint8_t)(fuzz_below(mutation, 1, 8) ? fuzz_pick_number(mutation) : number);
    }
    memset(bytes + len, 'r', end - len);
    return end;
}

/* A batch that a reader must not overlook, of some records. */
void fuzz_change_batch(FuzzMutation *mutation) {
    const struct mapfs_disk_superblock *superblock = fuzz_superblock(mutation);
    size_t len = sizeof(struct mapfs_disk_batch);
    uint64_t n_records = 1 + fuzz_random_below(&mutation->random, 4), lsn;
    struct mapfs_disk_batch batch;
    FuzzBlock *block;

    if (!superblock)
        return;
    block =
        fuzz_input_add(mutation->input, mapfs_le64_load(superblock->log_start) + mapfs_le64_load(superblock->log_head));
    if (!block)
        return;
    superblock = fuzz_superblock(mutation); /* blocks have moved */
    lsn = mapfs_le64_load(superblock->lsn) + 1;
    memset(block->bytes, 0, MAPFS_BLOCK_SIZE);
    for (uint64_t i = 0; i < n_records; i++)
        len += make_record(mutation, block->bytes + len, lsn + i);
    memset(&batch, 0, sizeof(batch));
    batch.magic = mapfs_le32_store(MAPFS_BATCH_MAGIC);
    batch.len_bytes = mapfs_le32_store((uint32_t)len);
    batch.nonce = superblock->log_nonce;
    batch.sequence = superblock->log_sequence;
    batch.previous = superblock->log_previous;
    batch.generation = superblock->generation;
    batch.first_lsn = mapfs_le64_store(lsn);
    batch.last_lsn = mapfs_le64_store(lsn + n_records - 1);
    batch.n_records = mapfs_le32_store((uint32_t)n_records);
    memcpy(block->bytes, &batch, sizeof(batch));
    block->seal = FUZZ_SEAL_BATCH;
    if (fuzz_below(mutation, 1, 4))
        fuzz_change_integer(mutation, block->bytes + 8 * fuzz_random_below(&mutation->random, 20), 8);
}
