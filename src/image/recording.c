/* SPDX-License-Identifier: MIT */
#include "image/recording.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <string.h>

#include "base/macros.h"

#define DISCARDED_BYTE 0xdb /* what discarded blocks hold is undefined: no zeros to rely on */
#define SECTORS_PER_PAGE (MAPFS_BLOCK_SIZE / MAPFS_SECTOR_SIZE)

typedef struct Version Version;
struct Version {
    uint64_t when; /* count of notes */
    Version *next_spare;
    uint8_t bytes[MAPFS_BLOCK_SIZE];
};

/* The versions that a page can have on the disk, oldest first: the durable one, then those noted since; the last is what was last
 * seen. An empty list stands for the last seen content alone. */
typedef struct {
    Version **versions;
    size_t n_versions;
    size_t n_room;
    bool lost; /* a sync of it failed: it counts as clean until it is stored into again, and no later sync writes it */
} Page;

struct MapfsRecording {
    MapfsImage image;
    MapfsImage *memory;
    MapfsRecordingHooks hooks;

    pthread_mutex_t mutex; /* guards what follows; not held while a hook runs */
    Page *pages;
    uint8_t *seen;    /* all pages as last seen */
    size_t *unsynced; /* scratch: the pages that have versions */
    uint64_t now;     /* count of notes */
    Version *spares;
};

static MapfsRecording *recording_of(MapfsImage *image) {
    return (MapfsRecording *)image;
}

static size_t block_offset(uint64_t block) {
    return (size_t)block << MAPFS_BLOCK_SHIFT;
}

/* SplitMix64: small, seeded by any number, and every seed a different sequence. */
static uint64_t random_next(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static size_t random_below(uint64_t *state, size_t limit) {
    return (size_t)(random_next(state) % limit);
}

/* Versions. The caller holds the mutex. */

static void page_push(MapfsRecording *recording, Page *page, const uint8_t *bytes, uint64_t when) {
    Version *version = recording->spares;

    if (version)
        recording->spares = version->next_spare;
    else
        version = g_new(Version, 1);
    version->when = when;
    memcpy(version->bytes, bytes, MAPFS_BLOCK_SIZE);
    if (page->n_versions == page->n_room) {
        page->n_room = page->n_room > 0 ? page->n_room * 2 : 8;
        page->versions = g_renew(Version *, page->versions, page->n_room);
    }
    page->versions[page->n_versions++] = version;
}

/* Forgets the oldest `n` versions. */
static void page_drop(MapfsRecording *recording, Page *page, size_t n) {
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++) {
        page->versions[i]->next_spare = recording->spares;
        recording->spares = page->versions[i];
    }
    page->n_versions -= n;
    memmove(page->versions, page->versions + n, page->n_versions * sizeof(*page->versions));
}

static void recording_note(MapfsRecording *recording) {
    recording->now++;
    for (uint64_t i = 0; i < recording->image.n_blocks; i++) {
        const uint8_t *live = recording->image.base + block_offset(i);
        uint8_t *seen = recording->seen + block_offset(i);
        Page *page = &recording->pages[i];
        if (memcmp(live, seen, MAPFS_BLOCK_SIZE) == 0)
            continue;
        if (page->n_versions == 0)
            page_push(recording, page, seen, 0);
        memcpy(seen, live, MAPFS_BLOCK_SIZE);
        page->lost = false;
        page_push(recording, page, seen, recording->now); /* from `seen`: the live page may change underfoot */
    }
}

/* Makes durable what a page held at `when`. Versions noted later stay possible. */
static void page_settle(MapfsRecording *recording, Page *page, uint64_t when) {
    size_t n_older = 0;

    if (page->lost)
        return;
    while (n_older + 1 < page->n_versions && page->versions[n_older + 1]->when <= when)
        n_older++;
    page_drop(recording, page, n_older);
    if (page->n_versions == 1)
        page_drop(recording, page, 1);
}

