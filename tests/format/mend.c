/* SPDX-License-Identifier: MIT */

/* Repair of damaged images: takes valid ones with content, damages copies of them in many ways, repairs each, and demands:
 *
 * - that the checker then finds nothing, and a filesystem on it can be walked, changed and closed, and is clean again;
 * - that what a repair refused to do left the image as it was;
 * - that each inode is still what it was, unless the repair has named it, or its own data or (with a right checksum) its own leaf was damaged.
 *
 *     mend [--images N] [--seed S] [--first I] [--crash] [--each]
 *
 * With --each it damages every block in turn, alone, in every way of damage_whole(), and demands more: whatever the repair has said, of inodes
 * that have nothing in that block no byte and no attribute may be gone.
 * With --crash each repair is stopped at a random sync, with any mixture of old and new sectors of what was not synced yet, and done again.
 * The work is done in child processes: one that crashes or hangs costs one image; its number is printed, and --first I --images 1 with the same
 * seed repeats it. Ends with the line "N images, F failures". */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "check/check.h"
#include "damage.h"
#include "format/node.h"
#include "format/superblock.h"
#include "image/recording.h"
#include "manifest.h"
#include "repair/repair.h"

#define BASES 8u
#define IMAGE_BLOCKS 768u
#define CHILD_IMAGES 500u
#define HANG_SECONDS 60u
#define FAILURES_MAX 20u /* more say nothing new */
#define EXIT_WRONG 3
#define DAMAGED_MAX 32u
#define ROUNDS_MAX 4u
#define WAYS 4u /* of damage_whole() */
#define IMAGE_BYTES ((size_t)IMAGE_BLOCKS * MAPFS_BLOCK_SIZE)

typedef struct {
    uint64_t n_images, seed, first;
    bool is_verbose, crashes, each;
} MendOptions;

/* Where children tell how far they are; shared. */
typedef struct {
    uint64_t image; /* at work now */
    uint64_t n_clean, n_repaired, n_refused, n_full, n_older, n_scans, n_compared, n_inodes, n_rounds, n_crashes;
} MendProgress;

typedef struct {
    uint8_t *bytes;
    uint8_t *earlier; /* the same image some changes before */
    Manifest manifest;
} Base;

typedef struct {
    uint64_t first, last;
} Named;

typedef struct {
    const MendOptions *options;
    MendProgress *progress;
    Base bases[BASES];
    const Base *base; /* of the image at work */
    MapfsImage *image;
    uint8_t *before; /* the damaged image, before its repair */
    struct {
        uint64_t block;
        bool is_sealed; /* looks right by itself */
    } damaged[DAMAGED_MAX];
    unsigned n_damaged;
    bool went_back; /* a repair that was cut may have published the state before */
    GArray *named;  /* Named: inodes that the repair spoke of */
} Mend;

static bool fail(const Mend *mend, const char *what, const char *more) {
    printf("image %" PRIu64 ": %s%s%s\n", mend->progress->image, what, more[0] ? ": " : "", more);
    return false;
}

/* --- damage --- */

static void note_damage(Mend *mend, uint64_t block, bool is_sealed) {
    if (mend->options->is_verbose)
        printf("  damage to block %" PRIu64 "%s\n", block, is_sealed ? ", with a right checksum" : "");
    if (mend->n_damaged < DAMAGED_MAX) {
        mend->damaged[mend->n_damaged].block = block;
        mend->damaged[mend->n_damaged++].is_sealed = is_sealed;
    }
}

static void damage_stale(Mend *mend, Random *random) {
    uint64_t block = damage_pick_metadata(mend->image, random);

    memcpy(damage_block(mend->image, block), mend->base->earlier + block * MAPFS_BLOCK_SIZE, MAPFS_BLOCK_SIZE);
    note_damage(mend, block, block < MAPFS_SUPERBLOCK_SLOTS);
}

