/* Goal:   a floor is what bench_floor.h says, in each of the cases that decide on its limit.
 * Method: a small model, and machines whose rates are simple numbers, so that each case is
 *         worked out by hand beside it. */
#include <math.h>
#include <string.h>

#include "clients/cli/bench_floor.h"
#include "tests/check_main.h"

enum { V = 1024, D = 256, Q = 128, C = 64, F = 512 };

/* One layer; d 32; K 2 in the block, groups of 128; a head in float16. The weights are never
 * read. */
static const struct mb_shape shape = {
    .n_layers = 1,
    .width = D,
    .n_heads = 4,
    .n_kv_heads = 2,
    .head_width = 32,
    .ffn_width = F,
    .n_vocab = V,
    .context = 512,
    .n_planes = 8,
    .norm_eps = 1e-5f,
};

static struct mb_block block;
static struct mb_model model = { .blocks = &block };

enum { BLOCK_WEIGHTS = 2 * Q * D + 2 * C * D + 3 * F * D };
/* Bits, then 2 bytes of scale and 2 of coefficients for 128 weights. */
#define BLOCK_BYTES (BLOCK_WEIGHTS * (2 / 8.0 + 4 / 128.0))
#define HEAD_BYTES  (V * D * 2.0)

static void setup(void)
{
    model.shape = shape;
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        struct mb_linear *w = &block.linear[l];
        w->kind = MB_LINEAR_BOOL;
        mb_block_linear_size(&shape, (enum mb_block_linear) l, &w->n_rows, &w->n_cols);
        w->boolean.shape = (struct mb_bool_shape) { w->n_rows, w->n_cols, 128, 2 };
    }
    model.head =
        (struct mb_linear) { MB_LINEAR_F16, V, D, NULL, { { 0 }, 0, NULL, NULL, NULL } };
}

static struct mbc_machine machine(double read, double popcount, double u8s8, double fma)
{
    return (struct mbc_machine) {
        .n_threads = 2,
        .all = { [MBC_UNIT_READ] = read,
                 [MBC_UNIT_POPCOUNT] = popcount,
                 [MBC_UNIT_U8S8] = u8s8,
                 [MBC_UNIT_FMA] = fma },
    };
}

static struct mbc_floor floor_of(const struct mbc_machine *m, const struct mbc_floor_step *step)
{
    struct mbc_floor f = { 0 };
    mbc_floor_add(&f, m, &model, MB_KV_F16, step);
    return f;
}

#define assert_near(got, want) \
    ck_assert_msg(fabs((got) / (want) -1) < 1e-12, "%.17g, wanted %.17g", (got), (want))

START_TEST(sizes_are_those_of_the_file)
{
    double sum = 0;
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        sum += mbc_linear_bytes(&block.linear[l]);
    }
    assert_near(sum, BLOCK_BYTES);
    assert_near(mbc_linear_bytes(&model.head), HEAD_BYTES);
    assert_near(mbc_weight_bytes(&model), BLOCK_BYTES + HEAD_BYTES);
}
END_TEST

START_TEST(slow_memory_is_the_limit)
{
    struct mbc_machine m = machine(1e3, 1e30, 1e30, 1e30);
    struct mbc_floor_step step = { 1, 1, 100, 100 };
    struct mbc_floor f = floor_of(&m, &step);
    double kv = 100 * 2 * C * sizeof(uint16_t);
    assert_near(f.seconds, (BLOCK_BYTES + HEAD_BYTES + kv) / 1e3);
    assert_near(f.unit_s[MBC_UNIT_READ], f.seconds);
    ck_assert_int_eq(mbc_floor_limit(&f), MBC_UNIT_READ);

    step = (struct mbc_floor_step) { 7, 7, 700, 100 }; /* once for all tokens */
    struct mbc_floor more = floor_of(&m, &step);
    assert_near(more.seconds, f.seconds);
}
END_TEST

START_TEST(a_product_takes_the_faster_way)
{
    struct mbc_floor_step step = { 5, 0, 0, 0 };
    double products = 5.0 * BLOCK_WEIGHTS, bits = products * 2 * 8;
    struct mbc_machine m = machine(1e30, 1e3, 1e3, 1e30); /* bits are 16 times as many */
    struct mbc_floor f = floor_of(&m, &step);
    assert_near(f.seconds, products / 1e3);
    ck_assert_int_eq(mbc_floor_limit(&f), MBC_UNIT_U8S8);
    m = machine(1e30, 1e5, 1e3, 1e30);
    f = floor_of(&m, &step);
    assert_near(f.seconds, bits / 1e5);
    ck_assert_int_eq(mbc_floor_limit(&f), MBC_UNIT_POPCOUNT);
}
END_TEST

START_TEST(dense_products_and_attention_multiply_floats)
{
    struct mbc_machine m = machine(1e30, 1e30, 1e30, 1e3);
    struct mbc_floor_step step = { 3, 2, 60, 20 };
    struct mbc_floor f = floor_of(&m, &step);
    assert_near(f.seconds, (2.0 * V * D + 2.0 * 60 * Q) / 1e3);
    ck_assert_int_eq(mbc_floor_limit(&f), MBC_UNIT_FMA);
}
END_TEST

/* Parts follow one another: what one waits for memory, another does not compute in. */
START_TEST(parts_add_up)
{
    struct mbc_machine m = machine(HEAD_BYTES, 1, BLOCK_WEIGHTS / 4.0, 1e30);
    struct mbc_floor_step step = { 1, 1, 0, 0 };
    struct mbc_floor f = floor_of(&m, &step);
    assert_near(f.seconds, 4 + 1.0); /* the block computes, the head reads */
    assert_near(f.unit_s[MBC_UNIT_U8S8], 4.0);
    assert_near(f.unit_s[MBC_UNIT_READ], 1.0);
    mbc_floor_add(&f, &m, &model, MB_KV_F16, &step);
    assert_near(f.seconds, 10.0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("bench_floor");
    TCase *t = tcase_create("bench_floor");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, sizes_are_those_of_the_file);
    tcase_add_test(t, slow_memory_is_the_limit);
    tcase_add_test(t, a_product_takes_the_faster_way);
    tcase_add_test(t, dense_products_and_attention_multiply_floats);
    tcase_add_test(t, parts_add_up);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
