#include <immintrin.h>

#include "core/kernels/peak.h"
#include "core/kernels/x86/chains.h"

uint64_t mb_peak_popcount_avx512vpopcntdq(size_t turns)
{
    __m512i v = _mm512_set1_epi32(-1), sum[MB_CHAINS], all = _mm512_setzero_si512();
    for (int i = 0; i < MB_CHAINS; i++) {
        sum[i] = _mm512_setzero_si512();
    }
    for (size_t t = 0; t < turns; t++) {
#define CHAIN(i)  \
    MB_OPAQUE(v); \
    sum[i] = _mm512_add_epi32(sum[i], _mm512_popcnt_epi32(v));
        MB_TWELVE(CHAIN)
#undef CHAIN
    }
    for (int i = 0; i < MB_CHAINS; i++) { /* halves of 64 bits each hold a sum of 32 */
        all = _mm512_add_epi64(all, _mm512_and_si512(sum[i], _mm512_set1_epi64(UINT32_MAX)));
        all = _mm512_add_epi64(all, _mm512_srli_epi64(sum[i], 32));
    }
    return (uint64_t) _mm512_reduce_add_epi64(all);
}
