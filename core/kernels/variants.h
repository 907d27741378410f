/* Every variant of every kernel: mb_<kernel>_<instruction set>. A function type declares all
 * its variants, so that a signature can not drift. Only the selector and the benchmarks
 * include this; everybody else calls through struct mb_kernels.
 *
 * Threads: pure. */
#ifndef MB_CORE_KERNELS_VARIANTS_H
#define MB_CORE_KERNELS_VARIANTS_H

#include "core/kernels/kernels.h"

mb_code_fn mb_code_c;
mb_code_planes_fn mb_code_planes_c;
mb_bool_product_fn mb_bool_popcount_c, mb_bool_expand_c;
mb_dense_fn mb_dense_f32_c, mb_dense_f16_c, mb_dense_bf16_c;
mb_rmsnorm_fn mb_rmsnorm_c;
mb_rope_fn mb_rope_c;
mb_silu_mul_fn mb_silu_mul_c;
mb_add_fn mb_add_c;
mb_scale_f16_fn mb_scale_f16_c;
mb_attend_fn mb_attend_f16_c, mb_attend_f32_c;
mb_attend_finish_fn mb_attend_finish_c;
mb_kv_store_fn mb_kv_store_f16_c, mb_kv_store_f32_c;

#endif
