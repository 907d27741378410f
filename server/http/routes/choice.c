/* From the events of one sequence to what the wire shows of a choice. */
#include <stdio.h>
#include <stdlib.h>

#include "server/http/routes/completion.h"

/* Characters of UTF-8 text: its bytes but those that go on with one. */
static uint32_t characters(const char *text, size_t n)
{
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += ((unsigned char) text[i] & 0xc0) != 0x80;
    }
    return count;
}

void mbd_choice_fini(struct mbd_choice *k)
{
    mbd_request_unref(k->request);
    mb_bytes_fini(&k->text);
    mb_ids_fini(&k->ids);
    mb_tool_calls_free(k->calls, k->n_calls);
    free(k->tokens);
}

/* ---- tokens ------------------------------------------------------------------------------ */

static struct mb_wire_logprob shown(const struct mbd_completion *c, uint32_t token,
                                    float logprob)
{
    struct mb_wire_logprob ret = { .logprob = logprob };
    ret.text = (const char *) mb_tokenizer_token_bytes(c->base->tokenizer, token, &ret.n_text);
    if (!ret.text) {
        ret.text = "";
        ret.n_text = 0;
    }
    return ret;
}

/* A token as the wire shows it. Texts are the tokenizer's. */
static void show_token(const struct mbd_completion *c, struct mbd_choice *k, uint32_t token,
                       float logprob, const struct mb_logprob *top, uint32_t n_top,
                       struct mb_wire_token *ret)
{
    *ret = (struct mb_wire_token) { .token = shown(c, token, logprob),
                                    .n_top = n_top,
                                    .text_offset = k->offset };
    for (uint32_t i = 0; i < n_top; i++) {
        ret->top[i] = shown(c, top[i].token, top[i].logprob);
    }
    if (!mb_tokenizer_is_special(c->base->tokenizer, token)) { /* these are not in the text */
        k->offset += characters(ret->token.text, ret->token.n_text);
    }
}

/* Room for one more token of a whole reply; NULL when memory is refused. */
static struct mb_wire_token *more_tokens(struct mbd_choice *k)
{
    if (k->n_tokens == k->tokens_cap) {
        size_t cap = k->tokens_cap ? 2 * k->tokens_cap : 64;
        struct mb_wire_token *more = realloc(k->tokens, cap * sizeof *more);
        if (!more) {
            return NULL;
        }
        k->tokens = more;
        k->tokens_cap = cap;
    }
    return &k->tokens[k->n_tokens++];
}

/* ---- the prompt again -------------------------------------------------------------------- */

static bool echo_text(struct mbd_completion *c, struct mbd_choice *k)
{
    struct mb_error err;
    const struct mb_prompt *p = &c->asked.prompts[k->prompt - c->prompts];
    if (p->text) {
        mb_bytes_put(&k->text, p->text, p->n_text);
        return !k->text.failed;
    }
    return mb_tokenizer_decode(c->base->tokenizer, k->prompt->at, k->prompt->len, true,
                               &k->text, &err) == MB_OK;
}

static bool echo_tokens(struct mbd_completion *c, struct mbd_choice *k)
{
    const struct mbd_prompt_score *scores = k->request ? mbd_request_scores(k->request) : NULL;
    for (size_t i = 0; scores && i < k->prompt->len; i++) {
        struct mb_wire_token *t = more_tokens(k);
        if (!t) {
            return false;
        }
        show_token(c, k, k->prompt->at[i], scores[i].logprob, scores[i].top, scores[i].n_top,
                   t);
        t->no_logprob = i == 0;
    }
    return true;
}

/* Once, before anything else is told. */
bool mbd_choice_echo(struct mbd_completion *c, struct mbd_choice *k)
{
    if (!c->asked.echo || k->echoed) {
        return true;
    }
    k->echoed = true;
    if (!echo_text(c, k) || !echo_tokens(c, k)) {
        return false;
    }
    k->offset = characters(mb_bytes_text(&k->text), k->text.len);
    return true;
}

/* ---- whole replies ----------------------------------------------------------------------- */

bool mbd_choice_gather(struct mbd_completion *c, struct mbd_choice *k,
                       const struct mbd_event *e)
{
    if (!mbd_choice_echo(c, k)) {
        return false;
    }
    mb_bytes_put(&k->text, e->text, e->n_text);
    if (!e->has_token) {
        return !k->text.failed;
    }
    k->logprob_sum += (double) e->logprob;
    k->n_told++;
    if (c->asked.has_logprobs) {
        struct mb_wire_token *t = more_tokens(k);
        if (!t) {
            return false;
        }
        show_token(c, k, e->token, e->logprob, e->top, e->n_top, t);
    }
    bool ok = !c->asked.return_token_ids || mb_ids_push(&k->ids, e->token);
    return ok && !k->text.failed;
}

