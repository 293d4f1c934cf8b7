/* SPDX-License-Identifier: MIT */

/* The bits of one group, and the counters that follow from them. */

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "space/space-private.h"

static uint64_t group_start(uint64_t group) {
    return group * MAPFS_GROUP_BLOCKS;
}

uint32_t mapfs_space_group_capacity(const MapfsSpace *space, uint64_t group) {
    uint64_t start = MAPFS_MAX(group_start(group), space->first_usable);
    uint64_t end = MAPFS_MIN(group_start(group) + MAPFS_GROUP_BLOCKS, space->n_blocks);

    return end > start ? (uint32_t)(end - start) : 0;
}

static void word_run(uint64_t *bits, uint64_t first, uint64_t n, bool set) {
    while (n > 0) {
        uint64_t shift = first % 64;
        uint64_t here = MAPFS_MIN(n, 64 - shift);
        uint64_t mask = (here == 64 ? ~UINT64_C(0) : (UINT64_C(1) << here) - 1) << shift;

        if (set)
            bits[first / 64] |= mask;
        else
            bits[first / 64] &= ~mask;
        first += here;
        n -= here;
    }
}

/* What no bitmap may free: superblocks and log, and what lies past the end of the image. */
static void group_mark_unusable(const MapfsSpace *space, uint64_t group, uint64_t *bits) {
    uint64_t start = group_start(group);

    if (space->first_usable > start)
        word_run(bits, 0, MAPFS_MIN(space->first_usable - start, MAPFS_GROUP_BLOCKS), true);
    if (space->n_blocks < start + MAPFS_GROUP_BLOCKS) {
        uint64_t first = space->n_blocks > start ? space->n_blocks - start : 0;

        word_run(bits, first, MAPFS_GROUP_BLOCKS - first, true);
    }
}

static uint32_t count_free(const uint64_t *words, unsigned n_words) {
    uint32_t n = 0;

    for (unsigned i = 0; i < n_words; i++)
        n += (uint32_t)__builtin_popcountll(~words[i]);
    return n;
}

static int group_read_bitmap(MapfsSpace *space, uint64_t group, uint64_t *bits) {
    SpaceGroup *g = &space->groups[group];
    g_autofree struct mapfs_disk_bitmap *copy = g_try_new(struct mapfs_disk_bitmap, 1);
    const void *mapped = mapfs_image_read(space->image, (MapfsRun){g->bitmap, 1});
    MapfsNodeRef ref = {g->bitmap, g->generation, 0};
    int r;

    if (!copy)
        return -ENOMEM;
    if (!mapped)
        return mapfs_damage(g->bitmap.n, "bitmap", "lies outside the image");
    /* A copy is judged and used: the mapping may change underfoot. */
    memcpy(copy, mapped, sizeof(*copy));
    r = mapfs_bitmap_check(copy, ref, group, space->checksum_seed);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < GROUP_WORDS; i++) {
        uint64_t word;

        memcpy(&word, copy->bits + 8 * i, sizeof(word));
        bits[i] = le64toh(word);
    }
    return 0;
}

int mapfs_space_group_load(MapfsSpace *space, uint64_t group) {
    SpaceGroup *g = &space->groups[group];
    g_autofree uint64_t *bits = NULL;
    int r;

    if (g->bits)
        return 0;
    bits = g_try_new0(uint64_t, GROUP_WORDS);
    if (!bits)
        return -ENOMEM;
    if (g->bitmap.n != 0) {
        r = group_read_bitmap(space, group, bits);
        if (r < 0)
            return r;
    }
    group_mark_unusable(space, group, bits);
    if (count_free(bits, GROUP_WORDS) != g->n_free)
        return mapfs_damage(g->bitmap.n, "bitmap", "group %lu has %u free blocks, its summary says %u",
                            (unsigned long)group, count_free(bits, GROUP_WORDS), g->n_free);
    g->bits = g_steal_pointer(&bits);
    return 0;
}

static void group_touch(MapfsSpace *space, uint64_t group) {
    SpaceGroup *g = &space->groups[group];

    if (g->dirty)
        return;
    g->dirty = true;
    g_array_append_val(space->dirty, group);
}

