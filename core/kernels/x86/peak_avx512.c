#include <immintrin.h>

#include "core/kernels/peak.h"
#include "core/kernels/x86/chains.h"

uint64_t mb_peak_fma_avx512(size_t turns)
{
    __m512 one = _mm512_set1_ps(1), sum[MB_CHAINS];
    for (int i = 0; i < MB_CHAINS; i++) {
        sum[i] = _mm512_setzero_ps();
        MB_OPAQUE(sum[i]);
    }
    for (size_t t = 0; t < turns; t++) {
#define CHAIN(i)    \
    MB_OPAQUE(one); \
    sum[i] = _mm512_fmadd_ps(one, one, sum[i]);
        MB_TWELVE(CHAIN)
#undef CHAIN
    }
    float lanes[16];
    uint64_t n = 0;
    for (int i = 0; i < MB_CHAINS; i++) {
        _mm512_storeu_ps(lanes, sum[i]);
        for (int l = 0; l < 16; l++) {
            n += (uint64_t) lanes[l];
        }
    }
    return n;
}

uint64_t mb_peak_read_avx512(const uint64_t *at, size_t n)
{
    enum { VECTORS = 8 };
    __m512i sum[VECTORS];
    for (int i = 0; i < VECTORS; i++) {
        sum[i] = _mm512_setzero_si512();
    }
    for (size_t w = 0; w < n; w += VECTORS * 8) {
        for (int i = 0; i < VECTORS; i++) {
            sum[i] = _mm512_add_epi64(sum[i], _mm512_load_si512(at + w + i * 8));
        }
    }
    for (int i = 1; i < VECTORS; i++) {
        sum[0] = _mm512_add_epi64(sum[0], sum[i]);
    }
    uint64_t lanes[8], all = 0; /* not reduced as a vector: its sums are signed, and may wrap */
    _mm512_storeu_si512(lanes, sum[0]);
    for (int l = 0; l < 8; l++) {
        all += lanes[l];
    }
    return all;
}
