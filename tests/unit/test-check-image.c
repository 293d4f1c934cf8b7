/* SPDX-License-Identifier: MIT */

#include "test-check-image.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

BuildItem *build_find(Build *build, MapfsKey key) {
    for (unsigned i = 0; i < build->n_items; i++)
        if (mapfs_key_compare(build->items[i].key, key) == 0)
            return &build->items[i];
    return NULL;
}

void build_put(Build *build, MapfsKey key, const void *value, size_t len) {
    BuildItem *item = build_find(build, key);

    assert_true(len <= sizeof(item->value));
    if (!item) {
        unsigned place = 0;

        assert_true(build->n_items < BUILD_ITEMS_MAX);
        while (place < build->n_items && mapfs_key_compare(build->items[place].key, key) < 0)
            place++;
        item = &build->items[place];
        memmove(item + 1, item, (build->n_items - place) * sizeof(*item));
        build->n_items++;
    }
    item->key = key;
    item->len = len;
    memcpy(item->value, value, len);
}

void build_remove(Build *build, MapfsKey key) {
    BuildItem *item = build_find(build, key);

    assert_non_null(item);
    build->n_items--;
    memmove(item, item + 1, (size_t)(build->items + build->n_items - item) * sizeof(*item));
}

struct mapfs_disk_inode *build_inode(Build *build, uint64_t ino) {
    BuildItem *item = build_find(build, (MapfsKey){.object = ino, .kind = MAPFS_KIND_INODE});

    assert_non_null(item);
    return (struct mapfs_disk_inode *)(void *)item->value;
}

void build_add_inode(Build *build, uint64_t ino, uint32_t mode, uint32_t nlink) {
    struct mapfs_disk_inode inode = {.mode = mapfs_le32_store(mode), .nlink = mapfs_le32_store(nlink)};

    build_put(build, (MapfsKey){.object = ino, .kind = MAPFS_KIND_INODE}, &inode, sizeof(inode));
}

MapfsKey build_name_key(const Build *build, uint64_t directory, const char *name) {
    uint64_t hash = mapfs_dirent_hash(name, strlen(name), mapfs_le64_load(build->superblock.hash_seed));

    return (MapfsKey){.object = directory, .kind = MAPFS_KIND_DIRENT, .offset = hash << MAPFS_DIRENT_SLOT_SHIFT};
}

/* Adds the entry and counts it in the directory; link counts and parents are the caller's. */
void build_add_name(Build *build, uint64_t directory, const char *name, uint64_t ino, uint8_t type) {
    union {
        struct mapfs_disk_dirent dirent;
        char bytes[sizeof(struct mapfs_disk_dirent) + MAPFS_NAME_LEN_MAX];
    } value = {.dirent = {.ino = mapfs_le64_store(ino), .type = type, .name_len = (uint8_t)strlen(name)}};
    struct mapfs_disk_inode *inode = build_inode(build, directory);

    memcpy(value.bytes + sizeof(value.dirent), name, strlen(name));
    inode->size = mapfs_le64_store(mapfs_le64_load(inode->size) + 1);
    build_put(build, build_name_key(build, directory, name), &value, sizeof(value.dirent) + strlen(name));
}

void build_add_extent(Build *build, uint64_t ino, uint64_t logical, uint64_t block, uint32_t n_blocks) {
    struct mapfs_disk_inode *inode = build_inode(build, ino);
    struct mapfs_disk_extent extent = {.block = mapfs_le64_store(block),
                                       .n_blocks = mapfs_le32_store(n_blocks),
                                       .birth_generation = mapfs_le64_store(BUILD_GENERATION),
                                       .birth_epoch = mapfs_le64_store(BUILD_EPOCH)};

    inode->n_blocks = mapfs_le64_store(mapfs_le64_load(inode->n_blocks) + n_blocks);
    build_put(build, (MapfsKey){.object = ino, .kind = MAPFS_KIND_EXTENT, .offset = logical}, &extent, sizeof(extent));
}

void build_add_pending(Build *build, uint64_t generation, uint64_t block, uint32_t n_blocks) {
    struct mapfs_disk_pending_run run = {.block = mapfs_le64_store(block), .n_blocks = mapfs_le32_store(n_blocks)};

    build_put(build,
              (MapfsKey){.object = MAPFS_OBJECT_PENDING + generation, .kind = MAPFS_KIND_PENDING, .offset = block},
              &run, sizeof(run));
}

