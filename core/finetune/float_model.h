/* A float32 model in memory of our own: made from nothing, and moved by AdamW. What pretraining
 * trains, and what the yardstick of Boolean training compares with.
 *
 * Life:    a struct mb_model like any other, but its weights may be written by whoever trains it.
 * Threads: one thread trains. */
#ifndef MB_CORE_FINETUNE_FLOAT_MODEL_H
#define MB_CORE_FINETUNE_FLOAT_MODEL_H

#include "core/finetune/gradient.h"
#include "core/model/model.h"

/* Random weights: normal with deviation 0.02, in layers that add to the residual stream
 * 0.02 / sqrt(2 n_layers) (Radford et al. 2019), norms 1. The same for the same seed.
 * Errors: MB_E_INVALID for the shape, MB_E_NOMEM. */
enum mb_status mb_float_model_new(const struct mb_shape *shape, double rope_theta,
                                  uint64_t seed, struct mb_model **ret, struct mb_error *err);

size_t mb_float_model_n_weights(const struct mb_model *m); /* of all tensors, norms too */

/* AdamW (adam.h) over all weights; decay is of matrices only. */
struct mb_adamw_options {
    double beta1, beta2, eps, decay;
};

struct mb_adamw;

/* m is from mb_float_model_new and outlives this. State: two floats a weight.
 * Errors: MB_E_NOMEM. */
enum mb_status mb_adamw_new(struct mb_model *m, const struct mb_adamw_options *o,
                            struct mb_adamw **ret, struct mb_error *err);
void mb_adamw_free(struct mb_adamw *a); /* NULL is allowed */

/* Begins step t, counted from 1 inside: every gradient that the sink takes until the next call
 * moves its weights at this rate. */
void mb_adamw_begin(struct mb_adamw *a, double rate);
struct mb_sink mb_adamw_sink(struct mb_adamw *a);

#endif
