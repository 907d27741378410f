#include "core/finetune/adam.h"

#include <math.h>

struct mb_adam mb_adam_with(double b1, double b2, double eps, uint64_t t, double step,
                            double decay)
{
    return (struct mb_adam) {
        .b1 = (float) b1,
        .b2 = (float) b2,
        .eps = (float) eps,
        .step = (float) step,
        .decay = (float) decay,
        .m_unit = (float) (1 / (1 - pow(b1, (double) t))),
        .v_unit = (float) (1 / (1 - pow(b2, (double) t))),
    };
}

struct mb_adam mb_adam_at(uint64_t t, double step, double decay)
{
    return mb_adam_with(MB_ADAM_B1, MB_ADAM_B2, MB_ADAM_EPS, t, step, decay);
}

float mb_adam_move(const struct mb_adam *a, float g, float *m, float *v)
{
    *m = a->b1 * *m + (1 - a->b1) * g;
    *v = a->b2 * *v + (1 - a->b2) * g * g;
    return -(*m * a->m_unit) / (sqrtf(*v * a->v_unit) + a->eps);
}

void mb_adam_apply(const struct mb_adam *a, float *w, const float *g, float *m, float *v,
                   size_t n)
{
    for (size_t i = 0; i < n; i++) {
        w[i] += a->step * (mb_adam_move(a, g[i], &m[i], &v[i]) - a->decay * w[i]);
    }
}
