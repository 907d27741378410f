/* Goal:   mbool bench measures every point that it is asked for, on every instruction set, and
 *         says which it left out and why; mbool synth makes what it runs on; both refuse
 *         nonsense clearly.
 * Method: a model of one layer, made by mbool synth; reports are read back as JSON. Rates are
 *         not judged, but must be there, finite and positive, and their parts add up. */
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "tests/clients/command.h"

static char dir[] = "/tmp/mbool-test-XXXXXX", path[64];
static char out[1 << 16];

static int run(bool both, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int status = run_command(out, sizeof out, both, fmt, args);
    va_end(args);
    return status;
}

/* One layer: the vocabulary is most of it. */
static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void) snprintf(path, sizeof path, "%s/m", dir);
    int status = run(true,
                     "synth --shape tinyllama-1.1b --layers 1 --kernels 2 --head-kernels 1"
                     " -o %s",
                     path);
    ck_assert_msg(status == 0, "%s", out);
}

static void teardown(void)
{
    (void) unlink(path);
    ck_assert_int_eq(rmdir(dir), 0);
}

static double number(const json_t *o, const char *name)
{
    json_t *v = json_object_get(o, name);
    ck_assert_msg(json_is_number(v), "%s", name);
    return json_number_value(v);
}

static void assert_time(const json_t *time)
{
    static const char *const names[] = { "embedding", "norms",     "coding",
                                         "products",  "attention", "gating",
                                         "head",      "barriers",  "sampling" };
    double sum = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        double share = number(time, names[i]);
        ck_assert_msg(share >= 0 && share <= 1, "%s: %g", names[i], share);
        sum += share;
    }
    ck_assert_uint_eq(json_object_size(time), sizeof names / sizeof names[0]);
    ck_assert_msg(fabs(sum - 1) < 1e-4, "shares add up to %g", sum);
}

static void assert_point(const json_t *p)
{
    double rate = number(p, "tokens_per_s"), least = number(p, "floor_tokens_per_s");
    ck_assert(isfinite(rate) && rate > 0);
    ck_assert(isfinite(least) && least > 0);
    ck_assert(fabs(number(p, "of_floor") / (rate / least) - 1) < 1e-4);
    ck_assert(number(p, "read_gb_per_s") > 0);
    ck_assert(json_is_string(json_object_get(p, "limit")));
    assert_time(json_object_get(p, "time"));
}

static json_t *report(const char *arguments)
{
    ck_assert_int_eq(run(false, "bench %s --json %s", path, arguments), 0);
    json_t *root = json_loads(out, 0, NULL);
    ck_assert_ptr_nonnull(root);
    return root;
}

static const char *const isas[] = { "auto", "avx512", "avx2", "c" };
enum { N_ISAS = sizeof isas / sizeof isas[0] };

START_TEST(every_instruction_set_reports_every_point)
{
    static const char *const rates[] = {
        "read_gb_per_s",
        "read_1_thread_gb_per_s",
        "popcount_gbit_per_s",
        "u8s8_gmac_per_s",
        "fma_gmac_per_s",
        "popcount_1_thread_gbit_per_s",
        "u8s8_1_thread_gmac_per_s",
        "fma_1_thread_gmac_per_s",
    };
    char arguments[256];
    if (MB_SANITIZED && _i == N_ISAS - 1) {
        mb_skip("portable C with sanitizers takes minutes");
    }
    (void) snprintf(
        arguments, sizeof arguments,
        "--isa %s --threads 2 --seconds 0 --prompt 3,33 --decode 1,3 --context 40,2", isas[_i]);
    if (run(true, "bench %s --isa %s --prompt none --decode none", path, isas[_i]) != 0) {
        ck_assert_ptr_nonnull(strstr(out, "this processor has only"));
        mb_skip("instruction set %s: not on this processor", isas[_i]);
    }
    ck_assert_ptr_nonnull(strstr(out, "machine: "));
    json_t *root = report(arguments), *machine = json_object_get(root, "machine"), *p;
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        ck_assert_msg(number(machine, rates[i]) > 0, "%s", rates[i]);
    }
    ck_assert(number(machine, "threads") == 2);
    if (_i > 0) {
        ck_assert_str_eq(json_string_value(json_object_get(machine, "isa")), isas[_i]);
    }
    static const double prompts[] = { 3, 33 }, batches[] = { 1, 3, 1, 3 };
    static const double contexts[] = { 40, 40, 2, 2 };
    size_t i;
    ck_assert_uint_eq(json_array_size(json_object_get(root, "prompt")), 2);
    json_array_foreach (json_object_get(root, "prompt"), i, p) {
        ck_assert(number(p, "tokens") == prompts[i]);
        assert_point(p);
    }
    ck_assert_uint_eq(json_array_size(json_object_get(root, "decode")), 4);
    json_array_foreach (json_object_get(root, "decode"), i, p) {
        ck_assert(number(p, "batch") == batches[i] && number(p, "context") == contexts[i]);
        assert_point(p);
    }
    assert_time(json_object_get(json_object_get(root, "time"), "prompt"));
    assert_time(json_object_get(json_object_get(root, "time"), "decode"));
    json_decref(root);
}
END_TEST

