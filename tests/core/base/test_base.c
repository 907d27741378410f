/* Goal:   the ground holds: sizes, halves, files, random numbers, the pool.
 * Method: laws over whole domains (all float16 values), files really written and found or not
 *         found, and a pool whose parts are counted. */
#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/file.h"
#include "core/base/half.h"
#include "core/base/parallel.h"
#include "core/base/rng.h"
#include "tests/check_main.h"

START_TEST(sizes_report_overflow)
{
    size_t n = 7;
    ck_assert(!mb_checked_mul(SIZE_MAX / 2 + 1, 2, &n));
    ck_assert(!mb_checked_add(SIZE_MAX, 1, &n));
    ck_assert(!mb_checked_align(SIZE_MAX - 3, 64, &n));
    ck_assert_uint_eq(n, 7);
    ck_assert(mb_checked_align(65, 64, &n) && n == 128);
    ck_assert(mb_extent_fits(10, 0, 10));
    ck_assert(!mb_extent_fits(10, 1, 10));
    ck_assert(!mb_extent_fits(UINT64_MAX, 2, 100));
    ck_assert(!mb_extent_fits(1, UINT64_MAX, 100));
}
END_TEST

/* The value of a float16 by its definition, in float64. */
static double half_value(uint16_t h)
{
    int e = h >> 10 & 0x1f;
    double m = h & 0x3ff;
    double x = e == 0    ? ldexp(m, -24)
               : e == 31 ? (m != 0 ? NAN : INFINITY)
                         : ldexp(1024 + m, e - 25);
    return h & 0x8000 ? -x : x;
}

START_TEST(every_half_is_exact_and_comes_back)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        double want = half_value((uint16_t) h);
        float got = mb_f16_to_f32((uint16_t) h);
        if (isnan(want)) {
            ck_assert(isnan(got));
            continue;
        }
        ck_assert_msg((double) got == want, "half %04x", h);
        ck_assert_uint_eq(mb_f32_to_f16(got), h);
    }
}
END_TEST

START_TEST(half_rounds_to_nearest_even)
{
    for (uint32_t h = 0; h < 0x7bff; h++) { /* between each value and the next */
        double lo = half_value((uint16_t) h), hi = half_value((uint16_t) (h + 1));
        float mid = (float) ((lo + hi) / 2); /* exact: one more bit */
        ck_assert_uint_eq(mb_f32_to_f16(mid), h + (h & 1));
        ck_assert_uint_eq(mb_f32_to_f16(nextafterf(mid, 0)), h);
        ck_assert_uint_eq(mb_f32_to_f16(nextafterf(mid, INFINITY)), h + 1);
    }
    ck_assert_uint_eq(mb_f32_to_f16(65519.996f), 0x7bff);
    ck_assert_uint_eq(mb_f32_to_f16(65520.0f), 0x7c00);
    ck_assert_uint_eq(mb_f32_to_f16(-1e30f), 0xfc00);
}
END_TEST

START_TEST(a_cursor_never_reads_past_the_end)
{
    struct mb_bytes b = { 0 };
    mb_bytes_put_u32(&b, 0xdeadbeef);
    mb_bytes_put_f64(&b, 0.25);
    mb_bytes_printf(&b, "%s", "word");
    ck_assert(!b.failed);
    struct mb_cursor c = mb_cursor_of(b.at, b.len);
    ck_assert_uint_eq(mb_cursor_u32(&c), 0xdeadbeef);
    ck_assert(mb_cursor_f64(&c) == 0.25);
    ck_assert_ptr_null(mb_cursor_take(&c, 5));
    ck_assert(c.failed);
    ck_assert_uint_eq(mb_cursor_u8(&c), 0); /* sticky, though a byte is left */
    ck_assert_str_eq(mb_bytes_text(&b) + 12, "word");
    mb_bytes_fini(&b);
}
END_TEST

