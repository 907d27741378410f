#include <immintrin.h>
#include <string.h>

#include "core/kernels/strip.h"
#include "core/kernels/variants.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx512.h"

/* The register tile is 4 tiles by the 6 tokens of a panel: 24 sums, 4 vectors of weights and one
 * of inputs; 10 loads for 24 products, so that the one load a cycle is not what limits.
 *
 * A group of 4 tiles is expanded into bytes that stay in the first-level cache while all panels
 * of a strip pass by. Sums of rows wait from group to group in scratch, side by side: y itself has
 * a long stride, often a power of two, which would put them all into a few sets of the cache. */
enum { TILES = MB_EXPAND_TILES, QUAD = 4, VECTOR = 64, WORD_QUADS = MB_WORD_COLS / QUAD };

/* 16 sums, one a row. gcc keeps values of this type in place where it would copy an __m512i, whose
 * elements it takes for 64-bit ones, to and fro around every product. */
typedef int sums __attribute__((vector_size(VECTOR)));

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

/* How many bits are set in each 32-bit lane. Nibble by nibble: not every processor with VNNI has
 * a popcount of vectors. */
static inline __m512i ones_of(__m512i word)
{
    const __m512i ones =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i low = _mm512_and_si512(word, nibble);
    __m512i high = _mm512_and_si512(_mm512_srli_epi16(word, 4), nibble);
    __m512i bytes =
        _mm512_add_epi8(_mm512_shuffle_epi8(ones, low), _mm512_shuffle_epi8(ones, high));
    return _mm512_dpbusd_epi32(_mm512_setzero_si512(), bytes, _mm512_set1_epi8(1));
}

/* w8 = sum_k c_k B_k = -sum_k c_k + sum_k 2 c_k bit, for one tile; vectors are step bytes apart.
 * Past n_cols w8 is anything, because u is 0 there. Returns sum_j w8[j] over n_cols columns.
 * Asks for as many bits at next, a line now and a line then: lines that are asked for all at
 * once wait for each other, and hold up everything else (batch 16 lost 12 % by it). */
MB_INLINE __m512i expand_tile(int8_t *w8, size_t step, const uint32_t *bits,
                              const uint32_t *next, const uint8_t *coef, size_t n_words,
                              size_t n_cols, const size_t n_kernels)
{
    const __m512i low = _mm512_set1_epi32(0x08040201), high = _mm512_set1_epi32(-0x7fbfdff0);
    const __m512i dword =
        _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    __m512i c[MB_KERNELS_MAX], twice[MB_KERNELS_MAX], n_ones[MB_KERNELS_MAX];
    __m512i none = _mm512_setzero_si512();
    for (size_t k = 0; k < n_kernels; k++) {
        c[k] = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *) (coef + k * MB_TILE_ROWS)));
        __m512i bytes = _mm512_mullo_epi32(c[k], _mm512_set1_epi32(0x01010101));
        twice[k] = _mm512_add_epi8(bytes, bytes);
        none = _mm512_sub_epi8(none, bytes);
        n_ones[k] = _mm512_setzero_si512();
    }
    for (size_t w = 0; w < n_words; w++, bits += MB_TILE_ROWS) {
        __m512i word[MB_KERNELS_MAX];
        for (size_t k = 0; k < n_kernels; k++) {
            word[k] = _mm512_load_si512(bits + k * n_words * MB_TILE_ROWS);
            n_ones[k] = _mm512_add_epi32(n_ones[k], ones_of(word[k]));
            _mm_prefetch((const char *) (next + (w * n_kernels + k) * MB_TILE_ROWS),
                         _MM_HINT_T0);
        }
        for (int b = 0; b < 4; b++) {
            __m512i pick = _mm512_add_epi8(dword, _mm512_set1_epi8((char) b));
            __m512i even = none, odd = none;
            for (size_t k = 0; k < n_kernels; k++) {
                __m512i byte = _mm512_shuffle_epi8(word[k], pick);
                __mmask64 is_even = _mm512_test_epi8_mask(byte, low);
                __mmask64 is_odd = _mm512_test_epi8_mask(byte, high);
                even = _mm512_mask_add_epi8(even, is_even, even, twice[k]);
                odd = _mm512_mask_add_epi8(odd, is_odd, odd, twice[k]);
            }
            _mm512_store_si512(w8, even);
            _mm512_store_si512(w8 + step, odd);
            w8 += 2 * step;
        }
    }
    const __m512i cols = _mm512_set1_epi32((int) n_cols);
    __m512i sum = _mm512_setzero_si512();
    for (size_t k = 0; k < n_kernels; k++) {
        __m512i balance = _mm512_sub_epi32(_mm512_add_epi32(n_ones[k], n_ones[k]), cols);
        sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(c[k], balance));
    }
    return sum;
}

