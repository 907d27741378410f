/* Rates of the kernels on one thread, beside what this processor can do at most: the loops of
 * peak.h, by the same instruction set. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/kernels/kernels.h"
#include "core/kernels/peak.h"

enum {
    COLS = 4096,
    GROUP = 128,
    PLANES = 8,
    TOKENS_MAX = 256,
    CACHED_BYTES = 1 << 18,  /* of weights: in any second-level cache */
    STREAMED_BYTES = 1 << 28 /* in none */
};

/* The thread's own time: others on the machine disturb it less than the clock on the wall. */
static double now_s(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

typedef void work_fn(void *arg);

/* Seconds of one call, the best of several: what disturbs only ever slows. */
static double best_s(work_fn *work, void *arg)
{
    double best = 1e9, begin = now_s();
    size_t n = 1;
    work(arg);
    for (int round = 0; round < 6 && now_s() - begin < 0.5; round++) {
        double start = now_s();
        for (size_t i = 0; i < n; i++) {
            work(arg);
        }
        double each = (now_s() - start) / (double) n;
        best = each < best ? each : best;
        n = best < 0.03 ? (size_t) (0.03 / best) + 1 : 1;
    }
    return best;
}

struct loop {
    mb_peak_fn *fn;
    uint64_t done;
};

static void run_loop(void *arg)
{
    struct loop *l = arg;
    l->done = l->fn(MB_PEAK_TURNS_MAX);
}

/* Operations a second. */
static double peak(mb_peak_fn *fn)
{
    struct loop l = { .fn = fn };
    double s = best_s(run_loop, &l);
    return (double) l.done / s;
}

static const uint64_t *streamed;

struct reading {
    mb_peak_read_fn *fn;
    uint64_t sum;
};

static void read_memory(void *arg)
{
    struct reading *r = arg;
    r->sum = r->fn(streamed, STREAMED_BYTES / sizeof *streamed);
}

struct product {
    mb_bool_product_fn *fn;
    struct mb_bool_matrix w;
    struct mb_codes *x;
    size_t n_tokens;
    float *y;
    void *scratch;
};

static void run_product(void *arg)
{
    struct product *p = arg;
    p->fn(p->y, p->w.shape.n_rows, &p->w, p->x, p->n_tokens, PLANES, 0,
          mb_bool_tiles(&p->w.shape), p->scratch);
}

/* A view of K kernels and so many bytes of bits. What the bits are does not matter to the time. */
static struct mb_bool_matrix view(size_t bytes, uint32_t n_kernels)
{
    uint32_t rows = (uint32_t) (bytes * 8 / COLS / n_kernels / MB_TILE_ROWS * MB_TILE_ROWS);
    static uint16_t *scale;
    static uint8_t *coef;
    size_t room = STREAMED_BYTES / (GROUP / 8);
    if (!scale) {
        scale = mb_alloc(room, sizeof *scale);
        coef = mb_alloc(room, sizeof *coef);
        for (size_t i = 0; i < room; i++) {
            scale[i] = 0x3000;
            coef[i] = 9;
        }
    }
    return (struct mb_bool_matrix) { .shape = { rows, COLS, GROUP, n_kernels },
                                     .scale_all = 1,
                                     .bits = (const uint32_t *) streamed,
                                     .scale = scale,
                                     .coef = coef };
}

static struct mb_codes *codes(const struct mb_kernels *k)
{
    struct mb_codes *c = mb_alloc(TOKENS_MAX, sizeof *c);
    float *x = mb_alloc(COLS, sizeof *x);
    for (size_t i = 0; i < COLS; i++) {
        x[i] = (float) mb_rng_unit(1, 2, i) - 0.5f;
    }
    for (size_t t = 0; t < TOKENS_MAX; t++) {
        c[t].u = mb_alloc(COLS, 1);
        c[t].tables = mb_alloc(COLS / MB_WORD_COLS, MB_WORD_TABLE_BYTES);
        c[t].a = mb_alloc(COLS / GROUP, sizeof *c[t].a);
        k->code(&c[t], x, COLS, GROUP, PLANES);
        k->code_tables(&c[t], COLS, PLANES);
    }
    uint8_t *panels = mb_alloc(TOKENS_MAX, mb_code_panel_bytes(COLS, GROUP));
    for (size_t t = 0; t < TOKENS_MAX; t++) {
        c[t].panel = panels + t * mb_code_panel_bytes(COLS, GROUP);
    }
    mb_free(x);
    return c;
}

struct peaks {
    double popcount_bits, u8s8_macs, fma_flops, read_bits;
};

static void line(const char *what, double rate, const char *unit, double of, const char *limit)
{
    printf("%-44s %9.1f %-14s", what, rate * 1e-9, unit);
    if (of > 0) {
        printf(" %5.1f %% of %s", 100 * rate / of, limit);
    }
    printf("\n");
    (void) fflush(stdout);
}

static struct peaks measure_peaks(mb_cpu_flags cpu)
{
    struct mb_peaks loops;
    mb_peaks_select(&loops, cpu);
    struct reading r = { .fn = loops.read };
    struct peaks p = {
        .popcount_bits = peak(loops.popcount) / PLANES,
        .u8s8_macs = peak(loops.u8s8),
        .fma_flops = 2 * peak(loops.fma),
        .read_bits = 8.0 * STREAMED_BYTES / best_s(read_memory, &r),
    };
    line("peak: popcount / 8 planes", p.popcount_bits, "Gbit/s", 0, "");
    line("peak: u8 x s8", p.u8s8_macs, "GMAC/s", 0, "");
    line("peak: float32 fma", p.fma_flops, "GFLOP/s", 0, "");
    line("peak: reading memory", p.read_bits, "Gbit/s", 0, "");
    return p;
}

static void bench_popcount(const struct mb_kernels *k, struct product *p,
                           const struct peaks *peaks)
{
    char what[80];
    p->fn = k->bool_popcount;
    p->n_tokens = 1;
    for (int far = 0; far < 2; far++) {
        for (uint32_t n_kernels = 1; n_kernels <= 4; n_kernels++) {
            p->w = view(far ? STREAMED_BYTES : CACHED_BYTES, n_kernels);
            const struct mb_bool_shape *s = &p->w.shape;
            double bits = 8.0 * (double) mb_bool_bits_bytes(s);
            double others = 8.0 * (double) (mb_bool_scale_bytes(s) + mb_bool_coef_bytes(s));
            double memory = far ? peaks->read_bits * bits / (bits + others) : 1e30;
            int by_memory = memory < peaks->popcount_bits;
            (void) snprintf(what, sizeof what, "bool_popcount 1 token, K %u, %s", n_kernels,
                            far ? "out of cache" : "in L2");
            line(what, bits / best_s(run_product, p), "Gbit/s",
                 by_memory ? memory : peaks->popcount_bits, by_memory ? "memory" : "popcount");
        }
    }
}

/* Both products side by side: where they cross is popcount_tokens_max. */
static void bench_tokens(const struct mb_kernels *k, struct product *p,
                         const struct peaks *peaks)
{
    static const size_t tokens[] = { 1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64, 256 };
    char what[80];
    for (uint32_t n_kernels = 1; n_kernels <= 4; n_kernels++) {
        p->w = view(CACHED_BYTES * n_kernels, n_kernels);
        for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
            p->n_tokens = tokens[i];
            mb_code_panels(p->x, p->n_tokens, COLS, GROUP);
            double macs = (double) p->w.shape.n_rows * COLS * (double) tokens[i];
            (void) snprintf(what, sizeof what, "bool_expand   %3zu tokens, K %u", tokens[i],
                            n_kernels);
            p->fn = k->bool_expand;
            line(what, macs / best_s(run_product, p), "GMAC/s", peaks->u8s8_macs, "u8 x s8");
            if (tokens[i] <= 32) {
                (void) snprintf(what, sizeof what, "bool_popcount %3zu tokens, K %u", tokens[i],
                                n_kernels);
                p->fn = k->bool_popcount;
                line(what, macs / best_s(run_product, p), "GMAC/s", 0, "");
            }
        }
    }
}

