/* SPDX-License-Identifier: MIT */
#pragma once

/* Random numbers that a seed repeats everywhere: SplitMix64, in which any number is a good seed. */

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t state;
} Random;

static inline uint64_t random_draw(Random *random) {
    uint64_t z = (random->state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* 0 to limit - 1. */
static inline uint64_t random_below(Random *random, uint64_t limit) {
    return random_draw(random) % limit;
}

/* True once in `n` times. */
static inline bool random_once_in(Random *random, uint64_t n) {
    return random_below(random, n) == 0;
}
