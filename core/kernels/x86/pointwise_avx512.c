#include <immintrin.h>
#include <math.h>

#include "core/kernels/variants.h"
#include "core/kernels/x86/lanes_avx512.h"

void mb_rmsnorm_avx512(float *y, const float *x, const float *w, size_t n, float eps)
{
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 live = mb_lanes_first(n - i);
        __m512 v = _mm512_maskz_loadu_ps(live, x + i);
        sum = _mm512_mask3_fmadd_ps(v, v, sum, live);
    }
    __m512 r = _mm512_set1_ps(1 / sqrtf(mb_lanes_tree(sum) / (float) n + eps));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 live = mb_lanes_first(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(live, x + i), r);
        _mm512_mask_storeu_ps(y + i, live,
                              _mm512_mul_ps(v, _mm512_maskz_loadu_ps(live, w + i)));
    }
}

void mb_rope_avx512(float *x, const float *cos, const float *sin, size_t d)
{
    size_t half = d / 2;
    for (size_t i = 0; i < half; i += 16) {
        __mmask16 live = mb_lanes_first(half - i);
        __m512 x0 = _mm512_maskz_loadu_ps(live, x + i);
        __m512 x1 = _mm512_maskz_loadu_ps(live, x + i + half);
        __m512 c = _mm512_maskz_loadu_ps(live, cos + i);
        __m512 s = _mm512_maskz_loadu_ps(live, sin + i);
        /* fma(x0, c, -(x1 s)) = fmsub: the same value, rounded once at the same place. */
        _mm512_mask_storeu_ps(x + i, live, _mm512_fmsub_ps(x0, c, _mm512_mul_ps(x1, s)));
        _mm512_mask_storeu_ps(x + i + half, live, _mm512_fmadd_ps(x1, c, _mm512_mul_ps(x0, s)));
    }
}

void mb_silu_mul_avx512(float *y, const float *g, const float *u, size_t n)
{
    const __m512 one = _mm512_set1_ps(1), sign = _mm512_set1_ps(-0.0f);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 live = mb_lanes_first(n - i);
        __m512 v = _mm512_maskz_loadu_ps(live, g + i);
        __m512 e = mb_exp_avx512(_mm512_xor_ps(v, sign));
        __m512 gate = _mm512_div_ps(v, _mm512_add_ps(one, e));
        _mm512_mask_storeu_ps(y + i, live,
                              _mm512_mul_ps(gate, _mm512_maskz_loadu_ps(live, u + i)));
    }
}

void mb_add_avx512(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 live = mb_lanes_first(n - i);
        __m512 sum = _mm512_add_ps(_mm512_maskz_loadu_ps(live, y + i),
                                   _mm512_maskz_loadu_ps(live, x + i));
        _mm512_mask_storeu_ps(y + i, live, sum);
    }
}

void mb_scale_f16_avx512(float *y, const float *x, const uint16_t *t, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 live = mb_lanes_first(n - i);
        __m512 scale = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(live, t + i));
        _mm512_mask_storeu_ps(y + i, live,
                              _mm512_mul_ps(_mm512_maskz_loadu_ps(live, x + i), scale));
    }
}

void mb_widen_f16_avx512(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 live = mb_lanes_first(n - i);
        __m512 v = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(live, x + i));
        _mm512_mask_storeu_ps(y + i, live, v);
    }
}

float mb_max_avx512(const float *x, size_t n)
{
    __m512 m = _mm512_set1_ps(-INFINITY);
    for (size_t i = 0; i < n; i += 16) { /* a NaN leaves m */
        __mmask16 live = mb_lanes_first(n - i);
        m = _mm512_mask_max_ps(m, live, _mm512_maskz_loadu_ps(live, x + i), m);
    }
    return _mm512_reduce_max_ps(m) + 0.0f;
}

float mb_weigh_avx512(float *w, const float *z, size_t n, float max, float scale)
{
    __m512 sum = _mm512_setzero_ps();
    const __m512 top = _mm512_set1_ps(max);
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 live = mb_lanes_first(n - i);
        __m512 v = _mm512_maskz_loadu_ps(live, z + i);
        __m512 x = _mm512_mul_ps(_mm512_sub_ps(v, top), _mm512_set1_ps(scale));
        __mmask16 ordered = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
        __m512 e = _mm512_maskz_mov_ps(ordered, mb_exp_negative_avx512(x));
        e = _mm512_mask_mov_ps(e, _mm512_cmp_ps_mask(v, top, _CMP_EQ_OQ), _mm512_set1_ps(1));
        _mm512_mask_storeu_ps(w + i, live, e);
        sum = _mm512_mask_add_ps(sum, live, sum, e);
    }
    return mb_lanes_tree(sum);
}
