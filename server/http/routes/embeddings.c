#include "server/http/routes/embeddings.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/embedding_json.h"
#include "server/clock.h"
#include "server/http/exchange.h"
#include "server/http/limits.h"
#include "server/http/router.h"
#include "server/http/routes/find_model.h"

enum {
    MUCH_TEXT = 16 * 1024, /* bytes beyond which tokenizing would hold up the streams */
    TOGETHER = 8,          /* inputs of one body that are with the engine at once */
    FLOATS_MAX = 1 << 21,  /* of one reply: 8 MB, some 20 MB as text */
    FLOATS_ALL = 1 << 24,  /* of all that are under way */
    RETRY_AFTER = 1,       /* seconds */
};

/* An input: its tokens, and its request while the engine has it. */
struct input {
    struct mb_ids ids;
    struct mbd_request *request;
};

struct embedding {
    struct mbd_embeddings *owner;
    struct embedding *next, *prev;
    struct mbd_exchange *exchange; /* NULL once it ended */
    const struct mbd_base *base;
    char model[MB_MODEL_NAME_MAX + 1]; /* what the client calls it */
    struct mbd_epoch *epoch; /* a reference, from admission on: its inputs share it (S2) */
    struct mbd_work *work;   /* while it is tokenized on the other thread */
    struct mb_embedding asked;
    struct input *inputs; /* [asked.n_inputs] */
    float *vectors;       /* [asked.n_inputs][D] */
    size_t n_floats;      /* counted in owner */
    size_t n_submitted, n_running;
    uint64_t n_tokens;
    bool failed; /* error says why; those that run are waited for, and then it is told */
    struct mb_wire_error error;
    unsigned retry_after;
};

struct mbd_embeddings {
    struct mbd_service *service;
    struct embedding *first; /* those that were admitted */
    size_t n, n_floats;
};

static uint32_t width_of(const struct embedding *e)
{
    return e->base->shape.width;
}

static void embedding_free(struct embedding *e)
{
    for (size_t i = 0; e->inputs && i < e->asked.n_inputs; i++) {
        mb_ids_fini(&e->inputs[i].ids);
        mbd_request_unref(e->inputs[i].request);
    }
    e->owner->n_floats -= e->n_floats;
    mbd_epoch_unref(e->epoch);
    free(e->inputs);
    free(e->vectors);
    mb_embedding_fini(&e->asked);
    free(e);
}

static void fail(struct embedding *e)
{
    e->failed = true;
    for (size_t i = 0; i < e->n_submitted; i++) {
        if (e->inputs[i].request) {
            mbd_request_cancel(e->inputs[i].request);
        }
    }
}

/* ---- the engine -------------------------------------------------------------------------- */

/* The mean, made one long; the sum alone has its direction. */
static void take_vector(struct embedding *e, size_t i)
{
    const double *sum = mbd_request_hidden(e->inputs[i].request);
    float *vector = e->vectors + i * width_of(e);
    double square = 0;
    for (uint32_t k = 0; k < width_of(e); k++) {
        square += sum[k] * sum[k];
    }
    double scale = square > 0 && isfinite(square) ? 1 / sqrt(square) : 0;
    for (uint32_t k = 0; k < width_of(e); k++) {
        vector[k] = scale > 0 ? (float) (sum[k] * scale) : 0;
    }
}

static void end_input(struct embedding *e, size_t i, const struct mbd_event *last)
{
    if (last->state == MBD_REQUEST_DONE) {
        take_vector(e, i);
    } else if (!e->failed) {
        mb_wire_error_fill(&e->error, last->state == MBD_REQUEST_CANCELLED ? 503 : 500,
                           last->state == MBD_REQUEST_CANCELLED ? "cancelled"
                                                                : mb_status_name(last->status),
                           NULL, "the engine could not go on with this request");
        fail(e);
    }
    mbd_request_unref(e->inputs[i].request);
    e->inputs[i].request = NULL;
    e->n_running--;
}

