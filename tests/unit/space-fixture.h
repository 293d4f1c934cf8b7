/* SPDX-License-Identifier: MIT */
#pragma once

/* A space over a stand-in for the host that remembers which blocks it has given and refuses more than it is allowed. */

#include <pthread.h>
#include <stdint.h>

#include "space/space.h"

#define FIRST_USABLE 40u
#define CHUNK 256u /* what the space asks the host for at a time */
#define SEED 77u

typedef struct Host Host;

struct Host {
    MapfsImage image;
    MapfsImage *memory;
    pthread_mutex_t mutex; /* guards what follows */
    uint8_t *given;        /* a byte per block */
    uint64_t n_given, n_given_max;
    unsigned n_reserves;
    int error; /* of every reserve, 0 for none */
    int discard_error;
    unsigned reserve_us;            /* how long a reserve takes */
    void (*on_reserve)(Host *host); /* called at its beginning, or NULL */
    void (*on_discard)(Host *host); /* called before the blocks go, or NULL; what follows is for it */
    void *user;
    unsigned n_seen;
    pthread_t thread;
};

typedef struct {
    Host host;
    MapfsSpace *space;
} Test;

/* An empty space of n_blocks, of which the host may give all. */
void test_open(Test *test, uint64_t n_blocks);
void test_close(Test *test);

MapfsSpaceStatus status(Test *test);
