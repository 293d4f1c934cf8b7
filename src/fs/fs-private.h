/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of this folder share: the open filesystem, inodes in the tree, the frame of an operation, and the
 * queue of orphans.
 *
 * Locks: inode locks > begun transaction > tree lock > the inode table's and the reclaim queue's mutexes, which are
 * leaves. */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <glib.h>

#include "base/macros.h"
#include "format/items.h"
#include "format/key.h"
#include "format/log.h"
#include "fs/fs.h"
#include "fs/inode-table.h"
#include "txn/store.h"

/* Inodes whose orphan items wait for reclaim.c. An inode is in it at most once. Locks are pthread's throughout:
 * ThreadSanitizer does not understand those of GLib. */
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond; /* signalled when an inode comes in, and at the stop */
    GQueue waiting;      /* of uint64_t *, owned by the set; guarded by mutex */
    GHashTable *set;     /* the same, to keep each once; guarded by mutex */
    unsigned n_taken;    /* taken, and not done; guarded by mutex */
    pthread_cond_t idle; /* n_taken is 0 */
    bool stopped;        /* guarded by mutex */
    char *damage;        /* what was met last, or NULL; guarded by mutex, as what follows */
    MapfsDamageCallback on_damage;
    void *on_damage_user;
} MapfsReclaimQueue;

struct MapfsFs {
    MapfsStore *store;
    MapfsInodeTable *inodes;
    MapfsReclaimQueue reclaim_queue;
    pthread_t reclaim_thread; /* of reclaim.c, if reclaim_thread_runs */
    bool reclaim_thread_runs; /* written at open and close alone */
    bool read_only;
    uint64_t hash_seed;  /* the superblock's, which never changes */
    uint64_t fixed_time; /* of all changes, 0: the clock's; written before there are other threads */
};

/* --- inodes --- */

/* Disk time of now. */
uint64_t mapfs_fs_now(void);

static inline MapfsKey mapfs_inode_key(uint64_t ino) {
    return (MapfsKey){.object = ino, .kind = MAPFS_KIND_INODE, .offset = 0};
}
static inline MapfsKey mapfs_orphan_key(uint64_t ino) {
    return (MapfsKey){.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = ino};
}

/* The inode's item, copied out. -ESTALE when there is none, -EUCLEAN. Tree held. */
int mapfs_inode_load(MapfsTree *tree, uint64_t ino, struct mapfs_disk_inode *ret_inode) MAPFS_MUST_USE;
/* The same for who wants data: -EISDIR for a directory, -EINVAL for what is no regular file either. */
int mapfs_inode_load_file(MapfsTree *tree, uint64_t ino, struct mapfs_disk_inode *ret_inode) MAPFS_MUST_USE;

/* Replaces the inode's item: one change. Tree locked for writing. */
int mapfs_inode_store(MapfsTree *tree, uint64_t ino, const struct mapfs_disk_inode *inode) MAPFS_MUST_USE;

/* Counts a change of the inode and sets its ctime, and with `data` its mtime. */
void mapfs_inode_touch(struct mapfs_disk_inode *inode, uint64_t time, bool data);

/* What stat(2) shows of an inode. */
void mapfs_inode_to_attr(uint64_t ino, const struct mapfs_disk_inode *inode, MapfsAttr *ret_attr);

/* 1 and the inode's orphan item, 0 if it has none, or -errno. Tree held. */
int mapfs_orphan_load(MapfsTree *tree, uint64_t ino, struct mapfs_disk_orphan *ret_orphan) MAPFS_MUST_USE;

/* The lock of those who change data or size of the inode; see inode-table.h. */
static inline void mapfs_inode_lock(MapfsFs *fs, uint64_t ino) {
    mapfs_inode_table_lock(fs->inodes, ino);
}
static inline void mapfs_inode_unlock(MapfsFs *fs, uint64_t ino) {
    mapfs_inode_table_unlock(fs->inodes, ino);
}
/* True while somebody has the inode looked up: an unlinked one must stay. Tree locked for writing. */
static inline bool mapfs_inode_in_use(MapfsFs *fs, uint64_t ino) {
    return mapfs_inode_table_contains(fs->inodes, ino);
}

/* --- operations --- */

/* mapfs_txn_begin() that makes room: on -ENOSPC it waits for what can be freed (mapfs_fs_make_room()) and tries
 * again. The caller may hold inode locks, and nothing below. */
