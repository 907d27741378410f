#include "server/http/routes/completion.h"

#include <math.h>
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
    for (size_t i = 0; i < c->n_choices; i++) {
        mbd_choice_fini(&c->choices[i]);
    }
    free(c->choices);
    for (size_t i = 0; i < c->n_prompts; i++) {
        mb_ids_fini(&c->prompts[i]);
    }
    free(c->prompts);
    mb_completion_fini(&c->asked);
    mbd_timer_free(c->limit);
    mbd_key_unref(c->key);
    free(c);
}

void mbd_completion_cancel(struct mbd_completion *c)
{
    for (size_t i = 0; i < c->n_choices; i++) {
        if (c->choices[i].request && !c->choices[i].ended) {
            mbd_request_cancel(c->choices[i].request);
        }
    }
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
    mbd_completion_cancel(c);
}

/* The time that the request gave itself is over. */
static void on_limit(void *arg)
{
    struct mbd_completion *c = arg;
    c->late = true;
    mbd_completion_cancel(c);
}

/* ---- replies ----------------------------------------------------------------------------- */

static struct mb_completion_reply reply_of(const struct mbd_completion *c)
{
    return (struct mb_completion_reply) {
        .id = c->id,
        .model = c->model,
        .fingerprint = c->fingerprint,
        .created = c->created,
    };
}

void mbd_completion_put_chunk(struct mbd_completion *c, const struct mb_wire_choice *choice,
                              const struct mb_usage *usage)
{
    struct mb_completion_reply r = reply_of(c);
    r.choices = choice;
    r.n_choices = choice != NULL;
    r.usage = usage;
    r.usage_null = !usage && c->asked.include_usage;
    char *json = c->asked.is_chat ? mb_chat_chunk_encode(&r) : mb_completion_encode(&r);
    if (json) {
        mbd_stream_put(c->exchange, json);
    } else { /* no memory for a line of text: this stream can not go on */
        c->no_memory = true;
        mbd_completion_cancel(c);
    }
    free(json);
    c->spoke_ns = mbd_now_ns();
}

/* ---- the end ----------------------------------------------------------------------------- */

/* The choice that was not done, or NULL: what the time limit ended is done, too. */
static const struct mbd_choice *failed_choice(const struct mbd_completion *c)
{
    const struct mbd_choice *cancelled = NULL;
    for (size_t i = 0; i < c->n_choices; i++) {
        const struct mbd_choice *k = &c->choices[i];
        if (k->last.state == MBD_REQUEST_FAILED) {
            return k;
        }
        cancelled = k->last.state == MBD_REQUEST_CANCELLED && !c->late ? k : cancelled;
    }
    return cancelled;
}

/* What is said of a completion that was not done; false when it was. */
static bool failure(const struct mbd_completion *c, struct mb_wire_error *ret)
{
    const struct mbd_choice *k = failed_choice(c);
    if (c->no_memory) {
        mb_wire_error_fill(ret, 503, "out_of_memory", NULL, "no memory for this reply");
    } else if (k && k->last.state == MBD_REQUEST_CANCELLED) {
        mb_wire_error_fill(ret, 503, "cancelled", NULL, "the server is shutting down");
    } else if (k) {
        int http = mb_status_http(k->last.status);
        mb_wire_error_fill(ret, http >= 500 ? http : 500, mb_status_name(k->last.status), NULL,
                           "the engine could not go on with this request");
    } else if (c->late && c->usage.completion_tokens == 0) {
        mb_wire_error_fill(ret, 504, "time_limit", "time_limit",
                           "the time limit of %g s passed before the first token",
                           c->asked.time_limit);
    } else {
        return false;
    }
    return true;
}

static int end_stream(struct mbd_completion *c)
{
    struct mb_wire_error w;
    for (size_t i = 0; !failure(c, &w) && i < c->n_choices; i++) {
        if (!c->choices[i].request) { /* the others said theirs when they ended */
            mbd_choice_end_stream(c, &c->choices[i]);
        }
    }
    if (failure(c, &w)) {
        char *json = mb_error_encode(&w);
        if (json) {
            mbd_stream_put(c->exchange, json);
        }
        free(json);
        mbd_stream_end(c->exchange, false);
        return 200; /* left long ago */
    }
    if (c->asked.include_usage) {
        mbd_completion_put_chunk(c, NULL, &c->usage);
    }
    mbd_stream_end(c->exchange, true);
    return 200;
}

