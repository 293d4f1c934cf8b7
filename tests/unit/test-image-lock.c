/* SPDX-License-Identifier: MIT */
#include "test-image-files.h"

#include "image/image-private.h"

/* A child that holds an image until it is told to end. */
typedef struct {
    pid_t pid;
    int to_child; /* closing it ends the child */
} Holder;

typedef struct {
    const char *path;
    int end_fd, ready_fd;
    bool finishing;
    unsigned stay_ms;
} HolderOrders;

static void holder_run(const HolderOrders *orders) {
    MapfsImage *image;
    char byte;

    if (files_open_exclusive(orders->path, 0, &image) < 0)
        _exit(1);
    if (orders->finishing)
        mapfs_image_set_finishing(image, true);
    if (write(orders->ready_fd, "x", 1) != 1)
        _exit(1);
    if (orders->stay_ms > 0)
        g_usleep(orders->stay_ms * 1000ul);
    else if (read(orders->end_fd, &byte, 1) != 0)
        _exit(1);
    mapfs_image_close(image);
    _exit(0);
}

static Holder holder_start(const char *path, bool finishing, unsigned stay_ms) {
    int end[2], ready[2];
    char byte;

    assert_int_equal(pipe2(end, O_CLOEXEC), 0);
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)close(end[1]);
        holder_run(&(HolderOrders){path, end[0], ready[1], finishing, stay_ms});
    }
    (void)close(end[0]);
    (void)close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    (void)close(ready[0]);
    return (Holder){pid, end[1]};
}

