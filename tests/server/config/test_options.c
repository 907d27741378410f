/* Goal:   an option means what its last source says, and nothing wrong gets through.
 * Method: loads from command lines, environments and files made here, and looks at the struct
 * or at what the error says. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/config/table.h"
#include "tests/check_main.h"

static struct mbd_options o;
static struct mb_error err;
static enum mbd_action action;
static char file_path[64];

static void setup(void)
{
    mbd_options_init(&o);
    memset(&err, 0, sizeof err);
    file_path[0] = '\0';
}

static void teardown(void)
{
    mbd_options_fini(&o);
    if (file_path[0]) {
        (void) unlink(file_path);
    }
}

static const char *write_file(const char *text)
{
    (void) snprintf(file_path, sizeof file_path, "/tmp/mboold-test-XXXXXX");
    int fd = mkstemp(file_path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t) strlen(text));
    (void) close(fd);
    return file_path;
}

#define LIST(...) ((const char *[]) { __VA_ARGS__, NULL })

/* Command line with a model, unless it has one. */
static enum mb_status load(const char *const *flags, const char *const *env)
{
    const char *argv[32] = { "mboold", "--model", "m=x.mbool" };
    int argc = 3;
    for (; *flags; flags++) {
        argv[argc++] = *flags;
    }
    return mbd_options_load(&o, argc, argv, env, &action, &err);
}

static void refused(const char *const *flags, const char *const *env, const char *says)
{
    enum mb_status st = load(flags, env);
    ck_assert_msg(st != MB_OK, "was taken, but should say '%s'", says);
    ck_assert_msg(strstr(err.what, says) != NULL, "says '%s', not '%s'", err.what, says);
}

static const char *no_env[] = { NULL };
static const char *no_flags[] = { NULL };

START_TEST(defaults_are_the_table)
{
    mb_assert_ok(load(no_flags, no_env), &err);
    ck_assert_int_eq(action, MBD_ACTION_RUN);
    ck_assert_uint_eq(o.sequences_max, 16);
    ck_assert_uint_eq(o.step_tokens, 256);
    ck_assert_uint_eq(o.step_time_ms, 150);
    ck_assert_uint_eq(o.queue_requests, 128);
    ck_assert_uint_eq(o.body_max, 8 << 20);
    ck_assert_uint_eq(o.header_timeout_ms, 10000);
    ck_assert_str_eq(o.listen.host, "127.0.0.1");
    ck_assert_uint_eq(o.listen.port, 8080);
    ck_assert_str_eq(o.isa, "auto");
    ck_assert(o.pin);
    ck_assert_int_eq(o.log_level, MBD_LOG_INFO);
    ck_assert_uint_eq(o.n_models, 1);
    ck_assert_str_eq(o.models[0].name, "m");
    ck_assert_str_eq(o.models[0].file, "x.mbool");
}
END_TEST

START_TEST(later_sources_win)
{
    const char *path =
        write_file("{\"threads\": 1, \"max_sequences\": 2, \"queue_requests\": 3,\n"
                   " \"pin\": false, \"kv_memory\": \"2G\", \"idle_timeout\": 99.5,\n"
                   " \"log_format\": \"json\", \"max_body\": 4096}");
    mb_assert_ok(load(LIST("--config", path, "--queue-requests=9"),
                      LIST("MBOOLD_MAX_SEQUENCES=7", "MBOOLD_QUEUE_REQUESTS=8", "OTHER=1",
                           "MBOOLD_PORT=tcp://10.0.0.1:80")),
                 &err);
    ck_assert_uint_eq(o.threads, 1);
    ck_assert_uint_eq(o.sequences_max, 7);
    ck_assert_uint_eq(o.queue_requests, 9);
    ck_assert(!o.pin);
    ck_assert_uint_eq(o.kv_memory, UINT64_C(2) << 30);
    ck_assert_uint_eq(o.idle_timeout_ms, 99500);
    ck_assert_int_eq(o.log_format, MBD_LOG_JSON);
    ck_assert_uint_eq(o.body_max, 4096);
    ck_assert_str_eq(o.config, path);
}
END_TEST

START_TEST(the_environment_names_the_file)
{
    char variable[128];
    (void) snprintf(variable, sizeof variable, "MBOOLD_CONFIG=%s",
                    write_file("{\"max_sequences\": 5}"));
    mb_assert_ok(load(no_flags, LIST(variable)), &err);
    ck_assert_uint_eq(o.sequences_max, 5);
}
END_TEST

