/* SPDX-License-Identifier: MIT */

/* Operations in the midst of a checkpoint. On a mount they come from other threads; here from the seams of the checkpoint itself, in one
 * thread, so that a seed repeats them: after the cut and before the seal, around each sync, before the superblock is stored. What would wait for the
 * checkpoint would wait for itself, so an operation that is not the world's own is told that there is no room to be made. */

#include "txn/store-private.h"
#include "world.h"

static World *syncing; /* the one whose sync is being made */
static bool inside;    /* an operation runs in it */
static bool sealing;   /* its nodes are: one seam for all */

/* Linked in the place of the functions of this name (ld --wrap). */
int __wrap_mapfs_store_sync_changes(MapfsStore *store);
int __real_mapfs_store_sync_changes(MapfsStore *store);
int __wrap_mapfs_store_make_room(MapfsStore *store);
int __real_mapfs_store_make_room(MapfsStore *store);
void __wrap_mapfs_header_seal(void *block, uint64_t checksum_seed);
void __real_mapfs_header_seal(void *block, uint64_t checksum_seed);
void __wrap_mapfs_superblock_seal(struct mapfs_disk_superblock *superblock);
void __real_mapfs_superblock_seal(struct mapfs_disk_superblock *superblock);

int __wrap_mapfs_store_sync_changes(MapfsStore *store) {
    return inside ? 0 : __real_mapfs_store_sync_changes(store);
}

int __wrap_mapfs_store_make_room(MapfsStore *store) {
    return inside ? 0 : __real_mapfs_store_make_room(store);
}

void __wrap_mapfs_header_seal(void *block, uint64_t checksum_seed) {
    if (syncing && !sealing && !inside) {
        sealing = true;
        world_interleave(syncing);
    }
    __real_mapfs_header_seal(block, checksum_seed);
}

void __wrap_mapfs_superblock_seal(struct mapfs_disk_superblock *superblock) {
    world_interleave(syncing);
    __real_mapfs_superblock_seal(superblock);
}

static void operate(World *world) {
    Stage *stage = world->stage;

    switch (random_below(&world->random, 12)) {
    case 0: /* as its thread does at any time */
        stage_note(stage, "release");
        (void)stage_result(stage, STAGE_FREES, 0, mapfs_store_release_pending(mapfs_fs_store(stage->fs)));
        break;
    case 1:
        stage_reclaim(stage);
        break;
    default:
        stage_step(stage);
        break;
    }
    world_done(world);
    world_note(world, "in the midst of a checkpoint", (unsigned)random_below(&world->random, 2));
}

void world_interleave(World *world) {
    uint64_t n = 0;

    if (!world || world != syncing || inside)
        return;
    if (random_once_in(&world->random, 2))
        n = 1 + random_below(&world->random, 4);
    inside = world->stage->nested = true;
    for (uint64_t i = 0; i < n && !world->stage->broken && !stage_failed(world->stage); i++)
        operate(world);
    inside = world->stage->nested = false;
    world->n_nested += n;
}

int world_sync_interleaved(World *world) {
    int r;

    syncing = world;
    sealing = false;
    r = mapfs_fs_sync(world->stage->fs);
    syncing = NULL;
    return r;
}
