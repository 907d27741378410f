/* Goal:   the loops that peaks are measured by do what they say: every operation, no less.
 * Method: on every instruction set that this processor has, the number of operations that the
 *         loops report grows in proportion to their turns, and is a whole number of vectors
 *         a turn; what was read is summed up again, plainly. */
#include <stdbool.h>
#include <stdint.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/kernels/peak.h"
#include "tests/check_main.h"

enum { AVX512 = MB_CPU_AVX2 | MB_CPU_AVX512 };

static const struct {
    const char *name;
    mb_cpu_flags flags;
    uint64_t popcount, u8s8, fma; /* operations of a turn */
} sets[] = {
    { "c", 0, 8 * 32, 64, 16 },
    { "avx2", MB_CPU_AVX2, 12 * 128, 12 * 32, 12 * 8 },
    { "avx512", AVX512, 12 * 128, 12 * 32, 12 * 16 },
    { "avx512vpopcntdq", AVX512 | MB_CPU_VPOPCNTDQ, 12 * 512, 12 * 32, 12 * 16 },
    { "avx512vnni", AVX512 | MB_CPU_VNNI, 12 * 128, 12 * 64, 12 * 16 },
};
enum { N_SETS = sizeof sets / sizeof sets[0] };

/* Selects set i; false when this processor lacks it. */
static bool select_set(int i, struct mb_peaks *ret)
{
    mb_peaks_select(ret, sets[i].flags);
    return (mb_cpu_detect() & sets[i].flags) == sets[i].flags;
}

START_TEST(every_operation_is_done)
{
    static const size_t turns[] = { 0, 1, 2, 63, 64, 1000, MB_PEAK_TURNS_MAX };
    struct mb_peaks p;
    if (!select_set(_i, &p)) {
        mb_skip("instruction set %s: not on this processor", sets[_i].name);
    }
    for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++) {
        ck_assert_uint_eq(p.popcount(turns[i]), sets[_i].popcount * turns[i]);
        ck_assert_uint_eq(p.u8s8(turns[i]), sets[_i].u8s8 * turns[i]);
        ck_assert_uint_eq(p.fma(turns[i]), sets[_i].fma * turns[i]);
    }
}
END_TEST

START_TEST(every_word_is_read)
{
    enum { N = 64 * 37 };
    struct mb_peaks p;
    if (!select_set(_i, &p)) {
        mb_skip("instruction set %s: not on this processor", sets[_i].name);
    }
    uint64_t *at = mb_alloc(N, sizeof *at), sum = 0;
    for (size_t i = 0; i < N; i++) {
        at[i] = mb_rng_u64(1, 2, i);
        sum += at[i];
    }
    ck_assert_uint_eq(p.read(at, N), sum);
    mb_free(at);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("peak");
    TCase *t = tcase_create("peak");
    tcase_add_loop_test(t, every_operation_is_done, 0, N_SETS);
    tcase_add_loop_test(t, every_word_is_read, 0, N_SETS);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
