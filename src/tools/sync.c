/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include <glib.h>

#include "control/client.h"
#include "tools/messages.h"
#include "tools/tool.h"

static const char program[] = "mapfs sync";
static const char help[] =
    "Usage: mapfs sync MOUNTPOINT\n"
    "Makes all that was changed there durable: a checkpoint. (sync(1) does not reach FUSE mounts.)\n"
    "\n"
    "  -h, --help             show this help\n";

static int sync_run(const char *given) {
    MapfsMountEntry entry;
    int r;

    r = mapfs_mount_lookup_point(given, &entry);
    if (r <= 0) {
        g_autofree char *message = mapfs_message_no_mount(given, r);
        mapfs_complain(program, "%s", message);
        return MAPFS_EXIT_FAILURE;
    }
    r = mapfs_control_sync(entry.point);
    if (r < 0) {
        g_autofree char *message = mapfs_message_control(&entry, given, r);
        mapfs_complain(program, "%s%s", r == -ENOTCONN ? "" : "not everything is durable: ", message);
    }
    mapfs_mount_entry_clear(&entry);
    return r == 0 ? MAPFS_EXIT_OK : MAPFS_EXIT_FAILURE;
}

int mapfs_tool_sync(int argc, char **argv) {
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    int option;

    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1)
        return option == 'h' ? mapfs_usage_help(help) : mapfs_usage_error(program);
    if (argc - optind != 1) {
        mapfs_complain(program, "one mount point is needed");
        return mapfs_usage_error(program);
    }
    return sync_run(argv[optind]);
}
