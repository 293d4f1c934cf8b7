/* SPDX-License-Identifier: MIT */
#include "fuse/loop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <glib.h>

#include "fuse/awake.h"
#include "fuse/session-private.h"
#include "fuse/spin.h"

/* A sync keeps its thread until the disk is done, so there must be more of them than processors. They are started as they are needed. */
#define WORKERS_MAX 32u
/* What takes longer on average is handed over: waking another thread costs some ten microseconds itself. */
#define SLOW_US 100u
/* How soon a leader that is held up is noticed. */
#define LOOK_NS (2 * 1000 * 1000)
/* After so many looks without a request the monitor sleeps until there is one. */
#define LOOKS_UNTIL_SLEEP 100u
#define OPCODES 64u
/* How long to wait before a thread that is still in read(2) is interrupted again. */
#define INTERRUPT_NS (10 * 1000 * 1000)
#define WAKE_SIGNAL SIGUSR1
/* Tells the main thread that a worker has met the end. */
#define END_SIGNAL SIGUSR2

/* Locks: `mutex` guards what is not atomic, and nothing is called while it is held. */
typedef struct {
    struct fuse_session *fuse;
    int fd;
    unsigned n_quick_max; /* requests served at once before others are left to wait */
    pthread_mutex_t mutex;
    pthread_cond_t turn;    /* there is no leader, or it has ended */
    pthread_cond_t monitor; /* there is something to watch, or it has ended */
    pthread_cond_t gone;    /* a worker has ended */
    pthread_t threads[WORKERS_MAX];
    unsigned n_started, n_idle, n_gone;
    atomic_uint leader;   /* number of the worker, counted from 1; 0: none. Changed with the mutex held. */
    atomic_uint n_busy;   /* workers that serve a request */
    atomic_uint progress; /* odd while the leader serves a request; grows with each */
    atomic_bool monitor_sleeps;
    atomic_uint n_served;         /* all requests, passed on or not */
    atomic_uint cost_us[OPCODES]; /* running average of what a request of this kind takes */
    MapfsSpin spin;               /* the leader's alone */
    bool busy_poll;
    bool has_begun; /* INIT is answered; the leader's alone */
    atomic_bool has_ended;
    int error;
    pthread_t main; /* waits for signals */
} Loop;

typedef struct {
    Loop *loop;
    unsigned number;
} Worker;

static void *worker_main(void *data);

static int loop_start_worker(Loop *loop) {
    Worker *worker;
    int r;

    if (loop->n_started == WORKERS_MAX)
        return 0; /* those that are busy come back */
    worker = g_new(Worker, 1);
    *worker = (Worker){.loop = loop, .number = loop->n_started + 1};
    r = pthread_create(&loop->threads[loop->n_started], NULL, worker_main, worker);
    if (r != 0) {
        g_free(worker);
        return -r;
    }
    loop->n_started++;
    return 0;
}

/* Lets another worker lead: one that waits, or a new one. Called with the mutex held, by the leader or in its place: who gives up a lead that somebody else has taken
 * meanwhile makes two leaders. */
static void loop_pass_lead(Loop *loop) {
    int r = 0;

    atomic_store(&loop->leader, 0);
    if (loop->n_idle > 0)
        pthread_cond_signal(&loop->turn);
    else
        r = loop_start_worker(loop);
    (void)r; /* without one more thread, who is done first leads */
}

static void loop_end(Loop *loop, int error) {
    pthread_mutex_lock(&loop->mutex);
    if (!atomic_load(&loop->has_ended))
        loop->error = error;
    atomic_store(&loop->has_ended, true);
    pthread_cond_broadcast(&loop->turn);
    pthread_cond_broadcast(&loop->monitor);
    pthread_mutex_unlock(&loop->mutex);
    fuse_session_exit(loop->fuse);
    (void)pthread_kill(loop->main, END_SIGNAL); /* the main thread lives as long as the loop */
}

