/* The XNOR + popcount product by table. Four neighbouring bits of a row against four codes have
 * 16 outcomes, so per token
 *
 *     table[e] = sum_{i < 4} (bit i of e ? L - u_i : u_i) = sum_p 2^p * popcount(e xor plane_p)
 *
 * is built once per four columns, and one look-up then does for all planes what popcount does
 * for one: 11 instructions a weight vector against 3 P. An entry is at most 4 L = 1020; its low
 * 5 bits and the rest are looked up apart, so that 8 look-ups add up in a byte. */
#include <immintrin.h>
#include <string.h>

#include "core/kernels/variants.h"
#include "core/kernels/walk.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx512.h"

enum {
    CHUNK = 4,       /* words whose look-ups add up in bytes: 8 of them, each at most 31 */
    TILES = 8,       /* that share the tables while these are in registers */
    LOW_BITS = 5,    /* of an entry */
    WORD_TABLES = 4, /* vectors: columns 0..3 of each byte, low and high; then 4..7 */
    VECTOR = 64,
    PICK = 0xe2, /* of vpternlog: the second operand's bits choose the first or the third */
};

/* Two vectors from 16 codes: for each of 4 dwords, 4 codes apart by stride, its 16 entries. */
static inline void build_pair(uint8_t *to, const uint8_t *u, __m512i flip)
{
    const __m512i one8 = _mm512_set1_epi8(1), one16 = _mm512_set1_epi16(1);
    const __m512i low = _mm512_set1_epi16((1 << LOW_BITS) - 1);
    /* Packing leaves [4 entries][4 dwords] in each quarter; this is the transpose. */
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i entries[4];
    for (size_t b = 0; b < 4; b++) {
        int four;
        memcpy(&four, u + 8 * b, sizeof four);
        __m512i x = _mm512_xor_si512(_mm512_set1_epi32(four), flip); /* L - u is u xor L */
        entries[b] = _mm512_madd_epi16(_mm512_maddubs_epi16(x, one8), one16);
    }
    __m512i a = _mm512_packus_epi32(entries[0], entries[1]);
    __m512i b = _mm512_packus_epi32(entries[2], entries[3]);
    __m512i lows = _mm512_packus_epi16(_mm512_and_si512(a, low), _mm512_and_si512(b, low));
    __m512i rests =
        _mm512_packus_epi16(_mm512_srli_epi16(a, LOW_BITS), _mm512_srli_epi16(b, LOW_BITS));
    _mm512_store_si512(to, _mm512_permutexvar_epi32(order, lows));
    _mm512_store_si512(to + VECTOR, _mm512_permutexvar_epi32(order, rests));
}

/* tables [n_words][WORD_TABLES][64] of one token. */
static void build(uint8_t *tables, const uint8_t *u, size_t n_words, int levels)
{
    const __m512i bits = _mm512_setr_epi32(0, 0xff, 0xff00, 0xffff, 0xff0000, 0xff00ff,
                                           0xffff00, 0xffffff, -0x1000000, -0xffff01, -0xff0100,
                                           -0xff0001, -0x10000, -0xff01, -0x100, -1);
    const __m512i flip = _mm512_and_si512(bits, _mm512_set1_epi8((char) levels));
    for (size_t w = 0; w < n_words; w++) {
        build_pair(tables, u, flip);
        build_pair(tables + 2 * VECTOR, u + 4, flip);
        tables += WORD_TABLES * VECTOR;
        u += MB_WORD_COLS;
    }
}

/* 2 sum_p 2^p * popcount(B xor plane_p) of 16 rows over n_words words of one kernel. */
MB_INLINE __m512i look_up(const uint32_t *bits, __m512i table[CHUNK][WORD_TABLES],
                          const size_t n_words, size_t ahead)
{
    const __m512i nibble = _mm512_set1_epi8(15), quarter = _mm512_set1_epi32(0x30201000);
    __m512i low = _mm512_setzero_si512(), rest = low;
    for (size_t w = 0; w < n_words; w++) {
        __m512i x = _mm512_load_si512(bits + w * MB_TILE_ROWS);
        _mm_prefetch((const char *) ((uintptr_t) (bits + w * MB_TILE_ROWS) + ahead),
                     _MM_HINT_T1);
        __m512i even = _mm512_ternarylogic_epi32(x, nibble, quarter, PICK);
        __m512i odd = _mm512_ternarylogic_epi32(_mm512_srli_epi32(x, 4), nibble, quarter, PICK);
        low = _mm512_add_epi8(low, _mm512_permutexvar_epi8(even, table[w][0]));
        rest = _mm512_add_epi8(rest, _mm512_permutexvar_epi8(even, table[w][1]));
        low = _mm512_add_epi8(low, _mm512_permutexvar_epi8(odd, table[w][2]));
        rest = _mm512_add_epi8(rest, _mm512_permutexvar_epi8(odd, table[w][3]));
    }
    /* Twice the sum: at most 2 * (248 * 2 + 248 * 64), which is just below 2^15. */
    __m512i sum = _mm512_add_epi16(_mm512_maddubs_epi16(low, _mm512_set1_epi8(2)),
                                   _mm512_maddubs_epi16(rest, _mm512_set1_epi8(2 << LOW_BITS)));
    return _mm512_madd_epi16(sum, _mm512_set1_epi16(1));
}

