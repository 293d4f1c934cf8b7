/* SPDX-License-Identifier: MIT */

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "check/check-private.h"

/* Judges both slots and picks the state of the image; *ret_slot is MAPFS_SUPERBLOCK_SLOTS if there is none. */
static void superblocks_choose(MapfsCheck *check, unsigned *ret_slot) {
    g_autofree struct mapfs_disk_superblock *slots = g_new0(struct mapfs_disk_superblock, MAPFS_SUPERBLOCK_SLOTS);
    MapfsSuperblockVerdict verdicts[MAPFS_SUPERBLOCK_SLOTS];
    int chosen;

    for (unsigned slot = 0; slot < MAPFS_SUPERBLOCK_SLOTS; slot++) {
        const void *bytes = mapfs_image_read(check->image, (MapfsRun){.start = {slot}, .n_blocks = 1});

        if (bytes)
            memcpy(&slots[slot], bytes, sizeof(slots[slot]));
        verdicts[slot] = mapfs_superblock_judge(&slots[slot]);
    }
    chosen = mapfs_superblock_choose(slots, verdicts, check->image->base, check->image->n_blocks);
    *ret_slot = chosen < 0 ? MAPFS_SUPERBLOCK_SLOTS : (unsigned)chosen;
    if (chosen < 0)
        return;
    check->superblock = slots[chosen];
    check->generation = mapfs_le64_load(slots[chosen].generation);
}

/* Says why a slot is not valid: a problem if none is, else the trace of a crash. */
static void slot_explain(MapfsCheck *check, unsigned slot, bool is_fatal) {
    const void *bytes = mapfs_image_read(check->image, (MapfsRun){.start = {slot}, .n_blocks = 1});
    MapfsProblemNumber number = is_fatal ? MAPFS_PROBLEM_NO_SUPERBLOCK : MAPFS_INFO_SLOT_DAMAGED;
    struct mapfs_disk_superblock candidate;

    if (!bytes) {
        mapfs_check_found(check, number, (MapfsCheckPlace){.block = slot}, "the image ends before superblock slot %u",
                          slot);
        return;
    }
    memcpy(&candidate, bytes, sizeof(candidate));
    switch (mapfs_superblock_judge(&candidate)) {
    case MAPFS_SUPERBLOCK_VALID:
        if (!mapfs_superblock_is_placed(&candidate, slot))
            mapfs_check_found(check, MAPFS_PROBLEM_SUPERBLOCK_SLOT, (MapfsCheckPlace){.block = slot},
                              "superblock slot %u holds generation %" PRIu64 ", which belongs into the other", slot,
                              mapfs_le64_load(candidate.generation));
        /* The older of two slots is not asked: its blocks may have been used again since. */
        else if (is_fatal || mapfs_le64_load(candidate.generation) > check->generation)
            mapfs_check_found(check, number, (MapfsCheckPlace){.block = slot},
                              "superblock slot %u: its checkpoint of generation %" PRIu64 " was not written whole",
                              slot, mapfs_le64_load(candidate.generation));
        break;
    case MAPFS_SUPERBLOCK_EMPTY:
        if (is_fatal)
            mapfs_check_found(check, number, (MapfsCheckPlace){.block = slot}, "superblock slot %u is empty", slot);
        break;
    case MAPFS_SUPERBLOCK_VERSION:
    case MAPFS_SUPERBLOCK_UNSUPPORTED:
        /* It may be the newer one, which a valid older one must not hide. */
        mapfs_check_found(check, MAPFS_PROBLEM_SUPERBLOCK_UNKNOWN, (MapfsCheckPlace){.block = slot},
                          "superblock slot %u: %s", slot, mapfs_damage_last());
        break;
    case MAPFS_SUPERBLOCK_FOREIGN:
    case MAPFS_SUPERBLOCK_DAMAGED:
        mapfs_check_found(check, number, (MapfsCheckPlace){.block = slot}, "superblock slot %u: %s", slot,
                          mapfs_damage_last());
        break;
    }
}

static void superblock_take(MapfsCheck *check, unsigned slot) {
    const struct mapfs_disk_superblock *superblock = &check->superblock;

    check->n_blocks = mapfs_le64_load(superblock->n_blocks);
    check->epoch = mapfs_le64_load(superblock->epoch);
    check->hash_seed = mapfs_le64_load(superblock->hash_seed);
    check->checksum_seed = mapfs_le64_load(superblock->checksum_seed);
    check->report->slot = slot;
    check->report->generation = check->generation;
    check->report->n_blocks = check->n_blocks;
    check->report->clean = mapfs_le64_load(superblock->flags) & MAPFS_SUPERBLOCK_CLEAN;
}

int mapfs_check_superblocks(MapfsCheck *check) {
    const MapfsRun slots = {.start = {0}, .n_blocks = MAPFS_SUPERBLOCK_SLOTS};
    unsigned slot;
    MapfsRun log;
    int r;

    superblocks_choose(check, &slot);
    for (unsigned i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++)
        slot_explain(check, i, slot == MAPFS_SUPERBLOCK_SLOTS);
    if (slot == MAPFS_SUPERBLOCK_SLOTS)
        return 0;
    superblock_take(check, slot);
    if (mapfs_le64_load(check->superblock.feature_ro_compat) & ~MAPFS_FEATURE_RO_COMPAT_KNOWN)
        mapfs_check_found(check, MAPFS_PROBLEM_SUPERBLOCK_UNKNOWN, (MapfsCheckPlace){.block = slot},
                          "superblock slot %u: ro_compat features %#" PRIx64 " are unknown to this program", slot,
                          mapfs_le64_load(check->superblock.feature_ro_compat));
    if (check->n_blocks > check->image->n_blocks) {
        mapfs_check_found(check, MAPFS_PROBLEM_IMAGE_SHORT, (MapfsCheckPlace){.block = slot},
                          "the image has %" PRIu64 " blocks, its superblock says %" PRIu64, check->image->n_blocks,
                          check->n_blocks);
        return 0;
    }
    log = (MapfsRun){.start = {mapfs_le64_load(check->superblock.log_start)},
                     .n_blocks = mapfs_le64_load(check->superblock.log_blocks)};
    if (log.start.n != MAPFS_SUPERBLOCK_SLOTS)
        mapfs_check_found(check, MAPFS_PROBLEM_LOG_PLACE, (MapfsCheckPlace){.block = slot},
                          "the log starts at block %" PRIu64 ", expected %u", log.start.n, MAPFS_SUPERBLOCK_SLOTS);
    r = mapfs_check_claim(check, slots, (MapfsCheckPlace){0}, "superblocks");
    if (r >= 0)
        r = mapfs_check_claim(check, log, (MapfsCheckPlace){.block = log.start.n}, "log");
    return r < 0 ? r : 1;
}
