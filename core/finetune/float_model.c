#include "core/finetune/float_model.h"

#include <assert.h>
#include <math.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/finetune/adam.h"

/* All weights lie end to end, so that a weight's place is its place in any state that goes with
 * it. */
struct storage {
    float *weights;
    size_t n;
    double *inv_freq;
};

static void release(void *owner)
{
    struct storage *s = owner;
    mb_free(s->weights);
    mb_free(s->inv_freq);
    mb_free(s);
}

static size_t count_weights(const struct mb_shape *s)
{
    size_t block = 2 * (size_t) s->width;
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        uint32_t rows, cols;
        mb_block_linear_size(s, (enum mb_block_linear) l, &rows, &cols);
        block += (size_t) rows * cols;
    }
    size_t embed = (size_t) s->n_vocab * s->width;
    return s->n_layers * block + s->width + (s->tied_head ? 1 : 2) * embed;
}

/* One tensor after the other. */
struct maker {
    float *next;
    uint64_t seed, stream;
};

static float *make_ones(struct maker *k, size_t n)
{
    float *at = k->next;
    for (size_t i = 0; i < n; i++) {
        at[i] = 1;
    }
    k->next += n;
    return at;
}

/* Box and Muller's pairs of normal numbers. */
static struct mb_linear make_linear(struct maker *k, uint32_t n_rows, uint32_t n_cols,
                                    double deviation)
{
    const double tau = 6.283185307179586;
    float *at = k->next;
    size_t n = (size_t) n_rows * n_cols;
    for (size_t i = 0; i < n; i++) {
        double u = 1 - mb_rng_unit(k->seed, k->stream, i / 2 * 2);
        double angle = tau * mb_rng_unit(k->seed, k->stream, i / 2 * 2 + 1);
        double turn = i % 2 ? sin(angle) : cos(angle);
        at[i] = (float) (deviation * sqrt(-2 * log(u)) * turn);
    }
    k->next += n;
    k->stream++;
    return (struct mb_linear) {
        .kind = MB_LINEAR_F32, .n_rows = n_rows, .n_cols = n_cols, .dense = at
    };
}

static void make_all(struct mb_model *m, struct maker *k)
{
    const struct mb_shape *s = &m->shape;
    const double deviation = 0.02, residual = deviation / sqrt(2.0 * s->n_layers);
    m->embed = make_linear(k, s->n_vocab, s->width, deviation);
    for (uint32_t i = 0; i < s->n_layers; i++) {
        struct mb_block *b = &m->blocks[i];
        b->attn_norm = make_ones(k, s->width);
        b->ffn_norm = make_ones(k, s->width);
        for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
            uint32_t rows, cols;
            mb_block_linear_size(s, (enum mb_block_linear) l, &rows, &cols);
            bool adds = l == MB_ATTN_O || l == MB_FFN_DOWN;
            b->linear[l] = make_linear(k, rows, cols, adds ? residual : deviation);
        }
    }
    m->final_norm = make_ones(k, s->width);
    m->head = s->tied_head ? m->embed : make_linear(k, s->n_vocab, s->width, deviation);
}

enum mb_status mb_float_model_new(const struct mb_shape *shape, double rope_theta,
                                  uint64_t seed, struct mb_model **ret, struct mb_error *err)
{
    enum mb_status st = mb_shape_check(shape, err);
    struct mb_model *m = NULL;
    if (st == MB_OK) {
        st = mb_model_new(shape, &m, err);
    }
    if (st != MB_OK) {
        return st;
    }
    struct storage *s = mb_alloc(1, sizeof *s);
    if (s) {
        s->n = count_weights(shape);
        s->weights = mb_alloc(s->n, sizeof *s->weights);
        s->inv_freq = mb_alloc(shape->head_width / 2, sizeof *s->inv_freq);
        m->owner = s;
        m->release = release;
    }
    if (!s || !s->weights || !s->inv_freq) {
        mb_model_unref(m);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for %zu weights", count_weights(shape));
    }
    struct mb_rope_params rope = { .theta = rope_theta };
    mb_rope_frequencies(&rope, shape->head_width, s->inv_freq);
    m->inv_freq = s->inv_freq;
    struct maker k = { s->weights, seed, 0 };
    make_all(m, &k);
    assert(k.next == s->weights + s->n);
    *ret = m;
    return MB_OK;
}

size_t mb_float_model_n_weights(const struct mb_model *m)
{
    const struct storage *s = m->owner;
    return s->n;
}

struct mb_adamw {
    struct mb_model *model;
    struct mb_adamw_options o;
    float *m, *v;
    double rate;
    uint64_t t;
};

enum mb_status mb_adamw_new(struct mb_model *m, const struct mb_adamw_options *o,
                            struct mb_adamw **ret, struct mb_error *err)
{
    size_t n = mb_float_model_n_weights(m);
    struct mb_adamw *a = mb_alloc(1, sizeof *a);
    if (a) {
        *a = (struct mb_adamw) { .model = m, .o = *o };
        a->m = mb_alloc(n, sizeof *a->m);
        a->v = mb_alloc(n, sizeof *a->v);
    }
    if (!a || !a->m || !a->v) {
        mb_adamw_free(a);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the state of %zu weights", n);
    }
    *ret = a;
    return MB_OK;
}

void mb_adamw_free(struct mb_adamw *a)
{
    if (a) {
        mb_free(a->m);
        mb_free(a->v);
        mb_free(a);
    }
}

void mb_adamw_begin(struct mb_adamw *a, double rate)
{
    a->rate = rate;
    a->t++;
}

/* Where a parameter is, and how many numbers; *ret_matrix: it decays. NULL: not of this model. */
static const float *find(const struct mb_model *m, const struct mb_param *p, size_t *ret_n,
                         bool *ret_matrix)
{
    const struct mb_linear *l = NULL;
    *ret_n = m->shape.width;
    *ret_matrix = false;
    switch (p->kind) {
    case MB_PARAM_FINAL_NORM:
        return m->final_norm;
    case MB_PARAM_ATTN_NORM:
        return m->blocks[p->layer].attn_norm;
    case MB_PARAM_FFN_NORM:
        return m->blocks[p->layer].ffn_norm;
    case MB_PARAM_EMBED:
        l = &m->embed;
        break;
    case MB_PARAM_HEAD:
        l = &m->head;
        break;
    case MB_PARAM_LINEAR:
        l = &m->blocks[p->layer].linear[p->index];
        break;
    default:
        return NULL;
    }
    *ret_n = (size_t) l->n_rows * l->n_cols;
    *ret_matrix = true;
    return l->dense;
}

static bool wants(void *self, const struct mb_param *p)
{
    const struct mb_adamw *a = self;
    size_t n;
    bool matrix;
    return find(a->model, p, &n, &matrix) != NULL;
}

static enum mb_status take(void *self, const struct mb_param *p, float *dw,
                           struct mb_error *err)
{
    struct mb_adamw *a = self;
    const struct storage *s = a->model->owner;
    size_t n;
    bool matrix;
    size_t at = (size_t) (find(a->model, p, &n, &matrix) - s->weights);
    struct mb_adam now =
        mb_adam_with(a->o.beta1, a->o.beta2, a->o.eps, a->t, a->rate, matrix ? a->o.decay : 0);
    mb_adam_apply(&now, s->weights + at, dw, a->m + at, a->v + at, n);
    return MB_OK;
}

struct mb_sink mb_adamw_sink(struct mb_adamw *a)
{
    return (struct mb_sink) { wants, take, a };
}
