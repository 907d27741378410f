/* From a body of JSON to the engine: decode, find the model, write the chat as a prompt,
 * tokenize, admit. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/constrain/constraint.h"
#include "core/constrain/schema.h"
#include "server/clock.h"
#include "server/http/limits.h"
#include "server/http/router.h"
#include "server/http/routes/completion.h"
#include "server/http/routes/find_model.h"

enum {
    LONG_PROMPT = 16 * 1024, /* bytes beyond which tokenizing would hold up the streams */
};

/* What is known of a request before it is admitted. */
struct mbd_admission {
    struct mbd_service *service;
    struct mbd_exchange *exchange; /* NULL when the client left meanwhile */
    struct mb_completion asked;
    const struct mbd_base *base;
    char model[MB_MODEL_NAME_MAX + 1]; /* what the client calls it */
    struct mb_ids *prompts;            /* [n_prompts] */
    size_t n_prompts;
    struct tm now;          /* for templates that tell the date */
    enum mb_status encoded; /* how writing and tokenizing went, and why not */
    struct mb_error encode_error;
    bool refused_by_template; /* encode_error is the template's */
    struct mb_constraint *
        *constraints;           /* [n_constraints] of a response_format, one for each choice; */
    size_t n_constraints;       /* a request's once it has it */
    enum mb_status constrained; /* how compiling the schema went, and why not */
    struct mb_error constrain_error;
    struct mb_wire_error error; /* when something is refused */
    unsigned retry_after;

    struct mbd_work *work; /* that prepares; it and the list only while that goes on */
    struct mbd_admission *next, *prev;
};

static const char *prompt_name(const struct mbd_admission *a)
{
    return a->asked.is_chat ? "messages" : "prompt";
}

static bool refuse_memory(struct mbd_admission *a)
{
    mb_wire_error_fill(&a->error, 503, "out_of_memory", NULL, "no memory for this request");
    return false;
}

static bool refuse_length(struct mbd_admission *a, size_t n_prompt, const char *more)
{
    mb_wire_error_fill(&a->error, 400, "context_length_exceeded", prompt_name(a),
                       "this model's context is %u tokens; the prompt has %s%zu and the "
                       "completion asks for %u",
                       a->base->context_max, more, n_prompt, a->asked.max_tokens);
    return false;
}

/* ---- prompts ----------------------------------------------------------------------------- */

/* The text of a token that a template may put where it likes; none: "". */
static struct mb_variable token_variable(const struct mbd_base *m, const char *name, bool known,
                                         uint32_t id)
{
    size_t n = 0;
    const uint8_t *text = known ? mb_tokenizer_token_bytes(m->tokenizer, id, &n) : NULL;
    return (struct mb_variable) {
        .name = name, .kind = MB_VARIABLE_TEXT, .text = text ? (const char *) text : "", .n = n
    };
}

static size_t length_of(const char *text)
{
    return text ? strlen(text) : 0;
}

static struct mb_variable json_variable(const char *name, const char *json)
{
    return (struct mb_variable) {
        .name = name,
        .kind = json ? MB_VARIABLE_JSON : MB_VARIABLE_NONE,
        .text = json,
        .n = length_of(json),
    };
}

/* The conversation as a prompt, as transformers' apply_chat_template has it. */
static enum mb_status write_chat(struct mbd_admission *a, struct mb_bytes *ret)
{
    const struct mbd_base *m = a->base;
    const struct mb_chat *chat = &a->asked.chat;
    const uint32_t *eos;
    uint32_t bos = 0;
    bool has_bos = mb_tokenizer_bos(m->tokenizer, &bos);
    bool has_eos = mb_tokenizer_eos(m->tokenizer, &eos) > 0;
    const struct mb_variable variables[] = {
        token_variable(m, "bos_token", has_bos, bos),
        token_variable(m, "eos_token", has_eos, has_eos ? eos[0] : 0),
        json_variable("messages", chat->messages),
        json_variable("tools", chat->tool_choice == MB_TOOLS_NONE ? NULL : chat->tools),
        json_variable("documents", NULL),
        { .name = "add_generation_prompt", .kind = MB_VARIABLE_TRUE },
        { .kind = MB_VARIABLE_JSON, .text = chat->variables, .n = length_of(chat->variables) },
    };
    size_t n = sizeof variables / sizeof variables[0] - (chat->variables == NULL);
    return mb_template_render(m->chat, variables, n, &a->now, ret, &a->encode_error);
}