void build_add_xattr(Build *build, uint64_t ino, const char *name, const char *value, size_t value_len) {
    uint64_t hash = mapfs_xattr_hash(name, strlen(name), mapfs_le64_load(build->superblock.hash_seed));
    size_t len = sizeof(struct mapfs_disk_xattr) + strlen(name) + value_len;
    struct mapfs_disk_inode *inode = build_inode(build, ino);
    struct mapfs_disk_xattr head = {.value_len = mapfs_le32_store((uint32_t)value_len),
                                    .name_len = (uint8_t)strlen(name)};
    uint8_t *whole = calloc(1, len);

    assert_non_null(whole);
    memcpy(whole, &head, sizeof(head));
    memcpy(whole + sizeof(head), name, strlen(name));
    memcpy(whole + sizeof(head) + strlen(name), value, value_len);
    inode->n_xattrs = mapfs_le32_store(mapfs_le32_load(inode->n_xattrs) + 1);
    for (unsigned chunk = 0; chunk * MAPFS_XATTR_CHUNK < len; chunk++) {
        MapfsKey key = {.object = ino, .kind = MAPFS_KIND_XATTR, .offset = mapfs_xattr_offset(hash, 0, chunk)};

        build_put(build, key, whole + chunk * MAPFS_XATTR_CHUNK,
                  MAPFS_MIN(len - chunk * MAPFS_XATTR_CHUNK, MAPFS_XATTR_CHUNK));
    }
    free(whole);
}

static void superblock_init(struct mapfs_disk_superblock *superblock) {
    memcpy(superblock->magic, MAPFS_SUPERBLOCK_MAGIC, sizeof(superblock->magic));
    superblock->version = mapfs_le32_store(MAPFS_FORMAT_VERSION);
    superblock->block_size = mapfs_le32_store(MAPFS_BLOCK_SIZE);
    superblock->generation = mapfs_le64_store(BUILD_GENERATION);
    superblock->epoch = mapfs_le64_store(BUILD_EPOCH);
    superblock->lsn = mapfs_le64_store(100);
    superblock->n_blocks = mapfs_le64_store(BUILD_BLOCKS);
    superblock->log_start = mapfs_le64_store(MAPFS_SUPERBLOCK_SLOTS);
    superblock->log_blocks = mapfs_le64_store(BUILD_LOG_BLOCKS);
    superblock->log_nonce = mapfs_le64_store(4711);
    superblock->log_sequence = mapfs_le64_store(1);
    superblock->root_generation = mapfs_le64_store(BUILD_GENERATION);
    superblock->next_ino = mapfs_le64_store(SAMPLE_INODES + 1);
    superblock->hash_seed = mapfs_le64_store(BUILD_HASH_SEED);
    superblock->checksum_seed = mapfs_le64_store(BUILD_CHECKSUM_SEED);
    superblock->n_inodes = mapfs_le64_store(SAMPLE_INODES);
}

static void set_parent(Build *build, uint64_t ino, uint64_t parent) {
    build_inode(build, ino)->parent = mapfs_le64_store(parent);
}

static void set_size(Build *build, uint64_t ino, uint64_t size) {
    build_inode(build, ino)->size = mapfs_le64_store(size);
}

static void add_directories(Build *build) {
    build_add_inode(build, MAPFS_INO_ROOT, S_IFDIR | 0755, 3);
    set_parent(build, MAPFS_INO_ROOT, MAPFS_INO_ROOT);
    build_add_inode(build, SAMPLE_DIRECTORY, S_IFDIR | 0700, 3);
    set_parent(build, SAMPLE_DIRECTORY, MAPFS_INO_ROOT);
    build_add_inode(build, SAMPLE_DEEP, S_IFDIR | 0700, 2);
    set_parent(build, SAMPLE_DEEP, SAMPLE_DIRECTORY);
    build_add_name(build, MAPFS_INO_ROOT, "hello", SAMPLE_FILE, DT_REG);
    build_add_name(build, MAPFS_INO_ROOT, "data", SAMPLE_DATA, DT_REG);
    build_add_name(build, MAPFS_INO_ROOT, "sub", SAMPLE_DIRECTORY, DT_DIR);
    build_add_name(build, MAPFS_INO_ROOT, "link", SAMPLE_SYMLINK, DT_LNK);
    build_add_name(build, MAPFS_INO_ROOT, "fifo", SAMPLE_FIFO, DT_FIFO);
    build_add_name(build, SAMPLE_DIRECTORY, "again", SAMPLE_FILE, DT_REG);
    build_add_name(build, SAMPLE_DIRECTORY, "cut", SAMPLE_CUT, DT_REG);
    build_add_name(build, SAMPLE_DIRECTORY, "deep", SAMPLE_DEEP, DT_DIR);
}

