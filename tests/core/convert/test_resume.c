/* Goal:   an interrupted conversion goes on where it was and ends in the bytes that it would
 *         have had; what is damaged, or of another conversion, is not used.
 * Method: the smallest real model is converted whole; then stopped at various places and taken
 *         up at another number of threads, with the part file as left, torn, or damaged at
 *         various bytes. The part file alone is also read back record by record. */
#include "core/convert/convert.h"
#include "tests/check_main.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/convert/part.h"

#define OUT  "test_resume.mbool"
#define PART OUT ".part"

enum { FITS = 1 + 5 * MB_BLOCK_LINEARS }; /* of stories260K */

static struct mb_kernels kernels;

/* One conversion to be repeated. */
struct fixture {
    char dir[4096];
    struct mb_file_map text;
    struct mb_convert_options o;
    size_t found, found_of; /* of the last call */
    size_t stop_after;      /* reports; 0 for never */
    size_t n_reports;
};

static void note_found(void *self, size_t n_fits, size_t n_fits_of)
{
    struct fixture *f = self;
    f->found = n_fits;
    f->found_of = n_fits_of;
}

static bool count(void *self, const char *what, uint64_t done, uint64_t total)
{
    struct fixture *f = self;
    ck_assert_uint_le(done, total);
    return ++f->n_reports != f->stop_after;
}

static void setup(struct fixture *f)
{
    struct mb_error err;
    const char *path = mb_data_path("models/stories260K/config.json");
    if (!path) {
        mb_skip("no real models");
    }
    *f = (struct fixture) { .o = mb_convert_defaults() };
    (void) snprintf(f->dir, sizeof f->dir, "%s", path);
    *strrchr(f->dir, '/') = 0;
    mb_assert_ok(mb_file_map(mb_data_path("text/tinystories_train.txt"), &f->text, &err), &err);
    f->o.fit.n_turns = 1;
    f->o.fit.n_kernels = 2;
    f->o.text = (const char *) f->text.at;
    f->o.n_text = f->text.n;
    f->o.tokens_max = 2000;
    (void) unlink(PART);
}

static void teardown(struct fixture *f)
{
    mb_file_unmap(&f->text);
    (void) unlink(OUT);
    (void) unlink(PART);
}

static enum mb_status convert(struct fixture *f, size_t n_threads, size_t stop_after)
{
    struct mb_error err;
    struct mb_pool *pool;
    struct mb_convert_report r;
    struct mb_progress p = { .report = count, .self = f };
    f->found = f->n_reports = 0;
    f->stop_after = stop_after;
    f->o.found = note_found;
    f->o.found_self = f;
    mb_assert_ok(mb_pool_new(n_threads, 0, &pool, &err), &err);
    enum mb_status st = mb_convert(f->dir, OUT, &f->o, &kernels, pool, &p, &r, &err);
    mb_pool_free(pool);
    if (st == MB_OK) {
        ck_assert_uint_eq(r.n_tensors, FITS);
        ck_assert(r.output_error > 0);
        mb_convert_report_fini(&r);
        ck_assert_int_ne(access(PART, F_OK), 0);
    } else {
        ck_assert_int_eq(st, MB_E_CANCELLED);
    }
    return st;
}

static struct mb_bytes contents(const char *path)
{
    struct mb_error err;
    struct mb_file_map map;
    struct mb_bytes b = { 0 };
    mb_assert_ok(mb_file_map(path, &map, &err), &err);
    mb_bytes_put(&b, map.at, map.n);
    ck_assert(!b.failed);
    mb_file_unmap(&map);
    return b;
}

