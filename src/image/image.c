/* SPDX-License-Identifier: MIT */
#include "image/image.h"

#include <errno.h>
#include <sys/mman.h>

/* As many blocks as one question about them may be. */
#define RESIDENT_BLOCKS_MAX 64u

/* The sticky error is read by every request and set from the SIGBUS handler too, hence atomic and nothing more. */

int mapfs_image_error(const MapfsImage *image) {
    return __atomic_load_n(&image->error, __ATOMIC_ACQUIRE);
}

void mapfs_image_fail(MapfsImage *image, int error) {
    int none = 0;
    (void)__atomic_compare_exchange_n(&image->error, &none, error, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

void mapfs_image_lose_writes(MapfsImage *image, int error) {
    __atomic_store_n(&image->writes_lost, true, __ATOMIC_RELEASE);
    mapfs_image_fail(image, error);
}

bool mapfs_image_writes_lost(const MapfsImage *image) {
    return __atomic_load_n(&image->writes_lost, __ATOMIC_ACQUIRE);
}

void mapfs_image_close(MapfsImage *image) {
    if (image)
        image->ops->close(image);
}

void mapfs_image_set_finishing(MapfsImage *image, bool finishing) {
    if (image->ops->set_finishing)
        image->ops->set_finishing(image, finishing);
}

int mapfs_image_sync(MapfsImage *image, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    int r = mapfs_image_error(image);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n_runs; i++)
        if (!mapfs_run_fits(runs[i], image->n_blocks))
            return -EINVAL;
    if (!image->alias)
        return -EROFS;
    if (n_runs == 0)
        return 0;
    r = image->ops->sync(image, channel, runs, n_runs);
    if (r < 0) {
        mapfs_image_lose_writes(image, r);
        return r;
    }
    /* A fault or the other channel may have failed meanwhile: what this sync covers may lean on what that one lost. */
    return mapfs_image_error(image);
}

int mapfs_image_reserve(MapfsImage *image, MapfsRun run) {
    if (!mapfs_run_fits(run, image->n_blocks))
        return -EINVAL;
    return image->alias ? image->ops->reserve(image, run) : -EROFS;
}

int mapfs_image_discard(MapfsImage *image, MapfsRun run) {
    if (!mapfs_run_fits(run, image->n_blocks))
        return -EINVAL;
    return image->alias ? image->ops->discard(image, run) : -EROFS;
}

void mapfs_image_write_out(MapfsImage *image, const MapfsRun *runs, size_t n_runs) {
    if (!image->alias || mapfs_image_error(image) < 0)
        return;
    for (size_t i = 0; i < n_runs; i++) {
        if (!mapfs_run_fits(runs[i], image->n_blocks))
            return;
    }
    image->ops->write_out(image, runs, n_runs);
}

void mapfs_image_read_ahead(MapfsImage *image, MapfsRun run) {
    if (mapfs_run_fits(run, image->n_blocks))
        image->ops->read_ahead(image, run);
}

void mapfs_image_ask(MapfsImage *image, MapfsRun run) {
    if (mapfs_run_fits(run, image->n_blocks))
        image->ops->ask(image, run);
}

void mapfs_image_drop(MapfsImage *image, MapfsRun run) {
    if (mapfs_run_fits(run, image->n_blocks))
        image->ops->drop(image, run);
}

uint64_t mapfs_image_next_data(MapfsImage *image, uint64_t block) {
    if (block >= image->n_blocks)
        return image->n_blocks;
    return image->ops->next_data ? image->ops->next_data(image, block) : block;
}

uint64_t mapfs_image_host_free(MapfsImage *image) {
    return image->ops->host_free(image);
}

uint64_t mapfs_image_host_allocated(MapfsImage *image) {
    return image->ops->host_allocated(image);
}

bool mapfs_image_resident(const MapfsImage *image, MapfsRun run) {
    unsigned char pages[RESIDENT_BLOCKS_MAX];

    if (!mapfs_run_fits(run, image->n_blocks) || run.n_blocks > RESIDENT_BLOCKS_MAX ||
        mincore((void *)(uintptr_t)(image->base + (run.start.n << MAPFS_BLOCK_SHIFT)),
                run.n_blocks << MAPFS_BLOCK_SHIFT, pages) < 0)
        return false;
    for (uint64_t i = 0; i < run.n_blocks; i++) {
        if (!(pages[i] & 1))
            return false;
    }
    return true;
}
