/* Attention of a step: rotate, store, attend. The order in which a head meets its past is that
 * of the absolute blocks of the cache, so a token's result does not depend on how its prompt
 * was cut (A1). */
#include <math.h>
#include <string.h>

#include "core/infer/stepper.h"

struct angle_job {
    struct mb_stepper *s;
    const double *inv_freq;
    const uint32_t *position;
};

static void angles_of_token(const void *args, size_t t)
{
    const struct angle_job *j = args;
    size_t half = j->s->shape.head_width / 2;
    for (size_t i = 0; i < half; i++) {
        double sin, cos;
        mb_sincos((double) j->position[t] * j->inv_freq[i], &sin, &cos);
        j->s->sin[t * half + i] = (float) sin;
        j->s->cos[t * half + i] = (float) cos;
    }
}

void mb_step_angles(struct mb_stepper *s, const struct mb_model *m, const struct mb_batch *b)
{
    struct angle_job j = { .s = s, .inv_freq = m->inv_freq, .position = b->position };
    mb_step_for_tokens(s, b->n_tokens, s->shape.head_width, angles_of_token, &j);
}

struct attend_job {
    struct mb_stepper *s;
    struct mb_kv_cache *kv;
    uint32_t kv_layer;
    const struct mb_batch *b;
    float qk_scale;
    size_t heads_per_unit; /* query heads that a unit of work attends; all share a key head */
    size_t n_units;        /* H / heads_per_unit */
    size_t pairs_per_part;
};

static void rotate_and_store(const void *args, size_t t)
{
    const struct attend_job *j = args;
    struct mb_stepper *s = j->s;
    const struct mb_kernels *k = s->kernels;
    size_t d = s->shape.head_width, half = d / 2;
    const float *cos = s->cos + t * half, *sin = s->sin + t * half;
    float *q_t = s->q + t * mb_shape_q_width(&s->shape);
    for (size_t h = 0; h < s->shape.n_heads; h++) {
        k->rope(q_t + h * d, cos, sin, d);
    }

    uint32_t position = j->b->position[t];
    const struct mb_kv_seq *seq = mb_kv_seq(j->kv, j->b->seq[t]);
    uint32_t block = seq->blocks[position / MB_KV_BLOCK];
    mb_kv_store_fn *store = mb_kv_type(j->kv) == MB_KV_F16 ? k->kv_store_f16 : k->kv_store_f32;
    float *k_t = s->k + t * mb_shape_kv_width(&s->shape);
    const float *v_t = s->v + t * mb_shape_kv_width(&s->shape);
    for (uint32_t h = 0; h < s->shape.n_kv_heads; h++) {
        k->rope(k_t + h * d, cos, sin, d);
        store(mb_kv_k(j->kv, block, j->kv_layer, h), mb_kv_v(j->kv, block, j->kv_layer, h),
              k_t + h * d, v_t + h * d, d, position % MB_KV_BLOCK);
    }
}

