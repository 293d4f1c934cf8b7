/* SPDX-License-Identifier: MIT */

/* fsck.mapfs: checks an image, says what is wrong, and repairs it when asked to. A crash leaves nothing to repair: what is found here is
 * damage from outside. */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <json-glib/json-glib.h>

#include "base/error.h"
#include "check/check.h"
#include "repair/repair.h"
#include "tools/messages.h"
#include "tools/number.h"
#include "tools/progress.h"
#include "tools/superblock.h"
#include "tools/tool.h"

/* As in fsck(8). */
#define FSCK_CLEAN 0
#define FSCK_CORRECTED 1
#define FSCK_ERRORS_LEFT 4
#define FSCK_FAILED 8
#define FSCK_USAGE 16

/* More of one kind say nothing new. */
#define FSCK_PER_KIND_MAX 100u

/* What one repair turns up another mends; more than two were never needed. */
#define FSCK_ROUNDS_MAX 4u

static const char program[] = "fsck.mapfs";
static const char help[] =
    "Usage: fsck.mapfs [-n|-p|-y] [--json] [--offset BYTES] IMAGE\n"
    "Checks a whole image, and repairs it when asked to.\n"
    "\n"
    "  -n                     check alone, change nothing (the default)\n"
    "  -p, -a                 as fsck(8) calls it at boot: repair only what loses nothing; silent about\n"
    "                         a clean image\n"
    "  -y                     repair all; what is lost by it is named\n"
    "      --json             print the findings as JSON\n"
    "      --offset BYTES     where the image starts in the file\n"
    "  -f, -v, -V, -C[FD]     accepted, without effect\n"
    "  -h, --help             show this help\n"
    "\n"
    "Exit status: 0 clean, 1 repaired, 4 problems left, 8 could not check, 16 wrong use\n";

typedef enum {
    REPAIR_NOTHING,
    REPAIR_SAFE, /* what loses nothing */
    REPAIR_ALL,
} RepairMode;

typedef struct {
    const char *path;
    uint64_t offset_bytes;
    RepairMode mode;
    bool has_mode, as_json, is_quiet;
} FsckOptions;

typedef struct {
    const FsckOptions *options;
    MapfsProgress progress;
    JsonArray *problems, *notes, *repairs; /* with --json */
    const char *obstacle;                  /* why nothing was repaired, or NULL */
    bool has_start;                        /* a repair has something to go on from */
    bool is_repaired, is_on_device;
    uint64_t image_bytes; /* that are there */
    uint64_t n_lost, n_moved;
} Fsck;

static void found_json(Fsck *fsck, const MapfsProblem *problem) {
    /* JSON knows no unsigned 64-bit numbers, and the system's objects need them: a string. */
    g_autofree char *object = g_strdup_printf("%" PRIu64, problem->object);
    g_autofree char *message = g_utf8_make_valid(problem->message, -1); /* names may hold any bytes */
    JsonObject *entry = json_object_new();

    json_object_set_int_member(entry, "code", problem->kind->number);
    json_object_set_string_member(entry, "name", problem->kind->name);
    json_object_set_string_member(entry, "object", object);
    json_object_set_int_member(entry, "block", (gint64)problem->block);
    json_object_set_int_member(entry, "ino", (gint64)problem->ino);
    json_object_set_string_member(entry, "message", message);
    json_array_add_object_element(problem->kind->severity == MAPFS_SEVERITY_INFO ? fsck->notes : fsck->problems, entry);
}

static void found(void *user, const MapfsProblem *problem) {
    bool is_info = problem->kind->severity == MAPFS_SEVERITY_INFO;
    Fsck *fsck = user;

    if (fsck->options->as_json) {
        found_json(fsck, problem);
        return;
    }
    if (is_info && fsck->options->is_quiet)
        return;
    mapfs_progress_clear(&fsck->progress);
    g_autofree char *message = mapfs_message_printable(problem->message);
    printf("%s %u: %s\n", is_info ? "note" : "problem", (unsigned)problem->kind->number, message);
}

static void progress(void *user, const char *pass, uint64_t done, uint64_t total) {
    Fsck *fsck = user;

    mapfs_progress_set(&fsck->progress, pass, done, total);
}

