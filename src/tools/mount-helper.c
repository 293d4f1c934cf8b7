/* SPDX-License-Identifier: MIT */

/* The helper of mount(8): /sbin/mount.mapfs and /sbin/mount.fuse.mapfs IMAGE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]. */

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <glib.h>

#include "tools/messages.h"
#include "tools/mount.h"
#include "tools/tool.h"

/* The exit status of mount(8), which hands on its helper's. */
#define MOUNT_EXIT_USAGE 1
#define MOUNT_EXIT_FAILURE 32

#define LOOP_MAJOR 7u /* in Documentation/admin-guide/devices.txt of Linux */

static const char help[] = "Usage: mount.mapfs IMAGE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTION,...]\n"
                           "The helper of mount(8) for the types mapfs and fuse.mapfs; see also 'mapfs mount'.\n"
                           "\n"
                           "  -o LIST                see below\n"
                           "  -s                     ignore unknown options\n"
                           "  -f                     check the options, and mount nothing\n"
                           "  -N NAMESPACE           a file of the mount namespace to mount in\n"
                           "  -r, -w                 as -o ro, -o rw\n"
                           "  -t TYPE                mapfs or fuse.mapfs\n"
                           "  -n, -v                 accepted, without effect\n"
                           "  -h, --help             show this help\n\n";

typedef struct {
    MapfsMountRequest request;
    bool fake;
    bool sloppy;
} MountHelper;

/* A line of a file of /sys/dev/block/N:N/loop, or NULL. To be freed. */
static char *loop_read(dev_t device, const char *name) {
    g_autofree char *path =
        g_strdup_printf("/sys/dev/block/%u:%u/loop/%s", (unsigned)major(device), (unsigned)minor(device), name);
    char *text = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return NULL;
    return g_strchomp(text);
}

/* mount(8) takes `offset=` and `loop` for itself and makes a loop device, which goes with its last user. It hides the file: the locks on the
 * image would not meet those of who uses the file itself, and every write would go through two caches. So take the file. */
static void helper_replace_loop_device(const MountHelper *helper) {
    g_autofree char *autoclear = NULL;
    g_autofree char *file = NULL;
    g_autofree char *offset = NULL;
    g_autofree char *option = NULL;
    struct stat st;

    if (stat(helper->request.image, &st) < 0 || !S_ISBLK(st.st_mode) || major(st.st_rdev) != LOOP_MAJOR)
        return;
    autoclear = loop_read(st.st_rdev, "autoclear");
    file = loop_read(st.st_rdev, "backing_file");
    offset = loop_read(st.st_rdev, "offset");
    /* One that stays is a device that its owner has made on purpose. */
    if (!autoclear || strcmp(autoclear, "1") != 0 || !file || !offset || access(file, R_OK) < 0)
        return;
    option = g_strdup_printf("offset=%s", offset);
    mapfs_mount_request_rerun(&helper->request, file, option);
}

static bool type_is_known(const char *program, const char *type) {
    if (strcmp(type, "mapfs") == 0 || strcmp(type, "fuse.mapfs") == 0)
        return true;
    mapfs_complain(program, "-t %s: this is the helper of the types mapfs and fuse.mapfs", type);
    return false;
}

/* False after a message. */
static bool helper_set_option(MountHelper *helper, int option, const char *value) {
    switch (option) {
    case 'f':
        helper->fake = true;
        return true;
    case 'r':
    case 'w':
        return mapfs_mount_request_add_options(&helper->request, option == 'r' ? "ro" : "rw", helper->sloppy);
    case 'o':
        return mapfs_mount_request_add_options(&helper->request, value, helper->sloppy);
    case 'N':
        helper->request.space = value;
        return true;
    case 't':
        return type_is_known(helper->request.program, value);
    default:
        return true; /* -s is known already; -n and -v change nothing */
    }
}

static int helper_run(MountHelper *helper, int argc, char **argv) {
    if (!mapfs_mount_request_take_names(&helper->request, argc, argv))
        return MOUNT_EXIT_USAGE;
    if (helper->fake)
        return MAPFS_EXIT_OK;
    if (!helper->request.options.remount)
        helper_replace_loop_device(helper);
    return mapfs_mount_request_run(&helper->request) == MAPFS_EXIT_OK ? MAPFS_EXIT_OK : MOUNT_EXIT_FAILURE;
}

int mapfs_tool_mount_helper(int argc, char **argv) {
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    MountHelper helper = {0};
    int status = MOUNT_EXIT_USAGE;
    bool good = true;
    int option;

    mapfs_mount_request_init(&helper.request, "mount.mapfs");
    helper.request.flags_are_complete = true;
    /* -s must be known before the options are read. */
    for (int i = 1; i < argc; i++)
        helper.sloppy |= strcmp(argv[i], "-s") == 0;
    /* What mount(8) hands over of root's `defaults` is empty, and means these. */
    if (geteuid() == 0)
        good = mapfs_mount_request_add_options(&helper.request, "suid,dev", false);
    while (good && (option = getopt_long(argc, argv, "hsfnvrwo:t:N:", options, NULL)) != -1) {
        if (option == 'h') {
            (void)fputs(help, stdout); /* main looks at stdout's errors */
            mapfs_mount_request_clear(&helper.request);
            return mapfs_usage_help(mapfs_mount_options_help);
        }
        if (option == '?') {
            (void)mapfs_usage_error(helper.request.program); /* its exit status is not mount(8)'s */
            good = false;
        } else {
            good = helper_set_option(&helper, option, optarg);
        }
    }
    if (good)
        status = helper_run(&helper, argc, argv);
    mapfs_mount_request_clear(&helper.request);
    return status;
}
