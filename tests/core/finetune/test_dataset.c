/* Goal:   every token is learned once per epoch, in an order that only the seed decides, in batches
 *         that fit; and prompts are read, not learned.
 * Method: a byte tokenizer made in memory; what comes out of batches is put together again. */
#include "core/finetune/dataset.h"

#include <string.h>

#include "core/tokenizer/spec.h"
#include "tests/check_main.h"
#include "tests/core/tokenizer/small.h"

static void add_example(struct mb_dataset *d, uint32_t first, size_t n, size_t prompt)
{
    uint32_t ids[64];
    uint8_t learn[64];
    bool added;
    for (size_t i = 0; i < n; i++) {
        ids[i] = first + (uint32_t) i;
        learn[i] = i >= prompt;
    }
    ck_assert_int_eq(mb_dataset_add(d, ids, learn, n, 50, &added, NULL), MB_OK);
    ck_assert(added);
}

static struct mb_dataset examples(void)
{
    struct mb_dataset d = { 0 };
    for (uint32_t i = 0; i < 40; i++) {
        add_example(&d, 100 * i, 2 + i % 13, i % 2);
    }
    return d;
}

START_TEST(each_example_comes_once_in_an_epoch)
{
    struct mb_dataset d = examples();
    struct mb_batches b;
    ck_assert_int_eq(mb_batches_init(&b, &d, 30, 7, NULL), MB_OK);
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        unsigned seen[40] = { 0 };
        uint64_t learned = 0;
        while (b.epoch == epoch && b.at < d.n) {
            struct mb_train_batch t = mb_batches_next(&b);
            ck_assert_uint_le(t.n_tokens, 30);
            ck_assert_uint_ge(t.n_seqs, 1);
            ck_assert_uint_eq(t.start[t.n_seqs], t.n_tokens);
            for (uint32_t i = 0; i < t.n_seqs; i++) {
                uint32_t example = t.token[t.start[i]] / 100;
                seen[example]++;
                ck_assert_uint_eq(t.start[i + 1] - t.start[i], 1 + example % 13);
            }
            for (uint32_t i = 0; i < t.n_tokens; i++) {
                ck_assert_uint_eq(t.target[i], t.token[i] + 1);
                learned += t.weight[i] > 0;
            }
        }
        for (int i = 0; i < 40; i++) {
            ck_assert_uint_eq(seen[i], 1);
        }
        ck_assert_uint_eq(learned, d.n_learned);
        if (epoch < 2) { /* what ends an epoch begins the next */
            (void) mb_batches_next(&b);
            ck_assert(mb_batches_seek(&b, epoch + 1, 0));
        }
    }
    mb_batches_fini(&b);
    mb_dataset_fini(&d);
}
END_TEST

START_TEST(the_order_is_the_seeds)
{
    struct mb_dataset d = examples();
    struct mb_batches a, b, other;
    ck_assert_int_eq(mb_batches_init(&a, &d, 30, 7, NULL), MB_OK);
    ck_assert_int_eq(mb_batches_init(&b, &d, 30, 7, NULL), MB_OK);
    ck_assert_int_eq(mb_batches_init(&other, &d, 30, 8, NULL), MB_OK);
    bool differs = false;
    for (int i = 0; i < 50; i++) {
        struct mb_train_batch x = mb_batches_next(&a), y = mb_batches_next(&other);
        differs |= x.token[0] != y.token[0];
        if (i == 20) { /* a new one goes on from here */
            ck_assert(mb_batches_seek(&b, a.epoch, a.at));
        }
        if (i > 20) {
            y = mb_batches_next(&b);
            ck_assert_uint_eq(x.n_tokens, y.n_tokens);
            ck_assert_mem_eq(x.token, y.token, x.n_tokens * sizeof *x.token);
        }
    }
    ck_assert(differs);
    ck_assert(!mb_batches_seek(&b, 0, d.n + 1));
    mb_batches_fini(&a);
    mb_batches_fini(&b);
    mb_batches_fini(&other);
    mb_dataset_fini(&d);
}
END_TEST

START_TEST(an_example_with_nothing_to_learn_is_none)
{
    struct mb_dataset d = { 0 };
    const uint32_t ids[] = { 1, 2, 3, 4 };
    const uint8_t first[] = { 1, 0, 0, 0 }, last[] = { 0, 0, 0, 1 };
    bool added = true;
    ck_assert_int_eq(mb_dataset_add(&d, ids, first, 4, 10, &added, NULL), MB_OK);
    ck_assert(!added); /* nothing comes before the first token */
    ck_assert_int_eq(mb_dataset_add(&d, ids, last, 4, 3, &added, NULL), MB_OK);
    ck_assert(!added); /* it was cut away */
    ck_assert_int_eq(mb_dataset_add(&d, ids, last, 4, 4, &added, NULL), MB_OK);
    ck_assert(added);
    ck_assert_uint_eq(d.n_learned, 1);
    struct mb_batches b;
    struct mb_error err;
    ck_assert_int_eq(mb_batches_init(&b, &d, 2, 1, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.what, "3 tokens"));
    mb_dataset_fini(&d);
    ck_assert_int_eq(mb_batches_init(&b, &d, 2, 1, &err), MB_E_INVALID);
}
END_TEST

static size_t count(const struct mb_tokenizer *t, const char *text)
{
    struct mb_ids ids = { 0 };
    ck_assert_int_eq(mb_tokenizer_encode(t, text, strlen(text), 0, SIZE_MAX, &ids, NULL),
                     MB_OK);
    size_t n = ids.len;
    mb_ids_fini(&ids);
    return n;
}

START_TEST(windows_of_a_document_share_their_ends)
{
    struct mb_bpe_spec *spec = small_characters();
    struct mb_tokenizer *t = NULL;
    struct mb_dataset d = { 0 };
    ck_assert_int_eq(mb_tokenizer_new(spec, &t, NULL), MB_OK);
    const char text[] = "abcdefghij\n<|endoftext|>\n\n<|endoftext|>\nxyz\n";
    uint32_t bos;
    size_t has_bos = mb_tokenizer_bos(t, &bos);
    ck_assert_int_eq(mb_dataset_add_text(&d, t, text, sizeof text - 1, 5, NULL), MB_OK);
    size_t learned = 0;
    for (size_t i = 0; i < d.n; i++) {
        size_t n = d.start[i + 1] - d.start[i];
        ck_assert_uint_ge(n, 2);
        ck_assert_uint_le(n, 5);
        learned += n - 1;
    }
    const uint32_t *eos;
    size_t ends = mb_tokenizer_eos(t, &eos) > 0;
    size_t first = count(t, "abcdefghij") + has_bos + ends;
    size_t second = count(t, "xyz") + has_bos + ends;
    ck_assert_uint_gt(first, 5);
    ck_assert_uint_eq(learned, first - 1 + second - 1); /* all but the first of each document */
    ck_assert_uint_eq(d.n_learned, learned);
    ck_assert_uint_eq(d.ids.at[d.start[1]], d.ids.at[d.start[1] - 1]);
    struct mb_error err;
    ck_assert_int_eq(mb_dataset_add_text(&d, t, "\n\n", 2, 5, &err), MB_E_INVALID);
    mb_dataset_fini(&d);
    mb_tokenizer_free(t);
    mb_bpe_spec_free(spec);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dataset");
    TCase *t = tcase_create("examples");
    tcase_add_test(t, each_example_comes_once_in_an_epoch);
    tcase_add_test(t, the_order_is_the_seeds);
    tcase_add_test(t, an_example_with_nothing_to_learn_is_none);
    tcase_add_test(t, windows_of_a_document_share_their_ends);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
