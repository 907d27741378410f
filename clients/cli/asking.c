#include "clients/cli/asking.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/runtime.h"
#include "proto/json/answer_json.h"

/* ---- options ----------------------------------------------------------------------------- */

/* Options that are numbers: their names on the wire, and what the daemon takes. */
static const struct {
    const char *name; /* NULL: no number */
    double min, max;
    bool is_integer;
} numbers[MBC_ASKING_OPTIONS] = {
    [MBC_ASKING_MAX_TOKENS] = { "max_tokens", 1, MB_MAX_TOKENS_MAX, true },
    [MBC_ASKING_TEMPERATURE] = { "temperature", 0, 2, false },
    [MBC_ASKING_TOP_K] = { "top_k", 0, 1 << 30, true },
    [MBC_ASKING_TOP_P] = { "top_p", 0, 1, false },
    [MBC_ASKING_MIN_P] = { "min_p", 0, 1, false },
    [MBC_ASKING_REPETITION] = { "repetition_penalty", 0.01, 10, false },
    [MBC_ASKING_PRESENCE] = { "presence_penalty", -2, 2, false },
    [MBC_ASKING_FREQUENCY] = { "frequency_penalty", -2, 2, false },
    [MBC_ASKING_SEED] = { "seed", 0, 0x1p62, true },
};

static bool take_number(struct mbc_asking *a, int option, const char *text)
{
    const char *flag = a->command->options[option].name;
    struct mb_request_number x = { .name = numbers[option].name,
                                   .is_integer = numbers[option].is_integer };
    uint64_t whole = 0;
    bool ok = x.is_integer
                  ? mbc_parse_u64(a->command, flag, text, (uint64_t) numbers[option].min,
                                  (uint64_t) numbers[option].max, &whole)
                  : mbc_parse_f64(a->command, flag, text, numbers[option].min,
                                  numbers[option].max, &x.real);
    if (!ok) {
        return false;
    }
    if (x.is_integer) {
        x.integer = (int64_t) whole;
    }
    size_t i = 0; /* given twice, the last counts */
    while (i < a->n_numbers && strcmp(a->numbers[i].name, x.name) != 0) {
        i++;
    }
    assert(i < MBC_ASKING_NUMBERS_MAX);
    a->numbers[i] = x;
    a->n_numbers += i == a->n_numbers;
    return true;
}

bool mbc_asking_take(struct mbc_asking *a, int option, const char *value)
{
    switch (option) {
    case MBC_ASKING_HOST:
        a->host = value;
        return true;
    case MBC_ASKING_STOP:
        if (a->n_stops == MB_STOPS_MAX || !*value || strlen(value) > MB_STOP_BYTES_MAX) {
            (void) mbc_usage_error(a->command, "--stop: at most %d texts of 1..%d bytes",
                                   MB_STOPS_MAX, MB_STOP_BYTES_MAX);
            return false;
        }
        a->stops[a->n_stops++] = value;
        return true;
    case MBC_ASKING_IGNORE_EOS:
        a->ignore_eos = true;
        return true;
    case MBC_ASKING_JSON:
        a->json = true;
        return true;
    default:
        return take_number(a, option, value);
    }
}

/* ---- the daemon -------------------------------------------------------------------------- */

static bool keep_on(void)
{
    return !mbc_interrupted();
}

enum mb_status mbc_reach(const char *text, struct mbc_transport **ret, struct mb_error *err)
{
    struct mbc_host host;
    text = text ? text : getenv("MBOOL_HOST");
    enum mb_status st = mbc_host_parse(text, getenv("MBOOL_API_KEY"), &host, err);
    const char *ca = getenv("MBOOL_CACERT");
    if (st == MB_OK && ca &&
        (size_t) snprintf(host.ca, sizeof host.ca, "%s", ca) >= sizeof host.ca) {
        st = mb_fail(err, MB_E_INVALID, 0, "MBOOL_CACERT: the path is too long");
    }
    if (st == MB_OK) {
        st = mbc_transport_setup(err);
    }
    return st == MB_OK ? mbc_transport_new(&host, keep_on, ret, err) : st;
}

static void read_error(const struct mbc_reply *reply, char *code, size_t n_code,
                       struct mb_error *err)
{
    mb_answer_error(reply->status, (const char *) reply->body.at, reply->body.len, code, n_code,
                    err);
    size_t n = strlen(err->what);
    if (reply->retry_after_s > 0 && n < sizeof err->what) {
        (void) snprintf(err->what + n, sizeof err->what - n, " (try again in %u s)",
                        (unsigned) reply->retry_after_s);
    }
}

