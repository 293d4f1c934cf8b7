/* SPDX-License-Identifier: MIT */
#pragma once

/* The numbers that the layers hand to each other: blocks, generations, epochs, and ranges of blocks. Each is a
 * one-member struct, so that the compiler refuses to take one for another. */

#include <stdbool.h>
#include <stdint.h>

#define MAPFS_BLOCK_SIZE 4096u
#define MAPFS_BLOCK_SHIFT 12u

/* Number of a block, counted from the start of the image. Zero (the first superblock) doubles as "none". */
typedef struct {
    uint64_t n;
} MapfsBlock;

/* Generation: the number of a checkpoint. */
typedef struct {
    uint64_t n;
} MapfsGeneration;

/* Epoch: the number of a cut; each sync and each checkpoint makes one. Blocks of a closed epoch are sealed. */
typedef struct {
    uint64_t n;
} MapfsEpoch;

/* Inode number; never reused, and the node id that the kernel sees. */
typedef struct {
    uint64_t n;
} MapfsIno;

/* A run of blocks. */
typedef struct {
    MapfsBlock start;
    uint64_t n_blocks;
} MapfsRun;

/* True when the run is not empty, does not wrap and ends at or before `n_blocks_total`. */
static inline bool mapfs_run_fits(MapfsRun run, uint64_t n_blocks_total) {
    return run.n_blocks > 0 && run.start.n < n_blocks_total && run.n_blocks <= n_blocks_total - run.start.n;
}

/* How many blocks hold `len_bytes` bytes; right for every 64-bit length. */
static inline uint64_t mapfs_blocks_for_bytes(uint64_t len_bytes) {
    return (len_bytes >> MAPFS_BLOCK_SHIFT) + ((len_bytes & (MAPFS_BLOCK_SIZE - 1)) != 0);
}
