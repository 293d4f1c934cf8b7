/* SPDX-License-Identifier: MIT */
#pragma once

/* How long to look for the next request before sleeping.
 *
 * A program that makes one request after the other leaves the processors idle in turn, and to wake an idle one, of a virtual machine above
 * all, takes longer than most requests do. Where all processors have work, looking only keeps others from it, the client perhaps, and the
 * scheduler makes up for that by letting the looker wait: then it must be rare. Whether looks met their request tells which of the two holds.
 * sched_yield in between would give away what is left of the thread's turn, some milliseconds when others run. */

#include <stdbool.h>
#include <stdint.h>

/* Begins with all zero. One thread at a time. */
typedef struct {
    unsigned len_us;   /* of a look */
    unsigned n_failed; /* looks in a row that did not meet a request in time */
    unsigned n_skip;   /* requests until the next look */
} MapfsSpin;

/* How many microseconds to look for the next request; 0: to sleep at once. */
unsigned mapfs_spin_begin(MapfsSpin *spin);

/* What came of it: `len_us` as begun, whether the look met the request, and after how long there was one, looked for or slept. */
void mapfs_spin_end(MapfsSpin *spin, unsigned len_us, bool has_met, uint64_t waited_us);
