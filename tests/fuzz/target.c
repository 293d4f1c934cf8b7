/* SPDX-License-Identifier: MIT */

#include "target.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/check.h"
#include "sample.h"

/* More entries than an input has room for. */
#define ENTRIES_MAX (FUZZ_BLOCKS_MAX * 168u)

void fuzz_fail(const char *format, ...) {
    va_list args;

    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fputc('\n', stderr);
    abort();
}

static void found(void *user, const MapfsProblem *problem) {
    size_t *n_bytes = user;

    *n_bytes += strlen(problem->message) + strlen(problem->kind->name);
}

static void progress(void *user, const char *pass, uint64_t done, uint64_t total) {
    (void)user;
    (void)done;
    (void)total;
    if (!pass)
        fuzz_fail("a pass of the checker has no name");
}

bool fuzz_image_is_clean(FuzzImage *image, char ret_first[256]) {
    size_t n_bytes = 0;
    const MapfsCheckOptions options = {.found = found, .progress = progress, .user = &n_bytes};
    MapfsCheckReport report;
    int r;

    r = mapfs_check_run(image->image, &options, &report);
    if (r < 0)
        fuzz_fail("the check broke off: %s", strerror(-r));
    if ((report.n_problems + report.n_infos > 0) != (n_bytes > 0))
        fuzz_fail("the checker counts findings that it does not tell");
    memcpy(ret_first, report.first, sizeof(report.first));
    /* An image whose log holds changes is whole, but no mount takes it. */
    return report.n_problems == 0 && report.n_of_kind[MAPFS_INFO_LOG] == 0;
}

/* --- the walk --- */

typedef struct {
    uint64_t last, n_entries;
    MapfsFs *fs;
} Listing;

static int list_entry(void *user, const MapfsDirEntry *entry) {
    Listing *listing = user;

    if (entry->cookie <= listing->last)
        fuzz_fail("readdir goes back from %" PRIu64 " to %" PRIu64, listing->last, entry->cookie);
    if (entry->name_len == 0 || entry->name_len > 255 || memchr(entry->name, '\0', entry->name_len))
        fuzz_fail("readdir gives a name of %zu bytes", entry->name_len);
    if (++listing->n_entries > ENTRIES_MAX)
        fuzz_fail("readdir does not end");
    listing->last = entry->cookie;
    return 1;
}

/* The lookups that readdir counts stay: the filesystem is closed with them, as at a kill. */
static void list_directories(MapfsFs *fs) {
    for (uint64_t ino = 1; ino < 40; ino++) {
        Listing listing = {.fs = fs};

        (void)!mapfs_fs_readdir(fs, ino, &(MapfsDirScan){0, true, list_entry, &listing});
    }
}

int fuzz_walk(MapfsFs *fs) {
    WalkResult result;

    sample_walk(fs, &result);
    list_directories(fs);
    return result.error;
}
