#include "clients/http/transport.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    CONNECT_TIMEOUT_MS = 10000, /* a host that is there answers in a second */
    ASK_TURN_MS = 100,          /* how long Ctrl-C may take to be seen */
};

struct mbc_transport {
    struct mbc_host host;
    bool (*keep_on)(void);
    CURLM *multi;
    struct mbc_call *calls; /* all under way */
};

struct mbc_call {
    struct mbc_call *next, **place; /* in transport's list */
    CURL *easy;
    struct curl_slist *headers;
    curl_mime *form; /* or NULL */
    mbc_done_fn *done;
    void *self;
    mbc_body_fn *body; /* or NULL */
    bool stream, in_body;
    struct mbc_sse sse;
    struct mbc_reply reply;
    enum mb_status st; /* of what we made of the bytes */
    struct mb_error err;
    char trouble[CURL_ERROR_SIZE]; /* in curl's words */
};

static const char *const failure_names[MBC_FAILURES] = {
    [MBC_FAILURE_NONE] = "none",         [MBC_FAILURE_CONNECT] = "connect",
    [MBC_FAILURE_TIMEOUT] = "timeout",   [MBC_FAILURE_CUT] = "cut",
    [MBC_FAILURE_PROTOCOL] = "protocol", [MBC_FAILURE_LEFT] = "left",
};

const char *mbc_failure_name(enum mbc_failure f)
{
    assert(f < MBC_FAILURES);
    return failure_names[f];
}

void mbc_reply_fini(struct mbc_reply *r)
{
    mb_bytes_fini(&r->body);
}

enum mb_status mbc_transport_setup(struct mb_error *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return mb_fail(err, MB_E_NOMEM, 0, "libcurl did not start");
    }
    return MB_OK;
}

enum mb_status mbc_transport_new(const struct mbc_host *host, bool (*keep_on)(void),
                                 struct mbc_transport **ret, struct mb_error *err)
{
    struct mbc_transport *t = malloc(sizeof *t);
    CURLM *multi = curl_multi_init();
    if (!t || !multi) {
        free(t);
        (void) curl_multi_cleanup(multi);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a connection");
    }
    *t = (struct mbc_transport) { .host = *host, .keep_on = keep_on, .multi = multi };
    *ret = t;
    return MB_OK;
}

void mbc_transport_retarget(struct mbc_transport *t, const struct mbc_host *host)
{
    assert(!t->calls);
    t->host = *host;
}

/* ---- a call ------------------------------------------------------------------------------ */

static void call_free(struct mbc_call *c)
{
    if (!c) {
        return;
    }
    if (c->place) {
        *c->place = c->next;
        if (c->next) {
            c->next->place = c->place;
        }
    }
    curl_easy_cleanup(c->easy);
    curl_mime_free(c->form); /* NULL is allowed */
    curl_slist_free_all(c->headers);
    mbc_sse_fini(&c->sse);
    mbc_reply_fini(&c->reply);
    free(c);
}

void mbc_transport_drop(struct mbc_transport *t, struct mbc_call *c)
{
    (void) curl_multi_remove_handle(t->multi, c->easy);
    call_free(c);
}

void mbc_transport_drop_all(struct mbc_transport *t)
{
    while (t->calls) {
        mbc_transport_drop(t, t->calls);
    }
}

void mbc_transport_free(struct mbc_transport *t)
{
    if (!t) {
        return;
    }
    mbc_transport_drop_all(t);
    (void) curl_multi_cleanup(t->multi);
    free(t);
}

/* What the header says decides how the body is read. */
static void read_header(struct mbc_call *c)
{
    long status = 0;
    const char *type = NULL;
    (void) curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    (void) curl_easy_getinfo(c->easy, CURLINFO_CONTENT_TYPE, &type);
    c->reply.status = (int) status;
    c->reply.is_stream =
        c->stream && status == 200 && type && strncasecmp(type, "text/event-stream", 17) == 0;
    c->in_body = true;
}

/* curl's: anything but n ends the transfer. */
static size_t take_body(char *at, size_t one, size_t n, void *self)
{
    struct mbc_call *c = self;
    if (!c->in_body) {
        read_header(c);
    }
    if (c->reply.is_stream) {
        c->st = mbc_sse_feed(&c->sse, at, n, &c->err);
        return c->st == MB_OK ? n : 0;
    }
    if (c->body && c->reply.status == 200) {
        if (!c->body(c->self, at, n)) {
            c->st = mb_fail(&c->err, MB_E_CANCELLED, 0, "the answer was left");
        }
        return c->st == MB_OK ? n : 0;
    }
    if (c->reply.body.len + n > MBC_BODY_MAX) {
        c->st =
            mb_fail(&c->err, MB_E_LIMIT, 0, "the answer has more than %u bytes", MBC_BODY_MAX);
        return 0;
    }
    mb_bytes_put(&c->reply.body, at, n);
    if (c->reply.body.failed) {
        c->st = mb_fail(&c->err, MB_E_NOMEM, 0, "no memory for the answer");
        return 0;
    }
    return n;
}

