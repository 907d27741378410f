/* The XNOR + popcount product by table. Four neighbouring bits of a row against four codes have
 * 16 outcomes, so per token
 *
 *     table[e] = sum_{i < 4} (bit i of e ? L - u_i : u_i) = sum_p 2^p * popcount(e xor plane_p)
 *
 * is built once per four columns, and one look-up then does for all planes what popcount does
 * for one. vpshufb looks up 16 bytes in one table, so the bytes of a vector must belong to the
 * same columns: a 4 x 4 transpose of bytes over two tiles comes first. An entry is at most
 * 4 L = 1020; its low 5 bits and the rest are looked up apart, and 8 look-ups add up in a byte. */
#include <assert.h>
#include <immintrin.h>
#include <string.h>

#include "core/kernels/variants.h"
#include "core/kernels/walk.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/rows_avx2.h"

enum {
    HALF = 8,        /* rows of a vector */
    CHUNK = 4,       /* words whose sums fit 16 bits: 32 tables of at most 1020 */
    LOW_BITS = 5,    /* of an entry */
    TABLE_BYTES = 32 /* of four columns: 16 low parts, 16 high parts */
};

static_assert(MB_WORD_COLS / 4 * TABLE_BYTES == MB_WORD_TABLE_BYTES,
              "what codes have room for");

/* Tables of a word in the order of its columns. */
void mb_code_tables_avx2(struct mb_codes *c, size_t n_cols, size_t n_planes)
{
    const __m256i one8 = _mm256_set1_epi8(1), one16 = _mm256_set1_epi16(1);
    const __m256i low = _mm256_set1_epi16((1 << LOW_BITS) - 1);
    const __m256i levels = _mm256_set1_epi8((char) ((1 << n_planes) - 1));
    /* L - u is u xor L. Entries 0..3 and 8..11, then 4..7 and 12..15: as packing wants them. */
    const __m256i flip[2] = {
        _mm256_and_si256(levels, _mm256_setr_epi32(0, 0xff, 0xff00, 0xffff, -0x1000000,
                                                   -0xffff01, -0xff0100, -0xff0001)),
        _mm256_and_si256(levels, _mm256_setr_epi32(0xff0000, 0xff00ff, 0xffff00, 0xffffff,
                                                   -0x10000, -0xff01, -0x100, -1)),
    };
    uint8_t *to = c->tables;
    for (size_t col = 0; col < mb_walk_words(n_cols) * MB_WORD_COLS; col += 4) {
        __m256i entries[2];
        int four;
        memcpy(&four, c->u + col, sizeof four);
        for (size_t i = 0; i < 2; i++) {
            __m256i x = _mm256_xor_si256(_mm256_set1_epi32(four), flip[i]);
            entries[i] = _mm256_madd_epi16(_mm256_maddubs_epi16(x, one8), one16);
        }
        __m256i all = _mm256_packus_epi32(entries[0], entries[1]);
        __m256i parts =
            _mm256_packus_epi16(_mm256_and_si256(all, low), _mm256_srli_epi16(all, LOW_BITS));
        _mm256_store_si256((void *) to, _mm256_permute4x64_epi64(parts, 0xd8));
        to += TABLE_BYTES;
    }
}

/* Rows of two tiles as they lie after the transpose: a dword holds a row r of each tile, r + 8 of
 * each; the first vector of a pair has r = 0, 1, 4, 5, the second r = 2, 3, 6, 7. */
struct halves {
    __m256i first, second;
};

/* Bytes 0..3 of all rows, one vector each. */
MB_INLINE void transpose(__m256i ret[4], const uint32_t *a, const uint32_t *b)
{
    const __m256i even = _mm256_set1_epi16(0xff);
    __m256i a0 = _mm256_load_si256((const void *) a);
    __m256i a8 = _mm256_load_si256((const void *) (a + HALF));
    __m256i b0 = _mm256_load_si256((const void *) b);
    __m256i b8 = _mm256_load_si256((const void *) (b + HALF));
    __m256i a01 = _mm256_blend_epi16(a0, _mm256_slli_epi32(a8, 16), 0xaa);
    __m256i a23 = _mm256_blend_epi16(_mm256_srli_epi32(a0, 16), a8, 0xaa);
    __m256i b01 = _mm256_blend_epi16(b0, _mm256_slli_epi32(b8, 16), 0xaa);
    __m256i b23 = _mm256_blend_epi16(_mm256_srli_epi32(b0, 16), b8, 0xaa);
    ret[0] = _mm256_or_si256(_mm256_and_si256(even, a01), _mm256_slli_epi16(b01, 8));
    ret[1] = _mm256_or_si256(_mm256_srli_epi16(a01, 8), _mm256_andnot_si256(even, b01));
    ret[2] = _mm256_or_si256(_mm256_and_si256(even, a23), _mm256_slli_epi16(b23, 8));
    ret[3] = _mm256_or_si256(_mm256_srli_epi16(a23, 8), _mm256_andnot_si256(even, b23));
}

