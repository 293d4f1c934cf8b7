/* SPDX-License-Identifier: MIT */
#pragma once

/* Ways to damage an image. */

#include "image/image.h"
#include "sample.h"

uint8_t *damage_block(MapfsImage *image, uint64_t block);

/* A superblock slot, or a block that is a node or bitmap (perhaps an old one); any block if none is met by chance. */
uint64_t damage_pick_metadata(MapfsImage *image, Random *random);

/* Makes the checksum of a superblock, node or bitmap right again. */
void damage_reseal(MapfsImage *image, uint64_t block, uint64_t checksum_seed);

/* Bytes as damage has them: one bit, one byte, or a number that is a limit of something. */
void damage_poke(uint8_t *bytes, uint64_t size, Random *random);

/* Pokes a few bytes of a block of metadata, with its checksum made right. The block. */
uint64_t damage_sealed(MapfsImage *image, Random *random, uint64_t checksum_seed);

/* A node in the place of another, its address made right. The block, or 0 when chance chose none. */
uint64_t damage_by_copy(MapfsImage *image, Random *random, uint64_t checksum_seed);

/* A block of a tree node filled with zeros, or swapped with another block. The block. */
uint64_t damage_zero(MapfsImage *image, Random *random);
uint64_t damage_swap(MapfsImage *image, Random *random, uint64_t *ret_other);

/* Something that no random byte makes: an item of a leaf is given another value that looks right by itself, or the last one is taken out; the
 * checksum is right. The block, or 0. */
uint64_t damage_plant(MapfsImage *image, Random *random, uint64_t checksum_seed);
