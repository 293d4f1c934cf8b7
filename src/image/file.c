/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "image/image-private.h"

/* An image in a regular file or on a block device.
 *
 * The kernel reports an error of write-back once per open file. So there are two open files, one for each sync channel, and each mapping
 * belongs to one of them: the alias to DATA's, the base (mapped for reading, but of a file open for writing, so that msync works on
 * it) to META's. A sync uses its channel's descriptor and mapping alone. A third open file is for write-out that is waited for without a sync: it
 * may then meet an error first, and takes it from nobody.
 *
 * Locks: each channel's mutex is held over its sync, and nothing is taken below it. The two are never held together. */

#define READ_AHEAD_CHUNK (UINT64_C(8) << 20) /* one MADV_WILLNEED of more caches next to nothing */
#define RANGES_ON_STACK 64u
#define HOLDER_POLL_NS 5000000L /* 5 ms */
#define HOLDER_GRACE_MS 300     /* from the end of umount(8) until the daemon says that it is finishing */

typedef struct {
    int fd;
    uint8_t *view; /* the mapping of this descriptor's open file */
    pthread_mutex_t mutex;
} FileChannel;

typedef struct {
    MapfsImage image;
    FileChannel channels[2]; /* by MapfsSyncChannel */
    int behind_fd;           /* of mapfs_image_write_out(); -1 when read-only */
    uint64_t offset_bytes;
    uint64_t file_bytes; /* when it was opened */
    bool is_device;
    bool ranges_are_sound; /* sync_file_range and one flush make ranges durable */
} FileImage;

static FileImage *file_of(MapfsImage *image) {
    return (FileImage *)image;
}

static uint64_t run_start(MapfsRun run) {
    return run.start.n << MAPFS_BLOCK_SHIFT;
}

static uint64_t run_len(MapfsRun run) {
    return run.n_blocks << MAPFS_BLOCK_SHIFT;
}

/* Sync */

static int range_write(const FileImage *file, int fd, MapfsByteRange range, unsigned flags) {
    off_t start = (off_t)(file->offset_bytes + range.start);

    if (sync_file_range(fd, start, (off_t)(range.end - range.start), flags) < 0)
        return -errno;
    return 0;
}

static int view_flush(FileChannel *channel, MapfsByteRange range) {
    return msync(channel->view + range.start, range.end - range.start, MS_SYNC) < 0 ? -errno : 0;
}

/* A file cut short by somebody else has lost pages whose msync "succeeds": nothing of them is left to write. */
static int file_check_size(FileImage *file) {
    struct stat st;

    if (file->is_device)
        return 0;
    if (fstat(file->channels[MAPFS_SYNC_DATA].fd, &st) < 0)
        return -errno;
    return (uint64_t)st.st_size < file->offset_bytes + (file->image.n_blocks << MAPFS_BLOCK_SHIFT) ? -EIO : 0;
}

/* Starts write-out of all, then waits for all, then one flush: scattered pages cost one flush instead of one each. Where that is not
 * known to be sound, or for one range, msync does it all. The caller holds the channel's mutex. */
