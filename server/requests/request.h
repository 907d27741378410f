/* A generation request once it is no longer HTTP: one prompt, one sequence of tokens. Its
 * states are in request_state.h; what the engine does to it is in request_engine.h.
 *
 * Threads: two touch a request. The control thread makes it, submits it, reads its events, may
 *          cancel it, and drops it. The engine thread moves its state and writes its events.
 *          They meet in the event ring (one writer, one reader), in the cancel and starving
 *          flags, and in the reference count; nothing else is shared. Unless another thread is
 *          named, functions here are the control thread's.
 * Memory:  everything is allocated at _new: the prompt, the stops, the ring, and room for the
 *          event that is being read; MBD_REQUEST_BYTES beyond the prompt. A reader that does
 *          not keep up fills its ring; its sequence then waits (it keeps its slot and is not
 *          planned) and nobody else notices. */
#ifndef MBD_REQUEST_H
#define MBD_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "core/infer/sample.h"
#include "core/tokenizer/tokenizer.h"
#include "proto/completion.h"
#include "proto/status.h"
#include "server/requests/request_state.h"

/* Bounds of a request. An event's text is at most what a stop string held back
 * (MB_STOP_BYTES_MAX) and one token's bytes, each of which may become a U+FFFD: tokens of up to
 * MBD_TOKEN_BYTES_MAX bytes. Real vocabularies stay below 300. */
#define MBD_EVENT_RING_BYTES   (32u << 10) /* about a thousand tokens that nobody reads */
#define MBD_EVENT_TEXT_MAX     (4u << 10)
#define MBD_REQUEST_SALT_BYTES 32
#define MBD_TOKEN_BYTES_MAX    ((MBD_EVENT_TEXT_MAX - MB_STOP_BYTES_MAX) / 3 - 8)
#define MBD_REQUEST_BYTES      (MBD_EVENT_RING_BYTES + (48u << 10))

/* What the engine tells of a request. Text never ends inside a character, and never holds a
 * stop string or what might become one. A DECODE event is one token that was drawn: it tells the
 * token, whose text may still be held back. The end-of-sequence that ends it counts so, too, but is
 * not told: its event has at most text that was held back. The last event has a final state, no
 * token and no text. */
struct mbd_event {
    enum mbd_request_state state;
    enum mb_finish finish; /* with DONE */
    enum mb_status status; /* with FAILED */
    bool has_token;
    uint32_t token;
    float logprob;
    uint32_t n_top;
    struct mb_logprob top[MB_CHAT_LOGPROBS_MAX];
    const char *text; /* n_text bytes, not terminated; valid until the next mbd_request_next */
    uint32_t n_text;  /* at most MBD_EVENT_TEXT_MAX */
};

/* Timestamps of mbd_now_ns, 0 for not yet; written by the engine before the event that lets the
 * reader know. */
struct mbd_request_times {
    uint64_t submitted, scheduled, first_token, finished;
};

struct mb_constraint;
struct mbd_epoch;
struct mbd_request;

/* How likely a token of the prompt was after those before it; of the first nothing is known. */
struct mbd_prompt_score {
    float logprob;
    uint32_t n_top;
    struct mb_logprob top[MB_COMPLETION_LOGPROBS_MAX];
};

struct mbd_request_params {
    uint32_t tenant; /* whose it is, below MBD_TENANTS_MAX; 0: nobody's in particular */
    bool low;        /* it may wait for others */
    uint8_t salt[MBD_REQUEST_SALT_BYTES]; /* only who has the same shares its prefixes */
    struct mb_sampling sampling;          /* bias is copied; late is the request's own affair */
    uint32_t max_tokens;                  /* 0: only the prompt is read, for its scores */
    uint32_t min_tokens;                  /* before these, nothing ends the sequence */
    bool ignore_eos;
    bool want_logprob;
    uint32_t want_top;
    bool want_prompt_scores;            /* with want_top <= MB_COMPLETION_LOGPROBS_MAX */
    uint32_t stop_ids[MB_STOP_IDS_MAX]; /* tokens that end it as its end of sequence does */
    size_t n_stop_ids;
    const char *stop[MB_STOPS_MAX]; /* UTF-8; copied */
    size_t n_stop_bytes[MB_STOPS_MAX];
    size_t n_stops;
    /* D of the model: the sum of the prompt's last hidden states is wanted, and no token; 0: not. */
    uint32_t hidden_width;
};

/* Copies prompt (n_prompt >= 1 ids) and params; borrows tokenizer for life. Starts QUEUED, with
 * one reference, the caller's.
 * Errors: MB_E_NOMEM; MB_E_INVALID for no prompt, nothing to do, or a stop, top or number
 *         of stops out of bounds. */
enum mb_status mbd_request_new(const struct mb_tokenizer *tokenizer, const uint32_t *prompt,
                               uint32_t n_prompt, const struct mbd_request_params *params,
                               struct mbd_request **ret, struct mb_error *err);
/* Once the request is DONE: the sum over the prompt's tokens, [hidden_width]; else NULL. */
const double *mbd_request_hidden(const struct mbd_request *r);
/* Before submission, once: the weights that it runs on. It holds them until it has ended, and no
 * longer (S2, J1): from then on nothing in it leads to them. */
void mbd_request_use(struct mbd_request *r, struct mbd_epoch *e);
/* Before submission: the text is held to c, which the request takes over. Whatever the logits, tokens
 * outside of its mask have no chance, and log probabilities are of what is left. The request ends with
 * STOP as soon as nothing may follow. */
void mbd_request_constrain(struct mbd_request *r, struct mb_constraint *c);
struct mbd_request *mbd_request_ref(struct mbd_request *r); /* any thread */
void mbd_request_unref(struct mbd_request *r);              /* any thread; NULL is allowed */

/* The next event, or false when there is none yet. After an event with a final
 * state there are no more. */
bool mbd_request_next(struct mbd_request *r, struct mbd_event *ret);
/* In any state, any number of times: the engine gives slot and blocks back within one step and
 * posts CANCELLED (or what the request had become meanwhile). Who drops the last reference but
 * the engine's without cancelling, cancels too, but rings no bell: a request that runs ends before
 * the next step, one that waits when the queue is next looked through or it gets a slot. */
void mbd_request_cancel(struct mbd_request *r);
struct mbd_request_times mbd_request_times(const struct mbd_request *r); /* any thread */
uint32_t mbd_request_prompt_tokens(const struct mbd_request *r);
/* Of these, those that were not computed but shared; known once an event was read. */
uint32_t mbd_request_cached_tokens(const struct mbd_request *r);
/* [prompt tokens], when they were wanted; whole once an event was read that is DECODE or DONE. */
const struct mbd_prompt_score *mbd_request_scores(const struct mbd_request *r);

#endif
