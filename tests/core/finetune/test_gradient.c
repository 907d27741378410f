/* Goal:   the engine computes the loss of the model that inference runs, and its gradient for every
 *         parameter; whatever the threads, and kept or recomputed activations, to the same bits.
 * Method: a float64 forward pass of its own (tests/support/reference.c) gives the loss; central
 *         differences of it over samples of every tensor are compared with what the sink is
 *         handed. The model is a Boolean one written out as floats, which can be moved a little; the
 *         Boolean one itself must have the same gradients. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/finetune/gradient.h"
#include "core/finetune/weights.h"
#include "tests/check_main.h"
#include "tests/support/reference.h"
#include "tests/support/tiny_model.h"

enum { TOKENS = 17, SEQS = 3, PARAMS_MAX = 96, SAMPLES = 3 };
static const uint32_t STARTS[SEQS + 1] = { 0, 9, 10, TOKENS };

/* A model of dense floats that may be written to: what it holds, by parameter. */
struct dense {
    struct mb_model *model;
    size_t n;
    struct mb_param param[PARAMS_MAX];
    float *value[PARAMS_MAX];   /* NULL for an input scale */
    uint16_t *half[PARAMS_MAX]; /* an input scale */
    size_t len[PARAMS_MAX];
    float *grad[PARAMS_MAX];
};

static size_t add(struct dense *d, enum mb_param_kind kind, uint32_t layer, uint32_t index,
                  size_t len)
{
    size_t i = d->n++;
    ck_assert(i < PARAMS_MAX);
    d->param[i] = (struct mb_param) { kind, layer, index };
    d->len[i] = len;
    d->grad[i] = mb_alloc(len, sizeof(float));
    return i;
}

static struct mb_linear dense_linear(struct dense *d, const struct mb_linear *from,
                                     enum mb_param_kind kind, uint32_t layer, uint32_t index)
{
    size_t i = add(d, kind, layer, index, (size_t) from->n_rows * from->n_cols);
    d->value[i] = mb_alloc(d->len[i], sizeof(float));
    for (size_t r = 0; r < from->n_rows; r++) {
        mb_weights_row(from, r, d->value[i] + r * from->n_cols);
    }
    return (struct mb_linear) {
        MB_LINEAR_F32, from->n_rows, from->n_cols, d->value[i], { .bits = NULL }
    };
}

static const float *dense_norm(struct dense *d, const float *from, enum mb_param_kind kind,
                               uint32_t layer, size_t n)
{
    size_t i = add(d, kind, layer, 0, n);
    d->value[i] = mb_alloc(n, sizeof(float));
    memcpy(d->value[i], from, n * sizeof *from);
    return d->value[i];
}

static const uint16_t *dense_scale(struct dense *d, const uint16_t *from,
                                   enum mb_param_kind kind, uint32_t layer, uint32_t index,
                                   size_t n)
{
    if (!from) {
        return NULL;
    }
    size_t i = add(d, kind, layer, index, n);
    d->half[i] = mb_alloc(n, sizeof *from);
    memcpy(d->half[i], from, n * sizeof *from);
    return d->half[i];
}

static void dense_block(struct dense *d, const struct mb_model *m, uint32_t layer)
{
    struct mb_block *to = &d->model->blocks[layer];
    const struct mb_block *from = &m->blocks[layer];
    uint32_t width = m->shape.width;
    to->attn_norm = dense_norm(d, from->attn_norm, MB_PARAM_ATTN_NORM, layer, width);
    to->ffn_norm = dense_norm(d, from->ffn_norm, MB_PARAM_FFN_NORM, layer, width);
    for (uint32_t l = 0; l < MB_BLOCK_LINEARS; l++) {
        to->linear[l] = dense_linear(d, &from->linear[l], MB_PARAM_LINEAR, layer, l);
    }
    for (uint32_t i = 0; i < MB_BLOCK_INPUTS; i++) {
        to->input_scale[i] =
            dense_scale(d, from->input_scale[i], MB_PARAM_INPUT_SCALE, layer, i,
                        mb_block_input_width(&m->shape, (enum mb_block_input) i));
    }
}

