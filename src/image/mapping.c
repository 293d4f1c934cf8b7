/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/image-private.h"

/* Room for growth: as much again as the image, and this at least. Costs address space and nothing else. */
#define ROOM_MIN (UINT64_C(16) << 30)

static int space_reserve(uint64_t len_bytes, void **ret_space) {
    void *space = mmap(NULL, len_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (space == MAP_FAILED)
        return -errno;
    *ret_space = space;
    return 0;
}

/* Reserves address space for the two mappings. */
static int image_reserve_space(MapfsImage *image, bool with_alias, uint64_t len_bytes) {
    void *base = NULL, *alias = NULL;
    int r;

    r = space_reserve(len_bytes, &base);
    if (r < 0)
        return r;
    if (with_alias) {
        r = space_reserve(len_bytes, &alias);
        if (r < 0) {
            (void)munmap(base, len_bytes); /* fails for wrong arguments alone */
            return r;
        }
    }
    image->base = base;
    image->alias = alias;
    image->reserved_bytes = len_bytes;
    return 0;
}

/* Maps the file into reserved space. */
static int view_map(void *space, uint64_t len_bytes, int protection, int fd, uint64_t offset_bytes) {
    if (mmap(space, len_bytes, protection, MAP_SHARED | MAP_FIXED, fd, (off_t)offset_bytes) == MAP_FAILED)
        return -errno;
    /* Faults and write-back of single pages: else one dirty byte dirties a whole large folio, and a sync writes all of it. A
     * host without the advice is only slower. */
    (void)madvise(space, len_bytes, MADV_RANDOM);
    /* A child (a helper program between fork and exec) must neither pay for the page tables nor store into the image. */
    if (madvise(space, len_bytes, MADV_DONTFORK) < 0)
        return -errno;
    return 0;
}

int mapfs_mapping_init(MapfsImage *image, const MapfsMappingSource *source) {
    uint64_t len_bytes = image->n_blocks << MAPFS_BLOCK_SHIFT;
    int r;

    if (sysconf(_SC_PAGESIZE) != (long)MAPFS_BLOCK_SIZE)
        return -EOPNOTSUPP;
    if (image->n_blocks > (UINT64_MAX >> (MAPFS_BLOCK_SHIFT + 2)))
        return -EFBIG;

    r = image_reserve_space(image, source->alias_fd >= 0, len_bytes + MAPFS_MAX(len_bytes, ROOM_MIN));
    if (r < 0) /* RLIMIT_AS or the address space has no room for growth */
        r = image_reserve_space(image, source->alias_fd >= 0, len_bytes);
    if (r < 0)
        return r;
    r = view_map((void *)(uintptr_t)image->base, len_bytes, PROT_READ, source->base_fd, source->offset_bytes);
    if (r == 0 && image->alias)
        r = view_map(image->alias, len_bytes, PROT_READ | PROT_WRITE, source->alias_fd, source->offset_bytes);
    if (r == 0)
        r = mapfs_faults_register(image);
    if (r < 0)
        mapfs_mapping_clear(image);
    return r;
}

void mapfs_mapping_clear(MapfsImage *image) {
    mapfs_faults_unregister(image);
    if (image->alias)
        (void)munmap(image->alias, image->reserved_bytes); /* fails for wrong arguments alone */
    if (image->base)
        (void)munmap((void *)(uintptr_t)image->base, image->reserved_bytes);
    image->alias = NULL;
    image->base = NULL;
}
