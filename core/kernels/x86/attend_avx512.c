#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "core/kernels/variants.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx512.h"

/* Query heads at once: their sums are independent, and K and V are read once for all. */
enum { HEADS = 4, LANES = 16, COLS = 2 };

enum element { F32, F16 };

MB_INLINE __m512 load(const void *p, size_t i, __mmask16 live, const enum element e)
{
    if (e == F32) {
        return _mm512_maskz_loadu_ps(live, (const float *) p + i);
    }
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(live, (const uint16_t *) p + i));
}

/* The visible ones of positions 16 h .. 16 h + 15. */
static inline __mmask16 visible(size_t first, size_t n, size_t h)
{
    uint32_t all = n >= MB_KV_BLOCK ? ~0u : (1u << n) - 1;
    all &= ~0u << first;
    return (__mmask16) (all >> LANES * h);
}

/* z[h][half] = scale * sum_i q[i] K[half][i][.], one chain of fma for each. */
MB_INLINE void scores(__m512 z[HEADS][2], const float *q, size_t d, const void *k,
                      float qk_scale, const size_t heads, const enum element e)
{
    for (size_t h = 0; h < heads; h++) {
        z[h][0] = z[h][1] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < d; i++) {
        __m512 k0 = load(k, i * LANES, 0xffff, e);
        __m512 k1 = load(k, (d + i) * LANES, 0xffff, e);
        for (size_t h = 0; h < heads; h++) {
            __m512 qi = _mm512_set1_ps(q[h * d + i]);
            z[h][0] = _mm512_fmadd_ps(qi, k0, z[h][0]);
            z[h][1] = _mm512_fmadd_ps(qi, k1, z[h][1]);
        }
    }
    for (size_t h = 0; h < heads; h++) {
        z[h][0] = _mm512_mul_ps(z[h][0], _mm512_set1_ps(qk_scale));
        z[h][1] = _mm512_mul_ps(z[h][1], _mm512_set1_ps(qk_scale));
    }
}

/* Softmax of one head's block: updates max and sum, writes p (0 where not visible), returns the
 * factor for what is in out already. */
static inline float weigh(float p[MB_KV_BLOCK], float *sum, float *max, const __m512 z[2],
                          __mmask16 see0, __mmask16 see1)
{
    __m512 top = _mm512_set1_ps(*max);
    top = _mm512_mask_max_ps(top, see0, z[0], top); /* a NaN leaves top */
    top = _mm512_mask_max_ps(top, see1, z[1], top);
    float m = _mm512_reduce_max_ps(top) + 0.0f;

    __m512 lanes = _mm512_loadu_ps(sum);
    float f = 1;
    if (*max > -INFINITY) {
        f = _mm512_cvtss_f32(mb_exp_avx512(_mm512_set1_ps(*max - m)));
        lanes = _mm512_mul_ps(lanes, _mm512_set1_ps(f));
    }
    __m512 ms = _mm512_set1_ps(m);
    __m512 p0 = _mm512_maskz_mov_ps(see0, mb_exp_avx512(_mm512_sub_ps(z[0], ms)));
    __m512 p1 = _mm512_maskz_mov_ps(see1, mb_exp_avx512(_mm512_sub_ps(z[1], ms)));
    lanes = _mm512_mask_add_ps(lanes, see0, lanes, p0);
    lanes = _mm512_mask_add_ps(lanes, see1, lanes, p1);
    _mm512_storeu_ps(sum, lanes);
    _mm512_storeu_ps(p, p0);
    _mm512_storeu_ps(p + LANES, p1);
    *max = m;
    return f;
}

/* out[i] = f out[i], then fma(p_j, V[j][i], .) for ascending j; vectors of 16 i at once. */
MB_INLINE void gather(float *out, float p[HEADS][MB_KV_BLOCK], const float *f, size_t d,
                      size_t i, const void *v, size_t first, size_t n, const size_t heads,
                      const size_t cols, __mmask16 live, const enum element e)
{
    __m512 sum[HEADS][COLS];
    for (size_t h = 0; h < heads; h++) {
        for (size_t c = 0; c < cols; c++) {
            sum[h][c] = _mm512_mul_ps(_mm512_maskz_loadu_ps(live, out + h * d + i + c * LANES),
                                      _mm512_set1_ps(f[h]));
        }
    }
    for (size_t j = first; j < n; j++) {
        __m512 vs[COLS];
        for (size_t c = 0; c < cols; c++) {
            vs[c] = load(v, j * d + i + c * LANES, live, e);
        }
        for (size_t h = 0; h < heads; h++) {
            __m512 pj = _mm512_set1_ps(p[h][j]);
            for (size_t c = 0; c < cols; c++) {
                sum[h][c] = _mm512_fmadd_ps(pj, vs[c], sum[h][c]);
            }
        }
    }
    for (size_t h = 0; h < heads; h++) {
        for (size_t c = 0; c < cols; c++) {
            _mm512_mask_storeu_ps(out + h * d + i + c * LANES, live, sum[h][c]);
        }
    }
}

