#include "core/finetune/gradient.h"

#include <math.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/memory.h"
#include "core/finetune/tape.h"
#include "core/finetune/weights.h"
#include "core/kernels/kernels.h"

/* Logits that are held at once, for model and teacher each: enough for fast products. */
enum { CHUNK_LOGITS = 1 << 23, CHUNK_MIN = 32, CHUNK_MAX = 512 };

void mb_gradient_lap(struct mb_gradient *g, enum mb_gradient_phase phase)
{
    if (g->now_ns) {
        uint64_t now = g->now_ns();
        g->times_ns[phase] += now - g->lap_ns;
        g->lap_ns = now;
    }
}

void mb_gradient_set_clock(struct mb_gradient *g, uint64_t (*now_ns)(void))
{
    g->now_ns = now_ns;
    memset(g->times_ns, 0, sizeof g->times_ns);
}

void mb_gradient_times(const struct mb_gradient *g, uint64_t ret_ns[MB_GRADIENT_PHASES])
{
    memcpy(ret_ns, g->times_ns, sizeof g->times_ns);
}

const char *mb_gradient_phase_name(enum mb_gradient_phase p)
{
    static const char *const names[MB_GRADIENT_PHASES] = {
        [MB_GRADIENT_EXPAND] = "expand", [MB_GRADIENT_PRODUCT] = "product",
        [MB_GRADIENT_ATTEND] = "attend", [MB_GRADIENT_POINTWISE] = "pointwise",
        [MB_GRADIENT_LOSS] = "loss",     [MB_GRADIENT_SINK] = "sink",
    };
    return names[p];
}

struct rows_job {
    mb_rows_fn *fn;
    void *args;
    size_t n;
};

static void run_rows(void *job, size_t part, size_t worker)
{
    const struct rows_job *j = job;
    size_t from = part * MB_GRADIENT_ROWS;
    size_t to = j->n - from < MB_GRADIENT_ROWS ? j->n : from + MB_GRADIENT_ROWS;
    j->fn(j->args, from, to, part);
}

void mb_gradient_rows(struct mb_gradient *g, size_t n, mb_rows_fn *fn, void *args)
{
    struct rows_job j = { fn, args, n };
    mb_pool_run(g->o.pool, mb_div_up(n, MB_GRADIENT_ROWS), run_rows, &j);
}

void mb_gradient_sum_parts(struct mb_gradient *g, size_t n, size_t width, float *ret)
{
    memset(ret, 0, width * sizeof *ret);
    for (size_t part = 0; part < mb_div_up(n, MB_GRADIENT_ROWS); part++) {
        const float *from = g->partial + part * width;
        for (size_t i = 0; i < width; i++) {
            ret[i] += from[i];
        }
    }
}

static bool floats(float **ret, size_t rows, size_t width)
{
    size_t n;
    *ret = mb_checked_mul(rows, width, &n) ? mb_alloc(n, sizeof **ret) : NULL;
    return *ret != NULL;
}

static bool kept_init(struct mb_kept *k, const struct mb_shape *s, size_t n)
{
    size_t d = s->width, q = mb_shape_q_width(s), c = mb_shape_kv_width(s), f = s->ffn_width;
    return floats(&k->attn_rms, n, 1) && floats(&k->ffn_rms, n, 1) &&
           floats(&k->attn_in, n, d) && floats(&k->mid, n, d) && floats(&k->ffn_in, n, d) &&
           floats(&k->q, n, q) && floats(&k->attn_o_in, n, q) && floats(&k->k, n, c) &&
           floats(&k->v, n, c) && floats(&k->lse, n, s->n_heads) && floats(&k->gate, n, f) &&
           floats(&k->up, n, f) && floats(&k->ffn_down_in, n, f);
}

static void kept_fini(struct mb_kept *k)
{
    float *all[] = { k->attn_rms, k->ffn_rms,   k->attn_in,    k->mid, k->ffn_in,
                     k->q,        k->attn_o_in, k->k,          k->v,   k->lse,
                     k->gate,     k->up,        k->ffn_down_in };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        mb_free(all[i]);
    }
}

static bool tape_init(struct mb_gradient *g)
{
    uint32_t n_layers = g->shape.n_layers;
    size_t n_kept = g->o.recompute ? 1 : n_layers, n = g->o.tokens_max;
    g->kept = mb_alloc(n_kept, sizeof *g->kept);
    g->stream = mb_alloc(n_layers + 1, sizeof *g->stream);
    g->position = mb_alloc(n, sizeof *g->position);
    bool ok = g->kept && g->stream && g->position;
    for (size_t i = 0; ok && i < n_kept; i++) {
        ok = kept_init(&g->kept[i], &g->shape, n);
    }
    for (size_t i = 0; ok && i <= n_layers; i++) {
        ok = floats(&g->stream[i], n, g->shape.width);
    }
    return ok;
}

