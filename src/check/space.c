/* SPDX-License-Identifier: MIT */

/* Bitmaps, group summaries and counters against the blocks found in use. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "check/check-private.h"

#define PROGRESS_GROUPS 64u

/* A run of blocks of one group that are wrong in the same way. */
typedef struct {
    MapfsProblemNumber number;
    uint64_t start, n_blocks;
} Difference;

static void difference_report(MapfsCheck *check, const Difference *difference) {
    const MapfsCheckPlace place = {.block = difference->start};

    if (difference->n_blocks == 0)
        return;
    mapfs_check_found(check, difference->number, place,
                      difference->number == MAPFS_PROBLEM_BLOCK_LEAKED
                          ? "blocks %" PRIu64 "+%" PRIu64 " are marked as in use, but belong to nothing"
                          : "blocks %" PRIu64 "+%" PRIu64 " are in use, but marked as free",
                      difference->start, difference->n_blocks);
}

/* Reports the bits of one word that differ, joining them with the run before. */
static void word_compare(MapfsCheck *check, uint64_t first_block, uint64_t marked, uint64_t used, Difference *run) {
    uint64_t differ = marked ^ used;

    while (differ != 0) {
        unsigned bit = (unsigned)__builtin_ctzll(differ);
        bool is_leak = marked >> bit & 1;
        MapfsProblemNumber number = is_leak ? MAPFS_PROBLEM_BLOCK_LEAKED : MAPFS_PROBLEM_BLOCK_UNMARKED;
        uint64_t block = first_block + bit;

        if (run->n_blocks == 0 || run->number != number || run->start + run->n_blocks != block) {
            difference_report(check, run);
            *run = (Difference){.number = number, .start = block};
        }
        run->n_blocks++;
        differ &= differ - 1;
    }
}

/* Compares a group's bits; returns how many are clear. `marked` NULL: a group without bitmap. */
static uint64_t group_compare(MapfsCheck *check, uint64_t group, const uint8_t *marked) {
    const MapfsUsedGroup *used = mapfs_used_lookup(&check->used, group);
    uint64_t first_block = group * MAPFS_GROUP_BLOCKS;
    uint64_t n_blocks = MAPFS_MIN(check->n_blocks - first_block, MAPFS_GROUP_BLOCKS);
    Difference run = {0};
    uint64_t n_clear = 0;

    for (unsigned i = 0; i < MAPFS_USED_WORDS; i++) {
        struct mapfs_le64 bits = {0};
        uint64_t word_used = used ? used->words[i] : 0, word_marked = 0, past = 0;

        if (UINT64_C(64) * i + 64 > n_blocks)
            past = UINT64_C(64) * i >= n_blocks ? UINT64_MAX : UINT64_MAX << (n_blocks - UINT64_C(64) * i);
        if (marked) {
            memcpy(&bits, marked + sizeof(bits) * i, sizeof(bits));
            word_marked = mapfs_le64_load(bits);
        } else {
            word_marked = past; /* bits past the end exist only in a bitmap */
        }
        n_clear += (unsigned)__builtin_popcountll(~word_marked);
        if (word_marked != (word_used | past))
            word_compare(check, first_block + UINT64_C(64) * i, word_marked, word_used | past, &run);
    }
    difference_report(check, &run);
    return n_clear;
}

/* Reads the bitmap of a group into `copy`: true when it can be used. */
static bool bitmap_read(MapfsCheck *check, const MapfsCheckGroup *group, struct mapfs_disk_bitmap *copy) {
    const MapfsCheckPlace place = {.block = group->address, .object = MAPFS_OBJECT_GROUPS};
    const MapfsNodeRef ref = {.address = {group->address}, .generation = {group->generation}};
    const void *bytes = mapfs_image_read(check->image, (MapfsRun){.start = ref.address, .n_blocks = 1});

    if (!bytes) /* was reported when it was claimed */
        return false;
    memcpy(copy, bytes, sizeof(*copy));
    if (group->generation > check->generation) {
        mapfs_check_found(check, MAPFS_PROBLEM_BITMAP, place,
                          "the bitmap of group %" PRIu64 " is of generation %" PRIu64 ", the superblock of %" PRIu64,
                          group->group, group->generation, check->generation);
        return false;
    }
    if (mapfs_bitmap_check(copy, ref, group->group, check->checksum_seed) < 0) {
        mapfs_check_found(check, MAPFS_PROBLEM_BITMAP, place, "group %" PRIu64 ": %s", group->group,
                          mapfs_damage_last());
        return false;
    }
    return true;
}

