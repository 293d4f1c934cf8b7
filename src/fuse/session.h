/* SPDX-License-Identifier: MIT */
#pragma once

/* A mount: the FUSE session that turns the kernel's requests into operations of fs/. */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "fs/fs.h"

typedef struct MapfsSession MapfsSession;

/* Answers an ioctl on the root directory: writes at most *out_len bytes to `out`, sets *out_len, and returns 0 or -errno. */
typedef int (*MapfsIoctl)(void *user, unsigned command, void *out, size_t *out_len);

typedef struct {
    const char *source;        /* absolute path of the image, the source in /proc/mounts */
    const char *mountpoint;    /* absolute path */
    const char *mount_options; /* further options for libfuse, comma separated; may be NULL */
    bool read_only;
    bool cache_writeback;      /* the kernel keeps writes back (option cache=writeback) */
    bool damage_read_only;     /* after damage was found no change is taken (option errors=remount-ro) */
    bool busy_poll;            /* shorten the way of requests at the cost of processor time, as in loop.h */
    int64_t uid, gid;          /* all inodes are shown as owned by these; -1: by their owners */
    MapfsIoctl ioctl;          /* with `user` */
    void (*ready)(void *user); /* called once, when the kernel has begun to send requests */
    void (*log)(int priority, const char *message); /* priority as in syslog(3); from any thread */
    void *user;
} MapfsSessionConfig;

/* Mounts. What config points to must live as long as the session. A failure has been logged, with its cause. -errno. */
int mapfs_session_mount(MapfsFs *fs, const MapfsSessionConfig *config, MapfsSession **ret_session) MAPFS_MUST_USE;

/* Serves requests in several threads until the filesystem is unmounted or the process gets SIGTERM, SIGINT or SIGHUP. 0 or -errno. */
int mapfs_session_loop(MapfsSession *session) MAPFS_MUST_USE;

/* 0, or -EUCLEAN after damage was met that made it refuse changes. From any thread. */
int mapfs_session_error(const MapfsSession *session) MAPFS_MUST_USE;

/* Unmounts if it is still mounted. NULL is fine. */
void mapfs_session_free(MapfsSession *session);
