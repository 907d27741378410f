#include "core/kernels/kernels.h"

#include <assert.h>

/* pi / 2 in three parts. The first two have 21 and 20 bits, so that their products with a
 * quarter-turn count below 2^31 are exact. */
static const double PIO2_1 = 0x1.921fbp+0;
static const double PIO2_2 = 0x1.5110ap-22;
static const double PIO2_3 = 0x1.4611a62633146p-42;
static const double TWO_OVER_PI = 0x1.45f306dc9c883p-1;

/* sin(r) and cos(r) for |r| <= pi / 4 by Taylor's series: the first term left out is below
 * 3e-14. */
static double sine(double r)
{
    double s = r * r;
    double p = 1.0 / 6227020800.0;
    p = -1.0 / 39916800.0 + s * p;
    p = 1.0 / 362880.0 + s * p;
    p = -1.0 / 5040.0 + s * p;
    p = 1.0 / 120.0 + s * p;
    p = -1.0 / 6.0 + s * p;
    return r + r * (s * p);
}

static double cosine(double r)
{
    double s = r * r;
    double p = -1.0 / 87178291200.0;
    p = 1.0 / 479001600.0 + s * p;
    p = -1.0 / 3628800.0 + s * p;
    p = 1.0 / 40320.0 + s * p;
    p = -1.0 / 720.0 + s * p;
    p = 1.0 / 24.0 + s * p;
    p = -1.0 / 2.0 + s * p;
    return 1.0 + s * p;
}

void mb_sincos(double x, double *ret_sin, double *ret_cos)
{
    assert(x > -0x1p31 && x < 0x1p31);
    double turns = x * TWO_OVER_PI;
    int64_t n = (int64_t) (turns + (turns < 0 ? -0.5 : 0.5));
    double r = x - (double) n * PIO2_1;
    r -= (double) n * PIO2_2;
    r -= (double) n * PIO2_3;

    double s = sine(r), c = cosine(r);
    switch ((uint64_t) n & 3) {
    case 0:
        *ret_sin = s;
        *ret_cos = c;
        break;
    case 1:
        *ret_sin = c;
        *ret_cos = -s;
        break;
    case 2:
        *ret_sin = -s;
        *ret_cos = -c;
        break;
    default:
        *ret_sin = -c;
        *ret_cos = s;
        break;
    }
}
