/* SPDX-License-Identifier: MIT */

#include "repair/repair.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "repair/repair-private.h"

#define MESSAGE_BYTES 512u

bool mapfs_repair_is_safe(MapfsProblemNumber number) {
    static const MapfsProblemNumber safe[] = {
        MAPFS_PROBLEM_LOG_PLACE,      MAPFS_PROBLEM_XATTR_COUNT,      MAPFS_PROBLEM_EXTENT_YOUNG,
        MAPFS_PROBLEM_INODE_BLOCKS,   MAPFS_PROBLEM_INODE_NUMBER,     MAPFS_PROBLEM_DIRENT_TYPE,
        MAPFS_PROBLEM_DIRECTORY_SIZE, MAPFS_PROBLEM_DIRECTORY_PARENT, MAPFS_PROBLEM_LINK_COUNT,
        MAPFS_PROBLEM_BLOCK_UNMARKED, MAPFS_PROBLEM_BLOCK_LEAKED,     MAPFS_PROBLEM_BITMAP,
        MAPFS_PROBLEM_GROUP_OUTSIDE,  MAPFS_PROBLEM_GROUP_FREE,       MAPFS_PROBLEM_SHARED_COUNT,
        MAPFS_PROBLEM_SHARED_FEATURE, MAPFS_PROBLEM_PENDING_YOUNG,    MAPFS_PROBLEM_COUNT_FREE,
        MAPFS_PROBLEM_COUNT_PENDING,  MAPFS_PROBLEM_COUNT_INODES,     MAPFS_PROBLEM_ACL_MODE,
    };

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(safe); i++)
        if (safe[i] == number)
            return true;
    return false;
}

static void note_give(MapfsRepair *repair, const MapfsRepairNote *note) {
    MapfsRepairReport *report = repair->report;

    report->n_fixed += note->kind == MAPFS_REPAIR_FIXED;
    report->n_lost += note->kind == MAPFS_REPAIR_LOST;
    report->n_moved += note->kind == MAPFS_REPAIR_MOVED;
    if (repair->options->said)
        repair->options->said(repair->options->user, note);
}

void mapfs_repair_say(MapfsRepair *repair, MapfsRepairKind kind, uint64_t ino, const char *format, ...) {
    char message[MESSAGE_BYTES];
    va_list args;

    va_start(args, format);
    /* A message too long for the buffer is cut; the numbers of the inodes are told beside it. */
    (void)vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    note_give(repair, &(MapfsRepairNote){.kind = kind, .first_ino = ino, .last_ino = ino, .message = message});
}

void mapfs_repair_say_range(MapfsRepair *repair, uint64_t first_ino, uint64_t last_ino, const char *message) {
    note_give(repair, &(MapfsRepairNote){
                          .kind = MAPFS_REPAIR_LOST, .first_ino = first_ino, .last_ino = last_ino, .message = message});
}

void mapfs_repair_progress(MapfsRepair *repair, const char *pass, uint64_t done, uint64_t total) {
    if (repair->options->progress)
        repair->options->progress(repair->options->user, pass, done, total);
}

static int repair_steps(MapfsRepair *repair) {
    static int (*const steps[])(MapfsRepair *) = {
        mapfs_repair_find_state,  mapfs_repair_scan,      mapfs_repair_open_store,   mapfs_repair_fill_gaps,
        mapfs_repair_find_inodes, mapfs_repair_fix_items, mapfs_repair_count_shared, mapfs_repair_fix_links,
    };

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(steps); i++) {
        int r = steps[i](repair);

        if (r < 0)
            return r;
        /* What a lost page of the host has taken was not damaged in the image, and must not be thrown away. */
        if (mapfs_sigbus_taken() || mapfs_image_error(repair->image) < 0)
            return -EIO;
    }
    if (repair->options->safe_only && repair->report->n_lost > 0)
        return -EPERM;
    return mapfs_repair_finish(repair);
}

static void repair_clear(MapfsRepair *repair) {
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(repair->states); i++) {
        mapfs_used_clear(&repair->states[i].nodes);
        mapfs_vector_clear(&repair->states[i].gaps);
        mapfs_vector_clear(&repair->states[i].groups);
    }
    mapfs_used_clear(&repair->protected);
    mapfs_used_clear(&repair->kept);
    mapfs_used_clear(&repair->marked);
    mapfs_used_clear(&repair->shared);
    mapfs_vector_clear(&repair->shared_starts);
    mapfs_vector_clear(&repair->shared_ends);
    mapfs_vector_clear(&repair->leaves);
    mapfs_vector_clear(&repair->inodes);
    mapfs_vector_clear(&repair->names);
    g_free(repair->bitmaps);
    mapfs_store_abandon(repair->store);
}

/* An image too full for a new tree can go back to the state before, which needs none: if not much more than a checkpoint's changes is lost by
 * that. Else it is better left as it is, for whoever can make it larger or copy what can be read. */
static bool can_go_back(const MapfsRepair *repair) {
    uint64_t n_newest = mapfs_le64_load(repair->states[0].superblock.n_inodes);

    return repair->older && mapfs_le64_load(repair->older->superblock.n_inodes) >= n_newest - n_newest / 10;
}

int mapfs_repair_run(MapfsImage *image, const MapfsRepairOptions *options, MapfsRepairReport *ret_report) {
    MapfsRepairReport report = {0};
    g_autofree MapfsRepair *repair = g_new0(MapfsRepair, 1);
    bool goes_back;
    int r;

    if (!image->alias)
        return -EROFS;
    *repair = (MapfsRepair){.image = image, .options = options, .report = &report};
    (void)mapfs_sigbus_taken(); /* a fault before this run is not its own */
    mapfs_damage_clear();
    r = repair_steps(repair);
    goes_back = r == -ENOSPC && can_go_back(repair);
    repair_clear(repair);
    if (goes_back) {
        *repair = (MapfsRepair){.image = image, .options = options, .report = &report, .goes_back = true};
        r = repair_steps(repair);
        repair_clear(repair);
    }
    *ret_report = report;
    return r;
}
