/* What the routes may use: everything is borrowed, and outlives the listener.
 *
 * Threads: the control thread. */
#ifndef MBD_SERVICE_H
#define MBD_SERVICE_H

#include <stdbool.h>

#include "server/config/options.h"
#include "server/log/log.h"
#include "server/loop/loop.h"
#include "server/metrics/metrics.h"
#include "server/registry/registry.h"

struct mbd_completions;
struct mbd_embeddings;
struct mbd_jobs;
struct mbd_store;

/* What routes say of files and jobs without --state-dir. */
#define MBD_NO_STATE \
    "this server keeps no files and runs no jobs: it was started without --state-dir"
struct mbd_keyring;
struct mbd_tls;

struct mbd_service {
    const struct mbd_options *options;
    const struct mbd_log *log;
    struct mbd_loop *loop;
    struct mbd_metrics *metrics;
    struct mbd_registry *registry;
    struct mbd_keyring *keys; /* NULL: nobody needs one */
    struct mbd_tls *tls;      /* of --listen; NULL: plain HTTP */
    struct mbd_completions *completions;
    struct mbd_embeddings *embeddings;
    struct mbd_store *store; /* NULL without --state-dir, as jobs */
    struct mbd_jobs *jobs;
    const char *isa; /* a constant: what the kernels use */
    uint32_t threads;
    /* For routes, on the loop's other thread; the loop turns until there are none. */
    size_t n_works;
    size_t n_uploads; /* on their way */
    bool draining;    /* answers to new work are 503 from now on */
};

#endif
