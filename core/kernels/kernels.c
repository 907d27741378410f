#include "core/kernels/kernels.h"

#include <assert.h>

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

#ifdef MB_HAVE_AVX2
static void select_avx2(struct mb_kernels *k)
{
    k->name = "avx2";
    k->code = mb_code_avx2;
    k->code_planes = mb_code_planes_avx2;
    k->bool_popcount = mb_bool_popcount_avx2;
    k->bool_expand = mb_bool_expand_avx2;
    k->dense_f32 = mb_dense_f32_avx2;
    k->dense_f16 = mb_dense_f16_avx2;
    k->dense_bf16 = mb_dense_bf16_avx2;
    k->rmsnorm = mb_rmsnorm_avx2;
    k->rope = mb_rope_avx2;
    k->silu_mul = mb_silu_mul_avx2;
    k->add = mb_add_avx2;
    k->scale_f16 = mb_scale_f16_avx2;
    k->attend_f16 = mb_attend_f16_avx2;
    k->attend_f32 = mb_attend_f32_avx2;
    k->attend_finish = mb_attend_finish_avx2;
    k->kv_store_f16 = mb_kv_store_f16_avx2;
}
#endif

#ifdef MB_HAVE_AVX512
/* What needs F, BW, VL and DQ only; the Boolean products stay those of AVX2. */
static void select_avx512(struct mb_kernels *k)
{
    k->name = "avx512";
    k->code = mb_code_avx512;
    k->code_planes = mb_code_planes_avx512;
    k->dense_f32 = mb_dense_f32_avx512;
    k->dense_f16 = mb_dense_f16_avx512;
    k->dense_bf16 = mb_dense_bf16_avx512;
    k->rmsnorm = mb_rmsnorm_avx512;
    k->rope = mb_rope_avx512;
    k->silu_mul = mb_silu_mul_avx512;
    k->add = mb_add_avx512;
    k->scale_f16 = mb_scale_f16_avx512;
    k->attend_f16 = mb_attend_f16_avx512;
    k->attend_f32 = mb_attend_f32_avx512;
    k->attend_finish = mb_attend_finish_avx512;
    k->kv_store_f16 = mb_kv_store_f16_avx512;
}
#endif

#if defined(MB_HAVE_AVX2) || defined(MB_HAVE_AVX512)
static int has(mb_cpu_flags cpu, mb_cpu_flags all)
{
    return (cpu & all) == all;
}
#endif

/* A ladder: each step stands on the one below, as the flags in cpu.h say. */
void mb_kernels_select(struct mb_kernels *ret, mb_cpu_flags cpu)
{
    select_c(ret);
#ifdef MB_HAVE_AVX2
    if (has(cpu, MB_CPU_AVX2)) {
        select_avx2(ret);
    }
#endif
#ifdef MB_HAVE_AVX512
    const mb_cpu_flags avx512 = MB_CPU_AVX2 | MB_CPU_AVX512;
    if (has(cpu, avx512)) {
        select_avx512(ret);
    }
#ifdef MB_HAVE_AVX512VPOPCNTDQ
    if (has(cpu, avx512 | MB_CPU_VPOPCNTDQ)) {
        ret->bool_popcount = mb_bool_popcount_avx512vpopcntdq;
    }
#endif
#ifdef MB_HAVE_AVX512VNNI
    if (has(cpu, avx512 | MB_CPU_VNNI)) {
        ret->bool_expand = mb_bool_expand_avx512vnni;
    }
#endif
#endif
    (void) cpu;

    assert(ret->code && ret->code_planes && ret->bool_popcount && ret->bool_expand);
    assert(ret->dense_f32 && ret->dense_f16 && ret->dense_bf16);
    assert(ret->rmsnorm && ret->rope && ret->silu_mul && ret->add && ret->scale_f16);
    assert(ret->attend_f16 && ret->attend_f32 && ret->attend_finish);
    assert(ret->kv_store_f16 && ret->kv_store_f32);
}
