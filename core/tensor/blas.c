#include "core/tensor/blas.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/kernels/cpu.h"

/* LAPACK's Cholesky factor, which libopenblas carries; its C header is not installed with it.
 * Column-major: the upper triangle there is the lower one here. */
extern void dpotrf_(const char *uplo, const int *n, double *a, const int *lda, int *info);

/* What OpenBLAS, where it was built for many processors, does as it is loaded; absent where it was
 * built for one. */
extern void gotoblas_dynamic_init(void) __attribute__((weak));
extern void gotoblas_dynamic_quit(void) __attribute__((weak));

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* OpenBLAS 0.3.21 takes a processor that it has not heard of for a Haswell, at half the speed of one
 * with AVX-512. It can be told only by a variable of the environment, which it reads as it chooses;
 * so the choice is made once more. A user's own value is left to stand. */
static void choose_processor(void)
{
    bool is_guess = strcmp(openblas_get_corename(), "Haswell") == 0 ||
                    strcmp(openblas_get_corename(), "Zen") == 0;
    if (!gotoblas_dynamic_init || !gotoblas_dynamic_quit || !is_guess ||
        !(mb_cpu_detect() & MB_CPU_AVX512) || setenv("OPENBLAS_CORETYPE", "SkylakeX", 0) != 0) {
        return;
    }
    gotoblas_dynamic_quit();
    gotoblas_dynamic_init();
}

static void choose(void)
{
    choose_processor();
    openblas_set_num_threads(1);
}

/* Before each call: whichever thread comes first sets it, and the others wait for that. */
static void prepare(void)
{
    int failed = pthread_once(&once, choose);
    assert(failed == 0);
    (void) failed;
}

static int size_of(size_t n)
{
    assert(n <= INT_MAX);
    return (int) n;
}

static CBLAS_TRANSPOSE trans(enum mb_trans op)
{
    return op == MB_TRANSPOSED ? CblasTrans : CblasNoTrans;
}

void mb_sgemm(enum mb_trans op_a, enum mb_trans op_b, size_t m, size_t n, size_t k, float alpha,
              const float *a, size_t lda, const float *b, size_t ldb, float beta, float *c,
              size_t ldc)
{
    prepare();
    cblas_sgemm(CblasRowMajor, trans(op_a), trans(op_b), size_of(m), size_of(n), size_of(k),
                alpha, a, size_of(lda), b, size_of(ldb), beta, c, size_of(ldc));
}

void mb_dgemm(enum mb_trans op_a, enum mb_trans op_b, size_t m, size_t n, size_t k,
              double alpha, const double *a, size_t lda, const double *b, size_t ldb,
              double beta, double *c, size_t ldc)
{
    prepare();
    cblas_dgemm(CblasRowMajor, trans(op_a), trans(op_b), size_of(m), size_of(n), size_of(k),
                alpha, a, size_of(lda), b, size_of(ldb), beta, c, size_of(ldc));
}

void mb_strsm_right_upper_unit(enum mb_trans op_u, size_t m, size_t n, const float *u,
                               size_t ldu, float *b, size_t ldb)
{
    prepare();
    cblas_strsm(CblasRowMajor, CblasRight, CblasUpper, trans(op_u), CblasUnit, size_of(m),
                size_of(n), 1, u, size_of(ldu), b, size_of(ldb));
}

void mb_dtrsm_right_lower_transposed(size_t m, size_t n, const double *l, size_t ldl, double *b,
                                     size_t ldb)
{
    prepare();
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, size_of(m),
                size_of(n), 1, l, size_of(ldl), b, size_of(ldb));
}

bool mb_dpotrf_lower(size_t n, double *a, size_t lda)
{
    prepare();
    int order = size_of(n), stride = size_of(lda), info = 0;
    dpotrf_("U", &order, a, &stride, &info);
    assert(info >= 0);
    return info == 0;
}

const char *mb_blas_name(void)
{
    prepare();
    return openblas_get_corename();
}
