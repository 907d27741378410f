/* How a job runs. Its parts are cut into one share a thread, neighbours together. A thread takes
 * its own share from the front, so that it reads memory in order, and then what is left of the
 * others' from the back, so that a thread that the system has put aside holds up one part at
 * most. What is left of a share is one word that is changed by compare-and-swap: whoever takes a
 * part from it owns that part, whatever job it thought was running. A thread reports the parts
 * it has done when it finds none left; the caller returns when as many are reported as there
 * are; a worker that comes late finds the shares empty and touches nothing.
 *
 * A share says what its job is: that is written before it is filled and read after a part was
 * taken, and can not change in between, because that part is not reported. All of it is in the
 * one cache line that the share's own thread waits for: a line that another core wrote may take
 * longer to come than a small part takes to run. */
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

/* About 200 microseconds: longer than what one thread does alone between two jobs of a step, or
 * between two steps; shorter than anyone would notice on an idle machine. */
enum { SPINS = 16000 };

struct share {
    _Alignas(MB_ALIGN) atomic_uint_fast64_t left; /* parts [begin, end): begin + end * 2^32 */
    atomic_uint_fast64_t epoch;                   /* counts jobs */
    mb_part_fn *fn;
    mb_ahead_fn *ahead; /* or NULL */
    void *job;
    size_t n_parts; /* of the job */
};

struct worker {
    struct mb_pool *pool;
    size_t index;
    pthread_t thread;
    bool started;
};

struct mb_pool {
    size_t n_threads;
    int pin;
    bool has_allowed;
    cpu_set_t allowed; /* processors of the thread that made the pool */

    uint64_t (*now_ns)(void); /* or NULL: nothing is measured */
    atomic_bool stop;
    struct share *shares; /* [n_threads] */

    _Alignas(MB_ALIGN) uint64_t epoch; /* the caller's alone, as is the next */
    uint64_t waited_ns;
    atomic_size_t n_asleep;                         /* workers; they change it under the lock */
    _Alignas(MB_ALIGN) atomic_uint_fast64_t n_done; /* parts */
    atomic_bool caller_asleep;                      /* changed under the lock */
    _Alignas(MB_ALIGN) atomic_uint_fast64_t busy_ns; /* of all threads, in this job */

    pthread_mutex_t lock; /* only for sleeping */
    pthread_cond_t wake;  /* the epoch rose */
    pthread_cond_t done;  /* all parts are done */
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

static inline uint64_t share_of(uint64_t begin, uint64_t end)
{
    return begin | end << 32;
}

/* Takes one part of the share, from the front or the back; false when it is empty. */
static bool take(struct share *s, bool front, size_t *ret)
{
    uint64_t left = atomic_load_explicit(&s->left, memory_order_relaxed);
    for (;;) {
        uint64_t begin = left & UINT32_MAX, end = left >> 32;
        if (begin >= end) {
            return false;
        }
        uint64_t less = front ? share_of(begin + 1, end) : share_of(begin, end - 1);
        if (atomic_compare_exchange_weak_explicit(&s->left, &left, less, memory_order_acquire,
                                                  memory_order_relaxed)) {
            *ret = front ? begin : end - 1;
            return true;
        }
    }
}

/* n parts more of the job's n_parts are done; the last wake its caller. */
static void report(struct mb_pool *p, size_t n, size_t n_parts)
{
    if (atomic_fetch_add(&p->n_done, n) + n == n_parts && atomic_load(&p->caller_asleep)) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_signal(&p->done);
        pthread_mutex_unlock(&p->lock);
    }
}

static void take_parts(struct mb_pool *p, size_t worker, struct mb_ahead *ret_ahead)
{
    size_t i = worker, tried = 0, n = 0, n_parts = 0, part;
    uint64_t begin = 0;
    mb_ahead_fn *ahead = NULL;
    void *job = NULL;
    while (tried < p->n_threads) {
        struct share *s = &p->shares[i];
        if (take(s, i == worker, &part)) {
            if (n == 0 && p->now_ns) {
                begin = p->now_ns();
            }
            n_parts = s->n_parts;
            ahead = s->ahead;
            job = s->job;
            s->fn(job, part, worker);
            n++;
            tried = 0;
        } else {
            i = i + 1 < p->n_threads ? i + 1 : 0;
            tried++;
        }
    }
    if (n > 0) {
        if (p->now_ns) { /* before the report, so that the caller sees the sum of all */
            atomic_fetch_add_explicit(&p->busy_ns, p->now_ns() - begin, memory_order_relaxed);
        }
        if (ahead) { /* before it too, while there is a job to ask */
            ahead(job, worker, ret_ahead);
        }
        report(p, n, n_parts);
    }
}

