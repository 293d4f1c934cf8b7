/* SPDX-License-Identifier: MIT */

#include "format/items.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "format/checksum.h"
#include "format/name.h"
#include "format/node.h"
#include "format/superblock.h"
#include "format/zero.h"

/* Chunks that the longest value with the longest name takes. */
#define XATTR_CHUNKS_MAX                                                                                      \
    ((sizeof(struct mapfs_disk_xattr) + MAPFS_NAME_LEN_MAX + MAPFS_XATTR_VALUE_MAX + MAPFS_XATTR_CHUNK - 1) / \
     MAPFS_XATTR_CHUNK)
_Static_assert(XATTR_CHUNKS_MAX <= 256, "chunks have 8 bits in the key");
_Static_assert(MAPFS_XATTR_CHUNK <= MAPFS_VALUE_LEN_MAX, "a chunk fits an item");
_Static_assert(MAPFS_INLINE_MAX <= MAPFS_VALUE_LEN_MAX, "inline data fit an item");

/* An item under check; the value is read where it lies, each field copied out before it is judged. */
typedef struct {
    uint64_t block;
    MapfsKey key;
    const void *value;
    size_t value_len;
} Item;

/* One place for the frequent verdict on a field. */
static int item_damage(const Item *item, const char *object, const char *what, uint64_t found) {
    return mapfs_damage(item->block, object, "%s of %" PRIu64 "/%" PRIu64 " is %" PRIu64, what, item->key.object,
                        item->key.offset, found);
}

uint64_t mapfs_dirent_hash(const char *name, size_t name_len, uint64_t hash_seed) {
    uint64_t hash = mapfs_hash(name, name_len, hash_seed) >> 5;

    return hash > 0 ? hash : 1;
}

uint64_t mapfs_xattr_hash(const char *name, size_t name_len, uint64_t hash_seed) {
    return mapfs_hash(name, name_len, hash_seed) >> MAPFS_XATTR_HASH_SHIFT;
}

uint8_t mapfs_dirent_type_from_mode(uint32_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG:
    case S_IFDIR:
    case S_IFLNK:
    case S_IFCHR:
    case S_IFBLK:
    case S_IFIFO:
    case S_IFSOCK:
        return (uint8_t)IFTODT(mode);
    default:
        return 0;
    }
}

uint32_t mapfs_mode_from_dirent_type(uint8_t type) {
    uint32_t mode = (uint32_t)DTTOIF(type) & S_IFMT;

    return mapfs_dirent_type_from_mode(mode) == type ? mode : 0;
}

bool mapfs_item_fits_type(uint8_t kind, uint8_t type) {
    switch (kind) {
    case MAPFS_KIND_INODE:
    case MAPFS_KIND_XATTR:
        return true;
    case MAPFS_KIND_INLINE:
        return type == DT_REG || type == DT_LNK;
    case MAPFS_KIND_EXTENT:
        return type == DT_REG;
    case MAPFS_KIND_DIRENT:
        return type == DT_DIR;
    default:
        return false;
    }
}

static int inode_check_by_type(const Item *item, const struct mapfs_disk_inode *inode) {
    uint32_t type = mapfs_le32_load(inode->mode) & S_IFMT;
    uint32_t nlink = mapfs_le32_load(inode->nlink);
    uint64_t size = mapfs_le64_load(inode->size);
    uint64_t parent = mapfs_le64_load(inode->parent);

    if (type == S_IFDIR ? parent >= MAPFS_INO_LIMIT || (parent == 0 && nlink > 0) : parent != 0)
        return item_damage(item, "inode", "parent", parent);
    if (type == S_IFDIR && nlink == 1)
        return item_damage(item, "inode", "link count of a directory", nlink);
    if (type != S_IFREG && mapfs_le64_load(inode->n_blocks) != 0)
        return item_damage(item, "inode", "number of blocks", mapfs_le64_load(inode->n_blocks));
    if (type == S_IFLNK ? size == 0 || size > MAPFS_SYMLINK_LEN_MAX : type != S_IFREG && type != S_IFDIR && size != 0)
        return item_damage(item, "inode", "size", size);
    if (type != S_IFCHR && type != S_IFBLK && mapfs_le64_load(inode->rdev) != 0)
        return item_damage(item, "inode", "device number", mapfs_le64_load(inode->rdev));
    return 0;
}

