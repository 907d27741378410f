#include "core/convert/init.h"

#include <string.h>

#include "core/base/rng.h"
#include "core/convert/coefs.h"
#include "core/convert/levels.h"

static void fit(const float *w, const float *d, size_t n, unsigned n_kernels,
                const uint8_t *pattern, float *ret_alpha)
{
    struct mb_quadratic q;
    mb_quadratic_of(&q, n_kernels, pattern, w, d, n);
    mb_quadratic_solve(&q, ret_alpha);
}

void mb_init_greedy(const float *w, const float *d, size_t n, unsigned n_kernels,
                    const struct mb_init_scratch *s, float *ret_alpha)
{
    memset(s->pattern, 0, n);
    memcpy(s->rest, w, n * sizeof *w);
    for (unsigned k = 0; k < n_kernels; k++) {
        for (size_t j = 0; j < n; j++) {
            s->pattern[j] |= (uint8_t) ((s->rest[j] >= 0) << k);
        }
        fit(w, d, n, k + 1, s->pattern, ret_alpha);
        for (size_t j = 0; j < n; j++) {
            s->rest[j] = w[j] - mb_level_value(ret_alpha, k + 1, s->pattern[j]);
        }
    }
}

void mb_init_random(const float *w, const float *d, size_t n, unsigned n_kernels, uint64_t seed,
                    uint64_t stream, const struct mb_init_scratch *s, float *ret_alpha)
{
    for (size_t j = 0; j < n; j++) {
        s->pattern[j] = (uint8_t) (mb_rng_u64(seed, stream, j) >> (64 - n_kernels));
    }
    fit(w, d, n, n_kernels, s->pattern, ret_alpha);
}
