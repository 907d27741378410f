#include "clients/cli/bench_machine.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "clients/cli/runtime.h"

const char *mbc_unit_name(enum mbc_unit u)
{
    static const char *const names[MBC_UNITS] = {
        [MBC_UNIT_READ] = "memory",
        [MBC_UNIT_POPCOUNT] = "popcount",
        [MBC_UNIT_U8S8] = "u8s8",
        [MBC_UNIT_FMA] = "fma",
    };
    return names[u];
}

/* A part of a round, one for each thread: calls of a loop, or a stretch of memory. */
struct job {
    mb_peak_fn *loop;
    size_t n_calls;
    mb_peak_read_fn *read;
    const uint64_t *at;
    size_t n_words;                /* of a part */
    uint64_t done[MB_THREADS_MAX]; /* operations, or the sum that reading needs */
};

static void call_part(void *job, size_t part, size_t worker)
{
    struct job *j = job;
    uint64_t done = 0;
    for (size_t i = 0; i < j->n_calls; i++) {
        done += j->loop(MB_PEAK_TURNS_MAX);
    }
    j->done[part] = done;
}

static void read_part(void *job, size_t part, size_t worker)
{
    struct job *j = job;
    j->done[part] = j->read(j->at + part * j->n_words, j->n_words);
}

enum { ROUNDS = 12 };
#define ROUND_S 0.01 /* long against waking a thread up */

/* Operations a second of a loop. */
static double peak_of(struct mb_pool *pool, mb_peak_fn *loop)
{
    size_t n_threads = mb_pool_threads(pool);
    struct job j = { .loop = loop, .n_calls = 1 };
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double begin = mbc_now_s(), n = 0;
        mb_pool_run(pool, n_threads, call_part, &j);
        double took = mbc_now_s() - begin;
        for (size_t i = 0; i < n_threads; i++) {
            n += (double) j.done[i];
        }
        best = fmax(best, n / took);
        if (took < ROUND_S) {
            j.n_calls *= 1 + (size_t) (ROUND_S / fmax(took, ROUND_S / 64));
        }
    }
    return best;
}

/* Bytes a second. */
static double reading_of(struct mb_pool *pool, const struct mbc_machine *m, int n_rounds)
{
    enum { UNIT = 64 }; /* words, as the loops have it */
    size_t n_threads = mb_pool_threads(pool);
    struct job j = { .read = m->peaks.read, .at = m->memory };
    j.n_words = MBC_READ_BYTES / sizeof *m->memory / n_threads / UNIT * UNIT;
    double best = 0, bytes = (double) (j.n_words * n_threads * sizeof *m->memory);
    for (int round = 0; round < n_rounds; round++) {
        double begin = mbc_now_s();
        mb_pool_run(pool, n_threads, read_part, &j);
        best = fmax(best, bytes / (mbc_now_s() - begin));
    }
    volatile uint64_t sink = j.done[0]; /* so that nobody leaves the sums out */
    (void) sink;
    return best;
}

static void measure(struct mb_pool *pool, const struct mbc_machine *m, double ret[MBC_UNITS])
{
    ret[MBC_UNIT_READ] = reading_of(pool, m, ROUNDS);
    ret[MBC_UNIT_POPCOUNT] = peak_of(pool, m->peaks.popcount);
    ret[MBC_UNIT_U8S8] = peak_of(pool, m->peaks.u8s8);
    ret[MBC_UNIT_FMA] = peak_of(pool, m->peaks.fma);
}

enum mb_status mbc_machine_open(struct mbc_machine *m, struct mb_pool *pool, mb_cpu_flags cpu,
                                struct mb_error *err)
{
    enum { LARGE_PAGE = 1 << 21 };
    *m = (struct mbc_machine) {
        .n_threads = mb_pool_threads(pool),
        .pool = pool,
        .memory = aligned_alloc(LARGE_PAGE, MBC_READ_BYTES),
    };
    if (!m->memory) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to measure reading");
    }
    /* A wish: with them no time goes into finding pages, which makes the best of reading. */
    (void) madvise(m->memory, MBC_READ_BYTES, MADV_HUGEPAGE);
    for (size_t i = 0; i < MBC_READ_BYTES / sizeof *m->memory; i++) {
        m->memory[i] = i; /* a page of zeros that nobody wrote is one page for all */
    }
    mb_peaks_select(&m->peaks, cpu);
    measure(NULL, m, m->one);
    measure(pool, m, m->all);
    return MB_OK;
}

void mbc_machine_close(struct mbc_machine *m)
{
    free(m->memory);
    *m = (struct mbc_machine) { 0 };
}

double mbc_machine_read(const struct mbc_machine *m)
{
    return reading_of(m->pool, m, ROUNDS / 2);
}
