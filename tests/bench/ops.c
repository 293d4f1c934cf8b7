/* SPDX-License-Identifier: MIT */

/*
 * The timed loops of the benchmark: plain system calls on a directory, each one timed by itself, so that neither an
 * interpreter nor the start of a process is measured. One loop per call:
 *
 *     ops LOOP DIRECTORY COUNT
 *
 * prints one line of JSON: the number of operations, the total, the median, the 99th percentile and the longest, in
 * nanoseconds. A failing system call ends the program with its name and cause: a number for half the work would lie.
 *
 * Loops over existing files visit them in a scattered order (a fixed permutation): nobody stats ten thousand files in
 * the order of their creation, and a filesystem should not look better than it is because of it.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Larger than any COUNT in use and prime, so i * STEP % count is a permutation for every count. */
#define STEP 1000003ULL
#define BLOCK 4096
#define OVERWRITE_BYTES (16ULL << 20)
#define STREAM_CHUNK (1ULL << 20)
#define STREAM_BYTES (512ULL << 20)
/* A sync beside a streaming writer can take seconds on some filesystems: fewer operations rather than a day. */
#define STREAM_SECONDS 20

struct run {
    const char *dir;
    uint64_t count;
    uint64_t done;
    uint64_t *ns;
    uint64_t stream_bytes;
    uint64_t total_ns;
};

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;

    if (clock_gettime(CLOCK_MONOTONIC, &t) < 0)
        die("clock_gettime");
    return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static uint64_t scatter(const struct run *run, uint64_t i) {
    return i * STEP % run->count;
}

static void name_of(char name[32], char kind, uint64_t i) {
    (void)snprintf(name, 32, "%c%06llu", kind, (unsigned long long)i);
}

static void note(struct run *run, uint64_t start) {
    run->ns[run->done++] = now_ns() - start;
}

/* Directory entries are walked relative to the directory's descriptor: path resolution above it is not the subject. */
static int open_dir(const struct run *run) {
    int fd = open(run->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        die(run->dir);
    return fd;
}

static void loop_create(struct run *run) {
    int dir = open_dir(run);

    for (uint64_t i = 0; i < run->count; i++) {
        char name[32];
        uint64_t start;
        int fd;

        name_of(name, 'f', i);
        start = now_ns();
        fd = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY, 0644);
        if (fd < 0 || close(fd) < 0)
            die("create");
        note(run, start);
    }
}

static void loop_write(struct run *run) {
    static char block[BLOCK];
    int dir = open_dir(run);

    memset(block, 'm', sizeof(block));
    for (uint64_t i = 0; i < run->count; i++) {
        char name[32];
        uint64_t start;
        int fd;

        name_of(name, 'f', i);
        start = now_ns();
        fd = openat(dir, name, O_WRONLY);
        if (fd < 0 || write(fd, block, BLOCK) != BLOCK || close(fd) < 0)
            die("write");
        note(run, start);
    }
}

static void loop_read(struct run *run) {
    static char block[BLOCK];
    int dir = open_dir(run);

    for (uint64_t i = 0; i < run->count; i++) {
        char name[32];
        uint64_t start;
        int fd;

        name_of(name, 'f', scatter(run, i));
        start = now_ns();
        fd = openat(dir, name, O_RDONLY);
        if (fd < 0 || read(fd, block, BLOCK) != BLOCK || close(fd) < 0)
            die("read");
        note(run, start);
        if (block[0] != 'm' || block[BLOCK - 1] != 'm') {
            errno = EIO;
            die("read returned other bytes than were written");
        }
    }
}

static void loop_stat(struct run *run) {
    int dir = open_dir(run);

    for (uint64_t i = 0; i < run->count; i++) {
        struct stat st;
        char name[32];
        uint64_t start;

        name_of(name, 'f', scatter(run, i));
        start = now_ns();
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            die("stat");
        note(run, start);
    }
}

