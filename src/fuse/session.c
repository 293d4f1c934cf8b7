/* SPDX-License-Identifier: MIT */
#include "fuse/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <syslog.h>
#include <unistd.h>

#include <glib.h>

#include "fuse/complaints-private.h"
#include "fuse/loop.h"
#include "fuse/session-private.h"

/* In Documentation/admin-guide/devices.txt of Linux. */
#define FUSE_MAJOR 10
#define FUSE_MINOR 229

/* libfuse calls its log function without any context. */
static void (*fuse_log_target)(int priority, const char *message);

/* While something is being mounted, beside what fusermount3 says. */
static void session_collect(int priority, const char *message) {
    g_autofree char *line = g_strconcat(message, "\n", NULL);
    ssize_t n;

    (void)priority;
    n = write(STDERR_FILENO, line, strlen(line));
    (void)n; /* there is nobody else to tell */
}

static void session_log_fuse(enum fuse_log_level level, const char *format, va_list args) G_GNUC_PRINTF(2, 0);
static void session_log_fuse(enum fuse_log_level level, const char *format, va_list args) {
    char message[1024];
    const char *start = message;

    (void)vsnprintf(message, sizeof message, format, args);
    message[strcspn(message, "\n")] = '\0';
    if (g_str_has_prefix(message, "fuse: "))
        start += strlen("fuse: ");
    /* The levels have syslog's values. */
    if (*start)
        fuse_log_target((int)level, start);
}

static void session_log(const MapfsSessionConfig *config, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void session_log(const MapfsSessionConfig *config, const char *format, ...) {
    char message[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    config->log(LOG_ERR, message);
}

/* libfuse's message for a device that cannot be opened does not say what to do. */
static int session_check_device(const MapfsSessionConfig *config) {
    struct stat st;
    int r;

    if (stat("/dev/fuse", &st) == 0 && !(S_ISCHR(st.st_mode) && st.st_rdev == makedev(FUSE_MAJOR, FUSE_MINOR))) {
        session_log(config, "/dev/fuse is something else than the kernel's device (as root: rm /dev/fuse, then mknod "
                            "-m 666 /dev/fuse c 10 229)");
        return -ENODEV;
    }
    if (access("/dev/fuse", R_OK | W_OK) == 0)
        return 0;
    r = -errno;
    if (r == -ENOENT)
        session_log(config, "/dev/fuse does not exist: load the kernel's fuse module (modprobe fuse; a container needs "
                            "the device, as with --device /dev/fuse)");
    else
        session_log(config, "/dev/fuse may not be opened: %s (its usual mode is 0666: as root, chmod 0666 /dev/fuse)",
                    strerror(-r));
    return r;
}

/* An option's value may have commas and backslashes, which separate and escape for libfuse. */
static char *option_escape(const char *value) {
    GString *escaped = g_string_new(NULL);

    for (; *value; value++) {
        if (*value == ',' || *value == '\\')
            g_string_append_c(escaped, '\\');
        g_string_append_c(escaped, *value);
    }
    return g_string_free(escaped, FALSE);
}

static char *session_options(const MapfsSessionConfig *config) {
    g_autofree char *source = option_escape(config->source);

    return g_strdup_printf("fsname=%s,subtype=mapfs,default_permissions%s%s%s", source, config->read_only ? ",ro" : "",
                           config->mount_options ? "," : "", config->mount_options ? config->mount_options : "");
}

/* False after a message. */
static bool session_attach(MapfsSession *session, struct fuse_args *args) {
    const MapfsSessionConfig *config = session->config;
    struct fuse_lowlevel_ops handlers = mapfs_handlers;
    g_auto(GStrv) lines = NULL;
    MapfsComplaints complaints;
    const char *cause, *remedy;

    mapfs_libfuse_add_handlers(&handlers);
    mapfs_complaints_begin(&complaints);
    fuse_log_target = session_collect;
    session->fuse = fuse_session_new(args, &handlers, sizeof handlers, session);
    session->is_mounted = session->fuse && fuse_session_mount(session->fuse, config->mountpoint) == 0;
    fuse_log_target = config->log;
    lines = mapfs_complaints_end(&complaints);
    if (session->is_mounted) {
        for (char **line = lines; *line; line++)
            config->log(LOG_WARNING, *line);
        return true;
    }
    cause = *lines ? *lines : "libfuse does not say why";
    remedy = mapfs_complaint_remedy(cause);
    session_log(config, "%s: nothing can be mounted there: %s%s%s", config->mountpoint, cause, remedy ? "; " : "",
                remedy ? remedy : "");
    if (session->fuse)
        fuse_session_destroy(session->fuse);
    return false;
}

static MapfsSession *session_new(MapfsFs *fs, const MapfsSessionConfig *config) {
    MapfsSession *session = g_new0(MapfsSession, 1);
    struct stat stat;
    MapfsAttr root;

    session->config = config;
    session->fs = fs;
    pthread_mutex_init(&session->root_mutex, NULL);
    if (mapfs_fs_getattr(fs, FUSE_ROOT_ID, &root) == 0) {
        mapfs_attr_to_stat(session, &root, &stat);
        mapfs_session_keep_root(session, &stat);
    }
    return session;
}

static void session_drop(MapfsSession *session) {
    pthread_mutex_destroy(&session->root_mutex);
    g_free(session);
}

int mapfs_session_error(const MapfsSession *session) {
    return atomic_load_explicit(&session->is_damaged, memory_order_relaxed) ? -EUCLEAN : 0;
}

int mapfs_session_mount(MapfsFs *fs, const MapfsSessionConfig *config, MapfsSession **ret_session) {
    g_autofree char *options = session_options(config);
    char *argv[] = {(char *)"mapfs", (char *)"-o", options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    MapfsSession *session;
    bool is_mounted;
    int r;

    fuse_log_target = config->log;
    fuse_set_log_func(session_log_fuse);
    r = session_check_device(config);
    if (r < 0)
        return r;
    session = session_new(fs, config);
    is_mounted = session_attach(session, &args);
    fuse_opt_free_args(&args);
    if (!is_mounted) {
        session_drop(session);
        return -EIO;
    }
    *ret_session = session;
    return 0;
}

int mapfs_session_loop(MapfsSession *session) {
    mapfs_fs_on_damage(session->fs, mapfs_session_note_damage, session);
    return mapfs_loop_run(session->fuse, session->config->busy_poll);
}

void mapfs_session_free(MapfsSession *session) {
    if (!session)
        return;
    mapfs_fs_on_damage(session->fs, NULL, NULL);
    if (session->is_mounted)
        fuse_session_unmount(session->fuse);
    fuse_session_destroy(session->fuse);
    session_drop(session);
}
