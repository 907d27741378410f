#include "core/infer/step.h"

#include <assert.h>
#include <string.h>

#include "core/base/half.h"
#include "core/infer/stepper.h"

struct token_job {
    mb_token_fn *fn;
    const void *args;
    size_t n, per_part;
};

static void run_tokens(void *job, size_t part, size_t worker)
{
    const struct token_job *j = job;
    size_t t = part * j->per_part;
    size_t end = t + j->per_part < j->n ? t + j->per_part : j->n;
    for (; t < end; t++) {
        j->fn(j->args, t);
    }
}

size_t mb_step_parts(const struct mb_stepper *s, size_t work)
{
    enum { PARTS_PER_THREAD = 16 };
    size_t n_threads = mb_pool_threads(s->pool);
    size_t most = n_threads == 1 ? 1 : n_threads * PARTS_PER_THREAD;
    size_t worth = work / s->part_work;
    return worth < 1 ? 1 : worth < most ? worth : most;
}

void mb_step_for_tokens(struct mb_stepper *s, size_t n, size_t width, mb_token_fn *fn,
                        const void *args)
{
    enum { WORK_PER_FLOAT = 32 }; /* an exp, or a code and its bits, in multiply-adds */
    struct token_job j = { .fn = fn, .args = args, .n = n };
    j.per_part = mb_div_up(n, mb_step_parts(s, n * width * WORK_PER_FLOAT));
    mb_pool_run(s->pool, n == 0 ? 0 : mb_div_up(n, j.per_part), run_tokens, &j);
}

struct norm_job {
    struct mb_stepper *s;
    const float *x, *weight;
    const uint32_t *rows;
};

static void norm_token(const void *args, size_t t)
{
    const struct norm_job *j = args;
    size_t width = j->s->shape.width, row = j->rows ? j->rows[t] : t;
    j->s->kernels->rmsnorm(j->s->in + t * width, j->x + row * width, j->weight, width,
                           j->s->shape.norm_eps);
}

void mb_step_norm(struct mb_stepper *s, const float *x, const uint32_t *rows, size_t n,
                  const float *weight)
{
    struct norm_job j = { .s = s, .x = x, .weight = weight, .rows = rows };
    mb_step_for_tokens(s, n, s->shape.width, norm_token, &j);
}

struct scale_job {
    struct mb_stepper *s;
    const uint16_t *t;
    size_t width;
};

static void scale_token(const void *args, size_t t)
{
    const struct scale_job *j = args;
    float *in = j->s->in + t * j->width;
    j->s->kernels->scale_f16(in, in, j->t, j->width);
}

void mb_step_scale(struct mb_stepper *s, const uint16_t *t, size_t n, size_t width)
{
    if (t) {
        struct scale_job j = { .s = s, .t = t, .width = width };
        mb_step_for_tokens(s, n, width, scale_token, &j);
    }
}

struct embed_job {
    const struct mb_linear *embed;
    const uint32_t *token;
    float *x;
};

static void embed_half(float *ret, const uint16_t *row, size_t n, bool bf16)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, row + i, sizeof h);
        ret[i] = bf16 ? mb_bf16_to_f32(h) : mb_f16_to_f32(h);
    }
}

static void embed_token(const void *args, size_t t)
{
    const struct embed_job *j = args;
    const struct mb_linear *e = j->embed;
    size_t n = e->n_cols, at = (size_t) j->token[t] * n;
    float *x_t = j->x + t * n;
    switch (e->kind) {
    case MB_LINEAR_BOOL:
        mb_bool_row(&e->boolean, j->token[t], x_t);
        break;
    case MB_LINEAR_F32:
        memcpy(x_t, (const uint8_t *) e->dense + at * sizeof *x_t, n * sizeof *x_t);
        break;
    case MB_LINEAR_F16:
    case MB_LINEAR_BF16:
        embed_half(x_t, (const uint16_t *) e->dense + at, n, e->kind == MB_LINEAR_BF16);
        break;
    }
}

