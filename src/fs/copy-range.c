/* SPDX-License-Identifier: MIT */

/* Copying a part of a file into another: whole blocks are shared, by one CLONE record; what cannot be shared is copied as a write. A call
 * is one transaction, so it does as much as fits into one, and says how much that was:
 *
 *  - blocks can be shared when both offsets are at the start of a block. The last block of the source may be a part of one if the
 *    copy ends the other file too: the bytes after it are zeros in both;
 *  - how many depends on how many extents they are in; a large file's are up to 128 MiB long;
 *  - on an image without room for the counts, and where the counts end, bytes are copied. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "fs/data-private.h"
#include "fs/flags-private.h"

/* Fewer blocks are copied: counting them costs more. */
#define SHARE_BLOCKS_MIN 4u

/* What one record may do: parts that are counted, each with an extent of its own, and units of work (data-private.h) on what the other file had
 * there. And on an image so full that it has no blocks for that. */
typedef struct {
    unsigned n_parts, n_units;
} Bound;
static const Bound bounds[] = {{32, 64}, {2, MAPFS_SHARED_UNITS}};

typedef struct {
    MapfsFs *fs;
    const MapfsCopyRange *range;
    uint32_t flags;                    /* of records */
    uint64_t len;                      /* of the range, up to the source's end */
    uint64_t source_size, size_before; /* before: of the other file */
    bool from_inline, to_inline;
} Copy;

static uint64_t block_of(uint64_t offset) {
    return offset >> MAPFS_BLOCK_SHIFT;
}

/* --- what there is --- */

static int file_load(MapfsTree *tree, uint64_t ino, uint64_t *ret_size, bool *ret_inline) {
    struct mapfs_disk_inode inode;
    MapfsItem item;
    int r;

    r = mapfs_inode_load_file(tree, ino, &inode);
    if (r < 0)
        return r;
    r = mapfs_le64_load(inode.n_blocks) == 0 ? mapfs_tree_lookup(tree, mapfs_inline_key(ino), &item) : 0;
    if (r < 0)
        return r;
    *ret_inline = r > 0;
    *ret_size = MAPFS_MIN(mapfs_le64_load(inode.size), MAPFS_FILE_SIZE_MAX);
    return 0;
}

static int range_check(const MapfsCopyRange *range, uint64_t len) {
    uint64_t apart = range->from_offset < range->to_offset ? range->to_offset - range->from_offset
                                                           : range->from_offset - range->to_offset;

    if (range->from_ino == range->to_ino && apart < len)
        return -EINVAL;
    if (range->to_offset >= MAPFS_FILE_SIZE_MAX || len > MAPFS_FILE_SIZE_MAX - range->to_offset)
        return -EFBIG;
    return 0;
}

static int copy_load(Copy *copy) {
    MapfsStore *store = copy->fs->store;
    const MapfsCopyRange *range = copy->range;
    int r;

    mapfs_store_read_lock(store);
    r = file_load(mapfs_store_tree(store), range->from_ino, &copy->source_size, &copy->from_inline);
    if (r == 0)
        r = file_load(mapfs_store_tree(store), range->to_ino, &copy->size_before, &copy->to_inline);
    if (r == 0)
        r = mapfs_flags_check_ino(mapfs_store_tree(store), range->to_ino);
    mapfs_store_read_unlock(store);
    if (r < 0)
        return r;
    copy->len = 0;
    if (range->from_offset < copy->source_size)
        copy->len = MAPFS_MIN(range->len, copy->source_size - range->from_offset);
    return 0;
}

/* Blocks that can be shared as far as offsets go, and in *ret_len the bytes that this copies. */
static uint64_t blocks_to_share(const Copy *copy, uint64_t *ret_len) {
    const MapfsCopyRange *range = copy->range;
    uint64_t n_blocks = block_of(copy->len);
    bool ends_both =
        range->from_offset + copy->len == copy->source_size && range->to_offset + copy->len >= copy->size_before;

    if (range->from_offset % MAPFS_BLOCK_SIZE != 0 || range->to_offset % MAPFS_BLOCK_SIZE != 0 || copy->from_inline)
        return 0;
    /* Content that leaves the tree needs a block, unless it is replaced. */
    if (copy->to_inline && range->to_offset > 0)
        return 0;
    *ret_len = n_blocks << MAPFS_BLOCK_SHIFT;
    if (ends_both) {
        n_blocks = mapfs_blocks_for_bytes(copy->len);
        *ret_len = copy->len;
    }
    return n_blocks >= SHARE_BLOCKS_MIN ? n_blocks : 0;
}

/* --- sharing --- */

