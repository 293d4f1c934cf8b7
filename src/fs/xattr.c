/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "fs/acl-private.h"
#include "fs/flags-private.h"
#include "fs/fs-private.h"
#include "fs/xattr-private.h"

/* As in Linux. */
#define XATTR_LIST_LEN_MAX 65536u

static int name_validate(const char *name) {
    size_t len = strlen(name);

    return len > 0 && len <= MAPFS_NAME_LEN_MAX ? 0 : -ERANGE;
}

/* Brings the inode and the first `n_chunks` chunks of an attribute in the first slot near. */
static void xattr_prefetch(MapfsFs *fs, uint64_t ino, const char *name, unsigned n_chunks) {
    MapfsKey keys[1 + MAPFS_XATTR_CHUNKS_MAX];
    MapfsKey key = mapfs_xattr_name_key(fs, ino, name, strlen(name));
    unsigned n = MAPFS_MIN(n_chunks, (unsigned)MAPFS_XATTR_CHUNKS_MAX);

    keys[0] = mapfs_inode_key(ino);
    for (unsigned i = 0; i < n; i++, key.offset++)
        keys[1 + i] = key;
    mapfs_store_prefetch(fs->store, keys, 1 + n);
}

int mapfs_xattr_read(const MapfsTree *tree, uint64_t ino, const MapfsXattr *xattr, uint8_t *buffer) {
    size_t skip = sizeof(struct mapfs_disk_xattr) + xattr->name_len, done = 0;
    MapfsCursor cursor;
    MapfsItem item;
    uint64_t offset = xattr->offset;
    int r = mapfs_cursor_begin(&cursor, tree, mapfs_xattr_key(ino, offset), &item);

    while (r > 0 && done < xattr->value_len) {
        size_t expected = MAPFS_MIN(skip + (xattr->value_len - done), MAPFS_XATTR_CHUNK);

        if (item.key.object != ino || item.key.kind != MAPFS_KIND_XATTR || item.key.offset != offset ||
            item.value_len != expected)
            break;
        memcpy(buffer + done, (const uint8_t *)item.value + skip, expected - skip);
        done += expected - skip;
        skip = 0;
        offset++;
        if (done < xattr->value_len)
            r = mapfs_cursor_next(&cursor, &item);
    }
    if (r < 0)
        return r;
    if (done < xattr->value_len)
        return mapfs_damage(0, "xattr", "%" PRIu64 "/%" PRIu64 " ends after %zu of %" PRIu32 " bytes", ino,
                            xattr->offset, done, xattr->value_len);
    return (int)xattr->value_len;
}

static int getxattr_held(MapfsFs *fs, uint64_t ino, const char *name, void *buffer, size_t size) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    struct mapfs_disk_inode inode;
    MapfsXattr xattr;
    int r = mapfs_inode_load(tree, ino, &inode);

    if (r < 0)
        return r;
    /* The usual case, asked before each write: nothing there, one search. */
    if (mapfs_le32_load(inode.n_xattrs) == 0)
        return -ENODATA;
    r = mapfs_xattr_lookup(fs, ino, name, strlen(name), &xattr);
    if (r <= 0)
        return r < 0 ? r : -ENODATA;
    if (size == 0)
        return (int)xattr.value_len;
    if (size < xattr.value_len)
        return -ERANGE;
    return mapfs_xattr_read(tree, ino, &xattr, buffer);
}

int mapfs_fs_getxattr(MapfsFs *fs, uint64_t ino, const char *name, void *buffer, size_t size) {
    int r = name_validate(name);

    if (r < 0)
        return r;
    xattr_prefetch(fs, ino, name, 1 + (unsigned)(MAPFS_MIN(size, MAPFS_XATTR_VALUE_MAX) / MAPFS_XATTR_CHUNK));
    mapfs_store_read_lock(fs->store);
    r = getxattr_held(fs, ino, name, buffer, size);
    mapfs_store_read_unlock(fs->store);
    return r;
}

