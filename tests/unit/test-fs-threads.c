/* SPDX-License-Identifier: MIT */

/* Many threads at once, with checkpoints and reclaim running beside them: each thread works in a directory of its
 * own, where it must see exactly what it does, and in a shared one, where only the rules of a filesystem hold. Meant
 * for ThreadSanitizer above all. */

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
#include <sys/stat.h>

#include <cmocka.h>
#include <glib.h>

#include "fs-fixture.h"
#include "fs/fs-private.h"

#define ROOT MAPFS_INO_ROOT
#define N_THREADS 6u
#define N_ROUNDS 400u
#define N_SHARED_NAMES 8u

typedef struct {
    MapfsFs *fs;
    uint64_t shared;
    unsigned number;
    GRand *rand;
    const char *failure; /* cmocka's asserts work in the main thread alone */
    int result;
} Worker;

static bool expect(Worker *worker, const char *what, int r, int expected) {
    if (r == expected)
        return true;
    worker->failure = what;
    worker->result = r;
    return false;
}

/* One file's life in the thread's own directory. */
static bool own_round(Worker *worker, uint64_t dir, unsigned round) {
    uint8_t bytes[6000], back[6000];
    size_t len = 1 + (round * 37) % sizeof(bytes);
    MapfsFs *fs = worker->fs;
    MapfsNewInode new_inode = {.mode = S_IFREG | 0600};
    MapfsAttr attr;
    char name[32];

    snprintf(name, sizeof(name), "file %u", round % 5);
    memset(bytes, (int)(round + worker->number), len);
    if (!expect(worker, "create", mapfs_fs_create(fs, &(MapfsName){dir, name, strlen(name)}, &new_inode, &attr), 0) ||
        !expect(worker, "write", mapfs_fs_write(fs, attr.ino, 0, bytes, len), (int)len) ||
        !expect(worker, "setxattr", mapfs_fs_setxattr(fs, attr.ino, "user.x", (MapfsBytes){bytes, len / 2}, 0), 0) ||
        !expect(worker, "rename", fs_rename(fs, fs_at(dir, name), fs_at(dir, "moved"), 0), 0) ||
        !expect(worker, "lookup", fs_lookup(fs, dir, name), -ENOENT) ||
        !expect(worker, "unlink", fs_unlink(fs, dir, "moved"), 0) ||
        !expect(worker, "read", mapfs_fs_read(fs, attr.ino, 0, back, sizeof(back)), (int)len) ||
        !expect(worker, "compare", memcmp(bytes, back, len), 0))
        return false;
    mapfs_fs_forget(fs, attr.ino, 1);
    return true;
}

static int count_entry(void *user, const MapfsDirEntry *entry) {
    GArray *inos = user;

    if (entry->attr && entry->cookie > 2)
        g_array_append_val(inos, entry->ino);
    return 1;
}

static bool listing_round(Worker *worker) {
    g_autoptr(GArray) inos = g_array_new(false, false, sizeof(uint64_t));
    int r = mapfs_fs_readdir(worker->fs, worker->shared, &(MapfsDirScan){0, true, count_entry, inos});

    for (guint i = 0; i < inos->len; i++)
        mapfs_fs_forget(worker->fs, g_array_index(inos, uint64_t, i), 1);
    return expect(worker, "readdir", r, 0);
}

/* True for what operations on names that others change too may answer. */
static bool is_race(int r) {
    return r == 0 || r == -ENOENT || r == -EEXIST || r == -EISDIR || r == -ENOTDIR || r == -ENOTEMPTY || r == -EPERM ||
           r == -EINVAL || r == -ESTALE;
}

