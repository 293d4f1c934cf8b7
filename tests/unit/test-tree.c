/* SPDX-License-Identifier: MIT */

/* The tree, one behaviour at a time. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "tree-store.h"

static MapfsKey key_of(uint64_t number) {
    return (MapfsKey){.object = number / 4 + 1, .kind = (uint8_t)(number / 2 % 2 + 3), .offset = number % 2 * 512};
}

static int setup(void **state) {
    TreeStore *store = g_new0(TreeStore, 1);
    tree_store_init(store);
    *state = store;
    return 0;
}

static int teardown(void **state) {
    TreeStore *store = *state;
    tree_store_check_sealed(store);
    tree_store_clear(store);
    g_free(store);
    return 0;
}

static void check_item(const MapfsItem *item, MapfsKey key, uint32_t version, size_t value_len) {
    uint8_t value[MAPFS_VALUE_LEN_MAX];

    tree_store_make_value(key, version, value, value_len);
    assert_int_equal(mapfs_key_compare(item->key, key), 0);
    assert_int_equal(item->value_len, value_len);
    assert_memory_equal(item->value, value, value_len);
}

static void check_lookup(TreeStore *store, MapfsKey key, uint32_t version, size_t value_len) {
    MapfsItem item;

    assert_int_equal(mapfs_tree_lookup(&store->tree, key, &item), 1);
    check_item(&item, key, version, value_len);
}

static void test_empty_tree_is_one_leaf(void **state) {
    TreeStore *store = *state;
    MapfsItem item;
    MapfsCursor cursor;

    assert_int_equal(store->tree.root.level, 0);
    assert_int_equal(store->n_live, 1);
    assert_int_equal(tree_store_check_newest(store).n_items, 0);
    assert_int_equal(mapfs_tree_lookup(&store->tree, key_of(1), &item), 0);
    assert_int_equal(mapfs_tree_lookup_ge(&store->tree, key_of(1), &item), 0);
    assert_int_equal(mapfs_tree_lookup_le(&store->tree, key_of(1), &item), 0);
    assert_int_equal(mapfs_cursor_begin(&cursor, &store->tree, (MapfsKey){0}, &item), 0);
    assert_int_equal(mapfs_cursor_next(&cursor, &item), 0);
    assert_int_equal(mapfs_tree_remove(&store->tree, key_of(1)), -ENOENT);
    assert_int_equal(mapfs_tree_replace(&store->tree, key_of(1), "x", 1), -ENOENT);
}

static void test_insert_refuses_a_key_twice_and_a_long_value(void **state) {
    TreeStore *store = *state;
    static const uint8_t value[MAPFS_VALUE_LEN_MAX + 1];

    assert_int_equal(mapfs_tree_insert(&store->tree, key_of(1), "a", 1), 0);
    assert_int_equal(mapfs_tree_insert(&store->tree, key_of(1), "b", 1), -EEXIST);
    assert_int_equal(mapfs_tree_insert(&store->tree, key_of(2), value, sizeof(value)), -EMSGSIZE);
    assert_int_equal(mapfs_tree_put(&store->tree, key_of(1), value, sizeof(value)), -EMSGSIZE);
    assert_int_equal(tree_store_check_newest(store).n_items, 1);
    assert_int_equal(mapfs_tree_put(&store->tree, key_of(1), "cd", 2), 0);
    assert_int_equal(mapfs_tree_put(&store->tree, key_of(2), "e", 1), 0);
    assert_int_equal(tree_store_check_newest(store).n_items, 2);

    MapfsItem item;
    assert_int_equal(mapfs_tree_lookup(&store->tree, key_of(1), &item), 1);
    assert_int_equal(item.value_len, 2);
    assert_memory_equal(item.value, "cd", 2);
}

static void test_null_value_is_zeros(void **state) {
    TreeStore *store = *state;
    static const uint8_t zeros[100];
    MapfsItem item;

    assert_int_equal(mapfs_tree_insert(&store->tree, key_of(1), NULL, sizeof(zeros)), 0);
    assert_int_equal(mapfs_tree_lookup(&store->tree, key_of(1), &item), 1);
    assert_int_equal(item.value_len, sizeof(zeros));
    assert_memory_equal(item.value, zeros, sizeof(zeros));
}

static void test_every_value_length_is_kept(void **state) {
    TreeStore *store = *state;
    unsigned n = MAPFS_VALUE_LEN_MAX + 1;

    for (unsigned i = 0; i < n; i++)
        tree_store_insert(store, key_of(i), 7, i);
    tree_store_check_newest(store);
    for (unsigned i = 0; i < n; i++)
        check_lookup(store, key_of(i), 7, i);

    /* Every length becomes another one. */
    for (unsigned i = 0; i < n; i++) {
        uint8_t value[MAPFS_VALUE_LEN_MAX];
        tree_store_make_value(key_of(i), 8, value, n - 1 - i);
        assert_int_equal(mapfs_tree_replace(&store->tree, key_of(i), value, n - 1 - i), 0);
    }
    assert_int_equal(tree_store_check_newest(store).n_items, n);
    for (unsigned i = 0; i < n; i++)
        check_lookup(store, key_of(i), 8, n - 1 - i);
}

