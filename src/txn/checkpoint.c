/* SPDX-License-Identifier: MIT */

/* A checkpoint: cut, seal, write nodes and data, publish. Its steps, and what a crash right after each leaves:
 *
 *  1. cut       the generation is closed, operations go on in the next: nothing durable has changed
 *  2. seal      checksums are stored into the new nodes: still only blocks that no durable state refers to
 *  3. write     nodes and data are durable: the last superblock does not know them, the state before mounts
 *  4. publish   the other superblock slot is stored and synced: in between, either superblock may be found, whole or not; the slot of
 *               the state before is not touched, and a torn slot fails its checksum
 *
 * A small checkpoint does 3 and 4 under one flush: its superblock lists the blocks with a checksum of what they hold. A crash in between may
 * leave the superblock and not all of its blocks; a mount sees that and takes the other slot, which was durable before.
 *
 * checkpoint_mutex is held throughout. */

#include <errno.h>
#include <string.h>

#include "base/mutant.h"
#include "format/node.h"
#include "format/superblock.h"
#include "format/time.h"
#include "txn/runs-private.h"
#include "txn/store-private.h"

/* A checkpoint of up to 2 MiB goes under one flush, of a small image up to a quarter of it: a mount after a crash reads as much. Beside a stream
 * (behind.c) most are smaller. */
#define ONE_FLUSH_BLOCKS 512u

static int freeze(MapfsStore *store, StoreFrozen *ret_frozen) {
    uint64_t n_claimed;
    int r;

    mapfs_store_gate_close(store);
    /* The last transaction may have changed many groups after it looked what the cut will take, and the host is not asked under the
     * tree lock. On an image without so many blocks the cut may still do with less. */
    n_claimed = mapfs_store_cut_blocks(store);
    if (mapfs_space_claim(store->space, n_claimed, 0) < 0)
        n_claimed = 0;
    pthread_rwlock_wrlock(&store->tree_lock);
    r = mapfs_store_cut(store, ret_frozen);
    pthread_rwlock_unlock(&store->tree_lock);
    mapfs_space_unclaim(store->space, n_claimed);
    mapfs_store_gate_open(store);
    return r;
}

static void seal(MapfsStore *store, const StoreFrozen *frozen) {
    for (guint i = 0; i < frozen->born->len; i++) {
        MapfsBlock address = g_array_index(frozen->born, MapfsBlock, i);
        void *block = store_block(store, address);

        mapfs_header_seal(block, store->checksum_seed);
    }
}

/* All that the checkpoint has to make durable besides its superblock. */
static GArray *written_runs(const StoreFrozen *frozen) {
    GArray *runs = g_array_sized_new(FALSE, FALSE, sizeof(MapfsRun), frozen->born->len + frozen->data->len + 1);

    for (guint i = 0; i < frozen->born->len; i++) {
        MapfsRun run = {g_array_index(frozen->born, MapfsBlock, i), 1};

        g_array_append_val(runs, run);
    }
    g_array_append_vals(runs, frozen->data->data, frozen->data->len);
    (void)mapfs_store_runs_join(runs); /* data is stored twice into the same block as a matter of course */
    return runs;
}

static int sync_runs(MapfsStore *store, const GArray *runs) {
    return mapfs_image_sync(store->image, MAPFS_SYNC_DATA, (const MapfsRun *)(void *)runs->data, runs->len);
}

/* Lists the runs in the superblock, with a checksum of what they hold, if there are few enough of them. */
static bool list_written(MapfsStore *store, const GArray *runs) {
    struct mapfs_disk_superblock *superblock = &store->superblock;
    guint n_runs = runs->len - (MAPFS_MUTANT("unlisted-run") && runs->len > 1);
    uint64_t n_blocks = 0;

    for (guint i = 0; i < runs->len; i++)
        n_blocks += g_array_index(runs, MapfsRun, i).n_blocks;
    if (runs->len > MAPFS_WRITTEN_RUNS_MAX || n_blocks > MAPFS_MIN(ONE_FLUSH_BLOCKS, store->n_blocks / 4))
        return false;
    for (guint i = 0; i < n_runs; i++) {
        MapfsRun run = g_array_index(runs, MapfsRun, i);

        superblock->written[i].block = mapfs_le64_store(run.start.n);
        superblock->written[i].n_blocks = mapfs_le32_store((uint32_t)run.n_blocks);
    }
    superblock->n_written = mapfs_le32_store(n_runs);
    superblock->written_checksum = mapfs_le64_store(mapfs_superblock_written_checksum(superblock, store->image->base));
    return true;
}

static void list_clear(MapfsStore *store) {
    store->superblock.n_written = mapfs_le32_store(0);
    store->superblock.written_checksum = mapfs_le64_store(0);
    memset(store->superblock.written, 0, sizeof(store->superblock.written));
}

