/* SPDX-License-Identifier: MIT */
#pragma once

/* The inodes that are in use right now: how often the kernel (or another caller) has looked each of them up, whether
 * it has lost its last name meanwhile, and a lock for those who change its data or size. An inode that nobody uses
 * has no entry.
 *
 * Locks: the table's mutex guards all fields of all entries and is taken last, below every other lock; nothing is
 * called while it is held. The lock of an inode is the first of all (see txn/store.h). */

#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

typedef struct MapfsInodeTable MapfsInodeTable;

MapfsInodeTable *mapfs_inode_table_new(void);
void mapfs_inode_table_free(MapfsInodeTable *table);

/* Counts one lookup more. The caller holds the tree's lock (for reading at least), so that nobody can reclaim the
 * inode between finding and counting it. */
void mapfs_inode_table_count(MapfsInodeTable *table, uint64_t ino);

/* Takes n lookups back. True when none is left and the inode has no name either: it must be queued for reclaim. */
bool mapfs_inode_table_forget(MapfsInodeTable *table, uint64_t ino, uint64_t n);

/* Notes that the inode has lost its last name (or, with false, got one again). True when nobody has looked it up: it
 * must be queued for reclaim now. The tree is locked for writing. */
bool mapfs_inode_table_set_orphan(MapfsInodeTable *table, uint64_t ino, bool orphan);

/* True while lookups are counted. Under the tree's write lock the answer cannot turn from false to true. */
bool mapfs_inode_table_contains(MapfsInodeTable *table, uint64_t ino);

/* The lock of an inode; it needs no lookup. Unlock in the same thread. */
void mapfs_inode_table_lock(MapfsInodeTable *table, uint64_t ino);
void mapfs_inode_table_unlock(MapfsInodeTable *table, uint64_t ino);