/* How many blocks of the source one record can count; shortens *end. */
static int reach_parts(MapfsTree *tree, const Copy *copy, unsigned n_parts, uint64_t *end) {
    uint64_t at = block_of(copy->range->from_offset);

    while (at < *end) {
        MapfsExtent extent;
        MapfsShared part;
        int r = mapfs_extent_find(tree, copy->range->from_ino, at, &extent);

        if (r <= 0 || extent.logical >= *end)
            return r < 0 ? r : 0;
        at = MAPFS_MAX(extent.logical, at);
        if (extent.flags & MAPFS_EXTENT_UNWRITTEN) {
            at = extent.logical + extent.n_blocks;
            continue;
        }
        r = mapfs_shared_part(tree, mapfs_extent_clip(&extent, at, *end), false, &part);
        if (r < 0)
            return r;
        if (n_parts == 0 || part.n_refs == UINT32_MAX) {
            *end = at;
            return 0;
        }
        at += part.run.n_blocks;
        n_parts--;
    }
    return 0;
}

/* How many of the blocks one record can share. Tree locked: nothing of that changes before it is applied. */
static int blocks_reached(MapfsTree *tree, const Copy *copy, const Bound *bound, uint64_t *n_blocks) {
    uint64_t from = block_of(copy->range->from_offset), to = block_of(copy->range->to_offset);
    uint64_t end = to + *n_blocks;
    int r;

    r = mapfs_extent_reach(tree, copy->range->to_ino, to, bound->n_units, &end);
    if (r < 0)
        return r;
    end = from + (end - to);
    r = reach_parts(tree, copy, bound->n_parts, &end);
    if (r == 0)
        *n_blocks = end - from;
    return r;
}

static void record_build(const Copy *copy, uint64_t n_blocks, uint64_t len, struct mapfs_disk_record_clone *ret) {
    const MapfsCopyRange *range = copy->range;

    memset(ret, 0, sizeof(*ret));
    mapfs_record_init(&ret->header, MAPFS_RECORD_CLONE, sizeof(*ret), mapfs_fs_now());
    ret->source = mapfs_le64_store(range->from_ino);
    ret->source_logical = mapfs_le64_store(block_of(range->from_offset));
    ret->ino = mapfs_le64_store(range->to_ino);
    ret->logical = mapfs_le64_store(block_of(range->to_offset));
    ret->n_blocks = mapfs_le64_store(n_blocks);
    ret->size = mapfs_le64_store(MAPFS_MAX(copy->size_before, range->to_offset + len));
    ret->flags = mapfs_le32_store(copy->flags);
}

/* Shares up to n_blocks, with len bytes of the file. *ret_len: bytes, 0 if nothing could be shared. */
static int share_locked(Copy *copy, MapfsTxn *txn, const Bound *bound, uint64_t n_blocks, uint64_t *len) {
    struct mapfs_disk_record_clone record;
    uint64_t n_reached = n_blocks;
    int r;

    r = blocks_reached(mapfs_store_tree(copy->fs->store), copy, bound, &n_reached);
    if (r < 0)
        return r;
    if (n_reached < n_blocks)
        *len = n_reached << MAPFS_BLOCK_SHIFT;
    if (n_reached == 0)
        return 0;
    record_build(copy, n_reached, *len, &record);
    return mapfs_record_run(copy->fs, txn, &record.header);
}

static unsigned share_changes(const Bound *bound) {
    /* The inode, what is stripped, content in the tree; what was there; the extents of both files; the counts. */
    return 2 + MAPFS_STRIP_CHANGES + mapfs_extent_changes(bound->n_units) + mapfs_shared_changes(bound->n_units) +
           2 * mapfs_extent_changes(bound->n_parts) + MAPFS_SHARED_CHANGES * bound->n_parts;
}

/* Both inodes locked. *ret_len: bytes shared. */
static int share_blocks(Copy *copy, uint64_t *ret_len) {
    int r;

    r = mapfs_fs_finish_truncate(copy->fs, copy->range->to_ino);
    if (r == 0)
        r = copy_load(copy);
    /* It may have grown since it was looked at without the lock. */
    if (r == 0)
        r = range_check(copy->range, copy->len);
    if (r < 0)
        return r;
    *ret_len = 0;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(bounds); i++) {
        uint64_t len = 0, n_blocks = blocks_to_share(copy, &len);
        MapfsTxn txn;

        if (n_blocks == 0)
            return 0;
        r = mapfs_txn_begin(copy->fs->store, MAPFS_TXN_GROWS, share_changes(&bounds[i]), &txn);
        if (r == -ENOSPC)
            continue;
        if (r < 0)
            return r;
        mapfs_txn_lock(&txn);
        r = share_locked(copy, &txn, &bounds[i], n_blocks, &len);
        mapfs_txn_end(&txn);
        if (r == 0)
            *ret_len = len;
        return r;
    }
    return r;
}

