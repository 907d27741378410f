/* Goal:   a step computes the model, its parts put together are the step, and a step that does
 *         not happen changes nothing.
 * Method: tiny Boolean models against the float64 forward pass of tests/support, stage by
 *         stage; the code of an activation that lies within float32's error of a boundary may
 *         fall on the other side, which moves a few results a little: hence two bounds. */
#include "core/infer/step.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "tests/check_main.h"
#include "tests/support/reference.h"
#include "tests/support/rig.h"
#include "tests/support/tiny_model.h"

enum { N = 70 }; /* tokens: three blocks of the cache, one of them begun */

#define BOUND      4e-6 /* of float32 sums of up to 200 terms */
#define BOUND_HALF 4e-5 /* after a cache in float16, where a key's rounding may go either way */

static void random_tokens(uint64_t seed, uint32_t n_vocab, uint32_t *ret, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = (uint32_t) (mb_rng_u64(seed, 9, i) % n_vocab);
    }
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

/* All but a few of n numbers agree to the part bound of the largest, and those few roughly. */
static void close_enough(const char *what, double bound, const float *got, const double *want,
                         size_t n)
{
    double *off = calloc(n, sizeof *off), size = 0;
    ck_assert_ptr_nonnull(off);
    for (size_t i = 0; i < n; i++) {
        size = fmax(size, fabs(want[i]));
        off[i] = fabs((double) got[i] - want[i]);
    }
    qsort(off, n, sizeof *off, by_size);
    double most = off[n * 97 / 100], largest = off[n - 1];
    ck_assert_msg(most <= bound * size, "%s: error %g of %g in too many", what, most, size);
    ck_assert_msg(largest <= 0.2 * size, "%s: error %g of %g", what, largest, size);
    free(off);
}

/* The reference follows the engine from stage to stage. */
struct follower {
    const struct mb_model *m;
    bool half_kv;
    double *x;      /* [N][D] the residual stream, as the engine had it at the last stage */
    double *before; /* [N][widest] the input that the engine had at the last stage */
    double *want;   /* [N][widest] */
};

static void to_double(double *ret, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ret[i] = (double) x[i];
    }
}

static bool follow(void *self, uint32_t layer, enum mb_block_input input, const float *x,
                   uint32_t n, uint32_t width)
{
    struct follower *f = self;
    bool from_x = input == MB_IN_ATTN || input == MB_IN_FFN;
    if (input == MB_IN_FFN) { /* what attention added is seen through the norm only */
        reference_add(f->m, layer, MB_ATTN_O, f->before, n, f->x);
    }
    reference_input(f->m, layer, input, from_x ? f->x : f->before, n, f->half_kv, f->want);
    bool half = f->half_kv && input == MB_IN_ATTN_O;
    close_enough(mb_block_input_name(input), half ? BOUND_HALF : BOUND, x, f->want,
                 (size_t) n * width);
    to_double(f->before, x, (size_t) n * width);
    return true;
}

/* Walks the engine's layers with the follower behind. */
static void walk(struct rig *r, struct follower *f, const struct mb_batch *b, float *x,
                 float *logits, double *want_logits)
{
    const struct mb_model *m = r->model;
    size_t n = b->n_tokens * (size_t) m->shape.width;
    struct mb_error err = { 0 };
    struct mb_tap tap = { follow, f };
    mb_assert_ok(mb_step_embed(r->stepper, m, b, x, &err), &err);
    reference_embed(m, b->token, b->n_tokens, f->x);
    close_enough("embed", BOUND, x, f->x, n);
    for (uint32_t l = 0; l < m->shape.n_layers; l++) {
        to_double(f->x, x, n);
        mb_assert_ok(mb_step_block(r->stepper, m, l, r->kv, l, b, &tap, x, &err), &err);
        reference_add(m, l, MB_FFN_DOWN, f->before, b->n_tokens, f->x);
        close_enough("block", BOUND, x, f->x, n);
    }
    to_double(f->x, x, n);
    mb_assert_ok(mb_step_head(r->stepper, m, x, b->n_tokens, logits, &err), &err);
    reference_head(m, f->x, b->n_tokens, want_logits);
    close_enough("head", BOUND, logits, want_logits, b->n_tokens * (size_t) m->shape.n_vocab);
}

