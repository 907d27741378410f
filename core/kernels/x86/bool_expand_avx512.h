/* The expanded product for AVX-512 with VNNI; how a tile is expanded is a parameter.
 *
 * The register tile is 4 tiles by the 6 tokens of a panel: 24 sums, 4 vectors of weights and one
 * of inputs; 10 loads for 24 products, so that the one load a cycle is not what limits.
 *
 * A group of 4 tiles is expanded into bytes that stay in the first-level cache while all panels
 * of a strip pass by. Sums of rows wait from group to group in scratch, side by side: y itself has
 * a long stride, often a power of two, which would put them all into a few sets of the cache.
 *
 * Threads: pure. */
#ifndef MB_CORE_KERNELS_X86_BOOL_EXPAND_AVX512_H
#define MB_CORE_KERNELS_X86_BOOL_EXPAND_AVX512_H

#include <immintrin.h>
#include <string.h>

#include "core/kernels/strip.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx512.h"

enum { TILES = MB_EXPAND_TILES, QUAD = 4, VECTOR = 64, WORD_QUADS = MB_WORD_COLS / QUAD };

/* 16 sums, one a row. gcc keeps values of this type in place where it would copy an __m512i, whose
 * elements it takes for 64-bit ones, to and fro around every product. Unsigned, because on the way to
 * T, which fits, sums may wrap. */
typedef unsigned sums __attribute__((vector_size(VECTOR)));

static inline sums add_products(sums to, __m512i u, __m512i w)
{
    return (sums) _mm512_dpbusd_epi32((__m512i) to, u, w);
}

/* One group of n_tiles tiles, expanded: [column / 4][n_tiles][16 rows][4 columns], the order in
 * which vpdpbusd adds four neighbours. */
struct expanded {
    int8_t *w8;
    size_t n_words;
    __m512 scale[TILES];
    __m512i level_sum[TILES]; /* L * sum_j w8[j] */
};

/* Where the sums of rows of a panel come from and go to: vectors at token * stride floats. */
struct rows {
    const float *from; /* NULL: from 0 */
    float *to;
    size_t stride;   /* of to; from is packed */
    __mmask16 *real; /* rows of each tile that may be written */
};

/* How many bits are set in each 32-bit lane. */
static inline __m512i ones_of(__m512i word)
{
#ifdef __AVX512VPOPCNTDQ__
    return _mm512_popcnt_epi32(word);
#else
    const __m512i ones =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i low = _mm512_and_si512(word, nibble);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(word, 4), nibble);
    __m512i bytes =
        _mm512_add_epi8(_mm512_shuffle_epi8(ones, low), _mm512_shuffle_epi8(ones, high));
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), bytes, _mm512_set1_epi8(1));
#endif
}

/* A group of a tile that is to be expanded. */
struct tile_group {
    int8_t *w8;
    size_t step; /* bytes between its vectors there */
    const uint32_t *bits, *next;
    const uint8_t *coef;
    size_t n_words, n_cols, n_kernels;
};

/* Writes w8 = sum_k c_k B_k, a vector of 16 rows by 4 columns after the other. Past n_cols w8 is
 * anything, because u is 0 there. Returns sum_j w8[j] over n_cols columns.
 * Asks for as many bits at next, a line now and a line then: lines that are asked for all at
 * once wait for each other, and hold up everything else (batch 16 lost 12 % by it). */
typedef __m512i mb_expand_tile_fn(const struct tile_group *t);

/* What is needed of the coefficients of n_kernels kernels, and the bits set so far. */
struct kernels_of_tile {
    __m512i c[MB_KERNELS_MAX];     /* in 32-bit lanes */
    __m512i twice[MB_KERNELS_MAX]; /* 2 c, in each byte */
    __m512i none;                  /* w8 where no bit is set: -sum_k c_k, in each byte */
    __m512i n_ones[MB_KERNELS_MAX];
};