MB_INLINE __m256i table_at(const uint8_t *table)
{
    return _mm256_broadcastsi128_si256(_mm_load_si128((const void *) table));
}

/* sum_p 2^p * popcount(B xor plane_p) over at most CHUNK words of one kernel, in 16 bits. */
MB_INLINE struct halves look_up(const uint32_t *a, const uint32_t *b, const uint8_t *tables,
                                size_t n_words, size_t ahead)
{
    const __m256i nibble = _mm256_set1_epi8(15);
    const __m256i weigh = _mm256_set1_epi16(1 | 1 << (8 + LOW_BITS));
    struct halves sum = { _mm256_setzero_si256(), _mm256_setzero_si256() };
    for (size_t w = 0; w < n_words; w++) {
        __m256i bytes[4], low = _mm256_setzero_si256(), high = low;
        mb_walk_fetch(a + w * MB_TILE_ROWS, ahead);
        mb_walk_fetch(b + w * MB_TILE_ROWS, ahead);
        transpose(bytes, a + w * MB_TILE_ROWS, b + w * MB_TILE_ROWS);
        for (size_t i = 0; i < 4; i++, tables += 2 * TABLE_BYTES) {
            __m256i even = _mm256_and_si256(bytes[i], nibble);
            __m256i odd = _mm256_and_si256(_mm256_srli_epi16(bytes[i], 4), nibble);
            low = _mm256_add_epi8(low, _mm256_shuffle_epi8(table_at(tables), even));
            high = _mm256_add_epi8(high, _mm256_shuffle_epi8(table_at(tables + 16), even));
            low = _mm256_add_epi8(low, _mm256_shuffle_epi8(table_at(tables + 32), odd));
            high = _mm256_add_epi8(high, _mm256_shuffle_epi8(table_at(tables + 48), odd));
        }
        sum.first = _mm256_add_epi16(
            sum.first, _mm256_maddubs_epi16(_mm256_unpacklo_epi8(low, high), weigh));
        sum.second = _mm256_add_epi16(
            sum.second, _mm256_maddubs_epi16(_mm256_unpackhi_epi8(low, high), weigh));
    }
    return sum;
}

/* The sums of one tile of the two, 32-bit, in the order of the halves: rows 0, 8, 1, 9 and so on. */
struct tile {
    struct mb_walk at;
    struct halves differ; /* sum_k c_k sum_p 2^p * popcount */
    struct halves coefs;  /* sum_k c_k */
    __m256 y[2];
};

/* 16 coefficients as 32-bit integers, in the order of the halves. */
MB_INLINE struct halves coefs_at(const uint8_t *coef)
{
    const __m128i order = _mm_setr_epi8(0, 8, 1, 9, 4, 12, 5, 13, 2, 10, 3, 11, 6, 14, 7, 15);
    __m128i all = _mm_shuffle_epi8(_mm_loadu_si128((const void *) coef), order);
    return (struct halves) { _mm256_cvtepu8_epi32(all),
                             _mm256_cvtepu8_epi32(_mm_srli_si128(all, 8)) };
}

/* differ += c * sum: c stands where the tile's 16 bits of a dword are, and the others' get 0. */
MB_INLINE void add_differ(struct halves *differ, struct halves sum, struct halves c)
{
    differ->first = _mm256_add_epi32(differ->first, _mm256_madd_epi16(sum.first, c.first));
    differ->second = _mm256_add_epi32(differ->second, _mm256_madd_epi16(sum.second, c.second));
}

/* y += (scale * a) * T,  T = size * sum_k c_k - 2 differ, back in the order of rows. */
MB_INLINE void finish(struct tile *t, int size, float a)
{
    const __m256i sizes = _mm256_set1_epi32(size);
    __m256i d0 = _mm256_slli_epi32(t->differ.first, 1);
    __m256i d1 = _mm256_slli_epi32(t->differ.second, 1);
    __m256i t0 = _mm256_sub_epi32(_mm256_mullo_epi32(sizes, t->coefs.first), d0);
    __m256i t1 = _mm256_sub_epi32(_mm256_mullo_epi32(sizes, t->coefs.second), d1);
    __m256 f0 = _mm256_castsi256_ps(t0), f1 = _mm256_castsi256_ps(t1);
    __m256i low = _mm256_castps_si256(_mm256_shuffle_ps(f0, f1, _MM_SHUFFLE(2, 0, 2, 0)));
    __m256i high = _mm256_castps_si256(_mm256_shuffle_ps(f0, f1, _MM_SHUFFLE(3, 1, 3, 1)));
    t->y[0] = mb_rows_add(t->y[0], low, t->at.scale, a);
    t->y[1] = mb_rows_add(t->y[1], high, t->at.scale + HALF, a);
}

