/* Goal:   a queue keeps its order through pushes and pops, and its bound.
 * Method: random operations beside a plain list. */
#include "server/scheduler/queue.h"

#include <string.h>

#include "core/base/rng.h"
#include "tests/check_main.h"

enum { CAP = 7 };

struct list {
    uint32_t at[CAP], n;
};

START_TEST(random_operations_agree_with_a_list)
{
    struct mb_error err = { 0 };
    struct mbd_queue q;
    struct list l = { .n = 0 };
    mb_assert_ok(mbd_queue_init(&q, CAP, &err), &err);
    for (uint32_t round = 1; round < 5000; round++) {
        uint64_t what = mb_rng_u64((uint64_t) _i, 0, round) % 9;
        if (what < 5) {
            bool fits = l.n < CAP;
            struct mbd_waiting w = { .n_prompt = round };
            ck_assert_int_eq(mbd_queue_push(&q, &w), fits);
            if (fits) {
                l.at[l.n++] = round;
            }
        } else if (l.n > 0) {
            ck_assert_uint_eq(mbd_queue_pop(&q).n_prompt, l.at[0]);
            memmove(l.at, l.at + 1, --l.n * sizeof l.at[0]);
        }
        ck_assert_uint_eq(q.n, l.n);
    }
    mbd_queue_fini(&q);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("queue");
    TCase *t = tcase_create("queue");
    tcase_add_loop_test(t, random_operations_agree_with_a_list, 0, 5);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
