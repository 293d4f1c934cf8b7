/* SPDX-License-Identifier: MIT */

/* Groups whose bits the caller knows better than the image. */

#include <errno.h>
#include <string.h>

#include "space/space-private.h"

int mapfs_space_preset_group(MapfsSpace *space, uint64_t group, const uint64_t *words, MapfsNodeRef bitmap) {
    SpaceGroup *g;

    if (group >= space->n_groups)
        return -EINVAL;
    g = &space->groups[group];
    g_assert(!g->bits && g->bitmap.n == 0);
    /* Loaded as a group without bitmap: what is unusable is marked, all else free. */
    int r = mapfs_space_group_load(space, group);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < GROUP_WORDS; i++)
        g->bits[i] |= words[i];
    space->n_free -= g->n_free;
    g->n_free = 0;
    for (unsigned i = 0; i < GROUP_WORDS; i++)
        g->n_free += (uint32_t)__builtin_popcountll(~g->bits[i]);
    space->n_free += g->n_free;
    g->bitmap = bitmap.address;
    g->generation = bitmap.generation;
    if (bitmap.address.n == 0) {
        g->dirty = true;
        g_array_append_val(space->dirty, group);
    }
    return 0;
}
