/* SPDX-License-Identifier: MIT */

#include "txn/runs-private.h"

static int run_compare(const void *a, const void *b) {
    const MapfsRun *x = a, *y = b;

    return x->start.n < y->start.n ? -1 : x->start.n > y->start.n;
}

uint64_t mapfs_store_runs_join(GArray *runs) {
    MapfsRun *run = (MapfsRun *)(void *)runs->data;
    uint64_t n_twice = 0;
    guint n = 0;

    if (runs->len < 2)
        return 0;
    g_array_sort(runs, run_compare);
    for (guint i = 1; i < runs->len; i++) {
        uint64_t end = run[n].start.n + run[n].n_blocks;
        uint64_t next_end = run[i].start.n + run[i].n_blocks;

        if (run[i].start.n > end) {
            run[++n] = run[i];
            continue;
        }
        n_twice += (end < next_end ? end : next_end) - run[i].start.n;
        run[n].n_blocks = (end > next_end ? end : next_end) - run[n].start.n;
    }
    g_array_set_size(runs, n + 1);
    return n_twice;
}

void mapfs_store_runs_split(GArray *runs, uint64_t n_max) {
    for (guint i = 0; i < runs->len; i++) {
        MapfsRun *run = &g_array_index(runs, MapfsRun, i);
        MapfsRun rest = {{run->start.n + n_max}, run->n_blocks > n_max ? run->n_blocks - n_max : 0};

        if (rest.n_blocks == 0)
            continue;
        run->n_blocks = n_max;
        g_array_insert_val(runs, i + 1, rest);
    }
}

void mapfs_store_runs_subtract(GArray *runs, MapfsRun run) {
    uint64_t run_end = run.start.n + run.n_blocks;
    guint n = runs->len;

    for (guint i = 0; i < n; i++) {
        MapfsRun *part = &g_array_index(runs, MapfsRun, i);
        uint64_t start = part->start.n, end = part->start.n + part->n_blocks;
        MapfsRun tail = {{run_end}, end > run_end ? end - run_end : 0};

        if (end <= run.start.n || start >= run_end)
            continue;
        part->n_blocks = start < run.start.n ? run.start.n - start : 0;
        if (tail.n_blocks > 0)
            g_array_append_val(runs, tail);
    }
    for (guint i = runs->len; i > 0; i--) {
        if (g_array_index(runs, MapfsRun, i - 1).n_blocks == 0)
            g_array_remove_index_fast(runs, i - 1);
    }
}