MB_INLINE void load_kernels(struct kernels_of_tile *ret, const uint8_t *coef,
                            const size_t n_kernels)
{
    ret->none = _mm512_setzero_si512();
    for (size_t k = 0; k < n_kernels; k++) {
        const void *c = coef + k * MB_TILE_ROWS;
        ret->c[k] = _mm512_cvtepu8_epi32(_mm_loadu_si128(c));
        __m512i bytes = _mm512_mullo_epi32(ret->c[k], _mm512_set1_epi32(0x01010101));
        ret->twice[k] = _mm512_add_epi8(bytes, bytes);
        ret->none = _mm512_sub_epi8(ret->none, bytes);
        ret->n_ones[k] = _mm512_setzero_si512();
    }
}

/* Word w of all kernels. */
MB_INLINE void load_words(__m512i word[], struct kernels_of_tile *c, const struct tile_group *t,
                          size_t w, const size_t n_kernels)
{
    for (size_t k = 0; k < n_kernels; k++) {
        word[k] = _mm512_load_si512(t->bits + (k * t->n_words + w) * MB_TILE_ROWS);
        c->n_ones[k] = _mm512_add_epi32(c->n_ones[k], ones_of(word[k]));
        const uint32_t *next = t->next + (w * n_kernels + k) * MB_TILE_ROWS;
        _mm_prefetch((const char *) next, _MM_HINT_T0);
    }
}

/* sum_k c_k (2 bits set - n_cols), after the last word. */
MB_INLINE __m512i sum_weights(const struct kernels_of_tile *c, size_t n_cols,
                              const size_t n_kernels)
{
    const __m512i cols = _mm512_set1_epi32((int) n_cols);
    __m512i sum = _mm512_setzero_si512();
    for (size_t k = 0; k < n_kernels; k++) {
        __m512i balance = _mm512_sub_epi32(_mm512_add_epi32(c->n_ones[k], c->n_ones[k]), cols);
        sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(c->c[k], balance));
    }
    return sum;
}

/* w8 = -sum_k c_k + sum_k 2 c_k bit: a masked addition a kernel. */
MB_INLINE __m512i expand_by_masks(const struct tile_group *tile, const size_t n_kernels)
{
    const struct tile_group t = *tile; /* a copy, which what is written can not change */
    const __m512i low = _mm512_set1_epi32(0x08040201), high = _mm512_set1_epi32(-0x7fbfdff0);
    const __m512i dword =
        _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    struct kernels_of_tile c;
    int8_t *w8 = t.w8;
    load_kernels(&c, t.coef, n_kernels);
    for (size_t w = 0; w < t.n_words; w++) {
        __m512i word[MB_KERNELS_MAX];
        load_words(word, &c, &t, w, n_kernels);
        for (int b = 0; b < 4; b++, w8 += 2 * t.step) {
            __m512i pick = _mm512_add_epi8(dword, _mm512_set1_epi8((char) b));
            __m512i even = c.none, odd = c.none;
            for (size_t k = 0; k < n_kernels; k++) {
                __m512i byte = _mm512_shuffle_epi8(word[k], pick);
                __mmask64 is_even = _mm512_test_epi8_mask(byte, low);
                __mmask64 is_odd = _mm512_test_epi8_mask(byte, high);
                even = _mm512_mask_add_epi8(even, is_even, even, c.twice[k]);
                odd = _mm512_mask_add_epi8(odd, is_odd, odd, c.twice[k]);
            }
            _mm512_store_si512(w8, even);
            _mm512_store_si512(w8 + t.step, odd);
        }
    }
    return sum_weights(&c, t.n_cols, n_kernels);
}

/* Where a tile keeps a group. */
struct place {
    const uint32_t *bits;
    const uint16_t *scale;
    const uint8_t *coef;
};

static inline struct place place_of(const struct mb_bool_matrix *w, size_t tile, size_t g)
{
    return (struct place) {
        .bits = w->bits + mb_bool_bits_at(&w->shape, tile, g),
        .scale = w->scale + mb_bool_scale_at(&w->shape, tile, g),
        .coef = w->coef + mb_bool_coef_at(&w->shape, tile, g),
    };
}

/* What will be expanded in the same place of the next call: the tile's next group, or else the
 * first group of the tile that most often comes after it. */