/* Fetches into the second-level cache, a piece of each range in turn, until the word is, or is no
 * longer, what it should be: then there is something better to do. */
static void fetch_ahead(const struct mb_ahead *a, const atomic_uint_fast64_t *word,
                        uint64_t value, bool until_equal)
{
    enum { LINE = 64, PIECE = 16 * LINE };
    bool more = true;
    for (size_t at = 0; more; at += PIECE) {
        more = false;
        for (size_t i = 0; i < MB_AHEAD_RANGES; i++) {
            size_t n = a->range[i].n_bytes;
            for (size_t k = at; k < n && k < at + PIECE; k += LINE) {
                __builtin_prefetch((const uint8_t *) a->range[i].at + k, 0, 2);
            }
            more |= n > at + PIECE;
            uint64_t now = atomic_load_explicit(word, memory_order_relaxed);
            if ((now == value) == until_equal) {
                return;
            }
        }
    }
}

static void wait_for_epoch(struct mb_pool *p, const struct share *own, uint64_t seen)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&own->epoch, memory_order_acquire) != seen) {
            return;
        }
        relax();
    }
    /* The caller adds to n_asleep too, after it has raised the epochs: either this thread's
     * addition comes later and sees them, or the caller's does and sees that it sleeps. */
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_asleep, 1);
    while (atomic_load(&own->epoch) == seen) {
        pthread_cond_wait(&p->wake, &p->lock);
    }
    atomic_fetch_sub(&p->n_asleep, 1);
    pthread_mutex_unlock(&p->lock);
}

static void wake_sleepers(struct mb_pool *p)
{
    if (atomic_fetch_add(&p->n_asleep, 0) > 0) {
        pthread_mutex_lock(&p->lock);
        pthread_cond_broadcast(&p->wake);
        pthread_mutex_unlock(&p->lock);
    }
}

/* Cuts a job into shares. All stores into one share's line are made together, so that its thread,
 * which reads it all the while, takes it away no more than it must. */
static void begin_job(struct mb_pool *p, size_t n_parts, mb_part_fn *fn, mb_ahead_fn *ahead,
                      void *job)
{
    p->epoch++;
    for (size_t i = 0; i < p->n_threads; i++) {
        struct share *s = &p->shares[i];
        uint64_t begin = mb_pool_first_part(p, n_parts, i);
        uint64_t end = mb_pool_first_part(p, n_parts, i + 1);
        s->fn = fn;
        s->ahead = ahead;
        s->job = job;
        s->n_parts = n_parts;
        atomic_store_explicit(&s->left, share_of(begin, end), memory_order_release);
        atomic_store_explicit(&s->epoch, p->epoch, memory_order_release);
    }
    wake_sleepers(p);
}

static void wait_for_parts(struct mb_pool *p, size_t n_parts)
{
    for (int i = 0; i < SPINS; i++) {
        if (atomic_load_explicit(&p->n_done, memory_order_acquire) == n_parts) {
            return;
        }
        relax();
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->caller_asleep, true);
    while (atomic_load(&p->n_done) != n_parts) {
        pthread_cond_wait(&p->done, &p->lock);
    }
    atomic_store(&p->caller_asleep, false);
    pthread_mutex_unlock(&p->lock);
}

