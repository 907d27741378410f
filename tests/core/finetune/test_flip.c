/* Goal:   weights move as the wanted moves say, by whole levels and no further than a budget
 *         allows, to the same bits always; what is stored stays a valid Boolean matrix.
 * Method: the laws of the optimizer, over a ragged random matrix: evidence and level together
 *         move by the sum of what was wanted; random moves do so on average; each flip is to a
 *         neighbouring level (found here by sorting); plus threads, saving, and refusals. */
#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/finetune/flip.h"
#include "core/finetune/weights.h"
#include "tests/check_main.h"

enum { M = 37, N = 150, G = 64, WEIGHTS = M * N };

struct rig {
    struct mb_bool_draft w, start; /* trained; as it was */
    struct mb_bool_matrix base;
    struct mb_flipper f;
    float dw[WEIGHTS];
};

static void fill(struct mb_bool_draft *d, uint32_t n_kernels)
{
    struct mb_bool_shape s = { M, N, G, n_kernels };
    uint32_t words[MB_KERNELS_MAX][2];
    ck_assert_int_eq(mb_bool_draft_init(d, &s, NULL), MB_OK);
    d->scale_all = 0x1p-13f;
    for (size_t i = 0; i < M; i++) {
        for (size_t g = 0; g < mb_bool_groups(&s); g++) {
            const uint32_t *signs[MB_KERNELS_MAX];
            uint8_t coef[MB_KERNELS_MAX];
            uint32_t cols = (uint32_t) mb_bool_group_cols(&s, g);
            for (uint32_t k = 0; k < n_kernels; k++) {
                for (uint32_t w = 0; w < 2; w++) {
                    uint32_t used = cols > 32 * w ? cols - 32 * w : 0;
                    uint32_t mask = used >= 32 ? UINT32_MAX : (UINT32_C(1) << used) - 1;
                    words[k][w] = (uint32_t) mb_rng_u64(1, i * 8 + g, k * 2 + w) & mask;
                }
                signs[k] = words[k];
                coef[k] = (uint8_t) (k > 0 ? 40 >> k : n_kernels == 1 ? 127 : 70 + (int) i % 8);
            }
            double scale = 3 * (1 + 0.5 * mb_rng_unit(2, i, g));
            mb_bool_draft_set(d, i, g, mb_f32_to_f16((float) scale), coef, signs);
        }
    }
}

static void rig_init(struct rig *r, uint32_t n_kernels, struct mb_flip_options o)
{
    memset(r, 0, sizeof *r);
    fill(&r->w, n_kernels);
    fill(&r->start, n_kernels);
    r->base = mb_bool_draft_view(&r->start);
    for (size_t i = 0; i < WEIGHTS; i++) {
        r->dw[i] = (float) (2 * mb_rng_unit(3, 0, i) - 1) * (1 + (float) (i % N) / N);
    }
    ck_assert_int_eq(mb_flipper_init(&r->f, &o, &r->w, &r->base, NULL, NULL, NULL, NULL),
                     MB_OK);
}

static void rig_fini(struct rig *r)
{
    mb_flipper_fini(&r->f);
    mb_bool_draft_fini(&r->w);
    mb_bool_draft_fini(&r->start);
}

static void values(const struct mb_bool_draft *d, float *ret)
{
    struct mb_bool_matrix w = mb_bool_draft_view(d);
    for (size_t i = 0; i < M; i++) {
        mb_bool_row(&w, i, ret + i * N);
    }
}

static enum mb_status step(struct rig *r, struct mb_flip_step s, struct mb_pool *pool)
{
    struct mb_error err;
    return mb_flipper_step(&r->f, &s, r->dw, pool, &err);
}

/* Half of the largest distance between levels of a weight's group, in units of evidence 100. */
static float unit_of(const struct mb_bool_draft *d, size_t i, size_t j)
{
    struct mb_bool_matrix w = mb_bool_draft_view(d);
    unsigned n = 1u << d->shape.n_kernels;
    float level[256], most = 0;
    mb_weights_levels(&w, i, j / G, level);
    for (unsigned a = 0; a < n; a++) { /* the nearest above each */
        float next = INFINITY;
        for (unsigned b = 0; b < n; b++) {
            next = level[b] > level[a] && level[b] < next ? level[b] : next;
        }
        most = isfinite(next) && next - level[a] > most ? next - level[a] : most;
    }
    return most / 200;
}

/* The moves that the header promises for t = 1, from sums done here. */
static void wanted(const struct rig *r, double size, double *ret)
{
    double row[M] = { 0 }, col[N] = { 0 }, all = 0;
    for (size_t i = 0; i < WEIGHTS; i++) {
        double square = (double) r->dw[i] * r->dw[i];
        row[i / N] += square / N;
        col[i % N] += square / M;
        all += square / WEIGHTS;
    }
    for (size_t i = 0; i < WEIGHTS; i++) {
        ret[i] = -size * r->f.unit * r->dw[i] / sqrt(row[i / N] * col[i % N] / all);
    }
}

