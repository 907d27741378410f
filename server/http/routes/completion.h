/* One completion that runs, and all of them. Private to the routes.
 *
 * Threads: the control thread. */
#ifndef MBD_COMPLETION_H
#define MBD_COMPLETION_H

#include "proto/json/completion_json.h"
#include "server/http/exchange.h"
#include "server/http/routes/completions.h"

#define MBD_ID_PREFIX      "cmpl-"
#define MBD_RETRY_DRAINING 5 /* seconds; by then a load balancer knows of another replica */
#define MBD_RETRY_FULL     1 /* seconds; a slot is seldom held for less */

/* Memory that requests with a response_format may come to use, together: some hundred of them. */
#define MBD_CONSTRAINT_BYTES_MAX ((size_t) 2 << 30)

/* One request that runs. It outlives its exchange when the client left: the engine still has to
 * say that it is over. */
struct mbd_completion {
    struct mbd_completions *owner;
    struct mbd_completion *next, *prev;
    struct mbd_exchange *exchange; /* NULL once it ended */
    struct mbd_request *request;   /* NULL when there is no token to make */
    const struct mbd_entry *model;

    char id[32]; /* "cmpl-" and the exchange's */
    char client_id[MBD_CLIENT_ID_MAX + 1];
    int64_t created;
    bool stream, include_usage, has_logprobs;
    uint64_t began_ns;
    uint64_t spoke_ns; /* when the stream last had something to say */

    struct mb_bytes text;         /* of the whole reply; of a stream: the echoed prompt, once */
    struct mb_wire_token *tokens; /* of the whole reply, with logprobs */
    size_t n_tokens, tokens_cap;
    uint32_t offset; /* characters before the next token */
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

/* Starts to answer x with what the engine, which has c's request, will tell. */
void mbd_completion_begin(struct mbd_completion *c, struct mbd_exchange *x);
/* Answers x at once, for max_tokens 0: no token, and the echo if it is wanted. c is freed. */
void mbd_completion_of_nothing(struct mbd_completion *c, struct mbd_exchange *x);
void mbd_completion_free(struct mbd_completion *c); /* of one that did not begin */

/* Characters of UTF-8 text: its bytes but those that go on with one. */
uint32_t mbd_characters(const char *text, size_t n);

#endif
