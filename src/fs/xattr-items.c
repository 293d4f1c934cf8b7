/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "fs/apply-private.h"
#include "fs/xattr-private.h"

#define SLOT_STEP (UINT64_C(1) << MAPFS_XATTR_SLOT_SHIFT)
#define CHUNK_MASK (SLOT_STEP - 1)

MapfsKey mapfs_xattr_name_key(const MapfsFs *fs, uint64_t ino, const char *name, size_t name_len) {
    uint64_t hash = mapfs_xattr_hash(name, name_len, fs->hash_seed);

    return mapfs_xattr_key(ino, mapfs_xattr_offset(hash, 0, 0));
}

int mapfs_xattr_parse(const MapfsItem *item, MapfsXattr *ret_xattr, const char **ret_name) {
    struct mapfs_disk_xattr head;
    uint32_t value_len;

    if (item->value_len < sizeof(head) || (item->key.offset & CHUNK_MASK) != 0)
        return mapfs_damage(0, "xattr", "%" PRIu64 "/%" PRIu64 " has no header", item->key.object, item->key.offset);
    memcpy(&head, item->value, sizeof(head));
    value_len = mapfs_le32_load(head.value_len);
    if (head.name_len == 0 || value_len > MAPFS_XATTR_VALUE_MAX ||
        item->value_len != MAPFS_MIN(sizeof(head) + head.name_len + value_len, MAPFS_XATTR_CHUNK))
        return mapfs_damage(0, "xattr", "%" PRIu64 "/%" PRIu64 " has %zu bytes, a name of %u and a value of %" PRIu32,
                            item->key.object, item->key.offset, item->value_len, head.name_len, value_len);
    *ret_xattr = (MapfsXattr){.offset = item->key.offset, .value_len = value_len, .name_len = head.name_len};
    *ret_name = (const char *)item->value + sizeof(head);
    return 0;
}

static bool key_in_bucket(MapfsKey key, MapfsKey bucket) {
    return key.object == bucket.object && key.kind == MAPFS_KIND_XATTR &&
           key.offset >> MAPFS_XATTR_HASH_SHIFT == bucket.offset >> MAPFS_XATTR_HASH_SHIFT;
}

int mapfs_xattr_lookup(MapfsFs *fs, uint64_t ino, const char *name, size_t name_len, MapfsXattr *ret_xattr) {
    const MapfsTree *tree = mapfs_store_tree(fs->store);
    const MapfsKey bucket = mapfs_xattr_name_key(fs, ino, name, name_len);
    MapfsKey key = bucket;
    uint64_t free_offset = UINT64_MAX;

    /* One search a slot, which steps over the chunks of long values. */
    for (unsigned slot = 0; slot < MAPFS_XATTR_SLOTS; slot++, key.offset += SLOT_STEP) {
        MapfsXattr xattr;
        MapfsItem item;
        const char *found;
        int r = mapfs_tree_lookup_ge(tree, key, &item);

        if (r < 0)
            return r;
        if (r == 0 || !key_in_bucket(item.key, bucket)) {
            free_offset = MAPFS_MIN(free_offset, key.offset);
            break;
        }
        if (item.key.offset - key.offset >= SLOT_STEP) {
            free_offset = MAPFS_MIN(free_offset, key.offset);
            continue;
        }
        r = mapfs_xattr_parse(&item, &xattr, &found);
        if (r < 0)
            return r;
        if (xattr.name_len == name_len && memcmp(found, name, name_len) == 0) {
            *ret_xattr = xattr;
            return 1;
        }
    }
    *ret_xattr = (MapfsXattr){.offset = free_offset};
    return 0;
}

int mapfs_xattr_lookup_capability(MapfsFs *fs, uint64_t ino, MapfsXattr *ret_xattr) {
    int r = mapfs_xattr_lookup(fs, ino, MAPFS_XATTR_CAPABILITY, strlen(MAPFS_XATTR_CAPABILITY), ret_xattr);

    if (r > 0 && ret_xattr->value_len > MAPFS_XATTR_CAPABILITY_MAX)
        return mapfs_damage(0, "xattr", "security.capability of inode %" PRIu64 " has %" PRIu32 " bytes", ino,
                            ret_xattr->value_len);
    return r;
}

int mapfs_xattr_remove_capability(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, const struct mapfs_disk_inode *inode) {
    const size_t name_len = sizeof(MAPFS_XATTR_CAPABILITY) - 1;
    union {
        struct mapfs_disk_record_xattr head;
        uint8_t bytes[sizeof(struct mapfs_disk_record_xattr) + sizeof(MAPFS_XATTR_CAPABILITY) + 8];
    } record = {.bytes = {0}};
    MapfsXattr xattr;
    int r;

    if (mapfs_le32_load(inode->n_xattrs) == 0)
        return 0;
    r = mapfs_xattr_lookup_capability(fs, ino, &xattr);
    if (r <= 0)
        return r;
    record.head.ino = mapfs_le64_store(ino);
    record.head.flags = mapfs_le32_store(MAPFS_XATTR_REMOVE);
    record.head.name_len = (uint8_t)name_len;
    memcpy(record.head.bytes, MAPFS_XATTR_CAPABILITY, name_len);
    mapfs_record_init(&record.head.header, MAPFS_RECORD_XATTR, sizeof(record.head) + name_len, mapfs_fs_now());
    r = mapfs_record_run(fs, txn, &record.head.header);
    return r < 0 ? r : 1;
}

