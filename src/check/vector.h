/* SPDX-License-Identifier: MIT */
#pragma once

/* An array that grows and can run out of memory: its size comes from the image. */

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include <glib.h>

#include "base/macros.h"

typedef struct {
    void *data;
    size_t n, capacity;
} MapfsVector;

/* Adds one element of `size` bytes, the same for all. 0 or -ENOMEM. */
MAPFS_MUST_USE static inline int mapfs_vector_push(MapfsVector *vector, const void *element, size_t size) {
    if (vector->n == vector->capacity) {
        size_t capacity = vector->capacity ? vector->capacity * 2 : 16;
        void *data = g_try_realloc_n(vector->data, capacity, size);

        if (!data)
            return -ENOMEM;
        vector->data = data;
        vector->capacity = capacity;
    }
    memcpy((uint8_t *)vector->data + vector->n * size, element, size);
    vector->n++;
    return 0;
}

static inline void mapfs_vector_clear(MapfsVector *vector) {
    g_free(vector->data);
    *vector = (MapfsVector){0};
}
