/* SPDX-License-Identifier: MIT */

/* The tree's nodes in the image. A node is checked in full the first time it is used after the mount; that touches its page too.
 * Nodes born since then need no check. */

#include <errno.h>

#include "base/error.h"
#include "format/node.h"
#include "txn/store-private.h"

/* 128 KiB. */
#define READ_AHEAD_BLOCKS 32u

static bool node_verified(const MapfsStore *store, MapfsBlock address) {
    return (__atomic_load_n(&store->verified[address.n / 64], __ATOMIC_ACQUIRE) >> (address.n % 64)) & 1;
}

static void node_set_verified(MapfsStore *store, MapfsBlock address) {
    (void)__atomic_fetch_or(&store->verified[address.n / 64], UINT64_C(1) << (address.n % 64), __ATOMIC_RELEASE);
}

bool mapfs_store_has_node(const MapfsStore *store, MapfsRun run) {
    for (uint64_t i = 0; i < run.n_blocks; i++) {
        if (node_verified(store, (MapfsBlock){run.start.n + i}))
            return true;
    }
    return false;
}

void mapfs_store_forget_nodes(MapfsStore *store, MapfsRun run) {
    for (uint64_t i = run.start.n; i < run.start.n + run.n_blocks; i++)
        (void)__atomic_fetch_and(&store->verified[i / 64], ~(UINT64_C(1) << (i % 64)), __ATOMIC_RELEASE);
}

/* A block was verified under one pointer; damage may lead another pointer to it. */
static int node_matches(const void *node, MapfsNodeRef ref) {
    const struct mapfs_disk_header *header = node;

    if (mapfs_le64_load(header->generation) != ref.generation.n || header->level != ref.level ||
        mapfs_le32_load(header->magic) != MAPFS_NODE_MAGIC)
        return mapfs_damage(ref.address.n, "tree node", "is not the one that its parent points to");
    return 0;
}

static int node_map(const MapfsStore *store, MapfsNodeRef ref, const void **ret_node) {
    if (ref.address.n < store->first_usable || ref.address.n >= store->n_blocks)
        return mapfs_damage(ref.address.n, "tree node", "lies outside the image");
    *ret_node = store->image->base + (ref.address.n << MAPFS_BLOCK_SHIFT);
    return 0;
}

/* Nodes lie close together: a cold one is read with its neighbours, since page by page the host takes as long for each. */
static void node_read_ahead(const MapfsStore *store, MapfsBlock address) {
    uint64_t first = MAPFS_MAX(address.n - address.n % READ_AHEAD_BLOCKS, store->first_usable);
    uint64_t end = MAPFS_MIN(address.n - address.n % READ_AHEAD_BLOCKS + READ_AHEAD_BLOCKS, store->n_blocks);

    mapfs_image_read_ahead(store->image, (MapfsRun){{first}, end - first});
}

static int node_verify(MapfsStore *store, MapfsNodeRef ref) {
    const void *node = NULL;
    int r;

    r = node_map(store, ref, &node);
    if (r < 0)
        return r;
    /* Nodes of the running generation are this mount's own and need no check: from the image, one would be changed in place. */
    if (ref.generation.n >= STORE_LOAD(store->running))
        return mapfs_damage(ref.address.n, "tree node", "has a generation that does not exist yet");
    node_read_ahead(store, ref.address);
    r = mapfs_node_check(node, ref, store->checksum_seed);
    if (r < 0)
        return r;
    node_set_verified(store, ref.address);
    return 0;
}

static int node_read(void *user, MapfsNodeRef ref, const void **ret_node) {
    MapfsStore *store = user;
    int r;

    r = node_map(store, ref, ret_node);
    if (r < 0)
        return r;
    if (!node_verified(store, ref.address)) {
        r = node_verify(store, ref);
        if (r < 0)
            return r;
    }
    return node_matches(*ret_node, ref);
}

static void *node_writable(void *user, MapfsBlock address) {
    MapfsStore *store = user;

    return store_block(store, address);
}

int mapfs_store_node_allocate(MapfsStore *store, MapfsBlock *ret_address, void **ret_node) {
    MapfsBlock address;
    int r;

    r = mapfs_space_allocate_node(store->space, &address);
    if (r < 0)
        return r;
    g_array_append_val(store->born, address);
    STORE_SET(store->n_born, store->born->len);
    node_set_verified(store, address);
    *ret_address = address;
    *ret_node = store_block(store, address);
    return 0;
}

void mapfs_store_node_free(MapfsStore *store, MapfsBlock address) {
    MapfsRun run = {address, 1};

    /* Also one that was born in this generation goes the long way: the checkpoint will still store its checksum. */
    g_array_append_val(store->freed, run);
    STORE_SET(store->n_freed, store->freed->len);
    STORE_ADD(store->n_pending, 1);
}

static int node_allocate(void *user, MapfsBlock near, MapfsBlock *ret_address, void **ret_node) {
    (void)near; /* nodes are kept together by the space anyway */
    return mapfs_store_node_allocate(user, ret_address, ret_node);
}

static void node_release(void *user, MapfsNodeRef ref) {
    mapfs_store_node_free(user, ref.address);
}

const MapfsTreeStoreOps mapfs_store_tree_ops = {
    .read = node_read,
    .writable = node_writable,
    .allocate = node_allocate,
    .release = node_release,
};

/* --- prefetch --- */

/* A walk that stops at the first node that is not verified yet. */
typedef struct {
    MapfsStore *store;
    MapfsNodeRef cold;
} Prefetch;

static int prefetch_read(void *user, MapfsNodeRef ref, const void **ret_node) {
    Prefetch *prefetch = user;
    int r;

    r = node_map(prefetch->store, ref, ret_node);
    if (r < 0)
        return r;
    if (!node_verified(prefetch->store, ref.address)) {
        prefetch->cold = ref;
        return -EAGAIN;
    }
    return node_matches(*ret_node, ref);
}

static const MapfsTreeStoreOps prefetch_ops = {.read = prefetch_read};

static void prefetch_key(MapfsStore *store, MapfsKey key) {
    /* Each round warms one level. */
    for (unsigned i = 0; i < MAPFS_TREE_LEVELS_MAX; i++) {
        Prefetch prefetch = {.store = store};
        MapfsItem item;
        MapfsTree tree;
        int r;

        mapfs_store_read_lock(store);
        tree = store->tree;
        tree.ops = &prefetch_ops;
        tree.store = &prefetch;
        r = mapfs_tree_lookup_ge(&tree, key, &item);
        mapfs_store_read_unlock(store);
        if (r != -EAGAIN || node_verify(store, prefetch.cold) < 0)
            return;
    }
}

void mapfs_store_prefetch(MapfsStore *store, const MapfsKey *keys, unsigned n_keys) {
    /* What is verified without the lock must not become another's block meanwhile. */
    unsigned reader = mapfs_store_reader_enter(store);

    for (unsigned i = 0; i < n_keys; i++)
        prefetch_key(store, keys[i]);
    mapfs_store_reader_leave(store, reader);
}
