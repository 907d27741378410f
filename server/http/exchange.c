#include "server/http/exchange.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#include "proto/json/error_json.h"
#include "server/access/limiter.h"
#include "server/clock.h"
#include "server/http/connection.h"
#include "server/http/gate.h"
#include "server/http/router.h"
#include "server/http/sse.h"
#include "server/http/upload.h"
#include "server/store/store.h"

enum {
    ID_DIGITS = 16,
    STREAM_BLOCK = 16 * 1024, /* what libmicrohttpd asks of a stream at a time */
};

enum state { READING, HANDLING, WAITING, ANSWERED };

struct mbd_exchange {
    struct mbd_connection *connection;
    const struct mbd_route *route; /* NULL: there is none */
    struct mbd_key *key;           /* a reference, or NULL */
    bool counted;                  /* as one of the key's requests */
    char *tail;                    /* a copy: libmicrohttpd's goes with the header */
    char id[ID_DIGITS + 1];
    char client_id[MBD_CLIENT_ID_MAX + 1]; /* "" when none was sent that may be echoed */
    char epoch[MBD_EPOCH_ID_MAX + 1];      /* "" when no model answers */
    uint64_t began_ns;
    enum state state;
    bool logged;

    struct mb_bytes body;
    struct mbd_upload *upload; /* of a route for uploads, instead */
    uint64_t paced;            /* bytes of it that came since its deadline was set */
    bool refused;              /* by what follows; the rest of the body is thrown away */
    struct mb_wire_error refusal;
    unsigned retry_after;
    const char *allow, *authenticate; /* headers of the refusal, or NULL */
    char *origin;                     /* of a page that may read the answer; NULL: none asks */

    struct MHD_Response *response; /* until it is queued */
    int status;                    /* 0 until there is an answer */

    struct mb_bytes stream;
    size_t stream_taken; /* bytes of stream that libmicrohttpd has */
    bool stream_ended;
    void (*more)(void *arg);
    void *more_arg;

    void (*on_end)(void *arg);
    void *on_end_arg;
};

/* ---- the request ------------------------------------------------------------------------- */

static struct mbd_listener *listener_of(const struct mbd_exchange *x)
{
    return x->connection->listener;
}

struct mbd_service *mbd_exchange_service(const struct mbd_exchange *x)
{
    return listener_of(x)->service;
}

const char *mbd_exchange_id(const struct mbd_exchange *x)
{
    return x->id;
}

const char *mbd_exchange_tail(const struct mbd_exchange *x)
{
    return x->tail;
}

const struct mb_bytes *mbd_exchange_body(const struct mbd_exchange *x)
{
    return &x->body;
}

struct mbd_key *mbd_exchange_key(const struct mbd_exchange *x)
{
    return x->key;
}

const char *mbd_exchange_client_id(const struct mbd_exchange *x)
{
    return x->client_id;
}

uint64_t mbd_exchange_began_ns(const struct mbd_exchange *x)
{
    return x->began_ns;
}

struct mbd_upload *mbd_exchange_upload(const struct mbd_exchange *x)
{
    return x->upload;
}

const char *mbd_exchange_header(const struct mbd_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection->mhd, MHD_HEADER_KIND, name);
}

const char *mbd_exchange_query(const struct mbd_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection->mhd, MHD_GET_ARGUMENT_KIND, name);
}

void mbd_exchange_set_epoch(struct mbd_exchange *x, const char *id)
{
    assert(x->state == HANDLING || x->state == WAITING);
    (void) snprintf(x->epoch, sizeof x->epoch, "%s", id);
}

void mbd_exchange_drop_body(struct mbd_exchange *x)
{
    listener_of(x)->body_bytes -= x->body.cap;
    mb_bytes_fini(&x->body);
}

static void refuse(struct mbd_exchange *x, int http, const char *code, const char *what)
{
    x->refused = true;
    mb_wire_error_fill(&x->refusal, http, code, NULL, "%s", what);
    mbd_exchange_drop_body(x);
}

