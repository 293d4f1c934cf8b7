/* SPDX-License-Identifier: MIT */

#include "check/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <glib.h>

#include "check/check-private.h"

void mapfs_check_found(MapfsCheck *check, MapfsProblemNumber number, MapfsCheckPlace place, const char *format, ...) {
    const MapfsCheckOptions *options = check->options;
    const MapfsProblemKind *kind = mapfs_problem_kind(number);
    MapfsCheckReport *report = check->report;
    bool is_first = kind->severity == MAPFS_SEVERITY_PROBLEM && report->n_problems == 0;
    char message[sizeof(report->first)];
    MapfsProblem problem = {
        .kind = kind, .block = place.block, .object = place.object, .ino = place.ino, .message = message};
    va_list args;

    report->n_of_kind[number]++;
    if (kind->severity == MAPFS_SEVERITY_PROBLEM)
        report->n_problems++;
    else
        report->n_infos++;
    if (!is_first &&
        (!options->found || (options->n_per_kind_max > 0 && report->n_of_kind[number] > options->n_per_kind_max)))
        return;

    va_start(args, format);
    /* A message too long for the buffer is cut; the verdict does not hang on its text. */
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (is_first)
        memcpy(report->first, message, sizeof(message));
    if (options->found)
        options->found(options->user, &problem);
}

void mapfs_check_progress(MapfsCheck *check, const char *pass, uint64_t done, uint64_t total) {
    if (check->options->progress)
        check->options->progress(check->options->user, pass, done, total);
}

int mapfs_check_claim(MapfsCheck *check, MapfsRun run, MapfsCheckPlace place, const char *what) {
    uint64_t n_new;
    int r;

    if (!mapfs_run_fits(run, check->n_blocks)) {
        mapfs_check_found(check, MAPFS_PROBLEM_BLOCK_OUTSIDE, place,
                          "%s: blocks %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT " lie past the end of the image", what,
                          run.start.n, run.n_blocks);
        return 0;
    }
    r = mapfs_used_set(&check->used, run, &n_new);
    if (r < 0)
        return r;
    if (n_new == run.n_blocks)
        return 1;
    mapfs_check_found(check, MAPFS_PROBLEM_BLOCK_TWICE, place,
                      "%s: of blocks %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT ", %" G_GUINT64_FORMAT
                      " are in use by something else",
                      what, run.start.n, run.n_blocks, run.n_blocks - n_new);
    return 0;
}

static int check_passes(MapfsCheck *check) {
    int r;

    r = mapfs_check_superblocks(check);
    if (r <= 0) {
        check->report->incomplete = true; /* all that comes after them is not looked at */
        return r;
    }
    mapfs_check_log(check);
    r = mapfs_check_tree(check);
    if (r < 0)
        return r;
    /* What a damaged node or item hides would be counted as missing or leaked. */
    if (check->report->incomplete) {
        mapfs_check_found(check, MAPFS_INFO_INCOMPLETE, (MapfsCheckPlace){0},
                          "parts of the tree could not be read: names, link counts and free space were not compared");
        return 0;
    }
    r = mapfs_check_shared(check);
    if (r < 0)
        return r;
    mapfs_check_names(check);
    mapfs_check_space(check);
    return 0;
}

int mapfs_check_run(MapfsImage *image, const MapfsCheckOptions *options, MapfsCheckReport *ret_report) {
    g_autofree MapfsCheckReport *report = g_new0(MapfsCheckReport, 1);
    MapfsCheck check = {.image = image, .options = options, .report = report};
    int r;

    (void)mapfs_sigbus_taken(); /* a fault before this run is not its own */
    r = check_passes(&check);
    mapfs_used_clear(&check.used);
    mapfs_vector_clear(&check.inodes);
    mapfs_vector_clear(&check.names);
    mapfs_vector_clear(&check.groups);
    mapfs_vector_clear(&check.orphans);
    mapfs_vector_clear(&check.beyond);
    mapfs_check_shared_clear(&check.shared);
    if (r < 0)
        return r;
    if (mapfs_sigbus_taken())
        return -EIO;
    *ret_report = *report;
    return 0;
}
