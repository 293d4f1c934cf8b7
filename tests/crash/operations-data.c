/* SPDX-License-Identifier: MIT */

/* Operations on content and attributes. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "acl.h"
#include "clock.h"
#include "stage.h"

#define CAPABILITY "security.capability"

void stage_strip(ModelInode *inode) {
    ModelXattr *xattr = model_xattr(inode, CAPABILITY);

    if (S_ISDIR(inode->attr.mode))
        return;
    inode->attr.mode &= ~(uint32_t)S_ISUID;
    if (inode->attr.mode & S_IXGRP)
        inode->attr.mode &= ~(uint32_t)S_ISGID;
    if (xattr)
        model_xattr_remove(inode, xattr);
}

/* Up to one in 64 KiB of distinct bytes; sometimes zeros. */
static void fill_buffer(Stage *stage, size_t len) {
    uint64_t value = random_draw(&stage->random);
    bool zeros = random_once_in(&stage->random, 25);

    for (size_t i = 0; i < len; i += sizeof(value), value += UINT64_C(0x9e3779b97f4a7c15)) {
        uint64_t word = zeros ? 0 : value | 1;

        memcpy(stage->buffer + i, &word, MAPFS_MIN(sizeof(word), len - i));
    }
}

static size_t pick_len(Stage *stage) {
    Random *random = &stage->random;

    if (random_once_in(random, stage->profile->large_one_in))
        return 1 + (size_t)random_below(random, STAGE_BUFFER);
    switch (random_below(random, 6)) {
    case 0:
        return 1 + (size_t)random_below(random, 16);
    case 1:
        return 1 + (size_t)random_below(random, 200);
    case 2:
        return 1 + (size_t)random_below(random, 2000);
    case 3:
        return 4096;
    case 4:
        return 4090 + (size_t)random_below(random, 12);
    default:
        return 1 + (size_t)random_below(random, 12000);
    }
}

uint64_t stage_pick_offset(Stage *stage, uint64_t size) {
    Random *random = &stage->random;

    switch (random_below(random, 32)) {
    case 0: /* far out */
        return (UINT64_C(1) << 40) + random_below(random, 3) * 4096 + random_below(random, 5000);
    case 1:
        return (UINT64_C(1) << 60) - random_below(random, 70000);
    case 2: /* past the end */
        return size + random_below(random, 20000);
    case 3:
        return size + random_below(random, 300);
    case 4:
    case 5:
        return size;
    case 6:
        return 1500 + random_below(random, 72); /* where small files end */
    case 7:
        return size & ~UINT64_C(4095);
    case 8:
    case 9:
    case 10:
        return random_below(random, size / 4096 + 1) * 4096;
    case 11:
        return 0;
    default:
        return random_below(random, MAPFS_MIN(size, UINT64_C(1) << 20) + 1);
    }
}

/* --- writing --- */

static int file_verdict(const ModelInode *inode) {
    if (S_ISREG(inode->attr.mode))
        return 0;
    return S_ISDIR(inode->attr.mode) ? -EISDIR : -EINVAL;
}

/* The stores of a write that has begun, then its commit; or its end without either. */
static int write_finish(Stage *stage, MapfsWrite *write, bool abandon) {
    const uint8_t *bytes = stage->buffer;

    if (abandon) {
        mapfs_fs_write_abort(stage->fs, write);
        return -ECANCELED;
    }
    for (unsigned i = 0; i < write->n_iov; i++) {
        memcpy(write->iov[i].iov_base, bytes, write->iov[i].iov_len);
        bytes += write->iov[i].iov_len;
    }
    if (stage->midway)
        stage->midway(stage->user);
    return mapfs_fs_write_commit(stage->fs, write);
}

static void write_or_not(Stage *stage, ModelInode *inode, MapfsIoRange range, bool abandon) {
    g_autofree MapfsWrite *write = g_new(MapfsWrite, 1);
    bool strip = random_once_in(&stage->random, 6);
    uint64_t offset = range.offset;
    size_t len = range.len;
    int expected = file_verdict(inode), r;

    if (offset >= MAPFS_FILE_SIZE_MAX || len > MAPFS_FILE_SIZE_MAX - offset)
        expected = -EFBIG;
    if (expected == 0 && abandon)
        expected = -ECANCELED;
    fill_buffer(stage, len);
    stage_note(stage, "write %" PRIu64 " at %" PRIu64 " len %zu size %" PRIu64 "%s", inode->attr.ino, offset, len,
               inode->attr.size, strip ? " strip" : "");
    r = mapfs_fs_write_begin(stage->fs, inode->attr.ino, range, strip ? MAPFS_WRITE_FLAG_KILL_PRIV : 0, write);
    if (r == 0)
        r = write_finish(stage, write, abandon);
    if (!stage_result(stage, STAGE_GROWS, expected, r))
        return;
    if (strip)
        stage_strip(inode);
    model_write(inode, offset, stage->buffer, len);
    stage_touch(inode, true);
    stage_settle(stage, inode);
}

