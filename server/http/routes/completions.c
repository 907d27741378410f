#include "server/http/routes/completions.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "proto/json/completion_json.h"
#include "proto/json/error_json.h"
#include "server/clock.h"
#include "server/http/exchange.h"
#include "server/http/router.h"

enum {
    PENDING_MAX = 32 * 1024, /* of a stream: beyond it tokens stay in the request's ring */
    RETRY_FULL = 1,          /* seconds; a slot is seldom held for less */
    RETRY_DRAINING = 5,      /* by then a load balancer knows of another replica */
};

static const char id_prefix[] = "cmpl-";

/* One request that runs. It outlives its exchange when the client left: the engine still has to
 * say that it is over. */
struct completion {
    struct mbd_completions *owner;
    struct completion *next, *prev;
    struct mbd_exchange *exchange; /* NULL once it ended */
    struct mbd_request *request;
    const struct mbd_entry *model;

    char id[32]; /* "cmpl-" and the exchange's */
    char client_id[MBD_CLIENT_ID_MAX + 1];
    int64_t created;
    bool stream, include_usage, has_logprobs;
    uint64_t began_ns;
    uint64_t spoke_ns; /* when the stream last had something to say */

    struct mb_bytes text;         /* of the whole reply; of a stream: the echoed prompt, once */
    struct mb_wire_token *tokens; /* of the whole reply, with logprobs */
    size_t n_tokens, tokens_cap;
    uint32_t offset; /* characters before the next token */
    struct mb_usage usage;
};

struct mbd_completions {
    struct mbd_service *service;
    struct completion *first;
    size_t n;
    struct mbd_timer *ping; /* while there are any */
};

/* ---- life --------------------------------------------------------------------------------- */

static void unlink_one(struct completion *c)
{
    *(c->prev ? &c->prev->next : &c->owner->first) = c->next;
    if (c->next) {
        c->next->prev = c->prev;
    }
    if (--c->owner->n == 0) {
        mbd_timer_stop(c->owner->ping);
    }
}

static void completion_free(struct completion *c)
{
    if (c->exchange) {
        mbd_exchange_on_end(c->exchange, NULL, NULL);
    }
    mbd_request_unref(c->request);
    mb_bytes_fini(&c->text);
    free(c->tokens);
    free(c);
}

static void link_one(struct completion *c)
{
    struct mbd_completions *all = c->owner;
    c->next = all->first;
    if (c->next) {
        c->next->prev = c;
    }
    all->first = c;
    if (all->n++ == 0) {
        uint64_t ms = all->service->options->ping_interval_ms / 4;
        mbd_timer_start(all->ping, ms, ms);
    }
}

/* The client left, or the whole answer was sent. In the second case the engine is done, and
 * there is no completion any more that would hear of it. */
static void on_exchange_end(void *arg)
{
    struct completion *c = arg;
    c->exchange = NULL;
    mbd_request_cancel(c->request);
}

/* ---- replies -------------------------------------------------------------------------------- */

static uint32_t characters(const char *text, size_t n)
{
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += ((unsigned char) text[i] & 0xc0) != 0x80;
    }
    return count;
}

static struct mb_completion_reply reply_of(const struct completion *c)
{
    return (struct mb_completion_reply) {
        .id = c->id,
        .model = c->model->name,
        .fingerprint = c->model->fingerprint,
        .created = c->created,
        .has_logprobs = c->has_logprobs,
        .text = "",
    };
}

static struct mb_wire_logprob shown(const struct completion *c, uint32_t token, float logprob)
{
    struct mb_wire_logprob ret = { .logprob = logprob };
    ret.text = (const char *) mb_tokenizer_token_bytes(c->model->tokenizer, token, &ret.n_text);
    if (!ret.text) {
        ret.text = "";
        ret.n_text = 0;
    }
    return ret;
}

/* The token of an event as the wire shows it. Texts are the tokenizer's. */
static struct mb_wire_token wire_token(struct completion *c, const struct mbd_event *e)
{
    struct mb_wire_token t = { .token = shown(c, e->token, e->logprob), .n_top = e->n_top,
                               .text_offset = c->offset };
    for (uint32_t i = 0; i < e->n_top; i++) {
        t.top[i] = shown(c, e->top[i].token, e->top[i].logprob);
    }
    c->offset += characters(t.token.text, t.token.n_text);
    return t;
}