static int ranges_sync(FileImage *file, FileChannel *channel, const MapfsByteRange *ranges, size_t n_ranges) {
    int r;

    if (n_ranges == 1 || !file->ranges_are_sound)
        return view_flush(channel, (MapfsByteRange){ranges[0].start, ranges[n_ranges - 1].end});

    for (size_t i = 0; i < n_ranges; i++) {
        r = range_write(file, channel->fd, ranges[i], SYNC_FILE_RANGE_WRITE);
        if (r < 0)
            return r;
    }
    /* All three flags: the pass above leaves out a page that was being written when it was dirtied again. */
    for (size_t i = 0; i < n_ranges; i++) {
        r = range_write(file, channel->fd, ranges[i],
                        SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        if (r < 0)
            return r;
    }
    /* Commits what the host's filesystem must know of the blocks of the whole file, and flushes the device's cache. */
    return view_flush(channel, (MapfsByteRange){ranges[0].start, ranges[0].start + MAPFS_BLOCK_SIZE});
}

static int file_sync(MapfsImage *image, MapfsSyncChannel which, const MapfsRun *runs, size_t n_runs) {
    FileImage *file = file_of(image);
    FileChannel *channel = &file->channels[which];
    MapfsByteRange on_stack[RANGES_ON_STACK], whole = {UINT64_MAX, 0};
    g_autofree MapfsByteRange *on_heap = n_runs > RANGES_ON_STACK ? g_try_new(MapfsByteRange, n_runs) : NULL;
    MapfsByteRange *ranges = n_runs > RANGES_ON_STACK ? on_heap : on_stack;
    int r;

    for (size_t i = 0; i < n_runs; i++) {
        MapfsByteRange range = {run_start(runs[i]), run_start(runs[i]) + run_len(runs[i])};
        if (ranges)
            ranges[i] = range;
        whole = (MapfsByteRange){MAPFS_MIN(whole.start, range.start), MAPFS_MAX(whole.end, range.end)};
    }
    if (ranges) {
        n_runs = mapfs_ranges_merge(ranges, n_runs);
    } else { /* no memory is no reason to fail a sync: one msync of all is dearer, not worse */
        ranges = &whole;
        n_runs = 1;
    }

    (void)pthread_mutex_lock(&channel->mutex);
    r = mapfs_image_error(
        image); /* of the sync before, which has perhaps used up the report of an error of our pages */
    if (r == 0)
        r = ranges_sync(file, channel, ranges, n_runs);
    if (r == 0)
        r = file_check_size(file);
    if (r < 0)
        mapfs_image_lose_writes(image, r); /* before the next sync looks */
    (void)pthread_mutex_unlock(&channel->mutex);
    return r;
}

static int runs_write(FileImage *file, const MapfsRun *runs, size_t n_runs, unsigned flags) {
    int r = 0;

    for (size_t i = 0; i < n_runs && r == 0; i++) {
        r = range_write(file, file->behind_fd,
                        (MapfsByteRange){run_start(runs[i]), run_start(runs[i]) + run_len(runs[i])}, flags);
    }
    return r;
}

static void file_write_out(MapfsImage *image, const MapfsRun *runs, size_t n_runs) {
    FileImage *file = file_of(image);
    int r;

    r = runs_write(file, runs, n_runs, SYNC_FILE_RANGE_WRITE);
    if (r == 0)
        r = runs_write(file, runs, n_runs, SYNC_FILE_RANGE_WAIT_BEFORE);
    if (r < 0 && r != -EINTR)
        mapfs_image_lose_writes(image, r); /* the pages may be clean now */
}

/* Host space */

static int file_allocate(FileImage *file, int mode, MapfsRun run) {
    int fd = file->channels[MAPFS_SYNC_DATA].fd, r;

    do
        r = fallocate(fd, mode, (off_t)(file->offset_bytes + run_start(run)), (off_t)run_len(run));
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int file_reserve(MapfsImage *image, MapfsRun run) {
    FileImage *file = file_of(image);

    if (file->is_device)
        return 0;
    int r = file_allocate(file, FALLOC_FL_KEEP_SIZE, run);
    /* A host that cannot reserve: a full one is met by the SIGBUS handler then. */
    return r == -EOPNOTSUPP ? 0 : r;
}

/* On a device the kernel makes this a discard that reads as zeros, or refuses. */
static int file_discard(MapfsImage *image, MapfsRun run) {
    return file_allocate(file_of(image), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, run);
}

static uint64_t file_host_free(MapfsImage *image) {
    FileImage *file = file_of(image);
    struct statvfs st;

    /* A filesystem without a size (a tmpfs with size=0, some network ones) has zero blocks. */
    if (file->is_device || fstatvfs(file->channels[MAPFS_SYNC_DATA].fd, &st) < 0 || st.f_blocks == 0)
        return UINT64_MAX;
    return (geteuid() == 0 ? st.f_bfree : st.f_bavail) * (uint64_t)st.f_frsize;
}

static uint64_t file_host_allocated(MapfsImage *image) {
    FileImage *file = file_of(image);
    struct stat st;
    uint64_t bytes;

    if (file->is_device || fstat(file->channels[MAPFS_SYNC_DATA].fd, &st) < 0)
        return UINT64_MAX;
    bytes = (uint64_t)st.st_blocks * 512;
    return bytes - MAPFS_MIN(bytes, file->offset_bytes);
}

/* Residency. These are hints: a failure only costs time. */

static void file_read_ahead(MapfsImage *image, MapfsRun run) {
    uint8_t *base = (uint8_t *)(uintptr_t)image->base;
    uint64_t start = run_start(run), end = start + run_len(run);
    uint64_t asked = start;

    /* One chunk is asked for ahead of the one that is waited for and mapped. */
    while (start < end) {
        uint64_t chunk_end = MAPFS_MIN(start + READ_AHEAD_CHUNK, end);
        while (asked < end && asked <= chunk_end) {
            uint64_t len = MAPFS_MIN(READ_AHEAD_CHUNK, end - asked);
            (void)madvise(base + asked, len, MADV_WILLNEED);
            asked += len;
        }
        (void)madvise(base + start, chunk_end - start, MADV_POPULATE_READ);
        start = chunk_end;
    }
}

static void file_ask(MapfsImage *image, MapfsRun run) {
    uint8_t *base = (uint8_t *)(uintptr_t)image->base;
    uint64_t end = run_start(run) + run_len(run);

    for (uint64_t at = run_start(run); at < end; at += READ_AHEAD_CHUNK)
        (void)madvise(base + at, MAPFS_MIN(READ_AHEAD_CHUNK, end - at), MADV_WILLNEED);
}

/* fadvise drops nothing that is mapped, hence madvise first. Dirty pages stay in the page cache. */
static void file_drop(MapfsImage *image, MapfsRun run) {
    FileImage *file = file_of(image);
    uint64_t start = run_start(run), len = run_len(run);

    (void)madvise((uint8_t *)(uintptr_t)image->base + start, len, MADV_DONTNEED);
    if (image->alias)
        (void)madvise(image->alias + start, len, MADV_DONTNEED);
    (void)posix_fadvise(file->channels[MAPFS_SYNC_DATA].fd, (off_t)(file->offset_bytes + start), (off_t)len,
                        POSIX_FADV_DONTNEED);
}

/* Where the host cannot tell, all is data. */
static uint64_t file_next_data(MapfsImage *image, uint64_t block) {
    FileImage *file = file_of(image);
    off_t at = (off_t)(file->offset_bytes + (block << MAPFS_BLOCK_SHIFT));
    off_t found = file->is_device ? at : lseek(file->channels[MAPFS_SYNC_DATA].fd, at, SEEK_DATA);

    if (found < 0)
        return errno == ENXIO ? image->n_blocks : block;
    return MAPFS_MIN(((uint64_t)found - file->offset_bytes) >> MAPFS_BLOCK_SHIFT, image->n_blocks);
}

/* Opening and closing */

static void file_set_finishing(MapfsImage *image, bool finishing) {
    FileImage *file = file_of(image);

    mapfs_lock_set_finishing(file->channels[MAPFS_SYNC_DATA].fd, file->offset_bytes, finishing);
}

static void file_close_descriptors(FileImage *file) {
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(file->channels); i++) {
        if (file->channels[i].fd >= 0)
            (void)close(file->channels[i].fd); /* durable is what was synced; close promises nothing */
        file->channels[i].fd = -1;
    }
    if (file->behind_fd >= 0)
        (void)close(file->behind_fd); /* likewise */
    file->behind_fd = -1;
}

static void file_close(MapfsImage *image) {
    FileImage *file = file_of(image);

    mapfs_mapping_clear(image);
    file_close_descriptors(file);
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(file->channels); i++)
        (void)pthread_mutex_destroy(&file->channels[i].mutex);
    g_free(file);
}

