#include <math.h>

#include "core/kernels/peak.h"

/* Makes the compiler believe that memory has changed, so that it repeats what it would otherwise
 * have done once. */
#define FORGET() __asm__ volatile("" : : : "memory")

enum { WORDS = 8, BYTES = 64, FLOATS = 16 };

uint64_t mb_peak_popcount_c(size_t turns)
{
    uint32_t x[WORDS];
    uint64_t sum = 0;
    for (size_t i = 0; i < WORDS; i++) {
        x[i] = UINT32_MAX;
    }
    for (size_t t = 0; t < turns; t++) {
        FORGET();
        for (size_t i = 0; i < WORDS; i++) {
            sum += (uint32_t) __builtin_popcount(x[i]);
        }
    }
    return sum;
}

uint64_t mb_peak_u8s8_c(size_t turns)
{
    uint8_t u[BYTES];
    int8_t s[BYTES];
    int32_t sum = 0;
    for (size_t i = 0; i < BYTES; i++) {
        u[i] = 1;
        s[i] = 1;
    }
    for (size_t t = 0; t < turns; t++) {
        FORGET();
        for (size_t i = 0; i < BYTES; i++) {
            sum += u[i] * s[i];
        }
    }
    return (uint64_t) sum;
}

uint64_t mb_peak_fma_c(size_t turns)
{
    float x[FLOATS], sum[FLOATS] = { 0 }, all = 0;
    for (size_t i = 0; i < FLOATS; i++) {
        x[i] = 1;
    }
    for (size_t t = 0; t < turns; t++) {
        FORGET();
        for (size_t i = 0; i < FLOATS; i++) {
            sum[i] = fmaf(x[i], x[i], sum[i]);
        }
    }
    for (size_t i = 0; i < FLOATS; i++) {
        all += sum[i];
    }
    return (uint64_t) all;
}

uint64_t mb_peak_read_c(const uint64_t *at, size_t n)
{
    uint64_t sum[WORDS] = { 0 }, all = 0;
    for (size_t i = 0; i < n; i += WORDS) {
        for (size_t k = 0; k < WORDS; k++) {
            sum[k] += at[i + k];
        }
    }
    for (size_t k = 0; k < WORDS; k++) {
        all += sum[k];
    }
    return all;
}
