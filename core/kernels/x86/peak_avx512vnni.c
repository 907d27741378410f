#include <immintrin.h>

#include "core/kernels/peak.h"
#include "core/kernels/x86/chains.h"

uint64_t mb_peak_u8s8_avx512vnni(size_t turns)
{
    __m512i ones = _mm512_set1_epi8(1), sum[MB_CHAINS];
    for (int i = 0; i < MB_CHAINS; i++) {
        sum[i] = _mm512_setzero_si512();
        MB_OPAQUE(sum[i]);
    }
    for (size_t t = 0; t < turns; t++) {
#define CHAIN(i)     \
    MB_OPAQUE(ones); \
    sum[i] = _mm512_dpbusd_epi32(sum[i], ones, ones);
        MB_TWELVE(CHAIN)
#undef CHAIN
    }
    for (int i = 1; i < MB_CHAINS; i++) {
        sum[0] = _mm512_add_epi32(sum[0], sum[i]);
    }
    return (uint64_t) (uint32_t) _mm512_reduce_add_epi32(sum[0]);
}