bool mbd_choice_take_calls(struct mbd_completion *c, struct mbd_choice *k)
{
    size_t n_text = 0, n = k->text.len - k->n_sent;
    const char *text = mb_bytes_text(&k->text) + k->n_sent;
    if (c->call_form == MB_CALLS_NONE || n == 0) {
        return true;
    }
    char id[40]; /* the completion's, and which of its choices */
    (void) snprintf(id, sizeof id, "%s%u", mbd_exchange_id(c->exchange), (unsigned) k->index);
    if (!mb_tool_calls_take(c->call_form, id, text, n, &k->calls, &k->n_calls, &n_text)) {
        return false;
    }
    if (k->n_calls > 0) {
        k->text.len = k->n_sent + n_text;
        k->last.finish =
            k->last.finish == MB_FINISH_STOP ? MB_FINISH_TOOL_CALLS : k->last.finish;
    }
    return true;
}

struct mb_wire_choice mbd_choice_wire(const struct mbd_completion *c,
                                      const struct mbd_choice *k)
{
    return (struct mb_wire_choice) {
        .index = k->index,
        .text = k->text.at ? (const char *) k->text.at : "",
        .n_text = k->text.len,
        .finish = k->last.finish,
        .has_logprobs = c->asked.has_logprobs,
        .tokens = k->tokens,
        .n_tokens = k->n_tokens,
        .has_ids = c->asked.return_token_ids,
        .ids = k->ids.at,
        .n_ids = k->ids.len,
        .prompt_ids = c->asked.return_token_ids ? k->prompt->at : NULL,
        .n_prompt_ids = k->prompt->len,
        .calls = k->calls,
        .n_calls = k->n_calls,
    };
}

/* ---- streams ----------------------------------------------------------------------------- */

/* What of the text may go, now that e brought more: all, unless it may become part of a
 * call. */
static size_t free_to_go(const struct mbd_completion *c, struct mbd_choice *k)
{
    const char *text = mb_bytes_text(&k->text) + k->n_sent;
    size_t n = k->text.len - k->n_sent;
    bool decided = c->call_form == MB_CALLS_BARE && k->n_sent > 0; /* it began as text */
    return decided ? n : mb_tool_calls_before(c->call_form, text, n);
}

/* The echo of a stream: its text, and its tokens when they were scored. */
static void stream_echo(struct mbd_completion *c, struct mbd_choice *k)
{
    if (!c->asked.echo || k->echoed) {
        return;
    }
    if (!mbd_choice_echo(c, k)) {
        c->no_memory = true;
        mbd_completion_cancel(c);
        return;
    }
    struct mb_wire_choice w = mbd_choice_wire(c, k);
    w.has_logprobs = k->n_tokens > 0;
    w.finish = MB_FINISH_NONE;
    w.prompt_ids = NULL;
    w.has_ids = false;
    mbd_completion_put_chunk(c, &w, NULL);
    mb_bytes_fini(&k->text);
    k->n_tokens = 0;
}

void mbd_choice_begin_stream(struct mbd_completion *c, struct mbd_choice *k)
{
    if (c->asked.is_chat || c->asked.return_token_ids) {
        struct mb_wire_choice w = mbd_choice_wire(c, k);
        w.begins = true;
        w.has_logprobs = false;
        mbd_completion_put_chunk(c, &w, NULL);
    }
    if (!c->asked.has_logprobs || !k->request) {
        stream_echo(c, k);
    }
}

void mbd_choice_stream(struct mbd_completion *c, struct mbd_choice *k,
                       const struct mbd_event *e)
{
    struct mb_wire_token t;
    stream_echo(c, k);
    struct mb_wire_choice w = {
        .index = k->index,
        .text = e->text,
        .n_text = e->n_text,
        .has_logprobs = c->asked.has_logprobs,
        .has_ids = c->asked.return_token_ids,
    };
    if (c->call_form != MB_CALLS_NONE) {
        mb_bytes_put(&k->text, e->text, e->n_text);
        w.n_text = free_to_go(c, k);
        w.text = mb_bytes_text(&k->text) + k->n_sent;
        k->n_sent += w.n_text;
    }
    if (e->has_token && c->asked.has_logprobs) {
        show_token(c, k, e->token, e->logprob, e->top, e->n_top, &t);
        w.tokens = &t;
        w.n_tokens = 1;
    }
    if (e->has_token && c->asked.return_token_ids) {
        w.ids = &e->token;
        w.n_ids = 1;
    }
    if (w.n_text > 0 || w.n_tokens > 0 || w.n_ids > 0) {
        mbd_completion_put_chunk(c, &w, NULL);
    }
}

void mbd_choice_end_stream(struct mbd_completion *c, struct mbd_choice *k)
{
    stream_echo(c, k);
    if (k->text.failed || !mbd_choice_take_calls(c, k)) {
        c->no_memory = true;
        return;
    }
    struct mb_wire_choice w = {
        .index = k->index,
        .text = k->text.at ? (const char *) k->text.at + k->n_sent : "",
        .n_text = k->text.len - k->n_sent,
        .finish = k->last.finish,
        .calls = k->calls,
        .n_calls = k->n_calls,
    };
    mbd_completion_put_chunk(c, &w, NULL);
}
