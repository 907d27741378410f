/* Goal:   a fit is what it says: storable coefficients, errors as reported, never worse for
 *         more work, better for knowing the inputs, the same at any number of threads.
 * Method: small matrices from a counted random source; errors are computed again here in double
 *         from the rows that the packed matrix means; tiny groups are compared with the best of
 *         all assignments of signs. */
#include "core/convert/fit.h"
#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/convert/coefs.h"
#include "core/convert/levels.h"
#include "core/convert/svid.h"

static uint64_t drawn;

static double unit(void)
{
    return mb_rng_unit(1, 2, drawn++);
}

/* Roughly normal: twelve uniforms. */
static float normal(void)
{
    double sum = -6;
    for (int i = 0; i < 12; i++) {
        sum += unit();
    }
    return (float) sum;
}

static float *normals(size_t n)
{
    float *x = mb_alloc(n, sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[i] = normal();
    }
    return x;
}

static struct mb_source source_of(const float *w, uint32_t m, uint32_t n)
{
    return (struct mb_source) {
        .w = { .kind = MB_LINEAR_F32, .n_rows = m, .n_cols = n, .dense = w },
    };
}

static struct mb_fit_options options_of(uint32_t n_kernels, uint32_t group)
{
    return (struct mb_fit_options) {
        .n_kernels = n_kernels,
        .group = group,
        .n_turns = MB_FIT_TURNS_DEFAULT,
        .follow = MB_FIT_FOLLOW_DEFAULT,
        .seed = 7,
    };
}

/* Inputs that are correlated, as real ones are: a few directions carry most. */
struct inputs {
    float *x, *dx;
    size_t n_tokens, n;
    struct mb_statistics statistics;
    struct mb_factor factor;
    struct mb_fit_inputs fit;
};

static void inputs_init(struct inputs *in, size_t n, double drift)
{
    struct mb_error err;
    in->n = n;
    in->n_tokens = 4 * n + 20;
    in->x = mb_alloc(in->n_tokens, n * sizeof(float));
    in->dx = mb_alloc(in->n_tokens, n * sizeof(float));
    float *mix = normals(n * n), *base = mb_alloc(n, sizeof *base);
    for (size_t t = 0; t < in->n_tokens; t++) {
        for (size_t j = 0; j < n; j++) {
            base[j] = normal() / (float) (1 + j);
        }
        for (size_t j = 0; j < n; j++) {
            float sum = 0.05f * normal();
            for (size_t i = 0; i < n; i++) {
                sum += base[i] * mix[i * n + j];
            }
            in->x[t * n + j] = sum;
            in->dx[t * n + j] = (float) drift * (sum - base[j]);
        }
    }
    mb_assert_ok(mb_statistics_init(&in->statistics, n, 0, &err), &err);
    mb_statistics_add(&in->statistics, NULL, in->n_tokens, in->x, in->dx, NULL);
    mb_statistics_finish(&in->statistics, MB_FIT_DAMPING_DEFAULT);
    mb_assert_ok(mb_factor_init(&in->factor, in->statistics.second, n, NULL, &err), &err);
    in->fit = (struct mb_fit_inputs) { &in->statistics, &in->factor };
    mb_free(mix);
    mb_free(base);
}

static void inputs_fini(struct inputs *in)
{
    mb_free(in->x);
    mb_free(in->dx);
    mb_statistics_fini(&in->statistics);
    mb_factor_fini(&in->factor);
}

static struct mb_fit_errors fit(const float *w, uint32_t m, uint32_t n, const struct inputs *in,
                                const struct mb_fit_options *o, struct mb_pool *pool,
                                struct mb_bool_draft *ret)
{
    struct mb_error err;
    struct mb_fit_errors errors;
    struct mb_source s = source_of(w, m, n);
    mb_assert_ok(mb_fit("w", &s, in ? &in->fit : NULL, o, pool, ret, &errors, &err), &err);
    struct mb_bool_matrix view = mb_bool_draft_view(ret);
    mb_assert_ok(mb_bool_check(&view, &err), &err);
    return errors;
}