static int inode_check(const Item *item) {
    struct mapfs_disk_inode inode;
    uint32_t mode;

    if (item->value_len != sizeof(inode) || item->key.offset != 0)
        return item_damage(item, "inode", "length", item->value_len);
    memcpy(&inode, item->value, sizeof(inode));
    mode = mapfs_le32_load(inode.mode);
    if (mapfs_dirent_type_from_mode(mode) == 0 || (mode & ~(uint32_t)(S_IFMT | 07777)) != 0)
        return item_damage(item, "inode", "mode", mode);
    if (mapfs_le64_load(inode.size) > MAPFS_FILE_SIZE_MAX)
        return item_damage(item, "inode", "size", mapfs_le64_load(inode.size));
    if (mapfs_le32_load(inode.nlink) > MAPFS_LINK_MAX)
        return item_damage(item, "inode", "link count", mapfs_le32_load(inode.nlink));
    if (mapfs_le64_load(inode.n_blocks) > MAPFS_IMAGE_BLOCKS_MAX)
        return item_damage(item, "inode", "number of blocks", mapfs_le64_load(inode.n_blocks));
    if (mapfs_le64_load(inode.flags) & ~MAPFS_INODE_FLAGS_KNOWN)
        return item_damage(item, "inode", "flags field", mapfs_le64_load(inode.flags));
    if (!mapfs_zero_check(inode.reserved, sizeof(inode.reserved)))
        return mapfs_damage(item->block, "inode", "reserved bytes of inode %" PRIu64 " are not zero", item->key.object);
    return inode_check_by_type(item, &inode);
}

static int xattr_check(const Item *item) {
    unsigned chunk = (unsigned)(item->key.offset & ((1u << MAPFS_XATTR_SLOT_SHIFT) - 1));
    struct mapfs_disk_xattr xattr;
    size_t len;

    if (chunk >= XATTR_CHUNKS_MAX)
        return item_damage(item, "xattr", "chunk", chunk);
    if (chunk > 0) {
        if (item->value_len == 0 || item->value_len > MAPFS_XATTR_CHUNK)
            return item_damage(item, "xattr", "length of a chunk", item->value_len);
        return 0;
    }
    if (item->value_len < sizeof(xattr))
        return item_damage(item, "xattr", "length", item->value_len);
    memcpy(&xattr, item->value, sizeof(xattr));
    if (xattr.name_len == 0 || mapfs_le32_load(xattr.value_len) > MAPFS_XATTR_VALUE_MAX)
        return item_damage(item, "xattr", "length of name or value", mapfs_le32_load(xattr.value_len));
    if (!mapfs_zero_check(xattr.reserved, sizeof(xattr.reserved)))
        return item_damage(item, "xattr", "reserved", xattr.reserved[0]);
    len = sizeof(xattr) + xattr.name_len + mapfs_le32_load(xattr.value_len);
    if (item->value_len != MAPFS_MIN(len, MAPFS_XATTR_CHUNK))
        return item_damage(item, "xattr", "length", item->value_len);
    if (memchr((const char *)item->value + sizeof(xattr), '\0', xattr.name_len))
        return item_damage(item, "xattr", "character of the name", 0);
    return 0;
}

static int inline_check(const Item *item) {
    uint64_t offset = item->key.offset;

    if (offset % MAPFS_SYMLINK_CHUNK != 0 || offset >= MAPFS_SYMLINK_LEN_MAX)
        return item_damage(item, "inline data", "offset", offset);
    if (item->value_len == 0 || item->value_len > MAPFS_INLINE_MAX || item->value_len > MAPFS_SYMLINK_LEN_MAX - offset)
        return item_damage(item, "inline data", "length", item->value_len);
    return 0;
}

