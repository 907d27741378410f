#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/kernels/variants.h"
#include "core/kernels/x86/lanes_avx2.h"

static const float TO_INTEGER = 0x1.8p23f;

/* 8 lanes of |x|, where a NaN is 0. */
static inline __m256 size_of(__m256 v)
{
    __m256 number = _mm256_cmp_ps(v, v, _CMP_ORD_Q);
    return _mm256_and_ps(number, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v));
}

static float code_sign(uint8_t *u, const float *x, size_t n)
{
    __m256 low = _mm256_setzero_ps(), high = low;
    for (size_t j = 0; j < n; j += 16) {
        size_t left = n - j;
        __m256i live = mb_half_first(left), live_high = mb_half_first(left < 8 ? 0 : left - 8);
        low = _mm256_add_ps(low, size_of(_mm256_maskload_ps(x + j, live)));
        high = _mm256_add_ps(high, size_of(_mm256_maskload_ps(x + j + 8, live_high)));
    }
    for (size_t j = 0; j < n; j++) {
        u[j] = x[j] >= 0;
    }
    return mb_halves_tree(low, high) / (float) n;
}

/* 8 floats to 8 integers in [0, levels], in the low bytes of 32-bit lanes. */
static inline __m256i quantize(const float *x, __m256 r, __m256 half, __m256 levels)
{
    __m256 v = _mm256_fmadd_ps(_mm256_loadu_ps(x), r, half);
    v = _mm256_max_ps(v, _mm256_setzero_ps()); /* a NaN becomes the second operand */
    v = _mm256_min_ps(v, levels);
    const __m256 to_integer = _mm256_set1_ps(TO_INTEGER);
    return _mm256_cvtps_epi32(_mm256_sub_ps(_mm256_add_ps(v, to_integer), to_integer));
}

static float code_levels(uint8_t *u, const float *x, size_t n, float levels)
{
    __m256 size = _mm256_setzero_ps();
    for (size_t j = 0; j < n; j += 8) {
        size = _mm256_max_ps(size, size_of(_mm256_maskload_ps(x + j, mb_half_first(n - j))));
    }
    __m128 top = _mm_max_ps(_mm256_castps256_ps128(size), _mm256_extractf128_ps(size, 1));
    top = _mm_max_ps(top, _mm_movehl_ps(top, top));
    float m = _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
    if (m < 0x1p-100f) {
        memset(u, 0, n);
        return 0;
    }
    float half = 0.5f * levels, r = half / m;
    size_t j = 0;
    for (; n - j >= 16; j += 16) {
        __m256i a =
            quantize(x + j, _mm256_set1_ps(r), _mm256_set1_ps(half), _mm256_set1_ps(levels));
        __m256i b = quantize(x + j + 8, _mm256_set1_ps(r), _mm256_set1_ps(half),
                             _mm256_set1_ps(levels));
        __m256i words = _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8);
        __m128i bytes =
            _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        _mm_storeu_si128((void *) (u + j), bytes);
    }
    for (; j < n; j++) {
        float v = fmaf(x[j], r, half);
        v = v > 0 ? v : 0;
        v = v < levels ? v : levels;
        u[j] = (uint8_t) ((v + TO_INTEGER) - TO_INTEGER);
    }
    return m / levels;
}

void mb_code_avx2(struct mb_codes *ret, const float *x, size_t n, size_t group, size_t n_planes)
{
    float levels = (float) ((1u << n_planes) - 1);
    for (size_t g = 0; g * group < n; g++) {
        size_t at = g * group;
        size_t cols = n - at < group ? n - at : group;
        ret->a[g] = n_planes == 1 ? code_sign(ret->u + at, x + at, cols)
                                  : code_levels(ret->u + at, x + at, cols, levels);
    }
    memset(ret->u + n, 0, mb_div_up(n, MB_WORD_COLS) * MB_WORD_COLS - n);
}