/* Relative tr((W-Q) H (W-Q)^T), H NULL for the identity; the slow and sure way. */
static double error_of(const struct mb_bool_draft *d, const float *w, const float *h)
{
    size_t m = d->shape.n_rows, n = d->shape.n_cols;
    struct mb_bool_matrix view = mb_bool_draft_view(d);
    float *q = mb_alloc(n, sizeof *q);
    double off = 0, all = 0;
    for (size_t i = 0; i < m; i++) {
        mb_bool_row(&view, i, q);
        for (size_t j = 0; j < n; j++) {
            for (size_t l = h ? 0 : j; l < (h ? n : j + 1); l++) {
                double h_jl = h ? h[j * n + l] : 1;
                double w_j = w[i * n + j], w_l = w[i * n + l];
                off += (w_j - q[j]) * h_jl * (w_l - q[l]);
                all += w_j * h_jl * w_l;
            }
        }
    }
    mb_free(q);
    return off / all;
}

START_TEST(nearest_is_the_nearest_of_all)
{
    for (unsigned k = 1; k <= MB_KERNELS_MAX; k++) {
        struct mb_levels l;
        float alpha[MB_KERNELS_MAX];
        for (unsigned i = 0; i < k; i++) {
            alpha[i] = (float) unit();
        }
        mb_levels_of(&l, alpha, k);
        for (int i = 0; i < 200; i++) {
            float w = 3 * normal();
            unsigned got = mb_levels_nearest(&l, w);
            float best = INFINITY;
            for (unsigned p = 0; p < 1u << k; p++) {
                best = fminf(best, fabsf(w - mb_level_value(alpha, k, p)));
            }
            ck_assert_float_le(fabsf(w - l.value[got]), best + 1e-6f);
            ck_assert_float_eq(l.value[got], mb_level_value(alpha, k, l.pattern[got]));
        }
    }
}
END_TEST

/* Turning signs and sorting changes the names of patterns, not what they mean. */
START_TEST(canonical_order_means_the_same)
{
    for (unsigned k = 1; k <= MB_KERNELS_MAX; k++) {
        enum { N = 60 };
        float alpha[MB_KERNELS_MAX], old[MB_KERNELS_MAX], *w = normals(N);
        uint8_t pattern[N], map[MB_LEVELS_MAX];
        struct mb_quadratic q;
        for (size_t j = 0; j < N; j++) {
            pattern[j] = (uint8_t) (mb_rng_u64(3, k, j) >> (64 - k));
        }
        for (unsigned i = 0; i < k; i++) {
            alpha[i] = old[i] = normal();
        }
        mb_quadratic_of(&q, k, pattern, w, NULL, N);
        double before = mb_quadratic_at(&q, alpha);
        mb_coefs_canonical(alpha, &q, k, map);
        ck_assert_double_eq_tol(mb_quadratic_at(&q, alpha), before, 1e-4 * (1 + fabs(before)));
        for (unsigned i = 0; i < k; i++) {
            ck_assert(alpha[i] >= 0 && (i == 0 || alpha[i] <= alpha[i - 1]));
        }
        for (unsigned p = 0; p < 1u << k; p++) {
            ck_assert_float_eq_tol(mb_level_value(alpha, k, map[p]), mb_level_value(old, k, p),
                                   1e-5f);
        }
        mb_free(w);
    }
}
END_TEST

