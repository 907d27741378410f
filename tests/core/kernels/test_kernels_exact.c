/* Goal:   the kernels compute what the contract says, not merely all the same thing.
 * Method: integers against a naive 64-bit sum over rows unpacked by mb_bool_row; floats against
 *         float64 within bounds derived from the number of roundings; exp, sin and cos against
 *         the C library. All through the best set of this processor: the variants test
 *         shows that the others return the same bits. */
#include <math.h>

#include "core/kernels/walk.h"
#include "tests/core/kernels/inputs.h"

static const double ULP = 0x1p-24; /* half a unit in the last place of a float32, relative */

static struct mb_kernels best;

static void select_best(void)
{
    mb_kernels_select(&best, mb_cpu_detect());
}

/* T of one row, from the definition by columns. All scales are 1, so that a row is integers. */
static int64_t naive_sum(const struct mb_bool_matrix *w, size_t row, const uint8_t *u,
                         int levels)
{
    float *values = mb_alloc(w->shape.n_cols, sizeof *values);
    int64_t sum = 0;
    mb_bool_row(w, row, values);
    for (size_t j = 0; j < w->shape.n_cols; j++) {
        sum += (int64_t) values[j] * (2 * u[j] - levels);
    }
    mb_free(values);
    return sum;
}

START_TEST(products_are_the_naive_integer)
{
    static const uint32_t widths[] = { 1, 31, 32, 33, 100, 128, 300, 1000, 4096 };
    select_best();
    for (size_t i = 0; i < 9 * 6; i++) {
        struct mb_bool_shape s = { (uint32_t) (1 + i % 35), widths[i / 6], 4096,
                                   (uint32_t) (1 + i % 8) };
        size_t n_planes = i % 6 == 0 ? 1 : 3 + i % 6, tiles = mb_bool_tiles(&s),
               tokens = 1 + i % 3;
        struct mb_bool_draft d = matrix_new(&s, (enum weights)(i % 2), i);
        struct mb_codes *x = codes_new(&s, tokens, n_planes, (enum inputs)(i % 3), i);
        float y[2][3 * 35];
        void *scratch = mb_alloc(mb_bool_expand_scratch(&s), 1);
        d.scale_all = 1;
        for (size_t at = 0; at < mb_bool_scale_bytes(&s) / 2; at++) {
            d.scale[at] = at < s.n_rows ? 0x3c00 : 0;
        }
        struct mb_bool_matrix w = mb_bool_draft_view(&d);
        for (size_t t = 0; t < tokens; t++) {
            x[t].a[0] = 1;
        }
        codes_tables(&best, x, tokens, s.n_cols, n_planes);
        mb_code_panels(x, tokens, s.n_cols, s.group);
        best.bool_popcount(y[0], 35, &w, x, tokens, n_planes, 0, tiles, scratch);
        best.bool_expand(y[1], 35, &w, x, tokens, n_planes, 0, tiles, scratch);
        for (size_t t = 0; t < tokens; t++) {
            for (size_t r = 0; r < s.n_rows; r++) {
                int64_t want = naive_sum(&w, r, x[t].u, (1 << n_planes) - 1);
                ck_assert_msg(
                    y[0][t * 35 + r] == (float) want && y[1][t * 35 + r] == (float) want,
                    "case %zu, token %zu, row %zu: %a %a, not %lld", i, t, r,
                    (double) y[0][t * 35 + r], (double) y[1][t * 35 + r], (long long) want);
            }
        }
        mb_free(scratch);
        codes_free(x);
        mb_bool_draft_fini(&d);
    }
}
END_TEST

/* y against sum_j W[i,j] * a (2u - L) in float64. Roundings of a term: scale_all * a, its product
 * with s, float(T); then one a group. mb_bool_row adds two of its own. */
START_TEST(products_are_the_matrix_times_the_codes)
{
    enum { ROWS = 21, COLS = 700, P = 7 };
    struct mb_bool_shape s = { ROWS, COLS, 64, 3 };
    struct mb_bool_draft d = matrix_new(&s, WEIGHTS_USUAL, 5);
    struct mb_bool_matrix w = mb_bool_draft_view(&d);
    struct mb_codes *x = codes_new(&s, 1, P, INPUTS_USUAL, 3);
    float y[ROWS], row[COLS];
    void *scratch = mb_alloc(mb_bool_expand_scratch(&s), 1);
    select_best();
    best.bool_expand(y, ROWS, &w, x, 1, P, 0, mb_bool_tiles(&s), scratch);
    for (size_t i = 0; i < ROWS; i++) {
        double want = 0, size = 0;
        mb_bool_row(&w, i, row);
        for (size_t j = 0; j < COLS; j++) {
            double term = (double) row[j] * (double) x[0].a[j / 64] * (2 * x[0].u[j] - 127);
            want += term;
            size += fabs(term);
        }
        double bound = (double) (mb_bool_groups(&s) + 5) * ULP * size;
        ck_assert_msg(fabs((double) y[i] - want) <= bound, "row %zu: %g, not %g within %g", i,
                      (double) y[i], want, bound);
    }
    mb_free(scratch);
    codes_free(x);
    mb_bool_draft_fini(&d);
}
END_TEST

