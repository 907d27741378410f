/* One completion that runs, and all of them. Private to the routes.
 *
 * A completion has prompts, and for each of them several choices: sequences of the engine,
 * each a request of its own.
 *
 * Threads: the control thread. */
#ifndef MBD_COMPLETION_H
#define MBD_COMPLETION_H

#include "proto/json/chat_json.h"
#include "proto/json/tool_calls_json.h"
#include "server/access/limiter.h"
#include "server/http/exchange.h"
#include "server/http/routes/completions.h"

#define MBD_RETRY_DRAINING 5 /* seconds; by then a load balancer knows of another replica */
#define MBD_RETRY_FULL     1 /* seconds; a slot is seldom held for less */

/* Memory that requests with a response_format may come to use, together: some hundred of
 * them. */
#define MBD_CONSTRAINT_BYTES_MAX ((size_t) 2 << 30)

struct mbd_choice {
    struct mbd_request *request; /* NULL when there is no token to make */
    const struct mb_ids *prompt;
    uint32_t index; /* on the wire */
    bool echoed;    /* the prompt's text and tokens are part of it already */
    bool ended;
    struct mbd_event last; /* the final one, once it ended */
    uint32_t n_drawn;      /* tokens, with the end of the sequence */
    double logprob_sum;    /* of those that were told */
    uint32_t n_told;
    struct mb_bytes text;         /* of a whole reply; of a stream what may be part of a call */
    struct mb_wire_token *tokens; /* of a whole reply, with logprobs */
    size_t n_tokens, tokens_cap;
    struct mb_ids ids;               /* of a whole reply, when they are wanted */
    uint32_t offset;                 /* characters before the next token */
    size_t n_sent;                   /* bytes of text that left in a stream */
    struct mb_wire_tool_call *calls; /* once it ended */
    size_t n_calls;
};

/* It outlives its exchange when the client left: the engine still has to say that it is
 * over. */
struct mbd_completion {
    struct mbd_key *key; /* a reference, or NULL */
    struct mbd_completions *owner;
    struct mbd_completion *next, *prev;
    struct mbd_exchange *exchange; /* NULL once it ended */
    const struct mbd_base *base;
    char model[MB_MODEL_NAME_MAX + 1]; /* what the client calls it, */
    char epoch[MBD_EPOCH_ID_MAX + 1];  /* and what it was at admission (S2) */
    char fingerprint[MBD_FINGERPRINT_MAX + 1];
    struct mb_completion asked; /* what of it the answer needs */
    struct mb_ids *prompts;     /* [n_prompts] */
    size_t n_prompts;
    size_t n_each;              /* choices of a prompt that run: n, or best_of */
    struct mbd_choice *choices; /* [n_prompts][n_each] */
    size_t n_choices, n_running;
    bool late; /* the time limit passed: all are cancelled, and that is their end */
    bool no_memory;
    struct mbd_timer *limit;     /* of time; NULL without one */
    enum mb_call_form call_form; /* in which calls of tools are looked for */

    char id[40]; /* "cmpl-" or "chatcmpl-" and the exchange's */
    char client_id[MBD_CLIENT_ID_MAX + 1];
    int64_t created;
    uint64_t began_ns;
    uint64_t spoke_ns; /* when the stream last had something to say */
    struct mb_usage usage;
    size_t constraint_bytes; /* that are counted in owner */
};

struct mbd_admission;

struct mbd_completions {
    struct mbd_service *service;
    struct mbd_completion *first;
    size_t n;
    size_t constraint_bytes;             /* of those that are held to a format, together */
    struct mbd_timer *ping;              /* while there are any */
    struct mbd_admission *first_pending; /* whose prompts are being tokenized */
};

/* Starts to answer x with what the engine, which has c's requests, will tell. */
void mbd_completion_begin(struct mbd_completion *c, struct mbd_exchange *x);
/* Starts the clock of asked.time_limit. Errors: MB_E_NOMEM. */
enum mb_status mbd_completion_set_limit(struct mbd_completion *c, struct mb_error *err);
/* Answers x at once, when no choice has a request: no token, and the echo if it is wanted. c is
 * freed. */
void mbd_completion_of_nothing(struct mbd_completion *c, struct mbd_exchange *x);
void mbd_completion_free(struct mbd_completion *c); /* of one that did not begin */
void mbd_completion_cancel(struct mbd_completion *c);

/* ---- choices ----------------------------------------------------------------------------- */

/* Adds what an event tells to a choice of a whole reply; false when memory is refused. */
bool mbd_choice_gather(struct mbd_completion *c, struct mbd_choice *k,
                       const struct mbd_event *e);
/* Sends it, when it is a stream's. */
void mbd_choice_stream(struct mbd_completion *c, struct mbd_choice *k,
                       const struct mbd_event *e);
/* The first chunk of a stream: the role of a chat, the echo of a completion when its tokens
 * need not be scored first. */
void mbd_choice_begin_stream(struct mbd_completion *c, struct mbd_choice *k);
/* The last: what was held back, calls, and why it ended. */
void mbd_choice_end_stream(struct mbd_completion *c, struct mbd_choice *k);
/* The echo of a choice that tells nothing else; false when memory is refused. */
bool mbd_choice_echo(struct mbd_completion *c, struct mbd_choice *k);
/* Takes calls of tools out of its text, at its end; false when memory is refused. */
bool mbd_choice_take_calls(struct mbd_completion *c, struct mbd_choice *k);
/* As the wire shows it whole. */
struct mb_wire_choice mbd_choice_wire(const struct mbd_completion *c,
                                      const struct mbd_choice *k);
void mbd_choice_fini(struct mbd_choice *k);

/* Puts a chunk of choices, or of none and the usage, into the stream. */
void mbd_completion_put_chunk(struct mbd_completion *c, const struct mb_wire_choice *choice,
                              const struct mb_usage *usage);

#endif
