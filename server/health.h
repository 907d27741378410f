/* Asking a running daemon whether it is alive, as an orchestrator without a client of its own does:
 * a container's health check, a script.
 *
 * Threads: any. */
#ifndef MBD_HEALTH_H
#define MBD_HEALTH_H

#include "server/config/options.h"

/* GET /healthz of the daemon that runs with the options o on this machine: where its probes are.
 * MB_OK when it answers 200 within MBD_HEALTH_TIMEOUT_MS.
 * Errors: MB_E_INVALID for port 0, which says nothing; MB_E_IO with the reason, or what the daemon
 * said. */
enum { MBD_HEALTH_TIMEOUT_MS = 3000 };
enum mb_status mbd_health_ask(const struct mbd_options *o, struct mb_error *err);

#endif
