/* From a body of JSON to the engine: decode, find the model, tokenize, admit. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/constrain/constraint.h"
#include "core/constrain/schema.h"
#include "server/clock.h"
#include "server/http/router.h"
#include "server/http/routes/completion.h"

enum {
    LONG_PROMPT = 16 * 1024, /* bytes beyond which tokenizing would hold up the streams */
};

/* What is known of a request before it is admitted. */
struct mbd_admission {
    struct mbd_service *service;
    struct mbd_exchange *exchange; /* NULL when the client left meanwhile */
    struct mb_completion asked;
    const struct mbd_entry *model;
    struct mb_ids prompt;
    enum mb_status encoded; /* how tokenizing went, and why not */
    struct mb_error encode_error;
    struct mb_constraint *constraint; /* of a response_format; the request's once it has it */
    enum mb_status constrained;       /* how compiling the schema went, and why not */
    struct mb_error constrain_error;
    struct mb_wire_error error; /* when something is refused */
    unsigned retry_after;

    struct mbd_work *work; /* that prepares; it and the list only while that goes on */
    struct mbd_admission *next, *prev;
};

static bool refuse_length(struct mbd_admission *a, size_t n_prompt, const char *more)
{
    mb_wire_error_fill(&a->error, 400, "context_length_exceeded", "prompt",
                       "this model's context is %u tokens; the prompt has %s%zu and the "
                       "completion asks for %u",
                       a->model->context_max, more, n_prompt, a->asked.max_tokens);
    return false;
}

static bool find_model(struct mbd_admission *a)
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

static bool has_format(const struct mbd_admission *a)
{
    return a->asked.response_format.kind != MB_RESPONSE_TEXT;
}

static void constrain(struct mbd_admission *a)
{
    const struct mb_response_format *f = &a->asked.response_format;
    struct mb_grammar g;
    a->constrained = mb_schema_compile(f->kind == MB_RESPONSE_JSON_SCHEMA ? &f->schema : NULL,
                                       &g, &a->constrain_error);
    if (a->constrained == MB_OK) {
        a->constrained = mb_constraint_new(&g, a->model->trie, a->model->model->shape.n_vocab,
                                           &a->constraint, &a->constrain_error);
        mb_grammar_fini(&g); /* empty, if it was taken over */
    }
}

static void encode(struct mbd_admission *a)
{
    a->encoded = mb_tokenizer_encode(a->model->tokenizer, a->asked.prompt, a->asked.n_prompt,
                                     MB_ENCODE_BOS_EOS | MB_ENCODE_PARSE_SPECIAL,
                                     a->model->context_max, &a->prompt, &a->encode_error);
}

/* On any thread: tokenizer and trie are immutable, and nobody else has the rest. */
static void prepare(void *arg)
{
    struct mbd_admission *a = arg;
    if (a->asked.prompt) {
        encode(a);
    }
    if (has_format(a)) {
        constrain(a);
    }
}

static bool take_format(struct mbd_admission *a)
{
    const size_t bytes = a->constraint ? mb_constraint_bytes(a->constraint) : 0;
    if (a->constrained == MB_E_NOMEM) {
        mb_wire_error_of(&a->error, &a->constrain_error);
    } else if (a->constrained != MB_OK) {
        mb_wire_error_fill(&a->error, 400, NULL, "response_format", "'response_format': %s",
                           a->constrain_error.what);
    } else if (bytes > MBD_CONSTRAINT_BYTES_MAX - a->service->completions->constraint_bytes) {
        mb_wire_error_fill(&a->error, 429, "queue_full", "response_format",
                           "too many requests with a response_format are under way");
        a->retry_after = MBD_RETRY_FULL;
    } else {
        return true;
    }
    return false;
}

static bool take_text(struct mbd_admission *a)
{
    if (a->encoded == MB_E_LIMIT) {
        return refuse_length(a, a->model->context_max, "more than ");
    }
    if (a->encoded != MB_OK) {
        mb_wire_error_of(&a->error, &a->encode_error);
    }
    return a->encoded == MB_OK;
}

static bool take_ids(struct mbd_admission *a)
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
    a->prompt = (struct mb_ids) { .at = a->asked.prompt_ids,
                                  .len = a->asked.n_prompt_ids,
                                  .cap = a->asked.n_prompt_ids };
    a->asked.prompt_ids = NULL;
    return true;
}

/* The prompt's ids, and how many more there may be. */
static bool take_prompt(struct mbd_admission *a)
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
    return (n <= a->model->context_max && a->asked.max_tokens <= room) ||
           refuse_length(a, n, "");
}

static bool make_request(struct mbd_admission *a, struct mbd_request **ret)
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
        return false;
    }
    if (a->constraint) {
        mbd_request_constrain(*ret, a->constraint);
        a->constraint = NULL;
    }
    return true;
}

/* Puts the request before the engine, which may refuse it. */
static bool submit(struct mbd_admission *a, struct mbd_request *r)
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
        a->retry_after = st == MB_E_UNAVAILABLE ? MBD_RETRY_DRAINING : MBD_RETRY_FULL;
    }
    return false;
}

