/* SPDX-License-Identifier: MIT */

/* Random requests to the space, against a plain bitmap and from many threads. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <glib.h>

#include "space-fixture.h"

/* --- against a plain bitmap --- */

#define MODEL_BLOCKS (MAPFS_GROUP_BLOCKS + 3000u)
#define MODEL_STEPS 20000u

typedef struct {
    Test test;
    uint8_t taken[MODEL_BLOCKS];
    uint64_t n_free;
    uint64_t n_claimed;
    GArray *runs;
    GRand *rand;
} Model;

static void model_take(Model *model, MapfsRun run) {
    assert_true(run.start.n >= FIRST_USABLE && mapfs_run_fits(run, MODEL_BLOCKS));
    for (uint64_t i = 0; i < run.n_blocks; i++) {
        assert_int_equal(model->taken[run.start.n + i], 0);
        assert_true(model->test.host.given[run.start.n + i]);
    }
    memset(model->taken + run.start.n, 1, run.n_blocks);
    model->n_free -= run.n_blocks;
    g_array_append_val(model->runs, run);
}

static void model_allocate(Model *model) {
    const MapfsSpaceWish wish = {
        .goal = {g_rand_boolean(model->rand) ? g_rand_int(model->rand) % (MODEL_BLOCKS + 10) : 0},
        .apart = g_rand_boolean(model->rand),
        .n_blocks = g_rand_int(model->rand) % 600 + 1,
        .n_keep = g_rand_int(model->rand) % 100,
    };
    bool room = model->n_free > model->n_claimed + wish.n_keep;
    MapfsRun run;
    int r = mapfs_space_allocate(model->test.space, &wish, &run);

    if (room && model->test.host.n_given_max == UINT64_MAX)
        assert_int_equal(r, 0);
    if (!room)
        assert_int_equal(r, -ENOSPC);
    if (r < 0) {
        assert_int_equal(r, -ENOSPC);
        return;
    }
    assert_in_range(run.n_blocks, 1, wish.n_blocks);
    model_take(model, run);
    assert_true(model->n_free >= model->n_claimed + wish.n_keep);
}

static void model_nodes(Model *model) {
    unsigned n_claimed = g_rand_int(model->rand) % 40 + 1, n = g_rand_int(model->rand) % (n_claimed + 1);
    int r = mapfs_space_claim(model->test.space, n_claimed, 7);

    if (model->n_free < model->n_claimed + n_claimed + 7)
        assert_int_equal(r, -ENOSPC);
    else if (model->test.host.n_given_max == UINT64_MAX)
        assert_int_equal(r, 0);
    if (r < 0)
        return;
    model->n_claimed += n_claimed;
    for (unsigned i = 0; i < n; i++) {
        MapfsBlock block;

        assert_int_equal(mapfs_space_allocate_node(model->test.space,
                                                   g_rand_boolean(model->rand) ? MAPFS_PLACE_NAMES : MAPFS_PLACE_NODES,
                                                   &block),
                         0);
        model_take(model, (MapfsRun){block, 1});
    }
    mapfs_space_unclaim(model->test.space, n_claimed);
    model->n_claimed -= n_claimed;
}

static void model_release(Model *model) {
    guint i = model->runs->len > 0 ? g_rand_int(model->rand) % model->runs->len : 0;
    MapfsRun run;

    if (model->runs->len == 0)
        return;
    run = g_array_index(model->runs, MapfsRun, i);
    g_array_remove_index_fast(model->runs, i);
    assert_int_equal(mapfs_space_release(model->test.space, run), 0);
    memset(model->taken + run.start.n, 0, run.n_blocks);
    model->n_free += run.n_blocks;
}

/* Whatever is taken keeps its host blocks: model_compare() looks. */
static void model_trim(Model *model) {
    const MapfsSpaceTrim what = {
        .range = {{g_rand_int(model->rand) % MODEL_BLOCKS}, g_rand_int(model->rand) % 5000},
        .n_min = g_rand_int(model->rand) % 40,
        .n_keep = 10,
    };
    uint64_t n_blocks;

    assert_int_equal(mapfs_space_trim(model->test.space, &what, &n_blocks), 0);
    assert_in_range(n_blocks, 0, what.range.n_blocks);
}

static void model_compare(Model *model) {
    g_autofree uint8_t *bits = g_malloc(MAPFS_NODE_SPACE);
    MapfsSpaceGroup group;

    assert_int_equal(status(&model->test).n_free, model->n_free);
    assert_int_equal(status(&model->test).n_claimed, model->n_claimed);
    for (uint64_t n = 0; mapfs_space_dirty_group(model->test.space, n, &group) > 0; n++) {
        mapfs_space_store_bits(model->test.space, group.group, bits);
        for (uint64_t i = 0; i < MAPFS_GROUP_BLOCKS; i++) {
            uint64_t block = group.group * MAPFS_GROUP_BLOCKS + i;
            bool bit = bits[i / 8] >> (i % 8) & 1;

            assert_int_equal(bit, block < FIRST_USABLE || block >= MODEL_BLOCKS || model->taken[block]);
        }
    }
    for (uint64_t i = 0; i < MODEL_BLOCKS; i++)
        assert_true(!model->taken[i] || model->test.host.given[i]);
    mapfs_space_clean(model->test.space);
}