static void add_symlink(Build *build) {
    char target[2000];

    memset(target, 't', sizeof(target));
    build_add_inode(build, SAMPLE_SYMLINK, S_IFLNK | 0777, 1);
    set_size(build, SAMPLE_SYMLINK, sizeof(target));
    for (unsigned offset = 0; offset < sizeof(target); offset += MAPFS_SYMLINK_CHUNK)
        build_put(build, (MapfsKey){.object = SAMPLE_SYMLINK, .kind = MAPFS_KIND_INLINE, .offset = offset},
                  target + offset, MAPFS_MIN(sizeof(target) - offset, MAPFS_SYMLINK_CHUNK));
}

static void add_files(Build *build) {
    char big[5000];
    BuildItem *item;

    memset(big, 'x', sizeof(big));
    build_add_inode(build, SAMPLE_FILE, S_IFREG | 0644, 2);
    set_size(build, SAMPLE_FILE, 11);
    build_put(build, (MapfsKey){.object = SAMPLE_FILE, .kind = MAPFS_KIND_INLINE}, "hello world", 11);
    build_add_xattr(build, SAMPLE_FILE, "user.small", "value", 5);
    build_add_xattr(build, SAMPLE_FILE, "user.big", big, sizeof(big));

    build_add_inode(build, SAMPLE_DATA, S_IFREG | 0600, 1);
    set_size(build, SAMPLE_DATA, UINT64_C(5) * MAPFS_BLOCK_SIZE + 1);
    build_add_extent(build, SAMPLE_DATA, 0, BUILD_FIRST_DATA, 2);
    build_add_extent(build, SAMPLE_DATA, 4, BUILD_FIRST_DATA + 10, 2);
    build_add_extent(build, SAMPLE_DATA, 20, BUILD_FIRST_DATA + 20, 4);
    item = build_find(build, (MapfsKey){.object = SAMPLE_DATA, .kind = MAPFS_KIND_EXTENT, .offset = 20});
    ((struct mapfs_disk_extent *)(void *)item->value)->flags = mapfs_le32_store(MAPFS_EXTENT_UNWRITTEN);

    build_add_inode(build, SAMPLE_FIFO, S_IFIFO | 0644, 1);
}

static void add_orphans(Build *build) {
    struct mapfs_disk_orphan unlinked = {.flags = mapfs_le32_store(MAPFS_ORPHAN_UNLINKED)};
    struct mapfs_disk_orphan truncated = {.flags = mapfs_le32_store(MAPFS_ORPHAN_TRUNCATED)};

    build_add_inode(build, SAMPLE_UNLINKED, S_IFREG | 0600, 0);
    set_size(build, SAMPLE_UNLINKED, MAPFS_BLOCK_SIZE);
    build_add_extent(build, SAMPLE_UNLINKED, 0, BUILD_FIRST_DATA + 30, 1);
    build_put(build, (MapfsKey){.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = SAMPLE_UNLINKED},
              &unlinked, sizeof(unlinked));
    build_add_inode(build, SAMPLE_CUT, S_IFREG | 0600, 1);
    build_add_extent(build, SAMPLE_CUT, 3, BUILD_FIRST_DATA + 40, 2);
    build_put(build, (MapfsKey){.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = SAMPLE_CUT},
              &truncated, sizeof(truncated));
}

void build_init(Build *build) {
    struct mapfs_disk_group group = {.bitmap_address = mapfs_le64_store(BUILD_BITMAP),
                                     .bitmap_generation = mapfs_le64_store(BUILD_GENERATION)};

    memset(build, 0, sizeof(*build));
    build->items_per_leaf = 5;
    build->pointers_per_node = 3;
    superblock_init(&build->superblock);
    add_directories(build);
    add_files(build);
    add_symlink(build);
    add_orphans(build);
    build_put(build, (MapfsKey){.object = MAPFS_OBJECT_GROUPS, .kind = MAPFS_KIND_GROUP}, &group, sizeof(group));
    build_add_pending(build, BUILD_GENERATION - 1, BUILD_FIRST_DATA + 60, 3);
    build_add_pending(build, BUILD_GENERATION, BUILD_FIRST_DATA + 50, 1);
}

/* Blocks in use, as the items say. */
typedef struct {
    uint8_t bits[MAPFS_NODE_SPACE];
    uint64_t n_pending;
} Usage;