START_TEST(codes_are_the_nearest_levels)
{
    enum { N = 1000, G = 96 };
    static uint8_t u[1024];
    static _Alignas(64) uint32_t words[32][MB_WORD_TABLE_BYTES / 4];
    const uint32_t *planes = words[0];
    struct mb_kernels plain;
    float a[11];
    struct mb_codes c = { .u = u, .tables = words, .a = a };
    mb_kernels_select(&plain, 0);
    select_best();
    for (size_t n_planes = 4; n_planes <= 8; n_planes++) {
        float *x = floats_new(FLOATS_USUAL, n_planes, N);
        int levels = (1 << n_planes) - 1;
        best.code(&c, x, N, G, n_planes);
        plain.code_tables(&c, N, n_planes);
        for (size_t j = 0; j < N; j++) {
            double step = (double) a[j / G], got = step * (2 * u[j] - levels);
            ck_assert_int_le(u[j], levels);
            ck_assert_msg(fabs((double) x[j] - got) <= step * (1 + 1e-4),
                          "P %zu, %zu: %g for %g", n_planes, j, got, (double) x[j]);
            for (size_t p = 0; p < n_planes; p++) {
                uint32_t plane = planes[j / 32 * MB_PLANES_MAX + p];
                ck_assert_uint_eq(plane >> j % 32 & 1, u[j] >> p & 1);
            }
        }
        ck_assert(u[N] == 0 && u[1023] == 0);
        mb_free(x);
    }
}
END_TEST

START_TEST(one_plane_is_sign_and_mean)
{
    const float x[5] = { 1, -2, 0, NAN, 5 };
    uint8_t u[32];
    float a[1];
    struct mb_codes c = { .u = u, .a = a };
    select_best();
    best.code(&c, x, 5, 32, 1);
    ck_assert(a[0] == 8.0f / 5);
    ck_assert(u[0] == 1 && u[1] == 0 && u[2] == 1 && u[3] == 0 && u[4] == 1 && u[5] == 0);
}
END_TEST

START_TEST(dense_is_a_dot_product)
{
    enum { N = 333, ROWS = 9, TOKENS = 6 };
    float *w = floats_new(FLOATS_USUAL, 1, ROWS * N),
          *x = floats_new(FLOATS_USUAL, 2, TOKENS * N);
    float y[TOKENS * ROWS];
    select_best();
    best.dense_f32(y, ROWS, w, x, N, TOKENS, 0, ROWS);
    for (size_t t = 0; t < TOKENS; t++) {
        for (size_t r = 0; r < ROWS; r++) {
            double want = 0, size = 0;
            for (size_t j = 0; j < N; j++) {
                want += (double) w[r * N + j] * (double) x[t * N + j];
                size += fabs((double) w[r * N + j] * (double) x[t * N + j]);
            }
            double bound = (N / 16 + 1 + 4) * ULP * size; /* a lane's fmas, and the tree */
            ck_assert_msg(fabs((double) y[t * ROWS + r] - want) <= bound, "token %zu, row %zu",
                          t, r);
        }
    }
    mb_free(w);
    mb_free(x);
}
END_TEST

