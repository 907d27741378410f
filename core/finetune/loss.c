/* The end of the forward pass, where the loss is: final norm, head, logits, a chunk of tokens at a
 * time, and straight back to the last block's output. */
#include <math.h>
#include <string.h>

#include "core/finetune/tape.h"
#include "core/finetune/weights.h"

/* The two models' heads as dense floats. */
struct heads {
    struct mb_gradient *g;
    const struct mb_model *m, *teacher;
    const struct mb_train_batch *b;
    const float *w, *teacher_w, *t;
    float unit; /* 1 / sum of the batch's weights */
    bool back;
    size_t first; /* token of the chunk */
};

/* Inputs of the head for rows of a stream. Dense heads see them as they are; coding a Boolean
 * head's is left out, as in blocks without code_inputs. */
static void head_input(struct mb_gradient *g, const struct mb_model *m, const float *t,
                       const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float *y = g->head_in + i * g->shape.width;
        g->head_rms[i] = g->o.ops->norm(y, x + i * g->shape.width, m->final_norm,
                                        g->shape.width, g->shape.norm_eps);
        if (t) {
            g->o.ops->scale(y, y, t, g->shape.width);
        }
        if (g->o.code_inputs && m->head.kind == MB_LINEAR_BOOL) {
            g->o.ops->code(y, g->shape.width, m->head.boolean.shape.group, g->shape.n_planes);
        }
    }
}

static void logits(struct mb_gradient *g, const struct mb_model *m, const float *w,
                   const uint16_t *t, const float *x, size_t n, float *ret)
{
    size_t d = g->shape.width, v = g->shape.n_vocab;
    head_input(g, m, mb_gradient_scale(g, t, d), x, n);
    mb_gradient_lap(g, MB_GRADIENT_LOSS);
    mb_product(g->o.pool, n, v, d, (struct mb_operand) { MB_AS_IS, g->head_in, d },
               (struct mb_operand) { MB_TRANSPOSED, w, d }, 0, ret, v);
    mb_gradient_lap(g, MB_GRADIENT_PRODUCT);
}

static void loss_rows(void *args, size_t from, size_t to, size_t part)
{
    const struct heads *h = args;
    const struct mb_gradient_options *o = &h->g->o;
    size_t v = h->g->shape.n_vocab;
    for (size_t i = from; i < to; i++) {
        size_t t = h->first + i;
        float unit = h->unit * h->b->weight[t];
        float *z = h->g->logits + i * v;
        if (unit == 0) {
            memset(z, 0, v * sizeof *z);
            h->g->token_loss[i] = (struct mb_token_loss) { 0, 0 };
            continue;
        }
        float *teacher = h->teacher_w ? h->g->teacher_logits + i * v : NULL;
        h->g->token_loss[i] =
            o->ops->loss(z, teacher, v, h->b->target[t], unit * o->ce, unit * o->kl);
    }
}

struct end_job {
    const struct heads *h;
    float *dx;
    const float *x;
};

/* From the head's input to the stream: scale and norm. */
static void end_rows(void *args, size_t from, size_t to, size_t part)
{
    const struct end_job *j = args;
    struct mb_gradient *g = j->h->g;
    size_t d = g->shape.width;
    float *dw = g->partial + 2 * part * d, *dt = dw + d;
    memset(dw, 0, 2 * d * sizeof *dw);
    for (size_t i = from; i < to; i++) {
        float *din = g->din + i * d;
        if (j->h->t) {
            g->o.ops->scale_back(dt, din, g->head_in + i * d, j->h->t, d);
            g->o.ops->scale(din, din, j->h->t, d);
        }
        g->o.ops->norm_back(j->dx + i * d, dw, din, j->x + i * d, j->h->m->final_norm,
                            g->head_rms[i], d);
    }
}

/* g->logits are the derivatives of the chunk's logits by now. */
static void chunk_back(const struct heads *h, size_t n, const float *x, bool wants_head,
                       float *dhead)
{
    struct mb_gradient *g = h->g;
    size_t d = g->shape.width, v = g->shape.n_vocab;
    mb_product(g->o.pool, n, d, v, (struct mb_operand) { MB_AS_IS, g->logits, v },
               (struct mb_operand) { MB_AS_IS, h->w, d }, 0, g->din, d);
    if (wants_head) {
        mb_product(g->o.pool, v, d, n, (struct mb_operand) { MB_TRANSPOSED, g->logits, v },
                   (struct mb_operand) { MB_AS_IS, g->head_in, d }, 1, dhead, d);
    }
    mb_gradient_lap(g, MB_GRADIENT_PRODUCT);
    struct end_job j = { h, g->dx + h->first * d, x };
    mb_gradient_rows(g, n, end_rows, &j);
    /* norm and t of the chunk, onto those of the chunks before it */
    mb_gradient_sum_parts(g, n, 2 * d, g->vector);
    for (size_t i = 0; i < 2 * d; i++) {
        g->ends[i] += g->vector[i];
    }
    mb_gradient_lap(g, MB_GRADIENT_LOSS);
}

