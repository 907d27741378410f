/* Goal:   whatever clients do, slots and blocks come back (J1), bounds hold, faults stay with
 *         whom they concern, and nobody is left without a last event.
 * Method: a hook inside every step stops the engine at will, cancels at the worst moment,
 *         refuses batches; a storm of everything at once (run it under the sanitizers). */
#include <string.h>

#include "core/base/rng.h"
#include "core/tokenizer/spec.h"
#include "server/clock.h"
#include "tests/check_main.h"
#include "tests/server/engine/engine_rig.h"

enum { PROMPT = 40, MARK = 42 }; /* the token that tells one prompt from the others */

static struct engine_rig rig;
static uint32_t prompt[PROMPT], marked[PROMPT];
static struct result plain, got, other;

static void setup(void)
{
    engine_rig_init(&rig, MB_NO_ID);
    rig_prompt(1, PROMPT, prompt);
    for (uint32_t i = 0; i < PROMPT; i++) {
        prompt[i] = prompt[i] == MARK ? 0 : prompt[i];
    }
    memcpy(marked, prompt, sizeof marked);
    marked[0] = MARK;
    memset(&got, 0, sizeof got);
    memset(&other, 0, sizeof other);
}

static void teardown(void)
{
    engine_rig_fini(&rig);
}

/* --- cancelling --- */

struct canceller {
    struct mbd_request *victim;
    uint32_t on_any, on_own; /* cancels in this batch of all, or of the victim's; from 1 */
    uint32_t n_any, n_own;
    bool seen, cancelled; /* has its prompt begun? */
    uint32_t seq;         /* the victim's, once seen */
    uint32_t n_after, blocks_after;
    atomic_bool go; /* both are submitted */
};

/* How many tokens of the victim are in the batch. */
static uint32_t count_victim(struct canceller *c, const struct mb_batch *b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n_tokens; i++) {
        if (b->token[i] == MARK && b->position[i] == 0) {
            c->seen = true;
            c->seq = b->seq[i];
        }
        n += c->seen && b->seq[i] == c->seq;
    }
    return n;
}

static enum mb_status cancel_in_batch(void *arg, const struct mb_batch *b)
{
    struct canceller *c = arg;
    while (!atomic_load(&c->go)) {
        rig_sleep_ms(1);
    }
    uint32_t n = count_victim(c, b);
    c->n_any++;
    c->n_own += n > 0;
    if (c->cancelled) {
        struct mbd_engine_stats s;
        mbd_engine_stats(rig.engine, &s);
        c->blocks_after = s.kv_blocks_free;
        c->n_after += n;
    } else if (c->n_any == c->on_any || (n > 0 && c->n_own == c->on_own)) {
        mbd_request_cancel(c->victim);
        c->cancelled = true;
    }
    return MB_OK;
}

START_TEST(cancelling_gives_everything_back_within_one_step)
{
    /* In the queue, in the first chunk of the prompt, in a later one, while decoding. */
    static const struct {
        uint32_t slots, on_any, on_own;
    } cases[] = {
        { 1, 30, 0 },
        { 2, 0, 1 },
        { 2, 0, 3 },
        { 2, 0, 60 },
    };
    struct mbd_request_params p = rig_params(2, 200);
    rig.options.step_tokens_max = 8;
    rig.options.sequences_max = cases[_i].slots;
    struct canceller c = {
        .victim = rig_request(&rig, marked, PROMPT, &p),
        .on_any = cases[_i].on_any,
        .on_own = cases[_i].on_own,
    };
    rig_set_hook(cancel_in_batch, &c);
    engine_rig_start(&rig);
    struct mbd_request *q = rig_request(&rig, prompt, PROMPT, &p);
    rig_submit(&rig, q);
    rig_submit(&rig, c.victim);
    atomic_store(&c.go, true);
    rig_finish(c.victim, &got);
    ck_assert_int_eq(got.last.state, MBD_REQUEST_CANCELLED);
    rig_finish(q, &other);
    ck_assert(other.last.state == MBD_REQUEST_DONE && other.n_tokens == 200);
    ck_assert_uint_eq(c.n_after, 0);
    ck_assert_int_eq(c.seen, cases[_i].slots == 2);
    ck_assert_int_eq(got.n_tokens > 0, cases[_i].on_own == 60);
    struct mbd_engine_stats s;
    mbd_engine_stats(rig.engine, &s);
    ck_assert_uint_eq(c.blocks_after, s.kv_blocks - mb_kv_blocks_for(PROMPT + 199));
    rig_assert_idle(&rig);
    ck_assert_uint_eq(rig_counter(MBD_REQUESTS_CANCELLED), 1);
    mbd_request_unref(q);
    mbd_request_unref(c.victim);
}
END_TEST