/* A position of this model is 1024 bytes: 32 take a block, 2048 take 2 MB. */
START_TEST(what_does_not_fit_is_left_out_with_a_reason)
{
    static const struct {
        double n, context; /* context 0: a prompt */
        const char *why;
    } want[] = {
        { 2049, 0, "the model's context is 2048" },
        { 32, 2048, "keys and values take 0.0671 GB, --kv-memory is 0.01" },
        { 1, 4096, "the model's context is 2048" },
        { 32, 4096, "the model's context is 2048" },
    };
    json_t *root = report("--seconds 0 --prompt 2049,1 --decode 1,32 --context 2048,4096"
                          " --kv-memory 0.01");
    json_t *p, *left_out = json_object_get(root, "left_out");
    size_t i;
    ck_assert_uint_eq(json_array_size(json_object_get(root, "prompt")), 1);
    ck_assert_uint_eq(json_array_size(json_object_get(root, "decode")), 1);
    ck_assert_uint_eq(json_array_size(left_out), sizeof want / sizeof want[0]);
    json_array_foreach (left_out, i, p) {
        ck_assert(number(p, want[i].context > 0 ? "batch" : "tokens") == want[i].n);
        if (want[i].context > 0) {
            ck_assert(number(p, "context") == want[i].context);
        }
        ck_assert_str_eq(json_string_value(json_object_get(p, "why")), want[i].why);
    }
    json_decref(root);
}
END_TEST

START_TEST(text_has_a_line_a_point)
{
    ck_assert_int_eq(
        run(true, "bench %s --seconds 0 --prompt 8 --decode 2 --context 16,99999", path), 0);
    static const char *const parts[] = { "machine: ",       "  read memory ",
                                         "  u8 x s8 ",      "model: a step reads ",
                                         "prompt  ",        "decode context ",
                                         "     2      16 ", "left out: the model's context" };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        ck_assert_msg(strstr(out, parts[i]), "'%s' in:\n%s", parts[i], out);
    }
}
END_TEST

static const struct {
    const char *line, *says;
    int status;
} refusals[] = {
    { "bench", "names one MODEL", 2 },
    { "bench a b", "names one MODEL", 2 },
    { "bench /nowhere/at/all", "/nowhere/at/all", 1 },
    { "bench x --isa none", "'x'", 1 }, /* the model is looked for first */
    { "bench x --prompt 1,,2", "--prompt: ''", 2 },
    { "bench x --prompt 0", "--prompt: '0'", 2 },
    { "bench x --decode 257", "1..256", 2 },
    { "bench x --decode 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "more than 16", 2 },
    { "bench x --context many", "--context: 'many'", 2 },
    { "bench x --kv-memory 0", "--kv-memory", 2 },
    { "bench x --seconds -1", "--seconds", 2 },
    { "synth", "--shape NAME is wanted", 2 },
    { "synth --shape llama-7b", "-o FILE is wanted", 2 },
    { "synth --shape gpt-2 -o x", "none of tinyllama-1.1b, llama-7b", 2 },
    { "synth --shape llama-7b -o x y", "'y'", 2 },
    { "synth --shape llama-7b -o x --kernels 9", "1..8", 2 },
    { "synth --shape llama-7b -o x --group 100", "multiple of 32", 2 },
    { "synth --shape llama-7b -o x --head-kernels half", "--head-kernels", 2 },
    { "synth --shape llama-7b -o /nowhere/at/all", "/nowhere/at/all", 1 },
};

START_TEST(nonsense_is_refused)
{
    int status = run(true, "%s", refusals[_i].line);
    ck_assert_msg(status == refusals[_i].status && strstr(out, refusals[_i].says),
                  "%s: status %d, wanted %d and '%s' in:\n%s", refusals[_i].line, status,
                  refusals[_i].status, refusals[_i].says, out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bench");
    TCase *t = tcase_create("points"), *r = tcase_create("refusals");
    tcase_set_timeout(t, 300);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, every_instruction_set_reports_every_point, 0, N_ISAS);
    tcase_add_test(t, what_does_not_fit_is_left_out_with_a_reason);
    tcase_add_test(t, text_has_a_line_a_point);
    suite_add_tcase(s, t);
    tcase_add_loop_test(r, nonsense_is_refused, 0,
                        (int) (sizeof refusals / sizeof refusals[0]));
    suite_add_tcase(s, r);
    return mb_run_suite(s);
}
