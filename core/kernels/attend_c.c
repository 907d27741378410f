#include <math.h>

#include "core/base/half.h"
#include "core/kernels/lanes_c.h"
#include "core/kernels/variants.h"

static float load_f16(const void *p, size_t i)
{
    return mb_f16_to_f32(((const uint16_t *) p)[i]);
}

static float load_f32(const void *p, size_t i)
{
    return ((const float *) p)[i];
}

/* The place in a block's K of element i of position j. */
static size_t k_at(size_t i, size_t j, size_t d)
{
    return (j / MB_LANES * d + i) * MB_LANES + j % MB_LANES;
}

/* One query head; see kernels.h. */
static inline void attend_head(float *out, float *sum, float *max, const float *q, size_t d,
                               const void *k, const void *v, size_t first, size_t n,
                               float qk_scale, float (*load)(const void *p, size_t i))
{
    float z[MB_KV_BLOCK];
    float m = *max;
    for (size_t j = first; j < n; j++) {
        float dot = 0;
        for (size_t i = 0; i < d; i++) {
            dot = fmaf(q[i], load(k, k_at(i, j, d)), dot);
        }
        z[j] = dot * qk_scale;
        m = z[j] > m ? z[j] : m;
    }
    m = m + 0.0f; /* -0 becomes +0: which zero wins a maximum depends on the order */
    if (*max > -INFINITY) {
        float f = mb_exp(*max - m);
        for (size_t l = 0; l < MB_LANES; l++) {
            sum[l] *= f;
        }
        for (size_t i = 0; i < d; i++) {
            out[i] *= f;
        }
    }
    for (size_t j = first; j < n; j++) {
        float p = mb_exp(z[j] - m);
        sum[j % MB_LANES] += p;
        for (size_t i = 0; i < d; i++) {
            out[i] = fmaf(p, load(v, j * d + i), out[i]);
        }
    }
    *max = m;
}

void mb_attend_f16_c(float *out, float *sum, float *max, const float *q, size_t n_q, size_t d,
                     const void *k, const void *v, size_t first, size_t n, float qk_scale)
{
    for (size_t h = 0; h < n_q; h++) {
        attend_head(out + h * d, sum + h * MB_LANES, max + h, q + h * d, d, k, v, first, n,
                    qk_scale, load_f16);
    }
}

void mb_attend_f32_c(float *out, float *sum, float *max, const float *q, size_t n_q, size_t d,
                     const void *k, const void *v, size_t first, size_t n, float qk_scale)
{
    for (size_t h = 0; h < n_q; h++) {
        attend_head(out + h * d, sum + h * MB_LANES, max + h, q + h * d, d, k, v, first, n,
                    qk_scale, load_f32);
    }
}

void mb_attend_finish_c(float *out, const float *sum, size_t n_q, size_t d)
{
    for (size_t h = 0; h < n_q; h++) {
        float lane[MB_LANES];
        for (size_t l = 0; l < MB_LANES; l++) {
            lane[l] = sum[h * MB_LANES + l];
        }
        float total = mb_lanes_sum(lane);
        for (size_t i = 0; i < d; i++) {
            out[h * d + i] = out[h * d + i] / total;
        }
    }
}

void mb_kv_store_f16_c(void *k_block, void *v_block, const float *k, const float *v, size_t d,
                       size_t j)
{
    const float limit = 65504;
    uint16_t *ks = k_block, *vs = v_block;
    for (size_t i = 0; i < d; i++) {
        float a = k[i], b = v[i];
        a = a > limit ? limit : a < -limit ? -limit : a; /* NaN stays NaN */
        b = b > limit ? limit : b < -limit ? -limit : b;
        ks[k_at(i, j, d)] = mb_f32_to_f16(a);
        vs[j * d + i] = mb_f32_to_f16(b);
    }
}

void mb_kv_store_f32_c(void *k_block, void *v_block, const float *k, const float *v, size_t d,
                       size_t j)
{
    float *ks = k_block, *vs = v_block;
    for (size_t i = 0; i < d; i++) {
        ks[k_at(i, j, d)] = k[i];
        vs[j * d + i] = v[i];
    }
}
