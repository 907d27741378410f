/* A generation request once it is no longer HTTP: one prompt, one sequence of tokens.
 *
 *     QUEUED ----> PREFILL ----> DECODE ----> DONE
 *        |            |             |
 *        +------------+-------------+-------> CANCELLED   the client left, or a drain ended
 *        |            |             |
 *        +------------+-------------+-------> FAILED      an mb_status other than MB_OK
 *
 * QUEUED   holds a place in the queue and the prompt; no slot and no KV block.
 * PREFILL  holds a slot and KV blocks; no token has been sent.
 * DECODE   as PREFILL, and at least one token was sent: an error is now an event inside the stream.
 * The last three are final: slot and blocks are given back on the way in (J1).
 *
 * Threads: two touch a request. The control thread makes it, submits it, reads its events, may
 *          cancel it, and drops it. The engine thread moves its state and writes its events. They
 *          meet in the event ring (one writer, one reader), in the cancel flag, and in the
 *          reference count; nothing else is shared.
 * Memory:  everything is allocated at _new: prompt, ring (EVENT_RING_BYTES), penalties' counts.
 *          A reader that does not keep up fills its ring; its sequence then waits (it keeps its
 *          slot and is not planned) and nobody else notices. */
#ifndef MBD_REQUEST_H
#define MBD_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "core/infer/sample.h"
#include "core/tokenizer/tokenizer.h"
#include "proto/completion.h"
#include "proto/status.h"

enum mbd_request_state {
    MBD_REQUEST_QUEUED,
    MBD_REQUEST_PREFILL,
    MBD_REQUEST_DECODE,
    MBD_REQUEST_DONE,
    MBD_REQUEST_CANCELLED,
    MBD_REQUEST_FAILED,
    MBD_REQUEST_STATES
};
bool mbd_request_state_may(enum mbd_request_state from, enum mbd_request_state to);
bool mbd_request_state_is_final(enum mbd_request_state s);
const char *mbd_request_state_name(enum mbd_request_state s);

/* What the engine tells of a request. Text never ends inside a character, and never holds a stop
 * string or what might become one. An event may carry a token with no text yet. */
struct mbd_event {
    enum mbd_request_state state; /* DECODE for a token, or a final state: the last event */
    enum mb_finish finish;        /* with DONE */
    enum mb_status status;        /* with FAILED */
    bool has_token;
    uint32_t token;
    float logprob;
    uint32_t n_top;
    struct mb_logprob top[MB_COMPLETION_LOGPROBS_MAX];
    const char *text; /* n_text bytes; valid until the next mbd_request_next */
    uint32_t n_text;
};

/* Timestamps in nanoseconds of the monotonic clock, 0 for not yet; written by the engine before
 * the event that lets the reader know. */
struct mbd_request_times {
    uint64_t submitted, scheduled, first_token, finished;
};

struct mbd_request;

struct mbd_request_params {
    struct mb_sampling sampling;
    uint32_t max_tokens; /* >= 1 */
    bool ignore_eos;
    bool want_logprob;
    uint32_t want_top;
    const char *stop[MB_STOPS_MAX]; /* copied */
    size_t n_stop_bytes[MB_STOPS_MAX];
    size_t n_stops;
};

/* Copies prompt (n_prompt >= 1 ids) and params. Starts with one reference, the caller's.
 * Errors: MB_E_NOMEM, MB_E_INVALID. */
enum mb_status mbd_request_new(const struct mb_tokenizer *tokenizer, const uint32_t *prompt,
                               uint32_t n_prompt, const struct mbd_request_params *params,
                               struct mbd_request **ret, struct mb_error *err);
struct mbd_request *mbd_request_ref(struct mbd_request *r);
void mbd_request_unref(struct mbd_request *r); /* NULL is allowed */

/* Control thread: the next event, or false when there is none yet. After an event with a final
 * state there are no more. */
bool mbd_request_next(struct mbd_request *r, struct mbd_event *ret);
/* Control thread, any state, any number of times: the engine gives slot and blocks back within
 * one step and posts CANCELLED. */
void mbd_request_cancel(struct mbd_request *r);
struct mbd_request_times mbd_request_times(const struct mbd_request *r);
uint32_t mbd_request_prompt_tokens(const struct mbd_request *r);

/* For the control thread to find its own object again. */
void mbd_request_set_owner(struct mbd_request *r, void *owner);
void *mbd_request_owner(const struct mbd_request *r);

#endif
