#include <math.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/kernels/lanes_c.h"
#include "core/kernels/variants.h"

/* Below this a group is taken for zero, so that 1 / m can not overflow. */
static const float SIZE_MIN = 0x1p-100f;

/* Adding and taking away 1.5 * 2^23 rounds a float below 2^22 to the nearest even integer. */
static const float TO_INTEGER = 0x1.8p23f;

/* P = 1: u is the sign, a the mean size. A NaN counts as nothing: u = 0 and size 0. */
static float code_sign(uint8_t *u, const float *x, size_t n)
{
    float lane[MB_LANES] = { 0 };
    for (size_t j = 0; j < n; j++) {
        u[j] = x[j] >= 0;
        lane[j % MB_LANES] += isnan(x[j]) ? 0 : fabsf(x[j]);
    }
    return mb_lanes_sum(lane) / (float) n;
}

static float code_levels(uint8_t *u, const float *x, size_t n, float levels)
{
    float m = 0;
    for (size_t j = 0; j < n; j++) {
        float size = fabsf(x[j]);
        m = size > m ? size : m;
    }
    if (m < SIZE_MIN) {
        memset(u, 0, n);
        return 0;
    }
    float half = 0.5f * levels;
    float r = half / m;
    for (size_t j = 0; j < n; j++) {
        float v = fmaf(x[j], r, half);
        v = v > 0 ? v : 0; /* and NaN */
        v = v < levels ? v : levels;
        u[j] = (uint8_t) ((v + TO_INTEGER) - TO_INTEGER);
    }
    return m / levels;
}

void mb_code_c(struct mb_codes *ret, const float *x, size_t n, size_t group, size_t n_planes)
{
    for (size_t g = 0; g * group < n; g++) {
        size_t at = g * group;
        size_t cols = n - at < group ? n - at : group;
        ret->a[g] = n_planes == 1 ? code_sign(ret->u + at, x + at, cols)
                                  : code_levels(ret->u + at, x + at, cols,
                                                (float) ((1u << n_planes) - 1));
    }
    memset(ret->u + n, 0, mb_div_up(n, MB_WORD_COLS) * MB_WORD_COLS - n);
}

void mb_code_tables_c(struct mb_codes *c, size_t n_cols, size_t n_planes)
{
    uint32_t *planes = c->tables;
    for (size_t w = 0; w < mb_div_up(n_cols, MB_WORD_COLS); w++) {
        for (size_t p = 0; p < n_planes; p++) {
            uint32_t plane = 0;
            for (size_t b = 0; b < MB_WORD_COLS; b++) {
                plane |= (uint32_t) (c->u[w * MB_WORD_COLS + b] >> p & 1) << b;
            }
            planes[w * MB_PLANES_MAX + p] = plane;
        }
    }
}

static int32_t sum_of(const uint8_t *u, size_t n)
{
    int32_t sum = 0;
    for (size_t j = 0; j < n; j++) {
        sum += u[j];
    }
    return sum;
}

static void panel(uint8_t *to, const struct mb_codes *x, size_t n_tokens, size_t n,
                  size_t group)
{
    enum { QUAD = 4 };
    size_t n_cols = mb_div_up(n, MB_WORD_COLS) * MB_WORD_COLS;
    for (size_t at = 0; at < n; at += group) {
        size_t cols = n_cols - at < group ? n_cols - at : group;
        for (size_t t = 0; t < n_tokens; t++, to += sizeof(float)) {
            memcpy(to, &x[t].a[at / group], sizeof(float));
        }
        for (size_t t = 0; t < n_tokens; t++, to += sizeof(int32_t)) {
            int32_t sum = sum_of(x[t].u + at, cols);
            memcpy(to, &sum, sizeof sum);
        }
        for (size_t j = at; j < at + cols; j += QUAD) {
            for (size_t t = 0; t < n_tokens; t++, to += QUAD) {
                memcpy(to, x[t].u + j, QUAD);
            }
        }
    }
}

void mb_code_panels(const struct mb_codes *x, size_t n_tokens, size_t n, size_t group)
{
    for (size_t t = 0; t < n_tokens; t += MB_PANEL_TOKENS) {
        size_t left = n_tokens - t;
        panel(x[t].panel, x + t, left < MB_PANEL_TOKENS ? left : MB_PANEL_TOKENS, n, group);
    }
}
