/* A Boolean matrix: W (m outputs x n inputs) as a sum of K sign matrices with integer
 * coefficients per row and column group (DESIGN: the arithmetic contract).
 *
 *     W[i,j] ~ scale_all * s[i,g] * sum_k c[i,g,k] * B_k[i,j]        g = j / G
 *     B_k in {-1,+1}, one bit, 1 is +1;  s float16;  c unsigned 8 bit, sum_k c <= 127
 *
 * Memory layout, on disk and in memory (rows in tiles of 16, so that a 32-column word of
 * 16 rows is one 64-byte vector and no kernel needs a horizontal sum):
 *
 *     bits   uint32  [tile][group][kernel][word in group][16 rows]   bit b is column 32*word + b
 *     scale  float16 [tile][group][16 rows]
 *     coef   uint8   [tile][group][kernel][16 rows]
 *
 * Groups are G columns, a multiple of 32; the last may be short, and its last word may be
 * partly used. One group of a whole row is G = n rounded up to 32.
 *
 * B1: bits of columns >= n and of rows >= m are zero, and scale and coef of rows >= m are
 * zero; so a padding row gives exactly 0, and popcounts need no mask.
 *
 * Owns:    a view owns nothing.
 * Threads: pure. */
#ifndef MB_CORE_BOOL_MATRIX_H
#define MB_CORE_BOOL_MATRIX_H

#include <stddef.h>
#include <stdint.h>

#include "proto/status.h"

#define MB_TILE_ROWS    16
#define MB_WORD_COLS    32
#define MB_KERNELS_MAX  8
#define MB_COEF_SUM_MAX 127

/* The integer T of one group is at most 127 * 255 * n in size and must fit an int32. */
#define MB_GROUP_COLS_MAX 65536
#define MB_ROWS_MAX       (1u << 20)
#define MB_COLS_MAX       (1u << 18)

/* The sizes of a Boolean matrix; everything else follows from them. */
struct mb_bool_shape {
    uint32_t n_rows;    /* m, 1..MB_ROWS_MAX */
    uint32_t n_cols;    /* n, 1..MB_COLS_MAX */
    uint32_t group;     /* G in columns: a multiple of 32, <= MB_GROUP_COLS_MAX */
    uint32_t n_kernels; /* K, 1..MB_KERNELS_MAX */
};

struct mb_bool_matrix {
    struct mb_bool_shape shape;
    float scale_all;
    const uint32_t *bits;  /* 64-byte aligned */
    const uint16_t *scale; /* 32-byte aligned */
    const uint8_t *coef;   /* 16-byte aligned */
};

/* Errors: MB_E_INVALID, naming the field. Passing means that no size below overflows. */
enum mb_status mb_bool_shape_check(const struct mb_bool_shape *s, struct mb_error *err);

static inline size_t mb_bool_tiles(const struct mb_bool_shape *s)
{
    return (s->n_rows + MB_TILE_ROWS - 1) / MB_TILE_ROWS;
}

static inline size_t mb_bool_words(const struct mb_bool_shape *s) /* of one row */
{
    return (s->n_cols + MB_WORD_COLS - 1) / MB_WORD_COLS;
}

static inline size_t mb_bool_groups(const struct mb_bool_shape *s)
{
    return (s->n_cols + s->group - 1) / s->group;
}

/* Columns of group g, and the words that hold them. */
static inline size_t mb_bool_group_cols(const struct mb_bool_shape *s, size_t g)
{
    size_t left = s->n_cols - g * s->group;
    return left < s->group ? left : s->group;
}

static inline size_t mb_bool_group_words(const struct mb_bool_shape *s, size_t g)
{
    return (mb_bool_group_cols(s, g) + MB_WORD_COLS - 1) / MB_WORD_COLS;
}

/* Sizes in bytes of the three arrays. */
static inline size_t mb_bool_bits_bytes(const struct mb_bool_shape *s)
{
    return mb_bool_tiles(s) * mb_bool_words(s) * s->n_kernels * MB_TILE_ROWS * sizeof(uint32_t);
}

static inline size_t mb_bool_scale_bytes(const struct mb_bool_shape *s)
{
    return mb_bool_tiles(s) * mb_bool_groups(s) * MB_TILE_ROWS * sizeof(uint16_t);
}

static inline size_t mb_bool_coef_bytes(const struct mb_bool_shape *s)
{
    return mb_bool_tiles(s) * mb_bool_groups(s) * s->n_kernels * MB_TILE_ROWS;
}

/* Index into bits of (tile, group, kernel 0, word 0, row 0): the start of a group's words,
 * of which kernel k takes group_words(g) * 16 after k of the same. */
static inline size_t mb_bool_bits_at(const struct mb_bool_shape *s, size_t tile, size_t g)
{
    size_t words_before = tile * mb_bool_words(s) + g * (s->group / MB_WORD_COLS);
    return words_before * s->n_kernels * MB_TILE_ROWS;
}

static inline size_t mb_bool_scale_at(const struct mb_bool_shape *s, size_t tile, size_t g)
{
    return (tile * mb_bool_groups(s) + g) * MB_TILE_ROWS;
}

static inline size_t mb_bool_coef_at(const struct mb_bool_shape *s, size_t tile, size_t g)
{
    return (tile * mb_bool_groups(s) + g) * s->n_kernels * MB_TILE_ROWS;
}

/* A matrix whose three arrays may be written: what conversion fills. Heap, zeroed. */
struct mb_bool_draft {
    struct mb_bool_shape shape;
    float scale_all;
    uint32_t *bits;
    uint16_t *scale;
    uint8_t *coef;
};

/* Errors: MB_E_INVALID for the shape, MB_E_NOMEM. */
enum mb_status mb_bool_draft_init(struct mb_bool_draft *d, const struct mb_bool_shape *shape,
                                  struct mb_error *err);
void mb_bool_draft_fini(struct mb_bool_draft *d);
struct mb_bool_matrix mb_bool_draft_view(const struct mb_bool_draft *d);

/* Writes one group of one row: signs[k] is a bitmask array of group_words(g) words (bit b of
 * word w is column 32*w + b of the group; bits past the group's columns must be zero). */
void mb_bool_draft_set(struct mb_bool_draft *d, size_t row, size_t g, uint16_t scale,
                       const uint8_t *coef, const uint32_t *const *signs);

/* Row i as n_cols floats, w[j] = (scale_all * s) * float(sum_k c_k B_k[i,j]): the definition
 * of what a matrix means, and how an embedding row is read. */
void mb_bool_row(const struct mb_bool_matrix *w, size_t row, float *ret);

/* Checks what the layout alone can not: B1, sum_k c <= 127, c_1 >= c_2 >= ..., finite scales.
 * Reads every byte. Errors: MB_E_FORMAT, naming the row and group. */
enum mb_status mb_bool_check(const struct mb_bool_matrix *w, struct mb_error *err);

#endif
