#include <immintrin.h>
#include <string.h>

#include "core/kernels/variants.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx512.h"

/* A block is 2 tiles by 8 tokens: 16 sums, 2 vectors of weights and one of inputs are live. */
enum { TILES = 2, TOKENS = 8, QUAD = 4, VECTOR = 64 };

/* One group of up to TILES tiles, expanded. Bytes are [column / 4][16 rows][4], the order in
 * which vpdpbusd adds four neighbours. */
struct expanded {
    const int8_t *w8[TILES];
    __m512i level_sum[TILES]; /* L * sum_j w8[j] */
    __m512 scale[TILES];
    __mmask16 real[TILES];
    size_t n_quads;
    int is_first; /* group: y starts at 0 */
};

/* w8 = sum_k c_k B_k = -sum_k c_k + sum_k 2 c_k bit. Returns sum_j w8[j] over n_cols columns;
 * past them w8 is anything, because u is 0 there. */
static __m512i expand_group(int8_t *w8, const uint32_t *bits, const uint8_t *coef,
                            size_t n_kernels, size_t n_words, size_t n_cols)
{
    const __m512i ones = _mm512_set1_epi8(1);
    const __m512i low = _mm512_set1_epi32(0x08040201), high = _mm512_set1_epi32(-0x7fbfdff0);
    const __m512i dword =
        _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    __m512i twice[MB_KERNELS_MAX], all = _mm512_setzero_si512(), sum = all;
    for (size_t k = 0; k < n_kernels; k++) {
        __m512i c =
            _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *) (coef + k * MB_TILE_ROWS)));
        twice[k] = _mm512_mullo_epi32(c, _mm512_set1_epi32(0x02020202));
        all = _mm512_add_epi32(all, c);
    }
    __m512i none = _mm512_sub_epi8(_mm512_setzero_si512(),
                                   _mm512_mullo_epi32(all, _mm512_set1_epi32(0x01010101)));
    for (size_t w = 0; w < n_words; w++, w8 += 8 * VECTOR) {
        for (int b = 0; b < 4; b++) {
            __m512i pick = _mm512_add_epi8(dword, _mm512_set1_epi8((char) b));
            __m512i even = none, odd = none;
            for (size_t k = 0; k < n_kernels; k++) {
                __m512i word = _mm512_load_si512(bits + (k * n_words + w) * MB_TILE_ROWS);
                __m512i byte = _mm512_shuffle_epi8(word, pick);
                even = _mm512_mask_add_epi8(even, _mm512_test_epi8_mask(byte, low), even,
                                            twice[k]);
                odd =
                    _mm512_mask_add_epi8(odd, _mm512_test_epi8_mask(byte, high), odd, twice[k]);
            }
            sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, ones, even), ones, odd);
            _mm512_store_si512(w8 + 2 * b * VECTOR, even);
            _mm512_store_si512(w8 + (2 * b + 1) * VECTOR, odd);
        }
    }
    int padding = (int) (n_words * MB_WORD_COLS - n_cols); /* columns that counted as -all */
    return _mm512_add_epi32(sum, _mm512_mullo_epi32(all, _mm512_set1_epi32(padding)));
}

