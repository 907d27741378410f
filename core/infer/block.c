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

static bool attention(struct mb_stepper *s, const struct mb_block *w, uint32_t layer,
                      struct mb_kv_cache *kv, uint32_t kv_layer, const struct mb_batch *b,
                      const struct mb_tap *tap, float *x)
{
    const struct mb_product qkv[] = {
        { .w = &w->linear[MB_ATTN_Q], .y = s->q },
        { .w = &w->linear[MB_ATTN_K], .y = s->k },
        { .w = &w->linear[MB_ATTN_V], .y = s->v },
    };
    const struct mb_product o = { .w = &w->linear[MB_ATTN_O], .y = s->y, .add_to = x };

    mb_step_norm(s, x, NULL, b->n_tokens, w->attn_norm);
    if (!input_ready(s, w, layer, MB_IN_ATTN, b, tap)) {
        return false;
    }
    mb_step_linears(s, b->n_tokens, s->shape.width, qkv, 3, MB_PHASE_PRODUCT);
    mb_step_attend(s, kv, kv_layer, b);
    if (!input_ready(s, w, layer, MB_IN_ATTN_O, b, tap)) {
        return false;
    }
    mb_step_linears(s, b->n_tokens, mb_shape_q_width(&s->shape), &o, 1, MB_PHASE_PRODUCT);
    return true;
}

static bool feed_forward(struct mb_stepper *s, const struct mb_block *w, uint32_t layer,
                         const struct mb_batch *b, const struct mb_tap *tap, float *x)
{
    const struct mb_product gate_up[] = {
        { .w = &w->linear[MB_FFN_GATE], .y = s->gate },
        { .w = &w->linear[MB_FFN_UP], .y = s->up },
    };
    const struct mb_product down = { .w = &w->linear[MB_FFN_DOWN], .y = s->y, .add_to = x };
    struct gate_job gate = { .s = s, .width = s->shape.ffn_width };

    mb_step_norm(s, x, NULL, b->n_tokens, w->ffn_norm);
    if (!input_ready(s, w, layer, MB_IN_FFN, b, tap)) {
        return false;
    }
    mb_step_linears(s, b->n_tokens, s->shape.width, gate_up, 2, MB_PHASE_PRODUCT);
    mb_step_for_tokens(s, b->n_tokens, gate.width, gate_token, &gate);
    if (!input_ready(s, w, layer, MB_IN_FFN_DOWN, b, tap)) {
        return false;
    }
    mb_step_linears(s, b->n_tokens, s->shape.ffn_width, &down, 1, MB_PHASE_PRODUCT);
    return true;
}

enum mb_status mb_step_block_run(struct mb_stepper *s, const struct mb_model *m, uint32_t layer,
                                 struct mb_kv_cache *kv, uint32_t kv_layer,
                                 const struct mb_batch *b, const struct mb_tap *tap, float *x,
                                 struct mb_error *err)
{
    const struct mb_block *w = &m->blocks[layer];
    if (!attention(s, w, layer, kv, kv_layer, b, tap, x) ||
        !feed_forward(s, w, layer, b, tap, x)) {
        return mb_fail(err, MB_E_CANCELLED, 0, "step: stopped at layer %u", (unsigned) layer);
    }
    return MB_OK;
}
