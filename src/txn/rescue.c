/* SPDX-License-Identifier: MIT */

#include "txn/rescue.h"

#include <errno.h>

#include "txn/store-private.h"

int mapfs_rescue_open(MapfsImage *image, const MapfsRescue *how, MapfsStore **ret_store) {
    const MapfsRun all = {{0}, mapfs_le64_load(how->superblock.n_blocks)};
    MapfsStore *store;
    int r;

    /* What was found may be in the host's memory alone, and what follows is built on it. */
    r = mapfs_image_sync(image, MAPFS_SYNC_DATA, &all, 1);
    if (r < 0)
        return r;
    store = mapfs_store_new(image, &(MapfsStoreOptions){.discard = false});
    store->superblock = how->superblock;
    r = mapfs_store_load(store);
    if (r < 0) {
        mapfs_store_abandon(store);
        return r;
    }
    store->durable = how->running.n - 1;
    store->running = how->running.n;
    store->tree.running = how->running;
    store->n_pending = 0;
    if (!how->with_tree)
        store->tree.root = (MapfsNodeRef){0};
    *ret_store = store;
    return 0;
}

int mapfs_rescue_group(MapfsStore *store, uint64_t group, const uint64_t *words, MapfsNodeRef bitmap) {
    return mapfs_space_preset_group(store->space, group, words, bitmap);
}

int mapfs_rescue_begin(MapfsStore *store, unsigned n_changes, MapfsTxn *ret_txn) {
    return mapfs_store_begin(store, n_changes, ret_txn);
}

int mapfs_rescue_start(MapfsStore *store) {
    MapfsTxn txn;
    int r;

    if (store->tree.root.address.n != 0)
        return 0;
    r = mapfs_store_begin(store, 1, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    r = mapfs_tree_create(&store->tree);
    mapfs_txn_end(&txn);
    return r;
}

int mapfs_rescue_publish(MapfsStore *store, const MapfsRescueNumbers *numbers) {
    const uint64_t n_checkpoints = store->n_checkpoints;
    int r, close_r;

    store->next_ino = numbers->next_ino;
    store->n_inodes = numbers->n_inodes;
    store->changed = true;
    pthread_mutex_lock(&store->checkpoint_mutex);
    r = mapfs_store_checkpoint(store, true);
    pthread_mutex_unlock(&store->checkpoint_mutex);
    if (r == 0) {
        r = mapfs_store_make_room(store);
        r = MAPFS_MIN(r, 0);
    }
    if (store->n_checkpoints == n_checkpoints) {
        mapfs_store_abandon(store);
        return r;
    }
    close_r = mapfs_store_close(store);
    return r < 0 ? r : close_r;
}
