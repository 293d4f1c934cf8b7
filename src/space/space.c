/* SPDX-License-Identifier: MIT */

#include "space/space.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "space/space-private.h"

int mapfs_space_new(MapfsImage *image, uint64_t n_blocks, uint64_t first_usable, uint64_t checksum_seed,
                    MapfsSpace **ret_space) {
    MapfsSpace *space = g_new0(MapfsSpace, 1);

    space->image = image;
    space->n_blocks = n_blocks;
    space->first_usable = first_usable;
    space->checksum_seed = checksum_seed;
    space->n_groups = (n_blocks + MAPFS_GROUP_BLOCKS - 1) / MAPFS_GROUP_BLOCKS;
    pthread_mutex_init(&space->mutex, NULL);
    pthread_mutex_init(&space->grow_mutex, NULL);
    pthread_mutex_init(&space->host_mutex, NULL);
    pthread_cond_init(&space->held_cond, NULL);
    pthread_cond_init(&space->claim_cond, NULL);
    space->dirty = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    space->groups = g_try_new0(SpaceGroup, space->n_groups);
    space->reserved = g_try_new0(uint64_t, space_chunk_words(space));
    space->fresh = g_try_new0(uint64_t, space_chunk_words(space));
    space->aging = g_try_new0(uint64_t, space_chunk_words(space));
    space->ripe = g_try_new0(uint64_t, space_chunk_words(space));
    if (!space->groups || !space->reserved || !space->fresh || !space->aging || !space->ripe) {
        mapfs_space_free(space);
        return -ENOMEM;
    }
    for (uint64_t i = 0; i < space->n_groups; i++) {
        space->groups[i].n_free = mapfs_space_group_capacity(space, i);
        space->n_free += space->groups[i].n_free;
    }
    space->node_cursor = n_blocks;
    space->names_chunk = CHUNK_NONE;
    /* Data starts a little way in, so that the nodes before it stay together. */
    space->data_cursor = first_usable + (n_blocks - first_usable) / 16;
    *ret_space = space;
    return 0;
}

void mapfs_space_free(MapfsSpace *space) {
    if (!space)
        return;
    for (uint64_t i = 0; space->groups && i < space->n_groups; i++)
        g_free(space->groups[i].bits);
    g_free(space->groups);
    g_free(space->reserved);
    g_free(space->fresh);
    g_free(space->aging);
    g_free(space->ripe);
    g_array_unref(space->dirty);
    pthread_mutex_destroy(&space->mutex);
    pthread_mutex_destroy(&space->grow_mutex);
    pthread_mutex_destroy(&space->host_mutex);
    pthread_cond_destroy(&space->claim_cond);
    pthread_cond_destroy(&space->held_cond);
    g_free(space);
}

int mapfs_space_add_group(MapfsSpace *space, uint64_t group, MapfsNodeRef bitmap, uint32_t n_free) {
    SpaceGroup *g;

    if (group >= space->n_groups)
        return mapfs_damage(0, "group summary", "group %lu of %lu", (unsigned long)group,
                            (unsigned long)space->n_groups);
    g = &space->groups[group];
    if (g->bitmap.n != 0 || g->bits)
        return mapfs_damage(0, "group summary", "group %lu comes twice", (unsigned long)group);
    if (n_free > mapfs_space_group_capacity(space, group))
        return mapfs_damage(0, "group summary", "group %lu has %u free blocks of %u", (unsigned long)group, n_free,
                            mapfs_space_group_capacity(space, group));
    if (bitmap.address.n < space->first_usable || bitmap.address.n >= space->n_blocks)
        return mapfs_damage(bitmap.address.n, "group summary", "the bitmap of group %lu lies outside the image",
                            (unsigned long)group);
    space->n_free -= g->n_free - n_free;
    g->n_free = n_free;
    g->bitmap = bitmap.address;
    g->generation = bitmap.generation;
    return 0;
}

/* The part of a run in one group that is held back for a trim. */
static MapfsRun run_held(const MapfsSpace *space, MapfsRun run) {
    uint64_t start = MAPFS_MAX(run.start.n, space->held.start.n);
    uint64_t end = MAPFS_MIN(run.start.n + run.n_blocks, space->held.start.n + space->held.n_blocks);

    return (MapfsRun){{start}, end > start ? end - start : 0};
}

/* True when every block of a run in one loaded group is taken. */
static bool run_taken(const MapfsSpace *space, MapfsRun run) {
    if (run_held(space, run).n_blocks > 0)
        return false;
    return mapfs_space_next_free(space, run.start.n, run.start.n + run.n_blocks) == run.start.n + run.n_blocks;
}

