/* Goal:   while others decode, steps take as long as the budget allows and no longer; prompts
 *         go on all the same.
 * Method: machines made up of a fixed cost of a step, a cost of each token that decodes and of
 *         each of a prompt, with noise, jumps and prompts of any length; the pace sees only
 *         times. */
#include "server/scheduler/pace.h"

#include "core/base/rng.h"
#include "tests/check_main.h"

enum { MS = 1000000, TOKENS_MAX = 256 };

struct machine {
    double fixed_ms, decoding_ms, prompt_ms;
};

static uint64_t took(const struct machine *m, uint32_t n_decoding, uint32_t n_prompt)
{
    return (uint64_t) (MS *
                       (m->fixed_ms + m->decoding_ms * n_decoding + m->prompt_ms * n_prompt));
}

static const struct machine machines[] = {
    { 8, 0.5, 1.5 },   /* a 1B model on two cores */
    { 60, 1, 10 },     /* a 7B model there: some tokens fit */
    { 1, 0.1, 0.02 },  /* a small model: the whole step fits */
    { 400, 1, 10 },    /* decoding alone is beyond the budget */
    { 0.01, 0, 3 },    /* nothing but the prompt costs */
    { 100, 0, 0.001 }, /* nothing but the step costs */
};

/* The most tokens that fit, as if one knew. */
static uint32_t most(const struct machine *m, uint32_t n_decoding, uint64_t budget_ns)
{
    uint32_t n = MBD_PACE_TOKENS_MIN;
    while (n < TOKENS_MAX && took(m, n_decoding, n + 1) <= budget_ns) {
        n++;
    }
    return n;
}

START_TEST(it_finds_what_fits)
{
    const struct machine *m = &machines[_i];
    const uint64_t budget = 150 * (uint64_t) MS;
    struct mbd_pace p;
    mbd_pace_init(&p, budget, TOKENS_MAX);
    for (int i = 0; i < 20; i++) {
        uint64_t t = took(m, 4, p.tokens);
        ck_assert_msg(t <= budget || p.tokens == MBD_PACE_TOKENS_MIN, "%u tokens at once",
                      (unsigned) p.tokens);
        mbd_pace_observe(&p, 4, p.tokens, t);
    }
    uint32_t best = most(m, 4, budget);
    ck_assert_uint_le(p.tokens, best);
    ck_assert_msg(p.tokens >= best * 8 / 10 || p.tokens == MBD_PACE_TOKENS_MIN,
                  "%u tokens, %u would fit", (unsigned) p.tokens, (unsigned) best);
}
END_TEST

START_TEST(it_follows_a_machine_that_changes)
{
    const uint64_t budget = 150 * (uint64_t) MS;
    const struct machine before = { 8, 0.5, 0.5 }, after = { 20, 1.5, 3 };
    struct mbd_pace p;
    mbd_pace_init(&p, budget, TOKENS_MAX);
    for (int i = 0; i < 20; i++) {
        mbd_pace_observe(&p, 1, p.tokens, took(&before, 1, p.tokens));
    }
    ck_assert_uint_gt(p.tokens, 200);
    int late = 0;
    for (int i = 0; i < 20; i++) {
        uint64_t t = took(&after, 16, p.tokens);
        late += t > budget;
        mbd_pace_observe(&p, 16, p.tokens, t);
    }
    ck_assert_int_le(late, 4);
    ck_assert_uint_ge(p.tokens, most(&after, 16, budget) * 8 / 10);
}
END_TEST

START_TEST(a_slow_step_is_forgotten)
{
    const struct machine *m = &machines[0];
    struct mbd_pace p;
    mbd_pace_init(&p, 150 * (uint64_t) MS, TOKENS_MAX);
    for (int i = 0; i < 20; i++) {
        mbd_pace_observe(&p, 4, p.tokens, took(m, 4, p.tokens));
    }
    uint32_t settled = p.tokens;
    mbd_pace_observe(&p, 4, p.tokens, 3600000 * (uint64_t) MS);
    ck_assert_uint_ge(p.tokens, settled / 2);
    for (int i = 0; i < 3; i++) {
        mbd_pace_observe(&p, 4, p.tokens, took(m, 4, p.tokens));
    }
    ck_assert_uint_ge(p.tokens, settled * 8 / 10);
    mbd_pace_observe(&p, 4, p.tokens, 0); /* a clock that stood still */
    ck_assert_uint_le(p.tokens, TOKENS_MAX);
}
END_TEST

START_TEST(only_steps_of_both_kinds_say_something)
{
    struct mbd_pace p;
    mbd_pace_init(&p, 150 * (uint64_t) MS, TOKENS_MAX);
    uint32_t first = p.tokens;
    mbd_pace_observe(&p, 0, 256, MS);       /* a prompt alone */
    mbd_pace_observe(&p, 4, 0, 9999u * MS); /* decoding alone */
    mbd_pace_observe(&p, 4, 3, 20 * MS);    /* the end of a prompt, which was short */
    ck_assert_uint_eq(p.tokens, first);
    mbd_pace_init(&p, 0, TOKENS_MAX); /* no budget */
    ck_assert_uint_eq(p.tokens, TOKENS_MAX);
    mbd_pace_observe(&p, 4, 100, 9999u * (uint64_t) MS);
    ck_assert_uint_eq(p.tokens, TOKENS_MAX);
    mbd_pace_init(&p, 1, 5); /* fewer than the least */
    ck_assert_uint_eq(p.tokens, 5);
    mbd_pace_observe(&p, 4, 5, MS);
    ck_assert_uint_eq(p.tokens, 5);
}
END_TEST

/* Noise of a fifth, prompts that end at any token: the pace stays about where it should be. */
START_TEST(noise_does_not_carry_it_away)
{
    const uint64_t budget = 150 * (uint64_t) MS;
    const struct machine *m = &machines[0];
    struct mbd_pace p;
    mbd_pace_init(&p, budget, TOKENS_MAX);
    uint32_t best = most(m, 4, budget), below = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        uint32_t n = mb_rng_u64(3, 0, i) % 4 ? p.tokens
                                             : 1 + (uint32_t) (mb_rng_u64(3, 1, i) % p.tokens);
        double noise = 0.9 + 0.2 * mb_rng_unit(3, 2, i);
        mbd_pace_observe(&p, 4, n, (uint64_t) ((double) took(m, 4, n) * noise));
        ck_assert_uint_le(p.tokens, best * 5 / 4);
        below += i > 20 && p.tokens < best / 2;
    }
    ck_assert_uint_le(below, 20);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pace");
    TCase *t = tcase_create("pace");
    tcase_add_loop_test(t, it_finds_what_fits, 0, sizeof machines / sizeof *machines);
    tcase_add_test(t, it_follows_a_machine_that_changes);
    tcase_add_test(t, a_slow_step_is_forgotten);
    tcase_add_test(t, only_steps_of_both_kinds_say_something);
    tcase_add_test(t, noise_does_not_carry_it_away);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
