/* Goal:   the layout of a Boolean matrix is what its header says, and nonsense is refused.
 * Method: write drafts from a plain [row][column] table over many shapes, read every bit back by
 *         the formula in the header and every row by mb_bool_row; then break each rule once. */
#include "core/tensor/bool_matrix.h"

#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/rng.h"
#include "tests/check_main.h"

enum { ROWS_MAX = 40, COLS_MAX = 300, WORDS_MAX = COLS_MAX / 32 + 1, SCALE = 0x3555 };

/* Sign (0 or 1) and coefficient by row, column and kernel: the plain table. */
static unsigned sign_of(size_t i, size_t j, size_t k)
{
    return mb_rng_u64(i, j, k) & 1;
}

static uint8_t coef_of(size_t i, size_t g, size_t k)
{
    return (uint8_t) (15 - k - (i + g) % 3);
}

static void fill(struct mb_bool_draft *d)
{
    const struct mb_bool_shape *s = &d->shape;
    for (size_t i = 0; i < s->n_rows; i++) {
        for (size_t g = 0; g < mb_bool_groups(s); g++) {
            uint32_t words[MB_KERNELS_MAX][WORDS_MAX] = { { 0 } };
            const uint32_t *signs[MB_KERNELS_MAX];
            uint8_t coef[MB_KERNELS_MAX];
            for (size_t k = 0; k < s->n_kernels; k++) {
                signs[k] = words[k];
                coef[k] = coef_of(i, g, k);
                for (size_t j = 0; j < mb_bool_group_cols(s, g); j++) {
                    words[k][j / 32] |= (uint32_t) sign_of(i, g * s->group + j, k) << j % 32;
                }
            }
            mb_bool_draft_set(d, i, g, SCALE, coef, signs);
        }
    }
}

static void init(struct mb_bool_draft *d, uint32_t m, uint32_t n, uint32_t group,
                 uint32_t kernels)
{
    struct mb_error err;
    struct mb_bool_shape s = { m, n, group, kernels };
    mb_assert_ok(mb_bool_draft_init(d, &s, &err), &err);
    fill(d);
}

/* Bit (i, j, k) by the sentence in the header: [tile][group][kernel][word in group][16 rows]. */
static unsigned bit_by_layout(const struct mb_bool_matrix *w, size_t i, size_t j, size_t k)
{
    size_t at = 0, n_words = (w->shape.n_cols + 31) / 32;
    at += i / 16 * n_words * w->shape.n_kernels * 16;
    size_t g = j / w->shape.group, group_words = w->shape.group / 32;
    size_t words_here = n_words - g * group_words;
    words_here = words_here < group_words ? words_here : group_words;
    at += g * group_words * w->shape.n_kernels * 16;
    at += k * words_here * 16 + j % w->shape.group / 32 * 16 + i % 16;
    return w->bits[at] >> j % 32 & 1;
}

static void check_one(uint32_t m, uint32_t n, uint32_t group, uint32_t kernels)
{
    struct mb_bool_draft d;
    struct mb_error err;
    static float row[COLS_MAX];
    init(&d, m, n, group, kernels);
    d.scale_all = 0.75f;
    struct mb_bool_matrix w = mb_bool_draft_view(&d);
    mb_assert_ok(mb_bool_check(&w, &err), &err);
    size_t n_set = 0, n_want = 0, n_wrong = 0;
    for (size_t i = 0; i < m; i++) {
        mb_bool_row(&w, i, row);
        for (size_t j = 0; j < n; j++) {
            int sum = 0;
            for (size_t k = 0; k < kernels; k++) {
                n_wrong += bit_by_layout(&w, i, j, k) != sign_of(i, j, k);
                n_want += sign_of(i, j, k);
                sum += (sign_of(i, j, k) ? 1 : -1) * coef_of(i, j / group, k);
            }
            double scale = 0.75 * (double) mb_f16_to_f32(SCALE); /* both exact in float32 */
            n_wrong += row[j] != (float) (scale * sum);
        }
    }
    for (size_t at = 0; at < mb_bool_bits_bytes(&w.shape) / 4; at++) {
        n_set += (size_t) __builtin_popcount(w.bits[at]);
    }
    ck_assert_msg(n_wrong == 0, "%u x %u, G %u, K %u", m, n, group, kernels);
    ck_assert_uint_eq(n_set, n_want); /* so every bit elsewhere is zero: B1 */
    mb_bool_draft_fini(&d);
}

START_TEST(every_bit_is_where_the_header_says)
{
    static const uint32_t groups[] = { 32, 64, 128, 256, 320 };
    static const uint32_t cols[] = { 1, 31, 32, 33, 63, 64, 65, 127, 129, 160, 256, 257, 300 };
    for (size_t c = 0; c < sizeof cols / sizeof cols[0]; c++) {
        for (uint32_t m = 1; m <= ROWS_MAX; m += 13) {
            for (uint32_t k = 1; k <= MB_KERNELS_MAX; k += m % 3 + 1) {
                check_one(m, cols[c], groups[_i], k);
            }
        }
    }
}
END_TEST

