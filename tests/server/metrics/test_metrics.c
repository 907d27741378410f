/* Goal:   the text of /metrics is what Prometheus reads (exposition format 0.0.4, and the rules
 * of `promtool check metrics`), and says what was counted. Method: a small parser of the format
 * here walks every line; then known numbers are looked up. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "server/metrics/metrics.h"
#include "tests/check_main.h"

static struct mbd_metrics *m;
static struct mb_bytes text;

static void setup(void)
{
    struct mb_error err;
    mb_assert_ok(mbd_metrics_new(&m, &err), &err);
    mbd_metrics_build(m, "avx2");
}

static void teardown(void)
{
    mbd_metrics_free(m);
    mb_bytes_fini(&text);
}

static const char *written(void)
{
    mb_bytes_clear(&text);
    mbd_metrics_text(m, &text);
    ck_assert(!text.failed);
    return mb_bytes_text(&text);
}

/* The number after "series ", or -1. */
static double value_of(const char *all, const char *series)
{
    size_t n = strlen(series);
    for (const char *line = all; *line; line = strchr(line, '\n') + 1) {
        if (strncmp(line, series, n) == 0 && line[n] == ' ') {
            return strtod(line + n + 1, NULL);
        }
    }
    return -1;
}

static bool ends_with(const char *name, size_t n, const char *end)
{
    size_t e = strlen(end);
    return n >= e && memcmp(name + n - e, end, e) == 0;
}

struct walk {
    char family[128], type[32];
    double last_bucket, inf;
    char seen[64][128];
    size_t n_seen;
};

static void new_family(struct walk *w, const char *line)
{
    char name[128], help[256];
    ck_assert_int_eq(sscanf(line, "# HELP %127s %255[^\n]", name, help), 2);
    for (size_t i = 0; i < w->n_seen; i++) {
        ck_assert_msg(strcmp(w->seen[i], name) != 0, "%s is told twice", name);
    }
    strcpy(w->seen[w->n_seen++], name);
    strcpy(w->family, name);
    w->type[0] = '\0';
}

static void check_name(const struct walk *w)
{
    size_t n = strlen(w->family);
    ck_assert_msg(ends_with(w->family, n, "_total") == (strcmp(w->type, "counter") == 0),
                  "%s is a %s", w->family, w->type);
    for (const char *c = w->family; *c; c++) {
        ck_assert_msg(islower((unsigned char) *c) || isdigit((unsigned char) *c) || *c == '_',
                      "%s has a '%c'", w->family, *c);
    }
    static const char *const not_base[] = { "_ms",       "milliseconds", "microseconds",
                                            "kilobytes", "percent",      "_count" };
    for (size_t i = 0; i < sizeof not_base / sizeof not_base[0]; i++) {
        ck_assert_msg(!strstr(w->family, not_base[i]), "%s has no base unit", w->family);
    }
}

static void check_sample(struct walk *w, const char *line)
{
    size_t n = strcspn(line, "{ "), n_family = strlen(w->family);
    ck_assert_msg(w->type[0] && strncmp(line, w->family, n_family) == 0, "stray: %.80s", line);
    bool histogram = strcmp(w->type, "histogram") == 0;
    const char *rest = line + n_family;
    const char *value = strrchr(line, ' ') + 1;
    char *end;
    double x = strtod(value, &end);
    ck_assert_msg(*end == '\n' || *end == '\0', "no number: %s", line);
    if (!histogram) {
        ck_assert_msg(n == n_family, "%.80s", line);
        return;
    }
    if (strncmp(rest, "_bucket{le=\"", 12) == 0) {
        ck_assert_msg(x >= w->last_bucket, "buckets fall: %s", line);
        w->last_bucket = x;
        if (strncmp(rest + 12, "+Inf\"", 5) == 0) {
            w->inf = x;
        }
    } else if (strncmp(rest, "_count ", 7) == 0) {
        ck_assert_msg(x == w->inf, "count is not the last bucket: %s", line);
    } else {
        ck_assert_msg(strncmp(rest, "_sum ", 5) == 0, "%s", line);
    }
}

START_TEST(the_format_holds)
{
    mbd_metrics_http(m, "completions", 200);
    mbd_metrics_http(m, "none", 404);
    mbd_metrics_observe(m, MBD_STEP_SECONDS, 3000000);
    char *copy = strdup(written());
    struct walk w = { .inf = -1 };
    ck_assert_int_eq(copy[strlen(copy) - 1], '\n');
    for (char *line = strtok(copy, "\n"); line; line = strtok(NULL, "\n")) {
        char name[128];
        if (strncmp(line, "# HELP ", 7) == 0) {
            new_family(&w, line);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            ck_assert_int_eq(sscanf(line, "# TYPE %127s %31s", name, w.type), 2);
            ck_assert_str_eq(name, w.family);
            check_name(&w);
            w.last_bucket = 0;
        } else {
            check_sample(&w, line);
        }
    }
    ck_assert_uint_gt(w.n_seen, 15);
    free(copy);
}
END_TEST