/* A lost page is read again: what the disk has of it is one of its versions, and known from then on. */
static void page_reload(MapfsRecording *recording, uint64_t block) {
    Page *page = &recording->pages[block];
    uint64_t state = recording->now ^ block;
    const uint8_t *bytes = page->versions[random_below(&state, page->n_versions)]->bytes;

    memcpy(recording->image.alias + block_offset(block), bytes, MAPFS_BLOCK_SIZE);
    memcpy(recording->seen + block_offset(block), bytes, MAPFS_BLOCK_SIZE);
    page_drop(recording, page, page->n_versions);
    page->lost = false;
}

/* What Linux does when write-back fails: the error is told once, and the pages are clean afterwards. */
static void recording_lose(MapfsRecording *recording, const MapfsRun *runs, size_t n_runs) {
    (void)pthread_mutex_lock(&recording->mutex);
    for (size_t i = 0; i < n_runs; i++) {
        for (uint64_t n = 0; n < runs[i].n_blocks; n++) {
            Page *page = &recording->pages[runs[i].start.n + n];

            page->lost = page->n_versions > 0;
        }
    }
    (void)pthread_mutex_unlock(&recording->mutex);
}

/* What an image does */

static int recording_sync(MapfsImage *image, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    MapfsRecording *recording = recording_of(image);
    uint64_t start;
    int r = 0;

    (void)pthread_mutex_lock(&recording->mutex);
    recording_note(recording);
    start = recording->now;
    (void)pthread_mutex_unlock(&recording->mutex);

    if (recording->hooks.sync_begin)
        r = recording->hooks.sync_begin(recording->hooks.user, channel, runs, n_runs);
    if (r < 0 && r != -EINTR)
        recording_lose(recording, runs, n_runs);
    if (r < 0)
        return r == -EINTR ? -EIO : r;

    (void)pthread_mutex_lock(&recording->mutex);
    for (size_t i = 0; i < n_runs; i++)
        for (uint64_t n = 0; n < runs[i].n_blocks; n++)
            page_settle(recording, &recording->pages[runs[i].start.n + n], start);
    (void)pthread_mutex_unlock(&recording->mutex);

    if (recording->hooks.sync_end)
        recording->hooks.sync_end(recording->hooks.user, channel, runs, n_runs);
    return 0;
}

static int recording_reserve(MapfsImage *image, MapfsRun run) {
    MapfsRecording *recording = recording_of(image);

    return recording->hooks.reserve ? recording->hooks.reserve(recording->hooks.user, run) : 0;
}

static int recording_discard(MapfsImage *image, MapfsRun run) {
    memset(image->alias + block_offset(run.start.n), DISCARDED_BYTE, block_offset(run.n_blocks));
    mapfs_recording_note(recording_of(image));
    return 0;
}

static void recording_write_out(MapfsImage *image, const MapfsRun *runs, size_t n_runs) {
    MapfsRecording *recording = recording_of(image);

    /* The kernel may write any page at any time; this only makes now a likely one. */
    mapfs_recording_note(recording);
    if (recording->hooks.write_out)
        recording->hooks.write_out(recording->hooks.user, runs, n_runs);
}

static void recording_hint(MapfsImage *image, MapfsRun run) {
    (void)image;
    (void)run;
}

static void recording_drop(MapfsImage *image, MapfsRun run) {
    MapfsRecording *recording = recording_of(image);

    (void)pthread_mutex_lock(&recording->mutex);
    recording_note(recording);
    for (uint64_t block = run.start.n; block < run.start.n + run.n_blocks; block++) {
        if (recording->pages[block].lost)
            page_reload(recording, block);
    }
    (void)pthread_mutex_unlock(&recording->mutex);
}

static uint64_t recording_host_free(MapfsImage *image) {
    (void)image;
    return UINT64_MAX;
}

static uint64_t recording_host_allocated(MapfsImage *image) {
    return image->n_blocks << MAPFS_BLOCK_SHIFT;
}

static void recording_close(MapfsImage *image) {
    MapfsRecording *recording = recording_of(image);

    for (uint64_t i = 0; i < image->n_blocks; i++) {
        page_drop(recording, &recording->pages[i], recording->pages[i].n_versions);
        g_free(recording->pages[i].versions);
    }
    while (recording->spares) {
        Version *spare = recording->spares;
        recording->spares = spare->next_spare;
        g_free(spare);
    }
    g_free(recording->pages);
    g_free(recording->seen);
    g_free(recording->unsynced);
    (void)pthread_mutex_destroy(&recording->mutex);
    mapfs_image_close(recording->memory);
    g_free(recording);
}