static size_t largest_weight(const struct mb_shape *s)
{
    size_t most = (size_t) s->n_vocab * s->width;
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        uint32_t n_rows, n_cols;
        mb_block_linear_size(s, (enum mb_block_linear) l, &n_rows, &n_cols);
        size_t n = (size_t) n_rows * n_cols;
        most = n > most ? n : most;
    }
    return most;
}

static bool scratch_init(struct mb_gradient *g)
{
    const struct mb_shape *s = &g->shape;
    size_t n = g->o.tokens_max, d = s->width, q = mb_shape_q_width(s);
    size_t c = mb_shape_kv_width(s), f = s->ffn_width, w = largest_weight(s);
    g->widest = d > q ? d : q;
    g->widest = g->widest > f ? g->widest : f;
    size_t wide = g->widest > 2 * d ? g->widest : 2 * d;
    size_t chunk = CHUNK_LOGITS / s->n_vocab;
    chunk = chunk < CHUNK_MIN ? CHUNK_MIN : chunk > CHUNK_MAX ? CHUNK_MAX : chunk;
    g->chunk = chunk < n ? chunk : n;
    g->token_loss = mb_alloc(g->chunk, sizeof *g->token_loss);
    return g->token_loss && floats(&g->w, w, 1) && floats(&g->dw, w, 1) &&
           floats(&g->t, wide, 1) && floats(&g->logits, g->chunk, s->n_vocab) &&
           floats(&g->head_in, g->chunk, d) && floats(&g->head_rms, g->chunk, 1) &&
           floats(&g->ends, 2, d) && floats(&g->dx, n, d) && floats(&g->din, n, g->widest) &&
           floats(&g->dq, n, q) && floats(&g->dk, n, c) && floats(&g->dv, n, c) &&
           floats(&g->dgate, n, f) && floats(&g->dup, n, f) &&
           floats(&g->partial, mb_div_up(n, MB_GRADIENT_ROWS), wide) &&
           floats(&g->vector, wide, 1) && floats(&g->row_match, n, 1) &&
           floats(&g->scratch, mb_pool_threads(g->o.pool),
                  mb_attention_scratch(g->o.positions_max));
}

static bool angles_init(struct mb_gradient *g, const double *inv_freq)
{
    size_t half = g->shape.head_width / 2;
    if (!floats(&g->cos, g->o.positions_max, half) ||
        !floats(&g->sin, g->o.positions_max, half)) {
        return false;
    }
    for (size_t p = 0; p < g->o.positions_max; p++) {
        for (size_t i = 0; i < half; i++) {
            double sin_i, cos_i;
            mb_sincos((double) p * inv_freq[i], &sin_i, &cos_i);
            g->sin[p * half + i] = (float) sin_i;
            g->cos[p * half + i] = (float) cos_i;
        }
    }
    return true;
}

enum mb_status mb_gradient_new(const struct mb_model *m, const struct mb_gradient_options *o,
                               struct mb_gradient **ret, struct mb_error *err)
{
    if (o->tokens_max < 1 || o->positions_max < 1 || o->positions_max > MB_CONTEXT_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "training: %u tokens of at most %u positions",
                       (unsigned) o->tokens_max, (unsigned) o->positions_max);
    }
    struct mb_gradient *g = mb_alloc(1, sizeof *g);
    if (g) {
        g->o = *o;
        g->shape = m->shape;
    }
    if (!g || !tape_init(g) || !scratch_init(g) || !angles_init(g, m->inv_freq)) {
        mb_gradient_free(g);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to train on %u tokens a step",
                       (unsigned) o->tokens_max);
    }
    *ret = g;
    return MB_OK;
}

static bool teacher_init(struct mb_gradient *g)
{
    uint32_t n_layers = g->shape.n_layers;
    if (g->teacher) {
        return true;
    }
    g->teacher = mb_alloc(n_layers + 1, sizeof *g->teacher);
    bool ok = g->teacher && floats(&g->teacher_w, g->shape.n_vocab, g->shape.width) &&
              floats(&g->teacher_logits, g->chunk, g->shape.n_vocab);
    for (uint32_t i = 0; ok && i <= n_layers; i++) {
        if (g->o.match > 0 || i < 2) {
            ok = floats(&g->teacher[i], g->o.tokens_max, g->shape.width);
        } else {
            g->teacher[i] = g->teacher[i - 2]; /* takes turns with its neighbour */
        }
    }
    return ok;
}

static void streams_free(float **stream, uint32_t n)
{
    for (uint32_t i = 0; stream && i < n; i++) {
        mb_free(stream[i]);
    }
    mb_free(stream);
}

