/* SPDX-License-Identifier: MIT */
#include "tree-store.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#define checksum_hide(bytes) __asan_poison_memory_region((uint8_t *)(bytes) + CHECKSUM_AT, 8)
#define checksum_show(bytes) __asan_unpoison_memory_region((uint8_t *)(bytes) + CHECKSUM_AT, 8)
#else
#define checksum_hide(bytes) ((void)(bytes))
#define checksum_show(bytes) ((void)(bytes))
#endif
#define CHECKSUM_AT offsetof(struct mapfs_disk_header, checksum)

/* Addresses begin here: lower ones are superblocks. */
#define FIRST_ADDRESS 2u

typedef struct {
    uint8_t *bytes;
    uint8_t *sealed; /* copy made when it was sealed; NULL while it may be changed */
    uint64_t generation;
    bool live;      /* part of the newest state */
    bool forgotten; /* of no state any more */
} TreeStoreBlock;

static TreeStoreBlock *store_find(TreeStore *store, uint64_t address) {
    if (address < FIRST_ADDRESS || address - FIRST_ADDRESS >= store->blocks->len)
        return NULL;
    return g_ptr_array_index(store->blocks, address - FIRST_ADDRESS);
}

static void store_maybe_disturb(TreeStore *store) {
    if (store->disturb && g_rand_int_range(store->disturb, 0, 20) == 0)
        tree_store_disturb(store, store->disturb);
}

static int store_read(void *user, MapfsNodeRef ref, const void **ret_node) {
    TreeStore *store = user;
    TreeStoreBlock *block = store_find(store, ref.address.n);

    store->n_reads++;
    store_maybe_disturb(store);
    if (store->fail_read && --store->fail_read == 0)
        return -EUCLEAN;
    if (store->hostile && (!block || block->forgotten || block->generation != ref.generation.n))
        return mapfs_damage(ref.address.n, "block", "is not there");
    assert_non_null(block);
    assert_false(block->forgotten);
    assert_int_equal(block->generation, ref.generation.n);
    *ret_node = block->bytes;
    return 0;
}

static void *store_writable(void *user, MapfsBlock address) {
    TreeStore *store = user;
    TreeStoreBlock *block = store_find(store, address.n);

    assert_non_null(block);
    assert_true(block->live);
    assert_null(block->sealed);
    assert_int_equal(block->generation, store->tree.running.n);
    store_maybe_disturb(store);
    return block->bytes;
}

static int store_allocate(void *user, bool names, MapfsBlock *ret_address, void **ret_node) {
    TreeStore *store = user;
    TreeStoreBlock *block;
    uint64_t address;

    store->n_names += names;
    store_maybe_disturb(store);
    if (store->fail_allocate && --store->fail_allocate == 0)
        return -ENOSPC;
    if (store->free_addresses->len > 0) {
        address = g_array_index(store->free_addresses, uint64_t, store->free_addresses->len - 1);
        g_array_set_size(store->free_addresses, store->free_addresses->len - 1);
        block = store_find(store, address);
    } else {
        address = FIRST_ADDRESS + store->blocks->len;
        block = g_new0(TreeStoreBlock, 1);
        block->bytes = g_malloc(MAPFS_BLOCK_SIZE);
        g_ptr_array_add(store->blocks, block);
    }
    memset(block->bytes, 0xa5, MAPFS_BLOCK_SIZE);
    block->generation = store->tree.running.n;
    block->live = true;
    block->forgotten = false;
    store->n_live++;
    store->n_allocates++;
    *ret_address = (MapfsBlock){address};
    *ret_node = block->bytes;
    return 0;
}

static void store_release(void *user, MapfsNodeRef ref) {
    TreeStore *store = user;
    TreeStoreBlock *block = store_find(store, ref.address.n);

    if (store->hostile && (!block || !block->live || block->generation != ref.generation.n))
        return;
    assert_non_null(block);
    assert_true(block->live);
    assert_int_equal(block->generation, ref.generation.n);
    block->live = false;
    store->n_live--;
    store->n_releases++;
    if (!block->sealed) {
        memset(block->bytes, 0x5a, MAPFS_BLOCK_SIZE);
        block->forgotten = true;
        g_array_append_val(store->free_addresses, ref.address.n);
    }
}