enum mb_status mbc_send(struct mbc_transport *t, const struct mbc_request *r,
                        struct mb_bytes *ret, struct mb_error *err)
{
    struct mbc_reply reply;
    enum mb_status st = mbc_transport_ask(t, r, NULL, &reply, err);
    if (st == MB_OK && reply.status != 200) {
        char code[48];
        read_error(&reply, code, sizeof code, err);
        st = err->code;
    }
    if (st == MB_OK) {
        *ret = reply.body;
        reply.body = (struct mb_bytes) { 0 };
    }
    mbc_reply_fini(&reply);
    return st;
}

enum mb_status mbc_download(struct mbc_transport *t, const char *path, mbc_body_fn *body,
                            void *self, struct mb_error *err)
{
    struct mbc_request request = { .path = path, .body = body };
    struct mbc_reply reply;
    enum mb_status st = mbc_transport_ask(t, &request, self, &reply, err);
    if (st == MB_OK && reply.status != 200) {
        char code[48];
        read_error(&reply, code, sizeof code, err);
        st = err->code;
    }
    mbc_reply_fini(&reply);
    return st;
}

static enum mb_status ask_once(struct mbc_transport *t, const char *path, const char *json,
                               struct mb_bytes *ret, struct mb_error *err)
{
    enum { PATIENCE_MS = 30000 }; /* these answers wait for no model */
    struct mbc_request request = {
        .path = path, .json = json, .n_json = json ? strlen(json) : 0, .timeout_ms = PATIENCE_MS
    };
    return mbc_send(t, &request, ret, err);
}

enum mb_status mbc_get(struct mbc_transport *t, const char *path, struct mb_bytes *ret,
                       struct mb_error *err)
{
    return ask_once(t, path, NULL, ret, err);
}

enum mb_status mbc_post(struct mbc_transport *t, const char *path, const char *json,
                        struct mb_bytes *ret, struct mb_error *err)
{
    return ask_once(t, path, json, ret, err);
}

/* ---- an answer --------------------------------------------------------------------------- */

struct listening {
    const struct mbc_asking *asking;
    struct mbc_said *said;
    bool on_terminal, done;
    double began_s;
    enum mb_status st; /* of an event that was no chunk */
    struct mb_error err;
};

/* What a model writes may be meant for terminals: only text gets to one. Text is UTF-8, since it
 * was JSON; U+0080..U+009F are control characters too. */
static void show(const char *text, size_t n, bool on_terminal)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char) text[i];
        bool control = (c < ' ' && c != '\n' && c != '\t') || c == 0x7f;
        bool control_c1 = c == 0xc2 && i + 1 < n && (unsigned char) text[i + 1] < 0xa0;
        if (on_terminal && control_c1) {
            i++;
        } else if (!on_terminal || !control) {
            (void) putchar(c);
        }
    }
    (void) fflush(stdout);
}

static void take_answer(struct listening *l, const struct mb_answer *a)
{
    struct mbc_said *s = l->said;
    if (a->n_text > 0 && s->text.len == 0) {
        s->first_s = mbc_now_s() - l->began_s;
    }
    mb_bytes_put(&s->text, a->text, a->n_text);
    if (!l->asking->json) {
        show(a->text, a->n_text, l->on_terminal);
    }
    if (a->finish[0]) {
        memcpy(s->finish, a->finish, sizeof s->finish);
    }
    if (a->model[0]) {
        memcpy(s->model, a->model, sizeof s->model);
    }
    if (a->has_usage) {
        s->prompt_tokens = a->prompt_tokens;
        s->completion_tokens = a->completion_tokens;
        s->cached_tokens = a->cached_tokens;
    }
}

static bool take_event(void *self, const char *data, size_t n)
{
    struct listening *l = self;
    if (strcmp(data, "[DONE]") == 0) {
        l->done = true;
        return true;
    }
    struct mb_answer a;
    l->st = mb_answer_decode(data, n, &a, &l->err);
    if (l->st != MB_OK) {
        return false;
    }
    take_answer(l, &a);
    mb_answer_fini(&a);
    return true;
}

