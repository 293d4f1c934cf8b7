/* SPDX-License-Identifier: MIT */

/* Which state to go on from, and what must not be stored into meanwhile: all that any superblock leads to. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "format/checksum.h"
#include "format/time.h"
#include "repair/repair-private.h"

/* Greater numbers come from damage; pending frees could not be keyed with them. */
#define GENERATION_MAX (UINT64_C(1) << 61)
#define EPOCH_MAX (UINT64_C(1) << 62)

/* --- protection --- */

int mapfs_repair_protect(MapfsRepair *repair, MapfsRun run) {
    uint64_t n_image = repair->image->n_blocks, n_new;

    if (run.start.n >= n_image || run.n_blocks == 0)
        return 0;
    run.n_blocks = MAPFS_MIN(run.n_blocks, n_image - run.start.n);
    return mapfs_used_set(&repair->protected, run, &n_new);
}

static int protect_pending(MapfsRepair *repair, const MapfsCheckItem *item) {
    for (size_t offset = 0; offset < item->value_len; offset += sizeof(struct mapfs_disk_pending_run)) {
        struct mapfs_disk_pending_run run;
        int r;

        memcpy(&run, (const uint8_t *)item->value + offset, sizeof(run));
        r = mapfs_repair_protect(repair, (MapfsRun){{mapfs_le64_load(run.block)}, mapfs_le32_load(run.n_blocks)});
        if (r < 0)
            return r;
    }
    return 0;
}

int mapfs_repair_protect_item(MapfsRepair *repair, const MapfsCheckItem *item) {
    struct mapfs_disk_extent extent;
    struct mapfs_disk_group group;

    switch (item->key.kind) {
    case MAPFS_KIND_EXTENT:
        memcpy(&extent, item->value, sizeof(extent));
        return mapfs_repair_protect(repair,
                                    (MapfsRun){{mapfs_le64_load(extent.block)}, mapfs_le32_load(extent.n_blocks)});
    case MAPFS_KIND_GROUP:
        memcpy(&group, item->value, sizeof(group));
        return mapfs_repair_protect(repair, (MapfsRun){{mapfs_le64_load(group.bitmap_address)}, 1});
    case MAPFS_KIND_PENDING:
        return protect_pending(repair, item);
    default:
        return 0;
    }
}

/* --- the walk over one state --- */

typedef struct {
    MapfsRepair *repair;
    RepairState *state;
    MapfsUsed seen;
} StateWalk;

static int state_enter(void *user, MapfsNodeRef ref) {
    StateWalk *walk = user;
    uint64_t n_new;
    int r;

    r = mapfs_used_set(&walk->seen, (MapfsRun){ref.address, 1}, &n_new);
    if (r < 0)
        return r;
    r = mapfs_repair_protect(walk->repair, (MapfsRun){ref.address, 1});
    return r < 0 ? r : n_new == 1;
}

static int state_gap(void *user, MapfsNodeRef ref, const MapfsWalkRange *range, MapfsProblemNumber number,
                     const char *message) {
    StateWalk *walk = user;

    (void)ref;
    (void)number;
    (void)message; /* the checker has named them */
    return mapfs_vector_push(&walk->state->gaps, range, sizeof(*range));
}

static void state_node(void *user, MapfsNodeRef ref) {
    StateWalk *walk = user;
    uint64_t n_new;

    /* Without memory the walk ends at its next allocation; what is missing here would cost nothing but a sharing that is not noticed. */
    (void)!mapfs_used_set(&walk->state->nodes, (MapfsRun){ref.address, 1}, &n_new);
}

static int state_item(void *user, const MapfsCheckItem *item) {
    StateWalk *walk = user;
    struct mapfs_disk_group group;
    RepairGroup kept;

    if (mapfs_item_check(item->block, item->key, item->value, item->value_len) < 0) {
        walk->state->n_bad_items++;
        return 0;
    }
    walk->repair->n_items_estimate++;
    if (item->key.kind == MAPFS_KIND_GROUP) {
        memcpy(&group, item->value, sizeof(group));
        kept = (RepairGroup){
            .group = item->key.offset,
            .n_free = mapfs_le32_load(group.n_free),
            .bitmap = {{mapfs_le64_load(group.bitmap_address)}, {mapfs_le64_load(group.bitmap_generation)}, 0}};
        int r = mapfs_vector_push(&walk->state->groups, &kept, sizeof(kept));
        if (r < 0)
            return r;
    }
    return mapfs_repair_protect_item(walk->repair, item);
}

MapfsWalkTree mapfs_repair_tree(const MapfsRepair *repair, const struct mapfs_disk_superblock *superblock) {
    return (MapfsWalkTree){
        .root = {{mapfs_le64_load(superblock->root_address)},
                 {mapfs_le64_load(superblock->root_generation)},
                 (uint8_t)mapfs_le32_load(superblock->root_level)},
        .n_blocks = MAPFS_MIN(mapfs_le64_load(superblock->n_blocks), repair->image->n_blocks),
        .checksum_seed = mapfs_le64_load(superblock->checksum_seed),
    };
}