START_TEST(agrees_with_float64)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[_i / 2], 1);
    size_t d = m->shape.width, v = m->shape.n_vocab, widest = 256;
    uint32_t token[N], position[N], seq[N] = { 0 };
    random_tokens(3, m->shape.n_vocab, token, N);
    for (uint32_t i = 0; i < N; i++) {
        position[i] = i;
    }
    struct follower f = { m, _i % 2 == 0, calloc(N * d, 8), calloc(N * widest, 8),
                          calloc(N * widest, 8) };
    float *x = calloc(N * d, 4), *logits = calloc(N * v, 4);
    double *want = calloc(N * v, 8);
    ck_assert(f.x && f.before && f.want && x && logits && want);
    struct mb_batch b = { .n_tokens = N, .token = token, .position = position, .seq = seq };
    struct rig r;
    ck_assert(rig_open(&r, m, "auto", 2, f.half_kv ? MB_KV_F16 : MB_KV_F32));
    ck_assert_int_eq(mb_kv_reserve(r.kv, 0, N, NULL), MB_OK);
    walk(&r, &f, &b, x, logits, want);
    rig_close(&r);
    void *all[] = { f.x, f.before, f.want, x, logits, want };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        free(all[i]);
    }
    mb_model_unref(m);
}
END_TEST

/* What the tap sees, and how often. */
struct seen {
    const struct mb_model *m;
    uint32_t n_calls, stop_at;
};

static bool see(void *self, uint32_t layer, enum mb_block_input input, const float *x,
                uint32_t n_tokens, uint32_t width)
{
    struct seen *s = self;
    ck_assert_uint_eq(layer, s->n_calls / MB_BLOCK_INPUTS);
    ck_assert_uint_eq(input, s->n_calls % MB_BLOCK_INPUTS);
    ck_assert_uint_eq(width, mb_block_input_width(&s->m->shape, input));
    for (size_t i = 0; i < (size_t) n_tokens * width; i++) {
        ck_assert(isfinite(x[i]));
    }
    return ++s->n_calls != s->stop_at;
}

/* Walks the layers by hand over a cache of one layer, as conversion does. */
/* hidden is the norm of x, by float64: x w / sqrt(mean x^2 + eps). */
static void check_hidden(const struct mb_model *m, const float *x, const float *hidden)
{
    uint32_t d = m->shape.width;
    for (size_t t = 0; t < N; t++, x += d, hidden += d) {
        double square = 0;
        for (uint32_t i = 0; i < d; i++) {
            square += (double) x[i] * (double) x[i];
        }
        double scale = 1 / sqrt(square / d + (double) m->shape.norm_eps);
        for (uint32_t i = 0; i < d; i++) {
            double want = (double) x[i] * scale * (double) m->final_norm[i];
            ck_assert_msg(fabs((double) hidden[i] - want) <= 4e-6 * (1 + fabs(want)),
                          "token %zu: %g, not %g", t, (double) hidden[i], want);
        }
    }
}

START_TEST(parts_put_together_are_the_step)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[_i], 2);
    size_t v = m->shape.n_vocab;
    struct mb_error err = { 0 };
    struct rig r;
    ck_assert(rig_open(&r, m, "auto", 1, MB_KV_F32));
    uint32_t tokens[N], position[N], seq[N] = { 0 };
    random_tokens(4, m->shape.n_vocab, tokens, N);
    float *want = calloc(N * v, 4), *got = calloc(N * v, 4);
    float *x = calloc((size_t) N * m->shape.width, 4);
    float *hidden = calloc((size_t) N * m->shape.width, 4);
    ck_assert(want && got && x && hidden);
    rig_feed(&r, 0, tokens, N, want);
    for (uint32_t i = 0; i < N; i++) {
        mb_step_hidden(r.stepper, m, i, hidden + (size_t) i * m->shape.width);
    }

    struct mb_shape one = m->shape;
    one.n_layers = 1;
    struct mb_kv_cache *kv = NULL;
    mb_assert_ok(mb_kv_new(&one, MB_KV_F32, 3, 1, N, &kv, &err), &err);
    mb_assert_ok(mb_kv_reserve(kv, 0, N, &err), &err);
    for (uint32_t i = 0; i < N; i++) {
        position[i] = i;
    }
    struct mb_batch b = { N, tokens, position, seq, 0, NULL };
    struct seen seen = { .m = m };
    struct mb_tap tap = { see, &seen };
    mb_assert_ok(mb_step_embed(r.stepper, m, &b, x, &err), &err);
    for (uint32_t l = 0; l < m->shape.n_layers; l++) {
        mb_assert_ok(mb_step_block(r.stepper, m, l, kv, 0, &b, &tap, x, &err), &err);
        ck_assert_uint_eq(mb_kv_seq(kv, 0)->n_positions, 0);
    }
    ck_assert_uint_eq(seen.n_calls, m->shape.n_layers * MB_BLOCK_INPUTS);
    mb_assert_ok(mb_step_head(r.stepper, m, x, N, got, &err), &err);
    ck_assert_mem_eq(got, want, N * v * sizeof *got);
    check_hidden(m, x, hidden);

    for (uint32_t stop = 1; stop <= MB_BLOCK_INPUTS; stop++) { /* a tap may stop at any input */
        seen = (struct seen) { .m = m, .stop_at = stop };
        ck_assert_int_eq(mb_step_block(r.stepper, m, 0, kv, 0, &b, &tap, x, &err),
                         MB_E_CANCELLED);
        ck_assert_uint_eq(seen.n_calls, stop);
    }
    mb_kv_free(kv);
    rig_close(&r);
    free(want);
    free(got);
    free(x);
    free(hidden);
    mb_model_unref(m);
}
END_TEST

