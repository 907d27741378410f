#include "core/kernels/peak.h"

void mb_peaks_select(struct mb_peaks *ret, mb_cpu_flags cpu)
{
    *ret = (struct mb_peaks) {
        .popcount = mb_peak_popcount_c,
        .u8s8 = mb_peak_u8s8_c,
        .fma = mb_peak_fma_c,
        .read = mb_peak_read_c,
    };
#ifdef MB_HAVE_AVX2
    if (cpu & MB_CPU_AVX2) {
        ret->popcount = mb_peak_popcount_avx2;
        ret->u8s8 = mb_peak_u8s8_avx2;
        ret->fma = mb_peak_fma_avx2;
        ret->read = mb_peak_read_avx2;
    }
#endif
    cpu = cpu & MB_CPU_AVX2 && cpu & MB_CPU_AVX512 ? cpu : 0; /* as mb_kernels_select has it */
#ifdef MB_HAVE_AVX512
    if (cpu & MB_CPU_AVX512) {
        ret->fma = mb_peak_fma_avx512;
        ret->read = mb_peak_read_avx512;
    }
#endif
#ifdef MB_HAVE_AVX512VPOPCNTDQ
    if (cpu & MB_CPU_VPOPCNTDQ) {
        ret->popcount = mb_peak_popcount_avx512vpopcntdq;
    }
#endif
#ifdef MB_HAVE_AVX512VNNI
    if (cpu & MB_CPU_VNNI) {
        ret->u8s8 = mb_peak_u8s8_avx512vnni;
    }
#endif
}
