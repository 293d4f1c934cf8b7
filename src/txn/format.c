/* SPDX-License-Identifier: MIT */

/* An empty image: what mkfs.mapfs stores.
 *
 * Both superblock slots and the log are zeroed and synced first, so that a crash in between leaves an image without a
 * superblock, not an old one over new blocks. Then generation 1 is made by the ordinary checkpoint. */

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "format/checksum.h"
#include "txn/store-private.h"

/* The log has a 64th of the image, 64 KiB at least and 32 MiB at most: its zeros are really written. */
#define LOG_SHARE 64u
#define LOG_BLOCKS_DEFAULT_MAX 8192u

static uint64_t log_blocks(const MapfsImage *image, const MapfsStoreFormat *how) {
    if (how->log_blocks > 0)
        return how->log_blocks;
    return MAPFS_MIN(MAPFS_MAX(image->n_blocks / LOG_SHARE, MAPFS_LOG_BLOCKS_MIN), LOG_BLOCKS_DEFAULT_MAX);
}

/* Zeros, really written: on journaled hosts every flush of a block that was only reserved is slow. */
static int format_zero(MapfsImage *image, MapfsRun run) {
    void *memory;
    int r;

    r = mapfs_image_reserve(image, run);
    if (r < 0)
        return r;
    memory = mapfs_image_writable(image, run);
    if (!memory)
        return -EINVAL;
    memset(memory, 0, run.n_blocks * MAPFS_BLOCK_SIZE);
    return mapfs_image_sync(image, MAPFS_SYNC_META, &run, 1);
}

static void format_superblock(const MapfsImage *image, const MapfsStoreFormat *how, struct mapfs_disk_superblock *ret) {
    memset(ret, 0, sizeof(*ret));
    memcpy(ret->magic, MAPFS_SUPERBLOCK_MAGIC, sizeof(ret->magic));
    ret->version = mapfs_le32_store(MAPFS_FORMAT_VERSION);
    ret->block_size = mapfs_le32_store(MAPFS_BLOCK_SIZE);
    memcpy(ret->uuid, how->uuid, sizeof(ret->uuid));
    memcpy(ret->label, how->label, strnlen(how->label, MAPFS_LABEL_LEN));
    ret->n_blocks = mapfs_le64_store(image->n_blocks);
    ret->log_start = mapfs_le64_store(MAPFS_SUPERBLOCK_SLOTS);
    ret->log_blocks = mapfs_le64_store(log_blocks(image, how));
    ret->log_sequence = mapfs_le64_store(1);
    /* Three numbers from one seed: their labels tell them apart. */
    ret->log_nonce = mapfs_le64_store(mapfs_hash("log nonce", 9, how->seed));
    ret->hash_seed = mapfs_le64_store(mapfs_hash("hash seed", 9, how->seed));
    ret->checksum_seed = mapfs_le64_store(mapfs_hash("checksum seed", 13, how->seed));
    ret->next_ino = mapfs_le64_store(MAPFS_INO_ROOT + 1);
    ret->n_inodes = mapfs_le64_store(1);
    ret->mkfs_time = mapfs_le64_store(how->time);
}

/* A store whose tree is not there yet. */
static int format_open(MapfsImage *image, const MapfsStoreFormat *how, MapfsStore **ret_store) {
    MapfsStore *store = mapfs_store_new(image, &(MapfsStoreOptions){.discard = false});
    int r;

    format_superblock(image, how, &store->superblock);
    r = mapfs_store_load(store);
    if (r < 0) {
        mapfs_store_abandon(store);
        return r;
    }
    store->write_time = how->time;
    *ret_store = store;
    return 0;
}

static int format_tree(MapfsStore *store, const void *root_inode, size_t root_inode_len) {
    MapfsKey key = {.object = MAPFS_INO_ROOT, .kind = MAPFS_KIND_INODE};
    MapfsTxn txn;
    int r;

    r = mapfs_store_begin(store, 1, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    r = mapfs_tree_create(&store->tree);
    if (r == 0)
        r = mapfs_tree_insert(&store->tree, key, root_inode, root_inode_len);
    mapfs_txn_end(&txn);
    return r;
}

void mapfs_store_set_time(MapfsStore *store, uint64_t time) {
    store->write_time = time;
}

int mapfs_store_format(MapfsImage *image, const MapfsStoreFormat *how, const void *root_inode, size_t root_inode_len) {
    MapfsStore *store;
    int r;

    if (image->n_blocks < MAPFS_IMAGE_BLOCKS_MIN || image->n_blocks > MAPFS_IMAGE_BLOCKS_MAX ||
        log_blocks(image, how) < MAPFS_LOG_BLOCKS_MIN || log_blocks(image, how) > MAPFS_LOG_BLOCKS_MAX ||
        log_blocks(image, how) > image->n_blocks / 4)
        return -EINVAL;
    r = format_zero(image, (MapfsRun){{0}, MAPFS_SUPERBLOCK_SLOTS + log_blocks(image, how)});
    if (r < 0)
        return r;
    r = format_open(image, how, &store);
    if (r < 0)
        return r;
    r = format_tree(store, root_inode, root_inode_len);
    if (r < 0) {
        mapfs_store_abandon(store);
        return r;
    }
    STORE_SET(store->changed, true);
    return mapfs_store_close(store);
}
