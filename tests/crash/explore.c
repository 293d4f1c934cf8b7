/* SPDX-License-Identifier: MIT */

/* The crash explorer: lives many small worlds, each given by its seed, and verifies the disks that power cuts leave in them. */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mutant.h"
#include "world.h"

#define STATES_PER_WORLD 1000u
#define JOBS_MAX 64u
/* Long enough for a world under a sanitizer on a busy machine; a hang is a failure too. */
#define WORLD_SECONDS_MAX 600u
#define PROGRESS_STATES 10000u

typedef struct {
    uint64_t n_states, seed, first_state, world, n_jobs;
    bool one_world, until_failure;
    WorldOptions world_options;
} Options;

/* What a process says of a world, when it begins with it and when it is done. */
typedef struct {
    uint64_t job, seed, n_states;
    bool done, failed;
} Result;

typedef struct {
    int work[2];    /* seeds of worlds and their numbers of states, to the processes */
    int results[2]; /* back */
    pid_t pids[JOBS_MAX];
    uint64_t seeds[JOBS_MAX];   /* of the world that each is in */
    uint64_t next_seed, n_left; /* states not yet given out */
    uint64_t n_states, n_failures;
} Pool;

typedef struct {
    uint64_t seed, n_states;
} Work;

static const char usage[] = "usage: explore [--states N] [--seed S] [--blocks N] [--first-state K] [--jobs N] "
                            "[--verbose] [--keep FILE] [--world W]\n"
                            "               [--until-failure] [--mutant NAME]\n"
                            "  --states N       disks to verify (default 10000), a thousand in each world\n"
                            "  --seed S         seed of the first world; the next has S + 1\n"
                            "  --blocks N       size of the images (default: by the seed)\n"
                            "  --first-state K  leave out the worlds of the first K disks\n"
                            "  --jobs N         processes (default 2)\n"
                            "  --verbose        say each operation\n"
                            "  --keep FILE      write the failing disk there\n"
                            "  --world W        live the world of seed W alone, as a failure says\n"
                            "  --until-failure  begin no more worlds after a failure\n"
                            "  --mutant NAME    with that fault of a build with -Dmutants=true\n";

static bool parse_number(const char *text, uint64_t *ret_number) {
    char *end;

    errno = 0;
    *ret_number = strtoull(text, &end, 0);
    return errno == 0 && end != text && *end == '\0' && *text != '-';
}

static bool option_number(Options *options, int option, const char *text) {
    switch (option) {
    case 'n':
        return parse_number(text, &options->n_states);
    case 's':
        return parse_number(text, &options->seed);
    case 'b':
        return parse_number(text, &options->world_options.n_blocks);
    case 'f':
        return parse_number(text, &options->first_state);
    case 'j':
        return parse_number(text, &options->n_jobs) && options->n_jobs > 0 && options->n_jobs <= JOBS_MAX;
    case 'w':
        options->one_world = true;
        return parse_number(text, &options->world);
    default:
        return false;
    }
}

static bool choose_mutant(const char *name) {
#ifdef MAPFS_WITH_MUTANTS
    mapfs_mutant_choose(name);
    return true;
#else
    fprintf(stderr, "explore: this build has no faults on purpose: %s\n", name);
    return false;
#endif
}

static bool parse_options(int argc, char **argv, Options *options) {
    static const struct option table[] = {
        {"states", required_argument, NULL, 'n'},
        {"seed", required_argument, NULL, 's'},
        {"blocks", required_argument, NULL, 'b'},
        {"first-state", required_argument, NULL, 'f'},
        {"jobs", required_argument, NULL, 'j'},
        {"world", required_argument, NULL, 'w'},
        {"verbose", no_argument, NULL, 'v'},
        {"until-failure", no_argument, NULL, 'u'},
        {"keep", required_argument, NULL, 'k'},
        {"mutant", required_argument, NULL, 'm'},
        {NULL, 0, NULL, 0},
    };
    int option;

    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option == 'v')
            options->world_options.verbose = true;
        else if (option == 'u')
            options->until_failure = true;
        else if (option == 'k')
            options->world_options.keep = optarg;
        else if (option == 'm') {
            if (!choose_mutant(optarg))
                return false;
        } else if (!option_number(options, option, optarg))
            return false;
    }
    return optind == argc;
}

/* --- processes --- */

