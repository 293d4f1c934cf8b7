/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "image/image-private.h"

static int range_compare(const void *a, const void *b) {
    const MapfsByteRange *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

size_t mapfs_ranges_merge(MapfsByteRange *ranges, size_t n_ranges) {
    size_t n = 0;

    qsort(ranges, n_ranges, sizeof(*ranges), range_compare);
    for (size_t i = 0; i < n_ranges; i++) {
        if (n > 0 && ranges[i].start <= ranges[n - 1].end)
            ranges[n - 1].end = MAPFS_MAX(ranges[n - 1].end, ranges[i].end);
        else
            ranges[n++] = ranges[i];
    }
    return n;
}
