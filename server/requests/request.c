#include "server/requests/request.h"

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/constrain/constraint.h"
#include "core/infer/stop.h"
#include "server/epochs/epoch.h"
#include "server/requests/event_ring.h"
#include "server/requests/request_engine.h"

/* A record of the ring: this, of top only the n_top that are used, then n_text bytes. */
struct record {
    uint8_t state, finish, status, has_token;
    uint32_t token;
    float logprob;
    uint32_t n_top, n_text;
    struct mb_logprob top[MB_CHAT_LOGPROBS_MAX];
};

#define RECORD_BYTES(n_top) (offsetof(struct record, top) + (n_top) * sizeof(struct mb_logprob))

#define RECORD_BYTES_MAX  (sizeof(struct record) + MBD_EVENT_TEXT_MAX)
/* The final event: always left free by what comes before it. */
#define LAST_RECORD_BYTES (MBD_RECORD_HEAD_BYTES + RECORD_BYTES(0))

_Static_assert(RECORD_BYTES_MAX + LAST_RECORD_BYTES <= MBD_EVENT_RING_BYTES / 4,
               "a ring holds several of the largest events");

enum stamp { SUBMITTED, SCHEDULED, FIRST_TOKEN, FINISHED, STAMPS };

struct mbd_request {
    atomic_uint n_refs;

    /* Written at _new only. */
    const struct mb_tokenizer *tokenizer;
    uint32_t *prompt;
    uint32_t n_prompt;
    struct mbd_request_params params;
    struct mb_logit_bias *bias; /* what params.sampling points to */
    uint32_t *late;             /* the same: what may not end it yet */

    /* The engine's; the scores the reader's, too, once an event told that they are whole. */
    struct mbd_prompt_score *scores;
    enum mbd_request_state state;
    struct mbd_epoch *epoch; /* set before submission; NULL once it ended */
    struct mb_stops *stops;
    double *
        hidden; /* [params.hidden_width] the engine's until the request is DONE; NULL: not wanted */
    struct mb_constraint *constraint; /* NULL: none; set before submission */

    /* Both threads'. */
    struct mbd_event_ring ring;
    atomic_bool cancelled;
    atomic_bool starving; /* the sequence waits for room in the ring */
    atomic_uint_fast64_t times[STAMPS];
    atomic_uint n_cached;

    /* The control thread's. */
    struct mbd_bell *bell; /* NULL before submission */
    uint8_t *reading;      /* the event that next returned last */
    uint8_t *ring_bytes;
};

_Static_assert(sizeof(struct mbd_request) + MBD_EVENT_RING_BYTES + RECORD_BYTES_MAX +
                       MB_STOPS_MAX * MB_STOP_BYTES_MAX * 4 +
                       MB_LOGIT_BIAS_MAX * sizeof(struct mb_logit_bias) <=
                   MBD_REQUEST_BYTES,
               "MBD_REQUEST_BYTES is a bound; stops take about 3 bytes for each of theirs");

static enum mb_status check(uint32_t n_prompt, const struct mbd_request_params *p,
                            struct mb_error *err)
{
    if (n_prompt == 0) {
        return mb_fail(err, MB_E_INVALID, 0, "prompt: holds no token");
    }
    if (p->max_tokens == 0 && !p->want_prompt_scores) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "max_tokens: 0, and nothing of the prompt is wanted");
    }
    uint32_t top_max =
        p->want_prompt_scores ? MB_COMPLETION_LOGPROBS_MAX : MB_CHAT_LOGPROBS_MAX;
    if (p->want_top > top_max) {
        return mb_fail(err, MB_E_INVALID, 0, "logprobs: %u is above %u", (unsigned) p->want_top,
                       (unsigned) top_max);
    }
    if (p->n_stop_ids > MB_STOP_IDS_MAX || p->sampling.n_bias > MB_LOGIT_BIAS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "stop_token_ids: more than %d, or biases of more than %d",
                       MB_STOP_IDS_MAX, MB_LOGIT_BIAS_MAX);
    }
    if (p->n_stops > MB_STOPS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "stop: %zu strings; at most %d", p->n_stops,
                       MB_STOPS_MAX);
    }
    return MB_OK;
}

