/* SPDX-License-Identifier: MIT */

/* The log at a mount. This version writes no batches and applies none, so an image with one holds changes that it would lose. */

#include <errno.h>

#include "base/error.h"
#include "format/log.h"
#include "txn/rescue.h"
#include "txn/store-private.h"

/* True when a batch that the superblock does not hold begins at this block of the log. */
static bool batch_is_there(const MapfsImage *image, const struct mapfs_disk_superblock *superblock, uint64_t at) {
    uint64_t n_blocks = mapfs_le64_load(superblock->log_blocks) - at;
    MapfsRun rest = {{mapfs_le64_load(superblock->log_start) + at}, n_blocks};
    const void *batch = mapfs_image_read(image, rest);
    const MapfsBatchExpected expected = {
        .nonce = mapfs_le64_load(superblock->log_nonce),
        .sequence = mapfs_le64_load(superblock->log_sequence),
        .previous = mapfs_le64_load(superblock->log_previous),
        .first_lsn = mapfs_le64_load(superblock->lsn) + 1,
        .checksum_seed = mapfs_le64_load(superblock->checksum_seed),
    };

    /* Without memory for a look at it, it counts as one. */
    return batch && mapfs_batch_check(batch, (size_t)n_blocks << MAPFS_BLOCK_SHIFT, &expected) != -EUCLEAN;
}

bool mapfs_rescue_log_has_changes(const MapfsImage *image, const struct mapfs_disk_superblock *superblock) {
    /* One that would not fit before the end of the log starts at its first block. */
    return batch_is_there(image, superblock, mapfs_le64_load(superblock->log_head)) ||
           batch_is_there(image, superblock, 0);
}

int mapfs_store_check_log(const MapfsStore *store) {
    if (!mapfs_rescue_log_has_changes(store->image, &store->superblock))
        return 0;
    (void)mapfs_damage(0, "log", "holds changes that this version cannot apply"); /* the note alone is wanted */
    return -EOPNOTSUPP;
}
