/* Goal:   a schema's grammar holds the texts that it should, and no others; hostile schemas are refused in
 *         bounded time, by name.
 * Method: texts written by hand are fed byte by byte, with every way to cut them into tokens tried by
 *         test_constraint; errors are looked at. */
#include <time.h>

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

/* Is text, byte by byte, a whole text of the schema? */
static bool holds(const char *schema, const char *text)
{
    struct mb_error err = { 0 };
    struct mb_constraint *c = constraint_of(trie, schema, strlen(schema), &err);
    ck_assert_msg(c, "%s: %s", schema, err.what);
    bool ok = true;
    for (const char *at = text; *at && ok; at++) {
        ok = mb_constraint_accept(c, (uint8_t) *at); /* token i is byte i */
    }
    ok = ok && mb_constraint_may_end(c);
    mb_constraint_free(c);
    return ok;
}

static const struct {
    const char *schema, *text;
    bool holds;
} texts[] = {
    { "{\"type\":\"object\"}", "{}", true },
    { "{\"type\":\"object\"}", " {\"a\": [1, {\"b\": null}]}", true },
    { "{\"type\":\"object\"}", "\n{\n  \"a\" : -1.5e+10\n}", true },
    { "{\"type\":\"object\"}", "  {}", false }, /* two spaces */
    { "{\"type\":\"object\"}", "{} ", false },
    { "{\"type\":\"object\"}", "[]", false },
    { "{\"type\":\"object\"}", "{\"a\":1,}", false },
    { "{\"type\":\"object\"}", "{\"a\":01}", false },
    { "{\"type\":\"object\"}", "{\"a\":\"\x1f\"}", false },
    { "{\"type\":\"object\"}", "{\"a\":\"\xc0\xaf\"}", false },     /* overlong */
    { "{\"type\":\"object\"}", "{\"a\":\"\xed\xa0\x80\"}", false }, /* half a pair */
    { "{\"type\":\"object\"}", "{\"a\":\"\xf4\x8f\xbf\xbf\"}", true },
    { "{\"type\":\"object\"}", "{\"a\":\"\xf4\x90\x80\x80\"}", false },
    { "{\"type\":\"object\"}", "{\"a\":\"\\ud83d\\ude00\\u00e9\\/\"}", true },
    { "{\"type\":\"object\"}", "{\"a\":\"\\ud83d\"}", false },
    { "{\"type\":\"object\"}", "{\"a\":\"\\ude00\"}", false },
    { "{\"type\":\"object\"}", "{\"a\":\"\\u0000\"}", false },
    { "{\"type\":\"object\"}", "{\"a\":\"\\x\"}", false },
    { "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}}}", "{\"b\":1}", true },
    { "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}}}", "{\"b\":1,\"a\":1}", false },
    { "{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}}}", "{\"c\":1}", false },
    { "{\"properties\":{\"a\":{},\"b\":{}},\"additionalProperties\":true}",
      "{\"a\":1,\"aa\":2,\"\":3}", true },
    { "{\"properties\":{\"a\":{},\"b\":{}},\"additionalProperties\":true}",
      "{\"aa\":1,\"a\":2}", false },
    { "{\"properties\":{\"a\":{},\"b\":{}},\"additionalProperties\":true}", "{\"\\u0061\":1}",
      false },
    { "{\"type\":\"number\",\"minimum\":0.1,\"exclusiveMaximum\":10}", "0.1", true },
    { "{\"type\":\"number\",\"minimum\":0.1,\"exclusiveMaximum\":10}", "0.09999", false },
    { "{\"type\":\"number\",\"minimum\":0.1,\"exclusiveMaximum\":10}", "9.999999", true },
    { "{\"type\":\"number\",\"minimum\":0.1,\"exclusiveMaximum\":10}", "10", false },
    { "{\"type\":\"number\",\"minimum\":0.1,\"exclusiveMaximum\":10}", "10.000", false },
    { "{\"type\":\"integer\",\"minimum\":-12,\"maximum\":120}", "-12", true },
    { "{\"type\":\"integer\",\"minimum\":-12,\"maximum\":120}", "-13", false },
    { "{\"type\":\"integer\",\"minimum\":-12,\"maximum\":120}", "120", true },
    { "{\"type\":\"integer\",\"minimum\":-12,\"maximum\":120}", "121", false },
    { "{\"type\":\"integer\",\"minimum\":-12,\"maximum\":120}", "99", true },
    { "{\"type\":\"integer\",\"minimum\":-12,\"maximum\":120}", "-0", false },
    { "{\"type\":\"integer\",\"minimum\":-12,\"maximum\":120}", "1.0", false },
    { "{\"enum\":[\"a\",\"ab\"]}", "\"ab\"", true },
    { "{\"enum\":[\"a\",\"ab\"]}", "\"abc\"", false },
    { "{\"anyOf\":[{\"const\":\"a\"},{\"type\":\"string\",\"minLength\":3}]}", "\"a\"", true },
    { "{\"anyOf\":[{\"const\":\"a\"},{\"type\":\"string\",\"minLength\":3}]}", "\"ab\"",
      false },
    { "{\"anyOf\":[{\"const\":\"a\"},{\"type\":\"string\",\"minLength\":3}]}", "\"abc\"",
      true },
    { "{\"type\":\"string\",\"maxLength\":2}", "\"\xe2\x82\xac\\n\"", true },
    { "{\"type\":\"string\",\"pattern\":\"^[a-c]+$\"}", "\"abcabc\"", true },
    { "{\"type\":\"string\",\"pattern\":\"^[a-c]+$\"}", "\"abd\"", false },
    { "{\"type\":\"string\",\"pattern\":\"b\"}", "\"abc\"", true },
    { "{\"type\":\"string\",\"pattern\":\"^a|b$\"}", "\"ax\"", true },
    { "{\"type\":\"string\",\"pattern\":\"^a|b$\"}", "\"xa\"", false },
    { "{\"type\":\"string\",\"format\":\"date\"}", "\"2024-02-29\"", true },
    { "{\"type\":\"string\",\"format\":\"date\"}", "\"2023-02-29\"", false },
    { "{\"type\":\"string\",\"format\":\"date\"}", "\"1900-02-29\"", false },
    { "{\"type\":\"string\",\"format\":\"date\"}", "\"2000-02-29\"", true },
    { "{\"type\":\"string\",\"format\":\"date\"}", "\"2000-04-31\"", false },
    { "{\"type\":\"string\",\"format\":\"ipv4\"}", "\"255.0.10.199\"", true },
    { "{\"type\":\"string\",\"format\":\"ipv4\"}", "\"256.0.0.1\"", false },
    { "{\"type\":\"string\",\"format\":\"email\"}", "\"ada.l+x@mail.example.org\"", true },
    { "{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"anyOf\":[{\"type\":\"null\"},{\"type\":"
      "\"array\",\"items\":{\"$ref\":\"#/$defs/n\"}}]}}}",
      "[[null,[]],[[[]]]]", true },
    { "{\"type\":\"string\",\"nullable\":true}", "null", true },
};