/* Adds a piece to the body, within the bounds of this one and of all. */
static void gather(struct mbd_exchange *x, const char *at, size_t n)
{
    const struct mbd_options *o = mbd_exchange_service(x)->options;
    uint64_t *held = &listener_of(x)->body_bytes;
    if (x->refused) {
        return;
    }
    if (n > o->body_max - x->body.len) {
        refuse(x, 413, NULL, "the body is larger than this server accepts (--max-body)");
        return;
    }
    size_t before = x->body.cap;
    mb_bytes_put(&x->body, at, n);
    *held += x->body.cap - before;
    if (x->body.failed || *held > o->body_memory) {
        x->retry_after = 1;
        refuse(x, 503, "overloaded", "too many large requests at once");
    }
}

/* ---- uploads ----------------------------------------------------------------------------- */

static void end_upload(struct mbd_exchange *x)
{
    if (x->upload) {
        mbd_exchange_service(x)->n_uploads--;
        mbd_upload_free(x->upload);
        x->upload = NULL;
    }
}

static void refuse_upload(struct mbd_exchange *x, const struct mb_wire_error *e)
{
    x->refused = true;
    x->refusal = *e;
    x->retry_after = e->http == 503 ? 5 : 0;
    end_upload(x);
}

/* The header of an upload: is there room for it? */
static void begin_upload(struct mbd_exchange *x, unsigned long long n)
{
    struct mbd_service *s = mbd_exchange_service(x);
    struct mb_wire_error e;
    char folder[4096];
    if (!s->store) {
        mb_wire_error_fill(&e, 501, "unsupported", NULL, MBD_NO_STATE);
    } else if (n > s->options->file_bytes_max + MBD_FORM_BYTES) {
        mb_wire_error_fill(&e, 413, NULL, "file",
                           "'file' is larger than this server accepts (--file-bytes-max)");
    } else if (s->draining || s->n_uploads == MBD_UPLOADS_MAX) {
        mb_wire_error_fill(&e, 503, s->draining ? "unavailable" : "overloaded", NULL,
                           s->draining ? "the server is shutting down"
                                       : "too many uploads at once");
    } else {
        (void) snprintf(folder, sizeof folder, "%s/files", mbd_store_folder(s->store));
        if (mbd_upload_new(x->connection->mhd, folder, s->options->file_bytes_max, &x->upload,
                           &e)) {
            s->n_uploads++;
            return;
        }
    }
    refuse_upload(x, &e);
}

/* A large file may take long, if only it keeps coming: each piece of some size has the time that
 * other bodies have as a whole. */
static void gather_upload(struct mbd_exchange *x, const char *at, size_t n)
{
    struct mb_wire_error e;
    if (x->refused) {
        return;
    }
    if (!mbd_upload_feed(x->upload, at, n, &e)) {
        refuse_upload(x, &e);
        return;
    }
    x->paced += n;
    if (x->paced >= MBD_UPLOAD_PACE) {
        x->paced = 0;
        mbd_connection_phase(x->connection, MBD_PHASE_BODY);
    }
}

static bool is_json(const char *content_type)
{
    static const char json[] = "application/json";
    size_t n = sizeof json - 1;
    if (!content_type) {
        return true; /* RFC 9110, 8.3: the recipient may examine the data */
    }
    return strncasecmp(content_type, json, n) == 0 &&
           (content_type[n] == '\0' || content_type[n] == ';' || content_type[n] == ' ');
}

/* An id of the client's is echoed when it is short and plain; it never names anything here. */
static void take_client_id(struct mbd_exchange *x)
{
    const char *id = mbd_exchange_header(x, "X-Request-Id");
    size_t n = id ? strlen(id) : 0;
    if (n == 0 || n > MBD_CLIENT_ID_MAX) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char) id[i]) && !strchr("._-", id[i])) {
            return;
        }
    }
    memcpy(x->client_id, id, n + 1);
}

