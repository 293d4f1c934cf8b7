/* SPDX-License-Identifier: MIT */
#pragma once

/* The threads that serve the requests of a session.
 *
 * libfuse's own loop lets all threads wait in read(2), and the kernel wakes them in turn: one program that makes one request after
 * the other then finds a cold thread on another processor each time. Here one thread, the leader, reads requests and serves the quick
 * ones itself. It hands the lead to another thread before a request that will take long, judged by what the last ones
 * of its kind took, and when more requests wait and processors are free. A leader that is held up all the same, by a
 * disk or a lock, loses the lead to another thread within some milliseconds.
 *
 * With `busy_poll` the leader looks for the next request for a moment before it sleeps, as long as that has been worth it, and
 * processors are kept awake while many requests come (awake.h). */

#include <stdbool.h>

#include "base/macros.h"

struct fuse_session;

/* Serves until the filesystem is unmounted or fuse_session_exit() was called, and returns when no request is in work any more. 0 or
 * -errno. */
int mapfs_loop_run(struct fuse_session *fuse, bool busy_poll) MAPFS_MUST_USE;

/* Of the SETXATTR request that this thread serves: the kernel wants setgid to go with it (FUSE_SETXATTR_ACL_KILL_SGID, which libfuse 3.18
 * does not hand on). Only with FUSE_CAP_SETXATTR_EXT agreed on. */
bool mapfs_loop_setxattr_kills_sgid(void);