START_TEST(factor_multiplies_back_and_solves)
{
    struct inputs in;
    size_t n = 300; /* more than two blocks, and a ragged one */
    inputs_init(&in, n, 0);
    const float *h = in.statistics.second, *f = in.factor.feed, *d = in.factor.weight;
    float *b = normals(3 * n), *x = mb_alloc(3 * n, sizeof *x);
    for (size_t i = 0; i < n; i += 7) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = i > j ? i : j; k < n; k++) {
                double u_ik = k == i ? 1 : f[i * n + k], u_jk = k == j ? 1 : f[j * n + k];
                sum += u_ik * d[k] * u_jk;
            }
            ck_assert_double_eq_tol(sum, h[i * n + j], 1e-4);
        }
    }
    memcpy(x, b, 3 * n * sizeof *x);
    mb_factor_solve(&in.factor, x, 3);
    for (size_t r = 0; r < 3; r++) {
        for (size_t j = 0; j < n; j++) {
            double sum = 0;
            for (size_t k = 0; k < n; k++) {
                sum += (double) x[r * n + k] * h[k * n + j];
            }
            ck_assert_double_eq_tol(sum, b[r * n + j], 1e-3);
        }
    }
    mb_free(b);
    mb_free(x);
    inputs_fini(&in);
}
END_TEST

START_TEST(factor_survives_inputs_that_never_vary)
{
    struct mb_error err;
    struct mb_factor f;
    enum { N = 40 };
    float *h = mb_alloc(N * N, sizeof *h);
    for (size_t i = 0; i < N * N; i++) {
        h[i] = 1; /* rank one, no damping */
    }
    mb_assert_ok(mb_factor_init(&f, h, N, NULL, &err), &err);
    for (size_t i = 0; i < N; i++) {
        ck_assert(f.weight[i] > 0);
    }
    mb_factor_fini(&f);
    h[0] = -100;
    ck_assert_int_eq(mb_factor_init(&f, h, N, NULL, &err), MB_E_INVALID);
    mb_free(h);
}
END_TEST

START_TEST(one_kernel_is_the_mean_magnitude)
{
    enum { M = 5, N = 50 };
    float *w = normals(M * N);
    struct mb_bool_draft d;
    struct mb_fit_options o = options_of(1, 0);
    (void) fit(w, M, N, NULL, &o, NULL, &d);
    struct mb_bool_matrix view = mb_bool_draft_view(&d);
    for (size_t i = 0; i < M; i++) {
        float q[N];
        double mean = 0;
        mb_bool_row(&view, i, q);
        for (size_t j = 0; j < N; j++) {
            mean += fabsf(w[i * N + j]) / N;
        }
        for (size_t j = 0; j < N; j++) {
            ck_assert_double_eq_tol(q[j], w[i * N + j] >= 0 ? mean : -mean, mean * 1e-3);
        }
    }
    mb_bool_draft_fini(&d);
    mb_free(w);
}
END_TEST

/* The least error of any signs with the best coefficients for them, K = 2. */
static double best_of_all(const float *w, unsigned n)
{
    double best = INFINITY, all = 0;
    for (unsigned j = 0; j < n; j++) {
        all += (double) w[j] * w[j];
    }
    for (unsigned long a = 0; a < 1ul << (2 * n); a++) {
        uint8_t pattern[8];
        float alpha[2];
        struct mb_quadratic q;
        for (unsigned j = 0; j < n; j++) {
            pattern[j] = (uint8_t) (a >> 2 * j & 3);
        }
        mb_quadratic_of(&q, 2, pattern, w, NULL, n);
        mb_quadratic_solve(&q, alpha);
        double e = all + mb_quadratic_at(&q, alpha);
        best = e < best ? e : best;
    }
    return best / all;
}

START_TEST(near_the_best_of_all_assignments)
{
    enum { N = 6, TRIES = 40 };
    double got = 0, best = 0;
    for (int i = 0; i < TRIES; i++) {
        float *w = normals(N);
        struct mb_bool_draft d;
        struct mb_fit_options o = options_of(2, 0);
        (void) fit(w, 1, N, NULL, &o, NULL, &d);
        double e = error_of(&d, w, NULL), b = best_of_all(w, N);
        ck_assert_double_ge(e, b - 1e-4);
        got += e / TRIES;
        best += b / TRIES;
        mb_bool_draft_fini(&d);
        mb_free(w);
    }
    ck_assert_msg(got < best + 0.02, "error %g on average; the best is %g", got, best);
}
END_TEST