static int extent_check(const Item *item) {
    const uint64_t n_file_blocks = MAPFS_FILE_SIZE_MAX >> MAPFS_BLOCK_SHIFT;
    struct mapfs_disk_extent extent;
    uint64_t block;
    uint32_t n_blocks;

    if (item->value_len != sizeof(extent))
        return item_damage(item, "extent", "length", item->value_len);
    memcpy(&extent, item->value, sizeof(extent));
    block = mapfs_le64_load(extent.block);
    n_blocks = mapfs_le32_load(extent.n_blocks);
    if (n_blocks == 0 || n_blocks > MAPFS_EXTENT_BLOCKS_MAX)
        return item_damage(item, "extent", "number of blocks", n_blocks);
    if (item->key.offset >= n_file_blocks || n_blocks > n_file_blocks - item->key.offset)
        return item_damage(item, "extent", "last block in the file, past the largest file, with a number of blocks",
                           n_blocks);
    if (block < MAPFS_FIRST_BLOCK || block >= MAPFS_IMAGE_BLOCKS_MAX || n_blocks > MAPFS_IMAGE_BLOCKS_MAX - block)
        return item_damage(item, "extent", "block", block);
    if (mapfs_le32_load(extent.flags) & ~MAPFS_EXTENT_FLAGS_KNOWN)
        return item_damage(item, "extent", "flags field", mapfs_le32_load(extent.flags));
    if ((mapfs_le32_load(extent.flags) & MAPFS_EXTENT_UNWRITTEN) &&
        (mapfs_le32_load(extent.flags) & MAPFS_EXTENT_SHARED))
        return item_damage(item, "extent", "flags field", mapfs_le32_load(extent.flags));
    if (mapfs_le64_load(extent.birth_generation) == 0)
        return item_damage(item, "extent", "birth generation", 0);
    if (mapfs_le64_load(extent.reserved) != 0)
        return item_damage(item, "extent", "reserved field", mapfs_le64_load(extent.reserved));
    return 0;
}

static int dirent_check(const Item *item) {
    struct mapfs_disk_dirent dirent;
    const char *name = (const char *)item->value + sizeof(dirent);
    uint64_t ino;

    if (item->value_len < sizeof(dirent))
        return item_damage(item, "directory entry", "length", item->value_len);
    memcpy(&dirent, item->value, sizeof(dirent));
    ino = mapfs_le64_load(dirent.ino);
    if (item->key.offset < 1u << MAPFS_DIRENT_SLOT_SHIFT || item->key.offset > (uint64_t)INT64_MAX)
        return item_damage(item, "directory entry", "hash", item->key.offset);
    if (item->value_len != sizeof(dirent) + dirent.name_len)
        return item_damage(item, "directory entry", "length", item->value_len);
    if (ino == 0 || ino >= MAPFS_INO_LIMIT)
        return item_damage(item, "directory entry", "inode", ino);
    if (mapfs_mode_from_dirent_type(dirent.type) == 0)
        return item_damage(item, "directory entry", "type", dirent.type);
    if (!mapfs_zero_check(dirent.reserved, sizeof(dirent.reserved)))
        return item_damage(item, "directory entry", "reserved", dirent.reserved[0]);
    if (!mapfs_name_check(name, dirent.name_len))
        return mapfs_damage(item->block, "directory entry", "name of %" PRIu64 "/%" PRIu64 " is not allowed",
                            item->key.object, item->key.offset);
    return 0;
}

static int inode_item_check(const Item *item) {
    switch (item->key.kind) {
    case MAPFS_KIND_INODE:
        return inode_check(item);
    case MAPFS_KIND_XATTR:
        return xattr_check(item);
    case MAPFS_KIND_INLINE:
        return inline_check(item);
    case MAPFS_KIND_EXTENT:
        return extent_check(item);
    case MAPFS_KIND_DIRENT:
        return dirent_check(item);
    default:
        return item_damage(item, "tree item", "kind", item->key.kind);
    }
}

