/* One HTTP request and its answer. A route's handler reads the request and answers at once, or
 * says that it waits and answers later, from anywhere on the control thread.
 *
 *     READING -----> HANDLING -----> ANSWERED -----> ended
 *                        |              ^
 *                        +-> WAITING ---+
 *
 * The connection of a waiting exchange, and of a stream with nothing to send, is suspended:
 * libmicrohttpd then neither notices that its client left nor times it out, so the connection
 * (connection.h) watches the socket, and ends the exchange when the client is gone.
 *
 * Life:    the listener's; it is gone after its on_end ran. Threads: the control thread. */
#ifndef MBD_EXCHANGE_H
#define MBD_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/bytes.h"
#include "proto/wire_error.h"
#include "server/http/service.h"

#define MBD_CLIENT_ID_MAX 64

struct mbd_exchange;
struct mbd_key;

/* ---- the request ------------------------------------------------------------------------- */

struct mbd_service *mbd_exchange_service(const struct mbd_exchange *x);
/* 16 hexadecimal digits of our own making: names the exchange in the log and in replies. */
const char *mbd_exchange_id(const struct mbd_exchange *x);
/* The X-Request-Id that the client sent, when it is short and plain; else "". It is echoed and
 * logged, and never a key of anything. */
const char *mbd_exchange_client_id(const struct mbd_exchange *x);
/* What the path has beyond a route that matches prefixes: "name" of "/v1/models/name". */
const char *mbd_exchange_tail(const struct mbd_exchange *x);
/* The key it came with, borrowed for the time of the exchange; NULL: none was needed. */
struct mbd_key *mbd_exchange_key(const struct mbd_exchange *x);
const struct mb_bytes *mbd_exchange_body(const struct mbd_exchange *x);
/* A header of the request, or a value behind the '?' of its path; NULL when there is none. Borrowed
 * for the exchange's life. */
const char *mbd_exchange_header(const struct mbd_exchange *x, const char *name);
const char *mbd_exchange_query(const struct mbd_exchange *x, const char *name);
/* What a route for uploads got; the exchange's. */
struct mbd_upload *mbd_exchange_upload(const struct mbd_exchange *x);
void mbd_exchange_drop_body(struct mbd_exchange *x); /* once it was read, before waiting */
uint64_t mbd_exchange_began_ns(const struct mbd_exchange *x);

/* The epoch that makes the answer: told in its header, whatever the answer is. Before it is given. */
void mbd_exchange_set_epoch(struct mbd_exchange *x, const char *id);

/* ---- the answer: exactly one of these, once ---------------------------------------------- */

/* Takes text (malloc'ed, terminated); NULL, for memory that was refused, answers 503. */
void mbd_reply_json(struct mbd_exchange *x, int status, char *text);
/* Takes what text holds, and leaves it empty. */
void mbd_reply_bytes(struct mbd_exchange *x, int status, const char *content_type,
                     struct mb_bytes *text);
/* The n bytes at at, which stay until release was called with arg: once, also when this fails. */
void mbd_reply_memory(struct mbd_exchange *x, const void *at, uint64_t n, const char *name,
                      void (*release)(void *arg), void *arg);
/* The n bytes of the file fd, which this closes; name is what a browser should call it. */
void mbd_reply_file(struct mbd_exchange *x, int fd, uint64_t n, const char *name);
/* retry_after in seconds; 0: no such header. */
void mbd_reply_error(struct mbd_exchange *x, const struct mb_wire_error *e,
                     unsigned retry_after);

/* ---- an answer that takes its time ------------------------------------------------------- */

/* The handler returns without an answer, which follows. May be said again. */
void mbd_exchange_wait(struct mbd_exchange *x);
/* fn is called when the exchange ends, however it does: the answer was sent whole, or the
 * client left. fn NULL takes it back. */
void mbd_exchange_on_end(struct mbd_exchange *x, void (*fn)(void *arg), void *arg);

/* ---- a stream of events ------------------------------------------------------------------ */

/* Answers 200 with server-sent events. more is called when all that was put is on its way and
 * the connection would fall asleep: it may put more. */
void mbd_reply_stream(struct mbd_exchange *x, void (*more)(void *arg), void *arg);
void mbd_stream_put(struct mbd_exchange *x, const char *json); /* "data: json" */
/* The same behind "id: id", by which a client that comes again says where it was. */
void mbd_stream_put_id(struct mbd_exchange *x, const char *id, const char *json);
void mbd_stream_ping(struct mbd_exchange *x); /* a comment */
/* The last event is out; with done, after "data: [DONE]". */
void mbd_stream_end(struct mbd_exchange *x, bool done);
/* Bytes that were put and that the connection has not taken: a slow reader's measure. */
size_t mbd_stream_pending(const struct mbd_exchange *x);

/* ---- for the log ------------------------------------------------------------------------- */

/* The route writes its own line; else the exchange does, when it ends. */
void mbd_exchange_logged(struct mbd_exchange *x);

#endif
