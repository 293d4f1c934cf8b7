/* SPDX-License-Identifier: MIT */

/* Copies of parts of files, which share blocks where they can. */

#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "stage.h"

static int file_verdict(const ModelInode *inode) {
    if (S_ISREG(inode->attr.mode))
        return 0;
    return S_ISDIR(inode->attr.mode) ? -EISDIR : -EINVAL;
}

/* Mostly the start of a block: only from there to there can blocks be shared. */
static uint64_t pick_place(Stage *stage, uint64_t size) {
    Random *random = &stage->random;

    switch (random_below(random, 12)) {
    case 0:
        return random_below(random, MAPFS_MIN(size, UINT64_C(1) << 20) + 1);
    case 1:
        return (size + 4095) & ~UINT64_C(4095);
    case 2:
        return size;
    case 3:
        return (UINT64_C(1) << 60) - random_below(random, 70000);
    case 4:
    case 5:
    case 6:
        return random_below(random, MAPFS_MIN(size, UINT64_C(1) << 20) / 4096 + 1) * 4096;
    default:
        return 0;
    }
}

static int range_verdict(const MapfsCopyRange *range, uint64_t len) {
    uint64_t apart = range->from_offset < range->to_offset ? range->to_offset - range->from_offset
                                                           : range->from_offset - range->to_offset;

    if (len == 0)
        return 0;
    if (range->from_ino == range->to_ino && apart < len)
        return -EINVAL;
    return range->to_offset >= MAPFS_FILE_SIZE_MAX || len > MAPFS_FILE_SIZE_MAX - range->to_offset ? -EFBIG : 0;
}

static void model_copy(Stage *stage, const ModelInode *from, ModelInode *to, const MapfsCopyRange *range) {
    for (uint64_t done = 0; done < range->len;) {
        size_t n = (size_t)MAPFS_MIN(range->len - done, STAGE_BUFFER);

        model_read(from, range->from_offset + done, stage->buffer, n);
        model_write(to, range->to_offset + done, stage->buffer, n);
        done += n;
    }
}

static void copy_between(Stage *stage, const ModelInode *from, ModelInode *to) {
    MapfsCopyRange range = {.from_ino = from->attr.ino,
                            .from_offset = pick_place(stage, from->attr.size),
                            .to_ino = to->attr.ino,
                            .to_offset = pick_place(stage, to->attr.size),
                            .len = 1 + random_below(&stage->random, 500000)};
    bool strip = random_once_in(&stage->random, 6);
    uint64_t left = range.from_offset < from->attr.size ? from->attr.size - range.from_offset : 0, n = 0;
    int expected = file_verdict(from), r;

    if (expected == 0)
        expected = file_verdict(to);
    if (expected == 0)
        expected = range_verdict(&range, MAPFS_MIN(range.len, left));
    stage_note(
        stage,
        "copy %" PRIu64 " at %" PRIu64 " of %" PRIu64 " to %" PRIu64 " at %" PRIu64 " of %" PRIu64 " len %" PRIu64,
        range.from_ino, range.from_offset, from->attr.size, range.to_ino, range.to_offset, to->attr.size, range.len);
    r = mapfs_fs_copy_range(stage->fs, &range, strip ? MAPFS_WRITE_FLAG_KILL_PRIV : 0, &n);
    /* One that failed with the host says not how much it would have done; that is in no checkpoint. */
    if (!stage_result(stage, STAGE_GROWS, expected, r) || r < 0)
        return;
    if (n > MAPFS_MIN(range.len, left) || (n == 0) != (left == 0)) {
        stage_fail(stage, "copied %" PRIu64 " bytes of %" PRIu64, n, left);
        return;
    }
    if (n == 0)
        return;
    range.len = n;
    if (strip)
        stage_strip(to);
    model_copy(stage, from, to, &range);
    stage_touch(to, true);
    stage_settle(stage, to);
}

void stage_copy(Stage *stage) {
    ModelInode *from = random_once_in(&stage->random, 50) ? stage_pick_inode(stage) : stage_pick_file(stage);
    ModelInode *to = random_once_in(&stage->random, 50) ? stage_pick_inode(stage) : stage_pick_file(stage);

    if (from && to)
        copy_between(stage, from, to);
}
