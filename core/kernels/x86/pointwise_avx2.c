#include <immintrin.h>
#include <math.h>

#include "core/base/half.h"
#include "core/kernels/variants.h"
#include "core/kernels/x86/lanes_avx2.h"

void mb_rmsnorm_avx2(float *y, const float *x, const float *w, size_t n, float eps)
{
    __m256 sum[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() };
    size_t i = 0;
    for (; i < n; i += 8) { /* eights alternate between the two halves of the 16 lanes */
        __m256i live = mb_half_first(n - i);
        __m256 v = _mm256_maskload_ps(x + i, live);
        __m256 *half = &sum[i / 8 % 2];
        *half =
            _mm256_blendv_ps(*half, _mm256_fmadd_ps(v, v, *half), _mm256_castsi256_ps(live));
    }
    float r = 1 / sqrtf(mb_halves_tree(sum[0], sum[1]) / (float) n + eps);
    for (i = 0; n - i >= 8; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(r));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(v, _mm256_loadu_ps(w + i)));
    }
    for (; i < n; i++) {
        y[i] = (x[i] * r) * w[i];
    }
}

void mb_rope_avx2(float *x, const float *cos, const float *sin, size_t d)
{
    size_t half = d / 2;
    for (size_t i = 0; i < half; i += 8) {
        __m256i live = mb_half_first(half - i);
        __m256 x0 = _mm256_maskload_ps(x + i, live);
        __m256 x1 = _mm256_maskload_ps(x + i + half, live);
        __m256 c = _mm256_maskload_ps(cos + i, live);
        __m256 s = _mm256_maskload_ps(sin + i, live);
        /* fma(x0, c, -(x1 s)) = fmsub: the same value, rounded once at the same place. */
        _mm256_maskstore_ps(x + i, live, _mm256_fmsub_ps(x0, c, _mm256_mul_ps(x1, s)));
        _mm256_maskstore_ps(x + i + half, live, _mm256_fmadd_ps(x1, c, _mm256_mul_ps(x0, s)));
    }
}

void mb_silu_mul_avx2(float *y, const float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256i live = mb_half_first(n - i);
        __m256 v = _mm256_maskload_ps(g + i, live);
        __m256 e = mb_exp_avx2(_mm256_xor_ps(v, _mm256_set1_ps(-0.0f)));
        __m256 gate = _mm256_div_ps(v, _mm256_add_ps(_mm256_set1_ps(1), e));
        _mm256_maskstore_ps(y + i, live, _mm256_mul_ps(gate, _mm256_maskload_ps(u + i, live)));
    }
}

void mb_add_avx2(float *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        _mm256_storeu_ps(y + i, _mm256_add_ps(_mm256_loadu_ps(y + i), _mm256_loadu_ps(x + i)));
    }
    for (; i < n; i++) {
        y[i] = y[i] + x[i];
    }
}

void mb_scale_f16_avx2(float *y, const float *x, const uint16_t *t, size_t n)
{
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        __m256 scale = _mm256_cvtph_ps(_mm_loadu_si128((const void *) (t + i)));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), scale));
    }
    for (; i < n; i++) {
        y[i] = x[i] * mb_f16_to_f32(t[i]);
    }
}

void mb_widen_f16_avx2(float *y, const uint16_t *x, size_t n)
{
    size_t i = 0;
    for (; n - i >= 8; i += 8) {
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *) (x + i))));
    }
    for (; i < n; i++) {
        y[i] = mb_f16_to_f32(x[i]);
    }
}

float mb_max_avx2(const float *x, size_t n)
{
    __m256 m = _mm256_set1_ps(-INFINITY);
    for (size_t i = 0; i < n; i += 8) { /* a NaN leaves m */
        __m256i live = mb_half_first(n - i);
        __m256 more = _mm256_max_ps(_mm256_maskload_ps(x + i, live), m);
        m = _mm256_blendv_ps(m, more, _mm256_castsi256_ps(live));
    }
    __m128 top = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    top = _mm_max_ps(top, _mm_movehl_ps(top, top));
    return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top))) + 0.0f;
}

float mb_weigh_avx2(float *w, const float *z, size_t n, float max, float scale)
{
    __m256 sum[2] = { _mm256_setzero_ps(), _mm256_setzero_ps() };
    const __m256 top = _mm256_set1_ps(max), one = _mm256_set1_ps(1);
    for (size_t i = 0; i < n; i += 8) {
        __m256i live = mb_half_first(n - i);
        __m256 v = _mm256_maskload_ps(z + i, live);
        __m256 x = _mm256_mul_ps(_mm256_sub_ps(v, top), _mm256_set1_ps(scale));
        __m256 ordered = _mm256_cmp_ps(x, x, _CMP_ORD_Q);
        __m256 e = _mm256_and_ps(ordered, mb_exp_negative_avx2(x));
        e = _mm256_blendv_ps(e, one, _mm256_cmp_ps(v, top, _CMP_EQ_OQ));
        _mm256_maskstore_ps(w + i, live, e);
        __m256 *half = &sum[i / 8 % 2];
        *half = _mm256_blendv_ps(*half, _mm256_add_ps(*half, e), _mm256_castsi256_ps(live));
    }
    return mb_halves_tree(sum[0], sum[1]);
}