static const MapfsTreeStoreOps store_ops = {
    .read = store_read,
    .writable = store_writable,
    .allocate = store_allocate,
    .release = store_release,
};

static void store_block_free(gpointer data) {
    TreeStoreBlock *block = data;

    checksum_show(block->bytes);
    g_free(block->bytes);
    g_free(block->sealed);
    g_free(block);
}

void tree_store_init(TreeStore *store) {
    *store = (TreeStore){
        .tree = {.ops = &store_ops, .store = store, .running = {1}},
        .blocks = g_ptr_array_new_with_free_func(store_block_free),
        .free_addresses = g_array_new(FALSE, FALSE, sizeof(uint64_t)),
    };
    assert_int_equal(mapfs_tree_create(&store->tree), 0);
}

void tree_store_clear(TreeStore *store) {
    g_ptr_array_unref(store->blocks);
    g_array_unref(store->free_addresses);
}

void tree_store_next_generation(TreeStore *store) {
    for (unsigned i = 0; i < store->blocks->len; i++) {
        TreeStoreBlock *block = g_ptr_array_index(store->blocks, i);
        if (!block->live || block->sealed)
            continue;
        /* Any number will do as checksum: the tree must not look at it. */
        memset(block->bytes + CHECKSUM_AT, 0xc5, 8);
        block->sealed = g_memdup2(block->bytes, MAPFS_BLOCK_SIZE);
        checksum_hide(block->bytes);
    }
    store->tree.running.n++;
}

void tree_store_check_sealed(TreeStore *store) {
    for (unsigned i = 0; i < store->blocks->len; i++) {
        TreeStoreBlock *block = g_ptr_array_index(store->blocks, i);
        if (!block->sealed)
            continue;
        checksum_show(block->bytes);
        assert_memory_equal(block->bytes, block->sealed, MAPFS_BLOCK_SIZE);
        checksum_hide(block->bytes);
    }
}

void *tree_store_block(TreeStore *store, uint64_t address) {
    TreeStoreBlock *block = store_find(store, address);
    return block ? block->bytes : NULL;
}

/* Overwrites `len` bytes at `at`, all but the checksum, which may be hidden. */
static void block_scribble(TreeStoreBlock *block, unsigned at, unsigned len, GRand *rand) {
    for (unsigned i = at; i < at + len && i < MAPFS_BLOCK_SIZE; i++)
        if (i < CHECKSUM_AT || i >= CHECKSUM_AT + 8)
            block->bytes[i] = (uint8_t)g_rand_int(rand);
}

void tree_store_disturb(TreeStore *store, GRand *rand) {
    TreeStoreBlock *block =
        g_ptr_array_index(store->blocks, (guint)g_rand_int_range(rand, 0, (gint32)store->blocks->len));
    unsigned at = (unsigned)g_rand_int_range(rand, 0, MAPFS_BLOCK_SIZE);

    switch (g_rand_int_range(rand, 0, 8)) {
    case 0: /* what a lost page looks like */
        checksum_show(block->bytes);
        memset(block->bytes, 0, MAPFS_BLOCK_SIZE);
        break;
    case 1:
        block_scribble(block, 0, MAPFS_BLOCK_SIZE, rand);
        break;
    case 2: /* number of items */
        block_scribble(block, 6, 2, rand);
        break;
    case 3: /* a slot's place and length */
        block_scribble(block, 64 + at % MAPFS_LEAF_SLOTS_MAX * 24 + 18, 4, rand);
        break;
    case 4: { /* another node of the tree shows up here */
        TreeStoreBlock *other = g_ptr_array_index(store->blocks, at % store->blocks->len);
        memcpy(block->bytes + 64, other->bytes + 64, MAPFS_BLOCK_SIZE - 64);
        break;
    }
    case 5: { /* a pointer leads to another node */
        struct mapfs_disk_index *node = (struct mapfs_disk_index *)block->bytes;
        unsigned target = at % store->blocks->len;
        TreeStoreBlock *other = g_ptr_array_index(store->blocks, target);
        node->pointers[at % MAPFS_INDEX_POINTERS_MAX].address = mapfs_le64_store(FIRST_ADDRESS + target);
        node->pointers[at % MAPFS_INDEX_POINTERS_MAX].generation = mapfs_le64_store(other->generation);
        break;
    }
    default:
        block_scribble(block, at, (unsigned)g_rand_int_range(rand, 1, 16), rand);
        break;
    }
}

