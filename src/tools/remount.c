/* SPDX-License-Identifier: MIT */

/* mount -o remount: what the kernel alone decides (ro, nosuid, ...) changes at once. What the daemon does was settled when it started. */

#include <errno.h>
#include <string.h>
#include <sys/mount.h>

#include <glib.h>

#include "control/client.h"
#include "tools/messages.h"
#include "tools/mount.h"
#include "tools/tool.h"

/* A daemon that has only read the image cannot begin to write it. False after a message. */
static bool remount_is_possible(const MapfsMountRequest *request, const MapfsMountEntry *entry, unsigned long flags) {
    struct mapfs_control_info info;
    int r;

    if (flags & MS_RDONLY)
        return true;
    r = mapfs_control_info(entry->point, &info);
    if (r == -ENOTCONN) {
        mapfs_complain(request->program, "%s: its daemon has died; remove the mount with: mapfs umount %s",
                       entry->point, entry->point);
        return false;
    }
    if (r == 0 && strcmp(info.view, "readonly") == 0) {
        mapfs_complain(request->program,
                       "%s: it was mounted read-only, and a remount cannot change that; unmount it, and mount it "
                       "without ro",
                       entry->point);
        return false;
    }
    return true;
}

static void remount_complain(const MapfsMountRequest *request, const char *point, int r) {
    if (r == -EPERM)
        mapfs_complain(request->program, "%s: only root may remount; unmount it, and mount it anew with other options",
                       point);
    else if (r == -EBUSY)
        mapfs_complain(request->program,
                       "%s: busy: a program has a file open there for writing (fuser -vm %s tells which)", point,
                       point);
    else
        mapfs_complain(request->program, "%s: cannot be remounted: %s", point, strerror(-r));
}

/* mount(2) takes away what it is not given. */
static unsigned long remount_flags(const MapfsMountRequest *request, const MapfsMountEntry *entry) {
    const MapfsMountOptions *options = &request->options;

    if (request->flags_are_complete)
        return options->flags;
    return (mapfs_mount_options_flags(entry->options) & ~options->flags_cleared) | options->flags;
}

/* Tells of options that would change and cannot. mount(8) hands over those of /etc/fstab, with which it was perhaps mounted: what the daemon says
 * it has is left out. */
static void remount_tell_fixed(const MapfsMountRequest *request, const MapfsMountEntry *entry) {
    const MapfsMountOptions *options = &request->options;
    g_auto(GStrv) names = g_strsplit(options->fixed ? options->fixed : "", ",", -1);
    g_autoptr(GString) left = g_string_new(NULL);
    struct mapfs_control_info info = {0};
    const bool is_known = mapfs_control_info(entry->point, &info) == 0;

    for (char **name = names; *name; name++) {
        const bool is_same =
            (strcmp(*name, "cache") == 0 && (strcmp(info.cache, "writeback") == 0) == options->cache_writeback) ||
            (strcmp(*name, "offset") == 0 && info.offset_bytes == options->offset_bytes) ||
            (strcmp(*name, "view") == 0 &&
             (strcmp(info.view, "readonly") == 0) == (options->view == MAPFS_VIEW_READONLY));

        if (!is_known || !is_same)
            g_string_append_printf(left, "%s%s", left->len > 0 ? "," : "", *name);
    }
    if (left->len > 0)
        mapfs_complain(request->program, "%s: these stay as they are until it is unmounted and mounted anew: %s",
                       entry->point, left->str);
}

static int remount_entry(const MapfsMountRequest *request, const MapfsMountEntry *entry) {
    const unsigned long flags = remount_flags(request, entry);
    int r;

    if (!remount_is_possible(request, entry, flags))
        return MAPFS_EXIT_FAILURE;
    r = mount("none", entry->point, NULL, MS_REMOUNT | flags, NULL) < 0 ? -errno : 0;
    if (r < 0) {
        remount_complain(request, entry->point, r);
        return MAPFS_EXIT_FAILURE;
    }
    remount_tell_fixed(request, entry);
    if (!(flags & MS_RDONLY))
        return MAPFS_EXIT_OK;
    /* Who makes a mount read-only before the power goes wants everything on the disk. */
    r = mapfs_control_sync(entry->point);
    if (r < 0)
        mapfs_complain(request->program, "%s: it is read-only now, but not everything is durable: %s", entry->point,
                       strerror(-r));
    return r < 0 ? MAPFS_EXIT_FAILURE : MAPFS_EXIT_OK;
}

int mapfs_remount(const MapfsMountRequest *request) {
    MapfsMountEntry entry;
    int status;
    int r = 0;

    if (request->space)
        r = mapfs_mount_space_enter(request->space);
    if (r < 0) {
        mapfs_complain(request->program, "%s: cannot enter this mount namespace: %s", request->space, strerror(-r));
        return MAPFS_EXIT_FAILURE;
    }
    r = mapfs_mount_lookup_point(request->point, &entry);
    if (r <= 0) {
        mapfs_complain(request->program, "%s: cannot be remounted: %s", request->point,
                       r < 0 ? strerror(-r) : "no mapfs is mounted there");
        return MAPFS_EXIT_FAILURE;
    }
    status = remount_entry(request, &entry);
    mapfs_mount_entry_clear(&entry);
    return status;
}
