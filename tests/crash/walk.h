/* SPDX-License-Identifier: MIT */
#pragma once

/* Reads everything that a mounted filesystem shows, through the functions that serve a mount. */

#include "model.h"

/* Adds up the hash of all that is visible, as a model does; with `into`, an empty model, also fills that. 0, or -errno with what failed
 * where appended to `error`. */
int walk_all(MapfsFs *fs, Model *into, uint64_t *ret_sum, GString *error) MAPFS_MUST_USE;