/* How a body says where it ends, and whom the request is for. */
struct framing {
    unsigned n_lengths, n_codings, n_hosts;
    bool chunked; /* all codings are this one */
};

static enum MHD_Result see_header(void *cls, enum MHD_ValueKind kind, const char *name,
                                  const char *value)
{
    (void) kind;
    struct framing *f = cls;
    if (strcasecmp(name, "Content-Length") == 0) {
        f->n_lengths++;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        f->n_codings++;
        f->chunked = f->chunked && value && strcasecmp(value, "chunked") == 0;
    } else if (strcasecmp(name, "Host") == 0) {
        f->n_hosts++;
    }
    return MHD_YES;
}

/* libmicrohttpd takes the first of two lengths, prefers chunks to a length, and reads a coding it
 * does not know until the client gives up. A proxy before us may have chosen otherwise, and what
 * it took for a body would be somebody's next request here (RFC 9112, 6.1 and 6.3). Nor does it
 * ask for a Host, as it is told not to: its refusal would not be in OpenAI's shape (3.2). */
static bool judge_framing(struct mbd_exchange *x, const char *version)
{
    struct framing f = { .chunked = true };
    (void) MHD_get_connection_values(x->connection->mhd, MHD_HEADER_KIND, see_header, &f);
    if (f.n_lengths + f.n_codings > 1) {
        refuse(x, 400, NULL, "the header says more than once how long the body is");
    } else if (!f.chunked) {
        refuse(x, 501, NULL, "the only transfer coding here is 'chunked'");
    } else if (f.n_hosts > 1 || (f.n_hosts == 0 && strcmp(version, "HTTP/1.1") == 0)) {
        refuse(x, 400, NULL, "the header must have one Host");
    }
    return !x->refused;
}

/* For whom the request is, and which page sends it. */
static bool judge_sender(struct mbd_exchange *x)
{
    const struct mbd_listener *l = listener_of(x);
    const struct mbd_options *o = mbd_exchange_service(x)->options;
    const struct mbd_address *a = l->role == MBD_LISTEN_OPS ? &o->ops_listen : &o->listen;
    struct mbd_gate_refusal why = { 0 };
    const char *origin = NULL;
    if (!mbd_gate_host(x->connection->mhd, o, mbd_address_is_loopback(a), &why) ||
        !mbd_gate_origin(x->connection->mhd, o, &origin, &why)) {
        x->refused = true;
        x->refusal = why.error;
        return false;
    }
    if (origin && !(x->origin = strdup(origin))) {
        refuse(x, 503, "out_of_memory", "no memory for this request");
    }
    return !x->refused;
}

/* A browser asks whether a page may ask. The key is not sent with that. */
static void reply_preflight(struct mbd_exchange *x);
static const struct mbd_route preflight = { "preflight",
                                            "OPTIONS",
                                            "",
                                            MBD_SCOPE_OPEN,
                                            .body = MBD_BODY_NONE,
                                            .handler = reply_preflight };

/* Probes and metrics have no key on the port for operations: whoever may reach it may ask. */
static bool judge_key(struct mbd_exchange *x)
{
    struct mbd_gate_refusal why = { 0 };
    struct mbd_key *key = NULL;
    bool open = x->route->ops && listener_of(x)->role == MBD_LISTEN_OPS;
    if (mbd_gate_key(x->connection->mhd, mbd_exchange_service(x)->keys, x->route, open, &key,
                     &why)) {
        x->key = mbd_key_ref(key);
        return true;
    }
    x->refused = true;
    x->refusal = why.error;
    x->authenticate = why.authenticate;
    return false;
}

/* Only what is work counts, which comes with a body. */
static bool judge_limits(struct mbd_exchange *x)
{
    struct mbd_gate_refusal why;
    if (!x->key || x->route->body == MBD_BODY_NONE) {
        return true;
    }
    x->counted = mbd_gate_begin(x->key, &why);
    if (!x->counted) {
        x->refused = true;
        x->refusal = why.error;
        x->retry_after = why.retry_after;
    }
    return x->counted;
}

