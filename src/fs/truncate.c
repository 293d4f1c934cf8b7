/* SPDX-License-Identifier: MIT */

/* Setting a file's size. The size changes at once; extents past it are freed in bounded steps, the inode being an orphan with a
 * cut until the last is gone, and nothing makes it longer before. A file that grows keeps what was preallocated past its end. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "fs/acl-private.h"
#include "fs/data-private.h"
#include "fs/flags-private.h"

/* Units of work (data-private.h) that a TRUNCATE does itself; and on an image so full that it has no blocks for that. */
#define TRUNCATE_UNITS 64u
#define TRUNCATE_UNITS_MIN 1u

static uint64_t cut_of(uint64_t size) {
    return mapfs_blocks_for_bytes(size);
}

/* Notes that the tail past `cut` is still to go. */
static int orphan_set_cut(MapfsTree *tree, uint64_t ino, uint64_t cut) {
    struct mapfs_disk_orphan orphan = {0};
    int r;

    r = mapfs_orphan_load(tree, ino, &orphan);
    if (r < 0)
        return r;
    orphan.flags = mapfs_le32_store(mapfs_le32_load(orphan.flags) | MAPFS_ORPHAN_TRUNCATED);
    orphan.cut = mapfs_le64_store(cut << MAPFS_BLOCK_SHIFT);
    return mapfs_tree_put(tree, mapfs_orphan_key(ino), &orphan, sizeof(orphan));
}

/* -errno: nothing has changed, or the image has failed. */
static int truncate_tail(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, unsigned n_units, struct mapfs_disk_inode *inode) {
    uint64_t cut = cut_of(mapfs_le64_load(inode->size));
    uint64_t n_freed;
    int r;

    r = mapfs_extent_drop_tail(txn, ino, cut, n_units, &n_freed);
    if (r < 0)
        return r;
    inode->n_blocks = mapfs_le64_store(mapfs_le64_load(inode->n_blocks) - n_freed);
    if (r > 0)
        return 0;
    r = orphan_set_cut(mapfs_store_tree(fs->store), ino, cut);
    return r < 0 ? mapfs_apply_broken(fs, r) : 0;
}

int mapfs_apply_truncate(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) {
    const struct mapfs_disk_record_truncate *truncate = (const struct mapfs_disk_record_truncate *)record;
    uint64_t ino = mapfs_le64_load(truncate->ino);
    uint32_t flags = mapfs_le32_load(truncate->flags);
    struct mapfs_disk_inode inode;
    bool grows;
    int r;

    r = mapfs_apply_file_begin(fs, txn, ino, flags, &inode);
    if (r < 0)
        return r;
    grows = mapfs_le64_load(truncate->size) > mapfs_le64_load(inode.size);
    inode.size = truncate->size;
    r = grows ? 0 : truncate_tail(fs, txn, ino, mapfs_le32_load(truncate->n_extents), &inode);
    if (r < 0)
        return flags & MAPFS_WRITE_STRIP ? mapfs_apply_broken(fs, r) : r;
    return mapfs_apply_file_end(fs, record, ino, flags, &inode);
}

/* --- the operation --- */

typedef struct {
    MapfsFs *fs;
    uint64_t ino, size;
    unsigned flags;        /* of records */
    unsigned n_units;      /* of work that the record does */
    unsigned mask;         /* what else is to be changed, */
    const MapfsAttr *attr; /* and to what */
    MapfsTxn txn;
    struct mapfs_disk_inode inode;
    size_t inline_len;
    uint8_t inline_bytes[MAPFS_INLINE_MAX];
    bool any_shared; /* among the extents that the record drops */
    MapfsRun moved;  /* the new place of the block that the size lies in; none: n_blocks 0 */
} Truncate;

static int truncate_load(Truncate *truncate) {
    MapfsStore *store = truncate->fs->store;
    int r;

    truncate->inline_len = 0;
    mapfs_store_read_lock(store);
    r = mapfs_inode_load(mapfs_store_tree(store), truncate->ino, &truncate->inode);
    if (r == 0 && mapfs_le64_load(truncate->inode.n_blocks) == 0)
        r = mapfs_inline_load(mapfs_store_tree(store), truncate->ino, mapfs_le64_load(truncate->inode.size),
                              truncate->inline_bytes);
    if (r >= 0) {
        truncate->inline_len = (size_t)r;
        r = mapfs_extent_any_shared(mapfs_store_tree(store), truncate->ino, truncate->size >> MAPFS_BLOCK_SHIFT,
                                    TRUNCATE_UNITS, &truncate->any_shared);
    }
    /* It comes after the size, and too late for damage. */
    if (r == 0 && truncate->mask & MAPFS_SET_MODE)
        r = mapfs_acl_check(truncate->fs, truncate->ino, &truncate->inode);
    mapfs_store_read_unlock(store);
    if (r < 0)
        return r;
    if (!S_ISREG(mapfs_le32_load(truncate->inode.mode)))
        return S_ISDIR(mapfs_le32_load(truncate->inode.mode)) ? -EISDIR : -EINVAL;
    return mapfs_flags_check_change(&truncate->inode);
}

