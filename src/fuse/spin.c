/* SPDX-License-Identifier: MIT */
#include "fuse/spin.h"

#include "base/macros.h"

/* The longest look: about what waking an idle processor costs at worst. */
#define LEN_US_MAX 200u
/* The first length, once requests are seen to follow each other that closely. */
#define LEN_US_START 25u
/* After so many failed looks in a row one request in 1024 is looked for: enough to notice within a second that there is an idle processor again. */
#define FAILED_MAX 10u

unsigned mapfs_spin_begin(MapfsSpin *spin) {
    if (spin->n_skip > 0) {
        spin->n_skip--;
        return 0;
    }
    return spin->len_us;
}

/* Longer, where that would have met the request; shorter, where none came: that time was for nothing. */
static void spin_adapt(MapfsSpin *spin, uint64_t waited_us) {
    if (waited_us > LEN_US_MAX)
        spin->len_us /= 2;
    else if (waited_us > spin->len_us)
        spin->len_us = MAPFS_MIN(MAPFS_MAX(spin->len_us * 2, LEN_US_START), LEN_US_MAX);
}

void mapfs_spin_end(MapfsSpin *spin, unsigned len_us, bool has_met, uint64_t waited_us) {
    spin_adapt(spin, waited_us);
    if (len_us == 0)
        return;
    /* Who met it much too late was not running in between. */
    if (has_met && waited_us <= len_us + LEN_US_MAX) {
        spin->n_failed = 0;
        return;
    }
    spin->n_failed = MAPFS_MIN(spin->n_failed + 1, FAILED_MAX);
    spin->n_skip = (1u << spin->n_failed) - 1;
}