struct dense {
    mb_dense_fn *fn;
    const float *x;
    float *y;
    size_t n_tokens, n_rows;
};

static void run_dense(void *arg)
{
    struct dense *d = arg;
    d->fn(d->y, d->n_rows, streamed, d->x, COLS, d->n_tokens, 0, d->n_rows);
}

static void bench_dense(const struct mb_kernels *k, float *y, const struct peaks *peaks)
{
    static const size_t tokens[] = { 1, 16, 64 };
    mb_dense_fn *fns[] = { k->dense_f32, k->dense_f16, k->dense_bf16 };
    static const char *const names[] = { "f32", "f16", "bf16" };
    float *x = mb_alloc(64 * COLS, sizeof *x);
    char what[80];
    for (size_t f = 0; f < 3; f++) {
        for (size_t i = 0; i < 3; i++) {
            struct dense d = { fns[f], x, y, tokens[i], 64 };
            double flops = 2.0 * (double) d.n_rows * COLS * (double) tokens[i];
            (void) snprintf(what, sizeof what, "dense_%s %zu tokens, in L2", names[f],
                            tokens[i]);
            line(what, flops / best_s(run_dense, &d), "GFLOP/s", peaks->fma_flops, "fma");
        }
    }
    mb_free(x);
}

int main(void)
{
    struct mb_kernels k;
    char has[64];
    mb_cpu_flags cpu = mb_cpu_detect();
    const char *narrow = getenv("MB_BENCH_ISA"); /* a name that mb_cpu_narrow knows */
    struct mb_error err;
    if (narrow && mb_cpu_narrow(narrow, cpu, &cpu, &err) != MB_OK) {
        (void) fprintf(stderr, "%s\n", err.what);
        return EXIT_FAILURE;
    }
    mb_cpu_describe(cpu, has, sizeof has);
    mb_kernels_select(&k, cpu);
    printf("kernels: %s (%s); one thread; n %d, G %d, P %d\n", k.name, has, COLS, GROUP,
           PLANES);

    enum { LARGE_PAGE = 1 << 21 };
    uint64_t *memory = aligned_alloc(LARGE_PAGE, STREAMED_BYTES);
    float *y = mb_alloc((size_t) STREAMED_BYTES / COLS * 8, sizeof *y);
    struct product p = { .y = y };
    struct mb_bool_shape widest = { 16, COLS, GROUP, 4 };
    p.scratch = mb_alloc(mb_bool_expand_scratch(&widest), 1);
    if (!memory || !y || !p.scratch) {
        (void) fprintf(stderr, "no memory\n");
        return EXIT_FAILURE;
    }
    (void) madvise(memory, STREAMED_BYTES, MADV_HUGEPAGE); /* a wish, as for a model */
    for (size_t i = 0; i < STREAMED_BYTES / sizeof *memory; i++) {
        memory[i] = (i + 1) * UINT64_C(0x1f7f9e3779b97f4a) & UINT64_C(0x3fffffff3fffffff);
    }
    streamed = memory;
    p.x = codes(&k);

    struct peaks peaks = measure_peaks(cpu);
    bench_popcount(&k, &p, &peaks);
    bench_tokens(&k, &p, &peaks);
    bench_dense(&k, y, &peaks);
    return EXIT_SUCCESS;
}