START_TEST(shapes_out_of_range_are_refused_by_name)
{
    static const struct {
        struct mb_bool_shape shape;
        const char *names;
    } wrong[] = {
        { { 0, 1, 32, 1 }, "n_rows" },
        { { MB_ROWS_MAX + 1, 1, 32, 1 }, "n_rows" },
        { { 1, 0, 32, 1 }, "n_cols" },
        { { 1, MB_COLS_MAX + 1, 32, 1 }, "n_cols" },
        { { 1, 1, 0, 1 }, "group" },
        { { 1, 1, 48, 1 }, "group" },
        { { 1, 1, MB_GROUP_COLS_MAX + 32, 1 }, "group" },
        { { 1, 1, 32, 0 }, "n_kernels" },
        { { 1, 1, 32, MB_KERNELS_MAX + 1 }, "n_kernels" },
    };
    struct mb_error err;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct mb_bool_draft d;
        ck_assert_int_eq(mb_bool_shape_check(&wrong[i].shape, &err), MB_E_INVALID);
        ck_assert_msg(strstr(err.what, wrong[i].names) != NULL, "%s", err.what);
        ck_assert_int_eq(mb_bool_draft_init(&d, &wrong[i].shape, &err), MB_E_INVALID);
        mb_bool_draft_fini(&d);
    }
    struct mb_bool_shape largest = { MB_ROWS_MAX, MB_COLS_MAX, MB_GROUP_COLS_MAX,
                                     MB_KERNELS_MAX };
    mb_assert_ok(mb_bool_shape_check(&largest, &err), &err);
    mb_bool_draft_fini(NULL);
}
END_TEST

static void expect_wrong(const struct mb_bool_draft *d, const char *names)
{
    struct mb_error err;
    struct mb_bool_matrix w = mb_bool_draft_view(d);
    ck_assert_int_eq(mb_bool_check(&w, &err), MB_E_FORMAT);
    ck_assert_msg(strstr(err.what, names) != NULL, "%s, not %s", err.what, names);
}

START_TEST(each_broken_rule_is_found)
{
    struct mb_bool_draft d;
    init(&d, 18, 70, 64, 3);
    size_t last = mb_bool_groups(&d.shape) - 1;

    uint32_t *bits =
        d.bits + mb_bool_bits_at(&d.shape, 1, last); /* 6 columns, 2 rows are real */
    bits[1] |= 1u << 6;
    expect_wrong(&d, "row 17, group 1: a padding bit of kernel 0");
    bits[1] &= ~(1u << 6);
    bits[2 * 16 + 2] = 1;
    expect_wrong(&d, "row 18, group 1: a padding bit of kernel 2");
    bits[2 * 16 + 2] = 0;

    uint16_t *scale = d.scale + mb_bool_scale_at(&d.shape, 0, last);
    scale[3] = 0x7c00;
    expect_wrong(&d, "row 3, group 1: scale");
    scale[3] = 0xfe01;
    expect_wrong(&d, "row 3, group 1: scale");
    scale[3] = SCALE;
    d.scale[mb_bool_scale_at(&d.shape, 1, 0) + 2] = 1;
    expect_wrong(&d, "row 18, group 0: padding row");
    d.scale[mb_bool_scale_at(&d.shape, 1, 0) + 2] = 0;

    uint8_t *coef = d.coef + mb_bool_coef_at(&d.shape, 0, 0);
    memset(coef, 43, 3 * 16);
    expect_wrong(&d, "row 0, group 0: coefficients add up to 129");
    memset(coef, 42, 3 * 16);
    coef[16 + 5] = 43;
    expect_wrong(&d, "row 5, group 0: coefficient 1 is 43");
    coef[16 + 5] = 42;
    coef = d.coef + mb_bool_coef_at(&d.shape, 1, 0);
    coef[15] = 1;
    expect_wrong(&d, "row 31, group 0: padding row");
    coef[15] = 0;
    d.scale_all = NAN;
    expect_wrong(&d, "scale_all");
    d.scale_all = 1;

    struct mb_error err;
    struct mb_bool_matrix w = mb_bool_draft_view(&d);
    mb_assert_ok(mb_bool_check(&w, &err), &err);
    mb_bool_draft_fini(&d);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bool_matrix");
    TCase *t = tcase_create("layout");
    tcase_add_loop_test(t, every_bit_is_where_the_header_says, 0, 5);
    tcase_add_test(t, shapes_out_of_range_are_refused_by_name);
    tcase_add_test(t, each_broken_rule_is_found);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