static void put_chunk(struct completion *c, struct mb_completion_reply *r)
{
    if (!r->usage) {
        r->usage_null = c->include_usage;
    }
    char *json = mb_completion_encode(r);
    if (json) {
        mbd_stream_put(c->exchange, json);
    } else { /* no memory for a line of text: this stream can not go on */
        mbd_stream_end(c->exchange, false);
        mbd_request_cancel(c->request);
    }
    free(json);
    c->spoke_ns = mbd_now_ns();
}

static void stream_token(struct completion *c, const struct mbd_event *e)
{
    struct mb_completion_reply r = reply_of(c);
    struct mb_wire_token t;
    r.text = e->text;
    r.n_text = e->n_text;
    if (c->has_logprobs && e->has_token) {
        t = wire_token(c, e);
        r.tokens = &t;
        r.n_tokens = 1;
    }
    if (r.n_text > 0 || r.n_tokens > 0) {
        put_chunk(c, &r);
    }
}

static bool keep_token(struct completion *c, const struct mb_wire_token *t)
{
    if (c->n_tokens == c->tokens_cap) {
        size_t cap = c->tokens_cap ? 2 * c->tokens_cap : 64;
        struct mb_wire_token *more = realloc(c->tokens, cap * sizeof *more);
        if (!more) {
            return false;
        }
        c->tokens = more;
        c->tokens_cap = cap;
    }
    c->tokens[c->n_tokens++] = *t;
    return true;
}

static void gather_token(struct completion *c, const struct mbd_event *e)
{
    bool ok = true;
    mb_bytes_put(&c->text, e->text, e->n_text);
    if (c->has_logprobs && e->has_token) {
        struct mb_wire_token t = wire_token(c, e);
        ok = keep_token(c, &t);
    }
    if (!ok || c->text.failed) {
        c->text.failed = true; /* answered as such at the end */
        mbd_request_cancel(c->request);
    }
}

/* ---- the end -------------------------------------------------------------------------------------- */

/* What a request that was not done is on the wire. */
static struct mb_wire_error failure(const struct completion *c, const struct mbd_event *e)
{
    struct mb_wire_error w;
    if (c->text.failed) {
        mb_wire_error_fill(&w, 503, "out_of_memory", NULL, "no memory for this reply");
    } else if (e->state == MBD_REQUEST_CANCELLED) {
        mb_wire_error_fill(&w, 503, "cancelled", NULL, "the server is shutting down");
    } else {
        int http = mb_status_http(e->status);
        mb_wire_error_fill(&w, http >= 500 ? http : 500, mb_status_name(e->status), NULL,
                           "the engine could not go on with this request");
    }
    return w;
}

static int end_stream(struct completion *c, const struct mbd_event *e)
{
    if (e->state != MBD_REQUEST_DONE) {
        struct mb_wire_error w = failure(c, e);
        char *json = mb_error_encode(&w);
        if (json) {
            mbd_stream_put(c->exchange, json);
        }
        free(json);
        mbd_stream_end(c->exchange, false);
        return 200; /* left long ago */
    }
    struct mb_completion_reply r = reply_of(c);
    r.finish = e->finish;
    r.has_logprobs = false; /* every token had its own */
    put_chunk(c, &r);
    if (c->include_usage) {
        r = reply_of(c);
        r.no_choice = true;
        r.usage = &c->usage;
        put_chunk(c, &r);
    }
    mbd_stream_end(c->exchange, true);
    return 200;
}

static int end_whole(struct completion *c, const struct mbd_event *e)
{
    if (e->state != MBD_REQUEST_DONE || c->text.failed) {
        struct mb_wire_error w = failure(c, e);
        mbd_reply_error(c->exchange, &w, w.http == 503 ? RETRY_FULL : 0);
        return w.http;
    }
    struct mb_completion_reply r = reply_of(c);
    r.text = mb_bytes_text(&c->text);
    r.n_text = c->text.len;
    r.finish = e->finish;
    r.tokens = c->tokens;
    r.n_tokens = c->n_tokens;
    r.usage = &c->usage;
    mbd_reply_json(c->exchange, 200, mb_completion_encode(&r));
    return 200;
}

