#include "server/http/routes/completion.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/error_json.h"
#include "server/clock.h"

enum {
    PENDING_MAX = 32 * 1024, /* of a stream: beyond it tokens stay in the request's ring */
};

/* ---- life -------------------------------------------------------------------------------- */

static void unlink_one(struct mbd_completion *c)
{
    *(c->prev ? &c->prev->next : &c->owner->first) = c->next;
    if (c->next) {
        c->next->prev = c->prev;
    }
    if (--c->owner->n == 0) {
        mbd_timer_stop(c->owner->ping);
    }
}

void mbd_completion_free(struct mbd_completion *c)
{
    if (c->exchange) {
        mbd_exchange_on_end(c->exchange, NULL, NULL);
    }
    c->owner->constraint_bytes -= c->constraint_bytes;
    mbd_request_unref(c->request);
    mb_bytes_fini(&c->text);
    free(c->tokens);
    free(c);
}

static void link_one(struct mbd_completion *c)
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
    struct mbd_completion *c = arg;
    c->exchange = NULL;
    mbd_request_cancel(c->request);
}

/* ---- replies ----------------------------------------------------------------------------- */

uint32_t mbd_characters(const char *text, size_t n)
{
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += ((unsigned char) text[i] & 0xc0) != 0x80;
    }
    return count;
}

static struct mb_completion_reply reply_of(const struct mbd_completion *c)
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

static struct mb_wire_logprob shown(const struct mbd_completion *c, uint32_t token,
                                    float logprob)
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
static struct mb_wire_token wire_token(struct mbd_completion *c, const struct mbd_event *e)
{
    struct mb_wire_token t = { .token = shown(c, e->token, e->logprob),
                               .n_top = e->n_top,
                               .text_offset = c->offset };
    for (uint32_t i = 0; i < e->n_top; i++) {
        t.top[i] = shown(c, e->top[i].token, e->top[i].logprob);
    }
    c->offset += mbd_characters(t.token.text, t.token.n_text);
    return t;
}

static void put_chunk(struct mbd_completion *c, struct mb_completion_reply *r)
{
    if (!r->usage) {
        r->usage_null = c->include_usage;
    }
    char *json = mb_completion_encode(r);
    if (json) {
        mbd_stream_put(c->exchange, json);
    } else { /* no memory for a line of text: this stream can not go on */
        mbd_stream_end(c->exchange, false);
        if (c->request) {
            mbd_request_cancel(c->request);
        }
    }
    free(json);
    c->spoke_ns = mbd_now_ns();
}

static void stream_token(struct mbd_completion *c, const struct mbd_event *e)
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

static bool keep_token(struct mbd_completion *c, const struct mb_wire_token *t)
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

static void gather_token(struct mbd_completion *c, const struct mbd_event *e)
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

/* ---- the end ----------------------------------------------------------------------------- */

/* What a request that was not done is on the wire. */
static struct mb_wire_error failure(const struct mbd_completion *c, const struct mbd_event *e)
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

static int end_stream(struct mbd_completion *c, const struct mbd_event *e)
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

static int end_whole(struct mbd_completion *c, const struct mbd_event *e)
{
    if (e->state != MBD_REQUEST_DONE || c->text.failed) {
        struct mb_wire_error w = failure(c, e);
        unsigned after = e->state == MBD_REQUEST_CANCELLED && !c->text.failed
                             ? MBD_RETRY_DRAINING
                             : MBD_RETRY_FULL;
        mbd_reply_error(c->exchange, &w, w.http == 503 ? after : 0);
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

static void write_line(struct mbd_completion *c, const struct mbd_event *e, int status)
{
    struct mbd_request_times t = { 0 };
    struct mbd_line line;
    if (c->request) {
        t = mbd_request_times(c->request);
    }
    mbd_line_begin(&line, c->owner->service->log, MBD_LOG_INFO, "request");
    mbd_line_text(&line, "id", c->id + sizeof MBD_ID_PREFIX - 1);
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

static void end(struct mbd_completion *c, const struct mbd_event *e)
{
    int status = 499;
    if (c->exchange) {
        status = c->stream ? end_stream(c, e) : end_whole(c, e);
    }
    write_line(c, e, status);
    unlink_one(c);
    mbd_completion_free(c);
}

/* ---- what the engine tells --------------------------------------------------------------- */

/* Returns false when c is no more. */
static bool take_events(struct mbd_completion *c)
{
    struct mbd_event e;
    while ((!c->exchange || !c->stream || mbd_stream_pending(c->exchange) < PENDING_MAX) &&
           mbd_request_next(c->request, &e)) {
        if (mbd_request_state_is_final(e.state)) {
            end(c, &e);
            return false;
        }
        c->usage.completion_tokens++; /* the end of sequence was computed, too */
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
    for (struct mbd_completion *c = all->first, *next; c; c = next) {
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
    uint64_t silence =
        (uint64_t) all->service->options->ping_interval_ms * (MBD_SECOND_NS / 1000);
    for (struct mbd_completion *c = all->first; c; c = c->next) {
        if (c->exchange && c->stream && now - c->spoke_ns >= silence &&
            mbd_stream_pending(c->exchange) == 0) {
            mbd_stream_ping(c->exchange);
            c->spoke_ns = now;
        }
    }
}

/* ---- the beginning ----------------------------------------------------------------------- */

/* more NULL: all that the stream will say is put at once. */
static void begin_stream(struct mbd_completion *c, void (*more)(void *arg))
{
    mbd_reply_stream(c->exchange, more, c);
    if (c->text.len > 0) { /* the echo is the first chunk */
        struct mb_completion_reply r = reply_of(c);
        r.has_logprobs = false;
        r.text = mb_bytes_text(&c->text);
        r.n_text = c->text.len;
        put_chunk(c, &r);
        mb_bytes_fini(&c->text);
    }
}

void mbd_completion_of_nothing(struct mbd_completion *c, struct mbd_exchange *x)
{
    const struct mbd_event e = { .state = MBD_REQUEST_DONE, .finish = MB_FINISH_LENGTH };
    c->exchange = x;
    mbd_exchange_logged(x);
    if (c->stream) {
        begin_stream(c, NULL);
    }
    write_line(c, &e, c->stream ? end_stream(c, &e) : end_whole(c, &e));
    mbd_completion_free(c);
}

void mbd_completion_begin(struct mbd_completion *c, struct mbd_exchange *x)
{
    c->exchange = x;
    mbd_exchange_logged(x);
    mbd_exchange_on_end(x, on_exchange_end, c);
    link_one(c);
    if (!c->stream) {
        mbd_exchange_wait(x);
        return;
    }
    begin_stream(c, on_more);
}

/* ---- all of them ------------------------------------------------------------------------- */

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
    while (all->first_pending) { /* their clients are gone; the thread may still be at one */
        mbd_loop_turn(all->service->loop);
    }
    mbd_completions_pump(all); /* the last events of those that the engines cancelled */
    while (all->first) {
        struct mbd_completion *c = all->first;
        unlink_one(c);
        mbd_completion_free(c);
    }
    mbd_timer_free(all->ping);
    free(all);
}

void mbd_completions_cancel(struct mbd_completions *all)
{
    for (struct mbd_completion *c = all->first; c; c = c->next) {
        mbd_request_cancel(c->request);
    }
}

size_t mbd_completions_count(const struct mbd_completions *all)
{
    return all->n;
}
