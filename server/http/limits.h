/* What a client is told when its key may do no more.
 *
 * Threads: the control thread. */
#ifndef MBD_LIMITS_H
#define MBD_LIMITS_H

#include "proto/wire_error.h"
#include "server/access/limiter.h"

/* 429, and seconds after which it may be tried again. */
void mbd_limit_refuse(enum mbd_limit limit, const struct mbd_key *k, uint64_t retry_ns,
                      struct mb_wire_error *ret, unsigned *ret_retry_after);

#endif
