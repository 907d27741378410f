/* Successive SVID: each kernel is the sign of what is left, times the best rank-1 matrix of
 * positive scales for its magnitude. The papers' start, kept to begin from and to compare with.
 *
 *     R_1 = W;  B_k = sign(R_k);  (u_k, v_k) = leading singular pair of |R_k|
 *     R_{k+1} = R_k - B_k .* (u_k v_k^T)
 *
 * Source:  OneBit (the decomposition); "Highly Efficient and Effective LLMs with Multi-Boolean
 *          Architectures", Eq. 8 (its succession). */
#ifndef MB_CORE_SVID_H
#define MB_CORE_SVID_H

#include <stddef.h>

#include "core/convert/source.h"
#include "proto/status.h"

struct mb_svid {
    size_t n_rows, n_cols;
    unsigned n_kernels;
    float *u; /* [K][n_rows], with the singular value in it */
    float *v; /* [K][n_cols], of unit length */
};

/* w is finite. Exact: the same bits for any number of threads. Errors: MB_E_NOMEM. */
enum mb_status mb_svid_init(struct mb_svid *s, const struct mb_source *w, unsigned n_kernels,
                            struct mb_pool *pool, struct mb_error *err);
void mb_svid_fini(struct mb_svid *s);

/* x <- x - the first n_kernels kernels, for a row x of w: x is what was left, in place. */
void mb_svid_subtract(const struct mb_svid *s, size_t row, unsigned n_kernels, float *x);

#endif
