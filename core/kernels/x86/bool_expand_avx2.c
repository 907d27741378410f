#include <immintrin.h>
#include <string.h>

#include "core/kernels/strip.h"
#include "core/kernels/variants.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/rows_avx2.h"

/* vpmaddubsw multiplies unsigned by signed bytes and adds two neighbours in 16 bits, where u in
 * [0, 255] times w8 in [-127, 127] would saturate. So the two change roles: with
 *
 *     b[j] = sum_k c_k bit_k in [0, C],  C = sum_k c_k <= 127,   w8 = 2b - C
 *     v[j] = u[j] - 128 in [-128, 127]
 *
 * two products add up to 2 * 127 * 128 at most, which fits, and
 *
 *     T = sum_j w8 (2u - L) = 4 sum_j b v + 2 (256 - L) sum_j b - C (2 sum_j u - L n)
 *
 * where the last sum is over the n real columns; b is 0 in all others. For K = 1, b is the bit and c
 * waits until the end: then 127 pairs fit into 16 bits, and the widening is saved. Integers
 * wrap modulo 2^32 on the way, and T fits. */
enum {
    TILES = MB_EXPAND_TILES,
    QUAD = 4,
    HALF = 8, /* rows of a vector */
    VECTOR = 32,
    WORD_QUADS = MB_WORD_COLS / QUAD,
    BLOCK_TOKENS =
        2, /* by 4 halves: 8 sums, and the other half of the registers for the rest */
    BLOCK_HALVES = 4,
    NARROW_QUADS = 127, /* pairs of |v| <= 128 that 16 bits can add up */
};

/* 8 sums, one a row; see bool_expand_avx512vnni.c for why it is not an __m256i. */
typedef unsigned sums __attribute__((vector_size(VECTOR)));
typedef unsigned short narrow_sums __attribute__((vector_size(VECTOR)));

/* One group of n_tiles tiles: b as [column / 4][2 n_tiles halves][8 rows][4 columns]. */
struct expanded {
    uint8_t *b;
    size_t n_words;
    __m256 scale[2 * TILES];
    __m256i factor[2 * TILES]; /* of sum b v */
    __m256i base[2 * TILES];   /* 2 (256 - L) sum b */
    __m256i all[2 * TILES];    /* C */
};

/* Where the sums of rows come from and go to: at token * stride floats. */
struct rows {
    const float *from; /* NULL: from 0 */
    float *to;
    size_t from_stride, to_stride;
    size_t n_rows; /* from to[0] on that may be written */
};

/* Adds the number of bits set in each 32-bit lane. */
static inline __m256i ones_add(__m256i sum, __m256i word)
{
    const __m256i ones = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1,
                                          1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i low = _mm256_and_si256(word, nibble);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(word, 4), nibble);
    __m256i bytes =
        _mm256_add_epi8(_mm256_shuffle_epi8(ones, low), _mm256_shuffle_epi8(ones, high));
    __m256i pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* Expands 8 rows of a group; vectors are step bytes apart. Returns sum_j b[j], times c if K = 1. */
MB_INLINE __m256i expand_half(uint8_t *b, size_t step, const uint32_t *bits,
                              const uint8_t *coef, size_t n_words, const size_t n_kernels)
{
    const __m256i low = _mm256_set1_epi32(0x08040201), high = _mm256_set1_epi32(-0x7fbfdff0);
    const __m256i dword =
        _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
    __m256i c[MB_KERNELS_MAX], bytes[MB_KERNELS_MAX], n_ones[MB_KERNELS_MAX];
    for (size_t k = 0; k < n_kernels; k++) {
        c[k] = mb_rows_coef(coef + k * MB_TILE_ROWS);
        bytes[k] = n_kernels == 1 ? _mm256_set1_epi8(1)
                                  : _mm256_mullo_epi32(c[k], _mm256_set1_epi32(0x01010101));
        n_ones[k] = _mm256_setzero_si256();
    }
    for (size_t w = 0; w < n_words; w++, bits += MB_TILE_ROWS) {
        __m256i word[MB_KERNELS_MAX];
        for (size_t k = 0; k < n_kernels; k++) {
            word[k] = _mm256_load_si256((const void *) (bits + k * n_words * MB_TILE_ROWS));
            n_ones[k] = ones_add(n_ones[k], word[k]);
        }
        for (int at = 0; at < 4; at++, b += 2 * step) {
            __m256i pick = _mm256_add_epi8(dword, _mm256_set1_epi8((char) at));
            __m256i even = _mm256_setzero_si256(), odd = even;
            for (size_t k = 0; k < n_kernels; k++) {
                __m256i byte = _mm256_shuffle_epi8(word[k], pick);
                __m256i is_even = _mm256_cmpeq_epi8(_mm256_and_si256(byte, low), low);
                __m256i is_odd = _mm256_cmpeq_epi8(_mm256_and_si256(byte, high), high);
                even = _mm256_add_epi8(even, _mm256_and_si256(is_even, bytes[k]));
                odd = _mm256_add_epi8(odd, _mm256_and_si256(is_odd, bytes[k]));
            }
            _mm256_store_si256((void *) b, even);
            _mm256_store_si256((void *) (b + step), odd);
        }
    }
    __m256i sum = _mm256_setzero_si256();
    for (size_t k = 0; k < n_kernels; k++) {
        sum = _mm256_add_epi32(sum, _mm256_mullo_epi32(c[k], n_ones[k]));
    }
    return sum;
}

