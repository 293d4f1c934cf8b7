/* SPDX-License-Identifier: MIT */
#pragma once

/* Lists of runs. */

#include <glib.h>

#include "base/types.h"

/* Sorts runs and joins those that touch or overlap. Returns how many blocks were in more than one. */
uint64_t mapfs_store_runs_join(GArray *runs);

/* Cuts runs of more than n_max blocks into pieces; the order stays. */
void mapfs_store_runs_split(GArray *runs, uint64_t n_max);

/* Takes the blocks of a run out of a list, as often as they are in it. The order of the list is lost. */
void mapfs_store_runs_subtract(GArray *runs, MapfsRun run);
