/* Goal:   pretraining learns, to the same bits every time; the weights it starts from and the moves
 *         that AdamW makes are those of their definitions.
 * Method: statistics of fresh weights; AdamW against its equations in float64 over several steps; a
 *         text with one possible continuation, whose loss must go to nothing. */
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/finetune/pretrain.h"
#include "core/tokenizer/train.h"
#include "tests/check_main.h"

static const struct mb_shape SHAPE = { .n_layers = 2,
                                       .width = 32,
                                       .n_heads = 4,
                                       .n_kv_heads = 2,
                                       .head_width = 8,
                                       .ffn_width = 48,
                                       .n_vocab = 16,
                                       .context = 16,
                                       .n_planes = 8,
                                       .norm_eps = 1e-5f,
                                       .tied_head = 1 };

static double deviation(const struct mb_linear *l)
{
    const float *w = l->dense;
    size_t n = (size_t) l->n_rows * l->n_cols;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double) w[i];
        squares += (double) w[i] * (double) w[i];
    }
    ck_assert_double_lt(fabs(sum / (double) n), 0.002);
    return sqrt(squares / (double) n);
}

START_TEST(fresh_weights_have_the_deviations_stated)
{
    struct mb_error err;
    struct mb_model *m, *same, *other;
    struct mb_shape shape = SHAPE;
    shape.width = 128;
    shape.head_width = 32;
    mb_assert_ok(mb_float_model_new(&shape, 10000, 1, &m, &err), &err);
    mb_assert_ok(mb_float_model_new(&shape, 10000, 1, &same, &err), &err);
    mb_assert_ok(mb_float_model_new(&shape, 10000, 2, &other, &err), &err);
    const struct mb_linear *q = &m->blocks[1].linear[MB_ATTN_Q];
    ck_assert_double_eq_tol(deviation(q), 0.02, 0.001);
    ck_assert_double_eq_tol(deviation(&m->blocks[1].linear[MB_FFN_DOWN]), 0.01, 0.0005);
    ck_assert_ptr_eq(m->head.dense, m->embed.dense);
    ck_assert(m->blocks[0].ffn_norm[127] == 1);
    size_t n = (size_t) q->n_rows * q->n_cols * sizeof(float);
    ck_assert_mem_eq(q->dense, same->blocks[1].linear[MB_ATTN_Q].dense, n);
    ck_assert_mem_ne(q->dense, other->blocks[1].linear[MB_ATTN_Q].dense, n);
    mb_model_unref(m);
    mb_model_unref(same);
    mb_model_unref(other);
}
END_TEST

/* The same moves in float64. */
static void expect_moves(struct mb_model *m, const struct mb_param *p, const float *w, size_t n,
                         double decay)
{
    struct mb_error err;
    struct mb_adamw *a;
    struct mb_adamw_options o = { 0.9, 0.95, 1e-8, 0.1 };
    mb_assert_ok(mb_adamw_new(m, &o, &a, &err), &err);
    struct mb_sink sink = mb_adamw_sink(a);
    ck_assert(sink.wants(sink.self, p));
    double *want = mb_alloc(3 * n, sizeof *want), *first = want + n, *second = first + n;
    float *g = mb_alloc(n, sizeof *g);
    for (size_t i = 0; i < n; i++) {
        want[i] = (double) w[i];
    }
    for (int t = 1; t <= 4; t++) {
        double rate = 0.01 * t;
        mb_adamw_begin(a, rate);
        for (size_t i = 0; i < n; i++) {
            g[i] = (float) (mb_rng_unit(9, (uint64_t) t, i) - 0.4);
            first[i] = 0.9 * first[i] + 0.1 * (double) g[i];
            second[i] = 0.95 * second[i] + 0.05 * (double) g[i] * (double) g[i];
            double v = second[i] / (1 - pow(0.95, t));
            want[i] -=
                rate * (first[i] / (1 - pow(0.9, t)) / (sqrt(v) + 1e-8) + decay * want[i]);
        }
        mb_assert_ok(sink.take(sink.self, p, g, &err), &err);
    }
    for (size_t i = 0; i < n; i++) {
        ck_assert_double_eq_tol((double) w[i], want[i], 1e-5);
    }
    mb_free(want);
    mb_free(g);
    mb_adamw_free(a);
}

START_TEST(adamw_moves_as_its_equations_say)
{
    struct mb_error err;
    struct mb_model *m;
    mb_assert_ok(mb_float_model_new(&SHAPE, 10000, 1, &m, &err), &err);
    struct mb_param down = { MB_PARAM_LINEAR, 1, MB_FFN_DOWN };
    expect_moves(m, &down, m->blocks[1].linear[MB_FFN_DOWN].dense, 32 * 48, 0.1);
    struct mb_param norm = { MB_PARAM_FFN_NORM, 1, 0 };
    expect_moves(m, &norm, m->blocks[1].ffn_norm, 32, 0);
    mb_model_unref(m);
}
END_TEST

