/* SPDX-License-Identifier: MIT */
#include "test-image-files.h"

#include <pthread.h>
#include <sys/mman.h>

/* cmocka puts a handler of its own in place at the start of each test, so each test puts ours back. */
static struct sigaction handler;
static bool handler_known;

static void handler_begin(void) {
    if (!handler_known) {
        (void)signal(SIGBUS, SIG_DFL); /* what the installation finds */
        assert_int_equal(mapfs_sigbus_install(), 0);
        assert_int_equal(sigaction(SIGBUS, NULL, &handler), 0);
        handler_known = true;
    }
    assert_int_equal(sigaction(SIGBUS, &handler, NULL), 0);
}

/* A file image of n_blocks that somebody else cuts to `kept` blocks, all of it filled with 0xaa before. */
static MapfsImage *cut_image(const char *path, uint64_t n_blocks, uint64_t kept) {
    MapfsImage *image = files_create(path, n_blocks);

    memset(mapfs_image_writable(image, run_of(0, n_blocks)), 0xaa, n_blocks * BLOCK);
    assert_int_equal(truncate(path, (off_t)(kept * BLOCK)), 0);
    return image;
}

static uint8_t load(const MapfsImage *image, uint64_t block) {
    return *((const volatile uint8_t *)mapfs_image_read(image, run_of(block, 1)) + 100);
}

static void store(MapfsImage *image, uint64_t block, uint8_t value) {
    *((volatile uint8_t *)mapfs_image_writable(image, run_of(block, 1)) + 100) = value;
}

typedef struct {
    MapfsImage *image;
    uint64_t block;
    uint8_t value;
    bool flag_before, flag_after, flag_again;
} Visit;

static void *visit_run(void *argument) {
    Visit *visit = argument;

    visit->flag_before = mapfs_sigbus_taken();
    visit->value = load(visit->image, visit->block);
    visit->flag_after = mapfs_sigbus_taken();
    visit->flag_again = mapfs_sigbus_taken();
    return NULL;
}

static void test_load_of_a_lost_page_gives_zeros_and_flags_its_thread(void **state) {
    char *path = files_path("/tmp");
    MapfsImage *image = cut_image(path, 16, 8);
    Visit visit = {.image = image, .block = 10, .value = 1};
    pthread_t thread;

    (void)state;
    handler_begin();
    assert_int_equal(mapfs_image_error(image), 0);
    assert_false(mapfs_image_lost(image, run_of(0, 16)));
    assert_int_equal(pthread_create(&thread, NULL, visit_run, &visit), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(visit.value, 0);
    assert_false(visit.flag_before);
    assert_true(visit.flag_after);
    assert_false(visit.flag_again);
    assert_false(mapfs_sigbus_taken()); /* this thread met nothing */

    assert_int_equal(mapfs_image_error(image), -EIO);
    assert_true(mapfs_image_lost(image, run_of(10, 1)));
    assert_true(mapfs_image_lost(image, run_of(8, 3)));
    assert_false(mapfs_image_lost(image, run_of(0, 10)));
    assert_false(mapfs_image_lost(image, run_of(11, 5)));
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, &(MapfsRun){{0}, 1}, 1), -EIO);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_META, &(MapfsRun){{0}, 1}, 1), -EIO);
    assert_int_equal(load(image, 3), 0xaa); /* the rest can be read */
    assert_false(mapfs_sigbus_taken());
    mapfs_image_close(image);
    files_remove(path);
}

static void test_store_into_a_lost_page_runs_on(void **state) {
    char *path = files_path("/tmp");
    MapfsImage *image = cut_image(path, 16, 8);

    (void)state;
    handler_begin();
    store(image, 12, 5);
    assert_true(mapfs_sigbus_taken());
    store(image, 12, 6); /* no second fault */
    assert_false(mapfs_sigbus_taken());
    assert_true(mapfs_image_lost(image, run_of(12, 1)));
    assert_int_equal(mapfs_image_error(image), -EIO);
    mapfs_image_close(image);
    files_remove(path);
}

static void test_many_lost_pages_are_the_whole_image(void **state) {
    char *path = files_path("/tmp");
    MapfsImage *image = cut_image(path, 4096, 1);

    (void)state;
    handler_begin();
    for (uint64_t i = 4095; i > 0; i--)
        assert_int_equal(load(image, i), 0);
    assert_true(mapfs_sigbus_taken());
    assert_true(mapfs_image_lost(image, run_of(0, 1)));
    for (uint64_t i = 1; i < 4096; i++)
        store(image, i, 1);
    assert_true(mapfs_sigbus_taken());
    assert_int_equal(mapfs_image_error(image), -EIO);
    mapfs_image_close(image);
    files_remove(path);
}

static void *visit_many(void *argument) {
    Visit *visit = argument;

    for (uint64_t i = 0; i < 200; i++)
        visit->value |= load(visit->image, 8 + (visit->block + i * 7) % 200);
    visit->flag_after = mapfs_sigbus_taken();
    return NULL;
}

