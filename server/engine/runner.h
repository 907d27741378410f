/* Runs what was planned: the KV cache and scratch of a model, and the pool of workers.
 * From a plan and the slots it makes a batch for every epoch of the model among them, takes the
 * steps, and draws a token for every slot that asked. Who shares a batch changes nothing (A1), so
 * nobody can tell from a token that two epochs ran.
 * Prompts whose tokens are to be scored are run after it, each alone: they
 * need the logits of every position.
 *
 * Slot i is sequence i of the KV cache (J2).
 *
 * Memory:  everything at _init; running allocates nothing.
 * Threads: one at a time; the pool's workers run inside. */
#ifndef MBD_RUNNER_H
#define MBD_RUNNER_H

#include <stdatomic.h>

#include "core/base/parallel.h"
#include "core/infer/step.h"
#include "server/engine/engine.h"
#include "server/engine/slot.h"
#include "server/scheduler/plan.h"

struct mbd_runner {
    struct mb_model *model; /* a reference: of the shape of all epochs */
    struct mb_pool *pool;
    struct mb_stepper *stepper;
    struct mb_kv_cache *kv;

    uint32_t *token, *position, *seq; /* [step_tokens_max], the batch */
    uint32_t *logits_of;              /* [sequences_max] */
    uint32_t n_rows;                  /* of logits, and slots that drew a token */
    uint32_t *row_slot;               /* [sequences_max] */
    const struct mb_model *
        *batch_of;              /* [sequences_max] of each part of the plan: the weights of
                                          the batch that it waits for; NULL: of none */
    uint32_t *scored, n_scored; /* [sequences_max] parts of the plan that run alone */
    float *hidden;              /* [D] of one token */
    float *logits;              /* [sequences_max][n_vocab] */
    uint32_t scores_max;        /* positions that are scored at a time */
    uint32_t *score_of;         /* [scores_max] */
    float *score_logits;        /* [scores_max][n_vocab] */
};

/* For every epoch that has the shape and the groups of model. o->context_max is set. Errors: MB_E_NOMEM; MB_E_INVALID when the KV cache would hold no
 * block. */
enum mb_status mbd_runner_init(struct mbd_runner *r, struct mb_model *model,
                               const struct mbd_engine_options *o, struct mb_error *err);
void mbd_runner_fini(struct mbd_runner *r); /* what failed to be made is allowed */

typedef void mbd_runner_fail_fn(void *arg, uint32_t slot, enum mb_status status);

/* On return the slots row_slot[0..n_rows) have drawn a token. A batch that is refused changed
 * nothing, and is run again one sequence at a time, which gives the others the same tokens
 * (A1); the slots that are refused alone too are handed to fail.
 * Errors: MB_E_CANCELLED when *cancel became true; nobody has drawn then. */
enum mb_status mbd_runner_run(struct mbd_runner *r, struct mbd_slot *slots,
                              const struct mbd_plan *plan, const atomic_bool *cancel,
                              mbd_runner_fail_fn *fail, void *arg);

#endif