static enum mb_status submit(struct embedding *e, size_t i, struct mb_error *err)
{
    const struct mb_ids *ids = &e->inputs[i].ids;
    const struct mbd_key *key = mbd_exchange_key(e->exchange);
    struct mbd_request_params p = {
        .sampling = { .top_p = 1, .repetition_penalty = 1 },
        .tenant = key ? key->id : 0,
        .low = key && key->low,
        .max_tokens = 1,
        .hidden_width = width_of(e),
    };
    enum mb_status st = mbd_request_new(e->base->tokenizer, ids->at, (uint32_t) ids->len, &p,
                                        &e->inputs[i].request, err);
    if (st == MB_OK) {
        mbd_request_use(e->inputs[i].request, e->epoch);
        st = mbd_engine_submit(e->base->engine, e->inputs[i].request, err);
    }
    if (st != MB_OK) {
        mbd_request_unref(e->inputs[i].request);
        e->inputs[i].request = NULL;
    }
    return st;
}

/* Hands the engine what it may have of e. What is full now is tried again when something ended; but
 * the first input is refused, since nothing of this body was admitted yet. */
static void submit_some(struct embedding *e)
{
    struct mb_error err;
    while (!e->failed && e->exchange && e->n_submitted < e->asked.n_inputs &&
           e->n_running < TOGETHER) {
        enum mb_status st = submit(e, e->n_submitted, &err);
        if (st == MB_E_LIMIT && e->n_submitted > 0) {
            return;
        }
        if (st != MB_OK) {
            mb_wire_error_of(&e->error, &err);
            if (st == MB_E_INVALID) {
                mb_wire_error_fill(&e->error, 400, "context_length_exceeded", "input", "%s",
                                   err.what);
            }
            e->retry_after = st == MB_E_INVALID ? 0 : RETRY_AFTER;
            fail(e);
            return;
        }
        e->n_submitted++;
        e->n_running++;
    }
}

/* ---- the end ----------------------------------------------------------------------------- */

static void answer(struct embedding *e)
{
    if (e->failed) {
        mbd_reply_error(e->exchange, &e->error, e->retry_after);
        return;
    }
    struct mb_embedding_reply r = {
        .model = e->model,
        .vectors = e->vectors,
        .n = e->asked.n_inputs,
        .width = width_of(e),
        .base64 = e->asked.base64,
        .prompt_tokens = e->n_tokens,
    };
    mbd_reply_json(e->exchange, 200, mb_embedding_encode(&r));
}

static void unlink_one(struct embedding *e)
{
    *(e->prev ? &e->prev->next : &e->owner->first) = e->next;
    if (e->next) {
        e->next->prev = e->prev;
    }
    e->owner->n--;
}

/* Nothing of e is with the engine, and nothing more will be: false, and e is gone. */
static bool go_on(struct embedding *e)
{
    bool over = e->failed || !e->exchange || e->n_submitted == e->asked.n_inputs;
    if (e->n_running > 0 || !over) {
        return true;
    }
    if (e->exchange) {
        mbd_exchange_on_end(e->exchange, NULL, NULL);
        answer(e);
    }
    unlink_one(e);
    embedding_free(e);
    return false;
}

void mbd_embeddings_pump(struct mbd_embeddings *all)
{
    for (struct embedding *e = all->first, *next; e; e = next) {
        next = e->next;
        for (size_t i = 0; i < e->n_submitted; i++) {
            struct mbd_event event;
            while (e->inputs[i].request && mbd_request_next(e->inputs[i].request, &event)) {
                if (mbd_request_state_is_final(event.state)) {
                    end_input(e, i, &event);
                }
            }
        }
        submit_some(e);
        (void) go_on(e);
    }
}

static void on_exchange_end(void *arg)
{
    struct embedding *e = arg;
    e->exchange = NULL;
    fail(e);
}

/* ---- the beginning ----------------------------------------------------------------------- */

static bool refuse_length(struct embedding *e, size_t i)
{
    mb_wire_error_fill(&e->error, 400, "context_length_exceeded", "input",
                       "this model's context is %u tokens; element %zu of 'input' needs more",
                       e->base->context_max, i);
    return false;
}

/* On any thread: a tokenizer is immutable, and nobody else has the rest. One token of the context is kept
 * for an answer, as for completions. */
