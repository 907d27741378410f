/* Every variant of every kernel: mb_<kernel>_<instruction set>. A function type declares all
 * its variants, so that a signature can not drift. Only the selector includes this and the
 * files that define them; everybody else calls through struct mb_kernels.
 *
 * Threads: pure. */
#ifndef MB_CORE_KERNELS_VARIANTS_H
#define MB_CORE_KERNELS_VARIANTS_H

#include "core/kernels/kernels.h"

mb_code_fn mb_code_c, mb_code_avx2, mb_code_avx512;
mb_code_tables_fn mb_code_tables_c, mb_code_tables_avx2, mb_code_tables_avx512vbmi;
mb_bool_product_fn mb_bool_popcount_c, mb_bool_popcount_avx2;
mb_bool_product_fn mb_bool_popcount_avx512vbmi;
mb_bool_product_fn mb_bool_expand_c, mb_bool_expand_avx2, mb_bool_expand_avx512vnni;
mb_bool_product_fn mb_bool_expand_avx512gfni;
mb_dense_fn mb_dense_f32_c, mb_dense_f32_avx2, mb_dense_f32_avx512;
mb_dense_fn mb_dense_f16_c, mb_dense_f16_avx2, mb_dense_f16_avx512;
mb_dense_fn mb_dense_bf16_c, mb_dense_bf16_avx2, mb_dense_bf16_avx512;
mb_rmsnorm_fn mb_rmsnorm_c, mb_rmsnorm_avx2, mb_rmsnorm_avx512;
mb_rope_fn mb_rope_c, mb_rope_avx2, mb_rope_avx512;
mb_silu_mul_fn mb_silu_mul_c, mb_silu_mul_avx2, mb_silu_mul_avx512;
mb_add_fn mb_add_c, mb_add_avx2, mb_add_avx512;
mb_scale_f16_fn mb_scale_f16_c, mb_scale_f16_avx2, mb_scale_f16_avx512;
mb_widen_f16_fn mb_widen_f16_c, mb_widen_f16_avx2, mb_widen_f16_avx512;
mb_max_fn mb_max_c, mb_max_avx2, mb_max_avx512;
mb_weigh_fn mb_weigh_c, mb_weigh_avx2, mb_weigh_avx512;
mb_attend_fn mb_attend_f16_c, mb_attend_f16_avx2, mb_attend_f16_avx512;
mb_attend_fn mb_attend_f32_c, mb_attend_f32_avx2, mb_attend_f32_avx512;
mb_attend_merge_fn mb_attend_merge_c, mb_attend_merge_avx2, mb_attend_merge_avx512;
mb_attend_finish_fn mb_attend_finish_c, mb_attend_finish_avx2, mb_attend_finish_avx512;
mb_kv_store_fn mb_kv_store_f16_c, mb_kv_store_f16_avx2, mb_kv_store_f16_avx512;
mb_kv_store_fn mb_kv_store_f32_c; /* moves, and nothing else: one is enough */

#endif