/* Constant numbers of kernels keep words and coefficients in registers. */
static __m256i expand_any(uint8_t *b, size_t step, const uint32_t *bits, const uint8_t *coef,
                          size_t n_words, size_t n_kernels)
{
    switch (n_kernels) {
    case 1:
        return expand_half(b, step, bits, coef, n_words, 1);
    case 2:
        return expand_half(b, step, bits, coef, n_words, 2);
    case 3:
        return expand_half(b, step, bits, coef, n_words, 3);
    default:
        return expand_half(b, step, bits, coef, n_words, n_kernels);
    }
}

static void expand(struct expanded *e, const struct mb_bool_matrix *w, size_t tile,
                   size_t n_tiles, size_t g, size_t n_planes)
{
    const struct mb_bool_shape *s = &w->shape;
    int levels = (1 << n_planes) - 1;
    e->n_words = mb_bool_group_words(s, g);
    for (size_t h = 0; h < 2 * n_tiles; h++) {
        size_t t = tile + h / 2, row = h % 2 * HALF;
        const uint8_t *coef = w->coef + mb_bool_coef_at(s, t, g) + row;
        __m256i sum = expand_any(e->b + h * VECTOR, 2 * n_tiles * VECTOR,
                                 w->bits + mb_bool_bits_at(s, t, g) + row, coef, e->n_words,
                                 s->n_kernels);
        e->base[h] = _mm256_mullo_epi32(sum, _mm256_set1_epi32(2 * (256 - levels)));
        e->all[h] = _mm256_setzero_si256();
        for (size_t k = 0; k < s->n_kernels; k++) {
            e->all[h] = _mm256_add_epi32(e->all[h], mb_rows_coef(coef + k * MB_TILE_ROWS));
        }
        e->factor[h] = _mm256_set1_epi32(4);
        if (s->n_kernels == 1) {
            e->factor[h] = _mm256_slli_epi32(e->all[h], 2);
        }
        e->scale[h] = _mm256_cvtph_ps(
            _mm_loadu_si128((const void *) (w->scale + mb_bool_scale_at(s, t, g) + row)));
    }
}

/* What a block of tokens reads of a panel's group. */
struct block_codes {
    const uint8_t *u; /* of the first token */
    size_t step;      /* bytes from quad to quad */
    const float *a;
    int32_t balance[BLOCK_TOKENS]; /* 2 sum_j u - L n */
};

/* Loads v of four columns of a token, for all rows. */
static inline __m256i load_v(const uint8_t *u)
{
    int four;
    memcpy(&four, u, sizeof four);
    return _mm256_xor_si256(_mm256_set1_epi32(four), _mm256_set1_epi8(-128));
}

/* dot += sum b v, each quad widened to 32 bits at once. */
MB_INLINE void dots_wide(sums dot[][BLOCK_HALVES], const uint8_t *b, size_t b_step,
                         const struct block_codes *c, size_t n_quads, const size_t n_tokens,
                         const size_t n_halves)
{
    const uint8_t *u = c->u;
    for (size_t q = 0; q < n_quads; q++, b += b_step, u += c->step) {
        __m256i v[BLOCK_TOKENS];
        MB_UNROLL
        for (size_t t = 0; t < n_tokens; t++) {
            v[t] = load_v(u + t * QUAD);
        }
        MB_UNROLL
        for (size_t h = 0; h < n_halves; h++) {
            __m256i weights = _mm256_load_si256((const void *) (b + h * VECTOR));
            MB_UNROLL
            for (size_t t = 0; t < n_tokens; t++) {
                __m256i pairs = _mm256_maddubs_epi16(weights, v[t]);
                dot[t][h] += (sums) _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
            }
        }
    }
}