/* Leaves that are full of two items of the longest kind, or of empty ones, are the extremes of a split. */
static void test_split_makes_room_for_any_item(void **state) {
    TreeStore *store = *state;
    static const size_t lens[] = {0, 1, 100, MAPFS_VALUE_LEN_MAX / 2, MAPFS_VALUE_LEN_MAX - 1, MAPFS_VALUE_LEN_MAX};

    for (unsigned fill = 0; fill < MAPFS_N_ELEMENTS(lens); fill++) {
        for (unsigned last = 0; last < MAPFS_N_ELEMENTS(lens); last++) {
            for (unsigned place = 0; place < 340; place += 7) {
                tree_store_clear(store);
                tree_store_init(store);
                for (unsigned i = 0; i < MAPFS_NODE_SPACE / (24 + lens[fill]); i++)
                    tree_store_insert(store, key_of(2 * i + 1), 1, lens[fill]);
                assert_int_equal(store->tree.root.level, 0);
                tree_store_insert(store, key_of(2 * place), 1, lens[last]);
                check_lookup(store, key_of(2 * place), 1, lens[last]);
                tree_store_check_newest(store);
            }
        }
    }
}

static void fill_rising(TreeStore *store, unsigned n_items, size_t value_len) {
    for (unsigned i = 0; i < n_items; i++)
        tree_store_insert(store, key_of(i), 1, value_len);
}

static unsigned used_percent(TreeStore *store) {
    TreeStoreShape shape = tree_store_check_newest(store);
    return (unsigned)(shape.used_bytes * 100 / (shape.n_leaves * MAPFS_NODE_SPACE));
}

static void test_rising_keys_fill_leaves(void **state) {
    TreeStore *store = *state;

    fill_rising(store, 20000, 40);
    assert_true(used_percent(store) >= 95);
    for (unsigned i = 0; i < 20000; i++)
        check_lookup(store, key_of(i), 1, 40);
}

static void test_rising_keys_before_system_objects_fill_leaves(void **state) {
    TreeStore *store = *state;

    for (unsigned i = 0; i < 20; i++)
        tree_store_insert(store, (MapfsKey){MAPFS_OBJECT_GROUPS, i, MAPFS_KIND_GROUP}, 1, 24);
    fill_rising(store, 20000, 40);
    assert_true(used_percent(store) >= 95);
}

static void test_files_that_grow_side_by_side_fill_leaves(void **state) {
    TreeStore *store = *state;

    for (unsigned i = 0; i < 5000; i++)
        for (unsigned object = 1; object <= 3; object++)
            tree_store_insert(store, (MapfsKey){object, i, MAPFS_KIND_EXTENT}, 1, 40);
    assert_true(used_percent(store) >= 90);
}

static void test_falling_and_scattered_keys_leave_leaves_half_full(void **state) {
    TreeStore *store = *state;

    for (unsigned i = 20000; i-- > 0;)
        tree_store_insert(store, key_of(i), 1, 40);
    assert_true(used_percent(store) >= 48);

    tree_store_clear(store);
    tree_store_init(store);
    for (unsigned i = 0; i < 20000; i++)
        tree_store_insert(store, key_of(i * 7919u % 20000), 1, 40);
    assert_true(used_percent(store) >= 60);
}

