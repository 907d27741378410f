/* Goal:   no byte of a stop string is shown, nothing else is lost, and text flows as early as
 *         it can.
 * Method: random text over two letters, cut at random, against a search over the whole text;
 *         what is held back must be exactly the longest suffix that begins a stop string. */
#include "core/infer/stop.h"

#include <string.h>

#include "core/base/rng.h"
#include "tests/check_main.h"

static struct mb_stops *make(const struct mb_stop_text *texts, size_t n)
{
    struct mb_error err = { 0 };
    struct mb_stops *s = NULL;
    mb_assert_ok(mb_stops_new(texts, n, &s, &err), &err);
    return s;
}

/* Where the text must be cut: before the stop that ends first, the longest of those. */
static bool search(const struct mb_stop_text *texts, size_t n_texts, const char *text, size_t n,
                   size_t *ret_cut)
{
    for (size_t end = 1; end <= n; end++) {
        size_t met = 0;
        for (size_t i = 0; i < n_texts; i++) {
            size_t len = texts[i].n;
            if (len <= end && len > met && memcmp(text + end - len, texts[i].at, len) == 0) {
                met = len;
            }
        }
        if (met > 0) {
            *ret_cut = end - met;
            return true;
        }
    }
    return false;
}

static size_t must_hold(const struct mb_stop_text *texts, size_t n_texts, const char *text,
                        size_t n)
{
    for (size_t len = n; len > 0; len--) {
        for (size_t i = 0; i < n_texts; i++) {
            if (len < texts[i].n && memcmp(text + n - len, texts[i].at, len) == 0) {
                return len;
            }
        }
    }
    return 0;
}

static void check_seed(uint64_t seed)
{
    char letters[64], stops[3][9];
    struct mb_stop_text texts[3];
    size_t n_texts = 1 + mb_rng_u64(seed, 0, 0) % 3;
    for (size_t i = 0; i < n_texts; i++) {
        texts[i] = (struct mb_stop_text) { stops[i], 1 + mb_rng_u64(seed, 1, i) % 8 };
        for (size_t j = 0; j < texts[i].n; j++) {
            stops[i][j] = "ab"[mb_rng_u64(seed, 2, i * 8 + j) % 2];
        }
    }
    for (size_t j = 0; j < sizeof letters; j++) {
        letters[j] = "aab"[mb_rng_u64(seed, 3, j) % 3];
    }
    struct mb_stops *s = make(texts, n_texts);
    struct mb_bytes shown = { 0 };
    size_t fed = 0;
    bool met = false;
    for (uint64_t i = 0; fed < sizeof letters && !met; i++) {
        size_t n = mb_rng_u64(seed, 4, i) % 5;
        n = n < sizeof letters - fed ? n : sizeof letters - fed;
        met = mb_stops_feed(s, letters + fed, n, &shown);
        fed += n;
        if (!met) {
            ck_assert_uint_eq(shown.len, fed - must_hold(texts, n_texts, letters, fed));
        }
    }
    size_t cut = sizeof letters;
    ck_assert_int_eq(met, search(texts, n_texts, letters, sizeof letters, &cut));
    if (!met) {
        mb_stops_finish(s, &shown);
    }
    ck_assert_uint_eq(shown.len, cut);
    ck_assert(cut == 0 || memcmp(shown.at, letters, cut) == 0);
    mb_bytes_fini(&shown);
    mb_stops_free(s);
}

START_TEST(agrees_with_a_search_of_the_whole_text)
{
    for (uint64_t seed = 0; seed < 2000; seed++) {
        check_seed(seed);
    }
}
END_TEST

START_TEST(no_stops_hold_nothing)
{
    struct mb_stops *s = make(NULL, 0);
    struct mb_bytes shown = { 0 };
    ck_assert(!mb_stops_feed(s, "", 0, &shown));
    ck_assert(!mb_stops_feed(s, "text", 4, &shown));
    ck_assert_str_eq(mb_bytes_text(&shown), "text");
    mb_stops_finish(s, &shown);
    ck_assert_uint_eq(shown.len, 4);
    mb_bytes_fini(&shown);
    mb_stops_free(s);
}
END_TEST

START_TEST(the_longest_string_is_held_whole)
{
    static char long_text[MB_STOP_BYTES_MAX];
    memset(long_text, 'x', sizeof long_text);
    struct mb_stop_text text = { long_text, sizeof long_text };
    struct mb_stops *s = make(&text, 1);
    struct mb_bytes shown = { 0 };
    ck_assert(!mb_stops_feed(s, long_text, sizeof long_text - 1, &shown));
    ck_assert_uint_eq(shown.len, 0);
    ck_assert(!mb_stops_feed(s, "y", 1, &shown));
    ck_assert_uint_eq(shown.len, sizeof long_text);
    mb_bytes_clear(&shown);
    for (size_t i = 0; i + 1 < sizeof long_text; i++) {
        ck_assert(!mb_stops_feed(s, "x", 1, &shown));
    }
    ck_assert(mb_stops_feed(s, "xx", 2, &shown));
    ck_assert_uint_eq(shown.len, 0);
    mb_bytes_fini(&shown);
    mb_stops_free(s);
}
END_TEST

START_TEST(nonsense_is_refused)
{
    struct mb_stop_text texts[MB_STOPS_MAX + 1];
    for (size_t i = 0; i <= MB_STOPS_MAX; i++) {
        texts[i] = (struct mb_stop_text) { "x", 1 };
    }
    struct mb_stops *s = NULL;
    struct mb_error err = { 0 };
    ck_assert_int_eq(mb_stops_new(texts, MB_STOPS_MAX + 1, &s, &err), MB_E_INVALID);
    texts[1].n = 0;
    ck_assert_int_eq(mb_stops_new(texts, 2, &s, &err), MB_E_INVALID);
    texts[1].n = MB_STOP_BYTES_MAX + 1;
    ck_assert_int_eq(mb_stops_new(texts, 2, &s, &err), MB_E_INVALID);
    ck_assert_ptr_null(s);
    mb_stops_free(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("stop");
    TCase *t = tcase_create("stop");
    tcase_add_test(t, agrees_with_a_search_of_the_whole_text);
    tcase_add_test(t, no_stops_hold_nothing);
    tcase_add_test(t, the_longest_string_is_held_whole);
    tcase_add_test(t, nonsense_is_refused);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