void mb_gradient_free(struct mb_gradient *g)
{
    if (!g) {
        return;
    }
    uint32_t n_layers = g->shape.n_layers;
    for (uint32_t i = 0; g->kept && i < (g->o.recompute ? 1 : n_layers); i++) {
        kept_fini(&g->kept[i]);
    }
    streams_free(g->stream, n_layers + 1);
    streams_free(g->teacher, g->o.match > 0 ? n_layers + 1 : 2);
    float *all[] = { g->cos,
                     g->sin,
                     g->w,
                     g->dw,
                     g->dembed,
                     g->t,
                     g->logits,
                     g->head_in,
                     g->head_rms,
                     g->ends,
                     g->dx,
                     g->din,
                     g->dq,
                     g->dk,
                     g->dv,
                     g->dgate,
                     g->dup,
                     g->scratch,
                     g->partial,
                     g->vector,
                     g->row_match,
                     g->teacher_w,
                     g->teacher_logits };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        mb_free(all[i]);
    }
    mb_free(g->kept);
    mb_free(g->position);
    mb_free(g->token_loss);
    mb_free(g);
}

static enum mb_status check_batch(const struct mb_gradient *g, const struct mb_train_batch *b,
                                  struct mb_error *err)
{
    uint32_t v = g->shape.n_vocab;
    if (b->n_tokens < 1 || b->n_tokens > g->o.tokens_max || b->start[0] != 0 ||
        b->start[b->n_seqs] != b->n_tokens) {
        return mb_fail(err, MB_E_INVALID, 0, "a batch of %u tokens is outside 1..%u",
                       (unsigned) b->n_tokens, (unsigned) g->o.tokens_max);
    }
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        uint32_t n = b->start[i + 1] - b->start[i];
        if (b->start[i + 1] <= b->start[i] || n > g->o.positions_max) {
            return mb_fail(err, MB_E_INVALID, 0,
                           "sequence %u of a batch is not of 1..%u tokens", (unsigned) i,
                           (unsigned) g->o.positions_max);
        }
    }
    for (uint32_t t = 0; t < b->n_tokens; t++) {
        if (b->token[t] >= v || b->target[t] >= v || !(b->weight[t] >= 0)) {
            return mb_fail(err, MB_E_INVALID, 0,
                           "token %u of a batch (%u, then %u) is outside the vocabulary of %u",
                           (unsigned) t, (unsigned) b->token[t], (unsigned) b->target[t],
                           (unsigned) v);
        }
    }
    return MB_OK;
}

enum mb_status mb_gradient_check_teacher(const struct mb_model *m,
                                         const struct mb_model *teacher, struct mb_error *err)
{
    const struct mb_shape *s = &m->shape, *t = &teacher->shape;
    if (t->n_layers != s->n_layers || t->width != s->width || t->n_heads != s->n_heads ||
        t->n_kv_heads != s->n_kv_heads || t->head_width != s->head_width ||
        t->ffn_width != s->ffn_width || t->n_vocab != s->n_vocab || t->window != s->window) {
        return mb_fail(err, MB_E_INVALID, 0, "the teacher is of another shape than the model");
    }
    return MB_OK;
}

static enum mb_status prepare_teacher(struct mb_gradient *g, const struct mb_model *m,
                                      const struct mb_model *teacher, struct mb_error *err)
{
    if (!teacher) {
        return g->o.kl > 0 || g->o.match > 0
                   ? mb_fail(err, MB_E_INVALID, 0, "there is no teacher to learn from")
                   : MB_OK;
    }
    enum mb_status st = mb_gradient_check_teacher(m, teacher, err);
    if (st == MB_OK && !teacher_init(g)) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory for a teacher");
    }
    return st;
}

static void count_positions(struct mb_gradient *g, const struct mb_train_batch *b)
{
    for (uint32_t i = 0; i < b->n_seqs; i++) {
        for (uint32_t t = b->start[i]; t < b->start[i + 1]; t++) {
            g->position[t] = t - b->start[i];
        }
    }
}

/* Through all blocks. The teacher's activations go where the model's are about to be written. */
static void forward(struct mb_gradient *g, const struct mb_model *m,
                    const struct mb_train_batch *b, float **stream, bool keep)
{
    mb_gradient_embed(g, m, b, stream[0]);
    for (uint32_t l = 0; l < g->shape.n_layers; l++) {
        struct mb_kept *k = &g->kept[keep && !g->o.recompute ? l : 0];
        mb_gradient_block(g, m, l, b, k, stream[l], stream[l + 1]);
    }
}

struct match_job {
    struct mb_gradient *g;
    const float *x, *teacher;
    float *dx, weight;
};

