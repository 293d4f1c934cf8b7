/* SPDX-License-Identifier: MIT */

#include "format/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "format/checksum.h"
#include "format/items.h"
#include "format/name.h"
#include "format/superblock.h"
#include "format/zero.h"

/* A record's body: what follows the fixed part of its struct. */
typedef struct {
    const uint8_t *bytes; /* the whole record */
    size_t len_bytes;     /* the whole record, padding included */
} Record;

static int record_damage(const char *what, uint64_t found) {
    return mapfs_damage(0, "log record", "%s is %" PRIu64, what, found);
}

/* The fixed part and `len_variable` bytes after it fill the record but for padding of zeros to a multiple of 8. */
static int record_check_length(const Record *record, size_t len_fixed, size_t len_variable) {
    size_t len = len_fixed + len_variable;

    if (record->len_bytes < len || record->len_bytes - len >= 8)
        return record_damage("length", record->len_bytes);
    if (!mapfs_zero_check(record->bytes + len, record->len_bytes - len))
        return mapfs_damage(0, "log record", "padding is not zero");
    return 0;
}

static bool ino_is_valid(uint64_t ino) {
    return ino > 0 && ino < MAPFS_INO_LIMIT;
}

static int create_check(const Record *record) {
    struct mapfs_disk_record_create create;
    size_t target_len;
    uint64_t parent;
    uint32_t mode;
    int r;

    memcpy(&create, record->bytes, sizeof(create));
    target_len = mapfs_le16_load(create.target_len);
    parent = mapfs_le64_load(create.parent);
    mode = mapfs_le32_load(create.mode);
    r = record_check_length(record, sizeof(create), create.name_len + target_len);
    if (r < 0)
        return r;
    if (!ino_is_valid(mapfs_le64_load(create.ino)) || parent >= MAPFS_INO_LIMIT)
        return record_damage("inode", mapfs_le64_load(create.ino));
    if (mapfs_dirent_type_from_mode(mode) == 0 || (mode & ~UINT32_C(0177777)) != 0 || create.reserved != 0)
        return record_damage("mode", mode);
    if (parent == 0 ? create.name_len != 0
                    : !mapfs_name_check((const char *)record->bytes + sizeof(create), create.name_len))
        return record_damage("a name not allowed; its length", create.name_len);
    if ((mode & 0170000u) == 0120000u ? target_len == 0 || target_len > MAPFS_SYMLINK_LEN_MAX : target_len != 0)
        return record_damage("length of a symlink's target", target_len);
    if (memchr(record->bytes + sizeof(create) + create.name_len, '\0', target_len))
        return record_damage("character of a symlink's target", 0);
    return 0;
}

static int name_check(const Record *record) {
    struct mapfs_disk_record_name name;
    int r;

    memcpy(&name, record->bytes, sizeof(name));
    r = record_check_length(record, sizeof(name), name.name_len);
    if (r < 0)
        return r;
    if (!ino_is_valid(mapfs_le64_load(name.ino)) || !ino_is_valid(mapfs_le64_load(name.parent)))
        return record_damage("inode", mapfs_le64_load(name.ino));
    if (!mapfs_zero_check(name.reserved, sizeof(name.reserved)))
        return record_damage("reserved", name.reserved[0]);
    if (!mapfs_name_check((const char *)record->bytes + sizeof(name), name.name_len))
        return record_damage("a name not allowed; its length", name.name_len);
    return 0;
}

static int rename_check(const Record *record) {
    struct mapfs_disk_record_rename rename;
    const char *names = (const char *)record->bytes + sizeof(rename);
    uint32_t flags;
    int r;

    memcpy(&rename, record->bytes, sizeof(rename));
    flags = mapfs_le32_load(rename.flags);
    r = record_check_length(record, sizeof(rename), (size_t)rename.old_name_len + rename.new_name_len);
    if (r < 0)
        return r;
    if (!ino_is_valid(mapfs_le64_load(rename.ino)) || !ino_is_valid(mapfs_le64_load(rename.old_parent)) ||
        !ino_is_valid(mapfs_le64_load(rename.new_parent)) || mapfs_le64_load(rename.replaced) >= MAPFS_INO_LIMIT ||
        mapfs_le64_load(rename.whiteout) >= MAPFS_INO_LIMIT)
        return record_damage("inode", mapfs_le64_load(rename.ino));
    if (flags > MAPFS_RENAME_WHITEOUT || !(flags & MAPFS_RENAME_WHITEOUT) != (mapfs_le64_load(rename.whiteout) == 0))
        return record_damage("flags field", flags);
    if (!mapfs_zero_check(rename.reserved, sizeof(rename.reserved)))
        return record_damage("reserved", rename.reserved[0]);
    if (!mapfs_name_check(names, rename.old_name_len) ||
        !mapfs_name_check(names + rename.old_name_len, rename.new_name_len))
        return record_damage("a name not allowed; its length", rename.new_name_len);
    return 0;
}

