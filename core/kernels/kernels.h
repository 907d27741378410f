/* The table of kernels, and the one function that fills it.
 *
 * The portable C file of each kernel is its definition; every variant on every instruction set
 * returns the same bits, float parts included (A1). Where a definition sums floats, it states
 * the order; "fma" means one rounding (C's fmaf). The 16 partial sums of a float reduction
 * over n elements are lane l = sum over i = l, l+16, l+32, ... ascending, each by fma from 0;
 * then lane l += lane l+8 (l < 8), += lane l+4, += lane l+2, += lane l+1: lane 0 is the result.
 * "The same bits" treats NaN as one value: its sign and payload may differ. A maximum passes
 * over NaN, and a maximum that is zero is +0.
 *
 * Threads: every kernel is pure on disjoint outputs. */
#ifndef MB_CORE_KERNELS_H
#define MB_CORE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "core/kernels/cpu.h"
#include "core/tensor/bool_matrix.h"

#define MB_PLANES_MAX 8
#define MB_KV_BLOCK   32 /* positions in a block of the KV cache, and in a block of attention */
#define MB_PANEL_TOKENS \
    6 /* tokens whose codes lie side by side; so many by so many tiles are */
#define MB_EXPAND_TILES 4 /* what bool_expand keeps in registers */

/* One token's input of a linear layer in coded form (DESIGN 2.2). Per column group g of the
 * layer's G, with L = 2^P - 1:
 *
 *     x[j] ~ a[g] * (2 u[j] - L),    u[j] = sum_p 2^p * bit p, 0 <= u[j] <= L
 *
 * Shapes: n columns, W = ceil(n / 32) words, ceil(n / G) groups. Padding of u is zero. */
struct mb_codes {
    uint8_t *u; /* [W * 32], 64-byte aligned */
    void
        *tables; /* [W][MB_WORD_TABLE_BYTES], 64-byte aligned; NULL if no popcount reads them */
    float *a;    /* [groups] */
    uint8_t *panel; /* of the panel that the token is in, see mb_code_panels */
};
#define MB_WORD_TABLE_BYTES 256

/* Codes x into u and a:
 *     m = max |x[j]| over the group (NaN counts as nothing)
 *     m < 2^-100: a = 0, u = 0;  else  a = m / L,  r = (0.5 * L) / m,
 *     u[j] = nearest even integer of clamp(fma(x[j], r, 0.5 * L), 0, L)     NaN gives 0
 * n_planes is P in {1, 4..8}; for P = 1 there is no least m: u is 1 where x >= 0 and a is the
 * mean of |x| by 16 partial sums over the group, divided by the group's columns. */
typedef void mb_code_fn(struct mb_codes *ret, const float *x, size_t n, size_t group,
                        size_t n_planes);

/* tables from u, in the form that bool_popcount of the same set reads; what the form is, these
 * two agree on. Portable C: tables is uint32 [W][MB_PLANES_MAX], bit b of tables[w][p] is bit p
 * of u[32*w + b], for p < P. */
typedef void mb_code_tables_fn(struct mb_codes *c, size_t n_cols, size_t n_planes);

/* Lays u and a of tokens [0, n_tokens) side by side, as bool_expand reads them: front to back,
 * and four neighbouring columns of a panel's N tokens at a time. Tokens are in panels of
 * MB_PANEL_TOKENS from token 0 on, the last may have fewer; x[t].panel of a panel's first token
 * is where it lies. The others' is not read.
 *
 * Shapes: a panel is, per group: a [N] float32; the sum of u over the group's columns [N] int32;
 *         u [quads][N][4], quads of 4 columns up to the end of the group's last word. So
 *         mb_code_panel_bytes(n, group) per token.
 * It takes a thousandth of the time of a product of a few hundred rows: portable C is enough. */
#define MB_PANEL_HEAD_BYTES (sizeof(float) + sizeof(int32_t))
void mb_code_panels(const struct mb_codes *x, size_t n_tokens, size_t n, size_t group);

static inline size_t mb_code_panel_bytes(size_t n, size_t group)
{
    size_t words = (n + MB_WORD_COLS - 1) / MB_WORD_COLS, groups = (n + group - 1) / group;
    return words * MB_WORD_COLS + groups * MB_PANEL_HEAD_BYTES;
}

