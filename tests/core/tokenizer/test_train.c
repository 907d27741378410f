/* Goal:   merges learned are those of the paper, and the tokenizer made of them works.
 * Method: a reference that keeps every word as a list of strings and counts pairs by comparing all
 *         of them; real and made-up texts; what must be refused. */
#include <string.h>

#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/train.h"
#include "tests/check_main.h"

static const char *const special[] = { "<|begin|>", "<|end|>" };

static struct mb_bpe_train options(uint32_t n_vocab)
{
    return (struct mb_bpe_train) {
        .n_vocab = n_vocab, .special = special, .n_special = 2, .bos = 0, .eos = 1
    };
}

/* The words of the paper's example, as often as there. All words begin with a space. */
static const char example[] =
    " low low low low low lower lower newest newest newest newest newest"
    " newest widest widest widest";

/* A text of letters and single spaces as lists of strings, one for each symbol. */
enum { WORDS = 32, SYMBOLS = 16, LONG = 16 };
struct reference {
    char word[WORDS][SYMBOLS][LONG];
    size_t n[WORDS], n_words;
};

static void reference_init(struct reference *r, const char *text)
{
    *r = (struct reference) { .n_words = 0 };
    for (const char *p = text; *p; p++) {
        r->n_words += *p == ' ';
        size_t w = r->n_words - 1;
        r->word[w][r->n[w]++][0] = *p;
    }
}

static size_t reference_count(const struct reference *r, const char *a, const char *b)
{
    size_t n = 0;
    for (size_t w = 0; w < r->n_words; w++) {
        for (size_t i = 0; i + 1 < r->n[w]; i++) {
            n += strcmp(r->word[w][i], a) == 0 && strcmp(r->word[w][i + 1], b) == 0;
        }
    }
    return n;
}

static size_t reference_best(const struct reference *r)
{
    size_t best = 0;
    for (size_t w = 0; w < r->n_words; w++) {
        for (size_t i = 0; i + 1 < r->n[w]; i++) {
            size_t n = reference_count(r, r->word[w][i], r->word[w][i + 1]);
            best = n > best ? n : best;
        }
    }
    return best;
}

static void reference_merge(struct reference *r, const char *a, const char *b)
{
    char left[LONG], right[LONG];
    strcpy(left, a);
    strcpy(right, b);
    for (size_t w = 0; w < r->n_words; w++) {
        for (size_t i = 0; i + 1 < r->n[w]; i++) {
            if (strcmp(r->word[w][i], left) == 0 && strcmp(r->word[w][i + 1], right) == 0) {
                strcat(r->word[w][i], right);
                memmove(r->word[w][i + 1], r->word[w][i + 2], (--r->n[w] - i - 1) * LONG);
            }
        }
    }
}

/* A token's bytes as text; "\u0120" is how byte-level vocabularies write a space. */
static void token_bytes(const struct mb_bpe_spec *s, uint32_t id, char ret[LONG])
{
    const char *at = (const char *) mb_bpe_at(s, s->tokens[id].text);
    size_t n = s->tokens[id].text.n, len = 0;
    for (size_t i = 0; i < n; i++) {
        bool space = (uint8_t) at[i] == 0xc4 && (uint8_t) at[i + 1] == 0xa0;
        ret[len++] = space ? ' ' : at[i];
        i += space;
    }
    ret[len] = '\0';
}

START_TEST(each_merge_is_of_a_most_frequent_pair)
{
    struct mb_error err;
    struct mb_bpe_train o = options(2 + 256 + 12);
    struct mb_bpe_spec *s;
    mb_assert_ok(mb_bpe_train(&o, (const uint8_t *) example, strlen(example), &s, &err), &err);
    ck_assert_uint_eq(s->n_merges, 12);
    struct reference r;
    reference_init(&r, example);
    for (uint32_t i = 0; i < s->n_merges; i++) {
        char a[LONG], b[LONG];
        token_bytes(s, s->merges[i].left, a);
        token_bytes(s, s->merges[i].right, b);
        ck_assert_uint_eq(s->merges[i].result, 258 + i);
        ck_assert_msg(reference_count(&r, a, b) == reference_best(&r), "merge %u: '%s' '%s'",
                      (unsigned) i, a, b);
        reference_merge(&r, a, b);
    }
    char first[LONG];
    token_bytes(s, 258, first);
    ck_assert_str_eq(first, "es"); /* 9 times, as "st" is; e is before s */
    mb_bpe_spec_free(s);
}
END_TEST