static int number_option(const char *text, uint64_t *ret_number) {
    if (mapfs_size_parse(text, ret_number) && *ret_number % MAPFS_BLOCK_SIZE == 0)
        return 0;
    mapfs_complain(program, "--offset %s: a multiple of %u bytes is needed", text, MAPFS_BLOCK_SIZE);
    return -EINVAL;
}

/* False after a message: who asks for both to change nothing and to repair must say which. */
static bool mode_option(int option, FsckOptions *options) {
    const RepairMode mode = option == 'n' ? REPAIR_NOTHING : option == 'y' ? REPAIR_ALL : REPAIR_SAFE;

    if (!strchr("npay", option))
        return true;
    if (options->has_mode && options->mode != mode) {
        mapfs_complain(program, "only one of -n, -p (or -a) and -y can be given");
        return false;
    }
    options->mode = mode;
    options->has_mode = true;
    return true;
}

/* 0 to go on, else the exit status + 1 of the process, since 0 is one too. */
static int options_parse(int argc, char **argv, FsckOptions *options) {
    static const struct option long_options[] = {{"help", no_argument, NULL, 'h'},
                                                 {"json", no_argument, NULL, 'j'},
                                                 {"offset", required_argument, NULL, 'o'},
                                                 {0}};
    int option;

    while ((option = getopt_long(argc, argv, "npyafvVC::h", long_options, NULL)) != -1) {
        if (option == 'h')
            return mapfs_usage_help(help) + 1;
        if (option == '?' || (option == 'o' && number_option(optarg, &options->offset_bytes) < 0) ||
            !mode_option(option, options)) {
            (void)mapfs_usage_error(program); /* fsck(8) has a status of its own for this */
            return FSCK_USAGE + 1;
        }
        options->as_json |= option == 'j';
        options->is_quiet |= option == 'p' || option == 'a';
    }
    if (argc - optind != 1) {
        mapfs_complain(program, "one image is needed");
        (void)mapfs_usage_error(program); /* as above */
        return FSCK_USAGE + 1;
    }
    options->path = argv[optind];
    return 0;
}

/* Opens the image with the writer's lock, so that nobody mounts it meanwhile; without permission to write, it can only be tested
 * that nobody has it mounted. */
static int image_open(const FsckOptions *options, MapfsImage **ret_image) {
    const MapfsImageOpen locked = {.offset_bytes = options->offset_bytes, .exclusive = true, .wait_ms = MAPFS_WAIT_MS};
    const MapfsImageOpen read_only = {.offset_bytes = options->offset_bytes, .read_only = true};
    int pid, r;

    r = mapfs_image_open_file(options->path, &locked, ret_image);
    if (r != -EACCES && r != -EROFS && r != -EPERM && r != -ETXTBSY)
        return r;
    r = mapfs_image_holder(options->path, options->offset_bytes, &pid);
    if (r != 0)
        return r > 0 ? -EBUSY : r;
    return mapfs_image_open_file(options->path, &read_only, ret_image);
}

static void json_print(const Fsck *fsck, const MapfsCheckReport *report) {
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"n_problems", report->n_problems},
        {"generation", report->generation},
        {"blocks", report->n_blocks},
        {"free_blocks", report->n_free},
        {"pending_blocks", report->n_pending},
        {"data_blocks", report->n_data_blocks},
        {"tree_nodes", report->n_nodes},
        {"items", report->n_items},
        {"inodes", report->n_inodes},
        {"directories", report->n_directories},
        {"names", report->n_names},
        {"orphans", report->n_orphans},
        {"log_batches", report->n_batches},
    };
    g_autoptr(JsonNode) node = json_node_new(JSON_NODE_OBJECT);
    JsonObject *root = json_object_new();

    json_object_set_string_member(root, "image", fsck->options->path);
    json_object_set_boolean_member(root, "clean", report->n_problems == 0);
    json_object_set_boolean_member(root, "complete", !report->incomplete);
    json_object_set_array_member(root, "problems", json_array_ref(fsck->problems));
    json_object_set_array_member(root, "notes", json_array_ref(fsck->notes));
    json_object_set_array_member(root, "repairs", json_array_ref(fsck->repairs));
    json_object_set_boolean_member(root, "repaired", fsck->is_repaired);
    json_object_set_int_member(root, "lost", (gint64)fsck->n_lost);
    if (fsck->obstacle)
        json_object_set_string_member(root, "obstacle", fsck->obstacle);
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(numbers); i++)
        json_object_set_int_member(root, numbers[i].name, (gint64)numbers[i].value);
    json_node_take_object(node, root);

    g_autofree char *text = json_to_string(node, TRUE);
    printf("%s\n", text);
}

