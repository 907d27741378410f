/* Goal:   a fair queue does what its page says: lowest account first, level starts, order within a flow,
 *         removals that forget nobody.
 * Method: random operations beside a plain list of entries and accounts, searched whole each time; and
 *         small cases whose answer is written down. */
#include "server/scheduler/fair_queue.h"

#include <string.h>

#include "core/base/rng.h"
#include "tests/check_main.h"

enum { CAP = 12, TENANTS = 3 };

struct model {
    struct mbd_waiting at[CAP]; /* in the order of coming */
    uint32_t n;
    uint64_t spent[2 * TENANTS], served;
};

static uint32_t flow(const struct mbd_waiting *w)
{
    return 2 * w->tenant + w->low;
}

static uint32_t count(const struct model *m, uint32_t f)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        n += flow(&m->at[i]) == f;
    }
    return n;
}

static uint32_t next(const struct model *m)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < m->n; i++) {
        best = m->spent[flow(&m->at[i])] < m->spent[flow(&m->at[best])] ? i : best;
    }
    return best;
}

static void take_out(struct model *m, uint32_t i)
{
    memmove(m->at + i, m->at + i + 1, (--m->n - i) * sizeof m->at[0]);
}

static void push_both(struct mbd_fair_queue *q, struct model *m, uint64_t seed, uint32_t round)
{
    struct mbd_waiting w = {
        .n_prompt = 1 + (uint32_t) (mb_rng_u64(seed, 1, round) % 50),
        .n_blocks = round,
        .tenant = (uint32_t) (mb_rng_u64(seed, 2, round) % TENANTS),
        .low = mb_rng_u64(seed, 3, round) % 3 == 0,
    };
    ck_assert_int_eq(mbd_fair_queue_push(q, &w), m->n < CAP);
    if (m->n < CAP) {
        uint64_t *spent = &m->spent[flow(&w)];
        *spent = count(m, flow(&w)) == 0 && *spent < m->served ? m->served : *spent;
        m->at[m->n++] = w;
    }
}

static void pop_both(struct mbd_fair_queue *q, struct model *m)
{
    uint32_t i = next(m);
    uint32_t f = flow(&m->at[i]);
    ck_assert_uint_eq(mbd_fair_queue_next(q)->n_blocks, m->at[i].n_blocks);
    struct mbd_waiting w = mbd_fair_queue_pop(q);
    ck_assert_uint_eq(w.n_blocks, m->at[i].n_blocks);
    m->served = m->spent[f] > m->served ? m->spent[f] : m->served;
    m->spent[f] += w.n_prompt * (w.low ? MBD_FAIR_LOW : 1);
    take_out(m, i);
}

static bool drop_multiples(void *arg, const struct mbd_waiting *w)
{
    return w->n_blocks % *(const uint32_t *) arg == 0;
}

START_TEST(random_operations_agree_with_a_list)
{
    struct mb_error err = { 0 };
    struct mbd_fair_queue q;
    struct model m = { .n = 0 };
    uint64_t seed = (uint64_t) _i;
    mb_assert_ok(mbd_fair_queue_init(&q, CAP, &err), &err);
    for (uint32_t round = 1; round < 5000; round++) {
        uint64_t what = mb_rng_u64(seed, 0, round) % 12;
        if (what < 6) {
            push_both(&q, &m, seed, round);
        } else if (what < 10 && m.n > 0) {
            pop_both(&q, &m);
        } else if (what == 10) {
            uint32_t f = round % (2 * TENANTS);
            mbd_fair_queue_drawn(&q, f / 2, f % 2, round % 7);
            m.spent[f] += round % 7 * MBD_FAIR_DRAWN * (f % 2 ? MBD_FAIR_LOW : 1);
        } else {
            uint32_t divisor = 2 + round % 3;
            mbd_fair_queue_filter(&q, drop_multiples, &divisor);
            for (uint32_t i = m.n; i-- > 0;) {
                if (m.at[i].n_blocks % divisor == 0) {
                    take_out(&m, i);
                }
            }
        }
        ck_assert_uint_eq(q.n, m.n);
        ck_assert((mbd_fair_queue_next(&q) != NULL) == (m.n > 0));
    }
    mbd_fair_queue_fini(&q);
}
END_TEST

static struct mbd_fair_queue queue;

static void put(uint32_t tenant, bool low, uint32_t n_prompt, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct mbd_waiting w = { .n_prompt = n_prompt, .tenant = tenant, .low = low };
        ck_assert(mbd_fair_queue_push(&queue, &w));
    }
}

/* The tenants that are popped next, as digits; of low priority in brackets. */
static void assert_order(const char *want)
{
    char got[128] = "";
    for (size_t n = 0; queue.n > 0 && n + 4 < sizeof got;) {
        struct mbd_waiting w = mbd_fair_queue_pop(&queue);
        n += (size_t) sprintf(got + n, w.low ? "(%u)" : "%u", w.tenant);
    }
    ck_assert_str_eq(got, want);
}

static void init(void)
{
    struct mb_error err = { 0 };
    mb_assert_ok(mbd_fair_queue_init(&queue, 32, &err), &err);
}

static void fini(void)
{
    mbd_fair_queue_fini(&queue);
}

START_TEST(tenants_take_turns)
{
    put(1, false, 10, 5); /* who came first and with more has no advantage */
    put(2, false, 10, 2);
    put(3, false, 10, 2);
    assert_order("123123111");
}
END_TEST

START_TEST(turns_are_by_work)
{
    put(1, false, 30, 3);
    put(2, false, 10, 7);
    assert_order("1222122212");
}
END_TEST

START_TEST(what_is_drawn_counts)
{
    put(1, false, 10, 1);
    put(2, false, 10, 1);
    assert_order("12");
    mbd_fair_queue_drawn(&queue, 1, false, 100);
    put(1, false, 10, 2);
    put(2, false, 10, 3);
    assert_order("22211");
    mbd_fair_queue_spared(&queue, 1, false, 20);
}
END_TEST

START_TEST(nobody_saves_up)
{
    put(1, false, 10, 9);
    for (int i = 0; i < 6; i++) {
        (void) mbd_fair_queue_pop(&queue);
    }
    put(2, false, 10, 3); /* level with 1, not 60 tokens ahead of it */
    assert_order("212121");
}
END_TEST

START_TEST(low_waits_and_does_not_starve)
{
    put(1, true, 10, 2);
    put(1, false, 10, 10);
    put(2, false, 10, 10);
    assert_order("(1)1212121212121212(1)1212");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fair_queue");
    TCase *t = tcase_create("model");
    tcase_add_loop_test(t, random_operations_agree_with_a_list, 0, 5);
    suite_add_tcase(s, t);
    t = tcase_create("cases");
    tcase_add_checked_fixture(t, init, fini);
    tcase_add_test(t, tenants_take_turns);
    tcase_add_test(t, turns_are_by_work);
    tcase_add_test(t, what_is_drawn_counts);
    tcase_add_test(t, nobody_saves_up);
    tcase_add_test(t, low_waits_and_does_not_starve);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
