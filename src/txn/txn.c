/* SPDX-License-Identifier: MIT */

/* Transactions: the gate, the claims, data blocks, and what they free.
 *
 * gate_mutex guards who is inside; tree_lock is taken by those inside, and by the cut when nobody is. */

#include <errno.h>

#include "base/error.h"
#include "txn/store-private.h"

/* Below this many dirty nodes a checkpoint is not made early, however small the image. */
#define DIRTY_NODES_MIN 8u
#define DIRTY_NODES_MAX 65536u

/* --- the gate --- */

static void gate_enter(MapfsStore *store) {
    pthread_mutex_lock(&store->gate_mutex);
    while (store->closing)
        pthread_cond_wait(&store->gate_cond, &store->gate_mutex);
    store->n_begun++;
    pthread_mutex_unlock(&store->gate_mutex);
}

static void gate_leave(MapfsStore *store) {
    pthread_mutex_lock(&store->gate_mutex);
    store->n_begun--;
    if (store->n_begun == 0 && store->closing)
        pthread_cond_broadcast(&store->gate_cond);
    pthread_mutex_unlock(&store->gate_mutex);
}

void mapfs_store_gate_close(MapfsStore *store) {
    pthread_mutex_lock(&store->gate_mutex);
    store->closing = true;
    while (store->n_begun > 0)
        pthread_cond_wait(&store->gate_cond, &store->gate_mutex);
    pthread_mutex_unlock(&store->gate_mutex);
}

void mapfs_store_gate_open(MapfsStore *store) {
    pthread_mutex_lock(&store->gate_mutex);
    store->closing = false;
    pthread_cond_broadcast(&store->gate_cond);
    pthread_mutex_unlock(&store->gate_mutex);
}

/* --- begin and end --- */

/* At least so many lie in a leaf on average: a block has room for 84, and neighbours that run low are joined. */
#define SUMMARIES_PER_LEAF 20u

uint64_t mapfs_store_cut_blocks(MapfsStore *store) {
    MapfsSpaceStatus space;
    uint64_t levels = STORE_LOAD(store->level) + 1;

    mapfs_space_status(store->space, &space);
    /* A bitmap for each group; the leaves of summaries, each of which may hold a single one of them; the leaves of pending frees, and the ways down to both
     * ends. */
    return space.n_dirty_groups +
           MAPFS_MIN(space.n_dirty_groups, store->n_blocks / MAPFS_GROUP_BLOCKS / SUMMARIES_PER_LEAF + 1) +
           STORE_LOAD(store->n_freed) / 128 + 4 * levels + 8;
}

/* How many nodes an epoch may dirty: what it frees comes back only two checkpoints later. */
static uint64_t dirty_limit(MapfsStore *store) {
    MapfsSpaceStatus space;

    mapfs_space_status(store->space, &space);
    return MAPFS_MIN(MAPFS_MAX(store->n_reserve / 8, space.n_free / 16), DIRTY_NODES_MAX);
}

bool mapfs_store_epoch_full(MapfsStore *store) {
    return STORE_LOAD(store->n_born) >= dirty_limit(store);
}

/* An epoch that has dirtied too much is closed early: by the thread for it, or here when that is late. */
static int throttle(MapfsStore *store) {
    uint64_t n_born = STORE_LOAD(store->n_born);
    uint64_t limit;

    if (n_born < DIRTY_NODES_MIN)
        return 0;
    limit = dirty_limit(store);
    if (n_born < limit)
        return 0;
    if (store->threads_run && n_born < 2 * limit) {
        mapfs_store_kick_checkpoint(store);
        return 0;
    }
    return mapfs_store_sync_changes(store);
}

/* Blocks that so many changes can take. After the first the root is copied and split: a further one, however far away, has only the levels below
 * it to copy and to split. */
static unsigned claim_blocks(MapfsStore *store, unsigned n_changes) {
    MapfsTree shape = {.root = {.level = (uint8_t)STORE_LOAD(store->level)}};
    unsigned n_first = mapfs_tree_change_blocks_max(&shape);

    return n_first + (n_changes - 1) * (n_first > 3 ? n_first - 3 : 1);
}

/* What a user's transaction leaves besides its claim. Of the reserve, the smallest part is for the store itself, which gives pending frees
 * back; without that a full image could not free a block any more. Overwrites leave a part too: each splits extents, which makes
 * nodes, and when all is used up by them, what unlinks and reclaims must still go on. */
static uint64_t user_keep(const MapfsStore *store, MapfsTxnKind kind) {
    switch (kind) {
    case MAPFS_TXN_GROWS:
        return store->n_reserve;
    case MAPFS_TXN_KEEPS:
        return store->n_reserve / 4;
    case MAPFS_TXN_FREES:
    default:
        return store->n_reserve / 8;
    }
}

/* What is to be claimed: for changes here and there, and blocks that were counted one by one. */
typedef struct {
    unsigned n_changes, n_blocks;
} Claim;

static int begin_claim(MapfsStore *store, uint64_t n_keep, Claim claim, MapfsTxn *txn) {
    uint64_t keep = mapfs_store_cut_blocks(store) + n_keep;
    unsigned n_claimed = claim_blocks(store, claim.n_changes) + claim.n_blocks;
    int r;

    /* Claims are the most that could be needed, and most of it is given back. Who has begun a transaction begins no other, so nobody waits here for
     * himself. */
    do
        r = mapfs_space_claim(store->space, n_claimed, keep);
    while (r == -ENOSPC && mapfs_space_wait_claims(store->space, n_claimed + keep));
    if (r < 0)
        return r;
    *txn = (MapfsTxn){.store = store,
                      .generation = {STORE_LOAD(store->running)},
                      .epoch = store->epoch,
                      .kind = MAPFS_TXN_FREES,
                      .n_claimed = n_claimed};
    return 0;
}

