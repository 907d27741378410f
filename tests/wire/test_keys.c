/* Goal:   with --keys, nothing but the probes answers without a key that has the scope; what a key
 *         may do changes with the file, at SIGHUP, and no request that runs is touched by it; no key is
 *         ever in the log.
 * Method: a daemon with a file of keys; headers good, bad and hostile; the file written over. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/check_main.h"
#include "tests/wire/daemon.h"

/* Keys of tests: each is 40 times its letter. */
enum { KEY_LETTERS = 40 };

static struct wire_daemon d;
static char path[] = "/tmp/mboold-wire-keys-XXXXXX";

static const char *key_of(char letter)
{
    static char text[KEY_LETTERS + 1];
    memset(text, letter, KEY_LETTERS);
    return text;
}

/* name=letter scopes and limits, NULL-terminated; the hash is made by the program itself. */
static void write_keys(const char *const *lines)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    for (; *lines; lines++) {
        char command[2048], hash[512] = "", name[64];
        ck_assert_int_eq(sscanf(*lines, "%63s", name), 1);
        (void) snprintf(command, sizeof command, "echo %s | %s/server/mboold --hash-key %s",
                        key_of(name[0]), getenv("MB_BUILD"), name);
        FILE *made = popen(command, "r");
        ck_assert_ptr_nonnull(made);
        ck_assert_ptr_nonnull(fgets(hash, sizeof hash, made));
        ck_assert_int_eq(pclose(made), 0);
        const char *mark = strstr(hash, "sha256:");
        ck_assert_msg(mark != NULL, "%s", hash);
        ck_assert_int_gt(fprintf(f, "%s %s", *lines, mark), 0);
    }
    ck_assert_int_eq(fclose(f), 0);
}

static void start_with(const char *const *lines, const char *flag, const char *other)
{
    char keys[128];
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    (void) close(fd);
    write_keys(lines);
    (void) snprintf(keys, sizeof keys, "--keys=%s", path);
    d = wire_start((const char *[]) { keys, "--kv-memory=64M", flag, other, NULL });
}

static void start(const char *const *lines, const char *flag)
{
    start_with(lines, flag, NULL);
}

static void stop(void)
{
    if (d.pid) {
        wire_stop(&d);
    }
    (void) unlink(path);
    strcpy(path + sizeof path - 7, "XXXXXX");
}

/* SIGHUP, and until the log says what came of it. */
static void reload(const char *said)
{
    char *log = wire_log();
    size_t n = strlen(log);
    free(log);
    (void) kill(d.pid, SIGHUP);
    for (int i = 0; i < 6000; i++) {
        log = wire_log();
        const char *at = strstr(log + n, "event=reload");
        bool found = at && strchr(at, '\n');
        ck_assert_msg(!found || strstr(at, said), "%s", at);
        free(log);
        if (found) {
            return;
        }
        (void) usleep(10000);
    }
    ck_abort_msg("SIGHUP was not heard");
}

/* A whole request with these lines of a header, each ended by \r\n. json NULL: GET. */
static int open_with(const char *target, const char *headers, const char *json)
{
    int fd = wire_open(&d);
    wire_send(fd, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s", json ? "POST" : "GET", target,
              headers);
    if (json) {
        wire_send(fd, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
                  strlen(json));
    }
    wire_send(fd, "\r\n%s", json ? json : "");
    return fd;
}

static struct wire_reply ask_with(const char *target, const char *headers, const char *json)
{
    int fd = open_with(target, headers, json);
    struct wire_reply r = wire_read(fd, false);
    (void) close(fd);
    return r;
}

static const char *bearer(char letter)
{
    static char line[128];
    (void) snprintf(line, sizeof line, "Authorization: Bearer %s\r\n", key_of(letter));
    return line;
}

static void assert_status(const char *target, const char *headers, const char *json, int status)
{
    struct wire_reply r = ask_with(target, headers, json);
    ck_assert_msg(r.status == status, "%s with %s: %d, not %d: %s", target, headers, r.status,
                  status, r.body);
    wire_reply_free(&r);
}

#define SMALL  "{\"prompt\":\"x\",\"max_tokens\":1}"
#define STREAM "{\"prompt\":\"x\",\"max_tokens\":60000,\"ignore_eos\":true,\"stream\":true}"

/* ---- scopes ------------------------------------------------------------------------------ */