START_TEST(a_text_is_held_or_not)
{
    ck_assert_msg(holds(texts[_i].schema, texts[_i].text) == texts[_i].holds, "%s: %s",
                  texts[_i].schema, texts[_i].text);
}
END_TEST

/* Repeats a text n times around another. */
static char *nested(const char *before, const char *middle, const char *after, size_t n)
{
    size_t a = strlen(before), m = strlen(middle), z = strlen(after);
    char *text = malloc(n * (a + z) + m + 1), *at = text;
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < n; i++, at += a) {
        memcpy(at, before, a);
    }
    memcpy(at, middle, m);
    at += m;
    for (size_t i = 0; i < n; i++, at += z) {
        memcpy(at, after, z);
    }
    *at = '\0';
    return text;
}

static void expect_refused(const char *schema, const char *why)
{
    struct mb_error err = { 0 };
    struct timespec a, b;
    (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    struct mb_constraint *c = constraint_of(trie, schema, strlen(schema), &err);
    (void) clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    double seconds = (double) (b.tv_sec - a.tv_sec) + 1e-9 * (double) (b.tv_nsec - a.tv_nsec);
    ck_assert_msg(!c, "%.100s was taken", schema);
    ck_assert_msg(strstr(err.what, why), "%.100s: %s", schema, err.what);
    ck_assert_msg(MB_SANITIZED || seconds < 2, "%.100s took %.2f s", schema, seconds);
}

START_TEST(hostile_schemas_are_refused)
{
    static const struct {
        const char *before, *middle, *after;
        size_t n;
        const char *why;
    } rows[] = {
        { "{\"items\":", "{}", "}", 100, "levels" },
        { "{\"anyOf\":[", "{}", ",{\"type\":\"thing\"}]}", 28, "type" },
        { "", "{\"type\":\"string\",\"maxLength\":2000000000}", "", 1, "too large" },
        { "", "{\"type\":\"array\",\"minItems\":2000000000}", "", 1, "too large" },
        { "", "{\"type\":\"string\",\"pattern\":\"^(((((a{99}){99}){99}){99}){99})$\"}", "", 1,
          "too large" },
        { "", "{\"type\":\"string\",\"pattern\":\"^((a*)*b{0,999}){0,999}$\"}", "", 1,
          "too large" },
        { "",
          "{\"$defs\":{\"a\":{\"$ref\":\"#/$defs/b\"},\"b\":{\"$ref\":\"#/$defs/a\"}},"
          "\"$ref\":\"#/$defs/a\"}",
          "", 1, "recursion" },
        { "", "{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"minItems\":1}", "", 1,
          "recursion" },
    };
    char *schema = nested(rows[_i].before, rows[_i].middle, rows[_i].after, rows[_i].n);
    expect_refused(schema, rows[_i].why);
    free(schema);
}
END_TEST

/* anyOf and anyOf and ...: a product of 3^n alternatives. */
START_TEST(products_of_alternatives_are_bounded)
{
    char *schema = nested("{\"anyOf\":[{\"minLength\":1},{\"maxLength\":9},{\"minLength\":2}],"
                          "\"allOf\":[",
                          "true", "]}", 14);
    expect_refused(schema, "combinations");
    free(schema);
    /* Those that come to nothing count, too. */
    schema = nested("{\"anyOf\":[true,true],\"allOf\":[", "{\"anyOf\":[false]}", "]}", 28);
    expect_refused(schema, "combinations");
    free(schema);
}
END_TEST

/* Puts 0, 1, 2... up to n into a list, each after before and before after. */
static void put_list(struct mb_bytes *b, const char *before, const char *after, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        mb_bytes_printf(b, "%s%s%u%s", i > 0 ? "," : "", before, i, after);
    }
}

