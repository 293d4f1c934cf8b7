/* SPDX-License-Identifier: MIT */

/* The checker finds nothing on valid images, and names each kind of damage on images that have it and nothing else. */

#include <dirent.h>
#include <errno.h>
#include <linux/posix_acl.h>
#include <string.h>
#include <sys/stat.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "format/acl.h"
#include "format/log.h"
#include "test-check-image.h"

static void test_sample_is_clean_and_counted(void **state) {
    Build *build = *state;
    MapfsImage *image = build_image(build);
    MapfsCheckReport report = image_check(image);

    image_report_assert_clean(&report);
    assert_int_equal(report.n_inodes, SAMPLE_INODES);
    assert_int_equal(report.n_directories, 3);
    assert_int_equal(report.n_names, 8);
    assert_int_equal(report.n_orphans, 2);
    assert_int_equal(report.n_pending, 4);
    assert_int_equal(report.n_data_blocks, 11);
    assert_int_equal(report.n_free, mapfs_le64_load(build->superblock.n_free_blocks));
    assert_int_equal(report.generation, BUILD_GENERATION);
    assert_false(report.incomplete);
    mapfs_image_close(image);
}

/* --- one mutation for each kind; those before the image is built --- */

static void name_missing_inode(Build *build) {
    build_add_name(build, SAMPLE_DEEP, "ghost", SAMPLE_INODES - 4 + 20, DT_REG);
}

static void put_unused_kind(Build *build) {
    struct {
        struct mapfs_disk_snapshot snapshot;
        char name[4];
    } value = {.snapshot = {.root_address = mapfs_le64_store(BUILD_FIRST_NODE),
                            .root_generation = mapfs_le64_store(1),
                            .name_len = 4},
               .name = "name"};

    build_put(build, (MapfsKey){.object = MAPFS_OBJECT_SNAPSHOTS, .kind = MAPFS_KIND_SNAPSHOT, .offset = 1}, &value,
              sizeof(value.snapshot) + 4);
}

static void break_item(Build *build) {
    build_inode(build, SAMPLE_FILE)->reserved[3] = 1;
}

static void drop_inode(Build *build) {
    build_remove(build, (MapfsKey){.object = SAMPLE_SYMLINK, .kind = MAPFS_KIND_INODE});
}

static void put_extent_in_directory(Build *build) {
    build_add_extent(build, SAMPLE_DEEP, 0, BUILD_FIRST_DATA + 70, 1);
    build_inode(build, SAMPLE_DEEP)->n_blocks = mapfs_le64_store(0);
}

static BuildItem *find_xattr(Build *build, const char *name, unsigned chunk) {
    uint64_t hash = mapfs_xattr_hash(name, strlen(name), BUILD_HASH_SEED);

    return build_find(
        build,
        (MapfsKey){.object = SAMPLE_FILE, .kind = MAPFS_KIND_XATTR, .offset = mapfs_xattr_offset(hash, 0, chunk)});
}

static void rename_xattr(Build *build) {
    find_xattr(build, "user.small", 0)->value[sizeof(struct mapfs_disk_xattr) + 6] ^= 1;
}

static void drop_xattr_chunk(Build *build) {
    build_remove(build, find_xattr(build, "user.big", 1)->key);
}

static void drop_xattr(Build *build) {
    build_remove(build, find_xattr(build, "user.small", 0)->key);
}

static void double_xattr(Build *build) {
    BuildItem copy = *find_xattr(build, "user.small", 0);

    copy.key.offset += 1u << MAPFS_XATTR_SLOT_SHIFT;
    build_put(build, copy.key, copy.value, copy.len);
    build_inode(build, SAMPLE_FILE)->n_xattrs = mapfs_le32_store(3);
}

static void put_acl(Build *build, uint64_t ino, const char *name, uint16_t n_masks) {
    MapfsAcl acl = {
        .n_entries = 5,
        .entries = {
            {ACL_USER_OBJ, 6, 0}, {ACL_USER, 7, 1000}, {ACL_GROUP_OBJ, 4, 0}, {ACL_MASK, 4, 0}, {ACL_OTHER, 4, 0}}};
    uint8_t value[MAPFS_ACL_LEN_MAX];

    if (n_masks == 0)
        acl.entries[3] = acl.entries[--acl.n_entries];
    build_add_xattr(build, ino, name, (const char *)value, mapfs_acl_format(&acl, value));
}