static int state_walk(MapfsRepair *repair, RepairState *state) {
    const MapfsWalkTree tree = mapfs_repair_tree(repair, &state->superblock);
    StateWalk walk = {.repair = repair, .state = state};
    const MapfsWalkOps ops = {
        .enter = state_enter, .gap = state_gap, .node = state_node, .item = state_item, .user = &walk};
    int r;

    mapfs_repair_progress(repair, "reading", state->slot, MAPFS_SUPERBLOCK_SLOTS);
    r = mapfs_walk_run(repair->image, &tree, &ops);
    mapfs_used_clear(&walk.seen);
    return r;
}

/* --- the superblocks --- */

static int slot_error(MapfsSuperblockVerdict verdict) {
    if (verdict == MAPFS_SUPERBLOCK_VERSION)
        return -EPROTONOSUPPORT;
    return verdict == MAPFS_SUPERBLOCK_UNSUPPORTED ? -EOPNOTSUPP : 0;
}

static int slots_guess(MapfsRepair *repair, const struct mapfs_disk_superblock *slots) {
    int r = mapfs_repair_guess(repair, slots);

    if (r == 0)
        return mapfs_damage(0, "image", "has no superblock to go on from, and too little is left of both");
    if (r < 0)
        return r;
    mapfs_repair_say(repair, MAPFS_REPAIR_LOST, 0,
                     "no superblock is whole; what is left of the one in slot %u fits the tree of generation %" PRIu64
                     ", which is used: label, UUID and times of the image may not be what they were",
                     repair->states[0].slot, mapfs_le64_load(repair->states[0].superblock.generation));
    return 0;
}

/* Copies and judges both; the one that counts comes first. */
static int slots_judge(MapfsRepair *repair) {
    g_autofree struct mapfs_disk_superblock *slots = g_new0(struct mapfs_disk_superblock, MAPFS_SUPERBLOCK_SLOTS);
    MapfsSuperblockVerdict verdicts[MAPFS_SUPERBLOCK_SLOTS];
    int chosen;

    for (unsigned i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++) {
        const void *bytes = mapfs_image_read(repair->image, (MapfsRun){{i}, 1});
        int r;

        if (bytes)
            memcpy(&slots[i], bytes, sizeof(slots[i]));
        verdicts[i] = mapfs_superblock_judge(&slots[i]);
        r = slot_error(verdicts[i]);
        if (r < 0)
            return r;
        if (verdicts[i] == MAPFS_SUPERBLOCK_VALID &&
            mapfs_le64_load(slots[i].feature_ro_compat) & ~MAPFS_FEATURE_RO_COMPAT_KNOWN)
            return -EOPNOTSUPP;
    }
    /* A number that no image reaches must not win over a slot that is sound. */
    for (unsigned i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++)
        if (verdicts[i] == MAPFS_SUPERBLOCK_VALID && mapfs_le64_load(slots[i].generation) > GENERATION_MAX &&
            verdicts[1 - i] == MAPFS_SUPERBLOCK_VALID)
            verdicts[i] = MAPFS_SUPERBLOCK_DAMAGED;
    chosen = mapfs_superblock_choose(slots, verdicts, repair->image->base, repair->image->n_blocks);
    if (chosen < 0)
        return slots_guess(repair, slots);
    for (unsigned i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++) {
        unsigned slot = i == 0 ? (unsigned)chosen : 1 - (unsigned)chosen;

        repair->states[i].superblock = slots[slot];
        repair->states[i].slot = slot;
        repair->states[i].is_valid = verdicts[slot] == MAPFS_SUPERBLOCK_VALID;
    }
    return 0;
}

/* --- the choice --- */

static bool state_is_whole(const RepairState *state) {
    return state->gaps.n == 0;
}