/* What can be judged by the header alone. Returns whether a body is to come. */
static bool judge_header(struct mbd_exchange *x, const char *method, const char *path,
                         const char *version)
{
    const char *tail = "";
    const char *length = mbd_exchange_header(x, "Content-Length");
    unsigned long long n = length ? strtoull(length, NULL, 10) : 0;
    bool has_body = n > 0 || mbd_exchange_header(x, "Transfer-Encoding");
    if (!judge_framing(x, version)) {
        return true;
    }
    if (!judge_sender(x)) {
        return has_body;
    }

    if (mbd_listener_has(listener_of(x), path)) {
        x->route = mbd_route_find(method, path, &tail, &x->allow);
    }
    if (x->allow && x->origin && strcmp(method, "OPTIONS") == 0) {
        x->route = &preflight;
    }
    x->tail = strndup(tail, x->route ? mbd_route_tail_length(x->route, tail) : 0);
    if (!x->tail) {
        refuse(x, 503, "out_of_memory", "no memory for this request");
    } else if (!x->route && x->allow) {
        refuse(x, 405, NULL, "this path does not have this method");
    } else if (!x->route) {
        refuse(x, 404, "not_found", "there is no such path here");
    } else if (!judge_key(x) || !judge_limits(x)) {
        return has_body;
    } else if (x->route->body == MBD_BODY_NONE && has_body) {
        refuse(x, 413, NULL, "this path takes no body");
    } else if (x->route->body == MBD_BODY_UPLOAD) {
        begin_upload(x, n);
    } else if (n > mbd_exchange_service(x)->options->body_max) {
        refuse(x, 413, NULL, "the body is larger than this server accepts (--max-body)");
    } else if (x->route->body == MBD_BODY_JSON &&
               !is_json(mbd_exchange_header(x, "Content-Type"))) {
        refuse(x, 415, NULL, "the body must be application/json");
    }
    return has_body;
}

static struct mbd_exchange *exchange_new(struct mbd_connection *c)
{
    struct mbd_exchange *x = calloc(1, sizeof *x);
    uint64_t id;
    if (!x || getrandom(&id, sizeof id, 0) != (ssize_t) sizeof id) {
        free(x);
        return NULL;
    }
    x->connection = c;
    x->began_ns = mbd_now_ns();
    (void) snprintf(x->id, sizeof x->id, "%016llx", (unsigned long long) id);
    take_client_id(x);
    c->listener->n_exchanges++;
    return x;
}

static void exchange_free(struct mbd_exchange *x)
{
    if (x->response) {
        MHD_destroy_response(x->response);
    }
    mbd_exchange_drop_body(x);
    end_upload(x);
    mb_bytes_fini(&x->stream);
    if (x->counted) {
        mbd_key_end(x->key);
    }
    mbd_key_unref(x->key);
    free(x->origin);
    listener_of(x)->n_exchanges--;
    free(x->tail);
    free(x);
}

/* ---- the answer -------------------------------------------------------------------------- */

static const char *route_name(const struct mbd_exchange *x)
{
    return x->route ? x->route->name : "none";
}

/* Headers that every answer has. response NULL: memory was refused; the client is let go. */
static void answer(struct mbd_exchange *x, int status, struct MHD_Response *response,
                   const char *content_type)
{
    assert(x->state == HANDLING || x->state == WAITING);
    bool was_waiting = x->state == WAITING;
    x->state = ANSWERED;
    x->status = status;
    x->response = response;
    if (!response) {
        x->connection->gone = true;
    } else {
        if (content_type) {
            (void) MHD_add_response_header(response, "Content-Type", content_type);
        }
        if (x->key) {
            mbd_gate_show_limits(response, x->key);
        }
        if (x->origin) {
            mbd_gate_let_read(x->connection->mhd, response, x->origin,
                              x->route == &preflight ? x->allow : NULL);
        }
        (void) MHD_add_response_header(response, "X-Request-Id",
                                       x->client_id[0] ? x->client_id : x->id);
        if (x->epoch[0]) {
            (void) MHD_add_response_header(response, "X-Mbool-Epoch", x->epoch);
        }
        if (mbd_exchange_service(x)->draining) {
            (void) MHD_add_response_header(response, "Connection", "close");
        }
        mbd_metrics_http(mbd_exchange_service(x)->metrics, route_name(x), status);
    }
    if (was_waiting) {
        mbd_connection_awake(x->connection);
    }
}