static void put_acl_without_mask(Build *build) {
    put_acl(build, SAMPLE_FILE, MAPFS_XATTR_ACL_ACCESS, 0);
}

static void put_acl_on_symlink(Build *build) {
    put_acl(build, SAMPLE_SYMLINK, MAPFS_XATTR_ACL_ACCESS, 1);
}

static void put_default_acl_on_file(Build *build) {
    put_acl(build, SAMPLE_FILE, MAPFS_XATTR_ACL_DEFAULT, 1);
}

static void put_long_acl(Build *build) {
    char value[MAPFS_ACL_LEN_MAX + 8] = {2};

    build_add_xattr(build, SAMPLE_FILE, MAPFS_XATTR_ACL_ACCESS, value, sizeof(value));
}

static void put_empty_acl(Build *build) {
    build_add_xattr(build, SAMPLE_DEEP, MAPFS_XATTR_ACL_DEFAULT, "\2\0\0", 4);
}

static void put_acl_of_another_mode(Build *build) {
    put_acl(build, SAMPLE_FILE, MAPFS_XATTR_ACL_ACCESS, 1);
    build_inode(build, SAMPLE_FILE)->mode = mapfs_le32_store(S_IFREG | 0664);
}

static void lengthen_inline_file(Build *build) {
    build_inode(build, SAMPLE_FILE)->size = mapfs_le64_store(12);
}

static void shorten_symlink(Build *build) {
    build_inode(build, SAMPLE_SYMLINK)->size = mapfs_le64_store(1999);
}

static void overlap_extents(Build *build) {
    build_add_extent(build, SAMPLE_DATA, 1, BUILD_FIRST_DATA + 70, 1);
}

static void write_past_end(Build *build) {
    build_add_extent(build, SAMPLE_DATA, 30, BUILD_FIRST_DATA + 70, 1);
}

static struct mapfs_disk_extent *find_extent(Build *build) {
    BuildItem *item = build_find(build, (MapfsKey){.object = SAMPLE_DATA, .kind = MAPFS_KIND_EXTENT});

    return (struct mapfs_disk_extent *)(void *)item->value;
}

static void age_extent(Build *build) {
    find_extent(build)->birth_generation = mapfs_le64_store(BUILD_GENERATION + 1);
}

/* Blocks that are counted as if another file had them too. */
static void miscount_shared(Build *build) {
    struct mapfs_disk_shared shared = {.n_blocks = mapfs_le64_store(2), .n_refs = mapfs_le32_store(2)};

    build->superblock.feature_incompat = mapfs_le64_store(MAPFS_FEATURE_INCOMPAT_SHARED);
    find_extent(build)->flags = mapfs_le32_store(MAPFS_EXTENT_SHARED);
    build_put(build, (MapfsKey){.object = MAPFS_OBJECT_SHARED, .kind = MAPFS_KIND_SHARED, .offset = BUILD_FIRST_DATA},
              &shared, sizeof(shared));
}

static void share_without_feature(Build *build) {
    find_extent(build)->flags = mapfs_le32_store(MAPFS_EXTENT_SHARED);
}

static void miscount_blocks(Build *build) {
    build_inode(build, SAMPLE_DATA)->n_blocks = mapfs_le64_store(7);
}

static void forget_number(Build *build) {
    build->superblock.next_ino = mapfs_le64_store(SAMPLE_INODES);
    build->superblock.n_inodes = mapfs_le64_store(SAMPLE_INODES - 1);
}

static void rename_entry(Build *build) {
    build_find(build, build_name_key(build, MAPFS_INO_ROOT, "fifo"))->value[sizeof(struct mapfs_disk_dirent)] = 'F';
}

static void double_entry(Build *build) {
    BuildItem copy = *build_find(build, build_name_key(build, MAPFS_INO_ROOT, "hello"));

    copy.key.offset += 3;
    build_put(build, copy.key, copy.value, copy.len);
    build_inode(build, MAPFS_INO_ROOT)->size = mapfs_le64_store(6);
    build_inode(build, SAMPLE_FILE)->nlink = mapfs_le32_store(3);
}

static void mistype_entry(Build *build) {
    BuildItem *item = build_find(build, build_name_key(build, MAPFS_INO_ROOT, "fifo"));

    ((struct mapfs_disk_dirent *)(void *)item->value)->type = DT_SOCK;
}

static void miscount_entries(Build *build) {
    build_inode(build, SAMPLE_DEEP)->size = mapfs_le64_store(1);
}

