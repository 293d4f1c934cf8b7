/* SPDX-License-Identifier: MIT */
#pragma once

/* Times on disk: unsigned 64-bit nanoseconds since MAPFS_TIME_EPOCH_SECONDS. */

#include <stdint.h>
#include <time.h>

#include "format/items.h"

/* What lies before the first or after the last time that can be kept becomes that one. */
static inline uint64_t mapfs_time_from_timespec(struct timespec time) {
    const int64_t limit = (int64_t)(UINT64_MAX / 1000000000u);
    int64_t seconds;
    uint64_t since;

    if (time.tv_sec < MAPFS_TIME_EPOCH_SECONDS)
        return 0;
    /* The greatest tv_sec minus a negative epoch would overflow. */
    if (time.tv_sec > limit)
        return UINT64_MAX;
    seconds = (int64_t)time.tv_sec - MAPFS_TIME_EPOCH_SECONDS;
    if (__builtin_mul_overflow((uint64_t)seconds, UINT64_C(1000000000), &since) ||
        __builtin_add_overflow(since, (uint64_t)time.tv_nsec, &since))
        return UINT64_MAX;
    return since;
}

static inline struct timespec mapfs_time_to_timespec(uint64_t time) {
    return (struct timespec){
        .tv_sec = (time_t)((int64_t)(time / 1000000000u) + MAPFS_TIME_EPOCH_SECONDS),
        .tv_nsec = (long)(time % 1000000000u),
    };
}
