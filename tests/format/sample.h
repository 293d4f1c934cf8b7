/* SPDX-License-Identifier: MIT */
#pragma once

/* Valid images with content of every kind, and a walk that uses a filesystem as a program would, whatever state it is in. */

#include <stdbool.h>
#include <stdint.h>

#include "fs/fs.h"

/* xorshift64*: the same numbers everywhere for the same seed, which is not 0. */
typedef struct {
    uint64_t state;
} Random;
uint64_t random_next(Random *random);
uint64_t random_below(Random *random, uint64_t n);

/* Formats an image and fills it by random operations: files of all sizes, links, symlinks, xattrs, removed and truncated files,
 * several checkpoints. Ends closed, or as a kill leaves it. Exits on failure, since that is no damaged image. */
void sample_fill(MapfsImage *image, Random *random);

typedef struct {
    uint64_t n_inodes, n_bytes;
    int error; /* the first one that an intact image cannot give */
} WalkResult;

/* Lists, looks up and reads all there is, within bounds. */
void sample_walk(MapfsFs *fs, WalkResult *ret_result);

/* Random changes; any of them may fail. */
void sample_change(MapfsFs *fs, Random *random, unsigned n_changes);
