/* Goal:   every rule of encoding: added and special tokens, BOS and EOS, unknown characters,
 * bytes that
 *         are no UTF-8, bounds, and a cost that no text can blow up.
 * Method: small vocabularies made here, and the tokens that the rules of the tokenizers library
 * give,
 *         worked out by hand. */
#include <time.h>

#include "core/base/rng.h"
#include "tests/core/tokenizer/small.h"

START_TEST(merges_by_rank)
{
    struct mb_tokenizer *t = small_tokenizer(small_characters());
    SMALL_EXPECT(t, "hello", 0, "\u2581hello");
    SMALL_EXPECT(t, " hello", 0, "\u2581|\u2581hello");
    SMALL_EXPECT(t, "   lol", 0, "\u2581\u2581|\u2581\u2581|lo|l");
    SMALL_EXPECT(t, "hello hello", 0, "\u2581hello|\u2581hello");
    SMALL_EXPECT(t, "lol", 0, "\u2581|lo|l");
    SMALL_EXPECT(t, "", 0, "");
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(byte_level_words)
{
    struct mb_tokenizer *t = small_tokenizer(small_bytes());
    SMALL_EXPECT(t, "hello hello", 0, "hello|\u0120hello");
    SMALL_EXPECT(t, "  hello", 0, "\u0120|\u0120hello");
    SMALL_EXPECT(t, "é\n", 0, "Ã|©|\u010a"); /* UTF-8 c3 a9 0a in the alphabet */
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(unknown_characters_become_bytes)
{
    struct mb_tokenizer *t = small_tokenizer(small_characters());
    SMALL_EXPECT(t, "é🦙", 0, "\u2581|é|<0xF0>|<0x9F>|<0xA6>|<0x99>");
    SMALL_EXPECT(t, "\n", 0, "\u2581|<0x0A>");
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(unknown_characters_become_unk)
{
    for (int fuse = 0; fuse < 2; fuse++) {
        struct mb_bpe_spec *s = small_characters();
        s->flags = fuse ? MB_BPE_FUSE_UNK : 0;
        struct mb_tokenizer *t = small_tokenizer(s);
        SMALL_EXPECT(t, "a\n\na\n", 0,
                     fuse ? "\u2581|a|<unk>|a|<unk>" : "\u2581|a|<unk>|<unk>|a|<unk>");
        mb_tokenizer_free(t);
    }
    struct mb_bpe_spec *s = small_characters();
    s->flags = 0;
    s->unk = MB_NO_ID;
    struct mb_tokenizer *t = small_tokenizer(s);
    SMALL_EXPECT(t, "a\n\na\n", 0, "\u2581|a|a");
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(special_tokens_only_when_asked)
{
    struct mb_tokenizer *t = small_tokenizer(small_characters());
    SMALL_EXPECT(t, "a</s>b", MB_ENCODE_PARSE_SPECIAL, "\u2581|a|</s>|\u2581|b");
    SMALL_EXPECT(t, "a</s>b", 0, "\u2581|a|<0x3C>|<0x2F>|s|<0x3E>|b");
    SMALL_EXPECT(t, "</s></s>", MB_ENCODE_PARSE_SPECIAL, "</s>|</s>");
    SMALL_EXPECT(t, "</s", MB_ENCODE_PARSE_SPECIAL, "\u2581|<0x3C>|<0x2F>|s");
    mb_tokenizer_free(t);
    t = small_tokenizer(small_bytes());
    SMALL_EXPECT(t, "hello<end>hello", MB_ENCODE_PARSE_SPECIAL, "hello|<end>|hello");
    mb_tokenizer_free(t);
}
END_TEST

/* A whole piece that is a token is that token, but never a special one. */
START_TEST(pieces_that_are_tokens)
{
    struct mb_bpe_spec *s = small_bytes();
    (void) small_token(s, "\u0120hell", 0);
    (void) small_token(s, "</", MB_TOKEN_ADDED | MB_TOKEN_SPECIAL);
    struct mb_tokenizer *without = small_tokenizer(s);
    SMALL_EXPECT(without, " hell", 0, "\u0120|he|ll");
    mb_tokenizer_free(without);

    s = small_bytes();
    (void) small_token(s, "\u0120hell", 0);
    (void) small_token(s, "</", MB_TOKEN_ADDED | MB_TOKEN_SPECIAL);
    s->flags = MB_BPE_IGNORE_MERGES;
    struct mb_tokenizer *with = small_tokenizer(s);
    SMALL_EXPECT(with, " hell", 0, "\u0120hell");
    SMALL_EXPECT(with, "</", 0, "<|/");
    SMALL_EXPECT(with, "</", MB_ENCODE_PARSE_SPECIAL, "</");
    mb_tokenizer_free(with);
}
END_TEST

START_TEST(bos_and_eos_when_asked)
{
    struct mb_bpe_spec *s = small_characters();
    struct mb_error err;
    mb_assert_ok(mb_bpe_ids_add(&s->suffix, small_id(s, "</s>"), &err), &err);
    struct mb_tokenizer *t = small_tokenizer(s);
    SMALL_EXPECT(t, "a", MB_ENCODE_BOS_EOS, "<s>|\u2581|a|</s>");
    SMALL_EXPECT(t, "", MB_ENCODE_BOS_EOS, "<s>|</s>");
    SMALL_EXPECT(t, "<s>", MB_ENCODE_BOS_EOS | MB_ENCODE_PARSE_SPECIAL, "<s>|<s>|</s>");
    uint32_t bos = 0;
    const uint32_t *eos;
    ck_assert(mb_tokenizer_bos(t, &bos) && bos == 1);
    ck_assert_uint_eq(mb_tokenizer_eos(t, &eos), 1);
    ck_assert_uint_eq(eos[0], 2);
    ck_assert(mb_tokenizer_is_special(t, 1) && !mb_tokenizer_is_special(t, 10));
    ck_assert(!mb_tokenizer_is_special(t, MB_NO_ID));
    ck_assert(!mb_tokenizer_find(t, "nothing", &bos));
    mb_tokenizer_free(t);

    t = small_tokenizer(small_bytes());
    ck_assert(!mb_tokenizer_bos(t, &bos));
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(added_tokens_always)
{
    struct mb_bpe_spec *s = small_bytes();
    (void) small_token(s, "<a>", MB_TOKEN_ADDED);
    (void) small_token(s, "<a><b>", MB_TOKEN_ADDED); /* longer: preferred */
    (void) small_token(s, "x y", MB_TOKEN_ADDED | MB_TOKEN_SINGLE_WORD);
    (void) small_token(s, "[L]", MB_TOKEN_ADDED | MB_TOKEN_LSTRIP);
    (void) small_token(s, "[R]", MB_TOKEN_ADDED | MB_TOKEN_RSTRIP);
    struct mb_tokenizer *t = small_tokenizer(s);
    SMALL_EXPECT(t, "h<a>h", 0, "h|<a>|h");
    SMALL_EXPECT(t, "<a><b><a><c", 0, "<a><b>|<a>|<|c");
    SMALL_EXPECT(t, "x y", 0, "x y");
    SMALL_EXPECT(t, ".x y.", 0, ".|x y|.");
    SMALL_EXPECT(t, "ax y", 0, "a|x|\u0120|y");
    SMALL_EXPECT(t, "x yé", 0, "x|\u0120|y|Ã|©");
    SMALL_EXPECT(t, "h \t\u3000[L] h", 0, "h|[L]|\u0120|h");
    SMALL_EXPECT(t, "h [R] \n h", 0, "h|\u0120|[R]|h");
    SMALL_EXPECT(t, "[R] [L]", 0, "[R]|[L]"); /* the space is taken once */
    mb_tokenizer_free(t);
}
END_TEST

/* One that is normalized is searched for in the normalized text, in its own normalized form. */
START_TEST(added_tokens_of_normalized_text)
{
    struct mb_bpe_spec *s = small_bytes();
    SMALL_STEP(s, MB_BPE_NORMALIZER, MB_BPE_NFC, 0, 0, "", "");
    (void) small_token(s, "e\u0301x", MB_TOKEN_ADDED | MB_TOKEN_NORMALIZED);
    (void) small_token(s, "e\u0301y", MB_TOKEN_ADDED);
    struct mb_tokenizer *t = small_tokenizer(s);
    SMALL_EXPECT(t, "\u00e9x", 0, "e\u0301x");
    SMALL_EXPECT(t, "e\u0301x", 0, "e\u0301x");
    SMALL_EXPECT(t, "e\u0301y", 0, "e\u0301y");
    SMALL_EXPECT(t, "\u00e9y", 0, "Ã|©|y");
    mb_tokenizer_free(t);
}
END_TEST

static void expect_back(const struct mb_tokenizer *t, const void *text, size_t n)
{
    struct mb_ids ids = small_encode(t, text, n, 0);
    struct mb_error err;
    struct mb_bytes back = { 0 };
    mb_assert_ok(mb_tokenizer_decode(t, ids.at, ids.len, false, &back, &err), &err);
    ck_assert_uint_eq(back.len, n);
    ck_assert(n == 0 || memcmp(back.at, text, n) == 0);
    mb_bytes_fini(&back);
    mb_ids_fini(&ids);
}

START_TEST(any_bytes_come_back)
{
    struct mb_tokenizer *t = small_tokenizer(_i ? small_bytes() : small_characters());
    char text[64];
    for (uint64_t k = 0; k < 3000; k++) {
        size_t n = mb_rng_u64(k, 0, 0) % sizeof text;
        for (size_t i = 0; i < n; i++) { /* few values: many half characters and whole ones */
            static const uint8_t few[] = { 'h',  'e',  ' ',  '\n', 0,    0xf4, 0x8f, 0xbf,
                                           0xbc, 0xe2, 0x96, 0x81, 0xc3, 0xa9, 0xff, 0xc0 };
            uint64_t r = mb_rng_u64(k, 1, i);
            text[i] = (char) (k % 2 ? (uint8_t) r : few[r % sizeof few]);
        }
        if (!_i) { /* U+2581 and a space are one to this family */
            for (size_t i = 0; i + 1 < n; i++) {
                text[i] = memcmp(text + i, "\x96\x81", 2) == 0 ? '-' : text[i];
            }
        }
        expect_back(t, text, n);
    }
    expect_back(t, "\U0010ff41\U0010ffff \U0010fefe", 13);
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(bytes_without_tokens)
{
    struct mb_bpe_spec *s = small_characters();
    s->flags = MB_BPE_FUSE_UNK;
    struct mb_tokenizer *t = small_tokenizer(s);
    SMALL_EXPECT(t,
                 "a\xff\xfe"
                 "a",
                 0, "\u2581|a|<unk>|a");
    mb_tokenizer_free(t);
    s = small_characters();
    s->flags = 0;
    (void) small_token(s, "\ufffd", 0);
    t = small_tokenizer(s);
    SMALL_EXPECT(t,
                 "a\xff\xfe"
                 "a",
                 0, "\u2581|a|\ufffd|\ufffd|a");
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(bounds)
{
    struct mb_tokenizer *t = small_tokenizer(small_characters());
    struct mb_ids ids = { 0 };
    struct mb_error err = { 0 };
    ck_assert(mb_ids_push(&ids, 77));
    mb_assert_ok(mb_tokenizer_encode(t, "abc", 3, MB_ENCODE_BOS_EOS, 5, &ids, &err), &err);
    ck_assert_uint_eq(ids.len, 6);
    ck_assert_int_eq(mb_tokenizer_encode(t, "abc", 3, MB_ENCODE_BOS_EOS, 4, &ids, &err),
                     MB_E_LIMIT);
    ck_assert_str_eq(err.what, "a text of 3 bytes is more tokens than the 4 allowed");
    ck_assert_uint_eq(ids.len, 6);
    ck_assert_uint_eq(ids.at[0], 77);
    mb_assert_ok(mb_tokenizer_encode(t, "", 0, 0, 0, &ids, &err), &err);
    mb_ids_fini(&ids);
    mb_tokenizer_free(t);

    /* A normalizer that makes every letter 64 bytes, then every byte of these again. */
    struct mb_bpe_spec *s = small_bytes();
    char many[65] = "";
    memset(many, 'a', 64);
    SMALL_STEP(s, MB_BPE_NORMALIZER, MB_BPE_REPLACE, 0, 0, "a", many);
    SMALL_STEP(s, MB_BPE_NORMALIZER, MB_BPE_REPLACE, 0, 0, "a", many);
    SMALL_STEP(s, MB_BPE_NORMALIZER, MB_BPE_REPLACE, 0, 0, "a", many);
    SMALL_STEP(s, MB_BPE_NORMALIZER, MB_BPE_REPLACE, 0, 0, "a", many);
    t = small_tokenizer(s);
    ck_assert_int_eq(mb_tokenizer_encode(t, many, 64, 0, SIZE_MAX, &ids, &err), MB_E_LIMIT);
    ck_assert_ptr_nonnull(strstr(err.what, "normalizer"));
    ck_assert_uint_eq(ids.len, 0);
    mb_tokenizer_free(t);
}
END_TEST

/* Processor seconds of encoding n bytes of text; the best of three. */
static double cost_of(const struct mb_tokenizer *t, const char *text, size_t n)
{
    double best = 1e9;
    for (int turn = 0; turn < 3; turn++) {
        clock_t start = clock();
        struct mb_ids ids = small_encode(t, text, n, 0);
        double took = (double) (clock() - start) / CLOCKS_PER_SEC;
        best = took < best ? took : best;
        mb_ids_fini(&ids);
    }
    return best;
}

/* Sixteen times the text may cost forty times as much, where a quadratic step would make it
 * 256. */
START_TEST(no_text_is_quadratic)
{
    if (MB_SANITIZED) {
        mb_skip("how cost grows with a text: sanitizers have costs of their own");
    }
    enum { SHORT = 1 << 14, LONG = 1 << 18 };
    static const char *const stuff[] = {
        "l",       "hello", " ", "\xff", "<", "</s", "a\u0316\u0301", "\u0301\u0316",
        "lo he\n", "🦙"
    };
    struct mb_bpe_spec *s = _i ? small_bytes() : small_characters();
    SMALL_STEP(s, MB_BPE_NORMALIZER, MB_BPE_NFC, 0, 0, "", "");
    struct mb_tokenizer *t = small_tokenizer(s);
    char *text = malloc(LONG + 32);
    for (size_t k = 0; k < sizeof stuff / sizeof *stuff; k++) {
        for (size_t i = 0; i < LONG; i += strlen(stuff[k])) {
            strcpy(text + i, stuff[k]);
        }
        double brief = cost_of(t, text, SHORT);
        double lengthy = cost_of(t, text, LONG);
        ck_assert_msg(lengthy < 40 * brief + 0.05, "%s: %g s, then %g s", stuff[k], brief,
                      lengthy);
    }
    free(text);
    mb_tokenizer_free(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("encode");
    TCase *t = tcase_create("encode");
    tcase_add_test(t, merges_by_rank);
    tcase_add_test(t, byte_level_words);
    tcase_add_test(t, unknown_characters_become_bytes);
    tcase_add_test(t, unknown_characters_become_unk);
    tcase_add_test(t, special_tokens_only_when_asked);
    tcase_add_test(t, pieces_that_are_tokens);
    tcase_add_test(t, bos_and_eos_when_asked);
    tcase_add_test(t, added_tokens_always);
    tcase_add_test(t, added_tokens_of_normalized_text);
    tcase_add_loop_test(t, any_bytes_come_back, 0, 2);
    tcase_add_test(t, bytes_without_tokens);
    tcase_add_test(t, bounds);
    tcase_add_loop_test(t, no_text_is_quadratic, 0, 2);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