static int setattr_check(const Record *record) {
    struct mapfs_disk_record_setattr setattr;
    int r;

    r = record_check_length(record, sizeof(setattr), 0);
    if (r < 0)
        return r;
    memcpy(&setattr, record->bytes, sizeof(setattr));
    if (!ino_is_valid(mapfs_le64_load(setattr.ino)))
        return record_damage("inode", mapfs_le64_load(setattr.ino));
    if (mapfs_le32_load(setattr.mask) & ~MAPFS_ATTR_KNOWN)
        return record_damage("mask", mapfs_le32_load(setattr.mask));
    if (mapfs_le32_load(setattr.mode) & ~UINT32_C(07777))
        return record_damage("mode", mapfs_le32_load(setattr.mode));
    if (mapfs_le64_load(setattr.flags) & ~MAPFS_INODE_FLAGS_KNOWN)
        return record_damage("inode's flags field", mapfs_le64_load(setattr.flags));
    if (mapfs_le32_load(setattr.reserved) != 0)
        return record_damage("reserved", mapfs_le32_load(setattr.reserved));
    return 0;
}

static int xattr_check(const Record *record) {
    struct mapfs_disk_record_xattr xattr;
    uint32_t value_len;
    int r;

    memcpy(&xattr, record->bytes, sizeof(xattr));
    value_len = mapfs_le32_load(xattr.value_len);
    if (value_len > MAPFS_XATTR_VALUE_MAX)
        return record_damage("length of a value", value_len);
    r = record_check_length(record, sizeof(xattr), (size_t)xattr.name_len + value_len);
    if (r < 0)
        return r;
    if (!ino_is_valid(mapfs_le64_load(xattr.ino)))
        return record_damage("inode", mapfs_le64_load(xattr.ino));
    if (mapfs_le32_load(xattr.flags) & ~(MAPFS_XATTR_REMOVE | MAPFS_XATTR_SET_MODE))
        return record_damage("flags field", mapfs_le32_load(xattr.flags));
    if (mapfs_le32_load(xattr.mode) & ~UINT32_C(07777))
        return record_damage("mode", mapfs_le32_load(xattr.mode));
    if (!mapfs_zero_check(xattr.reserved, sizeof(xattr.reserved)))
        return record_damage("reserved", xattr.reserved[0]);
    if (xattr.name_len == 0 || memchr(record->bytes + sizeof(xattr), '\0', xattr.name_len))
        return record_damage("an xattr's name not allowed; its length", xattr.name_len);
    return 0;
}

static int map_check(const Record *record) {
    const uint64_t n_file_blocks = MAPFS_FILE_SIZE_MAX >> MAPFS_BLOCK_SHIFT;
    struct mapfs_disk_record_map map;
    uint64_t block;
    uint32_t n_blocks;
    int r;

    r = record_check_length(record, sizeof(map), 0);
    if (r < 0)
        return r;
    memcpy(&map, record->bytes, sizeof(map));
    block = mapfs_le64_load(map.block);
    n_blocks = mapfs_le32_load(map.n_blocks);
    if (!ino_is_valid(mapfs_le64_load(map.ino)))
        return record_damage("inode", mapfs_le64_load(map.ino));
    if (mapfs_le64_load(map.size) > MAPFS_FILE_SIZE_MAX)
        return record_damage("size", mapfs_le64_load(map.size));
    if (n_blocks > MAPFS_EXTENT_BLOCKS_MAX)
        return record_damage("number of blocks", n_blocks);
    if (mapfs_le64_load(map.logical) > n_file_blocks || n_blocks > n_file_blocks - mapfs_le64_load(map.logical))
        return record_damage("block in the file", mapfs_le64_load(map.logical));
    if (n_blocks > 0 && (block < MAPFS_FIRST_BLOCK || block > MAPFS_IMAGE_BLOCKS_MAX - n_blocks))
        return record_damage("block", block);
    if (mapfs_le32_load(map.extent_flags) & ~MAPFS_EXTENT_UNWRITTEN)
        return record_damage("extent's flags field", mapfs_le32_load(map.extent_flags));
    if (mapfs_le32_load(map.flags) & ~(MAPFS_WRITE_KNOWN | MAPFS_WRITE_CONVERT))
        return record_damage("flags field", mapfs_le32_load(map.flags));
    if (mapfs_le32_load(map.reserved) != 0)
        return record_damage("reserved", mapfs_le32_load(map.reserved));
    return 0;
}