/* Query heads [head, head + heads_per_unit) of token t over all blocks that it sees. */
static void attend_unit(const struct attend_job *j, size_t t, size_t head,
                        const struct mb_step_worker *w)
{
    struct mb_stepper *s = j->s;
    const struct mb_kernels *k = s->kernels;
    size_t d = s->shape.head_width, n_q = j->heads_per_unit, window = s->shape.window;
    uint32_t kv_head = (uint32_t) (head / (s->shape.n_heads / s->shape.n_kv_heads));
    const float *q = s->q + t * mb_shape_q_width(&s->shape) + head * d;
    float *out = s->in + t * mb_shape_q_width(&s->shape) + head * d;
    const struct mb_kv_seq *seq = mb_kv_seq(j->kv, j->b->seq[t]);
    size_t end = (size_t) j->b->position[t] + 1;
    size_t begin = window != 0 && end > window ? end - window : 0;
    mb_attend_fn *attend = mb_kv_type(j->kv) == MB_KV_F16 ? k->attend_f16 : k->attend_f32;

    memset(out, 0, n_q * d * sizeof *out);
    memset(w->attn_sum, 0, n_q * 16 * sizeof *w->attn_sum);
    for (size_t i = 0; i < n_q; i++) {
        w->attn_max[i] = -INFINITY;
    }
    for (size_t i = begin / MB_KV_BLOCK; i * MB_KV_BLOCK < end; i++) {
        size_t base = i * MB_KV_BLOCK;
        size_t first = begin > base ? begin - base : 0;
        size_t n = end - base < MB_KV_BLOCK ? end - base : MB_KV_BLOCK;
        attend(out, w->attn_sum, w->attn_max, q, n_q, d,
               mb_kv_k(j->kv, seq->blocks[i], j->kv_layer, kv_head),
               mb_kv_v(j->kv, seq->blocks[i], j->kv_layer, kv_head), first, n, j->qk_scale);
    }
    k->attend_finish(out, w->attn_sum, n_q, d);
}

/* A part is a range of (unit, token) pairs; tokens of one unit are neighbours, so that its K and
 * V are still in a near cache. */
static void attend_part(void *job, size_t part, size_t worker)
{
    const struct attend_job *j = job;
    size_t n_tokens = j->b->n_tokens, end = j->n_units * n_tokens;
    size_t i = part * j->pairs_per_part;
    end = i + j->pairs_per_part < end ? i + j->pairs_per_part : end;
    for (; i < end; i++) {
        size_t unit = i / n_tokens;
        attend_unit(j, i % n_tokens, unit * j->heads_per_unit, &j->s->workers[worker]);
    }
}

/* Query heads that share a key head go together, unless that leaves parts without work. */
static size_t heads_per_unit(const struct mb_stepper *s, size_t n_tokens, size_t n_parts)
{
    size_t shared = s->shape.n_heads / s->shape.n_kv_heads;
    size_t n_threads = mb_pool_threads(s->pool);
    size_t want = n_parts < n_threads ? n_parts : n_threads;
    for (size_t split = 1; split < shared; split++) {
        if (shared % split == 0 && n_tokens * s->shape.n_kv_heads * split >= want) {
            return shared / split;
        }
    }
    return 1;
}

static size_t positions_seen(const struct mb_stepper *s, const struct mb_batch *b)
{
    size_t sum = 0, window = s->shape.window;
    for (uint32_t t = 0; t < b->n_tokens; t++) {
        size_t n = (size_t) b->position[t] + 1;
        sum += window != 0 && n > window ? window : n;
    }
    return sum;
}

void mb_step_attend(struct mb_stepper *s, struct mb_kv_cache *kv, uint32_t kv_layer,
                    const struct mb_batch *b)
{
    enum { WORK_PER_PRODUCT = 8 }; /* an element of q k and one of p v, as kernels do them */
    size_t q_width = mb_shape_q_width(&s->shape);
    size_t n_parts = mb_step_parts(s, positions_seen(s, b) * q_width * WORK_PER_PRODUCT);
    struct attend_job j = {
        .s = s,
        .kv = kv,
        .kv_layer = kv_layer,
        .b = b,
        .qk_scale = (float) (1.0 / sqrt((double) s->shape.head_width)),
        .heads_per_unit = heads_per_unit(s, b->n_tokens, n_parts),
    };
    mb_step_for_tokens(s, b->n_tokens, q_width, rotate_and_store, &j);

    j.n_units = s->shape.n_heads / j.heads_per_unit;
    size_t n_pairs = j.n_units * b->n_tokens;
    j.pairs_per_part = mb_div_up(n_pairs, n_parts);
    mb_pool_run(s->pool, mb_div_up(n_pairs, j.pairs_per_part), attend_part, &j);
    mb_step_lap(s, MB_PHASE_ATTEND);
}
