/* The numbers of mb_exp, shared by its variants. The sequence of operations is in exp.c.
 *
 * Threads: constants. */
#ifndef MB_CORE_KERNELS_EXP_CONSTANTS_H
#define MB_CORE_KERNELS_EXP_CONSTANTS_H

#define MB_EXP_MIN        (-87.3f) /* below: 0. The least result is still a normal number */
#define MB_EXP_MAX        88.7f    /* above: +inf */
#define MB_EXP_LOG2_E     0x1.715476p+0f
#define MB_EXP_LN2_HIGH   0x1.62e43p-1f /* high + low is ln 2 to 2^-54 */
#define MB_EXP_LN2_LOW    (-0x1.05c61p-29f)
#define MB_EXP_TO_INTEGER 0x1.8p23f /* x + this - this is x to the nearest even integer */

/* exp(r) ~ 1 + r + r^2 * (c2 + r * (c3 + ...)) for |r| <= ln(2) / 2: minimax for the relative
 * error, 2^-28 before rounding; found by reweighted least squares. */
#define MB_EXP_C2 0x1.fffffcp-2f
#define MB_EXP_C3 0x1.555490p-3f
#define MB_EXP_C4 0x1.5558f4p-5f
#define MB_EXP_C5 0x1.123a6cp-7f
#define MB_EXP_C6 0x1.6a2352p-10f

#endif