/* A rig with 40 positions of sequence 0 stored, and 64 reserved. */
static struct mb_model *begun(struct rig *r, float *logits)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[0], 5);
    uint32_t tokens[40];
    random_tokens(6, m->shape.n_vocab, tokens, 40);
    ck_assert(rig_open(r, m, "auto", 2, MB_KV_F16));
    rig_feed(r, 0, tokens, 40, logits);
    return m;
}

static float scratch[64 * 512];

START_TEST(an_invalid_batch_changes_nothing)
{
    struct rig r;
    struct mb_model *m = begun(&r, scratch);
    uint32_t token[] = { 1, 2, 3 }, position[] = { 40, 41, 0 }, seq[] = { 0, 0, 1 };
    uint32_t logits_of[] = { 0, 2 };
    struct mb_batch good = { 3, token, position, seq, 2, logits_of };
    ck_assert_int_eq(mb_kv_reserve(r.kv, 1, 1, NULL), MB_OK);
    const struct {
        uint32_t *what, value;
        const char *says;
    } wrongs[] = {
        { &token[2], 97, "token 97" },
        { &token[0], UINT32_MAX, "token" },
        { &position[0], 41, "40 comes next" },
        { &position[0], 39, "40 comes next" },
        { &position[1], 40, "41 comes next" },
        { &position[1], 42, "41 comes next" },
        { &position[2], 1, "0 comes next" },
        { &position[2], UINT32_MAX, "0 comes next" },
        { &seq[2], RIG_SEQS, "sequence 20" },
        { &seq[1], UINT32_MAX, "sequence" },
        { &seq[2], 2, "not reserved" },
        { &logits_of[1], 3, "logits_of" },
        { &logits_of[1], 0, "logits_of" },
        { &good.n_tokens, 0, "0 tokens" },
        { &good.n_tokens, RIG_TOKENS_MAX + 1, "513 tokens" },
        { &good.n_logits, RIG_TOKENS_MAX + 1, "logits of 513" },
    };
    for (size_t i = 0; i < sizeof wrongs / sizeof wrongs[0]; i++) {
        struct mb_error err = { 0 };
        uint32_t before = *wrongs[i].what;
        *wrongs[i].what = wrongs[i].value;
        ck_assert_int_eq(mb_step(r.stepper, m, r.kv, &good, NULL, scratch, &err), MB_E_INVALID);
        *wrongs[i].what = before;
        ck_assert_msg(strstr(err.what, wrongs[i].says), "wrong %zu: '%s'", i, err.what);
        ck_assert_uint_eq(mb_kv_seq(r.kv, 0)->n_positions, 40);
        ck_assert_uint_eq(mb_kv_seq(r.kv, 1)->n_positions, 0);
    }
    struct mb_error err = { 0 };
    mb_assert_ok(mb_step(r.stepper, m, r.kv, &good, NULL, scratch, &err), &err);
    ck_assert_uint_eq(mb_kv_seq(r.kv, 0)->n_positions, 42);
    ck_assert_uint_eq(mb_kv_seq(r.kv, 1)->n_positions, 1);
    rig_close(&r);
    mb_model_unref(m);
}
END_TEST

