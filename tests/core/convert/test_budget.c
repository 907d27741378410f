/* Goal:   a budget is kept, is spent where it undoes the most harm, and is chosen the same way at
 *         any number of threads.
 * Method: spending is compared with every possible choice on small random cases; the smallest
 *         real model is converted within budgets, with a text and without. */
#include "core/convert/budget.h"
#include "tests/check_main.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/checkpoint/reader.h"

#define OUT "test_budget.mbool"

enum { ITEMS = 5, CHOICES = 4 * 4 * 4 * 4 * 4 };

static struct mb_kernels kernels;

static void random_items(uint64_t seed, struct mb_budget_item *items)
{
    for (size_t i = 0; i < ITEMS; i++) {
        double harm = 1 + 9 * mb_rng_unit(seed, i, 0);
        for (size_t k = 0; k < MB_BUDGET_KERNELS_MAX; k++) {
            items[i].harm[k] = harm;
            items[i].bytes[k] = (i + 1) * (k + 2) * 10;
            harm *= 0.2 + 0.1 * mb_rng_unit(seed, i, k + 1);
        }
    }
}

static uint64_t total(const struct mb_budget_item *items, const uint8_t *k, double *ret_harm)
{
    uint64_t bytes = 0;
    *ret_harm = 0;
    for (size_t i = 0; i < ITEMS; i++) {
        ck_assert_uint_ge(k[i], 1);
        ck_assert_uint_le(k[i], MB_BUDGET_KERNELS_MAX);
        bytes += items[i].bytes[k[i] - 1];
        *ret_harm += items[i].harm[k[i] - 1];
    }
    return bytes;
}

static double step(const struct mb_budget_item *t, unsigned k) /* from k to k + 1, per byte */
{
    return (t->harm[k - 1] - t->harm[k]) / (double) (t->bytes[k] - t->bytes[k - 1]);
}

/* Were the steps taken the best ones, with none passed over for its size? */
static bool on_the_frontier(const struct mb_budget_item *items, const uint8_t *k)
{
    double taken = 1e300, left = 0;
    for (size_t i = 0; i < ITEMS; i++) {
        double last = k[i] > 1 ? step(&items[i], k[i] - 1u) : 1e300;
        double next = k[i] < MB_BUDGET_KERNELS_MAX ? step(&items[i], k[i]) : 0;
        taken = last < taken ? last : taken;
        left = next > left ? next : left;
    }
    return taken >= left;
}

/* Never more than the budget, nothing that fits left over; and where no step was passed over,
 * no other choice of so many bytes does less harm, as each layer's steps gain less and less. */
START_TEST(what_is_spent_is_spent_best)
{
    struct mb_budget_item items[ITEMS];
    uint8_t got[ITEMS], other[ITEMS];
    double harm, other_harm;
    size_t n_frontier = 0;
    random_items((uint64_t) _i, items);
    for (uint64_t budget = 300; budget <= 750; budget += 10) {
        mb_budget_spend(items, ITEMS, budget, got);
        uint64_t bytes = total(items, got, &harm);
        ck_assert_uint_le(bytes, budget);
        for (size_t i = 0; i < ITEMS; i++) {
            ck_assert(got[i] == MB_BUDGET_KERNELS_MAX || bytes + (i + 1) * 10 > budget);
        }
        bool is_best = on_the_frontier(items, got);
        n_frontier += is_best;
        for (size_t n = 0; is_best && n < CHOICES; n++) {
            for (size_t i = 0, rest = n; i < ITEMS; i++, rest /= 4) {
                other[i] = (uint8_t) (1 + rest % 4);
            }
            ck_assert(total(items, other, &other_harm) > bytes || other_harm >= harm - 1e-9);
        }
    }
    ck_assert_uint_gt(n_frontier, 5);
}
END_TEST

