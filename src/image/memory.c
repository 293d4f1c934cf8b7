/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image-private.h"

/* Images in memory: anonymous ones, and those in a caller's buffer. Nothing is durable, so a sync has nothing to do. */

typedef struct {
    MapfsImage image;
    int fd; /* memfd, so that two mappings can show the same pages; -1 for a buffer */
} MemoryImage;

static MemoryImage *memory_of(MapfsImage *image) {
    return (MemoryImage *)image;
}

static int memory_sync(MapfsImage *image, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    (void)image;
    (void)channel;
    (void)runs;
    (void)n_runs;
    return 0;
}

static int memory_reserve(MapfsImage *image, MapfsRun run) {
    (void)image;
    (void)run;
    return 0;
}

static int memory_discard(MapfsImage *image, MapfsRun run) {
    int fd = memory_of(image)->fd;

    if (fd >= 0 && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(run.start.n << MAPFS_BLOCK_SHIFT),
                             (off_t)(run.n_blocks << MAPFS_BLOCK_SHIFT)) < 0)
        return -errno;
    return 0;
}

static void memory_hint(MapfsImage *image, MapfsRun run) {
    (void)image;
    (void)run;
}

static void memory_write_out(MapfsImage *image, const MapfsRun *runs, size_t n_runs) {
    (void)image;
    (void)runs;
    (void)n_runs;
}

static uint64_t memory_host_free(MapfsImage *image) {
    (void)image;
    return UINT64_MAX;
}

static uint64_t memory_host_allocated(MapfsImage *image) {
    struct stat st;

    if (memory_of(image)->fd < 0 || fstat(memory_of(image)->fd, &st) < 0)
        return image->n_blocks << MAPFS_BLOCK_SHIFT;
    return (uint64_t)st.st_blocks * 512;
}

static void memory_close(MapfsImage *image) {
    MemoryImage *memory = memory_of(image);

    if (memory->fd >= 0) {
        mapfs_mapping_clear(image);
        (void)close(memory->fd); /* nothing to lose */
    }
    g_free(memory);
}

static const MapfsImageOps memory_ops = {
    .sync = memory_sync,
    .reserve = memory_reserve,
    .discard = memory_discard,
    .write_out = memory_write_out,
    .read_ahead = memory_hint,
    .ask = memory_hint,
    .drop = memory_hint,
    .host_free = memory_host_free,
    .host_allocated = memory_host_allocated,
    .close = memory_close,
};

static MemoryImage *memory_new(uint64_t n_blocks) {
    MemoryImage *memory = g_new0(MemoryImage, 1);

    memory->image.ops = &memory_ops;
    memory->image.n_blocks = n_blocks;
    memory->fd = -1;
    return memory;
}

int mapfs_image_open_anonymous(uint64_t n_blocks, MapfsImage **ret_image) {
    MemoryImage *memory;
    int r;

    if (n_blocks == 0 || n_blocks > (uint64_t)INT64_MAX >> MAPFS_BLOCK_SHIFT)
        return -EINVAL;

    memory = memory_new(n_blocks);
    memory->fd = memfd_create("mapfs", MFD_CLOEXEC);
    if (memory->fd < 0 || ftruncate(memory->fd, (off_t)(n_blocks << MAPFS_BLOCK_SHIFT)) < 0) {
        r = -errno;
        goto fail;
    }
    r = mapfs_mapping_init(&memory->image, &(MapfsMappingSource){.base_fd = memory->fd, .alias_fd = memory->fd});
    if (r < 0)
        goto fail;
    *ret_image = &memory->image;
    return 0;

fail:
    memory_close(&memory->image);
    return r;
}

int mapfs_image_open_buffer(void *buffer, uint64_t n_blocks, MapfsImage **ret_image) {
    if (n_blocks == 0 || (uintptr_t)buffer % MAPFS_BLOCK_SIZE != 0)
        return -EINVAL;

    MemoryImage *memory = memory_new(n_blocks);
    memory->image.base = buffer;
    memory->image.alias = buffer;
    *ret_image = &memory->image;
    return 0;
}