static bool shared_round(Worker *worker) {
    unsigned a = (unsigned)g_rand_int_range(worker->rand, 0, N_SHARED_NAMES);
    unsigned b = (unsigned)g_rand_int_range(worker->rand, 0, N_SHARED_NAMES);
    const char one[2] = {(char)('a' + a), 0}, other[2] = {(char)('a' + b), 0};
    MapfsFs *fs = worker->fs;
    uint64_t ino;
    int r = 0;

    switch (g_rand_int_range(worker->rand, 0, 7)) {
    case 0:
        r = fs_create(fs, worker->shared, one, a % 2 ? S_IFREG | 0600 : S_IFDIR | 0700);
        break;
    case 1:
        r = a % 2 ? fs_unlink(fs, worker->shared, one) : fs_rmdir(fs, worker->shared, one);
        break;
    case 2:
        r = fs_rename(fs, fs_at(worker->shared, one), fs_at(worker->shared, other),
                      b % 3 == 0 ? MAPFS_FS_RENAME_EXCHANGE : 0);
        break;
    case 3:
        ino = fs_ino(fs, worker->shared, one);
        r = ino ? fs_link(fs, ino, worker->shared, other) : 0;
        break;
    case 4:
        ino = fs_ino(fs, worker->shared, one);
        r = ino ? mapfs_fs_write(fs, ino, a * 5000, one, 1) : 0;
        r = r > 0 ? 0 : r;
        break;
    case 5:
        return listing_round(worker);
    default:
        r = fs_lookup(fs, worker->shared, one);
        break;
    }
    if (is_race(r))
        return true;
    return expect(worker, "shared", r, 0);
}

static void *worker_main(void *user) {
    Worker *worker = user;
    char name[16];
    MapfsNewInode new_inode = {.mode = S_IFDIR | 0700};
    MapfsAttr dir;

    snprintf(name, sizeof(name), "own %u", worker->number);
    if (!expect(worker, "mkdir", mapfs_fs_create(worker->fs, &(MapfsName){ROOT, name, strlen(name)}, &new_inode, &dir),
                0))
        return NULL;
    for (unsigned round = 0; round < N_ROUNDS; round++) {
        if (!own_round(worker, dir.ino, round) || !shared_round(worker) || !shared_round(worker))
            return NULL;
        if (round % 100 == 50 && !expect(worker, "sync", mapfs_fs_sync(worker->fs), 0))
            return NULL;
    }
    return NULL;
}

static int count_all(void *user, const MapfsDirEntry *entry) {
    uint64_t *n = user;

    *n += entry->cookie > 2;
    return 1;
}

/* Each directory's counts are those of its entries. */
static void check_counts(MapfsFs *fs, uint64_t dir) {
    uint64_t n = 0;

    assert_int_equal(mapfs_fs_readdir(fs, dir, &(MapfsDirScan){0, false, count_all, &n}), 0);
    assert_int_equal(fs_attr(fs, dir).size, n);
}

static void test_threads_do_not_disturb_each_other(void **state) {
    const MapfsStoreOptions options = {.threads = true, .commit_seconds = 1};
    FsFixture fixture;
    Worker workers[N_THREADS];
    pthread_t threads[N_THREADS];
    uint64_t shared;
    MapfsStoreStatus status;

    (void)state; /* the test has its own */
    fs_fixture_open(&fixture, 16384, &options);
    shared = fs_make(fixture.fs, ROOT, "shared", S_IFDIR | 0700);
    for (unsigned i = 0; i < N_THREADS; i++) {
        workers[i] = (Worker){.fs = fixture.fs, .shared = shared, .number = i, .rand = g_rand_new_with_seed(i)};
        assert_int_equal(pthread_create(&threads[i], NULL, worker_main, &workers[i]), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        g_rand_free(workers[i].rand);
    }
    for (unsigned i = 0; i < N_THREADS; i++)
        if (workers[i].failure)
            fail_msg("thread %u: %s gave %d", i, workers[i].failure, workers[i].result);
    check_counts(fixture.fs, ROOT);
    check_counts(fixture.fs, shared);
    fs_fixture_remount(&fixture, false);
    check_counts(fixture.fs, ROOT);
    check_counts(fixture.fs, shared);
    /* Nothing of all that was removed is left over. */
    assert_int_equal(mapfs_fs_reclaim(fixture.fs), 0);
    mapfs_store_status(mapfs_fs_store(fixture.fs), &status);
    assert_true(status.n_inodes <= 2 + N_THREADS + N_SHARED_NAMES);
    fs_fixture_close(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads_do_not_disturb_each_other)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
