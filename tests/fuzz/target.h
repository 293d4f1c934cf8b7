/* SPDX-License-Identifier: MIT */
#pragma once

/* A fuzz target: one program each. target-*.c has the function; entry.c calls it from libFuzzer, replay.c for files. */

#include "fs/fs.h"
#include "input.h"

/* What is done with an input. Whatever must not be aborts. */
void fuzz_target_run(const FuzzInput *input);

/* Aborts with a message. */
_Noreturn void fuzz_fail(const char *format, ...) MAPFS_PRINTF(1, 2);

/* True when the checker finds nothing wrong with the image; aborts when it does not end well. */
bool fuzz_image_is_clean(FuzzImage *image, char ret_first[256]);

/* Walks all there is, and lists the directories with attributes too; returns the first error that an intact image cannot give. */
int fuzz_walk(MapfsFs *fs);

/* Runs a script of operations, any of which may fail. */
void fuzz_operations_run(MapfsFs *fs, const uint8_t *script, size_t len);
