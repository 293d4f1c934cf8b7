/* SPDX-License-Identifier: MIT */
#pragma once

/* The mapping of an image: two views of the same bytes at stable addresses, one that everybody reads and a writable alias,
 * and what is done to the host below it. Nothing above knows whether the bytes lie in a file, on a block device, in anonymous
 * memory, or in the recording image of the crash tests.
 *
 * Locks: none are needed by callers except where said; each function may be called from any thread. */

#include <stdbool.h>
#include <stddef.h>

#include "base/macros.h"
#include "base/types.h"

typedef struct MapfsImage MapfsImage;

/* Who syncs: write-back errors are reported once per open file, so each channel has its own, with at most one sync in flight.
 * META is for superblocks and the log, DATA for everything else. */
typedef enum {
    MAPFS_SYNC_DATA,
    MAPFS_SYNC_META,
} MapfsSyncChannel;

/* Pages of an image that SIGBUS has replaced. */
typedef struct MapfsFaults MapfsFaults;

/* What an implementation does. The functions below have tested runs for bounds, and the sticky error, before these see them. */
typedef struct {
    int (*sync)(MapfsImage *image, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs);
    int (*reserve)(MapfsImage *image, MapfsRun run);
    int (*discard)(MapfsImage *image, MapfsRun run);
    void (*write_out)(MapfsImage *image, const MapfsRun *runs, size_t n_runs);
    void (*read_ahead)(MapfsImage *image, MapfsRun run);
    void (*ask)(MapfsImage *image, MapfsRun run);
    void (*drop)(MapfsImage *image, MapfsRun run);
    uint64_t (*next_data)(MapfsImage *image, uint64_t block); /* NULL where there are no holes */
    uint64_t (*host_free)(MapfsImage *image);
    uint64_t (*host_allocated)(MapfsImage *image);
    void (*set_finishing)(MapfsImage *image, bool finishing); /* NULL where there is no lock */
    void (*close)(MapfsImage *image);
} MapfsImageOps;

/* Embedded by implementations; others use the functions below. */
struct MapfsImage {
    const MapfsImageOps *ops;
    const uint8_t *base; /* PROT_READ */
    uint8_t *alias;      /* PROT_READ | PROT_WRITE, NULL when read-only */
    uint64_t n_blocks;
    uint64_t reserved_bytes; /* address space of each mapping; what is past n_blocks is room for growth */
    MapfsFaults *faults;     /* NULL when not known to the SIGBUS handler */
    bool on_device;          /* the host is a block device, not a filesystem */
    int error;               /* sticky: first failure of write-back or mapping, 0 or -errno; atomic access */
    bool writes_lost;        /* sticky, likewise: a write-out failed */
};

/* An image begins below this offset of its file. */
#define MAPFS_IMAGE_OFFSET_LIMIT (UINT64_C(1) << 50)

/* How a file or device is opened. */
typedef struct {
    uint64_t offset_bytes; /* where the image starts in the file, a multiple of the block size */
    bool read_only;        /* maps PROT_READ alone and takes no writer's lock */
    bool exclusive;        /* take the writer's lock */
    bool shared;           /* with read_only: take it shared, so that there are readers or one writer */
    bool create;           /* make the file, or let it grow to size_bytes (mkfs); never makes one smaller */
    uint64_t size_bytes;   /* of the image; 0: all that the file has from the offset on */
    unsigned wait_ms;      /* how long to wait for a holder that is finishing (cli: 10 s) */
} MapfsImageOpen;

/* Maps a regular file, a block device or a memfd by path. -EBUSY: another writer holds it (mapfs_image_holder() says who);
 * -EMEDIUMTYPE: neither file nor block device; -ENODATA: shorter than a block or than size_bytes; -EOPNOTSUPP: the host's page size is
 * not the block size; -EINVAL: offset not a multiple of the block size, or exclusive and read-only at once; else the system's
 * errno. A new file's name is durable when this returns. The image is the caller's. */
int mapfs_image_open_file(const char *path, const MapfsImageOpen *how, MapfsImage **ret_image) MAPFS_MUST_USE;

/* Anonymous memory: n_blocks of zeros, gone at close. */
int mapfs_image_open_anonymous(uint64_t n_blocks, MapfsImage **ret_image) MAPFS_MUST_USE;

/* The caller's memory, which must outlive the image and start at a multiple of the block size: for tests that make many images. Both
 * mappings are the buffer itself, and nothing is ever durable or lost. */
int mapfs_image_open_buffer(void *buffer, uint64_t n_blocks, MapfsImage **ret_image) MAPFS_MUST_USE;

/* Who holds the writer's lock of the image at this path and offset: 1 and the pid (0 when it cannot be told, as for another pid
 * namespace), 0 for nobody, or -errno. */
int mapfs_image_holder(const char *path, uint64_t offset_bytes, int *ret_pid) MAPFS_MUST_USE;

/* Whether the holder of that lock is a writer: 1, 0 (there is none, or there are readers), or -errno. */
int mapfs_image_is_written(const char *path, uint64_t offset_bytes) MAPFS_MUST_USE;

/* An image of the file at this path that is locked, by a writer or readers, and whose offset is in [start_bytes, end_bytes), multiples of
 * the block size: 1 and its offset (of several images any one's), 0 for none, or -errno. */
