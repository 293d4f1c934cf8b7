/* SPDX-License-Identifier: MIT */
#pragma once

/* Errors below the tools are `int`: 0 or -errno. Damage in an image is -EUCLEAN and comes from one helper, which
 * keeps what was found where, so that the entry point (daemon or command) can say it once. */

#include <stdint.h>

#include "base/macros.h"

/* Notes damage found in an image and returns -EUCLEAN. `object` names the thing ("tree node", "superblock", ...),
 * `block` is where it lies (0 if unknown), the rest says what was expected and found, printf-like. The last note of
 * each thread is kept for mapfs_damage_last(). */
int mapfs_damage(uint64_t block, const char *object, const char *format, ...) MAPFS_PRINTF(3, 4) MAPFS_MUST_USE;

/* The calling thread's last note ("tree node at block 17: checksum is ..., expected ..."), or an empty string.
 * Valid until the thread's next call of mapfs_damage(). */
const char *mapfs_damage_last(void);

/* Forgets the calling thread's last note. */
void mapfs_damage_clear(void);