static void misplace_directory(Build *build) {
    build_inode(build, SAMPLE_DEEP)->parent = mapfs_le64_store(MAPFS_INO_ROOT);
}

static void link_directory(Build *build) {
    build_add_name(build, SAMPLE_DIRECTORY, "deeper", SAMPLE_DEEP, DT_DIR);
    build_inode(build, SAMPLE_DIRECTORY)->nlink = mapfs_le32_store(4);
}

/* "sub" moves below its own subdirectory. */
static void make_cycle(Build *build) {
    build_remove(build, build_name_key(build, MAPFS_INO_ROOT, "sub"));
    build_inode(build, MAPFS_INO_ROOT)->size = mapfs_le64_store(4);
    build_inode(build, MAPFS_INO_ROOT)->nlink = mapfs_le32_store(2);
    build_add_name(build, SAMPLE_DEEP, "sub", SAMPLE_DIRECTORY, DT_DIR);
    build_inode(build, SAMPLE_DEEP)->nlink = mapfs_le32_store(3);
    build_inode(build, SAMPLE_DIRECTORY)->parent = mapfs_le64_store(SAMPLE_DEEP);
}

static void miscount_links(Build *build) {
    build_inode(build, SAMPLE_FILE)->nlink = mapfs_le32_store(3);
}

static void uproot(Build *build) {
    build_inode(build, MAPFS_INO_ROOT)->parent = mapfs_le64_store(SAMPLE_DIRECTORY);
}

static void drop_orphan(Build *build) {
    build_remove(build,
                 (MapfsKey){.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = SAMPLE_UNLINKED});
}

static void orphan_nobody(Build *build) {
    struct mapfs_disk_orphan orphan = {.flags = mapfs_le32_store(MAPFS_ORPHAN_UNLINKED)};

    build_put(build, (MapfsKey){.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = 77}, &orphan,
              sizeof(orphan));
}

static void extent_outside(Build *build) {
    find_extent(build)->block = mapfs_le64_store(BUILD_BLOCKS - 1);
}

static void extent_in_log(Build *build) {
    find_extent(build)->block = mapfs_le64_store(5);
}

static void unmark_block(Build *build) {
    build->unmark = BUILD_FIRST_DATA + 1;
}

static void leak_block(Build *build) {
    build->leak = BUILD_FIRST_DATA + 90;
}

static void add_group_outside(Build *build) {
    struct mapfs_disk_group group = {.bitmap_address = mapfs_le64_store(BUILD_BITMAP + 1),
                                     .bitmap_generation = mapfs_le64_store(1)};

    build_put(build, (MapfsKey){.object = MAPFS_OBJECT_GROUPS, .kind = MAPFS_KIND_GROUP, .offset = 1}, &group,
              sizeof(group));
}

static void hasten_pending(Build *build) {
    build_add_pending(build, BUILD_GENERATION + 1, BUILD_FIRST_DATA + 80, 1);
}

static void move_log(Build *build) {
    build->superblock.log_start = mapfs_le64_store(MAPFS_SUPERBLOCK_SLOTS + 1);
    build->superblock.log_blocks = mapfs_le64_store(BUILD_LOG_BLOCKS);
    build->leak = MAPFS_SUPERBLOCK_SLOTS + BUILD_LOG_BLOCKS;
}

/* Further ways to the same problems. */

static void age_extent_by_epoch(Build *build) {
    find_extent(build)->birth_epoch = mapfs_le64_store(BUILD_EPOCH + 1);
}

static void put_nul_in_symlink(Build *build) {
    build_find(build, (MapfsKey){.object = SAMPLE_SYMLINK, .kind = MAPFS_KIND_INLINE})->value[7] = 0;
}

static void put_extent_beside_inline(Build *build) {
    build_add_extent(build, SAMPLE_FILE, 0, BUILD_FIRST_DATA + 70, 1);
}

static void add_xattr_chunk(Build *build) {
    BuildItem copy = *find_xattr(build, "user.big", 1);

    copy.key.offset += 2;
    build_put(build, copy.key, copy.value, copy.len);
}

static void orphan_with_names(Build *build) {
    struct mapfs_disk_orphan orphan = {.flags = mapfs_le32_store(MAPFS_ORPHAN_UNLINKED)};

    build_put(build, (MapfsKey){.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = SAMPLE_FILE},
              &orphan, sizeof(orphan));
}

