/* SPDX-License-Identifier: MIT */
#include "stage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "clock.h"
#include "walk.h"

Stage *stage_new(uint64_t seed, const StageProfile *profile) {
    Stage *stage = g_new0(Stage, 1);

    stage->random.state = seed;
    stage->profile = profile;
    stage->note = g_string_new(NULL);
    stage->between = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    stage->failure = g_string_new(NULL);
    return stage;
}

void stage_free(Stage *stage) {
    if (!stage)
        return;
    g_free(stage->held.expected);
    g_string_free(stage->note, TRUE);
    g_array_unref(stage->between);
    g_string_free(stage->failure, TRUE);
    g_free(stage);
}

void stage_fail(Stage *stage, const char *format, ...) {
    va_list args;

    if (stage_failed(stage))
        return;
    va_start(args, format);
    g_string_append_vprintf(stage->failure, format, args);
    va_end(args);
}

void stage_note(Stage *stage, const char *format, ...) {
    va_list args;

    va_start(args, format);
    g_string_vprintf(stage->note, format, args);
    va_end(args);
}

/* --- results --- */

static void fail_space(Stage *stage) {
    MapfsStoreStatus status;

    mapfs_store_status(mapfs_fs_store(stage->fs), &status);
    g_string_append_printf(stage->failure, "; %" PRIu64 " blocks free, %" PRIu64 " pending, %" PRIu64 " reserved",
                           status.n_free, status.n_pending, status.n_reserve);
}

bool stage_result(Stage *stage, StageKind kind, int expected, int result) {
    g_string_append_printf(stage->note, " = %d", result);
    if (result == expected)
        return result == 0;
    if (result == -ENOSPC && (kind == STAGE_GROWS || stage->trouble || stage->held.active || stage->nested)) {
        stage->n_full++;
        stage->stripe.n_left = 0;
        if (stage->n_draining == 0)
            stage->n_draining = 4 + (unsigned)random_below(&stage->random, 40);
        return false;
    }
    /* Whether it took place is open then; nobody will ever see it but a crash that comes now. */
    if (result == -EIO && stage->trouble) {
        stage->broken = true;
        return expected == 0;
    }
    stage_fail(stage, "gave %d (%s), expected %d (%s); last damage: %s", result, strerror(-result), expected,
               strerror(-expected), mapfs_damage_last());
    if (result == -ENOSPC && stage->fs)
        fail_space(stage);
    return false;
}