static void time_print(struct mapfs_le64 time, char *buffer, size_t size) {
    struct timespec written = mapfs_time_to_timespec(mapfs_le64_load(time));
    struct tm parts;

    if (!gmtime_r(&written.tv_sec, &parts) || strftime(buffer, size, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        g_strlcpy(buffer, "an unknown time", size);
}

static void say_older(MapfsRepair *repair) {
    char newer[40], older[40];

    time_print(repair->states[0].superblock.write_time, newer, sizeof(newer));
    time_print(repair->states[1].superblock.write_time, older, sizeof(older));
    mapfs_repair_say(repair, MAPFS_REPAIR_LOST, 0,
                     "the tree of generation %" PRIu64 " (%s) is damaged, that of generation %" PRIu64
                     " (%s) is whole and is used: what was changed in between is lost",
                     mapfs_le64_load(repair->states[0].superblock.generation), newer,
                     mapfs_le64_load(repair->states[1].superblock.generation), older);
    repair->report->used_older = true;
}

/* Changes in the log are not applied here, and must not be applied later, to another tree than they were made for: with another nonce nobody takes
 * them for this image's. */
static void log_mend(MapfsRepair *repair) {
    struct mapfs_disk_superblock *superblock = &repair->superblock;

    if (!mapfs_rescue_log_has_changes(repair->image, superblock))
        return;
    mapfs_repair_say(repair, MAPFS_REPAIR_LOST, 0,
                     "the log holds changes that this version cannot apply: they are lost");
    superblock->log_nonce = mapfs_le64_store(
        mapfs_hash(&superblock->log_nonce, sizeof(superblock->log_nonce), mapfs_le64_load(superblock->generation)));
}

/* What can be put right in the superblock itself. */
static int superblock_mend(MapfsRepair *repair) {
    struct mapfs_disk_superblock *superblock = &repair->superblock;
    uint64_t n_image = repair->image->n_blocks, n_log = mapfs_le64_load(superblock->log_blocks);

    if (n_image < MAPFS_IMAGE_BLOCKS_MIN || MAPFS_SUPERBLOCK_SLOTS + n_log >= n_image)
        return mapfs_damage(0, "image", "is cut so short that nothing can be kept (%" PRIu64 " blocks)", n_image);
    if (mapfs_le64_load(superblock->n_blocks) > n_image) {
        mapfs_repair_say(repair, MAPFS_REPAIR_LOST, 0,
                         "the image has %" PRIu64 " blocks instead of %" PRIu64 ": what lay past its end is lost",
                         n_image, mapfs_le64_load(superblock->n_blocks));
        superblock->n_blocks = mapfs_le64_store(n_image);
    }
    if (mapfs_le64_load(superblock->log_start) != MAPFS_SUPERBLOCK_SLOTS) {
        mapfs_repair_say(repair, MAPFS_REPAIR_FIXED, 0, "superblock: the log starts at block %u, not at %" PRIu64,
                         MAPFS_SUPERBLOCK_SLOTS, mapfs_le64_load(superblock->log_start));
        superblock->log_start = mapfs_le64_store(MAPFS_SUPERBLOCK_SLOTS);
    }
    log_mend(repair);
    if (mapfs_le64_load(superblock->epoch) > EPOCH_MAX)
        superblock->epoch = mapfs_le64_store(EPOCH_MAX);
    if (mapfs_le64_load(superblock->generation) > GENERATION_MAX) {
        if (mapfs_le64_load(superblock->root_generation) > GENERATION_MAX)
            return mapfs_damage(0, "superblock", "its generation is %" PRIu64, mapfs_le64_load(superblock->generation));
        superblock->generation = superblock->root_generation;
    }
    return 0;
}

static void source_take(MapfsRepair *repair) {
    const struct mapfs_disk_superblock *superblock = &repair->superblock;

    repair->n_blocks = mapfs_le64_load(superblock->n_blocks);
    repair->first_usable = mapfs_le64_load(superblock->log_start) + mapfs_le64_load(superblock->log_blocks);
    repair->hash_seed = mapfs_le64_load(superblock->hash_seed);
    repair->checksum_seed = mapfs_le64_load(superblock->checksum_seed);
    repair->generation = mapfs_le64_load(superblock->generation);
    repair->epoch = mapfs_le64_load(superblock->epoch);
    repair->next_ino = mapfs_le64_load(superblock->next_ino);
    /* Gaps and malformed items are mended by a new tree. */
    repair->is_rebuilt = !state_is_whole(repair->source) || repair->source->n_bad_items > 0;
}

/* Numbers that no checkpoint changes: where they differ, the newer superblock is not this filesystem's, whatever its checksum says. */
static bool is_same_filesystem(const struct mapfs_disk_superblock *a, const struct mapfs_disk_superblock *b) {
    return a->checksum_seed.raw == b->checksum_seed.raw && a->hash_seed.raw == b->hash_seed.raw &&
           a->log_blocks.raw == b->log_blocks.raw && memcmp(a->uuid, b->uuid, sizeof(a->uuid)) == 0;
}

/* The newest state, put together with what an older one has where it has gaps. The older one as it is, which may be much older, only when
 * that cannot be. */
static void source_choose(MapfsRepair *repair) {
    RepairState *newest = &repair->states[0], *other = &repair->states[1];

    repair->source = newest;
    if (state_is_whole(newest) || !other->is_valid || !state_is_whole(other))
        return;
    if (!repair->goes_back && is_same_filesystem(&newest->superblock, &other->superblock)) {
        repair->older = other;
        return;
    }
    repair->source = other;
    say_older(repair);
}

bool mapfs_repair_has_start(MapfsImage *image) {
    const MapfsRepairOptions options = {0};
    MapfsRepairReport report = {0};
    g_autofree MapfsRepair *repair = g_new0(MapfsRepair, 1);

    *repair = (MapfsRepair){.image = image, .options = &options, .report = &report};
    return slots_judge(repair) == 0;
}

int mapfs_repair_find_state(MapfsRepair *repair) {
    int r;

    r = slots_judge(repair);
    for (unsigned i = 0; r == 0 && i < MAPFS_SUPERBLOCK_SLOTS; i++)
        if (repair->states[i].is_valid)
            r = state_walk(repair, &repair->states[i]);
    if (r < 0)
        return r;
    source_choose(repair);
    repair->superblock = repair->source->superblock;
    r = superblock_mend(repair);
    if (r < 0)
        return r;
    source_take(repair);
    return mapfs_repair_protect(repair, (MapfsRun){{0}, repair->first_usable});
}