/* y = fma(s * a, float(2 dot - L sum w8), y) for a block of tokens. */
MB_INLINE void block(float *y, size_t ldy, const struct expanded *e, const struct mb_codes *x,
                     size_t g, size_t col, float scale_all, const size_t n_tokens,
                     const size_t n_tiles)
{
    __m512i dot[TOKENS][TILES];
    const uint8_t *u[TOKENS];
    for (size_t t = 0; t < n_tokens; t++) {
        u[t] = x[t].u + col;
        for (size_t i = 0; i < n_tiles; i++) {
            dot[t][i] = _mm512_setzero_si512();
        }
    }
    for (size_t q = 0; q < e->n_quads; q++) {
        __m512i w[TILES];
        for (size_t i = 0; i < n_tiles; i++) {
            w[i] = _mm512_load_si512(e->w8[i] + q * VECTOR);
        }
        for (size_t t = 0; t < n_tokens; t++) {
            int four;
            memcpy(&four, u[t] + q * QUAD, sizeof four);
            for (size_t i = 0; i < n_tiles; i++) {
                dot[t][i] = _mm512_dpbusd_epi32(dot[t][i], _mm512_set1_epi32(four), w[i]);
            }
        }
    }
    for (size_t t = 0; t < n_tokens; t++) {
        __m512 a = _mm512_set1_ps(scale_all * x[t].a[g]);
        for (size_t i = 0; i < n_tiles; i++) {
            float *to = y + t * ldy + i * MB_TILE_ROWS;
            __m512i sum =
                _mm512_sub_epi32(_mm512_add_epi32(dot[t][i], dot[t][i]), e->level_sum[i]);
            __m512 before =
                e->is_first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(e->real[i], to);
            __m512 after =
                _mm512_fmadd_ps(_mm512_mul_ps(e->scale[i], a), _mm512_cvtepi32_ps(sum), before);
            _mm512_mask_storeu_ps(to, e->real[i], after);
        }
    }
}

/* All tokens through one expanded group. */
MB_INLINE void tokens(float *y, size_t ldy, const struct expanded *e, const struct mb_codes *x,
                      size_t n_tokens, size_t g, size_t col, float scale_all,
                      const size_t n_tiles)
{
    size_t t = 0;
    for (; n_tokens - t >= 8; t += 8) {
        block(y + t * ldy, ldy, e, x + t, g, col, scale_all, 8, n_tiles);
    }
    if (n_tokens - t >= 4) {
        block(y + t * ldy, ldy, e, x + t, g, col, scale_all, 4, n_tiles);
        t += 4;
    }
    if (n_tokens - t >= 2) {
        block(y + t * ldy, ldy, e, x + t, g, col, scale_all, 2, n_tiles);
        t += 2;
    }
    if (n_tokens - t >= 1) {
        block(y + t * ldy, ldy, e, x + t, g, col, scale_all, 1, n_tiles);
    }
}

void mb_bool_expand_avx512vnni(float *y, size_t ldy, const struct mb_bool_matrix *w,
                               const struct mb_codes *x, size_t n_tokens, size_t n_planes,
                               size_t tile, size_t tile_end, void *scratch)
{
    const struct mb_bool_shape *s = &w->shape;
    const __m512i levels = _mm512_set1_epi32((1 << n_planes) - 1);
    for (; tile < tile_end; tile += TILES) {
        size_t n_tiles = tile_end - tile < TILES ? 1 : TILES;
        float *to = y + tile * MB_TILE_ROWS;
        for (size_t g = 0; g < mb_bool_groups(s); g++) {
            size_t n_words = mb_bool_group_words(s, g);
            struct expanded e = { .n_quads = n_words * (MB_WORD_COLS / QUAD),
                                  .is_first = g == 0 };
            for (size_t i = 0; i < n_tiles; i++) {
                int8_t *w8 = (int8_t *) scratch + i * n_words * MB_WORD_COLS * MB_TILE_ROWS;
                __m512i sum = expand_group(w8, w->bits + mb_bool_bits_at(s, tile + i, g),
                                           w->coef + mb_bool_coef_at(s, tile + i, g),
                                           s->n_kernels, n_words, mb_bool_group_cols(s, g));
                const uint16_t *scale = w->scale + mb_bool_scale_at(s, tile + i, g);
                e.w8[i] = w8;
                e.level_sum[i] = _mm512_mullo_epi32(levels, sum);
                e.scale[i] = _mm512_cvtph_ps(_mm256_loadu_si256((const void *) scale));
                e.real[i] = mb_lanes_first(s->n_rows - (tile + i) * MB_TILE_ROWS);
            }
            if (n_tiles == TILES) {
                tokens(to, ldy, &e, x, n_tokens, g, g * s->group, w->scale_all, TILES);
            } else {
                tokens(to, ldy, &e, x, n_tokens, g, g * s->group, w->scale_all, 1);
            }
        }
    }
}
