/* SPDX-License-Identifier: MIT */

#include "format/checksum.h"

#include <string.h>

/* The implementation is inlined: the streaming state can then lie on the stack whatever version of the library is found at
 * run time, and a hash of a short name costs no call. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "format/log.h"
#include "format/node.h"
#include "format/superblock.h"

#define CHECKSUM_OFFSET 8u
#define CHECKSUM_END (CHECKSUM_OFFSET + sizeof(struct mapfs_le64))

_Static_assert(offsetof(struct mapfs_disk_superblock, checksum) == CHECKSUM_OFFSET, "checksum of superblocks");
_Static_assert(offsetof(struct mapfs_disk_header, checksum) == CHECKSUM_OFFSET, "checksum of nodes and bitmaps");
_Static_assert(offsetof(struct mapfs_disk_batch, checksum) == CHECKSUM_OFFSET, "checksum of batches");

uint64_t mapfs_hash(const void *bytes, size_t len_bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes, len_bytes, seed);
}

uint64_t mapfs_hash_sealed(const void *bytes, size_t len_bytes, uint64_t seed) {
    uint8_t start[CHECKSUM_END] = {0};
    XXH3_state_t state;

    XXH3_INITSTATE(&state);
    memcpy(start, bytes, CHECKSUM_OFFSET);
    /* None of these fails: the state is no NULL pointer. */
    (void)XXH3_64bits_reset_withSeed(&state, seed);
    (void)XXH3_64bits_update(&state, start, sizeof(start));
    (void)XXH3_64bits_update(&state, (const uint8_t *)bytes + CHECKSUM_END, len_bytes - CHECKSUM_END);
    return XXH3_64bits_digest(&state);
}
