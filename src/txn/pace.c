/* SPDX-License-Identifier: MIT */

/* Write-behind: streamed data goes to the disk while it is stored, so that a sync finds little left. A sync covers all that went before
 * it, also what others stream; so while somebody syncs again and again, who streams waits until most of it is written. Nobody is
 * held up for syncs that do not come. */

#include <errno.h>
#include <time.h>

#include "txn/store-private.h"

/* Two syncs as close as this are of somebody who goes on with it, for as long. */
#define SYNC_GAP_US (UINT64_C(1000) * 1000)
/* How much may wait meanwhile. */
#define PACE_BYTES (UINT64_C(512) << 10)
/* No wait for the disk is to be longer, whatever happens to write-behind. */
#define PACE_WAIT_NS (100 * 1000 * 1000)

static uint64_t clock_us(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void mapfs_store_pace_sync(MapfsStore *store) {
    const uint64_t now = clock_us();

    if (now - STORE_LOAD(store->sync_at) < SYNC_GAP_US)
        STORE_SET(store->paced_until, now + SYNC_GAP_US);
    STORE_SET(store->sync_at, now);
}

static bool is_paced(const MapfsStore *store) {
    return clock_us() < STORE_LOAD(store->paced_until);
}

uint64_t mapfs_store_behind_limit(const MapfsStore *store) {
    return is_paced(store) ? PACE_BYTES : MAPFS_WRITE_BEHIND_BYTES;
}

static struct timespec pace_deadline(void) {
    struct timespec deadline;

    (void)clock_gettime(CLOCK_MONOTONIC, &deadline); /* cannot fail with this clock */
    deadline.tv_nsec += PACE_WAIT_NS;
    if (deadline.tv_nsec >= 1000000000) {
        deadline.tv_nsec -= 1000000000;
        deadline.tv_sec++;
    }
    return deadline;
}

void mapfs_store_pace(MapfsStore *store) {
    struct timespec deadline;
    int r = 0;

    if (!store->threads_run || STORE_LOAD(store->n_unwritten) < PACE_BYTES || !is_paced(store))
        return;
    deadline = pace_deadline();
    pthread_mutex_lock(&store->thread_mutex);
    while (!store->stop && STORE_LOAD(store->n_unwritten) >= PACE_BYTES && r != ETIMEDOUT)
        r = pthread_cond_timedwait(&store->pace_cond, &store->thread_mutex, &deadline);
    pthread_mutex_unlock(&store->thread_mutex);
}

static GArray *take_runs(MapfsStore *store) {
    GArray *runs = g_array_new(FALSE, FALSE, sizeof(MapfsRun));

    pthread_mutex_lock(&store->data_mutex);
    for (guint i = store->n_behind; i < store->data->len; i++)
        g_array_append_val(runs, g_array_index(store->data, MapfsRun, i));
    /* The last run may still grow. */
    store->n_behind = store->data->len > 0 ? store->data->len - 1 : 0;
    pthread_mutex_unlock(&store->data_mutex);
    return runs;
}

void mapfs_store_write_behind(MapfsStore *store) {
    g_autoptr(GArray) runs = NULL;
    bool waits = is_paced(store);

    STORE_SET(store->n_unwritten, 0);
    runs = take_runs(store);
    for (guint i = 0; i < runs->len; i++)
        mapfs_image_start_write(store->image, g_array_index(runs, MapfsRun, i), false);
    for (guint i = 0; i < runs->len && waits; i++)
        mapfs_image_start_write(store->image, g_array_index(runs, MapfsRun, i), true);
    pthread_mutex_lock(&store->thread_mutex);
    pthread_cond_broadcast(&store->pace_cond);
    pthread_mutex_unlock(&store->thread_mutex);
}
