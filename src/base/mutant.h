/* SPDX-License-Identifier: MIT */
#pragma once

/* Faults on purpose, to show that the crash tests find them. In a build with -Dmutants=true (tests/crash/mutants makes it) the fault that was
 * chosen is there; in every other build the condition is false, and nothing of it is left. What is named in the code is tested. */

#include "mapfs-config.h"

#ifdef MAPFS_WITH_MUTANTS

#include <stdbool.h>

/* Before anything else runs; NULL for none. */
void mapfs_mutant_choose(const char *name);
bool mapfs_mutant_is(const char *name);

#define MAPFS_MUTANT(name) mapfs_mutant_is(name)

#else

#define MAPFS_MUTANT(name) 0

#endif
