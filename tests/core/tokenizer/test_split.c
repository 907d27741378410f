/* Goal:   texts fall into pieces as the tokenizers library's documentation and GPT-2 have it,
 * and no
 *         pattern can run away.
 * Method: its examples, piece by piece; patterns known to explode on texts made for them. */
#include "core/tokenizer/split.h"
#include "tests/core/tokenizer/small.h"

/* Splits text and joins the pieces with '|'. */
static enum mb_status split(struct mb_bpe_spec *s, const char *text, bool first,
                            struct mb_bytes *ret, struct mb_error *err)
{
    struct mb_splitter splitter;
    struct mb_matcher m;
    struct mb_pieces p = { 0 };
    mb_assert_ok(mb_bpe_spec_check(s, err), err);
    enum mb_status st = mb_splitter_init(&splitter, s, err);
    mb_assert_ok(mb_matcher_init(&m, strlen(text), err), err);
    if (st == MB_OK) {
        struct mb_text whole = { (const uint8_t *) text, strlen(text) };
        st = mb_split(&splitter, whole, first, &m, &p, err);
    }
    for (size_t i = 0; i < p.list.len; i++) {
        mb_bytes_put_text(ret, i ? "|" : "");
        mb_bytes_put(ret, p.text.at + p.list.at[i].at, p.list.at[i].n);
    }
    mb_pieces_fini(&p);
    mb_matcher_fini(&m);
    mb_splitter_fini(&splitter);
    return st;
}

static void expect(struct mb_bpe_spec *s, const char *text, bool first, const char *want)
{
    struct mb_error err = { 0 };
    struct mb_bytes got = { 0 };
    mb_assert_ok(split(s, text, first, &got, &err), &err);
    ck_assert_str_eq(mb_bytes_text(&got), want);
    mb_bytes_fini(&got);
    mb_bpe_spec_free(s);
}

static struct mb_bpe_spec *spec_of(enum mb_bpe_step_kind kind, unsigned flags,
                                   enum mb_bpe_mode mode, const char *pattern)
{
    struct mb_bpe_spec *s = mb_bpe_spec_new();
    SMALL_STEP(s, MB_BPE_PRE_TOKENIZER, (uint8_t) kind, (uint8_t) flags, (uint8_t) mode,
               pattern, "");
    return s;
}

static const struct {
    enum mb_bpe_mode mode;
    unsigned flags;
    const char *want;
} behaviors[] = {
    { MB_BPE_REMOVED, 0, "the|final|countdown" },
    { MB_BPE_ISOLATED, 0, "the|-|final|-|-|countdown" },
    { MB_BPE_MERGED_WITH_PREVIOUS, 0, "the-|final-|-|countdown" },
    { MB_BPE_MERGED_WITH_NEXT, 0, "the|-final|-|-countdown" },
    { MB_BPE_CONTIGUOUS, 0, "the|-|final|--|countdown" },
    { MB_BPE_REMOVED, MB_BPE_INVERT, "-|-|-" },
    { MB_BPE_MERGED_WITH_NEXT, MB_BPE_INVERT, "the-|final-|-|countdown" },
};

START_TEST(behaviors_as_documented)
{
    for (unsigned regex = 0; regex < 2; regex++) {
        expect(spec_of(MB_BPE_SPLIT, behaviors[_i].flags | (regex ? MB_BPE_REGEX : 0),
                       behaviors[_i].mode, "-"),
               "the-final--countdown", true, behaviors[_i].want);
    }
}
END_TEST