/* A template puts the start of the text itself where the model wants it. */
static enum mb_status encode_chat(struct mbd_admission *a, struct mb_ids *ret)
{
    struct mb_bytes text = { 0 };
    enum mb_status st = write_chat(a, &text);
    a->refused_by_template = st != MB_OK;
    if (st == MB_OK) {
        st = mb_tokenizer_encode(a->base->tokenizer, mb_bytes_text(&text), text.len,
                                 MB_ENCODE_PARSE_SPECIAL, a->base->context_max, ret,
                                 &a->encode_error);
    }
    mb_bytes_fini(&text);
    return st;
}

static void encode(struct mbd_admission *a)
{
    if (a->asked.is_chat) {
        a->encoded = encode_chat(a, &a->prompts[0]);
    }
    for (size_t i = 0; i < a->asked.n_prompts && a->encoded == MB_OK; i++) {
        const struct mb_prompt *p = &a->asked.prompts[i];
        if (p->text) {
            a->encoded =
                mb_tokenizer_encode(a->base->tokenizer, p->text, p->n_text,
                                    MB_ENCODE_BOS_EOS | MB_ENCODE_PARSE_SPECIAL,
                                    a->base->context_max, &a->prompts[i], &a->encode_error);
        }
    }
}

/* ---- formats ----------------------------------------------------------------------------- */

static bool has_format(const struct mbd_admission *a)
{
    return a->asked.response_format.kind != MB_RESPONSE_TEXT;
}

static size_t n_each(const struct mb_completion *c)
{
    return c->best_of > c->n ? c->best_of : c->n;
}

static enum mb_status constrain_one(struct mbd_admission *a, struct mb_constraint **ret)
{
    const struct mb_response_format *f = &a->asked.response_format;
    struct mb_grammar g;
    enum mb_status st = mb_schema_compile(
        f->kind == MB_RESPONSE_JSON_SCHEMA ? &f->schema : NULL, &g, &a->constrain_error);
    if (st == MB_OK) {
        st = mb_constraint_new(&g, a->base->trie, a->base->shape.n_vocab, ret,
                               &a->constrain_error);
        mb_grammar_fini(&g); /* empty, if it was taken over */
    }
    return st;
}

/* A constraint goes along with one text. */
static void constrain(struct mbd_admission *a)
{
    size_t n = a->n_prompts * n_each(&a->asked);
    a->constraints = calloc(n, sizeof(struct mb_constraint *));
    if (!a->constraints) {
        a->constrained = mb_fail(&a->constrain_error, MB_E_NOMEM, 0, "no memory for a format");
        return;
    }
    for (; a->n_constraints < n && a->constrained == MB_OK; a->n_constraints++) {
        a->constrained = constrain_one(a, &a->constraints[a->n_constraints]);
    }
}

