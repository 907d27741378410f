/* Dense float products and factors, by OpenBLAS.
 *
 * OpenBLAS is told to use one thread, once, before its first call here: parallelism is ours. So it is
 * which processor it is on, where it would take an AVX-512 one for a Haswell.
 * Work is cut into parts that do not depend on the number of threads, each part is one
 * single-threaded call, and so results do not depend on the number of threads either.
 *
 * Matrices are row-major; lda is the distance between rows in elements.
 *
 * Exact:   the same bits from the same call on the same processor. Other processors may round
 *          differently: nothing that a model's output depends on at run time goes through here.
 * Threads: any number at once, on disjoint outputs. */
#ifndef MB_CORE_BLAS_H
#define MB_CORE_BLAS_H

#include <stdbool.h>
#include <stddef.h>

enum mb_trans { MB_AS_IS, MB_TRANSPOSED };

/* C = alpha * op(A) op(B) + beta * C.
 * Shapes: op(A) m x k, op(B) k x n, C m x n; each size below 2^31. */
void mb_sgemm(enum mb_trans op_a, enum mb_trans op_b, size_t m, size_t n, size_t k, float alpha,
              const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
              size_t ldc);
void mb_dgemm(enum mb_trans op_a, enum mb_trans op_b, size_t m, size_t n, size_t k,
              double alpha, const double *a, size_t lda, const double *b, size_t ldb,
              double beta, double *c, size_t ldc);

/* X op(U) = B in place of B, U upper triangular with ones on its diagonal, which is not read.
 * Shapes: B m x n, U n x n. */
void mb_strsm_right_upper_unit(enum mb_trans op_u, size_t m, size_t n, const float *u,
                               size_t ldu, float *b, size_t ldb);

/* X L' = B in place of B, L lower triangular. Shapes: B m x n, L n x n. */
void mb_dtrsm_right_lower_transposed(size_t m, size_t n, const double *l, size_t ldl, double *b,
                                     size_t ldb);

/* A = L L' in place of A's lower triangle; the upper is neither read nor written.
 * Returns false when A is not positive definite. */
bool mb_dpotrf_lower(size_t n, double *a, size_t lda);

/* Which processor's kernels OpenBLAS runs here: "HASWELL". Results are the same where this is. */
const char *mb_blas_name(void);

#endif
