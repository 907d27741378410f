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
    CHUNK = 4,                  /* words whose tables are in registers at a time */
    TILES_MAX = 4,              /* that share the tables while these are in registers */
    ROW_BYTES_SHORT = 16 << 10, /* of the bits of a tile */
    LOW_BITS = 6,               /* of an entry */
    WORD_TABLES = 4, /* vectors: columns 0..3 of each byte, low and high; then 4..7 */
    VECTOR = 64,
    PICK = 0xe2, /* of vpternlog: the second operand's bits choose the first or the third */
};

static_assert(WORD_TABLES * VECTOR == MB_WORD_TABLE_BYTES, "what codes have room for");

/* For each pair of codes v0, v1, in 16 bits: [v0 + v1, v1 - v0], and the same negated. */
struct pairs {
    __m512i plus, minus;
};

static inline struct pairs pairs_of(const uint8_t *u, __mmask32 real, __m512i levels)
{
    const __m512i difference = _mm512_set1_epi32(0x0001ffff), sum = _mm512_set1_epi16(1);
    __m512i v = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const void *) u));
    v = _mm512_maskz_sub_epi16(real, _mm512_add_epi16(v, v), levels);
    __m512i high = _mm512_slli_epi32(_mm512_madd_epi16(v, difference), 16);
    __m512i both = _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_madd_epi16(v, sum), high);
    return (struct pairs) { both, _mm512_sub_epi16(_mm512_setzero_si512(), both) };
}

/* An index into the pairs of a word, as vpermi2w wants it: of pair i, the sum whose signs are the
 * two bits of e. */
enum { MINUS = 32 };
#define PICK_SIGNS(i, e) (2 * (i) + ((e) == 1 || (e) == 2 ? 1 : 0) + ((e) < 2 ? MINUS : 0))
/* Pair i of each of the four bytes, for a run of 8 entries whose two bits are e0 .. e7. */
#define LANE(i, e0, e1, e2, e3, e4, e5, e6, e7)                                 \
    PICK_SIGNS(i, e0), PICK_SIGNS(i, e1), PICK_SIGNS(i, e2), PICK_SIGNS(i, e3), \
        PICK_SIGNS(i, e4), PICK_SIGNS(i, e5), PICK_SIGNS(i, e6), PICK_SIGNS(i, e7)
#define LANES(...)                                                        \
    {                                                                     \
        LANE(0, __VA_ARGS__), LANE(4, __VA_ARGS__), LANE(8, __VA_ARGS__), \
            LANE(12, __VA_ARGS__)                                         \
    }

static _Alignas(VECTOR) const int16_t low_bits[MINUS] = LANES(0, 1, 2, 3, 0, 1, 2, 3);
static _Alignas(VECTOR) const int16_t high_bits[2][MINUS] = { LANES(0, 0, 0, 0, 1, 1, 1, 1),
                                                              LANES(2, 2, 2, 2, 3, 3, 3, 3) };

/* The low and the high vector of four columns of each byte: pairs first and first + 1 of it. */
static inline void build_pair(uint8_t *to, const struct pairs *p, int first)
{
    const __m512i half = _mm512_set1_epi16(1 << (LOW_BITS - 1));
    const __m512i mask = _mm512_set1_epi16((1 << LOW_BITS) - 1);
    const __m512i skip = _mm512_set1_epi16((short) (2 * first)), next = _mm512_set1_epi16(2);
    __m512i at = _mm512_add_epi16(_mm512_load_si512(low_bits), skip);
    __m512i low[2], high[2], left = _mm512_permutex2var_epi16(p->plus, at, p->minus);
    for (size_t i = 0; i < 2; i++) { /* entries 0..7, then 8..15 */
        at = _mm512_add_epi16(_mm512_load_si512(high_bits[i]), _mm512_add_epi16(skip, next));
        __m512i right = _mm512_permutex2var_epi16(p->plus, at, p->minus);
        __m512i entry = _mm512_add_epi16(_mm512_add_epi16(left, half), right);
        low[i] = _mm512_sub_epi16(_mm512_and_si512(entry, mask), half);
        high[i] = _mm512_srai_epi16(entry, LOW_BITS);
    }
    _mm512_store_si512(to, _mm512_packs_epi16(low[0], low[1]));
    _mm512_store_si512(to + VECTOR, _mm512_packs_epi16(high[0], high[1]));
}

void mb_code_tables_avx512vbmi(struct mb_codes *c, size_t n_cols, size_t n_planes)
{
    const __m512i levels = _mm512_set1_epi16((short) ((1 << n_planes) - 1));
    uint8_t *to = c->tables;
    for (size_t col = 0; col < n_cols; col += MB_WORD_COLS, to += MB_WORD_TABLE_BYTES) {
        size_t left = n_cols - col;
        __mmask32 real = left < MB_WORD_COLS ? (1u << left) - 1 : ~0u;
        struct pairs p = pairs_of(c->u + col, real, levels);
        build_pair(to, &p, 0);
        build_pair(to + 2 * VECTOR, &p, 2);
    }
}

