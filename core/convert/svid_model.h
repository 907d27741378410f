/* The papers' start as a whole model: each linear layer of the blocks replaced by its
 * successive SVID with float scales, everything else as it was. For comparison in evaluation;
 * it is never stored or served.
 *
 * Memory:  the float32 blocks of the whole model. */
#ifndef MB_CORE_SVID_MODEL_H
#define MB_CORE_SVID_MODEL_H

#include "core/base/parallel.h"
#include "core/base/progress.h"
#include "core/model/model.h"

/* m is a float model; the result holds a reference to it.
 * Errors: MB_E_INVALID for a weight that is not finite, MB_E_NOMEM, MB_E_CANCELLED. */
enum mb_status mb_svid_model_new(struct mb_model *m, unsigned n_kernels, struct mb_pool *pool,
                                 const struct mb_progress *progress, struct mb_model **ret,
                                 struct mb_error *err);

#endif
