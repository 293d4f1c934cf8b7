/* SPDX-License-Identifier: MIT */

/* The walk as the checker makes it: each node is claimed before it is read, so that none is read twice and the walk ends; each item is
 * judged by itself, and then among those of its inode. */

#include <inttypes.h>

#include "base/error.h"
#include "check/check-private.h"

#define PROGRESS_NODES 256u

static int tree_enter(void *user, MapfsNodeRef ref) {
    const MapfsCheckPlace place = {.block = ref.address.n};
    MapfsCheck *check = user;
    int r;

    r = mapfs_check_claim(check, (MapfsRun){ref.address, 1}, place, "tree node");
    if (r <= 0)
        return r;
    if (check->report->n_nodes++ % PROGRESS_NODES == 0)
        mapfs_check_progress(check, "tree", check->report->n_nodes + check->report->n_data_blocks,
                             check->n_blocks - mapfs_le64_load(check->superblock.n_free_blocks));
    return 1;
}

static int tree_gap(void *user, MapfsNodeRef ref, const MapfsWalkRange *range, MapfsProblemNumber number,
                    const char *message) {
    MapfsCheck *check = user;

    (void)range; /* what is lost may belong to the inode before the gap and to the one after it */
    if (number != 0)
        mapfs_check_found(check, number, (MapfsCheckPlace){.block = ref.address.n}, "%s", message);
    check->report->incomplete = true;
    check->current.damaged = true;
    check->after_gap = true;
    return 0;
}

static int tree_item(void *user, const MapfsCheckItem *item) {
    bool is_inode = item->key.object < MAPFS_INO_LIMIT;
    MapfsCheck *check = user;

    check->report->n_items++;
    if (check->current.object != item->key.object) {
        mapfs_check_inode_finish(check);
        check->current = (MapfsCheckCurrent){.object = item->key.object, .damaged = check->after_gap};
    }
    check->after_gap = false;
    if (mapfs_item_check(item->block, item->key, item->value, item->value_len) < 0) {
        check->current.damaged = true;
        check->report->incomplete = true;
        mapfs_check_found(check, MAPFS_PROBLEM_ITEM,
                          (MapfsCheckPlace){item->block, item->key.object, is_inode ? item->key.object : 0}, "%s",
                          mapfs_damage_last());
        return 0;
    }
    return is_inode ? mapfs_check_inode_item(check, item) : mapfs_check_system_item(check, item);
}

int mapfs_check_tree(MapfsCheck *check) {
    const MapfsWalkTree tree = {
        .root = {.address = {mapfs_le64_load(check->superblock.root_address)},
                 .generation = {mapfs_le64_load(check->superblock.root_generation)},
                 .level = (uint8_t)mapfs_le32_load(check->superblock.root_level)},
        .n_blocks = check->n_blocks,
        .checksum_seed = check->checksum_seed,
    };
    const MapfsWalkOps ops = {.enter = tree_enter, .gap = tree_gap, .item = tree_item, .user = check};
    int r;

    r = mapfs_walk_run(check->image, &tree, &ops);
    if (r == 0)
        mapfs_check_inode_finish(check);
    return r;
}
