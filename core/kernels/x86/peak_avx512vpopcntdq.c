#include <immintrin.h>

#include "core/kernels/peak.h"
#include "core/kernels/x86/chains.h"

/* Counts the bits of the count before it: that of 1 is 1 again. */
uint64_t mb_peak_popcount_avx512vpopcntdq(size_t turns)
{
    __m512i count[MB_CHAINS];
    for (int i = 0; i < MB_CHAINS; i++) {
        count[i] = _mm512_set1_epi32(1);
        MB_OPAQUE(count[i]);
    }
    for (size_t t = 0; t < turns; t++) {
#define CHAIN(i) count[i] = _mm512_popcnt_epi32(count[i]);
        MB_TWELVE(CHAIN)
#undef CHAIN
    }
    for (int i = 1; i < MB_CHAINS; i++) {
        count[0] = _mm512_add_epi32(count[0], count[i]);
    }
    return 32 * turns * (uint64_t) (uint32_t) _mm512_reduce_add_epi32(count[0]);
}