START_TEST(norm_rope_and_gate_are_their_formulas)
{
    enum { N = 130 };
    float *x = floats_new(FLOATS_USUAL, 1, N), *w = floats_new(FLOATS_USUAL, 2, N);
    float y[N], c[N / 2], s[N / 2];
    double sum = 0;
    select_best();
    for (size_t i = 0; i < N; i++) {
        sum += (double) x[i] * (double) x[i];
    }
    best.rmsnorm(y, x, w, N, 1e-5f);
    for (size_t i = 0; i < N; i++) {
        double want = (double) x[i] * (double) w[i] / sqrt(sum / N + 1e-5);
        ck_assert(fabs((double) y[i] - want) <= 16 * ULP * fabs(want));
    }
    best.silu_mul(y, x, w, N);
    for (size_t i = 0; i < N; i++) {
        double want = (double) x[i] / (1 + exp(-(double) x[i])) * (double) w[i];
        ck_assert(fabs((double) y[i] - want) <= 10 * ULP * fabs(want));
    }
    for (size_t i = 0; i < N / 2; i++) {
        c[i] = (float) cos((double) i);
        s[i] = (float) sin((double) i);
    }
    memcpy(y, x, sizeof y);
    best.rope(y, c, s, N);
    for (size_t i = 0; i < N / 2; i++) {
        double x0 = (double) x[i], x1 = (double) x[i + N / 2], p = (double) i;
        ck_assert(fabs((double) y[i] - (x0 * cos(p) - x1 * sin(p))) <= 32 * ULP);
        ck_assert(fabs((double) y[i + N / 2] - (x1 * cos(p) + x0 * sin(p))) <= 32 * ULP);
    }
    mb_free(x);
    mb_free(w);
}
END_TEST

/* 600 positions in three segments, of which each row sees a range of its own, against one softmax
 * in float64. */
START_TEST(attention_is_a_softmax)
{
    enum { D = 24, ROWS = 8, N = 600, BLOCKS = 19 };
    static _Alignas(64) float kv[BLOCKS][2 * MB_KV_BLOCK * D];
    static const uint32_t begins[ROWS] = { 0, 3, 0, 255, 256, 300, 0, 598 };
    static const uint32_t ends[ROWS] = { 600, 600, 1, 257, 600, 301, 512, 599 };
    float *x = floats_new(FLOATS_USUAL, 1, 2 * N * D);
    float *q = floats_new(FLOATS_USUAL, 2, ROWS * D), y[D];
    const double scale = 0.125;
    struct mb_attend_tile t = tile_new(q, ROWS, D, 0, N);
    select_best();
    for (size_t j = 0; j < N; j++) {
        best.kv_store_f32(kv[j / 32], kv[j / 32] + MB_KV_BLOCK * D, x + 2 * j * D,
                          x + (2 * j + 1) * D, D, j % 32);
    }
    memcpy(t.begin, begins, sizeof begins);
    memcpy(t.end, ends, sizeof ends);
    for (size_t base = 0; base < N; base += MB_ATTEND_SEGMENT) {
        struct mb_attend_tile part = tile_new(q, ROWS, D, 0, N);
        memcpy(part.begin, begins, sizeof begins);
        memcpy(part.end, ends, sizeof ends);
        for (size_t at = base; at < base + MB_ATTEND_SEGMENT && at < N; at += MB_KV_BLOCK) {
            best.attend_f32(&part, D, kv[at / 32], at, (float) scale, kv[at / 32]);
        }
        best.attend_merge(&t, &part, D, base);
        tile_free(&part);
    }
    for (size_t r = 0; r < ROWS; r++) {
        double total = 0, want[D] = { 0 };
        best.attend_finish(y, &t, r, D);
        for (size_t j = begins[r]; j < ends[r]; j++) {
            double z = 0;
            for (size_t i = 0; i < D; i++) {
                z += (double) q[r * D + i] * (double) x[2 * j * D + i];
            }
            total += exp(z * scale);
            for (size_t i = 0; i < D; i++) {
                want[i] += exp(z * scale) * (double) x[(2 * j + 1) * D + i];
            }
        }
        for (size_t i = 0; i < D; i++) {
            /* |z| < 48 has an error of 30 roundings; V is below 4 */
            ck_assert_msg(fabs((double) y[i] - want[i] / total) <= 4 * 48 * 30 * ULP,
                          "row %zu, element %zu: %g, not %g", r, i, (double) y[i],
                          want[i] / total);
        }
    }
    tile_free(&t);
    mb_free(x);
    mb_free(q);
}
END_TEST

START_TEST(float16_saturates)
{
    const float k[4] = { 70000, -70000, INFINITY, 65519 }, v[4] = { NAN, 0x1p-25f, 1, -0.0f };
    uint16_t kb[32 * 4] = { 0 }, vb[32 * 4] = { 0 };
    select_best();
    best.kv_store_f16(kb, vb, k, v, 4, 18);
    for (size_t i = 0; i < 4; i++) { /* position 18 is lane 2 of the second half */
        ck_assert_uint_eq(kb[(4 + i) * 16 + 2], i == 1 ? 0xfbff : 0x7bff);
    }
    ck_assert((vb[18 * 4] & 0x7fff) > 0x7c00);
    ck_assert(vb[18 * 4 + 1] == 0 && vb[18 * 4 + 2] == 0x3c00 && vb[18 * 4 + 3] == 0x8000);
}
END_TEST

