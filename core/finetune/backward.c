/* Backward through one block: for each step of forward.c, in the opposite order, the derivative of
 * its input from that of its output. A layer's input gradient is taken with the weights that the
 * forward pass used, before its own gradient goes to the sink. */
#include <string.h>

#include "core/finetune/tape.h"
#include "core/finetune/weights.h"

/* What the steps of one block's way back share. */
struct way {
    struct mb_gradient *g;
    const struct mb_block *w;
    const struct mb_kept *k;
    const struct mb_sink *sink;
    uint32_t layer;
    size_t n; /* tokens */
};

static bool wants(const struct way *y, enum mb_param_kind kind, uint32_t index)
{
    struct mb_param p = { kind, y->layer, index };
    return y->sink->wants(y->sink->self, &p);
}

static enum mb_status give(const struct way *y, enum mb_param_kind kind, uint32_t index,
                           float *dw, struct mb_error *err)
{
    struct mb_param p = { kind, y->layer, index };
    enum mb_status st = y->sink->take(y->sink->self, &p, dw, err);
    mb_gradient_lap(y->g, MB_GRADIENT_SINK);
    return st;
}

/* din = beta din + dout W;  dW = dout^T in. */
static enum mb_status linear_back(const struct way *y, enum mb_block_linear l,
                                  const float *dout, const float *in, float beta, float *din,
                                  struct mb_error *err)
{
    struct mb_gradient *g = y->g;
    const struct mb_linear *w = &y->w->linear[l];
    size_t m = w->n_rows, n = w->n_cols;
    const float *dense = mb_weights_dense(w, g->o.pool, g->w);
    mb_gradient_lap(g, MB_GRADIENT_EXPAND);
    mb_product(g->o.pool, y->n, n, m, (struct mb_operand) { MB_AS_IS, dout, m },
               (struct mb_operand) { MB_AS_IS, dense, n }, beta, din, n);
    bool wanted = wants(y, MB_PARAM_LINEAR, l);
    if (wanted) {
        mb_product(g->o.pool, m, n, y->n, (struct mb_operand) { MB_TRANSPOSED, dout, m },
                   (struct mb_operand) { MB_AS_IS, in, n }, 0, g->dw, n);
    }
    mb_gradient_lap(g, MB_GRADIENT_PRODUCT);
    return wanted ? give(y, MB_PARAM_LINEAR, l, g->dw, err) : MB_OK;
}

struct scale_job {
    struct mb_gradient *g;
    const float *in, *t;
    float *din;
    size_t width;
    bool wanted;
};

static void scale_rows(void *args, size_t from, size_t to, size_t part)
{
    const struct scale_job *j = args;
    const struct mb_train_ops *ops = j->g->o.ops;
    float *dt = j->g->partial + part * j->width;
    memset(dt, 0, j->width * sizeof *dt);
    for (size_t t = from; t < to; t++) {
        float *din = j->din + t * j->width;
        if (j->wanted) {
            ops->scale_back(dt, din, j->in + t * j->width, j->t, j->width);
        }
        ops->scale(din, din, j->t, j->width);
    }
}

/* g->din from behind the scale t to before it. */
static enum mb_status scale_back(const struct way *y, enum mb_block_input i, const float *in,
                                 struct mb_error *err)
{
    struct mb_gradient *g = y->g;
    size_t width = mb_block_input_width(&g->shape, i);
    if (!y->w->input_scale[i]) {
        return MB_OK;
    }
    struct scale_job j = { g,      in,    mb_gradient_scale(g, y->w->input_scale[i], width),
                           g->din, width, wants(y, MB_PARAM_INPUT_SCALE, i) };
    mb_gradient_rows(g, y->n, scale_rows, &j);
    if (j.wanted) {
        mb_gradient_sum_parts(g, y->n, width, g->vector);
    }
    mb_gradient_lap(g, MB_GRADIENT_POINTWISE);
    return j.wanted ? give(y, MB_PARAM_INPUT_SCALE, i, g->vector, err) : MB_OK;
}

struct norm_job {
    struct mb_gradient *g;
    const float *x, *w, *rms;
};

static void norm_rows(void *args, size_t from, size_t to, size_t part)
{
    const struct norm_job *j = args;
    size_t width = j->g->shape.width;
    float *dw = j->g->partial + part * width;
    memset(dw, 0, width * sizeof *dw);
    for (size_t t = from; t < to; t++) {
        size_t at = t * width;
        j->g->o.ops->norm_back(j->g->dx + at, dw, j->g->din + at, j->x + at, j->w, j->rms[t],
                               width);
    }
}

