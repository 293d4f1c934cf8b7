/* SPDX-License-Identifier: MIT */

/* Write-behind, and who waits for it. */

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <glib.h>

#include "store-fixture.h"

#define BLOCKS_PER_MIB 256u
#define IMAGE_BLOCKS (64u * BLOCKS_PER_MIB)
#define MIB (1u << 20)

/* A host whose syncs and whose write-out wait until they are let go. */
typedef struct {
    StoreFixture fixture;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool hold_sync, hold_write;
    bool fail_write;           /* as a disk would */
    unsigned n_syncs, n_waits; /* that have come; of write-out */
    GArray *written;           /* MapfsRun */
    pthread_t syncer;
    bool syncs;
} Host;

static void host_wait(Host *host, const bool *hold) {
    pthread_cond_broadcast(&host->cond);
    while (*hold)
        pthread_cond_wait(&host->cond, &host->mutex);
}

static int hook_sync(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    Host *host = user;

    (void)channel;
    (void)runs;
    (void)n_runs;
    pthread_mutex_lock(&host->mutex);
    host->n_syncs++;
    host_wait(host, &host->hold_sync);
    pthread_mutex_unlock(&host->mutex);
    return 0;
}

static void hook_write_out(void *user, const MapfsRun *runs, size_t n_runs) {
    Host *host = user;

    pthread_mutex_lock(&host->mutex);
    g_array_append_vals(host->written, runs, (guint)n_runs);
    host->n_waits++;
    host_wait(host, &host->hold_write);
    if (host->fail_write)
        mapfs_image_fail(host->fixture.image, -EIO);
    pthread_mutex_unlock(&host->mutex);
}

static void host_open(Host *host) {
    const MapfsStoreOptions options = {.threads = true, .commit_seconds = 3600};

    *host = (Host){.hold_write = true, .written = g_array_new(FALSE, FALSE, sizeof(MapfsRun))};
    pthread_mutex_init(&host->mutex, NULL);
    pthread_cond_init(&host->cond, NULL);
    store_fixture_open(&host->fixture, IMAGE_BLOCKS, &options);
    mapfs_recording_set_hooks(
        host->fixture.recording,
        &(MapfsRecordingHooks){.sync_begin = hook_sync, .write_out = hook_write_out, .user = host});
}

static void *syncer_main(void *user) {
    return GINT_TO_POINTER(mapfs_store_sync(user));
}

/* Leaves somebody in the middle of a sync. */
static void host_begin_sync(Host *host) {
    assert_int_equal(store_add(host->fixture.store, 10), 0);
    host->hold_sync = true;
    assert_int_equal(pthread_create(&host->syncer, NULL, syncer_main, host->fixture.store), 0);
    pthread_mutex_lock(&host->mutex);
    while (host->n_syncs == 0)
        pthread_cond_wait(&host->cond, &host->mutex);
    pthread_mutex_unlock(&host->mutex);
    host->syncs = true;
}

static void host_let_go(Host *host, bool *hold) {
    pthread_mutex_lock(&host->mutex);
    *hold = false;
    pthread_cond_broadcast(&host->cond);
    pthread_mutex_unlock(&host->mutex);
}

static int host_end_sync(Host *host) {
    void *result;

    host_let_go(host, &host->hold_sync);
    assert_int_equal(pthread_join(host->syncer, &result), 0);
    host->syncs = false;
    return GPOINTER_TO_INT(result);
}

static void host_close(Host *host, bool failed) {
    host_let_go(host, &host->hold_write);
    if (host->syncs)
        assert_int_equal(host_end_sync(host), failed ? -EIO : 0);
    if (failed)
        assert_int_equal(mapfs_store_close(g_steal_pointer(&host->fixture.store)), -EIO);
    store_fixture_close(&host->fixture);
    g_array_unref(host->written);
    pthread_cond_destroy(&host->cond);
    pthread_mutex_destroy(&host->mutex);
}

typedef struct {
    MapfsStore *store;
    pthread_t thread;
    bool done; /* atomic */
    bool waited_enough;
} Writer;

static void *writer_main(void *user) {
    Writer *writer = user;

    writer->waited_enough = mapfs_store_pace(writer->store, MIB);
    __atomic_store_n(&writer->done, true, __ATOMIC_SEQ_CST);
    return NULL;
}

/* Starts a writer and returns when it waits. */
static void writer_start(Writer *writer, MapfsStore *store) {
    *writer = (Writer){.store = store};
    assert_int_equal(pthread_create(&writer->thread, NULL, writer_main, writer), 0);
    while (mapfs_store_n_paced(store) == 0) {
        assert_false(__atomic_load_n(&writer->done, __ATOMIC_SEQ_CST));
        usleep(1000);
    }
}