START_TEST(exp_is_close_everywhere)
{
    double worst = 0;
    for (uint32_t bits = 0; bits < 0x42b16666; bits += 101) { /* 0 to 88.7, then its negative */
        float x = mb_f32_of_bits(bits);
        double error = fabs((double) mb_exp(x) / exp((double) x) - 1);
        worst = error > worst ? error : worst;
        if (x <= 87.3f) {
            error = fabs((double) mb_exp(-x) / exp(-(double) x) - 1);
            worst = error > worst ? error : worst;
        }
    }
    printf("exp: relative error up to 2^%.2f\n", log2(worst));
    ck_assert(worst < 0x1p-22);
    ck_assert(mb_exp(-87.31f) == 0 && mb_exp(-INFINITY) == 0);
    ck_assert(isinf(mb_exp(88.71f)) && isinf(mb_exp(INFINITY)) && mb_exp(INFINITY) > 0);
    ck_assert(isnan(mb_exp(NAN)) && isnan(mb_exp(-NAN)));
    ck_assert(mb_exp(0) == 1 && mb_exp(-0.0f) == 1);
}
END_TEST

START_TEST(sincos_is_close_everywhere)
{
    double worst = 0;
    for (uint64_t i = 0; i < 3000000; i++) {
        double x = (2 * mb_rng_unit(1, 2, i) - 1) * ldexp(1, (int) (i % 32));
        if (i % 3 == 0) { /* near a multiple of pi / 2, where the reduction cancels */
            x = nearbyint(x / (M_PI / 2)) * (M_PI / 2);
        }
        if (!(fabs(x) < 0x1p31)) {
            continue;
        }
        double s, c;
        mb_sincos(x, &s, &c);
        double error = fmax(fabs(s - sin(x)), fabs(c - cos(x)));
        worst = error > worst ? error : worst;
    }
    printf("sincos: absolute error up to %.2g\n", worst);
    ck_assert(worst < 1e-9);
}
END_TEST

/* What is fetched at group g of a pass is what will be read so many groups later: the passes one after
 * the other, the same tile of each, by the indexes of bool_matrix.h. */
START_TEST(weights_are_fetched_in_the_order_they_are_read)
{
    enum { AHEAD = 32 << 10 };
    static const struct mb_bool_shape shapes[] = {
        { 2048, 2048, 128, 1 }, { 2048, 5632, 128, 3 },    { 2048, 96, 32, 2 },
        { 2048, 1000, 64, 4 },  { 2048, 11008, 11008, 1 },
    };
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct mb_bool_shape *s = &shapes[i];
        for (size_t n_tiles = 1; n_tiles <= 4; n_tiles++) {
            struct mb_walk_plan plan = mb_walk_plan(s, n_tiles);
            size_t n_groups = mb_bool_groups(s),
                   pass_bytes = n_tiles * s->group * s->n_kernels * 2;
            size_t on = (AHEAD + pass_bytes - 1) / pass_bytes;
            for (size_t g = 0; g < n_groups; g++) {
                const struct mb_walk_ahead *a = g < plan.turn ? &plan.in_row : &plan.in_next;
                size_t tile = (g + on) / n_groups * n_tiles, to = (g + on) % n_groups;
                ck_assert_uint_eq(mb_bool_bits_at(s, 0, g) * 4 + a->bits,
                                  mb_bool_bits_at(s, tile, to) * 4);
                ck_assert_uint_eq(mb_bool_scale_at(s, 0, g) * 2 + a->scale,
                                  mb_bool_scale_at(s, tile, to) * 2);
                ck_assert_uint_eq(mb_bool_coef_at(s, 0, g) + a->coef,
                                  mb_bool_coef_at(s, tile, to));
            }
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kernels_exact");
    TCase *t = tcase_create("contract");
    tcase_add_test(t, products_are_the_naive_integer);
    tcase_add_test(t, products_are_the_matrix_times_the_codes);
    tcase_add_test(t, weights_are_fetched_in_the_order_they_are_read);
    tcase_add_test(t, codes_are_the_nearest_levels);
    tcase_add_test(t, one_plane_is_sign_and_mean);
    tcase_add_test(t, dense_is_a_dot_product);
    tcase_add_test(t, norm_rope_and_gate_are_their_formulas);
    tcase_add_test(t, attention_is_a_softmax);
    tcase_add_test(t, float16_saturates);
    tcase_add_test(t, exp_is_close_everywhere);
    tcase_add_test(t, sincos_is_close_everywhere);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