START_TEST(a_file_appears_whole_or_not_at_all)
{
    char dir[] = "/tmp/mbool-test-XXXXXX", path[64], other[96];
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void) snprintf(path, sizeof path, "%s/f", dir);
    struct mb_error err = { 0 };
    struct mb_file_writer *w;
    struct mb_file_map m;

    mb_assert_ok(mb_file_writer_open(path, &w, &err), &err);
    mb_assert_ok(mb_file_writer_put(w, "xyz", 3, &err), &err);
    ck_assert_int_eq(mb_file_map(path, &m, &err), MB_E_NOTFOUND);
    mb_file_writer_abort(w);
    (void) snprintf(other, sizeof other, "%s.tmp-%ld", path, (long) getpid());
    ck_assert_int_ne(access(other, F_OK), 0);

    mb_assert_ok(mb_file_writer_open(path, &w, &err), &err);
    mb_assert_ok(mb_file_writer_put(w, "xyz", 3, &err), &err);
    mb_assert_ok(mb_file_writer_pad(w, 64, &err), &err);
    mb_assert_ok(mb_file_writer_patch(w, 1, "Y", 1, &err), &err);
    mb_assert_ok(mb_file_writer_commit(w, &err), &err);
    mb_assert_ok(mb_file_map(path, &m, &err), &err);
    ck_assert_uint_eq(m.n, 64);
    ck_assert_mem_eq(m.at, "xYz\0", 4);
    mb_file_unmap(&m);
    ck_assert_int_eq(mb_file_map(dir, &m, &err), MB_E_INVALID);
    (void) unlink(path);

    ck_assert_int_eq(mkfifo(path, 0600), 0); /* stands for a device, such as /dev/null */
    ck_assert_int_eq(mb_file_writer_open(path, &w, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.what, path));
    (void) unlink(path);
    (void) rmdir(dir);
}
END_TEST

/* Puts of all lengths, some longer than what a writer holds back, against the same bytes in memory;
 * in the middle a flush and a patch. */
START_TEST(a_file_is_what_was_put_into_it)
{
    enum { BYTES = 9 << 20, PUTS = 40 };
    static const size_t lengths[] = { 1, 4096, 100000, (2 << 20) - 1, 2 << 20, 3 << 20, 0 };
    char path[] = "/tmp/mbool-test-XXXXXX";
    ck_assert_int_ge(close(mkstemp(path)), 0);
    uint8_t *all = malloc(BYTES);
    for (size_t i = 0; i < BYTES; i++) {
        all[i] = (uint8_t) mb_rng_u64(1, 2, i);
    }
    struct mb_error err = { 0 };
    struct mb_file_writer *w;
    struct mb_file_map m;
    const char *aside = NULL;
    size_t at = 0;
    mb_assert_ok(mb_file_writer_open(path, &w, &err), &err);
    for (size_t i = 0; i < PUTS; i++) {
        size_t n = lengths[i * 5 % 7];
        n = n < BYTES - at ? n : BYTES - at;
        mb_assert_ok(mb_file_writer_put(w, all + at, n, &err), &err);
        at += n;
        ck_assert_uint_eq(mb_file_writer_offset(w), at);
        if (i == 3) {
            all[at - 1] ^= 1;
            mb_assert_ok(mb_file_writer_patch(w, at - 1, all + at - 1, 1, &err), &err);
            mb_assert_ok(mb_file_writer_flush(w, &aside, &err), &err);
            mb_assert_ok(mb_file_map(aside, &m, &err), &err);
            ck_assert_uint_eq(m.n, at);
            ck_assert_int_eq(memcmp(m.at, all, at), 0);
            mb_file_unmap(&m);
        }
    }
    ck_assert_uint_eq(at, BYTES);
    mb_assert_ok(mb_file_writer_commit(w, &err), &err);
    mb_assert_ok(mb_file_map(path, &m, &err), &err);
    ck_assert_uint_eq(m.n, BYTES);
    ck_assert_int_eq(memcmp(m.at, all, BYTES), 0);
    mb_file_unmap(&m);
    (void) unlink(path);
    free(all);
}
END_TEST