/* A walk over one state. */
typedef struct {
    TreeStore *store;
    TreeStoreShape shape;
    unsigned root_level;
} Walk;

/* The keys that may be below a pointer: from `start` up to, but without, `end`. */
typedef struct {
    MapfsKey start, end;
} Range;

static MapfsKey pointer_key(const struct mapfs_disk_pointer *pointer) {
    return (MapfsKey){mapfs_le64_load(pointer->object), mapfs_le64_load(pointer->offset), pointer->kind};
}

static uint64_t digest_bytes(uint64_t digest, const void *bytes, size_t len) {
    const uint8_t *byte = bytes;

    for (size_t i = 0; i < len; i++)
        digest = (digest ^ byte[i]) * UINT64_C(0x100000001b3);
    return digest;
}

static void walk_leaf(Walk *walk, const struct mapfs_disk_leaf *leaf, Range range) {
    unsigned end = MAPFS_BLOCK_SIZE, n_items = mapfs_le16_load(leaf->header.n_items);

    /* Only a tree that is one leaf may be empty. */
    assert_in_range(n_items, walk->root_level > 0, MAPFS_LEAF_SLOTS_MAX);
    for (unsigned i = 0; i < n_items; i++) {
        const struct mapfs_disk_slot *slot = &leaf->slots[i];
        MapfsKey key = {mapfs_le64_load(slot->object), mapfs_le64_load(slot->offset), slot->kind};
        unsigned offset = mapfs_le16_load(slot->value_offset), len = mapfs_le16_load(slot->value_len);

        if (i > 0)
            assert_true(mapfs_key_compare(range.start, key) < 0);
        else
            assert_true(mapfs_key_compare(range.start, key) <= 0);
        assert_true(mapfs_key_compare(key, range.end) < 0);
        range.start = key;
        assert_int_equal(offset + len, end);
        assert_in_range(offset, 64 + n_items * sizeof(*slot), MAPFS_BLOCK_SIZE);
        assert_in_range(len, 0, MAPFS_VALUE_LEN_MAX);
        assert_int_equal(slot->reserved1, 0);
        assert_int_equal(mapfs_le16_load(slot->reserved2), 0);
        end = offset;
        uint64_t words[4] = {key.object, key.kind, key.offset, len};
        walk->shape.digest = digest_bytes(walk->shape.digest, words, sizeof(words));
        walk->shape.digest = digest_bytes(walk->shape.digest, (const uint8_t *)leaf + offset, len);
    }
    walk->shape.n_leaves++;
    walk->shape.n_items += n_items;
    walk->shape.used_bytes += MAPFS_BLOCK_SIZE - end + n_items * sizeof(struct mapfs_disk_slot);
}

static void walk_node(Walk *walk, MapfsNodeRef ref, Range range);