START_TEST(models_of_a_later_source_replace)
{
    const char *path = write_file("{\"model\": {\"a\": \"a.mbool\", \"b\": \"dir/b.mbool\"}}");
    const char *argv[] = { "mboold", "--config", path };
    mb_assert_ok(mbd_options_load(&o, 3, argv, no_env, &action, &err), &err);
    ck_assert_uint_eq(o.n_models, 2);
    ck_assert_str_eq(o.models[1].file, "dir/b.mbool");

    mbd_options_fini(&o);
    mbd_options_init(&o);
    const char *env[] = { "MBOOLD_MODEL=c=c.mbool,d=d=e.mbool", NULL };
    mb_assert_ok(mbd_options_load(&o, 3, argv, env, &action, &err), &err);
    ck_assert_uint_eq(o.n_models, 2);
    ck_assert_str_eq(o.models[0].name, "c");
    ck_assert_str_eq(o.models[1].file, "d=e.mbool");

    mbd_options_fini(&o);
    mbd_options_init(&o);
    const char *more[] = { "mboold", "--config", path, "--model", "e=1", "--model=f=2" };
    mb_assert_ok(mbd_options_load(&o, 6, more, env, &action, &err), &err);
    ck_assert_uint_eq(o.n_models, 2);
    ck_assert_str_eq(o.models[0].name, "e");
    ck_assert_str_eq(o.models[1].name, "f");
}
END_TEST

START_TEST(flags_have_many_forms)
{
    mb_assert_ok(load(LIST("--no-pin", "--listen", "[::1]:0", "--max-body", "64k",
                           "--drain-timeout=0", "--isa=c", "--kv_memory", "1T"),
                      no_env),
                 &err);
    ck_assert(!o.pin);
    ck_assert_str_eq(o.listen.host, "::1");
    ck_assert_uint_eq(o.listen.port, 0);
    ck_assert_uint_eq(o.body_max, 65536);
    ck_assert_uint_eq(o.drain_timeout_ms, 0);
    ck_assert_str_eq(o.isa, "c");
    ck_assert_uint_eq(o.kv_memory, UINT64_C(1) << 40);
    mb_assert_ok(load(LIST("--pin", "--pin=false", "--pin"), no_env), &err);
    ck_assert(o.pin);
}
END_TEST

static const struct {
    const char *flag, *says;
} bad_flags[] = {
    { "--max-sequences=0", "--max-sequences: '0' is not allowed: it must be 1..1024" },
    { "--max-sequences=1025", "1..1024" },
    { "--max-sequences=-1", "'-1' is not allowed" },
    { "--max-sequences=+1", "not allowed" },
    { "--max-sequences= 1", "not allowed" },
    { "--max-sequences=1x", "not allowed" },
    { "--max-sequences=", "not allowed" },
    { "--max-sequences=99999999999999999999999", "not allowed" },
    { "--max-sequences=1.0", "not allowed" },
    { "--max-sequence=1", "did you mean --max-sequences?" },
    { "--zzzzzzzzzz=1", "there is no such option (see --help)" },
    { "--max-body=9M", "--max-body: '9M' is not allowed: it must be 1K..8M" },
    { "--max-body=1Q", "not allowed" },
    { "--max-body=1KK", "not allowed" },
    { "--kv-memory=18446744073709551615T", "not allowed" },
    { "--header-timeout=nan", "--header-timeout: 'nan' is not allowed: it must be 0.05..3600" },
    { "--header-timeout=1e3", "not allowed" },
    { "--header-timeout=0", "not allowed" },
    { "--header-timeout=1.2.3", "not allowed" },
    { "--header-timeout=.", "not allowed" },
    { "--pin=maybe", "--pin: 'maybe' is not allowed: it must be one of true, false" },
    { "--no-pin=true", "no such option" },
    { "--no-threads", "no such option" },
    { "--isa=avx1024", "one of auto, c, avx2, avx512, avx512vnni" },
    { "--log-level=loud", "one of debug, info, warn, error" },
    { "--listen=localhost:80", "numeric address and a port" },
    { "--listen=8080", "numeric address and a port" },
    { "--listen=::1:8080", "numeric address and a port" },
    { "--listen=[::1]", "numeric address and a port" },
    { "--listen=[::1", "numeric address and a port" },
    { "--listen=127.0.0.1:65536", "numeric address and a port" },
    { "--listen=127.0.0.1:", "numeric address and a port" },
    { "--listen=]:1", "numeric address and a port" },
    { "--xy", "--xy: there is no such option (see --help)" }, /* as far from "pin" as can be */
    { "--listen=:1", "numeric address and a port" },
    { "--model=x", "NAME=FILE" },
    { "--model==x", "NAME=FILE" },
    { "--model=x=", "NAME=FILE" },
    { "--model=a b=x", "NAME=FILE" },
    { "--model=m=x", "--model: the name 'm' is given twice" },
    { "--idle-timeout=60",
      "--idle-timeout: 60 is not allowed: it must be above body-timeout, 60" },
    { "--ops-listen=9090",
      "--ops-listen: '9090' is not allowed: it must be a numeric address" },
    { "--listen=", "--listen: '' is not allowed: it must be a numeric address" },
    { "--header-timeout=80.5",
      "--idle-timeout: 75 is not allowed: it must be above header-timeout, 80.5" },
    { "--step-tokens=8",
      "--step-tokens: 8 is not allowed: it must be at least max-sequences, 16" },
    { "--body-memory=1M", "must be at least max-body" },
    { "--config=/nonexistent/x.json", "/nonexistent/x.json" },
    { "--help=1", "takes no value" },
    { "--threads", "--threads: needs a value N" },
    { "model.mbool", "options start with --" },
    { "-x", "options start with --" },
};

