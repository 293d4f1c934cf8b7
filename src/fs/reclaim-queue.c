/* SPDX-License-Identifier: MIT */

#include "fs/fs-private.h"

void mapfs_reclaim_queue_init(MapfsReclaimQueue *queue) {
    pthread_mutex_init(&queue->mutex, NULL);
    pthread_cond_init(&queue->cond, NULL);
    pthread_cond_init(&queue->idle, NULL);
    g_queue_init(&queue->waiting);
    queue->set = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    queue->n_taken = 0;
    queue->stopped = false;
}

void mapfs_reclaim_queue_clear(MapfsReclaimQueue *queue) {
    g_queue_clear(&queue->waiting);
    g_hash_table_unref(queue->set);
    pthread_cond_destroy(&queue->idle);
    pthread_cond_destroy(&queue->cond);
    pthread_mutex_destroy(&queue->mutex);
    g_free(queue->damage);
}

void mapfs_fs_queue_reclaim(MapfsFs *fs, uint64_t ino) {
    MapfsReclaimQueue *queue = &fs->reclaim_queue;

    pthread_mutex_lock(&queue->mutex);
    if (!g_hash_table_contains(queue->set, &ino)) {
        uint64_t *own = g_new(uint64_t, 1);

        *own = ino;
        g_hash_table_add(queue->set, own);
        g_queue_push_tail(&queue->waiting, own);
        pthread_cond_signal(&queue->cond);
    }
    pthread_mutex_unlock(&queue->mutex);
}

bool mapfs_reclaim_queue_take(MapfsFs *fs, uint64_t *ret_ino) {
    MapfsReclaimQueue *queue = &fs->reclaim_queue;
    uint64_t *own;

    pthread_mutex_lock(&queue->mutex);
    own = g_queue_pop_head(&queue->waiting);
    if (own) {
        *ret_ino = *own;
        g_hash_table_remove(queue->set, own);
        queue->n_taken++;
    }
    pthread_mutex_unlock(&queue->mutex);
    return own != NULL;
}

void mapfs_reclaim_queue_done(MapfsFs *fs) {
    MapfsReclaimQueue *queue = &fs->reclaim_queue;

    pthread_mutex_lock(&queue->mutex);
    queue->n_taken--;
    if (queue->n_taken == 0)
        pthread_cond_broadcast(&queue->idle);
    pthread_mutex_unlock(&queue->mutex);
}

bool mapfs_reclaim_queue_wait_idle(MapfsFs *fs) {
    MapfsReclaimQueue *queue = &fs->reclaim_queue;
    bool waited;

    pthread_mutex_lock(&queue->mutex);
    waited = queue->n_taken > 0;
    while (queue->n_taken > 0)
        pthread_cond_wait(&queue->idle, &queue->mutex);
    pthread_mutex_unlock(&queue->mutex);
    return waited;
}

bool mapfs_reclaim_queue_wait(MapfsFs *fs, bool *ret_waited) {
    MapfsReclaimQueue *queue = &fs->reclaim_queue;
    bool stopped;

    pthread_mutex_lock(&queue->mutex);
    *ret_waited = g_queue_is_empty(&queue->waiting);
    while (!queue->stopped && g_queue_is_empty(&queue->waiting))
        pthread_cond_wait(&queue->cond, &queue->mutex);
    stopped = queue->stopped;
    pthread_mutex_unlock(&queue->mutex);
    return !stopped;
}

void mapfs_reclaim_queue_stop(MapfsFs *fs) {
    MapfsReclaimQueue *queue = &fs->reclaim_queue;

    pthread_mutex_lock(&queue->mutex);
    queue->stopped = true;
    pthread_cond_broadcast(&queue->cond);
    pthread_mutex_unlock(&queue->mutex);
}