static void write_line(struct completion *c, const struct mbd_event *e, int status)
{
    struct mbd_request_times t = mbd_request_times(c->request);
    struct mbd_line line;
    mbd_line_begin(&line, c->owner->service->log, MBD_LOG_INFO, "request");
    mbd_line_text(&line, "id", c->id + strlen(id_prefix));
    if (c->client_id[0]) {
        mbd_line_text(&line, "client_id", c->client_id);
    }
    mbd_line_text(&line, "route", "completions");
    mbd_line_u64(&line, "status", (uint64_t) status);
    mbd_line_text(&line, "model", c->model->name);
    mbd_line_text(&line, "outcome",
                  e->state == MBD_REQUEST_DONE ? mb_finish_name(e->finish)
                                               : mbd_request_state_name(e->state));
    mbd_line_u64(&line, "prompt_tokens", c->usage.prompt_tokens);
    mbd_line_u64(&line, "completion_tokens", c->usage.completion_tokens);
    if (t.scheduled) {
        mbd_line_ms(&line, "queue_ms", t.scheduled - t.submitted);
    }
    if (t.first_token) {
        mbd_line_ms(&line, "first_token_ms", t.first_token - t.submitted);
    }
    mbd_line_ms(&line, "total_ms", mbd_now_ns() - c->began_ns);
    mbd_line_end(&line);
}

static void end(struct completion *c, const struct mbd_event *e)
{
    int status = 499;
    if (c->exchange) {
        status = c->stream ? end_stream(c, e) : end_whole(c, e);
    }
    write_line(c, e, status);
    unlink_one(c);
    completion_free(c);
}

/* ---- what the engine tells -------------------------------------------------------------------------- */

/* Returns false when c is no more. */
static bool take_events(struct completion *c)
{
    struct mbd_event e;
    while ((!c->exchange || !c->stream || mbd_stream_pending(c->exchange) < PENDING_MAX) &&
           mbd_request_next(c->request, &e)) {
        if (mbd_request_state_is_final(e.state)) {
            end(c, &e);
            return false;
        }
        c->usage.completion_tokens += e.has_token;
        if (c->exchange && c->stream) {
            stream_token(c, &e);
        } else if (c->exchange) {
            gather_token(c, &e);
        }
    }
    return true;
}

void mbd_completions_pump(struct mbd_completions *all)
{
    for (struct completion *c = all->first, *next; c; c = next) {
        next = c->next;
        (void) take_events(c);
    }
}

/* The stream of c has sent what it had. */
static void on_more(void *arg)
{
    (void) take_events(arg);
}

static void on_ping(void *arg)
{
    struct mbd_completions *all = arg;
    uint64_t now = mbd_now_ns();
    uint64_t silence = (uint64_t) all->service->options->ping_interval_ms * (MBD_SECOND_NS / 1000);
    for (struct completion *c = all->first; c; c = c->next) {
        if (c->exchange && c->stream && now - c->spoke_ns >= silence &&
            mbd_stream_pending(c->exchange) == 0) {
            mbd_stream_ping(c->exchange);
            c->spoke_ns = now;
        }
    }
}

/* ---- admission ----------------------------------------------------------------------------------------- */

struct admission {
    struct mbd_service *service;
    struct mb_completion asked;
    const struct mbd_entry *model;
    struct mb_ids prompt;
    struct mb_wire_error error; /* when something is refused */
    unsigned retry_after;
};

static bool refuse_length(struct admission *a, size_t n_prompt, const char *more)
{
    mb_wire_error_fill(&a->error, 400, "context_length_exceeded", "prompt",
                       "this model's context is %u tokens; the prompt has %s%zu and the "
                       "completion asks for %u",
                       a->model->context_max, more, n_prompt, a->asked.max_tokens);
    return false;
}

static bool find_model(struct admission *a)
{
    a->model = mbd_registry_find(a->service->registry, a->asked.model);
    if (!a->model && a->asked.model) {
        mb_wire_error_fill(&a->error, 404, "model_not_found", "model",
                           "there is no model '%s' here; GET /v1/models lists them",
                           a->asked.model);
    } else if (!a->model) {
        mb_wire_error_fill(&a->error, 400, NULL, "model",
                           "'model' is required: there are several");
    }
    return a->model != NULL;
}