static void use(Usage *usage, uint64_t block, uint64_t n_blocks) {
    for (uint64_t i = block; i < block + n_blocks && i < BUILD_BLOCKS; i++)
        usage->bits[i / 8] |= (uint8_t)(1u << i % 8);
}

static void use_items(const Build *build, Usage *usage) {
    for (unsigned i = 0; i < build->n_items; i++) {
        const BuildItem *item = &build->items[i];

        if (item->key.kind == MAPFS_KIND_EXTENT) {
            const struct mapfs_disk_extent *extent = (const void *)item->value;
            use(usage, mapfs_le64_load(extent->block), mapfs_le32_load(extent->n_blocks));
        }
        for (unsigned j = 0; item->key.kind == MAPFS_KIND_PENDING && j < item->len / 16u; j++) {
            const struct mapfs_disk_pending_run *run =
                (const struct mapfs_disk_pending_run *)(const void *)item->value + j;
            use(usage, mapfs_le64_load(run->block), mapfs_le32_load(run->n_blocks));
            usage->n_pending += mapfs_le32_load(run->n_blocks);
        }
    }
}

/* The node being filled of each level, and the first key of it. */
typedef struct {
    Build *build;
    MapfsImage *image;
    uint64_t next_node;
    MapfsNodeRef refs[BUILD_ITEMS_MAX];
    MapfsKey keys[BUILD_ITEMS_MAX];
    unsigned n;
} Level;

static void *node_new(Level *level, unsigned height, unsigned n_items, MapfsKey first) {
    uint64_t address = level->next_node++;
    struct mapfs_disk_header *header = image_block(level->image, address);

    header->magic = mapfs_le32_store(MAPFS_NODE_MAGIC);
    header->level = (uint8_t)height;
    header->n_items = mapfs_le16_store((uint16_t)n_items);
    header->address = mapfs_le64_store(address);
    header->generation = mapfs_le64_store(BUILD_GENERATION);
    header->owner = mapfs_le64_store(MAPFS_OWNER_MAIN);
    level->refs[level->n] =
        (MapfsNodeRef){.address = {address}, .generation = {BUILD_GENERATION}, .level = (uint8_t)height};
    level->keys[level->n++] = first;
    return header;
}

static unsigned leaf_fill(Level *level, unsigned first) {
    const Build *build = level->build;
    unsigned n = 0, room = MAPFS_NODE_SPACE, end = MAPFS_BLOCK_SIZE;
    struct mapfs_disk_leaf *leaf;

    while (first + n < build->n_items && n < build->items_per_leaf &&
           room >= sizeof(struct mapfs_disk_slot) + build->items[first + n].len)
        room -= (unsigned)(sizeof(struct mapfs_disk_slot) + build->items[first + n++].len);
    leaf = node_new(level, 0, n, build->items[first].key);
    for (unsigned i = 0; i < n; i++) {
        const BuildItem *item = &build->items[first + i];

        end -= (unsigned)item->len;
        leaf->slots[i] = (struct mapfs_disk_slot){.object = mapfs_le64_store(item->key.object),
                                                  .offset = mapfs_le64_store(item->key.offset),
                                                  .kind = item->key.kind,
                                                  .value_offset = mapfs_le16_store((uint16_t)end),
                                                  .value_len = mapfs_le16_store((uint16_t)item->len)};
        memcpy((uint8_t *)leaf + end, item->value, item->len);
    }
    return first + n;
}

static void index_fill(Level *level, const Level *below, unsigned first, unsigned n, unsigned height) {
    struct mapfs_disk_index *node = node_new(level, height, n, below->keys[first]);

    for (unsigned i = 0; i < n; i++)
        node->pointers[i] =
            (struct mapfs_disk_pointer){.object = mapfs_le64_store(below->keys[first + i].object),
                                        .offset = mapfs_le64_store(below->keys[first + i].offset),
                                        .kind = below->keys[first + i].kind,
                                        .address = mapfs_le64_store(below->refs[first + i].address.n),
                                        .generation = mapfs_le64_store(below->refs[first + i].generation.n)};
}

/* Stores the whole tree; returns the first block after its nodes. The root is the last node. */
static uint64_t tree_store(Build *build, MapfsImage *image, MapfsNodeRef *ret_root) {
    Level level = {.build = build, .image = image, .next_node = BUILD_FIRST_NODE};
    unsigned height = 0;

    for (unsigned first = 0; first < build->n_items;)
        first = leaf_fill(&level, first);
    while (level.n > 1) {
        Level above = {.build = build, .image = image, .next_node = level.next_node};

        height++;
        for (unsigned first = 0; first < level.n; first += build->pointers_per_node)
            index_fill(&above, &level, first, MAPFS_MIN(level.n - first, build->pointers_per_node), height);
        level = above;
    }
    *ret_root = level.refs[0];
    assert_true(level.next_node <= BUILD_FIRST_DATA);
    return level.next_node;
}

