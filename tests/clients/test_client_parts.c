/* Goal:   hosts, metrics and the codecs of the client mean what they should.
 * Method: tables written by hand; requests are read back by the daemon's own decoder. */
#include "clients/http/host.h"
#include "clients/http/metrics_text.h"
#include "proto/json/answer_json.h"
#include "proto/json/completion_json.h"
#include "proto/json/request_json.h"
#include "tests/check_main.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *text, *url; /* NULL: refused */
} hosts[] = {
    { NULL, "http://127.0.0.1:8080" },
    { "", "http://127.0.0.1:8080" },
    { "box", "http://box:8080" },
    { "box:9000", "http://box:9000" },
    { ":9000", "http://127.0.0.1:9000" },
    { "[::1]", "http://[::1]:8080" },
    { "[::1]:9000", "http://[::1]:9000" },
    { "http://box", "http://box" },
    { "http://box:80/", "http://box:80" },
    { "https://a.example/models//", "https://a.example/models" },
    { "box/v2", "http://box:8080/v2" },
    { "::1", NULL },
    { "box:", NULL },
    { "box:0", NULL },
    { "box:65536", NULL },
    { "box:8o", NULL },
    { "ftp://box", NULL },
    { "http://user@box", NULL },
    { "box?x", NULL },
    { "a box", NULL },
    { "box\nX: y", NULL },
};
enum { N_HOSTS = sizeof hosts / sizeof hosts[0] };

START_TEST(hosts_are_read)
{
    struct mbc_host h;
    struct mb_error err;
    enum mb_status st = mbc_host_parse(hosts[_i].text, "secret", &h, &err);
    if (!hosts[_i].url) {
        ck_assert_int_eq(st, MB_E_INVALID);
        return;
    }
    mb_assert_ok(st, &err);
    ck_assert_str_eq(h.url, hosts[_i].url);
    ck_assert_str_eq(h.key, "secret");
}
END_TEST

START_TEST(a_key_can_not_bring_headers)
{
    struct mbc_host h;
    struct mb_error err;
    ck_assert_int_eq(mbc_host_parse("box", "a\r\nX: y", &h, &err), MB_E_INVALID);
    ck_assert_ptr_null(strstr(err.what, "X: y"));
}
END_TEST

static const char page[] = "# HELP a_total Things.\n"
                           "# TYPE a_total counter\n"
                           "a_total 3\n"
                           "ab_total 100\n"
                           "b_total{k=\"x\"} 1.5e3\n"
                           "b_total{k=\"y } \\\" z\"} 2 1700000000\n"
                           "bad NaN\n"
                           "none \n"
                           "h_bucket{le=\"0.1\"} 2\n"
                           "h_bucket{le=\"0.3\"} 6\n"
                           "h_bucket{le=\"1\"} 8\n"
                           "h_bucket{le=\"+Inf\"} 10\n"
                           "h_sum 4\nh_count 10\n"
                           "e_bucket{le=\"1\"} 0\ne_bucket{le=\"+Inf\"} 0";

START_TEST(metrics_are_read)
{
    double v;
    ck_assert(mbc_metrics_sum(page, "a_total", NULL, &v));
    ck_assert_double_eq(v, 3);
    ck_assert(mbc_metrics_sum(page, "b_total", NULL, &v));
    ck_assert_double_eq(v, 1502);
    ck_assert(mbc_metrics_sum(page, "b_total", "k=\"x\"", &v));
    ck_assert_double_eq(v, 1500);
    ck_assert(!mbc_metrics_sum(page, "b", NULL, &v));
    ck_assert(!mbc_metrics_sum(page, "bad", NULL, &v));
    ck_assert(!mbc_metrics_sum(page, "none", NULL, &v));
    ck_assert_double_eq(v, 0);
}
END_TEST

/* By hand, as Prometheus' histogram_quantile does it: linear within a bucket. */
START_TEST(quantiles_are_read)
{
    double v;
    ck_assert(
        mbc_metrics_quantile(page, "h", 0.5, &v)); /* rank 5 of 10: 3 of 4 into 0.1..0.3 */
    ck_assert_double_eq_tol(v, 0.25, 1e-12);
    ck_assert(mbc_metrics_quantile(page, "h", 0.1, &v));
    ck_assert_double_eq_tol(v, 0.05, 1e-12);
    ck_assert(mbc_metrics_quantile(page, "h", 0.99, &v)); /* beyond the last bound */
    ck_assert_double_eq_tol(v, 1, 1e-12);
    ck_assert(!mbc_metrics_quantile(page, "e", 0.5, &v));
    ck_assert(!mbc_metrics_quantile(page, "a_total", 0.5, &v));
}
END_TEST

START_TEST(the_daemon_reads_what_is_asked)
{
    struct mb_request_number numbers[] = {
        { .name = "max_tokens", .is_integer = true, .integer = 7 },
        { .name = "temperature", .real = 0.25 },
        { .name = "seed", .is_integer = true, .integer = 12345678901 },
    };
    const char *stops[] = { "\n\n", "END" };
    struct mb_request r = { .model = "m",
                            .prompt = "a \"b\"\n\xc3\xa4\0c",
                            .n_prompt = 10,
                            .numbers = numbers,
                            .n_numbers = 3,
                            .stops = stops,
                            .n_stops = 2,
                            .ignore_eos = true,
                            .stream = true };
    char *body = mb_request_encode(&r);
    ck_assert_ptr_nonnull(body);
    struct mb_completion c;
    struct mb_wire_error err;
    mb_completion_init(&c);
    ck_assert_msg(mb_completion_decode(body, strlen(body), &c, &err) == MB_OK, "%s",
                  err.message);
    ck_assert_str_eq(c.model, "m");
    ck_assert_uint_eq(c.max_tokens, 7);
    ck_assert_uint_eq(c.seed, 12345678901);
    ck_assert(c.temperature == 0.25f);
    ck_assert(c.ignore_eos && c.stream && c.include_usage);
    mb_completion_fini(&c);
    free(body);
}
END_TEST

