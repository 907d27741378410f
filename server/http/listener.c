#include "server/http/listener.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/clock.h"
#include "server/http/connection.h"
#include "server/http/router.h"

enum {
    CONNECTION_BYTES = 32 * 1024, /* of libmicrohttpd's pool: header, and pieces of a body */
    BACKLOG = 1024,
    SWEEP_MS = 100,     /* how late a deadline may be seen */
    SWEEPS_A_LOOK = 10, /* between looks at whether silent clients are still there */
    /* Of the kernel's, for a connection: left alone it grows to megabytes for a client that
     * does not read, and thousands of tokens would be computed for nobody. */
    SEND_BUFFER_BYTES = 64 * 1024,
};

/* ---- one connection ---------------------------------------------------------------------- */

struct mbd_connection *mbd_connection_of(struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void unwatch(struct mbd_connection *c)
{
    if (c->watched) {
        mbd_watch_stop(c->watch);
        c->watched = false;
    }
}

void mbd_connection_phase(struct mbd_connection *c, enum mbd_phase phase)
{
    const struct mbd_options *o = c->listener->service->options;
    uint64_t ms = 0;
    switch (phase) {
    case MBD_PHASE_HEADER:
        ms = o->header_timeout_ms;
        break;
    case MBD_PHASE_BODY:
        ms = o->body_timeout_ms;
        break;
    case MBD_PHASE_IDLE:
        /* libmicrohttpd closes what is silent for the idle time. Its first line may come one
         * byte at a time, though, of which it tells nobody: so there is a bound to that as
         * well. */
        ms = (uint64_t) o->idle_timeout_ms + o->header_timeout_ms;
        break;
    case MBD_PHASE_ANSWER:
        break;
    }
    if (phase != MBD_PHASE_ANSWER) {
        unwatch(c);
    }
    c->phase = phase;
    c->deadline_ns = ms ? mbd_now_ns() + ms * (MBD_SECOND_NS / 1000) : 0;
}

/* The client left while it was being answered. What waits for it learns of it when libmicrohttpd
 * asks for the answer. */
static void on_hangup(void *arg)
{
    struct mbd_connection *c = arg;
    unwatch(c); /* it would be told again and again */
    c->gone = true;
    mbd_connection_awake(c);
}

void mbd_connection_sleep(struct mbd_connection *c)
{
    assert(!c->asleep && !c->gone);
    struct mb_error err;
    MHD_suspend_connection(c->mhd);
    c->asleep = true;
    if (c->watched) {
        return;
    }
    c->watched = true;
    if (mbd_watch_start(c->watch, MBD_WATCH_HANGUP, &err) != MB_OK) {
        /* Nobody would see the client leave: rather end it now. */
        mbd_log_message(c->listener->service->log, MBD_LOG_ERROR, "http", "%s", err.what);
        on_hangup(c);
    }
}

void mbd_connection_awake(struct mbd_connection *c)
{
    if (c->asleep) {
        c->asleep = false;
        MHD_resume_connection(c->mhd);
        /* When it is driven from outside, libmicrohttpd does not make its descriptor readable
         * for this, nor its timeout 0. */
        c->listener->resumed = true;
        if (!c->listener->running) {
            mbd_timer_start(c->listener->timer, 0, 0);
        }
    }
}

/* A request that is not whole has had no answer, and libmicrohttpd offers no way to give it
 * one: nothing of this connection waits to be written, so the answer may be put there from
 * here. */
static void answer_late(struct mbd_connection *c)
{
    static const char body[] =
        "{\"error\":{\"message\":\"the request took too long to arrive\","
        "\"type\":\"invalid_request_error\",\"param\":null,"
        "\"code\":\"request_timeout\"}}";
    char text[512];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     sizeof body - 1, body);
    if (c->listener->tls) {
        mbd_tls_send(c->mhd, text, (size_t) n);
    } else {
        (void) send(c->fd, text, (size_t) n, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    mbd_metrics_http(c->listener->service->metrics, "incomplete", 408);
}

/* Did the client end what it sends, with nothing left to read? libmicrohttpd 0.9.75 does not
 * learn of an end that came together with the last bytes: a read that gets fewer than it asked
 * for makes it wait for the next edge, and there is none. */
static bool has_ended(struct mbd_connection *c)
{
    char byte;
    if (c->listener
            ->tls) { /* the end is written, too, in bytes that may lie here unread: but not
                               for a second, or libmicrohttpd would have been told of them */
        struct pollfd p = { .fd = c->fd, .events = POLLRDHUP };
        bool before = c->half_closed;
        c->half_closed = poll(&p, 1, 0) == 1;
        return before && c->half_closed;
    }
    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* Between answers. */
static void look_at(struct mbd_connection *c, uint64_t now, bool for_end)
{
    bool late = c->deadline_ns != 0 && c->deadline_ns <= now;
    bool incomplete = c->phase == MBD_PHASE_HEADER || c->phase == MBD_PHASE_BODY;
    if (c->gone || (!late && !(for_end && has_ended(c)))) {
        return;
    }
    if (late && incomplete) {
        answer_late(c);
    }
    /* libmicrohttpd sees the end of the socket, and closes it. */
    c->gone = true;
    (void) shutdown(c->fd, SHUT_RDWR);
}

/* What silent connections may not take. */
static size_t few_left(const struct mbd_listener *l)
{
    size_t all = l->connections_max;
    return all - (all + 7) / 8;
}

/* Connections run short: the oldest that waits for a request makes room, so that a flood of silent
 * ones does not keep out a probe, which speaks at once. Those that do speak stay. */
static void make_room(struct mbd_listener *l, const struct mbd_connection *newest)
{
    struct mbd_connection *c = l->oldest;
    while (c && (c->gone || c == newest ||
                 (c->phase != MBD_PHASE_HEADER && c->phase != MBD_PHASE_IDLE))) {
        c = c->prev;
    }
    if (c) {
        c->gone = true;
        (void) shutdown(c->fd, SHUT_RDWR);
    }
}

static void on_sweep(void *arg)
{
    struct mbd_listener *l = arg;
    uint64_t now = mbd_now_ns();
    bool for_end = l->sweeps++ % SWEEPS_A_LOOK == 0;
    for (struct mbd_connection *c = l->connections; c; c = c->next) {
        if (c->phase != MBD_PHASE_ANSWER) {
            look_at(c, now, for_end);
        }
    }
}

static void connection_free(struct mbd_connection *c)
{
    struct mbd_listener *l = c->listener;
    *(c->prev ? &c->prev->next : &l->connections) = c->next;
    *(c->next ? &c->next->prev : &l->oldest) = c->prev;
    if (l->n_connections-- >= l->connections_max) {
        l->resumed = true; /* libmicrohttpd accepts again at its next run, and asks for none */
    }
    if (l->n_connections == 0) {
        mbd_timer_stop(l->sweep);
    }
    mbd_watch_free(c->watch);
    free(c);
}

static struct mbd_connection *connection_new(struct mbd_listener *l, struct MHD_Connection *mhd)
{
    struct mb_error err;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct mbd_connection *c = info ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        return NULL;
    }
    *c = (struct mbd_connection) {
        .listener = l, .mhd = mhd, .fd = info->connect_fd, .next = l->connections
    };
    int n = SEND_BUFFER_BYTES;
    (void) setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &n, sizeof n); /* a wish */
    if (mbd_watch_new(l->service->loop, c->fd, on_hangup, c, &c->watch, &err) != MB_OK) {
        free(c);
        return NULL;
    }
    *(c->next ? &c->next->prev : &l->oldest) = c;
    l->connections = c;
    if (l->n_connections++ == 0) {
        mbd_timer_start(l->sweep, SWEEP_MS, SWEEP_MS);
    }
    if (l->tls) {
        mbd_tls_begin(mhd, l->tls);
    }
    mbd_connection_phase(c, MBD_PHASE_HEADER);
    if (l->n_connections > few_left(l)) {
        make_room(l, c);
    }
    return c;
}

/* ---- libmicrohttpd's callbacks ----------------------------------------------------------- */

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        *socket_context = connection_new(cls, mhd); /* NULL: refused at its first request */
    } else if (*socket_context) {
        connection_free(*socket_context);
        *socket_context = NULL;
    }
}