START_TEST(cancelling_before_or_after_its_life_is_harmless)
{
    struct mbd_request_params p = rig_params(2, 5);
    engine_rig_start(&rig);
    struct mbd_request *early = rig_request(&rig, prompt, PROMPT, &p);
    mbd_request_cancel(early);
    rig_submit(&rig, early);
    rig_finish(early, &got);
    ck_assert(got.last.state == MBD_REQUEST_CANCELLED && got.n_tokens == 0);
    struct mbd_request *late = rig_request(&rig, prompt, PROMPT, &p);
    rig_submit(&rig, late);
    rig_finish(late, &other);
    mbd_request_cancel(late);
    ck_assert(other.last.state == MBD_REQUEST_DONE && other.n_tokens == 5);
    rig_assert_idle(&rig);
    mbd_request_unref(early);
    mbd_request_unref(late);
}
END_TEST

START_TEST(a_request_that_everybody_dropped_is_cancelled)
{
    struct mbd_request_params p = rig_params(2, 1500);
    engine_rig_start(&rig);
    struct mbd_request *q = rig_request(&rig, prompt, PROMPT, &p);
    rig_submit(&rig, q);
    mbd_request_unref(q);
    rig_assert_idle(&rig);
    ck_assert_uint_eq(rig_counter(MBD_REQUESTS_CANCELLED), 1);
}
END_TEST

/* --- readers --- */

/* Waits until the engine has taken no step for half a second: for less, a busy machine may just
 * not have let it. */
static void await_stall(void)
{
    struct mbd_engine_stats a, b = { 0 };
    for (int still = 0; still < 10;) {
        a = b;
        rig_sleep_ms(50);
        mbd_engine_stats(rig.engine, &b);
        still = b.steps == 0 || a.steps != b.steps ? 0 : still + 1;
    }
}

START_TEST(a_reader_that_does_not_read_stalls_itself_alone)
{
    enum { MANY = 1500 };
    struct mbd_request_params p = rig_params(2, MANY), few = rig_params(3, 20);
    engine_rig_start(&rig);
    rig_run(&rig, prompt, PROMPT, &p, &plain);
    uint64_t before = rig_counter(MBD_GENERATION_TOKENS);
    struct mbd_request *slow = rig_request(&rig, prompt, PROMPT, &p);
    rig_submit(&rig, slow);
    await_stall();
    uint64_t n_told = rig_counter(MBD_GENERATION_TOKENS) - before;
    ck_assert(n_told > 100 && n_told < MBD_EVENT_RING_BYTES / 24 && n_told < MANY);
    rig_run(&rig, marked, PROMPT, &few, &other);
    ck_assert_uint_eq(other.n_tokens, 20);
    ck_assert_uint_eq(rig_counter(MBD_GENERATION_TOKENS) - before, n_told + 20);
    if (_i == 0) { /* it reads after all, and missed nothing */
        rig_finish(slow, &got);
        rig_assert_same(&plain, &got);
    } else { /* it leaves: the last event still fits */
        mbd_request_cancel(slow);
        rig_assert_idle(&rig);
        rig_finish(slow, &got);
        ck_assert_int_eq(got.last.state, MBD_REQUEST_CANCELLED);
        ck_assert_uint_eq(got.n_tokens, n_told);
    }
    rig_assert_idle(&rig);
    mbd_request_unref(slow);
}
END_TEST

/* --- bounds --- */

static enum mb_status wait_for_gate(void *arg, const struct mb_batch *b)
{
    while (!atomic_load((atomic_bool *) arg)) {
        rig_sleep_ms(1);
    }
    return MB_OK;
}

/* Starts an engine of one slot, and fills the slot with a request that waits in its first
 * step. */
