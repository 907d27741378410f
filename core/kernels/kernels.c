#include "core/kernels/kernels.h"

#include <assert.h>
#include <string.h>

#include "core/kernels/variants.h"

static void select_c(struct mb_kernels *k)
{
    *k = (struct mb_kernels) {
        .name = "c",
        .code = mb_code_c,
        .code_planes = mb_code_planes_c,
        .bool_popcount = mb_bool_popcount_c,
        .bool_expand = mb_bool_expand_c,
        .dense_f32 = mb_dense_f32_c,
        .dense_f16 = mb_dense_f16_c,
        .dense_bf16 = mb_dense_bf16_c,
        .rmsnorm = mb_rmsnorm_c,
        .rope = mb_rope_c,
        .silu_mul = mb_silu_mul_c,
        .add = mb_add_c,
        .scale_f16 = mb_scale_f16_c,
        .attend_f16 = mb_attend_f16_c,
        .attend_f32 = mb_attend_f32_c,
        .attend_finish = mb_attend_finish_c,
        .kv_store_f16 = mb_kv_store_f16_c,
        .kv_store_f32 = mb_kv_store_f32_c,
        .popcount_tokens_max = {0, 1, 1, 1, 1, 1, 1, 1, 1},
    };
}

void mb_kernels_select(struct mb_kernels *ret, mb_cpu_flags cpu)
{
    select_c(ret);
    (void) cpu;
    assert(ret->code && ret->code_planes && ret->bool_popcount && ret->bool_expand);
    assert(ret->dense_f32 && ret->dense_f16 && ret->dense_bf16);
    assert(ret->rmsnorm && ret->rope && ret->silu_mul && ret->add && ret->scale_f16);
    assert(ret->attend_f16 && ret->attend_f32 && ret->attend_finish);
    assert(ret->kv_store_f16 && ret->kv_store_f32);
}
