/* SPDX-License-Identifier: MIT */
#pragma once

/* What the implementations of images share: making the two mappings, telling the SIGBUS handler of them, and the locks of a
 * file. */

#include "image/image.h"

/* Where the pages of a mapping come from. The two descriptors may be two open files of one file. */
typedef struct {
    int base_fd;
    int alias_fd; /* -1: no writable alias */
    uint64_t offset_bytes;
} MapfsMappingSource;

/* Maps image->n_blocks blocks: sets base, alias and reserved_bytes, and registers the image with the SIGBUS handler. -EOPNOTSUPP: the
 * page size is not the block size. */
int mapfs_mapping_init(MapfsImage *image, const MapfsMappingSource *source) MAPFS_MUST_USE;

/* Undoes it; does nothing after a failed or missing init. */
void mapfs_mapping_clear(MapfsImage *image);

/* Lets the SIGBUS handler know of an image's mappings. -EMFILE: too many images in this process. */
int mapfs_faults_register(MapfsImage *image) MAPFS_MUST_USE;
void mapfs_faults_unregister(MapfsImage *image);

/* One range of bytes of a file. */
typedef struct {
    uint64_t start;
    uint64_t end;
} MapfsByteRange;

/* Sorts ranges and joins those that overlap or touch; returns how many remain. */
size_t mapfs_ranges_merge(MapfsByteRange *ranges, size_t n_ranges);

/* Who holds the writer's lock of an image. */
typedef struct {
    bool held;
    bool finishing;
    int pid; /* 0 when it cannot be told */
} MapfsHolder;

/* The writer's lock of the image at `offset_bytes` of the open file: -EBUSY when another open file has it. Dropped by closing the
 * last descriptor of the open file. */
int mapfs_lock_take(int fd, uint64_t offset_bytes, bool is_shared) MAPFS_MUST_USE;

/* Nobody else takes this byte; should it fail all the same, others do not wait. */
void mapfs_lock_set_finishing(int fd, uint64_t offset_bytes, bool finishing);

/* Asks who holds the lock, other than the open file of `fd` itself. */
int mapfs_lock_query(int fd, uint64_t offset_bytes, MapfsHolder *ret_holder) MAPFS_MUST_USE;

/* True when the holder said that it is finishing, or is on its way out of the process table: it will let go by itself. */
bool mapfs_holder_is_leaving(const MapfsHolder *holder);
