/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <glib.h>

#include "control/client.h"
#include "image/image.h"
#include "tools/messages.h"
#include "tools/progress.h"
#include "tools/superblock.h"
#include "tools/tool.h"

static const char program[] = "mapfs umount";
static const char help[] = "Usage: mapfs umount MOUNTPOINT\n"
                           "Unmounts, and returns when everything is durable and the daemon is gone.\n"
                           "Removes a mount whose daemon has died, too.\n"
                           "\n"
                           "  -h, --help             show this help\n";

/* How often the lock of the image is looked at when the daemon itself cannot be waited for. */
#define POLL_MS 10
/* How often it is asked whether somebody else has the mount. Not at once: a container may just be ending. */
#define ELSEWHERE_LOOK_S 3
/* How long the kernel and the daemon's threads may take until the daemon says that it is finishing. */
#define HELD_LOOK_S 10

/* What is known of a mount before it goes. */
typedef struct {
    const char *given; /* as on the command line */
    MapfsMountEntry entry;
    uint64_t offset_bytes;
    int pid;   /* of the daemon, 0 when it cannot be told here */
    int pidfd; /* or -1 */
    bool is_dead;
    bool is_read_only;
} Umount;

/* The daemon's pid is told as in its own pid namespace; here it counts only if that process has the image in its command line. */
static bool pid_is_daemon(int pid, const char *source) {
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", pid);
    g_autofree char *name = g_path_get_basename(source);
    g_autofree char *text = NULL;
    gsize len;

    if (!g_file_get_contents(path, &text, &len, NULL))
        return false;
    for (gsize at = 0; at < len; at += strlen(text + at) + 1) {
        g_autofree char *word = g_path_get_basename(text + at);
        if (strcmp(word, name) == 0)
            return true;
    }
    return false;
}

static void umount_find_daemon(Umount *umount) {
    struct mapfs_control_info info;
    int r;

    umount->pidfd = -1;
    r = mapfs_control_info(umount->entry.point, &info);
    umount->is_dead = r == -ENOTCONN;
    if (umount->is_dead)
        return;
    if (r == 0) {
        umount->pid = (int)info.pid;
        umount->offset_bytes = info.offset_bytes;
        umount->is_read_only = strcmp(info.view, "readonly") == 0;
    } else {
        /* A mount of somebody else without allow_other: even root may not ask. */
        r = mapfs_image_holder(umount->entry.source, 0, &umount->pid);
        if (r <= 0)
            umount->pid = 0;
    }
    if (umount->pid > 0 && pid_is_daemon(umount->pid, umount->entry.source))
        umount->pidfd = (int)syscall(SYS_pidfd_open, umount->pid, 0);
}

/* fusermount3 is setuid, and unmounts what the caller has mounted. */
static int fusermount_run(const char *point) {
    const char *argv[] = {"fusermount3", "-u", "--", point, NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *messages = NULL;
    int status;

    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL, NULL, NULL, NULL,
                      &messages, &status, &error)) {
        mapfs_complain(program, "%s: only root may unmount this without fusermount3: %s", point, error->message);
        return -EPERM;
    }
    if (g_spawn_check_wait_status(status, NULL))
        return 0;
    if (strstr(messages, "busy"))
        return -EBUSY;
    g_strstrip(messages);
    mapfs_complain(program, "%s: %s%s", point, messages,
                   strstr(messages, "/etc/mtab") ? " (as root: ln -s ../proc/self/mounts /etc/mtab)" : "");
    return -EPERM;
}

