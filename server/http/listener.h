/* The listening socket and libmicrohttpd, driven by the loop through its epoll descriptor.
 *
 * Bound:   connections, their memory (32 KB each and one body), time for header, body and
 *          silence: see server/README.md.
 * Life:    _new/_free. Threads: the control thread. */
#ifndef MBD_LISTENER_H
#define MBD_LISTENER_H

#include "server/http/service.h"

struct mbd_listener;

/* What is served where. A port for operations has its own connections, so that no crowd on the
 * other keeps out a probe, and may be closed to the world. */
enum mbd_listener_role {
    MBD_LISTEN_ALL,  /* everything, on --listen */
    MBD_LISTEN_WORK, /* all but the routes for operations, on --listen */
    MBD_LISTEN_OPS,  /* these, and what else is only asked (GET), on --ops-listen */
};
enum { MBD_OPS_CONNECTIONS = 64 }; /* at most, on --ops-listen */

/* Binds and listens. service is borrowed.
 * Errors: MB_E_IO naming the option and the address; MB_E_NOMEM. */
enum mb_status mbd_listener_new(struct mbd_service *service, enum mbd_listener_role role,
                                struct mbd_listener **ret, struct mb_error *err);
/* Ends every connection, whatever it was doing. NULL is allowed. */
void mbd_listener_free(struct mbd_listener *l);

uint16_t mbd_listener_port(const struct mbd_listener *l);    /* the one that port 0 became */
size_t mbd_listener_exchanges(const struct mbd_listener *l); /* requests that are whole, and
                                                                being answered */

#endif
