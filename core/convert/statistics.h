/* What calibration learns of the inputs of a linear layer, summed over tokens.
 *
 * x is the input in the model as converted so far, x' the input of the same token in the float
 * model, r and r' the residual streams that the layer's output is added to (width 0 where the
 * output is not added to one):
 *
 *     second = sum_t x x^T          n x n, symmetric
 *     drift  = sum_t (x' - x) x^T   n x n
 *     owed   = sum_t (r' - r) x^T   m x n
 *
 * second says which errors of W the layer's output notices; drift and owed say what W should
 * have been to undo what the layers before it got wrong.
 *
 * Exact:   each tile is summed by one thread, over the same tokens in the same order.
 * Life:    _init/_fini. Threads: one at a time; the pool's workers run inside _add. */
#ifndef MB_CORE_STATISTICS_H
#define MB_CORE_STATISTICS_H

#include <stddef.h>

#include "core/base/parallel.h"
#include "proto/status.h"

struct mb_statistics {
    size_t n_cols, n_owed, n_tokens;
    float *second; /* [n][n]; complete (both triangles) after mb_statistics_finish */
    float *drift;  /* [n][n] */
    float *owed;   /* [n_owed][n], or NULL */
};

enum mb_status mb_statistics_init(struct mb_statistics *s, size_t n_cols, size_t n_owed,
                                  struct mb_error *err);
void mb_statistics_fini(struct mb_statistics *s);

/* Adds n tokens. Shapes: x, dx = x' - x are [n][n_cols]; dr = r' - r is [n][n_owed].
 * dx and dr may be NULL for zero. */
void mb_statistics_add(struct mb_statistics *s, struct mb_pool *pool, size_t n, const float *x,
                       const float *dx, const float *dr);

/* Divides by the mean of second's diagonal, so that this mean is 1 and what follows has no
 * units; completes second, and adds damping to its diagonal, so that no column is free of cost
 * because the text did not use it. drift and owed are shrunk by tokens / (tokens + 4 n_cols),
 * as n columns can be regressed on few tokens to say anything. When nothing but zero or
 * infinity was seen, second becomes the identity and the rest zero: all columns count alike. */
void mb_statistics_finish(struct mb_statistics *s, double damping);

#endif
