/* SPDX-License-Identifier: MIT */

/* The items of the system objects: block groups, orphans, pending frees. */

#include <inttypes.h>
#include <string.h>

#include "check/check-private.h"

static int group_item(MapfsCheck *check, const MapfsCheckItem *item) {
    const MapfsCheckPlace place = {.block = item->block, .object = item->key.object};
    struct mapfs_disk_group group;
    MapfsCheckGroup kept;
    int r;

    memcpy(&group, item->value, sizeof(group));
    kept = (MapfsCheckGroup){.group = item->key.offset,
                             .address = mapfs_le64_load(group.bitmap_address),
                             .generation = mapfs_le64_load(group.bitmap_generation),
                             .n_free = mapfs_le32_load(group.n_free)};
    if (kept.group >= (check->n_blocks + MAPFS_GROUP_BLOCKS - 1) / MAPFS_GROUP_BLOCKS) {
        mapfs_check_found(check, MAPFS_PROBLEM_GROUP_OUTSIDE, place,
                          "block group %" PRIu64 " lies past the end of the image", kept.group);
        return 0;
    }
    r = mapfs_check_claim(check, (MapfsRun){.start = {kept.address}, .n_blocks = 1}, place, "bitmap");
    if (r < 0)
        return r;
    return mapfs_vector_push(&check->groups, &kept, sizeof(kept));
}

static int orphan_item(MapfsCheck *check, const MapfsCheckItem *item) {
    struct mapfs_disk_orphan orphan;
    MapfsCheckOrphan kept;

    memcpy(&orphan, item->value, sizeof(orphan));
    kept = (MapfsCheckOrphan){
        .ino = item->key.offset, .cut = mapfs_le64_load(orphan.cut), .flags = mapfs_le32_load(orphan.flags)};
    check->report->n_orphans++;
    return mapfs_vector_push(&check->orphans, &kept, sizeof(kept));
}

static int pending_item(MapfsCheck *check, const MapfsCheckItem *item) {
    const MapfsCheckPlace place = {.block = item->block, .object = item->key.object};
    uint64_t generation = item->key.object - MAPFS_OBJECT_PENDING;

    if (generation > check->generation)
        mapfs_check_found(check, MAPFS_PROBLEM_PENDING_YOUNG, place,
                          "a pending free is of generation %" PRIu64 ", the superblock of %" PRIu64, generation,
                          check->generation);
    for (size_t offset = 0; offset < item->value_len; offset += sizeof(struct mapfs_disk_pending_run)) {
        struct mapfs_disk_pending_run run;
        int r;

        memcpy(&run, (const uint8_t *)item->value + offset, sizeof(run));
        check->report->n_pending += mapfs_le32_load(run.n_blocks);
        r = mapfs_check_claim(
            check, (MapfsRun){.start = {mapfs_le64_load(run.block)}, .n_blocks = mapfs_le32_load(run.n_blocks)}, place,
            "pending free");
        if (r < 0)
            return r;
    }
    return 0;
}

int mapfs_check_system_item(MapfsCheck *check, const MapfsCheckItem *item) {
    switch (item->key.kind) {
    case MAPFS_KIND_GROUP:
        return group_item(check, item);
    case MAPFS_KIND_ORPHAN:
        return orphan_item(check, item);
    case MAPFS_KIND_PENDING:
        return pending_item(check, item);
    case MAPFS_KIND_SHARED:
        return mapfs_check_shared_item(check, item);
    default:
        mapfs_check_found(check, MAPFS_PROBLEM_ITEM_UNUSED,
                          (MapfsCheckPlace){.block = item->block, .object = item->key.object},
                          "item %" PRIx64 "/%u/%" PRIu64 " is of a kind that this version does not use",
                          item->key.object, item->key.kind, item->key.offset);
        return 0;
    }
}