MB_INLINE void attend_heads(float *out, float *sum, float *max, const float *q, size_t d,
                            const void *k, const void *v, size_t first, size_t n,
                            float qk_scale, const size_t heads, const enum element e)
{
    __m512 z[HEADS][2];
    float p[HEADS][MB_KV_BLOCK], f[HEADS];
    scores(z, q, d, k, qk_scale, heads, e);
    for (size_t h = 0; h < heads; h++) {
        f[h] = weigh(p[h], sum + h * LANES, max + h, z[h], visible(first, n, 0),
                     visible(first, n, 1));
    }
    size_t i = 0;
    for (; d - i >= COLS * LANES; i += COLS * LANES) {
        gather(out, p, f, d, i, v, first, n, heads, COLS, 0xffff, e);
    }
    for (; i < d; i += LANES) {
        gather(out, p, f, d, i, v, first, n, heads, 1, mb_lanes_first(d - i), e);
    }
}

MB_INLINE void attend(float *out, float *sum, float *max, const float *q, size_t n_q, size_t d,
                      const void *k, const void *v, size_t first, size_t n, float qk_scale,
                      const enum element e)
{
    size_t h = 0;
    for (; n_q - h >= HEADS; h += HEADS) {
        attend_heads(out + h * d, sum + h * LANES, max + h, q + h * d, d, k, v, first, n,
                     qk_scale, HEADS, e);
    }
    for (; h < n_q; h++) {
        attend_heads(out + h * d, sum + h * LANES, max + h, q + h * d, d, k, v, first, n,
                     qk_scale, 1, e);
    }
}

void mb_attend_f16_avx512(float *out, float *sum, float *max, const float *q, size_t n_q,
                          size_t d, const void *k, const void *v, size_t first, size_t n,
                          float qk_scale)
{
    attend(out, sum, max, q, n_q, d, k, v, first, n, qk_scale, F16);
}

void mb_attend_f32_avx512(float *out, float *sum, float *max, const float *q, size_t n_q,
                          size_t d, const void *k, const void *v, size_t first, size_t n,
                          float qk_scale)
{
    attend(out, sum, max, q, n_q, d, k, v, first, n, qk_scale, F32);
}

void mb_attend_finish_avx512(float *out, const float *sum, size_t n_q, size_t d)
{
    for (size_t h = 0; h < n_q; h++) {
        __m512 total = _mm512_set1_ps(mb_lanes_tree(_mm512_loadu_ps(sum + h * LANES)));
        for (size_t i = 0; i < d; i += LANES) {
            __mmask16 live = mb_lanes_first(d - i);
            __m512 v = _mm512_maskz_loadu_ps(live, out + h * d + i);
            _mm512_mask_storeu_ps(out + h * d + i, live, _mm512_div_ps(v, total));
        }
    }
}

/* Float16, nearest even, between -65504 and 65504; NaN stays NaN. */
static inline __m256i to_f16(__m512 x)
{
    x = _mm512_min_ps(_mm512_set1_ps(65504), x); /* a NaN is the second operand, which stays */
    x = _mm512_max_ps(_mm512_set1_ps(-65504), x);
    return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
}

void mb_kv_store_f16_avx512(void *k_block, void *v_block, const float *k, const float *v,
                            size_t d, size_t j)
{
    uint16_t *ks = (uint16_t *) k_block + j / LANES * d * LANES + j % LANES;
    uint16_t *vs = (uint16_t *) v_block + j * d;
    for (size_t i = 0; i < d; i += LANES) {
        uint16_t half[LANES];
        size_t left = d - i < LANES ? d - i : LANES;
        __mmask16 live = mb_lanes_first(left);
        _mm256_mask_storeu_epi16(vs + i, live, to_f16(_mm512_maskz_loadu_ps(live, v + i)));
        _mm256_storeu_si256((void *) half, to_f16(_mm512_maskz_loadu_ps(live, k + i)));
        for (size_t l = 0; l < left; l++) {
            ks[(i + l) * LANES] = half[l];
        }
    }
}
