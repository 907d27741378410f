#include "server/engine/slot.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core/constrain/constraint.h"
#include "core/infer/stop.h"
#include "server/requests/request_engine.h"

/* Makes room once, so that text of up to MBD_EVENT_TEXT_MAX bytes never allocates. */
static bool make_room(struct mb_bytes *b)
{
    static const uint8_t zeros[MBD_EVENT_TEXT_MAX];
    mb_bytes_put(b, zeros, sizeof zeros);
    bool ok = !b->failed;
    mb_bytes_clear(b);
    return ok;
}

enum mb_status mbd_slot_init(struct mbd_slot *s, const struct mb_kernels *kernels,
                             uint32_t n_vocab, struct mb_error *err)
{
    *s = (struct mbd_slot) { .n_vocab = n_vocab };
    enum mb_status st = mb_sampler_new(kernels, n_vocab, &s->sampler, err);
    if (st != MB_OK) {
        return st;
    }
    if (!make_room(&s->decoded) || !make_room(&s->shown)) {
        mbd_slot_fini(s);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a slot");
    }
    return MB_OK;
}

void mbd_slot_fini(struct mbd_slot *s)
{
    assert(!s->request);
    mb_sampler_free(s->sampler);
    mb_bytes_fini(&s->decoded);
    mb_bytes_fini(&s->shown);
    *s = (struct mbd_slot) { 0 };
}

void mbd_slot_start(struct mbd_slot *s, struct mbd_request *r, uint32_t n_stored,
                    uint64_t order, uint64_t now_ns)
{
    assert(!s->request);
    s->request = r;
    s->order = order;
    s->n_prompt = mbd_request_prompt_tokens(r);
    assert(n_stored < s->n_prompt);
    s->n_stored = n_stored;
    s->n_drawn = 0;
    s->stuck = false;
    s->last_ns = mbd_request_times(r).submitted;
    mb_sampler_start(s->sampler, &mbd_request_params(r)->sampling, mbd_request_prompt(r),
                     s->n_prompt);
    mb_decoder_init(&s->decoder, mbd_request_tokenizer(r), true, true);
    mbd_request_schedule(r, now_ns);
}

const struct mb_model *mbd_slot_model(const struct mbd_slot *s)
{
    return mbd_request_model(s->request);
}

uint32_t mbd_slot_next(const struct mbd_slot *s)
{
    return s->n_stored;
}

uint32_t mbd_slot_token(const struct mbd_slot *s, uint32_t position)
{
    if (position < s->n_prompt) {
        return mbd_request_prompt(s->request)[position];
    }
    assert(position + 1 == s->n_prompt + s->n_drawn);
    return s->drawn.token;
}

void mbd_slot_stored(struct mbd_slot *s, uint32_t n)
{
    for (uint32_t i = n < MB_KV_BLOCK ? 0 : n - MB_KV_BLOCK; i < n; i++) {
        uint32_t position = s->n_stored + i;
        s->recent[position % MB_KV_BLOCK] = mbd_slot_token(s, position);
    }
    s->n_stored += n;
}

const uint32_t *mbd_slot_block(const struct mbd_slot *s, uint32_t block)
{
    uint32_t end = (block + 1) * MB_KV_BLOCK;
    assert(end <= s->n_stored);
    if (end <= s->n_prompt) {
        return mbd_request_prompt(s->request) + block * MB_KV_BLOCK;
    }
    assert(s->n_stored < end + MB_KV_BLOCK);
    return s->recent;
}

static bool is_in(const uint64_t *mask, uint32_t token)
{
    return mask[token / 64] >> token % 64 & 1;
}

/* With logits that are all NaN or -inf the sampler draws a token that the mask need not hold: then
 * the first that it does hold, if any. */
static void hold_to(struct mbd_slot *s, const uint64_t *mask)
{
    uint32_t token = s->drawn.token;
    for (uint32_t i = 0; !is_in(mask, token) && i < s->n_vocab; i++) {
        token = i;
    }
    s->drawn.token = token;
}

bool mbd_slot_wants_hidden(const struct mbd_slot *s)
{
    return mbd_request_hidden_sum(s->request) != NULL;
}

void mbd_slot_add_hidden(struct mbd_slot *s, const float *hidden, uint32_t width)
{
    double *sum = mbd_request_hidden_sum(s->request);
    assert(width == mbd_request_params(s->request)->hidden_width);
    for (uint32_t i = 0; i < width; i++) {
        sum[i] += (double) hidden[i];
    }
}

void mbd_slot_draw(struct mbd_slot *s, float *logits)
{
    if (mbd_slot_wants_hidden(s)) {
        return;
    }
    const struct mbd_request_params *p = mbd_request_params(s->request);
    struct mb_constraint *c = mbd_request_constraint(s->request);
    const uint64_t *mask = c ? mb_constraint_mask(c, p->ignore_eos) : NULL;
    if (mask) {
        mb_mask_logits(mask, logits, s->n_vocab);
    }
    mb_sampler_draw(s->sampler, logits, p->want_top, p->want_logprob, &s->drawn);
    if (mask) {
        hold_to(s, mask);
        s->stuck = !mb_constraint_accept(c, s->drawn.token);
    }
}

