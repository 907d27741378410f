#include "core/convert/levels.h"

#include <assert.h>
#include <stdbool.h>

struct level {
    float value;
    uint8_t pattern;
};

/* The levels of k + 1 kernels are those of k moved down and moved up by alpha: two sorted
 * lists, merged. On ties the lower pattern comes first, so that the order is one and the
 * same. */
static void merge(struct level *ret, const struct level *from, unsigned n, float alpha,
                  uint8_t bit)
{
    unsigned down = 0, up = 0;
    for (unsigned i = 0; i < 2 * n; i++) {
        bool take_down =
            up == n || (down < n && from[down].value - alpha <= from[up].value + alpha);
        ret[i] = take_down ? from[down++] : from[up++];
        ret[i].value += take_down ? -alpha : alpha;
        ret[i].pattern |= take_down ? 0 : bit;
    }
}

void mb_levels_of(struct mb_levels *l, const float *alpha, unsigned n_kernels)
{
    assert(n_kernels >= 1 && n_kernels <= MB_KERNELS_MAX);
    struct level buffers[2][MB_LEVELS_MAX] = { { { 0, 0 } } };
    struct level *now = buffers[0], *next = buffers[1];
    for (unsigned k = 0; k < n_kernels; k++) {
        merge(next, now, 1u << k, alpha[k], (uint8_t) (1u << k));
        struct level *old = now;
        now = next;
        next = old;
    }
    unsigned n = 1u << n_kernels;
    l->n_kernels = n_kernels;
    for (unsigned i = 0; i < n; i++) {
        l->pattern[i] = now[i].pattern;
        l->value[i] = mb_level_value(alpha, n_kernels, now[i].pattern);
    }
    for (unsigned i = 0; i + 1 < n; i++) {
        l->threshold[i] = 0.5f * (l->value[i] + l->value[i + 1]);
    }
}