/* One group of n_words words of two tiles. */
static void group(struct tile t[2], const uint8_t *tables, size_t n_words, size_t n_kernels,
                  const struct mb_walk_ahead *ahead)
{
    for (size_t i = 0; i < 2; i++) {
        t[i].differ.first = t[i].differ.second = _mm256_setzero_si256();
        t[i].coefs = t[i].differ;
        mb_walk_fetch_step(t[i].at.scale, MB_TILE_ROWS * sizeof *t[i].at.scale, ahead->scale);
        mb_walk_fetch_step(t[i].at.coef, MB_TILE_ROWS * n_kernels, ahead->coef);
    }
    for (size_t k = 0; k < n_kernels; k++) {
        struct halves c[2];
        for (size_t i = 0; i < 2; i++) {
            c[i] = coefs_at(t[i].at.coef + k * MB_TILE_ROWS);
            t[i].coefs.first = _mm256_add_epi32(t[i].coefs.first, c[i].first);
            t[i].coefs.second = _mm256_add_epi32(t[i].coefs.second, c[i].second);
        }
        c[1].first = _mm256_slli_epi32(c[1].first, 16);
        c[1].second = _mm256_slli_epi32(c[1].second, 16);
        for (size_t w = 0; w < n_words; w += CHUNK) {
            size_t at = (k * n_words + w) * MB_TILE_ROWS;
            size_t n = n_words - w < CHUNK ? n_words - w : CHUNK;
            struct halves sum = look_up(t[0].at.bits + at, t[1].at.bits + at,
                                        tables + w * MB_WORD_TABLE_BYTES, n, ahead->bits);
            add_differ(&t[0].differ, sum, c[0]);
            add_differ(&t[1].differ, sum, c[1]);
        }
    }
}

static void store(float *y, const struct tile *t, size_t n_rows)
{
    _mm256_maskstore_ps(y, mb_half_first(n_rows), t->y[0]);
    _mm256_maskstore_ps(y + HALF, mb_half_first(n_rows < HALF ? 0 : n_rows - HALF), t->y[1]);
}

/* Two tiles of one token; the second may be the first again, and is then not stored. */
static void tiles(float *y, const struct mb_bool_matrix *w, const struct mb_codes *x,
                  int levels, size_t tile, size_t second)
{
    const struct mb_bool_shape *s = &w->shape;
    const uint8_t *tables = x->tables;
    const float *a = x->a;
    const struct mb_walk_plan plan = mb_walk_plan(s, 2);
    struct tile t[2] = { { .at = mb_walk_start(w, tile) }, { .at = mb_walk_start(w, second) } };
    t[0].y[0] = t[0].y[1] = t[1].y[0] = t[1].y[1] = _mm256_setzero_ps();
    for (size_t g = 0; g < mb_bool_groups(s); g++, a++) {
        size_t n_cols = mb_bool_group_cols(s, g), n_words = mb_walk_words(n_cols);
        group(t, tables, n_words, s->n_kernels, g < plan.turn ? &plan.in_row : &plan.in_next);
        for (size_t i = 0; i < 2; i++) {
            finish(&t[i], levels * (int) n_cols, w->scale_all * *a);
            mb_walk_next(&t[i].at, n_words, s->n_kernels);
        }
        tables += n_words * MB_WORD_TABLE_BYTES;
    }
    store(y + tile * MB_TILE_ROWS, &t[0], s->n_rows - tile * MB_TILE_ROWS);
    if (second != tile) {
        store(y + second * MB_TILE_ROWS, &t[1], s->n_rows - second * MB_TILE_ROWS);
    }
}

void mb_bool_popcount_avx2(float *y, size_t ldy, const struct mb_bool_matrix *w,
                           const struct mb_codes *x, size_t n_tokens, size_t n_planes,
                           size_t tile, size_t tile_end, void *scratch)
{
    (void) scratch;
    int levels = (1 << n_planes) - 1;
    for (; tile < tile_end; tile += 2) {
        size_t second = tile_end - tile > 1 ? tile + 1 : tile;
        for (size_t t = 0; t < n_tokens; t++) {
            tiles(y + t * ldy, w, &x[t], levels, tile, second);
        }
    }
}