static bool take_format(struct mbd_admission *a)
{
    size_t bytes = 0;
    for (size_t i = 0; i < a->n_constraints && a->constrained == MB_OK; i++) {
        bytes += mb_constraint_bytes(a->constraints[i]);
    }
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

/* On any thread: tokenizer, template and trie are immutable, and nobody else has the rest. */
static void prepare(void *arg)
{
    struct mbd_admission *a = arg;
    encode(a);
    if (has_format(a)) {
        constrain(a);
    }
}

/* Bytes that encode has to read. */
static size_t n_to_encode(const struct mbd_admission *a)
{
    const struct mb_chat *chat = &a->asked.chat;
    size_t n = length_of(chat->messages) + length_of(chat->tools) + length_of(chat->variables);
    for (size_t i = 0; i < a->asked.n_prompts; i++) {
        n += a->asked.prompts[i].n_text;
    }
    return n;
}

static bool took_text(struct mbd_admission *a)
{
    if (a->encoded == MB_OK) {
        return true;
    }
    if (a->refused_by_template && a->encoded != MB_E_NOMEM) {
        mb_wire_error_fill(&a->error, 400, NULL, "messages", "%s", a->encode_error.what);
        return false;
    }
    if (a->encoded == MB_E_LIMIT) {
        return refuse_length(a, a->base->context_max, "more than ");
    }
    mb_wire_error_of(&a->error, &a->encode_error);
    return false;
}

/* Ids change hands. */
static bool take_ids(struct mbd_admission *a, struct mb_prompt *p, struct mb_ids *ret)
{
    uint32_t n_vocab = a->base->shape.n_vocab;
    for (size_t i = 0; i < p->n_ids; i++) {
        if (p->ids[i] >= n_vocab) {
            mb_wire_error_fill(&a->error, 400, NULL, "prompt",
                               "'prompt' element %zu is %u; this model's ids are 0..%u", i,
                               p->ids[i], n_vocab - 1);
            return false;
        }
    }
    *ret = (struct mb_ids) { .at = p->ids, .len = p->n_ids, .cap = p->n_ids };
    p->ids = NULL;
    return true;
}

/* How many tokens there is room for behind a prompt of n: in the context, and in the KV
 * cache, whose last token is never stored. */
static uint32_t room_behind(const struct mbd_admission *a, size_t n)
{
    struct mbd_engine_stats stats;
    mbd_engine_stats(a->base->engine, &stats);
    uint64_t stored = (uint64_t) stats.kv_blocks * MB_KV_BLOCK + 1;
    uint64_t room = stored < a->base->context_max ? stored : a->base->context_max;
    return n < room ? (uint32_t) (room - n) : 0;
}

/* When max_tokens was not asked for, it is OpenAI's default: for a chat what there is room
 * for, and never more. */
static void set_max_tokens(struct mbd_admission *a, uint32_t room)
{
    if (!a->asked.has_max_tokens) {
        uint32_t wanted =
            a->asked.is_chat ? MB_MAX_TOKENS_MAX : a->service->options->default_max_tokens;
        a->asked.max_tokens = room > 0 && wanted > room ? room : wanted;
        a->asked.has_max_tokens = true;
    }
}

/* The prompts' ids, and how many more there may be. */
static bool take_prompts(struct mbd_admission *a)
{
    size_t longest = 0;
    if (!took_text(a)) {
        return false;
    }
    for (size_t i = 0; i < a->n_prompts; i++) {
        struct mb_prompt *p = a->asked.is_chat ? NULL : &a->asked.prompts[i];
        if (p && !p->text && !take_ids(a, p, &a->prompts[i])) {
            return false;
        }
        if (a->prompts[i].len == 0) {
            mb_wire_error_fill(&a->error, 400, NULL, prompt_name(a), "'%s' is empty",
                               prompt_name(a));
            return false;
        }
        longest = a->prompts[i].len > longest ? a->prompts[i].len : longest;
    }
    set_max_tokens(a, room_behind(a, longest));
    uint32_t context = a->base->context_max;
    return (longest <= context && a->asked.max_tokens <= context - (uint32_t) longest) ||
           refuse_length(a, longest, "");
}

/* ---- the engine -------------------------------------------------------------------------- */

/* The name of the key, and what the client adds: it can keep apart, and not bring together. Neither
 * holds a 0. */
static void make_salt(const struct mb_completion *c, const struct mbd_key *key, uint8_t *ret)
{
    char text[MBD_KEY_NAME_MAX + MB_CACHE_SALT_MAX + 2];
    int n = snprintf(text, sizeof text, "%s%c%s", key ? key->name : "", 0,
                     c->cache_salt ? c->cache_salt : "");
    assert(n > 0 && (size_t) n < sizeof text);
    mbd_key_hash(text, (size_t) n, ret);
}

/* What choice number i of a prompt asks of the engine. The first draws as the only one
 * would, the others from seeds of their own. */
static struct mbd_request_params params_of(const struct mb_completion *c,
                                           const struct mbd_key *key, size_t i)
{
    struct mbd_request_params p = {
        .sampling = {
            .temperature = c->temperature,
            .top_k = c->top_k,
            .top_p = c->top_p,
            .min_p = c->min_p,
            .repetition_penalty = c->repetition_penalty,
            .presence_penalty = c->presence_penalty,
            .frequency_penalty = c->frequency_penalty,
            .seed = c->seed + i,
            .bias = c->bias,
            .n_bias = c->n_bias,
        },
        .tenant = key ? key->id : 0,
        .low = c->low_priority || (key && key->low),
        .max_tokens = c->max_tokens,
        .min_tokens = c->min_tokens,
        .ignore_eos = c->ignore_eos,
        .want_logprob = c->has_logprobs || c->best_of > c->n,
        .want_top = c->logprobs,
        .want_prompt_scores = c->echo && c->has_logprobs,
        .n_stop_ids = c->n_stop_ids,
        .n_stops = c->n_stops,
    };
    make_salt(c, key, p.salt);
    memcpy(p.stop_ids, c->stop_ids, c->n_stop_ids * sizeof p.stop_ids[0]);
    for (size_t k = 0; k < c->n_stops; k++) {
        p.stop[k] = c->stop[k];
        p.n_stop_bytes[k] = c->n_stop_bytes[k];
    }
    return p;
}

static bool make_requests(struct mbd_admission *a, struct mbd_completion *c,
                          struct mbd_epoch *epoch)
{
    struct mb_error err;
    if (!c->asked.has_seed &&
        getrandom(&c->asked.seed, sizeof c->asked.seed, 0) != sizeof c->asked.seed) {
        c->asked.seed = mbd_now_ns(); /* any number does */
    }
    for (size_t i = 0; i < c->n_choices; i++) {
        struct mbd_choice *k = &c->choices[i];
        struct mbd_request_params p = params_of(&c->asked, c->key, i % c->n_each);
        if (mbd_request_new(c->base->tokenizer, k->prompt->at, (uint32_t) k->prompt->len, &p,
                            &k->request, &err) != MB_OK) {
            mb_wire_error_of(&a->error, &err);
            return false;
        }
        mbd_request_use(k->request, epoch);
        if (a->n_constraints > 0) {
            mbd_request_constrain(k->request, a->constraints[i]);
            a->constraints[i] = NULL;
        }
    }
    return true;
}

/* Puts the requests before the engine, which may refuse; then those that it took are
 * cancelled. */
static bool submit(struct mbd_admission *a, struct mbd_completion *c)
{
    struct mb_error err;
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < c->n_choices && st == MB_OK; i++) {
        st = mbd_engine_submit(c->base->engine, c->choices[i].request, &err);
        c->n_running += st == MB_OK;
    }
    if (st == MB_OK) {
        return true;
    }
    for (size_t i = 0; i < c->n_running; i++) {
        mbd_request_cancel(c->choices[i].request);
    }
    if (st == MB_E_INVALID) {
        mb_wire_error_fill(&a->error, 400, "context_length_exceeded", prompt_name(a), "%s",
                           err.what);
    } else {
        mb_wire_error_of(&a->error, &err);
        a->retry_after = st == MB_E_UNAVAILABLE ? MBD_RETRY_DRAINING : MBD_RETRY_FULL;
    }
    return false;
}

