/* SPDX-License-Identifier: MIT */

/* The validators of the format: right bytes pass, and each wrong field is refused. */

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/error.h"
#include "format/checksum.h"
#include "format/items.h"
#include "format/name.h"
#include "format/node.h"
#include "format/superblock.h"
#include "format/time.h"

#define SEED UINT64_C(0x0123456789abcdef)

static struct mapfs_disk_superblock valid_superblock(void) {
    struct mapfs_disk_superblock superblock = {
        .version = mapfs_le32_store(MAPFS_FORMAT_VERSION),
        .block_size = mapfs_le32_store(MAPFS_BLOCK_SIZE),
        .generation = mapfs_le64_store(5),
        .n_blocks = mapfs_le64_store(1000),
        .log_start = mapfs_le64_store(2),
        .log_blocks = mapfs_le64_store(16),
        .root_address = mapfs_le64_store(40),
        .root_generation = mapfs_le64_store(5),
        .next_ino = mapfs_le64_store(2),
        .n_inodes = mapfs_le64_store(1),
    };

    memcpy(superblock.magic, MAPFS_SUPERBLOCK_MAGIC, sizeof(superblock.magic));
    mapfs_superblock_seal(&superblock);
    return superblock;
}

static void test_checksum_is_the_hash_with_its_field_zero(void **state) {
    uint8_t bytes[MAPFS_BLOCK_SIZE];
    uint64_t sealed;

    (void)state;
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t len = 16; len <= sizeof(bytes); len += 8) {
        uint8_t copy[MAPFS_BLOCK_SIZE];

        sealed = mapfs_hash_sealed(bytes, len, SEED);
        memcpy(copy, bytes, len);
        memset(copy + 8, 0, 8);
        assert_true(sealed == mapfs_hash(copy, len, SEED));
        assert_true(sealed == mapfs_hash_sealed(copy, len, SEED));
        assert_true(sealed != mapfs_hash_sealed(copy, len, SEED + 1));
    }
    /* Known values, from the Python binding of the reference implementation. */
    assert_true(mapfs_hash("", 0, 0) == UINT64_C(0x2d06800538d394c2));
    assert_true(mapfs_hash("mapfs", 5, 1) == UINT64_C(0x91623aef2906973b));
}

static void test_superblock_verdicts(void **state) {
    struct mapfs_disk_superblock superblock = {0};

    (void)state;
    assert_int_equal(mapfs_superblock_judge(&superblock), MAPFS_SUPERBLOCK_EMPTY);
    superblock = valid_superblock();
    assert_int_equal(mapfs_superblock_judge(&superblock), MAPFS_SUPERBLOCK_VALID);
    superblock.magic[0]++;
    assert_int_equal(mapfs_superblock_judge(&superblock), MAPFS_SUPERBLOCK_FOREIGN);
    superblock = valid_superblock();
    superblock.label[63]++;
    assert_int_equal(mapfs_superblock_judge(&superblock), MAPFS_SUPERBLOCK_DAMAGED);
    mapfs_superblock_seal(&superblock);
    assert_int_equal(mapfs_superblock_judge(&superblock), MAPFS_SUPERBLOCK_VALID);
    superblock.version = mapfs_le32_store(2);
    mapfs_superblock_seal(&superblock);
    assert_int_equal(mapfs_superblock_judge(&superblock), MAPFS_SUPERBLOCK_VERSION);
    assert_non_null(strstr(mapfs_damage_last(), "version 2"));
    superblock = valid_superblock();
    superblock.block_size = mapfs_le32_store(65536);
    mapfs_superblock_seal(&superblock);
    assert_int_equal(mapfs_superblock_judge(&superblock), MAPFS_SUPERBLOCK_VERSION);
    superblock = valid_superblock();
    superblock.feature_incompat = mapfs_le64_store(0x40);
    mapfs_superblock_seal(&superblock);
    assert_int_equal(mapfs_superblock_judge(&superblock), MAPFS_SUPERBLOCK_UNSUPPORTED);
    assert_non_null(strstr(mapfs_damage_last(), "0x40"));
    superblock = valid_superblock();
    superblock.feature_compat = superblock.feature_ro_compat = mapfs_le64_store(0x40);
    mapfs_superblock_seal(&superblock);
    assert_int_equal(mapfs_superblock_judge(&superblock), MAPFS_SUPERBLOCK_VALID);
}