/* T so far, of 16 rows, as low + 64 * high. */
struct sums {
    __m512i low, high;
};

/* Adds c * T of n_words words of one kernel; c is each row's coefficient in all four bytes. */
MB_INLINE struct sums look_up(struct sums sum, const uint32_t *bits, __m512i c,
                              __m512i table[CHUNK][WORD_TABLES], const size_t n_words,
                              size_t ahead)
{
    const __m512i nibble = _mm512_set1_epi8(15), quarter = _mm512_set1_epi32(0x30201000);
    __m512i low, high;
    for (size_t w = 0; w < n_words; w++) {
        __m512i x = _mm512_load_si512(bits + w * MB_TILE_ROWS);
        __asm__("" : "+v"(x)); /* in a register: gcc would load it twice, once shifted */
        mb_walk_fetch(bits + w * MB_TILE_ROWS, ahead);
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

/* Where a group of the first tile lies, and what the token has for it. */
struct at {
    const uint8_t *tables;
    const float *a;
    const uint32_t *bits;
    const uint16_t *scale;
    const uint8_t *coef;
    struct mb_walk_ahead ahead;
};

/* Up to TILES_MAX tiles of one token. */
struct tiles {
    struct at first;
    size_t bits_stride, scale_stride; /* from tile to tile */
    struct sums sum[TILES_MAX];
    __m512 y[TILES_MAX];
    size_t n_tiles, n_kernels;
    float scale_all;
};

/* Group g, when those before it have n_words words. */
MB_INLINE struct at group_at(const struct tiles *p, size_t g, size_t n_words,
                             const size_t n_kernels, const struct mb_walk_ahead *ahead)
{
    return (struct at) {
        .tables = p->first.tables + g * n_words * MB_WORD_TABLE_BYTES,
        .a = p->first.a + g,
        .bits = p->first.bits + g * n_words * n_kernels * MB_TILE_ROWS,
        .scale = p->first.scale + g * MB_TILE_ROWS,
        .coef = p->first.coef + g * n_kernels * MB_TILE_ROWS,
        .ahead = *ahead,
    };
}

/* y += s a T of 16 rows; a is scale_all * a[g]. */
MB_INLINE void add_group(__m512 *y, struct sums sum, const uint16_t *scale, __m512 a)
{
    __m512i t = _mm512_add_epi32(sum.low, _mm512_slli_epi32(sum.high, LOW_BITS));
    __m512 s = _mm512_cvtph_ps(_mm256_loadu_si256((const void *) scale));
    *y = _mm512_fmadd_ps(_mm512_mul_ps(s, a), _mm512_cvtepi32_ps(t), *y);
}

/* Adds words [word, word + n_words) of a group of group_words; the first start T, the last carry it
 * to y. */
MB_INLINE void chunk(struct tiles *p, struct at at, size_t word, const size_t n_words,
                     size_t group_words, const size_t n_kernels, const int is_first,
                     const int is_last)
{
    __m512i table[CHUNK][WORD_TABLES];
    at.tables += word * MB_WORD_TABLE_BYTES;
    for (size_t i = 0; i < n_words; i++) {
        for (size_t v = 0; v < WORD_TABLES; v++) {
            table[i][v] = _mm512_load_si512(at.tables + (i * WORD_TABLES + v) * VECTOR);
        }
    }
    const __m512 a = _mm512_set1_ps(p->scale_all * *at.a);
    at.bits += word * MB_TILE_ROWS;
    for (size_t i = 0; i < p->n_tiles; i++) {
        struct sums sum = { _mm512_setzero_si512(), _mm512_setzero_si512() };
        if (!is_first) {
            sum = p->sum[i];
        }
        for (size_t k = 0; k < n_kernels; k++) {
            sum = look_up(sum, at.bits + k * group_words * MB_TILE_ROWS,
                          coefs(at.coef + k * MB_TILE_ROWS), table, n_words, at.ahead.bits);
        }
        if (is_last) {
            mb_walk_fetch_step(at.scale, MB_TILE_ROWS * sizeof *at.scale, at.ahead.scale);
            mb_walk_fetch_step(at.coef, MB_TILE_ROWS * n_kernels, at.ahead.coef);
            add_group(&p->y[i], sum, at.scale, a);
        } else {
            p->sum[i] = sum;
        }
        at.bits += p->bits_stride;
        at.scale += p->scale_stride;
        at.coef += p->scale_stride * n_kernels;
    }
}

/* Groups [g, end), all of CHUNK words: the usual case. */
MB_INLINE void groups_of(struct tiles *p, size_t g, size_t end, const size_t n_kernels,
                         const struct mb_walk_ahead *ahead)
{
    for (; g < end; g++) {
        chunk(p, group_at(p, g, CHUNK, n_kernels, ahead), 0, CHUNK, CHUNK, n_kernels, 1, 1);
    }
}

/* A function for each K, so that the tables stay in registers: together, gcc 12 keeps most of the
 * 16 on the stack. */
#define GROUPS_WHOLE(name, n_kernels)                                                 \
    static __attribute__((noinline)) void name(struct tiles *p, size_t g, size_t end, \
                                               const struct mb_walk_ahead *ahead)     \
    {                                                                                 \
        groups_of(p, g, end, n_kernels, ahead);                                       \
    }

GROUPS_WHOLE(groups_1, 1)
GROUPS_WHOLE(groups_2, 2)
GROUPS_WHOLE(groups_3, 3)
GROUPS_WHOLE(groups_4, 4)
GROUPS_WHOLE(groups_k, p->n_kernels)

static void groups_whole(struct tiles *p, size_t g, size_t end,
                         const struct mb_walk_ahead *ahead)
{
    switch (p->n_kernels) {
    case 1:
        groups_1(p, g, end, ahead);
        break;
    case 2:
        groups_2(p, g, end, ahead);
        break;
    case 3:
        groups_3(p, g, end, ahead);
        break;
    case 4:
        groups_4(p, g, end, ahead);
        break;
    default:
        groups_k(p, g, end, ahead);
        break;
    }
}

static __attribute__((noinline)) void group_in_chunks(struct tiles *p, struct at at,
                                                      size_t n_words)
{
    size_t n = p->n_kernels;
    for (size_t word = 0; word < n_words; word += CHUNK) {
        const int is_first = word == 0, is_last = n_words - word <= CHUNK;
        switch (n_words - word) {
        case 1:
            chunk(p, at, word, 1, n_words, n, is_first, 1);
            break;
        case 2:
            chunk(p, at, word, 2, n_words, n, is_first, 1);
            break;
        case 3:
            chunk(p, at, word, 3, n_words, n, is_first, 1);
            break;
        default:
            chunk(p, at, word, CHUNK, n_words, n, is_first, is_last);
            break;
        }
    }
}

static void tiles(float *y, const struct mb_bool_matrix *w, const struct mb_codes *x,
                  size_t tile, size_t n_tiles)
{
    const struct mb_bool_shape *s = &w->shape;
    struct tiles p = {
        .first = {
            .tables = x->tables,
            .a = x->a,
            .bits = w->bits + mb_bool_bits_at(s, tile, 0),
            .scale = w->scale + mb_bool_scale_at(s, tile, 0),
            .coef = w->coef + mb_bool_coef_at(s, tile, 0),
        },
        .bits_stride = mb_bool_bits_at(s, 1, 0),
        .scale_stride = mb_bool_scale_at(s, 1, 0),
        .n_tiles = n_tiles,
        .n_kernels = s->n_kernels,
        .scale_all = w->scale_all,
    };
    for (size_t i = 0; i < n_tiles; i++) {
        p.y[i] = _mm512_setzero_ps();
    }
    size_t words = s->group / MB_WORD_COLS;
    size_t n_whole = words == CHUNK ? s->n_cols / s->group : 0;
    struct mb_walk_plan plan = mb_walk_plan(s, n_tiles);
    size_t turn = plan.turn < n_whole ? plan.turn : n_whole;
    groups_whole(&p, 0, turn, &plan.in_row);
    groups_whole(&p, turn, n_whole, &plan.in_next);
    for (size_t g = n_whole; g < mb_bool_groups(s); g++) {
        const struct mb_walk_ahead *ahead = g < plan.turn ? &plan.in_row : &plan.in_next;
        group_in_chunks(&p, group_at(&p, g, words, p.n_kernels, ahead),
                        mb_bool_group_words(s, g));
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
    /* Each pass of the tables costs their loads. Long rows are streams far apart, and two of them
     * come faster from memory than four. */
    size_t row_bytes = mb_bool_bits_at(&w->shape, 1, 0) * sizeof *w->bits;
    size_t n_tiles = row_bytes <= ROW_BYTES_SHORT ? TILES_MAX : TILES_MAX / 2;
    for (; tile < tile_end; tile += n_tiles) {
        size_t n = tile_end - tile < n_tiles ? tile_end - tile : n_tiles;
        for (size_t t = 0; t < n_tokens; t++) {
            tiles(y + t * ldy, w, &x[t], tile, n);
        }
    }
}