static const struct {
    const char *target, *json;
    int none, infer, metrics; /* statuses without a key, and with one of that scope */
} routes[] = {
    { "/healthz", NULL, 200, 200, 200 },
    { "/readyz", NULL, 200, 200, 200 },
    { "/metrics", NULL, 401, 403, 200 },
    { "/version", NULL, 401, 200, 200 },
    { "/v1/models", NULL, 401, 200, 200 },
    { "/v1/models/tiny", NULL, 401, 200, 200 },
    { "/v1/mbool/info", NULL, 401, 200, 200 },
    { "/v1/completions", SMALL, 401, 200, 403 },
    { "/v1/chat/completions",
      "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"max_tokens\":1}", 401, 200,
      403 },
    { "/v1/embeddings", "{\"input\":\"x\"}", 401, 200, 403 },
    { "/tokenize", "{\"prompt\":\"x\"}", 401, 200, 403 },
    { "/detokenize", "{\"tokens\":[1]}", 401, 200, 403 },
    { "/none", NULL, 404, 404, 404 },
};

START_TEST(a_key_has_its_scopes)
{
    start((const char *[]) { "alice infer", "monitor metrics", "root admin,finetune", NULL },
          NULL);
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        assert_status(routes[i].target, "", routes[i].json, routes[i].none);
        assert_status(routes[i].target, bearer('a'), routes[i].json, routes[i].infer);
        assert_status(routes[i].target, bearer('m'), routes[i].json, routes[i].metrics);
        assert_status(routes[i].target, bearer('x'), routes[i].json,
                      routes[i].none == 401 ? 401 : routes[i].none);
    }
    assert_status("/v1/completions", bearer('r'), SMALL, 403);
    stop();
}
END_TEST

static void assert_refusal(const char *headers, int status, const char *type, const char *code,
                           const char *authenticate)
{
    char value[256] = "";
    struct wire_reply r = ask_with("/v1/completions", headers, SMALL);
    ck_assert_int_eq(r.status, status);
    ck_assert_msg(strstr(r.body, type) && strstr(r.body, code), "%s", r.body);
    ck_assert(wire_header(&r, "WWW-Authenticate", value, sizeof value));
    ck_assert_str_eq(value, authenticate);
    wire_reply_free(&r);
}

START_TEST(a_refusal_says_what_is_missing)
{
    start((const char *[]) { "alice infer", "monitor metrics", NULL }, NULL);
    assert_refusal("", 401, "\"authentication_error\"", "\"invalid_api_key\"",
                   "Bearer realm=\"mboold\"");
    assert_refusal(bearer('b'), 401, "\"authentication_error\"", "\"invalid_api_key\"",
                   "Bearer realm=\"mboold\", error=\"invalid_token\"");
    assert_refusal(bearer('m'), 403, "\"permission_error\"", "\"insufficient_scope\"",
                   "Bearer realm=\"mboold\", error=\"insufficient_scope\"");
    stop();
}
END_TEST

/* ---- headers ----------------------------------------------------------------------------- */

static const struct {
    const char *before, *after; /* of alice's key */
    int status;
} headers[] = {
    { "Authorization: Bearer ", "\r\n", 200 },
    { "authorization: bearer \t ", " \t\r\n", 200 },
    { "AUTHORIZATION: BEARER ", "\r\n", 200 },
    { "Authorization: Bearer", "\r\n", 401 },
    { "Authorization: ", "\r\n", 401 },
    { "Authorization: Basic ", "\r\n", 401 },
    { "Authorization: Bearer x", "\r\n", 401 },
    { "Authorization: Bearer ", "x\r\n", 401 },
    { "Authorization: Bearer ", " x\r\n", 401 },
    { "Authorization: Bearer ", ",\r\n", 401 },
    { "Authorization: Bearer =", "\r\n", 401 },
    { "Authorization:\r\nX: ", "\r\n", 401 },
    { "Authorization: Bearer \r\nX: ", "\r\n", 401 },
    { "Authorization: Bearer x\r\nAuthorization: Bearer ", "\r\n", 400 },
    { "Authorization: Bearer ", "\r\nAuthorization: Bearer x\r\n", 400 },
    { "Authorization:\r\nauthorization: Bearer ", "\r\n", 400 },
    { "X-Api-Key: ", "\r\n", 401 },
    { "Cookie: Authorization=Bearer ", "\r\n", 401 },
    { "Trailer: Authorization\r\nProxy-Authorization: Bearer ", "\r\n", 401 },
};