/* As a wrong offset shows them. */
static void test_superblock_in_the_slot_of_the_other_parity_is_not_chosen(void **state) {
    const MapfsSuperblockVerdict both[] = {MAPFS_SUPERBLOCK_VALID, MAPFS_SUPERBLOCK_VALID};
    const MapfsSuperblockVerdict first[] = {MAPFS_SUPERBLOCK_VALID, MAPFS_SUPERBLOCK_EMPTY};
    struct mapfs_disk_superblock slots[] = {valid_superblock(), valid_superblock()};

    (void)state;
    slots[0].generation = mapfs_le64_store(8);
    slots[1].generation = mapfs_le64_store(10);
    assert_true(mapfs_superblock_is_placed(&slots[0], 0));
    assert_false(mapfs_superblock_is_placed(&slots[1], 1));
    assert_int_equal(mapfs_superblock_choose(slots, both, NULL, 0), 0);
    slots[1].generation = mapfs_le64_store(9);
    assert_int_equal(mapfs_superblock_choose(slots, both, NULL, 0), 1);
    slots[0].generation = mapfs_le64_store(7);
    assert_int_equal(mapfs_superblock_choose(slots, both, NULL, 0), 1);
    assert_int_equal(mapfs_superblock_choose(slots, first, NULL, 0), -1);
}

/* One member of a superblock and a value that it cannot have. */
#define WRONG(member, value) \
    { offsetof(struct mapfs_disk_superblock, member), sizeof(((struct mapfs_disk_superblock *)0)->member), (value) }

static void test_superblock_fields_out_of_range_are_damage(void **state) {
    static const struct {
        size_t offset, size;
        uint64_t value;
    } wrong[] = {
        WRONG(generation, 0),
        WRONG(generation, MAPFS_COUNTER_LIMIT),
        WRONG(generation, UINT64_MAX),
        WRONG(epoch, MAPFS_COUNTER_LIMIT),
        WRONG(lsn, UINT64_MAX),
        WRONG(n_blocks, MAPFS_IMAGE_BLOCKS_MIN - 1),
        WRONG(n_blocks, MAPFS_IMAGE_BLOCKS_MAX + 1),
        WRONG(log_start, 1),
        WRONG(log_start, 985),
        WRONG(log_start, UINT64_MAX),
        WRONG(log_blocks, MAPFS_LOG_BLOCKS_MIN - 1),
        WRONG(log_blocks, MAPFS_LOG_BLOCKS_MAX + 1),
        WRONG(log_head, 16),
        WRONG(root_address, 1),
        WRONG(root_address, 2),
        WRONG(root_address, 17),
        WRONG(root_address, 1000),
        WRONG(root_generation, 0),
        WRONG(root_generation, 6),
        WRONG(root_level, MAPFS_TREE_LEVELS_MAX),
        WRONG(reserved1, 1),
        WRONG(next_ino, 1),
        WRONG(next_ino, MAPFS_INO_LIMIT + 1),
        WRONG(n_free_blocks, 1001),
        WRONG(n_pending_blocks, 1001),
        WRONG(n_inodes, 0),
        WRONG(n_inodes, 2),
        WRONG(flags, 2),
        WRONG(n_written, 1), /* of a run that is zeros */
        WRONG(n_written, MAPFS_WRITTEN_RUNS_MAX + 1),
        WRONG(n_written, UINT32_MAX),
        WRONG(reserved2, 1),
        WRONG(written[0].block, 1),
        {sizeof(struct mapfs_disk_superblock) - 1, 1, 1},
    };

    (void)state;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(wrong); i++) {
        struct mapfs_disk_superblock superblock = valid_superblock();
        struct mapfs_le64 value = mapfs_le64_store(wrong[i].value);

        memcpy((uint8_t *)&superblock + wrong[i].offset, &value, wrong[i].size);
        mapfs_superblock_seal(&superblock);
        if (mapfs_superblock_judge(&superblock) != MAPFS_SUPERBLOCK_DAMAGED)
            fail_msg("value %zu at offset %zu was taken", i, wrong[i].offset);
    }
}

