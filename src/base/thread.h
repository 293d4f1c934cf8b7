/* SPDX-License-Identifier: MIT */
#pragma once

/* Threads of the libraries' own. */

#include <pthread.h>

#include "base/macros.h"

/* Starts a thread with all signals blocked but SIGBUS, which belongs to whoever touches a mapping: the others are for the
 * threads of the program. 0 or -errno. */
int mapfs_thread_start(pthread_t *ret_thread, void *(*function)(void *), void *user) MAPFS_MUST_USE;
