/* SPDX-License-Identifier: MIT */
#pragma once

/* The process that serves a mount in the background, and its messages: to the command that started it until the mount answers,
 * to syslog(3) afterwards; in the foreground always to stderr. */

#include <stdbool.h>

#include "base/macros.h"

/* Starts the background process in a session of its own. In that process it returns 0. In the calling process it returns 1 after
 * the other one is ready or has ended; its messages are then on stderr and *ret_status is the exit status to end with. -errno. Before
 * threads are started. */
int mapfs_daemon_start(const char *program, int *ret_status) MAPFS_MUST_USE;

/* Instead: this process stays in the foreground. */
void mapfs_daemon_stay(const char *program);

/* Lets the command that started this process return 0, and lets go of its terminal; in the foreground tells $NOTIFY_SOCKET. */
void mapfs_daemon_set_ready(void);

/* Writes one message; priority as in syslog(3). From any thread. */
void mapfs_daemon_log(int priority, const char *message);