static void put_contents(const char *path, const void *at, size_t n)
{
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(at, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
}

static void check_same(const struct mb_bytes *whole)
{
    struct mb_bytes got = contents(OUT);
    ck_assert_uint_eq(got.len, whole->len);
    ck_assert_mem_eq(got.at, whole->at, got.len);
    mb_bytes_fini(&got);
}

START_TEST(goes_on_from_anywhere_to_the_same_bytes)
{
    struct fixture f;
    setup(&f);
    ck_assert_int_eq(convert(&f, 1, 0), MB_OK);
    ck_assert_uint_eq(f.found, 0);
    struct mb_bytes whole = contents(OUT);
    size_t n_reports = f.n_reports, before = 0;
    for (size_t tenth = 0; tenth < 10; tenth++) {
        (void) unlink(PART);
        ck_assert_int_eq(convert(&f, 1 + tenth % 3, 1 + n_reports * tenth / 10),
                         MB_E_CANCELLED);
        ck_assert_int_eq(convert(&f, 1 + (tenth + 1) % 3, 0), MB_OK);
        ck_assert_uint_ge(f.found, before);
        ck_assert_uint_lt(f.found, FITS);
        ck_assert_msg(tenth == 0 || f.found_of == FITS, "%zu", f.found_of);
        before = f.found;
        check_same(&whole);
    }
    ck_assert_uint_ge(before, FITS * 3 / 4); /* most of it was taken in the end */
    mb_bytes_fini(&whole);
    teardown(&f);
}
END_TEST

/* Again and again, as on a machine that is often switched off. */
START_TEST(many_interruptions_end_too)
{
    struct fixture f;
    setup(&f);
    ck_assert_int_eq(convert(&f, 2, 0), MB_OK);
    struct mb_bytes whole = contents(OUT);
    size_t step = f.n_reports / 4, n_calls = 1, before = 0;
    size_t at = step;
    while (convert(&f, 2, at) != MB_OK) {
        ck_assert_uint_ge(f.found, before);
        before = f.found;
        at += step;
        ck_assert_uint_lt(++n_calls, 10);
    }
    ck_assert_uint_gt(n_calls, 2);
    check_same(&whole);
    mb_bytes_fini(&whole);
    teardown(&f);
}
END_TEST

/* The choice of kernels is kept as well, and is not a tensor. */
START_TEST(a_budget_is_not_spent_twice)
{
    if (MB_SANITIZED) {
        mb_skip("three conversions with a budget: test_budget walks the same code");
    }
    struct fixture f;
    setup(&f);
    f.o.bits = 3;
    ck_assert_int_eq(convert(&f, 2, 0), MB_OK);
    struct mb_bytes whole = contents(OUT);
    size_t n_reports = f.n_reports;
    ck_assert_int_eq(convert(&f, 1, n_reports * 9 / 10), MB_E_CANCELLED);
    ck_assert_int_eq(convert(&f, 2, 0), MB_OK);
    ck_assert_uint_gt(f.found, 0);
    ck_assert_uint_lt(f.found, FITS);
    ck_assert_uint_lt(f.n_reports, n_reports - 5 * MB_BLOCK_LINEARS + 1);
    check_same(&whole);
    mb_bytes_fini(&whole);
    teardown(&f);
}
END_TEST

START_TEST(what_is_torn_or_damaged_is_made_again)
{
    struct fixture f;
    setup(&f);
    ck_assert_int_eq(convert(&f, 2, 0), MB_OK);
    struct mb_bytes whole = contents(OUT);
    ck_assert_int_eq(convert(&f, 2, f.n_reports / 2), MB_E_CANCELLED);
    struct mb_bytes part = contents(PART);
    ck_assert_int_eq(convert(&f, 2, 0), MB_OK);
    size_t undamaged = f.found;
    ck_assert_uint_gt(undamaged, 5);
    for (size_t i = 0; i < 6; i++) {
        size_t at = part.len * i / 6 + 3;
        put_contents(PART, part.at, i % 2 == 0 ? part.len - 1 - i * 40 : at);
        ck_assert_int_eq(convert(&f, 2, 0), MB_OK);
        ck_assert_uint_lt(f.found, undamaged);
        check_same(&whole);
        part.at[at] ^= 0x10;
        put_contents(PART, part.at, part.len);
        part.at[at] ^= 0x10;
        ck_assert_int_eq(convert(&f, 2, 0), MB_OK);
        ck_assert_uint_lt(f.found, undamaged);
        check_same(&whole);
    }
    mb_bytes_fini(&part);
    mb_bytes_fini(&whole);
    teardown(&f);
}
END_TEST

START_TEST(another_conversion_begins_anew)
{
    struct fixture f;
    setup(&f);
    ck_assert_int_eq(convert(&f, 2, 0), MB_OK);
    size_t half = f.n_reports / 2;
    for (int i = 0; i < 4; i++) {
        struct mb_convert_options o = f.o;
        ck_assert_int_eq(convert(&f, 2, half), MB_E_CANCELLED);
        f.o.fit.follow += i == 0 ? 1e-7f : 0; /* beyond what %g shows */
        f.o.n_text -= i == 1 ? 1 : 0;
        f.o.fit.seed += i == 2;
        f.o.anew = i == 3;
        ck_assert_int_eq(convert(&f, 2, 0), MB_OK);
        ck_assert_uint_eq(f.found, 0);
        f.o = o;
    }
    teardown(&f);
}
END_TEST

static struct mb_part *open_part(const char *key, bool anew)
{
    struct mb_error err;
    struct mb_bytes k = { 0 };
    struct mb_part *p;
    mb_bytes_put_text(&k, key);
    mb_assert_ok(mb_part_open(OUT, &k, anew, &p, &err), &err);
    mb_bytes_fini(&k);
    return p;
}

static void add(struct mb_part *p, const char *name, const char *a, const char *b)
{
    struct mb_error err;
    struct mb_part_piece pieces[] = { { a, strlen(a) }, { b, strlen(b) } };
    mb_assert_ok(mb_part_add(p, name, pieces, 2, &err), &err);
}

static void check_next(struct mb_part *p, const char *name, const char *wanted)
{
    struct mb_part_piece got = mb_part_next(p, name);
    ck_assert_ptr_nonnull(got.at);
    ck_assert_uint_eq(got.n, strlen(wanted));
    ck_assert_mem_eq(got.at, wanted, got.n);
    mb_part_pass(p);
}

START_TEST(records_are_read_in_order_and_replaced)
{
    struct mb_error err;
    struct mb_bytes key = { 0 };
    struct mb_part *p = open_part("one", false), *other;
    add(p, "a", "alpha", "");
    add(p, "b", "be", "ta");
    add(p, "c", "gamma", "");
    mb_bytes_put_text(&key, "one");
    ck_assert_int_eq(mb_part_open(OUT, &key, false, &other, &err), MB_E_UNAVAILABLE);
    mb_bytes_fini(&key);
    mb_part_keep(p);
    p = open_part("one", false);
    ck_assert_uint_eq(mb_part_found(p), 3);
    ck_assert_ptr_null(mb_part_next(p, "b").at); /* not its turn */
    check_next(p, "a", "alpha");
    check_next(p, "b", "beta");
    add(p, "d", "", "delta"); /* in c's place */
    ck_assert_ptr_null(mb_part_next(p, "c").at);
    mb_part_keep(p);
    p = open_part("one", false);
    ck_assert_uint_eq(mb_part_found(p), 3);
    check_next(p, "a", "alpha");
    check_next(p, "b", "beta");
    check_next(p, "d", "delta");
    mb_part_keep(p);
    p = open_part("won", false);
    ck_assert_uint_eq(mb_part_found(p), 0);
    mb_part_keep(p); /* with no record there is nothing to keep */
    ck_assert_int_ne(access(PART, F_OK), 0);
}
END_TEST

int main(void)
{
    mb_kernels_select(&kernels, mb_cpu_detect());
    Suite *s = suite_create("resume");
    TCase *t = tcase_create("resume");
    tcase_add_test(t, goes_on_from_anywhere_to_the_same_bytes);
    tcase_add_test(t, many_interruptions_end_too);
    tcase_add_test(t, a_budget_is_not_spent_twice);
    tcase_add_test(t, what_is_torn_or_damaged_is_made_again);
    tcase_add_test(t, another_conversion_begins_anew);
    tcase_add_test(t, records_are_read_in_order_and_replaced);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