/* "1 inode", "2 inodes". To be freed. */
static char *count(uint64_t n, const char *one, const char *many) {
    return g_strdup_printf("%" PRIu64 " %s", n, n == 1 ? one : many);
}

/* What is to be done about an image that is shorter than its superblock says. Most often it was not copied to the end: what -y makes of it is
 * whole, but has lost what would come with the rest. */
static void advice_print_short(const Fsck *fsck, const char *path, const MapfsCheckReport *report) {
    const uint64_t bytes = report->n_blocks * MAPFS_BLOCK_SIZE;
    g_autofree char *all = mapfs_message_size(bytes);
    g_autofree char *missing = mapfs_message_size(bytes - MAPFS_MIN(bytes, fsck->image_bytes));

    if (fsck->is_on_device)
        printf("%s: %s of %s are missing at its end: copy it anew, to a device that is large enough; -y gives up what "
               "lay there\n",
               path, missing, all);
    else
        printf("%s: %s of %s are missing at its end: copy it anew, or restore its length (truncate -s %" PRIu64
               " %s) and check again; -y gives up what lay there\n",
               path, missing, all, fsck->options->offset_bytes + bytes, path);
}

static void advice_print(const Fsck *fsck, const char *path, const MapfsCheckReport *report) {
    const bool may_lose = fsck->options->mode == REPAIR_ALL;

    if (!fsck->has_start && report->n_of_kind[MAPFS_PROBLEM_SUPERBLOCK_SLOT] > 0)
        printf("%s: nothing was changed; its superblock is of an image that begins elsewhere: is the offset right?\n",
               path);
    else if (!may_lose && report->n_of_kind[MAPFS_PROBLEM_NO_SUPERBLOCK] > 0 && !fsck->has_start)
        printf("%s: nothing was changed; too little is left of its superblocks to repair it: restore it from a copy\n",
               path);
    else if (!may_lose && report->n_of_kind[MAPFS_PROBLEM_IMAGE_SHORT] > 0)
        advice_print_short(fsck, path, report);
    else if (fsck->obstacle)
        printf("%s: not repaired: %s\n", path, fsck->obstacle);
    else if (fsck->options->mode == REPAIR_NOTHING)
        printf("%s: nothing was changed; -y repairs, and names what is lost\n", path);
}

static void text_print(const Fsck *fsck, const MapfsCheckReport *report) {
    g_autofree char *path = mapfs_message_printable(fsck->options->path);
    g_autofree char *inodes = count(report->n_inodes, "inode", "inodes");
    g_autofree char *directories = count(report->n_directories, "directory", "directories");
    g_autofree char *problems = count(report->n_problems, "problem", "problems");
    g_autofree char *losses = count(fsck->n_lost, "loss", "losses");
    g_autofree char *moves = count(fsck->n_moved, "move", "moves");

    if (fsck->is_repaired && report->n_problems == 0) {
        printf("%s: repaired, %s, generation %" PRIu64 "; %s and %s into lost+found are named above\n", path, inodes,
               report->generation, losses, moves);
        return;
    }
    if (report->n_problems == 0) {
        if (!fsck->options->is_quiet)
            printf("%s: clean, %s, %s, %" PRIu64 " of %" PRIu64 " blocks free, generation %" PRIu64 "\n", path, inodes,
                   directories, report->n_free, report->n_blocks, report->generation);
        return;
    }
    printf("%s: %s found%s\n", path, problems, report->incomplete ? "; the check is not complete" : "");
    for (unsigned i = 0; i < MAPFS_PROBLEM_KINDS_MAX; i++)
        if (report->n_of_kind[i] > FSCK_PER_KIND_MAX)
            printf("%s: of problem %u only the first %u of %" PRIu64 " are shown\n", path, i, FSCK_PER_KIND_MAX,
                   report->n_of_kind[i]);
    advice_print(fsck, path, report);
}

