/* Random numbers that replay: a pure function of (seed, stream, counter), so that any thread
 * may draw any number in any order and the sequence is the same on every machine.
 *
 * Threads:  pure.
 * Source:   SplitMix64's finalizer (Steele, Lea, Flood 2014), applied in a chain. */
#ifndef MB_CORE_RNG_H
#define MB_CORE_RNG_H

#include <stdint.h>

static inline uint64_t mb_rng_mix(uint64_t z)
{
    z += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline uint64_t mb_rng_u64(uint64_t seed, uint64_t stream, uint64_t counter)
{
    return mb_rng_mix(mb_rng_mix(mb_rng_mix(seed) ^ stream) ^ counter);
}

/* Uniform in [0, 1), a multiple of 2^-53. */
static inline double mb_rng_unit(uint64_t seed, uint64_t stream, uint64_t counter)
{
    return (double) (mb_rng_u64(seed, stream, counter) >> 11) * 0x1p-53;
}

#endif
