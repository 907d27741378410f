#include <immintrin.h>

#include "core/kernels/variants.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx512.h"

/* A block is 4 rows by 4 tokens: 16 sums of 16 lanes. */
enum { ROWS = 4, TOKENS = 4 };

enum element { F32, F16, BF16 };

/* Elements i.. of a row, the live lanes of them. */
MB_INLINE __m512 load(const void *w, size_t i, __mmask16 live, const enum element e)
{
    if (e == F32) {
        return _mm512_maskz_loadu_ps(live, (const float *) w + i);
    }
    __m256i h = _mm256_maskz_loadu_epi16(live, (const uint16_t *) w + i);
    if (e == F16) {
        return _mm512_cvtph_ps(h);
    }
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}

MB_INLINE const void *at(const void *w, size_t i, const enum element e)
{
    return (const char *) w + i * (e == F32 ? sizeof(float) : sizeof(uint16_t));
}

/* sum += w x for 16 columns; a lane that is not live keeps even the sign of its zero. */
MB_INLINE void step(__m512 sum[ROWS][TOKENS], const void *w, const float *x, size_t n, size_t j,
                    __mmask16 live, const size_t rows, const size_t tokens,
                    const enum element e)
{
    __m512 xs[TOKENS];
    for (size_t t = 0; t < tokens; t++) {
        xs[t] = _mm512_maskz_loadu_ps(live, x + t * n + j);
    }
    for (size_t r = 0; r < rows; r++) {
        __m512 ws = load(at(w, r * n, e), j, live, e);
        for (size_t t = 0; t < tokens; t++) {
            sum[r][t] = _mm512_mask3_fmadd_ps(ws, xs[t], sum[r][t], live);
        }
    }
}

MB_INLINE void block(float *y, size_t ldy, const void *w, const float *x, size_t n,
                     const size_t rows, const size_t tokens, const enum element e)
{
    __m512 sum[ROWS][TOKENS];
    for (size_t r = 0; r < rows; r++) {
        for (size_t t = 0; t < tokens; t++) {
            sum[r][t] = _mm512_setzero_ps();
        }
    }
    size_t j = 0;
    for (; n - j >= 16; j += 16) {
        step(sum, w, x, n, j, 0xffff, rows, tokens, e);
    }
    if (j < n) {
        step(sum, w, x, n, j, mb_lanes_first(n - j), rows, tokens, e);
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t t = 0; t < tokens; t++) {
            y[t * ldy + r] = mb_lanes_tree(sum[r][t]);
        }
    }
}

MB_INLINE void rows_of(float *y, size_t ldy, const void *w, const float *x, size_t n,
                       size_t n_tokens, const size_t rows, const enum element e)
{
    size_t t = 0;
    for (; n_tokens - t >= TOKENS; t += TOKENS) {
        block(y + t * ldy, ldy, w, x + t * n, n, rows, TOKENS, e);
    }
    for (; t < n_tokens; t++) {
        block(y + t * ldy, ldy, w, x + t * n, n, rows, 1, e);
    }
}

MB_INLINE void dense(float *y, size_t ldy, const void *w, const float *x, size_t n,
                     size_t n_tokens, size_t row, size_t row_end, const enum element e)
{
    for (; row_end - row >= ROWS; row += ROWS) {
        rows_of(y + row, ldy, at(w, row * n, e), x, n, n_tokens, ROWS, e);
    }
    for (; row < row_end; row++) {
        rows_of(y + row, ldy, at(w, row * n, e), x, n, n_tokens, 1, e);
    }
}

void mb_dense_f32_avx512(float *y, size_t ldy, const void *w, const float *x, size_t n,
                         size_t n_tokens, size_t row, size_t row_end)
{
    dense(y, ldy, w, x, n, n_tokens, row, row_end, F32);
}

void mb_dense_f16_avx512(float *y, size_t ldy, const void *w, const float *x, size_t n,
                         size_t n_tokens, size_t row, size_t row_end)
{
    dense(y, ldy, w, x, n, n_tokens, row, row_end, F16);
}

void mb_dense_bf16_avx512(float *y, size_t ldy, const void *w, const float *x, size_t n,
                          size_t n_tokens, size_t row, size_t row_end)
{
    dense(y, ldy, w, x, n, n_tokens, row, row_end, BF16);
}