static int group_number_compare(const void *key, const void *element) {
    uint64_t number = *(const uint64_t *)key;
    const MapfsCheckGroup *group = element;

    return number < group->group ? -1 : number > group->group;
}

/* Used blocks in groups without bitmap are unmarked; their order is that of the hash table. */
static void check_groups_without_bitmap(MapfsCheck *check) {
    for (size_t i = 0; i < check->used.capacity; i++) {
        const MapfsUsedGroup *used = check->used.slots[i];

        if (!used || (check->groups.n > 0 && bsearch(&used->group, check->groups.data, check->groups.n,
                                                     sizeof(MapfsCheckGroup), group_number_compare)))
            continue;
        (void)group_compare(check, used->group, NULL); /* the caller has counted these blocks as free */
    }
}

static void check_counters(MapfsCheck *check) {
    const struct mapfs_disk_superblock *superblock = &check->superblock;
    const MapfsCheckReport *report = check->report;
    const MapfsCheckPlace place = {.block = report->slot};

    if (report->n_free != mapfs_le64_load(superblock->n_free_blocks))
        mapfs_check_found(check, MAPFS_PROBLEM_COUNT_FREE, place,
                          "%" PRIu64 " blocks are free, the superblock counts %" PRIu64, report->n_free,
                          mapfs_le64_load(superblock->n_free_blocks));
    if (report->n_pending != mapfs_le64_load(superblock->n_pending_blocks))
        mapfs_check_found(check, MAPFS_PROBLEM_COUNT_PENDING, place,
                          "%" PRIu64 " blocks are pending frees, the superblock counts %" PRIu64, report->n_pending,
                          mapfs_le64_load(superblock->n_pending_blocks));
    if (report->n_inodes != mapfs_le64_load(superblock->n_inodes))
        mapfs_check_found(check, MAPFS_PROBLEM_COUNT_INODES, place,
                          "there are %" PRIu64 " inodes, the superblock counts %" PRIu64, report->n_inodes,
                          mapfs_le64_load(superblock->n_inodes));
}

void mapfs_check_space(MapfsCheck *check) {
    const MapfsCheckGroup *groups = check->groups.data;
    struct mapfs_disk_bitmap bitmap;
    uint64_t n_free = check->n_blocks; /* groups without bitmap are free */

    for (size_t i = 0; i < check->groups.n; i++) {
        uint64_t n_blocks = MAPFS_MIN(check->n_blocks - groups[i].group * MAPFS_GROUP_BLOCKS, MAPFS_GROUP_BLOCKS);
        uint64_t n_clear;

        if (i % PROGRESS_GROUPS == 0)
            mapfs_check_progress(check, "space", i, check->groups.n);
        n_free -= n_blocks;
        if (!bitmap_read(check, &groups[i], &bitmap)) {
            n_free += groups[i].n_free;
            continue;
        }
        n_clear = group_compare(check, groups[i].group, bitmap.bits);
        n_free += n_clear;
        if (n_clear != groups[i].n_free)
            mapfs_check_found(check, MAPFS_PROBLEM_GROUP_FREE, (MapfsCheckPlace){.object = MAPFS_OBJECT_GROUPS},
                              "block group %" PRIu64 ": %" PRIu64 " blocks are free, it counts %" PRIu32,
                              groups[i].group, n_clear, groups[i].n_free);
    }
    check_groups_without_bitmap(check);
    check->report->n_free = n_free;
    check_counters(check);
}