static void test_superblock_lists_of_written_blocks(void **state) {
    static const struct {
        uint64_t block;
        uint32_t n_blocks, reserved;
        MapfsSuperblockVerdict verdict;
    } runs[] = {
        {18, 1, 0, MAPFS_SUPERBLOCK_VALID},     {18, 982, 0, MAPFS_SUPERBLOCK_VALID},
        {18, 983, 0, MAPFS_SUPERBLOCK_DAMAGED}, {17, 1, 0, MAPFS_SUPERBLOCK_DAMAGED},
        {0, 1, 0, MAPFS_SUPERBLOCK_DAMAGED},    {999, 1, 0, MAPFS_SUPERBLOCK_VALID},
        {1000, 1, 0, MAPFS_SUPERBLOCK_DAMAGED}, {UINT64_MAX, 1, 0, MAPFS_SUPERBLOCK_DAMAGED},
        {18, 0, 0, MAPFS_SUPERBLOCK_DAMAGED},   {18, UINT32_MAX, 0, MAPFS_SUPERBLOCK_DAMAGED},
        {18, 1, 1, MAPFS_SUPERBLOCK_DAMAGED},
    };

    (void)state;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(runs); i++) {
        struct mapfs_disk_superblock superblock = valid_superblock();

        superblock.n_written = mapfs_le32_store(1);
        superblock.written[0] = (struct mapfs_disk_written){.block = mapfs_le64_store(runs[i].block),
                                                            .n_blocks = mapfs_le32_store(runs[i].n_blocks),
                                                            .reserved = mapfs_le32_store(runs[i].reserved)};
        mapfs_superblock_seal(&superblock);
        if (mapfs_superblock_judge(&superblock) != runs[i].verdict)
            fail_msg("list %zu is judged as %d", i, mapfs_superblock_judge(&superblock));
    }
}

/* --- items --- */

typedef struct {
    MapfsKey key;
    union {
        struct mapfs_disk_inode inode;
        struct mapfs_disk_xattr xattr;
        struct mapfs_disk_extent extent;
        struct mapfs_disk_dirent dirent;
        struct mapfs_disk_group group;
        struct mapfs_disk_orphan orphan;
        struct mapfs_disk_shared shared;
        struct mapfs_disk_snapshot snapshot;
        struct mapfs_disk_pending_run runs[2];
        uint8_t bytes[2048];
    } value;
    size_t len;
} Item;

static int check(const Item *item) {
    return mapfs_item_check(17, item->key, &item->value, item->len);
}

static Item valid_system_item(uint8_t kind) {
    Item item = {.key = {.kind = kind}};

    switch (kind) {
    case MAPFS_KIND_GROUP:
        item.key.object = MAPFS_OBJECT_GROUPS;
        item.value.group =
            (struct mapfs_disk_group){.bitmap_address = mapfs_le64_store(20), .bitmap_generation = mapfs_le64_store(1)};
        item.len = sizeof(item.value.group);
        break;
    case MAPFS_KIND_ORPHAN:
        item.key.object = MAPFS_OBJECT_ORPHANS;
        item.key.offset = 9;
        item.value.orphan.flags = mapfs_le32_store(MAPFS_ORPHAN_TRUNCATED);
        item.len = sizeof(item.value.orphan);
        break;
    case MAPFS_KIND_SHARED:
        item.key.object = MAPFS_OBJECT_SHARED;
        item.key.offset = 50;
        item.value.shared = (struct mapfs_disk_shared){.n_blocks = mapfs_le64_store(1), .n_refs = mapfs_le32_store(2)};
        item.len = sizeof(item.value.shared);
        break;
    case MAPFS_KIND_SNAPSHOT:
        item.key.object = MAPFS_OBJECT_SNAPSHOTS;
        item.key.offset = 8;
        item.value.snapshot = (struct mapfs_disk_snapshot){
            .root_address = mapfs_le64_store(20), .root_generation = mapfs_le64_store(8), .name_len = 4};
        memcpy(item.value.bytes + sizeof(item.value.snapshot), "name", 4);
        item.len = sizeof(item.value.snapshot) + 4;
        break;
    default:
        item.key.object = MAPFS_OBJECT_PENDING + 3;
        item.key.offset = 50;
        item.value.runs[0] =
            (struct mapfs_disk_pending_run){.block = mapfs_le64_store(50), .n_blocks = mapfs_le32_store(2)};
        item.value.runs[1] =
            (struct mapfs_disk_pending_run){.block = mapfs_le64_store(60), .n_blocks = mapfs_le32_store(1)};
        item.len = 2 * sizeof(item.value.runs[0]);
        break;
    }
    return item;
}