static const MapfsImageOps recording_ops = {
    .sync = recording_sync,
    .reserve = recording_reserve,
    .discard = recording_discard,
    .write_out = recording_write_out,
    .read_ahead = recording_hint,
    .ask = recording_hint,
    .drop = recording_drop,
    .host_free = recording_host_free,
    .host_allocated = recording_host_allocated,
    .close = recording_close,
};

int mapfs_recording_open(uint64_t n_blocks, MapfsRecording **ret_recording) {
    MapfsRecording *recording;
    MapfsImage *memory;

    int r = mapfs_image_open_anonymous(n_blocks, &memory);
    if (r < 0)
        return r;
    recording = g_new0(MapfsRecording, 1);
    recording->memory = memory;
    recording->image.ops = &recording_ops;
    recording->image.base = memory->base;
    recording->image.alias = memory->alias;
    recording->image.n_blocks = n_blocks;
    (void)pthread_mutex_init(&recording->mutex, NULL); /* cannot fail for a default mutex on Linux */
    recording->pages = g_new0(Page, n_blocks);
    recording->seen = g_malloc0(block_offset(n_blocks));
    recording->unsynced = g_new(size_t, n_blocks);
    *ret_recording = recording;
    return 0;
}

MapfsImage *mapfs_recording_image(MapfsRecording *recording) {
    return &recording->image;
}

void mapfs_recording_set_hooks(MapfsRecording *recording, const MapfsRecordingHooks *hooks) {
    recording->hooks = hooks ? *hooks : (MapfsRecordingHooks){0};
}

void mapfs_recording_load(MapfsRecording *recording, const void *bytes) {
    (void)pthread_mutex_lock(&recording->mutex);
    for (uint64_t i = 0; i < recording->image.n_blocks; i++) {
        const uint8_t *page = (const uint8_t *)bytes + block_offset(i);
        uint8_t *live = recording->image.alias + block_offset(i), *seen = recording->seen + block_offset(i);
        /* Most pages of a crash are as they were: a load is cheaper than a store. */
        if (memcmp(live, page, MAPFS_BLOCK_SIZE) != 0)
            memcpy(live, page, MAPFS_BLOCK_SIZE);
        if (memcmp(seen, page, MAPFS_BLOCK_SIZE) != 0)
            memcpy(seen, page, MAPFS_BLOCK_SIZE);
        page_drop(recording, &recording->pages[i], recording->pages[i].n_versions);
        recording->pages[i].lost = false;
    }
    (void)pthread_mutex_unlock(&recording->mutex);
    __atomic_store_n(&recording->image.error, 0, __ATOMIC_RELEASE);
    __atomic_store_n(&recording->image.writes_lost, false, __ATOMIC_RELEASE);
}

void mapfs_recording_note(MapfsRecording *recording) {
    (void)pthread_mutex_lock(&recording->mutex);
    recording_note(recording);
    (void)pthread_mutex_unlock(&recording->mutex);
}

size_t mapfs_recording_unsynced(MapfsRecording *recording, size_t *ret_n_versions) {
    size_t n_pages = 0, n_versions = 0;

    (void)pthread_mutex_lock(&recording->mutex);
    for (uint64_t i = 0; i < recording->image.n_blocks; i++) {
        size_t n = recording->pages[i].n_versions;
        n_pages += n > 0;
        n_versions += n > 0 ? n - 1 : 0;
    }
    (void)pthread_mutex_unlock(&recording->mutex);
    if (ret_n_versions)
        *ret_n_versions = n_versions;
    return n_pages;
}

/* Building disks. The caller of these holds the mutex. */

/* Oldest, newest and any version get a third each: a page with hundreds of versions must not hide the durable one. */
static const Version *page_pick(const Page *page, uint64_t *state) {
    switch (random_next(state) % 3) {
    case 0:
        return page->versions[0];
    case 1:
        return page->versions[page->n_versions - 1];
    default:
        return page->versions[random_below(state, page->n_versions)];
    }
}

