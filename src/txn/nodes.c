/* SPDX-License-Identifier: MIT */

/* The tree's nodes in the image. A node is checked in full the first time it is used after the mount; that touches its page too.
 * Nodes born since then need no check. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
    uint64_t end = run.start.n + run.n_blocks;

    for (uint64_t at = run.start.n, n; at < end; at += n) {
        n = MAPFS_MIN(64 - at % 64, end - at);
        uint64_t mask = (n == 64 ? ~UINT64_C(0) : (UINT64_C(1) << n) - 1) << (at % 64);

        (void)__atomic_fetch_and(&store->verified[at / 64], ~mask, __ATOMIC_RELEASE);
    }
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
    /* A page whose write-out failed may turn into an older one that looks as good. */
    if (mapfs_image_writes_lost(store->image) && ref.generation.n > STORE_LOAD(store->durable))
        return -EIO;
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

/* Of a copy, for the check reads lengths and offsets more than once, and the mapping may change underfoot. Who reads the node afterwards is
 * prepared for that. */
static int node_check(const MapfsStore *store, const void *node, MapfsNodeRef ref) {
    union {
        struct mapfs_disk_header header;
        uint8_t bytes[MAPFS_BLOCK_SIZE];
    } copy;

    memcpy(&copy, node, sizeof(copy));
    return mapfs_node_check(&copy, ref, store->checksum_seed);
}

static int node_verify_alone(MapfsStore *store, MapfsNodeRef ref) {
    const void *node = NULL;
    int r;

    r = node_map(store, ref, &node);
    if (r < 0)
        return r;
    /* Nodes of the running generation are this mount's own and need no check: from the image, one would be changed in place. */
    if (ref.generation.n >= STORE_LOAD(store->running))
        return mapfs_damage(ref.address.n, "tree node", "has a generation that does not exist yet");
    r = node_check(store, node, ref);
    if (r < 0)
        return r;
    node_set_verified(store, ref.address);
    return 0;
}