/* What is left when the exchange is over. A server that can not stream answers as a whole. */
static enum mb_status conclude(struct listening *l, enum mb_status st,
                               const struct mbc_reply *reply, struct mb_error *err)
{
    if (l->st != MB_OK) {
        *err = l->err;
        return l->st;
    }
    if (st == MB_E_CANCELLED) {
        (void) snprintf(l->said->finish, sizeof l->said->finish, "interrupted");
        return MB_OK;
    }
    if (st != MB_OK) {
        return st;
    }
    if (reply->status != 200) {
        read_error(reply, l->said->code, sizeof l->said->code, err);
        return err->code;
    }
    if (!reply->is_stream) {
        struct mb_answer a;
        st = mb_answer_decode((const char *) reply->body.at, reply->body.len, &a, err);
        if (st == MB_OK) {
            take_answer(l, &a);
            mb_answer_fini(&a);
        }
        return st;
    }
    return l->done ? MB_OK : mb_fail(err, MB_E_IO, 0, "the answer broke off");
}

enum mb_status mbc_ask(struct mbc_transport *t, const struct mbc_asking *a,
                       struct mb_request *r, struct mbc_said *ret, struct mb_error *err)
{
    *ret = (struct mbc_said) { 0 };
    r->numbers = a->numbers;
    r->n_numbers = a->n_numbers;
    r->stops = a->stops;
    r->n_stops = a->n_stops;
    r->ignore_eos = a->ignore_eos;
    r->stream = true;
    char *body = mb_request_encode(r);
    if (!body) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a request");
    }
    struct listening l = {
        .asking = a, .said = ret, .on_terminal = isatty(STDOUT_FILENO), .began_s = mbc_now_s()
    };
    struct mbc_request post = {
        .path = r->messages ? "/v1/chat/completions" : "/v1/completions",
        .json = body,
        .n_json = strlen(body),
        .stream = true,
        .event = take_event,
    };
    struct mbc_reply reply;
    enum mb_status st = mbc_transport_ask(t, &post, &l, &reply, err);
    ret->total_s = mbc_now_s() - l.began_s;
    st = conclude(&l, st, &reply, err);
    mbc_reply_fini(&reply);
    free(body);
    return st;
}

void mbc_said_fini(struct mbc_said *s)
{
    mb_bytes_fini(&s->text);
}

static void print_json(const struct mbc_said *s)
{
    json_t *root = json_pack(
        "{s:s, s:s%, s:s, s:I, s:I, s:I, s:{s:f, s:f}}", "model", s->model, "text",
        s->text.len ? (const char *) s->text.at : "", s->text.len, "finish_reason", s->finish,
        "prompt_tokens", (json_int_t) s->prompt_tokens, "completion_tokens",
        (json_int_t) s->completion_tokens, "cached_tokens", (json_int_t) s->cached_tokens,
        "timings", "first_s", s->first_s, "total_s", s->total_s);
    (void) json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    (void) putchar('\n');
    (void) fflush(stdout);
    json_decref(root);
}

void mbc_said_print(const struct mbc_asking *a, const struct mbc_said *s)
{
    if (a->json) {
        print_json(s);
        return;
    }
    (void) putchar('\n');
    (void) fflush(stdout);
    double decode_s = s->total_s - s->first_s;
    bool told = isatty(STDERR_FILENO) && isatty(STDOUT_FILENO);
    if (told && s->prompt_tokens == 0) { /* it was left before the daemon counted them */
        fprintf(stderr, "\033[2m[%s after %.3f s]\033[0m\n", s->finish[0] ? s->finish : "?",
                s->total_s);
    } else if (told) {
        fprintf(stderr,
                "\033[2m[%llu prompt tokens, first text after %.3f s; %llu tokens, %.1f/s; "
                "%s]\033[0m\n",
                (unsigned long long) s->prompt_tokens, s->first_s,
                (unsigned long long) s->completion_tokens,
                decode_s > 0 && s->completion_tokens > 1
                    ? (double) (s->completion_tokens - 1) / decode_s
                    : 0,
                s->finish[0] ? s->finish : "?");
    }
}

enum mb_status mbc_read_input(struct mb_bytes *ret, struct mb_error *err)
{
    char part[16384];
    size_t n;
    while ((n = fread(part, 1, sizeof part, stdin)) > 0 && ret->len <= MB_BODY_BYTES_MAX) {
        mb_bytes_put(ret, part, n);
    }
    if (ferror(stdin)) {
        return mb_fail(err, mbc_interrupted() ? MB_E_CANCELLED : MB_E_IO, errno,
                       "standard input");
    }
    if (ret->len > MB_BODY_BYTES_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "standard input: more than %u bytes",
                       MB_BODY_BYTES_MAX);
    }
    if (ret->len > 0 && ret->at[ret->len - 1] == '\n') {
        ret->len--;
    }
    (void) mb_bytes_text(ret);
    return ret->failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for standard input") : MB_OK;
}