START_TEST(numbers_are_what_was_counted)
{
    mbd_metrics_add(m, MBD_GENERATION_TOKENS, 41);
    mbd_metrics_add(m, MBD_GENERATION_TOKENS, 1);
    mbd_metrics_add(m, MBD_REQUESTS_REFUSED, 3);
    mbd_metrics_set(m, MBD_REQUESTS_RUNNING, 5);
    mbd_metrics_set(m, MBD_KV_USED_RATIO, 250000);
    mbd_metrics_http(m, "models", 200);
    mbd_metrics_http(m, "models", 200);
    mbd_metrics_http(m, "models", 418);
    const char *all = written();
    ck_assert(value_of(all, "mboold_generation_tokens_total") == 42);
    ck_assert(value_of(all, "mboold_requests_total{outcome=\"refused\"}") == 3);
    ck_assert(value_of(all, "mboold_requests_total{outcome=\"stop\"}") == 0);
    ck_assert(value_of(all, "mboold_requests_running") == 5);
    ck_assert(value_of(all, "mboold_kv_used_ratio") == 0.25);
    ck_assert(value_of(all, "mboold_http_requests_total{route=\"models\",code=\"200\"}") == 2);
    ck_assert(value_of(all, "mboold_http_requests_total{route=\"models\",code=\"other\"}") ==
              1);
    ck_assert(value_of(all, "mboold_build_info{version=\"" MB_VERSION "\",isa=\"avx2\"}") == 1);
    ck_assert(value_of(all, "process_open_fds") >= 3);
    ck_assert(value_of(all, "process_resident_memory_bytes") > 100000);
    ck_assert(value_of(all, "process_cpu_seconds_total") >= 0);
    ck_assert(value_of(all, "process_max_fds") >= value_of(all, "process_open_fds"));
    ck_assert(value_of(all, "process_start_time_seconds") > 1.6e9);
}
END_TEST

START_TEST(a_bound_is_in_its_bucket)
{
    mbd_metrics_observe(m, MBD_BATCH_SEQUENCES, 4);
    mbd_metrics_observe(m, MBD_BATCH_SEQUENCES, 5);
    mbd_metrics_observe(m, MBD_BATCH_SEQUENCES, 1000000);
    mbd_metrics_observe(m, MBD_QUEUE_SECONDS, 0);
    mbd_metrics_observe(m, MBD_QUEUE_SECONDS, 1000000);
    mbd_metrics_observe(m, MBD_QUEUE_SECONDS, 1000001);
    const char *all = written();
    ck_assert(value_of(all, "mboold_batch_sequences_bucket{le=\"2\"}") == 0);
    ck_assert(value_of(all, "mboold_batch_sequences_bucket{le=\"4\"}") == 1);
    ck_assert(value_of(all, "mboold_batch_sequences_bucket{le=\"8\"}") == 2);
    ck_assert(value_of(all, "mboold_batch_sequences_bucket{le=\"1024\"}") == 2);
    ck_assert(value_of(all, "mboold_batch_sequences_bucket{le=\"+Inf\"}") == 3);
    ck_assert(value_of(all, "mboold_batch_sequences_sum") == 1000009);
    ck_assert(value_of(all, "mboold_queue_seconds_bucket{le=\"0.001\"}") == 2);
    ck_assert(value_of(all, "mboold_queue_seconds_bucket{le=\"0.01\"}") == 3);
    ck_assert(value_of(all, "mboold_queue_seconds_sum") == 0.002000001);
}
END_TEST

START_TEST(nobody_may_count)
{
    mbd_metrics_add(NULL, MBD_ENGINE_STEPS, 1);
    mbd_metrics_set(NULL, MBD_REQUESTS_RUNNING, 1);
    mbd_metrics_observe(NULL, MBD_STEP_SECONDS, 1);
    mbd_metrics_http(NULL, "x", 200);
    mbd_metrics_free(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metrics");
    TCase *t = tcase_create("metrics");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_format_holds);
    tcase_add_test(t, numbers_are_what_was_counted);
    tcase_add_test(t, a_bound_is_in_its_bucket);
    tcase_add_test(t, nobody_may_count);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