static void walk_index(Walk *walk, const struct mapfs_disk_index *node, MapfsNodeRef ref, Range range) {
    unsigned n_items = mapfs_le16_load(node->header.n_items);

    assert_in_range(n_items, 1, MAPFS_INDEX_POINTERS_MAX);
    for (unsigned i = 0; i < n_items; i++) {
        const struct mapfs_disk_pointer *pointer = &node->pointers[i];
        MapfsNodeRef child = {
            {mapfs_le64_load(pointer->address)}, {mapfs_le64_load(pointer->generation)}, (uint8_t)(ref.level - 1)};
        /* The first pointer's key is not looked at: what is below it begins where the node does. */
        Range below = {i > 0 ? pointer_key(pointer) : range.start,
                       i + 1 < n_items ? pointer_key(pointer + 1) : range.end};

        assert_true(mapfs_key_compare(range.start, below.start) <= 0);
        assert_true(mapfs_key_compare(below.start, below.end) < 0);
        assert_true(mapfs_key_compare(below.end, range.end) <= 0);
        assert_true(child.generation.n <= ref.generation.n);
        walk_node(walk, child, below);
    }
}

static void walk_node(Walk *walk, MapfsNodeRef ref, Range range) {
    TreeStoreBlock *block = store_find(walk->store, ref.address.n);

    assert_non_null(block);
    assert_false(block->forgotten);
    assert_int_equal(block->generation, ref.generation.n);
    const struct mapfs_disk_header *header = (const struct mapfs_disk_header *)block->bytes;
    assert_int_equal(mapfs_le32_load(header->magic), MAPFS_NODE_MAGIC);
    assert_int_equal(header->level, ref.level);
    assert_int_equal(mapfs_le64_load(header->address), ref.address.n);
    assert_int_equal(mapfs_le64_load(header->generation), ref.generation.n);
    assert_int_equal(mapfs_le64_load(header->owner), MAPFS_OWNER_MAIN);
    assert_int_equal(header->reserved1, 0);
    if (!block->sealed)
        assert_int_equal(mapfs_le64_load(header->checksum), 0);

    walk->shape.n_nodes++;
    if (ref.level == 0)
        walk_leaf(walk, (const struct mapfs_disk_leaf *)block->bytes, range);
    else
        walk_index(walk, (const struct mapfs_disk_index *)block->bytes, ref, range);
}

TreeStoreShape tree_store_check(TreeStore *store, MapfsNodeRef root) {
    Walk walk = {.store = store, .shape = {.digest = UINT64_C(0xcbf29ce484222325)}, .root_level = root.level};
    Range everything = {.end = {UINT64_MAX, UINT64_MAX, UINT8_MAX}};

    walk_node(&walk, root, everything);
    return walk.shape;
}

TreeStoreShape tree_store_check_newest(TreeStore *store) {
    TreeStoreShape shape = tree_store_check(store, store->tree.root);

    assert_int_equal(shape.n_nodes, store->n_live);
    return shape;
}

void tree_store_make_value(MapfsKey key, uint32_t version, void *value, size_t value_len) {
    uint64_t state = key.object * UINT64_C(0x9e3779b97f4a7c15) ^ key.offset * UINT64_C(0xc2b2ae3d27d4eb4f) ^ key.kind ^
                     (uint64_t)version << 32;
    uint8_t *bytes = value;

    for (size_t i = 0; i < value_len; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        bytes[i] = (uint8_t)(state >> 56);
    }
}

void tree_store_insert(TreeStore *store, MapfsKey key, uint32_t version, size_t value_len) {
    uint8_t value[MAPFS_VALUE_LEN_MAX];

    tree_store_make_value(key, version, value, value_len);
    assert_int_equal(mapfs_tree_insert(&store->tree, key, value, value_len), 0);
}

uint32_t tree_store_seed(const char *test) {
    const char *given = getenv("MAPFS_TEST_SEED");
    uint32_t seed = given ? (uint32_t)strtoul(given, NULL, 0) : g_random_int();

    print_message("# %s: MAPFS_TEST_SEED=%" PRIu32 "\n", test, seed);
    return seed;
}

unsigned tree_store_factor(void) {
    const char *given = getenv("MAPFS_TEST_FACTOR");
    return given ? (unsigned)strtoul(given, NULL, 0) : 1;
}
