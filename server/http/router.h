/* Which handler answers which method and path: one table.
 *
 * Threads: pure; the table is constant. */
#ifndef MBD_ROUTER_H
#define MBD_ROUTER_H

#include <stdbool.h>
#include <stddef.h>

struct mbd_exchange;
typedef void mbd_handler_fn(struct mbd_exchange *x);

struct mbd_route {
    const char *name;   /* the label of metrics and log */
    const char *method; /* a GET route answers HEAD as well */
    const char *path; /* with a '/' at its end: a prefix, with something behind it; with {model}
                           in it: any model's name there */
    unsigned scopes;  /* of which a key must have one (access/key.h); 0: no key opens it */
    bool has_body;    /* JSON, up to --max-body; else no body is taken */
    bool ops;         /* probes and metrics: asked for all the time, so logged as debug; on the
                           port for operations when there is one */
    mbd_handler_fn *handler;
};

/* The route, with *ret_tail what the path has beyond a prefix, or from {model} on; or NULL. Then *ret_allow is the
 * Allow header of a path that other methods have, or NULL for a path that there is not. */
const struct mbd_route *mbd_route_find(const char *method, const char *path,
                                       const char **ret_tail, const char **ret_allow);

/* How much of a tail that was found for r is its own: what stands for {model}, or all of it. */
size_t mbd_route_tail_length(const struct mbd_route *r, const char *tail);

/* Is it one of the paths for operations? And is it one that is only asked (GET), as these are, and
 * the lists of what there is? */
bool mbd_route_is_ops(const char *path);
bool mbd_route_is_asked(const char *path);

mbd_handler_fn mbd_route_completions, mbd_route_chat_completions, mbd_route_models,
    mbd_route_model, mbd_route_healthz, mbd_route_readyz, mbd_route_metrics,
    mbd_route_embeddings, mbd_route_tokenize, mbd_route_detokenize, mbd_route_version,
    mbd_route_info, mbd_route_promote, mbd_route_rollback, mbd_route_pin, mbd_route_epochs;

#endif
