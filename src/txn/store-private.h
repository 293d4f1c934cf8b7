/* SPDX-License-Identifier: MIT */
#pragma once

/* What the files of this folder share: the open store. */

#include <glib.h>
#include <pthread.h>

#include "space/space.h"
#include "txn/store.h"

/* Readers that may stand between a lookup and its copy at once; more wait for a place. */
#define READER_SLOTS 64u

#define NS_PER_SECOND UINT64_C(1000000000)
/* How many checkpoints may follow the last change to bring back what it freed. */
#define SETTLE_CHECKPOINTS 2u
/* Fewer pending blocks are not worth a checkpoint of their own: 1 MiB. */
#define SETTLE_BLOCKS 256u

/* Nodes that the host was asked for are remembered by so many last bits. */
#define ASKED_NODES 1024u

/* What a cut freezes and its checkpoint writes. */
typedef struct {
    MapfsGeneration generation;
    MapfsEpoch epoch;
    MapfsNodeRef root;
    uint64_t lsn, next_ino, n_inodes, n_free, n_pending;
    uint64_t incompat;
    GArray *born; /* MapfsBlock: nodes and bitmaps to seal */
    GArray *data; /* MapfsRun: blocks that data was stored into */
    bool clean;   /* the last one of an orderly unmount */
} StoreFrozen;

/* Data that was stored in the running epoch, and its write-behind (behind.c). */
typedef struct {
    pthread_mutex_t mutex;    /* guards all of it; a leaf */
    GArray *runs;             /* MapfsRun: what was stored, in the order of time */
    guint n_behind;           /* so many of the runs has write-behind taken, */
    uint64_t n_behind_blocks; /* and so many blocks of the one after them */
    uint64_t n_unwritten;     /* blocks that were stored and not taken; what is stored twice counts twice */
    uint64_t n_ready;         /* how many of them belong to transactions that have ended */
    uint64_t n_writing;       /* blocks that the thread waits for */
    unsigned n_syncing;       /* syncs that users wait for */
    uint64_t synced_at;       /* when the last of them ended, in ns; 0: there was none */
    unsigned n_paced;         /* writers that wait for room_cond */
    bool stop;
    pthread_cond_t ready_cond; /* there is a step to write */
    pthread_cond_t room_cond;  /* a step was written */
    pthread_t thread;
} StoreData;

struct MapfsStore {
    MapfsImage *image;
    MapfsSpace *space; /* NULL when read-only */
    MapfsStoreOptions options;
    uint64_t first_usable;
    uint64_t n_blocks;
    uint64_t n_reserve;
    uint64_t checksum_seed;
    uint64_t hash_seed;
    uint64_t asked[ASKED_NODES]; /* addresses of nodes that the host was asked for: hints alone; atomic access */
    uint64_t *verified;          /* a bit per block: a node checked since mount; atomic access */

    /* The gate: who has begun a transaction, and whether a cut keeps others out. */
    pthread_mutex_t gate_mutex;
    pthread_cond_t gate_cond;
    unsigned n_begun; /* gate_mutex */
    bool closing;     /* gate_mutex */

    pthread_rwlock_t tree_lock; /* guards the tree and all down to the next lock; the cut holds it for writing */
    MapfsTree tree;
    MapfsEpoch epoch; /* running; changes only while the gate is closed */
    uint64_t lsn;     /* of the last record applied */
    uint64_t next_ino;
    uint64_t incompat; /* features that the running state needs */
    uint64_t n_inodes; /* atomic access */
    GArray *born;      /* MapfsBlock: born in the running generation */
    GArray *freed;     /* MapfsRun: freed in it, not yet in a pending item */

    /* Single numbers that are also read without the tree lock; atomic access. */
    uint64_t running; /* generation */
    uint64_t durable; /* generation */
    uint64_t durable_epoch;
    uint64_t n_pending; /* blocks freed and not yet given back */
    uint64_t n_born;    /* length of born */
    uint64_t n_freed;   /* length of freed */
    uint64_t n_ended;   /* transactions of users that may have changed something: each gives old nodes up */
    uint64_t level;     /* of the root */
    bool changed;       /* by a user's transaction, since the last cut */
    uint64_t n_checkpoints;

    StoreData data;

    pthread_mutex_t checkpoint_mutex;        /* one checkpoint at a time; taken before the gate is closed */
    struct mapfs_disk_superblock superblock; /* as last published; checkpoint_mutex */
    uint64_t write_time;                     /* the disk time of checkpoints, 0: now; mkfs fixes it */
    unsigned n_settle;  /* checkpoints that may follow the last change, to hand back what it freed; checkpoint_mutex */
    uint64_t room_mark; /* n_ended when mapfs_store_make_room() last found nothing; checkpoint_mutex */

    pthread_mutex_t
        release_mutex; /* one release of pending frees at a time; taken before begin, after checkpoint_mutex */

    uint64_t readers[READER_SLOTS]; /* running generation at entry, 0: free; atomic access */

    /* When the release thread trims next, and when what was freed has rested; UINT64_MAX: nothing to do. Its own, or nobody's. */
    uint64_t trim_at, trim_ripen_at;

    /* The threads. */
    pthread_mutex_t thread_mutex;
    pthread_cond_t thread_cond;
    bool stop, kick_checkpoint, kick_release; /* thread_mutex */
    bool threads_run;
    pthread_t checkpoint_thread, release_thread;
};