static void dense_init(struct dense *d, const struct mb_model *m)
{
    memset(d, 0, sizeof *d);
    ck_assert_int_eq(mb_model_new(&m->shape, &d->model, NULL), MB_OK);
    d->model->inv_freq = m->inv_freq;
    d->model->embed = dense_linear(d, &m->embed, MB_PARAM_EMBED, 0, 0);
    d->model->head =
        m->shape.tied_head ? d->model->embed : dense_linear(d, &m->head, MB_PARAM_HEAD, 0, 0);
    d->model->head_input_scale =
        dense_scale(d, m->head_input_scale, MB_PARAM_HEAD_SCALE, 0, 0, m->shape.width);
    d->model->final_norm = dense_norm(d, m->final_norm, MB_PARAM_FINAL_NORM, 0, m->shape.width);
    for (uint32_t l = 0; l < m->shape.n_layers; l++) {
        dense_block(d, m, l);
    }
}

static void dense_fini(struct dense *d)
{
    for (size_t i = 0; i < d->n; i++) {
        mb_free(d->value[i]);
        mb_free(d->half[i]);
        mb_free(d->grad[i]);
    }
    mb_model_unref(d->model);
}

static bool wants_all(void *self, const struct mb_param *p)
{
    return true;
}

/* Copies each gradient to its place; each is handed over once. */
static enum mb_status collect(void *self, const struct mb_param *p, float *dw,
                              struct mb_error *err)
{
    struct dense *d = self;
    for (size_t i = 0; i < d->n; i++) {
        if (memcmp(&d->param[i], p, sizeof *p) == 0) {
            memcpy(d->grad[i], dw, d->len[i] * sizeof *dw);
            memset(dw, 0xff, d->len[i] * sizeof *dw); /* it is the sink's to spoil */
            return MB_OK;
        }
    }
    return mb_fail(err, MB_E_INVALID, 0, "an unknown parameter");
}

struct tokens {
    uint32_t token[TOKENS], target[TOKENS];
    float weight[TOKENS];
    struct mb_train_batch batch;
};

static void tokens_init(struct tokens *t, uint32_t n_vocab)
{
    for (uint32_t i = 0; i < TOKENS; i++) {
        t->token[i] = (uint32_t) (mb_rng_u64(3, 0, i) % n_vocab);
        t->target[i] = (uint32_t) (mb_rng_u64(3, 1, i) % n_vocab);
        t->weight[i] = i % 4 == 2 ? 0 : (float) (1 + i % 3);
    }
    t->batch = (struct mb_train_batch) { TOKENS, SEQS, STARTS, t->token, t->target, t->weight };
}

/* All streams [n_layers + 1][n][D] of one sequence, and the logits of each token. */
static void reference_all(const struct mb_model *m, const uint32_t *tokens, size_t n, double *x,
                          double *logits)
{
    const struct mb_shape *s = &m->shape;
    size_t d = s->width, wide = mb_shape_q_width(s) + s->ffn_width + d;
    double *in = calloc(n * wide, sizeof *in), *mid = calloc(n * wide, sizeof *mid);
    reference_embed(m, tokens, n, x);
    for (uint32_t l = 0; l < s->n_layers; l++) {
        double *from = x + l * n * d, *to = from + n * d;
        memcpy(to, from, n * d * sizeof *to);
        reference_input(m, l, MB_IN_ATTN, to, n, false, in);
        reference_input(m, l, MB_IN_ATTN_O, in, n, false, mid);
        reference_add(m, l, MB_ATTN_O, mid, n, to);
        reference_input(m, l, MB_IN_FFN, to, n, false, in);
        reference_input(m, l, MB_IN_FFN_DOWN, in, n, false, mid);
        reference_add(m, l, MB_FFN_DOWN, mid, n, to);
    }
    reference_head(m, x + s->n_layers * n * d, n, logits);
    free(in);
    free(mid);
}

