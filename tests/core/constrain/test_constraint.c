/* Goal:   a mask holds exactly the tokens whose bytes may come next; the same masks come again; and
 *         whatever the logits are, what is drawn goes on towards a valid text.
 * Method: at each step of random texts, every token of the vocabulary is tried, by a second constraint
 *         that has seen the same tokens; texts are cut into tokens in all ways; a vocabulary of the 256
 *         bytes and a few tokens makes the trials exhaustive. */
#include <math.h>

#include "core/constrain/automaton.h"
#include "tests/check_main.h"
#include "tests/core/constrain/constrain_rig.h"

static struct mb_tokenizer *tokenizer;
static struct mb_token_trie *trie;

static void setup(void)
{
    struct mb_error err = { 0 };
    tokenizer = crossing_tokenizer();
    mb_assert_ok(mb_token_trie_new(tokenizer, &trie, &err), &err);
}

static void teardown(void)
{
    mb_token_trie_free(trie);
    mb_tokenizer_free(tokenizer);
}

static struct mb_constraint *new_constraint(const char *schema)
{
    struct mb_error err = { 0 };
    struct mb_constraint *c = constraint_of(trie, schema, strlen(schema), &err);
    ck_assert_msg(c, "%s: %s", schema, err.what);
    return c;
}

static const char *const schemas[] = {
    "{\"type\":\"object\"}",
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"id\":{\"type\":"
    "\"integer\"},\"b\":{\"type\":\"array\",\"items\":{\"type\":\"boolean\"}}},\"required\":["
    "\"name\"],\"additionalProperties\":{\"type\":\"null\"}}",
    "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}",
    "{\"anyOf\":[{\"type\":\"string\",\"maxLength\":12},{\"type\":\"number\",\"minimum\":-1,"
    "\"maximum\":12.5},{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":"
    "\"^(abc|[0-9])*$\"}}]}",
};

/* What a constraint that saw the same tokens says of each token. */
static void compare_with_trials(const char *schema, const uint32_t *tokens, size_t n,
                                const uint64_t *mask)
{
    uint32_t n_vocab = mb_tokenizer_n_vocab(tokenizer);
    struct mb_constraint *trial = NULL;
    for (uint32_t id = 0; id < n_vocab + 3; id++) {
        if (!trial) {
            trial = new_constraint(schema);
            for (size_t i = 0; i < n; i++) {
                ck_assert(mb_constraint_accept(trial, tokens[i]));
            }
        }
        bool accepted = mb_constraint_accept(trial, id);
        ck_assert_msg(accepted == is_allowed(mask, id), "%s: after %zu tokens, token %u: %d",
                      schema, n, id, accepted);
        if (accepted && id != n_vocab - 1) { /* the last ends the text, and changes nothing */
            mb_constraint_free(trial);
            trial = NULL;
        }
    }
    mb_constraint_free(trial);
}

START_TEST(a_mask_is_what_is_accepted)
{
    const char *schema = schemas[_i];
    for (uint64_t seed = 0; seed < (MB_SANITIZED ? 2 : 6); seed++) {
        struct mb_constraint *c = new_constraint(schema);
        uint32_t tokens[64];
        for (size_t n = 0; n < 64; n++) {
            const uint64_t *mask = mb_constraint_mask(c, false);
            if (n % 3 == seed % 3) {
                compare_with_trials(schema, tokens, n, mask);
            }
            tokens[n] = choose(tokenizer, mask, seed, n, 24);
            if (tokens[n] == mb_tokenizer_n_vocab(tokenizer) - 1) {
                break;
            }
            ck_assert(mb_constraint_accept(c, tokens[n]));
        }
        mb_constraint_free(c);
    }
}
END_TEST

/* Feeds every way to cut text into tokens, as far as it fits a path of choices; each token must be in the
 * mask. */
static void feed_cut(const char *schema, const char *text, uint64_t seed)
{
    struct mb_constraint *c = new_constraint(schema);
    size_t at = 0, n_text = strlen(text);
    for (uint64_t step = 0; at < n_text; step++) {
        const uint64_t *mask = mb_constraint_mask(c, false);
        uint32_t fitting[512], n_fitting = 0;
        size_t length[512];
        for (uint32_t id = 0; id < mb_tokenizer_n_vocab(tokenizer); id++) {
            size_t n;
            const uint8_t *bytes = mb_tokenizer_token_bytes(tokenizer, id, &n);
            if (n > 0 && n <= n_text - at && memcmp(bytes, text + at, n) == 0 &&
                !mb_tokenizer_is_special(tokenizer, id)) {
                ck_assert_msg(is_allowed(mask, id), "%s: token %u at %zu of %s", schema, id, at,
                              text);
                length[n_fitting] = n;
                fitting[n_fitting++] = id;
            }
        }
        uint64_t i = mb_rng_u64(seed, 7, step) % n_fitting;
        ck_assert(mb_constraint_accept(c, fitting[i]));
        at += length[i];
    }
    ck_assert(mb_constraint_may_end(c));
    ck_assert(is_allowed(mb_constraint_mask(c, false), mb_tokenizer_n_vocab(tokenizer) - 1));
    ck_assert(!is_allowed(mb_constraint_mask(c, true), mb_tokenizer_n_vocab(tokenizer) - 1));
    mb_constraint_free(c);
}

