/* Requests to a daemon and their answers, over libcurl: as many at once as are started, in one
 * thread.
 *
 * Life:    mbc_transport_new -> mbc_transport_start, any number -> mbc_transport_turn until done
 *          was called for each -> free. mbc_transport_ask is that for one request.
 * Bound:   an answer that is no stream holds at most MBC_BODY_MAX bytes, an event of a stream
 *          MBC_EVENT_MAX.
 * Threads: one thread at a time per object; mbc_transport_setup once, before any. */
#ifndef MBC_TRANSPORT_H
#define MBC_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/http/host.h"
#include "clients/http/sse.h"
#include "core/base/bytes.h"
#include "proto/status.h"

#define MBC_BODY_MAX  (64u << 20) /* a completion of a million tokens, with what is around it */
#define MBC_EVENT_MAX (4u << 20)  /* one token with its alternatives is some kilobytes */

struct mbc_transport;
struct mbc_call; /* a request on its way */

/* A part of an answer's body; false ends the call, which is then MBC_FAILURE_LEFT. */
typedef bool mbc_body_fn(void *self, const void *at, size_t n);

struct mbc_request {
    const char *path; /* "/v1/models" */
    const char *json; /* n_json bytes to POST; NULL: GET. Copied. */
    size_t n_json;
    bool remove;             /* DELETE, when there is no json */
    const char *upload;      /* a file to POST as a form, for fine-tuning, instead of json */
    bool stream;             /* ask for events, and tell them to event */
    mbc_sse_event_fn *event; /* never called when the answer is no stream */
    mbc_body_fn *body;       /* told what comes with status 200, instead of gathering it */
    uint32_t timeout_ms;     /* for the whole answer; 0: none */
};

/* What went wrong, where no status of HTTP says so. */
enum mbc_failure {
    MBC_FAILURE_NONE,
    MBC_FAILURE_CONNECT, /* nobody listens there */
    MBC_FAILURE_TIMEOUT,
    MBC_FAILURE_CUT,      /* the connection ended before the answer did */
    MBC_FAILURE_PROTOCOL, /* what came is no HTTP, or beyond a bound */
    MBC_FAILURE_LEFT,     /* event said false, or the caller gave up */
    MBC_FAILURES
};
const char *mbc_failure_name(enum mbc_failure f); /* "connect", ... for people and programs */

struct mbc_reply {
    enum mbc_failure failure;
    int status;             /* of HTTP; 0 before one came */
    bool is_stream;         /* it was told as events; body is empty */
    struct mb_bytes body;   /* of anything else */
    uint32_t retry_after_s; /* 0: not said */
};
void mbc_reply_fini(struct mbc_reply *r);

/* Once, when the call has ended: st is MB_OK when an answer came whole, whatever its status; else
 * err says what happened. reply is lent for the time of the call. */
typedef void mbc_done_fn(void *self, enum mb_status st, struct mbc_reply *reply,
                         const struct mb_error *err);

enum mb_status mbc_transport_setup(struct mb_error *err);

/* keep_on is asked several times a second while mbc_transport_ask waits; NULL is always yes. */
enum mb_status mbc_transport_new(const struct mbc_host *host, bool (*keep_on)(void),
                                 struct mbc_transport **ret, struct mb_error *err);
/* Requests from now on go there; none may be under way. */
void mbc_transport_retarget(struct mbc_transport *t, const struct mbc_host *host);
void mbc_transport_free(struct mbc_transport *t); /* calls under way are dropped, untold */

/* *ret is valid until done is called, and may be NULL when nobody wants it. */
enum mb_status mbc_transport_start(struct mbc_transport *t, const struct mbc_request *r,
                                   mbc_done_fn *done, void *self, struct mbc_call **ret,
                                   struct mb_error *err);

/* Ends a call, or all of them: done is not called. */
void mbc_transport_drop(struct mbc_transport *t, struct mbc_call *c);
void mbc_transport_drop_all(struct mbc_transport *t);

/* Sends and reads what there is, waiting up to wait_ms for some. Tells events and ends. */
enum mb_status mbc_transport_turn(struct mbc_transport *t, uint32_t wait_ms,
                                  struct mb_error *err);

/* One request, to its end. *ret is filled also on errors, and is the caller's to fini.
 * Errors: MB_E_IO when no whole answer came; MB_E_CANCELLED when keep_on or event said false;
 * MB_E_LIMIT, MB_E_NOMEM. */
enum mb_status mbc_transport_ask(struct mbc_transport *t, const struct mbc_request *r,
                                 void *self, struct mbc_reply *ret, struct mb_error *err);

#endif
