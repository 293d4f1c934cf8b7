/* SPDX-License-Identifier: MIT */

/* Opening and closing a store, and its plain facts. */

#include "txn/store.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "base/mutant.h"
#include "format/items.h"
#include "txn/store-private.h"

/* The reserve: what stays for changes that free space, and for the checkpoints that bring it back. */
#define RESERVE_BLOCKS_MIN 96u
#define RESERVE_BLOCKS_MAX 4096u
#define RESERVE_SHARE 32u
/* A superblock whose counters are not below this leaves a writer no room to count on. */
#define COUNTER_LIMIT_WRITE (MAPFS_COUNTER_LIMIT - (UINT64_C(1) << 48))

/* --- the superblock --- */

static int verdict_error(MapfsSuperblockVerdict verdict) {
    switch (verdict) {
    case MAPFS_SUPERBLOCK_VALID:
        return 0;
    case MAPFS_SUPERBLOCK_EMPTY:
        return -ENODATA;
    case MAPFS_SUPERBLOCK_FOREIGN:
        return -EMEDIUMTYPE;
    case MAPFS_SUPERBLOCK_VERSION:
        return -EPROTONOSUPPORT;
    case MAPFS_SUPERBLOCK_UNSUPPORTED:
        return -EOPNOTSUPP;
    case MAPFS_SUPERBLOCK_DAMAGED:
    default:
        return -EUCLEAN;
    }
}

/* Which error of two slots says more about the image. */
static int error_rank(int error) {
    static const int ranks[] = {-ENODATA, -EMEDIUMTYPE, -EUCLEAN, -EPROTONOSUPPORT, -EOPNOTSUPP};

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(ranks); i++) {
        if (ranks[i] == error)
            return (int)i;
    }
    return -1;
}

/* What a valid slot lists is about to be read, and page by page the host would take long. */
static void slot_read_ahead(MapfsImage *image, const struct mapfs_disk_superblock *slot) {
    for (uint32_t i = 0; i < mapfs_le32_load(slot->n_written); i++) {
        const struct mapfs_disk_written *written = &slot->written[i];

        mapfs_image_read_ahead(image,
                               (MapfsRun){{mapfs_le64_load(written->block)}, mapfs_le32_load(written->n_blocks)});
    }
}

int mapfs_superblock_load(MapfsImage *image, struct mapfs_disk_superblock *ret_superblock) {
    g_autofree struct mapfs_disk_superblock *slots = g_new(struct mapfs_disk_superblock, MAPFS_SUPERBLOCK_SLOTS);
    const void *mapped = mapfs_image_read(image, (MapfsRun){{0}, MAPFS_SUPERBLOCK_SLOTS});
    MapfsSuperblockVerdict verdicts[MAPFS_SUPERBLOCK_SLOTS];
    int chosen, error = 0;

    if (!mapped) {
        (void)mapfs_damage(0, "image", "is shorter than two blocks"); /* the note alone is wanted */
        return -ENODATA;
    }
    /* A live writer may be storing one: copies are judged. */
    memcpy(slots, mapped, MAPFS_SUPERBLOCK_SLOTS * sizeof(*slots));
    for (unsigned i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++) {
        int r;

        verdicts[i] = mapfs_superblock_judge(&slots[i]);
        r = verdict_error(verdicts[i]);
        if (r < 0 && (error == 0 || error_rank(r) > error_rank(error)))
            error = r;
        if (r == 0)
            slot_read_ahead(image, &slots[i]);
    }
    /* A newer slot that this version does not know must not be overlooked. */
    if (error == -EPROTONOSUPPORT || error == -EOPNOTSUPP)
        return error;
    chosen = mapfs_superblock_choose(slots, verdicts, image->base, image->n_blocks);
    if (chosen < 0)
        return error < 0 ? error : -EUCLEAN;
    *ret_superblock = slots[chosen];
    return 0;
}

/* True while its counters leave room for all that a mount could ever count. */
static bool superblock_counts_on(const struct mapfs_disk_superblock *superblock) {
    return mapfs_le64_load(superblock->generation) < COUNTER_LIMIT_WRITE &&
           mapfs_le64_load(superblock->epoch) < COUNTER_LIMIT_WRITE &&
           mapfs_le64_load(superblock->lsn) < COUNTER_LIMIT_WRITE;
}

