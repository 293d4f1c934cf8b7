/* SPDX-License-Identifier: MIT */
#pragma once

/* The one hash of the format: XXH3 with 64 bits, as libxxhash defines it. */

#include <stddef.h>
#include <stdint.h>

/* XXH3-64 of `len_bytes` bytes with this seed. */
uint64_t mapfs_hash(const void *bytes, size_t len_bytes, uint64_t seed);

/* XXH3-64 of `len_bytes` (at least 16) bytes with bytes 8 to 15 taken as zero: superblocks, nodes, bitmaps and batches all keep
 * their checksum there. Each byte is read once and nothing is copied. */
uint64_t mapfs_hash_sealed(const void *bytes, size_t len_bytes, uint64_t seed);
