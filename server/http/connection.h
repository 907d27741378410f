/* One socket, as this daemon sees it beside libmicrohttpd: its deadline, its sleep, and whether
 * its client is still there. Private to server/http.
 *
 * A client that left is known by the end of what it sends (POLLRDHUP). That is also what a
 * client looks like that closed only its sending side (shutdown(SHUT_WR), `nc -N`), which
 * HTTP/1.1 allows: the two can not be told apart until something is written, and a request that
 * waits writes nothing. As nginx, Node and Go do, the end of sending counts as having left
 * while an answer is being made; answers that are ready at once are still sent.
 *
 * Threads: the control thread. */
#ifndef MBD_CONNECTION_H
#define MBD_CONNECTION_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stdint.h>

#include "server/http/listener.h"

/* What is being waited for. */
enum mbd_phase {
    MBD_PHASE_HEADER, /* a request's header, which has --header-timeout */
    MBD_PHASE_BODY,   /* its body, which has --body-timeout */
    MBD_PHASE_ANSWER, /* ours */
    MBD_PHASE_IDLE,   /* the next request */
};

struct mbd_connection {
    struct mbd_listener *listener;
    struct MHD_Connection *mhd;
    int fd;
    struct mbd_watch *watch; /* for the client's leaving */
    bool watched;            /* from the first sleep of an answer to its end, and not anew for
                                each token: that would be three system calls */
    enum mbd_phase phase;
    uint64_t deadline_ns; /* 0: none */
    bool asleep;
    bool half_closed; /* when it was last looked at; of TLS */
    bool gone;        /* the client left, or missed a deadline: nothing more is sent */
    struct mbd_connection *next, *prev;
};

/* What the exchanges of a listener share. */
struct mbd_listener {
    struct mbd_service *service;
    enum mbd_listener_role role;
    uint32_t connections_max;
    struct MHD_Daemon *daemon;
    struct mbd_tls *tls;     /* borrowed; NULL: plain HTTP */
    struct mbd_watch *watch; /* of libmicrohttpd's epoll descriptor */
    struct mbd_timer *timer; /* when libmicrohttpd wants to run next */
    struct mbd_timer *sweep; /* of deadlines, while there are connections */
    unsigned sweeps;
    struct mbd_connection *connections,
        *oldest; /* in the order of their coming, newest first */
    size_t n_connections, n_exchanges;
    uint64_t body_bytes; /* held by all bodies */
    bool running;        /* inside MHD_run */
    bool
        resumed; /* since MHD_run began, a connection was, or the limit was left: run it again */
    uint16_t port;
};

/* Are the routes of this path served here? */
bool mbd_listener_has(const struct mbd_listener *l, const char *path);

struct mbd_connection *mbd_connection_of(struct MHD_Connection *mhd);
void mbd_connection_phase(struct mbd_connection *c, enum mbd_phase phase);
/* Only from within a callback of libmicrohttpd for this connection. */
void mbd_connection_sleep(struct mbd_connection *c);
void mbd_connection_awake(struct mbd_connection *c); /* any time; does nothing when awake */

/* ---- TLS: tls.c -------------------------------------------------------------------------- */

/* For MHD_OPTION_ARRAY: TLS 1.2 and 1.3, and the certificate of mbd_tls_begin. */
struct MHD_OptionItem *mbd_tls_options(void);
/* A connection starts: t is borrowed until it ends. */
void mbd_tls_begin(struct MHD_Connection *mhd, struct mbd_tls *t);
/* Sends what libmicrohttpd has no way to send, when the handshake is done and the socket has room. */
void mbd_tls_send(struct MHD_Connection *mhd, const char *text, size_t n);

/* libmicrohttpd's callbacks that concern one request: exchange.c. */
enum MHD_Result mbd_exchange_access(void *cls, struct MHD_Connection *mhd, const char *url,
                                    const char *method, const char *version,
                                    const char *upload_data, size_t *upload_size,
                                    void **exchange);
void mbd_exchange_completed(void *cls, struct MHD_Connection *mhd, void **exchange,
                            enum MHD_RequestTerminationCode why);

#endif
