/* SPDX-License-Identifier: MIT */

/* Opening the store over what the walks have found, and making the tree anew from what can be read of the source's. */

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "repair/repair-private.h"

#define PROGRESS_ITEMS 4096u

/* --- the groups --- */

static int group_compare(const void *key, const void *element) {
    uint64_t number = *(const uint64_t *)key;
    const RepairGroup *group = element;

    return number < group->group ? -1 : number > group->group;
}

RepairGroup *mapfs_repair_lookup_group(const MapfsRepair *repair, uint64_t group) {
    const MapfsVector *groups = &repair->source->groups;

    return groups->n > 0 ? bsearch(&group, groups->data, groups->n, sizeof(RepairGroup), group_compare) : NULL;
}

/* True when the group's bitmap says just what is protected. */
static bool bitmap_is_right(const MapfsRepair *repair, const RepairGroup *group, const MapfsUsedGroup *used) {
    const void *bytes = mapfs_image_read(repair->image, (MapfsRun){group->bitmap.address, 1});
    uint64_t first_block = group->group * MAPFS_GROUP_BLOCKS, n_free = 0;
    g_autofree struct mapfs_disk_bitmap *copy = g_new(struct mapfs_disk_bitmap, 1);

    if (!bytes || group->bitmap.generation.n > repair->generation)
        return false;
    memcpy(copy, bytes, sizeof(*copy));
    if (mapfs_bitmap_check(copy, group->bitmap, group->group, repair->checksum_seed) < 0)
        return false;
    for (unsigned i = 0; i < MAPFS_GROUP_BLOCKS; i++) {
        bool is_past = first_block + i >= repair->n_blocks;
        bool is_used = is_past || (used->words[i / 64] >> (i % 64) & 1);

        if ((copy->bits[i / 8] >> (i % 8) & 1) != is_used)
            return false;
        n_free += !is_used;
    }
    return n_free == group->n_free;
}

static int group_preset(MapfsRepair *repair, const MapfsUsedGroup *used) {
    MapfsNodeRef bitmap = {0};
    RepairGroup *group = NULL;
    uint64_t n_new;
    int r;

    if (used->group * MAPFS_GROUP_BLOCKS >= repair->n_blocks)
        return 0;
    if (!repair->is_rebuilt)
        group = mapfs_repair_lookup_group(repair, used->group);
    if (group && !mapfs_used_has(&repair->kept, group->bitmap.address.n) && bitmap_is_right(repair, group, used)) {
        group->is_kept = true;
        bitmap = group->bitmap;
        /* Two groups with one bitmap cannot both keep it. */
        r = mapfs_used_set(&repair->kept, (MapfsRun){bitmap.address, 1}, &n_new);
        if (r < 0)
            return r;
    }
    return mapfs_rescue_group(repair->store, used->group, used->words, bitmap);
}

static int groups_preset(MapfsRepair *repair) {
    uint64_t n_new;
    int r;

    r = mapfs_used_set(&repair->kept, (MapfsRun){{0}, repair->first_usable}, &n_new);
    /* What stays of the source's tree is no place for data. */
    for (size_t i = 0; r == 0 && !repair->is_rebuilt && i < repair->source->nodes.capacity; i++) {
        const MapfsUsedGroup *nodes = repair->source->nodes.slots[i];

        if (nodes)
            r = mapfs_used_merge(&repair->kept, nodes);
    }
    for (size_t i = 0; r == 0 && i < repair->protected.capacity; i++)
        if (repair->protected.slots[i])
            r = group_preset(repair, repair->protected.slots[i]);
    return r;
}

/* --- the copy --- */

typedef struct {
    MapfsRepair *repair;
    MapfsUsed seen;
    uint64_t n_items;
} Copy;

static int copy_enter(void *user, MapfsNodeRef ref) {
    Copy *copy = user;
    uint64_t n_new;
    int r = mapfs_used_set(&copy->seen, (MapfsRun){ref.address, 1}, &n_new);

    return r < 0 ? r : n_new == 1;
}

static int copy_gap(void *user, MapfsNodeRef ref, const MapfsWalkRange *range, MapfsProblemNumber number,
                    const char *message) {
    (void)user;
    (void)ref;
    (void)range;
    (void)number;
    (void)message; /* the first walk has noted it */
    return 0;
}

static int copy_item(void *user, const MapfsCheckItem *item) {
    Copy *copy = user;
    MapfsRepair *repair = copy->repair;

    if (copy->n_items++ % PROGRESS_ITEMS == 0)
        mapfs_repair_progress(repair, "copying", copy->n_items, repair->n_items_estimate);
    if (mapfs_item_check(item->block, item->key, item->value, item->value_len) < 0) {
        bool is_inode = item->key.object < MAPFS_INO_LIMIT;

        mapfs_repair_say(repair, MAPFS_REPAIR_LOST, is_inode ? item->key.object : 0, "removed what cannot be used: %s",
                         mapfs_damage_last());
        return 0;
    }
    /* Space is accounted for anew. */
    if (item->key.kind == MAPFS_KIND_GROUP || item->key.kind == MAPFS_KIND_PENDING)
        return 0;
    return mapfs_repair_put(repair, item->key, item->value, item->value_len);
}

static int tree_copy(MapfsRepair *repair) {
    const struct mapfs_disk_superblock *superblock = &repair->source->superblock;
    const MapfsWalkTree tree = {
        .root = {{mapfs_le64_load(superblock->root_address)},
                 {mapfs_le64_load(superblock->root_generation)},
                 (uint8_t)mapfs_le32_load(superblock->root_level)},
        .n_blocks = repair->n_blocks,
        .checksum_seed = repair->checksum_seed,
    };
    Copy copy = {.repair = repair};
    const MapfsWalkOps ops = {.enter = copy_enter, .gap = copy_gap, .item = copy_item, .user = &copy};
    int r;

    r = mapfs_walk_run(repair->image, &tree, &ops);
    mapfs_used_clear(&copy.seen);
    return r;
}

/* --- the store --- */

/* The generation to publish: younger than any, and for the slot that the source does not lie in. */
static uint64_t generation_choose(const MapfsRepair *repair) {
    uint64_t newest = repair->generation;

    for (unsigned i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++)
        if (repair->states[i].is_valid && &repair->states[i] != repair->source)
            newest = MAPFS_MAX(newest, mapfs_le64_load(repair->states[i].superblock.generation));
    newest++;
    return newest % MAPFS_SUPERBLOCK_SLOTS == repair->source->slot ? newest + 1 : newest;
}

int mapfs_repair_open_store(MapfsRepair *repair) {
    const MapfsRescue how = {
        .superblock = repair->superblock,
        .running = {generation_choose(repair)},
        .with_tree = !repair->is_rebuilt,
    };
    int r;

    r = mapfs_rescue_open(repair->image, &how, &repair->store);
    if (r < 0)
        return r;
    repair->report->generation = how.running.n;
    repair->tree = mapfs_store_tree(repair->store);
    r = groups_preset(repair);
    if (r == 0)
        r = mapfs_rescue_start(repair->store);
    if (r == 0 && repair->is_rebuilt)
        r = tree_copy(repair);
    return r;
}