static void orphan_directory_to_cut(Build *build) {
    struct mapfs_disk_orphan orphan = {.flags = mapfs_le32_store(MAPFS_ORPHAN_TRUNCATED)};

    build_put(build, (MapfsKey){.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = SAMPLE_DEEP},
              &orphan, sizeof(orphan));
}

static void raise_cut(Build *build) {
    BuildItem *item =
        build_find(build, (MapfsKey){.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = SAMPLE_CUT});

    ((struct mapfs_disk_orphan *)(void *)item->value)->cut = mapfs_le64_store(5 * MAPFS_BLOCK_SIZE);
}

/* "sub" loses its name as if it were empty. */
static void unlink_full_directory(Build *build) {
    struct mapfs_disk_orphan orphan = {.flags = mapfs_le32_store(MAPFS_ORPHAN_UNLINKED)};

    build_remove(build, build_name_key(build, MAPFS_INO_ROOT, "sub"));
    build_inode(build, MAPFS_INO_ROOT)->size = mapfs_le64_store(4);
    build_inode(build, MAPFS_INO_ROOT)->nlink = mapfs_le32_store(2);
    build_inode(build, SAMPLE_DIRECTORY)->nlink = mapfs_le32_store(0);
    build_put(build, (MapfsKey){.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = SAMPLE_DIRECTORY},
              &orphan, sizeof(orphan));
}

static void name_root(Build *build) {
    build_add_name(build, SAMPLE_DEEP, "up", MAPFS_INO_ROOT, DT_DIR);
}

static void free_block_in_use(Build *build) {
    build_add_pending(build, BUILD_GENERATION, BUILD_FIRST_DATA + 10, 1);
}

static void unmark_bitmap(Build *build) {
    build->unmark = BUILD_BITMAP;
}

/* --- and those of the built image --- */

static uint64_t root_of(MapfsImage *image) {
    return mapfs_le64_load(image_superblock(image)->root_address);
}

static void no_superblock(MapfsImage *image) {
    image_superblock(image)->label[0] ^= 1;
}

static void wrong_slot(MapfsImage *image) {
    memcpy(image_block(image, 0), image_superblock(image), MAPFS_BLOCK_SIZE);
    memset(image_superblock(image), 0, MAPFS_BLOCK_SIZE);
}

static void image_short(MapfsImage *image) {
    image_superblock(image)->n_blocks = mapfs_le64_store(BUILD_BLOCKS + 1);
    image_reseal_superblock(image);
}

static void point_outside(MapfsImage *image) {
    struct mapfs_disk_index *root = image_block(image, root_of(image));

    root->pointers[1].address = mapfs_le64_store(BUILD_BLOCKS);
    mapfs_header_seal(root, BUILD_CHECKSUM_SEED);
}

static void flip_node(MapfsImage *image) {
    ((uint8_t *)image_block(image, BUILD_FIRST_NODE))[3000] ^= 1;
}

static void wrong_generation(MapfsImage *image) {
    struct mapfs_disk_leaf *leaf = image_block(image, BUILD_FIRST_NODE);

    leaf->header.generation = mapfs_le64_store(BUILD_GENERATION - 1);
    mapfs_header_seal(leaf, BUILD_CHECKSUM_SEED);
}

/* The right child of the root's first pointer gets a key of its left neighbour's range. */
static void break_order(MapfsImage *image) {
    struct mapfs_disk_leaf *leaf = image_block(image, BUILD_FIRST_NODE + 1);

    leaf->slots[0].object = mapfs_le64_store(1);
    leaf->slots[0].kind = MAPFS_KIND_INODE;
    leaf->slots[0].offset = mapfs_le64_store(0);
    mapfs_header_seal(leaf, BUILD_CHECKSUM_SEED);
}

static void break_bitmap(MapfsImage *image) {
    ((uint8_t *)image_block(image, BUILD_BITMAP))[2000] ^= 1;
}

/* The first two pointers lead to the same leaf. */
static void point_twice(MapfsImage *image) {
    for (uint64_t block = BUILD_FIRST_NODE; block < BUILD_FIRST_DATA; block++) {
        struct mapfs_disk_index *node = image_block(image, block);

        if (node->header.level != 1)
            continue;
        node->pointers[1].address = node->pointers[0].address;
        node->pointers[1].generation = node->pointers[0].generation;
        mapfs_header_seal(node, BUILD_CHECKSUM_SEED);
        return;
    }
}