static int listxattr_held(MapfsFs *fs, uint64_t ino, char *buffer, size_t size) {
    MapfsTree *tree = mapfs_store_tree(fs->store);
    struct mapfs_disk_inode inode;
    MapfsCursor cursor;
    MapfsItem item;
    size_t len = 0;
    int r = mapfs_inode_load(tree, ino, &inode);

    if (r < 0)
        return r;
    r = mapfs_cursor_begin(&cursor, tree, mapfs_xattr_key(ino, 0), &item);
    for (; r > 0 && item.key.object == ino && item.key.kind == MAPFS_KIND_XATTR;
         r = mapfs_cursor_next(&cursor, &item)) {
        MapfsXattr xattr;
        const char *name;

        if ((item.key.offset & ((1u << MAPFS_XATTR_SLOT_SHIFT) - 1)) != 0)
            continue;
        r = mapfs_xattr_parse(&item, &xattr, &name);
        if (r < 0)
            return r;
        if (len + xattr.name_len + 1 > XATTR_LIST_LEN_MAX)
            return -E2BIG;
        if (size > 0 && len + xattr.name_len + 1 > size)
            return -ERANGE;
        if (size > 0) {
            memcpy(buffer + len, name, xattr.name_len);
            buffer[len + xattr.name_len] = '\0';
        }
        len += xattr.name_len + 1u;
    }
    return r < 0 ? r : (int)len;
}

int mapfs_xattr_check_room(MapfsFs *fs, uint64_t ino, const struct mapfs_disk_inode *inode, size_t name_len) {
    int len;

    if ((uint64_t)mapfs_le32_load(inode->n_xattrs) * (MAPFS_NAME_LEN_MAX + 1) + name_len + 1 <= XATTR_LIST_LEN_MAX)
        return 0;
    len = listxattr_held(fs, ino, NULL, 0);
    if (len == -E2BIG)
        return -ENOSPC;
    return len >= 0 && (size_t)len + name_len + 1 > XATTR_LIST_LEN_MAX ? -ENOSPC : MAPFS_MIN(len, 0);
}

int mapfs_fs_listxattr(MapfsFs *fs, uint64_t ino, char *buffer, size_t size) {
    const MapfsKey keys[2] = {mapfs_inode_key(ino), mapfs_xattr_key(ino, 0)};
    int r;

    mapfs_store_prefetch(fs->store, keys, 2);
    mapfs_store_read_lock(fs->store);
    r = listxattr_held(fs, ino, buffer, size);
    mapfs_store_read_unlock(fs->store);
    return r;
}

/* What setxattr and removexattr share: a record, and what XATTR_CREATE and XATTR_REPLACE demand. */
typedef struct {
    uint64_t ino;
    unsigned flags; /* MAPFS_XATTR_FLAG_* */
    struct mapfs_disk_record_xattr *record;
} XattrChange;

/* What the record's transaction claims: for the inode one change, for the chunks, which lie side by side, so many blocks. */
typedef struct {
    unsigned n_blocks;
    bool found; /* the attribute is there */
} ChangeClaim;

static int change_claim(MapfsFs *fs, const XattrChange *change, ChangeClaim *ret_claim) {
    const struct mapfs_disk_record_xattr *record = change->record;
    unsigned n_old = 0, n_new = 0, n_blocks;
    MapfsKey first, last;
    MapfsXattr xattr;
    int r = mapfs_xattr_lookup(fs, change->ino, record->bytes, record->name_len, &xattr);

    if (r < 0)
        return r;
    ret_claim->found = r > 0;
    if (r > 0)
        n_old = mapfs_xattr_n_chunks(xattr.name_len, xattr.value_len);
    if (!(mapfs_le32_load(record->flags) & MAPFS_XATTR_REMOVE))
        n_new = mapfs_xattr_n_chunks(record->name_len, mapfs_le32_load(record->value_len));
    /* A full bucket of the name's hash has no place: applying the record will say so. */
    first = mapfs_xattr_key(change->ino, xattr.offset == UINT64_MAX ? 0 : xattr.offset);
    last = first;
    last.offset += MAPFS_MAX(MAPFS_MAX(n_old, n_new), 1u) - 1;
    r = mapfs_tree_range_blocks_max(mapfs_store_tree(fs->store), first, last, n_new, &n_blocks);
    if (r < 0)
        return r;
    ret_claim->n_blocks = n_blocks;
    return 0;
}

static int change_check(MapfsFs *fs, const XattrChange *change, bool found) {
    struct mapfs_disk_inode inode;
    int r = mapfs_inode_load(mapfs_store_tree(fs->store), change->ino, &inode);

    if (r == 0)
        r = mapfs_flags_check_change(&inode);
    if (r < 0)
        return r;
    if (found && change->flags & MAPFS_XATTR_FLAG_CREATE)
        return -EEXIST;
    if (!found && change->flags & MAPFS_XATTR_FLAG_REPLACE)
        return -ENODATA;
    if (found || mapfs_le32_load(change->record->flags) & MAPFS_XATTR_REMOVE)
        return 0;
    return mapfs_xattr_check_room(fs, change->ino, &inode, change->record->name_len);
}