static uint64_t write_time(const MapfsStore *store) {
    struct timespec now;

    if (store->write_time != 0)
        return store->write_time;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with this clock */
    return mapfs_time_from_timespec(now);
}

static void fill_superblock(MapfsStore *store, const StoreFrozen *frozen) {
    struct mapfs_disk_superblock *superblock = &store->superblock;
    uint64_t flags = mapfs_le64_load(superblock->flags) & ~MAPFS_SUPERBLOCK_CLEAN;
    uint64_t n_inodes = MAPFS_MUTANT("running-count") ? STORE_LOAD(store->n_inodes) : frozen->n_inodes;

    superblock->generation = mapfs_le64_store(frozen->generation.n);
    superblock->epoch = mapfs_le64_store(frozen->epoch.n);
    superblock->lsn = mapfs_le64_store(frozen->lsn);
    superblock->root_address = mapfs_le64_store(frozen->root.address.n);
    superblock->root_generation = mapfs_le64_store(frozen->root.generation.n);
    superblock->root_level = mapfs_le32_store(frozen->root.level);
    superblock->next_ino = mapfs_le64_store(frozen->next_ino);
    superblock->feature_incompat = mapfs_le64_store(frozen->incompat);
    superblock->n_inodes = mapfs_le64_store(n_inodes);
    superblock->n_free_blocks = mapfs_le64_store(frozen->n_free);
    superblock->n_pending_blocks = mapfs_le64_store(frozen->n_pending);
    superblock->write_time = mapfs_le64_store(write_time(store));
    superblock->flags = mapfs_le64_store(flags | (frozen->clean ? MAPFS_SUPERBLOCK_CLEAN : 0));
}

/* Stores the superblock into its slot, which is not synced yet. An error by now may have spoiled what it would name: a page that was lost, a change
 * that broke off half-way. Later ones cannot; and what is stored here the kernel may write at any time. */
static int store_superblock(MapfsStore *store, MapfsRun slot) {
    int r;

    r = mapfs_image_error(store->image);
    if (r < 0)
        return r;
    mapfs_superblock_seal(&store->superblock);
    /* Counters that a damaged image has made impossible must not cost the slot: no mount would take it. */
    if (mapfs_superblock_judge(&store->superblock) != MAPFS_SUPERBLOCK_VALID)
        return -EUCLEAN;
    memcpy(store_block(store, slot.start), &store->superblock, sizeof(store->superblock));
    if (MAPFS_MUTANT("one-slot"))
        memset(store_block(store, (MapfsBlock){1 - slot.start.n}), 0, MAPFS_BLOCK_SIZE);
    return 0;
}

static int sync_slot(MapfsStore *store, MapfsRun slot) {
    if (MAPFS_MUTANT("skip-superblock-sync"))
        return 0;
    return mapfs_image_sync(store->image, MAPFS_SYNC_META, &slot, 1);
}

/* Blocks and superblock together, under one flush. */
static int publish_together(MapfsStore *store, GArray *runs, MapfsRun slot) {
    int r;

    r = store_superblock(store, slot);
    if (r < 0)
        return r;
    if (!MAPFS_MUTANT("skip-superblock-sync"))
        g_array_append_val(runs, slot);
    return sync_runs(store, runs);
}

/* The superblock only when the blocks are durable. */
static int publish_after(MapfsStore *store, const GArray *runs, MapfsRun slot) {
    bool unsynced = MAPFS_MUTANT("skip-data-sync"), late = MAPFS_MUTANT("publish-first");
    int r = 0;

    if (!unsynced && !late)
        r = sync_runs(store, runs);
    if (r == 0)
        r = store_superblock(store, slot);
    if (r == 0)
        r = sync_slot(store, slot);
    return r == 0 && late ? sync_runs(store, runs) : r;
}

static int write_and_publish(MapfsStore *store, const StoreFrozen *frozen) {
    MapfsRun slot = {{frozen->generation.n % MAPFS_SUPERBLOCK_SLOTS}, 1};
    g_autoptr(GArray) runs = written_runs(frozen);

    seal(store, frozen);
    fill_superblock(store, frozen);
    list_clear(store);
    /* What an orderly unmount leaves is not to hang on a list: damage to one of its blocks is then told, not taken for a power cut. */
    if (!frozen->clean && list_written(store, runs))
        return publish_together(store, runs, slot);
    return publish_after(store, runs, slot);
}