/* params points into the caller's memory; from here on the strings are in r->stops. */
static enum mb_status take_stops(struct mbd_request *r, struct mb_error *err)
{
    struct mb_stop_text texts[MB_STOPS_MAX];
    for (size_t i = 0; i < r->params.n_stops; i++) {
        texts[i] = (struct mb_stop_text) { r->params.stop[i], r->params.n_stop_bytes[i] };
        r->params.stop[i] = NULL;
    }
    return mb_stops_new(texts, r->params.n_stops, &r->stops, err);
}

/* The lists that the sampler borrows: biases, and until min_tokens are drawn, what ends the
 * sequence. */
static bool take_lists(struct mbd_request *r)
{
    struct mb_sampling *p = &r->params.sampling;
    const uint32_t *eos = NULL;
    size_t n_eos = 0;
    if (p->n_bias > 0) {
        r->bias = malloc(p->n_bias * sizeof *r->bias);
        if (!r->bias) {
            return false;
        }
        memcpy(r->bias, p->bias, p->n_bias * sizeof *r->bias);
    }
    p->bias = r->bias;
    p->late = NULL;
    p->n_late = 0;
    p->n_early = r->params.min_tokens;
    if (r->params.min_tokens > 0 && !r->params.ignore_eos) {
        n_eos = mb_tokenizer_eos(r->tokenizer, &eos);
    }
    size_t n = n_eos + r->params.n_stop_ids;
    if (r->params.min_tokens == 0 || n == 0) {
        return true;
    }
    r->late = malloc(n * sizeof *r->late);
    if (!r->late) {
        return false;
    }
    for (size_t i = 0; i < r->params.n_stop_ids; i++) {
        r->late[p->n_late++] = r->params.stop_ids[i];
    }
    for (size_t i = 0; p->n_late < n; i++) {
        r->late[p->n_late++] = eos[i];
    }
    p->late = r->late;
    return true;
}

enum mb_status mbd_request_new(const struct mb_tokenizer *tokenizer, const uint32_t *prompt,
                               uint32_t n_prompt, const struct mbd_request_params *params,
                               struct mbd_request **ret, struct mb_error *err)
{
    enum mb_status st = check(n_prompt, params, err);
    if (st != MB_OK) {
        return st;
    }
    struct mbd_request *r = mb_alloc(1, sizeof *r);
    if (!r) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a request");
    }
    atomic_init(&r->n_refs, 1);
    r->tokenizer = tokenizer;
    r->n_prompt = n_prompt;
    r->params = *params;
    r->prompt = malloc(n_prompt * sizeof r->prompt[0]);
    r->reading = malloc(RECORD_BYTES_MAX);
    r->ring_bytes = malloc(MBD_EVENT_RING_BYTES); /* not zeroed: untouched until it is used */
    if (params->hidden_width > 0) {
        r->hidden = calloc(params->hidden_width, sizeof r->hidden[0]);
    }
    if (params->want_prompt_scores) {
        r->scores = calloc(n_prompt, sizeof r->scores[0]);
    }
    if (!r->prompt || !r->reading || !r->ring_bytes || !take_lists(r) ||
        (params->hidden_width > 0 && !r->hidden) ||
        (params->want_prompt_scores && !r->scores)) {
        mbd_request_unref(r);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a request of %u prompt tokens",
                       (unsigned) n_prompt);
    }
    st = take_stops(r, err);
    if (st != MB_OK) {
        mbd_request_unref(r);
        return st;
    }
    memcpy(r->prompt, prompt, n_prompt * sizeof r->prompt[0]);
    mbd_event_ring_init(&r->ring, r->ring_bytes, MBD_EVENT_RING_BYTES);
    *ret = r;
    return MB_OK;
}

const double *mbd_request_hidden(const struct mbd_request *r)
{
    return r->hidden;
}

void mbd_request_use(struct mbd_request *r, struct mbd_epoch *e)
{
    assert(!r->bell && !r->epoch);
    r->epoch = mbd_epoch_begin(e);
}