/* Constant numbers of kernels keep words and coefficients in registers. */
static __m512i expand_any(int8_t *w8, size_t step, const uint32_t *bits, const uint32_t *next,
                          const uint8_t *coef, size_t n_words, size_t n_cols, size_t n_kernels)
{
    switch (n_kernels) {
    case 1:
        return expand_tile(w8, step, bits, next, coef, n_words, n_cols, 1);
    case 2:
        return expand_tile(w8, step, bits, next, coef, n_words, n_cols, 2);
    case 3:
        return expand_tile(w8, step, bits, next, coef, n_words, n_cols, 3);
    case 4:
        return expand_tile(w8, step, bits, next, coef, n_words, n_cols, 4);
    default:
        return expand_tile(w8, step, bits, next, coef, n_words, n_cols, n_kernels);
    }
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

static void expand(struct expanded *e, const struct mb_bool_matrix *w, size_t tile,
                   size_t n_tiles, size_t g, size_t n_planes)
{
    const struct mb_bool_shape *s = &w->shape;
    const __m512i levels = _mm512_set1_epi32((1 << n_planes) - 1);
    e->n_words = mb_bool_group_words(s, g);
    for (size_t i = 0; i < n_tiles; i++) {
        struct place at = place_of(w, tile + i, g);
        struct place next = place_next(w, tile + i, n_tiles, g);
        _mm_prefetch((const char *) next.scale, _MM_HINT_T0);
        _mm_prefetch((const char *) next.coef, _MM_HINT_T0);
        __m512i sum = expand_any(e->w8 + i * VECTOR, n_tiles * VECTOR, at.bits, next.bits,
                                 at.coef, e->n_words, mb_bool_group_cols(s, g), s->n_kernels);
        e->level_sum[i] = _mm512_mullo_epi32(levels, sum);
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
                     void *scratch, const size_t n_tiles)
{
    const struct mb_bool_shape *s = &w->shape;
    size_t n_groups = mb_bool_groups(s), at = 0; /* floats, then codes, of a token so far */
    float *waiting = scratch;
    struct expanded e = { .w8 = (int8_t *) (waiting + mb_strip_floats(n_tiles)) };
    __mmask16 real[TILES], all[TILES];
    for (size_t i = 0; i < n_tiles; i++) {
        real[i] = mb_lanes_first(s->n_rows - (tile + i) * MB_TILE_ROWS);
        all[i] = 0xffff;
    }
    for (size_t g = 0; g < n_groups; g++) {
        int is_last = g + 1 == n_groups;
        expand(&e, w, tile, n_tiles, g, n_planes);
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

void mb_bool_expand_avx512vnni(float *y, size_t ldy, const struct mb_bool_matrix *w,
                               const struct mb_codes *x, size_t n_tokens, size_t n_planes,
                               size_t tile, size_t tile_end, void *scratch)
{
    size_t n = mb_strip_tokens(n_tokens);
    for (; tile < tile_end; tile += tile_end - tile < TILES ? 1 : TILES) {
        for (size_t t = 0; t < n_tokens; t += n) {
            float *to = y + t * ldy + tile * MB_TILE_ROWS;
            size_t some = n_tokens - t < n ? n_tokens - t : n;
            if (tile_end - tile < TILES) {
                strip(to, ldy, w, x + t, some, n_planes, tile, scratch, 1);
            } else {
                strip(to, ldy, w, x + t, some, n_planes, tile, scratch, TILES);
            }
        }
    }
}
