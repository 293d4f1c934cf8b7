/* SPDX-License-Identifier: MIT */

/* No superblock is valid. Most of one is a list and counters that a repair makes anew; what it has to be believed in, the image itself can prove: the
 * root of the tree bears the checksum, the place and the generation that the superblock named, and names lie at their hashes. So what is left of a
 * superblock is completed from the other one and with what is always so, and used when its root fits. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "format/checksum.h"
#include "repair/repair-private.h"

/* What is left of a slot, and of the other. */
typedef struct {
    const struct mapfs_disk_superblock *own, *other;
    unsigned slot;
} Remains;

static bool counter_is_sound(struct mapfs_le64 counter) {
    return mapfs_le64_load(counter) > 0 && mapfs_le64_load(counter) < MAPFS_COUNTER_LIMIT;
}

/* What both say is right. Else the image's own size, if one says that; else the larger one, by which nothing is cut off. */
static uint64_t guess_size(const Remains *remains, uint64_t n_image) {
    uint64_t own = mapfs_le64_load(remains->own->n_blocks), other = mapfs_le64_load(remains->other->n_blocks);

    if (own == other || own == n_image || other > n_image)
        return own;
    if (other == n_image || own > n_image)
        return other;
    return MAPFS_MAX(own, other);
}

/* The smaller one that can be: nothing of the image is in a longer log then. */
static uint64_t guess_log(const Remains *remains, uint64_t n_blocks) {
    uint64_t lengths[] = {mapfs_le64_load(remains->own->log_blocks), mapfs_le64_load(remains->other->log_blocks)};
    uint64_t best = 0;

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(lengths); i++) {
        if (lengths[i] < MAPFS_LOG_BLOCKS_MIN || lengths[i] > MAPFS_LOG_BLOCKS_MAX || lengths[i] >= n_blocks)
            continue;
        best = best == 0 ? lengths[i] : MAPFS_MIN(best, lengths[i]);
    }
    return best;
}

/* At least the root's, and of the slot's parity. */
static uint64_t guess_generation(const Remains *remains) {
    uint64_t own = mapfs_le64_load(remains->own->generation), root = mapfs_le64_load(remains->own->root_generation);

    if (own >= root && own % MAPFS_SUPERBLOCK_SLOTS == remains->slot && counter_is_sound(remains->own->generation))
        return own;
    return root + (root % MAPFS_SUPERBLOCK_SLOTS != remains->slot);
}

static struct mapfs_le64 guess_counter(struct mapfs_le64 own, struct mapfs_le64 other) {
    return counter_is_sound(own) ? own : counter_is_sound(other) ? other : mapfs_le64_store(1);
}

/* A superblock that would be valid, with the checksum seed of one of the two. */
static void guess_fill(const Remains *remains, uint64_t n_image, struct mapfs_le64 checksum_seed,
                       struct mapfs_disk_superblock *ret_guess) {
    const struct mapfs_disk_superblock *own = remains->own, *other = remains->other;
    uint64_t next_ino = mapfs_le64_load(own->next_ino);

    *ret_guess = (struct mapfs_disk_superblock){
        .version = mapfs_le32_store(MAPFS_FORMAT_VERSION),
        .block_size = mapfs_le32_store(MAPFS_BLOCK_SIZE),
        .generation = mapfs_le64_store(guess_generation(remains)),
        .epoch = guess_counter(own->epoch, other->epoch),
        .lsn = guess_counter(own->lsn, other->lsn),
        .feature_incompat =
            mapfs_le64_store((mapfs_le64_load(own->feature_incompat) | mapfs_le64_load(other->feature_incompat)) &
                             MAPFS_FEATURE_INCOMPAT_KNOWN),
        .n_blocks = mapfs_le64_store(guess_size(remains, n_image)),
        .log_start = mapfs_le64_store(MAPFS_SUPERBLOCK_SLOTS),
        .log_nonce = own->log_nonce,
        .log_sequence = own->log_sequence,
        .log_previous = own->log_previous,
        .root_address = own->root_address,
        .root_generation = own->root_generation,
        .root_level = own->root_level,
        .next_ino =
            mapfs_le64_store(next_ino > MAPFS_INO_ROOT && next_ino <= MAPFS_INO_LIMIT ? next_ino : MAPFS_INO_ROOT + 1),
        .hash_seed = own->hash_seed,
        .checksum_seed = checksum_seed,
        .n_inodes = mapfs_le64_store(1), /* counted anew, as what is free */
        .mkfs_time = own->mkfs_time,
        .write_time = own->write_time,
    };
    memcpy(ret_guess->magic, MAPFS_SUPERBLOCK_MAGIC, sizeof(ret_guess->magic));
    memcpy(ret_guess->uuid, own->uuid, sizeof(ret_guess->uuid));
    memcpy(ret_guess->label, own->label, sizeof(ret_guess->label));
    ret_guess->log_blocks = mapfs_le64_store(guess_log(remains, mapfs_le64_load(ret_guess->n_blocks)));
    mapfs_superblock_seal(ret_guess);
}

/* A copy of the root is the node that the superblock says. */
static bool root_fits(const MapfsRepair *repair, const struct mapfs_disk_superblock *superblock) {
    const MapfsWalkTree tree = mapfs_repair_tree(repair, superblock);
    const void *bytes = mapfs_image_read(repair->image, (MapfsRun){tree.root.address, 1});
    _Alignas(8) uint8_t node[MAPFS_BLOCK_SIZE];

    if (!bytes)
        return false;
    memcpy(node, bytes, sizeof(node));
    return mapfs_node_check(node, tree.root, tree.checksum_seed) == 0;
}

