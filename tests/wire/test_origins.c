/* Goal:   a page of the web can not use this server by having its name lead here, nor from another
 *         origin, unless --host and --cors-origin say that it may; programs are not troubled.
 * Method: one daemon for each setting; headers as browsers and attackers send them. */
#include <string.h>
#include <unistd.h>

#include "tests/check_main.h"
#include "tests/wire/daemon.h"

#define SMALL "{\"prompt\":\"x\",\"max_tokens\":1}"

static struct wire_daemon d;

static struct wire_reply ask(const char *method, const char *target, const char *headers,
                             const char *json)
{
    int fd = wire_open(&d);
    wire_send(fd, "%s %s HTTP/1.1\r\n%s", method, target, headers);
    if (json) {
        wire_send(fd, "Content-Length: %zu\r\n", strlen(json));
    }
    wire_send(fd, "\r\n%s", json ? json : "");
    struct wire_reply r = wire_read(fd, false);
    (void) close(fd);
    return r;
}

struct host {
    const char *host;
    int status;
};

static void assert_hosts(const struct host *h)
{
    for (; h->host; h++) {
        char line[300];
        (void) snprintf(line, sizeof line, "Host: %s\r\n", h->host);
        for (int i = 0; i < 2; i++) {
            struct wire_reply r = ask(i ? "POST" : "GET", i ? "/v1/completions" : "/healthz",
                                      line, i ? SMALL : NULL);
            ck_assert_msg(r.status == h->status, "%s: %d", h->host, r.status);
            ck_assert(h->status == 200 || strstr(r.body, "host_not_allowed"));
            wire_reply_free(&r);
        }
    }
}

START_TEST(a_name_does_not_lead_here)
{
    d = wire_start((const char *[]) { "--kv-memory=64M", NULL });
    assert_hosts((const struct host[]) {
        { "localhost", 200 },
        { "LocalHost:8080", 200 },
        { "127.0.0.1", 200 },
        { "127.0.0.1:8080", 200 },
        { "[::1]", 200 },
        { "[::1]:8080", 200 },
        { "192.168.0.7:1", 200 },
        { "evil.example", 403 },
        { "evil.example:8080", 403 },
        { "localhost.evil.test", 403 },
        { "127.0.0.1.a.test", 403 },
        { "xlocalhost", 403 },
        { "localhos", 403 },
        { "2130706433", 403 },
        { "0x7f.1", 403 },
        { "127.1", 403 },
        { "[::1", 403 },
        { "[]", 403 },
        { "::1", 403 },
        { "[127.0.0.1]", 403 },
        { "localhost,evil", 403 },
        { "evil,localhost", 403 },
        { "*", 403 },
        { "localhost@evil", 403 },
        { NULL, 0 },
    });
    struct wire_reply r = ask("GET", "/healthz", "", NULL); /* nor without one */
    ck_assert_int_eq(r.status, 400);
    wire_reply_free(&r);
    wire_stop(&d);
}
END_TEST

START_TEST(names_may_be_given)
{
    d = wire_start((const char *[]) { "--host=llm.example.com,b", "--kv-memory=64M", NULL });
    assert_hosts((const struct host[]) {
        { "llm.example.com", 200 },
        { "LLM.example.com:443", 200 },
        { "B", 200 },
        { "localhost", 200 },
        { "example.com", 403 },
        { "llm.example.com.evil", 403 },
        { "llm.example.com,b", 403 },
        { NULL, 0 },
    });
    wire_stop(&d);
    d = wire_start((const char *[]) { "--host=*", "--kv-memory=64M", NULL });
    assert_hosts((const struct host[]) { { "evil.example", 200 }, { NULL, 0 } });
    wire_stop(&d);
}
END_TEST

/* "" when the answer does not have it. */
static const char *header(const struct wire_reply *r, const char *name)
{
    static char value[512];
    return wire_header(r, name, value, sizeof value) ? value : "";
}

static void assert_origin(const char *origin, const char *json, int status, const char *allowed)
{
    char lines[300];
    (void) snprintf(lines, sizeof lines, "Host: localhost:8080\r\nOrigin: %s\r\n", origin);
    struct wire_reply r =
        ask(json ? "POST" : "GET", json ? "/v1/completions" : "/v1/models", lines, json);
    ck_assert_msg(r.status == status, "%s: %d: %s", origin, r.status, r.body);
    ck_assert_str_eq(header(&r, "Access-Control-Allow-Origin"), allowed);
    ck_assert_str_eq(header(&r, "Vary"), allowed[0] && allowed[0] != '*' ? "Origin" : "");
    wire_reply_free(&r);
}