static bool add_header(struct mbc_call *c, const char *line)
{
    struct curl_slist *longer = curl_slist_append(c->headers, line);
    c->headers = longer ? longer : c->headers;
    return longer != NULL;
}

static bool set_headers(const struct mbc_transport *t, const struct mbc_request *r,
                        struct mbc_call *c)
{
    bool ok = add_header(c, r->stream ? "Accept: text/event-stream" : "Accept: */*");
    if (r->json) {
        /* Without the second, curl asks for leave before it sends a large body. */
        ok = ok && add_header(c, "Content-Type: application/json") && add_header(c, "Expect:");
    }
    if (t->host.key[0]) {
        char line[sizeof t->host.key + 32];
        (void) snprintf(line, sizeof line, "Authorization: Bearer %s", t->host.key);
        ok = ok && add_header(c, line);
    }
    return ok && curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers) == CURLE_OK;
}

/* The file is read while it is sent. */
static bool set_form(struct mbc_call *c, const char *file)
{
    c->form = curl_mime_init(c->easy);
    curl_mimepart *purpose = c->form ? curl_mime_addpart(c->form) : NULL;
    curl_mimepart *part = purpose ? curl_mime_addpart(c->form) : NULL;
    return part && curl_mime_name(purpose, "purpose") == CURLE_OK &&
           curl_mime_data(purpose, "fine-tune", CURL_ZERO_TERMINATED) == CURLE_OK &&
           curl_mime_name(part, "file") == CURLE_OK &&
           curl_mime_filedata(part, file) == CURLE_OK &&
           curl_easy_setopt(c->easy, CURLOPT_MIMEPOST, c->form) == CURLE_OK;
}

static bool set_options(const struct mbc_transport *t, const struct mbc_request *r,
                        struct mbc_call *c)
{
    char url[sizeof t->host.url + 256];
    int n = snprintf(url, sizeof url, "%s%s", t->host.url, r->path);
    assert(n > 0 && (size_t) n < sizeof url);
    CURL *e = c->easy;
    bool ok = curl_easy_setopt(e, CURLOPT_URL, url) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, take_body) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_WRITEDATA, c) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_PRIVATE, c) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_ERRORBUFFER, c->trouble) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_USERAGENT, "mbool/" MB_VERSION) == CURLE_OK;
    if (t->host.ca[0]) {
        ok = ok && curl_easy_setopt(e, CURLOPT_CAINFO, t->host.ca) == CURLE_OK;
    }
    ok = ok && curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L) == CURLE_OK;
    ok = ok &&
         curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long) CONNECT_TIMEOUT_MS) == CURLE_OK;
    ok = ok && curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long) r->timeout_ms) == CURLE_OK;
    if (r->json) {
        curl_off_t n_json = (curl_off_t) r->n_json;
        ok = ok && curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, n_json) == CURLE_OK;
        ok = ok && curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, r->json) == CURLE_OK;
    } else if (r->upload) {
        ok = ok && set_form(c, r->upload);
    } else if (r->remove) {
        ok = ok && curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, "DELETE") == CURLE_OK;
    }
    return ok;
}

enum mb_status mbc_transport_start(struct mbc_transport *t, const struct mbc_request *r,
                                   mbc_done_fn *done, void *self, struct mbc_call **ret,
                                   struct mb_error *err)
{
    assert(!r->stream || r->event);
    struct mbc_call *c = calloc(1, sizeof *c);
    if (!c) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a request");
    }
    c->done = done;
    c->self = self;
    c->stream = r->stream;
    c->body = r->body;
    if (r->stream) {
        mbc_sse_init(&c->sse, MBC_EVENT_MAX, r->event, self);
    }
    c->easy = curl_easy_init();
    if (!c->easy || !set_options(t, r, c) || !set_headers(t, r, c) ||
        curl_multi_add_handle(t->multi, c->easy) != CURLM_OK) {
        call_free(c);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a request");
    }
    c->next = t->calls;
    c->place = &t->calls;
    if (c->next) {
        c->next->place = &c->next;
    }
    t->calls = c;
    if (ret) {
        *ret = c;
    }
    return MB_OK;
}