/* Every shape, kernel count and start gives a matrix that can be stored and read back, whose
 * errors are as reported. */
START_TEST(errors_are_as_reported)
{
    static const uint32_t cols[] = { 1, 31, 33, 70, 130 }, groups[] = { 32, 64, 0 };
    enum { M = 35 };
    for (size_t i = 0; i < sizeof cols / sizeof cols[0]; i++) {
        struct inputs in;
        inputs_init(&in, cols[i], 0.1);
        float *w = normals((size_t) M * cols[i]);
        for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
            for (uint32_t k = 1; k <= 5; k++) {
                struct mb_bool_draft d;
                struct mb_fit_options o = options_of(k == 5 ? MB_KERNELS_MAX : k, groups[g]);
                o.init = (enum mb_fit_init)((i + g + k) % 3);
                struct mb_fit_errors e = fit(w, M, cols[i], &in, &o, NULL, &d);
                double output = error_of(&d, w, in.statistics.second);
                ck_assert_double_eq_tol(e.output, output, 1e-5 + 1e-3 * output);
                ck_assert_double_eq_tol(e.plain, error_of(&d, w, NULL), 1e-4);
                ck_assert_double_lt(e.output, 1);
                mb_bool_draft_fini(&d);
            }
        }
        mb_free(w);
        inputs_fini(&in);
    }
}
END_TEST

/* Without statistics the fit is the alternation alone, so turns of it can only help; one kernel
 * is at its optimum where it starts. */
START_TEST(once_is_worse_than_in_turn)
{
    enum { M = 40, N = 200 };
    float *w = normals(M * N);
    for (uint32_t k = 1; k <= 4; k++) {
        struct mb_bool_draft d;
        struct mb_fit_options o = options_of(k, 64);
        o.n_turns = 0;
        double in_turn = fit(w, M, N, NULL, &o, NULL, &d).output;
        mb_bool_draft_fini(&d);
        o.once = true;
        double once = fit(w, M, N, NULL, &o, NULL, &d).output;
        mb_bool_draft_fini(&d);
        ck_assert_msg(k == 1 ? fabs(once - in_turn) < 1e-3 : in_turn < 0.99 * once,
                      "K %u: %g once, %g in turn", k, once, in_turn);
    }
    mb_free(w);
}
END_TEST

START_TEST(more_turns_never_hurt)
{
    enum { M = 40, N = 200 };
    struct inputs in;
    inputs_init(&in, N, 0);
    float *w = normals(M * N);
    static const uint32_t kernels[] = { 1, 2, 3, 4, 8 }; /* 8: what rounding may spoil */
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        uint32_t k = kernels[i];
        double before = INFINITY;
        for (uint32_t turns = 0; turns <= 6; turns++) {
            struct mb_bool_draft d;
            struct mb_fit_options o = options_of(k, 64);
            o.n_turns = turns;
            double e = fit(w, M, N, &in, &o, NULL, &d).output;
            ck_assert_msg(e <= before * (1 + 1e-5), "K %u, turn %u: %g after %g", k, turns, e,
                          before);
            ck_assert(turns != 1 || e < before * 0.97);
            before = e;
            mb_bool_draft_fini(&d);
        }
    }
    mb_free(w);
    inputs_fini(&in);
}
END_TEST

START_TEST(knowing_the_inputs_helps)
{
    enum { M = 40, N = 160 };
    struct inputs in;
    inputs_init(&in, N, 0);
    float *w = normals(M * N);
    for (uint32_t k = 1; k <= 4; k++) {
        struct mb_bool_draft blind, knowing;
        struct mb_fit_options o = options_of(k, 64);
        o.n_turns = 0; /* error feedback alone */
        (void) fit(w, M, N, NULL, &o, NULL, &blind);
        (void) fit(w, M, N, &in, &o, NULL, &knowing);
        double e = error_of(&blind, w, in.statistics.second);
        ck_assert_double_lt(error_of(&knowing, w, in.statistics.second), 0.7 * e);
        mb_bool_draft_fini(&blind);
        mb_bool_draft_fini(&knowing);
    }
    mb_free(w);
    inputs_fini(&in);
}
END_TEST