START_TEST(chats_are_written)
{
    struct mb_request_message m[] = { { "system", "be brief", 8 }, { "user", "h\xffi", 3 } };
    struct mb_request r = { .model = "m", .messages = m, .n_messages = 2 };
    char *body = mb_request_encode(&r);
    ck_assert_str_eq(body,
                     "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":"
                     "\"be brief\"},{\"role\":\"user\",\"content\":\"h\xef\xbf\xbdi\"}]}");
    free(body);
    uint32_t ids[] = { 1, 22 };
    r = (struct mb_request) { .prompt_ids = ids, .n_prompt_ids = 2 };
    body = mb_request_encode(&r);
    ck_assert_str_eq(body, "{\"prompt\":[1,22]}");
    free(body);
}
END_TEST

static const struct {
    const char *json;
    enum mb_status st;
    const char *text, *finish; /* text is err.what when st is not MB_OK */
    int tokens;                /* -1: no usage */
} answers[] = {
    { "{\"choices\":[{\"text\":\"a\",\"finish_reason\":null}],\"usage\":null}", MB_OK, "a", "",
      -1 },
    { "{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}", MB_OK, "", "",
      -1 },
    { "{\"choices\":[{\"delta\":{\"content\":\"b\"}}]}", MB_OK, "b", "", -1 },
    { "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}", MB_OK, "", "stop", -1 },
    { "{\"choices\":[{\"message\":{\"content\":\"c\"},\"finish_reason\":\"length\"}],"
      "\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}",
      MB_OK, "c", "length", 3 },
    { "{\"choices\":[],\"usage\":{\"completion_tokens\":9}}", MB_OK, "", "", 9 },
    { "{\"choices\":[{\"message\":{\"content\":null}}]}", MB_OK, "", "", -1 },
    { "{\"choices\":[7]}", MB_OK, "", "", -1 },
    { "{\"error\":{\"message\":\"gone\"}}", MB_E_UNAVAILABLE, "gone", "", -1 },
    { "{\"error\":\"gone\"}", MB_E_UNAVAILABLE, "gone", "", -1 },
    { "{}", MB_E_FORMAT, "what came is no completion: it has no choices", "", -1 },
    { "[]", MB_E_FORMAT, "what came is no completion: it has no choices", "", -1 },
    { "<html>", MB_E_FORMAT, NULL, "", -1 },
};
enum { N_ANSWERS = sizeof answers / sizeof answers[0] };

START_TEST(answers_are_read)
{
    struct mb_answer a;
    struct mb_error err = { 0 };
    const char *json = answers[_i].json;
    enum mb_status st = mb_answer_decode(json, strlen(json), &a, &err);
    ck_assert_int_eq(st, answers[_i].st);
    if (st != MB_OK) {
        ck_assert(!answers[_i].text || strcmp(err.what, answers[_i].text) == 0);
        return;
    }
    ck_assert_str_eq(a.text, answers[_i].text);
    ck_assert_str_eq(a.finish, answers[_i].finish);
    ck_assert_int_eq(a.has_usage ? (int) a.completion_tokens : -1, answers[_i].tokens);
    mb_answer_fini(&a);
}
END_TEST

START_TEST(errors_are_read)
{
    static const char json[] = "{\"error\":{\"message\":\"no\",\"code\":\"queue_full\"}}";
    struct mb_error err;
    char code[48];
    mb_answer_error(429, json, strlen(json), code, sizeof code, &err);
    ck_assert_int_eq(err.code, MB_E_LIMIT);
    ck_assert_str_eq(err.what, "no");
    ck_assert_str_eq(code, "queue_full");
    mb_answer_error(502, "<html>", 6, code, sizeof code, &err);
    ck_assert_int_eq(err.code, MB_E_IO);
    ck_assert_str_eq(err.what, "the daemon answers with HTTP status 502");
    ck_assert_str_eq(code, "");
}
END_TEST

START_TEST(models_are_read)
{
    static const char json[] = "{\"data\":[{\"id\":\"a\",\"created\":5,\"max_model_len\":64,"
                               "\"system_fingerprint\":\"mbool-1-0123\"},{\"id\":7},\"x\"]}";
    struct mb_model_listed *list;
    struct mb_error err;
    size_t n;
    mb_assert_ok(mb_models_decode(json, strlen(json), &list, &n, &err), &err);
    ck_assert_uint_eq(n, 3);
    ck_assert_str_eq(list[0].id, "a");
    ck_assert_int_eq(list[0].created, 5);
    ck_assert_uint_eq(list[0].context_max, 64);
    ck_assert_str_eq(list[0].fingerprint, "mbool-1-0123");
    ck_assert_str_eq(list[1].id, "");
    free(list);
    ck_assert_int_eq(mb_models_decode("{}", 2, &list, &n, &err), MB_E_FORMAT);
}
END_TEST

int main(void)
{
    mb_json_init();
    Suite *s = suite_create("client_parts");
    TCase *t = tcase_create("parts");
    tcase_add_loop_test(t, hosts_are_read, 0, N_HOSTS);
    tcase_add_test(t, a_key_can_not_bring_headers);
    tcase_add_test(t, metrics_are_read);
    tcase_add_test(t, quantiles_are_read);
    tcase_add_test(t, the_daemon_reads_what_is_asked);
    tcase_add_test(t, chats_are_written);
    tcase_add_loop_test(t, answers_are_read, 0, N_ANSWERS);
    tcase_add_test(t, errors_are_read);
    tcase_add_test(t, models_are_read);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
