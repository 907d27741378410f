/* The engine: one thread that plans a step (decode first, then prompt chunks within a token
 * budget), runs it on its pool of pinned workers, samples, and pushes tokens into each
 * request's ring.
 *
 * Life:    _new starts the thread; _free stops it, cancelling what is left.
 * Threads: submit, drain and free from the control thread; stats and heartbeat from any. */
#ifndef MBD_ENGINE_H
#define MBD_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/infer/kv_cache.h"
#include "core/model/model.h"
#include "server/requests/request.h"

struct mbd_engine;
struct mbd_metrics;

struct mbd_engine_options {
    uint32_t threads; /* workers, the engine's own thread included */
    bool pin;
    const struct mb_kernels *kernels; /* borrowed for life */
    uint32_t sequences_max;           /* slots: sequences in a step */
    uint32_t step_tokens_max;         /* token budget of a step: decoding first, then prompts */
    uint32_t step_time_ms;            /* of a step, wanted while sequences decode; 0: any */
    uint64_t kv_bytes;           /* of the KV cache; 0: enough for sequences_max at context,
                                      within a quarter of the machine's (the cgroup's) memory */
    uint32_t context_max;        /* positions of a sequence; 0: the model's */
    uint32_t queue_requests_max; /* waiting requests beyond which submit is refused */
    uint64_t queue_tokens_max;   /* waiting prompt tokens beyond which submit is refused */
    bool prefix_cache;           /* blocks of the KV cache are shared by who begins alike */
    struct mbd_metrics *metrics; /* borrowed; may be NULL in tests */
    void (*wake)(void *arg);     /* called from the engine thread when any request has new
                                      events; must be cheap (uv_async_send) */
    void *wake_arg;
};

/* model is the first of the epochs that requests will bring (mbd_request_use), and has the shape and
 * the groups of them all (S4): one KV cache and one scratch serve them. Takes a reference on it;
 * tokenizer is that of the requests to come.
 * Errors: MB_E_INVALID, naming the option and its range; MB_E_UNSUPPORTED for a token whose
 *         text would not fit an event; MB_E_NOMEM. */
enum mb_status mbd_engine_new(struct mb_model *model, const struct mb_tokenizer *tokenizer,
                              const struct mbd_engine_options *o, struct mbd_engine **ret,
                              struct mb_error *err);
void mbd_engine_free(struct mbd_engine *e); /* NULL is allowed */

/* Admits r, which has its epoch, and takes a reference until it is final, or refuses: MB_E_LIMIT when the queue is
 * full (err says which bound; a prompt longer than the bound of tokens is taken when nobody
 * waits); MB_E_UNAVAILABLE when draining; MB_E_INVALID when prompt + max_tokens can never fit
 * the context or the KV cache, or a token is not the model's. What was admitted is never judged
 * again; what was refused may be submitted again. */
enum mb_status mbd_engine_submit(struct mbd_engine *e, struct mbd_request *r,
                                 struct mb_error *err);

/* No new requests from now on; those admitted go on. */
void mbd_engine_drain(struct mbd_engine *e);

struct mbd_engine_stats {
    uint32_t waiting, prefilling, decoding;
    uint64_t waiting_tokens;
    uint32_t kv_blocks,
        kv_blocks_free;    /* free: also those that are kept for who begins alike */
    uint64_t steps;        /* taken so far */
    uint64_t heartbeat_ns; /* mbd_now_ns; when the engine last began a round of its loop: every
                              step, and when idle at least once a second */
    uint32_t context_max, sequences_max;
};
void mbd_engine_stats(const struct mbd_engine *e, struct mbd_engine_stats *ret);

#endif
