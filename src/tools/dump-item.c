/* SPDX-License-Identifier: MIT */
#include "tools/dump-item.h"

#include <inttypes.h>
#include <string.h>

#include <glib.h>

#include "base/macros.h"
#include "format/items.h"
#include "tools/number.h"

/* A copy of a value with its struct's alignment; what is missing at the end is zero. */
#define ITEM_LOAD(target, value, value_len)                                 \
    do {                                                                    \
        memset(&(target), 0, sizeof(target));                               \
        memcpy(&(target), (value), MAPFS_MIN((value_len), sizeof(target))); \
    } while (0)

static void print_bytes(FILE *out, const char *bytes, size_t len) {
    g_autofree char *copy = g_strndup(bytes, len);
    g_autofree char *escaped = g_strescape(copy, NULL);

    (void)fprintf(out, "\"%s\"", escaped);
}

static void print_inode(FILE *out, const void *value, size_t value_len) {
    struct mapfs_disk_inode inode;

    ITEM_LOAD(inode, value, value_len);
    (void)fprintf(out, "mode %o uid %u gid %u nlink %u size %" PRIu64 " blocks %" PRIu64 " parent %" PRIu64,
                  mapfs_le32_load(inode.mode), mapfs_le32_load(inode.uid), mapfs_le32_load(inode.gid),
                  mapfs_le32_load(inode.nlink), mapfs_le64_load(inode.size), mapfs_le64_load(inode.n_blocks),
                  mapfs_le64_load(inode.parent));
    (void)fprintf(out, " xattrs %u flags %#" PRIx64 " change %" PRIu64 " mtime %" PRIu64 " ctime %" PRIu64,
                  mapfs_le32_load(inode.n_xattrs), mapfs_le64_load(inode.flags), mapfs_le64_load(inode.change),
                  mapfs_le64_load(inode.mtime), mapfs_le64_load(inode.ctime));
}

static void print_xattr(FILE *out, MapfsKey key, const void *value, size_t value_len) {
    struct mapfs_disk_xattr xattr;
    const char *name = (const char *)value + sizeof xattr;

    if ((key.offset & 0xff) != 0 || value_len < sizeof xattr) {
        (void)fprintf(out, "chunk %u, %zu bytes", (unsigned)(key.offset & 0xff), value_len);
        return;
    }
    ITEM_LOAD(xattr, value, value_len);
    print_bytes(out, name, MAPFS_MIN((size_t)xattr.name_len, value_len - sizeof xattr));
    (void)fprintf(out, " value of %u bytes", mapfs_le32_load(xattr.value_len));
}

static void print_extent(FILE *out, const void *value, size_t value_len) {
    struct mapfs_disk_extent extent;

    ITEM_LOAD(extent, value, value_len);
    (void)fprintf(out, "blocks %" PRIu64 " + %u flags %#x born in generation %" PRIu64 " epoch %" PRIu64,
                  mapfs_le64_load(extent.block), mapfs_le32_load(extent.n_blocks), mapfs_le32_load(extent.flags),
                  mapfs_le64_load(extent.birth_generation), mapfs_le64_load(extent.birth_epoch));
}

static void print_dirent(FILE *out, const void *value, size_t value_len) {
    struct mapfs_disk_dirent dirent;

    ITEM_LOAD(dirent, value, value_len);
    if (value_len > sizeof dirent)
        print_bytes(out, (const char *)value + sizeof dirent,
                    MAPFS_MIN((size_t)dirent.name_len, value_len - sizeof dirent));
    (void)fprintf(out, " inode %" PRIu64 " type %u", mapfs_le64_load(dirent.ino), dirent.type);
}

static void print_group(FILE *out, const void *value, size_t value_len) {
    struct mapfs_disk_group group;

    ITEM_LOAD(group, value, value_len);
    (void)fprintf(out, "bitmap %" PRIu64 " generation %" PRIu64 " free %u", mapfs_le64_load(group.bitmap_address),
                  mapfs_le64_load(group.bitmap_generation), mapfs_le32_load(group.n_free));
}

static void print_pending(FILE *out, const void *value, size_t value_len) {
    struct mapfs_disk_pending_run run;

    for (size_t at = 0; at + sizeof run <= value_len; at += sizeof run) {
        memcpy(&run, (const char *)value + at, sizeof run);
        (void)fprintf(out, "%s%" PRIu64 " + %u", at > 0 ? ", " : "", mapfs_le64_load(run.block),
                      mapfs_le32_load(run.n_blocks));
    }
}

