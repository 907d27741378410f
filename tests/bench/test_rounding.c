/* Goal:   the baselines of the ablation are what they are called.
 * Method: rounding to nearest against a search of the whole grid; error feedback against the
 *         papers' own form of it, which removes one column after another from the inverse of the
 *         second moments, in float64. */
#include "tests/bench/rounding.h"

#include <math.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "tests/check_main.h"

enum { M = 12, N = 80 };

static float normal(uint64_t stream, uint64_t i)
{
    double sum = -6;
    for (uint64_t k = 0; k < 12; k++) {
        sum += mb_rng_unit(3, stream, 12 * i + k);
    }
    return (float) sum;
}

static void fill_weights(float *w)
{
    for (size_t i = 0; i < (size_t) M * N; i++) {
        w[i] = 0.05f * normal(1, i);
    }
}

/* Second moments of inputs that share a few causes, and a little on the diagonal. */
static void fill_moments(float *h)
{
    enum { TOKENS = 200, CAUSES = 10 };
    static float x[TOKENS][N];
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t j = 0; j < N; j++) {
            x[t][j] = 0.3f * normal(2, t * N + j);
            for (size_t c = 0; c < CAUSES; c++) {
                x[t][j] += 0.4f * normal(4, t * CAUSES + c) * normal(5, j * CAUSES + c);
            }
        }
    }
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < N; j++) {
            double sum = i == j ? 0.1 : 0;
            for (size_t t = 0; t < TOKENS; t++) {
                sum += (double) x[t][i] * x[t][j] / TOKENS;
            }
            h[i * N + j] = (float) sum;
        }
    }
}

static double harm(const float *w, const float *q, const float *h)
{
    double sum = 0;
    for (size_t r = 0; r < M; r++) {
        for (size_t i = 0; i < N; i++) {
            for (size_t j = 0; j < N; j++) {
                double ei = (double) w[r * N + i] - q[r * N + i];
                double ej = (double) w[r * N + j] - q[r * N + j];
                sum += ei * ej * (h ? h[i * N + j] : i == j);
            }
        }
    }
    return sum;
}

static struct mb_pool *pool_of(size_t n_threads)
{
    struct mb_pool *pool;
    struct mb_error err;
    mb_assert_ok(mb_pool_new(n_threads, 0, &pool, &err), &err);
    return pool;
}

/* The nearest of the 2^b values that the smallest and largest of the group allow. */
static double nearest(const float *x, size_t n, unsigned bits, double w)
{
    double low = 0, high = 0, best = INFINITY;
    int top = (1 << bits) - 1;
    for (size_t j = 0; j < n; j++) {
        low = fmin(low, x[j]);
        high = fmax(high, x[j]);
    }
    double scale = mb_f16_to_f32(mb_f32_to_f16((float) (high - low) / (float) top));
    int zero = (int) round(-low / scale);
    for (int u = 0; u <= top; u++) {
        double v = scale * (u - zero);
        best = fabs(v - w) < fabs(best - w) ? v : best;
    }
    return best;
}

START_TEST(nearest_is_nearest)
{
    static float w[M * N], q[M * N];
    struct mb_pool *pool = pool_of(2);
    fill_weights(w);
    for (unsigned bits = 2; bits <= 8; bits++) {
        static const uint32_t groups[] = { 16, 32, 0 };
        for (size_t g = 0; g < 3; g++) {
            struct rounding o = { .bits = bits, .group = groups[g] };
            size_t group = groups[g] > 0 ? groups[g] : N;
            rounding_apply(&o, w, M, N, NULL, pool, q);
            for (size_t i = 0; i < (size_t) M * N; i++) {
                size_t col = i % N, first = i - col % group;
                size_t n = N - (col - col % group) < group ? N - (col - col % group) : group;
                double want = nearest(w + first, n, bits, w[i]);
                ck_assert_msg(fabs(q[i] - want) < 1e-6, "%u bits, weight %zu: %g for %g", bits,
                              i, (double) q[i], want);
            }
        }
    }
    mb_pool_free(pool);
}
END_TEST