void mbd_reply_json(struct mbd_exchange *x, int status, char *text)
{
    if (!text) {
        struct mb_wire_error e;
        mb_wire_error_fill(&e, 503, "out_of_memory", NULL, "no memory for this reply");
        status = 503;
        text = mb_error_encode(&e);
    }
    struct MHD_Response *r = NULL;
    if (text) {
        r = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    }
    if (!r) {
        free(text);
    }
    answer(x, status, r, "application/json");
}

void mbd_reply_bytes(struct mbd_exchange *x, int status, const char *content_type,
                     struct mb_bytes *text)
{
    struct MHD_Response *r = NULL;
    if (!text->failed) {
        r = MHD_create_response_from_buffer(text->len, text->at, MHD_RESPMEM_MUST_FREE);
    }
    if (r) {
        *text = (struct mb_bytes) { 0 };
    }
    mb_bytes_fini(text);
    answer(x, status, r, content_type);
}

/* What a browser should call the bytes. */
static void name_file(struct MHD_Response *r, const char *name)
{
    char disposition[MB_FILE_NAME_MAX + 32];
    (void) snprintf(disposition, sizeof disposition, "attachment; filename=\"%s\"", name);
    for (char *c = disposition + 22; *c && c[1]; c++) {
        *c = isprint((unsigned char) *c) && *c != '"' && *c != '\\' ? *c : '_';
    }
    (void) MHD_add_response_header(r, "Content-Disposition", disposition);
}

void mbd_reply_file(struct mbd_exchange *x, int fd, uint64_t n, const char *name)
{
    struct MHD_Response *r = MHD_create_response_from_fd64(n, fd);
    if (!r) {
        (void) close(fd);
    } else {
        name_file(r, name);
    }
    answer(x, 200, r, "application/octet-stream");
}

struct lent {
    const uint8_t *at;
    uint64_t n;
    void (*release)(void *arg);
    void *arg;
};

static ssize_t read_lent(void *arg, uint64_t from, char *to, size_t max)
{
    const struct lent *l = arg;
    uint64_t left = l->n - from;
    size_t n = left < max ? (size_t) left : max;
    memcpy(to, l->at + from, n);
    return (ssize_t) n;
}

static void give_back(void *arg)
{
    struct lent *l = arg;
    l->release(l->arg);
    free(l);
}

void mbd_reply_memory(struct mbd_exchange *x, const void *at, uint64_t n, const char *name,
                      void (*release)(void *arg), void *arg)
{
    struct MHD_Response *r = NULL;
    struct lent *l = malloc(sizeof *l);
    if (l) {
        *l = (struct lent) { at, n, release, arg };
        r = MHD_create_response_from_callback(n, STREAM_BLOCK, read_lent, l, give_back);
    }
    if (r) {
        name_file(r, name);
    } else {
        free(l);
        release(arg);
    }
    answer(x, 200, r, "application/octet-stream");
}

void mbd_reply_error(struct mbd_exchange *x, const struct mb_wire_error *e,
                     unsigned retry_after)
{
    mbd_reply_json(x, e->http, mb_error_encode(e));
    if (x->response && retry_after > 0) {
        char seconds[16];
        (void) snprintf(seconds, sizeof seconds, "%u", retry_after);
        (void) MHD_add_response_header(x->response, "Retry-After", seconds);
    }
}

static void reply_preflight(struct mbd_exchange *x)
{
    answer(x, 204, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), NULL);
}

