/* SPDX-License-Identifier: MIT */

/* Blocks that were taken long ago and are to be stored into for the first time now: the image may have been copied or trimmed by other
 * means since, so that the host has none behind them. */

#include "base/error.h"
#include "space/space-private.h"

static int back_check(MapfsSpace *space, MapfsRun run) {
    for (uint64_t block = run.start.n; block < run.start.n + run.n_blocks; block++) {
        int r = mapfs_space_group_load(space, block / MAPFS_GROUP_BLOCKS);

        if (r < 0)
            return r;
        if (mapfs_space_free_length(space, block, block + 1) > 0)
            return mapfs_damage(block, "extent", "is unwritten, and its blocks are marked as free");
    }
    return 0;
}

int mapfs_space_back(MapfsSpace *space, MapfsRun run) {
    int r;

    if (run.n_blocks == 0 || run.start.n < space->first_usable || !mapfs_run_fits(run, space->n_blocks))
        return mapfs_damage(run.start.n, "extent", "of %lu blocks does not lie in the image",
                            (unsigned long)run.n_blocks);
    pthread_mutex_lock(&space->mutex);
    r = back_check(space, run);
    if (r == 0)
        r = mapfs_space_reserve_run(space, run);
    pthread_mutex_unlock(&space->mutex);
    return r;
}