START_TEST(equals_are_served_in_order)
{
    struct mb_budget_item items[ITEMS];
    uint8_t got[ITEMS];
    for (size_t i = 0; i < ITEMS; i++) {
        items[i] = (struct mb_budget_item) { { 8, 4, 2, 1 }, { 10, 20, 30, 40 } };
    }
    mb_budget_spend(items, ITEMS, 75, got);
    ck_assert_mem_eq(got, ((uint8_t[]) { 2, 2, 1, 1, 1 }), ITEMS);
}
END_TEST

/* K of each tensor of the blocks into ret. */
static enum mb_status convert(const char *text, size_t n_text, double bits, size_t n_threads,
                              uint32_t *ret, struct mb_error *err)
{
    const char *path = mb_data_path("models/stories260K/config.json");
    char *dir = strdup(path);
    struct mb_pool *pool;
    struct mb_convert_report r;
    struct mb_convert_options o = mb_convert_defaults();
    *strrchr(dir, '/') = 0;
    o.text = text;
    o.n_text = n_text;
    o.tokens_max = 2000;
    o.fit.group = 32;
    o.fit.n_turns = 0;
    o.bits = bits;
    mb_assert_ok(mb_pool_new(n_threads, 0, &pool, err), err);
    enum mb_status st = mb_convert(dir, OUT, &o, &kernels, pool, NULL, &r, err);
    mb_pool_free(pool);
    free(dir);
    if (st == MB_OK) {
        double got = mb_bits_per_weight(r.block_bytes, r.n_block_weights);
        ck_assert_msg(got <= bits && got > bits - 0.2, "%g bits for %g", got, bits);
        for (size_t i = 1; i < r.n_tensors; i++) {
            ret[i - 1] = r.tensors[i].n_kernels;
        }
        mb_convert_report_fini(&r);
    }
    return st;
}

START_TEST(a_real_model_keeps_its_budget)
{
    struct mb_error err;
    struct mb_checkpoint *c;
    struct mb_file_map text;
    uint32_t one[64] = { 0 }, three[64] = { 0 }, blind[64] = { 0 };
    bool differ = false;
    const char *path = mb_data_path("text/tinystories_train.txt");
    if (!path || !mb_data_path("models/stories260K/config.json")) {
        mb_skip("no real models");
    }
    mb_assert_ok(mb_file_map(path, &text, &err), &err);
    mb_assert_ok(convert((const char *) text.at, text.n, 3.2, 1, one, &err), &err);
    mb_assert_ok(convert((const char *) text.at, text.n, 3.2, 3, three, &err), &err);
    mb_assert_ok(convert(NULL, 0, 3.2, 2, blind, &err), &err);
    ck_assert_mem_eq(one, three, sizeof one);
    for (size_t i = 1; i < 64 && one[i] > 0; i++) {
        differ = differ || one[i] != one[0];
    }
    ck_assert(differ);
    mb_assert_ok(mb_checkpoint_open(OUT, &c, &err), &err);
    const struct mb_section *s = mb_checkpoint_find(c, "provenance");
    ck_assert_ptr_nonnull(s);
    char *words = strndup(mb_checkpoint_data(c, s), s->bytes);
    ck_assert_ptr_nonnull(strstr(words, "convert.bits: 3.2\n"));
    free(words);
    mb_checkpoint_free(c);
    ck_assert_int_eq(convert(NULL, 0, 1.2, 2, blind, &err), MB_E_INVALID);
    ck_assert_msg(strstr(err.what, "budget") != NULL, "%s", err.what);
    mb_file_unmap(&text);
    (void) unlink(OUT);
}
END_TEST

int main(void)
{
    mb_kernels_select(&kernels, mb_cpu_detect());
    Suite *s = suite_create("budget");
    TCase *t = tcase_create("budget");
    tcase_add_loop_test(t, what_is_spent_is_spent_best, 0, 8);
    tcase_add_test(t, equals_are_served_in_order);
    tcase_add_test(t, a_real_model_keeps_its_budget);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
