/* SPDX-License-Identifier: MIT */
#include "fuse/awake.h"

#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

/* Requests between two looks: so many are a program that waits for each, and so few a pause. */
#define REQUESTS_MANY 4u
#define REQUESTS_FEW 2u
/* Looks with few requests until the processors may sleep again. */
#define LOOKS_UNTIL_RELEASE 5u

/* Microseconds that waking may take; the kernel's own "does not matter". */
#define LATENCY_NONE INT32_C(0)
#define LATENCY_ANY INT32_C(2000000000)

void mapfs_awake_open(bool wanted, MapfsAwake *ret_awake) {
    *ret_awake = (MapfsAwake){.fd = wanted ? open("/dev/cpu_dma_latency", O_WRONLY | O_CLOEXEC) : -1};
    /* The kernel takes a descriptor just opened for "does not matter". Not there, or not permitted: latency as it is. */
}

static void awake_set(MapfsAwake *awake, bool held) {
    const int32_t latency_us = held ? LATENCY_NONE : LATENCY_ANY;

    if (write(awake->fd, &latency_us, sizeof latency_us) == (ssize_t)sizeof latency_us)
        awake->is_held = held;
}

void mapfs_awake_look(MapfsAwake *awake, unsigned n_requests) {
    if (awake->fd < 0)
        return;
    awake->n_few = n_requests < REQUESTS_FEW ? awake->n_few + 1 : 0;
    if (!awake->is_held && n_requests >= REQUESTS_MANY)
        awake_set(awake, true);
    else if (awake->is_held && awake->n_few >= LOOKS_UNTIL_RELEASE)
        awake_set(awake, false);
}

void mapfs_awake_release(MapfsAwake *awake) {
    if (awake->is_held)
        awake_set(awake, false);
}

void mapfs_awake_close(MapfsAwake *awake) {
    if (awake->fd >= 0)
        (void)close(awake->fd); /* which ends what was asked for */
    awake->fd = -1;
}
