/* Goal:   a plan follows its three rules to the letter.
 * Method: small cases whose answer is written down; tests/sim does the crowds. */
#include "server/scheduler/plan.h"

#include "tests/check_main.h"

enum { SLOTS = 6 };

static struct mbd_plan plan;

static void setup(void)
{
    struct mb_error err = { 0 };
    mb_assert_ok(mbd_plan_init(&plan, SLOTS, &err), &err);
}

static void teardown(void)
{
    mbd_plan_fini(&plan);
}

/* Tokens that the last plan gives to slot. */
static uint32_t given(uint32_t slot)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < plan.n_parts; i++) {
        n += plan.parts[i].slot == slot ? plan.parts[i].n_tokens : 0;
    }
    return n;
}

static bool asks_logits(uint32_t slot)
{
    for (uint32_t i = 0; i < plan.n_parts; i++) {
        if (plan.parts[i].slot == slot) {
            return plan.parts[i].logits;
        }
    }
    return false;
}

START_TEST(nothing_gives_nothing)
{
    struct mbd_plan_slot slots[SLOTS] = { 0 };
    mbd_plan_step(&plan, slots, 8, 8);
    ck_assert(plan.n_parts == 0 && plan.n_tokens == 0 && plan.n_decoding == 0);
}
END_TEST

START_TEST(decoding_comes_first_and_prompts_share_the_rest)
{
    struct mbd_plan_slot slots[SLOTS] = {
        { MBD_PLAN_PROMPT, 1000, 5 }, { MBD_PLAN_DECODE, 0, 1 },  { MBD_PLAN_PROMPT, 10, 7 },
        { MBD_PLAN_DECODE, 0, 2 },    { MBD_PLAN_STALLED, 0, 3 }, { MBD_PLAN_PROMPT, 30, 6 },
    };
    mbd_plan_step(&plan, slots, 42, 42);
    ck_assert_uint_eq(plan.n_decoding, 2);
    ck_assert(plan.parts[0].slot == 1 && plan.parts[1].slot == 3);
    ck_assert(given(1) == 1 && given(3) == 1 && given(4) == 0);
    ck_assert(asks_logits(1) && asks_logits(3));
    ck_assert_uint_eq(given(0), 20); /* half of 40 to the oldest */
    ck_assert_uint_eq(given(2), 10); /* then the shortest, whole */
    ck_assert_uint_eq(given(5), 10); /* then the next, as far as it goes */
    ck_assert(!asks_logits(0) && asks_logits(2) && !asks_logits(5));
    ck_assert_uint_eq(plan.n_tokens, 42);
}
END_TEST

START_TEST(the_oldest_takes_what_nobody_else_wants)
{
    struct mbd_plan_slot slots[SLOTS] = { { MBD_PLAN_PROMPT, 1000, 5 },
                                          { MBD_PLAN_PROMPT, 3, 6 } };
    mbd_plan_step(&plan, slots, 100, 100);
    ck_assert_uint_eq(given(1), 3);
    ck_assert_uint_eq(given(0), 97);
    ck_assert_uint_eq(plan.n_parts, 2);
}
END_TEST

START_TEST(equal_prompts_end_one_after_the_other)
{
    struct mbd_plan_slot slots[SLOTS] = { { MBD_PLAN_PROMPT, 40, 3 },
                                          { MBD_PLAN_PROMPT, 40, 1 },
                                          { MBD_PLAN_PROMPT, 40, 2 } };
    mbd_plan_step(&plan, slots, 64, 64);
    ck_assert(given(1) == 40 && given(2) == 24 && given(0) == 0);
    ck_assert(asks_logits(1) && !asks_logits(2));
}
END_TEST

START_TEST(a_budget_of_one_feeds_one_token_at_a_time)
{
    struct mbd_plan_slot slots[SLOTS] = { { MBD_PLAN_PROMPT, 2, 3 } };
    mbd_plan_step(&plan, slots, 1, 1);
    ck_assert(given(0) == 1 && !asks_logits(0));
    slots[0].prompt_left = 1;
    mbd_plan_step(&plan, slots, 1, 1);
    ck_assert(given(0) == 1 && asks_logits(0));
}
END_TEST

START_TEST(too_many_decoding_take_turns)
{
    struct mbd_plan_slot slots[SLOTS] = { 0 };
    uint32_t served[SLOTS] = { 0 };
    for (uint32_t i = 0; i < 5; i++) {
        slots[i] = (struct mbd_plan_slot) { MBD_PLAN_DECODE, 0, i };
    }
    for (int step = 0; step < 50; step++) {
        mbd_plan_step(&plan, slots, 2, 2);
        ck_assert_uint_eq(plan.n_tokens, 2);
        for (uint32_t i = 0; i < 5; i++) {
            served[i] += given(i);
        }
    }
    for (uint32_t i = 0; i < 5; i++) {
        ck_assert_uint_eq(served[i], 20);
    }
}
END_TEST

START_TEST(beside_decoding_prompts_keep_their_pace)
{
    struct mbd_plan_slot slots[SLOTS] = {
        { MBD_PLAN_PROMPT, 1000, 5 },
        { MBD_PLAN_DECODE, 0, 1 },
        { MBD_PLAN_PROMPT, 10, 7 },
        { MBD_PLAN_DECODE, 0, 2 },
    };
    mbd_plan_step(&plan, slots, 100, 30);
    ck_assert_uint_eq(plan.n_tokens, 32);
    ck_assert_uint_eq(given(0), 20);
    ck_assert_uint_eq(given(2), 10);
    mbd_plan_step(&plan, slots, 20, 30); /* the budget is a bound to both */
    ck_assert_uint_eq(plan.n_tokens, 20);
    slots[1].kind = slots[3].kind = MBD_PLAN_STALLED; /* nobody waits */
    mbd_plan_step(&plan, slots, 100, 30);
    ck_assert_uint_eq(plan.n_tokens, 100);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan");
    TCase *t = tcase_create("plan");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, nothing_gives_nothing);
    tcase_add_test(t, decoding_comes_first_and_prompts_share_the_rest);
    tcase_add_test(t, the_oldest_takes_what_nobody_else_wants);
    tcase_add_test(t, equal_prompts_end_one_after_the_other);
    tcase_add_test(t, a_budget_of_one_feeds_one_token_at_a_time);
    tcase_add_test(t, too_many_decoding_take_turns);
    tcase_add_test(t, beside_decoding_prompts_keep_their_pace);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