static void clear_bit_past_end(MapfsImage *image) {
    struct mapfs_disk_bitmap *bitmap = image_block(image, BUILD_BITMAP);

    bitmap->bits[BUILD_BLOCKS / 8 + 100] = 0xfe;
    mapfs_header_seal(bitmap, BUILD_CHECKSUM_SEED);
}

static void age_bitmap(MapfsImage *image) {
    struct mapfs_disk_bitmap *bitmap = image_block(image, BUILD_BITMAP);

    bitmap->header.generation = mapfs_le64_store(BUILD_GENERATION - 1);
    mapfs_header_seal(bitmap, BUILD_CHECKSUM_SEED);
}

static void miscount_group(MapfsImage *image) {
    for (uint64_t block = BUILD_FIRST_NODE; block < BUILD_FIRST_DATA; block++) {
        struct mapfs_disk_leaf *leaf = image_block(image, block);

        for (unsigned i = 0; leaf->header.level == 0 && i < mapfs_le16_load(leaf->header.n_items); i++) {
            struct mapfs_disk_group *group;

            if (leaf->slots[i].kind != MAPFS_KIND_GROUP)
                continue;
            group = (void *)((uint8_t *)leaf + mapfs_le16_load(leaf->slots[i].value_offset));
            group->n_free = mapfs_le32_store(mapfs_le32_load(group->n_free) + 1);
            mapfs_header_seal(leaf, BUILD_CHECKSUM_SEED);
        }
    }
}

static void miscount_free(MapfsImage *image) {
    image_superblock(image)->n_free_blocks = mapfs_le64_store(17);
    image_reseal_superblock(image);
}

static void miscount_pending(MapfsImage *image) {
    image_superblock(image)->n_pending_blocks = mapfs_le64_store(17);
    image_reseal_superblock(image);
}

static void miscount_inodes(MapfsImage *image) {
    image_superblock(image)->n_inodes = mapfs_le64_store(5);
    image_reseal_superblock(image);
}

static void damage_other_slot(MapfsImage *image) {
    memcpy(image_block(image, 0), image_superblock(image), MAPFS_BLOCK_SIZE);
    ((uint8_t *)image_block(image, 0))[200] ^= 1;
}

static void unknown_slot(MapfsImage *image) {
    struct mapfs_disk_superblock *other = image_block(image, 0);

    memcpy(other, image_superblock(image), sizeof(*other));
    other->feature_incompat = mapfs_le64_store(UINT64_C(1) << 40);
    mapfs_superblock_seal(other);
}

static void add_batch(MapfsImage *image) {
    struct {
        struct mapfs_disk_batch batch;
        struct mapfs_disk_record_reclaim record;
    } *log = image_block(image, MAPFS_SUPERBLOCK_SLOTS);

    log->record.header.len_bytes = mapfs_le32_store(sizeof(log->record));
    log->record.header.type = mapfs_le16_store(MAPFS_RECORD_RECLAIM);
    log->record.header.lsn = mapfs_le64_store(101);
    log->record.ino = mapfs_le64_store(SAMPLE_UNLINKED);
    log->record.n_extents = mapfs_le32_store(1);
    log->record.work = mapfs_le32_store(MAPFS_ORPHAN_UNLINKED);
    log->batch.magic = mapfs_le32_store(MAPFS_BATCH_MAGIC);
    log->batch.len_bytes = mapfs_le32_store(sizeof(*log));
    log->batch.nonce = mapfs_le64_store(4711);
    log->batch.sequence = mapfs_le64_store(1);
    log->batch.first_lsn = log->batch.last_lsn = mapfs_le64_store(101);
    log->batch.n_records = mapfs_le32_store(1);
    log->batch.checksum = mapfs_le64_store(mapfs_batch_checksum(log, sizeof(*log), BUILD_CHECKSUM_SEED));
}

typedef struct {
    MapfsProblemNumber number;
    void (*before)(Build *build);
    void (*after)(MapfsImage *image);
} Mutation;

