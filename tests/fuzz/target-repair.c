/* SPDX-License-Identifier: MIT */

/* The checker, then a repair, as fsck.mapfs does it: what is repaired is clean, can be read whole, and can be changed and is clean afterwards; what
 * is refused keeps its superblocks. */

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "repair/repair.h"
#include "target.h"

/* As in fsck.mapfs. */
#define ROUNDS_MAX 4u
/* More than an input has things to lose. */
#define NOTES_MAX 1000000u
#define SCRIPT_SAFE_ONLY 8u

typedef struct {
    uint64_t n_notes, n_lost;
} Said;

static void said(void *user, const MapfsRepairNote *note) {
    Said *all = user;

    if (note->message[0] == '\0' || note->first_ino > note->last_ino)
        fuzz_fail("a note of the repair names inodes %lu to %lu: %s", (unsigned long)note->first_ino,
                  (unsigned long)note->last_ino, note->message);
    all->n_lost += note->kind == MAPFS_REPAIR_LOST;
    if (++all->n_notes > NOTES_MAX)
        fuzz_fail("a repair does not end");
}

static void progress(void *user, const char *pass, uint64_t done, uint64_t total) {
    (void)user;
    (void)done;
    (void)total;
    if (!pass)
        fuzz_fail("a pass of the repair has no name");
}

static int repair_once(FuzzImage *image, bool safe_only, Said *ret_said) {
    const MapfsRepairOptions options = {.said = said, .progress = progress, .user = ret_said, .safe_only = safe_only};
    MapfsRepairReport report;
    int r;

    *ret_said = (Said){0};
    r = mapfs_repair_run(image->image, &options, &report);
    if (ret_said->n_lost != report.n_lost)
        fuzz_fail("the repair counts %lu losses and tells %lu", (unsigned long)report.n_lost,
                  (unsigned long)ret_said->n_lost);
    return r;
}

static void slots_copy(const FuzzImage *image, uint8_t *ret_bytes) {
    uint64_t n_blocks = MAPFS_MIN(image->image->n_blocks, MAPFS_SUPERBLOCK_SLOTS);

    memcpy(ret_bytes, image->image->base, (size_t)n_blocks << MAPFS_BLOCK_SHIFT);
}

static void slots_compare(const FuzzImage *image, const uint8_t *before, int r) {
    uint64_t n_blocks = MAPFS_MIN(image->image->n_blocks, MAPFS_SUPERBLOCK_SLOTS);

    if (memcmp(before, image->image->base, (size_t)n_blocks << MAPFS_BLOCK_SHIFT) != 0)
        fuzz_fail("a repair that was refused has changed a superblock: %s (%s)", strerror(-r), mapfs_damage_last());
}

/* 0, or the first round's error. What one round turns up another mends. */
static int repair(FuzzImage *image, const FuzzInput *input) {
    bool safe_only = input->script_len > 0 && (input->script[0] & SCRIPT_SAFE_ONLY);
    uint8_t before[MAPFS_SUPERBLOCK_SLOTS * MAPFS_BLOCK_SIZE];
    char first[256];
    Said told;

    for (unsigned i = 0; i < ROUNDS_MAX; i++) {
        int r;

        slots_copy(image, before);
        r = repair_once(image, safe_only, &told);
        if (r < 0 && r != -EIO)
            slots_compare(image, before, r);
        if (r < 0 && i > 0 && r != -ENOSPC && !safe_only)
            fuzz_fail("repaired, but not a second time: %s (%s)", strerror(-r), mapfs_damage_last());
        if (r < 0)
            return r;
        if (safe_only && told.n_lost > 0)
            fuzz_fail("a repair of what loses nothing has lost something");
        if (fuzz_image_is_clean(image, first))
            return 0;
    }
    fuzz_fail("repaired %u times, and not clean: %s", ROUNDS_MAX, first);
}

/* What was repaired must be a filesystem that works. */
static void use(FuzzImage *image, const FuzzInput *input) {
    const MapfsStoreOptions options = {.discard = false};
    char first[256];
    MapfsFs *fs;
    int r;

    r = mapfs_fs_open(image->image, &options, &fs);
    if (r == -EROFS) /* counters at their end */
        return;
    if (r < 0)
        fuzz_fail("repaired, but it does not open: %s (%s)", strerror(-r), mapfs_damage_last());
    r = fuzz_walk(fs);
    if (r < 0)
        fuzz_fail("repaired, the walk meets: %s (%s)", strerror(-r), mapfs_damage_last());
    if (input->script_len > 1)
        fuzz_operations_run(fs, input->script + 1, input->script_len - 1);
    r = mapfs_fs_sync(fs);
    if (mapfs_fs_close(fs) < 0 || r < 0)
        fuzz_fail("repaired, but it cannot be synced or closed (%s)", mapfs_damage_last());
    if (!fuzz_image_is_clean(image, first))
        fuzz_fail("repaired, changed, and not clean any more: %s", first);
}

void fuzz_target_run(const FuzzInput *input) {
    char first[256];
    FuzzImage image;

    if (!fuzz_image_open(input, &image))
        return;
    if (!fuzz_image_is_clean(&image, first) && repair(&image, input) == 0)
        use(&image, input);
    fuzz_image_close(&image);
}