/* The content stays in the tree. */
static int run_inline(Truncate *truncate) {
    struct {
        struct mapfs_disk_record_inline record;
        uint8_t bytes[MAPFS_INLINE_MAX + 8];
    } content;

    memset(&content, 0, sizeof(content));
    mapfs_record_init(&content.record.header, MAPFS_RECORD_INLINE, sizeof(content.record) + truncate->size,
                      mapfs_fs_now());
    content.record.ino = mapfs_le64_store(truncate->ino);
    content.record.flags = mapfs_le32_store(truncate->flags);
    content.record.len_bytes = mapfs_le16_store((uint16_t)truncate->size);
    memcpy((uint8_t *)&content + sizeof(content.record), truncate->inline_bytes,
           MAPFS_MIN(truncate->inline_len, truncate->size));
    mapfs_txn_lock(&truncate->txn);
    return mapfs_record_run(truncate->fs, &truncate->txn, &content.record.header);
}

/* The block that the end of the file lies in, before or after. 1 with its extent, 0 for a hole. */
static int end_block(Truncate *truncate, uint64_t logical, MapfsExtent *ret_extent) {
    MapfsStore *store = truncate->fs->store;
    int r;

    mapfs_store_read_lock(store);
    r = mapfs_extent_find(mapfs_store_tree(store), truncate->ino, logical, ret_extent);
    mapfs_store_read_unlock(store);
    return r > 0 && (ret_extent->logical > logical || (ret_extent->flags & MAPFS_EXTENT_UNWRITTEN)) ? 0 : r;
}

static int extent_damage(const MapfsExtent *extent) {
    return mapfs_damage(extent->block, "extent", "of %" PRIu64 " blocks does not lie in the image", extent->n_blocks);
}

/* Gives `logical` a new block with these first bytes, then zeros. */
static int move_block(Truncate *truncate, const uint8_t *bytes, size_t len, uint64_t near) {
    uint8_t *memory;
    int r;

    r = mapfs_txn_allocate(&truncate->txn, (MapfsGoal){.block = {near}}, 1, &truncate->moved);
    if (r < 0)
        return r;
    memory = mapfs_txn_data(&truncate->txn, truncate->moved);
    if (!memory) {
        r = mapfs_txn_data_damage(truncate->moved);
        mapfs_txn_cancel(&truncate->txn, truncate->moved);
        truncate->moved.n_blocks = 0;
        return r;
    }
    memcpy(memory, bytes, len);
    memset(memory + len, 0, MAPFS_BLOCK_SIZE - len);
    return 0;
}

/* A size within a block is a write of that block: what lies past the end must be zeros, for the day the file grows again. */
static int prepare_shrink(Truncate *truncate) {
    uint64_t logical = truncate->size >> MAPFS_BLOCK_SHIFT;
    size_t len = truncate->size % MAPFS_BLOCK_SIZE;
    const uint8_t *bytes;
    MapfsExtent extent;
    MapfsRun block;
    uint8_t *memory;
    int r;

    if (len == 0)
        return 0;
    r = end_block(truncate, logical, &extent);
    if (r <= 0)
        return r;
    block = (MapfsRun){{extent.block + (logical - extent.logical)}, 1};
    if (!(extent.flags & MAPFS_EXTENT_SHARED) && mapfs_txn_unsealed(&truncate->txn, (MapfsEpoch){extent.birth_epoch})) {
        memory = mapfs_txn_data(&truncate->txn, block);
        if (memory)
            memset(memory + len, 0, MAPFS_BLOCK_SIZE - len);
        return memory ? 0 : extent_damage(&extent);
    }
    bytes = mapfs_image_read(mapfs_store_image(truncate->fs->store), block);
    return bytes ? move_block(truncate, bytes, len, extent.block) : extent_damage(&extent);
}

/* Content that no longer fits into the tree gets a block. */
static int prepare_grow(Truncate *truncate) {
    return truncate->inline_len > 0 ? move_block(truncate, truncate->inline_bytes, truncate->inline_len, 0) : 0;
}

static int run_move(Truncate *truncate) {
    uint64_t size_before = mapfs_le64_load(truncate->inode.size);
    uint64_t logical = truncate->inline_len > 0 ? 0 : truncate->size >> MAPFS_BLOCK_SHIFT;
    struct mapfs_disk_record_map map;

    memset(&map, 0, sizeof(map));
    mapfs_record_init(&map.header, MAPFS_RECORD_MAP, sizeof(map), mapfs_fs_now());
    map.ino = mapfs_le64_store(truncate->ino);
    map.logical = mapfs_le64_store(logical);
    map.block = mapfs_le64_store(truncate->moved.start.n);
    map.n_blocks = mapfs_le32_store(1);
    map.size = mapfs_le64_store(size_before);
    map.birth_epoch = mapfs_le64_store(truncate->txn.epoch.n);
    map.flags = mapfs_le32_store(MAPFS_WRITE_NO_TIMES);
    return mapfs_record_run(truncate->fs, &truncate->txn, &map.header);
}

