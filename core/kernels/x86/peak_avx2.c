#include <immintrin.h>

#include "core/kernels/peak.h"
#include "core/kernels/x86/chains.h"

/* The count of a half byte is looked up in the count before it: that of 1 is 1 again. */
uint64_t mb_peak_popcount_avx2(size_t turns)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1,
                                           1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    __m256i count[MB_CHAINS], all = _mm256_setzero_si256();
    for (int i = 0; i < MB_CHAINS; i++) {
        count[i] = _mm256_set1_epi8(1);
        MB_OPAQUE(count[i]);
    }
    for (size_t t = 0; t < turns; t++) {
#define CHAIN(i) count[i] = _mm256_shuffle_epi8(table, count[i]);
        MB_TWELVE(CHAIN)
#undef CHAIN
    }
    for (int i = 0; i < MB_CHAINS; i++) {
        all = _mm256_add_epi64(all, _mm256_sad_epu8(count[i], _mm256_setzero_si256()));
    }
    uint64_t lanes[4];
    _mm256_storeu_si256((__m256i *) lanes, all);
    return 4 * turns * (lanes[0] + lanes[1] + lanes[2] + lanes[3]);
}

/* Pairs of bytes become a sum of 16 bits: of (2, 0) times (1, 1), it is the same pair again. */
uint64_t mb_peak_u8s8_avx2(size_t turns)
{
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i sum[MB_CHAINS];
    uint64_t n = 0;
    for (int i = 0; i < MB_CHAINS; i++) {
        sum[i] = _mm256_set1_epi16(2);
        MB_OPAQUE(sum[i]);
    }
    for (size_t t = 0; t < turns; t++) {
#define CHAIN(i) sum[i] = _mm256_maddubs_epi16(sum[i], ones);
        MB_TWELVE(CHAIN)
#undef CHAIN
    }
    for (int i = 0; i < MB_CHAINS; i++) {
        uint16_t lanes[16];
        _mm256_storeu_si256((__m256i *) lanes, sum[i]);
        for (int l = 0; l < 16; l++) {
            n += lanes[l];
        }
    }
    return turns * n;
}

uint64_t mb_peak_fma_avx2(size_t turns)
{
    __m256 one = _mm256_set1_ps(1), sum[MB_CHAINS];
    for (int i = 0; i < MB_CHAINS; i++) {
        sum[i] = _mm256_setzero_ps();
        MB_OPAQUE(sum[i]);
    }
    for (size_t t = 0; t < turns; t++) {
#define CHAIN(i)    \
    MB_OPAQUE(one); \
    sum[i] = _mm256_fmadd_ps(one, one, sum[i]);
        MB_TWELVE(CHAIN)
#undef CHAIN
    }
    float lanes[8];
    uint64_t n = 0;
    for (int i = 0; i < MB_CHAINS; i++) {
        _mm256_storeu_ps(lanes, sum[i]);
        for (int l = 0; l < 8; l++) {
            n += (uint64_t) lanes[l];
        }
    }
    return n;
}

uint64_t mb_peak_read_avx2(const uint64_t *at, size_t n)
{
    enum { VECTORS = 8 };
    __m256i sum[VECTORS];
    for (int i = 0; i < VECTORS; i++) {
        sum[i] = _mm256_setzero_si256();
    }
    for (size_t w = 0; w < n; w += VECTORS * 4) {
        for (int i = 0; i < VECTORS; i++) {
            const __m256i *v = (const __m256i *) (at + w) + i;
            sum[i] = _mm256_add_epi64(sum[i], _mm256_load_si256(v));
        }
    }
    for (int i = 1; i < VECTORS; i++) {
        sum[0] = _mm256_add_epi64(sum[0], sum[i]);
    }
    uint64_t lanes[4];
    _mm256_storeu_si256((__m256i *) lanes, sum[0]);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}
