/* SPDX-License-Identifier: MIT */
#pragma once

/* The store: one open image with its tree, its space, the running epoch and the checkpoints. It is the only place that orders
 * syncs, and the only one that hands out writable memory.
 *
 * Life of a change: mapfs_txn_begin() waits at the gate and claims room; data is stored into blocks from
 * mapfs_txn_allocate(), without any lock; mapfs_txn_lock() takes the tree for writing, the record is applied, and
 * mapfs_txn_end() drops everything. A cut (mapfs_store_sync(), the interval, a full epoch) closes the gate, waits for the
 * transactions that have begun, takes the tree, and freezes what the checkpoint will write; operations go on in the next
 * generation while it is written.
 *
 * Locks, in this order: inode locks of fs/ > gate (begun transaction) > tree lock > space. Who has begun a transaction
 * must not wait for a checkpoint (it would wait for itself), so -ENOSPC is met by ending it, mapfs_store_make_room(), and a
 * retry. */

#include <stdbool.h>

#include "base/macros.h"
#include "base/mutant.h"
#include "base/types.h"
#include "format/superblock.h"
#include "image/image.h"
#include "tree/tree.h"

typedef struct MapfsStore MapfsStore;

typedef struct {
    bool read_only;
    bool discard;            /* give freed runs back to the host, a little later */
    bool threads;            /* checkpoint by interval, and reclaim, in threads of the store's own */
    unsigned commit_seconds; /* checkpoint interval, 0 for the default of 5 */
} MapfsStoreOptions;

/* Opens the image: newest valid superblock, group summaries, recovery. The image stays the caller's and must outlive the store. Nothing is
 * written before the first change, but that a checkpoint which a crash has left in part is cleared, and the threads may bring back what it left freed. -EUCLEAN damage, -ENODATA empty,
 * -EMEDIUMTYPE foreign, -EPROTONOSUPPORT version,
 * -EOPNOTSUPP features, -EROFS features that allow reading alone, -ENOSPC image shorter than its superblock says; the reason is in
 * mapfs_damage_last(). */
int mapfs_store_open(MapfsImage *image, const MapfsStoreOptions *options, MapfsStore **ret_store) MAPFS_MUST_USE;

/* The newest valid superblock of an image, copied; errors as mapfs_store_open. */
int mapfs_superblock_load(MapfsImage *image, struct mapfs_disk_superblock *ret_superblock) MAPFS_MUST_USE;

/* Checkpoints are dated so (disk time) from here on, 0: by the clock. Before the first change. */
void mapfs_store_set_time(MapfsStore *store, uint64_t time);

/* Last checkpoint (marked clean), threads stopped, memory freed in any case. 0 or why the checkpoint failed. */
int mapfs_store_close(MapfsStore *store) MAPFS_MUST_USE;

/* Stops the threads and frees memory without a checkpoint: what a crash would do. NULL is fine. */
void mapfs_store_abandon(MapfsStore *store);

/* Makes all that was changed before the call durable: waits for a checkpoint that was cut after it. Syncs that
 * arrive together share one. Cheap when nothing has changed. */
int mapfs_store_sync(MapfsStore *store) MAPFS_MUST_USE;

/* To be called before data is stored, with no lock held and no transaction begun: waits while much more has been stored than the host has
 * written, so that a sync finds little left (behind.c). False when that took so long that it gave up. */
bool mapfs_store_pace(MapfsStore *store, uint64_t len_bytes);
/* How many do so now. */
unsigned mapfs_store_n_paced(MapfsStore *store);

/* Checkpoints until pending frees have come back. 1 if blocks became free, 0 if none did, or -errno. Not inside a transaction. */
int mapfs_store_make_room(MapfsStore *store) MAPFS_MUST_USE;

/* Gives the host blocks of free runs of at least n_min blocks back, at once, as for FITRIM; also without the option discard. Blocks that
 * were freed but not handed back yet are left out. *ret_n_blocks: how many; on failure too. -EOPNOTSUPP: the host cannot. */
int mapfs_store_trim(MapfsStore *store, MapfsRun range, uint64_t n_min, uint64_t *ret_n_blocks) MAPFS_MUST_USE;