/* Windows that count: s, s + 1, ... modulo 16. What follows is certain. */
static void counting(struct mb_windows *w)
{
    *w = (struct mb_windows) { .n = 64 };
    w->start = calloc(w->n + 1, sizeof *w->start);
    ck_assert_ptr_nonnull(w->start);
    for (uint32_t i = 0; i < w->n; i++) {
        for (uint32_t k = 0; k < 10; k++) {
            ck_assert(mb_ids_push(&w->ids, (i + k) % 16));
        }
        w->start[i + 1] = w->ids.len;
    }
}

struct seen {
    size_t n;
    double first, last, valid;
    uint64_t tokens;
};

static void see(void *self, const struct mb_pretrain_report *r)
{
    struct seen *s = self;
    s->first = s->n++ == 0 ? r->loss : s->first;
    s->last = r->loss;
    s->valid = r->valid_loss;
    s->tokens = r->tokens;
}

static struct mb_pretrain_options learning(const struct mb_windows *w, struct seen *s)
{
    return (struct mb_pretrain_options) { .shape = SHAPE,
                                          .rope_theta = 10000,
                                          .seed = 3,
                                          .train = w,
                                          .valid = w,
                                          .batch_tokens = 96,
                                          .steps = 150,
                                          .warmup = 10,
                                          .report_every = 10,
                                          .valid_every = 100,
                                          .rate = 0.01f,
                                          .decay = 0.01f,
                                          .ops = mb_train_ops_select(mb_cpu_detect()),
                                          .report = see,
                                          .self = s };
}

START_TEST(what_is_certain_is_learned_the_same_on_any_threads)
{
    struct mb_error err;
    struct mb_windows w;
    counting(&w);
    struct seen one = { 0 }, two = { 0 };
    struct mb_model *a, *b;
    struct mb_pretrain_options o = learning(&w, &one);
    mb_assert_ok(mb_pretrain(&o, &a, &err), &err);
    ck_assert_uint_eq(one.n, 15);
    ck_assert_double_gt(one.first, 1);
    ck_assert_double_lt(one.last, 0.02);
    ck_assert_double_lt(one.valid, 0.02);
    ck_assert_uint_gt(one.tokens, 150 * 80);
    o.self = &two;
    mb_assert_ok(mb_pool_new(2, 0, &o.pool, &err), &err);
    mb_assert_ok(mb_pretrain(&o, &b, &err), &err);
    ck_assert_mem_eq(a->embed.dense, b->embed.dense, 16 * 32 * sizeof(float));
    ck_assert(one.last == two.last);
    mb_pool_free(o.pool);
    mb_model_unref(a);
    mb_model_unref(b);
    mb_windows_fini(&w);
}
END_TEST

static bool two_steps(void *self, const char *what, uint64_t done, uint64_t total)
{
    return done < 2;
}

START_TEST(stopping_early_and_bad_options)
{
    struct mb_error err;
    struct mb_windows w;
    counting(&w);
    struct seen s = { 0 };
    struct mb_model *m;
    struct mb_progress stop = { two_steps, NULL };
    struct mb_pretrain_options o = learning(&w, &s);
    o.progress = &stop;
    mb_assert_ok(mb_pretrain(&o, &m, &err), &err);
    ck_assert_uint_eq(s.n, 0);
    mb_model_unref(m);
    o = learning(&w, &s);
    o.warmup = o.steps;
    ck_assert_int_eq(mb_pretrain(&o, &m, &err), MB_E_INVALID);
    o = learning(&w, &s);
    o.batch_tokens = 8;
    ck_assert_int_eq(mb_pretrain(&o, &m, &err), MB_E_INVALID);
    o = learning(&w, &s);
    o.shape.context = 8;
    ck_assert_int_eq(mb_pretrain(&o, &m, &err), MB_E_INVALID);
    o = learning(&w, &s);
    o.shape.n_vocab = 8; /* the text has tokens that the model has not */
    ck_assert_int_eq(mb_pretrain(&o, &m, &err), MB_E_INVALID);
    o = learning(&w, &s);
    o.shape.n_heads = 3;
    ck_assert_int_eq(mb_pretrain(&o, &m, &err), MB_E_INVALID);
    mb_windows_fini(&w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pretrain");
    TCase *c = tcase_create("all");
    tcase_add_test(c, fresh_weights_have_the_deviations_stated);
    tcase_add_test(c, adamw_moves_as_its_equations_say);
    tcase_add_test(c, what_is_certain_is_learned_the_same_on_any_threads);
    tcase_add_test(c, stopping_early_and_bad_options);
    suite_add_tcase(s, c);
    return mb_run_suite(s);
}