START_TEST(matches_at_the_ends)
{
    expect(spec_of(MB_BPE_SPLIT, 0, MB_BPE_MERGED_WITH_PREVIOUS, "-"), "-a-", true, "-|a-");
    expect(spec_of(MB_BPE_SPLIT, 0, MB_BPE_MERGED_WITH_NEXT, "-"), "-a-", true, "-a|-");
    expect(spec_of(MB_BPE_SPLIT, 0, MB_BPE_REMOVED, "-"), "---", true, "");
    expect(spec_of(MB_BPE_SPLIT, 0, MB_BPE_CONTIGUOUS, "-"), "---", true, "---");
    /* A literal pattern is not a regular expression. */
    expect(spec_of(MB_BPE_SPLIT, 0, MB_BPE_ISOLATED, "."), "a.b", true, "a|.|b");
    /* Empty matches cut, and cost no character. */
    expect(spec_of(MB_BPE_SPLIT, MB_BPE_REGEX, MB_BPE_ISOLATED, "x*"), "axxé", true, "a|xx|é");
    expect(spec_of(MB_BPE_SPLIT, MB_BPE_REGEX, MB_BPE_ISOLATED, "(?=b)"), "abb", true, "a|b|b");
}
END_TEST

START_TEST(gpt2_words)
{
    expect(spec_of(MB_BPE_BYTE_LEVEL, MB_BPE_WORDS, 0, ""),
           "Hello my friend, how's your   day going?\n\n 42éx ", true,
           "Hello| my| friend|,| how|'s| your|  | day| going|?|\n\n| 42|éx| ");
    expect(spec_of(MB_BPE_BYTE_LEVEL, MB_BPE_WORDS | MB_BPE_PREFIX_SPACE, 0, ""), "a b", true,
           " a| b");
    expect(spec_of(MB_BPE_BYTE_LEVEL, MB_BPE_PREFIX_SPACE, 0, ""), " a b", true, " a b");
}
END_TEST

START_TEST(llama3_words)
{
    expect(spec_of(MB_BPE_SPLIT, MB_BPE_REGEX, MB_BPE_ISOLATED,
                   "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}"
                   "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"),
           "We'Ve 12345 (words)!!\n\n  x\t\ty", true,
           "We|'Ve| |123|45| (|words|)!!\n\n| | x|\t|\ty");
}
END_TEST

START_TEST(digits)
{
    expect(spec_of(MB_BPE_DIGITS, MB_BPE_EACH, 0, ""), "Call 123!", true, "Call |1|2|3|!");
    expect(spec_of(MB_BPE_DIGITS, 0, 0, ""), "Call 123!", true, "Call |123|!");
}
END_TEST

START_TEST(metaspace)
{
    expect(spec_of(MB_BPE_METASPACE, MB_BPE_WORDS, MB_BPE_PREPEND_ALWAYS, "\u2581"),
           "Hey my  friend", true, "\u2581Hey|\u2581my|\u2581|\u2581friend");
    expect(spec_of(MB_BPE_METASPACE, 0, MB_BPE_PREPEND_FIRST, "\u2581"), "a b", true,
           "\u2581a\u2581b");
    expect(spec_of(MB_BPE_METASPACE, 0, MB_BPE_PREPEND_FIRST, "\u2581"), "a b", false,
           "a\u2581b");
    expect(spec_of(MB_BPE_METASPACE, 0, MB_BPE_PREPEND_NEVER, "\u2581"), " b", true, "\u2581b");
    expect(spec_of(MB_BPE_METASPACE, 0, MB_BPE_PREPEND_ALWAYS, "\u2581"), " b", true,
           "\u2581b");
}
END_TEST

START_TEST(steps_follow_each_other)
{
    struct mb_bpe_spec *s = spec_of(MB_BPE_SPLIT, 0, MB_BPE_REMOVED, ",");
    SMALL_STEP(s, MB_BPE_PRE_TOKENIZER, MB_BPE_DIGITS, MB_BPE_EACH, 0, "", "");
    SMALL_STEP(s, MB_BPE_PRE_TOKENIZER, MB_BPE_BYTE_LEVEL, MB_BPE_PREFIX_SPACE, 0, "", "");
    expect(s, "a12,b", true, " a| 1| 2| b");
}
END_TEST

