/* SPDX-License-Identifier: MIT */
#pragma once

/* A progress bar on the terminal (stderr), for work that takes more than a second. Silent when stderr is no terminal. */

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    int64_t start_us, last_us;
    bool is_terminal, is_shown;
} MapfsProgress;

void mapfs_progress_init(MapfsProgress *progress);

/* Tells how far the work is; cheap, so that it can be called often. `total` 0: not known, `done` alone is shown. */
void mapfs_progress_set(MapfsProgress *progress, const char *what, uint64_t done, uint64_t total);

/* Removes the bar. To be called before anything else is printed, and at the end. */
void mapfs_progress_clear(MapfsProgress *progress);
