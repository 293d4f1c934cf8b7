/* SPDX-License-Identifier: MIT */

/* The cut: closes the running generation. What was freed becomes pending-free items, the bitmaps of changed groups get new blocks,
 * and their summaries new values. All three take and free blocks themselves, so they are repeated until nothing is left: each node
 * and bitmap moves at most once in a generation, which ends it after a few rounds.
 *
 * A crash anywhere in here leaves the last durable state: nothing that it refers to is stored into. */

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mutant.h"
#include "format/items.h"
#include "format/node.h"
#include "txn/runs-private.h"
#include "txn/store-private.h"

/* An ordinary cut needs three or four. */
#define CUT_ROUNDS_MAX 64u
/* A run of a pending free counts its blocks in 32 bits. */
#define PENDING_RUN_BLOCKS_MAX (UINT64_C(1) << 31)

static int cut_pending_item(MapfsStore *store, const MapfsRun *runs, guint n_runs) {
    struct mapfs_disk_pending_run value[MAPFS_PENDING_RUNS_MAX];
    MapfsKey key = {.object = MAPFS_OBJECT_PENDING + STORE_LOAD(store->running),
                    .kind = MAPFS_KIND_PENDING,
                    .offset = runs[0].start.n};

    memset(value, 0, sizeof(value));
    for (guint i = 0; i < n_runs; i++) {
        value[i].block = mapfs_le64_store(runs[i].start.n);
        value[i].n_blocks = mapfs_le32_store((uint32_t)runs[i].n_blocks);
    }
    return mapfs_tree_insert(&store->tree, key, value, n_runs * sizeof(value[0]));
}

/* Moves the list of freed runs into items; the inserts free nodes too, which start a new list. */
static int cut_pending(MapfsStore *store) {
    g_autoptr(GArray) freed = store->freed;
    guint n_runs;
    int r = 0;

    store->freed = g_array_new(FALSE, FALSE, sizeof(MapfsRun));
    STORE_SET(store->n_freed, 0);
    if (freed->len == 0)
        return 0;
    if (mapfs_store_runs_join(freed) > 0)
        return mapfs_damage(0, "image", "the same block was freed twice");
    mapfs_store_runs_split(freed, PENDING_RUN_BLOCKS_MAX);
    for (guint i = 0; i < freed->len && MAPFS_MUTANT("early-discard") && store->options.discard; i++)
        (void)mapfs_image_discard(store->image, g_array_index(freed, MapfsRun, i)); /* wrong in any case */
    if (MAPFS_MUTANT("lost-free"))
        g_array_set_size(freed, freed->len - 1);
    for (guint i = 0; i < freed->len && r == 0; i += n_runs) {
        n_runs = MAPFS_MIN(freed->len - i, MAPFS_PENDING_RUNS_MAX);
        r = cut_pending_item(store, &g_array_index(freed, MapfsRun, i), n_runs);
    }
    return r;
}

/* Gives each changed group a bitmap block of this generation. 1 if one moved. */
static int cut_bitmaps(MapfsStore *store) {
    MapfsGeneration running = {STORE_LOAD(store->running)};
    MapfsSpaceGroup group;
    int moved = 0, r;

    for (uint64_t i = 0; mapfs_space_dirty_group(store->space, i, &group) > 0; i++) {
        MapfsBlock address;
        void *bitmap;

        if (group.bitmap.address.n != 0 && group.bitmap.generation.n == running.n)
            continue;
        r = mapfs_store_node_allocate(store, MAPFS_PLACE_NODES, &address, &bitmap);
        if (r < 0)
            return r;
        if (group.bitmap.address.n != 0)
            mapfs_store_node_free(store, group.bitmap.address);
        mapfs_space_set_bitmap(store->space, group.group, (MapfsNodeRef){address, running, 0});
        moved = 1;
    }
    return moved;
}

/* Brings the summaries up to date. 1 if one changed. */
static int cut_summaries(MapfsStore *store) {
    MapfsSpaceGroup group;
    int changed = 0, r;

    for (uint64_t i = 0; mapfs_space_dirty_group(store->space, i, &group) > 0; i++) {
        MapfsKey key = {.object = MAPFS_OBJECT_GROUPS, .kind = MAPFS_KIND_GROUP, .offset = group.group};
        struct mapfs_disk_group value = {
            .bitmap_address = mapfs_le64_store(group.bitmap.address.n),
            .bitmap_generation = mapfs_le64_store(group.bitmap.generation.n),
            .n_free = mapfs_le32_store(group.n_free),
        };
        MapfsItem item;

        r = mapfs_tree_lookup(&store->tree, key, &item);
        if (r < 0)
            return r;
        if (r > 0 && item.value_len == sizeof(value) && memcmp(item.value, &value, sizeof(value)) == 0)
            continue;
        r = mapfs_tree_put(&store->tree, key, &value, sizeof(value));
        if (r < 0)
            return r;
        changed = 1;
    }
    return changed;
}

static int cut_settle(MapfsStore *store) {
    for (unsigned i = 0; i < CUT_ROUNDS_MAX; i++) {
        int moved, changed, r;

        r = cut_pending(store);
        if (r < 0)
            return r;
        moved = cut_bitmaps(store);
        if (moved < 0)
            return moved;
        changed = cut_summaries(store);
        if (changed < 0)
            return changed;
        if (!moved && !changed && store->freed->len == 0)
            return 0;
    }
    return mapfs_damage(0, "image", "its space does not settle");
}

static void cut_store_bitmaps(MapfsStore *store) {
    MapfsSpaceGroup group;

    for (uint64_t i = 0; mapfs_space_dirty_group(store->space, i, &group) > 0; i++) {
        struct mapfs_disk_bitmap *bitmap = store_block(store, group.bitmap.address);

        memset(&bitmap->header, 0, sizeof(bitmap->header));
        bitmap->header.magic = mapfs_le32_store(MAPFS_BITMAP_MAGIC);
        bitmap->header.address = mapfs_le64_store(group.bitmap.address.n);
        bitmap->header.generation = mapfs_le64_store(group.bitmap.generation.n);
        bitmap->header.owner = mapfs_le64_store(group.group);
        mapfs_space_store_bits(store->space, group.group, bitmap->bits);
    }
}

int mapfs_store_cut(MapfsStore *store, StoreFrozen *ret_frozen) {
    MapfsSpaceStatus space;
    int r;

    r = cut_settle(store);
    if (r < 0) {
        /* Half of a generation must never be published. */
        mapfs_image_fail(store->image, -EIO);
        return r;
    }
    cut_store_bitmaps(store);
    mapfs_space_clean(store->space);
    mapfs_space_status(store->space, &space);
    *ret_frozen = (StoreFrozen){
        .generation = {STORE_LOAD(store->running)},
        .epoch = store->epoch,
        .root = store->tree.root,
        .lsn = store->lsn,
        .next_ino = store->next_ino,
        .n_inodes = STORE_LOAD(store->n_inodes),
        .n_free = space.n_free,
        .n_pending = STORE_LOAD(store->n_pending),
        .incompat = store->incompat,
        .born = g_steal_pointer(&store->born),
        .data = mapfs_store_data_take(store),
    };
    store->born = g_array_new(FALSE, FALSE, sizeof(MapfsBlock));
    STORE_SET(store->n_born, 0);
    STORE_SET(store->level, store->tree.root.level);
    STORE_SET(store->changed, false);
    store->epoch.n++;
    STORE_ADD(store->running, 1);
    store->tree.running.n = STORE_LOAD(store->running);
    return 0;
}