static bool umount_detach(const Umount *umount) {
    const int64_t owner = mapfs_mount_owner(&umount->entry);
    const char *point = umount->entry.point;
    g_autofree char *overlay = NULL;
    int r;

    /* The kernel would unmount this, and the daemon would go on without an end for the overlay alone. */
    if (mapfs_mount_lookup_overlay(point, &overlay) == 1) {
        mapfs_complain(program, "%s: busy: the overlay at %s has a layer there; unmount that first", point, overlay);
        return false;
    }
    r = umount2(point, UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
    if (r == -EPERM && owner >= 0 && owner != (int64_t)geteuid()) {
        mapfs_complain(program, "%s: mounted by user %" PRId64 ": only they and root may unmount it", point, owner);
        return false;
    }
    if (r == -EPERM) {
        r = fusermount_run(point);
        if (r == -EPERM)
            return false; /* which has been said */
    }
    if (r == -EBUSY)
        mapfs_complain(program,
                       "%s: busy: a program has a file open there, works there, or something is mounted below it "
                       "(fuser -vm %s tells which)",
                       point, point);
    else if (r < 0)
        mapfs_complain(program, "%s: %s", point, strerror(-r));
    return r == 0;
}

/* True when the daemon is gone, or at least its lock on the image. */
static bool daemon_is_gone(const Umount *umount) {
    struct pollfd ended = {.fd = umount->pidfd, .events = POLLIN};
    int pid = 0;

    if (umount->pidfd >= 0)
        return poll(&ended, 1, POLL_MS) == 1;
    if (umount->is_read_only || mapfs_image_holder(umount->entry.source, umount->offset_bytes, &pid) != 1)
        return true;
    g_usleep(POLL_MS * 1000);
    return false;
}

/* A mount namespace that was made while it was mounted has a copy of the mount, which the daemon goes on serving. */
static bool umount_is_elsewhere(const Umount *umount) {
    int pid;

    /* Who has begun to finish serves nobody: the kernel may have given its device number to the next mount. */
    if (!umount->is_read_only && mapfs_image_is_leaving(umount->entry.source, umount->offset_bytes) == 1)
        return false;
    if (mapfs_mount_lookup_elsewhere(&umount->entry, &pid) != 1)
        return false;
    mapfs_complain(program,
                   "%s: everything is durable, but the daemon goes on: it is still mounted in another mount namespace, "
                   "that of process %d (to enter it: nsenter -t %d -m)",
                   umount->given, pid, pid);
    return true;
}

/* A daemon that has not begun to finish by now has not been told to: something that no mount table shows has the filesystem still. */
static bool umount_is_held(const Umount *umount) {
    if (!umount->is_read_only && mapfs_image_is_leaving(umount->entry.source, umount->offset_bytes) != 0)
        return false;
    mapfs_complain(program,
                   "%s: everything is durable, but the daemon goes on: the kernel keeps the filesystem for something "
                   "else, such as an overlay on it or a mount namespace that cannot be seen from here",
                   umount->given);
    return true;
}

/* There is no limit as long as it is the disk that takes its time. False after a message. */
static bool umount_wait(const Umount *umount) {
    MapfsProgress progress;
    const gint64 start = g_get_monotonic_time();
    gint64 next_look = start + ELSEWHERE_LOOK_S * G_USEC_PER_SEC;

    mapfs_progress_init(&progress);
    while (!daemon_is_gone(umount)) {
        const gint64 now = g_get_monotonic_time();

        mapfs_progress_set(&progress, "seconds until everything is on disk", (uint64_t)((now - start) / G_USEC_PER_SEC),
                           0);
        if (now < next_look)
            continue;
        next_look = now + ELSEWHERE_LOOK_S * G_USEC_PER_SEC;
        if (umount_is_elsewhere(umount) || (now > start + HELD_LOOK_S * G_USEC_PER_SEC && umount_is_held(umount))) {
            mapfs_progress_clear(&progress);
            return false;
        }
    }
    mapfs_progress_clear(&progress);
    return true;
}

/* An orderly end marks the image as clean. Whether it is so tells whether the last checkpoint came through, since nobody here is the daemon's
 * parent. It may be mounted again already: then its next daemon has judged it. */
static int umount_check(const Umount *umount) {
    struct mapfs_disk_superblock superblock;
    int pid = 0;
    int r;

    if (umount->is_read_only)
        return MAPFS_EXIT_OK;
    r = mapfs_superblock_read(umount->entry.source, umount->offset_bytes, &superblock);
    /* An image that this process cannot see or read (another mount namespace, another user) tells nothing. */
    if (r < 0 || mapfs_image_holder(umount->entry.source, umount->offset_bytes, &pid) != 0)
        return MAPFS_EXIT_OK;
    if (mapfs_le64_load(superblock.flags) & MAPFS_SUPERBLOCK_CLEAN)
        return MAPFS_EXIT_OK;
    mapfs_complain(
        program,
        "%s: the daemon ended without its last checkpoint (its messages are in the system's log): changes since "
        "the last sync may be lost",
        umount->entry.source);
    return MAPFS_EXIT_FAILURE;
}

static int umount_run(Umount *umount) {
    bool is_durable;
    int r;

    umount_find_daemon(umount);
    /* A failed sync is better told while the mount is there. What changes from here on, the last checkpoint has. */
    r = umount->is_dead || umount->is_read_only ? 0 : mapfs_control_sync(umount->entry.point);
    is_durable = r == 0 || r == -EACCES || r == -EPERM;
    if (!is_durable)
        mapfs_complain(program, "%s: not everything is durable: %s", umount->given, strerror(-r));
    if (!umount_detach(umount))
        return MAPFS_EXIT_FAILURE;
    if (umount->is_dead) {
        (void)fprintf(stderr, "%s: %s: its daemon had died; the mount is removed (what was synced is in %s)\n", program,
                      umount->given, umount->entry.source);
        return MAPFS_EXIT_OK;
    }
    return umount_wait(umount) && is_durable ? umount_check(umount) : MAPFS_EXIT_FAILURE;
}

int mapfs_tool_umount(int argc, char **argv) {
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {0}};
    Umount umount = {.pidfd = -1};
    int option;
    int status;
    int r;

    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1)
        return option == 'h' ? mapfs_usage_help(help) : mapfs_usage_error(program);
    if (argc - optind != 1) {
        mapfs_complain(program, "one mount point is needed");
        return mapfs_usage_error(program);
    }
    umount.given = argv[optind];
    r = mapfs_mount_lookup_point(umount.given, &umount.entry);
    if (r <= 0) {
        g_autofree char *message = mapfs_message_no_mount(umount.given, r);
        mapfs_complain(program, "%s", message);
        return MAPFS_EXIT_FAILURE;
    }
    status = umount_run(&umount);
    if (umount.pidfd >= 0)
        (void)close(umount.pidfd);
    mapfs_mount_entry_clear(&umount.entry);
    return status;
}