static const Mutation mutations[] = {
    {MAPFS_PROBLEM_NO_SUPERBLOCK, NULL, no_superblock},
    {MAPFS_PROBLEM_SUPERBLOCK_SLOT, NULL, wrong_slot},
    {MAPFS_PROBLEM_IMAGE_SHORT, NULL, image_short},
    {MAPFS_PROBLEM_LOG_PLACE, move_log, NULL},
    {MAPFS_PROBLEM_SUPERBLOCK_UNKNOWN, NULL, unknown_slot},
    {MAPFS_PROBLEM_NODE_OUTSIDE, NULL, point_outside},
    {MAPFS_PROBLEM_NODE_CHECKSUM, NULL, flip_node},
    {MAPFS_PROBLEM_NODE_LAYOUT, NULL, wrong_generation},
    {MAPFS_PROBLEM_NODE_ORDER, NULL, break_order},
    {MAPFS_PROBLEM_ITEM, break_item, NULL},
    {MAPFS_PROBLEM_ITEM_UNUSED, put_unused_kind, NULL},
    {MAPFS_PROBLEM_ITEM_STRAY, drop_inode, NULL},
    {MAPFS_PROBLEM_ITEM_MISPLACED, put_extent_in_directory, NULL},
    {MAPFS_PROBLEM_XATTR_HASH, rename_xattr, NULL},
    {MAPFS_PROBLEM_XATTR_CHUNKS, drop_xattr_chunk, NULL},
    {MAPFS_PROBLEM_XATTR_COUNT, drop_xattr, NULL},
    {MAPFS_PROBLEM_XATTR_TWICE, double_xattr, NULL},
    {MAPFS_PROBLEM_INLINE, lengthen_inline_file, NULL},
    {MAPFS_PROBLEM_SYMLINK, shorten_symlink, NULL},
    {MAPFS_PROBLEM_EXTENT_OVERLAP, overlap_extents, NULL},
    {MAPFS_PROBLEM_EXTENT_BEYOND, write_past_end, NULL},
    {MAPFS_PROBLEM_EXTENT_YOUNG, age_extent, NULL},
    {MAPFS_PROBLEM_INODE_BLOCKS, miscount_blocks, NULL},
    {MAPFS_PROBLEM_INODE_NUMBER, forget_number, NULL},
    {MAPFS_PROBLEM_ACL, put_acl_without_mask, NULL},
    {MAPFS_PROBLEM_ACL, put_acl_on_symlink, NULL},
    {MAPFS_PROBLEM_ACL, put_default_acl_on_file, NULL},
    {MAPFS_PROBLEM_ACL, put_long_acl, NULL},
    {MAPFS_PROBLEM_ACL, put_empty_acl, NULL},
    {MAPFS_PROBLEM_ACL_MODE, put_acl_of_another_mode, NULL},
    {MAPFS_PROBLEM_DIRENT_HASH, rename_entry, NULL},
    {MAPFS_PROBLEM_DIRENT_TWICE, double_entry, NULL},
    {MAPFS_PROBLEM_DIRENT_TARGET, name_missing_inode, NULL},
    {MAPFS_PROBLEM_DIRENT_TYPE, mistype_entry, NULL},
    {MAPFS_PROBLEM_DIRECTORY_SIZE, miscount_entries, NULL},
    {MAPFS_PROBLEM_DIRECTORY_PARENT, misplace_directory, NULL},
    {MAPFS_PROBLEM_DIRECTORY_NAMES, link_directory, NULL},
    {MAPFS_PROBLEM_DIRECTORY_UNREACHABLE, make_cycle, NULL},
    {MAPFS_PROBLEM_LINK_COUNT, miscount_links, NULL},
    {MAPFS_PROBLEM_ROOT, uproot, NULL},
    {MAPFS_PROBLEM_UNLINKED, drop_orphan, NULL},
    {MAPFS_PROBLEM_ORPHAN, orphan_nobody, NULL},
    {MAPFS_PROBLEM_BLOCK_OUTSIDE, extent_outside, NULL},
    {MAPFS_PROBLEM_BLOCK_TWICE, extent_in_log, NULL},
    {MAPFS_PROBLEM_BLOCK_UNMARKED, unmark_block, NULL},
    {MAPFS_PROBLEM_BLOCK_LEAKED, leak_block, NULL},
    {MAPFS_PROBLEM_BITMAP, NULL, break_bitmap},
    {MAPFS_PROBLEM_GROUP_OUTSIDE, add_group_outside, NULL},
    {MAPFS_PROBLEM_GROUP_FREE, NULL, miscount_group},
    {MAPFS_PROBLEM_SHARED_COUNT, miscount_shared, NULL},
    {MAPFS_PROBLEM_SHARED_FEATURE, share_without_feature, NULL},
    {MAPFS_PROBLEM_PENDING_YOUNG, hasten_pending, NULL},
    {MAPFS_PROBLEM_COUNT_FREE, NULL, miscount_free},
    {MAPFS_PROBLEM_COUNT_PENDING, NULL, miscount_pending},
    {MAPFS_PROBLEM_COUNT_INODES, NULL, miscount_inodes},
    {MAPFS_PROBLEM_EXTENT_YOUNG, age_extent_by_epoch, NULL},
    {MAPFS_PROBLEM_SYMLINK, put_nul_in_symlink, NULL},
    {MAPFS_PROBLEM_INLINE, put_extent_beside_inline, NULL},
    {MAPFS_PROBLEM_XATTR_CHUNKS, add_xattr_chunk, NULL},
    {MAPFS_PROBLEM_UNLINKED, orphan_with_names, NULL},
    {MAPFS_PROBLEM_ORPHAN, orphan_directory_to_cut, NULL},
    {MAPFS_PROBLEM_ORPHAN, unlink_full_directory, NULL},
    {MAPFS_PROBLEM_EXTENT_BEYOND, raise_cut, NULL},
    {MAPFS_PROBLEM_ROOT, name_root, NULL},
    {MAPFS_PROBLEM_BLOCK_TWICE, free_block_in_use, NULL},
    {MAPFS_PROBLEM_BLOCK_TWICE, NULL, point_twice},
    {MAPFS_PROBLEM_BLOCK_UNMARKED, unmark_bitmap, NULL},
    {MAPFS_PROBLEM_BLOCK_UNMARKED, NULL, clear_bit_past_end},
    {MAPFS_PROBLEM_BITMAP, NULL, age_bitmap},
    {MAPFS_INFO_SLOT_DAMAGED, NULL, damage_other_slot},
    {MAPFS_INFO_LOG, NULL, add_batch},
    {MAPFS_INFO_INCOMPLETE, NULL, flip_node},
};

