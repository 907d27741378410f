/* Weights on their way into float products, and patterns on their way back into bits.
 *
 * A pattern is the signs of one weight in its K kernels: bit k is 1 for +1 (levels.h).
 *
 * Threads: pure, but for _dense, which runs on the caller's pool. */
#ifndef MB_CORE_FINETUNE_WEIGHTS_H
#define MB_CORE_FINETUNE_WEIGHTS_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/parallel.h"
#include "core/model/model.h"

/* The patterns of row's group g: [group_cols]. */
void mb_weights_patterns(const struct mb_bool_matrix *w, size_t row, size_t g, uint8_t *ret);
/* Writes them back; padding stays zero (B1). */
void mb_weights_set_patterns(struct mb_bool_draft *d, size_t row, size_t g,
                             const uint8_t *pattern);

/* What the 2^K patterns of row's group g mean: (scale_all s) float(sum_k sigma_k c_k), as
 * mb_bool_row has it. */
void mb_weights_levels(const struct mb_bool_matrix *w, size_t row, size_t g,
                       float ret[1u << MB_KERNELS_MAX]);

/* One row as floats, of any kind. */
void mb_weights_row(const struct mb_linear *l, size_t row, float *ret);
/* All rows as floats: l's own memory when it is aligned float32, else written to scratch
 * [n_rows][n_cols], which is returned. */
const float *mb_weights_dense(const struct mb_linear *l, struct mb_pool *pool, float *scratch);

#endif
