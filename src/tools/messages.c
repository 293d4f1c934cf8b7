/* SPDX-License-Identifier: MIT */
#include "tools/messages.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <glib.h>

#include "base/error.h"
#include "control/client.h"
#include "image/image.h"
#include "tools/tool.h"

void mapfs_complain(const char *program, const char *format, ...) {
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    (void)fprintf(stderr, "%s: %s\n", program, message);
}

int mapfs_usage_help(const char *text) {
    (void)fputs(text, stdout);
    return MAPFS_EXIT_OK;
}

int mapfs_usage_error(const char *program) {
    (void)fprintf(stderr, "Try '%s --help'.\n", program);
    return MAPFS_EXIT_USAGE;
}

char *mapfs_message_holder(const char *path, uint64_t offset_bytes) {
    g_autofree char *resolved = realpath(path, NULL);
    MapfsMountEntry entry;
    int pid = 0;

    if (mapfs_image_holder(path, offset_bytes, &pid) != 1)
        return g_strdup("something else uses it");
    if (!resolved || mapfs_mount_lookup_source(0, resolved, &entry) != 1) {
        if (pid == 0)
            return g_strdup("a process of another container or pid namespace uses it");
        if (!resolved || mapfs_mount_lookup_source(pid, resolved, &entry) != 1)
            return g_strdup_printf("process %d uses it", pid);
    }
    char *message = pid > 0 ? g_strdup_printf("it is mounted at %s (daemon %d)", entry.point, pid)
                            : g_strdup_printf("it is mounted at %s", entry.point);
    mapfs_mount_entry_clear(&entry);
    return message;
}

static bool path_is_image_type(const char *path) {
    struct stat st;

    return stat(path, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

/* What damage was noted, as " (...)", or nothing. */
static char *damage_note(void) {
    const char *note = mapfs_damage_last();

    return *note ? g_strdup_printf(" (%s)", note) : g_strdup("");
}

/* Errors with which the system refuses the file. */
static char *message_refused(const char *path, int error, const char *fallback) {
    const char *remedy = fallback ? fallback : "";
    const char *separator = fallback ? ": " : "";

    switch (-error) {
    case ENOENT:
        return g_strdup_printf("%s: there is no such file (mkfs.mapfs makes one)", path);
    case EACCES:
    case EPERM:
        return g_strdup_printf("%s: permission denied%s%s", path, separator, remedy);
    case EROFS:
        return g_strdup_printf("%s: it lies on a read-only filesystem or device%s%s", path, separator, remedy);
    case ENOMEM:
        return g_strdup_printf("%s: not enough address space or memory to map the image (see ulimit -v)", path);
    default:
        return g_strdup_printf("%s: %s", path, strerror(-error));
    }
}

char *mapfs_message_open(const char *path, uint64_t offset_bytes, int error, const char *fallback) {
    g_autofree char *note = damage_note();

    switch (-error) {
    case EBUSY: {
        g_autofree char *holder = mapfs_message_holder(path, offset_bytes);
        return g_strdup_printf("%s: busy: %s", path, holder);
    }
    case EMEDIUMTYPE:
        if (!path_is_image_type(path))
            return g_strdup_printf("%s: neither a file nor a block device", path);
        return g_strdup_printf("%s: not a mapfs image%s", path, note);
    case ENODATA:
        return g_strdup_printf("%s: empty: there is no filesystem in it (mkfs.mapfs makes one)", path);
    case EPROTONOSUPPORT:
        return g_strdup_printf("%s: this version of mapfs cannot read this image%s", path, note);
    case EOPNOTSUPP:
        return g_strdup_printf("%s: the image has features that this version of mapfs does not know%s", path, note);
    case ENOSPC:
        return g_strdup_printf("%s: truncated: the file is shorter than its filesystem%s; restore its full length",
                               path, note);
    case EUCLEAN:
        return g_strdup_printf("%s: damaged%s; fsck.mapfs -n tells more", path, note);
    case EROFS:
        if (*note)
            return g_strdup_printf("%s: has features that allow reading alone%s%s%s", path, note, fallback ? ": " : "",
                                   fallback ? fallback : "");
        return message_refused(path, error, fallback);
    default:
        return message_refused(path, error, fallback);
    }
}

char *mapfs_message_size(uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < MAPFS_N_ELEMENTS(units)) {
        value /= 1024;
        unit++;
    }
    return unit == 0 ? g_strdup_printf("%" PRIu64 " bytes", bytes) : g_strdup_printf("%.4g %s", value, units[unit]);
}
