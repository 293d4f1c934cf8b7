/* SPDX-License-Identifier: MIT */

/* Work on orphans, in bounded steps, each a RECLAIM record: tails past a cut, and unlinked inodes that nobody uses. A thread does it
 * beside everything else; a crash between two steps leaves the orphan item, and the next mount goes on. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/thread.h"
#include "fs/data-private.h"

/* Units of work on extents (data-private.h), or other items, that one step does; and on an image so full that it has no blocks for that. */
#define RECLAIM_ITEMS 64u
#define RECLAIM_ITEMS_MIN 1u
/* How long an orphan waits on an image that has no blocks at all for it: others may be freeing some. */
static const struct timespec RECLAIM_PAUSE = {.tv_nsec = 100 * 1000 * 1000};
/* How long the first orphan waits for others: to wake the thread for each takes longer than its work does. */
static const struct timespec RECLAIM_GATHER = {.tv_nsec = 10 * 1000 * 1000};

/* --- apply --- */

/* Removes up to n_max of the inode's items other than the inode itself. 1 when none is left, 0, or -errno; *ret_n: how many. */
static int drop_items(MapfsTree *tree, uint64_t ino, unsigned n_max, unsigned *ret_n) {
    for (*ret_n = 0; *ret_n < n_max; ++*ret_n) {
        MapfsKey first = {.object = ino, .kind = MAPFS_KIND_INODE, .offset = 1};
        MapfsItem item;
        int r;

        r = mapfs_tree_lookup_ge(tree, first, &item);
        if (r < 0)
            return r;
        if (r == 0 || item.key.object != ino)
            return 1;
        r = mapfs_tree_remove(tree, item.key);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The orphan's work of this kind is done. -errno: nothing has changed, or the image has failed. */
static int reclaim_finish(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, struct mapfs_disk_orphan *orphan, uint32_t work) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    uint32_t left = mapfs_le32_load(orphan->flags) & ~work;
    int r;

    if (work == MAPFS_ORPHAN_TRUNCATED && left != 0) {
        orphan->flags = mapfs_le32_store(left);
        orphan->cut = mapfs_le64_store(0);
        return mapfs_tree_replace(tree, mapfs_orphan_key(ino), orphan, sizeof(*orphan));
    }
    r = mapfs_tree_remove(tree, mapfs_orphan_key(ino));
    if (r < 0 || work != MAPFS_ORPHAN_UNLINKED)
        return r;
    r = mapfs_tree_remove(tree, mapfs_inode_key(ino));
    if (r < 0)
        return mapfs_apply_broken(fs, r);
    mapfs_txn_count_inodes(txn, -1);
    return 0;
}

/* Each part of it is whole by itself: damage after the first ends the step, and the next one meets it without having changed anything. */
static int reclaim_step(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record_reclaim *reclaim,
                        struct mapfs_disk_orphan *orphan) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    uint64_t ino = mapfs_le64_load(reclaim->ino);
    uint32_t work = mapfs_le32_load(reclaim->work), n_items = mapfs_le32_load(reclaim->n_extents);
    uint64_t cut = work == MAPFS_ORPHAN_UNLINKED ? 0 : mapfs_blocks_for_bytes(mapfs_le64_load(orphan->cut));
    struct mapfs_disk_inode inode;
    unsigned n_dropped = 0;
    uint64_t n_freed;
    int done, r;

    r = mapfs_inode_load(tree, ino, &inode);
    if (r < 0)
        return r;
    done = mapfs_extent_drop_tail(txn, ino, cut, n_items, &n_freed);
    if (done < 0)
        return done;
    if (n_freed > 0) {
        inode.n_blocks = mapfs_le64_store(mapfs_le64_load(inode.n_blocks) - n_freed);
        r = mapfs_inode_store(tree, ino, &inode);
        if (r < 0)
            return mapfs_apply_broken(fs, r);
    }
    if (done && work == MAPFS_ORPHAN_UNLINKED)
        done = drop_items(tree, ino, n_items, &n_dropped);
    if (done > 0)
        done = reclaim_finish(fs, txn, ino, orphan, work);
    return done < 0 && done != -EIO && (n_freed > 0 || n_dropped > 0) ? 0 : done;
}