START_TEST(levels_and_evidence_move_by_what_was_wanted)
{
    static struct rig r;
    static float before[WEIGHTS], after[WEIGHTS];
    static double want[WEIGHTS];
    enum { STEPS = 40 };
    const double size = 0.02;
    rig_init(&r, (uint32_t) _i, (struct mb_flip_options) { .mode = MB_FLIP_ACCUMULATE });
    values(&r.w, before);
    wanted(&r, size, want);
    for (uint64_t t = 1; t <= STEPS; t++) {
        ck_assert_int_eq(step(&r, (struct mb_flip_step) { t, size, 0, 1, 9, 4 }, NULL), MB_OK);
    }
    values(&r.w, after);
    double bias = 0;
    size_t n = 0;
    for (size_t i = 0; i < WEIGHTS; i++) {
        float unit = unit_of(&r.w, i / N, i % N);
        if (abs(r.f.evidence[i]) >= 100) {
            continue; /* held at an outermost level, or passed by one step */
        }
        double moved = after[i] + r.f.evidence[i] * unit - before[i];
        double error = (moved - STEPS * want[i]) / unit;
        /* 40 roundings to a unit at random, and thresholds that are whole units */
        ck_assert_msg(fabs(error) < 25, "weight %zu: off by %g units", i, error);
        bias += error;
        n++;
    }
    ck_assert_msg(n > WEIGHTS / 4, "only %zu weights can be judged", n);
    ck_assert_msg(fabs(bias / (double) n) < 0.5, "on average off by %g units",
                  bias / (double) n);
    ck_assert_uint_gt(r.f.counts.n_flips, WEIGHTS / 20);
    rig_fini(&r);
}
END_TEST

START_TEST(random_moves_are_right_on_average)
{
    static struct rig r;
    static float before[WEIGHTS], after[WEIGHTS];
    rig_init(&r, (uint32_t) _i, (struct mb_flip_options) { .mode = MB_FLIP_STOCHASTIC });
    static double x[WEIGHTS];
    double want = 0, got = 0, spread = 0;
    wanted(&r, 0.05, x);
    for (uint64_t trial = 0; trial < 60; trial++) {
        memcpy(r.w.bits, r.start.bits, mb_bool_bits_bytes(&r.w.shape));
        values(&r.w, before);
        memset(r.f.row, 0, M * sizeof(float)); /* t = 1 again */
        memset(r.f.col, 0, N * sizeof(float));
        ck_assert_int_eq(step(&r, (struct mb_flip_step) { 1, 0.05, 0, 1, trial, 4 }, NULL),
                         MB_OK);
        values(&r.w, after);
        struct mb_bool_matrix w = mb_bool_draft_view(&r.start);
        for (size_t i = 0; i < WEIGHTS; i++) {
            float level[256], most = 0;
            mb_weights_levels(&w, i / N, i % N / G, level);
            for (unsigned p = 0; p < 1u << w.shape.n_kernels; p++) {
                most = fmaxf(most, level[p]);
            }
            bool stuck = x[i] > 0 ? before[i] == most : before[i] == -most;
            want += stuck ? 0 : fabs(x[i]);
            double moved = (double) after[i] - before[i];
            got += x[i] > 0 ? moved : -moved;
            spread += moved * moved;
            ck_assert(moved * x[i] >= 0);
        }
    }
    ck_assert_msg(fabs(got - want) < 4 * sqrt(spread) + 0.01 * want,
                  "moved by %g, wanted %g, "
                  "chance explains %g",
                  got, want, sqrt(spread));
    rig_fini(&r);
}
END_TEST

/* Every weight that moved went to a neighbour in the order of its group's levels. */
START_TEST(moves_are_to_neighbouring_levels)
{
    static struct rig r;
    static float before[WEIGHTS], after[WEIGHTS];
    bool last = _i > 3;
    uint32_t n_kernels = (uint32_t) (last ? 3 : _i);
    rig_init(&r, n_kernels, (struct mb_flip_options) { .last_kernel = last });
    for (uint64_t t = 1; t <= 30; t++) {
        values(&r.w, before);
        ck_assert_int_eq(step(&r, (struct mb_flip_step) { t, 0.1, 0, 1, 9, 4 }, NULL), MB_OK);
        values(&r.w, after);
        for (size_t i = 0; i < WEIGHTS; i++) {
            struct mb_bool_matrix w = mb_bool_draft_view(&r.w);
            float level[256], low = fminf(before[i], after[i]),
                              high = fmaxf(before[i], after[i]);
            mb_weights_levels(&w, i / N, i % N / G, level);
            for (unsigned p = 0; !last && p < 1u << n_kernels; p++) {
                ck_assert(level[p] <= low || level[p] >= high);
            }
        }
    }
    ck_assert_uint_gt(r.f.counts.n_flips, 0);
    struct mb_bool_matrix w = mb_bool_draft_view(&r.w);
    ck_assert_int_eq(mb_bool_check(&w, NULL), MB_OK);
    uint8_t now[G], then[G];
    for (size_t i = 0; last && i < M; i++) {
        mb_weights_patterns(&w, i, 0, now);
        mb_weights_patterns(&r.base, i, 0, then);
        for (size_t j = 0; j < G; j++) {
            ck_assert_int_eq((now[j] ^ then[j]) & 3, 0); /* of three kernels, the third */
        }
    }
    rig_fini(&r);
}
END_TEST

