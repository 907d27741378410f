/* Goal:   mboold answers requests as OpenAI's API and HTTP/1.1 say, good ones and bad ones.
 * Method: the whole daemon, over a socket; what it should say is written here. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/check_main.h"
#include "tests/support/model_file.h"
#include "tests/wire/daemon.h"

static struct wire_daemon d;

static void setup(void)
{
    static const char *const flags[] = {
        "--max-sequences=4", "--queue-requests=64",  "--step-tokens=32",
        "--kv-memory=64M",   "--header-timeout=0.5", "--body-timeout=0.5",
        "--max-body=64K",    "--body-memory=1M",     NULL
    };
    d = wire_start(flags);
}

static void teardown(void)
{
    wire_stop(&d);
}

static json_t *parse(const char *text)
{
    json_error_t where;
    json_t *root = json_loads(text, JSON_ALLOW_NUL, &where);
    ck_assert_msg(root != NULL, "%s: %s", where.text, text);
    return root;
}

static const char *text_of(const json_t *completion)
{
    const json_t *choice = json_array_get(json_object_get(completion, "choices"), 0);
    return json_string_value(json_object_get(choice, "text"));
}

static json_t *complete(const char *json)
{
    struct wire_reply r = wire_ask(&d, "/v1/completions", json);
    ck_assert_msg(r.status == 200, "%s: %s%s", json, r.head, r.body);
    json_t *root = parse(r.body);
    wire_reply_free(&r);
    return root;
}

START_TEST(a_completion)
{
    json_t *root = complete("{\"model\":\"tiny\",\"prompt\":\"hello\",\"max_tokens\":9,"
                            "\"temperature\":0,\"ignore_eos\":true}");
    json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    json_t *usage = json_object_get(root, "usage");
    ck_assert_int_eq(strncmp(json_string_value(json_object_get(root, "id")), "cmpl-", 5), 0);
    ck_assert_int_eq(
        strncmp(json_string_value(json_object_get(root, "system_fingerprint")), "mbool-", 6),
        0);
    ck_assert_str_eq(json_string_value(json_object_get(root, "object")), "text_completion");
    ck_assert_str_eq(json_string_value(json_object_get(choice, "finish_reason")), "length");
    ck_assert_int_eq(json_integer_value(json_object_get(usage, "prompt_tokens")),
                     6); /* and BOS */
    ck_assert_int_eq(json_integer_value(json_object_get(usage, "completion_tokens")), 9);
    ck_assert_int_eq(json_integer_value(json_object_get(usage, "total_tokens")), 15);
    json_decref(root);
}
END_TEST

/* "hello" as text is the same as its bytes with the start before them. */
START_TEST(ids_are_text_and_defaults_are_kept)
{
    json_t *a = complete("{\"prompt\":\"hello\",\"temperature\":0,\"ignore_eos\":true}");
    json_t *b = complete("{\"prompt\":[257,104,101,108,108,111],\"temperature\":0,"
                         "\"ignore_eos\":true}");
    ck_assert_str_eq(text_of(a), text_of(b));
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(a, "usage"), "completion_tokens")),
        16);
    json_decref(a);
    json_decref(b);
}
END_TEST

START_TEST(echo_repeats_the_prompt)
{
    json_t *a =
        complete("{\"prompt\":\"h\xc3\xa9\\u0000llo\",\"max_tokens\":4,\"temperature\":0,"
                 "\"ignore_eos\":true}");
    json_t *b =
        complete("{\"prompt\":\"h\xc3\xa9\\u0000llo\",\"max_tokens\":4,\"temperature\":0,"
                 "\"ignore_eos\":true,\"echo\":true}");
    const json_t *choice = json_array_get(json_object_get(b, "choices"), 0);
    const json_t *text = json_object_get(choice, "text");
    ck_assert_uint_ge(json_string_length(text), 7);
    ck_assert_mem_eq(json_string_value(text), "h\xc3\xa9\0llo", 7);
    ck_assert_str_eq(json_string_value(text) + 7, text_of(a));
    json_decref(a);
    json_decref(b);
    b = complete("{\"prompt\":[257,104,105],\"max_tokens\":1,\"temperature\":0,\"echo\":true}");
    ck_assert_int_eq(strncmp(text_of(b), "hi", 2), 0);
    json_decref(b);
}
END_TEST