static MapfsRun run_in_group(MapfsRun run) {
    uint64_t left = MAPFS_GROUP_BLOCKS - run.start.n % MAPFS_GROUP_BLOCKS;

    return (MapfsRun){run.start, MAPFS_MIN(run.n_blocks, left)};
}

static int release_check(MapfsSpace *space, MapfsRun run) {
    while (run.n_blocks > 0) {
        MapfsRun part = run_in_group(run);
        int r = mapfs_space_group_load(space, part.start.n / MAPFS_GROUP_BLOCKS);

        if (r < 0)
            return r;
        if (!run_taken(space, part))
            return mapfs_damage(part.start.n, "free run", "holds blocks that are free already");
        run.start.n += part.n_blocks;
        run.n_blocks -= part.n_blocks;
    }
    return 0;
}

static void note_chunks(MapfsSpace *space, MapfsRun run) {
    for (uint64_t chunk = run.start.n / CHUNK_BLOCKS; chunk * CHUNK_BLOCKS < run.start.n + run.n_blocks; chunk++)
        space->fresh[chunk / 64] |= UINT64_C(1) << (chunk % 64);
}

int mapfs_space_release(MapfsSpace *space, MapfsRun run) {
    int r;

    if (run.start.n < space->first_usable || !mapfs_run_fits(run, space->n_blocks))
        return mapfs_damage(run.start.n, "free run", "%lu blocks do not lie in the image", (unsigned long)run.n_blocks);
    pthread_mutex_lock(&space->mutex);
    r = release_check(space, run);
    while (r == 0 && run.n_blocks > 0) {
        MapfsRun part = run_in_group(run);

        mapfs_space_bits_clear(space, part);
        note_chunks(space, part);
        run.start.n += part.n_blocks;
        run.n_blocks -= part.n_blocks;
    }
    pthread_mutex_unlock(&space->mutex);
    return r;
}

void mapfs_space_status(MapfsSpace *space, MapfsSpaceStatus *ret_status) {
    pthread_mutex_lock(&space->mutex);
    *ret_status = (MapfsSpaceStatus){space->n_free, space->n_claimed, space->dirty->len};
    pthread_mutex_unlock(&space->mutex);
}

int mapfs_space_dirty_group(MapfsSpace *space, uint64_t index, MapfsSpaceGroup *ret_group) {
    int found = 0;

    pthread_mutex_lock(&space->mutex);
    if (index < space->dirty->len) {
        uint64_t group = g_array_index(space->dirty, uint64_t, index);
        const SpaceGroup *g = &space->groups[group];

        *ret_group = (MapfsSpaceGroup){group, {g->bitmap, g->generation, 0}, g->n_free};
        found = 1;
    }
    pthread_mutex_unlock(&space->mutex);
    return found;
}

void mapfs_space_set_bitmap(MapfsSpace *space, uint64_t group, MapfsNodeRef bitmap) {
    pthread_mutex_lock(&space->mutex);
    space->groups[group].bitmap = bitmap.address;
    space->groups[group].generation = bitmap.generation;
    pthread_mutex_unlock(&space->mutex);
}

void mapfs_space_store_bits(MapfsSpace *space, uint64_t group, uint8_t *bits) {
    const SpaceGroup *g = &space->groups[group];
    MapfsRun held;

    pthread_mutex_lock(&space->mutex);
    held = run_held(space, (MapfsRun){{group * MAPFS_GROUP_BLOCKS}, MAPFS_GROUP_BLOCKS});
    if (held.n_blocks > 0) /* free, for all that the image knows */
        mapfs_space_bits_hold(space, held, false);
    for (unsigned i = 0; i < GROUP_WORDS; i++) {
        uint64_t word = htole64(g->bits[i]);

        memcpy(bits + 8 * i, &word, sizeof(word));
    }
    if (held.n_blocks > 0)
        mapfs_space_bits_hold(space, held, true);
    pthread_mutex_unlock(&space->mutex);
}

void mapfs_space_clean(MapfsSpace *space) {
    pthread_mutex_lock(&space->mutex);
    for (unsigned i = 0; i < space->dirty->len; i++)
        space->groups[g_array_index(space->dirty, uint64_t, i)].dirty = false;
    g_array_set_size(space->dirty, 0);
    pthread_mutex_unlock(&space->mutex);
}
