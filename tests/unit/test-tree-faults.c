/* SPDX-License-Identifier: MIT */

/* The tree when the store fails, and when the bytes of its nodes are not what it wrote. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "tree-store.h"

/* Even numbers are in the trees of these tests, odd ones lie between. */
static MapfsKey key_of(uint64_t number) {
    return (MapfsKey){.object = number / 64, .kind = MAPFS_KIND_EXTENT, .offset = number % 64};
}

typedef enum {
    CHANGE_INSERT,
    CHANGE_GROW,
    CHANGE_SHRINK,
    CHANGE_REMOVE,
    CHANGE_N,
} Change;

static int change_make(MapfsTree *tree, Change change, uint64_t number) {
    static const uint8_t value[MAPFS_VALUE_LEN_MAX] = {1, 2, 3};

    switch (change) {
    case CHANGE_INSERT:
        return mapfs_tree_insert(tree, key_of(number | 1), value, number % 2 ? MAPFS_VALUE_LEN_MAX : 40);
    case CHANGE_GROW:
        return mapfs_tree_replace(tree, key_of(number & ~UINT64_C(1)), value, MAPFS_VALUE_LEN_MAX);
    case CHANGE_SHRINK:
        return mapfs_tree_put(tree, key_of(number & ~UINT64_C(1)), value, 1);
    case CHANGE_REMOVE:
    case CHANGE_N:
        break;
    }
    return mapfs_tree_remove(tree, key_of(number & ~UINT64_C(1)));
}

static void fill(TreeStore *store, unsigned n_items, size_t value_len) {
    tree_store_init(store);
    for (unsigned i = 0; i < n_items; i++)
        tree_store_insert(store, key_of(2 * i), 1, value_len);
}

/* Makes a change with the first, the second, ... allocate (or read) failing, until nothing fails any more. */
static unsigned run_faults(TreeStore *store, Change change, uint64_t number, bool fail_read) {
    uint64_t before = tree_store_check_newest(store).digest;
    unsigned n_failed = 0;

    for (unsigned n = 1;; n++) {
        tree_store_next_generation(store);
        store->fail_allocate = fail_read ? 0 : n;
        store->fail_read = fail_read ? n : 0;
        int r = change_make(&store->tree, change, number);
        bool used = (fail_read ? store->fail_read : store->fail_allocate) == 0;
        store->fail_allocate = 0;
        store->fail_read = 0;
        TreeStoreShape shape = tree_store_check_newest(store);
        if (r == 0) {
            assert_true(shape.digest != before);
            return n_failed;
        }
        assert_true(used);
        assert_int_equal(r, fail_read ? -EUCLEAN : -ENOSPC);
        assert_true(shape.digest == before);
        n_failed++;
    }
}

static void run_faults_everywhere(unsigned n_items, size_t value_len, bool fail_read) {
    TreeStore store;
    unsigned n_failed = 0;

    fill(&store, n_items, value_len);
    for (unsigned i = 0; i < 25; i++) {
        for (Change change = 0; change < CHANGE_N; change++) {
            /* No number comes twice: 7919 is a prime. */
            uint64_t number = (i * CHANGE_N + change) * UINT64_C(7919) % n_items * 2 + i % 2;
            n_failed += run_faults(&store, change, number, fail_read);
        }
        tree_store_check_sealed(&store);
    }
    assert_true(n_failed >= 100); /* a change of sealed nodes can fail at least once */
    tree_store_clear(&store);
}

static void test_no_space_at_any_point_changes_nothing(void **state) {
    (void)state;
    run_faults_everywhere(2500, 200, false);
    run_faults_everywhere(3000, 0, false);
    run_faults_everywhere(400, MAPFS_VALUE_LEN_MAX, false);
}

static void test_damage_at_any_point_changes_nothing(void **state) {
    (void)state;
    run_faults_everywhere(2500, 200, true);
    run_faults_everywhere(3000, 0, true);
    run_faults_everywhere(400, MAPFS_VALUE_LEN_MAX, true);
}

