/* SPDX-License-Identifier: MIT */

/* The end: what was protected and is not used by the new state becomes a pending free of it, and it is published. */

#include "repair/repair-private.h"

/* Runs freed in one transaction. */
#define FREE_RUNS 1024u

static int runs_free(MapfsRepair *repair, const MapfsRun *runs, unsigned n_runs) {
    MapfsTxn txn;
    int r;

    if (n_runs == 0)
        return 0;
    r = mapfs_rescue_begin(repair->store, 1, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    for (unsigned i = 0; i < n_runs; i++)
        mapfs_txn_free(&txn, runs[i]);
    mapfs_txn_end(&txn);
    return 0;
}

/* Blocks of a group that are protected and not kept. */
static int group_free(MapfsRepair *repair, const MapfsUsedGroup *protected) {
    const MapfsUsedGroup *kept = mapfs_used_lookup(&repair->kept, protected->group);
    uint64_t first = protected->group * MAPFS_GROUP_BLOCKS;
    uint64_t end = MAPFS_MIN(first + MAPFS_GROUP_BLOCKS, repair->n_blocks);
    g_autofree MapfsRun *runs = g_new(MapfsRun, FREE_RUNS);
    unsigned n_runs = 0;

    for (uint64_t block = first; block < end; block++) {
        uint64_t i = block - first;
        uint64_t word = protected->words[i / 64] & ~(kept ? kept->words[i / 64] : 0);
        MapfsRun *last = n_runs > 0 ? &runs[n_runs - 1] : NULL;
        int r;

        if (!(word >> (i % 64) & 1))
            continue;
        if (last && last->start.n + last->n_blocks == block) {
            last->n_blocks++;
            continue;
        }
        if (n_runs == FREE_RUNS) {
            r = runs_free(repair, runs, n_runs);
            if (r < 0)
                return r;
            n_runs = 0;
        }
        runs[n_runs++] = (MapfsRun){{block}, 1};
    }
    return runs_free(repair, runs, n_runs);
}

int mapfs_repair_finish(MapfsRepair *repair) {
    MapfsRescueNumbers numbers = {.next_ino = repair->next_ino};
    const RepairInode *inodes = repair->inodes.data;
    MapfsStore *store;
    int r = 0;

    mapfs_repair_progress(repair, "publishing", 0, 2);
    for (size_t i = 0; r == 0 && i < repair->protected.capacity; i++)
        if (repair->protected.slots[i])
            r = group_free(repair, repair->protected.slots[i]);
    if (r < 0)
        return r;
    for (size_t i = 0; i < repair->inodes.n; i++)
        numbers.n_inodes += !inodes[i].is_dead;
    store = g_steal_pointer(&repair->store);
    r = mapfs_rescue_publish(store, &numbers);
    mapfs_repair_progress(repair, "publishing", 2, 2);
    return r;
}