#define STORE_LOAD(field) __atomic_load_n(&(field), __ATOMIC_SEQ_CST)
#define STORE_SET(field, value) __atomic_store_n(&(field), (value), __ATOMIC_SEQ_CST)
#define STORE_ADD(field, value) __atomic_add_fetch(&(field), (value), __ATOMIC_SEQ_CST)

/* store.c: an unopened store, for mapfs_store_abandon(); and what follows from its superblock: counters, tree, space without groups. */
MapfsStore *mapfs_store_new(MapfsImage *image, const MapfsStoreOptions *options);
int mapfs_store_load(MapfsStore *store) MAPFS_MUST_USE;

/* Memory of a block that the space has handed out, or of a superblock slot. */
static inline void *store_block(const MapfsStore *store, MapfsBlock address) {
    g_assert(store->image->alias && address.n < store->image->n_blocks);
    return store->image->alias + (address.n << MAPFS_BLOCK_SHIFT);
}

/* log.c: 0, or -EOPNOTSUPP when the log holds changes that the superblock does not; with a note. */
int mapfs_store_check_log(const MapfsStore *store) MAPFS_MUST_USE;

/* nodes.c: where the tree's nodes come from. */
extern const MapfsTreeStoreOps mapfs_store_tree_ops;
/* A new node or bitmap block, noted as born, its bytes undefined. Tree locked. */
int mapfs_store_node_allocate(MapfsStore *store, MapfsNodePlace place, MapfsBlock *ret_address,
                              void **ret_node) MAPFS_MUST_USE;
/* True when a block of the run, which lies in the image, has been used as a node since the mount and not been given back; and: they are given
 * back. */
bool mapfs_store_has_node(const MapfsStore *store, MapfsRun run);
void mapfs_store_forget_nodes(MapfsStore *store, MapfsRun run);
/* The block of a node or bitmap is part of the running state no more. Tree locked. */
void mapfs_store_node_free(MapfsStore *store, MapfsBlock address);

/* behind.c: data that was stored. It is noted when the memory for it is handed out, and forgotten when nothing will refer to it; a cut takes the list. */
void mapfs_store_data_init(StoreData *data);
void mapfs_store_data_clear(StoreData *data);
void mapfs_store_data_note(MapfsStore *store, MapfsRun run);
void mapfs_store_data_forget(MapfsStore *store, MapfsRun run);
GArray *mapfs_store_data_take(MapfsStore *store);
/* A transaction that stored data has ended: write-behind may have what was noted. */
void mapfs_store_data_ready(MapfsStore *store);
/* The thread that writes behind. Stop it before the store goes; writers that wait are let go. */
int mapfs_store_behind_start(MapfsStore *store) MAPFS_MUST_USE;
void mapfs_store_behind_stop(MapfsStore *store);
/* A user's sync begins, or has ended: meanwhile and soon after, writers are paced. */
void mapfs_store_pace_sync(MapfsStore *store, bool begins);

/* txn.c: a transaction of the store's own: it counts as no change that would need a checkpoint. */
int mapfs_store_begin(MapfsStore *store, unsigned n_changes, MapfsTxn *ret_txn) MAPFS_MUST_USE;
/* True when the running epoch should be closed before the interval's end. */
bool mapfs_store_epoch_full(MapfsStore *store);
/* Keeps new transactions out and waits for those that have begun; lets them in again. */
void mapfs_store_gate_close(MapfsStore *store);
void mapfs_store_gate_open(MapfsStore *store);
/* Blocks that the next cut may take for bitmaps, summaries and pending frees. */
uint64_t mapfs_store_cut_blocks(MapfsStore *store);

/* cut.c: closes the running generation; the tree is locked and the gate closed. On failure the store is failed for good. */
int mapfs_store_cut(MapfsStore *store, StoreFrozen *ret_frozen) MAPFS_MUST_USE;

/* checkpoint.c: the same as mapfs_store_sync(), but no user waits for it. */
int mapfs_store_sync_changes(MapfsStore *store) MAPFS_MUST_USE;
/* Cuts, and makes what was cut durable. checkpoint_mutex held. */
int mapfs_store_checkpoint(MapfsStore *store, bool clean) MAPFS_MUST_USE;

/* Without it. The last one of an orderly close, if this mount has written anything; and what the interval's end asks for: a checkpoint if
 * something has changed, or if much that was freed still waits for one. */
int mapfs_store_checkpoint_last(MapfsStore *store) MAPFS_MUST_USE;
int mapfs_store_checkpoint_interval(MapfsStore *store) MAPFS_MUST_USE;

/* pending.c: gives pending frees back that no durable state and no reader can see. 0 or -errno. */
int mapfs_store_release_pending(MapfsStore *store) MAPFS_MUST_USE;

/* trim.c: gives back to the host what is noted in the space, for two seconds at most. */
void mapfs_store_trim_noted(MapfsStore *store);
/* The release thread's share: something may have been noted; and: it is store->trim_at, or later. */
void mapfs_store_trim_expect(MapfsStore *store);
void mapfs_store_trim_step(MapfsStore *store);

/* readers.c: the oldest generation that a reader may stand in, UINT64_MAX without readers. */
uint64_t mapfs_store_oldest_reader(const MapfsStore *store);

/* threads.c */
int mapfs_store_threads_start(MapfsStore *store) MAPFS_MUST_USE;
void mapfs_store_threads_stop(MapfsStore *store);
void mapfs_store_kick_checkpoint(MapfsStore *store);
void mapfs_store_kick_release(MapfsStore *store);