/* A tree of which every node of the right edge is full: the change splits all of them and needs a new root. */
static void test_no_space_for_a_new_root_changes_nothing(void **state) {
    TreeStore store;
    unsigned n = 0;
    (void)state;

    fill(&store, 0, 0);
    while (store.tree.root.level < 1 || store.n_live < 101 || n % 2 != 0)
        tree_store_insert(&store, key_of(2 * n++), 1, MAPFS_VALUE_LEN_MAX);
    /* Two copies, then two halves and a root. */
    assert_int_equal(run_faults(&store, CHANGE_INSERT, 2 * n, false), 5);
    assert_int_equal(store.tree.root.level, 2);
    tree_store_clear(&store);
}

/* Reads all of a value; a sanitizer watches. */
static void read_value(const MapfsItem *item) {
    static volatile uint8_t sink;

    for (size_t i = 0; i < item->value_len; i++)
        sink = ((const volatile uint8_t *)item->value)[i];
    (void)sink; /* the point is the reading */
}

/* The walk must come to an end. */
static void walk_to_the_end(MapfsTree *tree, MapfsKey first, unsigned n_items_max) {
    MapfsCursor cursor;
    MapfsItem item;
    unsigned n = 0;

    int r = mapfs_cursor_begin(&cursor, tree, first, &item);
    for (; r == 1; r = mapfs_cursor_next(&cursor, &item)) {
        read_value(&item);
        assert_true(n++ < n_items_max);
    }
    assert_true(r == 0 || r == -EUCLEAN);
}

static void check_lookup(int r, const MapfsItem *item) {
    assert_true(r == 0 || r == 1 || r == -EUCLEAN);
    if (r == 1)
        read_value(item);
}

static void check_change(int r) {
    assert_true(r == 0 || r == -EUCLEAN || r == -EEXIST || r == -ENOENT || r == -ENOSPC);
}

static void run_hostile_changes(TreeStore *store, GRand *rand, unsigned n_changes, unsigned n_items) {
    MapfsItem item;

    for (unsigned i = 0; i < n_changes; i++) {
        uint64_t number = g_rand_int(rand) % (2 * n_items);
        check_change(change_make(&store->tree, g_rand_int(rand) % CHANGE_N, number));
        check_lookup(mapfs_tree_lookup(&store->tree, key_of(number), &item), &item);
        check_lookup(mapfs_tree_lookup_ge(&store->tree, key_of(number), &item), &item);
        check_lookup(mapfs_tree_lookup_le(&store->tree, key_of(number), &item), &item);
        /* A cross of leaves always rises, so that each node is seen once, as long as the bytes stand still. */
        walk_to_the_end(&store->tree, key_of(number), 100 * MAPFS_LEAF_SLOTS_MAX * store->blocks->len);
    }
}

/* One damaged tree. With `always` the bytes change while the tree works. */
static void run_hostile(GRand *rand, bool always) {
    static const unsigned n_items[] = {1, 30, 900, 4000};
    static const size_t lens[] = {0, 30, 300, MAPFS_VALUE_LEN_MAX};
    unsigned n = n_items[g_rand_int(rand) % 4];
    TreeStore store;

    fill(&store, n, lens[g_rand_int(rand) % (n > 1000 ? 2 : 4)]);
    tree_store_next_generation(&store);
    store.hostile = true;
    store.disturb = always ? rand : NULL;
    for (unsigned i = 0; i < 10; i++) {
        for (unsigned j = g_rand_int(rand) % 8; j > 0; j--)
            tree_store_disturb(&store, rand);
        run_hostile_changes(&store, rand, 5, n);
        if (i % 4 == 3)
            tree_store_next_generation(&store);
    }
    tree_store_clear(&store);
}

static void run_hostile_trees(const char *name, bool always) {
    GRand *rand = g_rand_new_with_seed(tree_store_seed(name));

    for (unsigned i = 0; i < 150 * tree_store_factor(); i++)
        run_hostile(rand, always);
    g_rand_free(rand);
}