START_TEST(a_budget_is_kept_and_spent)
{
    static struct rig r;
    rig_init(&r, 2, (struct mb_flip_options) { .mode = (enum mb_flip_mode) _i });
    uint64_t before = 0;
    for (uint64_t t = 1; t <= 20; t++) {
        ck_assert_int_eq(step(&r, (struct mb_flip_step) { t, 0.5, 0, 0.01, 9, 4 }, NULL),
                         MB_OK);
        uint64_t flips = r.f.counts.n_flips - before;
        before = r.f.counts.n_flips;
        ck_assert_uint_le(flips, WEIGHTS / 100 * 2); /* chance decides among equals */
    }
    ck_assert_uint_gt(r.f.counts.n_flips, 12 * WEIGHTS / 100);
    ck_assert_uint_le(r.f.counts.n_moved, r.f.counts.n_flips);
    rig_fini(&r);
}
END_TEST

static void train(struct rig *r, struct mb_pool *pool, uint64_t from, uint64_t to)
{
    for (uint64_t t = from; t <= to; t++) {
        r->dw[t % WEIGHTS] *= -1;
        struct mb_flip_step s = { t, 0.05, 0.01, 0.02, 9, 4 };
        ck_assert_int_eq(step(r, s, pool), MB_OK);
    }
}

static void assert_equal(const struct rig *a, const struct rig *b)
{
    const struct mb_bool_shape *s = &a->w.shape;
    ck_assert_mem_eq(a->w.bits, b->w.bits, mb_bool_bits_bytes(s));
    ck_assert_mem_eq(a->w.scale, b->w.scale, mb_bool_scale_bytes(s));
    ck_assert_mem_eq(a->w.coef, b->w.coef, mb_bool_coef_bytes(s));
    ck_assert_mem_eq(&a->f.counts, &b->f.counts, sizeof a->f.counts);
}

START_TEST(threads_and_the_size_of_the_loss_change_no_bit)
{
    static struct rig one, many, large;
    struct mb_pool *pool = NULL;
    struct mb_flip_options o = { .mode = (enum mb_flip_mode) _i };
    ck_assert_int_eq(mb_pool_new(3, 0, &pool, NULL), MB_OK);
    rig_init(&one, 3, o);
    rig_init(&many, 3, o);
    rig_init(&large, 3, o);
    for (size_t i = 0; i < WEIGHTS; i++) {
        large.dw[i] *= 1024; /* a power of two, so that nothing rounds differently */
    }
    train(&one, NULL, 1, 10);
    train(&many, pool, 1, 10);
    train(&large, pool, 1, 10);
    assert_equal(&one, &many);
    assert_equal(&one, &large);
    mb_pool_free(pool);
    rig_fini(&one);
    rig_fini(&many);
    rig_fini(&large);
}
END_TEST

START_TEST(what_was_saved_goes_on_alike)
{
    static struct rig one, two;
    struct mb_bytes state = { 0 };
    struct mb_flip_options o = { .mode = (enum mb_flip_mode) _i };
    rig_init(&one, 3, o);
    rig_init(&two, 3, o);
    train(&one, NULL, 1, 6);
    memcpy(two.dw, one.dw, sizeof one.dw);
    mb_flipper_save(&one.f, &state);
    struct mb_cursor c = mb_cursor_of(state.at, state.len);
    ck_assert(mb_flipper_load(&two.f, &c));
    ck_assert_uint_eq(c.left, 0);
    train(&one, NULL, 7, 12);
    train(&two, NULL, 7, 12);
    assert_equal(&one, &two);
    for (size_t cut = 0; cut < state.len; cut += 997) { /* any shorter one is refused */
        c = mb_cursor_of(state.at, cut);
        ck_assert(!mb_flipper_load(&two.f, &c));
    }
    mb_bytes_fini(&state);
    rig_fini(&one);
    rig_fini(&two);
}
END_TEST

