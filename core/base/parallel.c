/* How a job runs: the caller stores it, raises the epoch, wakes sleepers, and takes parts like
 * everyone else. Parts are claimed from one counter. A worker that finds no part left reports
 * once for the epoch; the caller returns when all workers have reported, so that no worker can
 * touch a job after its caller's stack frame is gone. */
#include "core/base/parallel.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/base/memory.h"

/* About 20 microseconds of spinning: longer than the gap between two jobs of one step,
 * shorter than anyone would notice on an idle machine. */
enum { SPINS = 4000 };

struct worker {
    struct mb_pool *pool;
    size_t index;
    pthread_t thread;
    bool started;
};

struct mb_pool {
    size_t n_threads;
    int pin;

    /* The job: written by the caller before the epoch rises, read by workers after. */
    mb_part_fn *fn;
    void *job;
    size_t n_parts;
    bool stop;
    uint64_t (*now_ns)(void); /* or NULL: nothing is measured */
    uint64_t waited_ns;       /* the caller's alone */

    _Alignas(MB_ALIGN) atomic_size_t next;           /* the first part that nobody claimed */
    _Alignas(MB_ALIGN) atomic_uint_fast64_t epoch;   /* counts jobs */
    _Alignas(MB_ALIGN) atomic_size_t reported;       /* workers that are done with this epoch */
    _Alignas(MB_ALIGN) atomic_uint_fast64_t busy_ns; /* of all threads, in this epoch */

    pthread_mutex_t lock; /* only for sleeping */
    pthread_cond_t wake;  /* the epoch rose */
    pthread_cond_t done;  /* all have reported */
    struct worker workers[];
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static void take_all(struct mb_pool *p, size_t worker)
{
    for (;;) {
        size_t part = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);
        if (part >= p->n_parts) {
            return;
        }
        p->fn(p->job, part, worker);
    }
}

/* With a clock, the time goes to busy_ns: before the thread reports, so that the caller sees the
 * sum of all. */
static void take_parts(struct mb_pool *p, size_t worker)
{
    uint64_t begin = p->now_ns ? p->now_ns() : 0;
    take_all(p, worker);
    if (p->now_ns) {
        atomic_fetch_add_explicit(&p->busy_ns, p->now_ns() - begin, memory_order_relaxed);
    }
}

static void wait_for_epoch(struct mb_pool *p, uint64_t seen)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&p->epoch, memory_order_acquire) != seen) {
            return;
        }
        relax();
    }
    pthread_mutex_lock(&p->lock);
    while (atomic_load_explicit(&p->epoch, memory_order_acquire) == seen) {
        pthread_cond_wait(&p->wake, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

static void report(struct mb_pool *p)
{
    size_t others = p->n_threads - 1;
    if (atomic_fetch_add_explicit(&p->reported, 1, memory_order_acq_rel) + 1 == others) {
        /* The lock orders this signal after the caller's decision to sleep. */
        pthread_mutex_lock(&p->lock);
        pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->lock);
    }
}

static void pin_to(size_t index)
{
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
        return;
    }
    size_t n = (size_t) CPU_COUNT(&allowed), k = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && n > 0; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && k++ == index % n) {
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void) sched_setaffinity(0, sizeof one, &one); /* a wish, not a need */
            return;
        }
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct mb_pool *p = w->pool;
    if (p->pin) {
        pin_to(w->index);
    }
    for (uint64_t seen = 0;;) {
        wait_for_epoch(p, seen);
        seen = atomic_load_explicit(&p->epoch, memory_order_acquire);
        if (p->stop) {
            return NULL;
        }
        take_parts(p, w->index);
        report(p);
    }
}

static void raise_epoch(struct mb_pool *p)
{
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->reported, 0, memory_order_relaxed);
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->epoch, 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

static void wait_for_reports(struct mb_pool *p)
{
    size_t others = p->n_threads - 1;
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&p->reported, memory_order_acquire) == others) {
            return;
        }
        relax();
    }
    pthread_mutex_lock(&p->lock);
    while (atomic_load_explicit(&p->reported, memory_order_acquire) != others) {
        pthread_cond_wait(&p->done, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
}

enum mb_status mb_pool_new(size_t n_threads, int pin, struct mb_pool **ret,
                           struct mb_error *err)
{
    if (n_threads < 1 || n_threads > MB_THREADS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "threads: %zu is outside 1..%d", n_threads,
                       MB_THREADS_MAX);
    }
    struct mb_pool *p = mb_alloc(1, sizeof *p + n_threads * sizeof p->workers[0]);
    if (!p) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a pool of %zu threads", n_threads);
    }
    p->n_threads = n_threads;
    p->pin = pin;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    for (size_t i = 1; i < n_threads; i++) {
        struct worker *w = &p->workers[i];
        *w = (struct worker) { .pool = p, .index = i };
        int sys = pthread_create(&w->thread, NULL, worker_main, w);
        if (sys != 0) {
            mb_pool_free(p);
            return mb_fail(err, MB_E_NOMEM, sys, "start worker thread %zu", i);
        }
        w->started = true;
    }
    *ret = p;
    return MB_OK;
}

void mb_pool_free(struct mb_pool *p)
{
    if (!p) {
        return;
    }
    p->stop = true;
    raise_epoch(p);
    for (size_t i = 1; i < p->n_threads; i++) {
        if (p->workers[i].started) {
            pthread_join(p->workers[i].thread, NULL);
        }
    }
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    mb_free(p);
}

void mb_pool_pin_caller(const struct mb_pool *p)
{
    if (p && p->pin) {
        pin_to(0);
    }
}

size_t mb_pool_threads(const struct mb_pool *p)
{
    return p ? p->n_threads : 1;
}

void mb_pool_run(struct mb_pool *p, size_t n_parts, mb_part_fn *fn, void *job)
{
    if (!p || p->n_threads == 1 || n_parts <= 1) {
        for (size_t i = 0; i < n_parts; i++) {
            fn(job, i, 0);
        }
        return;
    }
    p->fn = fn;
    p->job = job;
    p->n_parts = n_parts;
    uint64_t begin = p->now_ns ? p->now_ns() : 0;
    atomic_store_explicit(&p->busy_ns, 0, memory_order_relaxed);
    raise_epoch(p);
    take_parts(p, 0);
    wait_for_reports(p);
    if (p->now_ns) {
        uint64_t all = (p->now_ns() - begin) * p->n_threads;
        uint64_t busy = atomic_load_explicit(&p->busy_ns, memory_order_relaxed);
        p->waited_ns += busy < all ? (all - busy) / p->n_threads : 0;
    }
}

void mb_pool_set_clock(struct mb_pool *p, uint64_t (*now_ns)(void))
{
    if (p) {
        p->now_ns = now_ns;
        p->waited_ns = 0;
    }
}

uint64_t mb_pool_waited_ns(const struct mb_pool *p)
{
    return p ? p->waited_ns : 0;
}