static bool blocks_of_file(uint64_t logical, uint64_t n_blocks) {
    const uint64_t n_file_blocks = MAPFS_FILE_SIZE_MAX >> MAPFS_BLOCK_SHIFT;

    return logical <= n_file_blocks && n_blocks <= n_file_blocks - logical;
}

static int clone_check(const Record *record) {
    struct mapfs_disk_record_clone clone;
    uint64_t from, to, n_blocks;
    int r;

    r = record_check_length(record, sizeof(clone), 0);
    if (r < 0)
        return r;
    memcpy(&clone, record->bytes, sizeof(clone));
    from = mapfs_le64_load(clone.source_logical);
    to = mapfs_le64_load(clone.logical);
    n_blocks = mapfs_le64_load(clone.n_blocks);
    if (!ino_is_valid(mapfs_le64_load(clone.source)) || !ino_is_valid(mapfs_le64_load(clone.ino)))
        return record_damage("inode", mapfs_le64_load(clone.ino));
    if (!blocks_of_file(from, n_blocks) || !blocks_of_file(to, n_blocks))
        return record_damage("number of blocks", n_blocks);
    if (mapfs_le64_load(clone.source) == mapfs_le64_load(clone.ino) && (from < to ? to - from : from - to) < n_blocks)
        return record_damage("block in the file", to);
    if (mapfs_le64_load(clone.size) > MAPFS_FILE_SIZE_MAX)
        return record_damage("size", mapfs_le64_load(clone.size));
    if (mapfs_le32_load(clone.flags) & ~MAPFS_WRITE_KNOWN)
        return record_damage("flags field", mapfs_le32_load(clone.flags));
    if (mapfs_le32_load(clone.reserved) != 0)
        return record_damage("reserved", mapfs_le32_load(clone.reserved));
    return 0;
}

static int punch_check(const Record *record) {
    const uint64_t n_file_blocks = MAPFS_FILE_SIZE_MAX >> MAPFS_BLOCK_SHIFT;
    struct mapfs_disk_record_punch punch;
    int r;

    r = record_check_length(record, sizeof(punch), 0);
    if (r < 0)
        return r;
    memcpy(&punch, record->bytes, sizeof(punch));
    if (!ino_is_valid(mapfs_le64_load(punch.ino)))
        return record_damage("inode", mapfs_le64_load(punch.ino));
    if (mapfs_le64_load(punch.logical) > n_file_blocks)
        return record_damage("block in the file", mapfs_le64_load(punch.logical));
    if (mapfs_le64_load(punch.n_blocks) > n_file_blocks - mapfs_le64_load(punch.logical))
        return record_damage("number of blocks", mapfs_le64_load(punch.n_blocks));
    if (mapfs_le32_load(punch.flags) & ~MAPFS_WRITE_KNOWN)
        return record_damage("flags field", mapfs_le32_load(punch.flags));
    if (mapfs_le32_load(punch.reserved) != 0)
        return record_damage("reserved", mapfs_le32_load(punch.reserved));
    return 0;
}

static int inline_check(const Record *record) {
    struct mapfs_disk_record_inline data;
    size_t len;
    int r;

    memcpy(&data, record->bytes, sizeof(data));
    len = mapfs_le16_load(data.len_bytes);
    if (len > MAPFS_INLINE_MAX)
        return record_damage("length of inline data", len);
    r = record_check_length(record, sizeof(data), len);
    if (r < 0)
        return r;
    if (!ino_is_valid(mapfs_le64_load(data.ino)))
        return record_damage("inode", mapfs_le64_load(data.ino));
    if (mapfs_le32_load(data.flags) & ~MAPFS_WRITE_KNOWN)
        return record_damage("flags field", mapfs_le32_load(data.flags));
    if (mapfs_le16_load(data.reserved) != 0)
        return record_damage("reserved", mapfs_le16_load(data.reserved));
    return 0;
}

