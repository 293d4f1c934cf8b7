/* SPDX-License-Identifier: MIT */
#pragma once

/* A store for repair: over a state whose own account of its space nobody trusts. The caller says which blocks must not be stored into, bit
 * by bit, as it has found them by walking over all that may still be wanted; what changes goes to other blocks, as always, so that until
 * the one superblock is stored at the end the image is what it was. Nothing is published in between, however much changes.
 *
 * Steps: open; a call of mapfs_rescue_group() for each block group with such blocks; mapfs_rescue_start(); changes of the tree under
 * transactions from mapfs_rescue_begin(); mapfs_txn_free() for what the caller kept and the new state does not use;
 * mapfs_rescue_publish(), which closes the store, or mapfs_store_abandon(), which leaves the image as it was. One thread. */

#include "space/space.h"
#include "txn/store.h"

typedef struct {
    struct mapfs_disk_superblock superblock; /* of the state to begin from; valid */
    MapfsGeneration running; /* to publish: younger than any in the image, and not for that state's own slot */
    bool with_tree;          /* go on with that state's tree; else begin with an empty one */
} MapfsRescue;

/* True when the log holds changes that the superblock, which is valid and lies in the image, does not. */
bool mapfs_rescue_log_has_changes(const MapfsImage *image, const struct mapfs_disk_superblock *superblock);

int mapfs_rescue_open(MapfsImage *image, const MapfsRescue *how, MapfsStore **ret_store) MAPFS_MUST_USE;

/* The group's bits in host order, GROUP_WORDS of them. A `bitmap` with an address holds just these bits and stays; else there will be a new
 * one. */
int mapfs_rescue_group(MapfsStore *store, uint64_t group, const uint64_t *words, MapfsNodeRef bitmap) MAPFS_MUST_USE;

/* All groups are told. -ENOSPC: not even room for a root. */
int mapfs_rescue_start(MapfsStore *store) MAPFS_MUST_USE;

/* A transaction of up to n_changes changes of the tree, which leaves what a cut needs. -ENOSPC, -EIO. */
int mapfs_rescue_begin(MapfsStore *store, unsigned n_changes, MapfsTxn *ret_txn) MAPFS_MUST_USE;

/* The next new inode's number, how many inodes there are. */
typedef struct {
    uint64_t next_ino, n_inodes;
} MapfsRescueNumbers;

/* Makes the new state durable, then gives back what it does not use any more. Frees the store in any case. When this fails for another reason
 * than -ENOSPC the image may be in the old or in the new state; with -ENOSPC it is in the old one. */
int mapfs_rescue_publish(MapfsStore *store, const MapfsRescueNumbers *numbers) MAPFS_MUST_USE;
