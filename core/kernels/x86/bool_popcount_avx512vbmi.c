/* The XNOR + popcount product by table. Four neighbouring bits of a row against four codes have
 * 16 outcomes, so per token
 *
 *     table[e] = sum_{i < 4} (bit i of e ? v_i : -v_i),    v = 2u - L, and 0 past the last column
 *              = sum_p 2^p * (4 - 2 * popcount(e xor plane_p))          where all four are real
 *
 * is built once per four columns, and one look-up then does for all planes what popcount does
 * for one: 11 instructions a weight vector against 3 P. An entry is within +-1020: it is
 * low + 64 * high, each a signed byte, looked up apart. Four look-ups add up in a byte (low is
 * in -32..31, high in -16..16), and vpdpbusd adds the four bytes of a row times its c. */
#include <assert.h>
#include <immintrin.h>
#include <string.h>

#include "core/kernels/variants.h"
#include "core/kernels/walk.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx512.h"

enum {
    CHUNK = 4,       /* words whose tables are in registers at a time */
    TILES_MAX = 4,   /* that share the tables while these are in registers */
    LOW_BITS = 6,    /* of an entry */
    WORD_TABLES = 4, /* vectors: columns 0..3 of each byte, low and high; then 4..7 */
    VECTOR = 64,
    PICK = 0xe2, /* of vpternlog: the second operand's bits choose the first or the third */
};

/* How far ahead weights are fetched, in bytes of bits: about 2 microseconds of one thread. Less
 * than 24 KiB and more than 64 KiB were slower from memory, see README.md. */
enum { AHEAD = 48 << 10 };

static_assert(WORD_TABLES * VECTOR == MB_WORD_TABLE_BYTES, "what codes have room for");

/* The low and the high vector of 4 dwords of codes, two words of v each and a stride of 8 apart:
 * [4 dwords][16 entries]. */
static inline void build_pair(uint8_t *to, const int16_t *v, __m512i sign01, __m512i sign23)
{
    /* Packing leaves [4 entries][4 dwords] in each quarter; this is the transpose. */
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i half = _mm512_set1_epi16(1 << (LOW_BITS - 1));
    const __m512i mask = _mm512_set1_epi16((1 << LOW_BITS) - 1);
    __m512i entries[4], low[2], high[2];
    for (size_t b = 0; b < 4; b++) {
        int pair[2];
        memcpy(pair, v + 8 * b, sizeof pair);
        entries[b] = _mm512_dpwssd_epi32(_mm512_madd_epi16(_mm512_set1_epi32(pair[0]), sign01),
                                         _mm512_set1_epi32(pair[1]), sign23);
    }
    for (size_t i = 0; i < 2; i++) {
        __m512i all = _mm512_packs_epi32(entries[2 * i], entries[2 * i + 1]);
        all = _mm512_add_epi16(all, half);
        low[i] = _mm512_sub_epi16(_mm512_and_si512(all, mask), half);
        high[i] = _mm512_srai_epi16(all, LOW_BITS);
    }
    __m512i lows = _mm512_packs_epi16(low[0], low[1]);
    __m512i highs = _mm512_packs_epi16(high[0], high[1]);
    _mm512_store_si512(to, _mm512_permutexvar_epi32(order, lows));
    _mm512_store_si512(to + VECTOR, _mm512_permutexvar_epi32(order, highs));
}

void mb_code_tables_avx512vbmi(struct mb_codes *c, size_t n_cols, size_t n_planes)
{
    const __m512i entry =
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i one = _mm512_set1_epi16(1), minus = _mm512_set1_epi16(-1);
    const __m512i bit01 = _mm512_set1_epi32(0x00020001), bit23 = _mm512_slli_epi16(bit01, 2);
    const __m512i levels = _mm512_set1_epi16((short) ((1 << n_planes) - 1));
    __m512i twice = _mm512_or_si512(entry, _mm512_slli_epi32(entry, 16));
    __m512i sign01 = _mm512_mask_mov_epi16(minus, _mm512_test_epi16_mask(twice, bit01), one);
    __m512i sign23 = _mm512_mask_mov_epi16(minus, _mm512_test_epi16_mask(twice, bit23), one);
    uint8_t *to = c->tables;
    for (size_t col = 0; col < n_cols; col += MB_WORD_COLS) {
        _Alignas(VECTOR) int16_t v[MB_WORD_COLS];
        size_t left = n_cols - col;
        __mmask32 real = left < MB_WORD_COLS ? (1u << left) - 1 : ~0u;
        __m512i u = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *) (c->u + col)));
        u = _mm512_maskz_sub_epi16(real, _mm512_add_epi16(u, u), levels);
        _mm512_store_si512(v, u);
        build_pair(to, v, sign01, sign23);
        build_pair(to + 2 * VECTOR, v + 4, sign01, sign23);
        to += WORD_TABLES * VECTOR;
    }
}