START_TEST(hostile_headers_open_nothing)
{
    start((const char *[]) { "alice infer", NULL }, NULL);
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        char line[512];
        (void) snprintf(line, sizeof line, "%s%s%s", headers[i].before, key_of('a'),
                        headers[i].after);
        assert_status("/v1/completions", line, SMALL, headers[i].status);
    }
    static const size_t sizes[] = { 513, 20000, 1 << 20 }; /* the last is beyond any header */
    for (size_t i = 0; i < 3; i++) {
        char *line = malloc(sizes[i] + 64);
        size_t n = (size_t) sprintf(line, "Authorization: Bearer ");
        memset(line + n, 'a', sizes[i]);
        strcpy(line + n + sizes[i], "\r\n");
        assert_status("/v1/completions", line, SMALL, i < 2 ? 401 : 431);
        free(line);
    }
    assert_status("/v1/completions?api_key=x", "", SMALL, 401);
    assert_status("/v1/completions", bearer('a'), SMALL, 200);
    stop();
}
END_TEST

/* Said before the body travels: without a key nobody makes this daemon hold megabytes. */
START_TEST(a_body_without_a_key_is_not_read)
{
    start((const char *[]) { "alice infer", NULL }, NULL);
    int fd = wire_open(&d);
    wire_send(fd, "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                  "application/json\r\nContent-Length: 4000000\r\n\r\n");
    struct wire_reply r = wire_read(fd, false);
    ck_assert_int_eq(r.status, 401);
    ck_assert(wire_closed(fd, 5000));
    wire_reply_free(&r);
    (void) close(fd);
    stop();
}
END_TEST

/* ---- reading anew ------------------------------------------------------------------------ */

START_TEST(a_key_goes_while_its_stream_runs)
{
    start((const char *[]) { "alice infer", "bob infer", NULL }, NULL);
    int fd = open_with("/v1/completions", bearer('a'), STREAM);
    free(wire_read_until(fd, "data: {"));
    write_keys((const char *[]) { "bob infer,metrics", "carol infer", NULL });
    reload("2 keys");
    assert_status("/v1/completions", bearer('a'), SMALL, 401);
    assert_status("/v1/completions", bearer('b'), SMALL, 200);
    assert_status("/v1/completions", bearer('c'), SMALL, 200);
    free(wire_read_until(fd, "data: {")); /* what was admitted goes on */
    assert_status("/metrics", bearer('b'), NULL, 200);
    (void) close(fd);
    stop();
}
END_TEST

START_TEST(a_broken_file_leaves_the_keys)
{
    start((const char *[]) { "alice infer", NULL }, NULL);
    FILE *f = fopen(path, "w");
    ck_assert_int_ge(fputs("alice infer\n", f), 0);
    (void) fclose(f);
    reload("the keys are those of before, 1");
    assert_status("/v1/completions", bearer('a'), SMALL, 200);
    assert_status("/v1/completions", "", SMALL, 401);
    (void) unlink(path);
    reload("the keys are those of before, 1");
    assert_status("/v1/completions", bearer('a'), SMALL, 200);
    write_keys((const char *[]) { "bob infer", NULL });
    reload("1 keys");
    assert_status("/v1/completions", bearer('a'), SMALL, 401);
    assert_status("/v1/completions", bearer('b'), SMALL, 200);
    stop();
}
END_TEST

START_TEST(the_log_has_names_and_no_keys)
{
    start((const char *[]) { "alice infer", NULL }, NULL);
    assert_status("/v1/completions", bearer('a'), SMALL, 200);
    assert_status("/v1/embeddings", bearer('a'), "{\"input\":\"x\"}", 200);
    assert_status("/v1/models", bearer('a'), NULL, 200);
    assert_status("/v1/models", bearer('b'), NULL, 401);
    char *log = wire_log();
    int named = 0;
    for (const char *at = log; (at = strstr(at, " key=alice ")); at++) {
        named++;
    }
    ck_assert_int_eq(named, 3);
    ck_assert(!strstr(log, key_of('a')) && !strstr(log, key_of('b')));
    free(log);
    stop();
}
END_TEST

/* ---- limits ------------------------------------------------------------------------------ */

static double header_number(const struct wire_reply *r, const char *name)
{
    char value[64];
    ck_assert_msg(wire_header(r, name, value, sizeof value), "no %s in %s", name, r->head);
    return strtod(value, NULL);
}

/* "1m0s", "59.984s" or "12ms", as OpenAI writes times. */
static double header_seconds(const struct wire_reply *r, const char *name)
{
    char value[64], *end;
    ck_assert_msg(wire_header(r, name, value, sizeof value), "no %s in %s", name, r->head);
    double x = strtod(value, &end);
    if (strcmp(end, "ms") == 0) {
        return x / 1000;
    }
    return *end == 'm' ? 60 * x + strtod(end + 1, NULL) : x;
}

START_TEST(requests_a_minute)
{
    start((const char *[]) { "alice infer requests-per-minute=3", "bob infer", NULL }, NULL);
    for (int i = 0; i < 3; i++) {
        struct wire_reply r = ask_with("/v1/completions", bearer('a'), SMALL);
        ck_assert_int_eq(r.status, 200);
        ck_assert(header_number(&r, "x-ratelimit-limit-requests") == 3);
        ck_assert(header_number(&r, "x-ratelimit-remaining-requests") == 2 - i);
        ck_assert(header_seconds(&r, "x-ratelimit-reset-requests") > 15);
        ck_assert(!strstr(r.head, "-tokens"));
        wire_reply_free(&r);
    }
    struct wire_reply r = ask_with("/v1/completions", bearer('a'), SMALL);
    ck_assert_int_eq(r.status, 429);
    ck_assert_msg(strstr(r.body, "\"rate_limit_exceeded\"") &&
                      strstr(r.body, "\"rate_limit_error\""),
                  "%s", r.body);
    double after = header_number(&r, "Retry-After");
    ck_assert_msg(after > 5 && after <= 20, "%g", after);
    ck_assert(header_number(&r, "x-ratelimit-remaining-requests") == 0);
    wire_reply_free(&r);
    assert_status("/v1/models", bearer('a'), NULL, 200); /* that is no work */
    r = ask_with("/v1/completions", bearer('b'), SMALL);
    ck_assert_int_eq(r.status, 200);
    ck_assert(!strstr(r.head, "x-ratelimit"));
    wire_reply_free(&r);
    write_keys((const char *[]) { "alice infer requests-per-minute=600", NULL });
    reload("1 keys");
    assert_status("/v1/completions", bearer('a'), SMALL, 200);
    stop();
}
END_TEST

START_TEST(tokens_a_minute)
{
    start((const char *[]) { "alice infer tokens-per-minute=60", NULL }, NULL);
    struct wire_reply r =
        ask_with("/v1/completions", bearer('a'),
                 "{\"prompt\":[1,2,3,4,5],\"max_tokens\":40,\"ignore_eos\":true}");
    ck_assert_int_eq(r.status, 200);
    wire_reply_free(&r);
    r = ask_with("/v1/completions", bearer('a'), "{\"prompt\":[1,2,3,4,5],\"max_tokens\":0}");
    ck_assert_int_eq(r.status, 200); /* 45 are used up, or a few less by now */
    double left = header_number(&r, "x-ratelimit-remaining-tokens");
    ck_assert_msg(left >= 15 && left <= 59, "%g", left);
    wire_reply_free(&r);
    r = ask_with("/v1/embeddings", bearer('a'), "{\"input\":[[1,2,3,4,5],[1,2,3,4,5]]}");
    ck_assert_int_eq(r.status, 200);
    ck_assert(header_number(&r, "x-ratelimit-remaining-tokens") < left);
    wire_reply_free(&r);
    r = ask_with(
        "/v1/completions", bearer('a'),
        "{\"prompt\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,"
        "27,28,29,30,31,32,33,34,35,36,37,38,39,40,41,42,43,44,45,46,47,48,49,50,51,52,53,"
        "54,55,56,57,58,59,60,61,62],\"max_tokens\":1}");
    ck_assert_int_eq(r.status, 429); /* needs a full bucket */
    ck_assert(header_number(&r, "Retry-After") >= 1);
    wire_reply_free(&r);
    stop();
}
END_TEST

START_TEST(requests_at_once)
{
    start((const char *[]) { "alice infer concurrent=2", NULL }, NULL);
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = open_with("/v1/completions", bearer('a'), STREAM);
        free(wire_read_until(fds[i], "data: {"));
    }
    struct wire_reply r = ask_with("/v1/completions", bearer('a'), SMALL);
    ck_assert_int_eq(r.status, 429);
    ck_assert(header_number(&r, "Retry-After") == 1);
    wire_reply_free(&r);
    (void) close(fds[0]);
    int status = 0;
    for (int i = 0; i < 1000 && status != 200; i++) { /* once it is seen to be gone */
        r = ask_with("/v1/completions", bearer('a'), SMALL);
        status = r.status;
        wire_reply_free(&r);
    }
    ck_assert_int_eq(status, 200);
    (void) close(fds[1]);
    stop();
}
END_TEST