static Item valid_item(uint8_t kind) {
    Item item = {.key = {.object = 5, .kind = kind}};

    switch (kind) {
    case MAPFS_KIND_INODE:
        item.value.inode.mode = mapfs_le32_store(S_IFREG | 04755);
        item.value.inode.nlink = mapfs_le32_store(1);
        item.len = sizeof(item.value.inode);
        break;
    case MAPFS_KIND_XATTR:
        item.value.xattr = (struct mapfs_disk_xattr){.value_len = mapfs_le32_store(3), .name_len = 6};
        memcpy(item.value.bytes + sizeof(item.value.xattr), "user.aabc", 9);
        item.len = sizeof(item.value.xattr) + 9;
        break;
    case MAPFS_KIND_INLINE:
        item.len = 100;
        break;
    case MAPFS_KIND_EXTENT:
        item.value.extent = (struct mapfs_disk_extent){
            .block = mapfs_le64_store(100), .n_blocks = mapfs_le32_store(4), .birth_generation = mapfs_le64_store(1)};
        item.len = sizeof(item.value.extent);
        break;
    case MAPFS_KIND_DIRENT:
        item.key.offset = 64;
        item.value.dirent = (struct mapfs_disk_dirent){.ino = mapfs_le64_store(9), .type = DT_REG, .name_len = 4};
        memcpy(item.value.bytes + sizeof(item.value.dirent), "name", 4);
        item.len = sizeof(item.value.dirent) + 4;
        break;
    default:
        return valid_system_item(kind);
    }
    return item;
}

static const uint8_t kinds[] = {
    MAPFS_KIND_INODE, MAPFS_KIND_XATTR,  MAPFS_KIND_INLINE, MAPFS_KIND_EXTENT,   MAPFS_KIND_DIRENT,
    MAPFS_KIND_GROUP, MAPFS_KIND_ORPHAN, MAPFS_KIND_SHARED, MAPFS_KIND_SNAPSHOT, MAPFS_KIND_PENDING,
};

static void test_valid_items_pass(void **state) {
    (void)state;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(kinds); i++) {
        Item item = valid_item(kinds[i]);

        if (check(&item) < 0)
            fail_msg("%s", mapfs_damage_last());
    }
}

static void test_items_of_wrong_length_are_damage(void **state) {
    (void)state;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(kinds); i++) {
        Item item = valid_item(kinds[i]);

        if (kinds[i] == MAPFS_KIND_INLINE)
            item.len = MAPFS_INLINE_MAX;
        item.len++;
        assert_int_equal(check(&item), -EUCLEAN);
        item.len = 0;
        assert_int_equal(check(&item), -EUCLEAN);
    }
}

static void test_items_in_objects_not_theirs_are_damage(void **state) {
    static const uint64_t objects[] = {0, MAPFS_INO_LIMIT, MAPFS_OBJECT_SYSTEM, MAPFS_OBJECT_SNAPSHOTS + 1,
                                       MAPFS_OBJECT_PENDING};

    (void)state;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(kinds); i++) {
        Item item = valid_item(kinds[i]);

        for (size_t j = 0; j < MAPFS_N_ELEMENTS(objects); j++) {
            item.key.object = objects[j];
            assert_int_equal(check(&item), -EUCLEAN);
        }
        item.key.object = item.key.kind < MAPFS_KIND_GROUP ? MAPFS_OBJECT_GROUPS : 5;
        assert_int_equal(check(&item), -EUCLEAN);
    }
}

#define ASSERT_REFUSED(kind, change)              \
    do {                                          \
        Item item = valid_item(kind);             \
        change;                                   \
        assert_int_equal(check(&item), -EUCLEAN); \
    } while (0)

static void test_wrong_fields_of_inodes_are_damage(void **state) {
    (void)state;
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.key.offset = 1);
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.mode = mapfs_le32_store(0644));
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.mode = mapfs_le32_store(S_IFREG | 0x10000));
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.size = mapfs_le64_store(MAPFS_FILE_SIZE_MAX + 1));
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.nlink = mapfs_le32_store(MAPFS_LINK_MAX + 1));
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.flags = mapfs_le64_store(1));
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.parent = mapfs_le64_store(1));
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.rdev = mapfs_le64_store(1));
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.reserved[23] = 1);
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.mode = mapfs_le32_store(S_IFDIR | 0755));
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.mode = mapfs_le32_store(S_IFLNK | 0777));
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.mode = mapfs_le32_store(S_IFIFO | 0644);
                   item.value.inode.size = mapfs_le64_store(1));
    ASSERT_REFUSED(MAPFS_KIND_INODE, item.value.inode.mode = mapfs_le32_store(S_IFIFO | 0644);
                   item.value.inode.n_blocks = mapfs_le64_store(1));
}

