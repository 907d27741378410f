#include "clients/http/load_generator.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/rng.h"
#include "proto/json/answer_json.h"
#include "proto/json/request_json.h"

enum {
    TIMES_MAX = 1 << 24, /* of each kind: 128 MB; later ones are left out */
    TURN_MS = 50,        /* how long Ctrl-C may take to be seen */
    BACK_OFF_MS = 100,   /* of a client in a closed loop whose request failed */
    TOKEN_FIRST = 40,    /* ids that every vocabulary has, and that end no sequence */
    TOKENS = 80,
};

struct client {
    struct run *run;
    bool busy;
    double due_s, last_s; /* when it was to be sent; its last text */
    double free_s;        /* not before, after an error */
    uint32_t n_chunks;
    bool done_seen, refused; /* [DONE]; an error within the stream */
    uint64_t prompt_tokens, completion_tokens;
};

struct run {
    struct mbc_transport *transport;
    const struct mbc_load_options *options;
    struct mbc_load_results *results;
    struct client *clients;
    uint32_t *ids;          /* [n_prompt] */
    double began_s, next_s; /* when the next request of an open loop is due */
    uint64_t n_arrivals;
    uint32_t n_busy;
    bool out_of_memory;
};

static double now_s(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

/* ---- results ----------------------------------------------------------------------------- */

void mbc_load_results_fini(struct mbc_load_results *r)
{
    free(r->first.at);
    free(r->between.at);
    free(r->total.at);
    *r = (struct mbc_load_results) { 0 };
}

static void add_time(struct run *l, struct mbc_load_times *t, double seconds)
{
    if (t->n == TIMES_MAX) {
        return;
    }
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 4096;
        double *longer = realloc(t->at, cap * sizeof *longer);
        if (!longer) {
            l->out_of_memory = true;
            return;
        }
        t->at = longer;
        t->cap = cap;
    }
    t->at[t->n++] = seconds;
}

static int order(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return x < y ? -1 : x > y;
}

static void sort_times(struct mbc_load_times *t)
{
    if (t->n > 0) {
        qsort(t->at, t->n, sizeof t->at[0], order);
    }
}

double mbc_load_percentile(const struct mbc_load_times *t, double p)
{
    if (t->n == 0) {
        return (double) NAN;
    }
    double rank = ceil(p * (double) t->n);
    size_t i = rank < 1 ? 0 : (size_t) rank - 1;
    return t->at[i < t->n ? i : t->n - 1];
}

static void count_error(struct run *l, const char *kind, const char *message)
{
    struct mbc_load_results *r = l->results;
    size_t i = 0;
    while (i < r->n_kinds && strcmp(r->kinds[i].name, kind) != 0) {
        i++;
    }
    if (i == MBC_LOAD_KINDS_MAX) {
        i--; /* so many kinds are a rarity; the last one takes them in */
    }
    if (i == r->n_kinds) {
        (void) snprintf(r->kinds[i].name, sizeof r->kinds[i].name, "%s", kind);
        r->n_kinds++;
    }
    r->kinds[i].n++;
    r->n_failed++;
    if (!r->message[0]) {
        (void) snprintf(r->message, sizeof r->message, "%.199s", message);
    }
}

/* ---- a request --------------------------------------------------------------------------- */

static bool take_event(void *self, const char *data, size_t n)
{
    struct client *c = self;
    if (strcmp(data, "[DONE]") == 0) {
        c->done_seen = true;
        return true;
    }
    struct mb_answer a;
    struct mb_error err;
    if (mb_answer_decode(data, n, &a, &err) != MB_OK) {
        count_error(c->run, "stream", err.what);
        c->refused = true;
        return false;
    }
    if (a.n_text > 0) {
        double now = now_s();
        struct mbc_load_results *r = c->run->results;
        if (c->n_chunks == 0) {
            add_time(c->run, &r->first, now - c->due_s);
        } else {
            add_time(c->run, &r->between, now - c->last_s);
        }
        c->last_s = now;
        c->n_chunks++;
    }
    if (a.has_usage) {
        c->prompt_tokens = a.prompt_tokens;
        c->completion_tokens = a.completion_tokens;
    }
    mb_answer_fini(&a);
    return true;
}

/* "429", "connect", ...; NULL when all is well. */
static const char *kind_of(const struct client *c, enum mb_status st,
                           const struct mbc_reply *reply, char *ret, size_t n)
{
    if (st != MB_OK) {
        return mbc_failure_name(reply->failure);
    }
    if (reply->status != 200) {
        (void) snprintf(ret, n, "%d", reply->status);
        return ret;
    }
    return !reply->is_stream ? "protocol" : c->done_seen ? NULL : "cut";
}

static void take_end(void *self, enum mb_status st, struct mbc_reply *reply,
                     const struct mb_error *err)
{
    struct client *c = self;
    struct mbc_load_results *r = c->run->results;
    char status[16], code[48];
    struct mb_error what = { .what = "the stream ended without [DONE]" };
    double now = now_s();
    c->busy = false;
    c->run->n_busy--;
    const char *kind = kind_of(c, st, reply, status, sizeof status);
    if (!kind) {
        r->n_done++;
        r->chunks += c->n_chunks;
        r->prompt_tokens += c->prompt_tokens;
        r->completion_tokens += c->completion_tokens;
        add_time(c->run, &r->total, now - c->due_s);
        return;
    }
    if (st != MB_OK) {
        what = *err;
    } else if (reply->status != 200) {
        mb_answer_error(reply->status, (const char *) reply->body.at, reply->body.len, code,
                        sizeof code, &what);
    }
    if (!c->refused) { /* that was counted when it came */
        count_error(c->run, kind, what.what);
    }
    c->free_s = now + BACK_OFF_MS * 1e-3;
}