static int group_check(const Item *item) {
    struct mapfs_disk_group group;

    if (item->key.kind != MAPFS_KIND_GROUP)
        return item_damage(item, "tree item", "kind", item->key.kind);
    if (item->value_len != sizeof(group))
        return item_damage(item, "block group", "length", item->value_len);
    if (item->key.offset > MAPFS_IMAGE_BLOCKS_MAX / MAPFS_GROUP_BLOCKS)
        return item_damage(item, "block group", "number", item->key.offset);
    memcpy(&group, item->value, sizeof(group));
    if (mapfs_le64_load(group.bitmap_address) < MAPFS_FIRST_BLOCK)
        return item_damage(item, "block group", "bitmap's block", mapfs_le64_load(group.bitmap_address));
    if (mapfs_le64_load(group.bitmap_generation) == 0)
        return item_damage(item, "block group", "bitmap's generation", 0);
    if (mapfs_le32_load(group.n_free) > MAPFS_GROUP_BLOCKS)
        return item_damage(item, "block group", "number of free blocks", mapfs_le32_load(group.n_free));
    if (mapfs_le32_load(group.reserved) != 0)
        return item_damage(item, "block group", "reserved field", mapfs_le32_load(group.reserved));
    return 0;
}

static int orphan_check(const Item *item) {
    struct mapfs_disk_orphan orphan;
    uint32_t flags;
    uint64_t cut;

    if (item->key.kind != MAPFS_KIND_ORPHAN)
        return item_damage(item, "tree item", "kind", item->key.kind);
    if (item->value_len != sizeof(orphan))
        return item_damage(item, "orphan", "length", item->value_len);
    if (item->key.offset == 0 || item->key.offset >= MAPFS_INO_LIMIT)
        return item_damage(item, "orphan", "inode", item->key.offset);
    memcpy(&orphan, item->value, sizeof(orphan));
    flags = mapfs_le32_load(orphan.flags);
    cut = mapfs_le64_load(orphan.cut);
    if (flags == 0 || (flags & ~(MAPFS_ORPHAN_UNLINKED | MAPFS_ORPHAN_TRUNCATED)) != 0)
        return item_damage(item, "orphan", "flags field", flags);
    if (cut % MAPFS_BLOCK_SIZE != 0 || cut > MAPFS_FILE_SIZE_MAX || (cut != 0 && !(flags & MAPFS_ORPHAN_TRUNCATED)))
        return item_damage(item, "orphan", "cut", cut);
    if (mapfs_le32_load(orphan.reserved) != 0)
        return item_damage(item, "orphan", "reserved field", mapfs_le32_load(orphan.reserved));
    return 0;
}

static int shared_check(const Item *item) {
    struct mapfs_disk_shared shared;

    if (item->key.kind != MAPFS_KIND_SHARED)
        return item_damage(item, "tree item", "kind", item->key.kind);
    if (item->value_len != sizeof(shared))
        return item_damage(item, "shared extent", "length", item->value_len);
    memcpy(&shared, item->value, sizeof(shared));
    if (item->key.offset < MAPFS_FIRST_BLOCK || item->key.offset >= MAPFS_IMAGE_BLOCKS_MAX)
        return item_damage(item, "shared extent", "block", item->key.offset);
    if (mapfs_le64_load(shared.n_blocks) == 0 ||
        mapfs_le64_load(shared.n_blocks) > MAPFS_IMAGE_BLOCKS_MAX - item->key.offset)
        return item_damage(item, "shared extent", "number of blocks", mapfs_le64_load(shared.n_blocks));
    if (mapfs_le32_load(shared.n_refs) < 2)
        return item_damage(item, "shared extent", "number of references", mapfs_le32_load(shared.n_refs));
    if (mapfs_le32_load(shared.reserved) != 0)
        return item_damage(item, "shared extent", "reserved field", mapfs_le32_load(shared.reserved));
    return 0;
}