static const MapfsImageOps file_ops = {
    .sync = file_sync,
    .reserve = file_reserve,
    .discard = file_discard,
    .write_out = file_write_out,
    .read_ahead = file_read_ahead,
    .ask = file_ask,
    .drop = file_drop,
    .next_data = file_next_data,
    .host_free = file_host_free,
    .host_allocated = file_host_allocated,
    .set_finishing = file_set_finishing,
    .close = file_close,
};

/* Makes the name of a new file durable. */
static int parent_sync(const char *path) {
    g_autofree char *parent = g_path_get_dirname(path);
    int fd, r = 0;

    fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == EACCES ? 0 : -errno; /* a directory that may be searched and written, but not read */
    if (fsync(fd) < 0 && errno != EINVAL)    /* EINVAL: this filesystem knows no fsync of directories */
        r = -errno;
    (void)close(fd); /* was only read */
    return r;
}

/* What is there already must be a file or a device: others are not even opened, since opening may block or do things. */
static int path_check_type(const char *path, bool create, bool *ret_is_device) {
    struct stat st;

    if (stat(path, &st) < 0) {
        *ret_is_device = false;
        return create && errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return -EMEDIUMTYPE;
    *ret_is_device = S_ISBLK(st.st_mode);
    return 0;
}

/* One more open file of what the descriptor has open, whatever its name leads to now; without /proc by name. */
static int open_again(int fd, const char *path, int flags) {
    char self[64];
    int again;

    (void)g_snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
    again = open(self, flags);
    if (again < 0 && errno == ENOENT)
        again = open(path, flags);
    return again < 0 ? -errno : again;
}

/* A device that was set read-only can be opened for writing all the same; its mapping then fails with EINVAL. */
static int device_check_writable(int fd) {
    int is_read_only = 0;

    if (ioctl(fd, BLKROGET, &is_read_only) < 0)
        return -errno;
    return is_read_only ? -EROFS : 0;
}

/* Opens the descriptors and takes the lock. */
static int file_open_locked(FileImage *file, const char *path, const MapfsImageOpen *how) {
    int flags = (how->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    int first_flags = flags;
    int r;

    bool may_create = how->create && how->size_bytes > 0;
    r = path_check_type(path, may_create, &file->is_device);
    if (r < 0)
        return r;
    file->image.on_device = file->is_device;
    if (may_create && !file->is_device)
        first_flags |= O_CREAT;
    /* Locks belong to a device's node, of which there may be several; this to the device, and it keeps out a mount by the kernel too.
     * A second open of our own passes if it does not claim the device again. */
    if (how->exclusive && file->is_device)
        first_flags |= O_EXCL;

    FileChannel *data = &file->channels[MAPFS_SYNC_DATA], *meta = &file->channels[MAPFS_SYNC_META];
    data->fd = open(path, first_flags, 0666);
    if (data->fd < 0)
        return -errno;
    r = file->is_device && !how->read_only ? device_check_writable(data->fd) : 0;
    if (r < 0)
        return r;
    meta->fd = open_again(data->fd, path, flags);
    if (meta->fd < 0)
        return meta->fd;
    file->behind_fd = how->read_only ? -1 : open_again(data->fd, path, flags);
    if (file->behind_fd < 0 && !how->read_only)
        return file->behind_fd;
    if (!how->exclusive && !how->shared)
        return 0;
    return mapfs_lock_take(data->fd, how->offset_bytes, how->shared);
}

static int64_t clock_ms(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* True when somebody holds the image who will not let go by himself. A busy image that nobody has locked is a device in use by
 * something else, or its holder has let go this very moment; `n_unheld` counts such sights in a row. */
static bool holder_stays(const char *path, uint64_t offset_bytes, unsigned *n_unheld) {
    MapfsHolder holder = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0)
        return true;
    int r = mapfs_lock_query(fd, offset_bytes, &holder);
    (void)close(fd); /* was only read */
    if (r < 0)
        return true;
    *n_unheld = holder.held ? 0 : *n_unheld + 1;
    return holder.held ? !mapfs_holder_is_leaving(&holder) : *n_unheld > 3;
}

static int file_open_waiting(FileImage *file, const char *path, const MapfsImageOpen *how) {
    const struct timespec pause = {.tv_nsec = HOLDER_POLL_NS};
    unsigned n_unheld = 0;
    int64_t start = clock_ms();
    int64_t grace_end = start + MAPFS_MIN((int64_t)how->wait_ms, HOLDER_GRACE_MS);

    for (;;) {
        int r = file_open_locked(file, path, how);
        if (r != -EBUSY)
            return r;
        file_close_descriptors(file);
        int64_t now = clock_ms();
        if (now - start >= (int64_t)how->wait_ms)
            return -EBUSY;
        if (now >= grace_end && holder_stays(path, how->offset_bytes, &n_unheld))
            return -EBUSY;
        (void)nanosleep(&pause, NULL); /* cut short by a signal: asks again sooner */
    }
}

static int descriptor_size(int fd, uint64_t *ret_bytes) {
    struct stat st;
    uint64_t bytes;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode)) {
        *ret_bytes = (uint64_t)st.st_size;
        return 0;
    }
    if (!S_ISBLK(st.st_mode))
        return -EMEDIUMTYPE;
    if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
        return -errno;
    *ret_bytes = bytes;
    return 0;
}

