/* Which handler answers which method and path: one table.
 *
 * Threads: pure; the table is constant. */
#ifndef MBD_ROUTER_H
#define MBD_ROUTER_H

#include <stdbool.h>
#include <stddef.h>

struct mbd_exchange;
typedef void mbd_handler_fn(struct mbd_exchange *x);

/* What may come behind a header. */
enum mbd_body {
    MBD_BODY_NONE,
    MBD_BODY_JSON,   /* up to --max-body, gathered in memory */
    MBD_BODY_UPLOAD, /* a form with a file, which goes to disk as it comes: upload.h */
};

struct mbd_route {
    const char *name;   /* the label of metrics and log */
    const char *method; /* a GET route answers HEAD as well */
    const char *path;   /* with a '/' at its end: a prefix, with something behind it; "{id}" in
                           it is anything without a '/', "{model}" any model's name */
    unsigned scopes;    /* of which a key must have one (access/key.h); 0: no key opens it */
    enum mbd_body body;
    bool ops; /* probes and metrics: asked for all the time, so logged as debug; on the
                           port for operations when there is one */
    mbd_handler_fn *handler;
};

/* The route, with *ret_tail what the path has beyond a prefix, or from {id} or {model} on; or NULL. Then
 * *ret_allow is the Allow header of a path that other methods have, or NULL for a path that there
 * is not. */
const struct mbd_route *mbd_route_find(const char *method, const char *path,
                                       const char **ret_tail, const char **ret_allow);

/* How much of a tail that was found for r is its own: what stands for {id} or {model}, or all of it. */
size_t mbd_route_tail_length(const struct mbd_route *r, const char *tail);

/* Is it one of the paths for operations? And is it one that is only asked (GET), as these are, and
 * the lists of what there is? */
bool mbd_route_is_ops(const char *path);
bool mbd_route_is_asked(const char *path);

mbd_handler_fn mbd_route_completions, mbd_route_chat_completions, mbd_route_models,
    mbd_route_model, mbd_route_healthz, mbd_route_readyz, mbd_route_metrics,
    mbd_route_embeddings, mbd_route_tokenize, mbd_route_detokenize, mbd_route_version,
    mbd_route_info, mbd_route_promote, mbd_route_rollback, mbd_route_pin, mbd_route_epochs,
    mbd_route_checkpoint, mbd_route_create_file, mbd_route_files, mbd_route_file,
    mbd_route_delete_file, mbd_route_file_content, mbd_route_create_job, mbd_route_jobs,
    mbd_route_job, mbd_route_cancel_job, mbd_route_pause_job, mbd_route_resume_job,
    mbd_route_job_events, mbd_route_job_checkpoints;

#endif