/* The prompt's text again, for echo. */
static void put_echo(struct mbd_admission *a, struct mbd_completion *c)
{
    struct mb_error err;
    if (a->asked.prompt) {
        mb_bytes_put(&c->text, a->asked.prompt, a->asked.n_prompt);
    } else if (mb_tokenizer_decode(a->model->tokenizer, a->prompt.at, a->prompt.len, true,
                                   &c->text, &err) != MB_OK) {
        c->text.failed = true;
    }
}

static struct mbd_completion *completion_new(struct mbd_admission *a)
{
    struct mbd_completion *c = calloc(1, sizeof *c);
    if (!c) {
        mb_wire_error_fill(&a->error, 503, "out_of_memory", NULL, "no memory for this request");
        return NULL;
    }
    const struct mbd_exchange *x = a->exchange;
    c->owner = a->service->completions;
    c->model = a->model;
    c->created = (int64_t) time(NULL);
    c->stream = a->asked.stream;
    c->include_usage = a->asked.include_usage;
    c->has_logprobs = a->asked.has_logprobs;
    if (a->constraint) {
        c->constraint_bytes = mb_constraint_bytes(a->constraint);
        c->owner->constraint_bytes += c->constraint_bytes;
    }
    c->usage.prompt_tokens = (uint32_t) a->prompt.len;
    c->began_ns = mbd_exchange_began_ns(x);
    c->spoke_ns = c->began_ns;
    (void) snprintf(c->id, sizeof c->id, "%s%s", MBD_ID_PREFIX, mbd_exchange_id(x));
    (void) snprintf(c->client_id, sizeof c->client_id, "%s", mbd_exchange_client_id(x));
    if (a->asked.echo) {
        put_echo(a, c);
        c->offset = mbd_characters(mb_bytes_text(&c->text), c->text.len);
    }
    return c;
}

/* Until the prompt is to be tokenized. */
static bool open_request(struct mbd_admission *a)
{
    const struct mb_bytes *body = mbd_exchange_body(a->exchange);
    if (a->service->draining) {
        mb_wire_error_fill(&a->error, 503, "unavailable", NULL, "the server is shutting down");
        a->retry_after = MBD_RETRY_DRAINING;
        mbd_metrics_add(a->service->metrics, MBD_REQUESTS_REFUSED, 1);
        return false;
    }
    return mb_completion_decode((const char *) body->at, body->len, &a->asked, &a->error) ==
               MB_OK &&
           find_model(a);
}

/* From there to the engine. */
static bool admit(struct mbd_admission *a)
{
    if (!take_prompt(a) || !take_format(a)) {
        return false;
    }
    struct mbd_completion *c = completion_new(a);
    if (!c) {
        return false;
    }
    if (a->asked.max_tokens == 0) {
        mbd_completion_of_nothing(c, a->exchange);
        return true;
    }
    if (!make_request(a, &c->request) || !submit(a, c->request)) {
        mbd_completion_free(c);
        return false;
    }
    mbd_completion_begin(c, a->exchange);
    return true;
}

static void admission_free(struct mbd_admission *a)
{
    mb_constraint_free(a->constraint);
    mb_ids_fini(&a->prompt);
    mb_completion_fini(&a->asked);
    free(a);
}

/* The client may be gone by now; else it is answered, or its completion begins. */
static void conclude(struct mbd_admission *a, bool ok)
{
    if (a->exchange) {
        mbd_exchange_on_end(a->exchange, NULL, NULL);
        mbd_exchange_drop_body(a->exchange);
        if (!ok || !admit(a)) {
            mbd_reply_error(a->exchange, &a->error, a->retry_after);
        }
    }
    admission_free(a);
}

/* ---- long prompts and schemas ------------------------------------------------------------------------ */

static void on_pending_end(void *arg)
{
    struct mbd_admission *a = arg;
    a->exchange = NULL;
    mbd_work_cancel(a->work);
}

static void on_prepared(void *arg, bool ran)
{
    struct mbd_admission *a = arg;
    assert(ran || !a->exchange); /* it is cancelled only when nobody waits for it */
    *(a->prev ? &a->prev->next : &a->service->completions->first_pending) = a->next;
    if (a->next) {
        a->next->prev = a->prev;
    }
    conclude(a, true);
}

/* false when that thread is not to be had. */
static bool prepare_elsewhere(struct mbd_admission *a)
{
    struct mb_error err;
    struct mbd_completions *all = a->service->completions;
    if (mbd_work_start(a->service->loop, prepare, on_prepared, a, &a->work, &err) != MB_OK) {
        return false;
    }
    a->next = all->first_pending;
    if (a->next) {
        a->next->prev = a;
    }
    all->first_pending = a;
    mbd_exchange_on_end(a->exchange, on_pending_end, a);
    mbd_exchange_wait(a->exchange);
    return true;
}

void mbd_route_completions(struct mbd_exchange *x)
{
    struct mbd_admission *a = calloc(1, sizeof *a);
    if (!a) {
        mbd_reply_json(x, 503, NULL);
        return;
    }
    a->service = mbd_exchange_service(x);
    a->exchange = x;
    mb_completion_init(&a->asked);
    bool ok = open_request(a);
    if (ok) {
        bool slow = a->asked.n_prompt > LONG_PROMPT || has_format(a);
        if (slow && prepare_elsewhere(a)) {
            return;
        }
        prepare(a);
    }
    conclude(a, ok);
}