static void tokenize(void *arg)
{
    struct embedding *e = arg;
    struct mb_error err;
    for (size_t i = 0; i < e->asked.n_inputs && !e->failed; i++) {
        struct mb_embedding_input *in = &e->asked.inputs[i];
        if (!in->text) {
            e->inputs[i].ids = (struct mb_ids) { .at = in->ids, .len = in->n, .cap = in->n };
            in->ids = NULL; /* the list changes hands */
            continue;
        }
        enum mb_status st = mb_tokenizer_encode(e->base->tokenizer, in->text, in->n,
                                                MB_ENCODE_BOS_EOS | MB_ENCODE_PARSE_SPECIAL,
                                                e->base->context_max, &e->inputs[i].ids, &err);
        if (st == MB_E_LIMIT) {
            e->failed = !refuse_length(e, i);
        } else if (st != MB_OK) {
            mb_wire_error_of(&e->error, &err);
            e->failed = true;
        }
    }
}

static bool check_ids(struct embedding *e, size_t i)
{
    const struct mb_ids *ids = &e->inputs[i].ids;
    if (ids->len >= e->base->context_max) {
        return refuse_length(e, i);
    }
    for (size_t k = 0; k < ids->len; k++) {
        if (ids->at[k] >= e->base->shape.n_vocab) {
            mb_wire_error_fill(&e->error, 400, NULL, "input",
                               "element %zu of 'input': %u is no token of this model", i,
                               ids->at[k]);
            return false;
        }
    }
    if (ids->len == 0) {
        mb_wire_error_fill(&e->error, 400, NULL, "input", "element %zu of 'input' is empty", i);
    }
    e->n_tokens += ids->len;
    return ids->len > 0;
}

/* The weights of all its inputs: what its model is now. It may have been taken back meanwhile. */
static bool take_epoch(struct embedding *e)
{
    const struct mbd_entry *model = mbd_find_model(e->owner->service, e->model, &e->error);
    if (model) {
        e->epoch = mbd_epoch_ref(model->epoch);
        mbd_exchange_set_epoch(e->exchange, e->epoch->id);
    }
    return model != NULL;
}

/* The inputs' tokens are taken from what the key may use. */
static bool take_tokens(struct embedding *e)
{
    uint64_t retry_ns = 0;
    struct mbd_key *k = mbd_exchange_key(e->exchange);
    enum mbd_limit limit =
        k ? mbd_key_take_prompt(k, e->n_tokens, mbd_now_ns(), &retry_ns) : MBD_LIMIT_NONE;
    if (limit != MBD_LIMIT_NONE) {
        mbd_limit_refuse(limit, k, retry_ns, &e->error, &e->retry_after);
    }
    return limit == MBD_LIMIT_NONE;
}

/* Everything is tokenized: the first inputs go to the engine, or an error to the client. */
static void begin(struct embedding *e)
{
    e->failed = e->failed || !take_epoch(e);
    for (size_t i = 0; i < e->asked.n_inputs && !e->failed; i++) {
        e->failed = !check_ids(e, i);
    }
    bool took = !e->failed && take_tokens(e);
    e->failed = !took;
    struct mbd_embeddings *all = e->owner;
    e->prev = NULL;
    e->next = all->first;
    if (e->next) {
        e->next->prev = e;
    }
    all->first = e;
    all->n++;
    submit_some(e);
    if (took && e->n_submitted == 0 && mbd_exchange_key(e->exchange)) {
        mbd_key_give_back(mbd_exchange_key(e->exchange), e->n_tokens);
    }
    if (go_on(e)) {
        mbd_exchange_on_end(e->exchange, on_exchange_end, e);
        mbd_exchange_wait(e->exchange);
    }
}

static void on_pending_end(void *arg)
{
    struct embedding *e = arg;
    e->exchange = NULL;
    mbd_work_cancel(e->work);
}

static void on_tokenized(void *arg, bool ran)
{
    struct embedding *e = arg;
    assert(ran || !e->exchange); /* it is cancelled only when nobody waits for it */
    e->owner->service->n_works--;
    if (!e->exchange) {
        embedding_free(e);
        return;
    }
    mbd_exchange_on_end(e->exchange, NULL, NULL);
    begin(e);
}

static bool tokenize_elsewhere(struct embedding *e)
{
    struct mb_error err;
    struct mbd_service *s = e->owner->service;
    if (mbd_work_start(s->loop, tokenize, on_tokenized, e, &e->work, &err) != MB_OK) {
        return false;
    }
    s->n_works++;
    mbd_exchange_on_end(e->exchange, on_pending_end, e);
    mbd_exchange_wait(e->exchange);
    return true;
}

