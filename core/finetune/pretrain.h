/* Pretraining: a float model made from nothing, on a text. The same engine as fine-tuning, with
 * AdamW in place of flips; what comes out is a model like any other's, to be converted.
 *
 * Exact:   the same from the same on one kind of processor, whatever the threads.
 * Threads: one caller; the pool's workers run inside. */
#ifndef MB_CORE_FINETUNE_PRETRAIN_H
#define MB_CORE_FINETUNE_PRETRAIN_H

#include "core/base/progress.h"
#include "core/finetune/float_model.h"
#include "core/infer/windows.h"

struct mb_pretrain_report {
    uint32_t step, steps;
    uint64_t tokens;   /* seen so far */
    double loss;       /* mean cross-entropy a token since the report before, in nats */
    double valid_loss; /* of the whole of valid; NaN where it was not computed */
    float rate;
};

struct mb_pretrain_options {
    struct mb_shape shape;
    double rope_theta;
    uint64_t seed; /* of the weights and of the order of the windows */
    const struct mb_windows *train;
    const struct mb_windows *valid; /* or NULL */
    uint32_t batch_tokens;          /* at most this many a step; at least the longest window */
    uint32_t steps;
    uint32_t warmup;       /* steps of a rate that rises from 0 */
    uint32_t report_every; /* steps; the last one is reported too */
    uint32_t valid_every;  /* reports; the last one has it too */
    float rate;            /* at its highest; falls to a tenth along a cosine */
    float decay;           /* of matrices, see AdamW */
    struct mb_pool *pool;
    const struct mb_train_ops *ops;

    void (*report)(void *self, const struct mb_pretrain_report *r); /* may be NULL */
    void *self;
    /* Asked after every step, may be NULL. Stopping early is no error: the model is then what it
     * was after that step. */
    const struct mb_progress *progress;
};

/* *ret: linear layers in float32, from mb_float_model_new.
 * Errors: MB_E_INVALID for what is out of range, and for a loss that is not finite; MB_E_NOMEM. */
enum mb_status mb_pretrain(const struct mb_pretrain_options *o, struct mb_model **ret,
                           struct mb_error *err);

#endif