static void test_wrong_fields_of_data_items_are_damage(void **state) {
    (void)state;
    ASSERT_REFUSED(MAPFS_KIND_XATTR, item.value.xattr.name_len = 0; item.len -= 6);
    ASSERT_REFUSED(MAPFS_KIND_XATTR, item.value.xattr.value_len = mapfs_le32_store(MAPFS_XATTR_VALUE_MAX + 1));
    ASSERT_REFUSED(MAPFS_KIND_XATTR, item.value.xattr.reserved[2] = 1);
    ASSERT_REFUSED(MAPFS_KIND_XATTR, item.value.bytes[10] = 0);
    ASSERT_REFUSED(MAPFS_KIND_XATTR, item.key.offset = 35);
    ASSERT_REFUSED(MAPFS_KIND_XATTR, item.key.offset = 1; item.len = MAPFS_XATTR_CHUNK + 1);
    ASSERT_REFUSED(MAPFS_KIND_INLINE, item.key.offset = 1);
    ASSERT_REFUSED(MAPFS_KIND_INLINE, item.key.offset = 2 * MAPFS_SYMLINK_CHUNK; item.len = 1024);
    ASSERT_REFUSED(MAPFS_KIND_INLINE, item.key.offset = 3 * MAPFS_SYMLINK_CHUNK);
    ASSERT_REFUSED(MAPFS_KIND_EXTENT, item.value.extent.block = mapfs_le64_store(1));
    ASSERT_REFUSED(MAPFS_KIND_EXTENT, item.value.extent.block = mapfs_le64_store(MAPFS_IMAGE_BLOCKS_MAX - 3));
    ASSERT_REFUSED(MAPFS_KIND_EXTENT, item.value.extent.n_blocks = mapfs_le32_store(0));
    ASSERT_REFUSED(MAPFS_KIND_EXTENT, item.value.extent.n_blocks = mapfs_le32_store(MAPFS_EXTENT_BLOCKS_MAX + 1));
    ASSERT_REFUSED(MAPFS_KIND_EXTENT, item.key.offset = (MAPFS_FILE_SIZE_MAX >> MAPFS_BLOCK_SHIFT) - 3);
    ASSERT_REFUSED(MAPFS_KIND_EXTENT, item.value.extent.flags = mapfs_le32_store(4));
    ASSERT_REFUSED(MAPFS_KIND_EXTENT, item.value.extent.flags = mapfs_le32_store(MAPFS_EXTENT_FLAGS_KNOWN));
    ASSERT_REFUSED(MAPFS_KIND_EXTENT, item.value.extent.birth_generation = mapfs_le64_store(0));
    ASSERT_REFUSED(MAPFS_KIND_EXTENT, item.value.extent.reserved = mapfs_le64_store(1));
    ASSERT_REFUSED(MAPFS_KIND_DIRENT, item.key.offset = 15);
    ASSERT_REFUSED(MAPFS_KIND_DIRENT, item.key.offset = UINT64_C(1) << 63);
    ASSERT_REFUSED(MAPFS_KIND_DIRENT, item.value.dirent.ino = mapfs_le64_store(0));
    ASSERT_REFUSED(MAPFS_KIND_DIRENT, item.value.dirent.ino = mapfs_le64_store(MAPFS_INO_LIMIT));
    ASSERT_REFUSED(MAPFS_KIND_DIRENT, item.value.dirent.type = DT_UNKNOWN);
    ASSERT_REFUSED(MAPFS_KIND_DIRENT, item.value.dirent.reserved[5] = 1);
    ASSERT_REFUSED(MAPFS_KIND_DIRENT, memcpy(item.value.bytes + sizeof(item.value.dirent), "a/b", 3));
}