static bool wants(const struct mb_sink *sink, enum mb_param_kind kind)
{
    struct mb_param p = { kind, 0, 0 };
    return sink && sink->wants(sink->self, &p);
}

static enum mb_status give(struct mb_gradient *g, const struct mb_sink *sink,
                           enum mb_param_kind kind, float *dw, struct mb_error *err)
{
    struct mb_param p = { kind, 0, 0 };
    enum mb_status st = wants(sink, kind) ? sink->take(sink->self, &p, dw, err) : MB_OK;
    mb_gradient_lap(g, MB_GRADIENT_SINK);
    return st;
}

static void add_chunk(const struct heads *h, size_t n, struct mb_losses *sum)
{
    for (size_t i = 0; i < n; i++) {
        double weight = h->b->weight[h->first + i];
        sum->cross_entropy += weight * h->g->token_loss[i].cross_entropy;
        sum->divergence += weight * h->g->token_loss[i].divergence;
    }
}

static void run_chunks(struct heads *h, bool wants_head, float *dhead, struct mb_losses *sum)
{
    struct mb_gradient *g = h->g;
    uint32_t last = g->shape.n_layers;
    size_t d = g->shape.width, n_tokens = h->b->n_tokens;
    for (h->first = 0; h->first < n_tokens; h->first += g->chunk) {
        size_t n = n_tokens - h->first < g->chunk ? n_tokens - h->first : g->chunk;
        const float *x = g->stream[last] + h->first * d;
        if (h->teacher_w) { /* first: what it leaves in head_in is overwritten */
            logits(g, h->teacher, h->teacher_w, h->teacher->head_input_scale,
                   g->teacher[last] + h->first * d, n, g->teacher_logits);
        }
        logits(g, h->m, h->w, h->m->head_input_scale, x, n, g->logits);
        h->t = h->m->head_input_scale ? g->t : NULL;
        mb_gradient_rows(g, n, loss_rows, h);
        add_chunk(h, n, sum);
        mb_gradient_lap(g, MB_GRADIENT_LOSS);
        if (h->back) {
            chunk_back(h, n, x, wants_head, dhead);
        }
    }
}

static double weight_of(const struct mb_train_batch *b)
{
    double sum = 0;
    for (uint32_t t = 0; t < b->n_tokens; t++) {
        sum += b->weight[t];
    }
    return sum;
}

enum mb_status mb_gradient_head(struct mb_gradient *g, const struct mb_model *m,
                                const struct mb_model *teacher, const struct mb_train_batch *b,
                                const struct mb_sink *sink, struct mb_losses *ret,
                                struct mb_error *err)
{
    size_t d = g->shape.width, v = g->shape.n_vocab;
    struct mb_losses sum = { .weight = weight_of(b) };
    struct heads h = { .g = g, .m = m, .teacher = teacher, .b = b, .back = sink != NULL };
    bool tied = g->shape.tied_head;
    bool wants_head = wants(sink, tied ? MB_PARAM_EMBED : MB_PARAM_HEAD);
    float *dhead = tied ? g->dembed : g->dw;
    if (!(sum.weight > 0)) {
        return mb_fail(err, MB_E_INVALID, 0, "the batch has no token that is to be predicted");
    }
    h.unit = (float) (1 / sum.weight);
    h.w = mb_weights_dense(&m->head, g->o.pool, g->w);
    if (teacher) {
        h.teacher_w = mb_weights_dense(&teacher->head, g->o.pool, g->teacher_w);
    }
    if (wants_head) {
        memset(dhead, 0, v * d * sizeof *dhead);
    }
    memset(g->ends, 0, 2 * d * sizeof *g->ends);
    mb_gradient_lap(g, MB_GRADIENT_EXPAND);
    run_chunks(&h, wants_head, dhead, &sum);
    sum.cross_entropy /= sum.weight;
    sum.divergence /= sum.weight;
    *ret = sum;
    if (!isfinite(sum.cross_entropy + sum.divergence)) {
        return mb_fail(err, MB_E_INVALID, 0, "the loss is not finite: cross-entropy %g, KL %g",
                       sum.cross_entropy, sum.divergence);
    }
    enum mb_status st = tied ? MB_OK : give(g, sink, MB_PARAM_HEAD, dhead, err);
    if (st == MB_OK && m->head_input_scale) {
        st = give(g, sink, MB_PARAM_HEAD_SCALE, g->ends + d, err);
    }
    return st == MB_OK ? give(g, sink, MB_PARAM_FINAL_NORM, g->ends, err) : st;
}
