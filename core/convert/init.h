/* Where the alternation over one group of one row starts: K coefficients.
 *
 *     greedy   kernel k is the sign of the residual of the kernels before it, alpha by least
 *              squares over all kernels so far
 *     svd      successive SVID over the whole matrix (svid.h), scales averaged over the group
 *     random   sign matrices by the toss of a coin, alpha by least squares
 *
 * Threads: pure. */
#ifndef MB_CORE_INIT_H
#define MB_CORE_INIT_H

#include <stddef.h>
#include <stdint.h>

enum mb_fit_init { MB_INIT_GREEDY, MB_INIT_SVD, MB_INIT_RANDOM };

/* Room for one group's patterns and residual. */
struct mb_init_scratch {
    uint8_t *pattern; /* [n] */
    float *rest;      /* [n] */
};

/* w, d: weights and their importance, [n]; d may be NULL for 1. ret_alpha is [n_kernels], of
 * any sign and order. */
void mb_init_greedy(const float *w, const float *d, size_t n, unsigned n_kernels,
                    const struct mb_init_scratch *s, float *ret_alpha);

/* stream names the draw within the seed: a row and a group. */
void mb_init_random(const float *w, const float *d, size_t n, unsigned n_kernels, uint64_t seed,
                    uint64_t stream, const struct mb_init_scratch *s, float *ret_alpha);

#endif