int mapfs_image_holder_between(const char *path, uint64_t start_bytes, uint64_t end_bytes,
                               uint64_t *ret_offset_bytes) MAPFS_MUST_USE;

/* Whether the writer of the image is gone, has said that it is finishing, or is dying: 1, 0 for a live one, or -errno. */
int mapfs_image_is_leaving(const char *path, uint64_t offset_bytes) MAPFS_MUST_USE;

/* While true, other openers with wait_ms wait rather than fail at once: set when an unmount has begun (a lock byte, like the
 * writer's own). They also wait for a holder that is dying, and give any holder a third of a second to say that it is
 * finishing, since umount(8) returns before the daemon knows; a live writer is refused after that. */
void mapfs_image_set_finishing(MapfsImage *image, bool finishing);

/* Unmaps and drops the locks. Does not sync. NULL is fine. */
void mapfs_image_close(MapfsImage *image);

/* The bytes of a run, or NULL when it does not lie in the image. They may change or turn to zeros underfoot: copy a
 * value to a local before it is checked and used. */
static inline const void *mapfs_image_read(const MapfsImage *image, MapfsRun run) {
    return mapfs_run_fits(run, image->n_blocks) ? image->base + (run.start.n << MAPFS_BLOCK_SHIFT) : NULL;
}

/* The same, writable. Only the transaction layer and mkfs call this. */
static inline void *mapfs_image_writable(MapfsImage *image, MapfsRun run) {
    return image->alias && mapfs_run_fits(run, image->n_blocks) ? image->alias + (run.start.n << MAPFS_BLOCK_SHIFT)
                                                                : NULL;
}

/* Makes the runs durable: starts write-out of each, waits, one flush. The runs may come in any order, overlap and touch; none at all
 * is no work. What is stored into them meanwhile may or may not be durable. The first error of a channel is sticky for the image.
 * 0 or -errno (-EINVAL: a run outside the image; not sticky); looks at mapfs_image_error() first and last. */
int mapfs_image_sync(MapfsImage *image, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) MAPFS_MUST_USE;

/* Gets host blocks for a run, so that a store into it cannot meet a full host. 0, -ENOSPC, or another -errno. */
int mapfs_image_reserve(MapfsImage *image, MapfsRun run) MAPFS_MUST_USE;

/* Gives the host blocks of a run back; its bytes become undefined. An error is only a lost saving. */
int mapfs_image_discard(MapfsImage *image, MapfsRun run) MAPFS_MUST_USE;

/* Writes the runs out and waits until the host has them, so that a later sync finds little left; makes nothing durable by itself. Disturbs no
 * sync. An error becomes the sticky one. */
void mapfs_image_write_out(MapfsImage *image, const MapfsRun *runs, size_t n_runs);

/* Hints without result: read ahead (in chunks of at most 8 MiB), and be ready when it is there; ask for what will be read soon, and do not wait; let
 * go of resident clean pages. */
void mapfs_image_read_ahead(MapfsImage *image, MapfsRun run);
void mapfs_image_ask(MapfsImage *image, MapfsRun run);
void mapfs_image_drop(MapfsImage *image, MapfsRun run);

/* The first block from this one on that the host may have bytes for: those before it are zeros. n_blocks when there is none. */
uint64_t mapfs_image_next_data(MapfsImage *image, uint64_t block);

/* True when reading the run would not wait for the host, as far as that can be told (a file that may not be written looks
 * resident always). */
bool mapfs_image_resident(const MapfsImage *image, MapfsRun run);

/* Bytes that the host can still give, and bytes that it has given to the image; UINT64_MAX where the question has no sense, as on a device.
 * What lies before the image in its file is taken for fully allocated. */
uint64_t mapfs_image_host_free(MapfsImage *image);
uint64_t mapfs_image_host_allocated(MapfsImage *image);

/* The sticky error: 0 or -errno. Set by a failed sync and by SIGBUS, which loses the page alone that it met. */
int mapfs_image_error(const MapfsImage *image) MAPFS_MUST_USE;
/* Sets the sticky error (the first one stays). */
void mapfs_image_fail(MapfsImage *image, int error);
/* The same, and what was stored since the last sync that succeeded is not to be believed any more: the host calls pages clean whose
 * write-out failed, and reads other bytes from the disk when it has dropped them. */
void mapfs_image_lose_writes(MapfsImage *image, int error);
bool mapfs_image_writes_lost(const MapfsImage *image);

/* Installs the process's SIGBUS handler; a second call does nothing. A system call that is handed memory of a lost page gets EFAULT
 * instead of a signal. A fault in a mapped image puts an anonymous page there, notes it and sets the
 * image's sticky error; any other goes to the handler that was there before, or kills as without one. -errno. */
int mapfs_sigbus_install(void) MAPFS_MUST_USE;

/* True when the calling thread ran into a fault since the last call (which forgets it): the request must end with EIO. */
bool mapfs_sigbus_taken(void);

/* True when a page of the run was replaced after a fault: what is read there is not the image. Cheap when there was no fault. */
bool mapfs_image_lost(const MapfsImage *image, MapfsRun run);