START_TEST(a_text_may_be_cut_anywhere)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        feed_cut(schemas[0],
                 "{\"name\": {\"id\": [[12, \"a\xe2\x82\xac\\u00e9\"], true]}, \"b\":{}}",
                 seed);
        feed_cut(schemas[1],
                 "{\"name\":\"abc\xc3\xa9\", \"id\": 123456,\n    \"b\":[true], \"abc\":null}",
                 seed);
        feed_cut(schemas[2], "[[[[]], [[],[ [\n]]]], []]", seed);
        feed_cut(schemas[3], "[\"abc2024\", \"\"]", seed);
    }
}
END_TEST

/* The cache of masks, and the automaton that forgets, change nothing: what a text's masks are is a
 * function of the text alone. */
START_TEST(masks_come_again)
{
    uint32_t n_words = (mb_tokenizer_n_vocab(tokenizer) + 3 + 63) / 64;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct mb_constraint *a = new_constraint(schemas[0]);
        uint32_t tokens[300];
        size_t n = 0;
        for (; n < 300; n++) {
            const uint64_t *mask = mb_constraint_mask(a, true);
            tokens[n] = choose(tokenizer, mask, seed, n, 250);
            if (tokens[n] == MB_NO_ID) {
                break;
            }
            ck_assert(mb_constraint_accept(a, tokens[n]));
        }
        struct mb_constraint *b = new_constraint(schemas[0]);
        for (size_t i = 0; i < n; i++) {
            ck_assert(
                mb_constraint_accept(b, tokens[i])); /* no mask was asked for on the way */
        }
        const uint64_t *x = mb_constraint_mask(a, false), *y = mb_constraint_mask(b, false);
        ck_assert(memcmp(x, y, n_words * sizeof *x) == 0);
        mb_constraint_free(a);
        mb_constraint_free(b);
    }
}
END_TEST

/* What does not fit is answered as dead, and said to be: after a reset it fits. */
START_TEST(an_automaton_without_room_says_so)
{
    struct mb_grammar g;
    struct mb_automaton a;
    struct mb_error err = { 0 };
    mb_assert_ok(mb_schema_compile(NULL, &g, &err), &err);
    mb_assert_ok(mb_automaton_init(&a, &g, &err), &err);
    a.budget = INT64_MAX;
    uint32_t start = mb_automaton_start(&a);
    uint32_t open = mb_automaton_open(&a, start, MB_RULE_OBJECT, g.need_max);
    ck_assert_uint_ne(open, MB_DFA_DEAD);
    uint32_t whole = a.pool_max;
    a.pool_max = a.n_pool; /* full now */
    ck_assert_uint_eq(mb_automaton_open(&a, open, MB_RULE_STRING, g.need_max), MB_DFA_DEAD);
    ck_assert(a.full);
    a.pool_max = whole;
    uint32_t *kept[] = { &open, &open };
    mb_automaton_reset(&a, kept, 2);
    ck_assert(!a.full);
    ck_assert_uint_ne(mb_automaton_open(&a, open, MB_RULE_STRING, g.need_max), MB_DFA_DEAD);
    a.budget = 0; /* so is what costs too much */
    ck_assert_uint_eq(mb_automaton_gap(&a, open), MB_DFA_DEAD);
    ck_assert(a.full);
    mb_automaton_fini(&a);
    mb_grammar_fini(&g);
}
END_TEST

START_TEST(logits_outside_are_minus_infinity)
{
    float logits[130];
    uint64_t mask[3] = { 1, UINT64_MAX, 2 };
    for (size_t i = 0; i < 130; i++) {
        logits[i] = (float) i;
    }
    mb_mask_logits(mask, logits, 130);
    for (size_t i = 0; i < 130; i++) {
        bool in = i == 0 || (i >= 64 && i < 128) || i == 129;
        ck_assert(in ? logits[i] == (float) i : logits[i] == -INFINITY);
    }
}
END_TEST

START_TEST(a_vocabulary_without_bytes_is_refused)
{
    struct mb_bpe_spec *s = mb_bpe_spec_new();
    struct mb_error err = { 0 };
    for (unsigned byte = 'a'; byte <= 'z'; byte++) {
        (void) crossing_token(s, &(char) { (char) byte }, 1);
    }
    struct mb_tokenizer *t = NULL;
    struct mb_token_trie *small = NULL;
    mb_assert_ok(mb_tokenizer_new(s, &t, &err), &err);
    mb_assert_ok(mb_token_trie_new(t, &small, &err), &err);
    ck_assert(!constraint_of(small, "{}", 2, &err));
    ck_assert_ptr_nonnull(strstr(err.what, "vocabulary"));
    mb_token_trie_free(small);
    mb_tokenizer_free(t);
    mb_bpe_spec_free(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("constraint");
    TCase *t = tcase_create("masks");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_mask_is_what_is_accepted, 0, sizeof schemas / sizeof schemas[0]);
    tcase_add_test(t, a_text_may_be_cut_anywhere);
    tcase_add_test(t, masks_come_again);
    tcase_add_test(t, an_automaton_without_room_says_so);
    tcase_add_test(t, logits_outside_are_minus_infinity);
    tcase_add_test(t, a_vocabulary_without_bytes_is_refused);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
