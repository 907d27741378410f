#include <immintrin.h>

#include "core/kernels/variants.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/rows_avx2.h"

/* Tokens that share a tile's weights while these are in the nearest cache. */
enum { TOKENS = 8, HALF = 8, WORDS_MAX = 31 };

/* Bits of each byte, by looking up its two halves. */
static inline __m256i popcount_bytes(__m256i x)
{
    const __m256i table = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i low = _mm256_and_si256(x, nibble);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, low), _mm256_shuffle_epi8(table, high));
}

/* sum_p 2^p * popcount(B xor plane_p) of 8 rows, over at most WORDS_MAX words: a byte of a
 * plane counts up to 8 a word, and may not pass 255. */
static inline __m256i differ_short(const uint32_t *bits, const uint32_t *planes, size_t n_words,
                                   size_t n_planes)
{
    __m256i all = _mm256_setzero_si256();
    for (size_t p = n_planes; p-- > 0;) {
        __m256i sum = _mm256_setzero_si256();
        for (size_t w = 0; w < n_words; w++) {
            __m256i b = _mm256_load_si256((const void *) (bits + w * MB_TILE_ROWS));
            __m256i plane = _mm256_set1_epi32((int) planes[w * MB_PLANES_MAX + p]);
            sum = _mm256_add_epi8(sum, popcount_bytes(_mm256_xor_si256(b, plane)));
        }
        sum = _mm256_madd_epi16(_mm256_maddubs_epi16(sum, _mm256_set1_epi8(1)),
                                _mm256_set1_epi16(1));
        all = _mm256_add_epi32(_mm256_add_epi32(all, all), sum);
    }
    return all;
}

static inline __m256i differ(const uint32_t *bits, const uint32_t *planes, size_t n_words,
                             size_t n_planes)
{
    __m256i all = _mm256_setzero_si256();
    size_t n;
    for (size_t w = 0; w < n_words; w += n) {
        n = n_words - w < WORDS_MAX ? n_words - w : WORDS_MAX;
        all = _mm256_add_epi32(all, differ_short(bits + w * MB_TILE_ROWS,
                                                 planes + w * MB_PLANES_MAX, n, n_planes));
    }
    return all;
}

/* Adds one group of 8 rows (half 0 or 1 of a tile) to y[t] for up to TOKENS tokens. */
static void group_rows(__m256 *y, const struct mb_bool_matrix *w, const struct mb_codes *x,
                       size_t n_tokens, size_t n_planes, size_t tile, size_t g, size_t half)
{
    const struct mb_bool_shape *s = &w->shape;
    size_t n_words = mb_bool_group_words(s, g);
    size_t first_word = g * (s->group / MB_WORD_COLS);
    __m256i size = _mm256_set1_epi32(((1 << n_planes) - 1) * (int) mb_bool_group_cols(s, g));
    const uint32_t *bits = w->bits + mb_bool_bits_at(s, tile, g) + half * HALF;
    const uint8_t *coef = w->coef + mb_bool_coef_at(s, tile, g) + half * HALF;
    const uint16_t *scale = w->scale + mb_bool_scale_at(s, tile, g) + half * HALF;
    for (size_t t = 0; t < n_tokens; t++) {
        const uint32_t *planes = (const uint32_t *) x[t].tables + first_word * MB_PLANES_MAX;
        __m256i sum = _mm256_setzero_si256();
        for (size_t k = 0; k < s->n_kernels; k++) {
            __m256i d = differ(bits + k * n_words * MB_TILE_ROWS, planes, n_words, n_planes);
            d = _mm256_sub_epi32(size, _mm256_add_epi32(d, d));
            __m256i c = mb_rows_coef(coef + k * MB_TILE_ROWS);
            sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(c, d));
        }
        y[t] = mb_rows_add(y[t], sum, scale, w->scale_all * x[t].a[g]);
    }
}

void mb_bool_popcount_avx2(float *y, size_t ldy, const struct mb_bool_matrix *w,
                           const struct mb_codes *x, size_t n_tokens, size_t n_planes,
                           size_t tile, size_t tile_end, void *scratch)
{
    (void) scratch;
    for (size_t half = 2 * tile; half < 2 * tile_end; half++) {
        size_t row = half * HALF, n;
        if (row >= w->shape.n_rows) {
            break;
        }
        for (size_t t = 0; t < n_tokens; t += n) {
            __m256 rows[TOKENS];
            n = n_tokens - t < TOKENS ? n_tokens - t : TOKENS;
            for (size_t i = 0; i < n; i++) {
                rows[i] = _mm256_setzero_ps();
            }
            for (size_t g = 0; g < mb_bool_groups(&w->shape); g++) {
                group_rows(rows, w, x + t, n, n_planes, half / 2, g, half % 2);
            }
            for (size_t i = 0; i < n; i++) {
                _mm256_maskstore_ps(y + (t + i) * ldy + row,
                                    mb_half_first(w->shape.n_rows - row), rows[i]);
            }
        }
    }
}