/* The likelier a token was on the mean, the better the choice. */
static double goodness(const struct mbd_choice *k)
{
    return k->n_told > 0 ? k->logprob_sum / k->n_told : -INFINITY;
}

/* Of the choices of each prompt the n best, best first; as they are when all are wanted. */
static bool wire_choices(struct mbd_completion *c, struct mb_wire_choice *ret)
{
    size_t n = c->asked.n;
    for (size_t p = 0; p < c->n_prompts; p++) {
        struct mbd_choice *of = &c->choices[p * c->n_each];
        for (size_t i = 0; i < c->n_each && c->n_each > n; i++) {
            for (size_t j = i; j > 0 && goodness(&of[j]) > goodness(&of[j - 1]); j--) {
                struct mbd_choice other = of[j];
                of[j] = of[j - 1];
                of[j - 1] = other;
            }
        }
        for (size_t i = 0; i < n; i++) {
            of[i].index = (uint32_t) (p * n + i);
            if (!mbd_choice_echo(c, &of[i]) || !mbd_choice_take_calls(c, &of[i])) {
                return false;
            }
            ret[p * n + i] = mbd_choice_wire(c, &of[i]);
        }
    }
    return true;
}

static char *encode_whole(struct mbd_completion *c)
{
    struct mb_completion_reply r = reply_of(c);
    struct mb_wire_choice *choices = calloc(c->n_prompts * c->asked.n, sizeof *choices);
    char *json = NULL;
    if (choices && wire_choices(c, choices)) {
        r.choices = choices;
        r.n_choices = c->n_prompts * c->asked.n;
        r.usage = &c->usage;
        json = c->asked.is_chat ? mb_chat_encode(&r) : mb_completion_encode(&r);
    }
    free(choices);
    return json;
}

static int end_whole(struct mbd_completion *c)
{
    struct mb_wire_error w;
    if (failure(c, &w)) {
        bool draining = w.http == 503 && !c->no_memory;
        mbd_reply_error(c->exchange, &w,
                        w.http != 503 ? 0
                        : draining    ? MBD_RETRY_DRAINING
                                      : MBD_RETRY_FULL);
        return w.http;
    }
    mbd_reply_json(c->exchange, 200, encode_whole(c));
    return 200;
}

static const char *outcome(const struct mbd_completion *c)
{
    const struct mbd_choice *k = failed_choice(c);
    if (c->late) {
        return "time_limit";
    }
    return k ? mbd_request_state_name(k->last.state)
             : mb_finish_name(c->choices[0].last.finish);
}

static void write_line(struct mbd_completion *c, int status)
{
    struct mbd_request_times t = { 0 };
    struct mbd_line line;
    if (c->choices[0].request) {
        t = mbd_request_times(c->choices[0].request);
    }
    mbd_line_begin(&line, c->owner->service->log, MBD_LOG_INFO, "request");
    mbd_line_text(&line, "id", strchr(c->id, '-') + 1);
    if (c->client_id[0]) {
        mbd_line_text(&line, "client_id", c->client_id);
    }
    if (c->key) {
        mbd_line_text(&line, "key", c->key->name);
    }
    mbd_line_text(&line, "route", c->asked.is_chat ? "chat_completions" : "completions");
    mbd_line_u64(&line, "status", (uint64_t) status);
    mbd_line_text(&line, "model", c->model);
    mbd_line_text(&line, "epoch", c->epoch);
    mbd_line_text(&line, "outcome", outcome(c));
    mbd_line_u64(&line, "prompt_tokens", c->usage.prompt_tokens);
    mbd_line_u64(&line, "completion_tokens", c->usage.completion_tokens);
    if (c->n_choices > 1) {
        mbd_line_u64(&line, "choices", c->n_choices);
    }
    if (t.scheduled) {
        mbd_line_ms(&line, "queue_ms", t.scheduled - t.submitted);
    }
    if (t.first_token) {
        mbd_line_ms(&line, "first_token_ms", t.first_token - t.submitted);
    }
    mbd_line_ms(&line, "total_ms", mbd_now_ns() - c->began_ns);
    mbd_line_end(&line);
}