static enum mbc_failure failure_of(CURLcode code)
{
    switch (code) {
    case CURLE_OK:
        return MBC_FAILURE_NONE;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return MBC_FAILURE_CONNECT;
    case CURLE_OPERATION_TIMEDOUT:
        return MBC_FAILURE_TIMEOUT;
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        return MBC_FAILURE_CUT;
    default:
        return MBC_FAILURE_PROTOCOL;
    }
}

/* curl has ended the call; say how, in the caller's terms. */
static void finish(struct mbc_transport *t, struct mbc_call *c, CURLcode code)
{
    curl_off_t retry_s = 0;
    if (!c->in_body && code == CURLE_OK) {
        read_header(c); /* an answer without a body */
    }
    (void) curl_easy_getinfo(c->easy, CURLINFO_RETRY_AFTER, &retry_s);
    c->reply.retry_after_s = retry_s > 0 && retry_s < UINT32_MAX ? (uint32_t) retry_s : 0;
    if (c->st == MB_E_CANCELLED) {
        c->reply.failure = MBC_FAILURE_LEFT;
    } else if (c->st != MB_OK) {
        c->reply.failure = MBC_FAILURE_PROTOCOL;
    } else if (code != CURLE_OK) {
        c->reply.failure = failure_of(code);
        c->st = mb_fail(&c->err, MB_E_IO, 0, "%s: %s", t->host.url,
                        c->trouble[0] ? c->trouble : curl_easy_strerror(code));
    }
    c->done(c->self, c->st, &c->reply, &c->err);
    mbc_transport_drop(t, c);
}

enum mb_status mbc_transport_turn(struct mbc_transport *t, uint32_t wait_ms,
                                  struct mb_error *err)
{
    int n_running, n_left;
    CURLMcode code = curl_multi_poll(t->multi, NULL, 0, (int) wait_ms, NULL);
    code = code == CURLM_OK ? curl_multi_perform(t->multi, &n_running) : code;
    if (code != CURLM_OK) {
        return mb_fail(err, MB_E_IO, 0, "libcurl: %s", curl_multi_strerror(code));
    }
    for (const CURLMsg *m; (m = curl_multi_info_read(t->multi, &n_left));) {
        if (m->msg == CURLMSG_DONE) {
            void *c = NULL;
            CURLcode result = m->data.result; /* the message dies with its call */
            (void) curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
            finish(t, c, result);
        }
    }
    return MB_OK;
}

/* ---- one call ---------------------------------------------------------------------------- */

struct ask {
    void *self;
    mbc_sse_event_fn *event;
    mbc_body_fn *body;
    bool done;
    enum mb_status st;
    struct mbc_reply *reply;
    struct mb_error *err;
};

static bool ask_event(void *self, const char *data, size_t n)
{
    struct ask *a = self;
    return a->event(a->self, data, n);
}

static bool ask_body(void *self, const void *at, size_t n)
{
    struct ask *a = self;
    return a->body(a->self, at, n);
}

static void ask_done(void *self, enum mb_status st, struct mbc_reply *reply,
                     const struct mb_error *err)
{
    struct ask *a = self;
    a->done = true;
    a->st = st;
    *a->reply = *reply;
    reply->body = (struct mb_bytes) { 0 }; /* now the caller's */
    if (st != MB_OK && a->err) {
        *a->err = *err;
    }
}

enum mb_status mbc_transport_ask(struct mbc_transport *t, const struct mbc_request *r,
                                 void *self, struct mbc_reply *ret, struct mb_error *err)
{
    *ret = (struct mbc_reply) { 0 };
    struct ask a = {
        .self = self, .event = r->event, .body = r->body, .reply = ret, .err = err
    };
    struct mbc_request own = *r;
    own.event = r->event ? ask_event : NULL;
    own.body = r->body ? ask_body : NULL;
    struct mbc_call *c;
    enum mb_status st = mbc_transport_start(t, &own, ask_done, &a, &c, err);
    if (st != MB_OK) {
        return st;
    }
    /* The first turn has nothing to wait for: the request is not yet sent. */
    for (uint32_t wait_ms = 0; !a.done; wait_ms = ASK_TURN_MS) {
        bool leave = t->keep_on && !t->keep_on();
        st = leave ? mb_fail(err, MB_E_CANCELLED, 0, "interrupted")
                   : mbc_transport_turn(t, wait_ms, err);
        if (st != MB_OK && !a.done) {
            ret->failure = MBC_FAILURE_LEFT;
            mbc_transport_drop(t, c);
            return st;
        }
    }
    return a.st;
}