static struct mbd_request *start_behind_gate(atomic_bool *open)
{
    struct mbd_request_params p = rig_params(2, 3);
    struct mbd_engine_stats s;
    rig_set_hook(wait_for_gate, open);
    rig.options.sequences_max = 1;
    engine_rig_start(&rig);
    struct mbd_request *q = rig_request(&rig, prompt, PROMPT, &p);
    rig_submit(&rig, q);
    do {
        rig_sleep_ms(1);
        mbd_engine_stats(rig.engine, &s);
    } while (s.waiting > 0 || s.prefilling == 0);
    return q;
}

START_TEST(the_queue_is_bounded_in_requests_and_in_tokens)
{
    enum { FIT = 3 };
    struct mb_error err = { 0 };
    struct mbd_engine_stats s;
    struct mbd_request_params p = rig_params(2, 3);
    struct mbd_request *q[FIT + 1];
    atomic_bool open = false;
    rig.options.queue_requests_max = _i == 0 ? FIT : 100;
    rig.options.queue_tokens_max = _i == 0 ? 100000 : FIT * PROMPT + PROMPT - 1;
    struct mbd_request *first = start_behind_gate(&open);
    for (int i = 0; i <= FIT; i++) {
        q[i] = rig_request(&rig, prompt, PROMPT, &p);
        enum mb_status want = i < FIT ? MB_OK : MB_E_LIMIT;
        ck_assert_int_eq(mbd_engine_submit(rig.engine, q[i], &err), want);
    }
    ck_assert_ptr_nonnull(strstr(err.what, _i == 0 ? "3 requests" : "120 prompt tokens"));
    mbd_engine_stats(rig.engine, &s);
    ck_assert(s.waiting == FIT && s.waiting_tokens == FIT * PROMPT);
    ck_assert_uint_eq(rig_counter(MBD_REQUESTS_REFUSED), 1);
    atomic_store(&open, true);
    rig_finish(first, &got);
    for (int i = 0; i < FIT; i++) {
        memset(&got, 0, sizeof got);
        rig_finish(q[i], &got);
        ck_assert_int_eq(got.last.state, MBD_REQUEST_DONE);
    }
    rig_assert_idle(&rig);
    rig_submit(&rig, q[FIT]); /* what was refused may come again */
    memset(&got, 0, sizeof got);
    rig_finish(q[FIT], &got);
    ck_assert_uint_eq(got.n_tokens, 3);
    for (int i = 0; i <= FIT; i++) {
        mbd_request_unref(q[i]);
    }
    mbd_request_unref(first);
}
END_TEST

START_TEST(a_prompt_beyond_the_token_bound_runs_when_nobody_waits)
{
    struct mbd_request_params p = rig_params(2, 3);
    rig.options.queue_tokens_max = PROMPT / 2;
    engine_rig_start(&rig);
    rig_run(&rig, prompt, PROMPT, &p, &got);
    ck_assert_uint_eq(got.n_tokens, 3);
}
END_TEST

/* --- ends --- */

START_TEST(draining_refuses_the_new_and_finishes_the_old)
{
    struct mb_error err = { 0 };
    struct mbd_request_params p = rig_params(2, 3);
    atomic_bool open = false;
    struct mbd_request *first = start_behind_gate(&open);
    struct mbd_request *waiting = rig_request(&rig, prompt, PROMPT, &p);
    struct mbd_request *late = rig_request(&rig, prompt, PROMPT, &p);
    rig_submit(&rig, waiting);
    mbd_engine_drain(rig.engine);
    ck_assert_int_eq(mbd_engine_submit(rig.engine, late, &err), MB_E_UNAVAILABLE);
    atomic_store(&open, true);
    rig_finish(first, &got);
    rig_finish(waiting, &other);
    ck_assert(got.last.state == MBD_REQUEST_DONE && other.last.state == MBD_REQUEST_DONE);
    mbd_request_unref(first);
    mbd_request_unref(waiting);
    mbd_request_unref(late);
}
END_TEST

START_TEST(freeing_the_engine_ends_everybody)
{
    enum { MANY = 12 };
    struct mbd_request *q[MANY];
    engine_rig_start(&rig);
    for (int i = 0; i < MANY; i++) {
        struct mbd_request_params p = rig_params((uint64_t) i, 1 + 150 * (uint32_t) (i % 3));
        q[i] = rig_request(&rig, prompt, PROMPT, &p);
        rig_submit(&rig, q[i]);
    }
    rig_sleep_ms((unsigned) _i);
    mbd_engine_free(rig.engine);
    rig.engine = NULL;
    for (int i = 0; i < MANY; i++) {
        memset(&got, 0, sizeof got);
        ck_assert(rig_read(q[i], &got)); /* at once: nobody is left who could tell more */
        ck_assert(got.last.state == MBD_REQUEST_DONE ||
                  got.last.state == MBD_REQUEST_CANCELLED);
        mbd_request_cancel(q[i]); /* nobody listens any more */
        mbd_request_unref(q[i]);
    }
    ck_assert_uint_eq(rig_observed(MBD_REQUEST_SECONDS), MANY); /* the queued ones too */
}
END_TEST