static int superblock_fits(const MapfsStore *store) {
    uint64_t n_blocks = mapfs_le64_load(store->superblock.n_blocks);

    if (n_blocks > store->image->n_blocks) {
        (void)mapfs_damage(0, "image", "is cut short: it has %lu blocks, its superblock says %lu",
                           (unsigned long)store->image->n_blocks, (unsigned long)n_blocks);
        return -ENOSPC;
    }
    if (!store->options.read_only &&
        (mapfs_le64_load(store->superblock.feature_ro_compat) & ~MAPFS_FEATURE_RO_COMPAT_KNOWN)) {
        (void)mapfs_damage(0, "superblock", "has features that this version can only read (ro_compat 0x%lx)",
                           (unsigned long)mapfs_le64_load(store->superblock.feature_ro_compat));
        return -EROFS;
    }
    if (!store->options.read_only && !superblock_counts_on(&store->superblock)) {
        (void)mapfs_damage(0, "superblock", "its counters are at their end: the image can only be read");
        return -EROFS;
    }
    return 0;
}

/* --- opening --- */

static int load_groups(MapfsStore *store) {
    MapfsKey first = {.object = MAPFS_OBJECT_GROUPS, .kind = MAPFS_KIND_GROUP};
    MapfsCursor cursor;
    MapfsItem item;
    int r;

    r = mapfs_cursor_begin(&cursor, &store->tree, first, &item);
    while (r > 0 && item.key.object == MAPFS_OBJECT_GROUPS) {
        struct mapfs_disk_group group;
        MapfsNodeRef bitmap;

        if (item.value_len != sizeof(group))
            return mapfs_damage(0, "group summary", "has a length of %zu bytes", item.value_len);
        memcpy(&group, item.value, sizeof(group));
        bitmap = (MapfsNodeRef){{mapfs_le64_load(group.bitmap_address)}, {mapfs_le64_load(group.bitmap_generation)}, 0};
        /* One of the running generation would be this mount's own, and stored into in place. */
        if (bitmap.generation.n > STORE_LOAD(store->durable))
            return mapfs_damage(bitmap.address.n, "group summary",
                                "its bitmap has a generation that does not exist yet");
        r = mapfs_space_add_group(store->space, item.key.offset, bitmap, mapfs_le32_load(group.n_free));
        if (r < 0)
            return r;
        r = mapfs_cursor_next(&cursor, &item);
    }
    return r;
}

MapfsStore *mapfs_store_new(MapfsImage *image, const MapfsStoreOptions *options) {
    MapfsStore *store = g_new0(MapfsStore, 1);
    pthread_rwlockattr_t attr;
    pthread_condattr_t monotonic;

    pthread_mutex_init(&store->gate_mutex, NULL);
    pthread_cond_init(&store->gate_cond, NULL);
    pthread_mutex_init(&store->checkpoint_mutex, NULL);
    pthread_mutex_init(&store->release_mutex, NULL);
    pthread_mutex_init(&store->thread_mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&store->thread_cond, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_rwlockattr_init(&attr);
    /* Many readers must not keep the cut waiting. */
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&store->tree_lock, &attr);
    pthread_rwlockattr_destroy(&attr);
    store->born = g_array_new(FALSE, FALSE, sizeof(MapfsBlock));
    store->freed = g_array_new(FALSE, FALSE, sizeof(MapfsRun));
    mapfs_store_data_init(&store->data);
    store->room_mark = UINT64_MAX; /* what earlier mounts have freed may be all the room that there is */
    store->image = image;
    store->options = *options;
    return store;
}

static void load_superblock(MapfsStore *store) {
    const struct mapfs_disk_superblock *superblock = &store->superblock;

    store->n_blocks = mapfs_le64_load(superblock->n_blocks);
    store->first_usable = mapfs_le64_load(superblock->log_start) + mapfs_le64_load(superblock->log_blocks);
    store->checksum_seed = mapfs_le64_load(superblock->checksum_seed);
    store->hash_seed = mapfs_le64_load(superblock->hash_seed);
    store->n_reserve = MAPFS_MIN(MAPFS_MAX(store->n_blocks / RESERVE_SHARE, RESERVE_BLOCKS_MIN), RESERVE_BLOCKS_MAX);
    store->durable = mapfs_le64_load(superblock->generation);
    store->durable_epoch = mapfs_le64_load(superblock->epoch);
    store->running = store->durable + 1;
    store->epoch.n = mapfs_le64_load(superblock->epoch) + 1;
    store->lsn = mapfs_le64_load(superblock->lsn);
    store->next_ino = mapfs_le64_load(superblock->next_ino);
    store->incompat = mapfs_le64_load(superblock->feature_incompat);
    store->n_inodes = mapfs_le64_load(superblock->n_inodes);
    store->n_pending = mapfs_le64_load(superblock->n_pending_blocks);
    store->level = mapfs_le32_load(superblock->root_level);
    store->tree = (MapfsTree){
        .ops = &mapfs_store_tree_ops,
        .store = store,
        .root = {{mapfs_le64_load(superblock->root_address)},
                 {mapfs_le64_load(superblock->root_generation)},
                 (uint8_t)mapfs_le32_load(superblock->root_level)},
        .running = {store->running},
    };
}