/* The first line of a request is there. */
static void *on_first_line(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    (void) cls;
    (void) uri;
    struct mbd_connection *c = mbd_connection_of(mhd);
    if (c && c->phase == MBD_PHASE_IDLE) {
        mbd_connection_phase(c, MBD_PHASE_HEADER);
    }
    return NULL; /* there is no exchange yet */
}

static void on_message(void *cls, const char *fmt, va_list args)
{
    const struct mbd_listener *l = cls;
    char text[512];
    if (vsnprintf(text, sizeof text, fmt, args) > 0) {
        text[strcspn(text, "\r\n")] = '\0';
        mbd_log_message(l->service->log, MBD_LOG_DEBUG, "libmicrohttpd", "%s", text);
    }
}

/* ---- driving it -------------------------------------------------------------------------- */

/* Lets libmicrohttpd do what is ready, and asks when it wants to run again. */
static void drive(void *arg)
{
    struct mbd_listener *l = arg;
    assert(!l->running);
    l->running = true;
    l->resumed = false;
    (void) MHD_run(l->daemon);
    l->running = false;

    MHD_UNSIGNED_LONG_LONG ms;
    if (l->resumed) {
        mbd_timer_start(l->timer, 0, 0);
    } else if (MHD_get_timeout(l->daemon, &ms) == MHD_YES) {
        mbd_timer_start(l->timer, ms, 0);
    } else {
        mbd_timer_stop(l->timer);
    }
}

