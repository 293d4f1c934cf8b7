/* SPDX-License-Identifier: MIT */

/* Images whose bytes change while they are in use, as those of a failing disk do, or of a file that somebody else writes: a process of its own
 * stores random bytes into the nodes, bitmaps and superblocks of a shared mapping while this one checks, walks, changes and repairs. What comes of
 * it may be any error; it must come to an end, without an access outside the image.
 *
 *     underfoot [--rounds N] [--seed S] FILE|DIRECTORY...
 *
 * Ends with the line "N rounds, 0 failures"; a failure aborts, and the last file named is the one. */

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <glib.h>

#include "check/check.h"
#include "mutate.h"
#include "repair/repair.h"
#include "sample.h"
#include "target.h"

#define HANG_SECONDS 300u
#define CHANGES_MIN 2000u

typedef struct {
    uint64_t n_rounds, seed;
    GPtrArray *paths;
} Options;

/* --- the other process --- */

static void spin(uint64_t n) {
    for (uint64_t i = 0; i < n; i++)
        __asm__ volatile("" ::: "memory");
}

/* Changes a few bytes of a block that an input lists: of its metadata, for the most part. Soon after, most of the time, they are again what they
 * were: what is checked and what is used differ for a moment, and the image as a whole stays of use. */
static void scribble_once(const FuzzInput *input, const FuzzImage *image, FuzzRandom *random) {
    const FuzzBlock *block = &input->blocks[fuzz_random_below(random, input->n_used)];
    uint64_t at = fuzz_random_below(random, MAPFS_BLOCK_SIZE / 4) * 4;
    uint8_t *bytes, before[4];

    /* Without a superblock there is nothing to use. */
    if (block->number >= image->image->n_blocks ||
        (block->number < MAPFS_SUPERBLOCK_SLOTS && fuzz_random_below(random, 64) > 0))
        return;
    bytes = image->image->alias + ((uint64_t)block->number << MAPFS_BLOCK_SHIFT);
    if (fuzz_random_below(random, 4) == 0) /* the header: counts, places */
        at %= 64;
    memcpy(before, bytes + at, sizeof(before));
    for (uint64_t n = 1 + fuzz_random_below(random, 4); n > 0; n--)
        bytes[at + fuzz_random_below(random, 4)] = (uint8_t)fuzz_random_next(random);
    spin(fuzz_random_below(random, 20000));
    if (fuzz_random_below(random, 64) > 0)
        memcpy(bytes + at, before, sizeof(before));
    spin(fuzz_random_below(random, 20000));
}

static pid_t scribbler_start(const FuzzInput *input, const FuzzImage *image, uint64_t seed, uint64_t *n_changes) {
    FuzzRandom random = {.state = (seed * UINT64_C(0x9e3779b97f4a7c15)) | 1};
    pid_t parent = getpid(), pid = fork();

    if (pid != 0)
        return pid;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(0);
    for (;;) {
        scribble_once(input, image, &random);
        (void)__atomic_add_fetch(n_changes, 1, __ATOMIC_RELAXED);
    }
}

/* --- this process --- */

static int list_entry(void *user, const MapfsDirEntry *entry) {
    uint64_t *last = user;

    if (entry->cookie <= *last)
        fuzz_fail("readdir goes back");
    *last = entry->cookie;
    return 1;
}

/* fuzz_walk() would find fault with names that have changed. */
static void walk(MapfsFs *fs) {
    WalkResult result;
    uint64_t last = 0;

    sample_walk(fs, &result);
    (void)!mapfs_fs_readdir(fs, MAPFS_INO_ROOT, &(MapfsDirScan){0, true, list_entry, &last});
}

static void use_for_reading(FuzzImage *image) {
    const MapfsStoreOptions options = {.read_only = true};
    const MapfsCheckOptions check = {0};
    MapfsCheckReport report;
    MapfsFs *fs;

    (void)!mapfs_check_run(image->image, &check, &report);
    if (mapfs_fs_open(image->image, &options, &fs) < 0)
        return;
    walk(fs);
    mapfs_fs_abandon(fs);
}

static uint64_t n_opened; /* for writing: how often there was something to lose */

