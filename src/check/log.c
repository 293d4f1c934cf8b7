/* SPDX-License-Identifier: MIT */

#include <inttypes.h>
#include <string.h>

#include "check/check-private.h"
#include "format/log.h"

/* The batch at `head`, or at the region's start if it did not fit there: its length in blocks and place, or 0 if there is none. */
static uint64_t log_find_batch(const MapfsCheck *check, const MapfsBatchExpected *expected, uint64_t *head) {
    uint64_t start = mapfs_le64_load(check->superblock.log_start);
    uint64_t n_blocks = mapfs_le64_load(check->superblock.log_blocks);
    const uint64_t places[] = {*head, 0};

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(places); i++) {
        MapfsRun rest = {.start = {start + places[i]}, .n_blocks = n_blocks - places[i]};
        const void *bytes = places[i] < n_blocks ? mapfs_image_read(check->image, rest) : NULL;
        struct mapfs_disk_batch batch;

        if (!bytes || mapfs_batch_check(bytes, rest.n_blocks << MAPFS_BLOCK_SHIFT, expected) < 0)
            continue;
        memcpy(&batch, bytes, sizeof(batch));
        *head = places[i];
        return mapfs_blocks_for_bytes(mapfs_le32_load(batch.len_bytes));
    }
    return 0;
}

void mapfs_check_log(MapfsCheck *check) {
    const struct mapfs_disk_superblock *superblock = &check->superblock;
    uint64_t start = mapfs_le64_load(superblock->log_start);
    uint64_t n_left = mapfs_le64_load(superblock->log_blocks);
    uint64_t head = mapfs_le64_load(superblock->log_head);
    MapfsBatchExpected expected = {
        .nonce = mapfs_le64_load(superblock->log_nonce),
        .sequence = mapfs_le64_load(superblock->log_sequence),
        .previous = mapfs_le64_load(superblock->log_previous),
        .first_lsn = mapfs_le64_load(superblock->lsn) + 1,
        .checksum_seed = check->checksum_seed,
    };

    /* Batches that are all live never take more than the region. */
    while (n_left > 0) {
        uint64_t n_blocks = log_find_batch(check, &expected, &head);
        struct mapfs_disk_batch batch;
        const void *bytes;

        if (n_blocks == 0 || n_blocks > n_left)
            break;
        bytes = mapfs_image_read(check->image, (MapfsRun){.start = {start + head}, .n_blocks = 1});
        memcpy(&batch, bytes, sizeof(batch));
        expected.sequence++;
        expected.previous = mapfs_le64_load(batch.checksum);
        expected.first_lsn = mapfs_le64_load(batch.last_lsn) + 1;
        n_left -= n_blocks;
        head += n_blocks;
        check->report->n_batches++;
    }
    if (check->report->n_batches > 0)
        mapfs_check_found(check, MAPFS_INFO_LOG, (MapfsCheckPlace){.block = start},
                          "log holds %" PRIu64 " batches that a mount would replay", check->report->n_batches);
}
