/* SPDX-License-Identifier: MIT */

/* Preallocation, holes, zeroed ranges, and what seeking tells of them. A range that is cleared in several steps, as on a full image, may be
 * found after any of them: the states in between are noted. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "stage.h"

#define PUNCH (MAPFS_ALLOCATE_PUNCH | MAPFS_ALLOCATE_KEEP_SIZE)
/* Blocks that a range reaches over, so that there are not too many states in between. */
#define RANGE_BLOCKS_MAX 24u

typedef struct {
    unsigned mode;
    uint64_t offset, end;
    uint64_t change; /* of the inode before */
} Range;

static Range pick_range(Stage *stage, const ModelInode *inode) {
    static const unsigned modes[] = {
        0, MAPFS_ALLOCATE_KEEP_SIZE, PUNCH, PUNCH, MAPFS_ALLOCATE_ZERO, MAPFS_ALLOCATE_ZERO | MAPFS_ALLOCATE_KEEP_SIZE,
    };
    Random *random = &stage->random;
    Range range = {.mode = modes[random_below(random, MAPFS_N_ELEMENTS(modes))], .change = inode->attr.change};
    uint64_t len;

    range.offset = stage_pick_offset(stage, inode->attr.size);
    if (random_once_in(random, 2))
        range.offset -= range.offset % MODEL_PAGE;
    switch (random_below(random, 5)) {
    case 0:
        len = 1 + random_below(random, 2000);
        break;
    case 1:
        len = MODEL_PAGE;
        break;
    case 2:
        len = 1 + random_below(random, (RANGE_BLOCKS_MAX - 1) * MODEL_PAGE);
        break;
    default:
        len = 1 + random_below(random, 5 * MODEL_PAGE);
        break;
    }
    range.end = range.offset + len;
    if (random_once_in(random, 8) && range.mode == PUNCH && range.end < MAPFS_FILE_SIZE_MAX && inode->pages &&
        g_hash_table_size(inode->pages) <= RANGE_BLOCKS_MAX)
        range.end = MAPFS_FILE_SIZE_MAX;
    return range;
}

static int range_verdict(const ModelInode *inode, const Range *range) {
    if (range->offset >= MAPFS_FILE_SIZE_MAX || range->end > MAPFS_FILE_SIZE_MAX)
        return -EFBIG;
    if (S_ISREG(inode->attr.mode))
        return 0;
    return S_ISDIR(inode->attr.mode) ? -EISDIR : -ENODEV;
}

/* --- clearing, block by block --- */

static void clear_page(ModelInode *inode, const Range *range, uint64_t index) {
    uint64_t start = index * MODEL_PAGE;
    uint64_t from = MAPFS_MAX(range->offset, start) - start, to = MAPFS_MIN(range->end - start, MODEL_PAGE);
    uint8_t page[MODEL_PAGE];

    model_read(inode, start, page, MODEL_PAGE);
    memset(page + from, 0, to - from);
    model_page_put(inode, index, page);
}

/* The state now, as it would be after 1 to n_steps - 1 steps. */
static void note_between(Stage *stage, const ModelInode *inode, const Range *range, uint64_t n_steps) {
    MapfsAttr attr = inode->attr;

    if (inode->hash == 0)
        return;
    for (uint64_t i = 1; i < n_steps; i++) {
        uint64_t sum;

        attr.change = range->change + i;
        sum = stage->model->sum - inode->hash +
              model_hash_inode(&attr, inode->target, inode->content_sum, inode->xattr_sum);
        g_array_append_val(stage->between, sum);
    }
}

static gint page_order(gconstpointer a, gconstpointer b) {
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* The pages of the range that hold something, the first and the last one first: a step clears both edges before all else. */
static GArray *range_pages(const ModelInode *inode, const Range *range) {
    GArray *pages = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, inode->pages);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        uint64_t index = ((const ModelPage *)value)->index;

        if ((index + 1) * MODEL_PAGE > range->offset && index * MODEL_PAGE < range->end)
            g_array_append_val(pages, index);
    }
    g_array_sort(pages, page_order);
    return pages;
}

static bool is_edge(const ModelInode *inode, const Range *range, uint64_t index) {
    uint64_t end = MAPFS_MIN((index + 1) * MODEL_PAGE, inode->attr.size);

    return index * MODEL_PAGE < range->offset || end > range->end;
}

/* True when the filesystem shows this file as the model has it. */
static bool shows_model(Stage *stage, const ModelInode *inode, const GArray *pages) {
    for (guint i = 0; i < pages->len; i++) {
        uint64_t start = g_array_index(pages, uint64_t, i) * MODEL_PAGE;
        size_t len = (size_t)MAPFS_MIN(inode->attr.size - start, MODEL_PAGE);
        uint8_t expected[MODEL_PAGE], found[MODEL_PAGE];

        model_read(inode, start, expected, len);
        if (mapfs_fs_read(stage->fs, inode->attr.ino, start, found, len) != (int)len ||
            memcmp(expected, found, len) != 0)
            return false;
    }
    return true;
}

/* Clears the range in the model, and notes what is found if only a part of the steps are durable. With `partly`, ends where the filesystem has ended:
 * false if that is nowhere. */
