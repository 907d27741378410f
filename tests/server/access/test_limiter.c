/* Goal:   a key gets what its limits say, over every stretch of time, and is told truly what is left and
 *         how long to wait.
 * Method: hours of requests at random against a plain record of all that was let through; waits that
 *         are told are tried a nanosecond before and at their end. */
#include <stdlib.h>
#include <string.h>

#include "server/access/limiter.h"
#include "server/clock.h"
#include "tests/check_main.h"

#define S  MBD_SECOND_NS
#define T0 (123 * S) /* a clock that began long ago */

static struct mbd_key key(uint32_t concurrent, uint32_t requests, uint64_t tokens)
{
    return (struct mbd_key) { .limits = { concurrent, requests, tokens } };
}

START_TEST(nothing_is_limited_without_limits)
{
    struct mbd_key k = key(0, 0, 0);
    uint64_t retry;
    for (int i = 0; i < 10000; i++) {
        ck_assert_int_eq(mbd_key_begin(&k, T0, &retry), MBD_LIMIT_NONE);
        ck_assert_int_eq(mbd_key_take_prompt(&k, 1 << 20, T0, &retry), MBD_LIMIT_NONE);
    }
    ck_assert_uint_eq(mbd_key_requests(&k, T0).limit, 0);
    ck_assert_uint_eq(mbd_key_tokens(&k, T0).limit, 0);
}
END_TEST

START_TEST(so_many_at_once)
{
    struct mbd_key k = key(2, 0, 0);
    uint64_t retry = 0;
    ck_assert_int_eq(mbd_key_begin(&k, T0, &retry), MBD_LIMIT_NONE);
    ck_assert_int_eq(mbd_key_begin(&k, T0, &retry), MBD_LIMIT_NONE);
    ck_assert_int_eq(mbd_key_begin(&k, T0, &retry), MBD_LIMIT_CONCURRENT);
    ck_assert_uint_gt(retry, 0);
    mbd_key_end(&k);
    ck_assert_int_eq(mbd_key_begin(&k, T0, &retry), MBD_LIMIT_NONE);
    mbd_key_end(&k);
    mbd_key_end(&k);
}
END_TEST

/* Six a minute: six at once, then one every ten seconds, to the nanosecond. */
START_TEST(requests_come_back_evenly)
{
    struct mbd_key k = key(0, 6, 0);
    uint64_t retry = 0;
    for (int i = 0; i < 6; i++) {
        ck_assert_uint_eq(mbd_key_requests(&k, T0).remaining, (uint64_t) (6 - i));
        ck_assert_int_eq(mbd_key_begin(&k, T0, &retry), MBD_LIMIT_NONE);
    }
    ck_assert_int_eq(mbd_key_begin(&k, T0, &retry), MBD_LIMIT_REQUESTS);
    ck_assert_uint_eq(retry, 10 * S);
    ck_assert_uint_eq(mbd_key_requests(&k, T0).reset_ns, 60 * S);
    ck_assert_int_eq(mbd_key_begin(&k, T0 + 10 * S - 1, &retry), MBD_LIMIT_REQUESTS);
    ck_assert_int_eq(mbd_key_begin(&k, T0 + 10 * S, &retry), MBD_LIMIT_NONE);
    ck_assert_int_eq(mbd_key_begin(&k, T0 + 10 * S, &retry), MBD_LIMIT_REQUESTS);
    ck_assert_uint_eq(mbd_key_requests(&k, T0 + 69 * S).remaining, 5);
    ck_assert_uint_eq(mbd_key_requests(&k, T0 + 70 * S).remaining, 6);
    ck_assert_uint_eq(mbd_key_requests(&k, T0 + 9999 * S).remaining, 6); /* and no more */
}
END_TEST

START_TEST(tokens_are_owed)
{
    struct mbd_key k = key(0, 0, 600);
    uint64_t retry = 0;
    ck_assert_int_eq(mbd_key_take_prompt(&k, 500, T0, &retry), MBD_LIMIT_NONE);
    ck_assert_int_eq(mbd_key_take_prompt(&k, 101, T0, &retry), MBD_LIMIT_TOKENS);
    ck_assert_uint_eq(retry, S / 10);
    mbd_key_take(&k, 700, T0); /* a long completion */
    ck_assert_uint_eq(mbd_key_tokens(&k, T0).remaining, 0);
    ck_assert_uint_eq(mbd_key_tokens(&k, T0).reset_ns, 120 * S);
    ck_assert_int_eq(mbd_key_take_prompt(&k, 1, T0, &retry), MBD_LIMIT_TOKENS);
    ck_assert_uint_eq(retry, 601 * S / 10);
    /* More than a minute's: when all is paid, and not before. */
    ck_assert_int_eq(mbd_key_take_prompt(&k, 5000, T0 + 119 * S, &retry), MBD_LIMIT_TOKENS);
    ck_assert_uint_eq(retry, S);
    ck_assert_int_eq(mbd_key_take_prompt(&k, 5000, T0 + 120 * S, &retry), MBD_LIMIT_NONE);
    mbd_key_give_back(&k, 5000);
    ck_assert_uint_eq(mbd_key_tokens(&k, T0 + 120 * S).remaining, 600);
}
END_TEST

/* Over any stretch of time: what a minute allows, and what came back meanwhile. */
START_TEST(no_stretch_of_time_has_more)
{
    enum { EVENTS = 1000, LIMIT = 90 };
    static uint64_t at[EVENTS];
    struct mbd_key k = key(0, LIMIT, 0);
    uint64_t now = T0, retry = 0;
    size_t n = 0;
    srand(7);
    for (int i = 0; i < 4 * EVENTS && n < EVENTS; i++) {
        now += (uint64_t) (rand() % 1000) * (S / 1000);
        now += rand() % 50 == 0 ? 30 * S : 0;
        if (mbd_key_begin(&k, now, &retry) == MBD_LIMIT_NONE) {
            at[n++] = now;
        } else {
            ck_assert_int_eq(mbd_key_begin(&k, now + retry - 2, &retry), MBD_LIMIT_REQUESTS);
            ck_assert_uint_le(retry, 3); /* a rounding away */
        }
    }
    ck_assert_uint_gt(n, EVENTS / 2);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i; j < n; j++) {
            double allowed = LIMIT + (double) (at[j] - at[i]) * LIMIT / (60.0 * S);
            ck_assert_msg((double) (j - i + 1) <= allowed + 1e-6, "%zu of %g", j - i + 1,
                          allowed);
        }
    }
}
END_TEST

START_TEST(durations_are_written)
{
    static const struct {
        uint64_t ns;
        const char *text;
    } cases[] = {
        { 0, "0ms" },
        { 1, "1ms" },
        { S / 2, "500ms" },
        { S, "1s" },
        { 1234 * S / 1000, "1.234s" },
        { 59999 * S / 1000, "59.999s" },
        { 60 * S, "1m0s" },
        { 360 * S, "6m0s" },
        { 3661 * S + S / 2, "61m1.5s" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[MBD_DURATION_TEXT];
        mbd_duration_text(cases[i].ns, text);
        ck_assert_str_eq(text, cases[i].text);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("limiter");
    TCase *t = tcase_create("limiter");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, nothing_is_limited_without_limits);
    tcase_add_test(t, so_many_at_once);
    tcase_add_test(t, requests_come_back_evenly);
    tcase_add_test(t, tokens_are_owed);
    tcase_add_test(t, no_stretch_of_time_has_more);
    tcase_add_test(t, durations_are_written);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
