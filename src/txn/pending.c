/* SPDX-License-Identifier: MIT */

/* Giving pending frees back. What generation N freed may go when N+1 is durable, so that the older superblock slot stays whole, and
 * when no reader is left that could have found it. Removing the item and clearing the bits is one step of the running
 * generation: a crash before its checkpoint brings both back. */

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mutant.h"
#include "format/items.h"
#include "txn/store-private.h"

/* Items given back in one transaction. */
#define RELEASE_ITEMS 16u

typedef struct {
    MapfsKey key;
    unsigned n_runs;
    MapfsRun runs[MAPFS_PENDING_RUNS_MAX];
} PendingItem;

static uint64_t releasable_before(const MapfsStore *store) {
    uint64_t limit = STORE_LOAD(store->durable), oldest_reader = mapfs_store_oldest_reader(store);

    if (MAPFS_MUTANT("early-reuse"))
        limit++;
    return MAPFS_MUTANT("ignore-readers") ? limit : MAPFS_MIN(limit, oldest_reader);
}

static int pending_load(const MapfsItem *item, PendingItem *ret_pending) {
    unsigned n_runs = (unsigned)(item->value_len / sizeof(struct mapfs_disk_pending_run));

    if (n_runs == 0 || n_runs > MAPFS_PENDING_RUNS_MAX)
        return mapfs_damage(0, "pending free", "has a length of %zu bytes", item->value_len);
    ret_pending->key = item->key;
    ret_pending->n_runs = n_runs;
    for (unsigned i = 0; i < n_runs; i++) {
        struct mapfs_disk_pending_run run;

        memcpy(&run, (const uint8_t *)item->value + i * sizeof(run), sizeof(run));
        ret_pending->runs[i] = (MapfsRun){{mapfs_le64_load(run.block)}, mapfs_le32_load(run.n_blocks)};
    }
    return 0;
}

/* Copies up to RELEASE_ITEMS items that may go. Returns how many, or -errno. */
static int pending_collect(MapfsStore *store, PendingItem *items) {
    uint64_t limit = releasable_before(store);
    MapfsKey first = {.object = MAPFS_OBJECT_PENDING};
    MapfsCursor cursor;
    MapfsItem item;
    int n = 0, r;

    mapfs_store_prefetch(store, &first, 1);
    mapfs_store_read_lock(store);
    r = mapfs_cursor_begin(&cursor, &store->tree, first, &item);
    while (r > 0 && n < (int)RELEASE_ITEMS && item.key.object - MAPFS_OBJECT_PENDING < limit) {
        r = pending_load(&item, &items[n]);
        if (r < 0)
            break;
        n++;
        r = mapfs_cursor_next(&cursor, &item);
    }
    mapfs_store_read_unlock(store);
    return r < 0 ? r : n;
}

static int pending_give_back(MapfsStore *store, const PendingItem *item) {
    int r;

    r = mapfs_tree_remove(&store->tree, item->key);
    for (unsigned i = 0; i < item->n_runs && r == 0; i++) {
        if (mapfs_run_fits(item->runs[i], store->n_blocks))
            mapfs_store_forget_nodes(store, item->runs[i]); /* before another can have them */
        r = mapfs_space_release(store->space, item->runs[i]);
        if (r == 0)
            STORE_ADD(store->n_pending, -item->runs[i].n_blocks);
    }
    /* Half an item given back must not be published. */
    if (r < 0)
        mapfs_image_fail(store->image, -EIO);
    return r;
}

static int pending_apply(MapfsStore *store, const PendingItem *items, unsigned n_items) {
    MapfsTxn txn;
    int r;

    r = mapfs_store_begin(store, n_items, &txn);
    /* No room for that many changes: one always finds some in the reserve. */
    if (r == -ENOSPC && n_items > 1) {
        n_items = 1;
        r = mapfs_store_begin(store, n_items, &txn);
    }
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    for (unsigned i = 0; i < n_items && r == 0; i++)
        r = pending_give_back(store, &items[i]);
    mapfs_txn_end(&txn);
    return r;
}

static int release_all(MapfsStore *store) {
    g_autofree PendingItem *items = g_new(PendingItem, RELEASE_ITEMS);

    for (;;) {
        int n, r;

        n = pending_collect(store, items);
        if (n <= 0)
            return n;
        r = pending_apply(store, items, (unsigned)n);
        if (r < 0)
            return r;
    }
}

int mapfs_store_release_pending(MapfsStore *store) {
    int r;

    pthread_mutex_lock(&store->release_mutex);
    r = release_all(store);
    /* The thread for it comes later; without it nobody would. */
    if (r == 0 && !store->threads_run)
        mapfs_store_trim_noted(store);
    pthread_mutex_unlock(&store->release_mutex);
    /* Without room now there will be some later; the items stay. */
    return r == -ENOSPC ? 0 : r;
}
