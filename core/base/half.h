/* The two 16-bit floats, in portable C, with the exact result of the hardware's instructions:
 * float16 (IEEE binary16) rounds to nearest even; bfloat16 is the upper half of a float32.
 *
 * Threads: pure. */
#ifndef MB_CORE_HALF_H
#define MB_CORE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t mb_f32_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float mb_f32_of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Exact: every float16 is a float32. NaN stays NaN (made quiet, payload kept). */
static inline float mb_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t) (h & 0x8000u) << 16;
    uint32_t exponent = (h >> 10) & 0x1fu;
    uint32_t mantissa = h & 0x3ffu;
    if (exponent == 0x1f) {
        uint32_t quiet = mantissa ? 0x400000u : 0;
        return mb_f32_of_bits(sign | 0x7f800000u | quiet | mantissa << 13);
    }
    if (exponent == 0) { /* zero and subnormals: mantissa * 2^-24, exact in float32 */
        float x = (float) mantissa * 0x1p-24f;
        return mb_f32_of_bits(sign | mb_f32_bits(x));
    }
    return mb_f32_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* Rounds to nearest even; beyond 65504 + half a step becomes infinite; NaN stays NaN. */
static inline uint16_t mb_f32_to_f16(float x)
{
    uint32_t u = mb_f32_bits(x);
    uint16_t sign = (uint16_t) (u >> 16 & 0x8000u);
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) {
        return (uint16_t) (sign | 0x7e00u | (u >> 13 & 0x3ffu));
    }
    if (u >= 0x477ff000u) {
        return (uint16_t) (sign | 0x7c00u);
    }
    if (u < 0x38800000u) { /* below 2^-14: a float32 addition rounds at the right bit */
        float y = mb_f32_of_bits(u) + 0.5f;
        return (uint16_t) (sign | (mb_f32_bits(y) - 0x3f000000u));
    }
    uint32_t odd = u >> 13 & 1;
    return (uint16_t) (sign | ((u + 0xfffu + odd - 0x38000000u) >> 13));
}

static inline float mb_bf16_to_f32(uint16_t h)
{
    return mb_f32_of_bits((uint32_t) h << 16);
}

#endif