/* Texts that the answer does not repeat need not be kept while it is made. */
static void drop_texts(struct mb_completion *asked)
{
    for (size_t i = 0; i < asked->n_prompts && !asked->echo; i++) {
        free(asked->prompts[i].text);
        asked->prompts[i].text = NULL;
    }
    free(asked->chat.messages);
    free(asked->chat.tools);
    free(asked->chat.variables);
    asked->chat = (struct mb_chat) { .tool_choice = asked->chat.tool_choice };
}

static bool make_choices(struct mbd_completion *c)
{
    c->n_each = n_each(&c->asked);
    c->choices = calloc(c->n_prompts * c->n_each, sizeof *c->choices);
    if (!c->choices) {
        return false;
    }
    c->n_choices = c->n_prompts * c->n_each;
    for (size_t i = 0; i < c->n_choices; i++) {
        c->choices[i].prompt = &c->prompts[i / c->n_each];
        c->choices[i].index = (uint32_t) i;
    }
    for (size_t i = 0; i < c->n_prompts; i++) {
        c->usage.prompt_tokens += (uint32_t) c->prompts[i].len;
    }
    return true;
}

/* What was asked, and its prompts, change hands. */
static struct mbd_completion *completion_new(struct mbd_admission *a,
                                             const struct mbd_epoch *epoch)
{
    struct mbd_completion *c = calloc(1, sizeof *c);
    if (!c) {
        (void) refuse_memory(a);
        return NULL;
    }
    const struct mbd_exchange *x = a->exchange;
    c->owner = a->service->completions;
    c->base = a->base;
    memcpy(c->model, a->model, sizeof c->model);
    memcpy(c->epoch, epoch->id, sizeof c->epoch);
    memcpy(c->fingerprint, epoch->fingerprint, sizeof c->fingerprint);
    c->key = mbd_key_ref(mbd_exchange_key(x));
    c->asked = a->asked;
    mb_completion_init(&a->asked);
    a->asked.is_chat = c->asked.is_chat; /* for errors to come */
    c->prompts = a->prompts;
    c->n_prompts = a->n_prompts;
    a->prompts = NULL;
    a->n_prompts = 0;
    c->created = (int64_t) time(NULL);
    c->began_ns = mbd_exchange_began_ns(x);
    c->spoke_ns = c->began_ns;
    if (c->asked.chat.tool_choice == MB_TOOLS_AUTO) {
        c->call_form = c->base->call_form;
    }
    for (size_t i = 0; i < a->n_constraints; i++) {
        c->constraint_bytes += mb_constraint_bytes(a->constraints[i]);
    }
    c->owner->constraint_bytes += c->constraint_bytes;
    drop_texts(&c->asked);
    (void) snprintf(c->id, sizeof c->id, "%s%s", c->asked.is_chat ? "chatcmpl-" : "cmpl-",
                    mbd_exchange_id(x));
    (void) snprintf(c->client_id, sizeof c->client_id, "%s", mbd_exchange_client_id(x));
    if (!make_choices(c)) {
        mbd_completion_free(c);
        (void) refuse_memory(a);
        return NULL;
    }
    return c;
}