static bool check_sizes(struct embedding *e)
{
    size_t n = e->asked.n_inputs * (size_t) width_of(e);
    if (e->asked.dimensions != 0 && e->asked.dimensions != width_of(e)) {
        mb_wire_error_fill(&e->error, 400, NULL, "dimensions",
                           "'dimensions' can only be %u, this model's width", width_of(e));
    } else if (n > FLOATS_MAX) {
        mb_wire_error_fill(&e->error, 400, NULL, "input",
                           "'input' may have %u elements with this model's width of %u",
                           FLOATS_MAX / width_of(e), width_of(e));
    } else if (n > FLOATS_ALL - e->owner->n_floats) {
        mb_wire_error_fill(&e->error, 429, "queue_full", NULL,
                           "too many embeddings are under way");
        e->retry_after = RETRY_AFTER;
    } else {
        e->owner->n_floats += e->n_floats = n;
        return true;
    }
    return false;
}

static bool open_embedding(struct embedding *e)
{
    const struct mb_bytes *body = mbd_exchange_body(e->exchange);
    if (e->owner->service->draining) {
        mb_wire_error_fill(&e->error, 503, "unavailable", NULL, "the server is shutting down");
        e->retry_after = RETRY_AFTER;
        return false;
    }
    if (mb_embedding_decode((const char *) body->at, body->len, &e->asked, &e->error) !=
        MB_OK) {
        return false;
    }
    const struct mbd_entry *model =
        mbd_find_model(e->owner->service, e->asked.model, &e->error);
    if (!model) {
        return false;
    }
    e->base = model->base;
    memcpy(e->model, model->name, sizeof e->model);
    if (!check_sizes(e)) {
        return false;
    }
    e->inputs = calloc(e->asked.n_inputs, sizeof *e->inputs);
    e->vectors = calloc(e->n_floats, sizeof *e->vectors);
    if (!e->inputs || !e->vectors) {
        mb_wire_error_fill(&e->error, 503, "out_of_memory", NULL, "no memory for this request");
        return false;
    }
    return true;
}

static size_t text_bytes(const struct embedding *e)
{
    size_t n = 0;
    for (size_t i = 0; i < e->asked.n_inputs; i++) {
        n += e->asked.inputs[i].text ? e->asked.inputs[i].n : 0;
    }
    return n;
}

void mbd_route_embeddings(struct mbd_exchange *x)
{
    struct embedding *e = calloc(1, sizeof *e);
    if (!e) {
        mbd_reply_json(x, 503, NULL);
        return;
    }
    e->owner = mbd_exchange_service(x)->embeddings;
    e->exchange = x;
    if (!open_embedding(e)) {
        mbd_reply_error(x, &e->error, e->retry_after);
        embedding_free(e);
        return;
    }
    mbd_exchange_drop_body(x);
    if (text_bytes(e) > MUCH_TEXT && tokenize_elsewhere(e)) {
        return;
    }
    tokenize(e);
    begin(e);
}

/* ---- all of them ------------------------------------------------------------------------- */

enum mb_status mbd_embeddings_new(struct mbd_service *service, struct mbd_embeddings **ret,
                                  struct mb_error *err)
{
    struct mbd_embeddings *all = calloc(1, sizeof *all);
    if (!all) {
        return mb_fail(err, MB_E_NOMEM, 0, "embeddings: no memory");
    }
    all->service = service;
    *ret = all;
    return MB_OK;
}

void mbd_embeddings_free(struct mbd_embeddings *all)
{
    if (!all) {
        return;
    }
    mbd_embeddings_pump(all); /* the last events of those that the engines cancelled */
    while (all->first) {
        struct embedding *e = all->first;
        unlink_one(e);
        embedding_free(e);
    }
    free(all);
}

void mbd_embeddings_cancel(struct mbd_embeddings *all)
{
    for (struct embedding *e = all->first; e; e = e->next) {
        if (!e->failed) {
            mb_wire_error_fill(&e->error, 503, "cancelled", NULL,
                               "the server is shutting down");
            fail(e);
        }
    }
}

size_t mbd_embeddings_count(const struct mbd_embeddings *all)
{
    return all->n;
}
