/* The end of a Boolean product, for AVX2: 16 integers of a group onto 16 rows of y.
 *
 * Threads: pure. */
#ifndef MB_CORE_KERNELS_X86_ROWS_AVX2_H
#define MB_CORE_KERNELS_X86_ROWS_AVX2_H

#include "core/kernels/x86/lanes_avx2.h"

/* 8 rows: fma(scale * a, float(t), y). */
static inline __m256 mb_rows_add(__m256 y, __m256i t, const uint16_t *scale, float a)
{
    __m256 s = _mm256_cvtph_ps(_mm_loadu_si128((const void *) scale));
    return _mm256_fmadd_ps(_mm256_mul_ps(s, _mm256_set1_ps(a)), _mm256_cvtepi32_ps(t), y);
}

/* 8 coefficients as 32-bit integers. */
static inline __m256i mb_rows_coef(const uint8_t *coef)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *) coef));
}

#endif