int mapfs_fs_begin(MapfsFs *fs, MapfsTxnKind kind, unsigned n_changes, MapfsTxn *ret_txn) MAPFS_MUST_USE;
/* The same for mapfs_txn_begin_more(). */
int mapfs_fs_begin_more(MapfsFs *fs, MapfsTxnKind kind, unsigned n_changes, unsigned n_blocks,
                        MapfsTxn *ret_txn) MAPFS_MUST_USE;

/* Fills in a record's header; the body's bytes past the struct are the caller's, who also zeroes what is reserved.
 * `len_bytes` is rounded up to a multiple of 8, and the bytes so added are set to zero. */
void mapfs_record_init(struct mapfs_disk_record *record, uint16_t type, size_t len_bytes, uint64_t time);

/* Applies a record that an operation has built, and gives it its LSN when that succeeded (so that LSNs have no gaps).
 * Tree locked. */
int mapfs_record_run(MapfsFs *fs, MapfsTxn *txn, struct mapfs_disk_record *record) MAPFS_MUST_USE;

/* Applies a record that has passed mapfs_record_check() or comes from an operation: the one way in which the tree
 * changes. It looks at the tree first, and returns the -errno that an operation wants (-EEXIST, -ENOENT, -ENOTEMPTY,
 * ...) with nothing changed when the record does not fit. The tree is locked, and the transaction has claimed the
 * changes. */
int mapfs_record_apply(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) MAPFS_MUST_USE;

/* --- attributes.c, truncate.c --- */

/* Changes attributes other than the size, as `mask` says; the inode's flags have been asked. Tree locked. */
int mapfs_attr_change(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, unsigned mask, const MapfsAttr *attr) MAPFS_MUST_USE;
/* How many changes of items that is: the inode, once more with a capability that goes, and the access control list. */
unsigned mapfs_attr_changes(unsigned mask);

/* Sets the size of a regular file to attr->size, mtime and ctime (also when the size stays), and in the same step the other attributes of
 * `mask`. MAPFS_SET_KILL_PRIV is done with the size. Takes the inode lock. -EISDIR, -EINVAL (not a regular file), -EFBIG, -ENOSPC,
 * -ESTALE. */
int mapfs_fs_truncate(MapfsFs *fs, uint64_t ino, unsigned mask, const MapfsAttr *attr) MAPFS_MUST_USE;

/* --- orphans --- */

void mapfs_reclaim_queue_init(MapfsReclaimQueue *queue);
void mapfs_reclaim_queue_clear(MapfsReclaimQueue *queue);

/* Lets reclaim.c look at the inode's orphan item. Any lock may be held. An inode that is queued already stays where
 * it is. */
void mapfs_fs_queue_reclaim(MapfsFs *fs, uint64_t ino);

/* The next inode to look at: true and *ret_ino; false when there is none. An inode whose orphan item is gone, or that is
 * unlinked and in use, needs nothing: the last forget queues it again. */
bool mapfs_reclaim_queue_take(MapfsFs *fs, uint64_t *ret_ino);

/* What was taken is reclaimed, or has gone back into the queue. Between the two no inode lock may be taken: others wait for the end with theirs. */
void mapfs_reclaim_queue_done(MapfsFs *fs);

/* Waits until nothing that others have taken is still at work; false at once when there is none. */
bool mapfs_reclaim_queue_wait_idle(MapfsFs *fs);

/* Until the queue holds something: true, and whether that had to be waited for; false once it has been stopped. */
bool mapfs_reclaim_queue_wait(MapfsFs *fs, bool *ret_waited);

/* Wakes all who wait in mapfs_reclaim_queue_wait(), now and later. */
void mapfs_reclaim_queue_stop(MapfsFs *fs);

/* reclaim.c: starts the thread (called at the end of mapfs_fs_open() of a writable filesystem with threads); stops
 * the queue and joins it (at close and abandon; also when it was not started). */
int mapfs_reclaim_start(MapfsFs *fs) MAPFS_MUST_USE;

/* Hands on mapfs_damage_last() to mapfs_fs_on_damage(), from work whose own result is no longer that of a request. */
void mapfs_reclaim_tell_damage(MapfsFs *fs);
void mapfs_reclaim_stop(MapfsFs *fs);