static void test_wrong_fields_of_system_items_are_damage(void **state) {
    (void)state;
    ASSERT_REFUSED(MAPFS_KIND_GROUP, item.value.group.bitmap_address = mapfs_le64_store(0));
    ASSERT_REFUSED(MAPFS_KIND_GROUP, item.value.group.bitmap_generation = mapfs_le64_store(0));
    ASSERT_REFUSED(MAPFS_KIND_GROUP, item.value.group.n_free = mapfs_le32_store(MAPFS_GROUP_BLOCKS + 1));
    ASSERT_REFUSED(MAPFS_KIND_GROUP, item.key.offset = UINT64_MAX);
    ASSERT_REFUSED(MAPFS_KIND_ORPHAN, item.value.orphan.flags = mapfs_le32_store(0));
    ASSERT_REFUSED(MAPFS_KIND_ORPHAN, item.value.orphan.flags = mapfs_le32_store(4));
    ASSERT_REFUSED(MAPFS_KIND_ORPHAN, item.value.orphan.cut = mapfs_le64_store(100));
    ASSERT_REFUSED(MAPFS_KIND_ORPHAN, item.value.orphan.flags = mapfs_le32_store(MAPFS_ORPHAN_UNLINKED);
                   item.value.orphan.cut = mapfs_le64_store(4096));
    ASSERT_REFUSED(MAPFS_KIND_ORPHAN, item.key.offset = 0);
    ASSERT_REFUSED(MAPFS_KIND_SHARED, item.value.shared.n_refs = mapfs_le32_store(1));
    ASSERT_REFUSED(MAPFS_KIND_SNAPSHOT, item.value.snapshot.root_generation = mapfs_le64_store(9));
    ASSERT_REFUSED(MAPFS_KIND_PENDING, item.key.offset = 51);
    ASSERT_REFUSED(MAPFS_KIND_PENDING, item.value.runs[1].block = mapfs_le64_store(51));
    ASSERT_REFUSED(MAPFS_KIND_PENDING, item.value.runs[1].n_blocks = mapfs_le32_store(0));
    ASSERT_REFUSED(MAPFS_KIND_PENDING, item.value.runs[1].reserved = mapfs_le32_store(1));
    ASSERT_REFUSED(MAPFS_KIND_PENDING, item.value.runs[1].block = mapfs_le64_store(MAPFS_IMAGE_BLOCKS_MAX));
}

static void test_names_that_no_entry_can_have(void **state) {
    char longest[256];

    (void)state;
    memset(longest, 'x', sizeof(longest));
    assert_true(mapfs_name_check("a", 1));
    assert_true(mapfs_name_check("...", 3));
    assert_true(mapfs_name_check(longest, 255));
    assert_false(mapfs_name_check(longest, 256));
    assert_false(mapfs_name_check("", 0));
    assert_false(mapfs_name_check(".", 1));
    assert_false(mapfs_name_check("..", 2));
    assert_false(mapfs_name_check("a/", 2));
    assert_false(mapfs_name_check("a\0b", 3));
}

static void test_hashes_of_names_are_in_range(void **state) {
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t dirent = mapfs_dirent_hash((const char *)&i, sizeof(i), SEED);

        assert_true(dirent >= 1 && dirent < UINT64_C(1) << 59);
        assert_true(mapfs_xattr_hash((const char *)&i, sizeof(i), SEED) < UINT64_C(1) << 52);
        assert_true(dirent != mapfs_dirent_hash((const char *)&i, sizeof(i), SEED + 1));
    }
}

static void test_types_map_to_entry_types_and_back(void **state) {
    static const uint32_t modes[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK};

    (void)state;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(modes); i++)
        assert_int_equal(mapfs_mode_from_dirent_type(mapfs_dirent_type_from_mode(modes[i] | 0777)), modes[i]);
    assert_int_equal(mapfs_dirent_type_from_mode(0), 0);
    assert_int_equal(mapfs_dirent_type_from_mode(0xf000), 0);
    assert_int_equal(mapfs_mode_from_dirent_type(0), 0);
    assert_int_equal(mapfs_mode_from_dirent_type(3), 0);
    assert_int_equal(mapfs_mode_from_dirent_type(255), 0);
}

static void test_times_survive_and_are_clamped(void **state) {
    static const struct timespec times[] = {{.tv_sec = -2147483648, .tv_nsec = 0},
                                            {.tv_sec = -1, .tv_nsec = 999999999},
                                            {.tv_sec = 0, .tv_nsec = 0},
                                            {.tv_sec = 1700000000, .tv_nsec = 1},
                                            {.tv_sec = INT64_C(16299260424), .tv_nsec = 999999999}};

    (void)state;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(times); i++) {
        struct timespec back = mapfs_time_to_timespec(mapfs_time_from_timespec(times[i]));

        assert_true(back.tv_sec == times[i].tv_sec && back.tv_nsec == times[i].tv_nsec);
    }
    assert_true(mapfs_time_from_timespec((struct timespec){.tv_sec = -2147483649, .tv_nsec = 5}) == 0);
    assert_true(mapfs_time_from_timespec((struct timespec){.tv_sec = INT64_MIN}) == 0);
    assert_true(mapfs_time_from_timespec((struct timespec){.tv_sec = INT64_MAX}) == UINT64_MAX);
    assert_true(mapfs_time_from_timespec((struct timespec){.tv_sec = INT64_C(16299260426)}) == UINT64_MAX);
}

/* --- nodes --- */

