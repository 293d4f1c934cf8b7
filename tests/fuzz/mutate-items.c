/* SPDX-License-Identifier: MIT */

/* Items of each kind, made from nothing or changed field by field. */

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "format/items.h"
#include "mutate.h"

typedef struct {
    uint16_t offset;
    uint8_t width;
} Field;

#define FIELD(type, member) \
    { offsetof(struct type, member), sizeof(((struct type *)0)->member) }

static const Field inode_fields[] = {
    FIELD(mapfs_disk_inode, size),  FIELD(mapfs_disk_inode, n_blocks), FIELD(mapfs_disk_inode, flags),
    FIELD(mapfs_disk_inode, atime), FIELD(mapfs_disk_inode, change),   FIELD(mapfs_disk_inode, parent),
    FIELD(mapfs_disk_inode, rdev),  FIELD(mapfs_disk_inode, mode),     FIELD(mapfs_disk_inode, uid),
    FIELD(mapfs_disk_inode, nlink), FIELD(mapfs_disk_inode, n_xattrs), FIELD(mapfs_disk_inode, project),
    FIELD(mapfs_disk_inode, size),  FIELD(mapfs_disk_inode, nlink),
};
static const Field xattr_fields[] = {FIELD(mapfs_disk_xattr, value_len), FIELD(mapfs_disk_xattr, name_len)};
static const Field extent_fields[] = {
    FIELD(mapfs_disk_extent, block),       FIELD(mapfs_disk_extent, n_blocks),
    FIELD(mapfs_disk_extent, flags),       FIELD(mapfs_disk_extent, birth_generation),
    FIELD(mapfs_disk_extent, birth_epoch),
};
static const Field dirent_fields[] = {FIELD(mapfs_disk_dirent, ino), FIELD(mapfs_disk_dirent, type),
                                      FIELD(mapfs_disk_dirent, name_len)};
static const Field group_fields[] = {FIELD(mapfs_disk_group, bitmap_address),
                                     FIELD(mapfs_disk_group, bitmap_generation), FIELD(mapfs_disk_group, n_free)};
static const Field orphan_fields[] = {FIELD(mapfs_disk_orphan, flags), FIELD(mapfs_disk_orphan, cut)};
static const Field shared_fields[] = {FIELD(mapfs_disk_shared, n_blocks), FIELD(mapfs_disk_shared, n_refs)};
static const Field snapshot_fields[] = {
    FIELD(mapfs_disk_snapshot, root_address), FIELD(mapfs_disk_snapshot, root_generation),
    FIELD(mapfs_disk_snapshot, root_level),   FIELD(mapfs_disk_snapshot, flags),
    FIELD(mapfs_disk_snapshot, name_len),
};
static const Field pending_fields[] = {FIELD(mapfs_disk_pending_run, block), FIELD(mapfs_disk_pending_run, n_blocks)};

static const struct {
    uint8_t kind;
    unsigned n_fields;
    const Field *fields;
} kinds[] = {
    {MAPFS_KIND_INODE, MAPFS_N_ELEMENTS(inode_fields), inode_fields},
    {MAPFS_KIND_XATTR, MAPFS_N_ELEMENTS(xattr_fields), xattr_fields},
    {MAPFS_KIND_EXTENT, MAPFS_N_ELEMENTS(extent_fields), extent_fields},
    {MAPFS_KIND_DIRENT, MAPFS_N_ELEMENTS(dirent_fields), dirent_fields},
    {MAPFS_KIND_GROUP, MAPFS_N_ELEMENTS(group_fields), group_fields},
    {MAPFS_KIND_ORPHAN, MAPFS_N_ELEMENTS(orphan_fields), orphan_fields},
    {MAPFS_KIND_SHARED, MAPFS_N_ELEMENTS(shared_fields), shared_fields},
    {MAPFS_KIND_PENDING, MAPFS_N_ELEMENTS(pending_fields), pending_fields},
    {MAPFS_KIND_SNAPSHOT, MAPFS_N_ELEMENTS(snapshot_fields), snapshot_fields},
};

static bool change_field(FuzzMutation *mutation, FuzzItem *item) {
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(kinds); i++) {
        Field field;

        if (kinds[i].kind != item->key.kind)
            continue;
        field = kinds[i].fields[fuzz_random_below(&mutation->random, kinds[i].n_fields)];
        if (item->value_len < (size_t)field.offset + field.width)
            return false;
        fuzz_change_integer(mutation, item->value + field.offset, field.width);
        return true;
    }
    return false;
}

