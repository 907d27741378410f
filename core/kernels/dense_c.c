#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/kernels/lanes_c.h"
#include "core/kernels/variants.h"

/* The three element types, from memory of any alignment. */
static float load_f32(const void *w, size_t i)
{
    float v;
    memcpy(&v, (const char *) w + i * sizeof v, sizeof v);
    return v;
}

static float load_f16(const void *w, size_t i)
{
    uint16_t v;
    memcpy(&v, (const char *) w + i * sizeof v, sizeof v);
    return mb_f16_to_f32(v);
}

static float load_bf16(const void *w, size_t i)
{
    uint16_t v;
    memcpy(&v, (const char *) w + i * sizeof v, sizeof v);
    return mb_bf16_to_f32(v);
}

static inline void dense(float *y, size_t ldy, const void *w, const float *x, size_t n,
                         size_t n_tokens, size_t row, size_t row_end,
                         float (*load)(const void *w, size_t i))
{
    for (; row < row_end; row++) {
        for (size_t t = 0; t < n_tokens; t++) {
            float lane[MB_LANES] = { 0 };
            for (size_t j = 0; j < n; j++) {
                lane[j % MB_LANES] =
                    fmaf(load(w, row * n + j), x[t * n + j], lane[j % MB_LANES]);
            }
            y[t * ldy + row] = mb_lanes_sum(lane);
        }
    }
}

void mb_dense_f32_c(float *y, size_t ldy, const void *w, const float *x, size_t n,
                    size_t n_tokens, size_t row, size_t row_end)
{
    dense(y, ldy, w, x, n, n_tokens, row, row_end, load_f32);
}

void mb_dense_f16_c(float *y, size_t ldy, const void *w, const float *x, size_t n,
                    size_t n_tokens, size_t row, size_t row_end)
{
    dense(y, ldy, w, x, n, n_tokens, row, row_end, load_f16);
}

void mb_dense_bf16_c(float *y, size_t ldy, const void *w, const float *x, size_t n,
                     size_t n_tokens, size_t row, size_t row_end)
{
    dense(y, ldy, w, x, n, n_tokens, row, row_end, load_bf16);
}