static bool is_among(const uint32_t *ids, size_t n, uint32_t id)
{
    size_t i = 0;
    while (i < n && ids[i] != id) {
        i++;
    }
    return i < n;
}

static bool ends_sequence(const struct mbd_slot *s)
{
    const struct mbd_request_params *p = mbd_request_params(s->request);
    const uint32_t *eos;
    size_t n = mb_tokenizer_eos(mbd_request_tokenizer(s->request), &eos);
    return is_among(p->stop_ids, p->n_stop_ids, s->drawn.token) ||
           (!p->ignore_eos && is_among(eos, n, s->drawn.token));
}

/* Nothing may follow: the end of the sequence need not be drawn to know it. */
static bool is_complete(const struct mbd_slot *s)
{
    const struct mb_constraint *c = mbd_request_constraint(s->request);
    return c && mb_constraint_is_complete(c);
}

/* What may be shown now that the token is drawn, into s->shown; why it ends, if it does. */
static enum mb_finish show(struct mbd_slot *s, bool is_eos)
{
    struct mb_stops *stops = mbd_request_stops(s->request);
    enum mb_finish finish = MB_FINISH_NONE;
    mb_bytes_clear(&s->decoded);
    mb_bytes_clear(&s->shown);
    if (is_eos) {
        finish = MB_FINISH_STOP;
    } else {
        mb_decoder_push(&s->decoder, s->drawn.token, &s->decoded);
        if (is_complete(s)) {
            finish = MB_FINISH_STOP;
        } else if (s->n_drawn == mbd_request_params(s->request)->max_tokens) {
            finish = MB_FINISH_LENGTH;
        }
    }
    if (finish != MB_FINISH_NONE) {
        mb_decoder_finish(&s->decoder, &s->decoded);
    }
    if (mb_stops_feed(stops, (const char *) s->decoded.at, s->decoded.len, &s->shown)) {
        return MB_FINISH_STOP;
    }
    if (finish != MB_FINISH_NONE) {
        mb_stops_finish(stops, &s->shown);
    }
    return finish;
}

static void observe(struct mbd_slot *s, uint64_t now_ns, struct mbd_metrics *metrics)
{
    if (s->n_drawn == 1) {
        mbd_request_first_token(s->request, now_ns);
        mbd_metrics_observe(metrics, MBD_TIME_TO_FIRST_TOKEN, now_ns - s->last_ns);
    } else {
        mbd_metrics_observe(metrics, MBD_TIME_BETWEEN_TOKENS, now_ns - s->last_ns);
    }
    s->last_ns = now_ns;
}

void mbd_slot_score(struct mbd_slot *s, uint32_t position, const float *logits)
{
    struct mbd_prompt_score *scores = mbd_request_scores_to_fill(s->request);
    uint32_t next = position + 1;
    if (next >= s->n_prompt) {
        return;
    }
    struct mb_sampled said;
    uint32_t want_top = mbd_request_params(s->request)->want_top;
    mb_sampler_score(s->sampler, logits, mbd_request_prompt(s->request)[next], want_top, &said);
    scores[next].logprob = said.logprob;
    scores[next].n_top = said.n_top;
    memcpy(scores[next].top, said.top, said.n_top * sizeof said.top[0]);
}

bool mbd_slot_scores(const struct mbd_slot *s)
{
    return s->n_stored < s->n_prompt && mbd_request_scores_to_fill(s->request) != NULL;
}

enum mb_finish mbd_slot_tell(struct mbd_slot *s, uint64_t now_ns, struct mbd_metrics *metrics)
{
    if (mbd_request_params(s->request)->max_tokens == 0) { /* the scores were all it wanted */
        mbd_request_first_token(s->request, now_ns);
        return MB_FINISH_LENGTH;
    }
    s->n_drawn++;
    observe(s, now_ns, metrics);
    if (mbd_slot_wants_hidden(s)) {
        return MB_FINISH_STOP; /* the reader finds the sum at the end */
    }
    bool is_eos = ends_sequence(s);
    enum mb_finish finish = show(s, is_eos);
    struct mbd_event e = {
        .state = MBD_REQUEST_DECODE,
        .has_token = !is_eos,
        .text = (const char *) s->shown.at,
        .n_text = (uint32_t) s->shown.len,
    };
    if (!is_eos) {
        e.token = s->drawn.token;
        e.logprob = s->drawn.logprob;
        e.n_top = s->drawn.n_top;
        for (uint32_t i = 0; i < e.n_top; i++) {
            e.top[i] = s->drawn.top[i];
        }
    }
    mbd_metrics_add(metrics, MBD_GENERATION_TOKENS, 1);
    mbd_request_tell(s->request, &e);
    return finish;
}

void mbd_slot_end(struct mbd_slot *s, enum mbd_request_state state, enum mb_finish finish,
                  enum mb_status status, uint64_t now_ns)
{
    struct mbd_request *r = s->request;
    s->request = NULL;
    mbd_request_end(r, state, finish, status, now_ns);
    mbd_request_unref(r);
}
