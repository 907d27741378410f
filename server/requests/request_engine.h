/* The engine's side of a request: its states, its events, its times.
 *
 * Threads: the engine's, but for mbd_request_attach. */
#ifndef MBD_REQUEST_ENGINE_H
#define MBD_REQUEST_ENGINE_H

#include "server/requests/bell.h"
#include "server/requests/request.h"

struct mb_constraint;
struct mb_model;
struct mb_stops;

/* Control thread, once, at submission: the bell that wakes the engine when the request is
 * cancelled or its reader made the room that its sequence waits for. Takes a reference on
 * bell. */
void mbd_request_attach(struct mbd_request *r, struct mbd_bell *bell, uint64_t now_ns);
/* Control thread: undoes attach for a request that was refused after all. */
void mbd_request_detach(struct mbd_request *r);

/* The weights of its epoch; NULL once it ended. The control thread asks before submission. */
const struct mb_model *mbd_request_model(const struct mbd_request *r);
const uint32_t *mbd_request_prompt(const struct mbd_request *r);
const struct mb_tokenizer *mbd_request_tokenizer(const struct mbd_request *r);
struct mb_stops *mbd_request_stops(struct mbd_request *r);
/* NULL, or where the hidden states of the prompt are added up, in the order of positions: [hidden_width]. */
double *mbd_request_hidden_sum(struct mbd_request *r);
struct mb_constraint *mbd_request_constraint(struct mbd_request *r); /* NULL: none */
/* But for stop, which points nowhere now. */
const struct mbd_request_params *mbd_request_params(const struct mbd_request *r);
/* [prompt tokens], or NULL when nobody wants them. All are filled before the first event. */
struct mbd_prompt_score *mbd_request_scores_to_fill(struct mbd_request *r);
enum mbd_request_state mbd_request_state(const struct mbd_request *r);
/* Or dropped by everybody but the caller, who holds one reference. */
bool mbd_request_is_cancelled(const struct mbd_request *r);

/* Does any event fit now? When not, the reader rings the bell once it made room. */
bool mbd_request_may_tell(struct mbd_request *r);

/* Before the first event: so many tokens of the prompt are shared. */
void mbd_request_set_cached(struct mbd_request *r, uint32_t n);

/* QUEUED -> PREFILL -> DECODE; asserts that the table allows it. */
void mbd_request_schedule(struct mbd_request *r, uint64_t now_ns);
void mbd_request_first_token(struct mbd_request *r, uint64_t now_ns);
/* Tells an event of state DECODE. The caller has asked mbd_request_may_tell since the last
 * one. */
void mbd_request_tell(struct mbd_request *r, const struct mbd_event *e);
/* Lets its epoch go, enters a final state and tells it; there is always room for that. finish is for DONE, status
 * for FAILED. */
void mbd_request_end(struct mbd_request *r, enum mbd_request_state s, enum mb_finish finish,
                     enum mb_status status, uint64_t now_ns);

#endif