static void model_step(Model *model) {
    switch (g_rand_int(model->rand) % 8) {
    case 0:
    case 1:
        model_allocate(model);
        return;
    case 2:
        model_nodes(model);
        return;
    case 3:
        if (g_rand_int(model->rand) % 64 == 0)
            model->test.host.n_given_max =
                model->test.host.n_given_max == UINT64_MAX ? model->test.host.n_given : UINT64_MAX;
        if (g_rand_int(model->rand) % 16 == 0)
            model_trim(model);
        return;
    default:
        /* Fill up, drain, fill up. */
        if (g_rand_int(model->rand) % 1024 < 3 && model->n_free < 500)
            while (model->runs->len > 20)
                model_release(model);
        if (g_rand_int(model->rand) % 4 == 0)
            model_release(model);
    }
}

static void test_random_requests_agree_with_a_plain_bitmap(void **state) {
    const char *text = getenv("MAPFS_TEST_SEED");
    uint32_t seed = text ? (uint32_t)strtoul(text, NULL, 0) : (uint32_t)time(NULL);
    g_autofree Model *model = g_new0(Model, 1);

    (void)state;
    print_message("# MAPFS_TEST_SEED=%u\n", seed);
    test_open(&model->test, MODEL_BLOCKS);
    model->n_free = MODEL_BLOCKS - FIRST_USABLE;
    model->runs = g_array_new(FALSE, FALSE, sizeof(MapfsRun));
    model->rand = g_rand_new_with_seed(seed);
    for (unsigned i = 0; i < MODEL_STEPS; i++) {
        model_step(model);
        if (i % 500 == 0)
            model_compare(model);
    }
    model_compare(model);
    g_rand_free(model->rand);
    g_array_unref(model->runs);
    test_close(&model->test);
}

/* --- threads --- */

#define N_THREADS 4u
#define THREAD_STEPS 3000u

typedef struct {
    Test *test;
    uint8_t *owner; /* of each block: the thread's number, written by who has taken it */
    unsigned number;
    bool failed;
} Worker;

static bool worker_own(Worker *worker, MapfsRun run, bool own) {
    for (uint64_t i = 0; i < run.n_blocks; i++) {
        uint8_t *owner = &worker->owner[run.start.n + i];

        if (*owner != (own ? 0 : worker->number))
            return false;
        *owner = own ? (uint8_t)worker->number : 0;
    }
    return true;
}

static bool worker_step(Worker *worker, GRand *rand) {
    MapfsSpace *space = worker->test->space;
    const MapfsSpaceWish wish = {.n_blocks = g_rand_int(rand) % 100 + 1, .n_keep = 10, .apart = g_rand_boolean(rand)};
    const MapfsSpaceTrim trim = {.range = {{0}, 1024}, .n_min = 1, .n_keep = 10};
    uint64_t n_trimmed;
    MapfsRun run;
    bool ok;

    if (mapfs_space_claim(space, 3, 10) == 0) {
        run.n_blocks = 1;
        ok = mapfs_space_allocate_node(space, MAPFS_PLACE_NODES, &run.start) == 0;
        mapfs_space_unclaim(space, 3);
        if (!ok || !worker_own(worker, run, true) || !worker_own(worker, run, false) ||
            mapfs_space_release(space, run) != 0)
            return false;
    }
    if (mapfs_space_allocate(space, &wish, &run) < 0)
        return true;
    if (!worker_own(worker, run, true))
        return false;
    if (g_rand_int(rand) % 16 == 0 && mapfs_space_trim(space, &trim, &n_trimmed) < 0)
        return false;
    return worker_own(worker, run, false) && mapfs_space_release(space, run) == 0;
}

static void *worker_main(void *user) {
    Worker *worker = user;
    GRand *rand = g_rand_new_with_seed(worker->number);

    for (unsigned i = 0; i < THREAD_STEPS && !worker->failed; i++)
        worker->failed = !worker_step(worker, rand);
    g_rand_free(rand);
    return NULL;
}

static void test_threads_never_share_a_block(void **state) {
    Worker workers[N_THREADS];
    pthread_t threads[N_THREADS];
    g_autofree uint8_t *owner = g_malloc0(1024);
    Test test;

    (void)state;
    test_open(&test, 1024);
    for (unsigned i = 0; i < N_THREADS; i++) {
        workers[i] = (Worker){&test, owner, i + 1, false};
        assert_int_equal(pthread_create(&threads[i], NULL, worker_main, &workers[i]), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < N_THREADS; i++)
        assert_false(workers[i].failed);
    assert_int_equal(status(&test).n_free, 1024 - FIRST_USABLE);
    assert_int_equal(status(&test).n_claimed, 0);
    test_close(&test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_requests_agree_with_a_plain_bitmap),
        cmocka_unit_test(test_threads_never_share_a_block),
    };

    return cmocka_run_group_tests_name("space, random", tests, NULL, NULL);
}