/* Gives the image another label of up to MAPFS_LABEL_LEN bytes, durable when this returns 0. -EINVAL for a longer one. */
int mapfs_store_set_label(MapfsStore *store, const char *label, size_t len) MAPFS_MUST_USE;

/* What the superblock in use says (a copy, as of the last durable checkpoint). */
void mapfs_store_superblock(MapfsStore *store, struct mapfs_disk_superblock *ret_superblock);

typedef struct {
    uint64_t n_blocks;
    uint64_t n_free;    /* clear bits */
    uint64_t n_pending; /* freed, not yet handed back */
    uint64_t n_reserve; /* kept back for changes that free space */
    uint64_t n_inodes;
    uint64_t n_dirty; /* nodes born in the running generation */
    MapfsGeneration durable, running;
    uint64_t n_checkpoints; /* since the store was opened */
} MapfsStoreStatus;
void mapfs_store_status(MapfsStore *store, MapfsStoreStatus *ret_status);

/* 0, or why the store takes no changes any more (-EIO after a failed sync or fault, -EROFS). After a failed sync nodes of the tree that are
 * younger than the last durable state are not read either: -EIO. */
int mapfs_store_error(MapfsStore *store) MAPFS_MUST_USE;

/* After a failed write-out: whether what was born in the epoch is younger than the last durable state, and so may read as other bytes. */
bool mapfs_store_is_lost(MapfsStore *store, MapfsEpoch birth);

/* The tree. For lookups hold the read lock or a locked transaction; for changes a locked transaction. */
MapfsTree *mapfs_store_tree(MapfsStore *store);
void mapfs_store_read_lock(MapfsStore *store);
void mapfs_store_read_unlock(MapfsStore *store);

/* Touches and verifies the nodes on the way to each key, without any lock during a page fault, so that what follows under the tree
 * lock finds them resident. Errors are left to what follows. */
void mapfs_store_prefetch(MapfsStore *store, const MapfsKey *keys, unsigned n_keys);

/* The same for the next leaves that hold items between two keys, for a walk from the first to the last: others are asked for meanwhile. */
void mapfs_store_prefetch_row(MapfsStore *store, MapfsKey first, MapfsKey last);

/* The tree as it is, for lookups under the same lock; they end with -EAGAIN instead of reading a node from the host. */
MapfsTree mapfs_store_tree_warm(MapfsStore *store);

/* Blocks freed after reader_enter are not handed out again before reader_leave: what a lookup found can be read without the
 * tree lock. Call enter before taking the read lock. Token in 0..; cheap. */
unsigned mapfs_store_reader_enter(MapfsStore *store);
void mapfs_store_reader_leave(MapfsStore *store, unsigned token);

/* Counters and seeds. next_ino: the number for a new inode, under a locked transaction. */
uint64_t mapfs_store_hash_seed(const MapfsStore *store);
MapfsImage *mapfs_store_image(MapfsStore *store);

/* --- transactions --- */

typedef enum {
    MAPFS_TXN_GROWS, /* may leave less free space: not into the reserve */
    MAPFS_TXN_KEEPS, /* gives back about what it takes (overwrites): may use the reserve but for what the next needs */
    MAPFS_TXN_FREES, /* ends with more free space (unlink, truncate, reclaim): may use nearly all of it */
} MapfsTxnKind;

typedef struct {
    MapfsStore *store;
    MapfsGeneration generation; /* running */
    MapfsEpoch epoch;           /* running: blocks born in it are not sealed */
    MapfsTxnKind kind;
    unsigned n_claimed; /* tree blocks */
    bool of_user;       /* not the store's own, which give back what others have freed */
    bool locked;
    bool has_stored; /* data, which is noted */
} MapfsTxn;

/* Begins a transaction with up to `n_changes` changes of tree items (insert, replace, remove), whose blocks are claimed: none of them can then fail
 * for space. Waits while a cut is made. -ENOSPC (see mapfs_store_make_room), -EROFS, -EIO. */
