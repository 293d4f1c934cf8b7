/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "control/client.h"
#include "tools/messages.h"
#include "tools/tool.h"

static const char program[] = "mapfs sync";
static const char help[] =
    "Usage: mapfs sync MOUNTPOINT\n"
    "Makes all that was changed there durable: a checkpoint. (sync(1) does not reach FUSE mounts.)\n"
    "\n"
    "      --help             show this help\n";

static int sync_run(const char *given) {
    MapfsMountEntry entry;
    int r;

    r = mapfs_mount_lookup_point(given, &entry);
    if (r <= 0) {
        mapfs_complain(program, "%s: %s", given, r < 0 ? strerror(-r) : "no mapfs is mounted there");
        return MAPFS_EXIT_FAILURE;
    }
    r = mapfs_control_sync(entry.point);
    mapfs_mount_entry_clear(&entry);
    if (r == 0)
        return MAPFS_EXIT_OK;
    if (r == -ENOTCONN)
        mapfs_complain(program, "%s: its daemon has died; remove the mount with: mapfs umount %s", given, given);
    else
        mapfs_complain(program, "%s: not everything is durable: %s", given, strerror(-r));
    return MAPFS_EXIT_FAILURE;
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