/* Waits until this worker leads; false when it has all ended. */
static bool worker_wait(const Worker *worker) {
    Loop *loop = worker->loop;
    bool leads;

    pthread_mutex_lock(&loop->mutex);
    loop->n_idle++;
    while (!atomic_load(&loop->has_ended) && atomic_load(&loop->leader) != 0)
        pthread_cond_wait(&loop->turn, &loop->mutex);
    loop->n_idle--;
    leads = !atomic_load(&loop->has_ended);
    if (leads)
        atomic_store(&loop->leader, worker->number);
    pthread_mutex_unlock(&loop->mutex);
    return leads;
}

static uint64_t clock_us(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void loop_note_cost(Loop *loop, unsigned opcode, uint64_t cost_us) {
    const unsigned old = atomic_load_explicit(&loop->cost_us[opcode], memory_order_relaxed);
    const unsigned cost = (unsigned)MAPFS_MIN(cost_us, (uint64_t)1000000);

    /* Two workers may do this at once: an average can do without one sample. */
    atomic_store_explicit(&loop->cost_us[opcode], (old * 7 + cost) / 8, memory_order_relaxed);
}

/* Another request is waiting, and a processor for it. */
static bool loop_has_backlog(Loop *loop) {
    struct pollfd device = {.fd = loop->fd, .events = POLLIN};

    return atomic_load(&loop->n_busy) < loop->n_quick_max && poll(&device, 1, 0) == 1;
}

static void loop_wake_monitor(Loop *loop) {
    pthread_mutex_lock(&loop->mutex);
    pthread_cond_signal(&loop->monitor);
    pthread_mutex_unlock(&loop->mutex);
}

/* Of struct fuse_setxattr_in, behind the request's header of 40 bytes, which begins with length and opcode. */
#define OPCODE_SETXATTR 21u
#define SETXATTR_FLAGS_OFFSET 48u
#define SETXATTR_KILL_SGID 1u

static _Thread_local bool setxattr_kills_sgid;

static void setxattr_note(const struct fuse_buf *buffer) {
    const uint8_t *request = buffer->mem;
    uint32_t opcode, flags = 0;

    memcpy(&opcode, request + sizeof(uint32_t), sizeof opcode);
    if (opcode == OPCODE_SETXATTR && buffer->size >= SETXATTR_FLAGS_OFFSET + sizeof flags)
        memcpy(&flags, request + SETXATTR_FLAGS_OFFSET, sizeof flags);
    setxattr_kills_sgid = flags & SETXATTR_KILL_SGID;
}

bool mapfs_loop_setxattr_kills_sgid(void) {
    return setxattr_kills_sgid;
}

/* Serves the request in the buffer. False when this worker does not lead any more. */
static bool worker_serve(const Worker *worker, const struct fuse_buf *buffer) {
    Loop *loop = worker->loop;
    uint32_t header[2]; /* length and opcode, as every request begins */
    unsigned opcode;
    uint64_t start;
    bool is_passed;

    if (!loop->has_begun) {
        /* INIT changes what libfuse reads for every other request. */
        loop->has_begun = true;
        fuse_session_process_buf(loop->fuse, buffer);
        return true;
    }
    memcpy(header, buffer->mem, sizeof header);
    setxattr_note(buffer);
    opcode = header[1] % OPCODES;
    atomic_fetch_add(&loop->n_served, 1);
    atomic_fetch_add(&loop->n_busy, 1);
    is_passed = atomic_load_explicit(&loop->cost_us[opcode], memory_order_relaxed) > SLOW_US || loop_has_backlog(loop);
    if (is_passed) {
        pthread_mutex_lock(&loop->mutex);
        loop_pass_lead(loop);
        pthread_mutex_unlock(&loop->mutex);
    } else {
        atomic_fetch_add(&loop->progress, 1);
    }
    if (atomic_load(&loop->monitor_sleeps))
        loop_wake_monitor(loop);
    start = clock_us();
    fuse_session_process_buf(loop->fuse, buffer);
    loop_note_cost(loop, opcode, clock_us() - start);
    atomic_fetch_sub(&loop->n_busy, 1);
    if (is_passed)
        return false;
    /* If the monitor has taken the lead meanwhile, it has made the number even already. */
    pthread_mutex_lock(&loop->mutex);
    if (atomic_load(&loop->leader) == worker->number)
        atomic_fetch_add(&loop->progress, 1);
    else
        is_passed = true;
    pthread_mutex_unlock(&loop->mutex);
    return !is_passed;
}

/* Looks for a request without sleeping: true when there is one. */
static bool loop_look(Loop *loop, uint64_t until_us) {
    struct pollfd device = {.fd = loop->fd, .events = POLLIN};

    while (poll(&device, 1, 0) == 0)
        if (clock_us() >= until_us || atomic_load(&loop->has_ended))
            return false;
    return true;
}

/* Waits for a request: its length, or a negative error number. */
static int loop_receive(Loop *loop, struct fuse_buf *buffer) {
    const uint64_t start = clock_us();
    const unsigned len_us = loop->busy_poll ? mapfs_spin_begin(&loop->spin) : 0;
    const bool has_met = len_us > 0 && loop_look(loop, start + len_us);
    const uint64_t looked = clock_us();
    const int n = fuse_session_receive_buf(loop->fuse, buffer);

    mapfs_spin_end(&loop->spin, len_us, has_met, (has_met ? looked : clock_us()) - start);
    return n;
}

static void *worker_main(void *data) {
    Worker *worker = data;
    Loop *loop = worker->loop;
    struct fuse_buf buffer = {0};
    bool leads = false;
    int n;

    for (;;) {
        if (!leads)
            leads = worker_wait(worker);
        if (!leads)
            break;
        n = loop_receive(loop, &buffer);
        if (n > 0)
            leads = worker_serve(worker, &buffer);
        else if (n != -EINTR && n != -EAGAIN)
            loop_end(loop, n);
        leads = leads && !atomic_load(&loop->has_ended);
    }
    free(buffer.mem); /* libfuse's own malloc */
    pthread_mutex_lock(&loop->mutex);
    loop->n_gone++;
    pthread_cond_signal(&loop->gone);
    pthread_mutex_unlock(&loop->mutex);
    g_free(worker);
    return NULL;
}

/* Takes the lead from a worker that is still at the request of the last look. */
static void monitor_take_lead(Loop *loop, unsigned progress) {
    pthread_mutex_lock(&loop->mutex);
    if (atomic_load(&loop->leader) != 0 && atomic_load(&loop->progress) == progress) {
        atomic_fetch_add(&loop->progress, 1);
        loop_pass_lead(loop);
    }
    pthread_mutex_unlock(&loop->mutex);
}

/* Sleeps until a leader wakes it. One that has begun since the last look would not. */
static void monitor_sleep(Loop *loop, unsigned n_served) {
    pthread_mutex_lock(&loop->mutex);
    atomic_store(&loop->monitor_sleeps, true);
    while (!atomic_load(&loop->has_ended) && atomic_load(&loop->n_served) == n_served)
        pthread_cond_wait(&loop->monitor, &loop->mutex);
    atomic_store(&loop->monitor_sleeps, false);
    pthread_mutex_unlock(&loop->mutex);
}

static void *monitor_main(void *data) {
    const struct timespec pause = {.tv_nsec = LOOK_NS};
    Loop *loop = data;
    unsigned last = 0, last_served = 0;
    unsigned n_quiet = 0;
    MapfsAwake awake;

    mapfs_awake_open(loop->busy_poll, &awake);
    while (!atomic_load(&loop->has_ended)) {
        const unsigned progress = atomic_load(&loop->progress);
        const unsigned n_served = atomic_load(&loop->n_served);

        if (progress == last && progress % 2 == 1)
            monitor_take_lead(loop, progress);
        mapfs_awake_look(&awake, n_served - last_served);
        n_quiet = n_served == last_served ? n_quiet + 1 : 0;
        last = progress;
        last_served = n_served;
        if (n_quiet > LOOKS_UNTIL_SLEEP && progress % 2 == 0) {
            mapfs_awake_release(&awake);
            monitor_sleep(loop, n_served);
        }
        (void)nanosleep(&pause, NULL); /* cut short by a signal: looks earlier */
    }
    mapfs_awake_close(&awake);
    return NULL;
}

static void wake_signal_handle(int signal) {
    (void)signal; /* read(2) is interrupted, that is all */
}

/* Waits for the end of all workers. Each may be in read(2), or just on its way into it. */
static void loop_join(Loop *loop) {
    struct timespec until;

    pthread_mutex_lock(&loop->mutex);
    while (loop->n_gone < loop->n_started) {
        for (unsigned i = 0; i < loop->n_started; i++)
            (void)pthread_kill(loop->threads[i],
                               WAKE_SIGNAL);         /* not joined, so it may be signalled even if it has ended */
        (void)clock_gettime(CLOCK_REALTIME, &until); /* cannot fail for this clock */
        until.tv_nsec += INTERRUPT_NS;
        if (until.tv_nsec >= 1000000000) {
            until.tv_nsec -= 1000000000;
            until.tv_sec++;
        }
        (void)pthread_cond_timedwait(&loop->gone, &loop->mutex, &until); /* the count tells */
    }
    pthread_mutex_unlock(&loop->mutex);
    for (unsigned i = 0; i < loop->n_started; i++)
        (void)pthread_join(loop->threads[i], NULL); /* fails only for what is no thread */
}

/* Waits for a signal that ends the session, or for a worker to end it. */
static void loop_wait(Loop *loop, const sigset_t *signals) {
    int signal;

    while (!atomic_load(&loop->has_ended)) {
        signal = sigwaitinfo(signals, NULL);
        if (signal > 0 && signal != END_SIGNAL)
            loop_end(loop, 0);
    }
}

/* The calling thread alone takes the signals that end the session; those that are started here inherit its mask. */
static int loop_prepare_signals(sigset_t *ret_signals) {
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP, END_SIGNAL};
    struct sigaction wake = {.sa_handler = wake_signal_handle}; /* without SA_RESTART */
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    (void)sigemptyset(ret_signals); /* cannot fail, nor can sigaddset of a signal that there is */
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(signals); i++)
        (void)sigaddset(ret_signals, signals[i]);
    if (sigaction(WAKE_SIGNAL, &wake, NULL) < 0 || sigaction(SIGPIPE, &ignore, NULL) < 0)
        return -errno;
    return -pthread_sigmask(SIG_BLOCK, ret_signals, NULL);
}

