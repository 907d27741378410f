#include "server/requests/request_state.h"

#include <assert.h>

#define TO(s) (1u << MBD_REQUEST_##s)

static const struct {
    const char *name;
    unsigned next;
} states[MBD_REQUEST_STATES] = {
    [MBD_REQUEST_QUEUED] = { "queued", TO(PREFILL) | TO(CANCELLED) | TO(FAILED) },
    [MBD_REQUEST_PREFILL] = { "prefill", TO(DECODE) | TO(CANCELLED) | TO(FAILED) },
    [MBD_REQUEST_DECODE] = { "decode", TO(DONE) | TO(CANCELLED) | TO(FAILED) },
    [MBD_REQUEST_DONE] = { "done", 0 },
    [MBD_REQUEST_CANCELLED] = { "cancelled", 0 },
    [MBD_REQUEST_FAILED] = { "failed", 0 },
};

bool mbd_request_state_may(enum mbd_request_state from, enum mbd_request_state to)
{
    assert(from < MBD_REQUEST_STATES);
    assert(to < MBD_REQUEST_STATES);
    return (states[from].next >> to) & 1u;
}

bool mbd_request_state_is_final(enum mbd_request_state s)
{
    assert(s < MBD_REQUEST_STATES);
    return states[s].next == 0;
}

const char *mbd_request_state_name(enum mbd_request_state s)
{
    assert(s < MBD_REQUEST_STATES);
    return states[s].name;
}