/* ---- in order ---------------------------------------------------------------------------- */

/* Can this model do what is asked? */
static bool check_model(struct mbd_admission *a)
{
    const struct mb_completion *c = &a->asked;
    if (c->is_chat && !a->base->chat) {
        mb_wire_error_fill(
            &a->error, 400, "no_chat_template", "model",
            "the model '%s' can not chat: %s; POST /v1/completions takes prompts", a->model,
            a->base->chat_error);
    } else if (c->chat.tool_choice != MB_TOOLS_NONE && a->base->call_form == MB_CALLS_NONE) {
        mb_wire_error_fill(
            &a->error, 400, NULL, "tools",
            "the chat template of '%s' has no tools, or makes calls in a form that "
            "is not known",
            a->model);
    } else {
        return true;
    }
    return false;
}

static bool make_prompts(struct mbd_admission *a)
{
    time_t now = time(NULL);
    (void) localtime_r(&now, &a->now);
    size_t n = a->asked.is_chat ? 1 : a->asked.n_prompts;
    a->prompts = calloc(n, sizeof *a->prompts);
    if (!a->prompts) {
        return refuse_memory(a);
    }
    a->n_prompts = n;
    return true;
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
    enum mb_status st =
        a->asked.is_chat
            ? mb_chat_decode((const char *) body->at, body->len, &a->asked, &a->error)
            : mb_completion_decode((const char *) body->at, body->len, &a->asked, &a->error);
    const struct mbd_entry *model =
        st == MB_OK ? mbd_find_model(a->service, a->asked.model, &a->error) : NULL;
    if (!model) {
        return false;
    }
    a->base = model->base;
    memcpy(a->model, model->name, sizeof a->model);
    return check_model(a) && make_prompts(a);
}