static double log_sum(const double *z, size_t n)
{
    double max = z[0], sum = 0;
    for (size_t i = 0; i < n; i++) {
        max = fmax(max, z[i]);
    }
    for (size_t i = 0; i < n; i++) {
        sum += exp(z[i] - max);
    }
    return max + log(sum);
}

/* One sequence's share of the losses, not yet divided. */
static void add_losses(const struct mb_model *m, const struct mb_model *teacher,
                       const struct tokens *t, uint32_t from, uint32_t n, struct mb_losses *sum)
{
    size_t v = m->shape.n_vocab, d = m->shape.width, n_streams = m->shape.n_layers + 1;
    double *x = calloc(n_streams * n * d, sizeof *x),
           *tx = calloc(n_streams * n * d, sizeof *tx);
    double *z = calloc(n * v, sizeof *z), *tz = calloc(n * v, sizeof *tz);
    reference_all(m, t->token + from, n, x, z);
    reference_all(teacher, t->token + from, n, tx, tz);
    for (uint32_t i = 0; i < n; i++) {
        double l = log_sum(z + i * v, v), tl = log_sum(tz + i * v, v), kl = 0;
        for (size_t k = 0; k < v; k++) {
            double log_q = tz[i * v + k] - tl;
            kl += exp(log_q) * (log_q - (z[i * v + k] - l));
        }
        sum->cross_entropy += t->weight[from + i] * (l - z[i * v + t->target[from + i]]);
        sum->divergence += t->weight[from + i] * kl;
    }
    for (size_t r = n; r < n_streams * n; r++) { /* the embedding is not matched */
        double distance = 0, size = 0;
        for (size_t i = r * d; i < (r + 1) * d; i++) {
            distance += (x[i] - tx[i]) * (x[i] - tx[i]);
            size += tx[i] * tx[i];
        }
        sum->match += distance / size;
    }
    free(x);
    free(tx);
    free(z);
    free(tz);
}

static struct mb_losses reference_losses(const struct mb_model *m,
                                         const struct mb_model *teacher, const struct tokens *t)
{
    struct mb_losses l = { 0 };
    for (uint32_t i = 0; i < SEQS; i++) {
        add_losses(m, teacher, t, STARTS[i], STARTS[i + 1] - STARTS[i], &l);
    }
    for (uint32_t i = 0; i < TOKENS; i++) {
        l.weight += t->weight[i];
    }
    l.cross_entropy /= l.weight;
    l.divergence /= l.weight;
    l.match /= TOKENS * (double) m->shape.n_layers;
    l.total = 0.5 * l.cross_entropy + 1.5 * l.divergence + 0.8 * l.match;
    return l;
}

static const struct mb_gradient_options OPTIONS = {
    .tokens_max = TOKENS,
    .positions_max = 9,
    .ce = 0.5f,
    .kl = 1.5f,
    .match = 0.8f,
};

static void run(const struct mb_model *m, const struct mb_model *teacher,
                const struct tokens *t, struct mb_gradient_options o, struct dense *into,
                struct mb_losses *ret)
{
    struct mb_gradient *g = NULL;
    struct mb_error err = { 0 };
    struct mb_sink sink = { wants_all, collect, into };
    o.ops = mb_train_ops_select(mb_cpu_detect());
    ck_assert_int_eq(mb_gradient_new(m, &o, &g, &err), MB_OK);
    ck_assert_msg(mb_gradient_run(g, m, teacher, &t->batch, &sink, ret, &err) == MB_OK, "%s",
                  err.what);
    mb_gradient_free(g);
}

/* d loss by a small step of one element; steps of a float16 are coarse, and so is their
 * difference. */
static double difference(struct dense *d, size_t param, size_t i,
                         const struct mb_model *teacher, const struct tokens *t)
{
    float was = 0, up, down;
    uint16_t half = 0;
    if (d->half[param]) {
        half = d->half[param][i];
        d->half[param][i] = (uint16_t) (half + 2);
        up = mb_f16_to_f32((uint16_t) (half + 2));
        down = mb_f16_to_f32((uint16_t) (half - 2));
    } else {
        was = d->value[param][i];
        up = was + 1e-3f;
        down = was - 1e-3f;
        d->value[param][i] = up;
    }
    double high = reference_losses(d->model, teacher, t).total;
    if (d->half[param]) {
        d->half[param][i] = (uint16_t) (half - 2);
    } else {
        d->value[param][i] = down;
    }
    double low = reference_losses(d->model, teacher, t).total;
    if (d->half[param]) {
        d->half[param][i] = half;
    } else {
        d->value[param][i] = was;
    }
    return (high - low) / ((double) up - (double) down);
}

