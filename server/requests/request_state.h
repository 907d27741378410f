/* The life of a generation request.
 *
 *     QUEUED ----> PREFILL ----> DECODE ----> DONE
 *        |            |             |
 *        +------------+-------------+-------> CANCELLED   the client left, or the engine ended
 *        |            |             |
 *        +------------+-------------+-------> FAILED      an mb_status other than MB_OK
 *
 * QUEUED   holds a place in the queue and the prompt; no slot and no KV block.
 * PREFILL  holds a slot and the KV blocks of its whole need; no token was drawn.
 * DECODE   as PREFILL, and a token was drawn: an error is now an event inside the stream.
 * The last three are final: slot and blocks are given back on the way in (J1).
 *
 * Threads: pure. */
#ifndef MBD_REQUEST_STATE_H
#define MBD_REQUEST_STATE_H

#include <stdbool.h>

enum mbd_request_state {
    MBD_REQUEST_QUEUED,
    MBD_REQUEST_PREFILL,
    MBD_REQUEST_DECODE,
    MBD_REQUEST_DONE,
    MBD_REQUEST_CANCELLED,
    MBD_REQUEST_FAILED,
    MBD_REQUEST_STATES
};

bool mbd_request_state_may(enum mbd_request_state from, enum mbd_request_state to);
bool mbd_request_state_is_final(enum mbd_request_state s);
const char *mbd_request_state_name(enum mbd_request_state s); /* "queued", ... */

#endif
