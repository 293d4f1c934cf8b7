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
