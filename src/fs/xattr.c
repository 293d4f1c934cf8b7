/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
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

/* Copies the value of a found attribute out; the buffer is long enough. */
static int value_copy(const MapfsTree *tree, uint64_t ino, const MapfsXattr *xattr, uint8_t *buffer) {
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
    return value_copy(tree, ino, &xattr, buffer);
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

/* Changes that the record makes as the tree is now: each chunk that it stores or removes, and the inode. */
static int change_count(MapfsFs *fs, const XattrChange *change, unsigned *ret_n_changes) {
    const struct mapfs_disk_record_xattr *record = change->record;
    unsigned n_old = 0, n_new = 0;
    MapfsXattr xattr;
    int r = mapfs_xattr_lookup(fs, change->ino, record->bytes, record->name_len, &xattr);

    if (r < 0)
        return r;
    if (r > 0)
        n_old = mapfs_xattr_n_chunks(xattr.name_len, xattr.value_len);
    if (!(mapfs_le32_load(record->flags) & MAPFS_XATTR_REMOVE))
        n_new = mapfs_xattr_n_chunks(record->name_len, mapfs_le32_load(record->value_len));
    *ret_n_changes = MAPFS_MAX(n_old, n_new) + 1;
    return r;
}

/* 0, -errno, or 1 when the attribute has grown since the changes were counted. */
static int change_locked(MapfsFs *fs, MapfsTxn *txn, const XattrChange *change, unsigned n_claimed) {
    unsigned n_changes;
    int found = change_count(fs, change, &n_changes);

    if (found < 0)
        return found;
    if (n_changes > n_claimed)
        return 1;
    if (found && change->flags & MAPFS_XATTR_FLAG_CREATE)
        return -EEXIST;
    if (!found && change->flags & MAPFS_XATTR_FLAG_REPLACE)
        return -ENODATA;
    return mapfs_record_run(fs, txn, &change->record->header);
}

static int change_run(MapfsFs *fs, const XattrChange *change, MapfsTxnKind kind) {
    unsigned n_changes;
    MapfsTxn txn;
    int r;

    do {
        mapfs_store_read_lock(fs->store);
        r = change_count(fs, change, &n_changes);
        mapfs_store_read_unlock(fs->store);
        if (r < 0)
            return r;
        r = mapfs_fs_begin(fs, kind, n_changes, &txn);
        if (r < 0)
            return r;
        mapfs_txn_lock(&txn);
        r = change_locked(fs, &txn, change, n_changes);
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
    if (flags & ~(MAPFS_XATTR_FLAG_CREATE | MAPFS_XATTR_FLAG_REPLACE))
        return -EINVAL;
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
    record = record_new(ino, name, NULL, 0);
    if (!record)
        return -ENOMEM;
    xattr_prefetch(fs, ino, name, 1);
    return change_run(fs, &(XattrChange){.ino = ino, .record = record}, MAPFS_TXN_FREES);
}