static void test_threads_meet_lost_pages_together(void **state) {
    char *path = files_path("/tmp");
    MapfsImage *image = cut_image(path, 208, 8);
    pthread_t threads[4];
    Visit visits[4];

    (void)state;
    handler_begin();
    for (unsigned i = 0; i < 4; i++) {
        visits[i] = (Visit){.image = image, .block = i * 50};
        assert_int_equal(pthread_create(&threads[i], NULL, visit_many, &visits[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(visits[i].value, 0);
    }
    assert_true(visits[0].flag_after || visits[1].flag_after || visits[2].flag_after || visits[3].flag_after);
    assert_true(mapfs_image_lost(image, run_of(8, 1)));
    mapfs_image_close(image);
    files_remove(path);
}

static void test_full_host_under_a_hole_is_an_error_not_a_death(void **state) {
    char *directory = files_mount_small("256k");
    MapfsImage *image;

    (void)state;
    if (!directory)
        skip(); /* needs to mount a small tmpfs */
    handler_begin();
    g_autofree char *path = g_build_filename(directory, "image", NULL);
    image = files_create(path, 256);
    for (uint64_t i = 0; i < 256; i++)
        store(image, i, 1);
    assert_true(mapfs_sigbus_taken());
    assert_int_equal(mapfs_image_error(image), -EIO);
    assert_int_equal(mapfs_image_sync(image, MAPFS_SYNC_DATA, &(MapfsRun){{0}, 1}, 1), -EIO);
    mapfs_image_close(image);
    files_unmount(directory);
}

static volatile uint8_t *foreign_lost_page(void) {
    g_autofree char *path = g_strdup("/tmp/mapfs-test-XXXXXX");
    int fd = g_mkstemp(path);
    void *page;

    if (fd < 0 || unlink(path) < 0)
        _exit(1);
    page = mmap(NULL, BLOCK, PROT_READ, MAP_SHARED, fd, 0); /* of an empty file */
    if (page == MAP_FAILED)
        _exit(1);
    return page;
}

static void fault_elsewhere(void *unused) {
    (void)unused;
    if (mapfs_sigbus_install() < 0)
        _exit(0);
    (void)foreign_lost_page()[0];
}

static void send_to_self(void *unused) {
    (void)unused;
    if (mapfs_sigbus_install() < 0)
        _exit(0);
    (void)raise(SIGBUS);
}

static void other_handler(int signal_number) {
    (void)signal_number;
    _exit(42);
}

static void test_other_faults_go_where_they_went_before(void **state) {
    int status;

    (void)state;
    files_check_dies(SIGBUS, fault_elsewhere, NULL);
    files_check_dies(SIGBUS, send_to_self, NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)signal(SIGBUS, other_handler);
        fault_elsewhere(NULL);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

static void fault_elsewhere_with_handler(void *unused) {
    (void)unused;
    if (sigaction(SIGBUS, &handler, NULL) < 0)
        _exit(0);
    (void)foreign_lost_page()[0];
}

static void test_second_install_does_nothing(void **state) {
    (void)state;
    handler_begin();
    assert_int_equal(mapfs_sigbus_install(), 0);
    /* Had it noted itself as the handler before it, a foreign fault would go round for ever. */
    files_check_dies(SIGBUS, fault_elsewhere_with_handler, NULL);
}

static void test_images_come_and_go(void **state) {
    MapfsImage *images[100];
    unsigned n = 0;
    int r = 0;

    (void)state;
    for (int i = 0; i < 300; i++) {
        assert_int_equal(mapfs_image_open_anonymous(1, &images[0]), 0);
        mapfs_image_close(images[0]);
    }
    while (n < 100 && (r = mapfs_image_open_anonymous(1, &images[n])) == 0)
        n++;
    assert_int_equal(r, -EMFILE);
    assert_true(n >= 32);
    for (unsigned i = 0; i < n; i++)
        mapfs_image_close(images[i]);
    assert_int_equal(mapfs_image_open_anonymous(1, &images[0]), 0);
    assert_false(mapfs_image_lost(images[0], run_of(0, 1)));
    mapfs_image_close(images[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_faults_go_where_they_went_before), /* first: asks what a first installation finds */
        cmocka_unit_test(test_load_of_a_lost_page_gives_zeros_and_flags_its_thread),
        cmocka_unit_test(test_store_into_a_lost_page_runs_on),
        cmocka_unit_test(test_many_lost_pages_are_the_whole_image),
        cmocka_unit_test(test_threads_meet_lost_pages_together),
        cmocka_unit_test(test_full_host_under_a_hole_is_an_error_not_a_death),
        cmocka_unit_test(test_second_install_does_nothing),
        cmocka_unit_test(test_images_come_and_go),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
