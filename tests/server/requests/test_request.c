/* Goal:   a request tells its reader everything, in order and in bounds; an end is always told;
 *         a reader that makes room, and a cancellation, ring the bell.
 * Method: play the engine by hand; then let it and a slow reader race. */
#include "server/requests/request.h"

#include <pthread.h>
#include <string.h>

#include "server/requests/request_engine.h"
#include "tests/check_main.h"

static const uint32_t prompt[] = { 1, 2, 3 };

static struct mbd_request *new_request(void)
{
    struct mb_error err = { 0 };
    struct mbd_request *r;
    struct mbd_request_params p = { .max_tokens = 5 };
    mb_assert_ok(mbd_request_new(NULL, prompt, 3, &p, &r, &err), &err);
    return r;
}

START_TEST(what_is_out_of_bounds_is_refused)
{
    struct mb_error err = { 0 };
    struct mbd_request *r;
    struct mbd_request_params p = { .max_tokens = 1 };
    ck_assert_int_eq(mbd_request_new(NULL, prompt, 0, &p, &r, &err), MB_E_INVALID);
    p.max_tokens = 0;
    ck_assert_int_eq(mbd_request_new(NULL, prompt, 3, &p, &r, &err), MB_E_INVALID);
    p.max_tokens = 1;
    p.want_top = MB_CHAT_LOGPROBS_MAX + 1;
    ck_assert_int_eq(mbd_request_new(NULL, prompt, 3, &p, &r, &err), MB_E_INVALID);
    p = (struct mbd_request_params) { .max_tokens = 1, .n_stops = MB_STOPS_MAX + 1 };
    ck_assert_int_eq(mbd_request_new(NULL, prompt, 3, &p, &r, &err), MB_E_INVALID);
    p = (struct mbd_request_params) { .max_tokens = 1, .n_stops = 1, .stop = { "" } };
    ck_assert_int_eq(mbd_request_new(NULL, prompt, 3, &p, &r, &err), MB_E_INVALID);
}
END_TEST

START_TEST(events_come_back_as_they_were_told)
{
    struct mbd_request *r = new_request();
    struct mbd_event got, e = {
        .state = MBD_REQUEST_DECODE,
        .has_token = true,
        .token = 7,
        .logprob = -0.5f,
        .n_top = 2,
        .top = { { 7, -0.5f }, { 8, -1.5f } },
        .text = "na\0me",
        .n_text = 5,
    };
    ck_assert(!mbd_request_next(r, &got));
    mbd_request_schedule(r, 11);
    mbd_request_first_token(r, 12);
    mbd_request_tell(r, &e);
    mbd_request_tell(r, &(struct mbd_event) { .state = MBD_REQUEST_DECODE, .has_token = true });
    mbd_request_end(r, MBD_REQUEST_DONE, MB_FINISH_LENGTH, MB_OK, 13);

    ck_assert(mbd_request_next(r, &got));
    ck_assert(got.state == MBD_REQUEST_DECODE && got.has_token && got.token == 7);
    ck_assert(got.logprob == -0.5f && got.n_top == 2 && got.top[1].token == 8);
    ck_assert(got.top[1].logprob == -1.5f && got.n_text == 5);
    ck_assert_mem_eq(got.text, "na\0me", 5);
    ck_assert(mbd_request_next(r, &got) && got.has_token && got.n_text == 0 && got.n_top == 0);
    ck_assert(mbd_request_next(r, &got) && got.state == MBD_REQUEST_DONE);
    ck_assert(got.finish == MB_FINISH_LENGTH && !got.has_token && got.n_text == 0);
    ck_assert(!mbd_request_next(r, &got));
    struct mbd_request_times t = mbd_request_times(r);
    ck_assert(t.submitted == 0 && t.scheduled == 11 && t.first_token == 12 && t.finished == 13);
    mbd_request_unref(r);
}
END_TEST

/* The largest event there is. */
static const struct mbd_event *largest(void)
{
    static char text[MBD_EVENT_TEXT_MAX];
    static struct mbd_event e = {
        .state = MBD_REQUEST_DECODE,
        .has_token = true,
        .n_top = MB_COMPLETION_LOGPROBS_MAX,
        .text = text,
        .n_text = MBD_EVENT_TEXT_MAX,
    };
    if (text[0] != 'x') {
        memset(text, 'x', sizeof text);
    }
    return &e;
}

