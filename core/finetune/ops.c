#include "core/finetune/ops.h"

const struct mb_train_ops *mb_train_ops_select(mb_cpu_flags cpu)
{
    const struct mb_train_ops *best = &mb_train_ops_c;
#ifdef MB_HAVE_AVX2
    if (cpu & MB_CPU_AVX2) {
        best = &mb_train_ops_avx2;
    }
#endif
#ifdef MB_HAVE_AVX512
    if (cpu & MB_CPU_AVX512) {
        best = &mb_train_ops_avx512;
    }
#endif
    (void) cpu;
    return best;
}