/* No superblock is valid any more, and much of both is left. */
static void damage_superblocks(Mend *mend, Random *random) {
    for (unsigned slot = 0; slot < MAPFS_SUPERBLOCK_SLOTS; slot++) {
        uint64_t bit = random_below(random, random_below(random, 2) ? 240 * 8 : MAPFS_BLOCK_SIZE * 8);

        damage_block(mend->image, slot)[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        note_damage(mend, slot, false);
    }
}

static void damage_once(Mend *mend, Random *random, uint64_t checksum_seed) {
    uint64_t block, other;

    switch (random_below(random, 11)) {
    case 0:
        note_damage(mend, damage_zero(mend->image, random), false);
        break;
    case 1:
        block = damage_swap(mend->image, random, &other);
        note_damage(mend, block, false);
        note_damage(mend, other, false);
        break;
    case 2:
        damage_stale(mend, random);
        break;
    case 3:
        note_damage(mend, damage_by_copy(mend->image, random, checksum_seed), true);
        break;
    case 4:
        note_damage(mend, damage_sealed(mend->image, random, checksum_seed), true);
        break;
    case 5:
        damage_superblocks(mend, random);
        break;
    case 6:
    case 7:
    case 8:
        note_damage(mend, damage_plant(mend->image, random, checksum_seed), true);
        break;
    default:
        block = random_below(random, 3) ? damage_pick_metadata(mend->image, random)
                                        : random_below(random, mend->image->n_blocks);
        damage_poke(damage_block(mend->image, block), MAPFS_BLOCK_SIZE, random);
        note_damage(mend, block, false);
        break;
    }
}

/* One block as a whole: the image's number says which, of which base, and how. */
static void damage_whole(Mend *mend, Random *random) {
    uint64_t block = mend->progress->image / WAYS % IMAGE_BLOCKS;
    uint8_t *bytes = damage_block(mend->image, block);

    switch (mend->progress->image % WAYS) {
    case 0:
        memset(bytes, 0, MAPFS_BLOCK_SIZE);
        break;
    case 1:
        for (unsigned i = 0; i < MAPFS_BLOCK_SIZE; i++)
            bytes[i] = (uint8_t)random_next(random);
        break;
    case 2:
        memcpy(bytes, mend->base->earlier + block * MAPFS_BLOCK_SIZE, MAPFS_BLOCK_SIZE);
        break;
    default:
        memcpy(bytes, damage_block(mend->image, damage_pick_metadata(mend->image, random)), MAPFS_BLOCK_SIZE);
        break;
    }
    note_damage(mend, block, block < MAPFS_SUPERBLOCK_SLOTS);
}

static void damage(Mend *mend, Random *random) {
    const struct mapfs_disk_superblock *superblock = (const void *)mend->base->bytes;
    uint64_t checksum_seed = mapfs_le64_load(superblock->checksum_seed);
    uint64_t n = 1 + random_below(random, 6);

    mend->n_damaged = 0;
    mend->went_back = false;
    if (mend->options->each) {
        damage_whole(mend, random);
        return;
    }
    for (uint64_t i = 0; i < n; i++)
        damage_once(mend, random, checksum_seed);
    if (random_below(random, 32) == 0) /* a file cut short */
        mend->image->n_blocks = random_below(random, IMAGE_BLOCKS);
}

/* --- the verdict --- */

static void said(void *user, const MapfsRepairNote *note) {
    Mend *mend = user;
    Named named = {note->first_ino, note->last_ino};

    if (mend->options->is_verbose)
        printf("  %u [%" PRIu64 "-%" PRIu64 "] %s\n", note->kind, note->first_ino, note->last_ino, note->message);
    if (named.first > 0 || named.last > 0)
        g_array_append_val(mend->named, named);
}

static bool is_named(const Mend *mend, uint64_t ino) {
    for (guint i = 0; i < mend->named->len; i++) {
        const Named *named = &g_array_index(mend->named, Named, i);

        if (ino >= named->first && ino <= named->last)
            return true;
    }
    return false;
}

/* Whether damage that cannot be noticed has changed the inode: to its data, or with a right checksum to its items. */
static bool is_excused(const Mend *mend, uint64_t ino) {
    for (unsigned i = 0; i < mend->n_damaged; i++) {
        if (manifest_touches(&mend->base->manifest, ino, mend->damaged[i].block, true) ||
            (mend->damaged[i].is_sealed && manifest_touches(&mend->base->manifest, ino, mend->damaged[i].block, false)))
            return true;
    }
    return false;
}

/* A block of the base that is an index node: with another one in its place that looks right, any part of an earlier tree may come back. */
static bool is_index(const Base *base, uint64_t block) {
    struct mapfs_disk_header header;

    memcpy(&header, base->bytes + block * MAPFS_BLOCK_SIZE, sizeof(header));
    return mapfs_le32_load(header.magic) == MAPFS_NODE_MAGIC && header.level > 0;
}

/* An old superblock that looks right, or one with other numbers, is another image: nothing can be compared. */
static bool is_comparable(const Mend *mend, const MapfsRepairReport *report) {
    for (unsigned i = 0; i < mend->n_damaged; i++)
        if (mend->damaged[i].block < MAPFS_SUPERBLOCK_SLOTS ||
            (mend->damaged[i].is_sealed && is_index(mend->base, mend->damaged[i].block)))
            return false;
    return !report->used_older && !mend->went_back;
}

static bool fail_inode(const Mend *mend, const char *what, uint64_t ino) {
    char text[32];

    (void)snprintf(text, sizeof(text), "inode %" PRIu64, ino);
    return fail(mend, what, text);
}

/* After damage to a single block: the inode is as it was, or had something in that block. What it is called may have been there. */
static bool is_whole(const Mend *mend, const ManifestInode *was, const ManifestInode *is) {
    return (is && is->attributes == was->attributes && is->data == was->data) ||
           manifest_touches(&mend->base->manifest, was->ino, mend->damaged[0].block, false);
}

static bool compare(Mend *mend) {
    Manifest now;
    bool is_good = true;

    manifest_load(&now, mend->image);
    mend->progress->n_compared++;
    for (guint i = 0; i < mend->base->manifest.inodes->len && is_good; i++) {
        const ManifestInode *was = &g_array_index(mend->base->manifest.inodes, ManifestInode, i);
        const ManifestInode *is = manifest_lookup(&now, was->ino);
        char text[160];

        mend->progress->n_inodes++;
        if (was->nlink == 0 || is_excused(mend, was->ino))
            continue;
        if (mend->options->each && !is_whole(mend, was, is))
            return fail_inode(mend, "something is lost that was not in the damaged block", was->ino);
        if (is_named(mend, was->ino))
            continue;
        if (is && is->attributes == was->attributes && is->data == was->data && is->entries == was->entries)
            continue;
        (void)snprintf(text, sizeof(text), "inode %" PRIu64 ": %s", was->ino,
                       !is                                 ? "gone"
                       : is->attributes != was->attributes ? "attributes"
                       : is->data != was->data             ? "data"
                                                           : "entries");
        is_good = fail(mend, "something is lost that was not named", text);
    }
    manifest_clear(&now);
    return is_good;
}

static bool is_clean(Mend *mend, const char *when) {
    const MapfsCheckOptions options = {0};
    MapfsCheckReport report;

    if (mapfs_check_run(mend->image, &options, &report) == 0 && report.n_problems == 0 && !report.incomplete)
        return true;
    return fail(mend, when, report.first);
}

/* What was repaired must be a filesystem that works. */
static bool use(Mend *mend, Random *random) {
    const MapfsStoreOptions options = {0};
    WalkResult walked;
    MapfsFs *fs;
    int r;

    r = mapfs_fs_open(mend->image, &options, &fs);
    if (r < 0)
        return fail(mend, "repaired, but it does not open", mapfs_damage_last());
    sample_walk(fs, &walked);
    if (walked.error < 0) {
        mapfs_fs_abandon(fs);
        return fail(mend, "repaired, but a walk meets", strerror(-walked.error));
    }
    sample_change(fs, random, 20);
    r = mapfs_fs_sync(fs);
    if (mapfs_fs_close(fs) < 0 || r < 0)
        return fail(mend, "repaired, but changes fail", mapfs_damage_last());
    return is_clean(mend, "repaired, changed, and not clean any more");
}

static bool is_as_before(Mend *mend) {
    for (unsigned slot = 0; slot < MAPFS_SUPERBLOCK_SLOTS && slot < mend->image->n_blocks; slot++)
        if (memcmp(damage_block(mend->image, slot), mend->before + (size_t)slot * MAPFS_BLOCK_SIZE, MAPFS_BLOCK_SIZE) !=
            0)
            return fail(mend, "a repair that was refused has changed a superblock", "");
    return true;
}

static bool refused(Mend *mend, int r) {
    mend->progress->n_refused++;
    if (!is_as_before(mend))
        return false;
    if (r == -ENOSPC) {
        mend->progress->n_full++;
        return true;
    }
    if (r == -EOPNOTSUPP || r == -EPROTONOSUPPORT)
        return true;
    if (r == -EUCLEAN && (!mapfs_repair_has_start(mend->image) || mend->image->n_blocks < MAPFS_IMAGE_BLOCKS_MIN ||
                          strstr(mapfs_damage_last(), "generation")))
        return true;
    printf("%s\n", strerror(-r));
    return fail(mend, "the repair was refused", mapfs_damage_last());
}

/* --- crashes --- */

/* A power cut while a sync is asked for. */
typedef struct {
    MapfsRecording *recording;
    Random *random;
    uint8_t *disk;   /* what it leaves */
    uint64_t n_left; /* syncs until then */
    bool is_cut;
} Crash;

static int crash_sync(void *user, MapfsSyncChannel channel, const MapfsRun *runs, size_t n_runs) {
    Crash *crash = user;

    (void)channel;
    (void)runs;
    (void)n_runs;
    if (crash->n_left-- > 0 || crash->is_cut)
        return 0;
    crash->is_cut = true;
    mapfs_recording_build(crash->recording, (MapfsCrashStrategy)random_below(crash->random, MAPFS_CRASH_N_STRATEGIES),
                          random_next(crash->random), crash->disk);
    return 0;
}

/* Repairs a recording of the damaged image and puts what a power cut amid that left into the place of the image. What this repair said stays
 * said: it may have been published already. */
static bool crash_leave(Mend *mend, Random *random) {
    const MapfsRepairOptions options = {.said = said, .user = mend};
    Crash crash = {.random = random, .disk = damage_block(mend->image, 0), .n_left = random_below(random, 9)};
    const MapfsRecordingHooks hooks = {.sync_begin = crash_sync, .user = &crash};
    MapfsRepairReport report;
    MapfsImage *image;
    int r;

    if (mapfs_recording_open(IMAGE_BLOCKS, &crash.recording) < 0)
        return fail(mend, "no memory for a recording", "");
    image = mapfs_recording_image(crash.recording);
    mapfs_recording_load(crash.recording, mend->before);
    mapfs_recording_set_hooks(crash.recording, &hooks);
    r = mapfs_repair_run(image, &options, &report);
    mapfs_image_close(image);
    mend->progress->n_crashes += crash.is_cut;
    mend->went_back = report.used_older;
    /* When it was refused, or was done before the cut, the image is damaged as it was. */
    (void)r;
    return true;
}

static bool one_image(Mend *mend) {
    Random random = {.state = (mend->options->seed * UINT64_C(0x9e3779b97f4a7c15)) ^ (mend->progress->image << 20 | 1)};
    const MapfsRepairOptions options = {.said = said, .user = mend};
    const MapfsCheckOptions check_options = {0};
    MapfsRepairReport report;
    MapfsCheckReport found;
    int r;

    for (unsigned i = 0; i < 8; i++)
        (void)random_next(&random);
    mend->base = mend->options->each ? &mend->bases[mend->progress->image / (WAYS * IMAGE_BLOCKS) % BASES]
                                     : &mend->bases[random_below(&random, BASES)];
    mend->image->n_blocks = IMAGE_BLOCKS;
    mend->image->error = 0; /* of the image before */
    memcpy(damage_block(mend->image, 0), mend->base->bytes, IMAGE_BYTES);
    damage(mend, &random);
    g_array_set_size(mend->named, 0);
    if (mapfs_check_run(mend->image, &check_options, &found) < 0)
        return fail(mend, "the check broke off", "");
    if (found.n_problems == 0) {
        mend->progress->n_clean++;
        return true;
    }
    if (mend->image->n_blocks > 0)
        memcpy(mend->before, damage_block(mend->image, 0), mend->image->n_blocks * MAPFS_BLOCK_SIZE);
    if (mend->options->crashes && mend->image->n_blocks == IMAGE_BLOCKS && !crash_leave(mend, &random))
        return false;
    r = mapfs_repair_run(mend->image, &options, &report);
    if (r < 0)
        return mend->options->crashes || refused(mend, r);
    /* As the command does: what one round turns up the next one mends. */
    for (unsigned i = 1; i < ROUNDS_MAX && mapfs_check_run(mend->image, &check_options, &found) == 0; i++) {
        bool used_older = report.used_older;

        if (found.n_problems == 0)
            break;
        mend->progress->n_rounds++;
        if (mapfs_repair_run(mend->image, &options, &report) < 0)
            return fail(mend, "repaired, but not a second time", mapfs_damage_last());
        report.used_older |= used_older;
    }
    mend->progress->n_repaired++;
    mend->progress->n_older += report.used_older;
    mend->progress->n_scans += report.used_scan;
    if (!is_clean(mend, "repaired, and not clean") || (is_comparable(mend, &report) && !compare(mend)))
        return false;
    return use(mend, &random);
}

static void child_run(Mend *mend, uint64_t end) {
    bool is_good = true;

    /* Made here: mappings of images are not inherited. */
    if (mapfs_image_open_anonymous(IMAGE_BLOCKS, &mend->image) < 0)
        _exit(2);
    for (; is_good && mend->progress->image < end; mend->progress->image += is_good) {
        (void)alarm(HANG_SECONDS);
        is_good = one_image(mend);
    }
    (void)fflush(stdout);
    _exit(is_good ? 0 : EXIT_WRONG);
}

/* Runs images up to `end` in a child; returns whether one of them failed (the one at progress->image). */
static bool child_failed(Mend *mend, uint64_t end) {
    int status;
    pid_t pid;

    (void)fflush(stdout);
    pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    if (pid == 0)
        child_run(mend, end);
    if (waitpid(pid, &status, 0) != pid) {
        perror("waitpid");
        exit(2);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    if (WIFSIGNALED(status))
        printf("image %" PRIu64 ": %s\n", mend->progress->image,
               WTERMSIG(status) == SIGALRM ? "hangs" : strsignal(WTERMSIG(status)));
    printf("  again: --seed %" PRIu64 " --first %" PRIu64 " --images 1\n", mend->options->seed, mend->progress->image);
    return true;
}

/* Makes the valid images; they must be clean, or what follows would show nothing. */
static void bases_make(Mend *mend) {
    Random random = {.state = mend->options->seed * 2 + 1};
    const MapfsCheckOptions options = {0};
    const MapfsStoreOptions store_options = {0};

    for (unsigned i = 0; i < BASES; i++) {
        Base *base = &mend->bases[i];
        MapfsCheckReport report;
        MapfsImage *image;
        MapfsFs *fs;

        base->bytes = malloc(IMAGE_BYTES);
        base->earlier = malloc(IMAGE_BYTES);
        if (!base->bytes || !base->earlier || mapfs_image_open_anonymous(IMAGE_BLOCKS, &image) < 0)
            exit(2);
        sample_fill(image, &random);
        memcpy(base->earlier, image->base, IMAGE_BYTES);
        if (mapfs_fs_open(image, &store_options, &fs) < 0)
            exit(2);
        sample_change(fs, &random, 60);
        if (mapfs_fs_close(fs) < 0 || mapfs_check_run(image, &options, &report) < 0 || report.n_problems > 0) {
            (void)fprintf(stderr, "image %u as made by mapfs is not clean: %s\n", i, report.first);
            exit(2);
        }
        memcpy(base->bytes, image->base, IMAGE_BYTES);
        manifest_load(&base->manifest, image);
        mapfs_image_close(image);
    }
}

static MendOptions options_parse(int argc, char **argv) {
    static const struct option options[] = {{"images", required_argument, NULL, 'n'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"first", required_argument, NULL, 'f'},
                                            {"crash", no_argument, NULL, 'c'},
                                            {"each", no_argument, NULL, 'e'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {0}};
    MendOptions result = {.n_images = 10000, .seed = 1};
    bool has_number = false;
    int option;

    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        uint64_t number = optarg ? strtoull(optarg, NULL, 0) : 0;

        if (option == '?')
            exit(2);
        has_number |= option == 'n';
        if (option == 'n')
            result.n_images = number;
        else if (option == 's')
            result.seed = number;
        else if (option == 'f')
            result.first = number;
        else if (option == 'c')
            result.crashes = true;
        else if (option == 'e')
            result.each = true;
        else
            result.is_verbose = true;
    }
    if (result.each && !has_number)
        result.n_images = BASES * IMAGE_BLOCKS * WAYS;
    return result;
}

int main(int argc, char **argv) {
    MendOptions options = options_parse(argc, argv);
    uint64_t end = options.first + options.n_images, n_failures = 0;
    Mend mend = {.options = &options, .named = g_array_new(FALSE, FALSE, sizeof(Named)), .before = malloc(IMAGE_BYTES)};
    MendProgress *progress;

    progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED || !mend.before) {
        perror("memory");
        return 2;
    }
    mend.progress = progress;
    printf("seed %" PRIu64 "\n", options.seed);
    bases_make(&mend);
    progress->image = options.first;
    while (progress->image < end && n_failures < FAILURES_MAX) {
        if (child_failed(&mend, MAPFS_MIN(progress->image + CHILD_IMAGES, end))) {
            n_failures++;
            progress->image++;
        }
    }
    for (unsigned i = 0; i < BASES; i++) {
        free(mend.bases[i].bytes);
        free(mend.bases[i].earlier);
        manifest_clear(&mend.bases[i].manifest);
    }
    g_array_unref(mend.named);
    free(mend.before);
    printf("%" PRIu64 " had no problem; %" PRIu64 " repaired, %" PRIu64 " of them from the state before, %" PRIu64
           " by a scan; %" PRIu64 " refused, %" PRIu64 " of them for want of space; %" PRIu64 " compared, %" PRIu64
           " inodes; %" PRIu64 " further rounds; %" PRIu64 " power cuts\n",
           progress->n_clean, progress->n_repaired, progress->n_older, progress->n_scans, progress->n_refused,
           progress->n_full, progress->n_compared, progress->n_inodes, progress->n_rounds, progress->n_crashes);
    printf("%" PRIu64 " images, %" PRIu64 " failures\n", progress->image - options.first, n_failures);
    return n_failures > 0;
}