static uint64_t count_free(const Usage *usage) {
    uint64_t n = 0;

    for (unsigned i = 0; i < BUILD_BLOCKS; i++)
        n += !(usage->bits[i / 8] >> i % 8 & 1);
    return n;
}

static void bitmap_store(Build *build, MapfsImage *image, Usage *usage) {
    struct mapfs_disk_bitmap *bitmap = image_block(image, BUILD_BITMAP);

    if (build->leak > 0)
        usage->bits[build->leak / 8] |= (uint8_t)(1u << build->leak % 8);
    if (build->unmark > 0)
        usage->bits[build->unmark / 8] &= (uint8_t) ~(1u << build->unmark % 8);
    bitmap->header.magic = mapfs_le32_store(MAPFS_BITMAP_MAGIC);
    bitmap->header.address = mapfs_le64_store(BUILD_BITMAP);
    bitmap->header.generation = mapfs_le64_store(BUILD_GENERATION);
    memset(bitmap->bits, 0xff, sizeof(bitmap->bits));
    memcpy(bitmap->bits, usage->bits, BUILD_BLOCKS / 8);
    mapfs_header_seal(bitmap, BUILD_CHECKSUM_SEED);
}

MapfsImage *build_image(Build *build) {
    struct mapfs_disk_superblock *superblock = &build->superblock;
    MapfsKey group_key = {.object = MAPFS_OBJECT_GROUPS, .kind = MAPFS_KIND_GROUP};
    BuildItem *group = build_find(build, group_key);
    MapfsImage *image;
    MapfsNodeRef root;
    Usage usage = {0};
    uint64_t end;

    assert_int_equal(mapfs_image_open_anonymous(BUILD_BLOCKS, &image), 0);
    use(&usage, 0, MAPFS_SUPERBLOCK_SLOTS + BUILD_LOG_BLOCKS);
    use_items(build, &usage);
    if (!build->without_bitmap)
        use(&usage, BUILD_BITMAP, 1);
    end = tree_store(build, image, &root);
    use(&usage, BUILD_FIRST_NODE, end - BUILD_FIRST_NODE);
    if (!build->without_bitmap)
        bitmap_store(build, image, &usage);
    if (group) { /* its length is that of the empty item that the tree was measured with */
        ((struct mapfs_disk_group *)(void *)group->value)->n_free = mapfs_le32_store((uint32_t)count_free(&usage));
        end = tree_store(build, image, &root);
    }
    for (uint64_t block = BUILD_FIRST_NODE; block < end; block++)
        mapfs_header_seal(image_block(image, block), BUILD_CHECKSUM_SEED);
    superblock->root_address = mapfs_le64_store(root.address.n);
    superblock->root_level = mapfs_le32_store(root.level);
    superblock->n_free_blocks = mapfs_le64_store(count_free(&usage));
    superblock->n_pending_blocks = mapfs_le64_store(usage.n_pending);
    mapfs_superblock_seal(superblock);
    memcpy(image_superblock(image), superblock, sizeof(*superblock));
    return image;
}

void *image_block(MapfsImage *image, uint64_t block) {
    void *bytes = mapfs_image_writable(image, (MapfsRun){.start = {block}, .n_blocks = 1});

    assert_non_null(bytes);
    return bytes;
}

struct mapfs_disk_superblock *image_superblock(MapfsImage *image) {
    return image_block(image, BUILD_GENERATION % MAPFS_SUPERBLOCK_SLOTS);
}

void image_reseal_superblock(MapfsImage *image) {
    mapfs_superblock_seal(image_superblock(image));
}

MapfsCheckReport image_check(MapfsImage *image) {
    const MapfsCheckOptions options = {0};
    MapfsCheckReport report;

    assert_int_equal(mapfs_check_run(image, &options, &report), 0);
    return report;
}

void image_report_assert_clean(const MapfsCheckReport *report) {
    if (report->n_problems > 0)
        fail_msg("%s", report->first);
}

int build_setup(void **state) {
    *state = malloc(sizeof(Build));
    if (!*state)
        return -1;
    build_init(*state);
    return 0;
}

int build_teardown(void **state) {
    free(*state);
    return 0;
}