START_TEST(wrong_flags_are_refused)
{
    refused(LIST(bad_flags[_i].flag), no_env, bad_flags[_i].says);
}
END_TEST

START_TEST(wrong_variables_are_refused)
{
    refused(no_flags, LIST("MBOOLD_THREADS=many"),
            "MBOOLD_THREADS: 'many' is not allowed: it must be 0..256");
    refused(no_flags, LIST("MBOOLD_MODEL=a=b,,"), "MBOOLD_MODEL: ");
}
END_TEST

static const struct {
    const char *text, *says;
} bad_files[] = {
    { "{\n \"threads\": 1,\n \"max_sequences\": 0\n}",
      ":3: max_sequences: '0' is not allowed: it must be 1..1024" },
    { "{\"max_sequence\": 1}", ":1: 'max_sequence': there is no such option; did you mean "
                               "'max_sequences'?" },
    { "{\n\n\"max-sequences\": 1}",
      ":3: 'max-sequences': there is no such option; did you mean "
      "'max_sequences'?" },
    { "{\"config\": \"x\"}", "there is no such option" },
    { "{\"help\": true}", "there is no such option" },
    { "{\"threads\": \"1\"}", "threads: must be an integer" },
    { "{\"threads\": 1.0}", "threads: must be an integer" },
    { "{\"threads\": true}", "threads: must be an integer" },
    { "{\"threads\": null}", "threads: must be an integer" },
    { "{\"threads\": -1}", "threads: '-1' is not allowed" },
    { "{\"pin\": 1}", "pin: must be true or false" },
    { "{\"listen\": 8080}", "listen: must be a string" },
    { "{\"max_body\": []}", "max_body: must be a number or a string" },
    { "{\"idle_timeout\": \"1\"}", "idle_timeout: must be a number of seconds" },
    { "{\"idle_timeout\": -1.5}", "idle_timeout: '-1.500000' is not allowed" },
    { "{\"model\": \"a=b\"}", "model: must be an object" },
    { "{\"model\": {\"a\": 1}}", "model: 'a': must be the path of a file" },
    { "{\"model\": {\"a b\": \"x\"}}", "NAME=FILE" },
    { "{\"threads\": 1, \"threads\": 2}", "duplicate" },
    { "{\"threads\": 1,}", ":1: " },
    { "[]", "must be a JSON object" },
    { "", ":1: " },
};

START_TEST(wrong_files_are_refused)
{
    refused(LIST("--config", write_file(bad_files[_i].text)), no_env, bad_files[_i].says);
}
END_TEST

/* The line is that of the key, not of the same word elsewhere. */
START_TEST(lines_are_those_of_the_key)
{
    refused(LIST("--config", write_file("{\n\"model\": {\"threads\": \"threads\"},\n"
                                        "\"listen\": \"\\\"threads\\\": 1\",\n"
                                        "\"threads\": 999}")),
            no_env, ":3: listen: ");
    (void) unlink(file_path);
    refused(LIST("--config", write_file("{\n\"model\": {\"threads\": \"threads\"},\n"
                                        "\"log_level\": \"info\",\n\"threads\": 999}")),
            no_env, ":4: threads: ");
}
END_TEST

