/* The coefficients of one row and group: real, by least squares, and as they are stored.
 *
 * With sigma_j in {-1,+1}^K the pattern of column j, a group's error is quadratic in alpha:
 *
 *     E(alpha) = const - 2 b^T alpha + alpha^T A alpha,    A K x K, b K
 *
 * Stored, alpha_k = s c_k with s float16 times 2^-13, c integers, c_1 >= c_2 >= ... >= 0 and
 * sum_k c_k <= 127. Weights are scaled by a power of two per tensor so that the largest is in
 * [1/2, 1): then s is far from float16's limits on both sides.
 *
 * Threads: pure. */
#ifndef MB_CORE_COEFS_H
#define MB_CORE_COEFS_H

#include <stddef.h>
#include <stdint.h>

#include "core/tensor/bool_matrix.h"

#define MB_COEFS_UNIT 0x1p-13f

struct mb_quadratic {
    unsigned n_kernels;
    double a[MB_KERNELS_MAX][MB_KERNELS_MAX];
    double b[MB_KERNELS_MAX];
};

struct mb_coefs {
    uint16_t half; /* s / 2^-13 as float16 */
    uint8_t c[MB_KERNELS_MAX];
    float alpha[MB_KERNELS_MAX]; /* what these mean: s * c_k, exactly */
};

/* A and b for independent columns: E = sum_j d_j (w_j - sigma_j^T alpha)^2. A NULL d is 1. */
void mb_quadratic_of(struct mb_quadratic *q, unsigned n_kernels, const uint8_t *pattern,
                     const float *w, const float *d, size_t n);

/* alpha at the minimum; any sign and order. A is regularized by a millionth of its trace, so
 * kernels that are equal up to sign share their weight. */
void mb_quadratic_solve(const struct mb_quadratic *q, float *ret_alpha);
/* E(alpha) - const */
double mb_quadratic_at(const struct mb_quadratic *q, const float *alpha);

/* Puts alpha into the stored order: negative ones lose their sign, then descending. ret_map
 * turns a pattern into the one that means the same value: [2^n_kernels]. q follows. */
void mb_coefs_canonical(float *alpha, struct mb_quadratic *q, unsigned n_kernels,
                        uint8_t *ret_map);

/* The nearest storable coefficients of a canonical alpha. */
void mb_coefs_round(struct mb_coefs *ret, const float *alpha, unsigned n_kernels);
/* The best s for the integers c that are there. */
void mb_coefs_rescale(struct mb_coefs *c, const struct mb_quadratic *q);

#endif
