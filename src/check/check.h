/* SPDX-License-Identifier: MIT */
#pragma once

/* The checker: reads a whole image without trusting a byte of it, changes nothing, and names what is wrong by number. It has no
 * state of its own between runs, prints nothing, and ends on any image. The image must not change meanwhile: what a
 * writer changes underfoot is reported as damage, but does no harm. */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "check/problem.h"
#include "image/image.h"

typedef struct {
    const MapfsProblemKind *kind;
    uint64_t block;  /* where in the image, 0 if it is no matter of one block */
    uint64_t object; /* object of the item, 0 if it is no matter of an item */
    uint64_t ino;    /* inode concerned, 0 if none */
    const char *message;
} MapfsProblem;

/* All members may be zero. */
typedef struct {
    /* Called for each finding, in the order of the passes. */
    void (*found)(void *user, const MapfsProblem *problem);
    /* Called now and then: `done` of `total` in the pass named; totals are estimates. */
    void (*progress)(void *user, const char *pass, uint64_t done, uint64_t total);
    void *user;
    /* Of each kind no more than so many are handed to `found` (all are counted); 0 for all. */
    uint64_t n_per_kind_max;
} MapfsCheckOptions;

typedef struct {
    uint64_t n_problems; /* findings of severity MAPFS_SEVERITY_PROBLEM: 0 is a clean image */
    uint64_t n_infos;
    uint64_t n_of_kind[MAPFS_PROBLEM_KINDS_MAX]; /* by number */
    char first[256];                             /* the first problem's message */
    bool incomplete;                             /* damage kept the checker from seeing, and comparing, everything */
    /* What was counted. */
    uint64_t n_blocks, n_free, n_pending, n_nodes, n_items;
    uint64_t n_shared_extents, n_shared, n_saved; /* shared blocks, and those that copies of them would take */
    uint64_t n_inodes, n_directories, n_names, n_data_blocks, n_orphans, n_batches;
    /* Of the superblock in use. */
    uint64_t generation;
    unsigned slot;
    bool clean;
} MapfsCheckReport;

/* Checks the image. 0 when the check ran to its end, whatever it found; -ENOMEM; -EIO when the host could not read the image. */
int mapfs_check_run(MapfsImage *image, const MapfsCheckOptions *options, MapfsCheckReport *ret_report) MAPFS_MUST_USE;
