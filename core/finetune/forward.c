/* Forward: the same model as core/infer computes, in float32 over whole sequences. */
#include <assert.h>
#include <string.h>

#include "core/base/half.h"
#include "core/finetune/tape.h"
#include "core/finetune/weights.h"

const float *mb_gradient_scale(struct mb_gradient *g, const uint16_t *t, size_t n)
{
    for (size_t j = 0; t && j < n; j++) {
        g->t[j] = mb_f16_to_f32(t[j]);
    }
    return t ? g->t : NULL;
}

void mb_gradient_linear(struct mb_gradient *g, const struct mb_linear *l, const float *x,
                        size_t n_tokens, float *y, float beta)
{
    const float *w = mb_weights_dense(l, g->o.pool, g->w);
    mb_gradient_lap(g, MB_GRADIENT_EXPAND);
    mb_product(g->o.pool, n_tokens, l->n_rows, l->n_cols,
               (struct mb_operand) { MB_AS_IS, x, l->n_cols },
               (struct mb_operand) { MB_TRANSPOSED, w, l->n_cols }, beta, y, l->n_rows);
    mb_gradient_lap(g, MB_GRADIENT_PRODUCT);
}

struct embed_job {
    const struct mb_linear *embed;
    const uint32_t *token;
    float *x;
};

static void embed_rows(void *args, size_t from, size_t to, size_t part)
{
    const struct embed_job *j = args;
    for (size_t t = from; t < to; t++) {
        mb_weights_row(j->embed, j->token[t], j->x + t * j->embed->n_cols);
    }
}

void mb_gradient_embed(struct mb_gradient *g, const struct mb_model *m,
                       const struct mb_train_batch *b, float *x)
{
    struct embed_job j = { &m->embed, b->token, x };
    mb_gradient_rows(g, b->n_tokens, embed_rows, &j);
    mb_gradient_lap(g, MB_GRADIENT_EXPAND);
}

/* What a linear layer reads, made from x of its width: norm (when w is not NULL), scale, code. */
struct input_job {
    const struct mb_train_ops *ops;
    const float *x, *w, *t;
    const float *gate, *up; /* instead of x */
    float *y, *rms, eps;
    size_t width, group; /* group 0: not coded */
    unsigned n_planes;
};

static void input_rows(void *args, size_t from, size_t to, size_t part)
{
    const struct input_job *j = args;
    for (size_t t = from; t < to; t++) {
        size_t at = t * j->width;
        float *y = j->y + at;
        if (j->w) {
            j->rms[t] = j->ops->norm(y, j->x + at, j->w, j->width, j->eps);
        } else if (j->gate) {
            j->ops->gate(y, j->gate + at, j->up + at, j->width);
        }
        if (j->t) {
            j->ops->scale(y, y, j->t, j->width);
        }
        if (j->group > 0) {
            j->ops->code(y, j->width, j->group, j->n_planes);
        }
    }
}

static void make_input(struct mb_gradient *g, const struct mb_block *w, enum mb_block_input i,
                       size_t n, struct input_job j)
{
    j.ops = g->o.ops;
    j.width = mb_block_input_width(&g->shape, i);
    j.eps = g->shape.norm_eps;
    j.t = mb_gradient_scale(g, w->input_scale[i], j.width);
    for (int l = 0; g->o.code_inputs && l < MB_BLOCK_LINEARS; l++) {
        bool reads = mb_block_linear_input((enum mb_block_linear) l) == i;
        if (reads && w->linear[l].kind == MB_LINEAR_BOOL) {
            j.group = w->linear[l].boolean.shape.group;
        }
    }
    j.n_planes = g->shape.n_planes;
    mb_gradient_rows(g, n, input_rows, &j);
    mb_gradient_lap(g, MB_GRADIENT_POINTWISE);
}

struct turn_job {
    struct mb_gradient *g;
    const uint32_t *position;
    float *q, *k;
};

static void turn_rows(void *args, size_t from, size_t to, size_t part)
{
    const struct turn_job *j = args;
    const struct mb_shape *s = &j->g->shape;
    size_t d = s->head_width;
    for (size_t t = from; t < to; t++) {
        size_t at = j->position[t] * (d / 2);
        for (size_t h = 0; h < s->n_heads; h++) {
            j->g->o.ops->rope(j->q + t * mb_shape_q_width(s) + h * d, j->g->cos + at,
                              j->g->sin + at, d, 1);
        }
        for (size_t h = 0; h < s->n_kv_heads; h++) {
            j->g->o.ops->rope(j->k + t * mb_shape_kv_width(s) + h * d, j->g->cos + at,
                              j->g->sin + at, d, 1);
        }
    }
}