static int truncate_check(const Record *record) {
    struct mapfs_disk_record_truncate truncate;
    int r;

    r = record_check_length(record, sizeof(truncate), 0);
    if (r < 0)
        return r;
    memcpy(&truncate, record->bytes, sizeof(truncate));
    if (!ino_is_valid(mapfs_le64_load(truncate.ino)))
        return record_damage("inode", mapfs_le64_load(truncate.ino));
    if (mapfs_le64_load(truncate.size) > MAPFS_FILE_SIZE_MAX)
        return record_damage("size", mapfs_le64_load(truncate.size));
    if (mapfs_le32_load(truncate.flags) & ~MAPFS_WRITE_KNOWN)
        return record_damage("flags field", mapfs_le32_load(truncate.flags));
    if (mapfs_le32_load(truncate.n_extents) == 0)
        return record_damage("number of extents", 0);
    return 0;
}

static int reclaim_check(const Record *record) {
    struct mapfs_disk_record_reclaim reclaim;
    int r;

    r = record_check_length(record, sizeof(reclaim), 0);
    if (r < 0)
        return r;
    memcpy(&reclaim, record->bytes, sizeof(reclaim));
    if (!ino_is_valid(mapfs_le64_load(reclaim.ino)))
        return record_damage("inode", mapfs_le64_load(reclaim.ino));
    if (mapfs_le32_load(reclaim.n_extents) == 0)
        return record_damage("number of extents", 0);
    if (mapfs_le32_load(reclaim.work) != MAPFS_ORPHAN_UNLINKED &&
        mapfs_le32_load(reclaim.work) != MAPFS_ORPHAN_TRUNCATED)
        return record_damage("work", mapfs_le32_load(reclaim.work));
    return 0;
}

/* Each type's fixed length, which the record has at least, and the check of the rest. */
static const struct {
    size_t len_fixed;
    int (*check)(const Record *record);
} record_types[] = {
    [MAPFS_RECORD_CREATE] = {sizeof(struct mapfs_disk_record_create), create_check},
    [MAPFS_RECORD_LINK] = {sizeof(struct mapfs_disk_record_name), name_check},
    [MAPFS_RECORD_UNLINK] = {sizeof(struct mapfs_disk_record_name), name_check},
    [MAPFS_RECORD_RENAME] = {sizeof(struct mapfs_disk_record_rename), rename_check},
    [MAPFS_RECORD_SETATTR] = {sizeof(struct mapfs_disk_record_setattr), setattr_check},
    [MAPFS_RECORD_XATTR] = {sizeof(struct mapfs_disk_record_xattr), xattr_check},
    [MAPFS_RECORD_MAP] = {sizeof(struct mapfs_disk_record_map), map_check},
    [MAPFS_RECORD_INLINE] = {sizeof(struct mapfs_disk_record_inline), inline_check},
    [MAPFS_RECORD_TRUNCATE] = {sizeof(struct mapfs_disk_record_truncate), truncate_check},
    [MAPFS_RECORD_RECLAIM] = {sizeof(struct mapfs_disk_record_reclaim), reclaim_check},
    [MAPFS_RECORD_ADOPT] = {sizeof(struct mapfs_disk_record_name), name_check},
    [MAPFS_RECORD_PUNCH] = {sizeof(struct mapfs_disk_record_punch), punch_check},
    [MAPFS_RECORD_CLONE] = {sizeof(struct mapfs_disk_record_clone), clone_check},
};

int mapfs_record_check(const void *record, size_t len_available) {
    struct mapfs_disk_record header;
    Record whole = {.bytes = record};
    uint16_t type;

    if (len_available < sizeof(header))
        return record_damage("room for its header", len_available);
    memcpy(&header, record, sizeof(header));
    whole.len_bytes = mapfs_le32_load(header.len_bytes);
    type = mapfs_le16_load(header.type);
    if (whole.len_bytes < sizeof(header) || whole.len_bytes % 8 != 0 || whole.len_bytes > len_available ||
        whole.len_bytes > MAPFS_RECORD_LEN_MAX)
        return record_damage("length", whole.len_bytes);
    if (type >= MAPFS_N_ELEMENTS(record_types) || !record_types[type].check)
        return record_damage("type", type);
    if (mapfs_le16_load(header.reserved) != 0)
        return record_damage("reserved", mapfs_le16_load(header.reserved));
    if (whole.len_bytes < record_types[type].len_fixed)
        return record_damage("length", whole.len_bytes);
    return record_types[type].check(&whole);
}