/* What is searched one by one, and far longer than anybody needs. */
START_TEST(long_lists_are_refused)
{
    static const struct {
        const char *start, *before, *after, *between, *end, *why;
        unsigned n;
    } rows[] = {
        { "{\"properties\":{", "\"", "\":true", NULL, "}}", "look through", 60000 },
        { "{\"required\":[", "\"", "\"", NULL, "]}", "look through", 300000 },
        { "{\"enum\":[", "", "", "],\"allOf\":[{\"enum\":[", "]}]}", "look through", 30000 },
        { "{\"type\":\"string\",\"enum\":[", "", "", NULL, "]}", "contradicts", 300000 },
        { "{\"type\":\"array\",\"maxItems\":30000,\"items\":{", "\"x-", "\":0", NULL, "}}",
          "look through", 60000 },
    };
    struct mb_bytes b = { 0 };
    mb_bytes_put_text(&b, rows[_i].start);
    put_list(&b, rows[_i].before, rows[_i].after, rows[_i].n);
    if (rows[_i].between) {
        mb_bytes_put_text(&b, rows[_i].between);
        put_list(&b, rows[_i].before, rows[_i].after, rows[_i].n);
    }
    mb_bytes_put_text(&b, rows[_i].end);
    expect_refused(mb_bytes_text(&b), rows[_i].why);
    mb_bytes_fini(&b);
}
END_TEST

/* A pattern whose deterministic automaton has 2^20 states: worked out as far as time allows, and what is
 * drawn matches still. */
START_TEST(a_huge_automaton_is_used_in_part)
{
    const char *schema = "{\"type\":\"string\",\"pattern\":\"^[ab]*a[ab]{20}$\"}";
    for (uint64_t seed = 0; seed < 4; seed++) {
        struct mb_error err = { 0 };
        struct mb_constraint *c = constraint_of(trie, schema, strlen(schema), &err);
        ck_assert_msg(c, "%s", err.what);
        struct mb_bytes text = { 0 };
        (void) random_text(c, tokenizer, seed, 200, 3000, &text);
        const char *t = mb_bytes_text(&text), *quote = strchr(t, '"');
        size_t n = strspn(quote + 1, "ab");
        if (quote[1 + n] == '"') {
            ck_assert_msg(n >= 21 && quote[1 + n - 21] == 'a', "%s", t);
        }
        mb_bytes_fini(&text);
        mb_constraint_free(c);
    }
}
END_TEST

START_TEST(depth_is_bounded_and_always_ends)
{
    struct mb_error err = { 0 };
    const char *schema = "{\"type\":\"array\"}";
    struct mb_constraint *c = constraint_of(trie, schema, strlen(schema), &err);
    ck_assert_msg(c, "%s", err.what);
    unsigned open = 0;
    while (mb_constraint_accept(c, '[')) {
        open++;
    }
    ck_assert_uint_eq(open, MB_GRAMMAR_DEPTH_MAX - 1);
    ck_assert(!mb_constraint_accept(c, '"'));
    while (open-- > 0) {
        ck_assert(mb_constraint_accept(c, ']'));
    }
    ck_assert(mb_constraint_is_complete(c));
    mb_constraint_free(c);
}
END_TEST

/* Near the deepest level only what can still end is offered: here "c" needs three frames. */
START_TEST(no_way_is_offered_that_is_too_deep)
{
    const char *schema =
        "{\"type\":\"object\",\"properties\":{\"c\":{\"type\":\"array\",\"items\":"
        "{\"$ref\":\"#\"},\"minItems\":1}}}";
    struct mb_error err = { 0 };
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct mb_constraint *c = constraint_of(trie, schema, strlen(schema), &err);
        ck_assert_msg(c, "%s", err.what);
        struct mb_bytes text = { 0 };
        ck_assert(random_text(c, tokenizer, seed, 1000, 20000, &text)); /* aborts when stuck */
        mb_bytes_fini(&text);
        mb_constraint_free(c);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("schema");
    TCase *t = tcase_create("grammar");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_text_is_held_or_not, 0, sizeof texts / sizeof texts[0]);
    tcase_add_loop_test(t, hostile_schemas_are_refused, 0, 8);
    tcase_add_test(t, products_of_alternatives_are_bounded);
    tcase_add_loop_test(t, long_lists_are_refused, 0, 5);
    tcase_add_test(t, a_huge_automaton_is_used_in_part);
    tcase_add_test(t, depth_is_bounded_and_always_ends);
    tcase_add_test(t, no_way_is_offered_that_is_too_deep);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
