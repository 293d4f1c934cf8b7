/* SPDX-License-Identifier: MIT */

/* What data was stored, and its write-behind.
 *
 * A sync covers all that went before it, whoever stored it, so what has not been written by then is what it waits for. A thread therefore writes out what
 * is streamed while it is stored, a step at a time: so the disk never has more of it in its queue than a step. Whoever streams faster than the
 * disk waits for that thread once more than the *budget* is unwritten. The budget is small while somebody syncs, grows with the time since then, and
 * has no limit before the first sync: nobody is held up for syncs that do not come.
 *
 * While a sync is being made, the disk is its own: no step begins, and what ends a wait of writers is the next cut or the steps that follow the sync.
 *
 * A writer waits before it has a lock or a transaction, and for the thread or a sync, which wait for nobody but the host. All of it is guarded by StoreData.mutex, a leaf. */

#include <errno.h>
#include <time.h>

#include "base/thread.h"
#include "txn/runs-private.h"
#include "txn/store-private.h"

#define BLOCKS_OF_MIB(mib) ((uint64_t)(mib) << (20 - MAPFS_BLOCK_SHIFT))
/* What may be unwritten while somebody syncs: a request of FUSE's, which is as large; and how much more for each second since. At some 500 MB/s a
 * sync waits half a millisecond for it, or a sixteenth of the time since the one before. */
#define BUDGET_MIN (BLOCKS_OF_MIB(1) / 4)
#define BUDGET_PER_SECOND BLOCKS_OF_MIB(32)
/* A writer of little has more room: it is rather one that syncs itself, and need not wait for those who stream. */
#define SMALL_BYTES (64u << 10)
#define SMALL_BUDGETS 4u
/* A step of write-behind: half the budget, up to this. */
#define STEP_MAX BLOCKS_OF_MIB(8)
/* No more writers wait than this: some of the threads that serve requests must be left for syncs. */
#define PACED_MAX 16u
/* No longer than this, should the host hang. */
#define PACED_SECONDS 30u
/* A list of stored runs this long is sorted and joined. */
#define DATA_RUNS_MAX 8192u

