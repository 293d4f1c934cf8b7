/* SPDX-License-Identifier: MIT */

/* Prints what one operation on a warm tree costs, in nanoseconds, with a store that costs nothing: nodes in one array.
 * Argument: number of items (default 100,000: three levels). */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "tree/tree.h"

#define N_BLOCKS (1u << 20)
#define VALUE_LEN 40u

typedef struct {
    uint8_t *bytes;
    uint64_t n_used;
    uint64_t *free;
    uint64_t n_free;
    unsigned n_items;
} Store;

static int store_read(void *user, MapfsNodeRef ref, const void **ret_node) {
    *ret_node = ((Store *)user)->bytes + ref.address.n * MAPFS_BLOCK_SIZE;
    return 0;
}

static void *store_writable(void *user, MapfsBlock address) {
    return ((Store *)user)->bytes + address.n * MAPFS_BLOCK_SIZE;
}

static int store_allocate(void *user, bool names, MapfsBlock *ret_address, void **ret_node) {
    Store *store = user;

    (void)names; /* every block is as good */
    if (store->n_free == 0 && store->n_used == N_BLOCKS)
        return -1;
    ret_address->n = store->n_free > 0 ? store->free[--store->n_free] : store->n_used++;
    *ret_node = store_writable(store, *ret_address);
    return 0;
}

static void store_release(void *user, MapfsNodeRef ref) {
    Store *store = user;
    store->free[store->n_free++] = ref.address.n;
}

static const MapfsTreeStoreOps store_ops = {store_read, store_writable, store_allocate, store_release};

static double now_ns(void) {
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time); /* cannot fail with this clock */
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void must(int r, int expected) {
    if (r == expected)
        return;
    fprintf(stderr, "tree-bench: got %d, expected %d\n", r, expected);
    exit(1);
}

/* Numbers 0 to n_items - 1, each once (the factor is a prime), in rising or scattered order. */
static MapfsKey key_of(unsigned i, bool scattered, unsigned n_items) {
    uint64_t number = scattered ? i * UINT64_C(7368787) % n_items : i;
    return (MapfsKey){.object = number / 4 + 1, .kind = MAPFS_KIND_EXTENT, .offset = number % 4};
}

typedef int (*Operation)(MapfsTree *tree, MapfsKey key);

static int bench_insert(MapfsTree *tree, MapfsKey key) {
    return mapfs_tree_insert(tree, key, NULL, VALUE_LEN);
}

static int bench_replace(MapfsTree *tree, MapfsKey key) {
    return mapfs_tree_replace(tree, key, NULL, VALUE_LEN);
}

static int bench_lookup(MapfsTree *tree, MapfsKey key) {
    MapfsItem item;
    return mapfs_tree_lookup(tree, key, &item) - 1;
}

static int bench_lookup_le(MapfsTree *tree, MapfsKey key) {
    MapfsItem item;
    return mapfs_tree_lookup_le(tree, key, &item) - 1;
}

static void run(const char *name, MapfsTree *tree, Operation operation, bool scattered) {
    const Store *store = tree->store;
    double start = now_ns();

    for (unsigned i = 0; i < store->n_items; i++)
        must(operation(tree, key_of(i, scattered, store->n_items)), 0);
    printf("%-36s %6.0f ns\n", name, (now_ns() - start) / store->n_items);
}

static void run_walk(MapfsTree *tree) {
    const Store *store = tree->store;
    MapfsCursor cursor;
    MapfsItem item;
    unsigned n = 0;
    double start = now_ns();

    int r = mapfs_cursor_begin(&cursor, tree, (MapfsKey){0}, &item);
    for (; r == 1; r = mapfs_cursor_next(&cursor, &item))
        n++;
    must(r, 0);
    must((int)n, (int)store->n_items);
    printf("%-36s %6.0f ns\n", "cursor step", (now_ns() - start) / store->n_items);
}

int main(int argc, char **argv) {
    Store store = {.n_used = 2, .free = calloc(N_BLOCKS, sizeof(uint64_t)), .n_items = 100000};
    MapfsTree tree = {.ops = &store_ops, .store = &store, .running = {1}};

    if (argc > 1)
        store.n_items = (unsigned)strtoul(argv[1], NULL, 10);
    store.bytes = mmap(NULL, (size_t)N_BLOCKS * MAPFS_BLOCK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (store.bytes == MAP_FAILED || !store.free) {
        perror("tree-bench");
        return 1;
    }
    must(mapfs_tree_create(&tree), 0);
    run("insert, rising keys", &tree, bench_insert, false);
    printf("%u items, %u levels\n", store.n_items, tree.root.level + 1u);
    run("lookup, rising keys", &tree, bench_lookup, false);
    run("lookup, scattered keys", &tree, bench_lookup, true);
    run("lookup_le, scattered keys", &tree, bench_lookup_le, true);
    run("replace, scattered keys", &tree, bench_replace, true);
    run_walk(&tree);
    tree.running.n++;
    run("replace and copy, scattered keys", &tree, bench_replace, true);
    run("remove, scattered keys", &tree, mapfs_tree_remove, true);
    run("insert, scattered keys", &tree, bench_insert, true);
    run("remove, rising keys", &tree, mapfs_tree_remove, false);
    return 0;
}