static void match_rows(void *args, size_t from, size_t to, size_t part)
{
    const struct match_job *j = args;
    size_t d = j->g->shape.width;
    for (size_t t = from; t < to; t++) {
        j->g->row_match[t] = j->g->o.ops->match(j->dx ? j->dx + t * d : NULL, j->x + t * d,
                                                j->teacher + t * d, d, j->weight);
    }
}

/* The distance at the output of a block, and g->dx from it. */
static double match(struct mb_gradient *g, const struct mb_train_batch *b, uint32_t layer,
                    bool back)
{
    double places = (double) b->n_tokens * g->shape.n_layers, sum = 0;
    struct match_job j = { g, g->stream[layer + 1], g->teacher[layer + 1], back ? g->dx : NULL,
                           (float) (g->o.match / places) };
    mb_gradient_rows(g, b->n_tokens, match_rows, &j);
    for (uint32_t t = 0; t < b->n_tokens; t++) {
        sum += g->row_match[t];
    }
    mb_gradient_lap(g, MB_GRADIENT_LOSS);
    return sum / places;
}

/* The embedding's gradient: rows of the tokens, beside what a tied head has left there. */
static enum mb_status embed_back(struct mb_gradient *g, const struct mb_train_batch *b,
                                 const struct mb_sink *sink, struct mb_error *err)
{
    struct mb_param p = { MB_PARAM_EMBED, 0, 0 };
    size_t d = g->shape.width;
    if (!sink->wants(sink->self, &p)) {
        return MB_OK;
    }
    for (uint32_t t = 0; t < b->n_tokens; t++) {
        float *row = g->dembed + b->token[t] * d;
        const float *dx = g->dx + t * d;
        for (size_t i = 0; i < d; i++) {
            row[i] += dx[i];
        }
    }
    enum mb_status st = sink->take(sink->self, &p, g->dembed, err);
    mb_gradient_lap(g, MB_GRADIENT_SINK);
    return st;
}

static enum mb_status prepare_embed(struct mb_gradient *g, const struct mb_sink *sink,
                                    struct mb_error *err)
{
    struct mb_param p = { MB_PARAM_EMBED, 0, 0 };
    size_t n = (size_t) g->shape.n_vocab * g->shape.width;
    if (!sink || !sink->wants(sink->self, &p)) {
        return MB_OK;
    }
    if (!g->dembed && !floats(&g->dembed, n, 1)) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the embedding's gradient");
    }
    memset(g->dembed, 0, n * sizeof *g->dembed);
    return MB_OK;
}

static enum mb_status backward(struct mb_gradient *g, const struct mb_model *m,
                               const struct mb_train_batch *b, const struct mb_sink *sink,
                               struct mb_error *err)
{
    enum mb_status st = MB_OK;
    for (uint32_t l = g->shape.n_layers; st == MB_OK && l-- > 0;) {
        struct mb_kept *k = &g->kept[g->o.recompute ? 0 : l];
        if (g->o.match > 0) {
            (void) match(g, b, l, true);
        }
        if (g->o.recompute) { /* its output lies where g->din is not needed yet */
            mb_gradient_block(g, m, l, b, k, g->stream[l], g->din);
        }
        st = mb_gradient_block_back(g, m, l, b, k, g->stream[l], sink, err);
    }
    return st == MB_OK ? embed_back(g, b, sink, err) : st;
}

enum mb_status mb_gradient_run(struct mb_gradient *g, const struct mb_model *m,
                               const struct mb_model *teacher, const struct mb_train_batch *b,
                               const struct mb_sink *sink, struct mb_losses *ret,
                               struct mb_error *err)
{
    struct mb_losses l = { 0 };
    enum mb_status st = check_batch(g, b, err);
    if (st == MB_OK && (st = prepare_teacher(g, m, teacher, err)) == MB_OK) {
        st = prepare_embed(g, sink, err);
    }
    if (st != MB_OK) {
        return st;
    }
    if (g->now_ns) {
        g->lap_ns = g->now_ns();
    }
    count_positions(g, b);
    if (teacher) {
        forward(g, teacher, b, g->teacher, false);
    }
    forward(g, m, b, g->stream, true);
    memset(g->dx, 0, (size_t) b->n_tokens * g->shape.width * sizeof *g->dx);
    double distance = 0;
    for (uint32_t i = 0; g->o.match > 0 && i < g->shape.n_layers; i++) {
        distance += match(g, b, i, false);
    }
    st = mb_gradient_head(g, m, teacher, b, sink, &l, err);
    if (st == MB_OK && sink) {
        st = backward(g, m, b, sink, err);
    }
    if (st == MB_OK) {
        l.match = distance;
        l.total = g->o.ce * l.cross_entropy + g->o.kl * l.divergence + g->o.match * distance;
        *ret = l;
    }
    return st;
}