/* --- the seed of the names' hashes --- */

typedef struct {
    MapfsUsed seen;
    uint64_t seeds[MAPFS_SUPERBLOCK_SLOTS];
    uint64_t n_hits[MAPFS_SUPERBLOCK_SLOTS], n_names;
} NameCount;

static int names_enter(void *user, MapfsNodeRef ref) {
    NameCount *count = user;
    uint64_t n_new;
    int r = mapfs_used_set(&count->seen, (MapfsRun){ref.address, 1}, &n_new);

    return r < 0 ? r : n_new == 1;
}

static int names_gap(void *user, MapfsNodeRef ref, const MapfsWalkRange *range, MapfsProblemNumber number,
                     const char *message) {
    (void)user;
    (void)ref;
    (void)range;
    (void)number;
    (void)message;
    return 0;
}

static int names_item(void *user, const MapfsCheckItem *item) {
    NameCount *count = user;
    const char *name = (const char *)item->value + sizeof(struct mapfs_disk_dirent);
    struct mapfs_disk_dirent dirent;

    if (item->key.kind != MAPFS_KIND_DIRENT ||
        mapfs_item_check(item->block, item->key, item->value, item->value_len) < 0)
        return 0;
    memcpy(&dirent, item->value, sizeof(dirent));
    count->n_names++;
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(count->seeds); i++)
        count->n_hits[i] +=
            mapfs_dirent_hash(name, dirent.name_len, count->seeds[i]) == item->key.offset >> MAPFS_DIRENT_SLOT_SHIFT;
    return 0;
}

/* Takes the seed by which most names lie where they should: 1; 0 when by neither do half of them; or -errno. */
static int guess_hash_seed(MapfsRepair *repair, const Remains *remains, struct mapfs_disk_superblock *guess) {
    NameCount count = {.seeds = {mapfs_le64_load(remains->own->hash_seed), mapfs_le64_load(remains->other->hash_seed)}};
    const MapfsWalkOps ops = {.enter = names_enter, .gap = names_gap, .item = names_item, .user = &count};
    const MapfsWalkTree tree = mapfs_repair_tree(repair, guess);
    unsigned best;
    int r = mapfs_walk_run(repair->image, &tree, &ops);

    mapfs_used_clear(&count.seen);
    if (r < 0)
        return r;
    best = count.n_hits[1] > count.n_hits[0];
    guess->hash_seed = mapfs_le64_store(count.seeds[best]);
    mapfs_superblock_seal(guess);
    return count.n_hits[best] * 2 >= count.n_names;
}

/* --- a slot --- */

/* 1 and a superblock that fits the tree, 0 when there is too little left of it, or -errno. */
static int guess_slot(MapfsRepair *repair, const Remains *remains, struct mapfs_disk_superblock *ret_guess) {
    const struct mapfs_le64 seeds[] = {remains->own->checksum_seed, remains->other->checksum_seed};

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(seeds); i++) {
        guess_fill(remains, repair->image->n_blocks, seeds[i], ret_guess);
        if (mapfs_superblock_judge(ret_guess) == MAPFS_SUPERBLOCK_VALID && root_fits(repair, ret_guess))
            return guess_hash_seed(repair, remains, ret_guess);
    }
    return 0;
}

/* What both slots say alike is no damage: an image of a newer program is none of ours. */
static int slots_check(const struct mapfs_disk_superblock *slots) {
    const uint64_t features = mapfs_le64_load(slots[0].feature_incompat) & mapfs_le64_load(slots[1].feature_incompat);
    const uint64_t ro_features =
        mapfs_le64_load(slots[0].feature_ro_compat) & mapfs_le64_load(slots[1].feature_ro_compat);

    if (slots[0].version.raw == slots[1].version.raw && mapfs_le32_load(slots[0].version) > MAPFS_FORMAT_VERSION)
        return -EPROTONOSUPPORT;
    return features & ~MAPFS_FEATURE_INCOMPAT_KNOWN || ro_features & ~MAPFS_FEATURE_RO_COMPAT_KNOWN ? -EOPNOTSUPP : 0;
}

int mapfs_repair_guess(MapfsRepair *repair, const struct mapfs_disk_superblock *slots) {
    unsigned n_found = 0;
    int r = slots_check(slots);

    for (unsigned slot = 0; r >= 0 && slot < MAPFS_SUPERBLOCK_SLOTS; slot++) {
        const Remains remains = {.own = &slots[slot], .other = &slots[1 - slot], .slot = slot};
        RepairState *state = &repair->states[n_found];

        r = guess_slot(repair, &remains, &state->superblock);
        if (r <= 0)
            continue;
        state->slot = slot;
        state->is_valid = true;
        n_found++;
    }
    if (r < 0)
        return r;
    if (n_found == 2 && mapfs_le64_load(repair->states[1].superblock.generation) >
                            mapfs_le64_load(repair->states[0].superblock.generation)) {
        const RepairState newer = repair->states[1];

        repair->states[1] = repair->states[0];
        repair->states[0] = newer;
    }
    return n_found > 0;
}