static int run_size(Truncate *truncate) {
    struct mapfs_disk_record_truncate record;
    int r = 0;

    memset(&record, 0, sizeof(record));
    mapfs_record_init(&record.header, MAPFS_RECORD_TRUNCATE, sizeof(record), mapfs_fs_now());
    record.ino = mapfs_le64_store(truncate->ino);
    record.size = mapfs_le64_store(truncate->size);
    record.flags = mapfs_le32_store(truncate->flags);
    record.n_extents = mapfs_le32_store(truncate->n_units);
    mapfs_txn_lock(&truncate->txn);
    if (truncate->moved.n_blocks > 0)
        r = run_move(truncate);
    if (r < 0) {
        mapfs_txn_cancel(&truncate->txn, truncate->moved);
        return r;
    }
    r = mapfs_record_run(truncate->fs, &truncate->txn, &record.header);
    return r < 0 && truncate->moved.n_blocks > 0 ? mapfs_apply_broken(truncate->fs, r) : r;
}

/* The other attributes, after the size: it sets times that the caller may want otherwise. No cut comes between. */
static int run_attributes(Truncate *truncate) {
    int r;

    if (truncate->mask == 0)
        return 0;
    r = mapfs_attr_change(truncate->fs, &truncate->txn, truncate->ino, truncate->mask, truncate->attr);
    return r < 0 ? mapfs_apply_broken(truncate->fs, r) : 0;
}

static unsigned truncate_changes(const Truncate *truncate) {
    /* Inode, moved block, content that leaves the tree, orphan, what is stripped, the tail, other attributes. */
    unsigned n = 4 + MAPFS_STRIP_CHANGES + mapfs_extent_changes(truncate->n_units) + mapfs_attr_changes(truncate->mask);

    if (truncate->any_shared)
        n += mapfs_shared_changes_whole(1) + mapfs_shared_changes(truncate->n_units);
    return n;
}

static int truncate_begin(Truncate *truncate, MapfsTxnKind kind) {
    int r;

    truncate->n_units = TRUNCATE_UNITS;
    r = mapfs_txn_begin(truncate->fs->store, kind, truncate_changes(truncate), &truncate->txn);
    if (r != -ENOSPC)
        return r;
    truncate->n_units = TRUNCATE_UNITS_MIN;
    return mapfs_txn_begin(truncate->fs->store, kind, truncate_changes(truncate), &truncate->txn);
}

static int truncate_once(Truncate *truncate) {
    uint64_t size_before;
    bool grows;
    int r;

    r = truncate_load(truncate);
    if (r < 0)
        return r;
    size_before = mapfs_le64_load(truncate->inode.size);
    grows = truncate->size > size_before;
    truncate->moved.n_blocks = 0;
    r = truncate_begin(truncate, grows ? MAPFS_TXN_GROWS : MAPFS_TXN_FREES);
    if (r < 0)
        return r;
    if (truncate->inline_len > 0 && truncate->size <= MAPFS_INLINE_MAX) {
        r = run_inline(truncate);
    } else {
        r = grows ? prepare_grow(truncate) : prepare_shrink(truncate);
        if (r == 0)
            r = run_size(truncate);
    }
    if (r == 0)
        r = run_attributes(truncate);
    mapfs_txn_end(&truncate->txn);
    return r;
}

/* The size is set, whatever came of the tail: its orphan item keeps the work. */
static void finish_later(MapfsFs *fs, uint64_t ino, int result) {
    if (result == -EUCLEAN)
        mapfs_reclaim_tell_damage(fs);
    if (result == -ENOSPC)
        mapfs_fs_queue_reclaim(fs, ino);
}

int mapfs_fs_truncate(MapfsFs *fs, uint64_t ino, unsigned mask, const MapfsAttr *attr) {
    uint64_t size = attr->size;
    const MapfsKey keys[] = {mapfs_inode_key(ino), mapfs_extent_key(ino, size >> MAPFS_BLOCK_SHIFT)};
    g_autofree Truncate *truncate = g_new0(Truncate, 1);
    int r;

    if (size > MAPFS_FILE_SIZE_MAX)
        return -EFBIG;
    *truncate = (Truncate){.fs = fs,
                           .ino = ino,
                           .size = size,
                           .flags = mask & MAPFS_SET_KILL_PRIV ? MAPFS_WRITE_STRIP : 0,
                           .mask = mask & ~(MAPFS_SET_SIZE | MAPFS_SET_KILL_PRIV),
                           .attr = attr};
    mapfs_store_prefetch(fs->store, keys, MAPFS_N_ELEMENTS(keys));
    mapfs_inode_lock(fs, ino);
    r = mapfs_fs_finish_truncate(fs, ino);
    if (r == 0)
        r = truncate_once(truncate);
    for (unsigned i = 0; r == -ENOSPC && i < MAPFS_ROOM_TRIES; i++) {
        int room = mapfs_fs_make_room(fs);

        if (room < 0)
            r = room;
        if (room <= 0)
            break;
        r = truncate_once(truncate);
    }
    if (r == 0)
        finish_later(fs, ino, mapfs_fs_finish_truncate(fs, ino));
    mapfs_inode_unlock(fs, ino);
    return r;
}
