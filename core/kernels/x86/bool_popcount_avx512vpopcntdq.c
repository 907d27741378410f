#include <immintrin.h>

#include "core/kernels/variants.h"
#include "core/kernels/walk.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx512.h"

/* Tokens that share a tile's weights while these are in the nearest cache. */
enum { TOKENS = 8 };

/* sum_p 2^p * popcount(B xor plane_p) of 16 rows over n_words words of one kernel. Each
 * plane has a sum of its own: only popcount, add and xor stand in the loop. */
MB_INLINE __m512i differ(const uint32_t *bits, const uint32_t *planes, size_t n_words,
                         const size_t n_planes)
{
    __m512i sum[MB_PLANES_MAX];
    for (size_t p = 0; p < n_planes; p++) {
        sum[p] = _mm512_setzero_si512();
    }
    for (size_t w = 0; w < n_words; w++) {
        __m512i b = _mm512_load_si512(bits + w * MB_TILE_ROWS);
        for (size_t p = 0; p < n_planes; p++) {
            __m512i plane = _mm512_set1_epi32((int) planes[w * MB_PLANES_MAX + p]);
            sum[p] = _mm512_add_epi32(sum[p], _mm512_popcnt_epi32(_mm512_xor_si512(b, plane)));
        }
    }
    __m512i all = sum[n_planes - 1];
    for (size_t p = n_planes - 1; p-- > 0;) {
        all = _mm512_add_epi32(_mm512_add_epi32(all, all), sum[p]);
    }
    return all;
}

/* y[t] = the tile's 16 rows for up to TOKENS tokens. */
MB_INLINE void tile_rows(__m512 *y, const struct mb_bool_matrix *w, const struct mb_codes *x,
                         size_t n_tokens, const size_t n_planes, size_t tile)
{
    const struct mb_bool_shape *s = &w->shape;
    const int levels = (1 << n_planes) - 1;
    for (size_t t = 0; t < n_tokens; t++) {
        y[t] = _mm512_setzero_ps();
    }
    struct mb_walk at = mb_walk_start(w, tile);
    for (size_t col = 0, g = 0; col < s->n_cols; col += s->group, g++) {
        size_t n_cols = s->n_cols - col < s->group ? s->n_cols - col : s->group;
        size_t n_words = mb_walk_words(n_cols);
        int size = levels * (int) n_cols;
        __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const void *) at.scale));
        for (size_t t = 0; t < n_tokens; t++) {
            const uint32_t *planes = (const uint32_t *) x[t].tables + col / MB_WORD_COLS * MB_PLANES_MAX;
            __m512i sum = _mm512_setzero_si512();
            for (size_t k = 0; k < s->n_kernels; k++) {
                const uint32_t *bits = at.bits + k * n_words * MB_TILE_ROWS;
                const void *coef = at.coef + k * MB_TILE_ROWS;
                __m512i d = differ(bits, planes, n_words, n_planes);
                __m512i c = _mm512_cvtepu8_epi32(_mm_loadu_si128(coef));
                d = _mm512_sub_epi32(_mm512_set1_epi32(size), _mm512_add_epi32(d, d));
                sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(c, d));
            }
            __m512 a = _mm512_mul_ps(scale, _mm512_set1_ps(w->scale_all * x[t].a[g]));
            y[t] = _mm512_fmadd_ps(a, _mm512_cvtepi32_ps(sum), y[t]);
        }
        mb_walk_next(&at, n_words, s->n_kernels);
    }
}

MB_INLINE void tiles(float *y, size_t ldy, const struct mb_bool_matrix *w,
                     const struct mb_codes *x, size_t n_tokens, const size_t n_planes,
                     size_t tile, size_t tile_end)
{
    for (; tile < tile_end; tile++) {
        size_t row = tile * MB_TILE_ROWS;
        __mmask16 real = mb_lanes_first(w->shape.n_rows - row);
        size_t n;
        for (size_t t = 0; t < n_tokens; t += n) {
            __m512 rows[TOKENS];
            n = n_tokens - t < TOKENS ? n_tokens - t : TOKENS;
            tile_rows(rows, w, x + t, n, n_planes, tile);
            for (size_t i = 0; i < n; i++) {
                _mm512_mask_storeu_ps(y + (t + i) * ldy + row, real, rows[i]);
            }
        }
    }
}

void mb_bool_popcount_avx512vpopcntdq(float *y, size_t ldy, const struct mb_bool_matrix *w,
                                      const struct mb_codes *x, size_t n_tokens,
                                      size_t n_planes, size_t tile, size_t tile_end,
                                      void *scratch)
{
    (void) scratch;
    switch (n_planes) {
    case 1:
        tiles(y, ldy, w, x, n_tokens, 1, tile, tile_end);
        break;
    case 4:
        tiles(y, ldy, w, x, n_tokens, 4, tile, tile_end);
        break;
    case 5:
        tiles(y, ldy, w, x, n_tokens, 5, tile, tile_end);
        break;
    case 6:
        tiles(y, ldy, w, x, n_tokens, 6, tile, tile_end);
        break;
    case 7:
        tiles(y, ldy, w, x, n_tokens, 7, tile, tile_end);
        break;
    default:
        tiles(y, ldy, w, x, n_tokens, 8, tile, tile_end);
        break;
    }
}