START_TEST(a_model_is_needed)
{
    const char *argv[] = { "mboold", NULL };
    ck_assert_int_eq(mbd_options_load(&o, 1, argv, no_env, &action, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.what, "--model: at least one NAME=FILE is needed"));
}
END_TEST

START_TEST(actions_look_at_nothing_else)
{
    static const struct {
        const char *flag;
        enum mbd_action action;
    } known[] = { { "--help", MBD_ACTION_HELP },
                  { "-h", MBD_ACTION_HELP },
                  { "--version", MBD_ACTION_VERSION },
                  { "--print-defaults", MBD_ACTION_PRINT_DEFAULTS } };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const char *argv[] = { "mboold", known[i].flag, NULL };
        mb_assert_ok(mbd_options_load(&o, 2, argv, LIST("MBOOLD_THREADS=x"), &action, &err),
                     &err);
        ck_assert_int_eq(action, known[i].action);
    }
    mb_assert_ok(load(LIST("--check-config"), no_env), &err);
    ck_assert_int_eq(action, MBD_ACTION_CHECK_CONFIG);
}
END_TEST

/* The printed defaults are a configuration file; every key in it is known and every value is
 * what the default is. The file in config/ is this text. */
START_TEST(printed_defaults_are_the_file_in_the_repository)
{
    struct mb_bytes text = { 0 };
    mbd_table_defaults(&text);
    struct mbd_options plain;
    mbd_options_init(&plain);
    const char *argv[] = { "mboold", "--model=m=x", "--config",
                           write_file(mb_bytes_text(&text)) };
    mb_assert_ok(mbd_options_load(&o, 4, argv, no_env, &action, &err), &err);
    ck_assert_mem_eq((char *) &o + offsetof(struct mbd_options, threads),
                     (char *) &plain + offsetof(struct mbd_options, threads),
                     sizeof o - offsetof(struct mbd_options, threads));

    char path[1024], stored[8192];
    (void) snprintf(path, sizeof path, "%s/config/mboold.json", getenv("MB_SOURCE"));
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "no '%s'", path);
    stored[fread(stored, 1, sizeof stored - 1, f)] = '\0';
    (void) fclose(f);
    ck_assert_str_eq(stored, mb_bytes_text(&text));
    mb_bytes_fini(&text);
}
END_TEST

START_TEST(help_names_everything)
{
    struct mb_bytes text = { 0 };
    mbd_table_help(&text);
    for (const struct mbd_row *row = mbd_table; row->name; row++) {
        char flag[80], variable[MBD_NAME_MAX];
        (void) snprintf(flag, sizeof flag, "  --%s ", row->name);
        ck_assert_msg(strstr(mb_bytes_text(&text), flag) != NULL, "no '%s'", flag);
        mbd_table_variable(row, variable);
        ck_assert(row->kind == MBD_KIND_ACTION || strstr(mb_bytes_text(&text), variable));
    }
    for (const char *line = mb_bytes_text(&text); *line;) {
        size_t n = strcspn(line, "\n");
        ck_assert_msg(n <= 96, "too long: %.*s", (int) n, line);
        line += n + (line[n] == '\n');
    }
    mb_bytes_fini(&text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("options");
    TCase *t = tcase_create("options");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, defaults_are_the_table);
    tcase_add_test(t, later_sources_win);
    tcase_add_test(t, the_environment_names_the_file);
    tcase_add_test(t, models_of_a_later_source_replace);
    tcase_add_test(t, flags_have_many_forms);
    tcase_add_loop_test(t, wrong_flags_are_refused, 0, sizeof bad_flags / sizeof bad_flags[0]);
    tcase_add_test(t, wrong_variables_are_refused);
    tcase_add_loop_test(t, wrong_files_are_refused, 0, sizeof bad_files / sizeof bad_files[0]);
    tcase_add_test(t, lines_are_those_of_the_key);
    tcase_add_test(t, a_model_is_needed);
    tcase_add_test(t, actions_look_at_nothing_else);
    tcase_add_test(t, printed_defaults_are_the_file_in_the_repository);
    tcase_add_test(t, help_names_everything);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
