/* SPDX-License-Identifier: MIT */
#include "tools/messages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <glib.h>

#include "base/error.h"
#include "control/client.h"
#include "format/superblock.h"
#include "image/image.h"
#include "tools/number.h"
#include "tools/superblock.h"
#include "tools/tool.h"

/* From here on it is the address space that is short, and not memory. */
#define LARGE_BYTES (UINT64_C(64) << 30)

char *mapfs_message_printable(const char *text) {
    GString *line = g_string_new(NULL);

    for (; *text; text++) {
        if (g_ascii_iscntrl(*text))
            g_string_append_printf(line, "\\%03o", (unsigned)*text);
        else
            g_string_append_c(line, *text);
    }
    return g_string_free(line, FALSE);
}

void mapfs_complain(const char *program, const char *format, ...) {
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    g_autofree char *line = mapfs_message_printable(message);
    (void)fprintf(stderr, "%s: %s\n", program, line);
}

int mapfs_usage_help(const char *text) {
    (void)fputs(text, stdout);
    return MAPFS_EXIT_OK;
}

int mapfs_usage_error(const char *program) {
    (void)fprintf(stderr, "Try '%s --help'.\n", program);
    return MAPFS_EXIT_USAGE;
}

/* A process that is mounted nowhere: a checker, a mkfs, or a daemon that others keep. */
static char *process_describe(int pid) {
    g_autofree char *path = g_strdup_printf("/proc/%d/comm", pid);
    g_autofree char *name = NULL;

    if (!g_file_get_contents(path, &name, NULL, NULL))
        return g_strdup_printf("process %d uses it", pid);
    g_strchomp(name);
    if (strcmp(name, "mapfs") == 0 || g_str_has_prefix(name, "mount."))
        return g_strdup_printf("daemon %d serves it, although it is unmounted (perhaps with umount -l): something is "
                               "open there still, or a program works there",
                               pid);
    return g_strdup_printf("process %d (%s) uses it", pid, name);
}

/* Whether the mount is of another image in the same file. */
static bool entry_is_other(const MapfsMountEntry *entry, uint64_t offset_bytes) {
    struct mapfs_control_info info;

    return offset_bytes > 0 && mapfs_control_info(entry->point, &info) == 0 && info.offset_bytes != offset_bytes;
}

/* By the daemon itself, since the image may have another name by now, and its old one may be another image's. Where the daemon cannot be told, by the
 * name. */
static int holder_lookup_mount(const char *path, int pid, int *ret_space, MapfsMountEntry *ret_entry) {
    g_autofree char *resolved = realpath(path, NULL);

    *ret_space = 0;
    if (pid > 0)
        return mapfs_mount_lookup_daemon(pid, ret_space, ret_entry);
    return resolved ? mapfs_mount_lookup_source(0, resolved, ret_entry) : 0;
}

char *mapfs_message_holder_at(const char *path, uint64_t offset_bytes, char **ret_point) {
    MapfsMountEntry entry;
    int pid = 0, space;

    *ret_point = NULL;
    if (mapfs_image_holder(path, offset_bytes, &pid) != 1)
        return g_strdup("something else uses it");
    if (holder_lookup_mount(path, pid, &space, &entry) != 1)
        return pid > 0 ? process_describe(pid) : g_strdup("a process of another container or pid namespace uses it");
    g_autofree char *daemon = pid > 0 ? g_strdup_printf(" (daemon %d)", pid) : g_strdup("");
    g_autofree char *point = g_strdup(entry.point);
    g_autofree char *source = g_strdup(entry.source);
    const bool is_other = space == 0 && entry_is_other(&entry, offset_bytes);
    mapfs_mount_entry_clear(&entry);
    if (is_other)
        return g_strdup_printf("it is mounted at one of the points that findmnt -S %s shows%s", source, daemon);
    if (space > 0)
        return g_strdup_printf("it is mounted at %s in the mount namespace of process %d%s", point, space, daemon);
    *ret_point = g_strdup(point);
    return g_strdup_printf("it is mounted at %s%s", point, daemon);
}

char *mapfs_message_holder(const char *path, uint64_t offset_bytes) {
    g_autofree char *point = NULL;

    return mapfs_message_holder_at(path, offset_bytes, &point);
}