static void page_build_torn(const Page *page, uint64_t *state, uint8_t *buffer) {
    for (size_t i = 0; i < SECTORS_PER_PAGE; i++)
        memcpy(buffer + i * MAPFS_SECTOR_SIZE, page_pick(page, state)->bytes + i * MAPFS_SECTOR_SIZE,
               MAPFS_SECTOR_SIZE);
}

/* A page that stands out: in any version but the durable one (`newer`) or the newest; half of the time torn between it and that
 * one. */
static void page_build_odd(const Page *page, bool newer, uint64_t *state, uint8_t *buffer) {
    const Version *odd = page->versions[random_below(state, page->n_versions - 1) + (newer ? 1 : 0)];
    const Version *usual = page->versions[newer ? 0 : page->n_versions - 1];
    uint64_t torn = random_next(state) % 2 ? random_next(state) : 0;

    for (size_t i = 0; i < SECTORS_PER_PAGE; i++) {
        const Version *version = torn & (UINT64_C(1) << i) ? usual : odd;
        memcpy(buffer + i * MAPFS_SECTOR_SIZE, version->bytes + i * MAPFS_SECTOR_SIZE, MAPFS_SECTOR_SIZE);
    }
}

/* The version that a page had at `when`. */
static const Version *page_at(const Page *page, uint64_t when) {
    size_t i = page->n_versions - 1;

    while (i > 0 && page->versions[i]->when > when)
        i--;
    return page->versions[i];
}

/* A moment at which some page changed, or just before all of them. */
static uint64_t moment_pick(const MapfsRecording *recording, size_t n_unsynced, uint64_t *state) {
    const Page *page = &recording->pages[recording->unsynced[random_below(state, n_unsynced)]];

    return page->versions[random_below(state, page->n_versions)]->when;
}

static void page_build(const Page *page, MapfsCrashStrategy strategy, uint64_t *state, uint64_t moment,
                       uint8_t *buffer) {
    const Version *version = NULL;

    switch (strategy) {
    case MAPFS_CRASH_ALL_OLD:
    case MAPFS_CRASH_ONE_NEW:
        version = page->versions[0];
        break;
    case MAPFS_CRASH_RANDOM_PAGES:
        version = page_pick(page, state);
        break;
    case MAPFS_CRASH_RANDOM_SECTORS:
        page_build_torn(page, state, buffer);
        return;
    case MAPFS_CRASH_MOMENT:
        version = page_at(page, moment);
        break;
    case MAPFS_CRASH_ALL_NEW:
    case MAPFS_CRASH_ONE_OLD:
    case MAPFS_CRASH_N_STRATEGIES:
        return; /* what was last seen is there already */
    }
    memcpy(buffer, version->bytes, MAPFS_BLOCK_SIZE);
}

void mapfs_recording_build(MapfsRecording *recording, MapfsCrashStrategy strategy, uint64_t seed, void *buffer) {
    uint64_t state = seed, moment = 0;
    uint8_t *bytes = buffer;
    size_t n_unsynced = 0;

    (void)pthread_mutex_lock(&recording->mutex);
    memcpy(bytes, recording->seen, block_offset(recording->image.n_blocks));
    for (uint64_t i = 0; i < recording->image.n_blocks; i++)
        if (recording->pages[i].n_versions > 0)
            recording->unsynced[n_unsynced++] = i;

    if (strategy == MAPFS_CRASH_MOMENT && n_unsynced > 0)
        moment = moment_pick(recording, n_unsynced, &state);
    for (size_t i = 0; i < n_unsynced; i++)
        page_build(&recording->pages[recording->unsynced[i]], strategy, &state, moment,
                   bytes + block_offset(recording->unsynced[i]));

    if (n_unsynced > 0 && (strategy == MAPFS_CRASH_ONE_NEW || strategy == MAPFS_CRASH_ONE_OLD)) {
        uint64_t block = recording->unsynced[random_below(&state, n_unsynced)];
        page_build_odd(&recording->pages[block], strategy == MAPFS_CRASH_ONE_NEW, &state, bytes + block_offset(block));
    }
    (void)pthread_mutex_unlock(&recording->mutex);
}