static void write_at(Stage *stage, ModelInode *inode, uint64_t offset, size_t len) {
    write_or_not(stage, inode, (MapfsIoRange){offset, len}, random_once_in(&stage->random, 40));
}

void stage_write(Stage *stage) {
    ModelInode *inode = random_once_in(&stage->random, 50) ? stage_pick_inode(stage) : stage_pick_file(stage);

    if (inode)
        write_at(stage, inode, stage_pick_offset(stage, inode->attr.size), pick_len(stage));
}

/* Also within the last block of a file that is durable: it stays where it is then. */
void stage_append(Stage *stage) {
    ModelInode *inode = stage_pick_file(stage);

    if (inode)
        write_at(stage, inode, inode->attr.size, pick_len(stage));
}

/* One block of the file that is being filled in stripes, or the choice of a file. */
void stage_stripe(Stage *stage) {
    StageStripe *stripe = &stage->stripe;
    ModelInode *inode = stripe->n_left > 0 ? model_inode(stage->model, stripe->ino) : NULL;

    if (!inode) {
        inode = stage_pick_file(stage);
        if (!inode)
            return;
        *stripe = (StageStripe){
            .ino = inode->attr.ino,
            .offset = random_below(&stage->random, 100000),
            .stride = random_once_in(&stage->random, 4) ? UINT64_C(1) << 22 : 8192,
            .n_left = 70 + (unsigned)random_below(&stage->random, 80),
        };
    }
    stripe->n_left--;
    stripe->offset += stripe->stride;
    write_at(stage, inode, stripe->offset, 1 + (size_t)random_below(&stage->random, 100));
}

/* Into blocks that were preallocated last, again and again, and often without an end: such a write may have stored into them all the same. */
void stage_fill(Stage *stage) {
    ModelInode *inode = model_inode(stage->model, stage->spare.ino);
    uint64_t offset = stage->spare.offset, len = stage->spare.end - offset;

    if (!inode || len == 0)
        return;
    if (random_once_in(&stage->random, 2))
        offset += random_below(&stage->random, len);
    len = MAPFS_MIN(stage->spare.end - offset, STAGE_BUFFER);
    if (random_once_in(&stage->random, 2))
        len = 1 + random_below(&stage->random, len);
    write_or_not(stage, inode, (MapfsIoRange){offset, (size_t)len}, random_once_in(&stage->random, 2));
}

/* --- sizes --- */

static struct timespec pick_time(Stage *stage) {
    return (struct timespec){.tv_sec = (time_t)random_below(&stage->random, UINT64_C(1) << 33) - (INT64_C(1) << 30),
                             .tv_nsec = (long)random_below(&stage->random, 1000000000)};
}

static uint64_t pick_size(Stage *stage, uint64_t size) {
    Random *random = &stage->random;

    switch (random_below(random, 14)) {
    case 0:
        return 0;
    case 1:
        return size;
    case 2:
        return size + random_below(random, 5000);
    case 3:
        return size & ~UINT64_C(4095);
    case 4:
        return size > 0 ? (size - 1) & ~UINT64_C(4095) : 0;
    case 5:
        return size - MAPFS_MIN(size, random_below(random, 200));
    case 6:
    case 7:
        return random_below(random, size + 1);
    case 8:
        return 1500 + random_below(random, 72);
    case 9:
        return random_below(random, 3) == 0 ? (UINT64_C(1) << 60) + random_below(random, 2)
                                            : (UINT64_C(1) << 41) + random_below(random, 9000);
    default:
        return random_below(random, MAPFS_MIN(size, UINT64_C(1) << 20) + 1);
    }
}

