/* POST /tokenize and POST /detokenize: a text's tokens, and back. Done on the loop's other thread when
 * there is much of it, as prompts are (admission.c). */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/json/tokenize_json.h"
#include "server/http/exchange.h"
#include "server/http/router.h"
#include "server/http/routes/find_model.h"

enum {
    MUCH_TEXT = 16 * 1024, /* bytes beyond which tokenizing would hold up the streams */
    MUCH_IDS = 64 * 1024,
};

/* One of both: what was asked, and what came of it. */
struct job {
    struct mbd_service *service;
    struct mbd_exchange *exchange; /* NULL when the client left meanwhile */
    const struct mbd_base *base;
    struct mbd_work *work; /* while it is on the other thread */
    bool back;             /* detokenize */
    struct mb_tokenize forth;
    struct mb_detokenize tokens;
    struct mb_ids ids;
    struct mb_bytes text;
    enum mb_status status;
    struct mb_error error;
};

static void job_free(struct job *j)
{
    mb_tokenize_fini(&j->forth);
    mb_detokenize_fini(&j->tokens);
    mb_ids_fini(&j->ids);
    mb_bytes_fini(&j->text);
    free(j);
}

/* On any thread: a tokenizer is immutable, and nobody else has the rest. */
static void run(void *arg)
{
    struct job *j = arg;
    if (j->back) {
        j->status = mb_tokenizer_decode(j->base->tokenizer, j->tokens.tokens, j->tokens.n, true,
                                        &j->text, &j->error);
        return;
    }
    unsigned flags =
        MB_ENCODE_PARSE_SPECIAL | (j->forth.add_special_tokens ? MB_ENCODE_BOS_EOS : 0);
    j->status = mb_tokenizer_encode(j->base->tokenizer, j->forth.prompt, j->forth.n_prompt,
                                    flags, MB_PROMPT_IDS_MAX, &j->ids, &j->error);
}

static const char *text_of(void *arg, size_t i, size_t *ret_n)
{
    const struct job *j = arg;
    return (const char *) mb_tokenizer_token_bytes(j->base->tokenizer, j->ids.at[i], ret_n);
}

static void answer(struct job *j)
{
    struct mb_wire_error w;
    if (j->status == MB_E_LIMIT) {
        mb_wire_error_fill(&w, 400, NULL, "prompt", "'prompt' has more than %u tokens",
                           MB_PROMPT_IDS_MAX);
        mbd_reply_error(j->exchange, &w, 0);
    } else if (j->status != MB_OK) {
        mb_wire_error_of(&w, &j->error);
        mbd_reply_error(j->exchange, &w, 0);
    } else if (j->back) {
        mbd_reply_json(j->exchange, 200,
                       mb_detokenize_encode(mb_bytes_text(&j->text), j->text.len));
    } else {
        struct mb_tokenize_reply r = {
            .tokens = j->ids.at,
            .n = j->ids.len,
            .context_max = j->base->context_max,
            .text_of = j->forth.return_token_strs ? text_of : NULL,
            .arg = j,
        };
        mbd_reply_json(j->exchange, 200, mb_tokenize_encode(&r));
    }
}

static void on_exchange_end(void *arg)
{
    struct job *j = arg;
    j->exchange = NULL;
    mbd_work_cancel(j->work);
}

static void on_done(void *arg, bool ran)
{
    struct job *j = arg;
    assert(ran || !j->exchange); /* it is cancelled only when nobody waits for it */
    j->service->n_works--;
    if (j->exchange) {
        mbd_exchange_on_end(j->exchange, NULL, NULL);
        answer(j);
    }
    job_free(j);
}

/* false when that thread is not to be had. */
static bool run_elsewhere(struct job *j)
{
    struct mb_error err;
    if (mbd_work_start(j->service->loop, run, on_done, j, &j->work, &err) != MB_OK) {
        return false;
    }
    j->service->n_works++;
    mbd_exchange_drop_body(j->exchange);
    mbd_exchange_on_end(j->exchange, on_exchange_end, j);
    mbd_exchange_wait(j->exchange);
    return true;
}

static bool decode(struct job *j, struct mb_wire_error *err)
{
    const struct mb_bytes *body = mbd_exchange_body(j->exchange);
    const char *text = (const char *) body->at;
    enum mb_status st = j->back ? mb_detokenize_decode(text, body->len, &j->tokens, err)
                                : mb_tokenize_decode(text, body->len, &j->forth, err);
    if (st != MB_OK) {
        return false;
    }
    const struct mbd_entry *model =
        mbd_find_model(j->service, j->back ? j->tokens.model : j->forth.model, err);
    j->base = model ? model->base : NULL;
    return model != NULL;
}

static void route(struct mbd_exchange *x, bool back)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        mbd_reply_json(x, 503, NULL);
        return;
    }
    struct mb_wire_error err;
    j->service = mbd_exchange_service(x);
    j->exchange = x;
    j->back = back;
    if (!decode(j, &err)) {
        mbd_reply_error(x, &err, 0);
    } else {
        bool much = j->forth.n_prompt > MUCH_TEXT || j->tokens.n > MUCH_IDS;
        if (much && run_elsewhere(j)) {
            return;
        }
        run(j);
        answer(j);
    }
    job_free(j);
}

void mbd_route_tokenize(struct mbd_exchange *x)
{
    route(x, false);
}

void mbd_route_detokenize(struct mbd_exchange *x)
{
    route(x, true);
}