static void reply_refusal(struct mbd_exchange *x, bool close)
{
    x->state = HANDLING;
    mbd_reply_error(x, &x->refusal, x->retry_after);
    if (x->response && x->allow) {
        (void) MHD_add_response_header(x->response, "Allow", x->allow);
    }
    if (x->response && x->authenticate) {
        (void) MHD_add_response_header(x->response, "WWW-Authenticate", x->authenticate);
    }
    if (x->response && close) {
        (void) MHD_add_response_header(x->response, "Connection", "close");
    }
}

void mbd_exchange_wait(struct mbd_exchange *x)
{
    assert(x->state == HANDLING || x->state == WAITING);
    x->state = WAITING;
}

void mbd_exchange_on_end(struct mbd_exchange *x, void (*fn)(void *arg), void *arg)
{
    x->on_end = fn;
    x->on_end_arg = arg;
}

/* ---- a stream ---------------------------------------------------------------------------- */

size_t mbd_stream_pending(const struct mbd_exchange *x)
{
    return x->stream.len - x->stream_taken;
}

/* libmicrohttpd asks for bytes. Nothing to give yet: the connection sleeps until there is. */
static ssize_t read_stream(void *cls, uint64_t at, char *ret, size_t n)
{
    (void) at;
    struct mbd_exchange *x = cls;
    if (x->connection->gone || x->stream.failed) {
        return MHD_CONTENT_READER_END_WITH_ERROR;
    }
    if (mbd_stream_pending(x) == 0 && !x->stream_ended && x->more) {
        x->more(x->more_arg);
    }
    size_t left = mbd_stream_pending(x);
    if (left == 0 && x->stream_ended) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    if (left == 0) {
        mbd_connection_sleep(x->connection);
        return 0;
    }
    n = n < left ? n : left;
    memcpy(ret, x->stream.at + x->stream_taken, n);
    x->stream_taken += n;
    if (mbd_stream_pending(x) == 0) {
        mb_bytes_clear(&x->stream);
        x->stream_taken = 0;
    }
    return (ssize_t) n;
}

void mbd_reply_stream(struct mbd_exchange *x, void (*more)(void *arg), void *arg)
{
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, x, NULL);
    if (r) {
        (void) MHD_add_response_header(r, "Cache-Control", "no-cache");
        (void) MHD_add_response_header(r, "X-Accel-Buffering", "no"); /* nginx would wait */
    }
    x->more = more;
    x->more_arg = arg;
    answer(x, 200, r, "text/event-stream");
}

/* What comes after the end, as when memory ran out in the middle, is not sent. */
void mbd_stream_put(struct mbd_exchange *x, const char *json)
{
    if (x->stream_ended) {
        return;
    }
    mbd_sse_data(&x->stream, json);
    mbd_connection_awake(x->connection);
}

void mbd_stream_put_id(struct mbd_exchange *x, const char *id, const char *json)
{
    if (!x->stream_ended) {
        mb_bytes_printf(&x->stream, "id: %s\n", id);
    }
    mbd_stream_put(x, json);
}

void mbd_stream_ping(struct mbd_exchange *x)
{
    if (x->stream_ended) {
        return;
    }
    mbd_sse_ping(&x->stream);
    mbd_connection_awake(x->connection);
}

void mbd_stream_end(struct mbd_exchange *x, bool done)
{
    if (done && !x->stream_ended) {
        mbd_sse_done(&x->stream);
    }
    x->stream_ended = true;
    mbd_connection_awake(x->connection);
}

/* ---- the log ----------------------------------------------------------------------------- */

void mbd_exchange_logged(struct mbd_exchange *x)
{
    x->logged = true;
}