static double size_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double) x[i] * x[i];
    }
    return sqrt(sum / (double) n);
}

START_TEST(gradients_are_those_of_the_reference)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[_i], 5);
    struct mb_model *teacher = tiny_model_new(&tiny_specs[_i], 6);
    struct dense d, taught;
    struct tokens t;
    struct mb_losses got;
    dense_init(&d, m);
    dense_init(&taught, teacher); /* dense: the reference codes what Boolean layers read */
    tokens_init(&t, m->shape.n_vocab);
    run(d.model, taught.model, &t, OPTIONS, &d, &got);
    struct mb_losses want = reference_losses(d.model, taught.model, &t);
    ck_assert_double_eq_tol(got.cross_entropy, want.cross_entropy, 1e-4);
    ck_assert_double_eq_tol(got.divergence, want.divergence, 1e-4);
    ck_assert_double_eq_tol(got.match, want.match, 1e-4);
    ck_assert_double_eq_tol(got.total, want.total, 1e-4);
    for (size_t p = 0; p < d.n; p++) {
        double unit = size_of(d.grad[p], d.len[p]);
        for (uint64_t k = 0; k < SAMPLES; k++) {
            size_t i = mb_rng_u64(9, p, k) % d.len[p];
            double fd = difference(&d, p, i, taught.model, &t);
            ck_assert_msg(fabs(fd - d.grad[p][i]) <= 2e-3 * (fabs(fd) + unit) + 1e-7,
                          "%s: parameter %d of layer %u, index %u, element %zu: difference "
                          "%.8g, gradient %.8g",
                          tiny_specs[_i].name, (int) d.param[p].kind,
                          (unsigned) d.param[p].layer, (unsigned) d.param[p].index, i, fd,
                          (double) d.grad[p][i]);
        }
    }
    dense_fini(&d);
    dense_fini(&taught);
    mb_model_unref(m);
    mb_model_unref(teacher);
}
END_TEST

/* The same model again: Boolean weights, threads, recomputed activations. */
START_TEST(how_it_is_run_changes_no_bit)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[_i], 5);
    struct dense d, other;
    struct tokens t;
    struct mb_losses want, got;
    struct mb_pool *pool = NULL;
    dense_init(&d, m);
    dense_init(&other, m);
    tokens_init(&t, m->shape.n_vocab);
    ck_assert_int_eq(mb_pool_new(3, 0, &pool, NULL), MB_OK);
    run(d.model, m, &t, OPTIONS, &d, &want);
    for (int how = 0; how < 4; how++) {
        struct mb_gradient_options o = OPTIONS;
        o.pool = how & 1 ? pool : NULL;
        o.recompute = how & 2;
        run(m, d.model, &t, o, &other, &got);
        ck_assert_mem_eq(&got, &want, sizeof got);
        for (size_t p = 0; p < d.n; p++) {
            ck_assert_mem_eq(d.grad[p], other.grad[p], d.len[p] * sizeof(float));
        }
    }
    mb_pool_free(pool);
    dense_fini(&d);
    dense_fini(&other);
    mb_model_unref(m);
}
END_TEST