int mapfs_store_load(MapfsStore *store) {
    load_superblock(store);
    store->verified = g_try_new0(uint64_t, store->n_blocks / 64 + 1);
    if (!store->verified)
        return -ENOMEM;
    if (store->options.read_only)
        return 0;
    return mapfs_space_new(store->image, store->n_blocks, store->first_usable, store->checksum_seed, &store->space);
}

/* What the superblock lists may be in the host's memory alone, and not dirty any more: the process before had its sync failed. It is read anew
 * from the disk, as are the superblocks. */
static void drop_written(MapfsStore *store) {
    const struct mapfs_disk_superblock *superblock = &store->superblock;

    for (uint32_t i = 0; i < mapfs_le32_load(superblock->n_written); i++) {
        const struct mapfs_disk_written *written = &superblock->written[i];

        mapfs_image_drop(store->image,
                         (MapfsRun){{mapfs_le64_load(written->block)}, mapfs_le32_load(written->n_blocks)});
    }
    mapfs_image_drop(store->image, (MapfsRun){{0}, MAPFS_SUPERBLOCK_SLOTS});
}

/* After a kill -9 the host may have what is mounted now in memory alone. What follows is built on it, and the blocks that it freed will
 * be used again: it is made durable first. An unmount that was killed may have left its superblock so, and nothing else: the rest was
 * durable before that was stored. If its sync failed, the superblock is the one before once it has been read anew. */
static int settle_image(MapfsStore *store) {
    MapfsRun all = {{0}, mapfs_le64_load(store->superblock.n_blocks)}, slots = {{0}, MAPFS_SUPERBLOCK_SLOTS};
    int r;

    if (MAPFS_MUTANT("unsettled-mount"))
        return 0;
    if (mapfs_le64_load(store->superblock.flags) & MAPFS_SUPERBLOCK_CLEAN)
        r = mapfs_image_sync(store->image, MAPFS_SYNC_META, &slots, 1);
    else
        r = mapfs_image_sync(store->image, MAPFS_SYNC_DATA, &all, 1);
    if (r < 0)
        return r;
    drop_written(store);
    r = mapfs_superblock_load(store->image, &store->superblock);
    return r < 0 ? r : superblock_fits(store);
}

/* A newer checkpoint that a power cut has left in part must not become whole by what is stored from now on into the blocks that it missed: programs
 * do the same again after a crash. */
static int clear_rejected(MapfsStore *store) {
    uint64_t generation = mapfs_le64_load(store->superblock.generation);
    MapfsRun slot = {{(generation + 1) % MAPFS_SUPERBLOCK_SLOTS}, 1};
    const void *mapped = mapfs_image_read(store->image, slot);
    g_autofree struct mapfs_disk_superblock *other = g_memdup2(mapped, sizeof(*other));

    if (mapfs_superblock_judge(other) != MAPFS_SUPERBLOCK_VALID || mapfs_le64_load(other->generation) <= generation)
        return 0;
    memset(store_block(store, slot.start), 0, MAPFS_BLOCK_SIZE);
    return mapfs_image_sync(store->image, MAPFS_SYNC_META, &slot, 1);
}

static int store_setup(MapfsStore *store) {
    int r;

    r = mapfs_superblock_load(store->image, &store->superblock);
    if (r < 0)
        return r;
    r = superblock_fits(store);
    if (r == 0 && !store->options.read_only)
        r = settle_image(store);
    if (r < 0)
        return r;
    r = mapfs_store_load(store);
    if (r == 0)
        r = mapfs_store_check_log(store);
    if (r < 0 || store->options.read_only)
        return r;
    r = clear_rejected(store);
    if (r < 0)
        return r;
    r = load_groups(store);
    if (r < 0)
        return r;
    /* What was freed before a crash is known to nobody, and what still waits for a checkpoint is to get one without another change. */
    if (store->options.discard && !(mapfs_le64_load(store->superblock.flags) & MAPFS_SUPERBLOCK_CLEAN)) {
        mapfs_space_trim_note_all(store->space);
        store->n_settle = SETTLE_CHECKPOINTS;
    }
    return store->options.threads ? mapfs_store_threads_start(store) : 0;
}