START_TEST(a_full_ring_still_takes_the_end_and_room_rings_the_bell)
{
    struct mbd_request *r = new_request();
    struct mbd_bell *bell = mbd_bell_new();
    struct mbd_event got;
    mbd_request_attach(r, bell, 1);
    mbd_request_schedule(r, 2);
    mbd_request_first_token(r, 3);
    int n_told = 0;
    for (; mbd_request_may_tell(r); n_told++) {
        mbd_request_tell(r, largest());
    }
    ck_assert_int_ge(n_told, 7);
    ck_assert(!mbd_bell_heard(bell));
    ck_assert(mbd_request_next(r, &got));
    ck_assert(mbd_bell_heard(bell));
    ck_assert(mbd_request_may_tell(r));
    mbd_request_tell(r, largest());
    ck_assert(!mbd_request_may_tell(r));
    mbd_request_end(r, MBD_REQUEST_FAILED, MB_FINISH_NONE, MB_E_IO, 4);
    int n_read = 1;
    for (; mbd_request_next(r, &got) && got.state == MBD_REQUEST_DECODE; n_read++) {
        ck_assert_uint_eq(got.n_text, MBD_EVENT_TEXT_MAX);
    }
    ck_assert_int_eq(n_read, n_told + 1);
    ck_assert(got.state == MBD_REQUEST_FAILED && got.status == MB_E_IO);
    mbd_request_unref(r);
    mbd_bell_unref(bell);
}
END_TEST

START_TEST(cancelling_rings_once_and_outlives_the_listener)
{
    struct mbd_request *r = new_request();
    struct mbd_bell *bell = mbd_bell_new();
    mbd_request_ref(r); /* the engine's */
    ck_assert(!mbd_request_is_cancelled(r));
    mbd_request_attach(r, bell, 1);
    mbd_bell_unref(bell); /* the engine is gone; the request keeps the bell */
    mbd_request_cancel(r);
    mbd_request_cancel(r);
    ck_assert(mbd_request_is_cancelled(r));
    ck_assert(mbd_bell_heard(bell) && !mbd_bell_heard(bell));
    mbd_request_unref(r);
    mbd_request_unref(r);
}
END_TEST

START_TEST(a_request_that_only_the_engine_holds_is_cancelled)
{
    struct mbd_request *r = new_request();
    mbd_request_ref(r);
    ck_assert(!mbd_request_is_cancelled(r));
    mbd_request_unref(r); /* the reader's */
    ck_assert(mbd_request_is_cancelled(r));
    mbd_request_unref(r);
}
END_TEST

enum { RACE_EVENTS = 20000 };

struct race {
    struct mbd_request *request;
    struct mbd_bell *bell;
    uint32_t n_stalls;
};

/* An engine with nothing but this sequence: it sleeps whenever it is stalled. Were a wake-up
 * ever lost, it would sleep for the whole minute, and the test would run into its timeout. */
static void *play_engine(void *arg)
{
    struct race *race = arg;
    for (uint32_t i = 0; i < RACE_EVENTS; i++) {
        while (!mbd_request_may_tell(race->request)) {
            race->n_stalls++;
            mbd_bell_wait(race->bell, UINT64_C(60000000000));
            (void) mbd_bell_heard(race->bell);
        }
        struct mbd_event e = *largest();
        e.token = i;
        mbd_request_tell(race->request, &e);
    }
    mbd_request_end(race->request, MBD_REQUEST_DONE, MB_FINISH_STOP, MB_OK, 9);
    mbd_request_unref(race->request);
    return NULL;
}

START_TEST(no_wake_up_is_lost_between_a_stalled_engine_and_its_reader)
{
    struct race race = { .request = new_request(), .bell = mbd_bell_new() };
    struct mbd_request *r = race.request;
    (void) largest(); /* filled once, before there are two threads */
    mbd_request_attach(r, race.bell, 1);
    mbd_request_schedule(r, 2);
    mbd_request_first_token(r, 3);
    pthread_t engine;
    mbd_request_ref(r);
    ck_assert_int_eq(pthread_create(&engine, NULL, play_engine, &race), 0);
    struct mbd_event got = { .state = MBD_REQUEST_DECODE };
    for (uint32_t n = 0; got.state == MBD_REQUEST_DECODE;) {
        if (mbd_request_next(r, &got) && got.state == MBD_REQUEST_DECODE) {
            ck_assert_uint_eq(got.token, n++);
        }
    }
    pthread_join(engine, NULL);
    ck_assert_uint_gt(race.n_stalls, 0);
    mbd_request_unref(r);
    mbd_bell_unref(race.bell);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("request");
    TCase *t = tcase_create("request");
    tcase_set_timeout(t, 50);
    tcase_add_test(t, what_is_out_of_bounds_is_refused);
    tcase_add_test(t, events_come_back_as_they_were_told);
    tcase_add_test(t, a_full_ring_still_takes_the_end_and_room_rings_the_bell);
    tcase_add_test(t, cancelling_rings_once_and_outlives_the_listener);
    tcase_add_test(t, a_request_that_only_the_engine_holds_is_cancelled);
    tcase_add_test(t, no_wake_up_is_lost_between_a_stalled_engine_and_its_reader);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
