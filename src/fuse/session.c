/* SPDX-License-Identifier: MIT */
#include "fuse/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include <glib.h>

#include "fuse/loop.h"
#include "fuse/session-private.h"

/* libfuse calls its log function without any context. */
static void (*fuse_log_target)(int priority, const char *message);

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
    int r;

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

int mapfs_session_mount(MapfsFs *fs, const MapfsSessionConfig *config, MapfsSession **ret_session) {
    g_autofree char *options = session_options(config);
    char *argv[] = {(char *)"mapfs", (char *)"-o", options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    MapfsSession *session;
    int r;

    fuse_log_target = config->log;
    fuse_set_log_func(session_log_fuse);
    r = session_check_device(config);
    if (r < 0)
        return r;
    session = g_new0(MapfsSession, 1);
    session->config = config;
    session->fs = fs;
    session->fuse = fuse_session_new(&args, &mapfs_handlers, sizeof mapfs_handlers, session);
    fuse_opt_free_args(&args);
    if (!session->fuse) {
        g_free(session);
        return -EINVAL;
    }
    if (fuse_session_mount(session->fuse, config->mountpoint) < 0) {
        fuse_session_destroy(session->fuse);
        g_free(session);
        return -EIO;
    }
    session->is_mounted = true;
    *ret_session = session;
    return 0;
}

int mapfs_session_loop(MapfsSession *session) {
    return mapfs_loop_run(session->fuse, session->config->busy_poll);
}

void mapfs_session_free(MapfsSession *session) {
    if (!session)
        return;
    if (session->is_mounted)
        fuse_session_unmount(session->fuse);
    fuse_session_destroy(session->fuse);
    g_free(session);
}