static void holder_end(Holder holder) {
    int status;

    (void)close(holder.to_child);
    assert_int_equal(waitpid(holder.pid, &status, 0), holder.pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static char *new_image(void) {
    char *path = files_path("/tmp");

    mapfs_image_close(files_create(path, 8));
    return path;
}

static void test_live_writer_is_refused_at_once_and_named(void **state) {
    char *path = new_image();
    Holder holder = holder_start(path, false, 0);
    MapfsImage *image;
    int pid = -1;

    (void)state;
    int64_t start = files_clock_ms();
    assert_int_equal(files_open_exclusive(path, 0, &image), -EBUSY);
    assert_true(files_clock_ms() - start < 2000);
    start = files_clock_ms();
    assert_int_equal(files_open_exclusive(path, 10000, &image), -EBUSY);
    assert_true(files_clock_ms() - start < 8000);
    assert_int_equal(mapfs_image_holder(path, 0, &pid), 1);
    assert_int_equal(pid, holder.pid);
    holder_end(holder);
    assert_int_equal(mapfs_image_holder(path, 0, &pid), 0);
    assert_int_equal(files_open_exclusive(path, 0, &image), 0);
    mapfs_image_close(image);
    files_remove(path);
}

static void test_finishing_writer_is_waited_for(void **state) {
    char *path = new_image();
    Holder holder = holder_start(path, true, 3000);
    MapfsImage *image;

    (void)state;
    assert_int_equal(files_open_exclusive(path, 0, &image), -EBUSY);
    int64_t start = files_clock_ms();
    assert_int_equal(files_open_exclusive(path, 60000, &image), 0);
    assert_true(files_clock_ms() - start >= 400); /* longer than any writer is given */
    mapfs_image_close(image);
    holder_end(holder);
    files_remove(path);
}

static void test_wait_for_a_finishing_writer_ends(void **state) {
    char *path = new_image();
    Holder holder = holder_start(path, true, 0);
    MapfsImage *image;

    (void)state;
    int64_t start = files_clock_ms();
    assert_int_equal(files_open_exclusive(path, 700, &image), -EBUSY);
    assert_true(files_clock_ms() - start >= 700);
    holder_end(holder);
    files_remove(path);
}

static void test_writer_that_is_finishing_no_more_is_live(void **state) {
    char *path = new_image();
    MapfsImage *image, *second;

    (void)state;
    assert_int_equal(files_open_exclusive(path, 0, &image), 0);
    mapfs_image_set_finishing(image, true);
    mapfs_image_set_finishing(image, false);
    int64_t start = files_clock_ms();
    assert_int_equal(files_open_exclusive(path, 10000, &second), -EBUSY);
    assert_true(files_clock_ms() - start < 3000);
    mapfs_image_close(image);
    files_remove(path);
}

static void test_killed_writer_leaves_no_lock(void **state) {
    char *path = new_image();
    Holder holder = holder_start(path, false, 0);
    MapfsImage *image;

    (void)state;
    assert_int_equal(kill(holder.pid, SIGKILL), 0);
    assert_int_equal(files_open_exclusive(path, 10000, &image), 0); /* not reaped yet */
    mapfs_image_close(image);
    (void)close(holder.to_child);
    assert_int_equal(waitpid(holder.pid, NULL, 0), holder.pid);
    files_remove(path);
}

static void test_process_on_its_way_out_is_leaving(void **state) {
    MapfsHolder holder = {.held = true, .pid = getpid()};
    siginfo_t info;
    pid_t pid = fork();

    (void)state;
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(0);
    assert_false(mapfs_holder_is_leaving(&holder));
    holder.pid = 0; /* cannot be told */
    assert_false(mapfs_holder_is_leaving(&holder));
    holder.finishing = true;
    assert_true(mapfs_holder_is_leaving(&holder));
    holder.finishing = false;
    holder.pid = pid;
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    assert_true(mapfs_holder_is_leaving(&holder)); /* a zombie */
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(mapfs_holder_is_leaving(&holder)); /* gone */
}

static void test_lock_outlives_other_descriptors_of_the_file(void **state) {
    char *path = new_image();
    MapfsImage *image, *second;

    (void)state;
    assert_int_equal(files_open_exclusive(path, 0, &image), 0);
    /* A classic fcntl lock of this process would die here. */
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    (void)close(fd);
    assert_int_equal(files_open_exclusive(path, 0, &second), -EBUSY);
    mapfs_image_close(image);
    assert_int_equal(files_open_exclusive(path, 0, &second), 0);
    mapfs_image_close(second);
    files_remove(path);
}

static void test_images_in_one_file_have_locks_of_their_own(void **state) {
    char *path = new_image();
    MapfsImageOpen low = {.exclusive = true, .size_bytes = 4 * BLOCK};
    MapfsImageOpen high = {.exclusive = true, .offset_bytes = 4 * BLOCK};
    MapfsImage *first, *second, *third;
    int pid = -1;

    (void)state;
    assert_int_equal(mapfs_image_open_file(path, &low, &first), 0);
    assert_int_equal(mapfs_image_holder(path, 4 * BLOCK, &pid), 0);
    assert_int_equal(mapfs_image_open_file(path, &high, &second), 0);
    assert_int_equal(mapfs_image_open_file(path, &low, &third), -EBUSY);
    assert_int_equal(mapfs_image_open_file(path, &high, &third), -EBUSY);
    mapfs_image_close(first);
    assert_int_equal(mapfs_image_holder(path, 0, &pid), 0);
    assert_int_equal(mapfs_image_holder(path, 4 * BLOCK, &pid), 1);
    assert_int_equal(pid, getpid());
    mapfs_image_close(second);
    files_remove(path);
}

static void test_image_that_is_held_is_found_between_offsets(void **state) {
    char *path = new_image();
    MapfsImageOpen writer = {.exclusive = true, .offset_bytes = 4 * BLOCK};
    MapfsImageOpen reader = {.read_only = true, .shared = true, .offset_bytes = 6 * BLOCK};
    MapfsImage *first, *second;
    uint64_t offset = 99;

    (void)state;
    assert_int_equal(mapfs_image_holder_between(path, 0, UINT64_MAX & ~(BLOCK - 1), &offset), 0);
    assert_int_equal(mapfs_image_open_file(path, &writer, &first), 0);
    assert_int_equal(mapfs_image_holder_between(path, 0, 4 * BLOCK, &offset), 0);
    assert_int_equal(mapfs_image_holder_between(path, 5 * BLOCK, 8 * BLOCK, &offset), 0);
    assert_int_equal(mapfs_image_holder_between(path, 5 * BLOCK, 5 * BLOCK, &offset), 0);
    assert_int_equal(offset, 99);
    assert_int_equal(mapfs_image_holder_between(path, 0, UINT64_MAX & ~(BLOCK - 1), &offset), 1);
    assert_int_equal(offset, 4 * BLOCK);
    offset = 99;
    assert_int_equal(mapfs_image_holder_between(path, 4 * BLOCK, 5 * BLOCK, &offset), 1);
    assert_int_equal(offset, 4 * BLOCK);
    assert_int_equal(mapfs_image_open_file(path, &reader, &second), 0);
    assert_int_equal(mapfs_image_holder_between(path, 5 * BLOCK, 8 * BLOCK, &offset), 1);
    assert_int_equal(offset, 6 * BLOCK);
    mapfs_image_close(first);
    mapfs_image_close(second);
    assert_int_equal(mapfs_image_holder_between(path, 0, 8 * BLOCK, &offset), 0);
    files_remove(path);
}

static void test_reader_passes_beside_a_writer(void **state) {
    char *path = new_image();
    MapfsImageOpen how = {.read_only = true};
    MapfsImage *writer, *reader;

    (void)state;
    assert_int_equal(files_open_exclusive(path, 0, &writer), 0);
    assert_int_equal(mapfs_image_open_file(path, &how, &reader), 0);
    *(uint8_t *)mapfs_image_writable(writer, run_of(1, 1)) = 99;
    assert_int_equal(*(const uint8_t *)mapfs_image_read(reader, run_of(1, 1)), 99);
    mapfs_image_close(writer);
    mapfs_image_close(reader);
    files_remove(path);
}

static void test_holder_of_another_pid_namespace_has_no_pid(void **state) {
    char *path;
    int pid = -1, status;

    (void)state;
    /* In a child, since the namespace is that of all children to come. */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWPID) < 0)
            _exit(77);
        path = new_image();
        Holder holder = holder_start(path, false, 0);
        int r = mapfs_image_holder(path, 0, &pid);
        (void)close(holder.to_child);
        (void)waitpid(holder.pid, NULL, 0);
        files_remove(path);
        _exit(r == 1 && pid == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip(); /* needs root */
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_readers_are_told_from_a_writer(void **state) {
    char *path = new_image();
    MapfsImageOpen writer = {.exclusive = true};
    MapfsImageOpen reader = {.read_only = true, .shared = true};
    MapfsImage *image;
    int pid;

    (void)state;
    assert_int_equal(mapfs_image_is_written(path, 0), 0);
    assert_int_equal(mapfs_image_open_file(path, &reader, &image), 0);
    assert_int_equal(mapfs_image_holder(path, 0, &pid), 1);
    assert_int_equal(mapfs_image_is_written(path, 0), 0);
    mapfs_image_close(image);
    assert_int_equal(mapfs_image_open_file(path, &writer, &image), 0);
    assert_int_equal(mapfs_image_is_written(path, 0), 1);
    assert_int_equal(mapfs_image_is_written(path, 4 * BLOCK), 0);
    mapfs_image_close(image);
    assert_int_equal(mapfs_image_is_written(path, 0), 0);
    files_remove(path);
}

static void test_holder_of_nothing_is_an_error(void **state) {
    int pid;

    (void)state;
    assert_int_equal(mapfs_image_holder("/tmp/mapfs-test-there-is-no-such-file", 0, &pid), -ENOENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_live_writer_is_refused_at_once_and_named),
        cmocka_unit_test(test_finishing_writer_is_waited_for),
        cmocka_unit_test(test_wait_for_a_finishing_writer_ends),
        cmocka_unit_test(test_writer_that_is_finishing_no_more_is_live),
        cmocka_unit_test(test_killed_writer_leaves_no_lock),
        cmocka_unit_test(test_process_on_its_way_out_is_leaving),
        cmocka_unit_test(test_lock_outlives_other_descriptors_of_the_file),
        cmocka_unit_test(test_images_in_one_file_have_locks_of_their_own),
        cmocka_unit_test(test_image_that_is_held_is_found_between_offsets),
        cmocka_unit_test(test_reader_passes_beside_a_writer),
        cmocka_unit_test(test_holder_of_another_pid_namespace_has_no_pid),
        cmocka_unit_test(test_readers_are_told_from_a_writer),
        cmocka_unit_test(test_holder_of_nothing_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
