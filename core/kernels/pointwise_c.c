#include <math.h>

#include "core/base/half.h"
#include "core/kernels/lanes_c.h"
#include "core/kernels/variants.h"

void mb_rmsnorm_c(float *y, const float *x, const float *w, size_t n, float eps)
{
    float lane[MB_LANES] = { 0 };
    for (size_t i = 0; i < n; i++) {
        lane[i % MB_LANES] = fmaf(x[i], x[i], lane[i % MB_LANES]);
    }
    float r = 1 / sqrtf(mb_lanes_sum(lane) / (float) n + eps);
    for (size_t i = 0; i < n; i++) {
        y[i] = (x[i] * r) * w[i];
    }
}

void mb_rope_c(float *x, const float *cos, const float *sin, size_t d)
{
    for (size_t i = 0; i < d / 2; i++) {
        float x0 = x[i], x1 = x[i + d / 2];
        x[i] = fmaf(x0, cos[i], -(x1 * sin[i]));
        x[i + d / 2] = fmaf(x1, cos[i], x0 * sin[i]);
    }
}

void mb_silu_mul_c(float *y, const float *g, const float *u, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = (g[i] / (1 + mb_exp(-g[i]))) * u[i];
    }
}

void mb_add_c(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = y[i] + x[i];
    }
}

void mb_scale_f16_c(float *y, const float *x, const uint16_t *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = x[i] * mb_f16_to_f32(t[i]);
    }
}

void mb_widen_f16_c(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = mb_f16_to_f32(x[i]);
    }
}

float mb_max_c(const float *x, size_t n)
{
    float m = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        m = x[i] > m ? x[i] : m; /* a NaN is not */
    }
    return m + 0.0f;
}

float mb_weigh_c(float *w, const float *z, size_t n, float max, float scale)
{
    float lane[MB_LANES] = { 0 };
    for (size_t i = 0; i < n; i++) {
        float x = (z[i] - max) * scale;
        w[i] = z[i] == max ? 1 : x == x ? mb_exp(x) : 0;
        lane[i % MB_LANES] += w[i];
    }
    return mb_lanes_sum(lane);
}