static void set_size(Stage *stage, ModelInode *inode, uint64_t size) {
    bool strip = random_once_in(&stage->random, 8), with_time = random_once_in(&stage->random, 8);
    unsigned mask = MAPFS_SET_SIZE | (strip ? MAPFS_SET_KILL_PRIV : 0) | (with_time ? MAPFS_SET_MTIME : 0);
    StageKind kind = size > inode->attr.size ? STAGE_GROWS : STAGE_FREES;
    MapfsAttr attr = {.size = size, .mtime = pick_time(stage)}, after;
    int expected = size > MAPFS_FILE_SIZE_MAX ? -EFBIG : file_verdict(inode);
    int r;

    stage_note(stage, "truncate %" PRIu64 " from %" PRIu64 " to %" PRIu64 " mask %x", inode->attr.ino, inode->attr.size,
               size, mask);
    r = mapfs_fs_setattr(stage->fs, inode->attr.ino, mask, &attr, &after);
    if (!stage_result(stage, kind, expected, r))
        return;
    if (strip)
        stage_strip(inode);
    model_truncate(inode, size);
    stage_touch(inode, true);
    if (with_time)
        inode->attr.mtime = attr.mtime;
    stage_settle(stage, inode);
}

void stage_truncate(Stage *stage) {
    ModelInode *inode = random_once_in(&stage->random, 50) ? stage_pick_inode(stage) : stage_pick_file(stage);

    if (inode)
        set_size(stage, inode, pick_size(stage, inode->attr.size));
}

void stage_empty(Stage *stage) {
    ModelInode *inode = stage_pick_file(stage);

    if (inode)
        set_size(stage, inode, 0);
}

void stage_read(Stage *stage) {
    ModelInode *inode = stage_pick_file(stage);
    uint64_t offset;
    size_t len, expected;
    int r;

    if (!inode)
        return;
    offset = stage_pick_offset(stage, inode->attr.size);
    len = pick_len(stage);
    expected = offset < inode->attr.size ? (size_t)MAPFS_MIN(len, inode->attr.size - offset) : 0;
    stage_note(stage, "read %" PRIu64 " at %" PRIu64 " len %zu", inode->attr.ino, offset, len);
    r = mapfs_fs_read(stage->fs, inode->attr.ino, offset, stage->buffer, len);
    if (r != (int)expected) {
        stage_fail(stage, "gave %d, expected %zu", r, expected);
        return;
    }
    model_read(inode, offset, stage->other, expected);
    if (memcmp(stage->buffer, stage->other, expected) != 0)
        stage_fail(stage, "gave other bytes than were written");
}

/* --- attributes --- */

static void setattr_model(ModelInode *inode, unsigned mask, const MapfsAttr *attr) {
    bool owner = mask & (MAPFS_SET_UID | MAPFS_SET_GID);

    stage_touch(inode, false);
    if (mask & MAPFS_SET_MODE)
        inode->attr.mode = (inode->attr.mode & S_IFMT) | (attr->mode & 07777);
    if (mask & MAPFS_SET_KILL_PRIV || (owner && !(mask & MAPFS_SET_MODE)))
        stage_strip(inode);
    if (mask & MAPFS_SET_MODE)
        acl_follow_mode(inode);
    if (mask & MAPFS_SET_FLAGS)
        inode->attr.flags = attr->flags;
    if (mask & MAPFS_SET_PROJECT)
        inode->attr.project = attr->project;
    if (mask & MAPFS_SET_UID)
        inode->attr.uid = attr->uid;
    if (mask & MAPFS_SET_GID)
        inode->attr.gid = attr->gid;
    if (mask & MAPFS_SET_ATIME)
        inode->attr.atime = attr->atime;
    if (mask & MAPFS_SET_MTIME)
        inode->attr.mtime = attr->mtime;
    if (mask & MAPFS_SET_ATIME_NOW)
        inode->attr.atime = clock_now();
    if (mask & MAPFS_SET_MTIME_NOW)
        inode->attr.mtime = clock_now();
    if (mask & MAPFS_SET_CTIME)
        inode->attr.ctime = attr->ctime;
}

void stage_setattr(Stage *stage) {
    static const unsigned masks[] = {
        MAPFS_SET_MODE,
        MAPFS_SET_UID,
        MAPFS_SET_UID | MAPFS_SET_GID,
        MAPFS_SET_MODE | MAPFS_SET_GID,
        MAPFS_SET_ATIME | MAPFS_SET_MTIME,
        MAPFS_SET_ATIME_NOW | MAPFS_SET_MTIME_NOW,
        MAPFS_SET_MTIME | MAPFS_SET_CTIME,
        MAPFS_SET_KILL_PRIV,
        MAPFS_SET_FLAGS,
        MAPFS_SET_FLAGS | MAPFS_SET_PROJECT,
    };
    ModelInode *inode = stage_pick_inode(stage);
    unsigned mask = masks[random_below(&stage->random, MAPFS_N_ELEMENTS(masks))];
    MapfsAttr attr = {
        .mode = (uint32_t)random_below(&stage->random, 010000),
        .uid = (uint32_t)random_below(&stage->random, 5),
        .gid = (uint32_t)random_draw(&stage->random),
        .project = (uint32_t)random_draw(&stage->random),
        .flags = random_draw(&stage->random) & (MAPFS_INODE_SYNC | MAPFS_INODE_NODUMP | MAPFS_INODE_NOATIME),
        .atime = pick_time(stage),
        .mtime = pick_time(stage),
        .ctime = pick_time(stage),
    };
    MapfsAttr after;
    int r;

    stage_note(stage, "setattr %" PRIu64 " mask %x", inode->attr.ino, mask);
    r = mapfs_fs_setattr(stage->fs, inode->attr.ino, mask, &attr, &after);
    if (!stage_result(stage, STAGE_FREES, 0, r))
        return;
    setattr_model(inode, mask, &attr);
    stage_settle(stage, inode);
}