static void lock_both(MapfsFs *fs, const MapfsCopyRange *range) {
    uint64_t first = MAPFS_MIN(range->from_ino, range->to_ino), second = MAPFS_MAX(range->from_ino, range->to_ino);

    mapfs_inode_lock(fs, first);
    if (second != first)
        mapfs_inode_lock(fs, second);
}

static void unlock_both(MapfsFs *fs, const MapfsCopyRange *range) {
    mapfs_inode_unlock(fs, range->from_ino);
    if (range->to_ino != range->from_ino)
        mapfs_inode_unlock(fs, range->to_ino);
}

static int copy_share(Copy *copy, uint64_t *ret_len) {
    int r;

    lock_both(copy->fs, copy->range);
    r = share_blocks(copy, ret_len);
    unlock_both(copy->fs, copy->range);
    return r;
}

/* --- copying --- */

/* How much to copy: up to where blocks can be shared, if there are many. */
static size_t bytes_to_copy(const Copy *copy) {
    const MapfsCopyRange *range = copy->range;
    uint64_t within = range->from_offset % MAPFS_BLOCK_SIZE;

    if (copy->len > MAPFS_IO_LEN_MAX && within != 0 && within == range->to_offset % MAPFS_BLOCK_SIZE)
        return MAPFS_BLOCK_SIZE - within;
    return (size_t)MAPFS_MIN(copy->len, MAPFS_IO_LEN_MAX);
}

static int copy_bytes(Copy *copy, uint64_t *ret_len) {
    const MapfsCopyRange *range = copy->range;
    g_autofree MapfsWrite *write = g_new(MapfsWrite, 1);
    g_autofree uint8_t *bytes = NULL;
    const uint8_t *next;
    unsigned flags = copy->flags & MAPFS_WRITE_STRIP ? MAPFS_WRITE_FLAG_KILL_PRIV : 0;
    int n, r;

    /* Through memory: whoever waits for blocks to be freed must not be a reader himself. */
    bytes = g_try_malloc(bytes_to_copy(copy));
    if (!bytes)
        return -ENOMEM;
    n = mapfs_fs_read(copy->fs, range->from_ino, range->from_offset, bytes, bytes_to_copy(copy));
    if (n <= 0)
        return n;
    r = mapfs_fs_write_begin(copy->fs, range->to_ino, (MapfsIoRange){range->to_offset, (size_t)n}, flags, write);
    if (r < 0)
        return r;
    next = bytes;
    for (unsigned i = 0; i < write->n_iov; i++) {
        memcpy(write->iov[i].iov_base, next, write->iov[i].iov_len);
        next += write->iov[i].iov_len;
    }
    if (mapfs_sigbus_taken()) {
        mapfs_fs_write_abort(copy->fs, write);
        return -EIO;
    }
    r = mapfs_fs_write_commit(copy->fs, write);
    if (r == 0)
        *ret_len = (uint64_t)n;
    return r;
}

/* --- the operation --- */

int mapfs_fs_copy_range(MapfsFs *fs, const MapfsCopyRange *range, unsigned flags, uint64_t *ret_len) {
    const MapfsKey keys[] = {mapfs_inode_key(range->from_ino), mapfs_inode_key(range->to_ino),
                             mapfs_extent_key(range->from_ino, block_of(range->from_offset)),
                             mapfs_extent_key(range->to_ino, block_of(range->to_offset))};
    Copy copy = {.fs = fs, .range = range};
    uint64_t len = 0;
    int r;

    copy.flags = flags & MAPFS_WRITE_FLAG_KILL_PRIV ? MAPFS_WRITE_STRIP : 0;
    mapfs_store_prefetch(fs->store, keys, MAPFS_N_ELEMENTS(keys));
    r = copy_load(&copy);
    if (r == 0 && copy.len > 0)
        r = range_check(range, copy.len);
    if (r < 0 || copy.len == 0) {
        *ret_len = 0;
        return r;
    }
    r = copy_share(&copy, &len);
    if ((r == 0 && len == 0) || r == -ENOSPC) {
        bool full = r == -ENOSPC;

        r = copy_bytes(&copy, &len);
        /* Counts take less room than a copy, and some has perhaps been made by now. */
        if (r == -ENOSPC && full)
            r = copy_share(&copy, &len);
    }
    if (r == 0)
        *ret_len = len;
    return r;
}
