/* What the AVX-512 kernels share: a short tail as a mask, the fixed tree, and exp.
 * One vector is the 16 lanes of the definition.
 *
 * Threads: pure. */
#ifndef MB_CORE_KERNELS_X86_LANES_AVX512_H
#define MB_CORE_KERNELS_X86_LANES_AVX512_H

#include <immintrin.h>
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

/* mb_exp in 16 lanes; see exp_c.c for what it does. */
static inline __m512 mb_exp_avx512(__m512 x)
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
    __m512 p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), q, r);
    p = _mm512_add_ps(p, _mm512_set1_ps(1));
    __m512i y =
        _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23));

    __mmask16 small = _mm512_cmp_ps_mask(x, _mm512_set1_ps(MB_EXP_MIN), _CMP_LT_OQ);
    __mmask16 large = _mm512_cmp_ps_mask(x, _mm512_set1_ps(MB_EXP_MAX), _CMP_GT_OQ);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    y = _mm512_mask_mov_epi32(y, small, _mm512_setzero_si512());
    y = _mm512_mask_mov_epi32(y, large, _mm512_set1_epi32(0x7f800000));
    y = _mm512_mask_mov_epi32(y, nan, _mm512_castps_si512(x));
    return _mm512_castsi512_ps(y);
}

#endif
