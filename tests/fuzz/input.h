/* SPDX-License-Identifier: MIT */
#pragma once

/* What the fuzz targets eat: an image without its blocks of zeros, packed small, and a script of operations. Checksums are not part of an
 * input: blocks that have one are sealed when the image is unpacked, so that any change of their bytes reaches what lies behind the
 * checksum.
 *
 * The bytes of an input, all numbers little-endian:
 *
 *     8 bytes   FUZZ_MAGIC
 *     u32       blocks of the image
 *     u16       bytes of the script, u16 blocks that follow
 *     ...       the script
 *     per block u32 number, u8 FUZZ_SEAL*, then tokens until the block is full: u16 n, below 0x8000: one byte that is repeated n times,
 *               else n - 0x8000 bytes as they are */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "image/image.h"

#define FUZZ_MAGIC "mapfuzz\x01"
/* 128 MiB: more than one block group. */
#define FUZZ_IMAGE_BLOCKS_MAX 33000u
#define FUZZ_BLOCKS_MAX 1500u
#define FUZZ_SCRIPT_MAX 512u

#define FUZZ_SEAL 1u         /* gets its checksum: superblocks, nodes, bitmaps */
#define FUZZ_SEAL_WRITTEN 2u /* a superblock that gets the checksum of the blocks it lists too */
#define FUZZ_SEAL_BATCH 4u   /* a batch of the log */

typedef struct {
    uint32_t number;
    uint8_t seal; /* FUZZ_SEAL* */
    _Alignas(8) uint8_t bytes[MAPFS_BLOCK_SIZE];
} FuzzBlock;

typedef struct {
    uint32_t n_blocks; /* of the image */
    unsigned n_used;   /* of blocks, in rising order of their numbers */
    size_t script_len;
    uint8_t script[FUZZ_SCRIPT_MAX];
    FuzzBlock *blocks; /* FUZZ_BLOCKS_MAX */
} FuzzInput;

FuzzInput *fuzz_input_new(void);
void fuzz_input_free(FuzzInput *input);

/* Takes bytes apart; false when they are no input. */
bool fuzz_input_unpack(FuzzInput *input, const uint8_t *bytes, size_t len) MAPFS_MUST_USE;

/* Puts an input together: its length, or 0 when it does not fit. */
size_t fuzz_input_pack(const FuzzInput *input, uint8_t *bytes, size_t len_max) MAPFS_MUST_USE;

/* All blocks of an image that are not zeros. False when there are too many. */
bool fuzz_input_from_image(FuzzInput *input, const MapfsImage *image) MAPFS_MUST_USE;

/* The block with this number, or NULL; and made if it is not there (NULL: no room). */
FuzzBlock *fuzz_input_find(const FuzzInput *input, uint64_t number);
FuzzBlock *fuzz_input_add(FuzzInput *input, uint64_t number);

/* How a block with these bytes would be sealed. */
uint8_t fuzz_block_seal(uint64_t number, const uint8_t *bytes);

/* The image of an input, with guard pages before and behind it: what reads past either end faults. A process that is forked shares its bytes.
 * fuzz_image_close() unmaps it. */
typedef struct {
    MapfsImage *image;
    void *map;
    size_t map_len;
} FuzzImage;
bool fuzz_image_open(const FuzzInput *input, FuzzImage *ret_image) MAPFS_MUST_USE;
void fuzz_image_close(FuzzImage *image);

/* Whoever stores into the image from here on dies of it; or may again. */
void fuzz_image_protect(FuzzImage *image, bool protect);
