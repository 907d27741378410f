/* Goal:   the state table says what its diagram says.
 * Method: walk all pairs; count; then check the laws that callers lean on. */
#include "server/requests/request_state.h"
#include "tests/check_main.h"

START_TEST(final_states_lead_nowhere)
{
    enum mbd_request_state from = (enum mbd_request_state) _i;
    int ways_out = 0;
    for (int to = 0; to < MBD_REQUEST_STATES; to++) {
        ways_out += mbd_request_state_may(from, (enum mbd_request_state) to);
    }
    ck_assert_int_eq(mbd_request_state_is_final(from), ways_out == 0);
}
END_TEST

START_TEST(every_live_state_can_be_cancelled_and_can_fail)
{
    enum mbd_request_state from = (enum mbd_request_state) _i;
    bool live = !mbd_request_state_is_final(from);
    ck_assert_int_eq(mbd_request_state_may(from, MBD_REQUEST_CANCELLED), live);
    ck_assert_int_eq(mbd_request_state_may(from, MBD_REQUEST_FAILED), live);
}
END_TEST

START_TEST(no_state_leads_back_or_skips_one)
{
    for (int from = 0; from <= MBD_REQUEST_DONE; from++) {
        for (int to = 0; to <= MBD_REQUEST_DONE; to++) {
            bool may = mbd_request_state_may((enum mbd_request_state) from,
                                             (enum mbd_request_state) to);
            ck_assert_int_eq(may, to == from + 1);
        }
    }
}
END_TEST

START_TEST(names_differ)
{
    for (int a = 0; a < MBD_REQUEST_STATES; a++) {
        for (int b = 0; b < a; b++) {
            ck_assert_str_ne(mbd_request_state_name((enum mbd_request_state) a),
                             mbd_request_state_name((enum mbd_request_state) b));
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("request_state");
    TCase *t = tcase_create("table");
    tcase_add_loop_test(t, final_states_lead_nowhere, 0, MBD_REQUEST_STATES);
    tcase_add_loop_test(t, every_live_state_can_be_cancelled_and_can_fail, 0,
                        MBD_REQUEST_STATES);
    tcase_add_test(t, no_state_leads_back_or_skips_one);
    tcase_add_test(t, names_differ);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