struct attend_job {
    struct mb_gradient *g;
    const struct mb_train_batch *b;
    const struct mb_kept *k;
    float *out;
    const float *dout;
};

/* A part is one key head of one sequence: no two parts write to the same place. */
static void attend_part(void *job, size_t part, size_t worker)
{
    const struct attend_job *j = job;
    struct mb_gradient *g = j->g;
    const struct mb_shape *s = &g->shape;
    size_t seq = part / s->n_kv_heads, h = part % s->n_kv_heads, d = s->head_width;
    size_t from = j->b->start[seq], per_kv = s->n_heads / s->n_kv_heads;
    struct mb_attention_shape a = {
        .n = j->b->start[seq + 1] - from,
        .n_q_per_kv = per_kv,
        .head_width = d,
        .q_row = mb_shape_q_width(s),
        .kv_row = mb_shape_kv_width(s),
        .lse_row = s->n_heads,
        .window = s->window,
    };
    size_t q = from * a.q_row + h * per_kv * d, kv = from * a.kv_row + h * d;
    float *lse = j->k->lse + from * a.lse_row + h * per_kv;
    float *scratch = g->scratch + worker * mb_attention_scratch(g->o.positions_max);
    if (j->dout) {
        g->o.ops->attend_back(g->dq + q, g->dk + kv, g->dv + kv, j->dout + q, j->k->q + q,
                              j->k->k + kv, j->k->v + kv, lse, &a, scratch);
    } else {
        g->o.ops->attend(j->out + q, lse, j->k->q + q, j->k->k + kv, j->k->v + kv, &a, scratch);
    }
}

void mb_gradient_attend(struct mb_gradient *g, const struct mb_train_batch *b,
                        const struct mb_kept *k, float *out, const float *dout)
{
    struct attend_job j = { g, b, k, out, dout };
    mb_pool_run(g->o.pool, (size_t) b->n_seqs * g->shape.n_kv_heads, attend_part, &j);
    mb_gradient_lap(g, MB_GRADIENT_ATTEND);
}

void mb_gradient_block(struct mb_gradient *g, const struct mb_model *m, uint32_t layer,
                       const struct mb_train_batch *b, struct mb_kept *k, const float *x,
                       float *ret)
{
    const struct mb_block *w = &m->blocks[layer];
    size_t n = b->n_tokens, stream = n * g->shape.width * sizeof *x;
    struct turn_job turn = { g, g->position, k->q, k->k };

    make_input(
        g, w, MB_IN_ATTN, n,
        (struct input_job) { .x = x, .w = w->attn_norm, .y = k->attn_in, .rms = k->attn_rms });
    mb_gradient_linear(g, &w->linear[MB_ATTN_Q], k->attn_in, n, k->q, 0);
    mb_gradient_linear(g, &w->linear[MB_ATTN_K], k->attn_in, n, k->k, 0);
    mb_gradient_linear(g, &w->linear[MB_ATTN_V], k->attn_in, n, k->v, 0);
    mb_gradient_rows(g, n, turn_rows, &turn);
    mb_gradient_lap(g, MB_GRADIENT_POINTWISE);
    mb_gradient_attend(g, b, k, k->attn_o_in, NULL);
    make_input(g, w, MB_IN_ATTN_O, n, (struct input_job) { .y = k->attn_o_in });
    memcpy(k->mid, x, stream);
    mb_gradient_linear(g, &w->linear[MB_ATTN_O], k->attn_o_in, n, k->mid, 1);

    make_input(g, w, MB_IN_FFN, n,
               (struct input_job) {
                   .x = k->mid, .w = w->ffn_norm, .y = k->ffn_in, .rms = k->ffn_rms });
    mb_gradient_linear(g, &w->linear[MB_FFN_GATE], k->ffn_in, n, k->gate, 0);
    mb_gradient_linear(g, &w->linear[MB_FFN_UP], k->ffn_in, n, k->up, 0);
    make_input(g, w, MB_IN_FFN_DOWN, n,
               (struct input_job) { .gate = k->gate, .up = k->up, .y = k->ffn_down_in });
    memcpy(ret, k->mid, stream);
    mb_gradient_linear(g, &w->linear[MB_FFN_DOWN], k->ffn_down_in, n, ret, 1);
}