/* With coded inputs, the loss is that of the Boolean model as it is served. */
START_TEST(coded_inputs_give_the_loss_of_inference)
{
    if (tiny_specs[_i].shape.n_planes == 1) {
        return; /* sums of signs are often exactly 0, where float32 and float64 part */
    }
    struct mb_model *m = tiny_model_new(&tiny_specs[_i], 5);
    struct mb_model *teacher = tiny_model_new(&tiny_specs[_i], 6);
    struct dense d;
    struct tokens t;
    struct mb_losses got;
    struct mb_gradient_options o = OPTIONS;
    dense_init(&d, m);
    tokens_init(&t, m->shape.n_vocab);
    o.code_inputs = true;
    run(m, teacher, &t, o, &d, &got);
    struct mb_losses want = reference_losses(m, teacher, &t);
    /* A rounding of float32 may set a code one level apart. */
    ck_assert_double_eq_tol(got.cross_entropy, want.cross_entropy, 2e-2);
    ck_assert_double_eq_tol(got.divergence, want.divergence, 2e-2);
    dense_fini(&d);
    mb_model_unref(m);
    mb_model_unref(teacher);
}
END_TEST

START_TEST(bad_batches_are_refused)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[0], 5);
    struct tokens t;
    struct mb_losses l;
    struct mb_error err;
    struct mb_gradient *g = NULL;
    struct mb_gradient_options o = OPTIONS;
    o.ops = mb_train_ops_select(0);
    ck_assert_int_eq(mb_gradient_new(m, &o, &g, &err), MB_OK);
    tokens_init(&t, m->shape.n_vocab);
    ck_assert_int_eq(mb_gradient_run(g, m, NULL, &t.batch, NULL, &l, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.what, "teacher"));
    t.target[3] = m->shape.n_vocab;
    ck_assert_int_eq(mb_gradient_run(g, m, m, &t.batch, NULL, &l, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.what, "vocabulary"));
    tokens_init(&t, m->shape.n_vocab);
    memset(t.weight, 0, sizeof t.weight);
    ck_assert_int_eq(mb_gradient_run(g, m, m, &t.batch, NULL, &l, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.what, "predicted"));
    uint32_t starts[SEQS + 1] = { 0, 10, 11, TOKENS }; /* longer than positions_max */
    tokens_init(&t, m->shape.n_vocab);
    t.batch.start = starts;
    ck_assert_int_eq(mb_gradient_run(g, m, m, &t.batch, NULL, &l, &err), MB_E_INVALID);
    mb_gradient_free(g);
    mb_model_unref(m);
}
END_TEST

START_TEST(patterns_go_back_to_the_same_bits)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[_i], 5);
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        const struct mb_linear *w = &m->blocks[0].linear[l];
        struct mb_bool_draft d;
        uint8_t pattern[512];
        float level[256], *row = mb_alloc(w->n_cols, sizeof *row);
        float *want = mb_alloc(w->n_cols, sizeof *want);
        ck_assert_int_eq(mb_bool_draft_init(&d, &w->boolean.shape, NULL), MB_OK);
        for (size_t r = 0; r < w->n_rows; r++) {
            mb_bool_row(&w->boolean, r, want);
            mb_weights_row(w, r, row);
            ck_assert_mem_eq(row, want, w->n_cols * sizeof *row);
            for (size_t g = 0; g < mb_bool_groups(&w->boolean.shape); g++) {
                size_t n = mb_bool_group_cols(&w->boolean.shape, g);
                mb_weights_patterns(&w->boolean, r, g, pattern);
                mb_weights_set_patterns(&d, r, g, pattern);
                mb_weights_levels(&w->boolean, r, g, level);
                ck_assert_float_eq(level[pattern[n - 1]],
                                   want[g * w->boolean.shape.group + n - 1]);
            }
        }
        ck_assert_mem_eq(d.bits, w->boolean.bits, mb_bool_bits_bytes(&d.shape));
        mb_bool_draft_fini(&d);
        mb_free(row);
        mb_free(want);
    }
    mb_model_unref(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gradient");
    TCase *t = tcase_create("model");
    tcase_add_loop_test(t, gradients_are_those_of_the_reference, 0, TINY_SPECS);
    tcase_add_loop_test(t, how_it_is_run_changes_no_bit, 0, TINY_SPECS);
    tcase_add_loop_test(t, coded_inputs_give_the_loss_of_inference, 0, TINY_SPECS);
    tcase_add_test(t, bad_batches_are_refused);
    tcase_add_loop_test(t, patterns_go_back_to_the_same_bits, 0, TINY_SPECS);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
