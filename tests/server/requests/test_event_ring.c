/* Goal:   what is put is taken, once, whole, in order; what does not fit is refused and leaves
 *         no trace; two threads see the same.
 * Method: random puts and takes beside a list that can not be wrong; then a writer and a reader
 *         who know what must come (run it under a thread sanitizer). */
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "core/base/rng.h"
#include "server/requests/event_ring.h"
#include "tests/check_main.h"

enum { RING_BYTES = 256, HEAD = MBD_RECORD_HEAD_BYTES, LIST_MAX = 8000 };

struct record {
    size_t n;
    uint8_t at[RING_BYTES];
};

/* Record i of a stream: its length and bytes follow from i alone. */
static void make(uint64_t seed, uint64_t i, struct record *ret)
{
    /* Mostly short; now and then one that needs the whole ring, or does not even fit that. */
    size_t longest = mb_rng_u64(seed, 0, i) % 8 == 0 ? RING_BYTES : 30;
    ret->n = 1 + mb_rng_u64(seed, 1, i) % longest;
    for (size_t j = 0; j < ret->n; j++) {
        ret->at[j] = (uint8_t) mb_rng_u64(seed, 2 + i, j);
    }
}

static bool put(struct mbd_event_ring *r, const struct record *x, size_t cut)
{
    return mbd_event_ring_put(r, x->at, cut, x->at + cut, x->n - cut);
}

START_TEST(random_puts_and_takes_agree_with_a_list)
{
    static struct record list[LIST_MAX];
    uint64_t seed = (uint64_t) _i;
    uint8_t bytes[RING_BYTES], got[RING_BYTES];
    struct mbd_event_ring r;
    mbd_event_ring_init(&r, bytes, sizeof bytes);
    size_t n_put = 0, n_taken = 0, used = 0, n_refused = 0, n;
    for (uint64_t round = 0; round < LIST_MAX; round++) {
        if (mb_rng_u64(seed, UINT64_MAX, round) % 2 == 0) {
            struct record *x = &list[n_put];
            make(seed, round, x);
            bool fits = used + HEAD + x->n <= RING_BYTES;
            ck_assert_uint_eq(mbd_event_ring_room(&r),
                              RING_BYTES - used > HEAD ? RING_BYTES - used - HEAD : 0);
            ck_assert_int_eq(put(&r, x, round % (x->n + 1)), fits);
            n_refused += !fits;
            n_put += fits;
            used += fits ? HEAD + x->n : 0;
        } else if (!mbd_event_ring_take(&r, got, sizeof got, &n)) {
            ck_assert_uint_eq(n_taken, n_put);
        } else {
            const struct record *x = &list[n_taken++];
            ck_assert_uint_le(n_taken, n_put);
            ck_assert_uint_eq(n, x->n);
            ck_assert_mem_eq(got, x->at, n);
            used -= HEAD + n;
        }
    }
    ck_assert_uint_gt(n_taken, LIST_MAX / 4);
    ck_assert_uint_gt(n_refused, 50);
}
END_TEST

START_TEST(a_full_ring_refuses_and_empties_whole)
{
    uint8_t bytes[16], got[16];
    size_t n;
    struct mbd_event_ring r;
    mbd_event_ring_init(&r, bytes, sizeof bytes);
    ck_assert(!mbd_event_ring_take(&r, got, sizeof got, &n));
    ck_assert(!mbd_event_ring_put(&r, "", 0, "", 0)); /* an empty record is none */
    ck_assert(!mbd_event_ring_put(&r, "0123456789abc", 13, NULL, 0));
    ck_assert(mbd_event_ring_put(&r, "0123456789ab", 12, NULL, 0));
    ck_assert_uint_eq(mbd_event_ring_room(&r), 0);
    ck_assert(!mbd_event_ring_put(&r, "x", 1, NULL, 0));
    ck_assert(!mbd_event_ring_put(&r, "x", SIZE_MAX, "y", SIZE_MAX));
    ck_assert(mbd_event_ring_take(&r, got, sizeof got, &n) && n == 12);
    ck_assert_mem_eq(got, "0123456789ab", 12);
    ck_assert_uint_eq(mbd_event_ring_room(&r), 12);
}
END_TEST

enum { RACE_RECORDS = 20000 };

static void *write_all(void *arg)
{
    struct record x;
    for (uint64_t i = 0; i < RACE_RECORDS; i++) {
        make(99, i, &x);
        x.n = x.n < RING_BYTES - HEAD ? x.n : RING_BYTES - HEAD; /* each fits an empty ring */
        while (!put(arg, &x, x.n / 2)) {
            (void) sched_yield();
        }
    }
    return NULL;
}

START_TEST(a_writer_and_a_reader_never_meet)
{
    static uint8_t bytes[RING_BYTES], got[RING_BYTES];
    struct mbd_event_ring r;
    mbd_event_ring_init(&r, bytes, sizeof bytes);
    pthread_t writer;
    ck_assert_int_eq(pthread_create(&writer, NULL, write_all, &r), 0);
    for (uint64_t i = 0; i < RACE_RECORDS; i++) {
        struct record want;
        size_t n;
        make(99, i, &want);
        want.n = want.n < RING_BYTES - HEAD ? want.n : RING_BYTES - HEAD;
        while (!mbd_event_ring_take(&r, got, sizeof got, &n)) {
            (void) sched_yield();
        }
        ck_assert_uint_eq(n, want.n);
        ck_assert_msg(memcmp(got, want.at, n) == 0, "record %llu", (unsigned long long) i);
    }
    pthread_join(writer, NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("event_ring");
    TCase *t = tcase_create("ring");
    tcase_add_loop_test(t, random_puts_and_takes_agree_with_a_list, 0, 5);
    tcase_add_test(t, a_full_ring_refuses_and_empties_whole);
    tcase_add_test(t, a_writer_and_a_reader_never_meet);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
