/* SPDX-License-Identifier: MIT */

/* The store's own threads: one makes checkpoints at the interval's end, or earlier when an epoch has grown large; one gives pending frees back,
 * and later the host its blocks; one writes out streamed data (behind.c). Errors are sticky in the image: whoever changes or syncs next meets them. */

#include <errno.h>
#include <time.h>

#include "base/thread.h"
#include "txn/store-private.h"

#define DEFAULT_COMMIT_SECONDS 5u

void mapfs_store_kick_checkpoint(MapfsStore *store) {
    pthread_mutex_lock(&store->thread_mutex);
    if (!store->kick_checkpoint) {
        store->kick_checkpoint = true;
        pthread_cond_broadcast(&store->thread_cond);
    }
    pthread_mutex_unlock(&store->thread_mutex);
}

void mapfs_store_kick_release(MapfsStore *store) {
    pthread_mutex_lock(&store->thread_mutex);
    store->kick_release = true;
    pthread_cond_broadcast(&store->thread_cond);
    pthread_mutex_unlock(&store->thread_mutex);
}

static struct timespec deadline_after(unsigned seconds) {
    struct timespec deadline;

    (void)clock_gettime(CLOCK_MONOTONIC, &deadline); /* cannot fail with this clock */
    deadline.tv_sec += (time_t)seconds;
    return deadline;
}

/* Waits until the deadline, a kick, or the stop. */
typedef enum { WAKE_INTERVAL, WAKE_KICK, WAKE_STOP } Wake;

static Wake checkpoint_wait(MapfsStore *store, const struct timespec *deadline) {
    Wake wake = WAKE_KICK;
    int r = 0;

    pthread_mutex_lock(&store->thread_mutex);
    while (!store->stop && !store->kick_checkpoint && r != ETIMEDOUT)
        r = pthread_cond_timedwait(&store->thread_cond, &store->thread_mutex, deadline);
    if (store->stop)
        wake = WAKE_STOP;
    else if (!store->kick_checkpoint)
        wake = WAKE_INTERVAL;
    store->kick_checkpoint = false;
    pthread_mutex_unlock(&store->thread_mutex);
    return wake;
}

static void *checkpoint_main(void *user) {
    MapfsStore *store = user;
    unsigned seconds = store->options.commit_seconds > 0 ? store->options.commit_seconds : DEFAULT_COMMIT_SECONDS;
    struct timespec deadline = deadline_after(seconds);

    for (;;) {
        Wake wake = checkpoint_wait(store, &deadline);

        if (wake == WAKE_STOP)
            return NULL;
        if (wake == WAKE_KICK && !mapfs_store_epoch_full(store))
            continue; /* a sync was quicker */
        (void)mapfs_store_checkpoint_interval(store);
        deadline = deadline_after(seconds);
    }
}

/* Waits for a kick, the stop, or the time of the next trim: true then. With thread_mutex. */
static bool release_wait(MapfsStore *store) {
    struct timespec deadline = {.tv_sec = (time_t)(store->trim_at / NS_PER_SECOND),
                                .tv_nsec = (long)(store->trim_at % NS_PER_SECOND)};

    if (store->trim_at != UINT64_MAX)
        return pthread_cond_timedwait(&store->thread_cond, &store->thread_mutex, &deadline) == ETIMEDOUT;
    pthread_cond_wait(&store->thread_cond, &store->thread_mutex);
    return false;
}

static void *release_main(void *user) {
    MapfsStore *store = user;
    bool trim = false;

    pthread_mutex_lock(&store->thread_mutex);
    while (!store->stop) {
        if (!store->kick_release && !trim) {
            trim = release_wait(store);
            continue;
        }
        trim = trim && !store->kick_release;
        store->kick_release = false;
        pthread_mutex_unlock(&store->thread_mutex);
        if (trim) {
            mapfs_store_trim_step(store);
        } else {
            (void)mapfs_store_release_pending(store);
            mapfs_store_trim_expect(store);
        }
        trim = false;
        pthread_mutex_lock(&store->thread_mutex);
    }
    pthread_mutex_unlock(&store->thread_mutex);
    return NULL;
}

int mapfs_store_threads_start(MapfsStore *store) {
    int r;

    /* Before the first of them can look. */
    store->threads_run = true;
    store->trim_at = store->trim_ripen_at = UINT64_MAX;
    mapfs_store_trim_expect(store);
    r = mapfs_store_behind_start(store);
    if (r < 0) {
        store->threads_run = false;
        return r;
    }
    r = mapfs_thread_start(&store->checkpoint_thread, checkpoint_main, store);
    if (r < 0) {
        mapfs_store_behind_stop(store);
        store->threads_run = false;
        return r;
    }
    r = mapfs_thread_start(&store->release_thread, release_main, store);
    if (r < 0) {
        store->release_thread = store->checkpoint_thread;
        mapfs_store_threads_stop(store);
    }
    return r;
}

void mapfs_store_threads_stop(MapfsStore *store) {
    if (!store->threads_run)
        return;
    pthread_mutex_lock(&store->thread_mutex);
    store->stop = true;
    pthread_cond_broadcast(&store->thread_cond);
    pthread_mutex_unlock(&store->thread_mutex);
    (void)pthread_join(store->checkpoint_thread, NULL);
    if (!pthread_equal(store->release_thread, store->checkpoint_thread))
        (void)pthread_join(store->release_thread, NULL);
    mapfs_store_behind_stop(store);
    store->threads_run = false;
}