/* Into the second-level cache; past the end of an array there is nothing to fault. */
MB_INLINE void fetch(const void *at, size_t ahead)
{
    _mm_prefetch((const char *) ((uintptr_t) at + ahead), _MM_HINT_T1);
}

/* T so far, of 16 rows, as low + 64 * high. */
struct sums {
    __m512i low, high;
};

/* Adds c * T of n_words words of one kernel; c is each row's coefficient in all four bytes. */
MB_INLINE struct sums look_up(struct sums sum, const uint32_t *bits, __m512i c,
                              __m512i table[CHUNK][WORD_TABLES], const size_t n_words)
{
    const __m512i nibble = _mm512_set1_epi8(15), quarter = _mm512_set1_epi32(0x30201000);
    __m512i low, high;
    for (size_t w = 0; w < n_words; w++) {
        __m512i x = _mm512_load_si512(bits + w * MB_TILE_ROWS);
        fetch(bits + w * MB_TILE_ROWS, AHEAD);
        __m512i even = _mm512_ternarylogic_epi32(x, nibble, quarter, PICK);
        __m512i odd = _mm512_ternarylogic_epi32(_mm512_srli_epi32(x, 4), nibble, quarter, PICK);
        __m512i l = _mm512_add_epi8(_mm512_permutexvar_epi8(even, table[w][0]),
                                    _mm512_permutexvar_epi8(odd, table[w][2]));
        __m512i h = _mm512_add_epi8(_mm512_permutexvar_epi8(even, table[w][1]),
                                    _mm512_permutexvar_epi8(odd, table[w][3]));
        int is_second = w % 2;
        low = is_second ? _mm512_add_epi8(low, l) : l;
        high = is_second ? _mm512_add_epi8(high, h) : h;
        if (is_second || w + 1 == n_words) {
            sum.low = _mm512_dpbusd_epi32(sum.low, c, low);
            sum.high = _mm512_dpbusd_epi32(sum.high, c, high);
        }
    }
    return sum;
}

/* 16 coefficients, each in the four bytes of its row. */
MB_INLINE __m512i coefs(const uint8_t *coef)
{
    const __m512i rows =
        _mm512_setr_epi32(0, 0x01010101, 0x02020202, 0x03030303, 0x04040404, 0x05050505,
                          0x06060606, 0x07070707, 0x08080808, 0x09090909, 0x0a0a0a0a,
                          0x0b0b0b0b, 0x0c0c0c0c, 0x0d0d0d0d, 0x0e0e0e0e, 0x0f0f0f0f);
    __m512i all = _mm512_broadcast_i32x4(_mm_loadu_si128((const void *) coef));
    return _mm512_shuffle_epi8(all, rows);
}

/* Up to TILES_MAX tiles of one token, at one group. */
struct tiles {
    const uint32_t *bits; /* of the first tile, at this group; so are scale and coef */
    const uint16_t *scale;
    const uint8_t *coef;
    size_t bits_stride, scale_stride; /* from tile to tile */
    size_t scale_ahead;               /* bytes of scale that go with AHEAD of bits */
    struct sums sum[TILES_MAX];
    __m512 y[TILES_MAX];
    size_t n_tiles, n_kernels, n_words;
    __m512 a; /* scale_all * a[g] */
};

