/* SPDX-License-Identifier: MIT */
#pragma once

/* Attributes and small macros that every layer uses. */

#include <stddef.h>

/* The result of a fallible function must be looked at; `(void)` plus a reason drops one on purpose. */
#define MAPFS_MUST_USE __attribute__((warn_unused_result))

#define MAPFS_PRINTF(format_index, first_index) __attribute__((format(printf, format_index, first_index)))

#define MAPFS_N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

#define MAPFS_MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAPFS_MAX(a, b) ((a) > (b) ? (a) : (b))