static void change_key(FuzzMutation *mutation, FuzzItem *item) {
    FuzzItem other;

    switch (fuzz_random_below(&mutation->random, 4)) {
    case 0:
        item->key.object = fuzz_below(mutation, 3, 4) ? fuzz_pick_ino(mutation) : fuzz_pick_number(mutation);
        break;
    case 1:
        if (fuzz_pick_item(mutation, &other))
            item->key.kind = other.key.kind;
        break;
    case 2:
        item->key.offset += fuzz_random_below(&mutation->random, 5) - 2;
        break;
    default:
        item->key.offset = fuzz_pick_number(mutation);
        break;
    }
}

static void change_length(FuzzMutation *mutation, FuzzItem *item) {
    size_t len = fuzz_below(mutation, 1, 2) ? item->value_len + fuzz_random_below(&mutation->random, 33) - 16
                                            : fuzz_random_below(&mutation->random, MAPFS_VALUE_LEN_MAX + 1);

    if (len > MAPFS_VALUE_LEN_MAX)
        return;
    if (len > item->value_len)
        memset(item->value + item->value_len, 0, len - item->value_len);
    item->value_len = len;
}

void fuzz_item_change(FuzzMutation *mutation, FuzzItem *item) {
    switch (fuzz_random_below(&mutation->random, 8)) {
    case 0:
        change_length(mutation, item);
        break;
    case 1:
    case 2:
        change_key(mutation, item);
        break;
    case 3:
        if (item->value_len > 0)
            (void)mutation->bytes_mutate(item->value, item->value_len, item->value_len); /* the length stays */
        break;
    default:
        if (!change_field(mutation, item))
            change_key(mutation, item);
        break;
    }
}

/* --- from nothing --- */

/* Short names, and few of them, so that the same ones are met again. */
static size_t make_name(FuzzMutation *mutation, char name[8]) {
    name[0] = (char)('a' + fuzz_random_below(&mutation->random, 8));
    name[1] = (char)('0' + fuzz_random_below(&mutation->random, 4));
    return 1 + fuzz_random_below(&mutation->random, 2);
}

static uint64_t hash_seed(const FuzzMutation *mutation) {
    const struct mapfs_disk_superblock *superblock = fuzz_superblock(mutation);

    return superblock ? mapfs_le64_load(superblock->hash_seed) : 0;
}

static void make_inode(FuzzMutation *mutation, FuzzItem *item) {
    static const uint32_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFCHR, S_IFREG, S_IFDIR};
    uint32_t type = types[fuzz_random_below(&mutation->random, MAPFS_N_ELEMENTS(types))];
    uint64_t ino = fuzz_pick_ino(mutation);
    struct mapfs_disk_inode inode = {
        .size = mapfs_le64_store(type == S_IFDIR || type == S_IFREG ? fuzz_pick_number(mutation) >> 4
                                 : type == S_IFLNK                  ? 1 + fuzz_random_below(&mutation->random, 4095)
                                                                    : 0),
        .n_blocks = mapfs_le64_store(type == S_IFREG ? fuzz_random_below(&mutation->random, 4) : 0),
        .parent = mapfs_le64_store(type == S_IFDIR ? fuzz_pick_ino(mutation) : 0),
        .mode = mapfs_le32_store(type | 0755),
        .nlink = mapfs_le32_store((uint32_t)fuzz_random_below(&mutation->random, 4)),
        .n_xattrs = mapfs_le32_store((uint32_t)fuzz_random_below(&mutation->random, 3)),
    };

    item->key = (MapfsKey){.object = fuzz_below(mutation, 1, 2) ? ino : ino + 1, .kind = MAPFS_KIND_INODE};
    item->value_len = sizeof(inode);
    memcpy(item->value, &inode, sizeof(inode));
}

static void make_dirent(FuzzMutation *mutation, FuzzItem *item) {
    static const uint8_t types[] = {4, 8, 10, 2, 1};
    struct mapfs_disk_dirent dirent = {
        .ino = mapfs_le64_store(fuzz_pick_ino(mutation)),
        .type = types[fuzz_random_below(&mutation->random, MAPFS_N_ELEMENTS(types))],
    };
    char name[8];
    uint64_t hash;

    dirent.name_len = (uint8_t)make_name(mutation, name);
    hash = mapfs_dirent_hash(name, dirent.name_len, hash_seed(mutation));
    item->key = (MapfsKey){.object = fuzz_pick_ino(mutation),
                           .kind = MAPFS_KIND_DIRENT,
                           .offset = hash << MAPFS_DIRENT_SLOT_SHIFT | fuzz_random_below(&mutation->random, 3)};
    memcpy(item->value, &dirent, sizeof(dirent));
    memcpy(item->value + sizeof(dirent), name, dirent.name_len);
    item->value_len = sizeof(dirent) + dirent.name_len;
}