/* Adds words [word, word + n_words) of the group; the last ones carry T over to y. */
MB_INLINE void chunk(struct tiles *p, const uint8_t *tables, size_t word, const size_t n_words)
{
    const int is_last = word + n_words == p->n_words;
    __m512i table[CHUNK][WORD_TABLES];
    for (size_t i = 0; i < n_words; i++) {
        for (size_t v = 0; v < WORD_TABLES; v++) {
            table[i][v] = _mm512_load_si512(tables + (i * WORD_TABLES + v) * VECTOR);
        }
    }
    for (size_t i = 0; i < p->n_tiles; i++) {
        const uint32_t *bits = p->bits + i * p->bits_stride + word * MB_TILE_ROWS;
        const uint8_t *coef = p->coef + i * p->scale_stride * p->n_kernels;
        struct sums sum = { _mm512_setzero_si512(), _mm512_setzero_si512() };
        if (word > 0) {
            sum = p->sum[i];
        }
        for (size_t k = 0; k < p->n_kernels; k++) {
            sum = look_up(sum, bits, coefs(coef), table, n_words);
            bits += p->n_words * MB_TILE_ROWS;
            coef += MB_TILE_ROWS;
        }
        if (is_last) {
            const void *scale = p->scale + i * p->scale_stride;
            fetch(scale, p->scale_ahead);
            fetch(coef, p->scale_ahead / 2 * p->n_kernels);
            __m512i t = _mm512_add_epi32(sum.low, _mm512_slli_epi32(sum.high, LOW_BITS));
            __m512 sa = _mm512_mul_ps(_mm512_cvtph_ps(_mm256_loadu_si256(scale)), p->a);
            p->y[i] = _mm512_fmadd_ps(sa, _mm512_cvtepi32_ps(t), p->y[i]);
        } else {
            p->sum[i] = sum;
        }
    }
}

static inline void group(struct tiles *p, const uint8_t *tables)
{
    for (size_t word = 0; word < p->n_words; word += CHUNK) {
        const uint8_t *at = tables + word * WORD_TABLES * VECTOR;
        switch (p->n_words - word) {
        case 1:
            chunk(p, at, word, 1);
            break;
        case 2:
            chunk(p, at, word, 2);
            break;
        case 3:
            chunk(p, at, word, 3);
            break;
        default:
            chunk(p, at, word, CHUNK);
            break;
        }
    }
    p->bits += p->n_words * p->n_kernels * MB_TILE_ROWS;
    p->scale += MB_TILE_ROWS;
    p->coef += p->n_kernels * MB_TILE_ROWS;
}

static void tiles(float *y, const struct mb_bool_matrix *w, const struct mb_codes *x,
                  size_t tile, size_t n_tiles)
{
    const struct mb_bool_shape *s = &w->shape;
    struct tiles p = {
        .bits = w->bits + mb_bool_bits_at(s, tile, 0),
        .scale = w->scale + mb_bool_scale_at(s, tile, 0),
        .coef = w->coef + mb_bool_coef_at(s, tile, 0),
        .bits_stride = mb_bool_bits_at(s, 1, 0),
        .scale_stride = mb_bool_scale_at(s, 1, 0),
        .n_tiles = n_tiles,
        .n_kernels = s->n_kernels,
    };
    p.scale_ahead = AHEAD / sizeof *p.bits * p.scale_stride / p.bits_stride * sizeof *p.scale;
    for (size_t i = 0; i < n_tiles; i++) {
        p.y[i] = _mm512_setzero_ps();
    }
    const float *a = x->a;
    const uint8_t *tables = x->tables;
    for (size_t col = 0; col < s->n_cols; col += s->group, a++) {
        size_t n_cols = s->n_cols - col < s->group ? s->n_cols - col : s->group;
        p.n_words = mb_walk_words(n_cols);
        p.a = _mm512_set1_ps(w->scale_all * *a);
        group(&p, tables);
        tables += p.n_words * WORD_TABLES * VECTOR;
    }
    for (size_t i = 0; i < n_tiles; i++) {
        size_t row = (tile + i) * MB_TILE_ROWS;
        _mm512_mask_storeu_ps(y + row, mb_lanes_first(s->n_rows - row), p.y[i]);
    }
}

void mb_bool_popcount_avx512vbmi(float *y, size_t ldy, const struct mb_bool_matrix *w,
                                 const struct mb_codes *x, size_t n_tokens, size_t n_planes,
                                 size_t tile, size_t tile_end, void *scratch)
{
    (void) n_planes;
    (void) scratch;
    /* Each pass of the tables costs their loads; K kernels share them as well as tiles do, and
     * fewer tiles are fewer streams from memory. */
    size_t n_tiles = w->shape.n_kernels == 1 ? TILES_MAX : TILES_MAX / 2;
    for (; tile < tile_end; tile += n_tiles) {
        size_t n = tile_end - tile < n_tiles ? tile_end - tile : n_tiles;
        for (size_t t = 0; t < n_tokens; t++) {
            tiles(y + t * ldy, w, &x[t], tile, n);
        }
    }
}
