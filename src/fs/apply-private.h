/* SPDX-License-Identifier: MIT */
#pragma once

/* One function for each type of record, called by mapfs_record_apply() alone. Each looks at the tree first and
 * changes nothing when the record does not fit; the blocks of its changes are claimed, so that only damage can stop
 * it after that, and then mapfs_apply_broken() keeps the half-applied record from ever reaching a checkpoint. The
 * tree is locked for writing.
 *
 * The _CHANGES numbers are the most changes of tree items that a record makes, for mapfs_txn_begin(). */

#include "base/macros.h"
#include "format/log.h"
#include "fs/fs-private.h"
#include "txn/store.h"

/* Ends an apply that has met `error` (-errno) after its first change: the store takes no changes any more and writes no
 * checkpoint. Returns -EIO. */
int mapfs_apply_broken(MapfsFs *fs, int error) MAPFS_MUST_USE;

/* What a change of data (MAPFS_WRITE_STRIP) or of the owner takes away: suid, sgid if the group may execute, and
 * security.capability. Changes *inode, which the caller stores, and removes up to MAPFS_STRIP_CHANGES items. A
 * regular file's alone; of others nothing. -EUCLEAN before any change. */
#define MAPFS_STRIP_CHANGES 1u
int mapfs_apply_strip(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, struct mapfs_disk_inode *inode) MAPFS_MUST_USE;

/* What the records that change a file's data have in common. Begin: its inode, stripped where `flags` (MAPFS_WRITE_*) say so; -EINVAL
 * for what is no regular file. End: the inode with its times goes back. */
int mapfs_apply_file_begin(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, uint32_t flags,
                           struct mapfs_disk_inode *ret_inode) MAPFS_MUST_USE;
int mapfs_apply_file_end(MapfsFs *fs, const struct mapfs_disk_record *record, uint64_t ino, uint32_t flags,
                         struct mapfs_disk_inode *inode) MAPFS_MUST_USE;

/* The inode has just lost its last name: adds UNLINKED to its orphan item
 * (a cut of TRUNCATED stays), one change, and queues it for reclaim when nobody uses it. */
int mapfs_apply_orphan(MapfsFs *fs, MapfsTxn *txn, uint64_t ino) MAPFS_MUST_USE;

/* Inode, entry, parent, target in three chunks. */
#define MAPFS_CREATE_CHANGES 6u
/* Inode, orphan. */
#define MAPFS_TMPFILE_CHANGES 2u
/* Entry, inode, parent, orphan. */
#define MAPFS_NAME_CHANGES 4u
/* Two entries, two parents, two inodes, orphan. */
#define MAPFS_RENAME_CHANGES 7u
/* And the whiteout, whose entry is the old one. */
#define MAPFS_WHITEOUT_CHANGES (MAPFS_RENAME_CHANGES + 1u)
/* The inode and what is stripped. */
#define MAPFS_SETATTR_CHANGES (1u + MAPFS_STRIP_CHANGES)

int mapfs_apply_create(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;
int mapfs_apply_link(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;
int mapfs_apply_adopt(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;
int mapfs_apply_unlink(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;
int mapfs_apply_rename(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;
int mapfs_apply_setattr(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;
int mapfs_apply_xattr(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;

int mapfs_apply_clone(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;

/* data-apply.c, allocate-apply.c, truncate.c, reclaim.c */
int mapfs_apply_map(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;
int mapfs_apply_punch(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;
int mapfs_apply_inline(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;
int mapfs_apply_truncate(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;
int mapfs_apply_reclaim(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;
