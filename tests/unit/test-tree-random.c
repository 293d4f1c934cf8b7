/* SPDX-License-Identifier: MIT */

/* Random changes to a tree and to a GTree, over many generations: both must hold the same at any time, and what an old root leads to
 * must stay as it was. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tree-store.h"

#define OLD_ROOTS_MAX 64

/* An item of the model; key of the GTree too. */
typedef struct {
    MapfsKey key;
    uint32_t version;
    unsigned value_len;
} ModelItem;

/* How keys and lengths are drawn. */
typedef struct {
    const char *name;
    unsigned n_objects, n_offsets;
    unsigned len_max; /* of most values; now and then one is longer */
    unsigned n_changes;
    unsigned changes_per_generation;
} Profile;

typedef struct {
    const Profile *profile;
    TreeStore store;
    GTree *model;
    GRand *rand;
    uint32_t version;
    unsigned n_old_roots;
    struct {
        MapfsNodeRef root;
        uint64_t digest;
    } old_roots[OLD_ROOTS_MAX];
} Fixture;

static gint model_compare(gconstpointer a, gconstpointer b, gpointer user) {
    (void)user; /* none */
    return mapfs_key_compare(((const ModelItem *)a)->key, ((const ModelItem *)b)->key);
}

static unsigned draw(Fixture *f, unsigned n) {
    return (unsigned)g_rand_int_range(f->rand, 0, (gint32)n);
}

static MapfsKey draw_key(Fixture *f) {
    static const uint8_t kinds[] = {1, 3, 4, 255};
    MapfsKey key = {
        .object = draw(f, f->profile->n_objects),
        .kind = kinds[draw(f, MAPFS_N_ELEMENTS(kinds))],
        .offset = draw(f, f->profile->n_offsets),
    };

    if (draw(f, 8) == 0)
        key.object += MAPFS_OBJECT_SYSTEM;
    if (draw(f, 50) == 0)
        key.offset = UINT64_MAX - key.offset;
    return key;
}

static unsigned draw_len(Fixture *f) {
    switch (draw(f, 20)) {
    case 0:
        return MAPFS_VALUE_LEN_MAX;
    case 1:
        return 0;
    case 2:
        return draw(f, MAPFS_VALUE_LEN_MAX + 1);
    default:
        return draw(f, f->profile->len_max + 1);
    }
}

static ModelItem *model_find(Fixture *f, MapfsKey key) {
    ModelItem probe = {.key = key};
    return g_tree_lookup(f->model, &probe);
}

static void model_put(Fixture *f, MapfsKey key, unsigned value_len) {
    ModelItem *item = g_new(ModelItem, 1);
    *item = (ModelItem){key, f->version, value_len};
    g_tree_replace(f->model, item, item);
}

static void check_item(const MapfsItem *item, const ModelItem *expected) {
    uint8_t value[MAPFS_VALUE_LEN_MAX];

    assert_int_equal(mapfs_key_compare(item->key, expected->key), 0);
    assert_int_equal(item->value_len, expected->value_len);
    tree_store_make_value(expected->key, expected->version, value, expected->value_len);
    assert_memory_equal(item->value, value, expected->value_len);
}

/* A key that is there, or a random one. */
static MapfsKey draw_known_key(Fixture *f) {
    ModelItem probe = {.key = draw_key(f)};
    GTreeNode *node = g_tree_lower_bound(f->model, &probe);

    return node ? ((ModelItem *)g_tree_node_key(node))->key : probe.key;
}

static void change_store(Fixture *f) {
    uint8_t value[MAPFS_VALUE_LEN_MAX];
    MapfsKey key = draw(f, 3) == 0 ? draw_known_key(f) : draw_key(f);
    unsigned value_len = draw_len(f), how = draw(f, 3);
    ModelItem *known = model_find(f, key);
    int r, expected = 0;

    /* Values of the same length take a way of their own. */
    if (known && draw(f, 3) == 0)
        value_len = known->value_len;
    f->version++;
    tree_store_make_value(key, f->version, value, value_len);
    if (how == 0) {
        r = mapfs_tree_insert(&f->store.tree, key, value, value_len);
        expected = known ? -EEXIST : 0;
    } else if (how == 1) {
        r = mapfs_tree_replace(&f->store.tree, key, value, value_len);
        expected = known ? 0 : -ENOENT;
    } else {
        r = mapfs_tree_put(&f->store.tree, key, value, value_len);
    }
    assert_int_equal(r, expected);
    if (r == 0)
        model_put(f, key, value_len);
}

static void change_remove(Fixture *f) {
    MapfsKey key = draw(f, 10) == 0 ? draw_key(f) : draw_known_key(f);
    ModelItem probe = {.key = key};
    bool known = g_tree_remove(f->model, &probe);

    assert_int_equal(mapfs_tree_remove(&f->store.tree, key), known ? 0 : -ENOENT);
}