static void check_emptied(TreeStore *store) {
    TreeStoreShape shape = tree_store_check_newest(store);

    assert_int_equal(shape.n_items, 0);
    assert_int_equal(shape.n_nodes, 1);
    assert_int_equal(store->tree.root.level, 0);
    tree_store_insert(store, key_of(5), 1, 10);
    check_lookup(store, key_of(5), 1, 10);
}

/* Removes every item in the order that `step` gives, some of them in each of several generations. */
static void remove_all(TreeStore *store, unsigned n_items, unsigned first, unsigned step) {
    for (unsigned i = 0; i < n_items; i++) {
        if (i % 1500 == 0) {
            tree_store_next_generation(store);
            tree_store_check_newest(store);
        }
        assert_int_equal(mapfs_tree_remove(&store->tree, key_of((first + (uint64_t)i * step) % n_items)), 0);
    }
    check_emptied(store);
}

static void test_removal_in_any_order_ends_with_one_leaf(void **state) {
    TreeStore *store = *state;
    /* Rising, falling, from the middle, scattered. */
    static const unsigned orders[][2] = {{0, 1}, {9999, 9999}, {5000, 1}, {17, 7919}};

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(orders); i++) {
        tree_store_clear(store);
        tree_store_init(store);
        fill_rising(store, 10000, 30);
        assert_int_equal(store->tree.root.level, 2);
        remove_all(store, 10000, orders[i][0], orders[i][1]);
    }
}

static void test_removal_of_big_items_shrinks_deep_trees(void **state) {
    TreeStore *store = *state;

    fill_rising(store, 21000, MAPFS_VALUE_LEN_MAX);
    assert_int_equal(store->tree.root.level, 3);
    remove_all(store, 21000, 3, 10007);
}

/* The neighbour takes over the range of an index node that is dropped, but keeps the key of its own first pointer: keys below that one
 * go to its first child all the same. */
static void test_keys_of_a_dropped_index_node_go_to_its_neighbour(void **state) {
    TreeStore *store = *state;
    const unsigned n_items = 22000, first = 20000,
                   n_dropped = 200; /* the first 100 leaves below the root's second child */
    TreeStoreShape before, after;

    fill_rising(store, n_items, MAPFS_VALUE_LEN_MAX);
    assert_int_equal(store->tree.root.level, 3);
    before = tree_store_check_newest(store);
    tree_store_next_generation(store);
    for (unsigned i = first; i < first + n_dropped; i++)
        assert_int_equal(mapfs_tree_remove(&store->tree, key_of(i)), 0);
    after = tree_store_check_newest(store);
    assert_int_equal(before.n_nodes - before.n_leaves - (after.n_nodes - after.n_leaves), 1);
    for (unsigned i = first + n_dropped; i-- > first;)
        tree_store_insert(store, key_of(i), 1, MAPFS_VALUE_LEN_MAX);
    after = tree_store_check_newest(store);
    assert_int_equal(after.n_items, n_items);
    assert_true(after.digest == before.digest);
    for (unsigned i = first; i < first + n_dropped; i++)
        check_lookup(store, key_of(i), 1, MAPFS_VALUE_LEN_MAX);
}

static void test_leaves_that_run_low_are_joined(void **state) {
    TreeStore *store = *state;

    fill_rising(store, 10000, 40);
    for (unsigned i = 0; i < 10000; i++)
        if (i % 10 != 0)
            assert_int_equal(mapfs_tree_remove(&store->tree, key_of(i)), 0);
    TreeStoreShape shape = tree_store_check_newest(store);
    assert_int_equal(shape.n_items, 1000);
    /* Two neighbours that could be joined take more than 3/4 together. */
    assert_true(shape.used_bytes * 100 / (shape.n_leaves * MAPFS_NODE_SPACE) >= 37);
}