static void test_damaged_nodes_are_survived(void **state) {
    (void)state;
    run_hostile_trees("damaged nodes", false);
}

static void test_nodes_that_change_underfoot_are_survived(void **state) {
    (void)state;
    run_hostile_trees("nodes that change", true);
}

/* Index nodes whose pointers all lead to the same child: without a test of order a walk would take 100^levels steps. */
static void test_walk_over_shared_children_ends(void **state) {
    TreeStore store;
    MapfsItem item;
    MapfsCursor cursor;
    (void)state;

    fill(&store, 21000, 400);
    assert_int_equal(store.tree.root.level, 2);
    store.hostile = true;
    for (uint64_t address = 2; address < 2 + store.blocks->len; address++) {
        struct mapfs_disk_index *node = tree_store_block(&store, address);
        if (mapfs_le32_load(node->header.magic) != MAPFS_NODE_MAGIC || node->header.level == 0)
            continue;
        for (unsigned i = 1; i < mapfs_le16_load(node->header.n_items); i++) {
            node->pointers[i].address = node->pointers[0].address;
            node->pointers[i].generation = node->pointers[0].generation;
        }
    }
    int r = mapfs_cursor_begin(&cursor, &store.tree, (MapfsKey){0}, &item);
    for (unsigned i = 0; r == 1; i++) {
        assert_true(i < MAPFS_LEAF_SLOTS_MAX);
        r = mapfs_cursor_next(&cursor, &item);
    }
    assert_int_equal(r, -EUCLEAN);
    assert_string_not_equal(mapfs_damage_last(), "");
    tree_store_clear(&store);
}

/* A sealed node that claims a child of the running generation would make the tree write to a block that it does not own. */
static void test_child_younger_than_its_parent_is_damage(void **state) {
    TreeStore store;
    (void)state;

    fill(&store, 2000, 40);
    tree_store_next_generation(&store);
    store.hostile = true;
    struct mapfs_disk_index *root = tree_store_block(&store, store.tree.root.address.n);
    root->pointers[3].generation = mapfs_le64_store(store.tree.running.n);
    store.n_allocates = 0;
    assert_int_equal(mapfs_tree_remove(&store.tree, key_of(0)), -EUCLEAN);
    assert_int_equal(store.n_allocates, 0);
    tree_store_clear(&store);
}

/* The leaf that holds the lowest keys of a tree of two levels. */
static struct mapfs_disk_leaf *first_leaf(TreeStore *store) {
    const struct mapfs_disk_index *root = tree_store_block(store, store->tree.root.address.n);

    assert_int_equal(store->tree.root.level, 1);
    return tree_store_block(store, mapfs_le64_load(root->pointers[0].address));
}

static void set_key(struct mapfs_disk_leaf *leaf, unsigned index, MapfsKey key) {
    leaf->slots[index].object = mapfs_le64_store(key.object);
    leaf->slots[index].offset = mapfs_le64_store(key.offset);
    leaf->slots[index].kind = key.kind;
}

static void test_keys_out_of_range_do_not_spread(void **state) {
    static const uint8_t value[MAPFS_VALUE_LEN_MAX];
    TreeStore store;
    MapfsItem item;
    (void)state;

    /* Two items in each leaf, and those of the first should be in the third. */
    fill(&store, 8, MAPFS_VALUE_LEN_MAX);
    set_key(first_leaf(&store), 0, key_of(9));
    set_key(first_leaf(&store), 1, key_of(11));
    store.n_allocates = 0;
    assert_int_equal(mapfs_tree_insert(&store.tree, key_of(1), value, sizeof(value)), -EUCLEAN);
    assert_int_equal(store.n_allocates, 0);
    assert_int_equal(mapfs_tree_remove(&store.tree, key_of(4)), 0);
    assert_int_equal(mapfs_tree_lookup_le(&store.tree, key_of(4), &item), -EUCLEAN);
    tree_store_clear(&store);
}

