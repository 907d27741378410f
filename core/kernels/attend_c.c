#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/kernels/attend_rows.h"
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

/* Row r over positions [first, n) of a block; see kernels.h. */
static void attend_row(struct mb_attend_tile *t, size_t r, size_t d, const void *k,
                       const void *v, size_t first, size_t n, float qk_scale,
                       float (*load)(const void *p, size_t i))
{
    float z[MB_KV_BLOCK];
    float m = t->max[r], *sum = t->sum[r], *out = t->out + r * d;
    for (size_t j = first; j < n; j++) {
        float dot = 0;
        for (size_t i = 0; i < d; i++) {
            dot = fmaf(t->q[i * MB_ATTEND_ROWS + r], load(k, k_at(i, j, d)), dot);
        }
        z[j] = dot * qk_scale;
        m = z[j] > m ? z[j] : m;
    }
    m = m + 0.0f; /* -0 becomes +0: which zero wins a maximum depends on the order */
    if (t->max[r] > -INFINITY) {
        float f = mb_exp(t->max[r] - m);
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
    t->max[r] = m;
}

static inline void attend(struct mb_attend_tile *t, size_t d, const void *k, const void *v,
                          size_t base, float qk_scale, float (*load)(const void *p, size_t i))
{
    for (size_t r = 0; r < t->n_rows; r++) {
        size_t first = mb_attend_first(t, r, base), n = mb_attend_end(t, r, base);
        if (first < n) {
            attend_row(t, r, d, k, v, first, n, qk_scale, load);
        }
    }
}

void mb_attend_f16_c(struct mb_attend_tile *t, size_t d, const void *kv, size_t base,
                     float qk_scale, const void *next)
{
    (void) next;
    attend(t, d, kv, (const uint16_t *) kv + MB_KV_BLOCK * d, base, qk_scale, load_f16);
}

void mb_attend_f32_c(struct mb_attend_tile *t, size_t d, const void *kv, size_t base,
                     float qk_scale, const void *next)
{
    (void) next;
    attend(t, d, kv, (const float *) kv + MB_KV_BLOCK * d, base, qk_scale, load_f32);
}

static void merge_row(struct mb_attend_tile *t, const struct mb_attend_tile *s, size_t r,
                      size_t d)
{
    float m = t->max[r] > s->max[r] ? t->max[r] : s->max[r];
    float f = t->max[r] < m ? mb_exp(t->max[r] - m) : 1;
    float g = s->max[r] < m ? mb_exp(s->max[r] - m) : 1;
    for (size_t l = 0; l < MB_LANES; l++) {
        t->sum[r][l] = fmaf(s->sum[r][l], g, t->sum[r][l] * f);
    }
    for (size_t i = r * d; i < (r + 1) * d; i++) {
        t->out[i] = fmaf(s->out[i], g, t->out[i] * f);
    }
    t->max[r] = m;
}

void mb_attend_merge_c(struct mb_attend_tile *t, const struct mb_attend_tile *segment, size_t d,
                       size_t base)
{
    mb_attend_merge_rows(t, segment, d, base, merge_row);
}

void mb_attend_finish_c(float *y, const struct mb_attend_tile *t, size_t row, size_t d)
{
    float lane[MB_LANES];
    memcpy(lane, t->sum[row], sizeof lane);
    float total = mb_lanes_sum(lane);
    for (size_t i = 0; i < d; i++) {
        y[i] = t->out[row * d + i] / total;
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