static int fsck_report(Fsck *fsck, const MapfsCheckReport *report) {
    if (fsck->options->as_json)
        json_print(fsck, report);
    else
        text_print(fsck, report);
    if (fflush(stdout) != 0) {
        mapfs_complain(program, "cannot write to stdout: %s", strerror(errno));
        return FSCK_FAILED;
    }
    if (report->n_problems > 0)
        return FSCK_ERRORS_LEFT;
    return fsck->is_repaired ? FSCK_CORRECTED : FSCK_CLEAN;
}

/* What may only be read by those who do not know a feature, they cannot judge: -EOPNOTSUPP with a note. */
static int slot_check_features(const MapfsSuperblockPair *pair, unsigned slot) {
    const uint64_t features = mapfs_le64_load(pair->slots[slot].feature_ro_compat);

    if (pair->verdicts[slot] != MAPFS_SUPERBLOCK_VALID || (features & ~MAPFS_FEATURE_RO_COMPAT_KNOWN) == 0)
        return 0;
    (void)mapfs_damage(0, "superblock", "has features that this version can only read (ro_compat %#" PRIx64 ")",
                       features); /* the note alone is wanted */
    return -EOPNOTSUPP;
}

/* What is no image of this version cannot be checked; what is damaged can. */
static int image_judge(const MapfsImage *image) {
    MapfsSuperblockPair pair;
    bool is_image = false;
    int r;

    mapfs_damage_clear();
    mapfs_superblock_pair_load(image, &pair);
    r = mapfs_superblock_pair_check_known(&pair);
    if (r < 0)
        return r;
    for (unsigned slot = 0; slot < MAPFS_SUPERBLOCK_SLOTS; slot++) {
        r = slot_check_features(&pair, slot);
        if (r < 0)
            return r;
        is_image |= pair.verdicts[slot] == MAPFS_SUPERBLOCK_VALID || pair.verdicts[slot] == MAPFS_SUPERBLOCK_DAMAGED;
    }
    if (is_image)
        return 0;
    return pair.verdicts[0] == MAPFS_SUPERBLOCK_EMPTY && pair.verdicts[1] == MAPFS_SUPERBLOCK_EMPTY ? -ENODATA
                                                                                                    : -EMEDIUMTYPE;
}

/* --- repair --- */

static void repair_said(void *user, const MapfsRepairNote *note) {
    static const char *const kinds[] = {"fixed", "lost", "moved"};
    Fsck *fsck = user;

    fsck->n_lost += note->kind == MAPFS_REPAIR_LOST;
    fsck->n_moved += note->kind == MAPFS_REPAIR_MOVED;
    if (fsck->options->as_json) {
        g_autofree char *message = g_utf8_make_valid(note->message, -1); /* names may hold any bytes */
        JsonObject *entry = json_object_new();

        json_object_set_string_member(entry, "kind", kinds[note->kind]);
        json_object_set_int_member(entry, "first_ino", (gint64)note->first_ino);
        json_object_set_int_member(entry, "last_ino", (gint64)note->last_ino);
        json_object_set_string_member(entry, "message", message);
        json_array_add_object_element(fsck->repairs, entry);
        return;
    }
    mapfs_progress_clear(&fsck->progress);
    g_autofree char *message = mapfs_message_printable(note->message);
    printf("%s: %s\n", kinds[note->kind], message);
}

static const char *repair_obstacle(int error) {
    switch (error) {
    case -ENOSPC:
        return "there is too little free space in the image (or on its host) for it; nothing was changed";
    case -EPERM:
        return "something would be lost by it, which takes -y; nothing was changed";
    case -EROFS:
        return "the image may not be written";
    case -EUCLEAN:
        return mapfs_damage_last();
    default:
        return strerror(-error);
    }
}