START_TEST(learning_ends_when_no_pair_occurs_twice)
{
    struct mb_error err;
    struct mb_bpe_train o = options(60000);
    struct mb_bpe_spec *s;
    mb_assert_ok(mb_bpe_train(&o, (const uint8_t *) example, strlen(example), &s, &err), &err);
    ck_assert_uint_lt(s->n_tokens, 300);
    mb_bpe_spec_free(s);
    mb_assert_ok(mb_bpe_train(&o, NULL, 0, &s, &err), &err);
    ck_assert_uint_eq(s->n_tokens, 258);
    mb_bpe_spec_free(s);
    mb_assert_ok(mb_bpe_train(&o, (const uint8_t *) "aaaaaaaaaaaa", 12, &s, &err), &err);
    mb_bpe_spec_free(s);
}
END_TEST

START_TEST(what_is_learned_encodes_and_decodes)
{
    struct mb_error err;
    struct mb_bpe_train o = options(300);
    struct mb_bpe_spec *s;
    mb_assert_ok(mb_bpe_train(&o, (const uint8_t *) example, strlen(example), &s, &err), &err);
    struct mb_tokenizer *t;
    mb_assert_ok(mb_tokenizer_new(s, &t, &err), &err);
    static const char text[] = " newest <|end|> lowest\n\xc3\xa4 \xf0\x9f\xa6\x8a";
    struct mb_ids ids = { 0 };
    mb_assert_ok(mb_tokenizer_encode(t, text, strlen(text),
                                     MB_ENCODE_BOS_EOS | MB_ENCODE_PARSE_SPECIAL, 1000, &ids,
                                     &err),
                 &err);
    ck_assert_uint_eq(ids.at[0], 0);
    char first[LONG];
    token_bytes(s, ids.at[1], first);
    ck_assert_str_eq(first, " newest");
    ck_assert_uint_eq(ids.at[3], 1);
    struct mb_bytes back = { 0 };
    mb_assert_ok(mb_tokenizer_decode(t, ids.at + 1, ids.len - 1, false, &back, &err), &err);
    ck_assert_str_eq(mb_bytes_text(&back), text);
    mb_bytes_fini(&back);
    mb_ids_fini(&ids);
    mb_tokenizer_free(t);
    mb_bpe_spec_free(s);
}
END_TEST

/* Rulers, so long that their halves make no token any more. */
START_TEST(long_runs_stay_within_a_token)
{
    enum { RUN = 3 * MB_BPE_TOKEN_BYTES_MAX / 2, RUNS = 4 };
    static uint8_t text[RUNS * (RUN + 1)];
    struct mb_error err;
    struct mb_bpe_train o = options(1000);
    struct mb_bpe_spec *s;
    memset(text, '-', sizeof text);
    for (size_t i = 1; i <= RUNS; i++) {
        text[i * (RUN + 1) - 1] = '\n';
    }
    mb_assert_ok(mb_bpe_train(&o, text, sizeof text, &s, &err), &err);
    ck_assert_uint_gt(s->n_merges, 10);
    mb_bpe_spec_free(s);
}
END_TEST

START_TEST(bad_input_is_refused)
{
    struct mb_error err;
    struct mb_bpe_spec *s;
    struct mb_bpe_train few = options(257), many = options(MB_BPE_TRAIN_VOCAB_MAX + 1);
    struct mb_bpe_train o = options(300);
    ck_assert_int_eq(mb_bpe_train(&few, NULL, 0, &s, &err), MB_E_INVALID);
    ck_assert_int_eq(mb_bpe_train(&many, NULL, 0, &s, &err), MB_E_INVALID);
    ck_assert_int_eq(mb_bpe_train(&o, (const uint8_t *) "\xff", 1, &s, &err), MB_E_INVALID);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("train");
    TCase *c = tcase_create("all");
    tcase_add_test(c, each_merge_is_of_a_most_frequent_pair);
    tcase_add_test(c, learning_ends_when_no_pair_occurs_twice);
    tcase_add_test(c, what_is_learned_encodes_and_decodes);
    tcase_add_test(c, long_runs_stay_within_a_token);
    tcase_add_test(c, bad_input_is_refused);
    suite_add_tcase(s, c);
    return mb_run_suite(s);
}