/* --- extended attributes --- */

static void pick_xattr_name(Stage *stage, char *name, size_t size) {
    unsigned n = (unsigned)random_below(&stage->random, 7);

    if (n == 6) /* only to be removed; set in other ways */
        (void)snprintf(name, size, random_once_in(&stage->random, 2) ? ACL_ACCESS : ACL_DEFAULT);
    else if (n == 0)
        (void)snprintf(name, size, CAPABILITY); /* fits, as the others do */
    else if (n == 1)
        (void)snprintf(name, size, "trusted.%0200u", n);
    else
        (void)snprintf(name, size, "user.a%u", n);
}

static size_t pick_xattr_len(Stage *stage) {
    switch (random_below(&stage->random, 8)) {
    case 0:
        return 0;
    case 1:
        return (size_t)random_below(&stage->random, 8000);
    case 2:
        return random_once_in(&stage->random, 4) ? MAPFS_XATTR_VALUE_MAX : (size_t)random_below(&stage->random, 40000);
    case 3:
        return 1900 + (size_t)random_below(&stage->random, 40);
    default:
        return (size_t)random_below(&stage->random, 100);
    }
}

static int setxattr_verdict(const ModelInode *inode, const char *name, size_t len, unsigned flags) {
    bool there = model_xattr(inode, name);

    if (len > 1024 && strcmp(name, CAPABILITY) == 0)
        return -EINVAL;
    if (there && flags & MAPFS_XATTR_FLAG_CREATE)
        return -EEXIST;
    return !there && flags & MAPFS_XATTR_FLAG_REPLACE ? -ENODATA : 0;
}

void stage_setxattr(Stage *stage) {
    static const unsigned flags[] = {0, 0, 0, MAPFS_XATTR_FLAG_CREATE, MAPFS_XATTR_FLAG_REPLACE};
    ModelInode *inode = stage_pick_inode(stage);
    unsigned flag = flags[random_below(&stage->random, MAPFS_N_ELEMENTS(flags))];
    size_t len = pick_xattr_len(stage);
    char name[260];
    int r;

    pick_xattr_name(stage, name, sizeof(name));
    if (strncmp(name, "system.", 7) == 0)
        return;
    fill_buffer(stage, len);
    stage_note(stage, "setxattr %" PRIu64 " %.20s len %zu flags %u", inode->attr.ino, name, len, flag);
    r = mapfs_fs_setxattr(stage->fs, inode->attr.ino, name, (MapfsBytes){stage->buffer, len}, flag);
    if (!stage_result(stage, STAGE_GROWS, setxattr_verdict(inode, name, len, flag), r))
        return;
    model_xattr_set(inode, name, stage->buffer, len);
    stage_touch(inode, false);
    stage_settle(stage, inode);
}

/* An access control list that is not there is removed all the same. */
static int removexattr_verdict(const ModelInode *inode, const char *name) {
    if (strncmp(name, "system.", 7) == 0)
        return S_ISLNK(inode->attr.mode) ? -EOPNOTSUPP : 0;
    return model_xattr(inode, name) ? 0 : -ENODATA;
}

void stage_removexattr(Stage *stage) {
    ModelInode *inode = stage_pick_inode(stage);
    ModelXattr *xattr;
    char name[260];
    int r;

    pick_xattr_name(stage, name, sizeof(name));
    xattr = model_xattr(inode, name);
    stage_note(stage, "removexattr %" PRIu64 " %.20s len %zu", inode->attr.ino, name, xattr ? xattr->len : 0);
    r = mapfs_fs_removexattr(stage->fs, inode->attr.ino, name);
    if (!stage_result(stage, STAGE_FREES, removexattr_verdict(inode, name), r) || !xattr)
        return;
    model_xattr_remove(inode, xattr);
    stage_touch(inode, false);
    stage_settle(stage, inode);
}