/* sum_t |W x' - Q x|^2 over that of W x', with x' = x + dx. */
static double distance(const struct mb_bool_draft *d, const float *w, const struct inputs *in)
{
    struct mb_bool_matrix view = mb_bool_draft_view(d);
    float *q = mb_alloc(in->n, sizeof *q);
    double off = 0, all = 0;
    for (size_t i = 0; i < d->shape.n_rows; i++) {
        mb_bool_row(&view, i, q);
        for (size_t t = 0; t < in->n_tokens; t++) {
            double wanted = 0, got = 0;
            for (size_t j = 0; j < in->n; j++) {
                double x = in->x[t * in->n + j];
                wanted += w[i * in->n + j] * (x + in->dx[t * in->n + j]);
                got += q[j] * x;
            }
            off += (wanted - got) * (wanted - got);
            all += wanted * wanted;
        }
    }
    mb_free(q);
    return off / all;
}

START_TEST(follows_what_the_float_model_would_say)
{
    enum { M = 8, N = 64 };
    struct inputs in;
    inputs_init(&in, N, 0.3);
    float *w = normals(M * N);
    struct mb_bool_draft stays, follows;
    struct mb_fit_options o = options_of(4, 64);
    o.follow = 0;
    (void) fit(w, M, N, &in, &o, NULL, &stays);
    o.follow = 1;
    (void) fit(w, M, N, &in, &o, NULL, &follows);
    ck_assert_double_lt(distance(&follows, w, &in), 0.4 * distance(&stays, w, &in));
    mb_bool_draft_fini(&stays);
    mb_bool_draft_fini(&follows);
    mb_free(w);
    inputs_fini(&in);
}
END_TEST

/* Outputs are added to a residual stream that lags by owed: the layer makes good what its
 * inputs can tell of it. */
START_TEST(pays_what_the_residual_owes)
{
    enum { M = 8, N = 48, T = 9600 };
    struct mb_error err;
    struct mb_statistics s;
    struct mb_factor f;
    float *x = normals(T * N), *none = mb_alloc(T * N, sizeof *none);
    float *w = normals(M * N), *extra = normals(M * N), *owed = mb_alloc(T * M, sizeof *owed);
    for (size_t t = 0; t < T; t++) {
        for (size_t i = 0; i < M; i++) {
            for (size_t j = 0; j < N; j++) {
                owed[t * M + i] += extra[i * N + j] * x[t * N + j];
            }
        }
    }
    mb_assert_ok(mb_statistics_init(&s, N, M, &err), &err);
    mb_statistics_add(&s, NULL, T, x, none, owed);
    mb_statistics_finish(&s, 1e-4);
    mb_assert_ok(mb_factor_init(&f, s.second, N, NULL, &err), &err);
    struct mb_fit_options o = options_of(8, 0);
    o.follow = 1;
    struct mb_fit_inputs in = { &s, &f };
    struct mb_source source = source_of(w, M, N);
    struct mb_bool_draft d;
    struct mb_fit_errors errors;
    mb_assert_ok(mb_fit("w", &source, &in, &o, NULL, &d, &errors, &err), &err);
    for (size_t i = 0; i < M * N; i++) {
        w[i] += extra[i];
    }
    ck_assert_double_lt(error_of(&d, w, NULL), 0.01);
    mb_bool_draft_fini(&d);
    mb_statistics_fini(&s);
    mb_factor_fini(&f);
    float *all[] = { x, none, w, extra, owed };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        mb_free(all[i]);
    }
}
END_TEST

