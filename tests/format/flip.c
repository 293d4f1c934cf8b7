/* SPDX-License-Identifier: MIT */

/* Damaged images: takes valid ones with content, changes random bytes anywhere (half of the time with the checksums made
 * right again, so that deeper layers are reached), then checks, opens, walks, changes and closes each. Nothing may crash or hang; and
 * where the checker finds nothing, the walk finds nothing either.
 *
 *     flip [--images N] [--seed S] [--first I]
 *
 * The work is done in child processes, so that a crash costs one image; its number is printed, and --first I --images 1 with the same seed
 * repeats it. Ends with the line "N images, F failures". */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "check/check.h"
#include "damage.h"
#include "format/superblock.h"
#include "sample.h"

#define BASES 8u
#define IMAGE_BLOCKS 512u
#define CHILD_IMAGES 500u
#define HANG_SECONDS 60u
#define FAILURES_MAX 20u /* more say nothing new */
#define EXIT_INCONSISTENT 3

typedef struct {
    uint64_t n_images, seed, first;
} FlipOptions;

/* Where children tell how far they are; shared. */
typedef struct {
    uint64_t image; /* at work now */
    uint64_t n_clean, n_opened, n_walked;
} FlipProgress;

typedef struct {
    uint8_t *bases[BASES];
    MapfsImage *image;
    FlipProgress *progress;
} Flip;

static void damage(MapfsImage *image, Random *random) {
    const struct mapfs_disk_superblock *superblock = (const void *)damage_block(image, 0);
    uint64_t checksum_seed = mapfs_le64_load(superblock->checksum_seed);
    uint64_t n = 1 + random_below(random, 6);

    if (random_below(random, 16) == 0)
        damage_by_copy(image, random, checksum_seed);
    for (uint64_t i = 0; i < n; i++) {
        if (random_below(random, 2))
            damage_sealed(image, random, checksum_seed);
        else
            damage_poke(damage_block(image, random_below(random, 3) ? damage_pick_metadata(image, random)
                                                                    : random_below(random, image->n_blocks)),
                        MAPFS_BLOCK_SIZE, random);
    }
}

/* What was clean before must be clean after changes and a checkpoint. */
static bool is_clean_now(Flip *flip) {
    const MapfsCheckOptions options = {0};
    MapfsCheckReport report;

    if (mapfs_check_run(flip->image, &options, &report) == 0 && report.n_problems == 0)
        return true;
    printf("image %" PRIu64 ": clean before the changes, not after them: %s\n", flip->progress->image, report.first);
    return false;
}

/* Changes the opened filesystem and closes it; true unless a clean image is not clean any more. */
static bool change(Flip *flip, MapfsFs *fs, Random *random, bool is_clean) {
    int r;

    sample_change(fs, random, 20);
    r = mapfs_fs_sync(fs);
    sample_walk(fs, &(WalkResult){0});
    if (random_below(random, 2))
        (void)!mapfs_fs_close(fs);
    else
        mapfs_fs_abandon(fs);
    if (is_clean && r < 0)
        printf("image %" PRIu64 ": the checker finds nothing, but a sync fails: %s\n", flip->progress->image,
               strerror(-r));
    return !is_clean || (r == 0 && is_clean_now(flip));
}

/* Opens, walks, changes; true unless that met damage which the checker did not. */
static bool use(Flip *flip, Random *random, bool is_clean) {
    const MapfsStoreOptions options = {.read_only = random_below(random, 2)};
    WalkResult walked;
    bool is_good;
    MapfsFs *fs;
    int r;

    r = mapfs_fs_open(flip->image, &options, &fs);
    if (r < 0) {
        if (is_clean)
            printf("image %" PRIu64 ": the checker finds nothing, but it does not open: %s (%s)\n",
                   flip->progress->image, strerror(-r), mapfs_damage_last());
        return !is_clean;
    }
    flip->progress->n_opened++;
    sample_walk(fs, &walked);
    flip->progress->n_walked += walked.n_inodes;
    is_good = !is_clean || walked.error == 0;
    if (!is_good)
        printf("image %" PRIu64 ": the checker finds nothing, the walk meets: %s\n", flip->progress->image,
               strerror(-walked.error));
    if (!options.read_only)
        return change(flip, fs, random, is_clean) && is_good;
    (void)!mapfs_fs_close(fs);
    return is_good;
}