static int begin(MapfsStore *store, uint64_t n_keep, Claim claim, MapfsTxn *ret_txn) {
    int r;

    r = mapfs_store_error(store);
    if (r < 0)
        return r;
    gate_enter(store);
    r = begin_claim(store, n_keep, claim, ret_txn);
    if (r < 0)
        gate_leave(store);
    return r;
}

int mapfs_store_begin(MapfsStore *store, unsigned n_changes, MapfsTxn *ret_txn) {
    return begin(store, 0, (Claim){n_changes, 0}, ret_txn);
}

int mapfs_txn_begin(MapfsStore *store, MapfsTxnKind kind, unsigned n_changes, MapfsTxn *ret_txn) {
    return mapfs_txn_begin_more(store, kind, n_changes, 0, ret_txn);
}

int mapfs_txn_begin_more(MapfsStore *store, MapfsTxnKind kind, unsigned n_changes, unsigned n_blocks,
                         MapfsTxn *ret_txn) {
    int r;

    r = mapfs_store_error(store);
    if (r < 0)
        return r;
    r = throttle(store);
    if (r < 0)
        return r;
    r = begin(store, user_keep(store, kind), (Claim){n_changes, n_blocks}, ret_txn);
    if (r < 0)
        return r;
    ret_txn->kind = kind;
    ret_txn->of_user = true;
    return 0;
}

void mapfs_txn_lock(MapfsTxn *txn) {
    pthread_rwlock_wrlock(&txn->store->tree_lock);
    txn->locked = true;
}

void mapfs_txn_end(MapfsTxn *txn) {
    MapfsStore *store = txn->store;

    if (txn->locked) {
        if (txn->of_user)
            STORE_ADD(store->n_ended, 1);
        STORE_SET(store->level, store->tree.root.level);
        txn->locked = false;
        pthread_rwlock_unlock(&store->tree_lock);
    }
    mapfs_space_unclaim(store->space, txn->n_claimed);
    if (txn->has_stored)
        mapfs_store_data_ready(store);
    gate_leave(store);
}

/* --- data blocks --- */

int mapfs_txn_allocate(MapfsTxn *txn, MapfsGoal goal, uint64_t n_blocks, MapfsRun *ret_run) {
    MapfsSpaceWish wish = {
        .goal = goal.block, .apart = goal.apart, .n_blocks = n_blocks, .n_keep = mapfs_store_cut_blocks(txn->store)};

    wish.n_keep += user_keep(txn->store, txn->kind);
    return mapfs_space_allocate(txn->store->space, &wish, ret_run);
}

int mapfs_txn_fill(MapfsTxn *txn, MapfsRun run) {
    return mapfs_space_back(txn->store->space, run);
}

void mapfs_txn_forget(MapfsTxn *txn, MapfsRun run) {
    /* The checkpoint must not promise what they hold: they may be stored into again while it counts. */
    mapfs_store_data_forget(txn->store, run);
}

void mapfs_txn_cancel(MapfsTxn *txn, MapfsRun run) {
    int r;

    mapfs_txn_forget(txn, run);
    r = mapfs_space_release(txn->store->space, run);
    (void)r; /* nothing has ever referred to them; that they are taken is known, so it cannot fail */
}

void *mapfs_txn_data(MapfsTxn *txn, MapfsRun run) {
    void *memory = NULL;

    /* Extents and bitmaps of a damaged image may lead anywhere. A node that has been checked must stay as it is: nobody checks it again. */
    if (run.start.n >= txn->store->first_usable && mapfs_run_fits(run, txn->store->n_blocks) &&
        !mapfs_store_has_node(txn->store, run))
        memory = mapfs_image_writable(txn->store->image, run);
    if (memory) {
        mapfs_store_data_note(txn->store, run);
        txn->has_stored = true;
    }
    return memory;
}

int mapfs_txn_data_damage(MapfsRun run) {
    return mapfs_damage(run.start.n, "extent", "of %lu blocks lies outside the image, or where the tree is",
                        (unsigned long)run.n_blocks);
}

/* --- under the tree lock --- */

void mapfs_txn_free(MapfsTxn *txn, MapfsRun run) {
    MapfsStore *store = txn->store;

    g_array_append_val(store->freed, run);
    STORE_SET(store->n_freed, store->freed->len);
    STORE_ADD(store->n_pending, run.n_blocks);
}

void mapfs_txn_need_feature(MapfsTxn *txn, uint64_t incompat) {
    txn->store->incompat |= incompat;
}

uint64_t mapfs_txn_next_lsn(MapfsTxn *txn) {
    STORE_SET(txn->store->changed, true);
    return ++txn->store->lsn;
}

int mapfs_txn_next_ino(MapfsTxn *txn, MapfsIno *ret_ino) {
    if (txn->store->next_ino >= MAPFS_INO_LIMIT)
        return -ENOSPC;
    *ret_ino = (MapfsIno){txn->store->next_ino++};
    return 0;
}

void mapfs_txn_count_inodes(MapfsTxn *txn, int delta) {
    STORE_ADD(txn->store->n_inodes, (uint64_t)(int64_t)delta);
}
