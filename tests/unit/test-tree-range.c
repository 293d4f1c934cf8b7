/* SPDX-License-Identifier: MIT */

/* What changes at neighbouring keys take together: never more blocks than mapfs_tree_range_blocks_max() said before. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tree-store.h"

#define CHUNK 1920u
#define CHUNKS_MAX 35u

static MapfsKey key_of(uint64_t object, uint64_t offset) {
    return (MapfsKey){.object = object, .kind = 2, .offset = offset};
}

/* Items between which the rows come and go: some alone, some many and small, so that rows begin in full leaves and in nearly empty ones. */
static void fill(TreeStore *store, GRand *rand, unsigned n_items, unsigned len_max) {
    for (unsigned i = 0; i < n_items; i++) {
        uint64_t object = (uint64_t)g_rand_int_range(rand, 1, 200);
        MapfsKey key = {.object = object, .kind = 1, .offset = g_rand_int(rand)};
        uint8_t value[CHUNK];
        size_t len = (size_t)g_rand_int_range(rand, 0, (gint32)len_max);

        tree_store_make_value(key, 1, value, len);
        assert_true(mapfs_tree_put(&store->tree, key, value, len) == 0);
    }
}

/* A row of chunks at (object, first): the first n_new are put, the rest of n_old removed. */
static void change_row(TreeStore *store, uint64_t object, uint64_t first, unsigned n_old, unsigned n_new) {
    uint8_t value[CHUNK];

    for (unsigned i = 0; i < n_new; i++) {
        MapfsKey key = key_of(object, first + i);

        tree_store_make_value(key, n_new, value, sizeof(value));
        assert_int_equal(mapfs_tree_put(&store->tree, key, value, i + 1 < n_new ? sizeof(value) : 100), 0);
    }
    for (unsigned i = n_new; i < n_old; i++)
        assert_int_equal(mapfs_tree_remove(&store->tree, key_of(object, first + i)), 0);
}

/* One change of a row in a generation of its own, where every node must be copied; returns blocks taken and allowed. */
static void measure(TreeStore *store, uint64_t object, unsigned n_old, unsigned n_new, unsigned *ret_n_most) {
    unsigned n_chunks = MAPFS_MAX(MAPFS_MAX(n_old, n_new), 1u), n_max;

    tree_store_next_generation(store);
    assert_int_equal(
        mapfs_tree_range_blocks_max(&store->tree, key_of(object, 0), key_of(object, n_chunks - 1), n_new, &n_max), 0);
    store->n_allocates = 0;
    change_row(store, object, 0, n_old, n_new);
    assert_true(store->n_allocates <= n_max);
    *ret_n_most = MAPFS_MAX(*ret_n_most, store->n_allocates);
    tree_store_check_newest(store);
}

static void rows(unsigned n_items, unsigned len_max, unsigned n_steps) {
    g_autoptr(GRand) rand = g_rand_new_with_seed(tree_store_seed("rows"));
    unsigned lens[200] = {0}, n_most = 0;
    TreeStore store;

    tree_store_init(&store);
    fill(&store, rand, n_items, len_max);
    for (unsigned step = 0; step < n_steps * tree_store_factor(); step++) {
        unsigned object = (unsigned)g_rand_int_range(rand, 1, 200);
        unsigned n_new = g_rand_boolean(rand) ? 0 : (unsigned)g_rand_int_range(rand, 0, CHUNKS_MAX + 1);

        measure(&store, object, lens[object], n_new, &n_most);
        lens[object] = n_new;
    }
    /* It is a bound that is nearly reached, and not one that nothing comes near to; how near is a matter of luck. */
    assert_true(n_most >= CHUNKS_MAX * 2 / 3);
    tree_store_clear(&store);
}

static void test_rows_in_a_small_tree_take_no_more_than_was_said(void **state) {
    (void)state;
    rows(20, CHUNK, 400);
}

static void test_rows_in_a_deep_tree_take_no_more_than_was_said(void **state) {
    (void)state;
    rows(3000, CHUNK, 400);
}

static void test_rows_between_small_items_take_no_more_than_was_said(void **state) {
    (void)state;
    rows(20000, 60, 200);
}

/* The flaw that this is for: each chunk was charged for a whole way down the tree. */
static void test_removal_of_a_long_row_copies_each_node_once(void **state) {
    TreeStore store;
    unsigned n_max, n_all;

    (void)state;
    tree_store_init(&store);
    for (uint64_t object = 1; object <= 300; object++)
        change_row(&store, object, 0, 0, CHUNKS_MAX);
    assert_true(store.tree.root.level >= 2);
    tree_store_next_generation(&store);
    assert_int_equal(mapfs_tree_range_blocks_max(&store.tree, key_of(150, 0), key_of(150, CHUNKS_MAX - 1), 0, &n_max),
                     0);
    n_all = CHUNKS_MAX * mapfs_tree_change_blocks_max(&store.tree);
    assert_true(n_max <= CHUNKS_MAX + 2 * store.tree.root.level + 1);
    assert_true(3 * n_max < n_all);
    store.n_allocates = 0;
    change_row(&store, 150, 0, CHUNKS_MAX, 0);
    assert_true(store.n_allocates <= n_max);
    tree_store_check_newest(&store);
    tree_store_clear(&store);
}

static void test_long_range_and_damage_are_told(void **state) {
    TreeStore store;
    unsigned n_max;

    (void)state;
    tree_store_init(&store);
    for (uint64_t object = 1; object <= 20; object++)
        change_row(&store, object, 0, 0, CHUNKS_MAX);
    assert_int_equal(mapfs_tree_range_blocks_max(&store.tree, key_of(0, 0), key_of(99, 0), 0, &n_max), -EUCLEAN);
    assert_int_equal(
        mapfs_tree_range_blocks_max(&store.tree, key_of(1, 0), key_of(1, 1), MAPFS_TREE_PUTS_MAX + 1, &n_max), -EINVAL);
    tree_store_clear(&store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_in_a_small_tree_take_no_more_than_was_said),
        cmocka_unit_test(test_rows_in_a_deep_tree_take_no_more_than_was_said),
        cmocka_unit_test(test_rows_between_small_items_take_no_more_than_was_said),
        cmocka_unit_test(test_removal_of_a_long_row_copies_each_node_once),
        cmocka_unit_test(test_long_range_and_damage_are_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
