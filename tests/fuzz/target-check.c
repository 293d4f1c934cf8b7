/* SPDX-License-Identifier: MIT */

/* The checker, and that it is right when it finds nothing: then the image opens, and all of it can be read. */

#include <string.h>

#include "base/error.h"
#include "target.h"

static void must_be_readable(FuzzImage *image) {
    const MapfsStoreOptions options = {.read_only = true};
    MapfsFs *fs;
    int r;

    r = mapfs_fs_open(image->image, &options, &fs);
    if (r < 0)
        fuzz_fail("the checker finds nothing, but it does not open: %s (%s)", strerror(-r), mapfs_damage_last());
    r = fuzz_walk(fs);
    if (r < 0)
        fuzz_fail("the checker finds nothing, the walk meets: %s (%s)", strerror(-r), mapfs_damage_last());
    mapfs_fs_abandon(fs);
}

void fuzz_target_run(const FuzzInput *input) {
    FuzzImage image;
    char first[256];

    if (!fuzz_image_open(input, &image))
        return;
    fuzz_image_protect(&image, true);
    if (fuzz_image_is_clean(&image, first))
        must_be_readable(&image);
    fuzz_image_close(&image);
}