static inline struct place place_next(const struct mb_bool_matrix *w, size_t tile,
                                      size_t n_tiles, size_t g)
{
    if (g + 1 < mb_bool_groups(&w->shape)) {
        return place_of(w, tile, g + 1);
    }
    return place_of(w, tile + n_tiles < mb_bool_tiles(&w->shape) ? tile + n_tiles : tile, 0);
}

MB_INLINE void expand(struct expanded *e, const struct mb_bool_matrix *w, size_t tile,
                      size_t n_tiles, size_t g, size_t n_planes, mb_expand_tile_fn *expand_tile)
{
    const struct mb_bool_shape *s = &w->shape;
    const __m512i levels = _mm512_set1_epi32((1 << n_planes) - 1);
    e->n_words = mb_bool_group_words(s, g);
    for (size_t i = 0; i < n_tiles; i++) {
        struct place at = place_of(w, tile + i, g);
        struct place next = place_next(w, tile + i, n_tiles, g);
        struct tile_group t = {
            .w8 = e->w8 + i * VECTOR,
            .step = n_tiles * VECTOR,
            .bits = at.bits,
            .next = next.bits,
            .coef = at.coef,
            .n_words = e->n_words,
            .n_cols = mb_bool_group_cols(s, g),
            .n_kernels = s->n_kernels,
        };
        _mm_prefetch((const char *) next.scale, _MM_HINT_T0);
        _mm_prefetch((const char *) next.coef, _MM_HINT_T0);
        e->level_sum[i] = _mm512_mullo_epi32(levels, expand_tile(&t));
        e->scale[i] = _mm512_cvtph_ps(_mm256_loadu_si256((const void *) at.scale));
    }
}

/* y = fma(s * a, float(2 dot - L sum w8), y). */
MB_INLINE void rows_add(const struct rows *r, const struct expanded *e, const float *a,
                        float scale_all, sums dot[][TILES], const size_t n_tokens,
                        const size_t n_tiles)
{
    MB_UNROLL
    for (size_t t = 0; t < n_tokens; t++) {
        __m512 at = _mm512_mul_ps(_mm512_set1_ps(scale_all), _mm512_set1_ps(a[t]));
        MB_UNROLL
        for (size_t i = 0; i < n_tiles; i++) {
            const float *from = r->from + (t * n_tiles + i) * MB_TILE_ROWS;
            __m512i sum = _mm512_sub_epi32((__m512i) (dot[t][i] + dot[t][i]), e->level_sum[i]);
            __m512 before = r->from ? _mm512_load_ps(from) : _mm512_setzero_ps();
            __m512 after = _mm512_fmadd_ps(_mm512_mul_ps(e->scale[i], at),
                                           _mm512_cvtepi32_ps(sum), before);
            _mm512_mask_storeu_ps(r->to + t * r->stride + i * MB_TILE_ROWS, r->real[i], after);
        }
    }
}

/* One group of one panel: n_tokens by n_tiles. */
MB_INLINE void panel(const struct rows *r, const struct expanded *e, const uint8_t *codes,
                     float scale_all, const size_t n_tokens, const size_t n_tiles)
{
    sums dot[MB_PANEL_TOKENS][TILES];
    float a[MB_PANEL_TOKENS];
    memcpy(a, codes, n_tokens * sizeof *a);
    codes += n_tokens * MB_PANEL_HEAD_BYTES;
    MB_UNROLL
    for (size_t t = 0; t < n_tokens; t++) {
        MB_UNROLL
        for (size_t i = 0; i < n_tiles; i++) {
            dot[t][i] = (sums) _mm512_setzero_si512();
        }
    }
    const int8_t *w8 = e->w8;
    const int8_t *end = w8 + e->n_words * WORD_QUADS * n_tiles * VECTOR;
    for (; w8 != end; w8 += n_tiles * VECTOR, codes += n_tokens * QUAD) {
        __m512i w[TILES];
        MB_UNROLL
        for (size_t i = 0; i < n_tiles; i++) {
            w[i] = _mm512_load_si512(w8 + i * VECTOR);
        }
        MB_UNROLL
        for (size_t t = 0; t < n_tokens; t++) {
            int four;
            memcpy(&four, codes + t * QUAD, sizeof four);
            __m512i u = _mm512_set1_epi32(four);
            MB_UNROLL
            for (size_t i = 0; i < n_tiles; i++) {
                dot[t][i] = add_products(dot[t][i], u, w[i]);
            }
        }
    }
    rows_add(r, e, a, scale_all, dot, n_tokens, n_tiles);
}