START_TEST(a_cancelled_step_can_be_done_again)
{
    struct rig r;
    struct mb_model *m = begun(&r, scratch);
    uint32_t token[] = { 7, 8 }, position[] = { 40, 41 }, seq[] = { 0, 0 }, last = 1;
    struct mb_batch b = { 2, token, position, seq, 1, &last };
    atomic_bool cancel = true;
    struct mb_error err = { 0 };
    ck_assert_int_eq(mb_step(r.stepper, m, r.kv, &b, &cancel, scratch, &err), MB_E_CANCELLED);
    ck_assert_uint_eq(mb_kv_seq(r.kv, 0)->n_positions, 40);
    atomic_store(&cancel, false);
    mb_assert_ok(mb_step(r.stepper, m, r.kv, &b, &cancel, scratch, &err), &err);

    struct rig other; /* the same without the cancelled attempt */
    float *want = scratch + m->shape.n_vocab;
    struct mb_model *same = begun(&other, want);
    mb_assert_ok(mb_step(other.stepper, same, other.kv, &b, NULL, want, &err), &err);
    ck_assert_mem_eq(scratch, want, m->shape.n_vocab * sizeof *want);
    rig_close(&other);
    rig_close(&r);
    mb_model_unref(same);
    mb_model_unref(m);
}
END_TEST

/* A block of the cache that another sequence had before gives the same as a fresh one. */
START_TEST(reused_blocks_remember_nothing)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[_i], 7);
    size_t v = m->shape.n_vocab;
    uint32_t noise[N], tokens[N];
    random_tokens(10, m->shape.n_vocab, noise, N);
    random_tokens(11, m->shape.n_vocab, tokens, N);
    float *want = calloc(N * v, 4), *got = calloc(N * v, 4);
    ck_assert(want && got);
    struct rig r;
    ck_assert(rig_open(&r, m, "auto", 2, MB_KV_F16));
    rig_feed(&r, 0, tokens, N, want);
    mb_kv_release(r.kv, 0);
    rig_feed(&r, 1, noise, N, got);
    mb_kv_release(r.kv, 1);
    rig_feed(&r, 2, noise, 10, got); /* takes the first block, so that the order differs */
    rig_feed(&r, 3, tokens, N, got);
    ck_assert_mem_eq(got, want, N * v * sizeof *got);
    rig_close(&r);
    free(want);
    free(got);
    mb_model_unref(m);
}
END_TEST

static atomic_uint_fast64_t ticks;

static uint64_t tick(void)
{
    return atomic_fetch_add(&ticks, 1) + 1;
}

START_TEST(times_are_kept_when_there_is_a_clock)
{
    struct rig r;
    struct mb_model *m = begun(&r, scratch);
    uint64_t spent[MB_PHASES];
    mb_stepper_times(r.stepper, spent);
    for (int p = 0; p < MB_PHASES; p++) {
        ck_assert_uint_eq(spent[p], 0);
    }
    mb_stepper_set_clock(r.stepper, tick);
    mb_stepper_set_part_work(r.stepper, 1); /* so that threads have something to wait for */
    uint32_t token = 5;
    rig_feed(&r, 0, &token, 1, scratch);
    mb_stepper_times(r.stepper, spent);
    for (int p = 0; p < MB_PHASES; p++) {
        ck_assert_msg(spent[p] > 0, "%s", mb_phase_name((enum mb_phase) p));
    }
    rig_close(&r);
    mb_model_unref(m);
}
END_TEST

START_TEST(a_stepper_refuses_nonsense)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[0], 1);
    struct mb_kernels k;
    mb_kernels_select(&k, 0);
    struct mb_stepper *s = NULL;
    struct mb_stepper_options o = { .kernels = &k };
    ck_assert_int_eq(mb_stepper_new(m, &o, &s, NULL), MB_E_INVALID);
    o.tokens_max = MB_STEP_TOKENS_MAX + 1;
    ck_assert_int_eq(mb_stepper_new(m, &o, &s, NULL), MB_E_INVALID);
    o.tokens_max = 4;
    o.logits_max = 5;
    ck_assert_int_eq(mb_stepper_new(m, &o, &s, NULL), MB_E_INVALID);
    ck_assert_ptr_null(s);
    mb_stepper_free(NULL);
    mb_model_unref(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("step");
    TCase *t = tcase_create("step");
    tcase_add_loop_test(t, agrees_with_float64, 0, 2 * TINY_SPECS);
    tcase_add_loop_test(t, parts_put_together_are_the_step, 0, TINY_SPECS);
    tcase_add_test(t, an_invalid_batch_changes_nothing);
    tcase_add_test(t, a_cancelled_step_can_be_done_again);
    tcase_add_loop_test(t, reused_blocks_remember_nothing, 0, TINY_SPECS);
    tcase_add_test(t, times_are_kept_when_there_is_a_clock);
    tcase_add_test(t, a_stepper_refuses_nonsense);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