/* Up to TILES tiles of one token, at one group. */
struct tiles {
    struct mb_walk at[TILES];
    __m512i sum[TILES]; /* T, so far */
    __m512 y[TILES];
    size_t n_tiles, n_kernels, n_words;
    size_t ahead; /* bytes from a word to the same word of the next tiles */
    __m512 a;     /* scale_all * a[g] */
};

/* Adds words [word, word + n_words) of the group, which hold n_cols columns; the last ones
 * carry T over to y. */
MB_INLINE void chunk(struct tiles *p, const uint8_t *tables, size_t word, const size_t n_words,
                     int size)
{
    const int is_last = word + n_words == p->n_words;
    const __m512i sizes = _mm512_set1_epi32(size);
    __m512i table[CHUNK][WORD_TABLES];
    for (size_t i = 0; i < n_words; i++) {
        for (size_t v = 0; v < WORD_TABLES; v++) {
            table[i][v] = _mm512_load_si512(tables + (i * WORD_TABLES + v) * VECTOR);
        }
    }
    for (size_t i = 0; i < p->n_tiles; i++) {
        const uint32_t *bits = p->at[i].bits + word * MB_TILE_ROWS;
        const uint8_t *coef = p->at[i].coef;
        __m512i sum = word == 0 ? _mm512_setzero_si512() : p->sum[i];
        for (size_t k = 0; k < p->n_kernels; k++) {
            __m512i d = look_up(bits, table, n_words, p->ahead);
            __m512i c = _mm512_cvtepu8_epi32(_mm_loadu_si128((const void *) coef));
            sum = _mm512_add_epi32(sum, _mm512_mullo_epi32(c, _mm512_sub_epi32(sizes, d)));
            bits += p->n_words * MB_TILE_ROWS;
            coef += MB_TILE_ROWS;
        }
        if (is_last) {
            __m256i scale = _mm256_loadu_si256((const void *) p->at[i].scale);
            __m512 sa = _mm512_mul_ps(_mm512_cvtph_ps(scale), p->a);
            p->y[i] = _mm512_fmadd_ps(sa, _mm512_cvtepi32_ps(sum), p->y[i]);
            mb_walk_next(&p->at[i], p->n_words, p->n_kernels);
        } else {
            p->sum[i] = sum;
        }
    }
}

/* One group of n_cols columns. */
static inline void group(struct tiles *p, const uint8_t *tables, size_t n_cols, int levels)
{
    for (size_t word = 0; word < p->n_words; word += CHUNK) {
        size_t left = n_cols - word * MB_WORD_COLS;
        int size = levels * (int) (left < CHUNK * MB_WORD_COLS ? left : CHUNK * MB_WORD_COLS);
        const uint8_t *at = tables + word * WORD_TABLES * VECTOR;
        switch (p->n_words - word) {
        case 1:
            chunk(p, at, word, 1, size);
            break;
        case 2:
            chunk(p, at, word, 2, size);
            break;
        case 3:
            chunk(p, at, word, 3, size);
            break;
        default:
            chunk(p, at, word, CHUNK, size);
            break;
        }
    }
}

static void tiles(float *y, const struct mb_bool_matrix *w, const struct mb_codes *x,
                  int levels, size_t tile, size_t n_tiles, const uint8_t *tables)
{
    const struct mb_bool_shape *s = &w->shape;
    struct tiles p = { .n_tiles = n_tiles, .n_kernels = s->n_kernels };
    p.ahead = TILES * mb_bool_words(s) * s->n_kernels * MB_TILE_ROWS * sizeof(uint32_t);
    for (size_t i = 0; i < n_tiles; i++) {
        p.y[i] = _mm512_setzero_ps();
        p.at[i] = mb_walk_start(w, tile + i);
    }
    const float *a = x->a;
    for (size_t col = 0; col < s->n_cols; col += s->group, a++) {
        size_t n_cols = s->n_cols - col < s->group ? s->n_cols - col : s->group;
        p.n_words = mb_walk_words(n_cols);
        p.a = _mm512_set1_ps(w->scale_all * *a);
        group(&p, tables, n_cols, levels);
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
    int levels = (1 << n_planes) - 1;
    for (size_t t = 0; t < n_tokens; t++) {
        build(scratch, x[t].u, mb_bool_words(&w->shape), levels);
        for (size_t i = tile; i < tile_end; i += TILES) {
            size_t n = tile_end - i < TILES ? tile_end - i : TILES;
            tiles(y + t * ldy, w, &x[t], levels, i, n, scratch);
        }
    }
}