static void test_root_with_one_child_is_replaced_by_it(void **state) {
    TreeStore *store = *state;

    fill_rising(store, 20000, 40);
    assert_int_equal(store->tree.root.level, 2);
    for (unsigned i = 0; i < 20000; i++)
        if (i < 9000 || i >= 9010)
            assert_int_equal(mapfs_tree_remove(&store->tree, key_of(i)), 0);
    TreeStoreShape shape = tree_store_check_newest(store);
    assert_int_equal(shape.n_items, 10);
    assert_int_equal(shape.n_nodes, 1);
    assert_int_equal(store->tree.root.level, 0);
}

static void test_change_copies_sealed_nodes_once(void **state) {
    TreeStore *store = *state;

    fill_rising(store, 20000, 40);
    assert_int_equal(store->tree.root.level, 2);
    tree_store_next_generation(store);
    MapfsNodeRef old_root = store->tree.root;
    TreeStoreShape old_shape = tree_store_check(store, old_root);

    store->n_allocates = 0;
    assert_int_equal(mapfs_tree_replace(&store->tree, key_of(10000), "new", 3), 0);
    assert_int_equal(store->n_allocates, 3);
    assert_int_equal(mapfs_tree_replace(&store->tree, key_of(10000), "newer", 5), 0);
    assert_int_equal(store->n_allocates, 3);
    assert_int_equal(mapfs_tree_replace(&store->tree, key_of(0), "new", 3), 0);
    assert_in_range(store->n_allocates, 4, 5);

    tree_store_check_sealed(store);
    assert_true(tree_store_check(store, old_root).digest == old_shape.digest);
    assert_true(tree_store_check_newest(store).digest != old_shape.digest);
}

static void test_refused_changes_copy_nothing(void **state) {
    TreeStore *store = *state;

    fill_rising(store, 1000, 40);
    tree_store_next_generation(store);
    store->n_allocates = 0;
    assert_int_equal(mapfs_tree_insert(&store->tree, key_of(3), "x", 1), -EEXIST);
    assert_int_equal(mapfs_tree_replace(&store->tree, key_of(1003), "x", 1), -ENOENT);
    assert_int_equal(mapfs_tree_remove(&store->tree, key_of(1003)), -ENOENT);
    assert_int_equal(store->n_allocates, 0);
}

static void test_blocks_max_is_reached_and_not_passed(void **state) {
    TreeStore *store = *state;
    unsigned n = 0;

    /* Two items of this length fill a leaf to the last byte but 48, and 100 of those the root. */
    while (store->tree.root.level < 1 || store->n_live < 101 || n % 2 != 0)
        tree_store_insert(store, key_of(n++), 1, MAPFS_VALUE_LEN_MAX);
    assert_int_equal(store->tree.root.level, 1);
    tree_store_next_generation(store);
    store->n_allocates = 0;
    assert_int_equal(mapfs_tree_change_blocks_max(&store->tree), 5);
    tree_store_insert(store, key_of(n), 1, MAPFS_VALUE_LEN_MAX);
    assert_int_equal(store->tree.root.level, 2);
    assert_int_equal(store->n_allocates, 5);
    tree_store_check_newest(store);
}

static void test_lookups_find_neighbours(void **state) {
    TreeStore *store = *state;
    MapfsItem item;
    unsigned n = 4000;

    for (unsigned i = 0; i < n; i++)
        tree_store_insert(store, key_of(2 * i + 1), 1, i % 300);
    for (unsigned i = 0; i <= n; i++) {
        MapfsKey between = key_of(2 * i);
        int expected = i < n;
        assert_int_equal(mapfs_tree_lookup(&store->tree, between, &item), 0);
        assert_int_equal(mapfs_tree_lookup_ge(&store->tree, between, &item), expected);
        if (expected)
            check_item(&item, key_of(2 * i + 1), 1, i % 300);
        expected = i > 0;
        assert_int_equal(mapfs_tree_lookup_le(&store->tree, between, &item), expected);
        if (expected)
            check_item(&item, key_of(2 * i - 1), 1, (i - 1) % 300);
        if (i == n)
            continue;
        assert_int_equal(mapfs_tree_lookup_ge(&store->tree, key_of(2 * i + 1), &item), 1);
        check_item(&item, key_of(2 * i + 1), 1, i % 300);
        assert_int_equal(mapfs_tree_lookup_le(&store->tree, key_of(2 * i + 1), &item), 1);
        check_item(&item, key_of(2 * i + 1), 1, i % 300);
    }
}

