/* SPDX-License-Identifier: MIT */
#pragma once

/* Reserved bytes are written as zeros and checked to be zeros, so that a later version can give them a meaning. */

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* True when all the bytes are zero (also for none). */
static inline bool mapfs_zero_check(const void *bytes, size_t len_bytes) {
    const unsigned char *first = bytes;

    return len_bytes == 0 || (first[0] == 0 && memcmp(first, first + 1, len_bytes - 1) == 0);
}
