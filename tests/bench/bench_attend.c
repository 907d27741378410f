/* What a step spends outside its linear layers: attention, norms, gates, coding; for prompts, and for
 * decoding at contexts of up to 32k positions, where reading keys and values is the floor. A layer
 * of a known shape with random weights; the cache is filled directly, as a prompt of 32k tokens would
 * take minutes.
 *
 *     bench_attend [THREADS [SHAPE [prompt|decode]]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/infer/step.h"
#include "tests/support/tiny_model.h"

enum { POSITIONS_MAX = 32768 + MB_KV_BLOCK, CHUNK = 512, PROMPT_MAX = 2048, SECONDS = 1 };

#define SHAPE(l, w, h, kv, d, f)                                                              \
    {                                                                                         \
        .n_layers = (l), .width = (w), .n_heads = (h), .n_kv_heads = (kv), .head_width = (d), \
        .ffn_width = (f), .n_vocab = 256, .context = 32768, .n_planes = 8, .norm_eps = 1e-5f, \
        .tied_head = 1                                                                        \
    }

static const struct tiny_spec specs[] = {
    { .name = "tinyllama-1.1b",
      .shape = SHAPE(2, 2048, 32, 4, 64, 5632),
      .n_kernels = 1,
      .group = 128 },
    { .name = "llama3-8b",
      .shape = SHAPE(1, 4096, 32, 8, 128, 14336),
      .n_kernels = 1,
      .group = 128 },
    { .name = "llama-7b",
      .shape = SHAPE(1, 4096, 32, 32, 128, 11008),
      .n_kernels = 1,
      .group = 128 },
};
enum { N_SPECS = sizeof specs / sizeof specs[0] };

/* With one thread, its own time: others on the machine disturb it less than the clock on the wall. */
static clockid_t which_clock = CLOCK_MONOTONIC;

