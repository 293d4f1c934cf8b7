/* SPDX-License-Identifier: MIT */
#include "tools/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <glib.h>

#include "control/client.h"
#include "control/server.h"
#include "fuse/process.h"
#include "fuse/session.h"
#include "tools/daemon.h"
#include "tools/messages.h"
#include "tools/notify.h"
#include "tools/tool.h"
#include "view/view.h"

static const char help[] =
    "Usage: mapfs mount [-f] [-o OPTION,...] IMAGE MOUNTPOINT\n"
    "Mounts the filesystem in IMAGE (a file or a block device) at the directory MOUNTPOINT.\n"
    "Returns when the mount answers; a process in the background serves it.\n"
    "\n"
    "  -f, --foreground       serve it in the foreground (tells $NOTIFY_SOCKET when it is ready)\n"
    "  -o, --options LIST     see below\n"
    "  -h, --help             show this help\n"
    "\n";

/* A mount that is served. */
typedef struct {
    const MapfsMountRequest *request;
    char *source, *point; /* absolute */
    MapfsView *view;
    MapfsControlServer control;
} Mount;

static void mount_log(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void mount_log(const char *format, ...) {
    g_autofree char *message = NULL;
    va_list args;

    va_start(args, format);
    message = g_strdup_vprintf(format, args);
    va_end(args);
    mapfs_daemon_log(LOG_ERR, message);
}

static int mount_answer_ioctl(void *user, unsigned command, void *out, size_t *out_len) {
    Mount *mount = user;

    return mapfs_control_answer(&mount->control, command, out, out_len);
}

static void mount_ready(void *user) {
    (void)user;
    mapfs_daemon_set_ready();
}

/* False after a message. */
static bool mount_resolve_source(Mount *mount) {
    const MapfsMountRequest *request = mount->request;

    mount->source = realpath(request->image, NULL);
    if (!mount->source) {
        g_autofree char *message = mapfs_message_open(request->image, 0, -errno, NULL);
        mount_log("%s", message);
    }
    return mount->source != NULL;
}

/* Whether a mount is there that answers nothing. stat() may be answered out of the kernel's cache for it, and a mount over it would show the dead
 * one again when it goes. */
static bool point_is_dead(const char *point) {
    struct mapfs_control_info info;
    MapfsMountEntry entry;
    int r;

    if (mapfs_mount_lookup_point(point, &entry) != 1)
        return false;
    r = mapfs_control_info(entry.point, &info);
    mapfs_mount_entry_clear(&entry);
    return r == -ENOTCONN || r == -ECONNABORTED;
}

/* What is wrong with the mount point? False after a message. */
static bool mount_resolve_point(Mount *mount) {
    const MapfsMountRequest *request = mount->request;
    struct stat st;
    int r;

    r = point_is_dead(request->point) ? -ENOTCONN : 0;
    if (r == 0 && stat(request->point, &st) < 0)
        r = -errno;
    if (r < 0) {
        if (*request->point == '\0')
            mount_log("the name of the mount point is empty");
        else if (r == -ENOTCONN)
            mount_log("%s: the daemon of a mount there has died; remove it with: mapfs umount %s", request->point,
                      request->point);
        else if (r == -ENOENT)
            mount_log("%s: there is no such directory to mount on (mkdir makes one)", request->point);
        else
            mount_log("%s: %s", request->point, strerror(-r));
        return false;
    }
    if (!S_ISDIR(st.st_mode)) {
        mount_log("%s: not a directory", request->point);
        return false;
    }
    mount->point = realpath(request->point, NULL);
    if (!mount->point)
        mount_log("%s: %s", request->point, strerror(errno));
    return mount->point != NULL;
}

int mapfs_mount_space_enter(const char *path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    int r = 0;

    if (fd < 0)
        return -errno;
    /* A thread enters with a root and a working directory of its own. */
    if (unshare(CLONE_FS) < 0 || setns(fd, CLONE_NEWNS) < 0)
        r = -errno;
    (void)close(fd); /* was only read */
    return r;
}

/* The image is opened where the caller is, and seen there by the threads of the store. This thread and those that it will start for the
 * requests go to where it is mounted. False after a message. */
static bool mount_enter_space(Mount *mount) {
    int r = 0;

    if (!mount->request->space)
        return true;
    r = mapfs_mount_space_enter(mount->request->space);
    if (r < 0)
        mount_log("%s: cannot enter this mount namespace: %s", mount->request->space, strerror(-r));
    return r == 0 && mount_resolve_point(mount);
}

/* False after a message. */
static bool mount_resolve(Mount *mount) {
    if (!mount_resolve_source(mount))
        return false;
    if (!mount->request->space)
        return mount_resolve_point(mount);
    /* Threads that stay behind must not keep a directory busy. */
    if (chdir("/") < 0)
        mount_log("cannot change to /: %s", strerror(errno));
    return true;
}

static bool mount_open_view(Mount *mount) {
    const MapfsMountOptions *options = &mount->request->options;
    const MapfsViewOptions view_options = {
        .kind = options->read_only ? MAPFS_VIEW_READONLY : options->view,
        .offset_bytes = options->offset_bytes,
        .wait_ms = MAPFS_WAIT_MS,
        .discard = options->discard,
        .commit_seconds = options->commit_seconds,
    };
    int r;

    r = mapfs_process_prepare();
    if (r < 0) {
        mount_log("cannot catch SIGBUS: %s", strerror(-r));
        return false;
    }
    r = mapfs_view_open(mount->source, &view_options, &mount->view);
    if (r < 0) {
        g_autofree char *message =
            mapfs_message_open(mount->request->image, options->offset_bytes, r,
                               view_options.kind == MAPFS_VIEW_READONLY ? NULL : "mount it read-only with -o ro");
        mount_log("%s", message);
        return false;
    }
    return true;
}

/* From mounting to unmounting. */
static int mount_serve(Mount *mount) {
    const MapfsMountOptions *options = &mount->request->options;
    const MapfsSessionConfig config = {
        .source = mount->source,
        .mountpoint = mount->point,
        .mount_options = options->fuse,
        .read_only = mapfs_view_kind(mount->view) == MAPFS_VIEW_READONLY,
        .cache_writeback = options->cache_writeback,
        .damage_read_only = options->damage_read_only,
        .busy_poll = options->busy_poll,
        .uid = options->uid,
        .gid = options->gid,
        .ioctl = mount_answer_ioctl,
        .ready = mount_ready,
        .log = mapfs_daemon_log,
        .user = mount,
    };
    MapfsSession *session;
    int r;

    mount->control = (MapfsControlServer){
        .view = mount->view,
        .source = mount->source,
        .cache = options->cache_writeback ? "writeback" : "through",
        .offset_bytes = options->offset_bytes,
        .start_time = time(NULL),
    };
    r = mapfs_session_mount(mapfs_view_fs(mount->view), &config, &session);
    if (r < 0)
        return r;
    mount->control.session = session;
    r = mapfs_session_loop(session);
    mapfs_view_set_finishing(mount->view);
    mapfs_notify("STOPPING=1");
    mapfs_session_free(session);
    if (r < 0)
        mount_log("%s: serving %s failed: %s", mount->source, mount->point, strerror(-r));
    return r;
}

/* The whole life of the daemon; its exit status. */
static int mount_run(const MapfsMountRequest *request) {
    Mount mount = {.request = request};
    int status = MAPFS_EXIT_FAILURE;
    int r;

    if (mount_resolve(&mount) && mount_open_view(&mount)) {
        if (mount_enter_space(&mount) && mount_serve(&mount) == 0)
            status = MAPFS_EXIT_OK;
        r = mapfs_view_close(mount.view);
        if (r < 0) {
            mount_log("%s: the last checkpoint failed: %s; what was not synced before is lost", mount.source,
                      strerror(-r));
            status = MAPFS_EXIT_FAILURE;
        }
    }
    free(mount.source);
    free(mount.point);
    return status;
}

void mapfs_mount_request_rerun(const MapfsMountRequest *request, const char *image, const char *option) {
    static const char option_flag[] = "-o";
    g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *line = NULL;
    g_autoptr(GPtrArray) arguments = g_ptr_array_new();
    bool found = false;
    gsize len = 0;

    if (!program || !g_file_get_contents("/proc/self/cmdline", &line, &len, NULL))
        return;
    for (gsize at = 0; at < len; at += strlen(line + at) + 1)
        g_ptr_array_add(arguments, line + at);
    /* The last one: an option's value may be the same word, but hardly the mount point. */
    for (guint i = arguments->len; i > 1 && !found; i--) {
        found = strcmp(arguments->pdata[i - 1], request->image) == 0;
        if (found)
            arguments->pdata[i - 1] = (char *)image;
    }
    if (option) {
        g_ptr_array_add(arguments, (char *)option_flag);
        g_ptr_array_add(arguments, (char *)option);
    }
    g_ptr_array_add(arguments, NULL);
    if (found)
        (void)execv(program, (char **)arguments->pdata);
}

/* Whoever looks for the daemon of an image finds it by the image's absolute path in its command line: when it was called with another name
 * of it, the program runs itself again with that one. */
static void request_name_image(const MapfsMountRequest *request) {
    g_autofree char *image = realpath(request->image, NULL);

    if (image && strcmp(image, request->image) != 0)
        mapfs_mount_request_rerun(request, image, NULL);
}

int mapfs_mount_request_run(const MapfsMountRequest *request) {
    int status;
    int r;

    if (request->options.remount)
        return mapfs_remount(request);
    request_name_image(request);
    if (request->foreground) {
        mapfs_daemon_stay(request->program);
        return mount_run(request);
    }
    r = mapfs_daemon_start(request->program, &status);
    if (r < 0) {
        mapfs_complain(request->program, "cannot start a process: %s", strerror(-r));
        return MAPFS_EXIT_FAILURE;
    }
    return r == 0 ? mount_run(request) : status;
}

void mapfs_mount_request_init(MapfsMountRequest *request, const char *program) {
    *request = (MapfsMountRequest){.program = program};
    mapfs_mount_options_init(&request->options);
}

void mapfs_mount_request_clear(MapfsMountRequest *request) {
    mapfs_mount_options_clear(&request->options);
}

bool mapfs_mount_request_add_options(MapfsMountRequest *request, const char *list, bool sloppy) {
    g_autofree char *problem = mapfs_mount_options_parse(&request->options, list, sloppy);

    if (problem)
        mapfs_complain(request->program, "%s", problem);
    return !problem;
}

bool mapfs_mount_request_take_names(MapfsMountRequest *request, int argc, char **argv) {
    if (argc - optind != 2) {
        mapfs_complain(request->program, argc - optind < 2 ? "an image and a mount point are needed"
                                                           : "more than an image and a mount point were given");
        return false;
    }
    request->image = argv[optind];
    request->point = argv[optind + 1];
    return true;
}

int mapfs_tool_mount(int argc, char **argv) {
    static const struct option options[] = {
        {"foreground", no_argument, NULL, 'f'},
        {"options", required_argument, NULL, 'o'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    MapfsMountRequest request;
    int status = MAPFS_EXIT_USAGE;
    bool good = true;
    int option;

    mapfs_mount_request_init(&request, "mapfs mount");
    while (good && (option = getopt_long(argc, argv, "fho:", options, NULL)) != -1) {
        if (option == 'h') {
            (void)fputs(help, stdout); /* main looks at stdout's errors */
            return mapfs_usage_help(mapfs_mount_options_help);
        }
        if (option == 'f')
            request.foreground = true;
        else if (option == 'o')
            good = mapfs_mount_request_add_options(&request, optarg, false);
        else
            return mapfs_usage_error(request.program);
    }
    if (good && mapfs_mount_request_take_names(&request, argc, argv))
        status = mapfs_mount_request_run(&request);
    mapfs_mount_request_clear(&request);
    return status;
}
