/* Goal:   mbool generate prints what the model says, the same every time, and says no clearly.
 * Method: run the command on a real model; compare with the text that its authors publish, and
 *         with itself under other threads and instruction sets. */
#include <jansson.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/clients/command.h"

struct outcome {
    int status;
    char out[1 << 16];
};

static void run(struct outcome *ret, bool both, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    ret->status = run_command(ret->out, sizeof ret->out, both, fmt, args);
    va_end(args);
}

static const char *model(void)
{
    static char dir[4096];
    const char *config = mb_data_path("models/stories260K/config.json");
    if (!config) {
        return NULL;
    }
    (void) snprintf(dir, sizeof dir, "%.*s", (int) (strlen(config) - strlen("/config.json")),
                    config);
    return dir;
}

START_TEST(greedy_is_the_published_text)
{
    const char *dir = model();
    if (!dir) {
        mb_skip("models/stories260K is not here");
    }
    static struct outcome got;
    run(&got, false, "generate %s --temperature 0 --max-tokens 200 --ignore-eos", dir);
    ck_assert_int_eq(got.status, 0);
    static char want[4096];
    FILE *f = fopen(
        mb_data_path("models/stories260K/upstream_expected_temperature0_200steps.txt"), "r");
    ck_assert_ptr_nonnull(f);
    size_t n = fread(want, 1, sizeof want - 2, f);
    (void) fclose(f);
    want[n] = '\n'; /* the command ends its line */
    want[n + 1] = '\0';
    ck_assert_str_eq(got.out, want);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_text_everywhere)
{
    const char *dir = model();
    if (!dir) {
        mb_skip("models/stories260K is not here");
    }
    static const char line[] =
        "generate %s --prompt 'One day' --seed 11 --top-p 0.95 --top-k 40 "
        "--temperature 1.2 --frequency-penalty 0.2 --max-tokens 60 %s";
    static struct outcome want, got;
    run(&want, false, line, dir, "--threads 1 --isa c");
    ck_assert_int_eq(want.status, 0);
    ck_assert_uint_gt(strlen(want.out), 40);
    const char *const ways[] = { "", "--threads 2", "--threads 3 --isa avx2", "--isa avx512" };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        run(&got, false, line, dir, ways[i]);
        if (got.status == 0) { /* else this processor lacks the instruction set */
            ck_assert_str_eq(got.out, want.out);
        }
    }
    run(&got, false, line, dir, "--seed 12");
    ck_assert_int_eq(got.status, 0);
    ck_assert_str_ne(got.out, want.out);
}
END_TEST

START_TEST(json_tells_tokens_and_likelihoods)
{
    const char *dir = model();
    if (!dir) {
        mb_skip("models/stories260K is not here");
    }
    static struct outcome got;
    run(&got, false,
        "generate %s --temperature 0 --json --logprobs 3 --stop ' girl' --stop nothing", dir);
    ck_assert_int_eq(got.status, 0);
    json_t *root = json_loads(got.out, 0, NULL);
    ck_assert_ptr_nonnull(root);
    const char *text = NULL, *reason = NULL;
    int n_prompt = 0, n_tokens = 0;
    json_t *tokens, *logprobs, *entry;
    ck_assert_int_eq(json_unpack(root, "{s:s, s:s, s:i, s:i, s:o, s:o}", "text", &text,
                                 "finish_reason", &reason, "prompt_tokens", &n_prompt,
                                 "completion_tokens", &n_tokens, "tokens", &tokens, "logprobs",
                                 &logprobs),
                     0);
    ck_assert_str_eq(text, "Once upon a time, there was a little");
    ck_assert_str_eq(reason, "stop");
    ck_assert_int_eq(n_prompt, 1);
    ck_assert_uint_eq(json_array_size(tokens), (size_t) n_tokens);
    ck_assert_uint_eq(json_array_size(logprobs), (size_t) n_tokens);
    size_t i;
    json_array_foreach (logprobs, i, entry) {
        json_t *top = json_object_get(entry, "top");
        ck_assert_uint_eq(json_array_size(top), 3);
        double best = json_real_value(json_object_get(json_array_get(top, 0), "logprob"));
        ck_assert_double_eq(json_real_value(json_object_get(entry, "logprob")),
                            best); /* greedy */
        ck_assert_double_le(best, 0);
    }
    json_decref(root);
}
END_TEST

