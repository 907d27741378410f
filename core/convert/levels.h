/* The 2^K values that a weight of one row and group can take, and the nearest of them.
 *
 *     value = sum_k sigma_k alpha_k,   sigma_k = +1 where bit k of the pattern is 1, else -1
 *
 * Threads: pure. */
#ifndef MB_CORE_LEVELS_H
#define MB_CORE_LEVELS_H

#include <stddef.h>
#include <stdint.h>

#include "core/tensor/bool_matrix.h"

#define MB_LEVELS_MAX (1u << MB_KERNELS_MAX)

struct mb_levels {
    unsigned n_kernels;
    float value[MB_LEVELS_MAX];     /* ascending */
    float threshold[MB_LEVELS_MAX]; /* halfway between value[i] and value[i + 1] */
    uint8_t pattern[MB_LEVELS_MAX];
};

/* alpha is finite and not negative, [n_kernels]. */
void mb_levels_of(struct mb_levels *l, const float *alpha, unsigned n_kernels);

/* Index of the level nearest to w; halfway goes up. NaN gives 0. */
static inline unsigned mb_levels_nearest(const struct mb_levels *l, float w)
{
    unsigned at = 0;
    for (unsigned step = 1u << l->n_kernels >> 1; step > 0; step >>= 1) {
        at += w >= l->threshold[at + step - 1] ? step : 0;
    }
    return at;
}

/* The value of a pattern, term by term in the order of the kernels. */
static inline float mb_level_value(const float *alpha, unsigned n_kernels, unsigned pattern)
{
    float sum = 0;
    for (unsigned k = 0; k < n_kernels; k++) {
        sum += pattern >> k & 1 ? alpha[k] : -alpha[k];
    }
    return sum;
}

#endif