/* Finds how much of the file the image has; with `create` the file grows first. */
static int file_measure(FileImage *file, const char *path, const MapfsImageOpen *how) {
    int fd = file->channels[MAPFS_SYNC_DATA].fd;
    uint64_t end;
    int r;

    if (__builtin_add_overflow(how->offset_bytes, how->size_bytes, &end) || end > INT64_MAX)
        return -EFBIG;
    r = descriptor_size(fd, &file->file_bytes);
    if (r < 0)
        return r;
    if (how->create && !file->is_device && file->file_bytes < end) {
        bool is_new = file->file_bytes == 0;
        if (ftruncate(fd, (off_t)end) < 0)
            return -errno;
        file->file_bytes = end;
        r = is_new ? parent_sync(path) : 0;
        if (r < 0)
            return r;
    }
    if (file->file_bytes < end)
        return file->is_device && how->create ? -ENOSPC : -ENODATA;
    uint64_t len_bytes = how->size_bytes > 0 ? how->size_bytes : file->file_bytes - how->offset_bytes;
    file->image.n_blocks = len_bytes >> MAPFS_BLOCK_SHIFT;
    return file->image.n_blocks == 0 ? -ENODATA : 0;
}

/* ext2, ext3, ext4, xfs and devices write a page in place and end its write-back when its block is known to be written, so that any later
 * fsync covers it. Elsewhere (btrfs, network, overlay, ...) that is not known. */