static bool one_image(Flip *flip, uint64_t seed) {
    Random random = {.state = (seed * UINT64_C(0x9e3779b97f4a7c15)) ^ (flip->progress->image << 20 | 1)};
    const MapfsCheckOptions options = {0};
    MapfsCheckReport report;
    bool is_clean;

    for (unsigned i = 0; i < 8; i++)
        (void)random_next(&random);
    flip->image->n_blocks = IMAGE_BLOCKS;
    memcpy(damage_block(flip->image, 0), flip->bases[random_below(&random, BASES)],
           (size_t)IMAGE_BLOCKS * MAPFS_BLOCK_SIZE);
    flip->image->error = 0; /* of the image before */
    damage(flip->image, &random);
    if (random_below(&random, 32) == 0) /* a file cut short */
        flip->image->n_blocks = random_below(&random, IMAGE_BLOCKS);
    if (mapfs_check_run(flip->image, &options, &report) < 0) {
        printf("image %" PRIu64 ": the check broke off\n", flip->progress->image);
        return false;
    }
    is_clean = report.n_problems == 0;
    flip->progress->n_clean += is_clean;
    return use(flip, &random, is_clean);
}

static void child_run(Flip *flip, const FlipOptions *options, uint64_t end) {
    bool is_good = true;

    /* Made here: mappings of images are not inherited. */
    if (mapfs_image_open_anonymous(IMAGE_BLOCKS, &flip->image) < 0)
        _exit(2);
    for (; flip->progress->image < end; flip->progress->image++) {
        (void)alarm(HANG_SECONDS);
        if (one_image(flip, options->seed))
            continue;
        is_good = false;
        break;
    }
    (void)fflush(stdout);
    _exit(is_good ? 0 : EXIT_INCONSISTENT);
}

/* Runs images up to `end` in a child; returns whether one of them failed (the one at progress->image). */
static bool child_failed(Flip *flip, const FlipOptions *options, uint64_t end) {
    int status;
    pid_t pid;

    (void)fflush(stdout);
    pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    if (pid == 0)
        child_run(flip, options, end);
    if (waitpid(pid, &status, 0) != pid) {
        perror("waitpid");
        exit(2);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    if (WIFSIGNALED(status))
        printf("image %" PRIu64 ": %s\n", flip->progress->image,
               WTERMSIG(status) == SIGALRM ? "hangs" : strsignal(WTERMSIG(status)));
    else
        printf("image %" PRIu64 ": exit status %d\n", flip->progress->image, WEXITSTATUS(status));
    printf("  again: --seed %" PRIu64 " --first %" PRIu64 " --images 1\n", options->seed, flip->progress->image);
    return true;
}

/* Makes the valid images; they must be clean, or what follows would show nothing. */
static void bases_make(Flip *flip, uint64_t seed) {
    Random random = {.state = seed * 2 + 1};
    const MapfsCheckOptions options = {0};
    size_t len = (size_t)IMAGE_BLOCKS * MAPFS_BLOCK_SIZE;

    for (unsigned i = 0; i < BASES; i++) {
        MapfsCheckReport report;
        MapfsImage *image;

        if (mapfs_image_open_anonymous(IMAGE_BLOCKS, &image) < 0)
            exit(2);
        sample_fill(image, &random);
        if (mapfs_check_run(image, &options, &report) < 0 || report.n_problems > 0) {
            (void)fprintf(stderr, "image %u as made by mapfs is not clean: %s\n", i, report.first);
            exit(2);
        }
        flip->bases[i] = malloc(len);
        if (!flip->bases[i])
            exit(2);
        memcpy(flip->bases[i], image->base, len);
        mapfs_image_close(image);
    }
}

static FlipOptions options_parse(int argc, char **argv) {
    static const struct option options[] = {{"images", required_argument, NULL, 'n'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"first", required_argument, NULL, 'f'},
                                            {0}};
    FlipOptions result = {.n_images = 10000, .seed = 1};
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint64_t number;

        if (option == '?')
            exit(2);
        number = strtoull(optarg, NULL, 0);
        if (option == 'n')
            result.n_images = number;
        else if (option == 's')
            result.seed = number;
        else
            result.first = number;
    }
    return result;
}

int main(int argc, char **argv) {
    FlipOptions options = options_parse(argc, argv);
    uint64_t end = options.first + options.n_images, n_failures = 0;
    Flip flip = {0};

    flip.progress = mmap(NULL, sizeof(*flip.progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (flip.progress == MAP_FAILED) {
        perror("mmap");
        return 2;
    }
    printf("seed %" PRIu64 "\n", options.seed);
    bases_make(&flip, options.seed);
    flip.progress->image = options.first;
    while (flip.progress->image < end && n_failures < FAILURES_MAX) {
        if (child_failed(&flip, &options, MAPFS_MIN(flip.progress->image + CHILD_IMAGES, end))) {
            n_failures++;
            flip.progress->image++;
        }
    }
    for (unsigned i = 0; i < BASES; i++)
        free(flip.bases[i]);
    printf("%" PRIu64 " clean to the checker, %" PRIu64 " opened, %" PRIu64 " inodes walked\n", flip.progress->n_clean,
           flip.progress->n_opened, flip.progress->n_walked);
    printf("%" PRIu64 " images, %" PRIu64 " failures\n", flip.progress->image - options.first, n_failures);
    return n_failures > 0;
}
