/* SPDX-License-Identifier: MIT */

/* Shared blocks: which extents have them is known when all items are settled, so the counts are made anew. */

#include <stdlib.h>

#include "repair/repair-private.h"

static uint64_t number_at(const MapfsVector *vector, size_t index) {
    return index < vector->n ? ((const uint64_t *)vector->data)[index] : UINT64_MAX;
}

static int number_compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

int mapfs_repair_note_shared(MapfsRepair *repair, MapfsRun run) {
    const uint64_t end = run.start.n + run.n_blocks;
    uint64_t n_new;
    int r;

    r = mapfs_used_set(&repair->shared, run, &n_new);
    if (r == 0)
        r = mapfs_vector_push(&repair->shared_starts, &run.start.n, sizeof(run.start.n));
    return r < 0 ? r : mapfs_vector_push(&repair->shared_ends, &end, sizeof(end));
}

/* The image may be written by those alone who know of shared blocks. */
static int feature_set(MapfsRepair *repair) {
    MapfsTxn txn;
    int r;

    r = mapfs_rescue_begin(repair->store, 1, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    mapfs_txn_need_feature(&txn, MAPFS_FEATURE_INCOMPAT_SHARED);
    mapfs_txn_end(&txn);
    return 0;
}

static int count_put(MapfsRepair *repair, MapfsRun run, uint64_t n_refs) {
    const MapfsKey key = {.object = MAPFS_OBJECT_SHARED, .kind = MAPFS_KIND_SHARED, .offset = run.start.n};
    const struct mapfs_disk_shared value = {.n_blocks = mapfs_le64_store(run.n_blocks),
                                            .n_refs = mapfs_le32_store((uint32_t)MAPFS_MIN(n_refs, UINT32_MAX))};

    return mapfs_repair_put(repair, key, &value, sizeof(value));
}

int mapfs_repair_count_shared(MapfsRepair *repair) {
    MapfsVector *starts = &repair->shared_starts, *ends = &repair->shared_ends;
    uint64_t at = 0, n_open = 0;
    size_t i_start = 0, i_end = 0;
    int r;

    if (starts->n == 0)
        return 0;
    qsort(starts->data, starts->n, sizeof(uint64_t), number_compare);
    qsort(ends->data, ends->n, sizeof(uint64_t), number_compare);
    r = feature_set(repair);
    while (r == 0 && i_end < ends->n) {
        uint64_t next = MAPFS_MIN(number_at(starts, i_start), number_at(ends, i_end));

        if (n_open > 1 && next > at)
            r = count_put(repair, (MapfsRun){{at}, next - at}, n_open);
        at = next;
        for (; number_at(starts, i_start) == at; i_start++)
            n_open++;
        for (; number_at(ends, i_end) == at; i_end++)
            n_open--;
    }
    return r;
}
