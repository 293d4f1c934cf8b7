/* SPDX-License-Identifier: MIT */

#include "space-fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

static int host_reserve(MapfsImage *image, MapfsRun run) {
    Host *host = (Host *)image;
    uint64_t n_new = 0;
    int r = 0;

    if (host->on_reserve)
        host->on_reserve(host);
    g_usleep(host->reserve_us);
    pthread_mutex_lock(&host->mutex);
    host->n_reserves++;
    for (uint64_t i = 0; i < run.n_blocks; i++)
        n_new += !host->given[run.start.n + i];
    if (host->error < 0)
        r = host->error;
    else if (host->n_given + n_new > host->n_given_max)
        r = -ENOSPC;
    if (r == 0) {
        memset(host->given + run.start.n, 1, run.n_blocks);
        host->n_given += n_new;
    }
    pthread_mutex_unlock(&host->mutex);
    return r;
}

static int host_discard(MapfsImage *image, MapfsRun run) {
    Host *host = (Host *)image;

    if (host->discard_error < 0)
        return host->discard_error;
    if (host->on_discard)
        host->on_discard(host);
    pthread_mutex_lock(&host->mutex);
    for (uint64_t i = 0; i < run.n_blocks; i++)
        host->n_given -= host->given[run.start.n + i];
    memset(host->given + run.start.n, 0, run.n_blocks);
    pthread_mutex_unlock(&host->mutex);
    return 0;
}

static const MapfsImageOps host_ops = {.reserve = host_reserve, .discard = host_discard};

void test_open(Test *test, uint64_t n_blocks) {
    *test = (Test){.host = {.n_given_max = UINT64_MAX}};
    assert_int_equal(mapfs_image_open_anonymous(n_blocks, &test->host.memory), 0);
    test->host.image = *test->host.memory;
    test->host.image.ops = &host_ops;
    test->host.given = g_malloc0(n_blocks);
    pthread_mutex_init(&test->host.mutex, NULL);
    assert_int_equal(mapfs_space_new(&test->host.image, n_blocks, FIRST_USABLE, SEED, &test->space), 0);
}

void test_close(Test *test) {
    mapfs_space_free(test->space);
    mapfs_image_close(test->host.memory);
    pthread_mutex_destroy(&test->host.mutex);
    g_free(test->host.given);
}

MapfsSpaceStatus status(Test *test) {
    MapfsSpaceStatus result;

    mapfs_space_status(test->space, &result);
    return result;
}