START_TEST(an_input_scale_divides_the_weights)
{
    enum { M = 3, N = 64 };
    struct mb_error err;
    float *w = normals(M * N), inverse[N], q[N];
    for (size_t j = 0; j < N; j++) {
        inverse[j] = (float) ldexp(1, (int) j % 5 - 2);
    }
    struct mb_source source = source_of(w, M, N);
    source.inverse = inverse;
    struct mb_fit_options o = options_of(8, 0);
    struct mb_bool_draft d;
    struct mb_fit_errors errors;
    mb_assert_ok(mb_fit("w", &source, NULL, &o, NULL, &d, &errors, &err), &err);
    struct mb_bool_matrix view = mb_bool_draft_view(&d);
    for (size_t i = 0; i < M; i++) {
        mb_bool_row(&view, i, q);
        for (size_t j = 0; j < N; j++) {
            ck_assert_float_eq_tol(q[j], w[i * N + j] * inverse[j], 0.5f);
        }
    }
    ck_assert_double_lt(errors.plain, 0.01);
    mb_bool_draft_fini(&d);
    mb_free(w);
}
END_TEST

START_TEST(odd_matrices)
{
    enum { M = 20, N = 100 };
    static const double sizes[] = { 1e38, 1, 1e-30, 1e-37 };
    float *w = mb_alloc(M * N, sizeof *w);
    struct mb_bool_draft d;
    struct mb_fit_options o = options_of(3, 32);

    struct mb_fit_errors e = fit(w, M, N, NULL, &o, NULL, &d); /* all zero */
    ck_assert_double_eq(e.output, 0);
    for (size_t i = 0; i < mb_bool_coef_bytes(&d.shape); i++) {
        ck_assert_uint_eq(d.coef[i], 0);
    }
    mb_bool_draft_fini(&d);

    for (size_t i = 0; i < M * N; i++) {
        w[i] = 0.3f; /* constant: one level serves */
    }
    ck_assert_double_lt(fit(w, M, N, NULL, &o, NULL, &d).plain, 1e-6);
    mb_bool_draft_fini(&d);

    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (size_t i = 0; i < M * N; i++) {
            double x =
                i / N == 3 || i % N == 5 ? 0 : unit() * 2 - 1; /* a zero row and column */
            w[i] = (float) (x * sizes[s]);
        }
        double plain = fit(w, M, N, NULL, &o, NULL, &d).plain;
        ck_assert_msg(plain < 0.03, "size %g: %g", sizes[s], plain);
        mb_bool_draft_fini(&d);
    }
    mb_free(w);
}
END_TEST

START_TEST(a_row_far_smaller_than_the_rest_keeps_its_shape)
{
    enum { M = 2, N = 64 };
    float *w = normals(M * N), q[N];
    for (size_t j = 0; j < N; j++) {
        w[N + j] *= 1e-5f;
    }
    struct mb_bool_draft d;
    struct mb_fit_options o = options_of(4, 64);
    (void) fit(w, M, N, NULL, &o, NULL, &d);
    struct mb_bool_matrix view = mb_bool_draft_view(&d);
    mb_bool_row(&view, 1, q);
    double off = 0, all = 0;
    for (size_t j = 0; j < N; j++) {
        off += pow(w[N + j] - q[j], 2);
        all += pow(w[N + j], 2);
    }
    ck_assert_double_lt(off / all, 0.03);
    mb_bool_draft_fini(&d);
    mb_free(w);
}
END_TEST

START_TEST(weights_that_are_no_numbers_are_refused)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY };
    enum { M = 4, N = 40 };
    for (size_t i = 0; i < 3; i++) {
        float *w = normals(M * N);
        w[2 * N + 7] = bad[i];
        struct mb_source s = source_of(w, M, N);
        struct mb_fit_options o = options_of(2, 32);
        struct mb_bool_draft d;
        struct mb_fit_errors e;
        struct mb_error err;
        ck_assert_int_eq(mb_fit("blocks.1.ffn_up", &s, NULL, &o, NULL, &d, &e, &err),
                         MB_E_INVALID);
        ck_assert_ptr_nonnull(strstr(err.what, "blocks.1.ffn_up"));
        ck_assert_ptr_nonnull(strstr(err.what, "row 2, column 7"));
        mb_free(w);
    }
}
END_TEST