/* Pieces this small go through a pipe whole. */
static void job_say(const Pool *pool, const Result *result) {
    if (write(pool->results[1], result, sizeof(*result)) != (ssize_t)sizeof(*result))
        _exit(1);
}

static void job_run(const Pool *pool, const Options *options, uint64_t job) {
    Work work;

    while (read(pool->work[0], &work, sizeof(work)) == (ssize_t)sizeof(work)) {
        WorldOptions world_options = options->world_options;
        Result result = {.job = job, .seed = work.seed};

        job_say(pool, &result);
        alarm(WORLD_SECONDS_MAX);
        world_options.n_states = work.n_states;
        result.n_states = world_run(work.seed, &world_options, &result.failed);
        result.done = true;
        job_say(pool, &result);
    }
    fflush(stdout);
    _exit(0);
}

static void pool_give(Pool *pool) {
    Work work = {pool->next_seed, MAPFS_MIN(pool->n_left, STATES_PER_WORLD)};

    if (pool->n_left == 0)
        return;
    /* Without readers: the count at the end tells. */
    if (write(pool->work[1], &work, sizeof(work)) != (ssize_t)sizeof(work))
        return;
    pool->next_seed++;
    pool->n_left -= work.n_states;
}

static bool pool_start(Pool *pool, const Options *options) {
    if (pipe(pool->work) < 0 || pipe(pool->results) < 0) {
        perror("explore");
        return false;
    }
    for (uint64_t i = 0; i < options->n_jobs; i++) {
        fflush(stdout);
        pool->pids[i] = fork();
        if (pool->pids[i] < 0) {
            perror("explore");
            return false;
        }
        if (pool->pids[i] == 0) {
            close(pool->work[1]);
            close(pool->results[0]);
            job_run(pool, options, i);
        }
    }
    close(pool->work[0]);
    close(pool->results[1]);
    return true;
}

static void pool_collect(Pool *pool, bool until_failure) {
    uint64_t n_said = 0;
    Result result;

    while (read(pool->results[0], &result, sizeof(result)) == (ssize_t)sizeof(result)) {
        pool->seeds[result.job] = result.seed;
        if (!result.done)
            continue;
        pool->n_states += result.n_states;
        pool->n_failures += result.failed;
        if (pool->n_states / PROGRESS_STATES > n_said) {
            n_said = pool->n_states / PROGRESS_STATES;
            printf("%" PRIu64 " states so far, %" PRIu64 " failures\n", pool->n_states, pool->n_failures);
            fflush(stdout);
        }
        if (until_failure && pool->n_failures > 0)
            pool->n_left = 0;
        pool_give(pool);
        if (pool->n_left == 0 && pool->work[1] >= 0) {
            close(pool->work[1]);
            pool->work[1] = -1;
        }
    }
}

/* A process that died has found a failure too. */
static void pool_end(Pool *pool, const Options *options) {
    for (uint64_t i = 0; i < options->n_jobs; i++) {
        int status;

        if (waitpid(pool->pids[i], &status, 0) != pool->pids[i] || status == 0)
            continue;
        printf("seed %" PRIu64 ": the process died (%s): replay with explore --world %" PRIu64 "\n", pool->seeds[i],
               WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "exit status", pool->seeds[i]);
        pool->n_failures++;
    }
}

static void explore(Pool *pool, const Options *options) {
    signal(SIGPIPE, SIG_IGN);
    if (!pool_start(pool, options)) {
        pool->n_failures++;
        return;
    }
    for (uint64_t i = 0; i < options->n_jobs; i++)
        pool_give(pool);
    if (pool->n_left == 0) {
        close(pool->work[1]);
        pool->work[1] = -1;
    }
    pool_collect(pool, options->until_failure);
    pool_end(pool, options);
}

int main(int argc, char **argv) {
    Options options = {.n_states = 10000, .seed = 1, .n_jobs = 2};
    Pool pool = {0};
    uint64_t n_skipped;

    if (!parse_options(argc, argv, &options)) {
        fputs(usage, stderr);
        return 2;
    }
    n_skipped = options.first_state / STATES_PER_WORLD;
    pool.next_seed = options.one_world ? options.world : options.seed + n_skipped;
    pool.n_left = options.one_world ? MAPFS_MIN(options.n_states, STATES_PER_WORLD) : options.n_states;
    explore(&pool, &options);
    printf("%" PRIu64 " states, %" PRIu64 " failures\n", pool.n_states, pool.n_failures);
    return pool.n_failures == 0 ? 0 : 1;
}
