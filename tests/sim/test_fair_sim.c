/* Goal:   the queue's shares are those that its page promises, over time: the same for everybody who
 *         always waits, an eighth of it for low ones, little waiting for who comes seldom, and a bound
 *         to what anybody is overtaken by.
 * Method: a simulator of slots: a request holds one for its prompt and its tokens. Greedy tenants keep
 *         many requests of very different sizes waiting; a modest one has one small request at a time.
 *         Work is counted here, not asked of the queue. Everything follows from the seed. */
#include <string.h>

#include "core/base/rng.h"
#include "server/scheduler/fair_queue.h"
#include "tests/check_main.h"

/* Flows 0..3 are greedy, 4 and 5 greedy and low, 6 is modest. */
enum { FLOWS = 7, LOW = 4, MODEST = 6, SLOTS = 4, BACKLOG = 20, TICKS = 400000 };
enum { PROMPT_MAX = 2000, TOKENS_MAX = 400 };

struct request {
    int flow;
    uint32_t n_prompt, n_tokens, left; /* ticks: 32 tokens of prompt, or one of completion */
    uint64_t came, others;             /* work of others when it came */
};

struct sim {
    uint64_t seed, now, n_made, work[FLOWS], waited_max, n_modest, overtaken_max;
    struct request slots[SLOTS]; /* left 0: free */
    struct request pool[FLOWS * BACKLOG];
    bool used[FLOWS * BACKLOG];
    uint32_t waiting[FLOWS];
    struct mbd_fair_queue queue;
};

static uint64_t all_work(const struct sim *s)
{
    uint64_t sum = 0;
    for (int f = 0; f < FLOWS; f++) {
        sum += s->work[f];
    }
    return sum;
}

static void make(struct sim *s, int flow)
{
    size_t i = 0;
    while (s->used[i]) {
        i++;
    }
    uint64_t n = s->n_made++;
    /* Tenant 0 has the largest requests, tenant 3 the smallest. */
    uint32_t size = flow == MODEST ? 20 : PROMPT_MAX >> 2 * (flow % 4);
    uint32_t tokens = flow == MODEST ? 10 : TOKENS_MAX >> flow % 4;
    s->used[i] = true;
    s->pool[i] = (struct request) {
        .flow = flow,
        .n_prompt = 1 + (uint32_t) (mb_rng_u64(s->seed, 1, n) % size),
        .n_tokens = 1 + (uint32_t) (mb_rng_u64(s->seed, 2, n) % tokens),
        .came = s->now,
        .others = all_work(s) - s->work[flow],
    };
    struct mbd_waiting w = { .request = (struct mbd_request *) (void *) &s->pool[i],
                             .n_prompt = s->pool[i].n_prompt,
                             .tenant = (uint32_t) (flow % 4) + 4u * (flow == MODEST),
                             .low = flow == LOW || flow == LOW + 1 };
    ck_assert(mbd_fair_queue_push(&s->queue, &w));
    s->waiting[flow]++;
}

static void start(struct sim *s, struct request *slot)
{
    struct mbd_waiting w = mbd_fair_queue_pop(&s->queue);
    struct request *r = (struct request *) (void *) w.request;
    uint64_t overtaken = all_work(s) - s->work[r->flow] - r->others;
    s->used[r - s->pool] = false;
    s->waiting[r->flow]--;
    if (r->flow == MODEST) {
        s->n_modest++;
        s->waited_max = s->now - r->came > s->waited_max ? s->now - r->came : s->waited_max;
        s->overtaken_max = overtaken > s->overtaken_max ? overtaken : s->overtaken_max;
    }
    *slot = *r;
    slot->left = r->n_prompt / 32 + r->n_tokens;
    s->work[r->flow] += r->n_prompt;
}

static void tick(struct sim *s)
{
    for (int f = 0; f < MODEST; f++) {
        while (s->waiting[f] < 1 + (uint32_t) f * 2) {
            make(s, f);
        }
    }
    for (int i = 0; i < SLOTS; i++) {
        struct request *r = &s->slots[i];
        if (r->left == 0 && s->queue.n > 0) {
            start(s, r);
        } else if (r->left > 0) {
            bool low = r->flow == LOW || r->flow == LOW + 1;
            uint32_t tenant = (uint32_t) (r->flow % 4) + 4u * (r->flow == MODEST);
            if (r->left-- <= r->n_tokens) {
                mbd_fair_queue_drawn(&s->queue, tenant, low, 1);
                s->work[r->flow] += MBD_FAIR_DRAWN;
            }
        }
    }
    if (s->now % 2000 == 1999) {
        make(s, MODEST);
    }
    s->now++;
}

START_TEST(shares_are_kept)
{
    static struct sim s;
    struct mb_error err = { 0 };
    memset(&s, 0, sizeof s);
    s.seed = (uint64_t) _i;
    mb_assert_ok(mbd_fair_queue_init(&s.queue, FLOWS * BACKLOG, &err), &err);
    while (s.now < TICKS) {
        tick(&s);
    }
    double normal = 0;
    for (int f = 0; f < LOW; f++) {
        normal += (double) s.work[f] / LOW;
    }
    for (int f = 0; f < LOW; f++) {
        ck_assert_msg((double) s.work[f] > 0.97 * normal && (double) s.work[f] < 1.03 * normal,
                      "flow %d: %g of %g", f, (double) s.work[f], normal);
    }
    for (int f = LOW; f < MODEST; f++) {
        double share = (double) s.work[f] * MBD_FAIR_LOW / normal;
        ck_assert_msg(share > 0.9 && share < 1.1, "low flow %d: %g of its share", f, share);
    }
    /* It waits for a slot, not for the queue: those that run, and one more of each flow. */
    uint64_t most = (SLOTS + FLOWS) * (uint64_t) (PROMPT_MAX + MBD_FAIR_DRAWN * TOKENS_MAX);
    ck_assert_uint_gt(s.n_modest, TICKS / 2000 - 5);
    ck_assert_uint_le(s.overtaken_max, most);
    printf("modest: at most %llu ticks, others got %llu tokens meanwhile\n",
           (unsigned long long) s.waited_max, (unsigned long long) s.overtaken_max);
    mbd_fair_queue_fini(&s.queue);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fair_sim");
    TCase *t = tcase_create("shares");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, shares_are_kept, 0, 10);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