static void make_extent(FuzzMutation *mutation, FuzzItem *item) {
    const struct mapfs_disk_superblock *superblock = fuzz_superblock(mutation);
    const FuzzBlock *block = fuzz_pick_block(mutation);
    uint64_t generation = superblock ? mapfs_le64_load(superblock->generation) : 1;
    uint64_t epoch = superblock ? mapfs_le64_load(superblock->epoch) : 1;
    struct mapfs_disk_extent extent = {
        .block = mapfs_le64_store(block && fuzz_below(mutation, 1, 2) ? block->number : fuzz_pick_number(mutation)),
        .n_blocks = mapfs_le32_store((uint32_t)(1 + fuzz_random_below(&mutation->random, 8))),
        .flags = mapfs_le32_store((uint32_t)fuzz_random_below(&mutation->random, 4)),
        .birth_generation = mapfs_le64_store(generation + fuzz_random_below(&mutation->random, 3) - 1),
        .birth_epoch = mapfs_le64_store(epoch + fuzz_random_below(&mutation->random, 3)),
    };

    item->key = (MapfsKey){.object = fuzz_pick_ino(mutation),
                           .kind = MAPFS_KIND_EXTENT,
                           .offset = fuzz_below(mutation, 1, 4) ? fuzz_pick_number(mutation)
                                                                : fuzz_random_below(&mutation->random, 32)};
    item->value_len = sizeof(extent);
    memcpy(item->value, &extent, sizeof(extent));
}

static void make_xattr(FuzzMutation *mutation, FuzzItem *item) {
    struct mapfs_disk_xattr xattr = {.name_len = 6};
    char name[] = "user.0";
    uint32_t value_len = (uint32_t)fuzz_random_below(&mutation->random, fuzz_below(mutation, 1, 2) ? 20 : 5000);
    uint64_t hash;

    name[5] = (char)('0' + fuzz_random_below(&mutation->random, 6));
    hash = mapfs_xattr_hash(name, 6, hash_seed(mutation));
    xattr.value_len = mapfs_le32_store(value_len);
    item->key = (MapfsKey){.object = fuzz_pick_ino(mutation),
                           .kind = MAPFS_KIND_XATTR,
                           .offset = mapfs_xattr_offset(
                               hash, (unsigned)fuzz_random_below(&mutation->random, 3),
                               fuzz_below(mutation, 1, 4) ? (unsigned)fuzz_random_below(&mutation->random, 4) : 0)};
    item->value_len = MAPFS_MIN(sizeof(xattr) + 6 + value_len, MAPFS_XATTR_CHUNK);
    memset(item->value, 'v', item->value_len);
    memcpy(item->value, &xattr, sizeof(xattr));
    memcpy(item->value + sizeof(xattr), name, 6);
}

/* A list as the kernel has it, of up to five entries, mostly in their order; then it is changed by whoever changes items. */
static size_t make_acl(FuzzMutation *mutation, uint8_t *bytes) {
    static const uint8_t tags[] = {1, 2, 4, 8, 16, 32};
    size_t len = 4;

    memset(bytes, 0, len);
    bytes[0] = 2;
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(tags); i++) {
        const uint8_t entry[8] = {tags[i], 0, (uint8_t)fuzz_random_below(&mutation->random, 8), 0, 100};

        if (fuzz_below(mutation, 1, 8))
            continue;
        memcpy(bytes + len, entry, sizeof(entry));
        len += sizeof(entry);
    }
    return len;
}

/* The attributes that the filesystem itself reads. */
static void make_own_xattr(FuzzMutation *mutation, FuzzItem *item) {
    static const char *const names[] = {"system.posix_acl_access", "system.posix_acl_default", "security.capability"};
    const char *name = names[fuzz_random_below(&mutation->random, MAPFS_N_ELEMENTS(names))];
    struct mapfs_disk_xattr xattr = {.name_len = (uint8_t)strlen(name)};
    uint8_t value[64] = {0};
    size_t value_len = name[1] == 'y' ? make_acl(mutation, value) : 20;

    xattr.value_len = mapfs_le32_store((uint32_t)value_len);
    item->key =
        (MapfsKey){.object = fuzz_pick_ino(mutation),
                   .kind = MAPFS_KIND_XATTR,
                   .offset = mapfs_xattr_offset(mapfs_xattr_hash(name, xattr.name_len, hash_seed(mutation)), 0, 0)};
    memcpy(item->value, &xattr, sizeof(xattr));
    memcpy(item->value + sizeof(xattr), name, xattr.name_len);
    memcpy(item->value + sizeof(xattr) + xattr.name_len, value, value_len);
    item->value_len = sizeof(xattr) + xattr.name_len + value_len;
}

static void make_inline(FuzzMutation *mutation, FuzzItem *item) {
    item->key = (MapfsKey){.object = fuzz_pick_ino(mutation),
                           .kind = MAPFS_KIND_INLINE,
                           .offset = fuzz_below(mutation, 1, 2) ? 0 : MAPFS_SYMLINK_CHUNK};
    item->value_len = 1 + fuzz_random_below(&mutation->random, MAPFS_INLINE_MAX);
    memset(item->value, 'i', item->value_len);
}

