/* The operations of training between matrix products, forward and backward, a row or a head at
 * a time. Their one source is ops_template.h: here in float32, once per instruction set; tests
 * make a float64 one of it and compare each derivative with finite differences.
 *
 * Exact:   the same bits from every instruction set: sums have 16 partial sums and a fixed tree,
 *          nothing is contracted. (Attention multiplies by BLAS, which may differ by processor.)
 * Threads: pure, on disjoint outputs. */
#ifndef MB_CORE_FINETUNE_OPS_H
#define MB_CORE_FINETUNE_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "core/kernels/cpu.h"

/* How one sequence's attention is laid out: rows of tokens, heads beside each other. */
struct mb_attention_shape {
    size_t n;             /* tokens of the sequence */
    size_t n_q_per_kv;    /* query heads that share a key head */
    size_t head_width;    /* d */
    size_t q_row, kv_row; /* floats from token to token in q and out; in k and v */
    size_t lse_row;       /* floats from token to token in lse */
    size_t window;        /* positions that a token sees, 0 for all before it */
};

/* Rows of queries that are computed at once: scratch is two blocks of scores. */
#define MB_ATTENTION_ROWS 64
static inline size_t mb_attention_scratch(size_t n_tokens) /* in elements */
{
    return (size_t) 2 * MB_ATTENTION_ROWS * n_tokens;
}

/* One token's loss: cross-entropy of its target, and divergence from a teacher. */
struct mb_token_loss {
    float cross_entropy; /* -ln p(target) */
    float divergence;    /* sum_v q_v ln(q_v / p_v); 0 without a teacher */
};

struct mb_train_ops {
    const char *name;

    /* y = x r w,  r = 1 / sqrt(sum(x^2) / n + eps), which is returned. */
    float (*norm)(float *y, const float *x, const float *w, size_t n, float eps);
    /* dx += r w dy - x r^3 sum(w dy x) / n;  dw += dy x r */
    void (*norm_back)(float *dx, float *dw, const float *dy, const float *x, const float *w,
                      float r, size_t n);

    /* y = x t; y may be x. Its derivative for x is itself; for t, given y: dt += dy y / t. */
    void (*scale)(float *y, const float *x, const float *t, size_t n);
    void (*scale_back)(float *dt, const float *dy, const float *y, const float *t, size_t n);

    /* Rotates halves in place: (x0, x1) = (x0 cos - x1 sin, x1 cos + x0 sin) for pairs
     * (i, i + d/2); turned back by -1 for sign, which is the derivative. */
    void (*rope)(float *x, const float *cos, const float *sin, size_t d, float sign);

    /* y = g / (1 + exp(-g)) u;  dg and du from dy; either may be the place of dy. */
    void (*gate)(float *y, const float *g, const float *u, size_t n);
    void (*gate_back)(float *dg, float *du, const float *dy, const float *g, const float *u,
                      size_t n);

    /* Loss of one token, and ce d(cross_entropy) / dz + kl d(divergence) / dz in place of z.
     * teacher is its logits, or NULL; they are overwritten by its probabilities. */
    struct mb_token_loss (*loss)(float *z, float *teacher, size_t n, size_t target, float ce,
                                 float kl);

    /* |x - y|^2 / |y|^2, and dx += weight times its derivative. dx may be NULL. */
    float (*match)(float *dx, const float *x, const float *y, size_t n, float weight);

    /* x as its code of n_planes planes per group would be decoded. The derivative of coding is
     * taken for 1 (straight through). */
    void (*code)(float *x, size_t n, size_t group, unsigned n_planes);

    /* Causal attention of the heads of one key head. lse is ln sum exp per token and head, kept
     * for the way back, where it gives the probabilities again.
     * out_i = sum_j p_ij v_j,  p_ij = exp(q_i k_j / sqrt(d) - lse_i),  i - window < j <= i */
    void (*attend)(float *out, float *lse, const float *q, const float *k, const float *v,
                   const struct mb_attention_shape *s, float *scratch);
    /* dq, dk, dv are overwritten. */
    void (*attend_back)(float *dq, float *dk, float *dv, const float *dout, const float *q,
                        const float *k, const float *v, const float *lse,
                        const struct mb_attention_shape *s, float *scratch);
};

/* The best there is for this processor. Pure. */
const struct mb_train_ops *mb_train_ops_select(mb_cpu_flags cpu);

extern const struct mb_train_ops mb_train_ops_c, mb_train_ops_avx2, mb_train_ops_avx512;

#endif
