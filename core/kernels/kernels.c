#include "core/kernels/kernels.h"

#include <assert.h>
#include <string.h>

#include "core/kernels/variants.h"

static void select_c(struct mb_kernels *k)
{
    *k = (struct mb_kernels) {
        .name = "c",
        .code = mb_code_c,
        .code_tables = mb_code_tables_c,
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
        .widen_f16 = mb_widen_f16_c,
        .max = mb_max_c,
        .weigh = mb_weigh_c,
        .attend_f16 = mb_attend_f16_c,
        .attend_f32 = mb_attend_f32_c,
        .attend_merge = mb_attend_merge_c,
        .attend_finish = mb_attend_finish_c,
        .kv_store_f16 = mb_kv_store_f16_c,
        .kv_store_f32 = mb_kv_store_f32_c,
    };
}

#ifdef MB_HAVE_AVX2
static void select_avx2(struct mb_kernels *k)
{
    k->name = "avx2";
    k->code = mb_code_avx2;
    k->code_tables = mb_code_tables_avx2;
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
    k->widen_f16 = mb_widen_f16_avx2;
    k->max = mb_max_avx2;
    k->weigh = mb_weigh_avx2;
    k->attend_f16 = mb_attend_f16_avx2;
    k->attend_f32 = mb_attend_f32_avx2;
    k->attend_merge = mb_attend_merge_avx2;
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
    k->dense_f32 = mb_dense_f32_avx512;
    k->dense_f16 = mb_dense_f16_avx512;
    k->dense_bf16 = mb_dense_bf16_avx512;
    k->rmsnorm = mb_rmsnorm_avx512;
    k->rope = mb_rope_avx512;
    k->silu_mul = mb_silu_mul_avx512;
    k->add = mb_add_avx512;
    k->scale_f16 = mb_scale_f16_avx512;
    k->widen_f16 = mb_widen_f16_avx512;
    k->max = mb_max_avx512;
    k->weigh = mb_weigh_avx512;
    k->attend_f16 = mb_attend_f16_avx512;
    k->attend_f32 = mb_attend_f32_avx512;
    k->attend_merge = mb_attend_merge_avx512;
    k->attend_finish = mb_attend_finish_avx512;
    k->kv_store_f16 = mb_kv_store_f16_avx512;
}
#endif

/* Up to how many tokens the first product is the faster one, by K; see README.md. */
static const struct crossing {
    mb_bool_product_fn *popcount, *expand;
    size_t tokens_max[MB_KERNELS_MAX + 1];
} crossings[] = {
    { mb_bool_popcount_c, mb_bool_expand_c, { 0, 14, 4, 2, 1, 1, 1, 1, 1 } },
#ifdef MB_HAVE_AVX2
    { mb_bool_popcount_avx2, mb_bool_expand_avx2, { 0, 14, 7, 5, 7, 7, 7, 7, 7 } },
#endif
#ifdef MB_HAVE_AVX512VNNI
    { mb_bool_popcount_avx2, mb_bool_expand_avx512vnni, { 0, 3, 1, 1, 1, 1, 1, 1, 1 } },
#ifdef MB_HAVE_AVX512VBMI
    { mb_bool_popcount_avx512vbmi, mb_bool_expand_avx512vnni, { 0, 24, 4, 3, 3, 2, 2, 2, 2 } },
#ifdef MB_HAVE_AVX512GFNI
    { mb_bool_popcount_avx512vbmi, mb_bool_expand_avx512gfni, { 0, 24, 4, 3, 3, 2, 2, 2, 2 } },
#endif
#endif
#endif
};

/* A pair that no processor we know has gets the cautious answer: one token. */
static void set_tokens_max(struct mb_kernels *k)
{
    for (size_t n = 0; n <= MB_KERNELS_MAX; n++) {
        k->popcount_tokens_max[n] = n > 0;
    }
    for (size_t i = 0; i < sizeof crossings / sizeof crossings[0]; i++) {
        const struct crossing *c = &crossings[i];
        if (c->popcount == k->bool_popcount && c->expand == k->bool_expand) {
            memcpy(k->popcount_tokens_max, c->tokens_max, sizeof c->tokens_max);
        }
    }
}

static int has(mb_cpu_flags cpu, mb_cpu_flags all)
{
    return (cpu & all) == all;
}

/* A ladder: each step stands on the one below, as the flags in cpu.h say. */
void mb_kernels_select(struct mb_kernels *ret, mb_cpu_flags cpu)
{
    select_c(ret);
#ifdef MB_HAVE_AVX2
    if (has(cpu, MB_CPU_AVX2)) {
        select_avx2(ret);
    }
#endif
    cpu = has(cpu, MB_CPU_AVX2 | MB_CPU_AVX512) ? cpu : 0;
#ifdef MB_HAVE_AVX512
    if (has(cpu, MB_CPU_AVX512)) {
        select_avx512(ret);
    }
#endif
#ifdef MB_HAVE_AVX512VBMI
    if (has(cpu, MB_CPU_VBMI | MB_CPU_VNNI)) {
        ret->code_tables = mb_code_tables_avx512vbmi;
        ret->bool_popcount = mb_bool_popcount_avx512vbmi;
    }
#endif
#ifdef MB_HAVE_AVX512VNNI
    if (has(cpu, MB_CPU_VNNI)) {
        ret->bool_expand = mb_bool_expand_avx512vnni;
    }
#endif
#ifdef MB_HAVE_AVX512GFNI
    if (has(cpu, MB_CPU_GFNI | MB_CPU_VBMI | MB_CPU_VNNI | MB_CPU_VPOPCNTDQ)) {
        ret->bool_expand = mb_bool_expand_avx512gfni;
    }
#endif
    set_tokens_max(ret);

    assert(ret->code && ret->code_tables && ret->bool_popcount && ret->bool_expand);
    assert(ret->dense_f32 && ret->dense_f16 && ret->dense_bf16);
    assert(ret->rmsnorm && ret->rope && ret->silu_mul && ret->add && ret->scale_f16);
    assert(ret->widen_f16 && ret->max && ret->weigh);
    assert(ret->attend_f16 && ret->attend_f32 && ret->attend_merge && ret->attend_finish);
    assert(ret->kv_store_f16 && ret->kv_store_f32);
}
