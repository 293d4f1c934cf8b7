/* SPDX-License-Identifier: MIT */

/* A mount for writing after whatever has come before, orphans reclaimed, operations by the script, and an orderly end or none. What was clean
 * to the checker is clean afterwards. */

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "target.h"

#define SCRIPT_DISCARD 1u
#define SCRIPT_RECLAIM 2u
#define SCRIPT_ABANDON 4u

static void must_still_be_clean(FuzzImage *image) {
    const MapfsStoreOptions options = {.read_only = true};
    char first[256];
    MapfsFs *fs;
    int r;

    if (!fuzz_image_is_clean(image, first))
        fuzz_fail("clean before the changes, not after them: %s", first);
    r = mapfs_fs_open(image->image, &options, &fs);
    if (r == 0)
        r = fuzz_walk(fs);
    if (r < 0)
        fuzz_fail("clean before the changes, but now: %s (%s)", strerror(-r), mapfs_damage_last());
    mapfs_fs_abandon(fs);
}

/* True when all went as it does with an intact image. */
static bool change(FuzzImage *image, const FuzzInput *input) {
    uint8_t flags = input->script_len > 0 ? input->script[0] : 0;
    const MapfsStoreOptions options = {.discard = flags & SCRIPT_DISCARD};
    MapfsFs *fs;
    int r, sync;

    r = mapfs_fs_open(image->image, &options, &fs);
    if (r < 0)
        return r == -EROFS; /* what may only be read is no damage */
    if (flags & SCRIPT_RECLAIM)
        (void)!mapfs_fs_reclaim(fs); /* without room it may fail */
    if (input->script_len > 1)
        fuzz_operations_run(fs, input->script + 1, input->script_len - 1);
    sync = mapfs_fs_sync(fs);
    (void)fuzz_walk(fs);
    if (flags & SCRIPT_ABANDON) {
        mapfs_fs_abandon(fs);
        return sync == 0;
    }
    (void)!mapfs_fs_reclaim(fs);
    r = mapfs_fs_close(fs);
    return sync == 0 && r == 0;
}

void fuzz_target_run(const FuzzInput *input) {
    char first[256];
    FuzzImage image;
    bool is_clean;

    if (!fuzz_image_open(input, &image))
        return;
    is_clean = fuzz_image_is_clean(&image, first);
    mapfs_damage_clear();
    if (!change(&image, input) && is_clean)
        fuzz_fail("clean, but it cannot be opened, synced or closed (%s)", mapfs_damage_last());
    if (is_clean)
        must_still_be_clean(&image);
    fuzz_image_close(&image);
}