int mapfs_store_open(MapfsImage *image, const MapfsStoreOptions *options, MapfsStore **ret_store) {
    MapfsStore *store = mapfs_store_new(image, options);
    int r;

    r = store_setup(store);
    if (r < 0) {
        mapfs_store_abandon(store);
        return r;
    }
    *ret_store = store;
    return 0;
}

/* --- closing --- */

void mapfs_store_abandon(MapfsStore *store) {
    if (!store)
        return;
    mapfs_store_threads_stop(store);
    mapfs_space_free(store->space);
    g_free(store->verified);
    g_array_unref(store->born);
    g_array_unref(store->freed);
    mapfs_store_data_clear(&store->data);
    pthread_rwlock_destroy(&store->tree_lock);
    pthread_mutex_destroy(&store->gate_mutex);
    pthread_cond_destroy(&store->gate_cond);
    pthread_mutex_destroy(&store->checkpoint_mutex);
    pthread_mutex_destroy(&store->release_mutex);
    pthread_mutex_destroy(&store->thread_mutex);
    pthread_cond_destroy(&store->thread_cond);
    g_free(store);
}

/* Who deletes and unmounts wants the space too, and the next mount does not know what was freed. */
static void give_back_last(MapfsStore *store) {
    if (!store->options.discard)
        return;
    if (STORE_LOAD(store->n_pending) >= SETTLE_BLOCKS)
        (void)mapfs_store_make_room(store); /* the last checkpoint meets the same errors */
    mapfs_store_trim_noted(store);
}

int mapfs_store_close(MapfsStore *store) {
    int r = 0;

    mapfs_store_threads_stop(store);
    if (!store->options.read_only) {
        give_back_last(store);
        r = mapfs_store_checkpoint_last(store);
    }
    mapfs_store_abandon(store);
    return r;
}

/* --- facts --- */

void mapfs_store_superblock(MapfsStore *store, struct mapfs_disk_superblock *ret_superblock) {
    pthread_mutex_lock(&store->checkpoint_mutex);
    *ret_superblock = store->superblock;
    pthread_mutex_unlock(&store->checkpoint_mutex);
}

void mapfs_store_status(MapfsStore *store, MapfsStoreStatus *ret_status) {
    MapfsSpaceStatus space = {0};

    if (store->space)
        mapfs_space_status(store->space, &space);
    else
        space.n_free = mapfs_le64_load(store->superblock.n_free_blocks);
    *ret_status = (MapfsStoreStatus){
        .n_blocks = store->n_blocks,
        .n_free = space.n_free,
        .n_pending = STORE_LOAD(store->n_pending),
        .n_reserve = store->n_reserve,
        .n_inodes = STORE_LOAD(store->n_inodes),
        .n_dirty = STORE_LOAD(store->n_born),
        .durable = {STORE_LOAD(store->durable)},
        .running = {STORE_LOAD(store->running)},
        .n_checkpoints = STORE_LOAD(store->n_checkpoints),
    };
}

int mapfs_store_error(MapfsStore *store) {
    if (mapfs_image_error(store->image) < 0)
        return -EIO;
    return store->options.read_only ? -EROFS : 0;
}

bool mapfs_store_is_lost(MapfsStore *store, MapfsEpoch birth) {
    return mapfs_image_writes_lost(store->image) && birth.n > STORE_LOAD(store->durable_epoch);
}

MapfsTree *mapfs_store_tree(MapfsStore *store) {
    return &store->tree;
}

void mapfs_store_read_lock(MapfsStore *store) {
    pthread_rwlock_rdlock(&store->tree_lock);
}

void mapfs_store_read_unlock(MapfsStore *store) {
    pthread_rwlock_unlock(&store->tree_lock);
}

uint64_t mapfs_store_hash_seed(const MapfsStore *store) {
    return store->hash_seed;
}

MapfsImage *mapfs_store_image(MapfsStore *store) {
    return store->image;
}