static void embed(struct mb_stepper *s, const struct mb_model *m, const struct mb_batch *b,
                  float *x)
{
    struct embed_job j = { .embed = &m->embed, .token = b->token, .x = x };
    mb_step_for_tokens(s, b->n_tokens, s->shape.width, embed_token, &j);
    mb_step_lap(s, MB_PHASE_EMBED);
}

static void head(struct mb_stepper *s, const struct mb_model *m, const float *x,
                 const uint32_t *rows, uint32_t n, float *logits)
{
    struct mb_products p = { { { .w = &m->head, .y = logits } }, 1 };
    mb_step_norm(s, x, rows, n, m->final_norm);
    mb_step_scale(s, m->head_input_scale, n, s->shape.width);
    mb_step_lap(s, MB_PHASE_HEAD);
    mb_step_linears(s, n, &p, NULL, MB_PHASE_HEAD);
}

/* Checks of a batch. Whoever calls a step may have got its tokens from anywhere. */

static enum mb_status check_counts(const struct mb_stepper *s, const struct mb_batch *b,
                                   struct mb_error *err)
{
    if (b->n_tokens < 1 || b->n_tokens > s->tokens_max) {
        return mb_fail(err, MB_E_INVALID, 0, "step: %u tokens is outside 1..%u",
                       (unsigned) b->n_tokens, (unsigned) s->tokens_max);
    }
    for (uint32_t i = 0; i < b->n_tokens; i++) {
        if (b->token[i] >= s->shape.n_vocab) {
            return mb_fail(err, MB_E_INVALID, 0,
                           "step: token %u is outside the vocabulary of %u",
                           (unsigned) b->token[i], (unsigned) s->shape.n_vocab);
        }
    }
    return MB_OK;
}

static enum mb_status check_logits(const struct mb_stepper *s, const struct mb_batch *b,
                                   struct mb_error *err)
{
    if (b->n_logits > s->logits_max) {
        return mb_fail(err, MB_E_INVALID, 0, "step: logits of %u tokens; at most %u",
                       (unsigned) b->n_logits, (unsigned) s->logits_max);
    }
    for (uint32_t i = 0; i < b->n_logits; i++) {
        bool ascends = i == 0 || b->logits_of[i] > b->logits_of[i - 1];
        if (!ascends || b->logits_of[i] >= b->n_tokens) {
            return mb_fail(err, MB_E_INVALID, 0,
                           "step: logits_of[%u] is %u, not an ascending index below %u",
                           (unsigned) i, (unsigned) b->logits_of[i], (unsigned) b->n_tokens);
        }
    }
    return MB_OK;
}

static void forget_positions(struct mb_kv_cache *kv, const struct mb_batch *b, uint32_t n)
{
    while (n > 0) {
        mb_kv_seq(kv, b->seq[--n])->n_positions--;
    }
}

/* Counts every token's position as stored, if each is its sequence's next one and reserved;
 * else leaves all as they were. */
static enum mb_status count_positions(struct mb_kv_cache *kv, const struct mb_batch *b,
                                      struct mb_error *err)
{
    for (uint32_t i = 0; i < b->n_tokens; i++) {
        enum mb_status st = MB_OK;
        if (b->seq[i] >= mb_kv_seqs(kv)) {
            st = mb_fail(err, MB_E_INVALID, 0, "step: sequence %u; the cache has %u",
                         (unsigned) b->seq[i], (unsigned) mb_kv_seqs(kv));
            forget_positions(kv, b, i);
            return st;
        }
        struct mb_kv_seq *seq = mb_kv_seq(kv, b->seq[i]);
        if (b->position[i] != seq->n_positions) {
            st = mb_fail(
                err, MB_E_INVALID, 0, "step: position %u of sequence %u; %u comes next",
                (unsigned) b->position[i], (unsigned) b->seq[i], (unsigned) seq->n_positions);
        } else if (b->position[i] / MB_KV_BLOCK >= seq->n_blocks) {
            st = mb_fail(err, MB_E_INVALID, 0,
                         "step: position %u of sequence %u is not reserved",
                         (unsigned) b->position[i], (unsigned) b->seq[i]);
        }
        if (st != MB_OK) {
            forget_positions(kv, b, i);
            return st;
        }
        seq->n_positions++;
    }
    return MB_OK;
}