/* The Boolean product for tokens t in [0, n_tokens) and row tiles [tile, tile_end):
 *
 *     y[t*ldy + i] = sum_g  s[i,g] * (scale_all * a_t[g]) * float(T[i,g])
 *         ascending g, from 0: y = fma(s * (scale_all * a), float(T), y)
 *     T[i,g] = sum_k c_k * sum_p 2^p * (G_g - 2 * popcount(B_k xor plane_p)),  exact in int32
 *            = sum_j (sum_k c_k B_k[i,j]) * (2 u[j] - L)                        the same integer
 *
 * with G_g the columns that the group really has. Writes rows below n_rows only.
 * bool_popcount reads tables and a; bool_expand reads u, a and panels, and takes scratch of
 * mb_bool_expand_scratch(shape) bytes, 64-byte aligned. They return the same bits. */
typedef void mb_bool_product_fn(float *y, size_t ldy, const struct mb_bool_matrix *w,
                                const struct mb_codes *x, size_t n_tokens, size_t n_planes,
                                size_t tile, size_t tile_end, void *scratch);

/* Enough for bool_expand of any variant. */
size_t mb_bool_expand_scratch(const struct mb_bool_shape *s);

/* Dense rows: y[t*ldy + i] = dot(w_i, x_t) with 16 partial sums, for rows [row, row_end).
 * Shapes: w is row-major [*, n], no alignment needed; x is [n_tokens][n]. */
typedef void mb_dense_fn(float *y, size_t ldy, const void *w, const float *x, size_t n,
                         size_t n_tokens, size_t row, size_t row_end);

/* y = (x * r) * w,  r = 1 / sqrt(sum(x^2) / n + eps), the sum by 16 partial sums. y may be x. */
typedef void mb_rmsnorm_fn(float *y, const float *x, const float *w, size_t n, float eps);

/* Rotates halves, in place: for i < d/2, with x0 = x[i], x1 = x[i + d/2]:
 *     x[i] = fma(x0, cos[i], -(x1 * sin[i]));  x[i + d/2] = fma(x1, cos[i], x0 * sin[i]) */
typedef void mb_rope_fn(float *x, const float *cos, const float *sin, size_t d);

/* y[i] = (g[i] / (1 + exp(-g[i]))) * u[i], exp as mb_exp below. y may be g or u. */
typedef void mb_silu_mul_fn(float *y, const float *g, const float *u, size_t n);

/* y[i] = y[i] + x[i] */
typedef void mb_add_fn(float *y, const float *x, size_t n);

/* x[i] = x[i] * float(t[i]), t float16. */
typedef void mb_scale_f16_fn(float *y, const float *x, const uint16_t *t, size_t n);

/* y[i] = float(x[i]), x float16: exact. */
typedef void mb_widen_f16_fn(float *y, const uint16_t *x, size_t n);

/* The largest of n; -inf when there is none. */
typedef float mb_max_fn(const float *x, size_t n);

/* Weights of a softmax, for z <= max and scale > 0:
 *     w[i] = 1 where z[i] = max, else exp((z[i] - max) * scale), 0 where that is NaN
 * Returns their sum by 16 partial sums, each by addition. */
typedef float mb_weigh_fn(float *w, const float *z, size_t n, float max, float scale);

#define MB_ATTEND_ROWS 8 /* of a tile: queries that read the same keys and values together */

/* The state of streaming softmax for up to 8 queries, a row each: heads that share a key head,
 * of one token or of several tokens of a sequence. Row r sees positions [begin[r], end[r]),
 * which is not empty. A fresh row has max -inf and sum and out 0. */
struct mb_attend_tile {
    /* Partial sums of the weights: position j is in lane j mod 16. A line of memory each. */
    _Alignas(64) float sum[MB_ATTEND_ROWS][16];
    float max[MB_ATTEND_ROWS];
    uint32_t begin[MB_ATTEND_ROWS], end[MB_ATTEND_ROWS];
    size_t n_rows; /* 1..MB_ATTEND_ROWS */
    float *q;      /* [d][MB_ATTEND_ROWS]: element i of row r is q[i * MB_ATTEND_ROWS + r] */
    float *out;    /* [MB_ATTEND_ROWS][d] */
};

