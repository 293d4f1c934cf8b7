/* SPDX-License-Identifier: MIT */
#pragma once

/* The daemon's side of protocol.h. */

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"
#include "fuse/session.h"
#include "view/view.h"

typedef struct {
    MapfsView *view;
    const MapfsSession *session;
    const char *source; /* absolute path of the image */
    const char *cache;  /* "through" or "writeback" */
    uint64_t offset_bytes;
    int64_t start_time;
} MapfsControlServer;

/* Answers one command: *out_len is the room at `out`, and what was used of it afterwards. 0, -ENOTTY for an unknown command, or
 * what the command failed with. From any thread. */
int mapfs_control_answer(MapfsControlServer *server, unsigned command, void *out, size_t *out_len) MAPFS_MUST_USE;
