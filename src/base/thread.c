/* SPDX-License-Identifier: MIT */

#include "base/thread.h"

#include <signal.h>

int mapfs_thread_start(pthread_t *ret_thread, void *(*function)(void *), void *user) {
    sigset_t blocked, old;
    int r;

    sigfillset(&blocked);
    sigdelset(&blocked, SIGBUS);
    pthread_sigmask(SIG_BLOCK, &blocked, &old);
    r = pthread_create(ret_thread, NULL, function, user);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return -r;
}
