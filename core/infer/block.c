/* A decoder block on one page: norm, attention, norm, feed-forward.
 *
 *     x = x + W_o  attend(rope(W_q h), rope(W_k h), W_v h)    h = norm(x)
 *     x = x + W_down (silu(W_gate h) * (W_up h))              h = norm(x)
 *
 * Each W reads its input scaled by t, and coded when W is Boolean. */
#include "core/infer/stepper.h"

struct gate_job {
    struct mb_stepper *s;
    size_t width;
};

static void gate_token(const void *args, size_t t)
{
    const struct gate_job *j = args;
    size_t at = t * j->width;
    j->s->kernels->silu_mul(j->s->in + at, j->s->gate + at, j->s->up + at, j->width);
}

/* in is complete: scales it, and shows it to the tap. */
static bool input_ready(struct mb_stepper *s, const struct mb_block *w, uint32_t layer,
                        enum mb_block_input i, const struct mb_batch *b,
                        const struct mb_tap *tap)
{
    uint32_t width = mb_block_input_width(&s->shape, i);
    mb_step_scale(s, w->input_scale[i], b->n_tokens, width);
    bool go_on = !tap || tap->see(tap->self, layer, i, s->in, b->n_tokens, width);
    mb_step_lap(s, i == MB_IN_FFN_DOWN ? MB_PHASE_GATE : MB_PHASE_NORM);
    return go_on;
}

/* The products of a block, in order. */

static struct mb_products qkv_of(const struct mb_stepper *s, const struct mb_block *w)
{
    return (struct mb_products) {
        .product = { { .w = &w->linear[MB_ATTN_Q], .y = s->q },
                     { .w = &w->linear[MB_ATTN_K], .y = s->k },
                     { .w = &w->linear[MB_ATTN_V], .y = s->v } },
        .n = 3,
    };
}

static struct mb_products o_of(const struct mb_stepper *s, const struct mb_block *w, float *x)
{
    return (struct mb_products) {
        .product = { { .w = &w->linear[MB_ATTN_O], .y = s->y, .add_to = x } },
        .n = 1,
    };
}

static struct mb_products gate_up_of(const struct mb_stepper *s, const struct mb_block *w)
{
    return (struct mb_products) {
        .product = { { .w = &w->linear[MB_FFN_GATE], .y = s->gate },
                     { .w = &w->linear[MB_FFN_UP], .y = s->up } },
        .n = 2,
    };
}

static struct mb_products down_of(const struct mb_stepper *s, const struct mb_block *w,
                                  float *x)
{
    return (struct mb_products) {
        .product = { { .w = &w->linear[MB_FFN_DOWN], .y = s->y, .add_to = x } },
        .n = 1,
    };
}

static bool attention(struct mb_stepper *s, const struct mb_block *w, uint32_t layer,
                      struct mb_kv_cache *kv, uint32_t kv_layer, const struct mb_batch *b,
                      const struct mb_tap *tap, float *x)
{
    struct mb_products qkv = qkv_of(s, w), o = o_of(s, w, x), gate_up = gate_up_of(s, w);
    mb_step_norm(s, x, NULL, b->n_tokens, w->attn_norm);
    if (!input_ready(s, w, layer, MB_IN_ATTN, b, tap)) {
        return false;
    }
    mb_step_linears(s, b->n_tokens, &qkv, &o, MB_PHASE_PRODUCT);
    mb_step_attend(s, kv, kv_layer, b);
    if (!input_ready(s, w, layer, MB_IN_ATTN_O, b, tap)) {
        return false;
    }
    mb_step_linears(s, b->n_tokens, &o, &gate_up, MB_PHASE_PRODUCT);
    return true;
}

/* following is the block after this one, or NULL. */
static bool feed_forward(struct mb_stepper *s, const struct mb_block *w,
                         const struct mb_block *following, uint32_t layer,
                         const struct mb_batch *b, const struct mb_tap *tap, float *x)
{
    struct mb_products gate_up = gate_up_of(s, w), down = down_of(s, w, x), qkv;
    struct gate_job gate = { .s = s, .width = s->shape.ffn_width };
    if (following) {
        qkv = qkv_of(s, following);
    }
    mb_step_norm(s, x, NULL, b->n_tokens, w->ffn_norm);
    if (!input_ready(s, w, layer, MB_IN_FFN, b, tap)) {
        return false;
    }
    mb_step_linears(s, b->n_tokens, &gate_up, &down, MB_PHASE_PRODUCT);
    mb_step_for_tokens(s, b->n_tokens, gate.width, gate_token, &gate);
    if (!input_ready(s, w, layer, MB_IN_FFN_DOWN, b, tap)) {
        return false;
    }
    mb_step_linears(s, b->n_tokens, &down, following ? &qkv : NULL, MB_PHASE_PRODUCT);
    return true;
}

enum mb_status mb_step_block_run(struct mb_stepper *s, const struct mb_model *m, uint32_t layer,
                                 const struct mb_block *following, struct mb_kv_cache *kv,
                                 uint32_t kv_layer, const struct mb_batch *b,
                                 const struct mb_tap *tap, float *x, struct mb_error *err)
{
    const struct mb_block *w = &m->blocks[layer];
    if (!attention(s, w, layer, kv, kv_layer, b, tap, x) ||
        !feed_forward(s, w, following, layer, b, tap, x)) {
        return mb_fail(err, MB_E_CANCELLED, 0, "step: stopped at layer %u", (unsigned) layer);
    }
    return MB_OK;
}
