/* SPDX-License-Identifier: MIT */
#include "fuse/process.h"

#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "image/image.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

/* The range is -1000 (never) to 1000. A daemon that nothing can kill would be worse than one that is killed last. */
#define OOM_SCORE "-900"

static void process_lower_oom_score(void) {
    const int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0)
        return;
    n = write(fd, OOM_SCORE, strlen(OOM_SCORE));
    (void)n; /* only root may; others stay as they are */
    (void)close(fd);
}

int mapfs_process_prepare(void) {
    (void)prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); /* EPERM for ordinary users */
    process_lower_oom_score();
    return mapfs_sigbus_install();
}