static enum mb_status send_request(struct run *l, struct client *c, double due_s,
                                   struct mb_error *err)
{
    const struct mbc_load_options *o = l->options;
    struct mb_request_number numbers[] = {
        { .name = "max_tokens", .is_integer = true, .integer = o->max_tokens },
        { .name = "temperature", .real = 0 },
    };
    for (uint32_t i = 0; i < o->n_prompt; i++) {
        l->ids[i] =
            TOKEN_FIRST + (uint32_t) (mb_rng_u64(o->seed, 1 + l->results->n_sent, i) % TOKENS);
    }
    struct mb_request r = { .model = o->model,
                            .prompt_ids = l->ids,
                            .n_prompt_ids = o->n_prompt,
                            .numbers = numbers,
                            .n_numbers = 2,
                            .ignore_eos = true,
                            .stream = true };
    char *body = mb_request_encode(&r);
    if (!body) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a request");
    }
    *c = (struct client) { .run = l, .busy = true, .due_s = due_s };
    struct mbc_request post = { .path = "/v1/completions",
                                .json = body,
                                .n_json = strlen(body),
                                .stream = true,
                                .event = take_event };
    enum mb_status st = mbc_transport_start(l->transport, &post, take_end, c, NULL, err);
    free(body);
    if (st == MB_OK) {
        l->n_busy++;
        l->results->n_sent++;
    }
    return st;
}

/* ---- the loop ---------------------------------------------------------------------------- */

static bool may_send(const struct run *l)
{
    const struct mbc_load_options *o = l->options;
    return !o->n_requests_max || l->results->n_sent < o->n_requests_max;
}

/* Closed: whoever is free sends. */
static enum mb_status send_closed(struct run *l, double now, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    for (uint32_t i = 0; i < l->options->n_clients && st == MB_OK && may_send(l); i++) {
        struct client *c = &l->clients[i];
        if (!c->busy && now >= c->free_s) {
            st = send_request(l, c, now, err);
        }
    }
    return st;
}

static struct client *find_free(struct run *l)
{
    for (uint32_t i = 0; i < l->options->n_clients; i++) {
        if (!l->clients[i].busy) {
            return &l->clients[i];
        }
    }
    return NULL;
}

/* Exponentially distributed, of mean 1 / rate: what lies between events of a Poisson process. */
static double draw_gap(struct run *l)
{
    double u = mb_rng_unit(l->options->seed, 0, l->n_arrivals++);
    return -log1p(-u) / l->options->rate;
}

/* Open: all that are due, each counted from its own time. */
static enum mb_status send_open(struct run *l, double now, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    while (l->next_s <= now && st == MB_OK && may_send(l)) {
        struct client *c = find_free(l);
        if (c) {
            st = send_request(l, c, l->next_s, err);
        } else {
            l->results->n_sent++;
            count_error(l, "unsent", "more requests were under way than there may be");
        }
        l->next_s += draw_gap(l);
    }
    return st;
}

/* Until something is to be sent, for the poll. */
static uint32_t wait_ms(const struct run *l, double now)
{
    if (l->options->rate <= 0) {
        return l->n_busy < l->options->n_clients ? 5 : TURN_MS;
    }
    double ms = (l->next_s - now) * 1e3;
    return ms <= 0 ? 0 : ms < TURN_MS ? (uint32_t) ms : TURN_MS;
}

static enum mb_status loop(struct run *l, bool (*keep_on)(void), struct mb_error *err)
{
    const struct mbc_load_options *o = l->options;
    enum mb_status st = MB_OK;
    double now = l->began_s, end_s = l->began_s + o->seconds;
    while (st == MB_OK && now < end_s && (may_send(l) || l->n_busy > 0)) {
        st = o->rate > 0 ? send_open(l, now, err) : send_closed(l, now, err);
        if (st == MB_OK) {
            st = mbc_transport_turn(l->transport, wait_ms(l, now), err);
        }
        if (st == MB_OK && l->out_of_memory) {
            st = mb_fail(err, MB_E_NOMEM, 0, "no memory for the times of a run");
        }
        if (st == MB_OK && keep_on && !keep_on()) {
            st = mb_fail(err, MB_E_CANCELLED, 0, "interrupted");
        }
        now = now_s();
    }
    l->results->seconds = now - l->began_s;
    l->results->n_cut_off = l->n_busy;
    return st;
}

enum mb_status mbc_load_run(struct mbc_transport *t, const struct mbc_load_options *o,
                            bool (*keep_on)(void), struct mbc_load_results *ret,
                            struct mb_error *err)
{
    assert(o->n_clients > 0 && o->n_clients <= MBC_LOAD_CLIENTS_MAX);
    assert(o->n_prompt > 0 && o->max_tokens > 0);
    *ret = (struct mbc_load_results) { 0 };
    struct run l = { .transport = t, .options = o, .results = ret, .began_s = now_s() };
    l.next_s = l.began_s;
    l.clients = calloc(o->n_clients, sizeof *l.clients);
    l.ids = calloc(o->n_prompt, sizeof *l.ids);
    enum mb_status st = MB_OK;
    if (!l.clients || !l.ids) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory for %u clients", (unsigned) o->n_clients);
    } else {
        st = loop(&l, keep_on, err);
    }
    sort_times(&ret->first);
    sort_times(&ret->between);
    sort_times(&ret->total);
    mbc_transport_drop_all(t); /* their clients go now */
    free(l.clients);
    free(l.ids);
    return st;
}