static void use_for_writing(FuzzImage *image, const FuzzInput *input) {
    const MapfsStoreOptions options = {.discard = true};
    MapfsFs *fs;

    if (mapfs_fs_open(image->image, &options, &fs) < 0)
        return;
    n_opened++;
    (void)!mapfs_fs_reclaim(fs);
    if (input->script_len > 1)
        fuzz_operations_run(fs, input->script + 1, input->script_len - 1);
    (void)!mapfs_fs_sync(fs);
    walk(fs);
    (void)!mapfs_fs_close(fs);
}

static void use_for_repair(FuzzImage *image) {
    const MapfsRepairOptions options = {0};
    MapfsRepairReport report;

    (void)!mapfs_repair_run(image->image, &options, &report);
}

/* A script of its own each time. */
static void script_make(FuzzInput *input, FuzzRandom *random) {
    input->script_len = 1 + 4 * 24;
    for (size_t i = 0; i < input->script_len; i++)
        input->script[i] = (uint8_t)fuzz_random_next(random);
}

/* Until the other process has changed as much as that. */
static void round_run(FuzzInput *input, uint64_t seed, uint64_t *n_changes) {
    FuzzRandom random = {.state = (seed * UINT64_C(0x2545f4914f6cdd1d)) | 1};
    FuzzImage image;
    pid_t pid;

    if (!fuzz_image_open(input, &image))
        exit(2);
    script_make(input, &random);
    __atomic_store_n(n_changes, 0, __ATOMIC_RELAXED);
    pid = scribbler_start(input, &image, seed, n_changes);
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    while (__atomic_load_n(n_changes, __ATOMIC_RELAXED) < CHANGES_MIN) {
        use_for_reading(&image);
        use_for_writing(&image, input);
        use_for_repair(&image);
        image.image->error = 0; /* of the mount before */
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0); /* it ends in no other way */
    fuzz_image_close(&image);
}

static void file_run(FuzzInput *input, const char *path, const Options *options, uint64_t *n_changes) {
    g_autofree char *bytes = NULL;
    g_autoptr(GError) error = NULL;
    gsize len;

    if (!g_file_get_contents(path, &bytes, &len, &error) || !fuzz_input_unpack(input, (const uint8_t *)bytes, len)) {
        (void)fprintf(stderr, "%s: %s\n", path, error ? error->message : "this is no input");
        exit(2);
    }
    (void)printf("%s\n", path);
    (void)fflush(stdout);
    for (uint64_t i = 0; i < options->n_rounds && input->n_used > 0; i++) {
        (void)alarm(HANG_SECONDS);
        round_run(input, options->seed + i, n_changes);
    }
}

static void path_add(GPtrArray *paths, const char *path) {
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    if (!dir) {
        g_ptr_array_add(paths, g_strdup(path));
        return;
    }
    while ((name = g_dir_read_name(dir)))
        g_ptr_array_add(paths, g_build_filename(path, name, NULL));
}

static Options options_parse(int argc, char **argv) {
    static const struct option options[] = {
        {"rounds", required_argument, NULL, 'r'}, {"seed", required_argument, NULL, 's'}, {0}};
    Options result = {.n_rounds = 3, .seed = 1, .paths = g_ptr_array_new_with_free_func(g_free)};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == '?')
            exit(2);
        if (option == 'r')
            result.n_rounds = strtoull(optarg, NULL, 0);
        else
            result.seed = strtoull(optarg, NULL, 0);
    }
    for (int i = optind; i < argc; i++)
        path_add(result.paths, argv[i]);
    return result;
}

int main(int argc, char **argv) {
    Options options = options_parse(argc, argv);
    FuzzInput *input = fuzz_input_new();
    guint n_files = options.paths->len;
    uint64_t *n_changes = mmap(NULL, sizeof(*n_changes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (n_changes == MAP_FAILED) {
        perror("mmap");
        return 2;
    }

    for (guint i = 0; i < n_files; i++)
        file_run(input, g_ptr_array_index(options.paths, i), &options, n_changes);
    fuzz_input_free(input);
    g_ptr_array_unref(options.paths);
    (void)printf("opened %lu times for writing\n", (unsigned long)n_opened);
    (void)printf("%lu rounds, 0 failures\n", (unsigned long)(n_files * options.n_rounds));
    return n_files > 0 ? 0 : 2;
}
