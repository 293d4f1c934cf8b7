/* SPDX-License-Identifier: MIT */
#include "tools/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <glib.h>

#include "tools/messages.h"
#include "tools/notify.h"
#include "tools/tool.h"

/* What the background process sends when it is ready; no message has this byte. */
#define READY_BYTE '\0'

/* Where messages go is the process's own, like stderr. Written while there is one thread, but for the change to TO_SYSLOG. */
enum { TO_STDERR, TO_STARTER, TO_SYSLOG };
static atomic_int log_to = TO_STDERR;
static int starter_fd = -1;
static const char *program_name = "mapfs";

/* False when nobody reads it any more. */
static bool fd_write(int fd, const char *text, size_t len) {
    while (len > 0) {
        const ssize_t n = write(fd, text, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

void mapfs_daemon_log(int priority, const char *message) {
    const int to = atomic_load(&log_to);
    g_autofree char *printable = mapfs_message_printable(message);

    if (to == TO_SYSLOG) {
        syslog(priority, "%s", printable);
        return;
    }
    g_autofree char *line = g_strdup_printf("%s: %s\n", program_name, printable);
    (void)fd_write(to == TO_STARTER ? starter_fd : STDERR_FILENO, line,
                   strlen(line)); /* there is nobody else to tell */
}

/* Passes on messages until the other process is ready (true) or has closed the pipe. */
static bool starter_relay(int fd) {
    char buffer[4096];
    ssize_t n;

    for (;;) {
        n = read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        const char *ready = memchr(buffer, READY_BYTE, (size_t)n);
        (void)fd_write(STDERR_FILENO, buffer, ready ? (size_t)(ready - buffer) : (size_t)n); /* as above */
        if (ready)
            return true;
    }
}

static int starter_wait(int fd, pid_t child) {
    int status;

    if (starter_relay(fd))
        return MAPFS_EXIT_OK;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return MAPFS_EXIT_FAILURE;
    if (WIFEXITED(status))
        return WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : MAPFS_EXIT_FAILURE;
    (void)fprintf(stderr, "%s: the daemon was ended by signal %d (%s)\n", program_name, WTERMSIG(status),
                  strsignal(WTERMSIG(status)));
    return MAPFS_EXIT_FAILURE;
}

/* The three standard descriptors are in use, so that no other file gets their numbers. */
static void standard_descriptors_open(void) {
    int fd;

    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        (void)close(fd);
}

/* What the caller had open, such as a pipe that somebody reads to its end, is not the daemon's to hold for as long as it lives. */
static void inherited_descriptors_close(int kept) {
    if (kept > STDERR_FILENO + 1)
        (void)close_range(STDERR_FILENO + 1, (unsigned)kept - 1, 0); /* fails for no range that is one */
    (void)close_range((unsigned)kept + 1, UINT_MAX, 0);              /* as above */
}

int mapfs_daemon_start(const char *program, int *ret_status) {
    int fds[2];
    pid_t child;

    program_name = program;
    standard_descriptors_open();
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    child = fork();
    if (child < 0) {
        const int r = -errno;
        (void)close(fds[0]);
        (void)close(fds[1]);
        return r;
    }
    if (child > 0) {
        (void)close(fds[1]);
        *ret_status = starter_wait(fds[0], child);
        (void)close(fds[0]);
        return 1;
    }
    inherited_descriptors_close(fds[1]);
    (void)setsid(); /* a new process leads no group: it cannot fail */
    starter_fd = fds[1];
    atomic_store(&log_to, TO_STARTER);
    return 0;
}

void mapfs_daemon_stay(const char *program) {
    program_name = program;
    standard_descriptors_open();
}

void mapfs_daemon_set_ready(void) {
    const char byte = READY_BYTE;
    int null;

    if (atomic_load(&log_to) != TO_STARTER) {
        mapfs_notify("READY=1");
        return;
    }
    openlog("mapfs", LOG_PID, LOG_DAEMON);
    atomic_store(&log_to, TO_SYSLOG);
    /* A directory that a daemon stands in cannot be unmounted. */
    if (chdir("/") < 0)
        syslog(LOG_WARNING, "cannot change to /: %s", strerror(errno));
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
        (void)dup2(null, fd);
    if (null > STDERR_FILENO)
        (void)close(null);
    /* A command that was interrupted has not mounted anything, as far as its user knows. */
    if (!fd_write(starter_fd, &byte, 1))
        (void)kill(getpid(), SIGTERM); /* oneself may always be signalled */
    (void)close(starter_fd);
    starter_fd = -1;
}
