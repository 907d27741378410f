/* A walk along the groups of one tile, by moving pointers: the indexes of bool_matrix.h divide,
 * which costs as much as a group's arithmetic when it is asked for every group.
 *
 * Threads: one thread at a time per walk. */
#ifndef MB_CORE_KERNELS_WALK_H
#define MB_CORE_KERNELS_WALK_H

#include "core/tensor/bool_matrix.h"

struct mb_walk {
    const uint32_t *bits; /* of the group that the walk is at: [K][word][16 rows] */
    const uint16_t *scale;
    const uint8_t *coef; /* [K][16 rows] */
};

static inline struct mb_walk mb_walk_start(const struct mb_bool_matrix *w, size_t tile)
{
    return (struct mb_walk) {
        .bits = w->bits + mb_bool_bits_at(&w->shape, tile, 0),
        .scale = w->scale + mb_bool_scale_at(&w->shape, tile, 0),
        .coef = w->coef + mb_bool_coef_at(&w->shape, tile, 0),
    };
}

/* Past a group of n_words words of n_kernels kernels. */
static inline void mb_walk_next(struct mb_walk *at, size_t n_words, size_t n_kernels)
{
    at->bits += n_words * n_kernels * MB_TILE_ROWS;
    at->scale += MB_TILE_ROWS;
    at->coef += n_kernels * MB_TILE_ROWS;
}

/* How far ahead of the words, scales and coefficients that are read others are fetched into a
 * cache, in bytes. */
struct mb_walk_ahead {
    size_t bits, scale, coef;
};

/* A pass reads n_tiles tiles side by side, group after group, and a row of a tile's groups ends
 * where the row of a neighbour begins. So what is so many groups ahead is not so many bytes ahead:
 * it lies in the same row while there are groups enough, and then n_tiles rows on. */
struct mb_walk_plan {
    struct mb_walk_ahead in_row, in_next; /* of groups before and from turn */
    size_t turn;
};

/* passes rows of all tiles and n_groups groups on; n_groups may be negative. */
static inline struct mb_walk_ahead mb_walk_ahead(const struct mb_bool_shape *s, size_t n_tiles,
                                                 size_t passes, ptrdiff_t n_groups)
{
    size_t rows = passes * n_tiles, on = (size_t) n_groups;
    size_t words = s->group / MB_WORD_COLS;
    return (struct mb_walk_ahead) {
        .bits = (mb_bool_bits_at(s, rows, 0) + on * words * s->n_kernels * MB_TILE_ROWS) *
                sizeof(uint32_t),
        .scale = (mb_bool_scale_at(s, rows, 0) + on * MB_TILE_ROWS) * sizeof(uint16_t),
        .coef = mb_bool_coef_at(s, rows, 0) + on * s->n_kernels * MB_TILE_ROWS,
    };
}

/* About a microsecond of reading by one thread. With more, what lies past the end of the job and is
 * fetched for nothing costs what it brings; with less, one thread alone falls behind. */
static inline struct mb_walk_plan mb_walk_plan(const struct mb_bool_shape *s, size_t n_tiles)
{
    enum { AHEAD = 32 << 10 };
    size_t group_bytes = s->group / 8 * s->n_kernels * MB_TILE_ROWS * n_tiles;
    size_t n_groups = mb_bool_groups(s), ahead = (AHEAD + group_bytes - 1) / group_bytes;
    size_t passes = ahead / n_groups, rest = ahead % n_groups;
    return (struct mb_walk_plan) {
        .in_row = mb_walk_ahead(s, n_tiles, passes, (ptrdiff_t) rest),
        .in_next =
            mb_walk_ahead(s, n_tiles, passes + 1, (ptrdiff_t) rest - (ptrdiff_t) n_groups),
        .turn = n_groups - rest,
    };
}

/* Fetches into a second-level cache. Past the end of an array there is nothing to fault. */
static inline void mb_walk_fetch(const void *at, size_t ahead)
{
    __builtin_prefetch((const void *) ((uintptr_t) at + ahead), 0, 2);
}

/* The same for who comes by every step bytes and would ask for some lines several times, which costs
 * as much as asking for as many lines: only lines that begin within the step. */
static inline void mb_walk_fetch_step(const void *at, size_t step, size_t ahead)
{
    enum { LINE = 64 };
    uintptr_t target = (uintptr_t) at + ahead, line = (target + LINE - 1) / LINE * LINE;
    if (line - target < step) {
        __builtin_prefetch((const void *) line, 0, 2);
    }
}

/* Words that hold n_cols columns. */
static inline size_t mb_walk_words(size_t n_cols)
{
    return (n_cols + MB_WORD_COLS - 1) / MB_WORD_COLS;
}

#endif
