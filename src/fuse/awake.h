/* SPDX-License-Identifier: MIT */
#pragma once

/* Keeps the processors from sleeping deeply while requests come thick and fast.
 *
 * A program that makes one small request after the other sleeps while it is served, and so its processor goes idle each time. To wake an idle
 * processor takes longer than most requests do, on virtual machines above all, where it means to halt and be scheduled again. Root may
 * tell the kernel how long waking may take: /dev/cpu_dma_latency. For others this does nothing. */

#include <stdbool.h>

typedef struct {
    int fd;         /* -1: not available */
    bool is_held;   /* the kernel has been asked to stay awake */
    unsigned n_few; /* looks in a row with next to no requests */
} MapfsAwake;

/* With `wanted` false, or where it is not permitted, nothing is ever held. One thread alone uses `ret_awake`. */
void mapfs_awake_open(bool wanted, MapfsAwake *ret_awake);

/* To be called every two milliseconds or so with the number of requests since the last call. */
void mapfs_awake_look(MapfsAwake *awake, unsigned n_requests);

/* Lets the processors sleep again. Before a longer pause between looks. */
void mapfs_awake_release(MapfsAwake *awake);

void mapfs_awake_close(MapfsAwake *awake);