static void loop_init(Loop *loop, struct fuse_session *fuse, bool busy_poll) {
    const long n_processors = sysconf(_SC_NPROCESSORS_ONLN);

    *loop = (Loop){
        .fuse = fuse,
        .fd = fuse_session_fd(fuse),
        /* The programs that make the requests need processors too. */
        .n_quick_max = n_processors > 3 ? (unsigned)n_processors / 2 : 1,
        .busy_poll = busy_poll && n_processors > 1,
        .main = pthread_self(),
    };
    (void)pthread_mutex_init(&loop->mutex,
                             NULL); /* cannot fail with default attributes on Linux, nor can the next ones */
    (void)pthread_cond_init(&loop->turn, NULL);
    (void)pthread_cond_init(&loop->monitor, NULL);
    (void)pthread_cond_init(&loop->gone, NULL);
}

static void loop_clear(Loop *loop) {
    (void)pthread_cond_destroy(&loop->gone); /* nobody uses them any more */
    (void)pthread_cond_destroy(&loop->monitor);
    (void)pthread_cond_destroy(&loop->turn);
    (void)pthread_mutex_destroy(&loop->mutex);
}

int mapfs_loop_run(struct fuse_session *fuse, bool busy_poll) {
    pthread_t monitor;
    sigset_t signals;
    Loop loop;
    int r;

    r = loop_prepare_signals(&signals);
    if (r < 0)
        return r;
    loop_init(&loop, fuse, busy_poll);
    r = -pthread_create(&monitor, NULL, monitor_main, &loop);
    if (r < 0) {
        loop_clear(&loop);
        return r;
    }
    pthread_mutex_lock(&loop.mutex);
    r = loop_start_worker(&loop);
    pthread_mutex_unlock(&loop.mutex);
    if (r < 0)
        loop_end(&loop, r);
    loop_wait(&loop, &signals);
    loop_join(&loop);
    (void)pthread_join(monitor, NULL); /* it has been told to end */
    r = loop.error;
    loop_clear(&loop);
    return r;
}