static const struct {
    const char *line, *says;
    int status;
} refusals[] = {
    { "generate", "wants one argument, a model; got 0", 2 },
    { "generate a b", "wants one argument, a model; got 2", 2 },
    { "generate x --seed ' -5'", "mbool generate: --seed: ' -5' is not an integer", 2 },
    { "generate x --seed +5", "'+5' is not an integer", 2 },
    { "generate x --seed ''", "'' is not an integer", 2 },
    { "generate x --seed 18446744073709551616", "is not an integer in 0..18446744073709551615",
      2 },
    { "convert x --nonsense", "mbool convert: there is no option '--nonsense'", 2 },
    { "convert x --calibrat=y", "mbool convert: option '--calibrat=y' could be any of 2", 2 },
    { "convert x --no-resume=1", "mbool convert: option '--no-resume' takes no value", 2 },
    { "convert x -o", "mbool convert: option '-o' wants a value", 2 },
    { "eval x --text", "mbool eval: option '--text' wants a value", 2 },
    { "eval x -xy", "mbool eval: there is no option '-x'", 2 },
    { "eval x", "--text is wanted", 2 },
    { "generate /nowhere/at/all", "/nowhere/at/all", 1 },
    { "generate x --temperature 2.5", "0..2", 2 },
    { "generate x --top-p nan", "--top-p", 2 },
    { "generate x --max-tokens 0", "--max-tokens", 2 },
    { "generate x --logprobs 21 --json", "0..20", 2 },
    { "generate x --logprobs 2", "needs --json", 2 },
    { "generate x --stop ''", "--stop", 2 },
    { "generate x --stop \"$(printf '\\251')\"", "not UTF-8", 2 },
    { "generate x --stop a --stop b --stop c --stop d --stop e", "at most 4", 2 },
    { "generate --help", "up to 4 times", 0 },
    { "generate x --threads 0", "--threads", 2 },
    { "bench", "names one MODEL", 2 },
    { "bench /nowhere/at/all", "/nowhere/at/all", 1 },
};
enum { N_REFUSALS = sizeof refusals / sizeof refusals[0] };

START_TEST(what_makes_no_sense_is_refused)
{
    static struct outcome got;
    run(&got, true, "%s", refusals[_i].line);
    ck_assert_int_eq(got.status, refusals[_i].status);
    ck_assert_msg(strstr(got.out, refusals[_i].says), "'%s' does not say '%s'", got.out,
                  refusals[_i].says);
}
END_TEST

START_TEST(what_the_model_can_not_do_is_refused)
{
    const char *dir = model();
    if (!dir) {
        mb_skip("models/stories260K is not here");
    }
    static char prompt[3000];
    static struct outcome got;
    for (size_t i = 0; i + 2 < sizeof prompt; i += 2) {
        memcpy(prompt + i, "a ", 2);
    }
    run(&got, true, "generate %s --prompt '%s'", dir, prompt);
    ck_assert_int_eq(got.status, 1);
    run(&got, true, "generate %s --isa sse9", dir);
    ck_assert_int_ne(got.status, 0);
    ck_assert_ptr_nonnull(strstr(got.out, "sse9"));
}
END_TEST

START_TEST(ctrl_c_ends_it_cleanly)
{
    const char *dir = model();
    if (!dir) {
        mb_skip("models/stories260K is not here");
    }
    char command[4096], first[16];
    (void) snprintf(command, sizeof command, "%s/clients/mbool", getenv("MB_BUILD"));
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        (void) dup2(fds[1], STDOUT_FILENO);
        (void) close(fds[0]);
        (void) close(fds[1]);
        (void) execl(command, "mbool", "generate", dir, "--threads", "1", "--max-tokens", "500",
                     "--ignore-eos", (char *) NULL);
        _exit(99);
    }
    (void) close(fds[1]);
    ck_assert_int_gt(read(fds[0], first, sizeof first), 0); /* it prints as it goes */
    ck_assert_int_eq(kill(child, SIGINT), 0);
    int status = 0;
    while (read(fds[0], first, sizeof first) > 0) {
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 130);
    (void) close(fds[0]);
}
END_TEST

/* The float model too, whose keys and values are float32; test_bench.c has the rest. */
START_TEST(bench_measures_the_float_model)
{
    const char *dir = model();
    if (!dir) {
        mb_skip("models/stories260K is not here");
    }
    static struct outcome got;
    run(&got, false, "bench %s --json --threads 1 --quick --seconds 0", dir);
    ck_assert_int_eq(got.status, 0);
    json_t *root = json_loads(got.out, 0, NULL);
    ck_assert_ptr_nonnull(root);
    double read_rate;
    json_t *lists[2], *entry;
    ck_assert_int_eq(json_unpack(root, "{s:{s:f}, s:o, s:o}", "machine", "read_gb_per_s",
                                 &read_rate, "prompt", &lists[0], "decode", &lists[1]),
                     0);
    ck_assert_double_gt(read_rate, 0.1);
    ck_assert_uint_eq(json_array_size(lists[0]), 1);
    ck_assert_uint_eq(json_array_size(lists[1]), 3);
    for (int l = 0; l < 2; l++) {
        size_t i;
        json_array_foreach (lists[l], i, entry) {
            ck_assert_double_gt(json_real_value(json_object_get(entry, "tokens_per_s")), 1);
            ck_assert_double_gt(json_real_value(json_object_get(entry, "floor_tokens_per_s")),
                                1);
        }
    }
    json_decref(root);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("generate");
    TCase *t = tcase_create("generate and bench");
    tcase_add_test(t, greedy_is_the_published_text);
    tcase_add_test(t, the_same_seed_gives_the_same_text_everywhere);
    tcase_add_test(t, json_tells_tokens_and_likelihoods);
    tcase_add_loop_test(t, what_makes_no_sense_is_refused, 0, N_REFUSALS);
    tcase_add_test(t, what_the_model_can_not_do_is_refused);
    tcase_add_test(t, ctrl_c_ends_it_cleanly);
    tcase_add_test(t, bench_measures_the_float_model);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