/* option is its name, for errors. */
static enum mb_status open_socket(const struct mbd_address *a, const char *option, int *ret,
                                  uint16_t *ret_port, struct mb_error *err)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at = { 0 };
    bool six = strchr(a->host, ':') != NULL;
    socklen_t n = six ? sizeof at.v6 : sizeof at.v4;
    at.any.sa_family = six ? AF_INET6 : AF_INET;
    *(six ? &at.v6.sin6_port : &at.v4.sin_port) = htons(a->port);
    int known = inet_pton(at.any.sa_family, a->host,
                          six ? (void *) &at.v6.sin6_addr : (void *) &at.v4.sin_addr);
    assert(known == 1); /* the option was checked */
    (void) known;

    int fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int yes = 1;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(fd, &at.any, n) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, &at.any, &n) < 0) {
        enum mb_status st =
            mb_fail(err, MB_E_IO, errno, "%s: %s port %u", option, a->host, (unsigned) a->port);
        if (fd >= 0) {
            (void) close(fd);
        }
        return st;
    }
    *ret_port = ntohs(six ? at.v6.sin6_port : at.v4.sin_port);
    *ret = fd;
    return MB_OK;
}

/* libmicrohttpd owns fd from here on, on success. */
static enum mb_status start_daemon(struct mbd_listener *l, int fd, struct mb_error *err)
{
    const struct mbd_options *o = l->service->options;
    /* Not strict: what that adds is a page of HTML for a request without Host, which
     * exchange.c refuses in its own words. */
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    flags |= l->tls ? MHD_USE_TLS : 0;
    struct MHD_OptionItem none[] = { { MHD_OPTION_END, 0, NULL } };
    l->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, mbd_exchange_access, l, MHD_OPTION_EXTERNAL_LOGGER, on_message,
        l, /* first, so that it hears of the others */
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_STRICT_FOR_CLIENT, 0,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t) CONNECTION_BYTES, MHD_OPTION_CONNECTION_LIMIT, l->connections_max,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        l->role == MBD_LISTEN_OPS ? 0 : o->per_ip_connections, MHD_OPTION_CONNECTION_TIMEOUT,
        (o->idle_timeout_ms + 999) / 1000, MHD_OPTION_NOTIFY_CONNECTION, on_connection, l,
        MHD_OPTION_NOTIFY_COMPLETED, mbd_exchange_completed, l, MHD_OPTION_URI_LOG_CALLBACK,
        on_first_line, l, MHD_OPTION_ARRAY, l->tls ? mbd_tls_options() : none, MHD_OPTION_END);
    if (!l->daemon) {
        return mb_fail(err, MB_E_IO, errno, "listen: libmicrohttpd did not start");
    }
    return MB_OK;
}