/* ---- fairness ---------------------------------------------------------------------------- */

#define WHOLE(more) "{\"prompt\":\"x\",\"max_tokens\":8000,\"ignore_eos\":true" more "}"

/* One slot, which is held while a crowd and then one more come to wait for it. That one is served
 * first, if its key has had less; or before those who said that they can wait. */
static void assert_overtakes(const char *crowd_key, const char *crowd, char one_key)
{
    enum { CROWD = 8 };
    int fds[CROWD];
    struct wire_daemon ops = d;
    ops.port = d.ops_port;
    int held = open_with("/v1/completions", bearer('h'), STREAM);
    free(wire_read_until(held, "data: {"));
    for (int i = 0; i < CROWD; i++) {
        fds[i] = open_with("/v1/completions", crowd_key, crowd);
    }
    (void) wire_metric_becomes(&ops, "mboold_requests_waiting", CROWD);
    int one = open_with("/v1/completions", bearer(one_key), SMALL);
    (void) wire_metric_becomes(&ops, "mboold_requests_waiting", CROWD + 1);
    (void) close(held);
    struct wire_reply r = wire_read(one, false);
    ck_assert_int_eq(r.status, 200);
    wire_reply_free(&r);
    double waiting = wire_metric(&ops, "mboold_requests_waiting");
    ck_assert_msg(waiting > CROWD / 2, "%g of the crowd wait", waiting);
    (void) close(one);
    for (int i = 0; i < CROWD; i++) {
        (void) close(fds[i]);
    }
    (void) wire_metric_becomes(&ops, "mboold_requests_running", 0);
}