START_TEST(a_gradient_that_is_not_finite_changes_nothing)
{
    static struct rig r, untouched;
    const float bad[] = { NAN, INFINITY, -INFINITY };
    rig_init(&r, 2, (struct mb_flip_options) { .mode = MB_FLIP_ACCUMULATE });
    rig_init(&untouched, 2, (struct mb_flip_options) { .mode = MB_FLIP_ACCUMULATE });
    r.dw[77] = bad[_i];
    ck_assert_int_eq(step(&r, (struct mb_flip_step) { 1, 1, 0.1, 1, 9, 4 }, NULL),
                     MB_E_INVALID);
    assert_equal(&r, &untouched);
    rig_fini(&r);
    rig_fini(&untouched);
}
END_TEST

/* AdamW's first step is of one size, against the gradient's sign: here d/d alpha of sum G W, by
 * a difference. */
START_TEST(coefficients_follow_their_gradient)
{
    static struct rig r;
    static float values_up[WEIGHTS], values_now[WEIGHTS];
    rig_init(&r, 3, (struct mb_flip_options) { .mode = MB_FLIP_ACCUMULATE });
    struct mb_bool_draft up;
    float was[3], half = 100 * unit_of(&r.start, 0, 0);
    fill(&up, 3);
    memcpy(was, r.f.alpha, sizeof was);
    ck_assert_int_eq(step(&r, (struct mb_flip_step) { 1, 0, 0.001, 0, 9, 4 }, NULL), MB_OK);
    values(&up, values_now);
    for (size_t k = 0; k < 3; k++) {
        up.coef[k * MB_TILE_ROWS] += 1; /* row 0, group 0 */
        values(&up, values_up);
        up.coef[k * MB_TILE_ROWS] -= 1;
        double d = 0;
        for (size_t j = 0; j < G; j++) {
            d += (double) r.dw[j] * (values_up[j] - values_now[j]);
        }
        ck_assert_float_eq_tol(
            was[k], r.start.coef[16 * k] * mb_f16_to_f32(r.start.scale[0]) * r.start.scale_all,
            1e-4f * half);
        ck_assert_float_eq_tol(r.f.alpha[k], was[k] - (d > 0 ? 0.001f : -0.001f) * half,
                               1e-4f * half);
    }
    mb_bool_draft_fini(&up);
    rig_fini(&r);
}
END_TEST

static void target_row(const void *self, size_t row, float *ret)
{
    memcpy(ret, (const float *) self + row * N, N * sizeof *ret);
}

/* Started at what is left of a target, closed-form coefficients come closer to it. */
START_TEST(closed_form_coefficients_fit_better)
{
    static struct rig r;
    static float target[WEIGHTS], now[WEIGHTS];
    struct mb_flip_options o = { .mode = MB_FLIP_ACCUMULATE, .start = 0.9 };
    rig_init(&r, 2, o);
    values(&r.w, target);
    for (size_t i = 0; i < WEIGHTS; i++) {
        target[i] = 1.1f * target[i] + 1e-4f * (float) mb_rng_unit(5, 0, i);
    }
    mb_flipper_fini(&r.f);
    ck_assert_int_eq(mb_flipper_init(&r.f, &o, &r.w, &r.base, target_row, target, NULL, NULL),
                     MB_OK);
    double error[2] = { 0 };
    for (int turn = 0; turn < 2; turn++) {
        values(&r.w, now);
        for (size_t i = 0; i < WEIGHTS; i++) {
            error[turn] += pow(target[i] - now[i], 2);
        }
        mb_flipper_refresh(&r.f, NULL);
    }
    ck_assert_msg(error[1] < 0.5 * error[0], "error %g, then %g", error[0], error[1]);
    struct mb_bool_matrix w = mb_bool_draft_view(&r.w);
    ck_assert_int_eq(mb_bool_check(&w, NULL), MB_OK);
    rig_fini(&r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("flip");
    TCase *t = tcase_create("laws");
    tcase_add_loop_test(t, levels_and_evidence_move_by_what_was_wanted, 1, 5);
    tcase_add_loop_test(t, random_moves_are_right_on_average, 1, 4);
    tcase_add_loop_test(t, moves_are_to_neighbouring_levels, 1, 5);
    tcase_add_loop_test(t, a_budget_is_kept_and_spent, 0, 2);
    tcase_add_loop_test(t, threads_and_the_size_of_the_loss_change_no_bit, 0, 2);
    tcase_add_loop_test(t, what_was_saved_goes_on_alike, 0, 2);
    tcase_add_loop_test(t, a_gradient_that_is_not_finite_changes_nothing, 0, 3);
    tcase_add_test(t, coefficients_follow_their_gradient);
    tcase_add_test(t, closed_form_coefficients_fit_better);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
