/* Goal:   nothing is allocated or freed on the path of a token: reserving, a step, a draw.
 * Method: this program's own malloc and its kin count and pass on to the C library's, so that
 *         also what a library would allocate is seen. After the same work once, the same again
 *         must leave the count where it was: prompts in chunks, long pasts that threads share,
 *         decoding in batches, draws of every kind. */
#include <stdatomic.h>
#include <stdlib.h>

#include "core/base/rng.h"
#include "core/infer/sample.h"
#include "tests/check_main.h"
#include "tests/support/rig.h"
#include "tests/support/tiny_model.h"

static atomic_size_t n_calls;

/* Sanitizers bring an allocator of their own, and the build without them counts all the same. */
#if defined(__GLIBC__) && !MB_SANITIZED
#define COUNTS 1

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

void *malloc(size_t n)
{
    atomic_fetch_add(&n_calls, 1);
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    atomic_fetch_add(&n_calls, 1);
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    atomic_fetch_add(&n_calls, 1);
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t align, size_t n)
{
    atomic_fetch_add(&n_calls, 1);
    return __libc_memalign(align, n);
}

void free(void *p)
{
    atomic_fetch_add(&n_calls, 1);
    __libc_free(p);
}
#else
#define COUNTS 0
#endif

enum { LONG = 1100, CHUNK = 300, STREAMS = 16, DECODED = 3 };

struct drawer {
    struct mb_sampler *sampler;
    float *logits; /* [STREAMS][V] */
};

static const struct mb_sampling greedy = { .top_p = 1, .repetition_penalty = 1 };
static const struct mb_sampling filtered = {
    .temperature = 0.8f,
    .top_k = 12,
    .top_p = 0.9f,
    .min_p = 0.01f,
    .repetition_penalty = 1.1f,
    .presence_penalty = 0.1f,
    .frequency_penalty = 0.1f,
};

/* As ck_assert, which allocates itself. */
static void need(enum mb_status st)
{
    if (st != MB_OK) {
        abort();
    }
}

/* A prompt of LONG tokens in chunks, whose past several threads share in the end. */
static void feed_prompt(struct rig *r, struct drawer *d)
{
    static uint32_t token[CHUNK];
    for (uint32_t at = 0, n; at < LONG; at += n) {
        n = at == 0 ? CHUNK : 1 + at % 77;
        n = n < LONG - at ? n : LONG - at;
        uint32_t position[CHUNK], seq[CHUNK], last = n - 1;
        for (uint32_t i = 0; i < n; i++) {
            token[i] = (uint32_t) (mb_rng_u64(5, 0, at + i) % r->model->shape.n_vocab);
            position[i] = at + i;
            seq[i] = 0;
        }
        struct mb_batch b = { n, token, position, seq, 1, &last };
        need(mb_kv_reserve(r->kv, 0, at + n, NULL));
        need(mb_step(r->stepper, r->model, r->kv, &b, NULL, d->logits, NULL));
    }
}

static uint32_t draw(struct rig *r, struct drawer *d, uint32_t i)
{
    struct mb_sampled got;
    const uint32_t prompt[] = { 1, 2, 3 };
    mb_sampler_start(d->sampler, i % 2 ? &filtered : &greedy, prompt, 3);
    mb_sampler_draw(d->sampler, d->logits + i * r->model->shape.n_vocab, i % 4, i % 3 == 0,
                    &got);
    return got.token;
}

/* DECODED tokens of each of n sequences, the first of which has the long past. */
static void decode(struct rig *r, struct drawer *d, uint32_t n)
{
    uint32_t token[STREAMS] = { 0 }, position[STREAMS], seq[STREAMS], all[STREAMS];
    for (int turn = 0; turn < DECODED; turn++) {
        for (uint32_t i = 0; i < n; i++) {
            seq[i] = all[i] = i;
            position[i] = mb_kv_seq(r->kv, i)->n_positions;
            need(mb_kv_reserve(r->kv, i, position[i] + 1, NULL));
        }
        struct mb_batch b = { n, token, position, seq, n, all };
        need(mb_step(r->stepper, r->model, r->kv, &b, NULL, d->logits, NULL));
        for (uint32_t i = 0; i < n; i++) {
            token[i] = draw(r, d, i);
        }
    }
}

static void serve(struct rig *r, struct drawer *d)
{
    feed_prompt(r, d);
    for (uint32_t n = 1; n <= STREAMS; n *= 2) {
        decode(r, d, n);
    }
    for (uint32_t i = 0; i < STREAMS; i++) {
        mb_kv_release(r->kv, i);
    }
}

/* Model i / 2, with one thread or with three. */
START_TEST(a_token_allocates_nothing)
{
    if (!COUNTS) {
        mb_skip("counting allocations: not under sanitizers, and with glibc only");
    }
    struct mb_error err = { 0 };
    struct mb_model *m = tiny_model_new(&tiny_specs[_i / 2], 6);
    struct rig r;
    struct drawer d = { 0 };
    ck_assert(rig_open(&r, m, "auto", _i % 2 ? 3 : 1, MB_KV_F16));
    mb_assert_ok(mb_sampler_new(&r.kernels, m->shape.n_vocab, &d.sampler, &err), &err);
    d.logits = calloc((size_t) STREAMS * m->shape.n_vocab, sizeof *d.logits);
    ck_assert_ptr_nonnull(d.logits);

    serve(&r, &d);
    size_t before = atomic_load(&n_calls);
    serve(&r, &d);
    size_t after = atomic_load(&n_calls);
    ck_assert_uint_gt(before, 0); /* or nothing is counted */
    ck_assert_msg(after == before, "%zu allocations or releases in %d tokens", after - before,
                  LONG + DECODED * (2 * STREAMS - 1));

    free(d.logits);
    mb_sampler_free(d.sampler);
    rig_close(&r);
    mb_model_unref(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("step_allocation");
    TCase *t = tcase_create("allocation");
    tcase_add_loop_test(t, a_token_allocates_nothing, 0, 2 * TINY_SPECS);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