static char *message_busy(const char *path, uint64_t offset_bytes) {
    g_autofree char *point = NULL;
    g_autofree char *holder = mapfs_message_holder_at(path, offset_bytes, &point);

    return g_strdup_printf("%s: busy: %s%s%s", path, holder, point ? "; first: mapfs umount " : "", point ? point : "");
}

static bool path_is_image_type(const char *path) {
    struct stat st;

    return stat(path, &st) == 0 && (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
}

static bool path_is_device(const char *path) {
    return g_str_has_prefix(path, "/dev/") && !g_str_has_prefix(path, "/dev/shm/");
}

/* Of a file or a block device; 0 when it cannot be told. */
static uint64_t path_bytes(const char *path) {
    const int fd = path_is_image_type(path) ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    off_t end;

    if (fd < 0)
        return 0;
    end = lseek(fd, 0, SEEK_END);
    (void)close(fd); /* was only read */
    return end < 0 ? 0 : (uint64_t)end;
}

/* There is nothing that could be a superblock. Whoever has forgotten an offset must not be told to make a filesystem there. */
static char *message_empty(const char *path, uint64_t offset_bytes) {
    const uint64_t bytes = path_bytes(path), left = bytes - MAPFS_MIN(bytes, offset_bytes);
    g_autofree char *offset = mapfs_message_size(offset_bytes);
    g_autofree char *end = mapfs_message_size(bytes);

    if (bytes == 0)
        return g_strdup_printf("%s: empty, there is no image in it (mkfs.mapfs makes one)", path);
    if (left == 0)
        return g_strdup_printf("%s: offset %s lies past its end (%s)", path, offset, end);
    if (left < MAPFS_SUPERBLOCK_SLOTS * MAPFS_BLOCK_SIZE)
        return g_strdup_printf("%s: %" PRIu64 " bytes long%s, too short for an image", path, left,
                               offset_bytes > 0 ? " from the offset on" : "");
    return g_strdup_printf("%s: no mapfs at byte %" PRIu64 ", only zeros; if the image begins elsewhere in the file, "
                           "say where (mount -o offset=, else --offset)",
                           path, offset_bytes);
}

static char *message_foreign(const char *path, uint64_t offset_bytes, const char *note) {
    const bool has_room = path_bytes(path) > MAPFS_IMAGE_BLOCKS_MIN * MAPFS_BLOCK_SIZE;

    if (!path_is_image_type(path))
        return g_strdup_printf("%s: neither a file nor a block device", path);
    return g_strdup_printf("%s: not a mapfs image%s%s", path, note,
                           offset_bytes == 0 && has_room ? "; if one begins further on in it, say where (mount -o "
                                                           "offset=, else --offset)"
                                                         : "");
}

/* There is a superblock, but not of an image that begins here; NULL if it is not so. */
static char *message_misplaced(const char *path, uint64_t offset_bytes) {
    const int slot = mapfs_superblock_lookup_misplaced(path, offset_bytes);
    const uint64_t place = offset_bytes + (slot == 1 ? MAPFS_BLOCK_SIZE : 0);

    if (slot < 0)
        return NULL;
    if (place == 0)
        return g_strdup_printf("%s: the superblock at byte 0 belongs into the other slot: is the first block missing?",
                               path);
    return g_strdup_printf("%s: the superblock at byte %" PRIu64
                           " belongs into the other slot: is the offset right? The image seems to begin at byte "
                           "%" PRIu64 " (mount -o offset=, else --offset)",
                           path, place, slot == 1 ? place : place - MAPFS_BLOCK_SIZE);
}

static char *message_no_memory(const char *path, const char *separator, const char *remedy) {
    const uint64_t bytes = path_bytes(path);
    struct rlimit limit;

    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        return g_strdup_printf("%s: not enough address space or memory to map the image (see ulimit -v)", path);
    if (bytes < LARGE_BYTES)
        return g_strdup_printf("%s: not enough memory to map the image", path);
    g_autofree char *size = mapfs_message_size(bytes);
    return g_strdup_printf("%s: %s are too large to be mapped twice on this machine%s%s", path, size, separator,
                           remedy);
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
        if (*path == '\0')
            return g_strdup("the name of the image is empty");
        if (path_is_device(path))
            return g_strdup_printf("%s: there is no such device", path);
        return g_strdup_printf("%s: there is no such file (mkfs.mapfs makes one)", path);
    case EACCES:
    case EPERM:
        return g_strdup_printf("%s: permission denied%s%s", path, separator, remedy);
    case EROFS:
        return g_strdup_printf("%s: it lies on a read-only filesystem or device%s%s", path, separator, remedy);
    case ENOMEM:
        return message_no_memory(path, separator, remedy);
    case ENAMETOOLONG:
        return g_strdup_printf("%s: its absolute path, or a name in it, is too long", path);
    case EMFILE:
    case ENFILE:
        return g_strdup_printf("%s: %s (see ulimit -n)", path, strerror(-error));
    default:
        return g_strdup_printf("%s: %s", path, strerror(-error));
    }
}

