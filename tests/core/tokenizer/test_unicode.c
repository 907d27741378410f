/* Goal:   the four normal forms, and the character classes.
 * Method: the examples of UAX #15; laws that hold for any text; a run of marks so long that a
 * quadratic
 *         sort would be noticed. */
#include "core/base/rng.h"
#include "core/tokenizer/unicode.h"
#include "tests/core/tokenizer/small.h"

static void expect(enum mb_normal_form form, const char *text, const char *want)
{
    struct mb_bytes got = { 0 };
    mb_normal_form(form, (const uint8_t *) text, strlen(text), &got);
    ck_assert_str_eq(mb_bytes_text(&got), want);
    mb_bytes_fini(&got);
}

static const struct {
    const char *text, *nfd, *nfc, *nfkd, *nfkc;
} cases[] = {
    { "plain", "plain", "plain", "plain", "plain" },
    { "", "", "", "", "" },
    { "\u212b", "A\u030a", "\u00c5", "A\u030a", "\u00c5" }, /* a singleton */
    { "\u2126", "\u03a9", "\u03a9", "\u03a9", "\u03a9" },
    { "\u1e9b\u0323", "\u017f\u0323\u0307", "\u1e9b\u0323", "s\u0323\u0307", "\u1e69" },
    { "\ufb01", "\ufb01", "\ufb01", "fi", "fi" },
    { "2\u2075", "2\u2075", "2\u2075", "25", "25" },
    { "q\u0307\u0323", "q\u0323\u0307", "q\u0323\u0307", "q\u0323\u0307", "q\u0323\u0307" },
    { "\ud55c", "\u1112\u1161\u11ab", "\ud55c", "\u1112\u1161\u11ab", "\ud55c" }, /* Hangul */
    { "\u0958", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c", "\u0915\u093c" }, /* excluded */
};

START_TEST(forms_of_uax15)
{
    expect(MB_NFD, cases[_i].text, cases[_i].nfd);
    expect(MB_NFC, cases[_i].text, cases[_i].nfc);
    expect(MB_NFKD, cases[_i].text, cases[_i].nfkd);
    expect(MB_NFKC, cases[_i].text, cases[_i].nfkc);
    expect(MB_NFC, cases[_i].nfd, cases[_i].nfc);
    expect(MB_NFD, cases[_i].nfc, cases[_i].nfd);
}
END_TEST

/* Marks of different classes commute: a run in any order has one normal form, whichever of the
 * two sorts it meets. */
START_TEST(marks_in_any_order)
{
    static const char *const marks[] = { "\u0316", "\u0327", "\u0301", "\u0345", "\u05b0" };
    for (unsigned n = 2; n <= 40; n++) {
        char one[256] = "x", other[256] = "x";
        for (unsigned i = 0; i < n; i++) { /* by class, and all classes by turns */
            strcat(one, marks[i * 5 / n]);
        }
        for (unsigned i = 0, k[5] = { 0 }; strlen(other) < strlen(one); i++) {
            unsigned in_one = 0;
            for (unsigned j = 0; j < n; j++) {
                in_one += j * 5 / n == i % 5;
            }
            if (k[i % 5]++ < in_one) {
                strcat(other, marks[i % 5]);
            }
        }
        struct mb_bytes want = { 0 };
        mb_normal_form(MB_NFD, (const uint8_t *) one, strlen(one), &want);
        expect(MB_NFD, other, mb_bytes_text(&want));
        mb_bytes_fini(&want);
    }
}
END_TEST

START_TEST(a_megabyte_of_marks)
{
    enum { N = 1 << 20 };
    uint8_t *text = malloc(N);
    for (size_t i = 0; i < N; i += 2) {
        memcpy(text + i, i % 4 ? "\xcc\x96" : "\xcc\x81", 2);
    }
    struct mb_bytes got = { 0 };
    mb_normal_form(MB_NFC, text, N, &got);
    ck_assert_uint_eq(got.len, N);
    ck_assert_int_eq(memcmp(got.at, "\xcc\x96", 2), 0);
    ck_assert_int_eq(memcmp(got.at + N - 2, "\xcc\x81", 2), 0);
    mb_bytes_fini(&got);
    free(text);
}
END_TEST

START_TEST(normal_forms_are_stable)
{
    for (uint64_t k = 0; k < 3000; k++) {
        struct mb_bytes text = { 0 }, once = { 0 }, twice = { 0 };
        for (uint64_t i = 0; i < 12; i++) {
            uint8_t bytes[MB_UTF8_MAX];
            uint32_t c = (uint32_t) (mb_rng_u64(k, 0, i) % (i % 2 ? 0x3100 : 0x11000));
            c = c >= 0xd800 && c <= 0xdfff ? 'x' : c;
            mb_bytes_put(&text, bytes, mb_utf8_put(c, bytes));
        }
        enum mb_normal_form form = (enum mb_normal_form)(k % 4);
        mb_normal_form(form, text.at, text.len, &once);
        mb_normal_form(form, once.at, once.len, &twice);
        ck_assert_uint_eq(once.len, twice.len);
        ck_assert_int_eq(memcmp(once.at, twice.at, once.len), 0);
        mb_bytes_fini(&text);
        mb_bytes_fini(&once);
        mb_bytes_fini(&twice);
    }
}
END_TEST

START_TEST(classes)
{
    static const uint32_t spaces[] = { ' ', '\t', '\r', 0x85, 0xa0, 0x2028, 0x3000 };
    static const uint32_t words[] = { 'a', '9', '_', 0xe9, 0x301, 0x4e2d, 0x0663 };
    for (size_t i = 0; i < 7; i++) {
        ck_assert(mb_is_space(spaces[i]) && !mb_is_word(spaces[i]));
        ck_assert(mb_is_word(words[i]) && !mb_is_space(words[i]));
    }
    ck_assert(!mb_is_space(0x200b) && !mb_is_word('-') && !mb_is_word(0x1f999));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("unicode");
    TCase *t = tcase_create("unicode");
    tcase_add_loop_test(t, forms_of_uax15, 0, sizeof cases / sizeof *cases);
    tcase_add_test(t, marks_in_any_order);
    tcase_add_test(t, a_megabyte_of_marks);
    tcase_add_test(t, normal_forms_are_stable);
    tcase_add_test(t, classes);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
