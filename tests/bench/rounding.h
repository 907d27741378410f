/* What Boolean matrices are measured against: weights rounded to integers of few bits, to nearest
 * or with error feedback (GPTQ). For the benchmark alone; nothing serves such weights.
 *
 *     q_ij = s_ig (u_ij - z_ig),   u, z integers in [0, 2^b - 1],   s float16,   g = j / G
 *
 * The grid of a row and group is laid over its smallest and largest weight, 0 included; with
 * clip, over the best of narrower ranges too. With feedback columns are decided from left to
 * right, each told of the errors before it (core/convert/factor.h), and a group's grid is laid
 * over its weights as they have become by then.
 *
 * Source:  Frantar et al., GPTQ. Threads: one caller at a time per pool. */
#ifndef MB_TESTS_ROUNDING_H
#define MB_TESTS_ROUNDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/parallel.h"
#include "core/convert/factor.h"

struct rounding {
    unsigned bits;  /* b, 2..8 */
    uint32_t group; /* G, columns; 0 is the whole row */
    bool clip;
};

/* Shapes: w and ret, the weights that are left, are [m][n]. factor is of the inputs' second
 * moments, or NULL: no feedback, and all columns count alike. */
void rounding_apply(const struct rounding *o, const float *w, size_t m, size_t n,
                    const struct mb_factor *factor, struct mb_pool *pool, float *ret);

/* Of a matrix of n columns, grids included: b bits a weight, 16 + b a group. */
double rounding_bits(const struct rounding *o, size_t n);

#endif
