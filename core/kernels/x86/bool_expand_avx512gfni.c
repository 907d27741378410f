#include "core/kernels/variants.h"
#include "core/kernels/x86/bool_expand_avx512.h"

/* With two or three kernels a weight is one of 2^K levels of its row, and w8 is looked up: three
 * instructions a vector, where masks take five a kernel for two vectors. A permutation lays the
 * bits of all kernels for four columns of two rows, and the numbers of the rows, into matrices
 * of 8 x 8 bits; vgf2p8affineqb transposes each into 8 indexes; a permutation looks them up.
 *
 *     index = bit of kernel 0 | bit of kernel 1 << 1 | row << 2 | bit of kernel 2 << 6
 *
 * Row r of the result is row 7 - r of the matrix, so the matrix of a pair of rows is, from byte
 * 0 on: kernel 2 twice (the first is not used), the bits of the row's number from the highest,
 * kernel 1, kernel 0. In every byte the low nibble is the even row's, the high one the odd row's. */

#define EIGHT(f) f(7), f(6), f(5), f(4), f(3), f(2), f(1), f(0)

/* Where pair i takes its matrix from, for byte 0 of each word: bytes below 64 are of the first
 * source, others of the second. For byte b of each word, b is added to what comes from words. */
#define MATRIX_AT(i) (0x0004444546474040 + (i) *0x0808080808080808)
static const long long WORD_BYTE = 0x0101000000000101;

/* Bytes 4..7 of pair i: bits 0..3 of the rows' numbers. */
#define BIT_IF(i, bit) ((long long) ((i) >> (bit) &1 ? 0xff : 0))
#define ROW_NUMBERS(i)                                        \
    (0xf0LL << 32 | BIT_IF(i, 0) << 40 | BIT_IF(i, 1) << 48 | \
     (long long) ((unsigned long long) BIT_IF(i, 2) << 56))

/* Nibbles 2b (even) and 2b + 1 (odd) of words, at byte b of a dword: of both rows of a pair. */
struct nibbles {
    __m512i even, odd;
};

/* Brings together rows that are neighbours: those of x in the low dword of their pair, those of y
 * in the high one. */
static inline struct nibbles pair_rows(__m512i x, __m512i y)
{
    enum { SELECT = 0xca }; /* first ? second : third */
    const __m512i low = _mm512_set1_epi8(15);
    __m512i a = _mm512_mask_shuffle_epi32(x, 0xaaaa, y, _MM_PERM_CDAB);
    __m512i b = _mm512_mask_shuffle_epi32(y, 0x5555, x, _MM_PERM_CDAB);
    return (struct nibbles) {
        .even = _mm512_ternarylogic_epi32(low, a, _mm512_slli_epi16(b, 4), SELECT),
        .odd = _mm512_ternarylogic_epi32(low, _mm512_srli_epi16(a, 4), b, SELECT),
    };
}

/* w8 of 16 rows by 4 columns: at[b] of the sources pick the columns. */
MB_INLINE __m512i look_up(__m512i first, __m512i at, __m512i second, const __m512i table[2],
                          const size_t n_kernels)
{
    const __m512i columns = _mm512_set1_epi64((long long) 0x8040201008040201);
    __m512i matrix = _mm512_permutex2var_epi8(first, at, second);
    __m512i index = _mm512_gf2p8affine_epi64_epi8(columns, matrix, 0);
    return n_kernels == 2 ? _mm512_permutexvar_epi8(index, table[0])
                          : _mm512_permutex2var_epi8(table[0], index, table[1]);
}

/* Two or three kernels. */
MB_INLINE __m512i expand_by_levels(const struct tile_group *tile, const size_t n_kernels)
{
    const struct tile_group t = *tile; /* a copy, which what is written can not change */
    const __m512i rows = _mm512_set_epi64(EIGHT(ROW_NUMBERS));
    const __m512i start = _mm512_set_epi64(EIGHT(MATRIX_AT));
    struct kernels_of_tile c;
    int8_t *w8 = t.w8;
    load_kernels(&c, t.coef, n_kernels);
    __m512i table[2];
    table[0] = _mm512_mask_add_epi8(c.none, 0xaaaaaaaaaaaaaaaa, c.none, c.twice[0]);
    table[0] = _mm512_mask_add_epi8(table[0], 0xcccccccccccccccc, table[0], c.twice[1]);
    table[1] = n_kernels == 3 ? _mm512_add_epi8(table[0], c.twice[2]) : table[0];
    for (size_t w = 0; w < t.n_words; w++) {
        __m512i word[MB_KERNELS_MAX];
        load_words(word, &c, &t, w, n_kernels);
        struct nibbles first = pair_rows(word[0], word[1]);
        struct nibbles second = { rows, rows };
        if (n_kernels == 3) {
            second = pair_rows(word[2], word[2]);
            second.even = _mm512_mask_mov_epi32(second.even, 0xaaaa, rows);
            second.odd = _mm512_mask_mov_epi32(second.odd, 0xaaaa, rows);
        }
        for (int b = 0; b < 4; b++, w8 += 2 * t.step) {
            __m512i at = _mm512_add_epi8(start, _mm512_set1_epi64(b * WORD_BYTE));
            _mm512_store_si512(w8, look_up(first.even, at, second.even, table, n_kernels));
            _mm512_store_si512(w8 + t.step,
                               look_up(first.odd, at, second.odd, table, n_kernels));
        }
    }
    return sum_weights(&c, t.n_cols, n_kernels);
}

/* Constant numbers of kernels keep words and coefficients in registers. */
static __m512i expand_tile(const struct tile_group *t)
{
    switch (t->n_kernels) {
    case 1:
        return expand_by_masks(t, 1);
    case 2:
        return expand_by_levels(t, 2);
    case 3:
        return expand_by_levels(t, 3);
    case 4:
        return expand_by_masks(t, 4);
    default:
        return expand_by_masks(t, t->n_kernels);
    }
}

void mb_bool_expand_avx512gfni(float *y, size_t ldy, const struct mb_bool_matrix *w,
                               const struct mb_codes *x, size_t n_tokens, size_t n_planes,
                               size_t tile, size_t tile_end, void *scratch)
{
    mb_expand_product(y, ldy, w, x, n_tokens, n_planes, tile, tile_end, scratch, expand_tile);
}
