/* SPDX-License-Identifier: MIT */
#pragma once

/* Lists of runs. */

#include <glib.h>

#include "base/types.h"

/* Sorts runs and joins those that touch or overlap. Returns how many blocks were in more than one. */
uint64_t mapfs_store_runs_join(GArray *runs);
