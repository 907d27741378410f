#include <immintrin.h>
#include <string.h>

#include "core/kernels/variants.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/rows_avx2.h"

/* vpmaddubsw would saturate at 255 * 127 * 2, so weights are expanded to 16 bits, and vpmaddwd
 * adds two exact products. A dword of u holds 4 columns: its even bytes are columns 0 and 2, its
 * odd ones 1 and 3. Weights follow that: [column / 4][even, odd][16 rows][2] int16. */
enum { QUAD = 4, TOKENS = 4, HALF = 8, QUAD_WEIGHTS = 2 * MB_TILE_ROWS * 2 };

/* 8 rows' words to 8 rows' pairs: columns at and at+2 as two int16 of sum_k c_k B_k. */
static inline __m256i pair(const uint32_t *bits, const __m256i *twice, __m256i none,
                           size_t n_kernels, size_t k_stride, int at)
{
    const __m256i low = _mm256_set1_epi32(1), high = _mm256_set1_epi32(1 << 16);
    __m256i sum = none;
    for (size_t k = 0; k < n_kernels; k++) {
        __m256i word = _mm256_load_si256((const void *) (bits + k * k_stride));
        word = _mm256_srl_epi32(word, _mm_cvtsi32_si128(at));
        __m256i two = _mm256_or_si256(_mm256_and_si256(word, low),
                                      _mm256_and_si256(_mm256_slli_epi32(word, 14), high));
        sum = _mm256_add_epi16(sum, _mm256_mullo_epi16(two, twice[k]));
    }
    return sum;
}

/* Expands 8 rows of a group. Returns their sums over n_cols columns; beyond, u is 0. */
static __m256i expand_half(int16_t *to, const uint32_t *bits, const uint8_t *coef,
                           size_t n_kernels, size_t n_words, size_t n_cols)
{
    __m256i twice[MB_KERNELS_MAX], all = _mm256_setzero_si256(), sum = all;
    for (size_t k = 0; k < n_kernels; k++) {
        __m256i c = mb_rows_coef(coef + k * MB_TILE_ROWS);
        twice[k] = _mm256_mullo_epi32(c, _mm256_set1_epi32(0x00020002));
        all = _mm256_add_epi32(all, c);
    }
    __m256i none = _mm256_sub_epi16(_mm256_setzero_si256(),
                                    _mm256_mullo_epi32(all, _mm256_set1_epi32(0x00010001)));
    for (size_t w = 0; w < n_words; w++, bits += MB_TILE_ROWS) {
        for (int q = 0; q < MB_WORD_COLS / QUAD; q++, to += QUAD_WEIGHTS) {
            size_t stride = n_words * MB_TILE_ROWS;
            __m256i even = pair(bits, twice, none, n_kernels, stride, q * QUAD);
            __m256i odd = pair(bits, twice, none, n_kernels, stride, q * QUAD + 1);
            sum = _mm256_add_epi32(
                sum, _mm256_madd_epi16(_mm256_add_epi16(even, odd), _mm256_set1_epi16(1)));
            _mm256_store_si256((void *) to, even);
            _mm256_store_si256((void *) (to + 2 * MB_TILE_ROWS), odd);
        }
    }
    int padding = (int) (n_words * MB_WORD_COLS - n_cols); /* columns that counted as -all */
    return _mm256_add_epi32(sum, _mm256_mullo_epi32(all, _mm256_set1_epi32(padding)));
}

/* dot[t][half] = sum_j w8[j] u_t[j] for 16 rows. */
MB_INLINE void dots(__m256i dot[TOKENS][2], const int16_t *w, const uint8_t *const *u,
                    size_t n_quads, const size_t n_tokens)
{
    const __m256i bytes = _mm256_set1_epi16(0xff);
    for (size_t t = 0; t < n_tokens; t++) {
        dot[t][0] = dot[t][1] = _mm256_setzero_si256();
    }
    for (size_t q = 0; q < n_quads; q++, w += QUAD_WEIGHTS) {
        for (size_t t = 0; t < n_tokens; t++) {
            int four;
            memcpy(&four, u[t] + q * QUAD, sizeof four);
            __m256i even = _mm256_and_si256(_mm256_set1_epi32(four), bytes);
            __m256i odd = _mm256_srli_epi16(_mm256_set1_epi32(four), 8);
            for (size_t h = 0; h < 2; h++) {
                const int16_t *at = w + h * 2 * HALF;
                __m256i sum = _mm256_add_epi32(
                    _mm256_madd_epi16(even, _mm256_load_si256((const void *) at)),
                    _mm256_madd_epi16(odd, _mm256_load_si256((const void *) (at + 4 * HALF))));
                dot[t][h] = _mm256_add_epi32(dot[t][h], sum);
            }
        }
    }
}