static enum mb_status watch_daemon(struct mbd_listener *l, struct mb_error *err)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (!info) {
        return mb_fail(err, MB_E_UNSUPPORTED, 0, "listen: this libmicrohttpd has no epoll");
    }
    struct mbd_loop *loop = l->service->loop;
    enum mb_status st = mbd_watch_new(loop, info->epoll_fd, drive, l, &l->watch, err);
    if (st == MB_OK) {
        st = mbd_watch_start(l->watch, MBD_WATCH_READABLE, err);
    }
    return st;
}

enum mb_status mbd_listener_new(struct mbd_service *service, enum mbd_listener_role role,
                                struct mbd_listener **ret, struct mb_error *err)
{
    const struct mbd_options *o = service->options;
    bool ops = role == MBD_LISTEN_OPS;
    struct mbd_listener *l = calloc(1, sizeof *l);
    if (!l) {
        return mb_fail(err, MB_E_NOMEM, 0, "listen: no memory");
    }
    l->service = service;
    l->role = role;
    l->tls = ops ? NULL : service->tls;
    l->connections_max = ops ? MBD_OPS_CONNECTIONS : o->connections;
    int fd = -1;
    enum mb_status st = mbd_timer_new(service->loop, drive, l, &l->timer, err);
    if (st == MB_OK) {
        st = mbd_timer_new(service->loop, on_sweep, l, &l->sweep, err);
    }
    if (st == MB_OK) {
        st = open_socket(ops ? &o->ops_listen : &o->listen, ops ? "ops-listen" : "listen", &fd,
                         &l->port, err);
    }
    if (st == MB_OK && (st = start_daemon(l, fd, err)) != MB_OK) {
        (void) close(fd);
    }
    if (st == MB_OK) {
        st = watch_daemon(l, err);
    }
    if (st != MB_OK) {
        mbd_listener_free(l);
        return st;
    }
    drive(l);
    *ret = l;
    return MB_OK;
}

void mbd_listener_free(struct mbd_listener *l)
{
    if (!l) {
        return;
    }
    /* Stopping libmicrohttpd with a suspended connection is a violation of its API. */
    for (struct mbd_connection *c = l->connections; c; c = c->next) {
        c->gone = true;
        mbd_connection_awake(c);
    }
    mbd_watch_free(l->watch);
    if (l->daemon) {
        MHD_stop_daemon(l->daemon); /* every exchange ends in here */
    }
    assert(l->n_connections == 0 && l->n_exchanges == 0 && l->body_bytes == 0);
    mbd_timer_free(l->timer);
    mbd_timer_free(l->sweep);
    free(l);
}

bool mbd_listener_has(const struct mbd_listener *l, const char *path)
{
    return l->role == MBD_LISTEN_ALL ||
           (l->role == MBD_LISTEN_OPS ? mbd_route_is_asked(path) : !mbd_route_is_ops(path));
}

uint16_t mbd_listener_port(const struct mbd_listener *l)
{
    return l->port;
}

size_t mbd_listener_exchanges(const struct mbd_listener *l)
{
    size_t n = 0;
    for (const struct mbd_connection *c = l->connections; c; c = c->next) {
        n += c->phase == MBD_PHASE_ANSWER;
    }
    return n;
}