static void test_each_mutation_is_named_by_its_number(void **state) {
    Build *build = *state;

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(mutations); i++) {
        const Mutation *mutation = &mutations[i];
        MapfsCheckReport report;
        MapfsImage *image;

        build_init(build);
        if (mutation->before)
            mutation->before(build);
        image = build_image(build);
        if (mutation->after)
            mutation->after(image);
        report = image_check(image);
        if (report.n_of_kind[mutation->number] == 0)
            fail_msg("problem %u (%s) was not found; first problem: %s", mutation->number,
                     mapfs_problem_kind(mutation->number)->name, report.first);
        mapfs_image_close(image);
    }
}

static void test_each_kind_has_a_mutation(void **state) {
    (void)state;
    for (unsigned number = 0; number < MAPFS_PROBLEM_KINDS_MAX; number++) {
        bool has_one = false;

        for (size_t i = 0; i < MAPFS_N_ELEMENTS(mutations); i++)
            has_one |= mutations[i].number == number;
        if (mapfs_problem_kind(number) && !has_one)
            fail_msg("no image has problem %u", number);
        assert_true(!mapfs_problem_kind(number) || mapfs_problem_kind(number)->number == number);
    }
}

/* Damage of one kind is not taken for something else: each of these is the only problem of its image. */
static void test_single_faults_give_single_problems(void **state) {
    static const MapfsProblemNumber single[] = {
        MAPFS_PROBLEM_NODE_CHECKSUM,  MAPFS_PROBLEM_ITEM,         MAPFS_PROBLEM_XATTR_HASH,  MAPFS_PROBLEM_XATTR_TWICE,
        MAPFS_PROBLEM_INLINE,         MAPFS_PROBLEM_EXTENT_YOUNG, MAPFS_PROBLEM_ACL,         MAPFS_PROBLEM_ACL_MODE,
        MAPFS_PROBLEM_INODE_BLOCKS,   MAPFS_PROBLEM_DIRENT_HASH,  MAPFS_PROBLEM_DIRENT_TYPE, MAPFS_PROBLEM_LINK_COUNT,
        MAPFS_PROBLEM_DIRECTORY_SIZE, MAPFS_PROBLEM_UNLINKED,     MAPFS_PROBLEM_GROUP_FREE,  MAPFS_PROBLEM_COUNT_FREE,
        MAPFS_PROBLEM_COUNT_INODES,
    };
    Build *build = *state;

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(mutations); i++) {
        MapfsCheckReport report;
        MapfsImage *image;
        bool is_single = false;

        for (size_t j = 0; j < MAPFS_N_ELEMENTS(single); j++)
            is_single |= single[j] == mutations[i].number;
        if (!is_single)
            continue;
        build_init(build);
        if (mutations[i].before)
            mutations[i].before(build);
        image = build_image(build);
        if (mutations[i].after)
            mutations[i].after(image);
        report = image_check(image);
        if (report.n_problems != 1)
            fail_msg("problem %u came with %u others; first: %s", mutations[i].number, (unsigned)report.n_problems - 1,
                     report.first);
        mapfs_image_close(image);
    }
}