int mapfs_txn_begin(MapfsStore *store, MapfsTxnKind kind, unsigned n_changes, MapfsTxn *ret_txn) MAPFS_MUST_USE;

/* The same, and n_blocks more blocks of the tree for what is not counted by changes (mapfs_tree_range_blocks_max()). */
int mapfs_txn_begin_more(MapfsStore *store, MapfsTxnKind kind, unsigned n_changes, unsigned n_blocks,
                         MapfsTxn *ret_txn) MAPFS_MUST_USE;

/* Takes the tree for writing. */
void mapfs_txn_lock(MapfsTxn *txn);

/* Drops the tree if held, leaves the epoch. */
void mapfs_txn_end(MapfsTxn *txn);

/* Where file data should lie. */
typedef struct {
    MapfsBlock block; /* right there, or soon after; 0: anywhere */
    bool apart;       /* the file grows: if not right there, then where it can go on growing */
} MapfsGoal;

/* Up to n_blocks contiguous blocks for file data near `goal`, with host blocks reserved; at least one. Of the reserve it
 * leaves what the kind of the transaction says. The caller then either lets a record refer to them or cancels. No lock needed. -ENOSPC. */
int mapfs_txn_allocate(MapfsTxn *txn, MapfsGoal goal, uint64_t n_blocks, MapfsRun *ret_run) MAPFS_MUST_USE;
void mapfs_txn_cancel(MapfsTxn *txn, MapfsRun run);

/* True when a block born in `birth` may still be stored into. */
static inline bool mapfs_txn_unsealed(const MapfsTxn *txn, MapfsEpoch birth) {
    return birth.n == txn->epoch.n || MAPFS_MUTANT("store-sealed");
}

/* The same for blocks of an unwritten extent, which are the file's already: they get host blocks. The caller then either lets a record refer to them as
 * written, or forgets what was stored into them. No lock needed. -ENOSPC (of the host), -EUCLEAN (they are not taken, or outside). */
int mapfs_txn_fill(MapfsTxn *txn, MapfsRun run) MAPFS_MUST_USE;
void mapfs_txn_forget(MapfsTxn *txn, MapfsRun run);

/* Memory of data blocks to store into: only blocks allocated or to be filled by this transaction, or unsealed ones. NULL when the run
 * leaves the image, or has a node of the tree in it, which a damaged image calls free. Notes the run as to be synced by the next checkpoint. */
void *mapfs_txn_data(MapfsTxn *txn, MapfsRun run);
/* Says so: -EUCLEAN. */
int mapfs_txn_data_damage(MapfsRun run) MAPFS_MUST_USE;

/* The blocks become a pending free of the running generation. Tree locked. */
void mapfs_txn_free(MapfsTxn *txn, MapfsRun run);

/* What the transaction changes needs this incompat feature: the superblock of its checkpoint will say so. Tree locked. */
void mapfs_txn_need_feature(MapfsTxn *txn, uint64_t incompat);

/* The next log sequence number. Tree locked. */
uint64_t mapfs_txn_next_lsn(MapfsTxn *txn);
/* The number for a new inode: 0, or -ENOSPC when all have been given out. Tree locked. */
int mapfs_txn_next_ino(MapfsTxn *txn, MapfsIno *ret_ino) MAPFS_MUST_USE;
/* Changes the count of inodes. Tree locked. */
void mapfs_txn_count_inodes(MapfsTxn *txn, int delta);

/* Makes an empty image: superblocks, log, an empty tree's root with the given first item (the root directory's inode). The image's old
 * bytes do not matter; the log region is written with zeros. Ends durable. */
typedef struct {
    uint8_t uuid[MAPFS_UUID_LEN];
    char label[MAPFS_LABEL_LEN + 1];
    uint64_t log_blocks; /* 0: chosen by the image's size */
    uint64_t seed;       /* of hash_seed, checksum_seed, log_nonce: same seed, same bytes */
    uint64_t time;       /* disk time */
} MapfsStoreFormat;
int mapfs_store_format(MapfsImage *image, const MapfsStoreFormat *how, const void *root_inode,
                       size_t root_inode_len) MAPFS_MUST_USE;
