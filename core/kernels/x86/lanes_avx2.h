/* What the AVX2 kernels share: 16 lanes as two vectors, short tails, the fixed tree, and exp.
 *
 * Threads: pure. */
#ifndef MB_CORE_KERNELS_X86_LANES_AVX2_H
#define MB_CORE_KERNELS_X86_LANES_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "core/kernels/exp_constants.h"

/* All bits of the first min(left, 8) lanes. */
static inline __m256i mb_half_first(size_t left)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(left < 8 ? (int) left : 8), lane);
}

/* lane l += lane l+8, then l+4, l+2, l+1; low is lanes 0..7. */
static inline float mb_halves_tree(__m256 low, __m256 high)
{
    __m256 a = _mm256_add_ps(low, high);
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    b = _mm_add_ss(b, _mm_movehdup_ps(b));
    return _mm_cvtss_f32(b);
}

/* exp(r) of mb_exp; the low bits of *ret_t hold the power of two that belongs to it. */
static inline __m256 mb_exp_fraction(__m256 x, __m256 *ret_t)
{
    const __m256 to_integer = _mm256_set1_ps(MB_EXP_TO_INTEGER);
    __m256 t = _mm256_fmadd_ps(x, _mm256_set1_ps(MB_EXP_LOG2_E), to_integer);
    __m256 n = _mm256_sub_ps(t, to_integer);
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-MB_EXP_LN2_HIGH), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-MB_EXP_LN2_LOW), r);
    __m256 q = _mm256_fmadd_ps(_mm256_set1_ps(MB_EXP_C6), r, _mm256_set1_ps(MB_EXP_C5));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(MB_EXP_C4));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(MB_EXP_C3));
    q = _mm256_fmadd_ps(q, r, _mm256_set1_ps(MB_EXP_C2));
    *ret_t = t;
    return _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(r, r), q, r), _mm256_set1_ps(1));
}

/* mb_exp in 8 lanes, for x <= 0 and NaN; see exp_c.c for what it does. The power of two is
 * multiplied in, which is exact, as no result is subnormal, and keeps NaN. */
static inline __m256 mb_exp_negative_avx2(__m256 x)
{
    __m256 t, p = mb_exp_fraction(x, &t);
    __m256i power = _mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(t), 23),
                                     _mm256_set1_epi32(0x3f800000));
    __m256 small = _mm256_cmp_ps(x, _mm256_set1_ps(MB_EXP_MIN), _CMP_LT_OQ);
    return _mm256_andnot_ps(small, _mm256_mul_ps(p, _mm256_castsi256_ps(power)));
}

/* The same for all x. */
static inline __m256 mb_exp_avx2(__m256 x)
{
    __m256 t, p = mb_exp_fraction(x, &t);
    __m256 y = _mm256_castsi256_ps(_mm256_add_epi32(
        _mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));

    __m256 small = _mm256_cmp_ps(x, _mm256_set1_ps(MB_EXP_MIN), _CMP_LT_OQ);
    __m256 large = _mm256_cmp_ps(x, _mm256_set1_ps(MB_EXP_MAX), _CMP_GT_OQ);
    __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    y = _mm256_andnot_ps(small, y);
    y = _mm256_blendv_ps(y, _mm256_castsi256_ps(_mm256_set1_epi32(0x7f800000)), large);
    return _mm256_blendv_ps(y, x, nan);
}

#endif
