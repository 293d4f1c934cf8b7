/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image-private.h"

/* The writer's lock: open-file-description locks on bytes far behind any data. They die with the open file, so a killed
 * writer leaves none behind; but they do not tell who holds them, so the writer also locks a byte whose place is its pid, and one
 * whose place is its pid namespace, without which the pid means nothing.
 *
 * Every offset at which an image can start has bytes of its own, so two images in one file do not meet:
 *
 *     BASE + (offset / block size) * STRIDE +  WRITER       held by the writer, or shared by readers that keep writers out
 *                                              FINISHING    held by a writer that is about to let go
 *                                              NAMESPACE + low bits of the pid namespace's inode
 *                                              PID + pid    below 2^22 on every Linux
 *
 * 2^62 and up keeps clear of data, and leaves what is below to the pins of readers. */
#define LOCK_BASE (UINT64_C(1) << 62)
#define LOCK_STRIDE_SHIFT 23u
#define LOCK_WRITER UINT64_C(0)
#define LOCK_FINISHING UINT64_C(2)
#define LOCK_NAMESPACE (UINT64_C(1) << 21)
#define LOCK_NAMESPACE_MASK ((UINT64_C(1) << 21) - 1)
#define LOCK_PID (UINT64_C(1) << 22)
#define LOCK_PID_LIMIT (UINT64_C(1) << 22)
/* 2^38 strides of 2^23 bytes end at 2^62 + 2^61: an image that starts later could not be mapped anyway. */
_Static_assert(MAPFS_IMAGE_OFFSET_LIMIT >> MAPFS_BLOCK_SHIFT == UINT64_C(1) << 38, "strides end before 2^63");

#define PROC_FLAG_EXITING 0x4u /* PF_EXITING in the flags of /proc/PID/stat, proc(5) */
#define SIGKILL_MASK (UINT64_C(1) << (9 - 1))

static struct flock lock_range(uint64_t offset_bytes, uint64_t place, uint64_t len) {
    uint64_t start = LOCK_BASE + ((offset_bytes >> MAPFS_BLOCK_SHIFT) << LOCK_STRIDE_SHIFT) + place;
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)start, .l_len = (off_t)len};
}

static int byte_lock(int fd, uint64_t offset_bytes, uint64_t place, bool is_shared) {
    struct flock lock = lock_range(offset_bytes, place, 1);

    if (is_shared)
        lock.l_type = F_RDLCK;
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
        return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
    return 0;
}

/* Finds a lock of another open file in the range; the place of its first byte there, or -1 in ret_place for none. */
static int range_query(int fd, uint64_t offset_bytes, uint64_t place, uint64_t len, int64_t *ret_place) {
    struct flock lock = lock_range(offset_bytes, place, len);
    int64_t start = (int64_t)lock.l_start;

    if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
        return -errno;
    *ret_place = lock.l_type == F_UNLCK ? -1 : MAPFS_MAX((int64_t)lock.l_start - start, 0);
    return 0;
}

static uint64_t namespace_bits(void) {
    struct stat st;

    /* Without /proc all processes seem to be in one namespace, as they are nearly always. */
    return stat("/proc/self/ns/pid", &st) < 0 ? 0 : st.st_ino & LOCK_NAMESPACE_MASK;
}

int mapfs_lock_take(int fd, uint64_t offset_bytes, bool is_shared) {
    int r;

    if (offset_bytes >= MAPFS_IMAGE_OFFSET_LIMIT)
        return -EFBIG;
    r = byte_lock(fd, offset_bytes, LOCK_WRITER, is_shared);
    if (r < 0)
        return r;
    /* Who has the first byte gets the others: only a holder takes them. */
    r = byte_lock(fd, offset_bytes, LOCK_NAMESPACE + namespace_bits(), is_shared);
    if (r < 0)
        return r;
    return byte_lock(fd, offset_bytes, LOCK_PID + ((uint64_t)getpid() & (LOCK_PID_LIMIT - 1)), is_shared);
}

void mapfs_lock_set_finishing(int fd, uint64_t offset_bytes, bool finishing) {
    struct flock lock = lock_range(offset_bytes, LOCK_FINISHING, 1);

    lock.l_type = finishing ? F_WRLCK : F_UNLCK;
    (void)fcntl(fd, F_OFD_SETLK, &lock); /* as the header says */
}

/* The holder's pid, or 0 when it has not locked that byte yet or lives in another namespace. */
static int pid_query(int fd, uint64_t offset_bytes, int *ret_pid) {
    int64_t space = -1, pid = -1;
    int r;

    r = range_query(fd, offset_bytes, LOCK_NAMESPACE, LOCK_NAMESPACE_MASK + 1, &space);
    if (r < 0)
        return r;
    r = range_query(fd, offset_bytes, LOCK_PID, LOCK_PID_LIMIT, &pid);
    if (r < 0)
        return r;
    *ret_pid = space >= 0 && (uint64_t)space == namespace_bits() && pid > 0 ? (int)pid : 0;
    return 0;
}