static void loop_rename(struct run *run) {
    int dir = open_dir(run);

    for (uint64_t i = 0; i < run->count; i++) {
        char from[32], to[32];
        uint64_t start;

        name_of(from, 'f', scatter(run, i));
        name_of(to, 'g', scatter(run, i));
        start = now_ns();
        if (renameat(dir, from, dir, to) < 0)
            die("rename");
        note(run, start);
    }
}

static void loop_unlink(struct run *run) {
    int dir = open_dir(run);

    for (uint64_t i = 0; i < run->count; i++) {
        char name[32];
        uint64_t start;

        name_of(name, 'g', scatter(run, i));
        start = now_ns();
        if (unlinkat(dir, name, 0) < 0)
            die("unlink");
        note(run, start);
    }
}

/* One pass over the directory; the time is spread over its entries, so single operations have no times of their own. */
static void directory_pass(struct run *run, int with_stat) {
    uint64_t start = now_ns(), n_entries = 0;
    DIR *stream = opendir(run->dir);
    const struct dirent *entry;

    if (!stream)
        die(run->dir);
    errno = 0;
    while ((entry = readdir(stream))) {
        struct stat st;

        if (entry->d_name[0] == '.')
            continue;
        if (with_stat && fstatat(dirfd(stream), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            die("stat");
        n_entries++;
    }
    if (errno != 0 || closedir(stream) < 0)
        die("readdir");
    if (n_entries != run->count) {
        fprintf(stderr, "readdir: %llu entries instead of %llu\n", (unsigned long long)n_entries,
                (unsigned long long)run->count);
        exit(1);
    }
    run->total_ns = now_ns() - start;
    run->done = n_entries;
    for (uint64_t i = 0; i < n_entries; i++)
        run->ns[i] = run->total_ns / n_entries;
}

static void loop_readdir(struct run *run) {
    directory_pass(run, 0);
}

static void loop_list(struct run *run) {
    directory_pass(run, 1);
}

static void append_and_sync(struct run *run, uint64_t deadline) {
    static char block[BLOCK];
    int dir = open_dir(run), fd;

    memset(block, 'a', sizeof(block));
    fd = openat(dir, "append", O_CREAT | O_EXCL | O_WRONLY | O_APPEND, 0644);
    if (fd < 0 || fsync(fd) < 0)
        die("append");
    for (uint64_t i = 0; i < run->count && now_ns() < deadline; i++) {
        uint64_t start = now_ns();

        if (write(fd, block, BLOCK) != BLOCK || fsync(fd) < 0)
            die("append and fsync");
        note(run, start);
    }
    if (close(fd) < 0 || unlinkat(dir, "append", 0) < 0)
        die("append");
}

static void loop_append_fsync(struct run *run) {
    append_and_sync(run, UINT64_MAX);
}

/* Scattered 4 KiB overwrites of a file that is durable and in memory, each followed by fdatasync, as a database does. */
static void loop_overwrite_fdatasync(struct run *run) {
    static char chunk[STREAM_CHUNK];
    int dir = open_dir(run), fd;

    memset(chunk, 'o', sizeof(chunk));
    fd = openat(dir, "overwrite", O_CREAT | O_EXCL | O_RDWR, 0644);
    if (fd < 0)
        die("overwrite");
    for (uint64_t at = 0; at < OVERWRITE_BYTES; at += STREAM_CHUNK)
        if (pwrite(fd, chunk, STREAM_CHUNK, (off_t)at) != (ssize_t)STREAM_CHUNK)
            die("overwrite");
    if (fsync(fd) < 0)
        die("overwrite");
    for (uint64_t i = 0; i < run->count; i++) {
        uint64_t block = i * STEP % (OVERWRITE_BYTES / BLOCK), start = now_ns();

        if (pwrite(fd, chunk, BLOCK, (off_t)(block * BLOCK)) != BLOCK || fdatasync(fd) < 0)
            die("overwrite and fdatasync");
        note(run, start);
    }
    if (close(fd) < 0 || unlinkat(dir, "overwrite", 0) < 0)
        die("overwrite");
}

struct stream {
    int fd;
    atomic_bool stop;
    _Atomic uint64_t n_bytes;
};

static void *stream_run(void *argument) {
    static char chunk[STREAM_CHUNK];
    struct stream *stream = argument;
    uint64_t at = 0;

    memset(chunk, 's', sizeof(chunk));
    while (!atomic_load(&stream->stop)) {
        if (pwrite(stream->fd, chunk, STREAM_CHUNK, (off_t)at) != (ssize_t)STREAM_CHUNK)
            die("streaming write");
        at = (at + STREAM_CHUNK) % STREAM_BYTES;
        atomic_fetch_add(&stream->n_bytes, STREAM_CHUNK);
    }
    return NULL;
}

static void loop_append_fsync_stream(struct run *run) {
    const struct timespec lead = {.tv_nsec = 500000000};
    struct stream stream = {0};
    int dir = open_dir(run), r;
    uint64_t start, before;
    pthread_t thread;

    stream.fd = openat(dir, "stream", O_CREAT | O_EXCL | O_WRONLY, 0644);
    if (stream.fd < 0)
        die("stream");
    r = pthread_create(&thread, NULL, stream_run, &stream);
    if (r != 0) {
        errno = r;
        die("pthread_create");
    }
    (void)nanosleep(&lead, NULL); /* an early wake-up only makes the head start shorter */
    start = now_ns();
    before = atomic_load(&stream.n_bytes);
    append_and_sync(run, start + STREAM_SECONDS * 1000000000ULL);
    run->stream_bytes = (atomic_load(&stream.n_bytes) - before) * 1000000000ULL / (now_ns() - start);
    atomic_store(&stream.stop, true);
    r = pthread_join(thread, NULL);
    if (r != 0 || close(stream.fd) < 0 || unlinkat(dir, "stream", 0) < 0)
        die("stream");
}

static const struct {
    const char *name;
    void (*run)(struct run *run);
} loops[] = {
    {"create", loop_create},
    {"write", loop_write},
    {"read", loop_read},
    {"stat", loop_stat},
    {"readdir", loop_readdir},
    {"list", loop_list},
    {"rename", loop_rename},
    {"unlink", loop_unlink},
    {"append-fsync", loop_append_fsync},
    {"overwrite-fdatasync", loop_overwrite_fdatasync},
    {"append-fsync-stream", loop_append_fsync_stream},
};

static int compare_ns(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void print_result(struct run *run) {
    uint64_t total = run->total_ns;

    if (total == 0)
        for (uint64_t i = 0; i < run->done; i++)
            total += run->ns[i];
    qsort(run->ns, run->done, sizeof(run->ns[0]), compare_ns);
    printf("{\"n\": %llu, \"total_ns\": %llu, \"p50_ns\": %llu, \"p99_ns\": %llu, \"max_ns\": %llu, "
           "\"stream_bytes_per_s\": %llu}\n",
           (unsigned long long)run->done, (unsigned long long)total, (unsigned long long)run->ns[run->done / 2],
           (unsigned long long)run->ns[run->done * 99 / 100], (unsigned long long)run->ns[run->done - 1],
           (unsigned long long)run->stream_bytes);
}

int main(int argc, char **argv) {
    struct run run = {0};
    char *end = NULL;

    if (argc != 4) {
        fprintf(stderr, "usage: ops LOOP DIRECTORY COUNT\n");
        return 2;
    }
    run.dir = argv[2];
    run.count = strtoull(argv[3], &end, 10);
    if (*end != '\0' || run.count == 0 || run.count >= STEP) {
        fprintf(stderr, "%s: the count must be between 1 and %llu\n", argv[3], STEP - 1);
        return 2;
    }
    run.ns = calloc(run.count, sizeof(run.ns[0]));
    if (!run.ns)
        die("calloc");
    for (size_t i = 0; i < sizeof(loops) / sizeof(loops[0]); i++) {
        if (strcmp(loops[i].name, argv[1]) != 0)
            continue;
        loops[i].run(&run);
        if (run.done == 0) {
            fprintf(stderr, "%s: not one operation finished in time\n", argv[1]);
            return 1;
        }
        print_result(&run);
        return 0;
    }
    fprintf(stderr, "%s: no such loop\n", argv[1]);
    return 2;
}
