#include <math.h>

#include "core/base/half.h"
#include "core/kernels/exp_constants.h"
#include "core/kernels/kernels.h"

/* x = n ln 2 + r, |r| <= ln(2) / 2;  exp(x) = 2^n exp(r). */
float mb_exp(float x)
{
    if (x != x) {
        return x;
    }
    if (x < MB_EXP_MIN) {
        return 0;
    }
    if (x > MB_EXP_MAX) {
        return INFINITY;
    }
    float t = fmaf(x, MB_EXP_LOG2_E, MB_EXP_TO_INTEGER);
    float n = t - MB_EXP_TO_INTEGER;
    float r = fmaf(n, -MB_EXP_LN2_HIGH, x);
    r = fmaf(n, -MB_EXP_LN2_LOW, r);
    float q = fmaf(MB_EXP_C6, r, MB_EXP_C5);
    q = fmaf(q, r, MB_EXP_C4);
    q = fmaf(q, r, MB_EXP_C3);
    q = fmaf(q, r, MB_EXP_C2);
    float p = fmaf(r * r, q, r) + 1;
    /* The low bits of t hold n; moved to the exponent they multiply p by 2^n. */
    return mb_f32_of_bits(mb_f32_bits(p) + (mb_f32_bits(t) << 23));
}