static void writer_join(Writer *writer) {
    assert_int_equal(pthread_join(writer->thread, NULL), 0);
    assert_true(writer->waited_enough);
    assert_int_equal(mapfs_store_n_paced(writer->store), 0);
}

static void test_writer_waits_for_the_host_while_somebody_syncs(void **state) {
    Writer writer;
    Host host;

    (void)state;
    host_open(&host);
    host_begin_sync(&host);
    (void)store_take(host.fixture.store, 0, 2 * BLOCKS_PER_MIB);
    writer_start(&writer, host.fixture.store);
    /* The disk is the sync's own. */
    assert_int_equal(host.n_waits, 0);
    assert_int_equal(host_end_sync(&host), 0);
    host_let_go(&host, &host.hold_write);
    writer_join(&writer);
    host_close(&host, false);
}

static void test_writer_goes_on_when_the_next_cut_takes_what_waits(void **state) {
    Writer writer;
    Host host;

    (void)state;
    host_open(&host);
    host_begin_sync(&host);
    (void)store_take(host.fixture.store, 0, 2 * BLOCKS_PER_MIB);
    writer_start(&writer, host.fixture.store);
    assert_int_equal(host_end_sync(&host), 0);
    assert_int_equal(mapfs_store_sync(host.fixture.store), 0);
    /* A step that is still being written may be as much as the budget: how much depends on when it began. */
    host_let_go(&host, &host.hold_write);
    writer_join(&writer);
    host_close(&host, false);
}

static void test_writer_goes_on_when_the_disk_fails(void **state) {
    Writer writer;
    Host host;

    (void)state;
    host_open(&host);
    host_begin_sync(&host);
    (void)store_take(host.fixture.store, 0, 4 * BLOCKS_PER_MIB);
    writer_start(&writer, host.fixture.store);
    host.fail_write = true;
    assert_int_equal(host_end_sync(&host), 0);
    host_let_go(&host, &host.hold_write);
    writer_join(&writer);
    /* Nothing of it may be acknowledged. */
    assert_int_equal(mapfs_store_error(host.fixture.store), -EIO);
    host_close(&host, true);
}

static void test_writer_of_little_has_more_room(void **state) {
    Host host;

    (void)state;
    host_open(&host);
    host_begin_sync(&host);
    (void)store_take(host.fixture.store, 0, BLOCKS_PER_MIB / 2);
    assert_true(mapfs_store_pace(host.fixture.store, 4096));
    host_close(&host, false);
}

static void test_nobody_waits_before_the_first_sync(void **state) {
    Host host;

    (void)state;
    host_open(&host);
    (void)store_take(host.fixture.store, 0, 40 * BLOCKS_PER_MIB);
    assert_true(mapfs_store_pace(host.fixture.store, MIB));
    host_close(&host, false);
}

static int run_compare(const void *a, const void *b) {
    const MapfsRun *x = a, *y = b;

    return (x->start.n > y->start.n) - (x->start.n < y->start.n);
}

static void test_a_growing_run_is_written_once(void **state) {
    MapfsRun first, next;
    uint64_t n_written = 0;
    Host host;

    (void)state;
    host_open(&host);
    host.hold_write = false;
    first = store_take(host.fixture.store, 0, BLOCKS_PER_MIB);
    for (unsigned i = 1; i < 32; i++) {
        next = store_take(host.fixture.store, first.start.n + i * BLOCKS_PER_MIB, BLOCKS_PER_MIB);
        assert_int_equal(next.start.n, first.start.n + i * BLOCKS_PER_MIB);
    }
    /* 32 MiB in steps of 8. */
    pthread_mutex_lock(&host.mutex);
    while (n_written < 32 * BLOCKS_PER_MIB) {
        n_written = 0;
        for (guint i = 0; i < host.written->len; i++)
            n_written += g_array_index(host.written, MapfsRun, i).n_blocks;
        if (n_written < 32 * BLOCKS_PER_MIB)
            pthread_cond_wait(&host.cond, &host.mutex);
    }
    g_array_sort(host.written, run_compare);
    assert_int_equal(n_written, 32 * BLOCKS_PER_MIB);
    for (guint i = 0, at = 0; i < host.written->len; i++) {
        assert_int_equal(g_array_index(host.written, MapfsRun, i).start.n, first.start.n + at);
        at += (guint)g_array_index(host.written, MapfsRun, i).n_blocks;
    }
    pthread_mutex_unlock(&host.mutex);
    host_close(&host, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer_waits_for_the_host_while_somebody_syncs),
        cmocka_unit_test(test_writer_goes_on_when_the_next_cut_takes_what_waits),
        cmocka_unit_test(test_writer_goes_on_when_the_disk_fails),
        cmocka_unit_test(test_writer_of_little_has_more_room),
        cmocka_unit_test(test_nobody_waits_before_the_first_sync),
        cmocka_unit_test(test_a_growing_run_is_written_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