static bool time_equal(struct timespec a, struct timespec b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static const char *attr_difference(const MapfsAttr *a, const MapfsAttr *b) {
    if (a->size != b->size)
        return "size";
    if (a->mode != b->mode)
        return "mode";
    if (a->nlink != b->nlink)
        return "nlink";
    if (a->uid != b->uid || a->gid != b->gid)
        return "owner";
    if (a->rdev_major != b->rdev_major || a->rdev_minor != b->rdev_minor)
        return "rdev";
    if (a->flags != b->flags)
        return "flags";
    if (a->project != b->project)
        return "project";
    if (S_ISDIR(a->mode) && a->parent != b->parent)
        return "parent";
    if (!time_equal(a->atime, b->atime))
        return "atime";
    if (!time_equal(a->mtime, b->mtime))
        return "mtime";
    if (!time_equal(a->ctime, b->ctime))
        return "ctime";
    return time_equal(a->btime, b->btime) ? NULL : "btime";
}

void stage_settle(Stage *stage, ModelInode *inode) {
    const char *difference;
    MapfsAttr attr;
    int r;

    r = mapfs_fs_getattr(stage->fs, inode->attr.ino, &attr);
    /* The last sync that an operation made may have failed without harm to what it did; that is not read any more. */
    if (r == -EIO && stage->trouble)
        stage->broken = true;
    if (stage->broken) {
        inode->attr.change++;
        model_update(stage->model, inode);
        return;
    }
    if (r < 0) {
        stage_fail(stage, "inode %" PRIu64 " has no attributes any more: %s", inode->attr.ino, strerror(-r));
        return;
    }
    difference = attr_difference(&inode->attr, &attr);
    if (difference)
        stage_fail(stage, "leaves inode %" PRIu64 " with another %s: mode %o/%o nlink %u/%u size %" PRIu64 "/%" PRIu64,
                   attr.ino, difference, inode->attr.mode, attr.mode, inode->attr.nlink, attr.nlink, inode->attr.size,
                   attr.size);
    if (attr.change <= inode->attr.change)
        stage_fail(stage, "does not raise the change count of inode %" PRIu64, attr.ino);
    inode->attr.change = attr.change;
    model_update(stage->model, inode);
}

void stage_touch(ModelInode *inode, bool data) {
    inode->attr.ctime = clock_now();
    if (data)
        inode->attr.mtime = inode->attr.ctime;
}

void stage_compare(Stage *stage) {
    g_autoptr(GString) text = g_string_new(NULL);
    uint64_t sum;
    Model *found;
    int r = walk_all(stage->fs, NULL, &sum, text);

    if (r < 0) {
        stage_fail(stage, "the mounted filesystem cannot be read: %s", text->str);
        return;
    }
    if (sum == stage->model->sum)
        return;
    found = model_new();
    if (walk_all(stage->fs, found, &sum, text) == 0)
        model_compare(stage->model, found, 8, text);
    model_free(found);
    stage_fail(stage, "the mounted filesystem is not as it should be:\n%s", text->str);
}

/* --- picking --- */

#define PICK_TRIES 12u

static ModelInode *pick(Stage *stage, bool (*fits)(const ModelInode *inode)) {
    for (unsigned i = 0; i < PICK_TRIES; i++) {
        ModelInode *inode =
            g_ptr_array_index(stage->model->inodes, random_below(&stage->random, stage->model->inodes->len));

        if (fits(inode))
            return inode;
    }
    return NULL;
}

static bool fits_dir(const ModelInode *inode) {
    return S_ISDIR(inode->attr.mode) && inode->attr.nlink > 0;
}

static bool fits_file(const ModelInode *inode) {
    return S_ISREG(inode->attr.mode);
}

static bool fits_all(const ModelInode *inode) {
    (void)inode;
    return true;
}

ModelInode *stage_pick_dir(Stage *stage) {
    ModelInode *dir = random_once_in(&stage->random, 3) ? NULL : pick(stage, fits_dir);

    return dir ? dir : model_inode(stage->model, MAPFS_INO_ROOT);
}

ModelInode *stage_pick_file(Stage *stage) {
    return pick(stage, fits_file);
}

ModelInode *stage_pick_inode(Stage *stage) {
    return pick(stage, fits_all);
}

ModelEntry *stage_pick_entry(Stage *stage) {
    GPtrArray *entries = stage->model->entries;

    return entries->len > 0 ? g_ptr_array_index(entries, random_below(&stage->random, entries->len)) : NULL;
}

void stage_pick_name(Stage *stage, StageName *ret_name) {
    unsigned n = (unsigned)random_below(&stage->random, stage->profile->n_names);
    size_t long_len = 200 + n % 56; /* up to 255 */

    ret_name->len = (size_t)snprintf(ret_name->bytes, sizeof(ret_name->bytes), "n%u", n);
    switch (random_below(&stage->random, 60)) {
    case 0: /* not allowed */
        ret_name->len = n % 4 == 3 ? 256 : n % 3;
        memset(ret_name->bytes, n % 4 == 3 ? 'x' : '.', ret_name->len);
        break;
    case 1:
        memset(ret_name->bytes + ret_name->len, 'l', long_len - ret_name->len);
        ret_name->len = long_len;
        break;
    default:
        break;
    }
    ret_name->bytes[ret_name->len] = '\0';
}

/* --- a read that stays open --- */

void stage_hold(Stage *stage) {
    ModelInode *inode = stage_pick_file(stage);
    StageHeld *held = &stage->held;
    size_t len;
    int r;

    if (held->active || !inode || inode->attr.size == 0)
        return;
    len = (size_t)MAPFS_MIN(inode->attr.size, MAPFS_IO_LEN_MAX);
    r = mapfs_fs_read_begin(stage->fs, inode->attr.ino, 0, len, &held->read);
    if (r < 0 || held->read.len != len) {
        stage_fail(stage, "a read of %zu bytes of inode %" PRIu64 " gives %d", len, inode->attr.ino, r);
        return;
    }
    held->active = true;
    held->ino = inode->attr.ino;
    held->expected = g_malloc(len);
    model_read(inode, 0, held->expected, len);
}

void stage_release(Stage *stage) {
    StageHeld *held = &stage->held;
    size_t at = 0;
    int r;

    if (!held->active)
        return;
    for (unsigned i = 0; i < held->read.n_iov; i++) {
        const struct iovec *iov = &held->read.iov[i];

        if (memcmp(iov->iov_base, held->expected + at, iov->iov_len) != 0)
            stage_fail(stage, "the bytes of an open read of inode %" PRIu64 " have changed, piece %u at %zu", held->ino,
                       i, at);
        at += iov->iov_len;
    }
    r = mapfs_fs_read_end(stage->fs, &held->read);
    if (r < 0)
        stage_fail(stage, "the end of a read gives %d", r);
    g_clear_pointer(&held->expected, g_free);
    held->active = false;
}

/* --- choosing an operation --- */

enum { CLASS_NAMES, CLASS_REMOVAL, CLASS_DATA, CLASS_ATTRIBUTES, CLASS_XATTRS, N_CLASSES };

typedef struct {
    void (*function)(Stage *stage);
    unsigned weight;
} Operation;

#define CLASS_MAX 8
static const Operation operations[N_CLASSES][CLASS_MAX] = {
    [CLASS_NAMES] = {{stage_create, 12},
                     {stage_mkdir, 4},
                     {stage_symlink, 3},
                     {stage_mknod, 1},
                     {stage_tmpfile, 2},
                     {stage_link, 4},
                     {stage_rename, 8}},
    [CLASS_REMOVAL] = {{stage_unlink, 10},
                       {stage_forget, 3},
                       {stage_empty, 1},
                       {stage_reclaim, 2},
                       {stage_lookup, 2},
                       {stage_trim, 1}},
    [CLASS_DATA] = {{stage_write, 10},
                    {stage_append, 4},
                    {stage_copy, 4},
                    {stage_truncate, 3},
                    {stage_read, 1},
                    {stage_allocate, 6},
                    {stage_fill, 4},
                    {stage_seek, 1}},
    [CLASS_ATTRIBUTES] = {{stage_setattr, 5}, {stage_lookup, 1}, {stage_protect, 1}},
    [CLASS_XATTRS] = {{stage_setxattr, 4}, {stage_removexattr, 2}, {stage_setacl, 3}},
};
static const Operation draining[CLASS_MAX] = {
    {stage_unlink, 8}, {stage_empty, 3}, {stage_forget, 3}, {stage_reclaim, 1}};

static void operation_run(Stage *stage, const Operation *choice) {
    uint64_t total = 0, at;

    for (unsigned i = 0; i < CLASS_MAX; i++)
        total += choice[i].weight;
    at = random_below(&stage->random, total);
    while (at >= choice->weight)
        at -= (choice++)->weight;
    choice->function(stage);
}

void stage_step(Stage *stage) {
    const unsigned *weights = stage->profile->weights;
    unsigned class = 0;
    uint64_t total = 0, at;

    stage_note(stage, "nothing");
    if (stage_unprotect(stage))
        return;
    if (stage->model->inodes->len > stage->profile->n_inodes && stage->n_draining == 0)
        stage->n_draining = 8 + (unsigned)random_below(&stage->random, 40);
    if (stage->stripe.n_left > 0 && !random_once_in(&stage->random, 5)) {
        stage_stripe(stage);
        return;
    }
    if (stage->n_draining > 0) {
        stage->n_draining--;
        if (!random_once_in(&stage->random, 4)) {
            operation_run(stage, draining);
            return;
        }
    }
    for (unsigned i = 0; i < N_CLASSES; i++)
        total += weights[i];
    at = random_below(&stage->random, total);
    while (at >= weights[class])
        at -= weights[class ++];
    if (class == CLASS_DATA && stage->profile->stripe_one_in > 0 &&
        random_once_in(&stage->random, stage->profile->stripe_one_in))
        stage_stripe(stage);
    else
        operation_run(stage, operations[class]);
}
