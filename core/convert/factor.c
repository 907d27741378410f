#include "core/convert/factor.h"

#include <stdbool.h>

#include "core/base/checked.h"
#include "core/base/memory.h"
#include "core/tensor/blas.h"

/* Columns factored at once. Fixed: parts and their sums must not depend on the threads. */
enum { BLOCK = 128 };
/* Relative to the mean of the diagonal: nothing, 1e-6, 1e-5, ... 1. */
enum { ADDED_TRIES = 8 };
#define ADDED_FIRST 1e-6

/* The lower factor of the reversed matrix, since reversing rows and columns turns L L^T into
 * the upper times upper-transposed form that is wanted. */
struct work {
    double *a; /* [n][n], lower triangle */
    size_t n;
    size_t col; /* first column of the block in hand */
};

static void reverse(struct work *w, const float *h, double add)
{
    size_t n = w->n;
    for (size_t i = 0; i < n; i++) {
        const float *from = h + (n - 1 - i) * n;
        for (size_t j = 0; j <= i; j++) {
            w->a[i * n + j] = from[n - 1 - j];
        }
        w->a[i * n + i] += add;
    }
}

static size_t extent(const struct work *w, size_t at)
{
    return w->n - at < BLOCK ? w->n - at : BLOCK;
}

/* Rows below the diagonal block: L21 = A21 L11^-T. */
static void solve_part(void *job, size_t part, size_t worker)
{
    const struct work *w = job;
    size_t row = w->col + (part + 1) * BLOCK;
    mb_dtrsm_right_lower_transposed(extent(w, row), extent(w, w->col),
                                    w->a + w->col * w->n + w->col, w->n,
                                    w->a + row * w->n + w->col, w->n);
}

/* A row of tiles of what is left: A22 -= L21 L21^T, up to the diagonal. */
static void update_part(void *job, size_t part, size_t worker)
{
    const struct work *w = job;
    size_t row = w->col + (part + 1) * BLOCK;
    for (size_t col = w->col + BLOCK; col <= row; col += BLOCK) {
        mb_dgemm(MB_AS_IS, MB_TRANSPOSED, extent(w, row), extent(w, col), extent(w, w->col), -1,
                 w->a + row * w->n + w->col, w->n, w->a + col * w->n + w->col, w->n, 1,
                 w->a + row * w->n + col, w->n);
    }
}

static bool cholesky(struct work *w, struct mb_pool *pool)
{
    for (w->col = 0; w->col < w->n; w->col += BLOCK) {
        if (!mb_dpotrf_lower(extent(w, w->col), w->a + w->col * w->n + w->col, w->n)) {
            return false;
        }
        size_t below = mb_div_up(w->n - w->col, BLOCK) - 1;
        mb_pool_run(pool, below, solve_part, w);
        mb_pool_run(pool, below, update_part, w);
    }
    return true;
}

/* Reversed back, with the diagonal taken out: F_ij = U_ij / U_jj, d_j = U_jj^2. */
static void take_out(struct mb_factor *f, const struct work *w)
{
    size_t n = w->n;
    for (size_t i = 0; i < n; i++) {
        const double *from = w->a + (n - 1 - i) * n;
        for (size_t j = 0; j < i; j++) {
            double u_ji = w->a[(n - 1 - j) * n + (n - 1 - i)];
            f->feed[j * n + i] = (float) (u_ji / from[n - 1 - i]);
        }
        f->weight[i] = (float) (from[n - 1 - i] * from[n - 1 - i]);
    }
}

enum mb_status mb_factor_init(struct mb_factor *f, const float *h, size_t n,
                              struct mb_pool *pool, struct mb_error *err)
{
    *f = (struct mb_factor) { .n = n };
    f->feed = mb_alloc(n, n * sizeof *f->feed);
    f->weight = mb_alloc(n, sizeof *f->weight);
    struct work w = { .a = mb_alloc(n, n * sizeof *w.a), .n = n };
    if (!f->feed || !f->weight || !w.a) {
        mb_free(w.a);
        mb_factor_fini(f);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to factor %zu columns", n);
    }
    double mean = 0, added = 0;
    for (size_t i = 0; i < n; i++) {
        mean += h[i * n + i] / (double) n;
    }
    bool done = false;
    for (int i = 0; !done && i < ADDED_TRIES; i++) {
        reverse(&w, h, added * mean);
        done = cholesky(&w, pool);
        added = added > 0 ? added * 10 : ADDED_FIRST;
    }
    if (done) {
        take_out(f, &w);
    }
    mb_free(w.a);
    if (!done) {
        mb_factor_fini(f);
        return mb_fail(err, MB_E_INVALID, 0, "second moments of %zu columns are not positive",
                       n);
    }
    return MB_OK;
}

void mb_factor_fini(struct mb_factor *f)
{
    mb_free(f->feed);
    mb_free(f->weight);
    *f = (struct mb_factor) { 0 };
}

void mb_factor_solve(const struct mb_factor *f, float *b, size_t n_rows)
{
    /* b ((I + F) d (I + F)^T)^-1: the transposed factor first, as it stands on the right. */
    mb_strsm_right_upper_unit(MB_TRANSPOSED, n_rows, f->n, f->feed, f->n, b, f->n);
    for (size_t i = 0; i < n_rows; i++) {
        for (size_t j = 0; j < f->n; j++) {
            b[i * f->n + j] /= f->weight[j];
        }
    }
    mb_strsm_right_upper_unit(MB_AS_IS, n_rows, f->n, f->feed, f->n, b, f->n);
}
