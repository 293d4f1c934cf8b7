/* SPDX-License-Identifier: MIT */
#pragma once

/* The clock that the code under test reads. It stands still until it is set, so that the same seed gives the same image, and the model
 * knows every time to the nanosecond. */

#include <stdint.h>
#include <time.h>

void clock_set(uint64_t nanoseconds);
struct timespec clock_now(void);

/* Linked in the place of clock_gettime(2) (ld --wrap). */
int __wrap_clock_gettime(clockid_t id, struct timespec *ret_time);
