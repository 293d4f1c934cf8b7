/* SPDX-License-Identifier: MIT */

#include "check/used.h"

#include <errno.h>

#include <glib.h>

#define CAPACITY_FIRST 16u

void mapfs_used_clear(MapfsUsed *used) {
    for (size_t i = 0; i < used->capacity; i++)
        g_free(used->slots[i]);
    g_free(used->slots);
    *used = (MapfsUsed){0};
}

/* Where the group is, or the empty slot where it belongs. The table is never full. */
static size_t used_place(const MapfsUsed *used, uint64_t group) {
    size_t place = (size_t)(group * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (used->capacity - 1);

    while (used->slots[place] && used->slots[place]->group != group)
        place = (place + 1) & (used->capacity - 1);
    return place;
}

static int used_grow(MapfsUsed *used) {
    MapfsUsed larger = {.capacity = used->capacity ? used->capacity * 2 : CAPACITY_FIRST};

    larger.slots = g_try_new0(MapfsUsedGroup *, larger.capacity);
    if (!larger.slots)
        return -ENOMEM;
    for (size_t i = 0; i < used->capacity; i++)
        if (used->slots[i])
            larger.slots[used_place(&larger, used->slots[i]->group)] = used->slots[i];
    g_free(used->slots);
    used->slots = larger.slots;
    used->capacity = larger.capacity;
    return 0;
}

const MapfsUsedGroup *mapfs_used_lookup(const MapfsUsed *used, uint64_t group) {
    return used->capacity ? used->slots[used_place(used, group)] : NULL;
}

/* Makes used->last the group. */
static int used_open(MapfsUsed *used, uint64_t group) {
    size_t place;

    if (used->last && used->last->group == group)
        return 0;
    if (used->n * 2 >= used->capacity) {
        int r = used_grow(used);
        if (r < 0)
            return r;
    }
    place = used_place(used, group);
    if (!used->slots[place]) {
        MapfsUsedGroup *made = g_try_new0(MapfsUsedGroup, 1);
        if (!made)
            return -ENOMEM;
        made->group = group;
        used->slots[place] = made;
        used->n++;
    }
    used->last = used->slots[place];
    return 0;
}

/* Sets bits first .. first + n - 1 of the group; returns how many were clear. */
static uint64_t group_set(MapfsUsedGroup *group, unsigned first, unsigned n) {
    uint64_t n_new = 0;

    while (n > 0) {
        unsigned bit = first % 64, n_here = MAPFS_MIN(64 - bit, n);
        uint64_t mask = (n_here == 64 ? UINT64_MAX : (UINT64_C(1) << n_here) - 1) << bit;
        uint64_t *word = &group->words[first / 64];

        n_new += (unsigned)__builtin_popcountll(mask & ~*word);
        *word |= mask;
        first += n_here;
        n -= n_here;
    }
    return n_new;
}

int mapfs_used_set(MapfsUsed *used, MapfsRun run, uint64_t *ret_n_new) {
    uint64_t block = run.start.n, left = run.n_blocks, n_new = 0;

    while (left > 0) {
        unsigned first = (unsigned)(block % MAPFS_GROUP_BLOCKS);
        unsigned n_here = (unsigned)MAPFS_MIN(left, MAPFS_GROUP_BLOCKS - first);
        int r;

        r = used_open(used, block / MAPFS_GROUP_BLOCKS);
        if (r < 0)
            return r;
        n_new += group_set(used->last, first, n_here);
        block += n_here;
        left -= n_here;
    }
    *ret_n_new = n_new;
    return 0;
}

bool mapfs_used_has(const MapfsUsed *used, uint64_t block) {
    const MapfsUsedGroup *group = mapfs_used_lookup(used, block / MAPFS_GROUP_BLOCKS);
    uint64_t bit = block % MAPFS_GROUP_BLOCKS;

    return group && (group->words[bit / 64] >> (bit % 64) & 1);
}

int mapfs_used_merge(MapfsUsed *used, const MapfsUsedGroup *group) {
    int r;

    r = used_open(used, group->group);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < MAPFS_USED_WORDS; i++)
        used->last->words[i] |= group->words[i];
    return 0;
}
