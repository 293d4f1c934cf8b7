/* SPDX-License-Identifier: MIT */
#pragma once

/* How a command talks to a running mount: ioctls on its root directory, which the kernel hands to the daemon like any other request.
 *
 * A socket was the other way. It would need a directory that both sides can write and find (a container, another mount namespace
 * and an ordinary user each have their own), a check of who asks, and cleaning up after a killed daemon. An ioctl needs
 * a descriptor of the root directory: who could open it for reading may ask, wherever the mount is seen.
 *
 * The structs are shared by two programs of perhaps different versions: their size is part of the command number. */

#include <stdint.h>
#include <sys/ioctl.h>

#include "format/superblock.h"

#define MAPFS_CONTROL_PATH_LEN 4096u
#define MAPFS_CONTROL_WORD_LEN 32u

struct mapfs_control_info {
    uint32_t pid;  /* of the daemon, in its own pid namespace */
    int32_t error; /* 0, or -errno: why no changes are taken any more */
    uint64_t offset_bytes;
    uint64_t n_blocks, n_free, n_pending, n_reserve, n_available;
    uint64_t n_inodes;
    uint64_t durable_generation, running_generation, n_checkpoints;
    uint64_t host_allocated; /* bytes that the host has given to the image; UINT64_MAX: on a device */
    uint64_t host_free;      /* UINT64_MAX: not known */
    uint64_t start_time;     /* of the mount, seconds since 1970 */
    uint8_t uuid[MAPFS_UUID_LEN];
    char label[MAPFS_LABEL_LEN + 8]; /* texts end with a zero */
    char view[MAPFS_CONTROL_WORD_LEN];
    char cache[MAPFS_CONTROL_WORD_LEN];
    char version[MAPFS_CONTROL_WORD_LEN];
    char source[MAPFS_CONTROL_PATH_LEN]; /* absolute path of the image, as the daemon sees it */
};

#define MAPFS_CONTROL_MAGIC 0xd6
#define MAPFS_CONTROL_INFO _IOR(MAPFS_CONTROL_MAGIC, 1, struct mapfs_control_info)
/* A checkpoint: all that was done before is durable when it returns 0. */
#define MAPFS_CONTROL_SYNC _IO(MAPFS_CONTROL_MAGIC, 2)