/* Gauss-Jordan; h is positive definite. */
static void invert(const float *h, double inverse[N][N])
{
    static double a[N][2 * N];
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < N; j++) {
            a[i][j] = h[i * N + j];
            a[i][N + j] = i == j;
        }
    }
    for (size_t p = 0; p < N; p++) {
        for (size_t i = 0; i < N; i++) {
            double factor = i == p ? 1 - 1 / a[p][p] : a[i][p] / a[p][p];
            for (size_t j = 0; j < 2 * N && i != p; j++) {
                a[i][j] -= factor * a[p][j];
            }
        }
        double pivot = a[p][p];
        for (size_t j = 0; j < 2 * N; j++) {
            a[p][j] /= pivot;
        }
    }
    for (size_t i = 0; i < N; i++) {
        for (size_t j = 0; j < N; j++) {
            inverse[i][j] = a[i][N + j];
        }
    }
}

/* One row, each column with the grid value that rounding gave it: after column j is decided,
 * those to come move by -err / inverse_jj * inverse_j, and j leaves the inverse. Returns how far from
 * its nearest grid value any column's aim was, in steps of the grid. */
static double worst_aim(const float *w, const float *q, const float *h)
{
    static double inverse[N][N], aim[N];
    double worst = 0, low = 0, high = 0, scale;
    invert(h, inverse);
    for (size_t j = 0; j < N; j++) {
        aim[j] = w[j];
        low = fmin(low, w[j]);
        high = fmax(high, w[j]);
    }
    scale = (high - low) / 15;
    for (size_t j = 0; j < N; j++) {
        double err = (aim[j] - q[j]) / inverse[j][j];
        bool inside = aim[j] > low + scale && aim[j] < high - scale;
        worst = inside ? fmax(worst, fabs(aim[j] - q[j]) / scale) : worst;
        for (size_t i = j; i < N; i++) {
            aim[i] -= err * inverse[j][i];
        }
        for (size_t a = j + 1; a < N; a++) {
            for (size_t b = j + 1; b < N; b++) {
                inverse[a][b] -= inverse[a][j] * inverse[j][b] / inverse[j][j];
            }
        }
    }
    return worst;
}

START_TEST(feedback_is_gptq)
{
    static float w[M * N], q[M * N], plain[M * N], h[N * N];
    struct mb_pool *pool = pool_of(2);
    struct mb_factor f;
    struct mb_error err;
    struct rounding o = { .bits = 4 };
    fill_weights(w);
    fill_moments(h);
    mb_assert_ok(mb_factor_init(&f, h, N, pool, &err), &err);
    rounding_apply(&o, w, M, N, &f, pool, q);
    for (size_t r = 0; r < M; r++) {
        double worst = worst_aim(w + r * N, q + r * N, h);
        ck_assert_msg(worst < 0.502, "row %zu: an aim %g steps from its value", r, worst);
    }
    for (o.bits = 2; o.bits <= 4; o.bits++) {
        rounding_apply(&o, w, M, N, NULL, pool, plain);
        rounding_apply(&o, w, M, N, &f, pool, q);
        double without = harm(w, plain, h), with = harm(w, q, h);
        ck_assert_msg(with < 0.6 * without, "%u bits: %g with, %g without", o.bits, with,
                      without);
    }
    mb_factor_fini(&f);
    mb_pool_free(pool);
}
END_TEST

START_TEST(clipping_only_helps)
{
    static float w[M * N], q[M * N];
    struct mb_pool *pool = pool_of(1);
    fill_weights(w);
    for (unsigned bits = 2; bits <= 4; bits++) {
        struct rounding o = { .bits = bits, .group = 32 };
        rounding_apply(&o, w, M, N, NULL, pool, q);
        double without = harm(w, q, NULL);
        o.clip = true;
        rounding_apply(&o, w, M, N, NULL, pool, q);
        ck_assert_double_le(harm(w, q, NULL), (bits == 2 ? 0.9 : 1.0) * without);
    }
    mb_pool_free(pool);
}
END_TEST

START_TEST(bits_count_the_grids)
{
    struct rounding o = { .bits = 2, .group = 64 };
    ck_assert_double_eq_tol(rounding_bits(&o, 192), 2 + 18.0 / 64, 1e-12);
    ck_assert_double_eq_tol(rounding_bits(&o, 100), 2 + 36.0 / 100, 1e-12);
    o = (struct rounding) { .bits = 3 };
    ck_assert_double_eq_tol(rounding_bits(&o, 100), 3.19, 1e-12);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rounding");
    TCase *t = tcase_create("rounding");
    tcase_add_test(t, nearest_is_nearest);
    tcase_add_test(t, feedback_is_gptq);
    tcase_add_test(t, clipping_only_helps);
    tcase_add_test(t, bits_count_the_grids);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