static void test_leaves_of_one_directory_alone_are_told_to_the_store(void **state) {
    TreeStore *store = *state;

    /* Two directories of a few entries and an inode between them share a leaf. */
    tree_store_insert(store, (MapfsKey){7, 1, MAPFS_KIND_DIRENT}, 1, 20);
    tree_store_insert(store, (MapfsKey){8, 0, MAPFS_KIND_INODE}, 1, 20);
    tree_store_insert(store, (MapfsKey){9, 1, MAPFS_KIND_DIRENT}, 1, 20);
    tree_store_next_generation(store);
    tree_store_insert(store, (MapfsKey){9, 2, MAPFS_KIND_DIRENT}, 1, 20);
    assert_int_equal(store->n_names, 0);
    for (unsigned i = 0; i < 2000; i++)
        tree_store_insert(store, (MapfsKey){7, i * 7919u % 20000 + 10, MAPFS_KIND_DIRENT}, 1, 20);
    tree_store_next_generation(store);
    store->n_names = 0;
    store->n_allocates = 0;
    tree_store_insert(store, (MapfsKey){7, 9999999, MAPFS_KIND_DIRENT}, 1, 20); /* beside the other object */
    assert_int_equal(store->n_names, 0);
    tree_store_insert(store, (MapfsKey){7, 5000, MAPFS_KIND_DIRENT}, 1, 20);
    assert_int_equal(store->n_names, 1);
    assert_true(store->n_allocates > 1); /* the index nodes above are none */
}

static void test_cursor_walks_from_anywhere_to_the_end(void **state) {
    TreeStore *store = *state;
    MapfsCursor cursor;
    MapfsItem item;
    unsigned n = 4000;

    for (unsigned i = 0; i < n; i++)
        tree_store_insert(store, key_of(2 * i + 1), 1, 60);
    for (unsigned first = 0; first <= 2 * n; first += 97) {
        int r = mapfs_cursor_begin(&cursor, &store->tree, key_of(first), &item);
        unsigned i = first | 1;
        for (; r == 1; r = mapfs_cursor_next(&cursor, &item), i += 2)
            check_item(&item, key_of(i), 1, 60);
        assert_int_equal(r, 0);
        assert_int_equal(i, 2 * n + 1);
        assert_int_equal(mapfs_cursor_next(&cursor, &item), 0);
    }
}

/* A pointer's key may be far below what its node holds: items that lie between two leaves are found from both sides. */
static void test_lookups_cross_leaves_after_removals(void **state) {
    TreeStore *store = *state;
    MapfsItem item;

    fill_rising(store, 2000, 40);
    for (unsigned i = 100; i < 1900; i++)
        assert_int_equal(mapfs_tree_remove(&store->tree, key_of(i)), 0);
    for (unsigned i = 100; i < 1900; i++) {
        assert_int_equal(mapfs_tree_lookup_ge(&store->tree, key_of(i), &item), 1);
        check_item(&item, key_of(1900), 1, 40);
        assert_int_equal(mapfs_tree_lookup_le(&store->tree, key_of(i), &item), 1);
        check_item(&item, key_of(99), 1, 40);
    }
}

/* The leaves that a walk from a key comes through, up to n_max. */
static unsigned walk_leaves(TreeStore *store, MapfsKey first, const void **leaves, unsigned n_max) {
    MapfsCursor cursor;
    MapfsItem item;
    unsigned n = 0;
    int r = mapfs_cursor_begin(&cursor, &store->tree, first, &item);

    for (; r == 1 && n < n_max; r = mapfs_cursor_next(&cursor, &item)) {
        if (n == 0 || leaves[n - 1] != cursor.path[0].node)
            leaves[n++] = cursor.path[0].node;
    }
    return n;
}