/* A body without a content type needs no leave of the server: browsers just send it. */
START_TEST(other_origins_are_refused)
{
    d = wire_start((const char *[]) { "--kv-memory=64M", NULL });
    static const char *const bad[] = { "https://evil.example",
                                       "null",
                                       "http://localhost",
                                       "http://localhost:80801",
                                       "localhost:8080",
                                       "*",
                                       "" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_origin(bad[i], SMALL, 403, "");
        assert_origin(bad[i], NULL, 403, "");
    }
    assert_origin("http://localhost:8080", SMALL, 200, "");
    struct wire_reply r = ask("OPTIONS", "/v1/completions",
                              "Host: localhost\r\nOrigin: https://evil.example\r\n"
                              "Access-Control-Request-Method: POST\r\n",
                              NULL);
    ck_assert_int_eq(r.status, 403);
    wire_reply_free(&r);
    r = ask("OPTIONS", "/v1/completions", "Host: localhost\r\n", NULL);
    ck_assert_int_eq(r.status, 405);
    wire_reply_free(&r);
    wire_stop(&d);
}
END_TEST

static void assert_preflight(const char *target, const char *more, const char *methods,
                             const char *headers)
{
    char lines[2600];
    (void) snprintf(lines, sizeof lines,
                    "Host: localhost\r\nOrigin: https://app.example\r\n"
                    "Access-Control-Request-Method: POST\r\n%s",
                    more);
    struct wire_reply r = ask("OPTIONS", target, lines, NULL);
    ck_assert_msg(r.status == 204 && r.n_body == 0, "%d: %s", r.status, r.body);
    ck_assert_str_eq(header(&r, "Access-Control-Allow-Origin"), "https://app.example");
    ck_assert_str_eq(header(&r, "Access-Control-Allow-Methods"), methods);
    ck_assert_str_eq(header(&r, "Access-Control-Allow-Headers"), headers);
    ck_assert_str_eq(header(&r, "Vary"), "Origin");
    wire_reply_free(&r);
}

START_TEST(origins_may_be_given)
{
    char many[1100 + 64];
    d = wire_start((const char *[]) { "--cors-origin=https://app.example,https://b.example:1",
                                      "--kv-memory=64M", NULL });
    assert_origin("https://app.example", SMALL, 200, "https://app.example");
    assert_origin("https://b.example:1", NULL, 200, "https://b.example:1");
    assert_origin("https://app.example", "{", 400, "https://app.example"); /* errors are read */
    assert_origin("https://app.example.evil", SMALL, 403, "");
    assert_origin("https://b.example", SMALL, 403, "");
    assert_origin("http://localhost:8080", SMALL, 200, "");
    struct wire_reply r =
        ask("POST", "/v1/completions", "Host: localhost\r\nOrigin: https://app.example\r\n",
            "{\"prompt\":\"x\",\"max_tokens\":3,\"stream\":true}");
    ck_assert_str_eq(header(&r, "Access-Control-Allow-Origin"), "https://app.example");
    ck_assert_ptr_nonnull(strstr(header(&r, "Access-Control-Expose-Headers"), "X-Request-Id"));
    wire_reply_free(&r);

    assert_preflight("/v1/completions",
                     "Access-Control-Request-Headers: authorization, x-stainless-os\r\n",
                     "POST", "authorization, x-stainless-os");
    assert_preflight("/v1/models", "", "GET, HEAD", "Authorization, Content-Type");
    assert_preflight("/v1/completions", "Access-Control-Request-Headers: a;b\r\n", "POST",
                     "Authorization, Content-Type");
    int n = snprintf(many, sizeof many, "Access-Control-Request-Headers: ");
    memset(many + n, 'x', 1100);
    strcpy(many + n + 1100, "\r\n");
    assert_preflight("/v1/completions", many, "POST", "Authorization, Content-Type");
    r = ask("OPTIONS", "/none", "Host: localhost\r\nOrigin: https://app.example\r\n", NULL);
    ck_assert_int_eq(r.status, 404);
    wire_reply_free(&r);
    wire_stop(&d);
    d = wire_start((const char *[]) { "--cors-origin=*", "--kv-memory=64M", NULL });
    assert_origin("https://anybody.example", SMALL, 200, "*");
    assert_origin("null", NULL, 200, "*");
    wire_stop(&d);
}
END_TEST

int main(void)
{
    wire_folder_make();
    Suite *s = suite_create("wire origins");
    TCase *t = tcase_create("origins");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, a_name_does_not_lead_here);
    tcase_add_test(t, names_may_be_given);
    tcase_add_test(t, other_origins_are_refused);
    tcase_add_test(t, origins_may_be_given);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    wire_folder_remove();
    return status;
}