/* The prompts' tokens are taken from what the key may use. */
static bool take_tokens(struct mbd_admission *a, const struct mbd_completion *c)
{
    uint64_t retry_ns = 0;
    enum mbd_limit limit =
        c->key ? mbd_key_take_prompt(c->key, c->usage.prompt_tokens, mbd_now_ns(), &retry_ns)
               : MBD_LIMIT_NONE;
    if (limit != MBD_LIMIT_NONE) {
        mbd_limit_refuse(limit, c->key, retry_ns, &a->error, &a->retry_after);
    }
    return limit == MBD_LIMIT_NONE;
}

/* From there to the engine. */
static bool admit(struct mbd_admission *a)
{
    struct mb_error err;
    /* Anew: it may have been taken back, or swapped, while another thread prepared the prompt. */
    const struct mbd_entry *model = mbd_find_model(a->service, a->model, &a->error);
    if (!model || !take_prompts(a) || !take_format(a)) {
        return false;
    }
    struct mbd_completion *c = completion_new(a, model->epoch);
    if (!c) {
        return false;
    }
    mbd_exchange_set_epoch(a->exchange, model->epoch->id);
    if (c->asked.max_tokens == 0 && !(c->asked.echo && c->asked.has_logprobs)) {
        mbd_completion_of_nothing(c, a->exchange);
        return true;
    }
    if (!take_tokens(a, c)) {
        mbd_completion_free(c);
        return false;
    }
    bool ok = make_requests(a, c, model->epoch);
    if (ok && c->asked.time_limit > 0 && mbd_completion_set_limit(c, &err) != MB_OK) {
        mb_wire_error_of(&a->error, &err);
        ok = false;
    }
    if (!ok || !submit(a, c)) {
        if (c->key) {
            mbd_key_give_back(c->key, c->usage.prompt_tokens);
        }
        mbd_completion_free(c);
        return false;
    }
    mbd_completion_begin(c, a->exchange);
    return true;
}

static void admission_free(struct mbd_admission *a)
{
    for (size_t i = 0; i < a->n_prompts; i++) {
        mb_ids_fini(&a->prompts[i]);
    }
    free(a->prompts);
    for (size_t i = 0; i < a->n_constraints; i++) {
        mb_constraint_free(a->constraints[i]);
    }
    free(a->constraints);
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

/* ---- long prompts, and schemas ------------------------------------------------------------------------ */

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

static void route(struct mbd_exchange *x, bool is_chat)
{
    struct mbd_admission *a = calloc(1, sizeof *a);
    if (!a) {
        mbd_reply_json(x, 503, NULL);
        return;
    }
    a->service = mbd_exchange_service(x);
    a->exchange = x;
    mb_completion_init(&a->asked);
    a->asked.is_chat = is_chat;
    bool ok = open_request(a);
    if (ok) {
        bool slow = n_to_encode(a) > LONG_PROMPT || has_format(a);
        if (slow && prepare_elsewhere(a)) {
            return;
        }
        prepare(a);
    }
    conclude(a, ok);
}

void mbd_route_completions(struct mbd_exchange *x)
{
    route(x, false);
}

void mbd_route_chat_completions(struct mbd_exchange *x)
{
    route(x, true);
}