typedef union {
    struct mapfs_disk_header header;
    struct mapfs_disk_leaf leaf;
    struct mapfs_disk_index index;
    struct mapfs_disk_bitmap bitmap;
    uint8_t bytes[MAPFS_BLOCK_SIZE];
} Node;

static const MapfsNodeRef leaf_ref = {.address = {33}, .generation = {4}, .level = 0};
static const MapfsNodeRef index_ref = {.address = {33}, .generation = {4}, .level = 1};

static Node valid_header(uint32_t magic, uint8_t level, uint16_t n_items) {
    Node node = {.header = {.magic = mapfs_le32_store(magic),
                            .level = level,
                            .n_items = mapfs_le16_store(n_items),
                            .address = mapfs_le64_store(33),
                            .generation = mapfs_le64_store(4),
                            .owner = mapfs_le64_store(MAPFS_OWNER_MAIN)}};

    return node;
}

/* Two items of inline data: 10 bytes of inode 5, then 20 of inode 6. */
static Node valid_leaf(void) {
    Node node = valid_header(MAPFS_NODE_MAGIC, 0, 2);

    for (unsigned i = 0; i < 2; i++)
        node.leaf.slots[i] = (struct mapfs_disk_slot){.object = mapfs_le64_store(5 + i),
                                                      .kind = MAPFS_KIND_INLINE,
                                                      .value_offset = mapfs_le16_store(i == 0 ? 4086 : 4066),
                                                      .value_len = mapfs_le16_store(i == 0 ? 10 : 20)};
    mapfs_header_seal(&node, SEED);
    return node;
}

static Node valid_index(void) {
    Node node = valid_header(MAPFS_NODE_MAGIC, 1, 3);

    for (unsigned i = 0; i < 3; i++)
        node.index.pointers[i] = (struct mapfs_disk_pointer){.object = mapfs_le64_store(i),
                                                             .kind = MAPFS_KIND_INODE,
                                                             .address = mapfs_le64_store(50 + i),
                                                             .generation = mapfs_le64_store(2 + i)};
    mapfs_header_seal(&node, SEED);
    return node;
}

static void test_valid_nodes_pass(void **state) {
    Node leaf = valid_leaf(), index = valid_index(), empty = valid_header(MAPFS_NODE_MAGIC, 0, 0);

    (void)state;
    mapfs_header_seal(&empty, SEED);
    assert_int_equal(mapfs_node_check(&leaf, leaf_ref, SEED), 0);
    assert_int_equal(mapfs_node_check(&index, index_ref, SEED), 0);
    assert_int_equal(mapfs_node_check(&empty, leaf_ref, SEED), 0);
}

static void test_nodes_that_are_not_what_was_pointed_to_are_damage(void **state) {
    Node leaf = valid_leaf();
    MapfsNodeRef ref;

    (void)state;
    assert_int_equal(mapfs_node_check(&leaf, leaf_ref, SEED + 1), -EUCLEAN);
    ref = leaf_ref;
    ref.address.n++;
    assert_int_equal(mapfs_node_check(&leaf, ref, SEED), -EUCLEAN);
    ref = leaf_ref;
    ref.generation.n++;
    assert_int_equal(mapfs_node_check(&leaf, ref, SEED), -EUCLEAN);
    assert_int_equal(mapfs_node_check(&leaf, index_ref, SEED), -EUCLEAN);
}

