/* SPDX-License-Identifier: MIT */
#include "tools/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <glib.h>

#define SHOW_AFTER_US (1000 * 1000)
#define SHOW_EVERY_US (100 * 1000)
#define BAR_WIDTH 40u

void mapfs_progress_init(MapfsProgress *progress) {
    *progress = (MapfsProgress){
        .start_us = g_get_monotonic_time(),
        .is_terminal = isatty(STDERR_FILENO) == 1,
    };
}

void mapfs_progress_set(MapfsProgress *progress, const char *what, uint64_t done, uint64_t total) {
    char bar[BAR_WIDTH + 1];
    double part;
    int64_t now;
    size_t n;

    if (!progress->is_terminal)
        return;
    now = g_get_monotonic_time();
    if (now - progress->start_us < SHOW_AFTER_US || now - progress->last_us < SHOW_EVERY_US)
        return;
    progress->last_us = now;
    progress->is_shown = true;
    if (total == 0) {
        (void)fprintf(stderr, "\r\033[K%s: %" PRIu64, what, done);
        return;
    }
    part = done < total ? (double)done / (double)total : 1.0;
    n = (size_t)(part * BAR_WIDTH);
    memset(bar, '#', n);
    memset(bar + n, '.', BAR_WIDTH - n);
    bar[BAR_WIDTH] = '\0';
    (void)fprintf(stderr, "\r\033[K%s [%s] %3.0f%%", what, bar, part * 100);
}

void mapfs_progress_clear(MapfsProgress *progress) {
    if (progress->is_shown)
        (void)fputs("\r\033[K", stderr);
    progress->is_shown = false;
}