int mapfs_store_checkpoint(MapfsStore *store, bool clean) {
    bool changed = STORE_LOAD(store->changed);
    StoreFrozen frozen;
    int r;

    r = mapfs_store_error(store);
    if (r < 0)
        return r;
    r = freeze(store, &frozen);
    if (r < 0)
        return r;
    frozen.clean = clean;
    r = write_and_publish(store, &frozen);
    g_array_unref(frozen.born);
    g_array_unref(frozen.data);
    if (r < 0) {
        mapfs_image_fail(store->image, r);
        return r;
    }
    STORE_SET(store->durable, frozen.generation.n);
    STORE_SET(store->durable_epoch, frozen.epoch.n);
    STORE_ADD(store->n_checkpoints, 1);
    store->n_settle = changed ? SETTLE_CHECKPOINTS : store->n_settle - MAPFS_MIN(store->n_settle, 1u);
    return 0;
}

/* Gives back what can be: by the thread for it, or here. */
static int checkpoint_and_release(MapfsStore *store, bool clean) {
    int r;

    r = mapfs_store_checkpoint(store, clean);
    if (r < 0)
        return r;
    if (store->threads_run) {
        mapfs_store_kick_release(store);
        return 0;
    }
    return mapfs_store_release_pending(store);
}

int mapfs_store_sync_changes(MapfsStore *store) {
    bool changed = STORE_LOAD(store->changed);
    /* Read after `changed`: when that was false, all changes lie before the running generation. */
    uint64_t wanted = STORE_LOAD(store->running) - (changed ? 0 : 1);
    int r = 0;

    if (store->options.read_only)
        return 0;
    pthread_mutex_lock(&store->checkpoint_mutex);
    if (STORE_LOAD(store->durable) < wanted)
        r = checkpoint_and_release(store, false);
    else
        r = mapfs_store_error(store);
    pthread_mutex_unlock(&store->checkpoint_mutex);
    return r;
}

int mapfs_store_sync(MapfsStore *store) {
    int r;

    mapfs_store_pace_sync(store, true);
    r = mapfs_store_sync_changes(store);
    mapfs_store_pace_sync(store, false);
    return r;
}

/* With the checkpoint mutex. What was freed in one generation comes back when the next is durable: two checkpoints, and a third for
 * what the first one was still holding. */
static int make_room(MapfsStore *store) {
    MapfsSpaceStatus before, after;
    int r;

    mapfs_space_status(store->space, &before);
    for (unsigned i = 0; i < 3; i++) {
        r = mapfs_store_checkpoint(store, false);
        if (r == 0)
            r = mapfs_store_release_pending(store);
        if (r < 0)
            return r;
    }
    mapfs_space_status(store->space, &after);
    return after.n_free > before.n_free;
}

int mapfs_store_make_room(MapfsStore *store) {
    uint64_t n_ended;
    int r = 0;

    if (store->options.read_only)
        return -EROFS;
    pthread_mutex_lock(&store->checkpoint_mutex);
    n_ended = STORE_LOAD(store->n_ended);
    /* When nothing has changed since it last found nothing more, it will not find more now: this ends retries. */
    if (n_ended != store->room_mark || STORE_LOAD(store->changed))
        r = make_room(store);
    else
        r = mapfs_store_error(store);
    /* Unless a reader keeps blocks back: its end changes nothing, and brings them. */
    store->room_mark = mapfs_store_oldest_reader(store) < STORE_LOAD(store->durable) ? UINT64_MAX : n_ended;
    pthread_mutex_unlock(&store->checkpoint_mutex);
    return r;
}

int mapfs_store_checkpoint_last(MapfsStore *store) {
    int r = 0;

    pthread_mutex_lock(&store->checkpoint_mutex);
    /* Also when a crash came before this mount: `mapfs umount` tells by the mark whether the end was orderly. */
    if (STORE_LOAD(store->changed) || STORE_LOAD(store->n_checkpoints) > 0 ||
        !(mapfs_le64_load(store->superblock.flags) & MAPFS_SUPERBLOCK_CLEAN))
        r = mapfs_store_checkpoint(store, true);
    else
        r = mapfs_store_error(store);
    pthread_mutex_unlock(&store->checkpoint_mutex);
    return r;
}

int mapfs_store_checkpoint_interval(MapfsStore *store) {
    int r = 0;

    if (STORE_LOAD(store->changed))
        return mapfs_store_sync_changes(store);
    pthread_mutex_lock(&store->checkpoint_mutex);
    if (store->n_settle > 0 && STORE_LOAD(store->n_pending) >= SETTLE_BLOCKS)
        r = checkpoint_and_release(store, false);
    pthread_mutex_unlock(&store->checkpoint_mutex);
    return r;
}

int mapfs_store_set_label(MapfsStore *store, const char *label, size_t len) {
    if (len > sizeof(store->superblock.label))
        return -EINVAL;
    if (store->options.read_only)
        return -EROFS;
    pthread_mutex_lock(&store->checkpoint_mutex);
    memset(store->superblock.label, 0, sizeof(store->superblock.label));
    memcpy(store->superblock.label, label, len);
    STORE_SET(store->changed, true);
    pthread_mutex_unlock(&store->checkpoint_mutex);
    return mapfs_store_sync(store);
}