static void test_every_flipped_bit_of_a_node_is_noticed(void **state) {
    Node leaf = valid_leaf();

    (void)state;
    for (unsigned bit = 0; bit < MAPFS_BLOCK_SIZE * 8; bit++) {
        leaf.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(mapfs_node_check(&leaf, leaf_ref, SEED), -EUCLEAN);
        leaf.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

#define ASSERT_LEAF_REFUSED(change)                                           \
    do {                                                                      \
        Node node = valid_leaf();                                             \
        change;                                                               \
        assert_int_equal(mapfs_node_check_layout(&node, leaf_ref), -EUCLEAN); \
    } while (0)
#define ASSERT_INDEX_REFUSED(change)                                           \
    do {                                                                       \
        Node node = valid_index();                                             \
        change;                                                                \
        assert_int_equal(mapfs_node_check_layout(&node, index_ref), -EUCLEAN); \
    } while (0)

static void test_wrong_fields_of_nodes_are_damage(void **state) {
    (void)state;
    ASSERT_LEAF_REFUSED(node.header.magic = mapfs_le32_store(1));
    ASSERT_LEAF_REFUSED(node.header.owner = mapfs_le64_store(2));
    ASSERT_LEAF_REFUSED(node.header.reserved1 = 1);
    ASSERT_LEAF_REFUSED(node.header.reserved2[23] = 1);
    ASSERT_LEAF_REFUSED(node.header.n_items = mapfs_le16_store(3));
    ASSERT_LEAF_REFUSED(node.header.n_items = mapfs_le16_store(UINT16_MAX));
    ASSERT_LEAF_REFUSED(node.leaf.slots[1].object = mapfs_le64_store(5));
    ASSERT_LEAF_REFUSED(node.leaf.slots[1].object = mapfs_le64_store(4));
    ASSERT_LEAF_REFUSED(node.leaf.slots[1].reserved1 = 1);
    ASSERT_LEAF_REFUSED(node.leaf.slots[1].reserved2 = mapfs_le16_store(1));
    ASSERT_LEAF_REFUSED(node.leaf.slots[1].value_len = mapfs_le16_store(21));
    ASSERT_LEAF_REFUSED(node.leaf.slots[1].value_offset = mapfs_le16_store(4065));
    ASSERT_LEAF_REFUSED(node.leaf.slots[0].value_offset = mapfs_le16_store(UINT16_MAX));
    ASSERT_LEAF_REFUSED(node.leaf.slots[0].kind = MAPFS_KIND_CHECKSUM);
    ASSERT_INDEX_REFUSED(node.header.n_items = mapfs_le16_store(0));
    ASSERT_INDEX_REFUSED(node.header.n_items = mapfs_le16_store(101));
    ASSERT_INDEX_REFUSED(node.index.pointers[2].object = mapfs_le64_store(1));
    ASSERT_INDEX_REFUSED(node.index.pointers[1].reserved[0] = 1);
    ASSERT_INDEX_REFUSED(node.index.pointers[1].address = mapfs_le64_store(1));
    ASSERT_INDEX_REFUSED(node.index.pointers[1].address = mapfs_le64_store(33));
    ASSERT_INDEX_REFUSED(node.index.pointers[1].generation = mapfs_le64_store(0));
    ASSERT_INDEX_REFUSED(node.index.pointers[1].generation = mapfs_le64_store(5));
    ASSERT_INDEX_REFUSED(node.index.reserved[31] = 1);
}

static void test_bitmaps_of_another_group_are_damage(void **state) {
    Node bitmap = valid_header(MAPFS_BITMAP_MAGIC, 0, 0);

    (void)state;
    bitmap.header.owner = mapfs_le64_store(7);
    mapfs_header_seal(&bitmap, SEED);
    assert_int_equal(mapfs_bitmap_check(&bitmap, leaf_ref, 7, SEED), 0);
    assert_int_equal(mapfs_bitmap_check(&bitmap, leaf_ref, 8, SEED), -EUCLEAN);
    bitmap.bitmap.bits[0] = 1;
    assert_int_equal(mapfs_bitmap_check(&bitmap, leaf_ref, 7, SEED), -EUCLEAN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_checksum_is_the_hash_with_its_field_zero),
        cmocka_unit_test(test_superblock_verdicts),
        cmocka_unit_test(test_superblock_in_the_slot_of_the_other_parity_is_not_chosen),
        cmocka_unit_test(test_superblock_fields_out_of_range_are_damage),
        cmocka_unit_test(test_superblock_lists_of_written_blocks),
        cmocka_unit_test(test_valid_items_pass),
        cmocka_unit_test(test_items_of_wrong_length_are_damage),
        cmocka_unit_test(test_items_in_objects_not_theirs_are_damage),
        cmocka_unit_test(test_wrong_fields_of_inodes_are_damage),
        cmocka_unit_test(test_wrong_fields_of_data_items_are_damage),
        cmocka_unit_test(test_wrong_fields_of_system_items_are_damage),
        cmocka_unit_test(test_names_that_no_entry_can_have),
        cmocka_unit_test(test_hashes_of_names_are_in_range),
        cmocka_unit_test(test_types_map_to_entry_types_and_back),
        cmocka_unit_test(test_times_survive_and_are_clamped),
        cmocka_unit_test(test_valid_nodes_pass),
        cmocka_unit_test(test_nodes_that_are_not_what_was_pointed_to_are_damage),
        cmocka_unit_test(test_every_flipped_bit_of_a_node_is_noticed),
        cmocka_unit_test(test_wrong_fields_of_nodes_are_damage),
        cmocka_unit_test(test_bitmaps_of_another_group_are_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