static void test_leaves_are_those_that_a_walk_comes_through(void **state) {
    static const unsigned limits[] = {1, 2, 60, 1000};
    TreeStore *store = *state;
    const void *walked[1000], *node;
    MapfsNodeRef refs[1000];
    unsigned n = 12000;

    for (unsigned i = 0; i < n; i++)
        tree_store_insert(store, key_of(2 * i + 1), 1, 60);
    assert_true(store->tree.root.level >= 2);
    for (unsigned first = 1; first <= 2 * n; first += 1499) {
        for (unsigned i = 0; i < MAPFS_N_ELEMENTS(limits); i++) {
            unsigned n_walked = walk_leaves(store, key_of(first | 1), walked, limits[i]);

            assert_int_equal(mapfs_tree_leaves(&store->tree, key_of(first | 1), key_of(2 * n), refs, limits[i]),
                             n_walked);
            for (unsigned at = 0; at < n_walked; at++) {
                assert_int_equal(store->tree.ops->read(store, refs[at], &node), 0);
                assert_ptr_equal(node, walked[at]);
            }
        }
    }
    /* Not past the index node that leads to the last key. */
    assert_true(mapfs_tree_leaves(&store->tree, key_of(1), key_of(1), refs, 1000) <= (int)MAPFS_INDEX_POINTERS_MAX);
}

/* Items that mapfs_node_check_layout() knows: raw bytes of small files. */
static void test_nodes_pass_the_format_check(void **state) {
    TreeStore *store = *state;

    for (unsigned i = 0; i < 20000; i++) {
        MapfsKey key = {.object = i * 7919u % 20000 + 1, .kind = MAPFS_KIND_INLINE};
        tree_store_insert(store, key, 1, i % 200 + 1);
    }
    for (unsigned i = 0; i < 10000; i++)
        assert_int_equal(mapfs_tree_remove(&store->tree, (MapfsKey){.object = i + 3000, .kind = MAPFS_KIND_INLINE}), 0);
    tree_store_check_newest(store);
    assert_int_equal(store->tree.root.level, 2);

    unsigned n_checked = 0;
    for (uint64_t address = 2; n_checked < store->n_live; address++) {
        const struct mapfs_disk_header *header = tree_store_block(store, address);
        assert_non_null(header);
        if (mapfs_le32_load(header->magic) != MAPFS_NODE_MAGIC)
            continue;
        MapfsNodeRef ref = {{address}, {1}, header->level};
        if (mapfs_node_check_layout(header, ref) < 0)
            fail_msg("%s", mapfs_damage_last());
        n_checked++;
    }
}

static void test_tree_younger_than_its_time_is_refused(void **state) {
    TreeStore *store = *state;

    tree_store_insert(store, key_of(1), 1, 10);
    store->tree.running.n = 0;
    assert_int_equal(mapfs_tree_remove(&store->tree, key_of(1)), -EUCLEAN);
    store->tree.running.n = 1;
    store->tree.root.level = MAPFS_TREE_LEVELS_MAX;
    MapfsItem item;
    assert_int_equal(mapfs_tree_lookup(&store->tree, key_of(1), &item), -EUCLEAN);
    assert_int_equal(mapfs_tree_remove(&store->tree, key_of(1)), -EUCLEAN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_empty_tree_is_one_leaf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_insert_refuses_a_key_twice_and_a_long_value, setup, teardown),
        cmocka_unit_test_setup_teardown(test_null_value_is_zeros, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_value_length_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_split_makes_room_for_any_item, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rising_keys_fill_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rising_keys_before_system_objects_fill_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_files_that_grow_side_by_side_fill_leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(test_falling_and_scattered_keys_leave_leaves_half_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removal_in_any_order_ends_with_one_leaf, setup, teardown),
        cmocka_unit_test_setup_teardown(test_removal_of_big_items_shrinks_deep_trees, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keys_of_a_dropped_index_node_go_to_its_neighbour, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaves_that_run_low_are_joined, setup, teardown),
        cmocka_unit_test_setup_teardown(test_root_with_one_child_is_replaced_by_it, setup, teardown),
        cmocka_unit_test_setup_teardown(test_change_copies_sealed_nodes_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused_changes_copy_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blocks_max_is_reached_and_not_passed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lookups_find_neighbours, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaves_of_one_directory_alone_are_told_to_the_store, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cursor_walks_from_anywhere_to_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lookups_cross_leaves_after_removals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leaves_are_those_that_a_walk_comes_through, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nodes_pass_the_format_check, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tree_younger_than_its_time_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
