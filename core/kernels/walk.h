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

/* About a microsecond of reading by one thread, in whole passes over n_tiles tiles: tiles of a
 * pass are read side by side, so what lies less than a pass ahead may have been read already. */
static inline struct mb_walk_ahead mb_walk_ahead(const struct mb_bool_shape *s, size_t n_tiles)
{
    enum { AHEAD = 32 << 10 };
    size_t pass = n_tiles * mb_bool_bits_at(s, 1, 0) * sizeof(uint32_t);
    size_t tiles = (AHEAD + pass - 1) / pass * n_tiles;
    return (struct mb_walk_ahead) {
        .bits = tiles * mb_bool_bits_at(s, 1, 0) * sizeof(uint32_t),
        .scale = tiles * mb_bool_scale_at(s, 1, 0) * sizeof(uint16_t),
        .coef = tiles * mb_bool_coef_at(s, 1, 0),
    };
}

/* Fetches into a second-level cache. Past the end of an array there is nothing to fault. */
static inline void mb_walk_fetch(const void *at, size_t ahead)
{
    __builtin_prefetch((const void *) ((uintptr_t) at + ahead), 0, 2);
}

/* Words that hold n_cols columns. */
static inline size_t mb_walk_words(size_t n_cols)
{
    return (n_cols + MB_WORD_COLS - 1) / MB_WORD_COLS;
}

#endif