static void end(struct mbd_completion *c)
{
    int status = 499;
    if (c->exchange) {
        status = c->asked.stream ? end_stream(c) : end_whole(c);
    }
    write_line(c, status);
    unlink_one(c);
    mbd_completion_free(c);
}

/* ---- what the engine tells --------------------------------------------------------------- */

static void end_choice(struct mbd_completion *c, struct mbd_choice *k,
                       const struct mbd_event *e)
{
    k->ended = true;
    k->last = *e;
    c->n_running--;
    if (k == &c->choices[(size_t) (k - c->choices) / c->n_each * c->n_each]) {
        c->usage.cached_tokens +=
            mbd_request_cached_tokens(k->request); /* of each prompt once */
    }
    if (e->state == MBD_REQUEST_CANCELLED && c->late) {
        k->last.finish = MB_FINISH_LENGTH;
    }
    bool nothing = c->late && c->usage.completion_tokens == 0; /* an error says so at the end */
    if (e->state != MBD_REQUEST_DONE && !c->late) {
        mbd_completion_cancel(c); /* the whole fails with it */
    } else if (c->exchange && c->asked.stream && !nothing) {
        mbd_choice_end_stream(c, k);
    }
}

static void take_token(struct mbd_completion *c, struct mbd_choice *k,
                       const struct mbd_event *e)
{
    k->n_drawn++;
    c->usage.completion_tokens++; /* the end of sequence was computed, too */
    if (c->key) {
        mbd_key_take(c->key, 1, mbd_now_ns());
    }
    if (c->exchange && c->asked.stream) {
        mbd_choice_stream(c, k, e);
    } else if (c->exchange && !mbd_choice_gather(c, k, e)) {
        c->no_memory = true; /* answered as such at the end */
        mbd_completion_cancel(c);
    }
}

static bool may_take(const struct mbd_completion *c)
{
    return !c->exchange || !c->asked.stream || mbd_stream_pending(c->exchange) < PENDING_MAX;
}

/* Returns false when c is no more. */
static bool take_events(struct mbd_completion *c)
{
    struct mbd_event e;
    for (size_t i = 0; i < c->n_choices; i++) {
        struct mbd_choice *k = &c->choices[i];
        while (k->request && !k->ended && may_take(c) && mbd_request_next(k->request, &e)) {
            if (mbd_request_state_is_final(e.state)) {
                end_choice(c, k, &e);
            } else {
                take_token(c, k, &e);
            }
        }
    }
    if (c->n_running == 0) {
        end(c);
        return false;
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
        if (c->exchange && c->asked.stream && now - c->spoke_ns >= silence &&
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
    for (size_t i = 0; i < c->n_choices; i++) {
        mbd_choice_begin_stream(c, &c->choices[i]);
    }
}

void mbd_completion_of_nothing(struct mbd_completion *c, struct mbd_exchange *x)
{
    c->exchange = x;
    mbd_exchange_logged(x);
    for (size_t i = 0; i < c->n_choices; i++) {
        c->choices[i].ended = true;
        c->choices[i].last =
            (struct mbd_event) { .state = MBD_REQUEST_DONE, .finish = MB_FINISH_LENGTH };
    }
    if (c->asked.stream) {
        begin_stream(c, NULL);
    }
    write_line(c, c->asked.stream ? end_stream(c) : end_whole(c));
    mbd_completion_free(c);
}

void mbd_completion_begin(struct mbd_completion *c, struct mbd_exchange *x)
{
    c->exchange = x;
    mbd_exchange_logged(x);
    mbd_exchange_on_end(x, on_exchange_end, c);
    link_one(c);
    if (!c->asked.stream) {
        mbd_exchange_wait(x);
        return;
    }
    begin_stream(c, on_more);
}

enum mb_status mbd_completion_set_limit(struct mbd_completion *c, struct mb_error *err)
{
    enum mb_status st = mbd_timer_new(c->owner->service->loop, on_limit, c, &c->limit, err);
    if (st == MB_OK) {
        mbd_timer_start(c->limit, (uint64_t) ceil(c->asked.time_limit * 1000), 0);
    }
    return st;
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
        mbd_completion_cancel(c);
    }
}

size_t mbd_completions_count(const struct mbd_completions *all)
{
    return all->n;
}