/* Beyond 16 KB a prompt is tokenized on another thread. */
/* It was computed, so it counts, though nobody sees it. */
START_TEST(the_end_of_sequence_counts)
{
    json_t *root =
        complete("{\"prompt\":\"x\",\"seed\":1,\"max_tokens\":5000,\"temperature\":2,"
                 "\"logprobs\":0}");
    const json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    const json_t *tokens = json_object_get(json_object_get(choice, "logprobs"), "tokens");
    const json_t *usage = json_object_get(root, "usage");
    ck_assert_str_eq(json_string_value(json_object_get(choice, "finish_reason")), "stop");
    ck_assert_int_eq(json_integer_value(json_object_get(usage, "completion_tokens")),
                     (json_int_t) json_array_size(tokens) + 1);
    json_decref(root);
}
END_TEST

START_TEST(no_tokens_may_be_asked_for)
{
    for (int echo = 0; echo < 2; echo++) {
        json_t *root =
            complete(echo ? "{\"prompt\":\"hello\",\"max_tokens\":0,\"echo\":true}"
                          : "{\"prompt\":\"hello\",\"max_tokens\":0,\"logprobs\":1}");
        const json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
        const json_t *usage = json_object_get(root, "usage");
        ck_assert_str_eq(text_of(root), echo ? "hello" : "");
        ck_assert_str_eq(json_string_value(json_object_get(choice, "finish_reason")), "length");
        ck_assert_int_eq(json_integer_value(json_object_get(usage, "completion_tokens")), 0);
        ck_assert_int_gt(json_integer_value(json_object_get(usage, "prompt_tokens")), 4);
        json_decref(root);
    }
    struct wire_reply r =
        wire_ask(&d, "/v1/completions",
                 "{\"prompt\":\"hello\",\"max_tokens\":0,\"echo\":true,"
                 "\"stream\":true,\"stream_options\":{\"include_usage\":true}}");
    ck_assert_msg(r.whole && r.status == 200, "%s", r.head);
    ck_assert_ptr_nonnull(strstr(r.body, "\"text\":\"hello\""));
    ck_assert_ptr_nonnull(strstr(r.body, "\"finish_reason\":\"length\""));
    ck_assert_ptr_nonnull(strstr(r.body, "\"completion_tokens\":0,"));
    ck_assert_ptr_nonnull(strstr(r.body, "data: [DONE]\n\n"));
    wire_reply_free(&r);
    ck_assert(wire_metric(&d, "mboold_engine_steps_total") == 0);

    char *json = malloc(70100); /* a prompt that is too long is so for no token as well */
    size_t n = (size_t) sprintf(json, "{\"max_tokens\":0,\"prompt\":[1");
    for (int i = 0; i < 33000; i++) {
        n += (size_t) sprintf(json + n, ",1");
    }
    (void) sprintf(json + n, "]}");
    struct wire_daemon small =
        wire_start((const char *[]) { "--context=32768", "--kv-memory=64M", NULL });
    r = wire_ask(&small, "/v1/completions", json);
    ck_assert_int_eq(r.status, 400);
    ck_assert_ptr_nonnull(strstr(r.body, "the prompt has 33001 "));
    wire_reply_free(&r);
    wire_stop(&small);
    free(json);
}
END_TEST

START_TEST(long_prompts)
{
    enum { LONG = MB_SANITIZED ? 1700 : 17000 };
    char *json = malloc(LONG + 200);
    const char *tokens = MB_SANITIZED ? "\"prompt_tokens\":1701," : "\"prompt_tokens\":17001,";
    for (int kind = 0; kind < 3; kind++) {
        size_t n =
            (size_t) sprintf(json, "{\"max_tokens\":%d%s,\"ignore_eos\":true,\"prompt\":\"",
                             kind == 2 ? 65000 : 3, kind == 1 ? ",\"stream\":true" : "");
        memset(json + n, 'a', LONG);
        strcpy(json + n + LONG, "\"}");
        struct wire_reply r = wire_ask(&d, "/v1/completions", json);
        if (kind == 0) {
            ck_assert_msg(r.status == 200, "%s%s", r.head, r.body);
            ck_assert_ptr_nonnull(strstr(r.body, tokens));
        } else if (kind == 1) {
            ck_assert_ptr_nonnull(strstr(r.body, "data: [DONE]\n\n"));
        } else {
            ck_assert_msg(r.status == 400, "%s%s", r.head, r.body);
            ck_assert_ptr_nonnull(strstr(r.body, "context_length_exceeded"));
        }
        wire_reply_free(&r);
    }
    free(json);
}
END_TEST

