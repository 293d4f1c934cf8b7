/* SPDX-License-Identifier: MIT */
#pragma once

/* Repair: makes of an image that the checker finds fault with one that it does not, keeping all that can be kept and naming all that cannot.
 *
 * It stores only into blocks that no state found in the image refers to, and ends with one superblock in the slot that its state does not
 * lie in: a crash, a full image or a failing host before that leave the image as it was. The image must be locked for writing. */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "check/problem.h"
#include "image/image.h"

typedef enum {
    MAPFS_REPAIR_FIXED, /* set right, nothing lost */
    MAPFS_REPAIR_LOST,  /* something is gone, or not what it was */
    MAPFS_REPAIR_MOVED, /* has another name now, in lost+found */
} MapfsRepairKind;

typedef struct {
    MapfsRepairKind kind;
    uint64_t first_ino, last_ino; /* inodes concerned, 0 if it is no matter of some inodes */
    const char *message;
} MapfsRepairNote;

/* All members may be zero. */
typedef struct {
    void (*said)(void *user, const MapfsRepairNote *note);
    void (*progress)(void *user, const char *pass, uint64_t done, uint64_t total);
    void *user;
    bool safe_only; /* publish nothing if anything would be lost: -EPERM then, and the image is as it was */
} MapfsRepairOptions;

typedef struct {
    uint64_t n_fixed, n_lost, n_moved; /* what was said, by kind */
    uint64_t generation;               /* published */
    bool used_older;                   /* the state before the newest one was taken as it was */
    bool used_scan;                    /* parts were put together from what a scan of the image found */
} MapfsRepairReport;

/* True when a problem of this kind is mended from what else is there, and nothing is lost by it: what a repair at boot may do without being
 * asked. */
bool mapfs_repair_is_safe(MapfsProblemNumber number);

/* Whether there is a superblock to go on from, or enough of one. Only reads. */
bool mapfs_repair_has_start(MapfsImage *image) MAPFS_MUST_USE;

/* Repairs the image. -EUCLEAN: there is nothing to go on from (mapfs_damage_last() says why); -ENOSPC: too little free space for it, the image
 * is as it was; -EOPNOTSUPP, -EPROTONOSUPPORT: a slot is of a newer program; -EROFS, -EIO, -ENOMEM. */
int mapfs_repair_run(MapfsImage *image, const MapfsRepairOptions *options,
                     MapfsRepairReport *ret_report) MAPFS_MUST_USE;
