#include "core/kernels/cpu.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int all_of(unsigned have, unsigned want)
{
    return (have & want) == want;
}

#if defined(__x86_64__)
#include <cpuid.h>

/* Bits of XCR0: what the operating system saves when it switches threads. */
enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xe6 };

/* Bits of CPUID, by leaf and register. */
enum {
    L1_ECX_FMA = 1u << 12,
    L1_ECX_POPCNT = 1u << 23,
    L1_ECX_OSXSAVE = 1u << 27,
    L1_ECX_AVX = 1u << 28,
    L1_ECX_F16C = 1u << 29,
    L7_EBX_AVX2 = 1u << 5,
    L7_EBX_AVX512F = 1u << 16,
    L7_EBX_AVX512DQ = 1u << 17,
    L7_EBX_AVX512BW = 1u << 30,
    L7_ECX_VBMI = 1u << 1,
    L7_ECX_GFNI = 1u << 8,
    L7_ECX_VNNI = 1u << 11,
    L7_ECX_VPOPCNTDQ = 1u << 14,
};
static const unsigned L7_EBX_AVX512VL = 1u << 31;

static uint64_t xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t) high << 32 | low;
}

mb_cpu_flags mb_cpu_detect(void)
{
    unsigned a, b, c, d;
    const unsigned avx = L1_ECX_FMA | L1_ECX_POPCNT | L1_ECX_OSXSAVE | L1_ECX_AVX | L1_ECX_F16C;
    const unsigned avx512 =
        L7_EBX_AVX512F | L7_EBX_AVX512DQ | L7_EBX_AVX512BW | L7_EBX_AVX512VL;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !all_of(c, avx) || (xcr0() & XCR0_AVX) != XCR0_AVX) {
        return 0;
    }
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !all_of(b, L7_EBX_AVX2)) {
        return 0;
    }
    mb_cpu_flags ret = MB_CPU_AVX2;
    if (!all_of(b, avx512) || (xcr0() & XCR0_AVX512) != XCR0_AVX512) {
        return ret;
    }
    ret |= MB_CPU_AVX512;
    ret |= c & L7_ECX_VPOPCNTDQ ? MB_CPU_VPOPCNTDQ : 0;
    ret |= c & L7_ECX_VNNI ? MB_CPU_VNNI : 0;
    ret |= c & L7_ECX_VBMI ? MB_CPU_VBMI : 0;
    ret |= c & L7_ECX_GFNI ? MB_CPU_GFNI : 0;
    return ret;
}

#else

mb_cpu_flags mb_cpu_detect(void)
{
    return 0;
}

#endif

static const struct {
    const char *name;
    mb_cpu_flags need; /* refused without */
    mb_cpu_flags keep;
} levels[] = {
    { "auto", 0, ~0u },
    { "c", 0, 0 },
    { "avx2", MB_CPU_AVX2, MB_CPU_AVX2 },
    { "avx512", MB_CPU_AVX2 | MB_CPU_AVX512, MB_CPU_AVX2 | MB_CPU_AVX512 },
    { "avx512vnni", MB_CPU_AVX2 | MB_CPU_AVX512 | MB_CPU_VNNI, ~0u },
};

enum mb_status mb_cpu_narrow(const char *name, mb_cpu_flags have, mb_cpu_flags *ret,
                             struct mb_error *err)
{
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (strcmp(name, levels[i].name) != 0) {
            continue;
        }
        if (!all_of(have, levels[i].need)) {
            char text[64];
            mb_cpu_describe(have, text, sizeof text);
            return mb_fail(err, MB_E_UNSUPPORTED, 0,
                           "instruction set %s: this processor has only %s", name, text);
        }
        *ret = have & levels[i].keep;
        return MB_OK;
    }
    return mb_fail(err, MB_E_INVALID, 0,
                   "instruction set '%.40s' is none of auto, c, avx2, avx512, avx512vnni",
                   name);
}

void mb_cpu_describe(mb_cpu_flags cpu, char *ret, size_t n)
{
    static const struct {
        mb_cpu_flags flag;
        const char *name;
    } flags[] = {
        { MB_CPU_AVX2, "avx2" }, { MB_CPU_AVX512, "avx512" }, { MB_CPU_VPOPCNTDQ, "vpopcntdq" },
        { MB_CPU_VNNI, "vnni" }, { MB_CPU_VBMI, "vbmi" },     { MB_CPU_GFNI, "gfni" },
    };
    assert(n > 0);
    size_t at = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < sizeof flags / sizeof flags[0] && at < n; i++) {
        if (cpu & flags[i].flag) {
            at += (size_t) snprintf(ret + at, n - at, "%s%s", at > 0 ? " " : "", flags[i].name);
        }
    }
    if (at == 0) {
        (void) snprintf(ret, n, "c");
    }
}