int mapfs_apply_reclaim(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) {
    const struct mapfs_disk_record_reclaim *reclaim = (const struct mapfs_disk_record_reclaim *)record;
    uint64_t ino = mapfs_le64_load(reclaim->ino);
    uint32_t work = mapfs_le32_load(reclaim->work);
    struct mapfs_disk_orphan orphan;
    int r;

    r = mapfs_orphan_load(mapfs_store_tree(fs->store), ino, &orphan);
    if (r < 0)
        return r;
    if (r == 0 || !(mapfs_le32_load(orphan.flags) & work))
        return -ENOENT;
    return reclaim_step(fs, txn, reclaim, &orphan);
}

/* --- the work --- */

/* Inode and orphan, extents with their counts, other items, of which each may fill half a leaf. */
static unsigned reclaim_changes(unsigned n_items) {
    return n_items > 1 ? 3 + mapfs_extent_changes(n_items) + mapfs_shared_changes(n_items) + n_items / 2
                       : 5 + MAPFS_SHARED_CHANGES;
}

/* One step. 1 when there may be more, 0 when the orphan needs nothing (more) now, or -errno. */
static int reclaim_once(MapfsFs *fs, uint64_t ino, uint32_t work, unsigned n_items) {
    struct mapfs_disk_record_reclaim record;
    struct mapfs_disk_orphan orphan;
    MapfsTxn txn;
    int r;

    memset(&record, 0, sizeof(record));
    mapfs_record_init(&record.header, MAPFS_RECORD_RECLAIM, sizeof(record), mapfs_fs_now());
    record.ino = mapfs_le64_store(ino);
    record.n_extents = mapfs_le32_store(n_items);
    record.work = mapfs_le32_store(work);
    r = mapfs_txn_begin(fs->store, MAPFS_TXN_FREES, reclaim_changes(n_items), &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    r = mapfs_orphan_load(mapfs_store_tree(fs->store), ino, &orphan);
    if (r > 0 && !(mapfs_le32_load(orphan.flags) & work))
        r = 0;
    /* An unlinked inode in use is left to its last forget, which queues it again. */
    if (r > 0 && work == MAPFS_ORPHAN_UNLINKED && mapfs_inode_in_use(fs, ino))
        r = 0;
    if (r > 0) {
        r = mapfs_record_run(fs, &txn, &record.header);
        r = r < 0 ? r : 1;
    }
    mapfs_txn_end(&txn);
    return r;
}

static int reclaim_all(MapfsFs *fs, uint64_t ino, uint32_t work) {
    int r;

    do {
        r = reclaim_once(fs, ino, work, RECLAIM_ITEMS);
        if (r == -ENOSPC)
            r = reclaim_once(fs, ino, work, RECLAIM_ITEMS_MIN);
        /* Without blocks even for that, checkpoints bring those of the steps before. */
        if (r == -ENOSPC)
            r = mapfs_store_make_room(fs->store) > 0 ? 1 : -ENOSPC;
    } while (r > 0);
    return r;
}

int mapfs_fs_finish_truncate(MapfsFs *fs, uint64_t ino) {
    struct mapfs_disk_orphan orphan;
    int r;

    mapfs_store_read_lock(fs->store);
    r = mapfs_orphan_load(mapfs_store_tree(fs->store), ino, &orphan);
    mapfs_store_read_unlock(fs->store);
    if (r <= 0 || !(mapfs_le32_load(orphan.flags) & MAPFS_ORPHAN_TRUNCATED))
        return r < 0 ? r : 0; /* 1: an orphan, but one without a cut */
    return reclaim_all(fs, ino, MAPFS_ORPHAN_TRUNCATED);
}

static int reclaim_inode(MapfsFs *fs, uint64_t ino) {
    int r;

    r = reclaim_all(fs, ino, MAPFS_ORPHAN_UNLINKED);
    mapfs_reclaim_queue_done(fs);
    if (r < 0)
        return r;
    mapfs_inode_lock(fs, ino);
    r = mapfs_fs_finish_truncate(fs, ino);
    mapfs_inode_unlock(fs, ino);
    return r;
}

int mapfs_fs_reclaim(MapfsFs *fs) {
    uint64_t ino;

    while (mapfs_reclaim_queue_take(fs, &ino)) {
        int r = reclaim_inode(fs, ino);

        if (r < 0)
            return r;
    }
    return 0;
}

/* True when the inode still has an orphan item. */
static bool is_orphan(MapfsFs *fs, uint64_t ino) {
    struct mapfs_disk_orphan orphan;
    int r;

    mapfs_store_read_lock(fs->store);
    r = mapfs_orphan_load(mapfs_store_tree(fs->store), ino, &orphan);
    mapfs_store_read_unlock(fs->store);
    return r > 0;
}

int mapfs_fs_make_room(MapfsFs *fs) {
    g_autoptr(GArray) left = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    uint64_t ino;
    int r = 0;

    /* Unlinked inodes alone: a truncated one may be the caller's own, whose lock it holds. It goes back into the queue. */
    while (r == 0 && mapfs_reclaim_queue_take(fs, &ino)) {
        r = reclaim_all(fs, ino, MAPFS_ORPHAN_UNLINKED);
        if (r == -ENOSPC || (r == 0 && is_orphan(fs, ino)))
            g_array_append_val(left, ino);
        /* Whoever needs room has nothing to do with the damage of another inode. */
        if (r == -EUCLEAN) {
            mapfs_reclaim_tell_damage(fs);
            r = 0;
        }
        mapfs_reclaim_queue_done(fs);
    }
    for (guint i = 0; i < left->len; i++)
        mapfs_fs_queue_reclaim(fs, g_array_index(left, uint64_t, i));
    if (r == 0 || r == -ENOSPC)
        r = mapfs_store_make_room(fs->store);
    /* What another thread is just reclaiming may be all the room that there is. */
    if (r == 0 && mapfs_reclaim_queue_wait_idle(fs))
        r = mapfs_store_make_room(fs->store);
    return r;
}

/* --- the thread --- */

static void *reclaim_main(void *user) {
    MapfsFs *fs = user;
    bool waited;
    uint64_t ino;
    int r;

    while (mapfs_reclaim_queue_wait(fs, &waited)) {
        if (waited)
            (void)nanosleep(&RECLAIM_GATHER, NULL); /* woken early by nothing: signals are blocked */
        if (!mapfs_reclaim_queue_take(fs, &ino))
            continue;
        r = reclaim_inode(fs, ino);
        if (r == -EUCLEAN)
            mapfs_reclaim_tell_damage(fs);
        /* Any other error is sticky in the image, or damage: then the orphan stays for the checker. */
        if (r != -ENOSPC)
            continue;
        mapfs_fs_queue_reclaim(fs, ino);
        (void)nanosleep(&RECLAIM_PAUSE, NULL);
    }
    return NULL;
}

void mapfs_reclaim_tell_damage(MapfsFs *fs) {
    MapfsReclaimQueue *queue = &fs->reclaim_queue;

    pthread_mutex_lock(&queue->mutex);
    g_free(queue->damage);
    queue->damage = g_strdup(mapfs_damage_last());
    if (queue->on_damage)
        queue->on_damage(queue->on_damage_user, queue->damage);
    pthread_mutex_unlock(&queue->mutex);
}

void mapfs_fs_on_damage(MapfsFs *fs, MapfsDamageCallback callback, void *user) {
    MapfsReclaimQueue *queue = &fs->reclaim_queue;

    pthread_mutex_lock(&queue->mutex);
    queue->on_damage = callback;
    queue->on_damage_user = user;
    if (callback && queue->damage)
        callback(user, queue->damage);
    pthread_mutex_unlock(&queue->mutex);
}

int mapfs_reclaim_start(MapfsFs *fs) {
    int r;

    r = mapfs_thread_start(&fs->reclaim_thread, reclaim_main, fs);
    fs->reclaim_thread_runs = r == 0;
    return r;
}

void mapfs_reclaim_stop(MapfsFs *fs) {
    mapfs_reclaim_queue_stop(fs);
    if (fs->reclaim_thread_runs)
        (void)pthread_join(fs->reclaim_thread, NULL);
    fs->reclaim_thread_runs = false;
}
