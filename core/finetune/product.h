/* Products of large float matrices on all threads: cut into parts of fixed sizes, each one call of
 * single-threaded BLAS, so that the result does not depend on the number of threads.
 *
 * Threads: one caller at a time per pool. */
#ifndef MB_CORE_FINETUNE_PRODUCT_H
#define MB_CORE_FINETUNE_PRODUCT_H

#include <stddef.h>

#include "core/base/parallel.h"
#include "core/tensor/blas.h"

struct mb_operand {
    enum mb_trans op;
    const float *at;
    size_t ld; /* floats from row to row */
};

/* C = op(A) op(B) + beta C. Shapes: op(A) m x k, op(B) k x n, C m x n. */
void mb_product(struct mb_pool *pool, size_t m, size_t n, size_t k, struct mb_operand a,
                struct mb_operand b, float beta, float *c, size_t ldc);

#endif
