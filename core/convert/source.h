/* The weights that conversion reads: dense, of any alignment and type, and not to be trusted.
 *
 * Threads: pure. */
#ifndef MB_CORE_SOURCE_H
#define MB_CORE_SOURCE_H

#include <stddef.h>

#include "core/base/parallel.h"
#include "core/model/model.h"
#include "proto/status.h"

/* A weight whose input is scaled by t before anything else is divided by t in turn. */
struct mb_source {
    struct mb_linear w;   /* dense */
    const float *inverse; /* 1 / t, [n_cols], or NULL for 1 */
};

/* Row i as float32. Shapes: ret is [n_cols]. */
void mb_source_row(const struct mb_source *s, size_t row, float *ret);

/* The largest magnitude. Errors: MB_E_INVALID, naming the tensor, the row and the column of a
 * weight that is not finite. */
enum mb_status mb_source_check(const struct mb_source *s, const char *name,
                               struct mb_pool *pool, float *ret_largest, struct mb_error *err);

#endif