static bool descriptor_ranges_are_sound(int fd, bool is_device) {
    struct statfs st;

    if (is_device)
        return true;
    return fstatfs(fd, &st) == 0 && (st.f_type == EXT4_SUPER_MAGIC || st.f_type == XFS_SUPER_MAGIC);
}

static int file_map(FileImage *file, const MapfsImageOpen *how) {
    FileChannel *data = &file->channels[MAPFS_SYNC_DATA], *meta = &file->channels[MAPFS_SYNC_META];
    MapfsMappingSource source = {
        .base_fd = meta->fd,
        .alias_fd = how->read_only ? -1 : data->fd,
        .offset_bytes = how->offset_bytes,
    };

    int r = mapfs_mapping_init(&file->image, &source);
    if (r < 0)
        return r;
    data->view = file->image.alias;
    meta->view = (uint8_t *)(uintptr_t)file->image.base;
    return 0;
}

int mapfs_image_open_file(const char *path, const MapfsImageOpen *how, MapfsImage **ret_image) {
    int r;

    if (how->offset_bytes % MAPFS_BLOCK_SIZE != 0 || (how->read_only && (how->exclusive || how->create)) ||
        (how->shared && !how->read_only))
        return -EINVAL;

    FileImage *file = g_new0(FileImage, 1);
    file->image.ops = &file_ops;
    file->behind_fd = -1;
    file->offset_bytes = how->offset_bytes;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(file->channels); i++) {
        file->channels[i].fd = -1;
        (void)pthread_mutex_init(&file->channels[i].mutex, NULL); /* cannot fail for a default mutex on Linux */
    }

    r = file_open_waiting(file, path, how);
    if (r < 0)
        goto fail;
    r = file_measure(file, path, how);
    if (r < 0)
        goto fail;
    file->ranges_are_sound = descriptor_ranges_are_sound(file->channels[MAPFS_SYNC_DATA].fd, file->is_device);
    r = file_map(file, how);
    if (r < 0)
        goto fail;
    *ret_image = &file->image;
    return 0;

fail:
    file_close(&file->image);
    return r;
}