/* --- faults --- */

static enum mb_status refuse_mark(void *arg, const struct mb_batch *b)
{
    for (uint32_t i = 0; i < b->n_tokens; i++) {
        if (b->token[i] == MARK && b->position[i] < PROMPT) {
            return MB_E_INVALID;
        }
    }
    return MB_OK;
}

START_TEST(a_refused_batch_fails_only_whom_it_must)
{
    enum { GOOD = 3 };
    struct mbd_request *good[GOOD];
    struct mbd_request_params p = rig_params(2, 40);
    rig_set_hook(refuse_mark, NULL);
    rig.options.step_tokens_max = _i == 0 ? 512 : 9;
    engine_rig_start(&rig);
    rig_run(&rig, prompt, PROMPT, &p, &plain);
    uint32_t at = _i == 0 ? 0 : PROMPT - 1; /* the last chunk of its prompt */
    memcpy(marked, prompt, sizeof marked);
    marked[at] = MARK;
    struct mbd_request *bad = rig_request(&rig, marked, PROMPT, &p);
    for (int i = 0; i < GOOD; i++) {
        good[i] = rig_request(&rig, prompt, PROMPT, &p);
        rig_submit(&rig, good[i]);
        if (i == 0) {
            rig_submit(&rig, bad);
        }
    }
    rig_finish(bad, &got);
    ck_assert(got.last.state == MBD_REQUEST_FAILED && got.last.status == MB_E_INVALID);
    for (int i = 0; i < GOOD; i++) {
        memset(&other, 0, sizeof other);
        rig_finish(good[i], &other);
        rig_assert_same(&plain, &other);
        mbd_request_unref(good[i]);
    }
    rig_assert_idle(&rig);
    ck_assert_uint_eq(rig_counter(MBD_REQUESTS_FAILED), 1);
    mbd_request_unref(bad);
}
END_TEST

/* --- all at once --- */

enum { STORM = 24, STORM_SUBMITTED = 300 };

static void leave(struct mbd_request **q)
{
    mbd_request_cancel(*q);
    mbd_request_unref(*q);
    *q = NULL;
}

START_TEST(a_storm_leaves_nothing_behind)
{
    static struct mbd_request *q[STORM];
    struct mb_error err = { 0 };
    struct mbd_event e;
    uint64_t n_submitted = 0, n_refused = 0;
    rig.options.threads = 2;
    rig.options.queue_requests_max = 8;
    rig.options.kv_bytes = 12 * mb_kv_block_bytes(&rig.model->shape, MB_KV_F16);
    engine_rig_start(&rig);
    for (uint64_t round = 0; n_submitted < STORM_SUBMITTED; round++) {
        struct mbd_request **one = &q[mb_rng_u64(6, 0, round) % STORM];
        uint64_t what = mb_rng_u64(6, 1, round) % 8;
        if (!*one) {
            uint32_t tokens[PROMPT], n = 1 + (uint32_t) (mb_rng_u64(6, 2, round) % PROMPT);
            struct mbd_request_params p = rig_params(round, 1 + (uint32_t) (round % 60));
            rig_prompt(round, n, tokens);
            *one = rig_request(&rig, tokens, n, &p);
            enum mb_status st = mbd_engine_submit(rig.engine, *one, &err);
            ck_assert(st == MB_OK || st == MB_E_LIMIT);
            n_submitted += st == MB_OK;
            n_refused += st != MB_OK;
            if (st != MB_OK) {
                leave(one);
            }
        } else if (what == 0) {
            mbd_request_cancel(*one);
        } else if (what == 1) {
            leave(one);
        } else {
            while (*one && mbd_request_next(*one, &e)) {
                if (mbd_request_state_is_final(e.state)) {
                    mbd_request_unref(*one);
                    *one = NULL;
                }
            }
        }
        if (round % 16 == 0) {
            rig_sleep_ms(1);
        }
    }
    for (int i = 0; i < STORM; i++) {
        if (q[i]) {
            leave(&q[i]);
        }
    }
    rig_assert_idle(&rig);
    ck_assert_uint_eq(rig_counter(MBD_REQUESTS_LENGTH) + rig_counter(MBD_REQUESTS_CANCELLED),
                      n_submitted);
    ck_assert_uint_eq(rig_counter(MBD_REQUESTS_REFUSED), n_refused);
}
END_TEST

