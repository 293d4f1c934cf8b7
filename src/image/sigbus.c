/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "image/image-private.h"

/* A page of the image that cannot be had (truncated file, read error, full host under a hole) is a SIGBUS at the load or store. The
 * handler puts an anonymous page of zeros there, notes it, and the code runs on: it survives any bytes. No longjmp: it would
 * leave locks taken, here and in libraries.
 *
 * The handler may run at any instruction of any thread. It takes no lock, allocates nothing and calls mmap, sigaction and raise
 * alone. What it reads is the registry below: fixed slots, filled before `base` is published and emptied after it is taken
 * back. Closing an image while another thread still touches it is the caller's bug with or without this. */

#define IMAGES_MAX 64u
/* Lost pages that are remembered one by one. Past that the whole image counts as lost, and the mapping is replaced at once, so that
 * a truncated file of any size costs a bounded number of faults and mappings. */
#define LOST_MAX 64u

struct MapfsFaults {
    _Atomic(uintptr_t) base; /* 0: slot is not in use */
    _Atomic(uintptr_t) alias;
    _Atomic(uint64_t) len_bytes;
    _Atomic(MapfsImage *) image;
    _Atomic(uint32_t) n_lost;         /* may pass LOST_MAX */
    _Atomic(uint64_t) lost[LOST_MAX]; /* block + 1; 0: counted, but not yet noted */
    bool taken;                       /* guarded by registry_lock */
};

static struct MapfsFaults registry[IMAGES_MAX];
static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER; /* never taken by the handler */
static struct sigaction previous_action;                          /* written once, before the handler is in place */
static bool installed;                                            /* guarded by registry_lock */

static _Thread_local volatile sig_atomic_t thread_faulted;

int mapfs_faults_register(MapfsImage *image) {
    MapfsFaults *slot = NULL;

    (void)pthread_mutex_lock(&registry_lock);
    for (size_t i = 0; i < IMAGES_MAX && !slot; i++)
        if (!registry[i].taken)
            slot = &registry[i];
    if (slot)
        slot->taken = true;
    (void)pthread_mutex_unlock(&registry_lock);
    if (!slot)
        return -EMFILE;

    for (size_t i = 0; i < LOST_MAX; i++)
        atomic_store(&slot->lost[i], 0);
    atomic_store(&slot->n_lost, 0);
    atomic_store(&slot->image, image);
    atomic_store(&slot->len_bytes, image->n_blocks << MAPFS_BLOCK_SHIFT);
    atomic_store(&slot->alias, (uintptr_t)image->alias);
    atomic_store(&slot->base, (uintptr_t)image->base);
    image->faults = slot;
    return 0;
}

void mapfs_faults_unregister(MapfsImage *image) {
    MapfsFaults *slot = image->faults;

    if (!slot)
        return;
    image->faults = NULL;
    atomic_store(&slot->base, 0);
    atomic_store(&slot->alias, 0);
    (void)pthread_mutex_lock(&registry_lock);
    slot->taken = false;
    (void)pthread_mutex_unlock(&registry_lock);
}

/* Zeros in the place of what is mapped there. ThreadSanitizer's mmap() would take the new page for a store that races with whoever reads
 * there, and is nothing for a signal handler. */
static int map_zeros(uintptr_t start, size_t len_bytes, int protection) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;

#ifdef __SANITIZE_THREAD__
    return syscall(SYS_mmap, start, len_bytes, protection, flags, -1, 0L) == -1 ? -errno : 0;
#else
    return mmap((void *)start, len_bytes, protection, flags, -1, 0) == MAP_FAILED ? -errno : 0;
#endif
}

/* Replaces a page of the view at `view`, or the whole view when too many were lost. */
static int view_replace(MapfsFaults *slot, uintptr_t view, uintptr_t address, int protection) {
    uint64_t block = (address - view) >> MAPFS_BLOCK_SHIFT;
    uint32_t n = atomic_fetch_add(&slot->n_lost, 1);
    uintptr_t start = view + (block << MAPFS_BLOCK_SHIFT);
    size_t len_bytes = MAPFS_BLOCK_SIZE;

    mapfs_image_fail(atomic_load(&slot->image), -EIO);
    if (n < LOST_MAX) {
        atomic_store(&slot->lost[n], block + 1);
    } else {
        start = view;
        len_bytes = atomic_load(&slot->len_bytes);
        atomic_store(&slot->n_lost, LOST_MAX + 1); /* must not wrap */
    }
    return map_zeros(start, len_bytes, protection);
}

/* True when the fault was in an image and is mended. */
static bool fault_mend(uintptr_t address) {
    for (size_t i = 0; i < IMAGES_MAX; i++) {
        MapfsFaults *slot = &registry[i];
        uintptr_t base = atomic_load(&slot->base);
        if (base == 0)
            continue;
        uintptr_t alias = atomic_load(&slot->alias);
        uint64_t len_bytes = atomic_load(&slot->len_bytes);
        if (address >= base && address - base < len_bytes)
            return view_replace(slot, base, address, PROT_READ) == 0;
        if (alias != 0 && address >= alias && address - alias < len_bytes)
            return view_replace(slot, alias, address, PROT_READ | PROT_WRITE) == 0;
    }
    return false;
}

/* A fault that is not ours: to the handler before us, or death as by default. */
static void fault_pass_on(int signal_number, siginfo_t *info, void *context) {
    if (previous_action.sa_flags & SA_SIGINFO) {
        previous_action.sa_sigaction(signal_number, info, context);
        return;
    }
    if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) {
        previous_action.sa_handler(signal_number);
        return;
    }
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    (void)sigaction(SIGBUS, &by_default, NULL); /* cannot fail with these arguments */
    /* A real fault comes again as soon as this returns, and dies at the right instruction; a sent signal does not. */
    if (info->si_code <= 0)
        (void)raise(SIGBUS);
}

static void sigbus_handle(int signal_number, siginfo_t *info, void *context) {
    int saved_errno = errno;

    /* Codes from the kernel are positive; a signal that a process sent carries no address. */
    if (info->si_code > 0 && fault_mend((uintptr_t)info->si_addr))
        thread_faulted = 1;
    else
        fault_pass_on(signal_number, info, context);
    errno = saved_errno;
}

int mapfs_sigbus_install(void) {
    struct sigaction action = {.sa_sigaction = sigbus_handle, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART};
    int r = 0;

    (void)sigemptyset(&action.sa_mask);
    (void)pthread_mutex_lock(&registry_lock);
    if (!installed) {
        if (sigaction(SIGBUS, NULL, &previous_action) < 0 || sigaction(SIGBUS, &action, NULL) < 0)
            r = -errno;
        else
            installed = true;
    }
    (void)pthread_mutex_unlock(&registry_lock);
    return r;
}

bool mapfs_sigbus_taken(void) {
    bool faulted = thread_faulted != 0;

    thread_faulted = 0;
    return faulted;
}

bool mapfs_image_lost(const MapfsImage *image, MapfsRun run) {
    MapfsFaults *slot = image->faults;
    uint32_t n = slot ? atomic_load_explicit(&slot->n_lost, memory_order_acquire) : 0;

    if (n == 0)
        return false;
    if (n > LOST_MAX)
        return true;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t lost = atomic_load(&slot->lost[i]);
        if (lost == 0 || (lost - 1 >= run.start.n && lost - 1 - run.start.n < run.n_blocks))
            return true;
    }
    return false;
}