/* Each time keys that had nothing yet: an account is not forgotten while others are served. */
START_TEST(a_crowd_does_not_hold_up_others)
{
    static const struct {
        char crowd, one;
        const char *json;
    } cases[] = {
        { 'a', 'b', WHOLE("") },
        { 'l', 'c', WHOLE("") },
        { 'm', 'd', WHOLE(",\"priority\":\"normal\"") }, /* it is the key's to say */
        { 'e', 'e', WHOLE(",\"priority\":\"low\"") },
    };
    start_with((const char *[]) { "a infer", "b infer", "c infer", "d infer", "e infer",
                                  "l infer priority=low", "m infer priority=low", "h infer",
                                  NULL },
               "--max-sequences=1", "--ops-listen=127.0.0.1:0");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char crowd[128];
        (void) strcpy(crowd, bearer(cases[i].crowd));
        assert_overtakes(crowd, cases[i].json, cases[i].one);
    }
    stop();
}
END_TEST

/* ---- prefixes ---------------------------------------------------------------------------- */

/* Of a prompt of 100 tokens, those that the usage says were not computed. */
static int cached(char key, const char *more)
{
    char json[1024] = "{\"prompt\":[";
    size_t n = strlen(json);
    for (int i = 0; i < 100; i++) {
        n += (size_t) sprintf(json + n, "%s%d", i ? "," : "", i % 50 + 1);
    }
    (void) snprintf(json + n, sizeof json - n, "],\"max_tokens\":3,\"seed\":1%s}", more);
    struct wire_reply r = ask_with("/v1/completions", bearer(key), json);
    ck_assert_msg(r.status == 200, "%s", r.body);
    const char *at = strstr(r.body, "\"cached_tokens\":");
    ck_assert_ptr_nonnull(at);
    int ret = atoi(at + strlen("\"cached_tokens\":"));
    wire_reply_free(&r);
    return ret;
}