uint64_t mapfs_batch_checksum(const void *batch, size_t len_bytes, uint64_t checksum_seed) {
    return mapfs_hash_sealed(batch, len_bytes, checksum_seed);
}

static int batch_damage(const char *what, uint64_t found, uint64_t expected) {
    return mapfs_damage(0, "log batch", "%s is %" PRIu64 ", expected %" PRIu64, what, found, expected);
}

static int batch_check_header(const struct mapfs_disk_batch *batch, const MapfsBatchExpected *expected) {
    uint64_t first = mapfs_le64_load(batch->first_lsn), last = mapfs_le64_load(batch->last_lsn);

    if (mapfs_le64_load(batch->nonce) != expected->nonce)
        return batch_damage("nonce", mapfs_le64_load(batch->nonce), expected->nonce);
    if (mapfs_le64_load(batch->sequence) != expected->sequence)
        return batch_damage("sequence", mapfs_le64_load(batch->sequence), expected->sequence);
    if (mapfs_le64_load(batch->previous) != expected->previous)
        return batch_damage("checksum of the batch before", mapfs_le64_load(batch->previous), expected->previous);
    if (first == 0 || first > expected->first_lsn)
        return batch_damage("first LSN", first, expected->first_lsn);
    if (last < first || last == UINT64_MAX || last + 1 < expected->first_lsn)
        return batch_damage("last LSN", last, expected->first_lsn);
    if (last - first != (uint64_t)mapfs_le32_load(batch->n_records) - 1)
        return batch_damage("number of records", mapfs_le32_load(batch->n_records), last - first + 1);
    if (!mapfs_zero_check(batch->reserved, sizeof(batch->reserved)))
        return batch_damage("reserved", 1, 0);
    return 0;
}

static int batch_check_records(const uint8_t *bytes, size_t len_bytes, uint64_t lsn, uint32_t n_records) {
    size_t offset = sizeof(struct mapfs_disk_batch);

    for (uint32_t i = 0; i < n_records; i++, lsn++) {
        struct mapfs_disk_record record;
        int r;

        r = mapfs_record_check(bytes + offset, len_bytes - offset);
        if (r < 0)
            return r;
        memcpy(&record, bytes + offset, sizeof(record));
        if (mapfs_le64_load(record.lsn) != lsn)
            return batch_damage("LSN of a record", mapfs_le64_load(record.lsn), lsn);
        offset += mapfs_le32_load(record.len_bytes);
    }
    return offset == len_bytes ? 0 : batch_damage("end of the last record", offset, len_bytes);
}

/* What passes as a header is worth a copy of the whole: who reads checked bytes again must find what was checked. */
static int batch_check_body(const void *batch, const struct mapfs_disk_batch *header, uint64_t checksum_seed) {
    size_t len_bytes = mapfs_le32_load(header->len_bytes);
    uint8_t *copy = malloc(len_bytes);
    uint64_t checksum;
    int r;

    if (!copy)
        return -ENOMEM;
    memcpy(copy, batch, len_bytes);
    checksum = mapfs_batch_checksum(copy, len_bytes, checksum_seed);
    if (mapfs_le64_load(header->checksum) != checksum)
        r = batch_damage("checksum", mapfs_le64_load(header->checksum), checksum);
    else
        r = batch_check_records(copy, len_bytes, mapfs_le64_load(header->first_lsn),
                                mapfs_le32_load(header->n_records));
    free(copy);
    return r;
}

int mapfs_batch_check(const void *batch, size_t len_available, const MapfsBatchExpected *expected) {
    struct mapfs_disk_batch header;
    size_t len_bytes;
    int r;

    if (len_available < sizeof(header))
        return batch_damage("room for its header", len_available, sizeof(header));
    memcpy(&header, batch, sizeof(header));
    len_bytes = mapfs_le32_load(header.len_bytes);
    if (mapfs_le32_load(header.magic) != MAPFS_BATCH_MAGIC)
        return batch_damage("magic", mapfs_le32_load(header.magic), MAPFS_BATCH_MAGIC);
    if (len_bytes < sizeof(header) || len_bytes % 8 != 0 || len_bytes > len_available)
        return batch_damage("length", len_bytes, len_available);
    r = batch_check_header(&header, expected);
    return r < 0 ? r : batch_check_body(batch, &header, expected->checksum_seed);
}