/* g->dx += the norm's share of g->din. */
static enum mb_status norm_back(const struct way *y, enum mb_param_kind kind, const float *x,
                                const float *w, const float *rms, struct mb_error *err)
{
    struct mb_gradient *g = y->g;
    struct norm_job j = { g, x, w, rms };
    mb_gradient_rows(g, y->n, norm_rows, &j);
    mb_gradient_sum_parts(g, y->n, g->shape.width, g->vector);
    mb_gradient_lap(g, MB_GRADIENT_POINTWISE);
    return wants(y, kind, 0) ? give(y, kind, 0, g->vector, err) : MB_OK;
}

static void gate_rows(void *args, size_t from, size_t to, size_t part)
{
    const struct way *y = args;
    struct mb_gradient *g = y->g;
    size_t width = g->shape.ffn_width;
    for (size_t t = from; t < to; t++) {
        size_t at = t * width;
        g->o.ops->gate_back(g->dgate + at, g->dup + at, g->din + at, y->k->gate + at,
                            y->k->up + at, width);
    }
}

static enum mb_status feed_forward_back(const struct way *y, struct mb_error *err)
{
    struct mb_gradient *g = y->g;
    const struct mb_kept *k = y->k;
    enum mb_status st = linear_back(y, MB_FFN_DOWN, g->dx, k->ffn_down_in, 0, g->din, err);
    if (st == MB_OK && (st = scale_back(y, MB_IN_FFN_DOWN, k->ffn_down_in, err)) == MB_OK) {
        mb_gradient_rows(g, y->n, gate_rows, (void *) y);
        mb_gradient_lap(g, MB_GRADIENT_POINTWISE);
        st = linear_back(y, MB_FFN_UP, g->dup, k->ffn_in, 0, g->din, err);
    }
    if (st == MB_OK &&
        (st = linear_back(y, MB_FFN_GATE, g->dgate, k->ffn_in, 1, g->din, err)) == MB_OK &&
        (st = scale_back(y, MB_IN_FFN, k->ffn_in, err)) == MB_OK) {
        st = norm_back(y, MB_PARAM_FFN_NORM, k->mid, y->w->ffn_norm, k->ffn_rms, err);
    }
    return st;
}

static void turn_back_rows(void *args, size_t from, size_t to, size_t part)
{
    const struct way *y = args;
    struct mb_gradient *g = y->g;
    const struct mb_shape *s = &g->shape;
    size_t d = s->head_width;
    for (size_t t = from; t < to; t++) {
        size_t at = g->position[t] * (d / 2);
        for (size_t h = 0; h < s->n_heads; h++) {
            g->o.ops->rope(g->dq + t * mb_shape_q_width(s) + h * d, g->cos + at, g->sin + at, d,
                           -1);
        }
        for (size_t h = 0; h < s->n_kv_heads; h++) {
            g->o.ops->rope(g->dk + t * mb_shape_kv_width(s) + h * d, g->cos + at, g->sin + at,
                           d, -1);
        }
    }
}

static enum mb_status attention_back(const struct way *y, const struct mb_train_batch *b,
                                     const float *x, struct mb_error *err)
{
    struct mb_gradient *g = y->g;
    const struct mb_kept *k = y->k;
    enum mb_status st = linear_back(y, MB_ATTN_O, g->dx, k->attn_o_in, 0, g->din, err);
    if (st == MB_OK && (st = scale_back(y, MB_IN_ATTN_O, k->attn_o_in, err)) == MB_OK) {
        mb_gradient_attend(g, b, k, NULL, g->din);
        mb_gradient_rows(g, y->n, turn_back_rows, (void *) y);
        mb_gradient_lap(g, MB_GRADIENT_POINTWISE);
        st = linear_back(y, MB_ATTN_V, g->dv, k->attn_in, 0, g->din, err);
    }
    if (st == MB_OK &&
        (st = linear_back(y, MB_ATTN_K, g->dk, k->attn_in, 1, g->din, err)) == MB_OK &&
        (st = linear_back(y, MB_ATTN_Q, g->dq, k->attn_in, 1, g->din, err)) == MB_OK &&
        (st = scale_back(y, MB_IN_ATTN, k->attn_in, err)) == MB_OK) {
        st = norm_back(y, MB_PARAM_ATTN_NORM, x, y->w->attn_norm, k->attn_rms, err);
    }
    return st;
}

enum mb_status mb_gradient_block_back(struct mb_gradient *g, const struct mb_model *m,
                                      uint32_t layer, const struct mb_train_batch *b,
                                      const struct mb_kept *k, const float *x,
                                      const struct mb_sink *sink, struct mb_error *err)
{
    struct way y = { g, &m->blocks[layer], k, sink, layer, b->n_tokens };
    enum mb_status st = feed_forward_back(&y, err);
    return st == MB_OK ? attention_back(&y, b, x, err) : st;
}
