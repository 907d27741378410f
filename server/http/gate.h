/* Who may ask: what the header of a request says of its host, origin and key, judged before there is
 * a body. Private to server/http.
 *
 * Threads: the control thread. */
#ifndef MBD_GATE_H
#define MBD_GATE_H

#include <microhttpd.h>
#include <stdbool.h>

#include "proto/wire_error.h"
#include "server/access/keyring.h"
#include "server/config/options.h"
#include "server/http/router.h"

/* Why not. */
struct mbd_gate_refusal {
    struct mb_wire_error error;
    const char *authenticate; /* the WWW-Authenticate header (RFC 6750, 3), or NULL */
    unsigned retry_after;     /* seconds; 0: no such header */
};

/* Was it meant for this server? A page of the web can have its own name lead to this machine, and
 * then ask as if it came from here; but it can not change Host. loopback: of the address that was
 * asked. */
bool mbd_gate_host(struct MHD_Connection *mhd, const struct mbd_options *o, bool loopback,
                   struct mbd_gate_refusal *ret);

/* May the page that asks, if it is one, do so? *ret_origin is then the Access-Control-Allow-Origin
 * header that the answer has (borrowed from the header or constant), or NULL. */
bool mbd_gate_origin(struct MHD_Connection *mhd, const struct mbd_options *o,
                     const char **ret_origin, struct mbd_gate_refusal *ret);
/* What lets a page read an answer; preflight: the answer says what it may ask of a path that has these
 * methods, else NULL. */
void mbd_gate_let_read(struct MHD_Connection *mhd, struct MHD_Response *response,
                       const char *origin, const char *preflight);

/* May the sender of this header use the route? *ret_key is the key that it came with, borrowed, or
 * NULL where none is needed. keys NULL: nobody needs one. open: the route needs none here. */
bool mbd_gate_key(struct MHD_Connection *mhd, const struct mbd_keyring *keys,
                  const struct mbd_route *route, bool open, struct mbd_key **ret_key,
                  struct mbd_gate_refusal *ret);

/* ---- limits of a key ---------------------------------------------------------------------- */

/* A request with this key begins, and will end (mbd_key_end); or it is too much. */
bool mbd_gate_begin(struct mbd_key *k, struct mbd_gate_refusal *ret);
/* What is left of its limits, as OpenAI's headers have it. */
void mbd_gate_show_limits(struct MHD_Response *response, const struct mbd_key *k);

#endif