void mbd_request_constrain(struct mbd_request *r, struct mb_constraint *c)
{
    assert(!r->bell && !r->constraint);
    r->constraint = c;
}

struct mbd_request *mbd_request_ref(struct mbd_request *r)
{
    unsigned before = atomic_fetch_add_explicit(&r->n_refs, 1, memory_order_relaxed);
    assert(before > 0);
    (void) before;
    return r;
}

void mbd_request_unref(struct mbd_request *r)
{
    if (!r || atomic_fetch_sub_explicit(&r->n_refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    mbd_epoch_end(r->epoch); /* of one that was never submitted */
    mbd_bell_unref(r->bell);
    mb_stops_free(r->stops);
    free(r->scores);
    free(r->late);
    free(r->bias);
    mb_constraint_free(r->constraint);
    free(r->hidden);
    free(r->ring_bytes);
    free(r->reading);
    free(r->prompt);
    mb_free(r);
}

/* --- the control thread --- */

bool mbd_request_next(struct mbd_request *r, struct mbd_event *ret)
{
    size_t n;
    if (!mbd_event_ring_take(&r->ring, r->reading, RECORD_BYTES_MAX, &n)) {
        return false;
    }
    /* Room was made before starving is read; the engine says starving before it looks for room
     * again. So one of the two sees the other. */
    if (atomic_load(&r->starving) && atomic_exchange(&r->starving, false)) {
        mbd_bell_ring(r->bell);
    }
    struct record rec;
    assert(n >= RECORD_BYTES(0));
    memcpy(&rec, r->reading, RECORD_BYTES(0));
    size_t n_rec = RECORD_BYTES(rec.n_top);
    assert(n == n_rec + rec.n_text);
    memcpy(rec.top, r->reading + RECORD_BYTES(0), n_rec - RECORD_BYTES(0));
    *ret = (struct mbd_event) {
        .state = (enum mbd_request_state) rec.state,
        .finish = (enum mb_finish) rec.finish,
        .status = (enum mb_status) rec.status,
        .has_token = rec.has_token,
        .token = rec.token,
        .logprob = rec.logprob,
        .n_top = rec.n_top,
        .text = (const char *) r->reading + n_rec,
        .n_text = rec.n_text,
    };
    memcpy(ret->top, rec.top, rec.n_top * sizeof rec.top[0]);
    return true;
}

void mbd_request_cancel(struct mbd_request *r)
{
    if (!atomic_exchange(&r->cancelled, true) && r->bell) {
        mbd_bell_ring(r->bell);
    }
}

struct mbd_request_times mbd_request_times(const struct mbd_request *r)
{
    return (struct mbd_request_times) {
        .submitted = atomic_load_explicit(&r->times[SUBMITTED], memory_order_relaxed),
        .scheduled = atomic_load_explicit(&r->times[SCHEDULED], memory_order_relaxed),
        .first_token = atomic_load_explicit(&r->times[FIRST_TOKEN], memory_order_relaxed),
        .finished = atomic_load_explicit(&r->times[FINISHED], memory_order_relaxed),
    };
}

uint32_t mbd_request_cached_tokens(const struct mbd_request *r)
{
    return atomic_load_explicit(&r->n_cached, memory_order_relaxed);
}

uint32_t mbd_request_prompt_tokens(const struct mbd_request *r)
{
    return r->n_prompt;
}

const struct mbd_prompt_score *mbd_request_scores(const struct mbd_request *r)
{
    return r->scores;
}

void mbd_request_attach(struct mbd_request *r, struct mbd_bell *bell, uint64_t now_ns)
{
    assert(!r->bell); /* a request is submitted once */
    r->bell = mbd_bell_ref(bell);
    atomic_store_explicit(&r->times[SUBMITTED], now_ns, memory_order_relaxed);
}

void mbd_request_detach(struct mbd_request *r)
{
    mbd_bell_unref(r->bell);
    r->bell = NULL;
    atomic_store_explicit(&r->times[SUBMITTED], 0, memory_order_relaxed);
}

/* --- the engine thread --- */

const struct mb_model *mbd_request_model(const struct mbd_request *r)
{
    return r->epoch ? r->epoch->model : NULL;
}

const uint32_t *mbd_request_prompt(const struct mbd_request *r)
{
    return r->prompt;
}

const struct mb_tokenizer *mbd_request_tokenizer(const struct mbd_request *r)
{
    return r->tokenizer;
}

struct mb_stops *mbd_request_stops(struct mbd_request *r)
{
    return r->stops;
}

double *mbd_request_hidden_sum(struct mbd_request *r)
{
    return r->hidden;
}

struct mb_constraint *mbd_request_constraint(struct mbd_request *r)
{
    return r->constraint;
}

const struct mbd_request_params *mbd_request_params(const struct mbd_request *r)
{
    return &r->params;
}

struct mbd_prompt_score *mbd_request_scores_to_fill(struct mbd_request *r)
{
    return r->scores;
}

enum mbd_request_state mbd_request_state(const struct mbd_request *r)
{
    return r->state;
}

bool mbd_request_is_cancelled(const struct mbd_request *r)
{
    /* With the engine's reference the only one left, nobody is there to read. */
    return atomic_load_explicit(&r->cancelled, memory_order_relaxed) ||
           atomic_load_explicit(&r->n_refs, memory_order_relaxed) == 1;
}

static bool has_room(struct mbd_request *r)
{
    return mbd_event_ring_room(&r->ring) >= RECORD_BYTES_MAX + LAST_RECORD_BYTES;
}

bool mbd_request_may_tell(struct mbd_request *r)
{
    if (has_room(r)) {
        return true;
    }
    atomic_store(&r->starving, true);
    return has_room(r); /* again: the reader may have been here before it could know */
}

static void enter(struct mbd_request *r, enum mbd_request_state to)
{
    assert(mbd_request_state_may(r->state, to));
    r->state = to;
}

static void stamp(struct mbd_request *r, enum stamp s, uint64_t now_ns)
{
    atomic_store_explicit(&r->times[s], now_ns, memory_order_relaxed);
}

void mbd_request_set_cached(struct mbd_request *r, uint32_t n)
{
    atomic_store_explicit(&r->n_cached, n, memory_order_relaxed);
}

void mbd_request_schedule(struct mbd_request *r, uint64_t now_ns)
{
    enter(r, MBD_REQUEST_PREFILL);
    stamp(r, SCHEDULED, now_ns);
}

void mbd_request_first_token(struct mbd_request *r, uint64_t now_ns)
{
    enter(r, MBD_REQUEST_DECODE);
    stamp(r, FIRST_TOKEN, now_ns);
}

static void put(struct mbd_request *r, const struct mbd_event *e)
{
    struct record rec = {
        .state = (uint8_t) e->state,
        .finish = (uint8_t) e->finish,
        .status = (uint8_t) e->status,
        .has_token = e->has_token,
        .token = e->token,
        .logprob = e->logprob,
        .n_top = e->n_top,
        .n_text = e->n_text,
    };
    memcpy(rec.top, e->top, e->n_top * sizeof e->top[0]);
    bool fits = mbd_event_ring_put(&r->ring, &rec, RECORD_BYTES(e->n_top), e->text, e->n_text);
    assert(fits);
    (void) fits;
}

void mbd_request_tell(struct mbd_request *r, const struct mbd_event *e)
{
    assert(r->state == MBD_REQUEST_DECODE && e->state == MBD_REQUEST_DECODE);
    assert(e->n_text <= MBD_EVENT_TEXT_MAX && e->n_top <= MB_CHAT_LOGPROBS_MAX);
    assert(has_room(r));
    put(r, e);
}

void mbd_request_end(struct mbd_request *r, enum mbd_request_state s, enum mb_finish finish,
                     enum mb_status status, uint64_t now_ns)
{
    assert(mbd_request_state_is_final(s));
    enter(r, s);
    stamp(r, FINISHED, now_ns);
    mbd_epoch_end(r->epoch); /* before the reader can know that it ended (J1) */
    r->epoch = NULL;
    put(r, &(struct mbd_event) { .state = s, .finish = finish, .status = status });
}
