/* A pool of worker threads for fork-join: one call hands out the parts of a job and returns
 * when all are done. The result of a job never depends on the number of threads, because
 * parts write to disjoint places and no sum crosses a part.
 *
 * Parts:   neighbouring parts run on one thread in ascending order, and the same parts of the same
 *          number on the same thread each time, as far as all keep pace; so memory is read in
 *          order, and what a core has in its caches it meets again.
 * Waiting: workers spin for about 200 microseconds, then sleep; the same for the caller at the
 *          end of a job. While jobs follow each other nobody makes a system call.
 * Threads: one caller at a time per pool. mb_pool_run may not be nested. */
#ifndef MB_CORE_PARALLEL_H
#define MB_CORE_PARALLEL_H

#include <stddef.h>
#include <stdint.h>

#include "proto/status.h"

#define MB_THREADS_MAX 256 /* far above any one machine's use for these shapes */

struct mb_pool;

/* n_threads includes the caller: 1 starts no thread. With pin, thread i runs on the i-th
 * processor that the thread which calls this is allowed; thread 0 is the caller of jobs, which
 * pins itself.
 * Errors: MB_E_INVALID outside 1..MB_THREADS_MAX, MB_E_NOMEM. */
enum mb_status mb_pool_new(size_t n_threads, int pin, struct mb_pool **ret,
                           struct mb_error *err);
void mb_pool_free(struct mb_pool *p); /* NULL is allowed; waits for the workers to end */

/* In a pool with pin: keeps the calling thread on the first of the pool's processors, the one that
 * no worker is on. For a thread that does little but call mb_pool_run: left to itself it may
 * be put beside a worker, and each waits for the other's share of time. Threads that it starts
 * inherit its one processor. The second gives back those that the maker of the pool had. */
void mb_pool_pin_caller(const struct mb_pool *p); /* NULL is allowed */
void mb_pool_unpin_caller(const struct mb_pool *p);

size_t mb_pool_threads(const struct mb_pool *p); /* 1 for NULL */

/* One part of a job. worker is in [0, mb_pool_threads) and names the scratch memory that the
 * part may use: no two parts run with the same worker at once. */
typedef void mb_part_fn(void *job, size_t part, size_t worker);

/* Runs fn for every part in [0, n_parts), n_parts < 2^32, each exactly once, in any order. A NULL
 * pool runs them in order on the caller. */
void mb_pool_run(struct mb_pool *p, size_t n_parts, mb_part_fn *fn, void *job);

/* Memory that a thread will read first in the job that comes next, so that it fetches it into its
 * caches while it waits for that job. An address that is no longer mapped by then does no harm. */
#define MB_AHEAD_RANGES 12
struct mb_ahead {
    struct {
        const void *at;
        size_t n_bytes;
    } range[MB_AHEAD_RANGES]; /* fetched side by side */
};

/* Called near the end of a job that is shared out, by each thread that had a part of it, once and
 * with an empty *ret. */
typedef void mb_ahead_fn(const void *job, size_t worker, struct mb_ahead *ret);
void mb_pool_run_ahead(struct mb_pool *p, size_t n_parts, mb_part_fn *fn, mb_ahead_fn *ahead,
                       void *job);

/* The part of a job that a worker begins with. */
size_t mb_pool_first_part(const struct mb_pool *p, size_t n_parts, size_t worker);

/* What threads lose by waiting for each other, when the pool was given a clock (NULL takes it
 * away; core itself reads none): over the jobs that were shared out, the time from the call to
 * the return in which a thread runs no part, on average over the threads. Waking up, waiting
 * for the slowest, and coming late are in it; what the caller does between jobs is not.
 * Returns the sum since the clock was set; 0 for a NULL pool. Between jobs only. */
void mb_pool_set_clock(struct mb_pool *p, uint64_t (*now_ns)(void));
uint64_t mb_pool_waited_ns(const struct mb_pool *p);

#endif
