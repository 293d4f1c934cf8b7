/* SPDX-License-Identifier: MIT */

/* The log at a mount. This version writes no batches and applies none, so an image with one holds changes that it would lose. */

#include <errno.h>

#include "base/error.h"
#include "format/log.h"
#include "txn/store-private.h"

/* True when a batch that the superblock does not hold begins at this block of the log. */
static bool batch_is_there(const MapfsStore *store, uint64_t at) {
    const struct mapfs_disk_superblock *superblock = &store->superblock;
    uint64_t n_blocks = mapfs_le64_load(superblock->log_blocks) - at;
    MapfsRun rest = {{mapfs_le64_load(superblock->log_start) + at}, n_blocks};
    const struct mapfs_disk_batch *batch = mapfs_image_read(store->image, rest);
    const MapfsBatchExpected expected = {
        .nonce = mapfs_le64_load(superblock->log_nonce),
        .sequence = mapfs_le64_load(superblock->log_sequence),
        .previous = mapfs_le64_load(superblock->log_previous),
        .first_lsn = mapfs_le64_load(superblock->lsn) + 1,
        .checksum_seed = store->checksum_seed,
    };

    return batch && mapfs_le32_load(batch->magic) == MAPFS_BATCH_MAGIC &&
           mapfs_batch_check(batch, (size_t)n_blocks << MAPFS_BLOCK_SHIFT, &expected) == 0;
}

int mapfs_store_check_log(const MapfsStore *store) {
    /* One that would not fit before the end of the log starts at its first block. */
    if (!batch_is_there(store, mapfs_le64_load(store->superblock.log_head)) && !batch_is_there(store, 0))
        return 0;
    (void)mapfs_damage(0, "log", "holds changes that this version cannot apply"); /* the note alone is wanted */
    return -EOPNOTSUPP;
}