static void check_neighbours(Fixture *f) {
    ModelItem probe = {.key = draw_key(f)};
    GTreeNode *above = g_tree_lower_bound(f->model, &probe), *after = g_tree_upper_bound(f->model, &probe);
    GTreeNode *below = after ? g_tree_node_previous(after) : g_tree_node_last(f->model);
    ModelItem *equal = model_find(f, probe.key);
    MapfsItem item;

    assert_int_equal(mapfs_tree_lookup(&f->store.tree, probe.key, &item), equal != NULL);
    if (equal)
        check_item(&item, equal);
    assert_int_equal(mapfs_tree_lookup_ge(&f->store.tree, probe.key, &item), above != NULL);
    if (above)
        check_item(&item, g_tree_node_value(above));
    assert_int_equal(mapfs_tree_lookup_le(&f->store.tree, probe.key, &item), below != NULL);
    if (below)
        check_item(&item, g_tree_node_value(below));
}

static void check_walk(Fixture *f, MapfsKey first) {
    ModelItem probe = {.key = first};
    GTreeNode *node = g_tree_lower_bound(f->model, &probe);
    MapfsCursor cursor;
    MapfsItem item;

    int r = mapfs_cursor_begin(&cursor, &f->store.tree, first, &item);
    for (; r == 1; r = mapfs_cursor_next(&cursor, &item)) {
        assert_non_null(node);
        check_item(&item, g_tree_node_value(node));
        node = g_tree_node_next(node);
    }
    assert_int_equal(r, 0);
    assert_null(node);
}

static void keep_root(Fixture *f) {
    unsigned slot = f->n_old_roots < OLD_ROOTS_MAX ? f->n_old_roots++ : draw(f, OLD_ROOTS_MAX);

    f->old_roots[slot].root = f->store.tree.root;
    f->old_roots[slot].digest = tree_store_check(&f->store, f->store.tree.root).digest;
}

static void next_generation(Fixture *f) {
    assert_int_equal(tree_store_check_newest(&f->store).n_items, g_tree_nnodes(f->model));
    check_walk(f, (MapfsKey){0});
    check_walk(f, draw_key(f));
    keep_root(f);
    tree_store_next_generation(&f->store);
}

static void run_change(Fixture *f, unsigned remove_percent) {
    unsigned n_max = mapfs_tree_change_blocks_max(&f->store.tree);

    f->store.n_allocates = 0;
    if (draw(f, 100) < remove_percent)
        change_remove(f);
    else
        change_store(f);
    assert_in_range(f->store.n_allocates, 0, n_max);
    check_neighbours(f);
}

static void run_profile(const Profile *profile) {
    Fixture f = {.profile = profile};
    unsigned n_changes = profile->n_changes * tree_store_factor(), remove_percent = 30;

    f.rand = g_rand_new_with_seed(tree_store_seed(profile->name));
    f.model = g_tree_new_full(model_compare, NULL, NULL, g_free);
    tree_store_init(&f.store);
    for (unsigned i = 0; i < n_changes; i++) {
        if (i % 3000 == 0) /* the tree grows, shrinks, or stays about as it is */
            remove_percent = draw(&f, 2) ? draw(&f, 100) : 20;
        if (draw(&f, profile->changes_per_generation) == 0)
            next_generation(&f);
        run_change(&f, remove_percent);
    }

    next_generation(&f);
    tree_store_check_sealed(&f.store);
    for (unsigned i = 0; i < f.n_old_roots; i++)
        assert_true(tree_store_check(&f.store, f.old_roots[i].root).digest == f.old_roots[i].digest);
    while (g_tree_nnodes(f.model) > 0)
        run_change(&f, 100);
    assert_int_equal(tree_store_check_newest(&f.store).n_nodes, 1);
    tree_store_clear(&f.store);
    g_tree_unref(f.model);
    g_rand_free(f.rand);
}

static void test_random_changes_of_small_items(void **state) {
    static const Profile profile = {"small items", 60, 60, 60, 30000, 1500};
    (void)state;
    run_profile(&profile);
}

static void test_random_changes_of_items_of_all_lengths(void **state) {
    static const Profile profile = {"items of all lengths", 40, 40, MAPFS_VALUE_LEN_MAX, 20000, 1000};
    (void)state;
    run_profile(&profile);
}

static void test_random_changes_in_short_generations(void **state) {
    static const Profile profile = {"short generations", 20, 20, 300, 6000, 20};
    (void)state;
    run_profile(&profile);
}

static void test_random_changes_of_a_tiny_tree(void **state) {
    static const Profile profile = {"tiny tree", 4, 4, 1200, 20000, 50};
    (void)state;
    run_profile(&profile);
}

static void test_random_changes_of_a_deep_tree(void **state) {
    static const Profile profile = {"deep tree", 4000, 4000, MAPFS_VALUE_LEN_MAX, 40000, 20000};
    (void)state;
    run_profile(&profile);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_changes_of_small_items),
        cmocka_unit_test(test_random_changes_of_items_of_all_lengths),
        cmocka_unit_test(test_random_changes_in_short_generations),
        cmocka_unit_test(test_random_changes_of_a_tiny_tree),
        cmocka_unit_test(test_random_changes_of_a_deep_tree),
    };
    return cmocka_run_group_tests_name("tree-random", tests, NULL, NULL);
}