/* The mapfs mount in which a path lies, or NULL. To be freed. */
static char *path_enclosing(const char *path) {
    g_autofree char *resolved = realpath(path, NULL);
    g_autofree char *at = g_strdup(resolved);
    MapfsMountEntry entry;
    struct stat st, root;

    while (at && strcmp(at, "/") != 0) {
        char *parent = g_path_get_dirname(at);
        g_free(at);
        at = parent;
        if (mapfs_mount_lookup_point(at, &entry) != 1)
            continue;
        mapfs_mount_entry_clear(&entry);
        /* Something else may be mounted between the two. */
        return stat(resolved, &st) == 0 && stat(at, &root) == 0 && st.st_dev == root.st_dev ? g_strdup(at) : NULL;
    }
    return NULL;
}

char *mapfs_message_no_mount(const char *path, int error) {
    g_autofree char *enclosing = error == 0 ? path_enclosing(path) : NULL;
    struct stat st;

    if (*path == '\0')
        return g_strdup("the name of the mount point is empty");
    if (error == 0 && lstat(path, &st) < 0)
        error = -errno;
    if (error == -ENOENT)
        return g_strdup_printf("%s: there is no such directory", path);
    if (error < 0)
        return g_strdup_printf("%s: %s", path, strerror(-error));
    if (enclosing)
        return g_strdup_printf("%s: no mount point; it lies in the mapfs at %s", path, enclosing);
    return g_strdup_printf("%s: no mapfs is mounted there", path);
}

int64_t mapfs_mount_owner(const MapfsMountEntry *entry) {
    g_auto(GStrv) options = g_strsplit(entry->options, ",", -1);
    uint64_t uid;

    for (char **option = options; *option; option++)
        if (g_str_has_prefix(*option, "user_id=") && mapfs_number_parse(*option + strlen("user_id="), UINT32_MAX, &uid))
            return (int64_t)uid;
    return -1;
}

char *mapfs_message_control(const MapfsMountEntry *entry, const char *given, int error) {
    if (error == -ENOTCONN)
        return g_strdup_printf("%s: its daemon has died; remove the mount with: mapfs umount %s", given, given);
    /* The kernel asks the daemon nothing for anybody else, root included. */
    if (error == -EACCES && mapfs_mount_owner(entry) != (int64_t)geteuid())
        return g_strdup_printf("%s: mounted by user %" PRId64 " without the option allow_other, so nobody else may ask",
                               given, mapfs_mount_owner(entry));
    return g_strdup_printf("%s: %s", given, strerror(-error));
}

char *mapfs_message_open(const char *path, uint64_t offset_bytes, int error, const char *fallback) {
    g_autofree char *note = damage_note();
    char *misplaced = NULL;

    if (error == -ENODATA || error == -EMEDIUMTYPE || error == -EUCLEAN)
        misplaced = message_misplaced(path, offset_bytes);
    if (misplaced)
        return misplaced;
    switch (-error) {
    case EBUSY:
        return message_busy(path, offset_bytes);
    case EMEDIUMTYPE:
        return message_foreign(path, offset_bytes, note);
    case ENODATA:
        return message_empty(path, offset_bytes);
    case EPROTONOSUPPORT:
        return g_strdup_printf("%s: this version of mapfs cannot read this image%s", path, note);
    case EOPNOTSUPP:
        return g_strdup_printf("%s: the image has features that this version of mapfs does not know%s", path, note);
    case ENOSPC:
        return g_strdup_printf("%s: truncated: the file is shorter than its filesystem%s; restore its full length",
                               path, note);
    case EUCLEAN:
        return g_strdup_printf("%s: damaged%s; fsck.mapfs -n tells more", path, note);
    case EIO:
        return g_strdup_printf("%s: its disk cannot be read or written, or what a mount before left could not be (%s): "
                               "see the kernel's log, and try again",
                               path, strerror(EIO));
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