static int node_verify(MapfsStore *store, MapfsNodeRef ref) {
    const void *node;
    int r;

    r = node_map(store, ref, &node);
    if (r < 0)
        return r;
    node_read_ahead(store, ref.address);
    return node_verify_alone(store, ref);
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

int mapfs_store_node_allocate(MapfsStore *store, MapfsNodePlace place, MapfsBlock *ret_address, void **ret_node) {
    MapfsBlock address;
    int r;

    r = mapfs_space_allocate_node(store->space, place, &address);
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

static int node_allocate(void *user, bool names, MapfsBlock *ret_address, void **ret_node) {
    return mapfs_store_node_allocate(user, names ? MAPFS_PLACE_NAMES : MAPFS_PLACE_NODES, ret_address, ret_node);
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

/* --- nodes that are there already --- */

static int warm_read(void *user, MapfsNodeRef ref, const void **ret_node) {
    MapfsStore *store = user;
    int r;

    r = node_map(store, ref, ret_node);
    if (r < 0)
        return r;
    return node_verified(store, ref.address) ? node_matches(*ret_node, ref) : -EAGAIN;
}

static const MapfsTreeStoreOps warm_ops = {.read = warm_read};

MapfsTree mapfs_store_tree_warm(MapfsStore *store) {
    MapfsTree tree = store->tree;

    tree.ops = &warm_ops;
    return tree;
}

/* --- prefetch --- */

/* A walk that stops at the first node that is not verified yet. */
typedef struct {
    MapfsStore *store;
    MapfsNodeRef cold;
} Prefetch;

static int prefetch_read(void *user, MapfsNodeRef ref, const void **ret_node) {
    Prefetch *prefetch = user;
    int r;

    r = warm_read(prefetch->store, ref, ret_node);
    if (r == -EAGAIN)
        prefetch->cold = ref;
    return r;
}

static const MapfsTreeStoreOps prefetch_ops = {.read = prefetch_read};

static MapfsTree prefetch_tree(Prefetch *prefetch) {
    MapfsTree tree = prefetch->store->tree;

    tree.ops = &prefetch_ops;
    tree.store = prefetch;
    return tree;
}

static void prefetch_key(MapfsStore *store, MapfsKey key) {
    /* Each round warms one level. */
    for (unsigned i = 0; i < MAPFS_TREE_LEVELS_MAX; i++) {
        Prefetch prefetch = {.store = store};
        MapfsItem item;
        MapfsTree tree;
        int r;

        mapfs_store_read_lock(store);
        tree = prefetch_tree(&prefetch);
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

/* --- rows of leaves --- */

/* So many leaves are asked for ahead of the first one that is needed, in lots of half as many; and as many are looked at as a step of a walk needs. */
#define ROW_LEAVES 96u
#define ROW_NEEDED 12u
/* Reading so many blocks in between is no dearer than another request to the disk. */
#define ROW_GAP_BLOCKS 16u

static int ref_compare(const void *a, const void *b) {
    const MapfsNodeRef *x = a, *y = b;

    return (x->address.n > y->address.n) - (x->address.n < y->address.n);
}

static bool node_asked(const MapfsStore *store, MapfsBlock address) {
    return __atomic_load_n(&store->asked[address.n % ASKED_NODES], __ATOMIC_RELAXED) == address.n;
}

/* All at once, so that the host can read them side by side. */
static void ask_sorted(MapfsStore *store, const MapfsNodeRef *refs, unsigned n_refs) {
    MapfsRun run = {{0}, 0};

    for (unsigned i = 0; i < n_refs; i++) {
        uint64_t at = refs[i].address.n;

        __atomic_store_n(&store->asked[at % ASKED_NODES], at, __ATOMIC_RELAXED);
        if (run.n_blocks > 0 && at <= run.start.n + run.n_blocks + ROW_GAP_BLOCKS) {
            run.n_blocks = at + 1 - run.start.n;
            continue;
        }
        if (run.n_blocks > 0)
            mapfs_image_ask(store->image, run);
        run = (MapfsRun){refs[i].address, 1};
    }
    if (run.n_blocks > 0)
        mapfs_image_ask(store->image, run);
}

/* Asks for the cold leaves of a row when little of what was asked for is left. */
static void row_ask(MapfsStore *store, const MapfsNodeRef *refs, unsigned n_refs) {
    MapfsNodeRef wanted[ROW_LEAVES];
    unsigned n_wanted = 0;

    for (unsigned i = 0; i < n_refs; i++) {
        const void *node;

        if (node_map(store, refs[i], &node) < 0 || node_verified(store, refs[i].address) ||
            node_asked(store, refs[i].address))
            continue;
        if (n_wanted == 0 && i >= ROW_LEAVES / 2)
            return;
        wanted[n_wanted++] = refs[i];
    }
    qsort(wanted, n_wanted, sizeof(wanted[0]), ref_compare);
    ask_sorted(store, wanted, n_wanted);
}

/* The next leaves, as far as index nodes are there. The first that is not is read when nothing else is known, asked for where it is needed later, and
 * read the next time. */
static unsigned row_find(MapfsStore *store, MapfsKey first, MapfsKey last, MapfsNodeRef *refs) {
    for (unsigned i = 0; i < MAPFS_TREE_LEVELS_MAX; i++) {
        Prefetch prefetch = {.store = store};
        const void *node;
        MapfsTree tree;
        int n;

        mapfs_store_read_lock(store);
        tree = prefetch_tree(&prefetch);
        n = mapfs_tree_leaves(&tree, first, last, refs, ROW_LEAVES);
        mapfs_store_read_unlock(store);
        if (prefetch.cold.address.n == 0 || node_map(store, prefetch.cold, &node) < 0)
            return n > 0 ? (unsigned)n : 0;
        if (n > 0 && !node_asked(store, prefetch.cold.address)) {
            ask_sorted(store, &prefetch.cold, 1);
            return (unsigned)n;
        }
        if ((n > 0 ? node_verify_alone(store, prefetch.cold) : node_verify(store, prefetch.cold)) < 0)
            return n > 0 ? (unsigned)n : 0;
    }
    return 0;
}

void mapfs_store_prefetch_row(MapfsStore *store, MapfsKey first, MapfsKey last) {
    unsigned reader = mapfs_store_reader_enter(store);
    MapfsNodeRef refs[ROW_LEAVES];
    unsigned n = row_find(store, first, last, refs);

    row_ask(store, refs, n);
    for (unsigned i = 0; i < MAPFS_MIN(n, ROW_NEEDED); i++) {
        if (refs[i].address.n < store->n_blocks && !node_verified(store, refs[i].address))
            (void)node_verify_alone(store, refs[i]); /* whoever reads it meets the error */
    }
    mapfs_store_reader_leave(store, reader);
}
