/* SPDX-License-Identifier: MIT */

#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define NOTE_LEN_BYTES 256

static _Thread_local char note[NOTE_LEN_BYTES];

int mapfs_damage(uint64_t block, const char *object, const char *format, ...) {
    char what[NOTE_LEN_BYTES / 2];
    va_list args;

    va_start(args, format);
    /* A note too long for the buffer is cut; the verdict does not hang on its text. */
    (void)vsnprintf(what, sizeof(what), format, args);
    va_end(args);
    if (block > 0)
        (void)snprintf(note, sizeof(note), "%s at block %" PRIu64 ": %s", object, block, what);
    else
        (void)snprintf(note, sizeof(note), "%s: %s", object, what);
    return -EUCLEAN;
}

const char *mapfs_damage_last(void) {
    return note;
}

void mapfs_damage_clear(void) {
    note[0] = '\0';
}