/* A writer that was killed leaves what it wrote; one that lives, in another process, does not
 * lose it; and files of other names are nobody's business. */
START_TEST(what_a_killed_writer_left_is_removed)
{
    char dir[] = "/tmp/mbool-test-XXXXXX", path[64], name[3][96];
    static const char *const names[] = { "f.tmp-4194999", "f.tmp-12x", "ff.tmp-12" };
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void) snprintf(path, sizeof path, "%s/f", dir);
    for (int i = 0; i < 3; i++) {
        (void) snprintf(name[i], sizeof name[i], "%s/%s", dir, names[i]);
        FILE *f = fopen(name[i], "w");
        ck_assert_ptr_nonnull(f);
        (void) fclose(f);
    }
    struct mb_error err = { 0 };
    struct mb_file_writer *w, *other;
    int ready[2];
    char byte = 0, alive[96];
    ck_assert_int_eq(pipe(ready), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) { /* writes, says so, and is killed */
        bool ok = mb_file_writer_open(path, &other, &err) == MB_OK &&
                  mb_file_writer_put(other, "half", 4, &err) == MB_OK;
        (void) !write(ready[1], ok ? "y" : "n", 1);
        for (;;) {
            (void) pause();
        }
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert_int_eq(byte, 'y');
    ck_assert_int_ne(access(name[0], F_OK), 0); /* the child removed it */
    (void) snprintf(alive, sizeof alive, "%s.tmp-%ld", path, (long) child);

    mb_assert_ok(mb_file_writer_open(path, &w, &err), &err);
    mb_file_writer_abort(w);
    ck_assert_int_eq(access(alive, F_OK), 0);
    ck_assert_int_eq(kill(child, SIGKILL), 0);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_eq(access(alive, F_OK), 0);

    mb_assert_ok(mb_file_writer_open(path, &w, &err), &err);
    mb_file_writer_abort(w);
    ck_assert_int_ne(access(alive, F_OK), 0);
    ck_assert_int_eq(unlink(name[1]), 0);
    ck_assert_int_eq(unlink(name[2]), 0);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(random_numbers_replay_and_differ)
{
    ck_assert_uint_eq(mb_rng_u64(1, 2, 3), mb_rng_u64(1, 2, 3));
    ck_assert_uint_ne(mb_rng_u64(1, 2, 3), mb_rng_u64(1, 3, 2));
    double sum = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        double u = mb_rng_unit(7, 0, i);
        ck_assert(u >= 0 && u < 1);
        sum += u;
    }
    ck_assert(fabs(sum / 100000 - 0.5) < 0.005);
}
END_TEST

struct count {
    atomic_int parts[64];
    atomic_int busy[MB_THREADS_MAX]; /* is a part running as this worker? */
    atomic_int asked[MB_THREADS_MAX];
};

static void count_part(void *job, size_t part, size_t worker)
{
    struct count *c = job;
    ck_assert_int_eq(atomic_fetch_add(&c->busy[worker], 1), 0);
    atomic_fetch_add(&c->parts[part], 1);
    atomic_fetch_sub(&c->busy[worker], 1);
}

/* The job is still there when a thread is asked what it will read; after it, no address need be. */
static void count_ahead(const void *job, size_t worker, struct mb_ahead *ret)
{
    struct count *c = (struct count *) (uintptr_t) job;
    atomic_fetch_add(&c->asked[worker], 1);
    for (size_t i = 0; i < MB_AHEAD_RANGES; i++) {
        ck_assert_uint_eq(ret->range[i].n_bytes, 0);
        ret->range[i].at = (const void *) (uintptr_t) (i << 40); /* nothing is mapped there */
        ret->range[i].n_bytes = i * 1000;
    }
}

