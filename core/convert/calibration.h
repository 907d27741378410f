/* Calibration text on its way through two models at once, one decoder block after another: the
 * float model, and the model as converted so far. Kept between blocks is only the residual
 * stream of all windows, in both; so a whole model never needs to be in memory.
 *
 * Within a block, inputs are observed in their order of computation, each through the layers
 * before it as they are by then: observe attn_in, convert q k v, observe attn_o_in, ...
 *
 * Life:    _new/_free. Threads: one at a time; the pool's workers run inside. */
#ifndef MB_CORE_CALIBRATION_H
#define MB_CORE_CALIBRATION_H

#include "core/base/parallel.h"
#include "core/convert/statistics.h"
#include "core/infer/windows.h"
#include "core/kernels/kernels.h"
#include "core/model/model.h"

struct mb_calibration;

/* All are borrowed for life. converted has the float model's shape and, already now, linear
 * layers of the groups that it will have; they are read only once a block is reached. Its
 * embedding is what begins its residual stream, here. The same model twice is run once, to learn
 * its own inputs: nothing drifts or is owed.
 * Errors: MB_E_INVALID for a token outside the vocabulary, MB_E_NOMEM. */
enum mb_status mb_calibration_new(const struct mb_model *original,
                                  const struct mb_model *converted, const struct mb_windows *w,
                                  const struct mb_kernels *kernels, struct mb_pool *pool,
                                  struct mb_calibration **ret, struct mb_error *err);
void mb_calibration_free(struct mb_calibration *c); /* NULL is allowed */

/* How many batches a pass over the text takes: the unit of progress. */
size_t mb_calibration_batches(const struct mb_calibration *c);

/* Adds batch i of a pass to the statistics of an input of the block, which is scaled by the
 * converted model's t. For the inputs of layers that add to the residual stream, statistics
 * also learn what that stream is owed. */
enum mb_status mb_calibration_observe(struct mb_calibration *c, size_t batch, uint32_t layer,
                                      enum mb_block_input input, struct mb_statistics *s,
                                      struct mb_error *err);

/* The same of the head's input, after the last block. */
void mb_calibration_observe_head(struct mb_calibration *c, size_t batch,
                                 struct mb_statistics *s);

/* Takes batch i through the block in both models. Of each block once, when it is converted. */
enum mb_status mb_calibration_advance(struct mb_calibration *c, size_t batch, uint32_t layer,
                                      struct mb_error *err);

#endif
