/* Who may ask: what the header of a request says of its key, judged before there is a body. Private
 * to server/http.
 *
 * Threads: the control thread. */
#ifndef MBD_GATE_H
#define MBD_GATE_H

#include <microhttpd.h>
#include <stdbool.h>

#include "proto/wire_error.h"
#include "server/access/keyring.h"
#include "server/http/router.h"

/* Why not. */
struct mbd_gate_refusal {
    struct mb_wire_error error;
    const char *authenticate; /* the WWW-Authenticate header (RFC 6750, 3), or NULL */
};

/* May the sender of this header use the route? *ret_key is the key that it came with, borrowed, or
 * NULL where none is needed. keys NULL: nobody needs one. open: the route needs none here. */
bool mbd_gate_key(struct MHD_Connection *mhd, const struct mbd_keyring *keys,
                  const struct mbd_route *route, bool open, struct mbd_key **ret_key,
                  struct mbd_gate_refusal *ret);

#endif