static int snapshot_check(const Item *item) {
    struct mapfs_disk_snapshot snapshot;

    if (item->key.kind != MAPFS_KIND_SNAPSHOT)
        return item_damage(item, "tree item", "kind", item->key.kind);
    if (item->value_len < sizeof(snapshot))
        return item_damage(item, "snapshot", "length", item->value_len);
    memcpy(&snapshot, item->value, sizeof(snapshot));
    if (item->value_len != sizeof(snapshot) + snapshot.name_len)
        return item_damage(item, "snapshot", "length", item->value_len);
    if (mapfs_le64_load(snapshot.root_address) < MAPFS_FIRST_BLOCK)
        return item_damage(item, "snapshot", "root", mapfs_le64_load(snapshot.root_address));
    if (mapfs_le64_load(snapshot.root_generation) == 0 || mapfs_le64_load(snapshot.root_generation) > item->key.offset)
        return item_damage(item, "snapshot", "root's generation", mapfs_le64_load(snapshot.root_generation));
    if (mapfs_le32_load(snapshot.root_level) >= MAPFS_TREE_LEVELS_MAX)
        return item_damage(item, "snapshot", "root's level", mapfs_le32_load(snapshot.root_level));
    if (mapfs_le32_load(snapshot.flags) != 0)
        return item_damage(item, "snapshot", "flags field", mapfs_le32_load(snapshot.flags));
    if (!mapfs_name_check((const char *)item->value + sizeof(snapshot), snapshot.name_len) ||
        !mapfs_zero_check(snapshot.reserved, sizeof(snapshot.reserved)))
        return mapfs_damage(item->block, "snapshot", "name of %" PRIu64 " is not allowed", item->key.offset);
    return 0;
}

static int pending_check_run(const Item *item, unsigned index, uint64_t *end) {
    struct mapfs_disk_pending_run run;
    uint64_t block;
    uint32_t n_blocks;

    memcpy(&run, (const uint8_t *)item->value + index * sizeof(run), sizeof(run));
    block = mapfs_le64_load(run.block);
    n_blocks = mapfs_le32_load(run.n_blocks);
    if (index == 0 ? block != item->key.offset : block < *end)
        return item_damage(item, "pending free", "block, out of order,", block);
    if (block < MAPFS_FIRST_BLOCK || block >= MAPFS_IMAGE_BLOCKS_MAX)
        return item_damage(item, "pending free", "block", block);
    if (n_blocks == 0 || n_blocks > MAPFS_IMAGE_BLOCKS_MAX - block)
        return item_damage(item, "pending free", "number of blocks", n_blocks);
    if (mapfs_le32_load(run.reserved) != 0)
        return item_damage(item, "pending free", "reserved field", mapfs_le32_load(run.reserved));
    *end = block + n_blocks;
    return 0;
}

static int pending_check(const Item *item) {
    size_t n_runs = item->value_len / sizeof(struct mapfs_disk_pending_run);
    uint64_t end = 0;

    if (item->key.kind != MAPFS_KIND_PENDING)
        return item_damage(item, "tree item", "kind", item->key.kind);
    if (n_runs == 0 || n_runs > MAPFS_PENDING_RUNS_MAX || item->value_len % sizeof(struct mapfs_disk_pending_run) != 0)
        return item_damage(item, "pending free", "length", item->value_len);
    for (unsigned i = 0; i < n_runs; i++) {
        int r = pending_check_run(item, i, &end);

        if (r < 0)
            return r;
    }
    return 0;
}

int mapfs_item_check(uint64_t block, MapfsKey key, const void *value, size_t value_len) {
    const Item item = {.block = block, .key = key, .value = value, .value_len = value_len};

    if (key.object > 0 && key.object < MAPFS_INO_LIMIT)
        return inode_item_check(&item);
    if (key.object > MAPFS_OBJECT_PENDING)
        return pending_check(&item);
    switch (key.object) {
    case MAPFS_OBJECT_GROUPS:
        return group_check(&item);
    case MAPFS_OBJECT_ORPHANS:
        return orphan_check(&item);
    case MAPFS_OBJECT_SHARED:
        return shared_check(&item);
    case MAPFS_OBJECT_SNAPSHOTS:
        return snapshot_check(&item);
    default:
        return mapfs_damage(block, "tree item", "there is no object %" PRIu64, key.object);
    }
}