START_TEST(logprobs_count_and_sum)
{
    json_t *root =
        complete("{\"prompt\":\"x\",\"max_tokens\":5,\"temperature\":0,\"logprobs\":2,"
                 "\"ignore_eos\":true}");
    const json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
    const json_t *lp = json_object_get(choice, "logprobs");
    for (size_t i = 0; i < 5; i++) {
        double x = json_real_value(json_array_get(json_object_get(lp, "token_logprobs"), i));
        const json_t *top = json_array_get(json_object_get(lp, "top_logprobs"), i);
        const char *token = json_string_value(json_array_get(json_object_get(lp, "tokens"), i));
        ck_assert(x < 0 && x > -10);
        ck_assert_uint_eq(json_object_size(top), 2);
        /* Greedy draws the likeliest. */
        ck_assert(json_real_value(json_object_get(top, token)) == x);
        ck_assert(json_is_integer(json_array_get(json_object_get(lp, "text_offset"), i)));
    }
    ck_assert_uint_eq(json_array_size(json_object_get(lp, "tokens")), 5);
    json_decref(root);
}
END_TEST

/* ---- streams ----------------------------------------------------------------------------- */

struct events {
    char text[8192];
    size_t n_chunks, n_usage_null, n_usage, n_finished, n_done;
};

/* Takes a stream apart: every event is data, and the last is [DONE]. */
static struct events read_events(const struct wire_reply *r)
{
    struct events e = { 0 };
    char type[64];
    ck_assert_msg(r->status == 200 && r->whole, "%s%s", r->head, r->body);
    ck_assert(wire_header(r, "Content-Type", type, sizeof type));
    ck_assert_str_eq(type, "text/event-stream");
    for (char *at = r->body; *at;) {
        char *end = strstr(at, "\n\n");
        ck_assert_msg(end && e.n_done == 0, "no event: %s", at);
        *end = '\0';
        if (strcmp(at, "data: [DONE]") == 0) {
            e.n_done++;
        } else if (strcmp(at, ":") != 0) {
            ck_assert_int_eq(strncmp(at, "data: {", 7), 0);
            json_t *root = parse(at + 6), *usage = json_object_get(root, "usage");
            json_t *choice = json_array_get(json_object_get(root, "choices"), 0);
            e.n_chunks++;
            e.n_usage_null += usage && json_is_null(usage);
            e.n_usage += json_is_object(usage);
            e.n_finished += json_is_string(json_object_get(choice, "finish_reason"));
            (void) strcat(e.text, choice ? text_of(root) : "");
            json_decref(root);
        }
        at = end + 2;
    }
    ck_assert_uint_eq(e.n_done, 1);
    return e;
}

START_TEST(a_stream_is_the_same_text_in_pieces)
{
    json_t *whole = complete("{\"prompt\":\"hello\",\"max_tokens\":64,\"seed\":5,"
                             "\"ignore_eos\":true,\"echo\":true}");
    struct wire_reply r = wire_ask(&d, "/v1/completions",
                                   "{\"prompt\":\"hello\",\"max_tokens\":64,\"seed\":5,"
                                   "\"ignore_eos\":true,\"stream\":true,\"echo\":true,"
                                   "\"stream_options\":{\"include_usage\":true}}");
    struct events e = read_events(&r);
    ck_assert_str_eq(e.text, text_of(whole));
    ck_assert_uint_gt(e.n_chunks, 10);
    ck_assert_uint_eq(e.n_usage, 1);
    ck_assert_uint_eq(e.n_usage_null, e.n_chunks - 1);
    ck_assert_uint_eq(e.n_finished, 1);
    wire_reply_free(&r);
    r = wire_ask(&d, "/v1/completions", "{\"prompt\":\"hello\",\"stream\":true}");
    e = read_events(&r);
    ck_assert_uint_eq(e.n_usage + e.n_usage_null, 0);
    wire_reply_free(&r);
    json_decref(whole);
}
END_TEST

/* Sixteen at once through four slots, streams and wholes: everyone gets what one alone gets. */
START_TEST(sixteen_clients_at_once)
{
    enum { CLIENTS = 16 };
    static const char body[] = "{\"prompt\":\"all together\",\"max_tokens\":100,\"seed\":7,"
                               "\"ignore_eos\":true%s}";
    char whole[256], stream[256];
    int fds[CLIENTS];
    (void) snprintf(whole, sizeof whole, body, "");
    (void) snprintf(stream, sizeof stream, body, ",\"stream\":true");
    json_t *alone = complete(whole);
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = wire_open(&d);
        wire_post(fds[i], "/v1/completions", i % 2 ? stream : whole);
    }
    for (int i = 0; i < CLIENTS; i++) {
        struct wire_reply r = wire_read(fds[i], false);
        if (i % 2) {
            struct events e = read_events(&r);
            ck_assert_str_eq(e.text, text_of(alone));
        } else {
            json_t *root = parse(r.body);
            ck_assert_str_eq(text_of(root), text_of(alone));
            json_decref(root);
        }
        wire_reply_free(&r);
        (void) close(fds[i]);
    }
    json_decref(alone);
}
END_TEST