static bool is_cancelled(const atomic_bool *cancel)
{
    return cancel && atomic_load_explicit(cancel, memory_order_relaxed);
}

enum mb_status mb_step(struct mb_stepper *s, const struct mb_model *m, struct mb_kv_cache *kv,
                       const struct mb_batch *b, const atomic_bool *cancel, float *logits,
                       struct mb_error *err)
{
    assert(mb_kv_layers(kv) >= m->shape.n_layers);
    enum mb_status st = check_counts(s, b, err);
    if (st == MB_OK) {
        st = check_logits(s, b, err);
    }
    if (st == MB_OK) {
        st = count_positions(kv, b, err);
    }
    if (st != MB_OK) {
        return st;
    }

    mb_step_lap_start(s);
    mb_step_prepare(s, m, b);
    embed(s, m, b, s->x);
    for (uint32_t layer = 0; layer < m->shape.n_layers; layer++) {
        if (is_cancelled(cancel)) {
            forget_positions(kv, b, b->n_tokens);
            return mb_fail(err, MB_E_CANCELLED, 0, "step: cancelled at layer %u of %u",
                           (unsigned) layer, (unsigned) m->shape.n_layers);
        }
        const struct mb_block *following =
            layer + 1 < m->shape.n_layers ? &m->blocks[layer + 1] : NULL;
        (void) mb_step_block_run(s, m, layer, following, kv, layer, b, NULL, s->x, NULL);
    }
    head(s, m, s->x, b->logits_of, b->n_logits, logits);
    return MB_OK;
}

enum mb_status mb_step_embed(struct mb_stepper *s, const struct mb_model *m,
                             const struct mb_batch *b, float *x, struct mb_error *err)
{
    enum mb_status st = check_counts(s, b, err);
    if (st == MB_OK) {
        mb_step_lap_start(s);
        embed(s, m, b, x);
    }
    return st;
}

enum mb_status mb_step_block(struct mb_stepper *s, const struct mb_model *m, uint32_t layer,
                             struct mb_kv_cache *kv, uint32_t kv_layer,
                             const struct mb_batch *b, const struct mb_tap *tap, float *x,
                             struct mb_error *err)
{
    assert(layer < m->shape.n_layers);
    assert(kv_layer < mb_kv_layers(kv));
    enum mb_status st = check_counts(s, b, err);
    if (st == MB_OK) {
        st = count_positions(kv, b, err);
    }
    if (st != MB_OK) {
        return st;
    }
    forget_positions(kv, b, b->n_tokens); /* another layer may come to the same positions */
    mb_step_lap_start(s);
    mb_step_prepare(s, m, b);
    return mb_step_block_run(s, m, layer, NULL, kv, kv_layer, b, tap, x, err);
}

enum mb_status mb_step_head(struct mb_stepper *s, const struct mb_model *m, const float *x,
                            uint32_t n, float *logits, struct mb_error *err)
{
    if (n > s->logits_max) {
        return mb_fail(err, MB_E_INVALID, 0, "step: logits of %u rows; at most %u",
                       (unsigned) n, (unsigned) s->logits_max);
    }
    mb_step_lap_start(s);
    head(s, m, x, NULL, n, logits);
    return MB_OK;
}

void mb_step_hidden(const struct mb_stepper *s, const struct mb_model *m, uint32_t i,
                    float *ret)
{
    assert(i < s->tokens_max);
    size_t width = s->shape.width;
    s->kernels->rmsnorm(ret, s->x + i * width, m->final_norm, width, s->shape.norm_eps);
}