static bool take_text(struct admission *a)
{
    struct mb_error err;
    enum mb_status st =
        mb_tokenizer_encode(a->model->tokenizer, a->asked.prompt, a->asked.n_prompt,
                            MB_ENCODE_BOS_EOS | MB_ENCODE_PARSE_SPECIAL, a->model->context_max,
                            &a->prompt, &err);
    if (st == MB_E_LIMIT) {
        return refuse_length(a, a->model->context_max, "more than ");
    }
    if (st != MB_OK) {
        mb_wire_error_of(&a->error, &err);
    }
    return st == MB_OK;
}

static bool take_ids(struct admission *a)
{
    uint32_t n_vocab = a->model->model->shape.n_vocab;
    for (size_t i = 0; i < a->asked.n_prompt_ids; i++) {
        if (a->asked.prompt_ids[i] >= n_vocab) {
            mb_wire_error_fill(&a->error, 400, NULL, "prompt",
                               "'prompt' element %zu is %u; this model's ids are 0..%u", i,
                               a->asked.prompt_ids[i], n_vocab - 1);
            return false;
        }
    }
    /* The list changes hands. */
    a->prompt = (struct mb_ids) { .at = a->asked.prompt_ids, .len = a->asked.n_prompt_ids,
                                  .cap = a->asked.n_prompt_ids };
    a->asked.prompt_ids = NULL;
    return true;
}

static bool tokenize(struct admission *a)
{
    if (!(a->asked.prompt ? take_text(a) : take_ids(a))) {
        return false;
    }
    size_t n = a->prompt.len;
    if (n == 0) {
        mb_wire_error_fill(&a->error, 400, NULL, "prompt", "'prompt' is empty");
        return false;
    }
    uint32_t room = n < a->model->context_max ? a->model->context_max - (uint32_t) n : 0;
    if (!a->asked.has_max_tokens) {
        a->asked.max_tokens = a->service->options->default_max_tokens;
        if (room > 0 && a->asked.max_tokens > room) {
            a->asked.max_tokens = room;
        }
    }
    return a->asked.max_tokens <= room || refuse_length(a, n, "");
}

static bool make_request(struct admission *a, struct mbd_request **ret)
{
    const struct mb_completion *c = &a->asked;
    struct mbd_request_params p = {
        .sampling = {
            .temperature = c->temperature,
            .top_k = c->top_k,
            .top_p = c->top_p,
            .min_p = c->min_p,
            .repetition_penalty = c->repetition_penalty,
            .presence_penalty = c->presence_penalty,
            .frequency_penalty = c->frequency_penalty,
            .seed = c->seed,
        },
        .max_tokens = c->max_tokens,
        .ignore_eos = c->ignore_eos,
        .want_logprob = c->has_logprobs,
        .want_top = c->logprobs,
        .n_stops = c->n_stops,
    };
    if (!c->has_seed &&
        getrandom(&p.sampling.seed, sizeof p.sampling.seed, 0) != sizeof p.sampling.seed) {
        p.sampling.seed = mbd_now_ns(); /* any number does */
    }
    for (size_t i = 0; i < c->n_stops; i++) {
        p.stop[i] = c->stop[i];
        p.n_stop_bytes[i] = c->n_stop_bytes[i];
    }
    struct mb_error err;
    enum mb_status st = mbd_request_new(a->model->tokenizer, a->prompt.at,
                                        (uint32_t) a->prompt.len, &p, ret, &err);
    if (st != MB_OK) {
        mb_wire_error_of(&a->error, &err);
    }
    return st == MB_OK;
}

/* Puts the request before the engine, which may refuse it. */
static bool submit(struct admission *a, struct mbd_request *r)
{
    struct mb_error err;
    enum mb_status st = mbd_engine_submit(a->model->engine, r, &err);
    if (st == MB_OK) {
        return true;
    }
    if (st == MB_E_INVALID) {
        mb_wire_error_fill(&a->error, 400, "context_length_exceeded", "prompt", "%s", err.what);
    } else {
        mb_wire_error_of(&a->error, &err);
        a->retry_after = st == MB_E_UNAVAILABLE ? RETRY_DRAINING : RETRY_FULL;
    }
    return false;
}

/* The prompt's text again, for echo. */
static void put_echo(struct admission *a, struct completion *c)
{
    struct mb_error err;
    if (a->asked.prompt) {
        mb_bytes_put(&c->text, a->asked.prompt, a->asked.n_prompt);
    } else if (mb_tokenizer_decode(a->model->tokenizer, a->prompt.at, a->prompt.len, true,
                                   &c->text, &err) != MB_OK) {
        c->text.failed = true;
    }
}