/* 0, -errno, or 1 when the tree has changed since the claim so that the record may need more. */
static int change_locked(MapfsFs *fs, MapfsTxn *txn, const XattrChange *change, unsigned n_claimed) {
    ChangeClaim claim;
    int r = change_claim(fs, change, &claim);

    if (r < 0)
        return r;
    if (claim.n_blocks > n_claimed)
        return 1;
    r = change_check(fs, change, claim.found);
    return r < 0 ? r : mapfs_record_run(fs, txn, &change->record->header);
}

static int change_run(MapfsFs *fs, const XattrChange *change, MapfsTxnKind kind) {
    ChangeClaim claim;
    MapfsTxn txn;
    int r;

    do {
        mapfs_store_read_lock(fs->store);
        r = change_claim(fs, change, &claim);
        mapfs_store_read_unlock(fs->store);
        if (r < 0)
            return r;
        r = mapfs_fs_begin_more(fs, kind, 1, claim.n_blocks, &txn);
        if (r < 0)
            return r;
        mapfs_txn_lock(&txn);
        r = change_locked(fs, &txn, change, claim.n_blocks);
        mapfs_txn_end(&txn);
    } while (r > 0);
    return r;
}

/* NULL when memory is short. */
static struct mapfs_disk_record_xattr *record_new(uint64_t ino, const char *name, const void *value, size_t value_len) {
    size_t name_len = strlen(name), len = sizeof(struct mapfs_disk_record_xattr) + name_len + value_len;
    struct mapfs_disk_record_xattr *record = g_try_malloc((len + 7) & ~(size_t)7);

    if (!record)
        return NULL;
    *record = (struct mapfs_disk_record_xattr){
        .ino = mapfs_le64_store(ino),
        .flags = mapfs_le32_store(value ? 0 : MAPFS_XATTR_REMOVE),
        .value_len = mapfs_le32_store((uint32_t)value_len),
        .name_len = (uint8_t)name_len,
    };
    memcpy(record->bytes, name, name_len);
    if (value_len > 0)
        memcpy(record->bytes + name_len, value, value_len);
    mapfs_record_init(&record->header, MAPFS_RECORD_XATTR, len, mapfs_fs_now());
    return record;
}

int mapfs_fs_setxattr(MapfsFs *fs, uint64_t ino, const char *name, MapfsBytes value, unsigned flags) {
    g_autofree struct mapfs_disk_record_xattr *record = NULL;
    int r = name_validate(name);

    if (r < 0)
        return r;
    if (value.len > MAPFS_XATTR_VALUE_MAX)
        return -E2BIG;
    if (flags & ~(MAPFS_XATTR_FLAG_CREATE | MAPFS_XATTR_FLAG_REPLACE | MAPFS_XATTR_FLAG_KILL_SGID))
        return -EINVAL;
    if (mapfs_acl_is_name(name))
        return mapfs_acl_set(fs, ino, name, value, flags & MAPFS_XATTR_FLAG_KILL_SGID);
    if (value.len > MAPFS_XATTR_CAPABILITY_MAX && strcmp(name, MAPFS_XATTR_CAPABILITY) == 0)
        return -EINVAL;
    record = record_new(ino, name, value.bytes ? value.bytes : "", value.len);
    if (!record)
        return -ENOMEM;
    xattr_prefetch(fs, ino, name, mapfs_xattr_n_chunks(strlen(name), value.len));
    return change_run(fs, &(XattrChange){.ino = ino, .flags = flags, .record = record}, MAPFS_TXN_GROWS);
}

int mapfs_fs_removexattr(MapfsFs *fs, uint64_t ino, const char *name) {
    g_autofree struct mapfs_disk_record_xattr *record = NULL;
    int r = name_validate(name);

    if (r < 0)
        return r;
    /* A list that is not there is removed all the same, as everywhere. */
    if (mapfs_acl_is_name(name))
        return mapfs_acl_set(fs, ino, name, (MapfsBytes){NULL, 0}, false);
    record = record_new(ino, name, NULL, 0);
    if (!record)
        return -ENOMEM;
    xattr_prefetch(fs, ino, name, 1);
    return change_run(fs, &(XattrChange){.ino = ino, .record = record}, MAPFS_TXN_FREES);
}