static void print_orphan(FILE *out, const void *value, size_t value_len) {
    struct mapfs_disk_orphan orphan;

    ITEM_LOAD(orphan, value, value_len);
    (void)fprintf(out, "flags %#x cut %" PRIu64, mapfs_le32_load(orphan.flags), mapfs_le64_load(orphan.cut));
}

static const char *kind_name(uint8_t kind) {
    static const struct {
        uint8_t kind;
        const char *name;
    } names[] = {
        {MAPFS_KIND_INODE, "inode"},       {MAPFS_KIND_XATTR, "xattr"},     {MAPFS_KIND_INLINE, "inline"},
        {MAPFS_KIND_EXTENT, "extent"},     {MAPFS_KIND_DIRENT, "dirent"},   {MAPFS_KIND_CHECKSUM, "checksum"},
        {MAPFS_KIND_GROUP, "group"},       {MAPFS_KIND_ORPHAN, "orphan"},   {MAPFS_KIND_SHARED, "shared"},
        {MAPFS_KIND_SNAPSHOT, "snapshot"}, {MAPFS_KIND_PENDING, "pending"},
    };

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(names); i++)
        if (names[i].kind == kind)
            return names[i].name;
    return "unknown";
}

static void print_object(FILE *out, uint64_t object) {
    if (object >= MAPFS_OBJECT_PENDING)
        (void)fprintf(out, "generation %" PRIu64, object - MAPFS_OBJECT_PENDING);
    else if (object >= MAPFS_OBJECT_SYSTEM)
        (void)fprintf(out, "system %" PRIu64, object - MAPFS_OBJECT_SYSTEM);
    else
        (void)fprintf(out, "%" PRIu64, object);
}

void mapfs_dump_item(FILE *out, MapfsKey key, const void *value, size_t value_len) {
    print_object(out, key.object);
    (void)fprintf(out, " %s %" PRIu64 ": ", kind_name(key.kind), key.offset);
    if (key.kind == MAPFS_KIND_INODE)
        print_inode(out, value, value_len);
    else if (key.kind == MAPFS_KIND_XATTR)
        print_xattr(out, key, value, value_len);
    else if (key.kind == MAPFS_KIND_EXTENT)
        print_extent(out, value, value_len);
    else if (key.kind == MAPFS_KIND_DIRENT)
        print_dirent(out, value, value_len);
    else if (key.kind == MAPFS_KIND_GROUP)
        print_group(out, value, value_len);
    else if (key.kind == MAPFS_KIND_PENDING)
        print_pending(out, value, value_len);
    else if (key.kind == MAPFS_KIND_ORPHAN)
        print_orphan(out, value, value_len);
    else
        (void)fprintf(out, "%zu bytes", value_len);
    (void)fputc('\n', out);
}

void mapfs_dump_superblock(FILE *out, const struct mapfs_disk_superblock *superblock) {
    const struct {
        const char *name;
        struct mapfs_le64 value;
    } fields[] = {
        {"generation", superblock->generation},
        {"epoch", superblock->epoch},
        {"lsn", superblock->lsn},
        {"feature_compat", superblock->feature_compat},
        {"feature_ro_compat", superblock->feature_ro_compat},
        {"feature_incompat", superblock->feature_incompat},
        {"n_blocks", superblock->n_blocks},
        {"log_start", superblock->log_start},
        {"log_blocks", superblock->log_blocks},
        {"log_nonce", superblock->log_nonce},
        {"log_sequence", superblock->log_sequence},
        {"log_head", superblock->log_head},
        {"log_previous", superblock->log_previous},
        {"root_address", superblock->root_address},
        {"root_generation", superblock->root_generation},
        {"next_ino", superblock->next_ino},
        {"hash_seed", superblock->hash_seed},
        {"checksum_seed", superblock->checksum_seed},
        {"n_free_blocks", superblock->n_free_blocks},
        {"n_pending_blocks", superblock->n_pending_blocks},
        {"n_inodes", superblock->n_inodes},
        {"mkfs_time", superblock->mkfs_time},
        {"write_time", superblock->write_time},
        {"flags", superblock->flags},
        {"checksum", superblock->checksum},
    };
    char uuid[37];

    mapfs_uuid_print(superblock->uuid, uuid);
    (void)fprintf(out, "  uuid %s\n  label ", uuid);
    print_bytes(out, (const char *)superblock->label, strnlen((const char *)superblock->label, MAPFS_LABEL_LEN));
    (void)fprintf(out, "\n  version %u\n  block_size %u\n  root_level %u\n", mapfs_le32_load(superblock->version),
                  mapfs_le32_load(superblock->block_size), mapfs_le32_load(superblock->root_level));
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(fields); i++)
        (void)fprintf(out, "  %s %" PRIu64 "\n", fields[i].name, mapfs_le64_load(fields[i].value));
}