static uint64_t clock_ns(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* --- the list --- */

/* The list has another order now. What was written is written again, which is soon done. */
static void behind_restart(StoreData *data) {
    data->n_behind = 0;
    data->n_behind_blocks = 0;
}

/* Adds a run, to the last one if it goes on there. Returns by how many blocks the list grew. */
static uint64_t runs_add(GArray *runs, MapfsRun run) {
    MapfsRun *last = runs->len > 0 ? &g_array_index(runs, MapfsRun, runs->len - 1) : NULL;
    uint64_t n_before;

    if (!last || run.start.n < last->start.n || run.start.n > last->start.n + last->n_blocks) {
        g_array_append_val(runs, run);
        return run.n_blocks;
    }
    n_before = last->n_blocks;
    last->n_blocks = MAPFS_MAX(n_before, run.start.n + run.n_blocks - last->start.n);
    return last->n_blocks - n_before;
}

void mapfs_store_data_note(MapfsStore *store, MapfsRun run) {
    StoreData *data = &store->data;

    pthread_mutex_lock(&data->mutex);
    data->n_unwritten += runs_add(data->runs, run);
    if (data->runs->len > DATA_RUNS_MAX && (data->runs->len & (data->runs->len - 1)) == 0) {
        (void)mapfs_store_runs_join(data->runs); /* the same block may well be stored into twice */
        behind_restart(data);
    }
    pthread_mutex_unlock(&data->mutex);
}

void mapfs_store_data_forget(MapfsStore *store, MapfsRun run) {
    StoreData *data = &store->data;

    pthread_mutex_lock(&data->mutex);
    mapfs_store_runs_subtract(data->runs, run);
    behind_restart(data);
    pthread_mutex_unlock(&data->mutex);
}

GArray *mapfs_store_data_take(MapfsStore *store) {
    StoreData *data = &store->data;
    GArray *runs;

    pthread_mutex_lock(&data->mutex);
    runs = data->runs;
    data->runs = g_array_new(FALSE, FALSE, sizeof(MapfsRun));
    behind_restart(data);
    data->n_unwritten = 0;
    data->n_ready = 0;
    pthread_cond_broadcast(&data->room_cond);
    pthread_mutex_unlock(&data->mutex);
    return runs;
}

/* --- budget and steps; with the mutex --- */

static uint64_t budget(const StoreData *data) {
    uint64_t since_ns;

    if (data->n_syncing > 0)
        return BUDGET_MIN;
    if (data->synced_at == 0)
        return UINT64_MAX / SMALL_BUDGETS;
    since_ns = clock_ns() - data->synced_at;
    return BUDGET_MIN + since_ns / (NS_PER_SECOND / BUDGET_PER_SECOND);
}

static uint64_t step_blocks(const StoreData *data) {
    return MAPFS_MIN(budget(data) / 2, STEP_MAX);
}

/* Takes up to so many blocks of the list. */
static GArray *behind_take(StoreData *data, uint64_t n_wanted) {
    GArray *taken = g_array_new(FALSE, FALSE, sizeof(MapfsRun));

    data->n_writing = 0;
    while (data->n_behind < data->runs->len && data->n_writing < n_wanted) {
        MapfsRun run = g_array_index(data->runs, MapfsRun, data->n_behind);
        uint64_t n_rest = run.n_blocks - data->n_behind_blocks;
        uint64_t n = MAPFS_MIN(n_rest, n_wanted - data->n_writing);

        run = (MapfsRun){{run.start.n + data->n_behind_blocks}, n};
        if (n > 0)
            g_array_append_val(taken, run);
        data->n_writing += n;
        data->n_behind_blocks += n;
        if (n == n_rest && data->n_behind + 1 == data->runs->len)
            break; /* it may still grow */
        if (n == n_rest) {
            data->n_behind++;
            data->n_behind_blocks = 0;
        }
    }
    /* What is stored twice was counted twice and is listed once. */
    if (data->n_writing < n_wanted)
        data->n_unwritten = data->n_ready = 0;
    data->n_unwritten -= MAPFS_MIN(data->n_unwritten, data->n_writing);
    data->n_ready -= MAPFS_MIN(data->n_ready, data->n_writing);
    return taken;
}

/* --- the thread --- */

static void behind_step(MapfsStore *store) {
    StoreData *data = &store->data;
    g_autoptr(GArray) taken = behind_take(data, MAPFS_MIN(data->n_ready, step_blocks(data)));

    pthread_mutex_unlock(&data->mutex);
    mapfs_image_write_out(store->image, (const MapfsRun *)(void *)taken->data, taken->len);
    pthread_mutex_lock(&data->mutex);
    data->n_writing = 0;
    pthread_cond_broadcast(&data->room_cond);
}

/* The budget may have grown since a writer looked at it. */
static void behind_wait(StoreData *data) {
    pthread_cond_broadcast(&data->room_cond);
    pthread_cond_wait(&data->ready_cond, &data->mutex);
}

static void *behind_main(void *user) {
    MapfsStore *store = user;
    StoreData *data = &store->data;

    pthread_mutex_lock(&data->mutex);
    while (!data->stop) {
        if (data->n_syncing == 0 && data->n_ready > 0 && data->n_ready >= step_blocks(data))
            behind_step(store);
        else
            behind_wait(data);
    }
    pthread_mutex_unlock(&data->mutex);
    return NULL;
}

void mapfs_store_data_ready(MapfsStore *store) {
    StoreData *data = &store->data;

    if (!store->threads_run)
        return;
    pthread_mutex_lock(&data->mutex);
    data->n_ready = data->n_unwritten;
    if (data->n_writing == 0 && data->n_ready >= step_blocks(data))
        pthread_cond_signal(&data->ready_cond);
    pthread_mutex_unlock(&data->mutex);
}

int mapfs_store_behind_start(MapfsStore *store) {
    return mapfs_thread_start(&store->data.thread, behind_main, store);
}

void mapfs_store_behind_stop(MapfsStore *store) {
    StoreData *data = &store->data;

    pthread_mutex_lock(&data->mutex);
    data->stop = true;
    pthread_cond_signal(&data->ready_cond);
    pthread_cond_broadcast(&data->room_cond);
    pthread_mutex_unlock(&data->mutex);
    (void)pthread_join(data->thread, NULL);
}

/* --- syncs and writers --- */

void mapfs_store_pace_sync(MapfsStore *store, bool begins) {
    StoreData *data = &store->data;

    pthread_mutex_lock(&data->mutex);
    data->n_syncing += begins ? 1 : -1u;
    if (!begins)
        data->synced_at = clock_ns();
    if (data->n_syncing == 0 && data->n_ready > 0)
        pthread_cond_signal(&data->ready_cond);
    pthread_mutex_unlock(&data->mutex);
}

static bool must_wait(MapfsStore *store, uint64_t n_budgets) {
    const StoreData *data = &store->data;

    /* Without anything to write the thread wakes nobody. */
    return !data->stop && data->n_unwritten + data->n_writing >= n_budgets * budget(data) &&
           (data->n_ready > 0 || data->n_writing > 0) && mapfs_image_error(store->image) == 0;
}

static struct timespec paced_deadline(void) {
    const uint64_t ns = clock_ns() + PACED_SECONDS * NS_PER_SECOND;

    return (struct timespec){.tv_sec = (time_t)(ns / NS_PER_SECOND), .tv_nsec = (long)(ns % NS_PER_SECOND)};
}

bool mapfs_store_pace(MapfsStore *store, uint64_t len_bytes) {
    const uint64_t n_budgets = len_bytes < SMALL_BYTES ? SMALL_BUDGETS : 1;
    StoreData *data = &store->data;
    struct timespec deadline;
    int r = 0;

    if (!store->threads_run)
        return true;
    pthread_mutex_lock(&data->mutex);
    if (data->n_paced < PACED_MAX && must_wait(store, n_budgets)) {
        deadline = paced_deadline();
        data->n_paced++;
        while (r != ETIMEDOUT && must_wait(store, n_budgets))
            r = pthread_cond_timedwait(&data->room_cond, &data->mutex, &deadline);
        data->n_paced--;
    }
    pthread_mutex_unlock(&data->mutex);
    return r != ETIMEDOUT;
}

unsigned mapfs_store_n_paced(MapfsStore *store) {
    unsigned n_paced;

    pthread_mutex_lock(&store->data.mutex);
    n_paced = store->data.n_paced;
    pthread_mutex_unlock(&store->data.mutex);
    return n_paced;
}

void mapfs_store_data_init(StoreData *data) {
    pthread_condattr_t monotonic;

    data->runs = g_array_new(FALSE, FALSE, sizeof(MapfsRun));
    pthread_mutex_init(&data->mutex, NULL);
    pthread_cond_init(&data->ready_cond, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&data->room_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void mapfs_store_data_clear(StoreData *data) {
    g_array_unref(data->runs);
    pthread_cond_destroy(&data->room_cond);
    pthread_cond_destroy(&data->ready_cond);
    pthread_mutex_destroy(&data->mutex);
}
