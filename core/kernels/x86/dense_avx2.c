#include <immintrin.h>
#include <string.h>

#include "core/kernels/variants.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx2.h"

/* A block is 3 rows by 2 tokens of two vectors each: 12 sums, so that the 16 registers hold
 * one vector of weights and two of inputs beside them. */
enum { ROWS = 3, TOKENS = 2, LANES = 16 };

enum element { F32, F16, BF16 };

/* 8 elements from i on. */
MB_INLINE __m256 load(const void *w, size_t i, const enum element e)
{
    if (e == F32) {
        return _mm256_loadu_ps((const float *) w + i);
    }
    __m128i h = _mm_loadu_si128((const void *) ((const uint16_t *) w + i));
    if (e == F16) {
        return _mm256_cvtph_ps(h);
    }
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

MB_INLINE size_t size_of(const enum element e)
{
    return e == F32 ? sizeof(float) : sizeof(uint16_t);
}

MB_INLINE const void *at(const void *w, size_t i, const enum element e)
{
    return (const char *) w + i * size_of(e);
}

/* sum += w x for the last left < 16 columns; other lanes keep even the sign of their zero. */
MB_INLINE void tail(__m256 sum[2], const void *w, const float *x, size_t left,
                    const enum element e)
{
    float ws[LANES] = { 0 }, xs[LANES] = { 0 };
    memcpy(ws, w, left * size_of(e));
    memcpy(xs, x, left * sizeof *x);
    for (size_t h = 0; h < 2; h++) {
        __m256 live = _mm256_castsi256_ps(mb_half_first(left < 8 * h ? 0 : left - 8 * h));
        __m256 more = _mm256_fmadd_ps(load(ws, 8 * h, e), _mm256_loadu_ps(xs + 8 * h), sum[h]);
        sum[h] = _mm256_blendv_ps(sum[h], more, live);
    }
}

MB_INLINE void block(float *y, size_t ldy, const void *w, const float *x, size_t n,
                     const size_t rows, const size_t tokens, const enum element e)
{
    __m256 sum[ROWS][TOKENS][2];
    for (size_t r = 0; r < rows; r++) {
        for (size_t t = 0; t < tokens; t++) {
            sum[r][t][0] = sum[r][t][1] = _mm256_setzero_ps();
        }
    }
    size_t j = 0;
    for (; n - j >= LANES; j += LANES) {
        for (size_t h = 0; h < 2; h++) {
            __m256 xs[TOKENS];
            for (size_t t = 0; t < tokens; t++) {
                xs[t] = _mm256_loadu_ps(x + t * n + j + 8 * h);
            }
            for (size_t r = 0; r < rows; r++) {
                __m256 ws = load(at(w, r * n, e), j + 8 * h, e);
                for (size_t t = 0; t < tokens; t++) {
                    sum[r][t][h] = _mm256_fmadd_ps(ws, xs[t], sum[r][t][h]);
                }
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t t = 0; t < tokens; t++) {
            if (j < n) {
                tail(sum[r][t], at(w, r * n + j, e), x + t * n + j, n - j, e);
            }
            y[t * ldy + r] = mb_halves_tree(sum[r][t][0], sum[r][t][1]);
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
    if (t < n_tokens) {
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

void mb_dense_f32_avx2(float *y, size_t ldy, const void *w, const float *x, size_t n,
                       size_t n_tokens, size_t row, size_t row_end)
{
    dense(y, ldy, w, x, n, n_tokens, row, row_end, F32);
}

void mb_dense_f16_avx2(float *y, size_t ldy, const void *w, const float *x, size_t n,
                       size_t n_tokens, size_t row, size_t row_end)
{
    dense(y, ldy, w, x, n, n_tokens, row, row_end, F16);
}

void mb_dense_bf16_avx2(float *y, size_t ldy, const void *w, const float *x, size_t n,
                        size_t n_tokens, size_t row, size_t row_end)
{
    dense(y, ldy, w, x, n, n_tokens, row, row_end, BF16);
}