static struct completion *completion_new(struct admission *a, struct mbd_exchange *x)
{
    struct completion *c = calloc(1, sizeof *c);
    if (!c) {
        mb_wire_error_fill(&a->error, 503, "out_of_memory", NULL, "no memory for this request");
        return NULL;
    }
    c->owner = a->service->completions;
    c->model = a->model;
    c->created = (int64_t) time(NULL);
    c->stream = a->asked.stream;
    c->include_usage = a->asked.include_usage;
    c->has_logprobs = a->asked.has_logprobs;
    c->usage.prompt_tokens = (uint32_t) a->prompt.len;
    c->began_ns = mbd_exchange_began_ns(x);
    c->spoke_ns = c->began_ns;
    (void) snprintf(c->id, sizeof c->id, "%s%s", id_prefix, mbd_exchange_id(x));
    (void) snprintf(c->client_id, sizeof c->client_id, "%s", mbd_exchange_client_id(x));
    if (a->asked.echo) {
        put_echo(a, c);
    }
    return c;
}

static bool admit(struct admission *a, struct mbd_exchange *x, struct completion **ret)
{
    const struct mb_bytes *body = mbd_exchange_body(x);
    if (a->service->draining) {
        mb_wire_error_fill(&a->error, 503, "unavailable", NULL, "the server is shutting down");
        a->retry_after = RETRY_DRAINING;
        mbd_metrics_add(a->service->metrics, MBD_REQUESTS_REFUSED, 1);
        return false;
    }
    if (mb_completion_decode((const char *) body->at, body->len, &a->asked, &a->error) != MB_OK) {
        return false;
    }
    mbd_exchange_drop_body(x);
    if (!find_model(a) || !tokenize(a)) {
        return false;
    }
    struct completion *c = completion_new(a, x);
    if (!c) {
        return false;
    }
    if (!make_request(a, &c->request) || !submit(a, c->request)) {
        completion_free(c);
        return false;
    }
    *ret = c;
    return true;
}

static void begin(struct completion *c, struct mbd_exchange *x)
{
    c->exchange = x;
    mbd_exchange_logged(x);
    mbd_exchange_on_end(x, on_exchange_end, c);
    link_one(c);
    if (!c->stream) {
        mbd_exchange_wait(x);
        return;
    }
    mbd_reply_stream(x, on_more, c);
    if (c->text.len > 0) { /* the echo is the first chunk */
        struct mb_completion_reply r = reply_of(c);
        r.text = mb_bytes_text(&c->text);
        r.n_text = c->text.len;
        put_chunk(c, &r);
        mb_bytes_fini(&c->text);
    }
}

void mbd_route_completions(struct mbd_exchange *x)
{
    struct admission a = { .service = mbd_exchange_service(x) };
    struct completion *c = NULL;
    mb_completion_init(&a.asked);
    if (admit(&a, x, &c)) {
        begin(c, x);
    } else {
        mbd_reply_error(x, &a.error, a.retry_after);
    }
    mb_ids_fini(&a.prompt);
    mb_completion_fini(&a.asked);
}

/* ---- all of them ----------------------------------------------------------------------------------------- */

enum mb_status mbd_completions_new(struct mbd_service *service, struct mbd_completions **ret,
                                   struct mb_error *err)
{
    struct mbd_completions *all = calloc(1, sizeof *all);
    if (!all) {
        return mb_fail(err, MB_E_NOMEM, 0, "completions: no memory");
    }
    all->service = service;
    enum mb_status st = mbd_timer_new(service->loop, on_ping, all, &all->ping, err);
    if (st != MB_OK) {
        free(all);
        return st;
    }
    *ret = all;
    return MB_OK;
}

void mbd_completions_free(struct mbd_completions *all)
{
    if (!all) {
        return;
    }
    mbd_completions_pump(all); /* the last events of those that the engines cancelled */
    while (all->first) {
        struct completion *c = all->first;
        unlink_one(c);
        completion_free(c);
    }
    mbd_timer_free(all->ping);
    free(all);
}

void mbd_completions_cancel(struct mbd_completions *all)
{
    for (struct completion *c = all->first; c; c = c->next) {
        mbd_request_cancel(c->request);
    }
}

size_t mbd_completions_count(const struct mbd_completions *all)
{
    return all->n;
}
