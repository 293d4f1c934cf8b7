/* SPDX-License-Identifier: MIT */
#pragma once

/* An image in memory over a simulated disk: it keeps every version that any page had since the last sync that covered it, and
 * builds the disks that a power cut could leave. The versions are found by comparing the memory, not by what the code above
 * declares, so a store that nobody told of is seen as the kernel would see it.
 *
 * What a power cut may leave: each 512-byte sector on its own is as the last sync that covered it found it, or as in any version
 * noted since. During a sync its pages are still in that state: it may have reached any of them.
 *
 * Part of the library of images, where a program that does not call it pays nothing for it. Any thread may call these functions;
 * stores that race with a note are noted as torn as they are found. */

#include <stdint.h>

#include "image/image.h"

#define MAPFS_SECTOR_SIZE 512u

typedef struct MapfsRecording MapfsRecording;

/* Called without any lock of the recording held, so all functions below may be called from them. NULL members do nothing. */
typedef struct {
    /* A sync has been asked for and nothing of it is promised yet; the present content has been noted. -errno: the sync fails
     * with it, nothing becomes durable, and the pages count as clean: no later sync writes them, and when they are dropped, any of their
     * versions is read back. -EINTR: whoever waits for the sync is killed; the pages are still to be written. */
    int (*sync_begin)(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs);
    /* What the runs held at sync_begin is durable. */
    void (*sync_end)(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs);
    /* Host space is asked for. -errno: it is refused with it. */
    int (*reserve)(void *user, MapfsRun run);
    /* Write-out without a sync has been asked for. */
    void (*write_out)(void *user, const MapfsRun *runs, size_t n_runs);
    void *user;
} MapfsRecordingHooks;

/* Which versions a power cut leaves. */
typedef enum {
    MAPFS_CRASH_ALL_OLD,        /* nothing since the last syncs */
    MAPFS_CRASH_ALL_NEW,        /* everything: a kill of the process alone */
    MAPFS_CRASH_RANDOM_PAGES,   /* each page any version, none torn */
    MAPFS_CRASH_RANDOM_SECTORS, /* each sector any version */
    MAPFS_CRASH_ONE_NEW,        /* all old, but one page in a later version, perhaps torn */
    MAPFS_CRASH_ONE_OLD,        /* all new, but one page in an older version, perhaps torn */
    MAPFS_CRASH_MOMENT,         /* all pages as they were at one earlier moment */
    MAPFS_CRASH_N_STRATEGIES,
} MapfsCrashStrategy;

/* n_blocks of durable zeros. */
int mapfs_recording_open(uint64_t n_blocks, MapfsRecording **ret_recording) MAPFS_MUST_USE;

/* The image to work on. mapfs_image_close() of it frees the recording. */
MapfsImage *mapfs_recording_image(MapfsRecording *recording);

/* Copied; NULL for none. */
void mapfs_recording_set_hooks(MapfsRecording *recording, const MapfsRecordingHooks *hooks);

/* Starts again as after a boot: memory and disk hold the n_blocks at `bytes`, nothing is unsynced, no error is left. */
void mapfs_recording_load(MapfsRecording *recording, const void *bytes);

/* Compares the memory with what was last seen and keeps a new version of each page that differs. To be called at every step after which a
 * power cut is to be tried; versions between two calls were never on the disk as far as this is concerned. */
void mapfs_recording_note(MapfsRecording *recording);

/* Number of pages with versions that no sync has covered, and of those versions. A count of zero pages leaves one possible disk. */
size_t mapfs_recording_unsynced(MapfsRecording *recording, size_t *ret_n_versions);

/* Builds a disk as a power cut now could leave it, in `buffer` of n_blocks blocks. The same versions, strategy and seed give the same
 * disk. Does not note. */
void mapfs_recording_build(MapfsRecording *recording, MapfsCrashStrategy strategy, uint64_t seed, void *buffer);