/* The absolute block of positions [base, base + MB_KV_BLOCK), base a multiple of it, for every
 * row of the tile that sees any of it; the others, and rows beyond n_rows, stay as they are:
 *
 *     z_j   = (sum over i < d ascending, fma from 0, of q[i] * K[i][j]) * qk_scale
 *     m'    = max(m, max_j z_j);  f = exp(m - m')       (f is not applied when m is -inf)
 *     sum_l = sum_l * f;          out[i] = out[i] * f
 *     p_j   = exp(z_j - m');      sum_{j mod 16} += p_j, ascending j
 *     out[i] = fma(p_j, V[j][i], out[i]), ascending j
 *
 * Shapes: kv is K [2][d][16], where position 16*h + l of the block is K[h][.][l], and at once V
 *         [MB_KV_BLOCK][d]. next is a block that will be read soon, or kv: a hint, never
 *         an address that is not there. */
typedef void mb_attend_fn(struct mb_attend_tile *t, size_t d, const void *kv, size_t base,
                          float qk_scale, const void *next);

#define MB_ATTEND_SEGMENT 256 /* positions that one pass of streaming softmax covers */

/* Longer pasts are attended in absolute segments of MB_ATTEND_SEGMENT positions, each from a fresh
 * tile, which are merged in ascending order; so segments may be computed in any order, by any
 * thread. Merges the segment from position base on into t, whose rows, ranges and d are the
 * same; a row that sees nothing of the segment stays as it is; one for which it is the first
 * (begin >= base) is copied; else
 *
 *     m' = max(m, m_s);  f = exp(m - m') if m < m', else 1;  g = exp(m_s - m') if m_s < m', else 1
 *     sum_l = fma(sum_s_l, g, sum_l * f);                    out[i] = fma(out_s[i], g, out[i] * f) */
typedef void mb_attend_merge_fn(struct mb_attend_tile *t, const struct mb_attend_tile *segment,
                                size_t d, size_t base);

/* y[i] = out[i] / (the fixed tree over the 16 lanes of sum) of one row. */
typedef void mb_attend_finish_fn(float *y, const struct mb_attend_tile *t, size_t row,
                                 size_t d);

/* Stores one position: k and v are d floats; j is its place in the block. Float16 rounds to
 * nearest even and saturates to +-65504. */
typedef void mb_kv_store_fn(void *k_block, void *v_block, const float *k, const float *v,
                            size_t d, size_t j);

struct mb_kernels {
    const char *name; /* "avx512", "avx2", "c": which set was selected, for people */
    mb_code_fn *code;
    mb_code_tables_fn *code_tables;
    mb_bool_product_fn *bool_popcount;
    mb_bool_product_fn *bool_expand;
    mb_dense_fn *dense_f32, *dense_f16, *dense_bf16;
    mb_rmsnorm_fn *rmsnorm;
    mb_rope_fn *rope;
    mb_silu_mul_fn *silu_mul;
    mb_add_fn *add;
    mb_scale_f16_fn *scale_f16;
    mb_widen_f16_fn *widen_f16;
    mb_max_fn *max;
    mb_weigh_fn *weigh;
    mb_attend_fn *attend_f16, *attend_f32;
    mb_attend_merge_fn *attend_merge;
    mb_attend_finish_fn *attend_finish;
    mb_kv_store_fn *kv_store_f16, *kv_store_f32;
    /* Up to this many tokens bool_popcount is the faster one, for K = index. Measured, see
     * core/kernels/README.md; no effect on any bit. */
    size_t popcount_tokens_max[MB_KERNELS_MAX + 1];
};

/* Fills every slot: portable C first, then each better variant that cpu allows.
 * Pure: no global state, so a test may ask for any subset of the processor. */
void mb_kernels_select(struct mb_kernels *ret, mb_cpu_flags cpu);

/* exp with a fixed sequence of operations, relative error below 2^-22: the same bits on every
 * machine and in every vector variant. Below -87.3 it is 0; above 88.7 it is +inf; NaN is NaN. */
float mb_exp(float x);

/* sin and cos of x radians in float64, |x| < 2^31, absolute error below 1e-9, no libm. */
void mb_sincos(double x, double *ret_sin, double *ret_cos);

#endif