START_TEST(prefixes_are_shared_within_a_key)
{
    start((const char *[]) { "alice infer,metrics", "bob infer", NULL }, NULL);
    ck_assert_int_eq(cached('a', ""), 0);
    ck_assert_int_eq(cached('a', ""), 96);
    ck_assert_int_eq(cached('a', ",\"n\":3"), 96); /* the prompt is counted once */
    ck_assert_int_eq(cached('b', ""), 0);
    ck_assert_int_eq(cached('a', ",\"cache_salt\":\"x\""), 0);
    ck_assert_int_eq(cached('a', ",\"cache_salt\":\"x\""), 96);
    ck_assert_int_eq(cached('b', ",\"cache_salt\":\"x\""), 0); /* it does not bring together */
    ck_assert_int_eq(cached('a', ",\"echo\":true,\"logprobs\":1"), 0); /* scores need all */
    struct wire_reply r = ask_with("/metrics", bearer('a'), NULL);
    ck_assert_msg(strstr(r.body, "mboold_prefix_cache_hits_total 5\n"), "%s", r.body);
    ck_assert(strstr(r.body, "mboold_prefix_cache_tokens_total 480\n"));
    wire_reply_free(&r);
    stop();
    start((const char *[]) { "alice infer", NULL }, "--no-prefix-cache");
    ck_assert_int_eq(cached('a', ""), 0);
    ck_assert_int_eq(cached('a', ""), 0);
    stop();
}
END_TEST

/* ---- the program ------------------------------------------------------------------------- */

START_TEST(the_port_for_operations_needs_none)
{
    start((const char *[]) { "alice infer", NULL }, "--ops-listen=127.0.0.1:0");
    struct wire_daemon ops = d;
    ops.port = d.ops_port;
    for (int i = 0; i < 3; i++) {
        static const char *const open[] = { "/healthz", "/readyz", "/metrics" };
        struct wire_reply r = wire_ask(&ops, open[i], NULL);
        ck_assert_int_eq(r.status, 200);
        wire_reply_free(&r);
    }
    struct wire_reply r = wire_ask(&ops, "/v1/models", NULL);
    ck_assert_int_eq(r.status, 401);
    wire_reply_free(&r);
    stop();
}
END_TEST

START_TEST(the_world_needs_keys)
{
    char out[4096], model[128];
    (void) snprintf(model, sizeof model, "--model=a=%s", wire_model_path());
    static const char *const elsewhere[] = { "--listen=0.0.0.0:0", "--listen=[::]:0" };
    for (int i = 0; i < 2; i++) {
        const char *flags[] = { model, elsewhere[i], "--check-config", NULL, NULL };
        ck_assert_int_eq(wire_run(flags, out, sizeof out), 2);
        ck_assert_msg(strstr(out, "there are no --keys"), "%s", out);
        flags[3] = "--insecure";
        ck_assert_int_eq(wire_run(flags, out, sizeof out), 0);
        ck_assert_msg(strstr(out, "level=warn"), "%s", out);
    }
    ck_assert_int_eq(
        wire_run((const char *[]) { model, "--keys=/nowhere", "--check-config", NULL }, out,
                 sizeof out),
        1);
    ck_assert_msg(strstr(out, "/nowhere"), "%s", out);
}
END_TEST

START_TEST(a_key_is_made)
{
    char out[4096], name[80], key[80] = "";
    ck_assert_int_eq(wire_run((const char *[]) { "--new-key", "alice", NULL }, out, sizeof out),
                     0);
    const char *said = strstr(out, "once: mb-");
    ck_assert_msg(said && sscanf(said, "once: %79s", key) == 1, "%s", out);
    ck_assert(sscanf(strstr(out, "alice "), "%79s infer sha256:", name) == 1);
    ck_assert_uint_eq(strlen(key), 46);
    ck_assert_int_eq(wire_run((const char *[]) { "--new-key", "a b", NULL }, out, sizeof out),
                     1);
    ck_assert_int_eq(wire_run((const char *[]) { "--new-key", NULL }, out, sizeof out), 2);
}
END_TEST

int main(void)
{
    wire_folder_make();
    Suite *s = suite_create("wire keys");
    TCase *t = tcase_create("keys");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, a_key_has_its_scopes);
    tcase_add_test(t, a_refusal_says_what_is_missing);
    tcase_add_test(t, hostile_headers_open_nothing);
    tcase_add_test(t, a_body_without_a_key_is_not_read);
    tcase_add_test(t, a_key_goes_while_its_stream_runs);
    tcase_add_test(t, a_broken_file_leaves_the_keys);
    tcase_add_test(t, the_log_has_names_and_no_keys);
    tcase_add_test(t, requests_a_minute);
    tcase_add_test(t, tokens_a_minute);
    tcase_add_test(t, requests_at_once);
    tcase_add_test(t, a_crowd_does_not_hold_up_others);
    tcase_add_test(t, prefixes_are_shared_within_a_key);
    tcase_add_test(t, the_port_for_operations_needs_none);
    tcase_add_test(t, the_world_needs_keys);
    tcase_add_test(t, a_key_is_made);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    wire_folder_remove();
    return status;
}