static bool clear_range(Stage *stage, ModelInode *inode, const Range *range, uint64_t n_steps, bool partly) {
    g_autoptr(GArray) pages = range_pages(inode, range);

    for (guint i = 0; i < pages->len; i++) {
        uint64_t index = g_array_index(pages, uint64_t, i);

        if (is_edge(inode, range, index))
            clear_page(inode, range, index);
    }
    for (guint i = 0; i < pages->len; i++) {
        uint64_t index = g_array_index(pages, uint64_t, i);

        if (is_edge(inode, range, index))
            continue;
        if (partly && shows_model(stage, inode, pages))
            return true;
        note_between(stage, inode, range, n_steps);
        clear_page(inode, range, index);
    }
    if (partly)
        return shows_model(stage, inode, pages);
    note_between(stage, inode, range, n_steps);
    return true;
}

/* --- the operations --- */

/* Steps that changed the inode: each raises its count of changes by one. */
static uint64_t count_steps(Stage *stage, const ModelInode *inode, const Range *range) {
    MapfsAttr attr;

    return mapfs_fs_getattr(stage->fs, inode->attr.ino, &attr) == 0 ? attr.change - range->change : 1;
}

/* Met a full image, perhaps after some steps. */
static void settle_partly(Stage *stage, ModelInode *inode, const Range *range, bool strip) {
    uint64_t n_steps = count_steps(stage, inode, range);

    if (stage_failed(stage) || n_steps == 0)
        return;
    if (strip)
        stage_strip(inode);
    stage_touch(inode, true);
    if (!clear_range(stage, inode, range, n_steps, true))
        stage_fail(stage, "met a full image, and left what is no part of its work");
    stage_settle(stage, inode);
}

void stage_allocate(Stage *stage) {
    ModelInode *inode = random_once_in(&stage->random, 50) ? stage_pick_inode(stage) : stage_pick_file(stage);
    bool strip = random_once_in(&stage->random, 8), clears;
    Range range;
    int r;

    if (!inode)
        return;
    range = pick_range(stage, inode);
    clears = range.mode & ~MAPFS_ALLOCATE_KEEP_SIZE;
    stage_note(stage, "allocate %" PRIu64 " mode %x at %" PRIu64 " len %" PRIu64 " size %" PRIu64 "%s", inode->attr.ino,
               range.mode, range.offset, range.end - range.offset, inode->attr.size, strip ? " strip" : "");
    r = mapfs_fs_allocate(stage->fs, inode->attr.ino, range.mode | (strip ? MAPFS_ALLOCATE_KILL_PRIV : 0),
                          (MapfsIoRange){range.offset, range.end - range.offset});
    if (!stage_result(stage, range.mode == PUNCH ? STAGE_FREES : STAGE_GROWS, range_verdict(inode, &range), r)) {
        if (r == -ENOSPC && clears)
            settle_partly(stage, inode, &range, strip);
        return;
    }
    if (range.mode != PUNCH)
        stage->spare = (StageSpare){inode->attr.ino, range.offset, range.end};
    if (strip)
        stage_strip(inode);
    stage_touch(inode, true);
    if (clears)
        (void)clear_range(stage, inode, &range, count_steps(stage, inode, &range), false); /* true, then */
    if (!(range.mode & MAPFS_ALLOCATE_KEEP_SIZE))
        inode->attr.size = MAPFS_MAX(inode->attr.size, range.end);
    stage_settle(stage, inode);
}

/* The first byte at or after `offset` that is not zero; the size if there is none. */
static uint64_t first_data(const ModelInode *inode, uint64_t offset) {
    const Range range = {.offset = offset, .end = inode->attr.size};
    g_autoptr(GArray) pages = range_pages(inode, &range);

    for (guint i = 0; i < pages->len; i++) {
        uint64_t start = g_array_index(pages, uint64_t, i) * MODEL_PAGE;
        uint8_t page[MODEL_PAGE];

        model_read(inode, start, page, MODEL_PAGE);
        for (uint64_t at = MAPFS_MAX(offset, start); at < start + MODEL_PAGE; at++) {
            if (page[at - start] != 0)
                return at;
        }
    }
    return inode->attr.size;
}

void stage_seek(Stage *stage) {
    ModelInode *inode = stage_pick_file(stage);
    uint64_t offset, found = 0;
    int r;

    if (!inode)
        return;
    offset = stage_pick_offset(stage, inode->attr.size);
    stage_note(stage, "seek %" PRIu64 " from %" PRIu64, inode->attr.ino, offset);
    r = mapfs_fs_seek(stage->fs, inode->attr.ino, offset, MAPFS_SEEK_DATA, &found);
    if (r < 0 && r != -ENXIO)
        stage_fail(stage, "for data gave %d", r);
    if (r == -ENXIO && first_data(inode, offset) < inode->attr.size)
        stage_fail(stage, "finds no data where there is some at %" PRIu64, first_data(inode, offset));
    if (r == 0 && (found < offset || found >= inode->attr.size || found > first_data(inode, offset)))
        stage_fail(stage, "finds data at %" PRIu64 ", the first is at %" PRIu64, found, first_data(inode, offset));
    r = mapfs_fs_seek(stage->fs, inode->attr.ino, offset, MAPFS_SEEK_HOLE, &found);
    if (r != (offset < inode->attr.size ? 0 : -ENXIO))
        stage_fail(stage, "for a hole gave %d", r);
    if (r == 0 && (found < offset || found > inode->attr.size))
        stage_fail(stage, "finds a hole at %" PRIu64, found);
    if (r == 0 && first_data(inode, found) < MAPFS_MIN(found - found % MODEL_PAGE + MODEL_PAGE, inode->attr.size))
        stage_fail(stage, "finds a hole at %" PRIu64 ", where there is data", found);
}