/* What all is repaired at boot must lose nothing. */
static bool may_repair(const Fsck *fsck, const MapfsCheckReport *report) {
    if (fsck->options->mode != REPAIR_SAFE)
        return fsck->options->mode == REPAIR_ALL;
    for (unsigned i = 0; i < MAPFS_PROBLEM_KINDS_MAX; i++) {
        const MapfsProblemKind *kind = report->n_of_kind[i] > 0 ? mapfs_problem_kind(i) : NULL;

        if (kind && kind->severity == MAPFS_SEVERITY_PROBLEM && !mapfs_repair_is_safe(kind->number))
            return false;
    }
    return !report->incomplete;
}

static int check_again(Fsck *fsck, MapfsImage *image, MapfsCheckReport *ret_report) {
    const MapfsCheckOptions options = {.progress = progress, .user = fsck};

    return mapfs_check_run(image, &options, ret_report);
}

/* Repairs until the checker finds nothing more. 0, whatever came of it, or why no check was possible. */
static int repair(Fsck *fsck, MapfsImage *image, MapfsCheckReport *report) {
    const MapfsRepairOptions options = {
        .said = repair_said, .progress = progress, .user = fsck, .safe_only = fsck->options->mode == REPAIR_SAFE};
    MapfsRepairReport repaired;
    int r;

    if (!may_repair(fsck, report)) {
        if (fsck->options->mode == REPAIR_SAFE)
            fsck->obstacle = "it takes -y, since something may be lost by it";
        return 0;
    }
    for (unsigned i = 0; i < FSCK_ROUNDS_MAX && report->n_problems > 0; i++) {
        r = mapfs_repair_run(image, &options, &repaired);
        if (r < 0) {
            fsck->obstacle = repair_obstacle(r);
            return 0;
        }
        fsck->is_repaired = true;
        r = check_again(fsck, image, report);
        if (r < 0)
            return r;
    }
    return 0;
}

static int fsck_run(const FsckOptions *options, MapfsImage *image) {
    g_autoptr(JsonArray) problems = json_array_new();
    g_autoptr(JsonArray) notes = json_array_new();
    g_autoptr(JsonArray) repairs = json_array_new();
    Fsck fsck = {
        .options = options,
        .problems = problems,
        .notes = notes,
        .repairs = repairs,
        .is_on_device = image->on_device,
        .image_bytes = image->n_blocks * MAPFS_BLOCK_SIZE,
    };
    const MapfsCheckOptions check_options = {
        .found = found, .progress = progress, .user = &fsck, .n_per_kind_max = FSCK_PER_KIND_MAX};
    MapfsCheckReport report;
    int r;

    mapfs_progress_init(&fsck.progress);
    r = mapfs_check_run(image, &check_options, &report);
    if (r == 0)
        fsck.has_start = report.generation > 0 || mapfs_repair_has_start(image);
    if (r == 0 && report.n_problems > 0)
        r = repair(&fsck, image, &report);
    mapfs_progress_clear(&fsck.progress);
    if (r < 0) {
        mapfs_complain(program, "%s: the check broke off: %s", options->path,
                       r == -EIO ? "the host could not read the image" : strerror(-r));
        return FSCK_FAILED;
    }
    return fsck_report(&fsck, &report);
}

static int image_check(const FsckOptions *options) {
    g_autofree char *message = NULL;
    MapfsImage *image;
    int status, r;

    r = image_open(options, &image);
    if (r == 0) {
        r = image_judge(image);
        status = r == 0 ? fsck_run(options, image) : FSCK_FAILED;
        mapfs_image_close(image);
    }
    if (r == 0)
        return status;
    message = mapfs_message_open(options->path, options->offset_bytes, r, NULL);
    mapfs_complain(program, "%s", message);
    return FSCK_FAILED;
}

int mapfs_tool_fsck(int argc, char **argv) {
    FsckOptions options = {0};
    int status, r;

    status = options_parse(argc, argv, &options);
    if (status > 0)
        return status - 1;
    r = mapfs_sigbus_install();
    if (r < 0) {
        mapfs_complain(program, "cannot handle SIGBUS: %s", strerror(-r));
        return FSCK_FAILED;
    }
    return image_check(&options);
}