START_TEST(wild_patterns_are_stopped)
{
    static const char *const wild[] = { "(a+)+$", "(a|aa)+$",    "(?:a?){40}a{40}",
                                        "(.*)*b", "^(?=(a+)+b)", "((((a*)*)*)*)*c" };
    int n_stopped = 0; /* PCRE2 sees through some of them */
    char text[20001];
    memset(text, 'a', sizeof text - 1);
    strcpy(text + sizeof text - 2, "!");
    for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
        struct mb_error err = { 0 };
        struct mb_bytes got = { 0 };
        struct mb_bpe_spec *s = spec_of(MB_BPE_SPLIT, MB_BPE_REGEX, MB_BPE_ISOLATED, wild[i]);
        enum mb_status st = split(s, text, true, &got, &err);
        ck_assert_msg(st == MB_OK || st == MB_E_LIMIT, "%s: %s", wild[i], err.what);
        if (st == MB_E_LIMIT) {
            n_stopped++;
            ck_assert_ptr_nonnull(strstr(err.what, "too many steps"));
        }
        mb_bytes_fini(&got);
        mb_bpe_spec_free(s);
    }
    ck_assert_int_ge(n_stopped, 2);
}
END_TEST

START_TEST(long_runs_are_no_wild_text)
{
    char *text = malloc((1 << 20) + 1);
    for (size_t i = 0; i < 1 << 20; i++) {
        text[i] = i % 5000 ? ' ' : 'x';
    }
    text[1 << 20] = '\0';
    struct mb_error err = { 0 };
    struct mb_bytes got = { 0 };
    struct mb_bpe_spec *s = spec_of(MB_BPE_SPLIT, MB_BPE_REGEX, MB_BPE_ISOLATED,
                                    "\\p{L}+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+");
    mb_assert_ok(split(s, text, true, &got, &err), &err);
    mb_bytes_fini(&got);
    mb_bpe_spec_free(s);
    free(text);
}
END_TEST

/* One match of many steps: it is given more and more of them. */
START_TEST(long_matches_are_no_wild_text)
{
    char text[20002];
    memset(text, 'a', sizeof text);
    strcpy(text + sizeof text - 3, "!x");
    struct mb_error err = { 0 };
    struct mb_bytes got = { 0 };
    struct mb_bpe_spec *s =
        spec_of(MB_BPE_SPLIT, MB_BPE_REGEX, MB_BPE_ISOLATED, "(?:a|b)+!|\\p{L}");
    mb_assert_ok(split(s, text, true, &got, &err), &err);
    ck_assert_uint_eq(got.len, sizeof text);
    ck_assert_str_eq(mb_bytes_text(&got) + got.len - 4, "a!|x");
    mb_bytes_fini(&got);
    mb_bpe_spec_free(s);
}
END_TEST

START_TEST(broken_patterns_are_refused)
{
    struct mb_error err = { 0 };
    struct mb_bpe_spec *s = spec_of(MB_BPE_SPLIT, MB_BPE_REGEX, MB_BPE_ISOLATED, "a(b");
    struct mb_tokenizer *t = NULL;
    ck_assert_int_eq(mb_tokenizer_new(s, &t, &err), MB_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.what, "pattern, at byte 3"));
    ck_assert_ptr_null(t);
    mb_bpe_spec_free(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("split");
    TCase *t = tcase_create("split");
    tcase_add_loop_test(t, behaviors_as_documented, 0, sizeof behaviors / sizeof *behaviors);
    tcase_add_test(t, matches_at_the_ends);
    tcase_add_test(t, gpt2_words);
    tcase_add_test(t, llama3_words);
    tcase_add_test(t, digits);
    tcase_add_test(t, metaspace);
    tcase_add_test(t, steps_follow_each_other);
    tcase_add_test(t, wild_patterns_are_stopped);
    tcase_add_test(t, long_runs_are_no_wild_text);
    tcase_add_test(t, long_matches_are_no_wild_text);
    tcase_add_test(t, broken_patterns_are_refused);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
