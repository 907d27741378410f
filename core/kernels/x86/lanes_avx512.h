/* What the AVX-512 kernels share: a short tail as a mask, the fixed tree, and exp.
 * One vector is the 16 lanes of the definition.
 *
 * Threads: pure. */
#ifndef MB_CORE_KERNELS_X86_LANES_AVX512_H
#define MB_CORE_KERNELS_X86_LANES_AVX512_H

#include <immintrin.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "core/kernels/exp_constants.h"

/* The first min(left, 16) lanes. */
static inline __mmask16 mb_lanes_first(size_t left)
{
    return left >= 16 ? 0xffff : (__mmask16) ((1u << left) - 1);
}

/* lane l += lane l+8, then l+4, l+2, l+1. */
static inline float mb_lanes_tree(__m512 v)
{
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    b = _mm_add_ss(b, _mm_movehdup_ps(b));
    return _mm_cvtss_f32(b);
}

/* 1 + r + ... of mb_exp, and the power of two that belongs to it in *ret_n. */
static inline __m512 mb_exp_fraction(__m512 x, __m512 *ret_n)
{
    const __m512 to_integer = _mm512_set1_ps(MB_EXP_TO_INTEGER);
    __m512 t = _mm512_fmadd_ps(x, _mm512_set1_ps(MB_EXP_LOG2_E), to_integer);
    __m512 n = _mm512_sub_ps(t, to_integer);
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-MB_EXP_LN2_HIGH), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-MB_EXP_LN2_LOW), r);
    __m512 q = _mm512_fmadd_ps(_mm512_set1_ps(MB_EXP_C6), r, _mm512_set1_ps(MB_EXP_C5));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(MB_EXP_C4));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(MB_EXP_C3));
    q = _mm512_fmadd_ps(q, r, _mm512_set1_ps(MB_EXP_C2));
    *ret_n = n;
    return _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r), _mm512_set1_ps(1));
}

/* mb_exp in 16 lanes, for x <= 0 and NaN; see exp_c.c for what it does. Scaling is exact, as no
 * result is subnormal, and keeps NaN. */
static inline __m512 mb_exp_negative_avx512(__m512 x)
{
    __m512 n, p = mb_exp_fraction(x, &n);
    __mmask16 not_small = _mm512_cmp_ps_mask(x, _mm512_set1_ps(MB_EXP_MIN), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(not_small, p, n);
}

/* The same for all x. */
static inline __m512 mb_exp_avx512(__m512 x)
{
    __mmask16 large = _mm512_cmp_ps_mask(x, _mm512_set1_ps(MB_EXP_MAX), _CMP_GT_OQ);
    __m512 y = mb_exp_negative_avx512(x);
    return _mm512_mask_mov_ps(y, large, _mm512_set1_ps(INFINITY));
}

#endif