static void make_group(FuzzMutation *mutation, FuzzItem *item) {
    const FuzzBlock *block = fuzz_pick_block(mutation);
    struct mapfs_disk_group group = {
        .bitmap_address = mapfs_le64_store(block ? block->number : 40),
        .bitmap_generation = mapfs_le64_store(1 + fuzz_random_below(&mutation->random, 9)),
        .n_free = mapfs_le32_store((uint32_t)fuzz_pick_number(mutation)),
    };

    item->key = (MapfsKey){
        .object = MAPFS_OBJECT_GROUPS, .kind = MAPFS_KIND_GROUP, .offset = fuzz_random_below(&mutation->random, 3)};
    item->value_len = sizeof(group);
    memcpy(item->value, &group, sizeof(group));
}

static void make_orphan(FuzzMutation *mutation, FuzzItem *item) {
    uint32_t flags = 1 + (uint32_t)fuzz_random_below(&mutation->random, 3);
    struct mapfs_disk_orphan orphan = {
        .flags = mapfs_le32_store(flags),
        .cut = mapfs_le64_store(flags & MAPFS_ORPHAN_TRUNCATED ? fuzz_random_below(&mutation->random, 8) << 12 : 0),
    };

    item->key =
        (MapfsKey){.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = fuzz_pick_ino(mutation)};
    item->value_len = sizeof(orphan);
    memcpy(item->value, &orphan, sizeof(orphan));
}

static void make_pending(FuzzMutation *mutation, FuzzItem *item) {
    unsigned n_runs = 1 + (unsigned)fuzz_random_below(&mutation->random, 4);
    uint64_t block = 2 + fuzz_random_below(&mutation->random, mutation->input->n_blocks);

    item->key = (MapfsKey){.object = MAPFS_OBJECT_PENDING + 1 + fuzz_random_below(&mutation->random, 12),
                           .kind = MAPFS_KIND_PENDING,
                           .offset = block};
    item->value_len = 0;
    for (unsigned i = 0; i < n_runs; i++) {
        struct mapfs_disk_pending_run run = {.block = mapfs_le64_store(block)};
        uint32_t n_blocks = fuzz_below(mutation, 1, 8) ? (uint32_t)fuzz_pick_number(mutation)
                                                       : 1 + (uint32_t)fuzz_random_below(&mutation->random, 20);

        run.n_blocks = mapfs_le32_store(n_blocks);
        memcpy(item->value + item->value_len, &run, sizeof(run));
        item->value_len += sizeof(run);
        block += n_blocks + fuzz_random_below(&mutation->random, 9);
    }
}

static void make_shared(FuzzMutation *mutation, FuzzItem *item) {
    struct mapfs_disk_shared shared = {
        .n_blocks = mapfs_le64_store(1 + fuzz_random_below(&mutation->random, 16)),
        .n_refs = mapfs_le32_store((uint32_t)fuzz_random_below(&mutation->random, 5)),
    };

    item->key = (MapfsKey){.object = MAPFS_OBJECT_SHARED,
                           .kind = MAPFS_KIND_SHARED,
                           .offset = fuzz_random_below(&mutation->random, mutation->input->n_blocks)};
    item->value_len = sizeof(shared);
    memcpy(item->value, &shared, sizeof(shared));
}

static void make_snapshot(FuzzMutation *mutation, FuzzItem *item) {
    const FuzzBlock *root = fuzz_pick_node(mutation, -1);
    uint64_t generation = 1 + fuzz_random_below(&mutation->random, 9);
    struct mapfs_disk_snapshot snapshot = {
        .root_address = mapfs_le64_store(root ? root->number : 40),
        .root_generation = mapfs_le64_store(generation),
        .name_len = 1,
    };

    item->key = (MapfsKey){.object = MAPFS_OBJECT_SNAPSHOTS, .kind = MAPFS_KIND_SNAPSHOT, .offset = generation};
    item->value_len = sizeof(snapshot) + 1;
    memcpy(item->value, &snapshot, sizeof(snapshot));
    item->value[sizeof(snapshot)] = 's';
}

void fuzz_item_make(FuzzMutation *mutation, FuzzItem *ret_item) {
    static void (*const makers[])(FuzzMutation *, FuzzItem *) = {
        make_inode,  make_dirent, make_dirent, make_extent, make_extent,  make_xattr,  make_own_xattr,
        make_inline, make_group,  make_orphan, make_orphan, make_pending, make_shared, make_snapshot,
    };

    makers[fuzz_random_below(&mutation->random, MAPFS_N_ELEMENTS(makers))](mutation, ret_item);
}