uint64_t mapfs_space_run_reserved(const MapfsSpace *space, MapfsRun run) {
    uint64_t n = 0;

    for (uint64_t block = run.start.n, end = run.start.n + run.n_blocks; block < end;) {
        uint64_t next = MAPFS_MIN((block / CHUNK_BLOCKS + 1) * CHUNK_BLOCKS, end);

        if (space_chunk_reserved(space, block / CHUNK_BLOCKS))
            n += next - block;
        block = next;
    }
    return n;
}

void mapfs_space_bits_set(MapfsSpace *space, MapfsRun run) {
    uint64_t group = run.start.n / MAPFS_GROUP_BLOCKS;
    SpaceGroup *g = &space->groups[group];

    word_run(g->bits, run.start.n % MAPFS_GROUP_BLOCKS, run.n_blocks, true);
    g->n_free -= (uint32_t)run.n_blocks;
    space->n_free -= run.n_blocks;
    space->n_reserved_free -= mapfs_space_run_reserved(space, run);
    group_touch(space, group);
}

void mapfs_space_bits_clear(MapfsSpace *space, MapfsRun run) {
    uint64_t group = run.start.n / MAPFS_GROUP_BLOCKS;
    SpaceGroup *g = &space->groups[group];
    uint64_t n_reserved = mapfs_space_run_reserved(space, run);

    word_run(g->bits, run.start.n % MAPFS_GROUP_BLOCKS, run.n_blocks, false);
    g->n_free += (uint32_t)run.n_blocks;
    space->n_free += run.n_blocks;
    space->n_reserved_free += n_reserved;
    if (n_reserved > 0)
        space->node_cursor = MAPFS_MIN(space->node_cursor, run.start.n);
    group_touch(space, group);
}

void mapfs_space_bits_hold(MapfsSpace *space, MapfsRun run, bool hold) {
    word_run(space->groups[run.start.n / MAPFS_GROUP_BLOCKS].bits, run.start.n % MAPFS_GROUP_BLOCKS, run.n_blocks,
             hold);
}

uint64_t mapfs_space_next_free(const MapfsSpace *space, uint64_t start, uint64_t end) {
    const uint64_t *bits = space->groups[start / MAPFS_GROUP_BLOCKS].bits;
    uint64_t base = start - start % MAPFS_GROUP_BLOCKS;

    for (uint64_t at = start - base; base + at < end && at < MAPFS_GROUP_BLOCKS; at = (at / 64 + 1) * 64) {
        uint64_t word = ~bits[at / 64] >> (at % 64);

        if (word != 0)
            return MAPFS_MIN(base + at + (uint64_t)__builtin_ctzll(word), end);
    }
    return end;
}

uint64_t mapfs_space_free_length(const MapfsSpace *space, uint64_t start, uint64_t end) {
    const uint64_t *bits = space->groups[start / MAPFS_GROUP_BLOCKS].bits;
    uint64_t base = start - start % MAPFS_GROUP_BLOCKS;
    uint64_t at = start - base, stop = MAPFS_MIN(end - base, MAPFS_GROUP_BLOCKS);

    while (at < stop) {
        uint64_t word = bits[at / 64] >> (at % 64);

        if (word != 0) {
            at += (uint64_t)__builtin_ctzll(word);
            break;
        }
        at = (at / 64 + 1) * 64;
    }
    return MAPFS_MIN(at, stop) - (start - base);
}

unsigned mapfs_space_chunk_free(const MapfsSpace *space, uint64_t chunk) {
    const SpaceGroup *g = &space->groups[chunk / GROUP_CHUNKS];

    return count_free(g->bits + (chunk % GROUP_CHUNKS) * CHUNK_WORDS, CHUNK_WORDS);
}

void mapfs_space_chunk_set_reserved(MapfsSpace *space, uint64_t chunk) {
    if (space_chunk_reserved(space, chunk))
        return;
    space->reserved[chunk / 64] |= UINT64_C(1) << (chunk % 64);
    space->n_reserved_free += mapfs_space_chunk_free(space, chunk);
    space->node_cursor = MAPFS_MIN(space->node_cursor, chunk * CHUNK_BLOCKS);
}

void mapfs_space_chunk_clear_reserved(MapfsSpace *space, uint64_t chunk) {
    if (!space_chunk_reserved(space, chunk))
        return;
    space->reserved[chunk / 64] &= ~(UINT64_C(1) << (chunk % 64));
    space->n_reserved_free -= mapfs_space_chunk_free(space, chunk);
}
