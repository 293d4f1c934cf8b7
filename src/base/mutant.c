/* SPDX-License-Identifier: MIT */
#include "base/mutant.h"

#include <stddef.h>
#include <string.h>

static const char *chosen;

void mapfs_mutant_choose(const char *name) {
    chosen = name;
}

bool mapfs_mutant_is(const char *name) {
    return chosen && strcmp(chosen, name) == 0;
}