/* What a block of tokens needs of one tile's group. */
struct expanded {
    const int16_t *weights;
    const uint16_t *scale;
    __m256i level_sum[2]; /* L * sum_j w8[j] */
    size_t n_quads, n_rows;
    int is_first; /* group: y starts at 0 */
};

MB_INLINE void block(float *y, size_t ldy, const struct expanded *e, const struct mb_codes *x,
                     size_t g, size_t col, float scale_all, const size_t n_tokens)
{
    __m256i dot[TOKENS][2];
    const uint8_t *u[TOKENS];
    for (size_t t = 0; t < n_tokens; t++) {
        u[t] = x[t].u + col;
    }
    dots(dot, e->weights, u, e->n_quads, n_tokens);
    for (size_t t = 0; t < n_tokens; t++) {
        for (size_t h = 0; h < 2 && h * HALF < e->n_rows; h++) {
            float *to = y + t * ldy + h * HALF;
            __m256i real = mb_half_first(e->n_rows - h * HALF);
            __m256 before = e->is_first ? _mm256_setzero_ps() : _mm256_maskload_ps(to, real);
            __m256i sum =
                _mm256_sub_epi32(_mm256_add_epi32(dot[t][h], dot[t][h]), e->level_sum[h]);
            __m256 after = mb_rows_add(before, sum, e->scale + h * HALF, scale_all * x[t].a[g]);
            _mm256_maskstore_ps(to, real, after);
        }
    }
}

static void tile_group(float *y, size_t ldy, const struct mb_bool_matrix *w,
                       const struct mb_codes *x, size_t n_tokens, size_t n_planes, size_t tile,
                       size_t g, int16_t *weights)
{
    const struct mb_bool_shape *s = &w->shape;
    const __m256i levels = _mm256_set1_epi32((1 << n_planes) - 1);
    size_t n_words = mb_bool_group_words(s, g);
    struct expanded e = {
        .weights = weights,
        .scale = w->scale + mb_bool_scale_at(s, tile, g),
        .n_quads = n_words * (MB_WORD_COLS / QUAD),
        .n_rows = s->n_rows - tile * MB_TILE_ROWS,
        .is_first = g == 0,
    };
    for (size_t h = 0; h < 2; h++) {
        __m256i sum = expand_half(weights + h * 2 * HALF,
                                  w->bits + mb_bool_bits_at(s, tile, g) + h * HALF,
                                  w->coef + mb_bool_coef_at(s, tile, g) + h * HALF,
                                  s->n_kernels, n_words, mb_bool_group_cols(s, g));
        e.level_sum[h] = _mm256_mullo_epi32(levels, sum);
    }
    size_t t = 0;
    for (; n_tokens - t >= TOKENS; t += TOKENS) {
        block(y + t * ldy, ldy, &e, x + t, g, g * s->group, w->scale_all, TOKENS);
    }
    for (; t < n_tokens; t++) {
        block(y + t * ldy, ldy, &e, x + t, g, g * s->group, w->scale_all, 1);
    }
}

void mb_bool_expand_avx2(float *y, size_t ldy, const struct mb_bool_matrix *w,
                         const struct mb_codes *x, size_t n_tokens, size_t n_planes,
                         size_t tile, size_t tile_end, void *scratch)
{
    for (; tile < tile_end; tile++) {
        for (size_t g = 0; g < mb_bool_groups(&w->shape); g++) {
            tile_group(y + tile * MB_TILE_ROWS, ldy, w, x, n_tokens, n_planes, tile, g,
                       scratch);
        }
    }
}
