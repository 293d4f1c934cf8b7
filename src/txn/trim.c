/* SPDX-License-Identifier: MIT */

/* Giving host blocks back. Only blocks that are free in the running state are given: release has made sure that no durable state and no
 * reader refers to them, just as if another file were to get them. */

#include <errno.h>
#include <time.h>

#include "txn/store-private.h"

/* Shorter runs stay on the host: a hole costs more, when it is filled again, than the block. 64 KiB. */
#define TRIM_BLOCKS_MIN 16u
/* What is freed rests for one to two of these, in case that it is taken again. */
#define RIPEN_NS (UINT64_C(5) * NS_PER_SECOND)
/* The thread rests for so many times as long as a step took: punches take up to a fifth of the time. */
#define REST_FACTOR 4u
/* How long an unmount gives back what was freed last; an fstrim finds the rest. */
#define LAST_NS (UINT64_C(2) * NS_PER_SECOND)

static uint64_t now_ns(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail with this clock */
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

int mapfs_store_trim(MapfsStore *store, MapfsRun range, uint64_t n_min, uint64_t *ret_n_blocks) {
    const MapfsSpaceTrim what = {.range = range,
                                 .n_min = n_min,
                                 /* The nodes' pool stays: it would be asked for again at once. */
                                 .n_keep = store->n_reserve + (store->space ? mapfs_store_cut_blocks(store) : 0)};
    int r;

    *ret_n_blocks = 0;
    r = mapfs_store_error(store);
    return r < 0 ? r : mapfs_space_trim(store->space, &what, ret_n_blocks);
}

/* The last ripe range, if there is one. A host that cannot do it is not asked again. */
static bool trim_ripe(MapfsStore *store) {
    uint64_t n_blocks;
    MapfsRun range;

    if (!store->options.discard || !mapfs_space_trim_next(store->space, &range))
        return false;
    if (mapfs_store_trim(store, range, TRIM_BLOCKS_MIN, &n_blocks) == -EOPNOTSUPP)
        store->options.discard = false;
    return true;
}

void mapfs_store_trim_noted(MapfsStore *store) {
    uint64_t end = now_ns() + LAST_NS;

    if (!store->options.discard || mapfs_store_error(store) < 0)
        return;
    (void)mapfs_space_trim_ripen(store->space); /* what is fresh ages, */
    (void)mapfs_space_trim_ripen(store->space); /* and is ripe */
    while (now_ns() < end && trim_ripe(store))
        ;
}

void mapfs_store_trim_expect(MapfsStore *store) {
    if (!store->options.discard || store->trim_ripen_at != UINT64_MAX)
        return;
    store->trim_ripen_at = now_ns() + RIPEN_NS;
    store->trim_at = MAPFS_MIN(store->trim_at, store->trim_ripen_at);
}

void mapfs_store_trim_step(MapfsStore *store) {
    uint64_t start = now_ns(), end;

    if (start >= store->trim_ripen_at)
        store->trim_ripen_at = mapfs_space_trim_ripen(store->space) ? start + RIPEN_NS : UINT64_MAX;
    store->trim_at = store->trim_ripen_at;
    if (!trim_ripe(store))
        return;
    end = now_ns();
    store->trim_at = end + REST_FACTOR * (end - start);
}