/* ---- what is refused --------------------------------------------------------------------- */

static const struct {
    const char *json;
    int status;
    const char *param, *code; /* "" is null */
} refused[] = {
    { "", 400, "", "" },
    { "{", 400, "", "" },
    { "not json", 400, "", "" },
    { "{\"prompt\":\"x\",}", 400, "", "" },
    { "[\"prompt\"]", 400, "", "" },
    { "{\"prompt\":\"\xff\xfe\"}", 400, "", "" },
    { "{\"prompt\":\"a\",\"prompt\":\"b\"}", 400, "", "" },
    { "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", 400, "", "" },
    { "{}", 400, "prompt", "" },
    { "{\"prompt\":[\"a\",7]}", 400, "prompt", "" },
    { "{\"prompt\":[\"a\",\"\",[258]]}", 400, "prompt", "" },
    { "{\"prompt\":[258]}", 400, "prompt", "" },
    { "{\"prompt\":[-1]}", 400, "prompt", "" },
    { "{\"prompt\":\"x\",\"max_tokens\":-5}", 400, "max_tokens", "" },
    { "{\"prompt\":\"x\",\"max_tokens\":1e3}", 400, "max_tokens", "" },
    { "{\"prompt\":\"x\",\"max_tokens\":\"5\"}", 400, "max_tokens", "" },
    { "{\"prompt\":\"x\",\"max_tokens\":9223372036854775807}", 400, "max_tokens", "" },
    { "{\"prompt\":\"x\",\"max_tokens\":9223372036854775808}", 400, "max_tokens", "" },
    { "{\"prompt\":\"x\",\"max_tokens\":70000}", 400, "prompt", "context_length_exceeded" },
    { "{\"prompt\":\"x\",\"max_tokens\":65535}", 400, "prompt", "context_length_exceeded" },
    { "{\"prompt\":\"x\",\"temperature\":1e400}", 400, "temperature", "" },
    { "{\"prompt\":\"x\",\"temperature\":-1}", 400, "temperature", "" },
    { "{\"prompt\":\"x\",\"n\":129}", 400, "n", "" },
    { "{\"prompt\":\"x\",\"best_of\":2,\"n\":3}", 400, "best_of", "" },
    { "{\"prompt\":\"x\",\"best_of\":2,\"stream\":true}", 400, "best_of", "" },
    { "{\"prompt\":\"x\",\"logit_bias\":{\"a\":1}}", 400, "logit_bias", "" },
    { "{\"prompt\":\"x\",\"time_limit\":0}", 400, "time_limit", "" },
    { "{\"prompt\":\"x\",\"suffix\":\"y\"}", 400, "suffix", "" },
    { "{\"prompt\":\"x\",\"stop\":[1]}", 400, "stop", "" },
    { "{\"prompt\":\"x\",\"model\":\"other\"}", 404, "model", "model_not_found" },
    { "{\"prompt\":\"x\",\"stream\":true,\"max_tokens\":70000}", 400, "prompt",
      "context_length_exceeded" },
    { "{\"prompt\":\"x\",\"stream\":true,\"model\":\"other\"}", 404, "model",
      "model_not_found" },
};

static void assert_error(const struct wire_reply *r, int status, const char *param,
                         const char *code)
{
    char type[64];
    ck_assert_msg(r->status == status && r->whole, "not %d: %s%s", status, r->head, r->body);
    ck_assert(wire_header(r, "Content-Type", type, sizeof type));
    ck_assert_str_eq(type, "application/json");
    json_t *root = parse(r->body), *e = json_object_get(root, "error");
    ck_assert_uint_eq(json_object_size(e), 4);
    ck_assert(json_is_string(json_object_get(e, "message")));
    ck_assert(json_is_string(json_object_get(e, "type")));
    const char *got = json_string_value(json_object_get(e, "param"));
    ck_assert_str_eq(got ? got : "", param);
    got = json_string_value(json_object_get(e, "code"));
    ck_assert_str_eq(got ? got : "", code);
    json_decref(root);
}

START_TEST(bad_bodies)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct wire_reply r = wire_ask(&d, "/v1/completions", refused[i].json);
        assert_error(&r, refused[i].status, refused[i].param, refused[i].code);
        wire_reply_free(&r);
    }
    /* None of it hurt. */
    json_decref(complete("{\"prompt\":\"x\"}"));
    ck_assert(wire_metric(&d, "mboold_requests_running") == 0);
}
END_TEST

static struct wire_reply say(const char *text)
{
    int fd = wire_open(&d);
    wire_send(fd, "%s", text);
    struct wire_reply r = wire_read(fd, strncmp(text, "HEAD", 4) == 0);
    (void) close(fd);
    return r;
}

