/* Goal:   refused memory is an error that leaves nothing behind; and once started, the token
 *         path asks for none.
 * Method: every allocation of ours goes through here (--wrap): the N-th is refused, for all N;
 *         and those of the engine's thread are counted. Run it under a leak checker. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/tokenizer/spec.h"
#include "tests/check_main.h"
#include "tests/server/engine/engine_rig.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);

static atomic_long countdown = -1; /* the allocation that is refused, or below zero */
static atomic_bool counting;       /* of one thread */
static pthread_t counted;
static atomic_long n_counted;

static bool refuse(void)
{
    if (atomic_load(&counting) && pthread_equal(counted, pthread_self())) {
        atomic_fetch_add(&n_counted, 1);
    }
    return atomic_load(&countdown) >= 0 && atomic_fetch_sub(&countdown, 1) == 0;
}

void *__wrap_malloc(size_t n)
{
    return refuse() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return refuse() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    return refuse() ? NULL : __real_realloc(p, n);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
    return refuse() ? NULL : __real_aligned_alloc(align, n);
}

enum { PROMPT = 30 };

static struct engine_rig rig;
static uint32_t prompt[PROMPT];

static void setup(void)
{
    atomic_store(&countdown, -1);
    engine_rig_init(&rig, MB_NO_ID);
    rig_prompt(1, PROMPT, prompt);
}

static void teardown(void)
{
    engine_rig_fini(&rig);
}

START_TEST(an_engine_is_made_whole_or_not_at_all)
{
    struct mb_error err = { 0 };
    rig.options.threads = 2;
    long n = 0;
    for (;; n++) {
        struct mbd_engine *e = NULL;
        atomic_store(&countdown, n);
        enum mb_status st = mbd_engine_new(rig.model, rig.tokenizer, &rig.options, &e, &err);
        bool refused = atomic_exchange(&countdown, -1) < 0;
        if (!refused) { /* it needs no more than n */
            mb_assert_ok(st, &err);
            mbd_engine_free(e);
            break;
        }
        ck_assert_msg(st == MB_E_NOMEM, "allocation %ld: %s: %s", n, mb_status_name(st),
                      err.what);
        ck_assert_ptr_null(e);
    }
    ck_assert_int_gt(n, 40);
    ck_assert_uint_eq(atomic_load(&rig.model->n_refs), 2); /* the rig, and its epoch */
}
END_TEST

START_TEST(a_request_is_made_whole_or_not_at_all)
{
    struct mb_error err = { 0 };
    struct mbd_request_params p = rig_params(1, 5);
    p.stop[0] = "one";
    p.stop[1] = "two";
    p.n_stop_bytes[0] = p.n_stop_bytes[1] = 3;
    p.n_stops = 2;
    long n = 0;
    for (;; n++) {
        struct mbd_request *q = NULL;
        atomic_store(&countdown, n);
        enum mb_status st = mbd_request_new(rig.tokenizer, prompt, PROMPT, &p, &q, &err);
        bool refused = atomic_exchange(&countdown, -1) < 0;
        if (!refused) {
            mb_assert_ok(st, &err);
            mbd_request_unref(q);
            break;
        }
        ck_assert_msg(st == MB_E_NOMEM, "allocation %ld: %s", n, mb_status_name(st));
        ck_assert_ptr_null(q);
    }
    ck_assert_int_gt(n, 4);
}
END_TEST

/* Counts what the engine's thread allocates from its first step on. */
static enum mb_status count_from_first_step(void *arg, const struct mb_batch *b)
{
    if (!atomic_load(&counting)) {
        counted = pthread_self();
        atomic_store(&counting, true);
    }
    return MB_OK;
}

START_TEST(the_token_path_allocates_nothing)
{
    static struct result got[4];
    struct mbd_request *q[4];
    rig_set_hook(count_from_first_step, NULL);
    rig.options.step_tokens_max = 16;
    rig.options.sequences_max = 2;
    engine_rig_start(&rig);
    for (uint64_t i = 0; i < 4; i++) {
        struct mbd_request_params p = rig_params(i, 200);
        p.want_logprob = true;
        p.want_top = 5;
        p.stop[0] = "never to be seen";
        p.n_stop_bytes[0] = strlen(p.stop[0]);
        p.n_stops = 1;
        p.sampling.top_k = 20;
        p.sampling.frequency_penalty = 0.5f;
        q[i] = rig_request(&rig, prompt, PROMPT, &p);
        rig_submit(&rig, q[i]);
    }
    for (int i = 0; i < 4; i++) {
        rig_finish(q[i], &got[i]);
        ck_assert_uint_eq(got[i].n_tokens, 200);
        mbd_request_unref(q[i]);
    }
    ck_assert(atomic_load(&counting));
    ck_assert_int_eq(atomic_load(&n_counted), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine_memory");
    TCase *t = tcase_create("memory");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, an_engine_is_made_whole_or_not_at_all);
    tcase_add_test(t, a_request_is_made_whole_or_not_at_all);
    tcase_add_test(t, the_token_path_allocates_nothing);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