/* Stores chunks 0 .. n - 1 of an attribute. */
static int chunks_store(MapfsTree *tree, MapfsKey key, const struct mapfs_disk_record_xattr *record) {
    size_t value_len = mapfs_le32_load(record->value_len);
    /* Name and value lie one after the other in the record as they do in the chunks. */
    size_t left = record->name_len + value_len;
    const char *from = record->bytes;
    uint8_t chunk[MAPFS_XATTR_CHUNK];
    const struct mapfs_disk_xattr head = {.value_len = record->value_len, .name_len = record->name_len};
    size_t used = sizeof(head);

    memcpy(chunk, &head, sizeof(head));
    do {
        size_t n = MAPFS_MIN(left, MAPFS_XATTR_CHUNK - used);
        int r;

        memcpy(chunk + used, from, n);
        r = mapfs_tree_put(tree, key, chunk, used + n);
        if (r < 0)
            return r;
        from += n;
        left -= n;
        used = 0;
        key.offset++;
    } while (left > 0);
    return 0;
}

static int chunks_remove(MapfsTree *tree, MapfsKey key, unsigned first, unsigned end) {
    for (unsigned chunk = first; chunk < end; chunk++) {
        MapfsKey at = {.object = key.object, .kind = key.kind, .offset = key.offset + chunk};
        int r = mapfs_tree_remove(tree, at);

        if (r < 0)
            return r;
    }
    return 0;
}

static int xattr_change(MapfsTree *tree, const struct mapfs_disk_record_xattr *record, const MapfsXattr *xattr,
                        unsigned n_old) {
    MapfsKey key = mapfs_xattr_key(mapfs_le64_load(record->ino), xattr->offset);
    unsigned n_new = 0;

    if (!(mapfs_le32_load(record->flags) & MAPFS_XATTR_REMOVE)) {
        int r = chunks_store(tree, key, record);

        if (r < 0)
            return r;
        n_new = mapfs_xattr_n_chunks(record->name_len, mapfs_le32_load(record->value_len));
    }
    return chunks_remove(tree, key, n_new, n_old);
}

/* All chunks of a found attribute are there. */
static int chunks_validate(MapfsTree *tree, uint64_t ino, const MapfsXattr *xattr, unsigned n_chunks) {
    for (unsigned chunk = 1; chunk < n_chunks; chunk++) {
        MapfsItem item;
        int r = mapfs_tree_lookup(tree, mapfs_xattr_key(ino, xattr->offset + chunk), &item);

        if (r < 0)
            return r;
        if (r == 0)
            return mapfs_damage(0, "xattr", "chunk %u of %" PRIu64 "/%" PRIu64 " is missing", chunk, ino,
                                xattr->offset);
    }
    return 0;
}

int mapfs_apply_xattr(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *header) {
    const struct mapfs_disk_record_xattr *record = (const struct mapfs_disk_record_xattr *)header;
    MapfsTree *tree = mapfs_store_tree(fs->store);
    uint64_t ino = mapfs_le64_load(record->ino);
    uint32_t flags = mapfs_le32_load(record->flags), n_xattrs;
    bool remove = flags & MAPFS_XATTR_REMOVE;
    struct mapfs_disk_inode inode;
    MapfsXattr xattr;
    unsigned n_old = 0;
    int found, r;

    (void)txn;
    r = mapfs_inode_load(tree, ino, &inode);
    if (r < 0)
        return r;
    found = mapfs_xattr_lookup(fs, ino, record->bytes, record->name_len, &xattr);
    if (found < 0)
        return found;
    if (!found && remove)
        return -ENODATA;
    n_xattrs = mapfs_le32_load(inode.n_xattrs);
    if (!found && (xattr.offset == UINT64_MAX || n_xattrs == UINT32_MAX))
        return -ENOSPC;
    if (found) {
        n_old = mapfs_xattr_n_chunks(xattr.name_len, xattr.value_len);
        r = chunks_validate(tree, ino, &xattr, n_old);
        if (r < 0)
            return r;
    }
    r = xattr_change(tree, record, &xattr, n_old);
    if (r < 0)
        return mapfs_apply_broken(fs, r);
    if (remove && n_xattrs > 0)
        n_xattrs--;
    else if (!found)
        n_xattrs++;
    inode.n_xattrs = mapfs_le32_store(n_xattrs);
    if (flags & MAPFS_XATTR_SET_MODE)
        inode.mode = mapfs_le32_store((mapfs_le32_load(inode.mode) & S_IFMT) | mapfs_le32_load(record->mode));
    mapfs_inode_touch(&inode, mapfs_le64_load(header->time), false);
    r = mapfs_inode_store(tree, ino, &inode);
    return r < 0 ? mapfs_apply_broken(fs, r) : 0;
}
