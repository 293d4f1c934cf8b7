/* SPDX-License-Identifier: MIT */
#pragma once

/* Tells a service manager such as systemd how the daemon is doing, as sd_notify(3): "READY=1", "STOPPING=1". Does nothing without
 * $NOTIFY_SOCKET. */
void mapfs_notify(const char *state);
