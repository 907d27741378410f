/* Goal:   A1 through the engine: what a request gets does not depend on who else is there, how
 *         its prompt was cut, or how many threads there are.
 * Method: each request alone on one engine, then sixteen together on engines of every
 *         budget. */
#include <string.h>

#include "core/base/rng.h"
#include "core/tokenizer/spec.h"
#include "tests/check_main.h"
#include "tests/server/engine/engine_rig.h"

enum { CROWD = 16, PROMPT_MAX = 130 };

static struct engine_rig rig;
static struct result alone[CROWD], together[CROWD];

static struct mbd_request *request(uint64_t i)
{
    uint32_t prompt[PROMPT_MAX], n = 1 + (uint32_t) (mb_rng_u64(4, 0, i) % PROMPT_MAX);
    struct mbd_request_params p = rig_params(i, 1 + (uint32_t) (mb_rng_u64(4, 1, i) % 40));
    p.sampling.temperature = i % 3 == 0 ? 0 : 0.8f;
    p.sampling.repetition_penalty = i % 2 == 0 ? 1 : 1.2f;
    p.sampling.presence_penalty = i % 5 == 0 ? 0.5f : 0;
    p.want_logprob = true;
    p.stop[0] = "xx";
    p.n_stop_bytes[0] = 2;
    p.n_stops = i % 4 == 3;
    rig_prompt(i, n, prompt);
    return rig_request(&rig, prompt, n, &p);
}

/* Everybody's result with everybody else there, under these options. */
static void run_together(uint32_t budget, uint32_t threads)
{
    struct mbd_request *q[CROWD];
    engine_rig_init(&rig, 11);
    rig.options.sequences_max = CROWD;
    rig.options.step_tokens_max = budget;
    rig.options.step_time_ms = budget >= 64; /* a pace that follows the clock */
    rig.options.threads = threads;
    engine_rig_start(&rig);
    memset(together, 0, sizeof together);
    for (uint64_t i = 0; i < CROWD; i++) {
        q[i] = request(i);
        rig_submit(&rig, q[i]);
        if (i % 4 == 3) { /* some are well on their way when others come */
            while (together[i - 3].n_tokens == 0 && !rig_read(q[i - 3], &together[i - 3])) {
                rig_sleep_ms(1);
            }
        }
    }
    for (uint64_t i = 0; i < CROWD; i++) {
        rig_finish(q[i], &together[i]);
        mbd_request_unref(q[i]);
    }
    rig_assert_idle(&rig);
    engine_rig_fini(&rig);
}

static void run_alone(void)
{
    engine_rig_init(&rig, 11);
    engine_rig_start(&rig);
    memset(alone, 0, sizeof alone);
    uint32_t n_tokens = 0, n_stops = 0;
    for (uint64_t i = 0; i < CROWD; i++) {
        struct mbd_request *q = request(i);
        rig_submit(&rig, q);
        rig_finish(q, &alone[i]);
        mbd_request_unref(q);
        n_tokens += alone[i].n_tokens;
        n_stops += alone[i].last.finish == MB_FINISH_STOP;
    }
    ck_assert_uint_gt(n_tokens, CROWD);
    ck_assert(n_stops > 0 && n_stops < CROWD);
    engine_rig_fini(&rig);
}

START_TEST(a_crowd_changes_nobody)
{
    static const uint32_t budgets[] = { 1, 7, 64, 512 };
    run_alone();
    run_together(budgets[_i % 4], 1 + (uint32_t) _i / 4);
    for (int i = 0; i < CROWD; i++) {
        rig_assert_same(&alone[i], &together[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine_alone");
    TCase *t = tcase_create("A1");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_crowd_changes_nobody, 0, 8);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
