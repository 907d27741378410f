/* Which instructions there are.
 *
 * Threads: pure; detection asks the processor each time. */
#ifndef MB_CORE_CPU_H
#define MB_CORE_CPU_H

#include <stddef.h>

#include "proto/status.h"

/* Sets that the kernels distinguish, each including what its kernels need. */
typedef unsigned mb_cpu_flags;
enum {
    MB_CPU_AVX2 = 1u << 0,      /* AVX2, FMA, F16C, POPCNT */
    MB_CPU_AVX512 = 1u << 1,    /* F, BW, VL, DQ, on top of AVX2 */
    MB_CPU_VPOPCNTDQ = 1u << 2, /* with AVX512; kernels take it with GFNI only */
    MB_CPU_VNNI = 1u << 3,      /* AVX512_VNNI, with AVX512 */
    MB_CPU_VBMI = 1u << 4,      /* AVX512_VBMI, with AVX512 (used together with VNNI) */
    MB_CPU_GFNI = 1u << 5,      /* GFNI, with AVX512 (used together with all of the above) */
};

/* What this processor and this operating system offer (XCR0 is asked too). */
mb_cpu_flags mb_cpu_detect(void);

/* "auto" is what there is; "c", "avx2", "avx512" (no VNNI, no VPOPCNTDQ), "avx512vnni" narrow it.
 * Errors: MB_E_INVALID for another name; MB_E_UNSUPPORTED when this processor lacks it. */
enum mb_status mb_cpu_narrow(const char *name, mb_cpu_flags have, mb_cpu_flags *ret,
                             struct mb_error *err);

/* Text such as "avx2 avx512 vpopcntdq vnni" into ret. */
void mb_cpu_describe(mb_cpu_flags cpu, char *ret, size_t n);

#endif