static void test_valid_lists_are_clean(void **state) {
    Build *build = *state;
    MapfsCheckReport report;
    MapfsImage *image;

    put_acl(build, SAMPLE_FILE, MAPFS_XATTR_ACL_ACCESS, 1);
    put_acl(build, SAMPLE_DEEP, MAPFS_XATTR_ACL_DEFAULT, 1);
    image = build_image(build);
    report = image_check(image);
    image_report_assert_clean(&report);
    mapfs_image_close(image);
}

static void count_found(void *user, const MapfsProblem *problem) {
    unsigned *n = user;

    assert_non_null(problem->message);
    (*n)++;
}

static void test_findings_beyond_the_limit_are_counted_alone(void **state) {
    Build *build = *state;
    unsigned n = 0;
    const MapfsCheckOptions options = {.found = count_found, .user = &n, .n_per_kind_max = 1};
    MapfsCheckReport report;
    MapfsImage *image;

    miscount_links(build);
    build_inode(build, SAMPLE_FIFO)->nlink = mapfs_le32_store(9);
    image = build_image(build);
    assert_int_equal(mapfs_check_run(image, &options, &report), 0);
    assert_int_equal(n, 1);
    assert_int_equal(report.n_of_kind[MAPFS_PROBLEM_LINK_COUNT], 2);
    mapfs_image_close(image);
}

static void test_older_slot_is_used_when_the_newer_is_torn(void **state) {
    Build *build = *state;
    MapfsImage *image = build_image(build);
    MapfsCheckReport report;

    damage_other_slot(image);
    report = image_check(image);
    image_report_assert_clean(&report);
    assert_int_equal(report.slot, BUILD_GENERATION % 2);
    assert_int_equal(report.n_infos, 1);
    mapfs_image_close(image);
}

/* A newer superblock in the other slot, whose checkpoint lists a data block. */
static struct mapfs_disk_superblock *add_listing_slot(MapfsImage *image) {
    struct mapfs_disk_superblock *newer = image_block(image, 0);

    memcpy(newer, image_superblock(image), sizeof(*newer));
    newer->generation = mapfs_le64_store(BUILD_GENERATION + 1);
    newer->n_written = mapfs_le32_store(1);
    newer->written[0] =
        (struct mapfs_disk_written){.block = mapfs_le64_store(BUILD_FIRST_DATA), .n_blocks = mapfs_le32_store(2)};
    newer->written_checksum = mapfs_le64_store(mapfs_superblock_written_checksum(newer, image->base));
    mapfs_superblock_seal(newer);
    return newer;
}

static void test_checkpoint_that_is_not_whole_gives_way_to_the_one_before(void **state) {
    Build *build = *state;
    MapfsImage *image = build_image(build);
    MapfsCheckReport report;

    (void)add_listing_slot(image);
    report = image_check(image);
    image_report_assert_clean(&report);
    assert_int_equal(report.generation, BUILD_GENERATION + 1);
    assert_int_equal(report.n_infos, 0);

    ((uint8_t *)image_block(image, BUILD_FIRST_DATA + 1))[4095]++;
    report = image_check(image);
    image_report_assert_clean(&report);
    assert_int_equal(report.generation, BUILD_GENERATION);
    assert_int_equal(report.n_of_kind[MAPFS_INFO_SLOT_DAMAGED], 1);

    image_superblock(image)->magic[0]++;
    report = image_check(image); /* alone it is not asked */
    image_report_assert_clean(&report);
    assert_int_equal(report.generation, BUILD_GENERATION + 1);
    mapfs_image_close(image);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, build_setup, build_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_sample_is_clean_and_counted),
        TEST(test_each_mutation_is_named_by_its_number),
        TEST(test_each_kind_has_a_mutation),
        TEST(test_single_faults_give_single_problems),
        TEST(test_valid_lists_are_clean),
        TEST(test_findings_beyond_the_limit_are_counted_alone),
        TEST(test_older_slot_is_used_when_the_newer_is_torn),
        TEST(test_checkpoint_that_is_not_whole_gives_way_to_the_one_before),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