START_TEST(a_pool_asks_each_thread_once_what_it_will_read)
{
    struct mb_error err = { 0 };
    struct mb_pool *p;
    mb_assert_ok(mb_pool_new((size_t) _i, 0, &p, &err), &err);
    for (int round = 0; round < 500; round++) {
        struct count c = { 0 };
        size_t n_parts = (size_t) round % 65;
        mb_pool_run_ahead(p, n_parts, count_part, count_ahead, &c);
        int asked = 0, done = 0;
        for (int i = 0; i < _i; i++) {
            ck_assert_int_le(atomic_load(&c.asked[i]), 1);
            asked += atomic_load(&c.asked[i]);
        }
        for (size_t i = 0; i < n_parts; i++) {
            done += atomic_load(&c.parts[i]);
        }
        ck_assert_uint_eq((size_t) done, n_parts);
        ck_assert_int_eq(asked > 0, _i > 1 && n_parts > 1); /* one thread waits for nobody */
        ck_assert_uint_eq(mb_pool_first_part(p, n_parts, (size_t) _i), n_parts);
    }
    mb_pool_free(p);
}
END_TEST

START_TEST(a_pool_runs_every_part_once)
{
    struct mb_error err = { 0 };
    struct mb_pool *p;
    ck_assert_int_eq(mb_pool_new(0, 0, &p, &err), MB_E_INVALID);
    mb_assert_ok(mb_pool_new((size_t) _i, _i % 2, &p, &err), &err);
    for (int round = 0; round < 500; round++) {
        struct count c = { 0 };
        mb_pool_run(p, (size_t) round % 65, count_part, &c);
        for (int i = 0; i < 64; i++) {
            ck_assert_int_eq(c.parts[i], i < round % 65);
        }
        if (round % 100 == 99) {
            (void) usleep(2000); /* long enough for the workers to fall asleep */
        }
    }
    mb_pool_free(p);
}
END_TEST

static uint64_t clock_ns(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

enum { LONG_MS = 40 };

static void one_long_part(void *job, size_t part, size_t worker)
{
    if (part == 0) {
        (void) usleep(LONG_MS * 1000);
    }
}

/* One of two threads sleeps while the other has nothing to do: half of the time is lost. */
START_TEST(a_pool_with_a_clock_knows_how_long_it_waited)
{
    struct mb_error err = { 0 };
    struct mb_pool *p;
    mb_assert_ok(mb_pool_new(2, 0, &p, &err), &err);
    mb_pool_run(p, 2, one_long_part, NULL);
    ck_assert_uint_eq(mb_pool_waited_ns(p), 0);

    mb_pool_set_clock(p, clock_ns);
    mb_pool_run(p, 1, one_long_part, NULL); /* the caller's own affair */
    ck_assert_uint_eq(mb_pool_waited_ns(p), 0);
    uint64_t begin = clock_ns();
    mb_pool_run(p, 2, one_long_part, NULL);
    uint64_t all = clock_ns() - begin, half = LONG_MS / 2 * UINT64_C(1000000);
    ck_assert_uint_ge(mb_pool_waited_ns(p), half);
    ck_assert_uint_le(mb_pool_waited_ns(p), all - half);

    mb_pool_set_clock(p, NULL);
    mb_pool_run(p, 2, one_long_part, NULL);
    ck_assert_uint_eq(mb_pool_waited_ns(p), 0);
    ck_assert_uint_eq(mb_pool_waited_ns(NULL), 0);
    mb_pool_free(p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *t = tcase_create("base");
    tcase_add_test(t, sizes_report_overflow);
    tcase_add_test(t, every_half_is_exact_and_comes_back);
    tcase_add_test(t, half_rounds_to_nearest_even);
    tcase_add_test(t, a_cursor_never_reads_past_the_end);
    tcase_add_test(t, a_file_appears_whole_or_not_at_all);
    tcase_add_test(t, a_file_is_what_was_put_into_it);
    tcase_add_test(t, what_a_killed_writer_left_is_removed);
    tcase_add_test(t, random_numbers_replay_and_differ);
    tcase_add_loop_test(t, a_pool_runs_every_part_once, 1, 6);
    tcase_add_loop_test(t, a_pool_asks_each_thread_once_what_it_will_read, 1, 6);
    tcase_add_test(t, a_pool_with_a_clock_knows_how_long_it_waited);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