START_TEST(paths_and_methods)
{
    static const struct {
        const char *text;
        int status;
        const char *allow;
    } cases[] = {
        { "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, NULL },
        { "GET /v1/completions/x HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, NULL },
        { "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, NULL },
        { "GET /v1/completions HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "POST" },
        { "DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "GET, HEAD" },
        { "POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405,
          "GET, HEAD" },
        { "GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody", 413,
          NULL },
        { "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
          "Content-Length: 14\r\n\r\n{\"prompt\":\"x\"}",
          415, NULL },
        { "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/jsonx\r\n"
          "Content-Length: 14\r\n\r\n{\"prompt\":\"x\"}",
          415, NULL },
        { "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65537\r\n\r\n",
          413, NULL },
        { "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 400,
          NULL },
        { "GET /healthz HTTP/1.1\r\n\r\n", 400, NULL }, /* no Host */
        { "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: u\r\n\r\n", 400, NULL },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char allow[64] = "";
        struct wire_reply r = say(cases[i].text);
        ck_assert_msg(r.status == cases[i].status, "%s: %s", cases[i].text, r.head);
        ck_assert(wire_header(&r, "Allow", allow, sizeof allow) == (cases[i].allow != NULL));
        ck_assert_str_eq(allow, cases[i].allow ? cases[i].allow : "");
        ck_assert_ptr_nonnull(strstr(r.body, "\"error\""));
        wire_reply_free(&r);
    }
}
END_TEST

/* Where a proxy may have seen another end of the body, what follows is not taken for a request. */
START_TEST(a_body_with_two_ends_is_refused)
{
    static const struct {
        const char *header;
        int status;
    } cases[] = {
        { "Content-Length: 2\r\nContent-Length: 40", 400 },
        { "Content-Length: 2\r\nContent-Length: 2", 400 },
        { "Content-Length: 0\r\nContent-Length: 2", 400 },
        { "Transfer-Encoding: chunked\r\nContent-Length: 2", 400 },
        { "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400 },
        { "Transfer-Encoding: gzip", 501 },
        { "Transfer-Encoding: gzip, chunked", 501 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int fd = wire_open(&d);
        wire_send(fd,
                  "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n{}"
                  "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
                  cases[i].header);
        struct wire_reply r = wire_read(fd, false);
        ck_assert_msg(r.status == cases[i].status, "%s: %s", cases[i].header, r.head);
        ck_assert_ptr_nonnull(strstr(r.body, "\"error\""));
        ck_assert(wire_closed(fd, 1000));
        wire_reply_free(&r);
        (void) close(fd);
    }
}
END_TEST

/* What is no HTTP is answered by libmicrohttpd, or by hanging up; and that is all it does. */
START_TEST(broken_http)
{
    static const char *const texts[] = {
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
        "99999999999999999999\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
         "ffffffffffffffffff\r\n"),
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int fd = wire_open(&d);
        wire_send(fd, "%s", texts[i]);
        (void) shutdown(fd, SHUT_WR);
        struct wire_reply r = wire_read(fd, false);
        ck_assert_msg(r.status == 0 || r.status >= 400, "%s: %s", texts[i], r.head);
        wire_reply_free(&r);
        (void) close(fd);
    }
    int fd = wire_open(&d); /* a header that never fits */
    wire_send(fd, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n");
    for (int i = 0; i < 100; i++) {
        wire_send(fd, "X-%d: %01000d\r\n", i, 7);
    }
    wire_send(fd, "\r\n");
    struct wire_reply r = wire_read(fd, false);
    ck_assert_msg(r.status == 0 || r.status == 431 || r.status == 413, "%s", r.head);
    wire_reply_free(&r);
    (void) close(fd);
    json_decref(complete("{\"prompt\":\"x\"}"));
}
END_TEST

/* ---- HTTP/1.1 ---------------------------------------------------------------------------- */

START_TEST(connections_are_kept_and_pipelined)
{
    int fd = wire_open(&d);
    wire_send(fd,
              "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
              "HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
              "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n"
              "{\"prompt\":\"x\"}"
              "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 28\r\n\r\n"
              "{\"prompt\":\"x\",\"stream\":true}"
              "GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
              "GET /v1/models/tiny HTTP/1.1\r\nHost: localhost\r\n\r\n");
    struct wire_reply r = wire_read(fd, false);
    ck_assert_str_eq(r.body, "ok\n");
    wire_reply_free(&r);
    r = wire_read(fd, true);
    ck_assert_int_eq(r.status, 200);
    wire_reply_free(&r);
    r = wire_read(fd, false);
    ck_assert_ptr_nonnull(strstr(r.body, "text_completion"));
    wire_reply_free(&r);
    r = wire_read(fd, false);
    ck_assert_uint_eq(read_events(&r).n_done, 1);
    wire_reply_free(&r);
    r = wire_read(fd, false);
    ck_assert_int_eq(r.status, 404);
    wire_reply_free(&r);
    r = wire_read(fd, false);
    ck_assert_ptr_nonnull(strstr(r.body, "\"id\":\"tiny\""));
    wire_reply_free(&r);
    (void) close(fd);
}
END_TEST

START_TEST(bodies_come_in_chunks_or_are_announced)
{
    int fd = wire_open(&d);
    wire_send(
        fd, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
            "Content-Type: application/json; charset=utf-8\r\n\r\n"
            "4\r\n{\"pr\r\n1\r\no\r\n9\r\nmpt\":\"x\"}\r\n0\r\n\r\n");
    struct wire_reply r = wire_read(fd, false);
    ck_assert_msg(r.status == 200, "%s%s", r.head, r.body);
    wire_reply_free(&r);
    wire_send(fd, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
                  "Content-Length: 14\r\n\r\n");
    free(wire_read_until(fd, "100 Continue\r\n\r\n"));
    wire_send(fd, "{\"prompt\":\"x\"}");
    r = wire_read(fd, false);
    ck_assert_int_eq(r.status, 200);
    wire_reply_free(&r);
    (void) close(fd);
}
END_TEST

/* Chunks hide how large a body becomes: what is beyond the bound is dropped as it comes. */
START_TEST(a_body_that_grows_too_large)
{
    char chunk[4096 + 16];
    int fd = wire_open(&d);
    wire_send(
        fd,
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    (void) snprintf(chunk, sizeof chunk, "1000\r\n%04096d\r\n", 0);
    for (int i = 0; i < 64; i++) {
        wire_send(fd, "%s", chunk);
    }
    wire_send(fd, "0\r\n\r\n");
    struct wire_reply r = wire_read(fd, false);
    assert_error(&r, 413, "", "");
    wire_reply_free(&r);
    (void) close(fd);
}
END_TEST

/* Many bodies that are not whole yet hold at most --body-memory, here 1M, together. */
START_TEST(all_bodies_have_a_bound)
{
    enum { CLIENTS = 40, PART = 60000 };
    struct wire_daemon patient = wire_start(
        (const char *[]) { "--kv-memory=16M", "--max-body=64K", "--body-memory=1M", NULL });
    char *part = malloc(PART + 1);
    int fds[CLIENTS], n_busy = 0;
    memset(part, ' ', PART);
    part[PART] = '\0';
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = wire_open(&patient);
        wire_send(
            fds[i],
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s",
            PART + 14, part);
    }
    for (int i = 0; i < CLIENTS; i++) {
        wire_send(fds[i], "{\"prompt\":\"x\"}");
        struct wire_reply r = wire_read(fds[i], false);
        ck_assert_msg(r.status == 200 || r.status == 503, "%s", r.head);
        n_busy += r.status == 503;
        wire_reply_free(&r);
        (void) close(fds[i]);
    }
    ck_assert_int_gt(n_busy, 5);
    ck_assert_int_lt(n_busy, CLIENTS);
    free(part);
    wire_stop(&patient);
}
END_TEST

START_TEST(slow_headers_and_bodies_are_ended)
{
    static const char *const starts[] = {
        "",
        "GET /heal",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: b",
        ("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
         "{\"prompt\":"),
        ("POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
         "4\r\n{\"p"),
    };
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        int fd = wire_open(&d);
        wire_send(fd, "%s", starts[i]);
        struct wire_reply r = wire_read(fd, false);
        assert_error(&r, 408, "", "request_timeout");
        ck_assert(wire_closed(fd, 2000));
        wire_reply_free(&r);
        (void) close(fd);
    }
    /* A byte at a time does not help: the time is for the whole. */
    int fd = wire_open(&d);
    for (int i = 0; i < 200 && !wire_closed(fd, 20); i++) {
        wire_send(fd, i ? "x" : "GET /");
    }
    ck_assert(wire_closed(fd, 20));
    (void) close(fd);
}
END_TEST

/* Silent ones make room for who has something to say; a request that is worked on does not. */
START_TEST(silence_does_not_keep_out_a_probe)
{
    enum { SILENT = 120, CONNECTIONS = 32 };
    int fds[SILENT];
    char flag[32];
    (void) snprintf(flag, sizeof flag, "--connections=%d", CONNECTIONS);
    struct wire_daemon few = wire_start((const char *[]) { flag, "--kv-memory=64M", NULL });
    int stream = wire_open(&few), kept = wire_open(&few);
    wire_post(stream, "/v1/completions",
              "{\"prompt\":\"x\",\"stream\":true,\"max_tokens\":60000,\"ignore_eos\":true}");
    free(wire_read_until(stream, "data: {"));
    for (int i = 0; i < SILENT; i++) {
        fds[i] = wire_open(&few);
        if (i % 2) {
            wire_send(fds[i], "GET /healthz HTTP/1.1\r\nHost: localhost\r\n");
        }
    }
    for (int i = 0; i < 5; i++) { /* far sooner than the header's ten seconds */
        struct wire_reply r = wire_ask(&few, "/healthz", NULL);
        ck_assert_int_eq(r.status, 200);
        wire_reply_free(&r);
    }
    ck_assert(wire_closed(kept, 1000)); /* the oldest, */
    ck_assert(wire_closed(fds[0], 1000));
    ck_assert(!wire_closed(fds[SILENT - 1], 50)); /* not the newest, */
    free(wire_read_until(stream, "data: {"));     /* and not the one that is answered */
    for (int i = 0; i < SILENT; i++) {
        (void) close(fds[i]);
    }
    (void) close(stream);
    (void) close(kept);
    wire_stop(&few);
}
END_TEST

START_TEST(ids_are_ours_and_plain_ones_are_echoed)
{
    static const struct {
        const char *sent;
        bool echoed;
    } cases[] = {
        { "abc-1.2_3", true },
        { "a b", false },
        { "\xc3\xa9", false },
        { "<x>", false },
        { "0123456789012345678901234567890123456789012345678901234567890123456789", false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256], id[128] = "";
        (void) snprintf(text, sizeof text,
                        "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %s\r\n\r\n",
                        cases[i].sent);
        struct wire_reply r = say(text);
        ck_assert(wire_header(&r, "X-Request-Id", id, sizeof id));
        ck_assert_msg((strcmp(id, cases[i].sent) == 0) == cases[i].echoed, "%s: %s",
                      cases[i].sent, id);
        ck_assert(cases[i].echoed || strlen(id) == 16);
        wire_reply_free(&r);
    }
}
END_TEST

START_TEST(probes_and_metrics)
{
    char type[64];
    struct wire_reply r = wire_ask(&d, "/readyz", NULL);
    ck_assert_int_eq(r.status, 200);
    wire_reply_free(&r);
    r = wire_ask(&d, "/v1/models", NULL);
    ck_assert_ptr_nonnull(strstr(r.body, "\"id\":\"tiny\""));
    wire_reply_free(&r);
    r = wire_ask(&d, "/v1/models/none", NULL);
    assert_error(&r, 404, "model", "model_not_found");
    wire_reply_free(&r);
    json_decref(complete("{\"prompt\":\"four\",\"max_tokens\":3,\"ignore_eos\":true}"));
    r = wire_ask(&d, "/metrics", NULL);
    ck_assert(wire_header(&r, "Content-Type", type, sizeof type));
    ck_assert_str_eq(type, "text/plain; version=0.0.4; charset=utf-8");
    wire_reply_free(&r);
    ck_assert(wire_metric(&d, "mboold_requests_total{outcome=\"length\"}") == 1);
    ck_assert(wire_metric(&d, "mboold_prompt_tokens_total") == 5);
    ck_assert(wire_metric(&d, "mboold_generation_tokens_total") == 3);
    ck_assert(wire_metric(&d, "mboold_time_to_first_token_seconds_count") == 1);
    ck_assert(wire_metric(&d, "mboold_time_between_tokens_seconds_count") == 2);
    ck_assert(
        wire_metric(&d, "mboold_http_requests_total{route=\"completions\",code=\"200\"}") == 1);
}
END_TEST

/* One line a request, and nothing of what was said in it. */
START_TEST(the_log_tells_no_tales)
{
    json_decref(complete("{\"prompt\":\"SECRETPROMPT\",\"stop\":[\"SECRETSTOP\"]}"));
    struct wire_reply r = wire_ask(&d, "/v1/completions", "{\"prompt\":\"SECRETBAD\" oops");
    wire_reply_free(&r);
    char *log = wire_log();
    const char *line = NULL;
    for (int i = 0; i < 500 && !line; i++) { /* it is written after the reply */
        (void) usleep(10000);
        free(log);
        log = wire_log();
        line = strstr(log, "route=completions status=200 model=tiny epoch=");
    }
    ck_assert_ptr_null(strstr(log, "SECRET"));
    ck_assert_ptr_nonnull(line);
    ck_assert_ptr_nonnull(strstr(line, " outcome="));
    ck_assert_ptr_nonnull(strstr(line, " prompt_tokens=13 completion_tokens="));
    ck_assert_ptr_nonnull(strstr(line, " queue_ms="));
    ck_assert_ptr_nonnull(strstr(line, " first_token_ms="));
    ck_assert_ptr_nonnull(strstr(line, " total_ms="));
    ck_assert_ptr_nonnull(strstr(log, "route=completions status=400 "));
    free(log);
}
END_TEST

/* ---- the program ------------------------------------------------------------------------- */

START_TEST(the_command_line)
{
    char out[16384], model[128], taken[64];
    ck_assert_int_eq(wire_run((const char *[]) { "--version", NULL }, out, sizeof out), 0);
    ck_assert_str_eq(out, "mboold " MB_VERSION "\n");
    ck_assert_int_eq(wire_run((const char *[]) { "--help", NULL }, out, sizeof out), 0);
    ck_assert_ptr_nonnull(strstr(out, "--max-sequences N"));
    ck_assert_int_eq(wire_run((const char *[]) { "--print-defaults", NULL }, out, sizeof out),
                     0);
    ck_assert_ptr_nonnull(strstr(out, "\"max_sequences\": 16"));
    ck_assert_int_eq(wire_run((const char *[]) { NULL }, out, sizeof out), 2);
    ck_assert_ptr_nonnull(strstr(out, "--model: at least one"));
    ck_assert_int_eq(wire_run((const char *[]) { "--threads=x", NULL }, out, sizeof out), 2);

    (void) snprintf(model, sizeof model, "--model=a=%s", wire_model_path());
    ck_assert_int_eq(
        wire_run((const char *[]) { model, "--check-config", NULL }, out, sizeof out), 0);
    ck_assert_int_eq(
        wire_run((const char *[]) { "--model=a=/nonexistent", "--check-config", NULL }, out,
                 sizeof out),
        1);
    ck_assert_ptr_nonnull(strstr(out, "mboold: model 'a' from '/nonexistent': "));
    /* A configuration is good only when it starts. */
    static const struct {
        const char *flag, *says;
    } bad[] = {
        { "--context=200000", "model 'a': --context: 200000 is outside 1.." },
        { "--kv-memory=1K", "model 'a': --kv-memory: 1024 is below one block of " },
        { "--connections=65536", "--connections: 65536 needs 65600 descriptors" },
    };
    struct rlimit few = { 2048, 2048 };
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (size_t i = 0; i < 2 * sizeof bad / sizeof bad[0]; i++) {
        const char *check = i % 2 ? "--check-config" : "--listen=127.0.0.1:0";
        ck_assert_int_eq(
            wire_run((const char *[]) { model, bad[i / 2].flag, check, NULL }, out, sizeof out),
            1);
        ck_assert_msg(strstr(out, bad[i / 2].says) != NULL, "%s", out);
    }
    ck_assert_int_eq(
        wire_run((const char *[]) { "--model=a=/dev/null", NULL }, out, sizeof out), 1);
    (void) snprintf(taken, sizeof taken, "--listen=127.0.0.1:%d", d.port);
    ck_assert_int_eq(wire_run((const char *[]) { model, taken, NULL }, out, sizeof out), 1);
    ck_assert_ptr_nonnull(strstr(out, "Address already in use"));
}
END_TEST

int main(void)
{
    wire_folder_make();
    Suite *s = suite_create("wire requests");
    TCase *t = tcase_create("requests");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_completion);
    tcase_add_test(t, ids_are_text_and_defaults_are_kept);
    tcase_add_test(t, echo_repeats_the_prompt);
    tcase_add_test(t, the_end_of_sequence_counts);
    tcase_add_test(t, no_tokens_may_be_asked_for);
    tcase_add_test(t, long_prompts);
    tcase_add_test(t, logprobs_count_and_sum);
    tcase_add_test(t, a_stream_is_the_same_text_in_pieces);
    tcase_add_test(t, sixteen_clients_at_once);
    tcase_add_test(t, bad_bodies);
    tcase_add_test(t, paths_and_methods);
    tcase_add_test(t, a_body_with_two_ends_is_refused);
    tcase_add_test(t, broken_http);
    tcase_add_test(t, connections_are_kept_and_pipelined);
    tcase_add_test(t, bodies_come_in_chunks_or_are_announced);
    tcase_add_test(t, a_body_that_grows_too_large);
    tcase_add_test(t, all_bodies_have_a_bound);
    tcase_add_test(t, slow_headers_and_bodies_are_ended);
    tcase_add_test(t, silence_does_not_keep_out_a_probe);
    tcase_add_test(t, ids_are_ours_and_plain_ones_are_echoed);
    tcase_add_test(t, probes_and_metrics);
    tcase_add_test(t, the_log_tells_no_tales);
    tcase_add_test(t, the_command_line);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    wire_folder_remove();
    return status;
}
