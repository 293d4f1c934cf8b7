/* SPDX-License-Identifier: MIT */
#pragma once

/* Names of directory entries. */

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* True for what may name a directory entry: 1 to 255 bytes, neither "." nor "..", without '/' and NUL. */
static inline bool mapfs_name_check(const char *name, size_t name_len) {
    if (name_len == 0 || name_len > 255)
        return false;
    if (name[0] == '.' && (name_len == 1 || (name_len == 2 && name[1] == '.')))
        return false;
    return !memchr(name, '/', name_len) && !memchr(name, '\0', name_len);
}