/* dot += sum b v for at most NARROW_QUADS quads of bits, widened at the end. */
MB_INLINE void dots_narrow(sums dot[][BLOCK_HALVES], const uint8_t *b, size_t b_step,
                           const struct block_codes *c, size_t first, size_t n_quads,
                           const size_t n_tokens, const size_t n_halves)
{
    const uint8_t *u = c->u + first * c->step;
    narrow_sums sum[BLOCK_TOKENS][BLOCK_HALVES];
    MB_UNROLL
    for (size_t t = 0; t < n_tokens; t++) {
        MB_UNROLL
        for (size_t h = 0; h < n_halves; h++) {
            sum[t][h] = (narrow_sums) _mm256_setzero_si256();
        }
    }
    b += first * b_step;
    for (size_t q = 0; q < n_quads; q++, b += b_step, u += c->step) {
        __m256i v[BLOCK_TOKENS];
        MB_UNROLL
        for (size_t t = 0; t < n_tokens; t++) {
            v[t] = load_v(u + t * QUAD);
        }
        MB_UNROLL
        for (size_t h = 0; h < n_halves; h++) {
            __m256i weights = _mm256_load_si256((const void *) (b + h * VECTOR));
            MB_UNROLL
            for (size_t t = 0; t < n_tokens; t++) {
                sum[t][h] += (narrow_sums) _mm256_maddubs_epi16(weights, v[t]);
            }
        }
    }
    MB_UNROLL
    for (size_t t = 0; t < n_tokens; t++) {
        MB_UNROLL
        for (size_t h = 0; h < n_halves; h++) {
            dot[t][h] += (sums) _mm256_madd_epi16((__m256i) sum[t][h], _mm256_set1_epi16(1));
        }
    }
}

/* Rows from row on of n_rows. A masked store takes a dozen times as long as a plain one on some
 * processors, so only what is not whole is masked. */
static inline void put(float *to, __m256 y, size_t n_rows, size_t row)
{
    if (row + HALF <= n_rows) {
        _mm256_storeu_ps(to, y);
    } else if (row < n_rows) {
        _mm256_maskstore_ps(to, mb_half_first(n_rows - row), y);
    }
}

/* y = fma(s * a, float(T), y) for halves [half, half + n_halves) of the tiles. */
MB_INLINE void block(const struct rows *r, const struct expanded *e,
                     const struct block_codes *c, size_t n_kernels, size_t half, size_t b_step,
                     const size_t n_tokens, const size_t n_halves)
{
    sums dot[BLOCK_TOKENS][BLOCK_HALVES];
    MB_UNROLL
    for (size_t t = 0; t < n_tokens; t++) {
        MB_UNROLL
        for (size_t h = 0; h < n_halves; h++) {
            dot[t][h] = (sums) _mm256_setzero_si256();
        }
    }
    const uint8_t *b = e->b + half * VECTOR;
    size_t n_quads = e->n_words * WORD_QUADS;
    if (n_kernels == 1) {
        for (size_t q = 0; q < n_quads; q += NARROW_QUADS) {
            size_t some = n_quads - q < NARROW_QUADS ? n_quads - q : NARROW_QUADS;
            dots_narrow(dot, b, b_step, c, q, some, n_tokens, n_halves);
        }
    } else {
        dots_wide(dot, b, b_step, c, n_quads, n_tokens, n_halves);
    }
    MB_UNROLL
    for (size_t t = 0; t < n_tokens; t++) {
        __m256i balance = _mm256_set1_epi32(c->balance[t]);
        MB_UNROLL
        for (size_t h = 0; h < n_halves; h++) {
            size_t at = half + h;
            const float *from = r->from ? r->from + t * r->from_stride + at * HALF : NULL;
            __m256i sum = _mm256_mullo_epi32((__m256i) dot[t][h], e->factor[at]);
            sum = _mm256_add_epi32(sum, e->base[at]);
            sum = _mm256_sub_epi32(sum, _mm256_mullo_epi32(e->all[at], balance));
            __m256 before = from ? _mm256_loadu_ps(from) : _mm256_setzero_ps();
            __m256 sa = _mm256_mul_ps(e->scale[at], _mm256_set1_ps(c->a[t]));
            __m256 after = _mm256_fmadd_ps(sa, _mm256_cvtepi32_ps(sum), before);
            put(r->to + t * r->to_stride + at * HALF, after, r->n_rows, at * HALF);
        }
    }
}

