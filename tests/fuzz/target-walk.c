/* SPDX-License-Identifier: MIT */

/* Reading all there is: directories, attributes, extended attributes, symlinks, data. */

#include "target.h"

void fuzz_target_run(const FuzzInput *input) {
    const MapfsStoreOptions options = {.read_only = true};
    FuzzImage image;
    MapfsFs *fs;

    if (!fuzz_image_open(input, &image))
        return;
    fuzz_image_protect(&image, true);
    if (mapfs_fs_open(image.image, &options, &fs) == 0) {
        (void)fuzz_walk(fs); /* any error may be, in a damaged image */
        mapfs_fs_abandon(fs);
    }
    fuzz_image_close(&image);
}
