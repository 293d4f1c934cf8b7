/* SPDX-License-Identifier: MIT */
#include "control/client.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Opens the root directory of a mount for one command. */
static int control_call(const char *point, unsigned long command, void *argument) {
    const int fd = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (fd < 0)
        return -errno;
    r = ioctl(fd, command, argument) < 0 ? -errno : 0;
    (void)close(fd); /* nothing was written through it */
    return r;
}

int mapfs_control_info(const char *point, struct mapfs_control_info *ret_info) {
    struct mapfs_control_info info;
    int r;

    r = control_call(point, MAPFS_CONTROL_INFO, &info);
    if (r < 0)
        return r;
    info.label[sizeof info.label - 1] = '\0';
    info.view[sizeof info.view - 1] = '\0';
    info.cache[sizeof info.cache - 1] = '\0';
    info.version[sizeof info.version - 1] = '\0';
    info.source[sizeof info.source - 1] = '\0';
    *ret_info = info;
    return 0;
}

int mapfs_control_sync(const char *point) {
    return control_call(point, MAPFS_CONTROL_SYNC, NULL);
}
