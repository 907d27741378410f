/* The triangular factor that says how an error in one column can be made good by another.
 *
 *     H = (I + F) diag(d) (I + F)^T,   F strictly upper triangular
 *
 * The expected squared error of an output row with weight error e (1 x n) is e H e^T
 * = sum_j d_j (e_j + sum_{i<j} e_i F_ij)^2: whoever decides columns left to right makes each
 * term small by aiming column j at w_j + sum_{i<j} (w_i - q_i) F_ij, and weighs its remaining
 * error by d_j. (This is GPTQ's procedure in the form that needs no inverse.)
 *
 * Source:  Frantar et al., GPTQ; Chee et al., QuIP (where LDLQ is shown to be the same). */
#ifndef MB_CORE_FACTOR_H
#define MB_CORE_FACTOR_H

#include <stddef.h>

#include "core/base/parallel.h"
#include "proto/status.h"

struct mb_factor {
    size_t n;
    float *feed;   /* F, [n][n]; zero on and below the diagonal */
    float *weight; /* d, [n], positive */
};

/* h is n x n, symmetric, finite. When it is too close to singular, a little is added to its
 * diagonal: 1e-6 of the mean, then ten times as much until it is not.
 * Exact:  the same bits for any number of threads.
 * Errors: MB_E_NOMEM; MB_E_INVALID when h is no second moment at all. */
enum mb_status mb_factor_init(struct mb_factor *f, const float *h, size_t n,
                              struct mb_pool *pool, struct mb_error *err);
void mb_factor_fini(struct mb_factor *f);

/* b <- b H^-1 for rows b, [n_rows][n]. */
void mb_factor_solve(const struct mb_factor *f, float *b, size_t n_rows);

#endif