int mapfs_lock_query(int fd, uint64_t offset_bytes, MapfsHolder *ret_holder) {
    MapfsHolder holder = {0};
    int64_t writer = -1, finishing = -1;
    int r;

    if (offset_bytes >= MAPFS_IMAGE_OFFSET_LIMIT)
        return -EFBIG;
    r = range_query(fd, offset_bytes, LOCK_WRITER, 1, &writer);
    if (r < 0)
        return r;
    holder.held = writer >= 0;
    if (holder.held) {
        r = range_query(fd, offset_bytes, LOCK_FINISHING, 1, &finishing);
        if (r < 0)
            return r;
        holder.finishing = finishing >= 0;
        r = pid_query(fd, offset_bytes, &holder.pid);
        if (r < 0)
            return r;
    }
    *ret_holder = holder;
    return 0;
}

static int holder_of(const char *path, uint64_t offset_bytes, MapfsHolder *ret_holder) {
    int fd, r;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    r = mapfs_lock_query(fd, offset_bytes, ret_holder);
    (void)close(fd); /* was only read */
    return r;
}

int mapfs_image_holder(const char *path, uint64_t offset_bytes, int *ret_pid) {
    MapfsHolder holder;
    int r;

    r = holder_of(path, offset_bytes, &holder);
    if (r < 0)
        return r;
    if (!holder.held)
        return 0;
    *ret_pid = holder.pid;
    return 1;
}

int mapfs_image_is_written(const char *path, uint64_t offset_bytes) {
    struct flock lock = lock_range(offset_bytes, LOCK_WRITER, 1);
    int fd, r;

    if (offset_bytes >= MAPFS_IMAGE_OFFSET_LIMIT)
        return -EFBIG;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    lock.l_type = F_RDLCK; /* readers do not stand in its way */
    r = fcntl(fd, F_OFD_GETLK, &lock) < 0 ? -errno : lock.l_type != F_UNLCK;
    (void)close(fd); /* was only read */
    return r;
}

int mapfs_image_holder_between(const char *path, uint64_t start_bytes, uint64_t end_bytes, uint64_t *ret_offset_bytes) {
    const uint64_t end = MAPFS_MIN(end_bytes, MAPFS_IMAGE_OFFSET_LIMIT);
    int64_t place = -1;
    int fd, r;

    if (start_bytes >= end)
        return 0;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;
    r = range_query(fd, start_bytes, 0, ((end - start_bytes) >> MAPFS_BLOCK_SHIFT) << LOCK_STRIDE_SHIFT, &place);
    (void)close(fd); /* was only read */
    if (r < 0 || place < 0)
        return r;
    *ret_offset_bytes = start_bytes + (((uint64_t)place >> LOCK_STRIDE_SHIFT) << MAPFS_BLOCK_SHIFT);
    return 1;
}

int mapfs_image_is_leaving(const char *path, uint64_t offset_bytes) {
    MapfsHolder holder = {0};
    int r;

    r = holder_of(path, offset_bytes, &holder);
    if (r < 0)
        return r;
    return !holder.held || mapfs_holder_is_leaving(&holder);
}

/* Reads a small file of /proc whole, with a zero behind it. */
static int proc_read(int pid, const char *name, char *buffer, size_t size) {
    char path[64];
    ssize_t n;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name); /* always fits */
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    n = read(fd, buffer, size - 1);
    (void)close(fd); /* was only read */
    if (n < 0)
        return -EIO;
    buffer[n] = 0;
    return 0;
}

/* Dead, a zombie, or in exit(): "pid (name) state ppid pgrp session tty tpgid flags ...", where name may hold anything. */
static bool pid_is_exiting(int pid) {
    char text[1024];
    unsigned flags = 0;
    char state = 0;

    int r = proc_read(pid, "stat", text, sizeof(text));
    if (r < 0)
        return r == -ENOENT || r == -ESRCH;
    const char *rest = strrchr(text, ')');
    if (!rest || sscanf(rest, ") %c %*d %*d %*d %*d %*d %u", &state, &flags) != 2)
        return false;
    return state == 'Z' || state == 'X' || (flags & PROC_FLAG_EXITING) != 0;
}

/* kill -9 has been sent, and the process has not come to it yet (it may wait for a disk). */
static bool pid_is_killed(int pid) {
    static const char *const names[] = {"\nSigPnd:", "\nShdPnd:"};
    char text[4096];

    if (proc_read(pid, "status", text, sizeof(text)) < 0)
        return false;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(names); i++) {
        const char *line = strstr(text, names[i]);
        if (line && (strtoull(line + strlen(names[i]), NULL, 16) & SIGKILL_MASK) != 0)
            return true;
    }
    return false;
}

bool mapfs_holder_is_leaving(const MapfsHolder *holder) {
    return holder->finishing || (holder->pid > 0 && (pid_is_exiting(holder->pid) || pid_is_killed(holder->pid)));
}
