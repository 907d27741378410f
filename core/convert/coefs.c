#include "core/convert/coefs.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/convert/levels.h"

#define REGULARIZATION 1e-6
#define HALF_MAX       65504.0f

static double sign(unsigned pattern, unsigned k)
{
    return pattern >> k & 1 ? 1 : -1;
}

void mb_quadratic_of(struct mb_quadratic *q, unsigned n_kernels, const uint8_t *pattern,
                     const float *w, const float *d, size_t n)
{
    /* Columns of one pattern have one sigma: sum them first. */
    double sum_d[MB_LEVELS_MAX] = { 0 }, sum_dw[MB_LEVELS_MAX] = { 0 };
    for (size_t j = 0; j < n; j++) {
        double d_j = d ? d[j] : 1;
        sum_d[pattern[j]] += d_j;
        sum_dw[pattern[j]] += d_j * w[j];
    }
    memset(q, 0, sizeof *q);
    q->n_kernels = n_kernels;
    for (unsigned p = 0; p < 1u << n_kernels; p++) {
        for (unsigned k = 0; k < n_kernels; k++) {
            q->b[k] += sign(p, k) * sum_dw[p];
            for (unsigned l = 0; l <= k; l++) {
                q->a[k][l] += sign(p, k) * sign(p, l) * sum_d[p];
            }
        }
    }
    for (unsigned k = 0; k < n_kernels; k++) {
        for (unsigned l = 0; l < k; l++) {
            q->a[l][k] = q->a[k][l];
        }
    }
}

/* Gauss elimination without pivots, which a regularized positive matrix does not need. */
void mb_quadratic_solve(const struct mb_quadratic *q, float *ret_alpha)
{
    unsigned n = q->n_kernels;
    double a[MB_KERNELS_MAX][MB_KERNELS_MAX], x[MB_KERNELS_MAX], trace = 0;
    memcpy(a, q->a, sizeof a);
    memcpy(x, q->b, sizeof x);
    for (unsigned k = 0; k < n; k++) {
        trace += a[k][k];
    }
    if (!(trace > 0)) {
        memset(ret_alpha, 0, n * sizeof *ret_alpha);
        return;
    }
    for (unsigned k = 0; k < n; k++) {
        a[k][k] += REGULARIZATION * trace / n;
    }
    for (unsigned k = 0; k < n; k++) {
        for (unsigned i = k + 1; i < n; i++) {
            double f = a[i][k] / a[k][k];
            for (unsigned j = k; j < n; j++) {
                a[i][j] -= f * a[k][j];
            }
            x[i] -= f * x[k];
        }
    }
    for (unsigned k = n; k-- > 0;) {
        for (unsigned j = k + 1; j < n; j++) {
            x[k] -= a[k][j] * x[j];
        }
        x[k] /= a[k][k];
        ret_alpha[k] = isfinite(x[k]) ? (float) x[k] : 0;
    }
}

double mb_quadratic_at(const struct mb_quadratic *q, const float *alpha)
{
    double e = 0;
    for (unsigned k = 0; k < q->n_kernels; k++) {
        double row = 0;
        for (unsigned l = 0; l < q->n_kernels; l++) {
            row += q->a[k][l] * alpha[l];
        }
        e += alpha[k] * (row - 2 * q->b[k]);
    }
    return e;
}

static void permute(struct mb_quadratic *q, const unsigned *from, const float *turn)
{
    struct mb_quadratic old = *q;
    for (unsigned k = 0; k < q->n_kernels; k++) {
        q->b[k] = turn[from[k]] * old.b[from[k]];
        for (unsigned l = 0; l < q->n_kernels; l++) {
            q->a[k][l] = turn[from[k]] * turn[from[l]] * old.a[from[k]][from[l]];
        }
    }
}

void mb_coefs_canonical(float *alpha, struct mb_quadratic *q, unsigned n_kernels,
                        uint8_t *ret_map)
{
    float turn[MB_KERNELS_MAX], old[MB_KERNELS_MAX];
    unsigned from[MB_KERNELS_MAX];
    for (unsigned k = 0; k < n_kernels; k++) {
        turn[k] = alpha[k] < 0 ? -1 : 1;
        old[k] = fabsf(alpha[k]);
        unsigned at = k; /* insertion sort; equals keep their order */
        for (; at > 0 && old[from[at - 1]] < old[k]; at--) {
            from[at] = from[at - 1];
        }
        from[at] = k;
    }
    for (unsigned k = 0; k < n_kernels; k++) {
        alpha[k] = old[from[k]];
    }
    for (unsigned p = 0; p < 1u << n_kernels; p++) {
        unsigned to = 0;
        for (unsigned k = 0; k < n_kernels; k++) {
            unsigned bit = p >> from[k] & 1;
            to |= (turn[from[k]] < 0 ? !bit : bit) << k;
        }
        ret_map[p] = (uint8_t) to;
    }
    if (q) {
        permute(q, from, turn);
    }
}

static void set_scale(struct mb_coefs *c, unsigned n_kernels, double s)
{
    float scaled = (float) (s / MB_COEFS_UNIT);
    c->half = mb_f32_to_f16(scaled < HALF_MAX ? scaled : HALF_MAX);
    float exact = mb_f16_to_f32(c->half) * MB_COEFS_UNIT;
    for (unsigned k = 0; k < n_kernels; k++) {
        c->alpha[k] = exact * (float) c->c[k]; /* 11 bits times 7: exact */
    }
}

void mb_coefs_round(struct mb_coefs *ret, const float *alpha, unsigned n_kernels)
{
    memset(ret, 0, sizeof *ret);
    double sum = 0;
    for (unsigned k = 0; k < n_kernels; k++) {
        assert(alpha[k] >= 0);
        assert(k == 0 || alpha[k] <= alpha[k - 1]);
        sum += alpha[k];
    }
    if (!(sum > 0)) {
        return;
    }
    double s = sum / MB_COEF_SUM_MAX;
    int left = MB_COEF_SUM_MAX;
    for (unsigned k = 0; k < n_kernels; k++) {
        ret->c[k] = (uint8_t) lrint(alpha[k] / s);
        left -= ret->c[k];
    }
    for (; left < 0; left++) { /* rounding up went over: the largest feels it least */
        unsigned k = 0;
        while (k + 1 < n_kernels && ret->c[k + 1] == ret->c[0]) {
            k++; /* the last of equals, which keeps the order */
        }
        ret->c[k]--;
    }
    set_scale(ret, n_kernels, s);
    if (ret->half == 0) { /* too small for float16 beside the tensor's largest weight */
        memset(ret, 0, sizeof *ret);
    }
}

void mb_coefs_rescale(struct mb_coefs *c, const struct mb_quadratic *q)
{
    double cac = 0, cb = 0;
    for (unsigned k = 0; k < q->n_kernels; k++) {
        cb += c->c[k] * q->b[k];
        for (unsigned l = 0; l < q->n_kernels; l++) {
            cac += c->c[k] * q->a[k][l] * c->c[l];
        }
    }
    if (cac > 0 && cb > 0 && isfinite(cb / cac)) {
        set_scale(c, q->n_kernels, cb / cac);
    }
}