static void write_line(const struct mbd_exchange *x)
{
    struct mbd_line line;
    enum mbd_log_level level = x->route && x->route->ops ? MBD_LOG_DEBUG : MBD_LOG_INFO;
    mbd_line_begin(&line, mbd_exchange_service(x)->log, level, "request");
    mbd_line_text(&line, "id", x->id);
    if (x->client_id[0]) {
        mbd_line_text(&line, "client_id", x->client_id);
    }
    if (x->key) {
        mbd_line_text(&line, "key", x->key->name);
    }
    mbd_line_text(&line, "route", route_name(x));
    mbd_line_u64(&line, "status", (uint64_t) x->status);
    mbd_line_ms(&line, "total_ms", mbd_now_ns() - x->began_ns);
    mbd_line_end(&line);
}

/* ---- libmicrohttpd's callbacks ----------------------------------------------------------- */

static enum MHD_Result queue(struct mbd_exchange *x)
{
    struct MHD_Response *r = x->response;
    if (!r || x->connection->gone) {
        return MHD_NO; /* closes the connection, and ends the exchange */
    }
    mbd_connection_phase(x->connection, MBD_PHASE_ANSWER);
    x->response = NULL;
    enum MHD_Result ok = MHD_queue_response(x->connection->mhd, (unsigned) x->status, r);
    MHD_destroy_response(r); /* libmicrohttpd holds its own reference */
    return ok;
}

/* The header is there. */
static enum MHD_Result begin(struct mbd_connection *c, const char *method, const char *path,
                             const char *version, void **exchange)
{
    struct mbd_exchange *x = exchange_new(c);
    if (!x) {
        return MHD_NO;
    }
    *exchange = x;
    bool has_body = judge_header(x, method, path, version);
    if (x->refused && has_body) {
        /* Said now, before the body travels; what is on its way already is not read. */
        reply_refusal(x, true);
        return queue(x);
    }
    mbd_connection_phase(c, has_body ? MBD_PHASE_BODY : MBD_PHASE_ANSWER);
    return MHD_YES;
}

/* The request is whole; or the connection was woken to send an answer. */
static enum MHD_Result finish(struct mbd_exchange *x)
{
    if (x->state == READING) {
        mbd_connection_phase(x->connection, MBD_PHASE_ANSWER);
        x->state = HANDLING;
        if (x->upload && !x->refused && !mbd_upload_end(x->upload, &x->refusal)) {
            x->refused = true;
        }
        if (x->refused) {
            reply_refusal(x, false);
        } else {
            x->route->handler(x);
        }
        assert(x->state == WAITING || x->state == ANSWERED);
    }
    if (x->state == WAITING && !x->connection->gone) {
        mbd_connection_sleep(x->connection);
        return MHD_YES;
    }
    return queue(x);
}

enum MHD_Result mbd_exchange_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                    const char *method, const char *version,
                                    const char *upload_data, size_t *upload_size,
                                    void **exchange)
{
    (void) cls;
    struct mbd_connection *c = mbd_connection_of(mhd);
    struct mbd_exchange *x = *exchange;
    if (!c || c->gone) {
        return MHD_NO;
    }
    if (!x) {
        return begin(c, method, url, version, exchange);
    }
    if (*upload_size > 0) {
        if (x->upload) {
            gather_upload(x, upload_data, *upload_size);
        } else {
            gather(x, upload_data, *upload_size);
        }
        *upload_size = 0;
        return MHD_YES;
    }
    return finish(x);
}

void mbd_exchange_completed(void *cls, struct MHD_Connection *mhd, void **exchange,
                            enum MHD_RequestTerminationCode why)
{
    (void) cls;
    (void) mhd;
    (void) why;
    struct mbd_exchange *x = *exchange;
    if (!x) {
        return;
    }
    *exchange = NULL;
    if (x->on_end) {
        x->on_end(x->on_end_arg);
    }
    if (x->status == 0) {
        x->status = 499; /* nobody is there to answer; nginx's number for that */
        mbd_metrics_http(mbd_exchange_service(x)->metrics, route_name(x), x->status);
    }
    if (!x->logged) {
        write_line(x);
    }
    mbd_connection_phase(x->connection, MBD_PHASE_IDLE);
    exchange_free(x);
}