/* --- what others can see --- */

START_TEST(an_idle_engine_lives)
{
    struct mbd_engine_stats a, b;
    engine_rig_start(&rig);
    rig_sleep_ms(50);
    mbd_engine_stats(rig.engine, &a);
    rig_sleep_ms(1500);
    mbd_engine_stats(rig.engine, &b);
    ck_assert_uint_gt(b.heartbeat_ns, a.heartbeat_ns);
    ck_assert_uint_lt(mbd_now_ns() - b.heartbeat_ns, 3 * MBD_SECOND_NS);
    ck_assert_uint_eq(b.steps, 0);
}
END_TEST

START_TEST(metrics_add_up)
{
    struct mbd_request_params p = rig_params(2, 30);
    engine_rig_start(&rig);
    for (int i = 0; i < 3; i++) {
        rig_run(&rig, prompt, PROMPT, &p, &got);
    }
    p.stop[0] = got.text; /* its first character */
    p.n_stop_bytes[0] = 1;
    p.n_stops = 1;
    rig_run(&rig, prompt, PROMPT, &p, &other);
    rig_assert_idle(&rig);
    uint64_t n_tokens = 3 * 30 + other.n_tokens;
    ck_assert_uint_eq(rig_counter(MBD_REQUESTS_LENGTH), 3);
    ck_assert_uint_eq(rig_counter(MBD_REQUESTS_STOP), 1);
    ck_assert_uint_eq(rig_counter(MBD_PROMPT_TOKENS), 4 * PROMPT);
    ck_assert_uint_eq(rig_counter(MBD_GENERATION_TOKENS), n_tokens);
    ck_assert_uint_eq(rig_counter(MBD_ENGINE_STEPS), n_tokens); /* each prompt fits one step */
    ck_assert_uint_eq(rig_observed(MBD_TIME_TO_FIRST_TOKEN), 4);
    ck_assert_uint_eq(rig_observed(MBD_TIME_BETWEEN_TOKENS), n_tokens - 4);
    ck_assert_uint_eq(rig_observed(MBD_REQUEST_SECONDS), 4);
    ck_assert_uint_eq(rig_observed(MBD_QUEUE_SECONDS), 4);
    ck_assert_uint_eq(rig_observed(MBD_STEP_SECONDS), n_tokens);
    ck_assert_uint_eq(rig_observed(MBD_BATCH_TOKENS), n_tokens);
    ck_assert_uint_eq(rig_observed(MBD_BATCH_SEQUENCES), n_tokens);
    ck_assert_uint_eq(rig_gauge(MBD_REQUESTS_RUNNING), 0);
    ck_assert_uint_eq(rig_gauge(MBD_KV_USED_RATIO), 0);
    ck_assert_uint_ge(atomic_load(&rig.n_wakes), 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine_life");
    TCase *t = tcase_create("life");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, cancelling_gives_everything_back_within_one_step, 0, 4);
    tcase_add_test(t, cancelling_before_or_after_its_life_is_harmless);
    tcase_add_test(t, a_request_that_everybody_dropped_is_cancelled);
    tcase_add_loop_test(t, a_reader_that_does_not_read_stalls_itself_alone, 0, 2);
    tcase_add_loop_test(t, the_queue_is_bounded_in_requests_and_in_tokens, 0, 2);
    tcase_add_test(t, a_prompt_beyond_the_token_bound_runs_when_nobody_waits);
    tcase_add_test(t, draining_refuses_the_new_and_finishes_the_old);
    tcase_add_loop_test(t, freeing_the_engine_ends_everybody, 0, 12);
    tcase_add_loop_test(t, a_refused_batch_fails_only_whom_it_must, 0, 2);
    tcase_add_test(t, a_storm_leaves_nothing_behind);
    tcase_add_test(t, an_idle_engine_lives);
    tcase_add_test(t, metrics_add_up);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