/* A wish, not a need: where it is refused, the thread stays where it was. */
static void pin_to(const struct mb_pool *p, size_t index)
{
    size_t n = p->has_allowed ? (size_t) CPU_COUNT(&p->allowed) : 0, k = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE && n > 0; cpu++) {
        if (CPU_ISSET(cpu, &p->allowed) && k++ == index % n) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            (void) sched_setaffinity(0, sizeof one, &one);
            return;
        }
    }
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct mb_pool *p = w->pool;
    if (p->pin) {
        pin_to(p, w->index);
    }
    const struct share *own = &p->shares[w->index];
    for (uint64_t seen = 0;;) {
        wait_for_epoch(p, own, seen);
        seen = atomic_load_explicit(&own->epoch, memory_order_acquire);
        if (atomic_load_explicit(&p->stop, memory_order_relaxed)) {
            return NULL;
        }
        struct mb_ahead ahead = { 0 };
        take_parts(p, w->index, &ahead);
        fetch_ahead(&ahead, &own->epoch, seen, false);
    }
}

static enum mb_status start_workers(struct mb_pool *p, struct mb_error *err)
{
    for (size_t i = 1; i < p->n_threads; i++) {
        struct worker *w = &p->workers[i];
        *w = (struct worker) { .pool = p, .index = i };
        int sys = pthread_create(&w->thread, NULL, worker_main, w);
        if (sys != 0) {
            return mb_fail(err, MB_E_NOMEM, sys, "start worker thread %zu", i);
        }
        w->started = true;
    }
    return MB_OK;
}

enum mb_status mb_pool_new(size_t n_threads, int pin, struct mb_pool **ret,
                           struct mb_error *err)
{
    if (n_threads < 1 || n_threads > MB_THREADS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "threads: %zu is outside 1..%d", n_threads,
                       MB_THREADS_MAX);
    }
    struct mb_pool *p = mb_alloc(1, sizeof *p + n_threads * sizeof p->workers[0]);
    struct share *shares = mb_alloc(n_threads, sizeof *shares);
    if (!p || !shares) {
        mb_free(p);
        mb_free(shares);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a pool of %zu threads", n_threads);
    }
    p->n_threads = n_threads;
    p->pin = pin;
    p->has_allowed = sched_getaffinity(0, sizeof p->allowed, &p->allowed) == 0;
    p->shares = shares;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    enum mb_status st = start_workers(p, err);
    if (st != MB_OK) {
        mb_pool_free(p);
        return st;
    }
    *ret = p;
    return MB_OK;
}

void mb_pool_free(struct mb_pool *p)
{
    if (!p) {
        return;
    }
    atomic_store(&p->stop, true);
    begin_job(p, 0, NULL, NULL, NULL);
    for (size_t i = 1; i < p->n_threads; i++) {
        if (p->workers[i].started) {
            pthread_join(p->workers[i].thread, NULL);
        }
    }
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    mb_free(p->shares);
    mb_free(p);
}

void mb_pool_pin_caller(const struct mb_pool *p)
{
    if (p && p->pin) {
        pin_to(p, 0);
    }
}

void mb_pool_unpin_caller(const struct mb_pool *p)
{
    if (p && p->pin && p->has_allowed) {
        (void) sched_setaffinity(0, sizeof p->allowed, &p->allowed);
    }
}

size_t mb_pool_threads(const struct mb_pool *p)
{
    return p ? p->n_threads : 1;
}

size_t mb_pool_first_part(const struct mb_pool *p, size_t n_parts, size_t worker)
{
    return n_parts * worker / mb_pool_threads(p);
}

void mb_pool_run(struct mb_pool *p, size_t n_parts, mb_part_fn *fn, void *job)
{
    mb_pool_run_ahead(p, n_parts, fn, NULL, job);
}

void mb_pool_run_ahead(struct mb_pool *p, size_t n_parts, mb_part_fn *fn, mb_ahead_fn *ahead_fn,
                       void *job)
{
    if (!p || p->n_threads == 1 || n_parts <= 1) {
        for (size_t i = 0; i < n_parts; i++) {
            fn(job, i, 0);
        }
        return;
    }
    assert(n_parts <= UINT32_MAX);
    atomic_store_explicit(&p->n_done, 0, memory_order_relaxed);
    uint64_t begin = p->now_ns ? p->now_ns() : 0;
    atomic_store_explicit(&p->busy_ns, 0, memory_order_relaxed);
    begin_job(p, n_parts, fn, ahead_fn, job);
    struct mb_ahead ahead = { 0 };
    take_parts(p, 0, &ahead);
    fetch_ahead(&ahead, &p->n_done, n_parts, true);
    wait_for_parts(p, n_parts);
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