START_TEST(same_bytes_at_any_number_of_threads)
{
    enum { M = 150, N = 190 };
    float *w = normals(M * N);
    struct inputs in;
    inputs_init(&in, N, 0.1);
    for (int init = MB_INIT_GREEDY; init <= MB_INIT_RANDOM; init++) {
        struct mb_bool_draft first = { 0 };
        for (size_t threads = 1; threads <= 3; threads++) {
            struct mb_error err;
            struct mb_pool *pool;
            struct mb_bool_draft d;
            struct mb_fit_options o = options_of(3, 64);
            o.init = (enum mb_fit_init) init;
            mb_assert_ok(mb_pool_new(threads, 0, &pool, &err), &err);
            struct mb_fit_errors e = fit(w, M, N, &in, &o, pool, &d);
            ck_assert_msg(e.output < 0.05, "init %d: %g", init, e.output);
            if (threads == 1) {
                first = d;
            } else {
                ck_assert_mem_eq(d.bits, first.bits, mb_bool_bits_bytes(&d.shape));
                ck_assert_mem_eq(d.scale, first.scale, mb_bool_scale_bytes(&d.shape));
                ck_assert_mem_eq(d.coef, first.coef, mb_bool_coef_bytes(&d.shape));
                mb_bool_draft_fini(&d);
            }
            mb_pool_free(pool);
        }
        mb_bool_draft_fini(&first);
    }
    mb_free(w);
    inputs_fini(&in);
}
END_TEST

START_TEST(svid_of_a_rank_one_magnitude_is_exact)
{
    enum { M = 70, N = 33 };
    struct mb_error err;
    struct mb_svid s;
    float *w = mb_alloc(M * N, sizeof *w), row[N];
    for (size_t i = 0; i < M * N; i++) {
        w[i] = (float) ((1 + i / N) * (0.5 + i % N)) * (unit() < 0.5 ? -1 : 1);
    }
    struct mb_source source = source_of(w, M, N);
    mb_assert_ok(mb_svid_init(&s, &source, 1, NULL, &err), &err);
    for (size_t i = 0; i < M; i++) {
        mb_source_row(&source, i, row);
        mb_svid_subtract(&s, i, 1, row);
        for (size_t j = 0; j < N; j++) {
            ck_assert_float_eq_tol(row[j], 0, 1e-2f);
        }
    }
    mb_svid_fini(&s);
    mb_free(w);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fit");
    TCase *t = tcase_create("fit");
    tcase_add_test(t, nearest_is_the_nearest_of_all);
    tcase_add_test(t, canonical_order_means_the_same);
    tcase_add_test(t, factor_multiplies_back_and_solves);
    tcase_add_test(t, factor_survives_inputs_that_never_vary);
    tcase_add_test(t, one_kernel_is_the_mean_magnitude);
    tcase_add_test(t, near_the_best_of_all_assignments);
    tcase_add_test(t, errors_are_as_reported);
    tcase_add_test(t, once_is_worse_than_in_turn);
    tcase_add_test(t, more_turns_never_hurt);
    tcase_add_test(t, knowing_the_inputs_helps);
    tcase_add_test(t, follows_what_the_float_model_would_say);
    tcase_add_test(t, pays_what_the_residual_owes);
    tcase_add_test(t, an_input_scale_divides_the_weights);
    tcase_add_test(t, odd_matrices);
    tcase_add_test(t, a_row_far_smaller_than_the_rest_keeps_its_shape);
    tcase_add_test(t, weights_that_are_no_numbers_are_refused);
    tcase_add_test(t, same_bytes_at_any_number_of_threads);
    tcase_add_test(t, svid_of_a_rank_one_magnitude_is_exact);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