/* The panel at the end of the tokens has any number of them. */
MB_INLINE void panel_of(const struct rows *r, const struct expanded *e, const uint8_t *codes,
                        float scale_all, size_t n_tokens, const size_t n_tiles)
{
    switch (n_tokens) {
    case 6:
        panel(r, e, codes, scale_all, 6, n_tiles);
        break;
    case 5:
        panel(r, e, codes, scale_all, 5, n_tiles);
        break;
    case 4:
        panel(r, e, codes, scale_all, 4, n_tiles);
        break;
    case 3:
        panel(r, e, codes, scale_all, 3, n_tiles);
        break;
    case 2:
        panel(r, e, codes, scale_all, 2, n_tiles);
        break;
    default:
        panel(r, e, codes, scale_all, 1, n_tiles);
        break;
    }
}
_Static_assert(MB_PANEL_TOKENS == 6, "the cases above");

/* n_tiles tiles for a strip of tokens: group by group, each expanded once. */
MB_INLINE void strip(float *y, size_t ldy, const struct mb_bool_matrix *w,
                     const struct mb_codes *x, size_t n_tokens, size_t n_planes, size_t tile,
                     void *scratch, mb_expand_tile_fn *expand_tile, const size_t n_tiles)
{
    const struct mb_bool_shape *s = &w->shape;
    size_t n_groups = mb_bool_groups(s), at = 0; /* bytes of a token's codes before the group */
    float *waiting = scratch;
    struct expanded e = { .w8 = (int8_t *) (waiting + mb_strip_floats(n_tiles)) };
    __mmask16 real[TILES], all[TILES];
    for (size_t i = 0; i < n_tiles; i++) {
        real[i] = mb_lanes_first(s->n_rows - (tile + i) * MB_TILE_ROWS);
        all[i] = 0xffff;
    }
    for (size_t g = 0; g < n_groups; g++) {
        int is_last = g + 1 == n_groups;
        expand(&e, w, tile, n_tiles, g, n_planes, expand_tile);
        for (size_t t = 0; t < n_tokens; t += MB_PANEL_TOKENS) {
            float *waiting_t = waiting + t * n_tiles * MB_TILE_ROWS;
            size_t left = n_tokens - t;
            size_t n = left < MB_PANEL_TOKENS ? left : MB_PANEL_TOKENS;
            struct rows r = {
                .from = g == 0 ? NULL : waiting_t,
                .to = is_last ? y + t * ldy : waiting_t,
                .stride = is_last ? ldy : n_tiles * MB_TILE_ROWS,
                .real = is_last ? real : all,
            };
            panel_of(&r, &e, x[t].panel + at * n, w->scale_all, n, n_tiles);
        }
        at += MB_PANEL_HEAD_BYTES + e.n_words * MB_WORD_COLS;
    }
}

/* bool_expand, see kernels.h. */
MB_INLINE void mb_expand_product(float *y, size_t ldy, const struct mb_bool_matrix *w,
                                 const struct mb_codes *x, size_t n_tokens, size_t n_planes,
                                 size_t tile, size_t tile_end, void *scratch,
                                 mb_expand_tile_fn *expand_tile)
{
    size_t n = mb_strip_tokens(n_tokens);
    for (; tile < tile_end; tile += tile_end - tile < TILES ? 1 : TILES) {
        for (size_t t = 0; t < n_tokens; t += n) {
            float *to = y + t * ldy + tile * MB_TILE_ROWS;
            size_t some = n_tokens - t < n ? n_tokens - t : n;
            if (tile_end - tile < TILES) {
                strip(to, ldy, w, x + t, some, n_planes, tile, scratch, expand_tile, 1);
            } else {
                strip(to, ldy, w, x + t, some, n_planes, tile, scratch, expand_tile, TILES);
            }
        }
    }
}

#endif
