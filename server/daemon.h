/* The daemon: builds everything in order, runs until it is told to leave, takes everything down
 * in reverse.
 *
 * SIGHUP reads the file of keys anew, if it is whole and right.
 *
 * Leaving: SIGTERM or SIGINT begins a drain. /readyz says 503 at once, and so do new completions; the socket stays open meanwhile, so that probes and metrics can
 * still be read and clients are told to come back rather than refused. Requests that run go on,
 * for at most --drain-timeout; then they are cancelled, and told so. Requests that are not whole
 * are not waited for. A second signal leaves at once. */
#ifndef MBD_DAEMON_H
#define MBD_DAEMON_H

#include "server/config/options.h"

/* Returns after a drain. Errors: whatever kept it from starting. */
enum mb_status mbd_daemon_run(const struct mbd_options *o, struct mb_error *err);

/* Opens what a run would open, and checks what its start would check; starts nothing. What the
 * moment of a start decides is not known: whether the address and the memory are free. */
enum mb_status mbd_daemon_check(const struct mbd_options *o, struct mb_error *err);

#endif