/* Bytes of a node that was in order when it was checked may change later: a walk that then went back would have no end. */
static void test_walk_over_items_out_of_order_ends(void **state) {
    TreeStore store;
    MapfsCursor cursor;
    MapfsItem item;
    MapfsKey last = {0};
    (void)state;

    fill(&store, 2000, 40);
    store.hostile = true;
    struct mapfs_disk_leaf *leaf = first_leaf(&store);
    leaf->slots[5].object = leaf->slots[2].object;
    leaf->slots[5].offset = leaf->slots[2].offset;
    int r = mapfs_cursor_begin(&cursor, &store.tree, (MapfsKey){0}, &item);
    for (unsigned i = 0; r == 1; i++) {
        assert_true(i == 0 || mapfs_key_compare(item.key, last) > 0);
        last = item.key;
        r = mapfs_cursor_next(&cursor, &item);
    }
    assert_int_equal(r, -EUCLEAN);
    tree_store_clear(&store);
}

static void test_leaves_out_of_order_are_not_joined(void **state) {
    TreeStore store;
    (void)state;

    fill(&store, 100, 40);
    assert_int_equal(store.n_live, 3);
    struct mapfs_disk_leaf *leaf = first_leaf(&store);
    unsigned n = mapfs_le16_load(leaf->header.n_items);
    set_key(leaf, n - 1, key_of(1000));
    for (unsigned i = n; i < 100; i++)
        if (i != 90)
            assert_int_equal(mapfs_tree_remove(&store.tree, key_of(2 * i)), 0);
    for (unsigned i = 0; i < n - 1; i++)
        assert_int_equal(mapfs_tree_remove(&store.tree, key_of(2 * i)), 0);
    assert_int_equal(store.n_live, 3);
    tree_store_clear(&store);
}

/* The format lets the key of a node's first pointer be anything: it must not become one that is compared. */
static void test_first_pointers_key_is_not_used(void **state) {
    TreeStore store;
    MapfsItem item;
    unsigned n = 0;
    (void)state;

    fill(&store, 0, 0);
    while (store.tree.root.level < 2)
        tree_store_insert(&store, key_of(2 * n++), 1, MAPFS_VALUE_LEN_MAX);
    const struct mapfs_disk_index *root = tree_store_block(&store, store.tree.root.address.n);
    assert_int_equal(mapfs_le16_load(root->header.n_items), 2);
    struct mapfs_disk_index *right = tree_store_block(&store, mapfs_le64_load(root->pointers[1].address));
    right->pointers[0].object = mapfs_le64_store(UINT64_MAX);

    for (unsigned i = 0; i < 150; i++)
        assert_int_equal(mapfs_tree_remove(&store.tree, key_of(2 * i)), 0);
    assert_int_equal(store.tree.root.level, 1);
    assert_int_equal(tree_store_check_newest(&store).n_items, n - 150);
    for (unsigned i = 150; i < n; i++)
        assert_int_equal(mapfs_tree_lookup(&store.tree, key_of(2 * i), &item), 1);
    tree_store_clear(&store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_space_at_any_point_changes_nothing),
        cmocka_unit_test(test_damage_at_any_point_changes_nothing),
        cmocka_unit_test(test_no_space_for_a_new_root_changes_nothing),
        cmocka_unit_test(test_damaged_nodes_are_survived),
        cmocka_unit_test(test_nodes_that_change_underfoot_are_survived),
        cmocka_unit_test(test_walk_over_shared_children_ends),
        cmocka_unit_test(test_child_younger_than_its_parent_is_damage),
        cmocka_unit_test(test_keys_out_of_range_do_not_spread),
        cmocka_unit_test(test_walk_over_items_out_of_order_ends),
        cmocka_unit_test(test_leaves_out_of_order_are_not_joined),
        cmocka_unit_test(test_first_pointers_key_is_not_used),
    };
    return cmocka_run_group_tests_name("tree-faults", tests, NULL, NULL);
}