static uint64_t now_ns(void)
{
    struct timespec t;
    (void) clock_gettime(which_clock, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

struct bench {
    struct mb_model *model;
    struct mb_kernels kernels;
    struct mb_pool *pool;
    struct mb_kv_cache *kv;
    struct mb_stepper *stepper;
    float *logits;
    struct mb_error err;
};

static void check(const struct bench *b, enum mb_status st)
{
    if (st != MB_OK) {
        (void) fprintf(stderr, "%s\n", b->err.what);
        exit(EXIT_FAILURE);
    }
}

static void open_bench(struct bench *b, const struct tiny_spec *spec, size_t n_threads)
{
    mb_cpu_flags cpu = mb_cpu_detect();
    const char *narrow = getenv("MB_BENCH_ISA"); /* a name that mb_cpu_narrow knows */
    if (narrow) {
        check(b, mb_cpu_narrow(narrow, cpu, &cpu, &b->err));
    }
    mb_kernels_select(&b->kernels, cpu);
    b->model = tiny_model_new(spec, 1);
    check(b, mb_pool_new(n_threads, 1, &b->pool, &b->err));
    check(b, mb_kv_new(&b->model->shape, MB_KV_F16, mb_kv_blocks_for(POSITIONS_MAX), 1,
                       POSITIONS_MAX, &b->kv, &b->err));
    struct mb_stepper_options o = { &b->kernels, b->pool, CHUNK, 1 };
    check(b, mb_stepper_new(b->model, &o, &b->stepper, &b->err));
    b->logits = mb_alloc(b->model->shape.n_vocab, sizeof *b->logits);
    if (!b->logits) {
        check(b, mb_fail(&b->err, MB_E_NOMEM, 0, "no memory for logits"));
    }
}

static void close_bench(struct bench *b)
{
    mb_free(b->logits);
    mb_stepper_free(b->stepper);
    mb_kv_free(b->kv);
    mb_pool_free(b->pool);
    mb_model_unref(b->model);
}

/* One step of n tokens after those that sequence 0 has. */
static void step(struct bench *b, uint32_t n)
{
    static uint32_t token[CHUNK], position[CHUNK], seq[CHUNK];
    const uint32_t last = n - 1;
    uint32_t at = mb_kv_seq(b->kv, 0)->n_positions;
    for (uint32_t i = 0; i < n; i++) {
        token[i] = (uint32_t) (mb_rng_u64(3, 1, at + i) % b->model->shape.n_vocab);
        position[i] = at + i;
    }
    struct mb_batch batch = { n, token, position, seq, 1, &last };
    check(b, mb_step(b->stepper, b->model, b->kv, &batch, NULL, b->logits, &b->err));
}

/* Random keys and values of about unit size in every block. */
static void fill_cache(struct bench *b)
{
    check(b, mb_kv_reserve(b->kv, 0, POSITIONS_MAX, &b->err));
    size_t n = mb_kv_block_bytes(&b->model->shape, MB_KV_F16) / sizeof(uint16_t);
    for (uint32_t block = 0; block < mb_kv_blocks(b->kv); block++) {
        uint16_t *at = mb_kv_k(b->kv, block, 0, 0);
        for (size_t i = 0; i < n; i += 4) {
            uint64_t r = mb_rng_u64(9, block, i);
            for (size_t k = 0; k < 4; k++) { /* +-[0.5, 2) */
                uint16_t bits = (uint16_t) (r >> 16 * k);
                at[i + k] = (uint16_t) ((bits & 0x87ff) | 0x3800);
            }
        }
    }
}

static void print_phases(const uint64_t ns[MB_PHASES], double per)
{
    for (int p = MB_PHASE_NORM; p <= MB_PHASE_GATE; p++) {
        printf("  %s %8.2f", mb_phase_name((enum mb_phase) p), (double) ns[p] * 1e-3 / per);
    }
    printf("\n");
}

/* Microseconds a token and layer, and what attention's multiply-adds come to. */
static void bench_prompts(struct bench *b)
{
    const struct mb_shape *s = &b->model->shape;
    for (uint32_t n = CHUNK; n <= PROMPT_MAX; n *= 4) {
        uint64_t ns[MB_PHASES], start = now_ns();
        double tokens = 0;
        mb_stepper_set_clock(b->stepper, now_ns);
        do {
            mb_kv_release(b->kv, 0);
            check(b, mb_kv_reserve(b->kv, 0, n, &b->err));
            for (uint32_t at = 0; at < n; at += CHUNK) {
                step(b, CHUNK);
            }
            tokens += n;
        } while (now_ns() - start < SECONDS * 1000000000ull);
        mb_stepper_times(b->stepper, ns);
        double pairs = tokens / n * (0.5 * n * (n + 1.0)) * s->n_layers;
        double flops = pairs * 4 * (double) mb_shape_q_width(s);
        printf("prompt %5u: attention %6.1f GFLOP/s; us per token and layer:", (unsigned) n,
               flops / (double) ns[MB_PHASE_ATTEND]);
        print_phases(ns, tokens * s->n_layers);
    }
}

/* Microseconds a token and layer, and the bytes of keys and values that attention reads. */
static void bench_decoding(struct bench *b)
{
    const struct mb_shape *s = &b->model->shape;
    fill_cache(b);
    for (uint32_t n = 1024; n <= 32768; n *= 2) {
        uint64_t ns[MB_PHASES], start = now_ns();
        double tokens = 0;
        for (int warm = 1; warm >= 0; warm--) {
            mb_stepper_set_clock(b->stepper, now_ns);
            do {
                mb_kv_seq(b->kv, 0)->n_positions = n;
                step(b, 1);
                tokens++;
            } while (!warm && now_ns() - start < SECONDS * 300000000ull);
            tokens = warm ? 0 : tokens;
        }
        mb_stepper_times(b->stepper, ns);
        double bytes = tokens * n * 4.0 * (double) mb_shape_kv_width(s) * s->n_layers;
        printf("decode at %5u: attention reads %5.1f GB/s; us per token and layer:",
               (unsigned) n, bytes / (double) ns[MB_PHASE_ATTEND]);
        print_phases(ns, tokens * s->n_layers);
    }
}

int main(int argc, char **argv)
{
    size_t n_threads = argc > 1 ? strtoul(argv[1], NULL, 10) : 2;
    which_clock = n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
    const char *shape = argc > 2 ? argv[2] : specs[0].name;
    const char *what = argc > 3 ? argv[3] : "";
    for (size_t i = 0; i < N_SPECS; i++) {
        if (strcmp(specs[i].name, shape) != 0) {
            continue;
        }
        struct bench b = { 0 };
        open_bench(&b, &specs[i], n_threads);
        printf("%s, %zu threads, %s\n", shape, n_threads, b.kernels.name);
        if (strcmp(what, "decode") != 0) {
            bench_prompts(&b);
        }
        if (strcmp(what, "prompt") != 0) {
            bench_decoding(&b);
        }
        close_bench(&b);
        return EXIT_SUCCESS;
    }
    (void) fprintf(stderr, "no shape is called '%s'\n", shape);
    return EXIT_FAILURE;
}