/* All tiles for one or two tokens. */
MB_INLINE void blocks(const struct rows *r, const struct expanded *e,
                      const struct block_codes *c, size_t n_kernels, const size_t n_tokens,
                      const size_t n_tiles)
{
    const size_t n_halves = n_tiles == 1 ? 2 : BLOCK_HALVES;
    for (size_t half = 0; half < 2 * n_tiles; half += n_halves) {
        block(r, e, c, n_kernels, half, 2 * n_tiles * VECTOR, n_tokens, n_halves);
    }
}

/* One group of one panel: codes are those of the panel's n_tokens. */
MB_INLINE void panel(struct rows r, const struct expanded *e, const uint8_t *codes,
                     float scale_all, size_t n_tokens, size_t n_kernels, int levels_cols,
                     const size_t n_tiles)
{
    float a[MB_PANEL_TOKENS];
    int32_t sum[MB_PANEL_TOKENS];
    memcpy(a, codes, n_tokens * sizeof *a);
    memcpy(sum, codes + n_tokens * sizeof *a, n_tokens * sizeof *sum);
    codes += n_tokens * MB_PANEL_HEAD_BYTES;
    for (size_t t = 0; t < n_tokens; t++) {
        a[t] *= scale_all;
    }
    for (size_t t = 0; t < n_tokens;) {
        struct block_codes c = { .u = codes + t * QUAD, .step = n_tokens * QUAD, .a = a + t };
        size_t n = n_tokens - t < BLOCK_TOKENS ? 1 : BLOCK_TOKENS;
        for (size_t i = 0; i < n; i++) {
            c.balance[i] = 2 * sum[t + i] - levels_cols;
        }
        if (n == BLOCK_TOKENS) {
            blocks(&r, e, &c, n_kernels, BLOCK_TOKENS, n_tiles);
        } else {
            blocks(&r, e, &c, n_kernels, 1, n_tiles);
        }
        r.from = r.from ? r.from + n * r.from_stride : NULL;
        r.to += n * r.to_stride;
        t += n;
    }
}

/* n_tiles tiles for a strip of tokens: group by group, each expanded once. */
MB_INLINE void strip(float *y, size_t ldy, const struct mb_bool_matrix *w,
                     const struct mb_codes *x, size_t n_tokens, size_t n_planes, size_t tile,
                     void *scratch, const size_t n_tiles)
{
    const struct mb_bool_shape *s = &w->shape;
    const size_t n_rows = n_tiles * MB_TILE_ROWS;
    size_t n_groups = mb_bool_groups(s), at = 0; /* bytes of a token's codes before the group */
    float *waiting = scratch;
    struct expanded e = { .b = (uint8_t *) (waiting + mb_strip_floats(n_tiles)) };
    for (size_t g = 0; g < n_groups; g++) {
        int is_last = g + 1 == n_groups;
        int levels_cols = ((1 << n_planes) - 1) * (int) mb_bool_group_cols(s, g);
        expand(&e, w, tile, n_tiles, g, n_planes);
        for (size_t t = 0; t < n_tokens; t += MB_PANEL_TOKENS) {
            size_t left = n_tokens - t;
            size_t n = left < MB_PANEL_TOKENS ? left : MB_PANEL_TOKENS;
            struct rows r = {
                .from = g == 0 ? NULL : waiting + t * n_rows,
                .from_stride = n_rows,
                .to = is_last ? y + t * ldy : waiting + t * n_rows,
                .to_stride = is_last ? ldy : n_rows,
                .n_rows = is_last ? s->n_rows - tile * MB_TILE_ROWS : n_rows,
            };
            panel(r, &e, x[t].panel + at * n, w->scale_all, n, s->n_kernels, levels_cols,
                  n_tiles);
        }
        at += MB_PANEL_HEAD_BYTES + e.n_words * MB_WORD_COLS;
    }
}

void mb_bool_expand_avx2(float *y, size_t ldy, const struct mb_bool_matrix *w,
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
