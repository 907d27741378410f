/* Goal:   what the store was told it tells, also to whoever opens it next; pages of lists are whole;
 *         what refers to what is held together; damage is refused.
 * Method: a store in a folder of its own, closed and opened again, asked for everything. */
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "server/store/store.h"
#include "tests/check_main.h"

static struct mbd_store *s;
static struct mb_error err;
static char folder[64];

static void setup(void)
{
    (void) snprintf(folder, sizeof folder, "/tmp/mboold-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    mb_assert_ok(mbd_store_open(folder, &s, &err), &err);
}

static void teardown(void)
{
    char command[128];
    mbd_store_close(s);
    (void) snprintf(command, sizeof command, "rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
}

static void again(void)
{
    mbd_store_close(s);
    s = NULL;
    mb_assert_ok(mbd_store_open(folder, &s, &err), &err);
}

static void add_file(const char *id, int64_t expires)
{
    struct mbd_file_row f = { .bytes = 7, .created = 100, .expires = expires };
    (void) snprintf(f.id, sizeof f.id, "%s", id);
    (void) snprintf(f.name, sizeof f.name, "%s.jsonl", id);
    mb_assert_ok(mbd_store_add_file(s, &f, &err), &err);
}

static struct mbd_job_row job_of(const char *id, const char *training)
{
    struct mbd_job_row j = { .base_digest = UINT64_MAX - 1,
                             .seed = 5,
                             .created = 9,
                             .status = MB_JOB_QUEUED,
                             .first_valid = (double) NAN,
                             .best_valid = 0.25 };
    (void) snprintf(j.id, sizeof j.id, "%s", id);
    (void) snprintf(j.base, sizeof j.base, "base");
    (void) snprintf(j.model, sizeof j.model, "base");
    (void) snprintf(j.result, sizeof j.result, "ft:%s", id);
    (void) snprintf(j.training, sizeof j.training, "%s", training);
    j.body = strdup("{\"model\":\"base\"}");
    return j;
}

static void add_job(const char *id, const char *training)
{
    struct mbd_job_row j = job_of(id, training);
    mb_assert_ok(mbd_store_add_job(s, &j, &err), &err);
    mbd_job_row_fini(&j);
}

START_TEST(files_are_kept)
{
    struct mbd_file_row f, *rows;
    size_t n;
    bool more;
    uint64_t total, bytes;
    add_file("a", 0);
    add_file("b", 200);
    add_file("c", 0);
    again();
    mb_assert_ok(mbd_store_file(s, "b", &f, &err), &err);
    ck_assert_str_eq(f.name, "b.jsonl");
    ck_assert_int_eq(f.expires, 200);
    mb_assert_ok(mbd_store_files_total(s, &total, &bytes, &err), &err);
    ck_assert_uint_eq(total, 3);
    ck_assert_uint_eq(bytes, 21);
    mb_assert_ok(
        mbd_store_files(s, &(struct mbd_page) { NULL, 2, false }, &rows, &n, &more, &err),
        &err);
    ck_assert_uint_eq(n, 2);
    ck_assert(more);
    ck_assert_str_eq(rows[0].id, "c");
    free(rows);
    mb_assert_ok(
        mbd_store_files(s, &(struct mbd_page) { "b", 2, true }, &rows, &n, &more, &err), &err);
    ck_assert_uint_eq(n, 1);
    ck_assert(!more);
    ck_assert_str_eq(rows[0].id, "c");
    free(rows);
    ck_assert_int_eq(
        mbd_store_files(s, &(struct mbd_page) { "x", 2, true }, &rows, &n, &more, &err),
        MB_E_NOTFOUND);
    ck_assert_int_eq(mbd_store_expired_file(s, 199, &f, &err), MB_E_NOTFOUND);
    mb_assert_ok(mbd_store_expired_file(s, 200, &f, &err), &err);
    ck_assert_str_eq(f.id, "b");
    ck_assert_int_eq(mbd_store_delete_file(s, "x", &err), MB_E_NOTFOUND);
    mb_assert_ok(mbd_store_delete_file(s, "b", &err), &err);
    ck_assert_int_eq(mbd_store_file(s, "b", &f, &err), MB_E_NOTFOUND);
}
END_TEST

START_TEST(jobs_are_kept)
{
    struct mbd_job_row j, *rows;
    size_t n;
    uint64_t counts[MB_JOB_STATUSES];
    add_file("file", 0);
    add_job("one", "file");
    add_job("two", "file");
    ck_assert_int_eq(mbd_store_delete_file(s, "file", &err), MB_E_UNAVAILABLE);
    mb_assert_ok(mbd_store_job(s, "one", &j, &err), &err);
    ck_assert_uint_eq(j.base_digest, UINT64_MAX - 1);
    ck_assert(isnan(j.first_valid));
    j.status = MB_JOB_FAILED;
    j.step = j.total_steps = 12;
    j.finished = 77;
    (void) snprintf(j.error_code, sizeof j.error_code, "trainer_failed");
    mb_assert_ok(mbd_store_update_job(s, &j, &err), &err);
    mbd_job_row_fini(&j);
    again();
    mb_assert_ok(mbd_store_job(s, "one", &j, &err), &err);
    ck_assert_int_eq(j.status, MB_JOB_FAILED);
    ck_assert_uint_eq(j.step, 12);
    ck_assert_str_eq(j.error_code, "trainer_failed");
    ck_assert_str_eq(j.body, "{\"model\":\"base\"}");
    mbd_job_row_fini(&j);
    mb_assert_ok(mbd_store_open_jobs(s, &rows, &n, &err), &err);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(rows[0].id, "two");
    mbd_job_rows_free(rows, n);
    mb_assert_ok(mbd_store_count_jobs(s, counts, &err), &err);
    ck_assert_uint_eq(counts[MB_JOB_FAILED], 1);
    ck_assert_uint_eq(counts[MB_JOB_QUEUED], 1);
    struct mbd_job_row same = job_of("three", "file");
    (void) snprintf(same.result, sizeof same.result, "ft:one"); /* names are of one job each */
    ck_assert_int_ne(mbd_store_add_job(s, &same, &err), MB_OK);
    mbd_job_row_fini(&same);
}
END_TEST

START_TEST(events_come_in_pages)
{
    struct mbd_event_row *rows;
    char text[] = "text", data[] = "{}", id[MB_JOB_ID_MAX + 1];
    size_t n;
    bool more;
    int64_t seq;
    add_job("one", "f");
    add_job("two", "f");
    mb_assert_ok(mbd_store_begin(s, &err), &err);
    for (int i = 0; i < 10; i++) {
        const struct mbd_event_row e = { .created = i,
                                         .message = text,
                                         .data = i ? data : NULL };
        mb_assert_ok(mbd_store_add_event(s, i % 2 ? "one" : "two", &e, &err), &err);
    }
    mb_assert_ok(mbd_store_commit(s, &err), &err);
    mb_assert_ok(mbd_store_events(s, "one", &(struct mbd_page) { NULL, 3, true }, &rows, &n,
                                  &more, &err),
                 &err);
    ck_assert_uint_eq(n, 3);
    ck_assert(more);
    ck_assert_int_eq(rows[2].created, 5);
    mbd_event_id(rows[2].seq, id);
    ck_assert(mbd_event_seq(id, &seq) && seq == rows[2].seq);
    mbd_event_rows_free(rows, n);
    mb_assert_ok(
        mbd_store_events(s, "one", &(struct mbd_page) { id, 3, true }, &rows, &n, &more, &err),
        &err);
    ck_assert_uint_eq(n, 2);
    ck_assert(!more);
    mbd_event_rows_free(rows, n);
    ck_assert(!mbd_event_seq("ftevent-1", &seq));
    ck_assert(!mbd_event_seq("ftevent-ffffffffffffffff", &seq));
    ck_assert(!mbd_event_seq("ftjob-0000000000000001", &seq));
    const struct mbd_event_row lost = { .message = text };
    ck_assert_int_ne(mbd_store_add_event(s, "nobody", &lost, &err), MB_OK);
}
END_TEST

START_TEST(checkpoints_names_and_keys)
{
    struct mbd_checkpoint_row c = { .created = 3, .step = 4, .promote = true }, found, *rows;
    struct mbd_name_row *names;
    char metrics[] = "{}", job[MB_JOB_ID_MAX + 1];
    size_t n;
    bool same;
    add_job("one", "f");
    (void) snprintf(c.job, sizeof c.job, "one");
    (void) snprintf(c.model, sizeof c.model, "ft:one:4");
    (void) snprintf(c.file, sizeof c.file, "models/one/step-4.delta");
    (void) snprintf(c.epoch, sizeof c.epoch, "0123456789abcdef");
    c.metrics = metrics;
    mb_assert_ok(mbd_store_add_checkpoint(s, &c, &err), &err);
    mb_assert_ok(mbd_store_add_checkpoint(s, &c, &err), &err); /* a retry makes it again */
    mb_assert_ok(mbd_store_all_checkpoints(s, &rows, &n, &err), &err);
    ck_assert_uint_eq(n, 1);
    mbd_checkpoint_rows_free(rows, n);
    mb_assert_ok(mbd_store_find_model(s, "ft:one:4", &found, &err), &err);
    ck_assert_str_eq(found.base, "base");
    ck_assert_str_eq(found.epoch, "0123456789abcdef");
    ck_assert(found.promote && !found.is_result);
    free(found.metrics);
    mb_assert_ok(mbd_store_set_name(s, "base", "a", false, &err), &err);
    mb_assert_ok(mbd_store_set_name(s, "base", "b", true, &err), &err);
    again();
    mb_assert_ok(mbd_store_names(s, &names, &n, &err), &err);
    ck_assert_uint_eq(n, 1);
    ck_assert_str_eq(names[0].epoch, "b");
    ck_assert(names[0].pinned);
    free(names);
    mb_assert_ok(mbd_store_add_key(s, "k", 1000, 500, UINT64_MAX, "one", &err), &err);
    mb_assert_ok(mbd_store_key(s, "k", 900, UINT64_MAX, job, &same, &err), &err);
    ck_assert(same && strcmp(job, "one") == 0);
    mb_assert_ok(mbd_store_key(s, "k", 900, 5, job, &same, &err), &err);
    ck_assert(!same);
    ck_assert_int_eq(mbd_store_key(s, "k", 1001, 5, job, &same, &err), MB_E_NOTFOUND);
}
END_TEST

START_TEST(what_is_rolled_back_is_not_there)
{
    struct mbd_file_row f;
    mb_assert_ok(mbd_store_begin(s, &err), &err);
    add_file("a", 0);
    mbd_store_rollback(s);
    mbd_store_rollback(s); /* nothing to do */
    ck_assert_int_eq(mbd_store_file(s, "a", &f, &err), MB_E_NOTFOUND);
}
END_TEST

START_TEST(a_folder_is_one_daemons)
{
    struct mbd_store *other;
    ck_assert_int_eq(mbd_store_open(folder, &other, &err), MB_E_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(err.what, "another daemon"));
}
END_TEST

/* SQLite knows its structure, not its texts: a page that is none is refused, and so is a part. */
START_TEST(damage_is_refused)
{
    enum { PAGE = 4096 };
    char path[128], was[8];
    struct stat there;
    add_file("a", 0);
    add_job("one", "a");
    mbd_store_close(s);
    s = NULL;
    (void) snprintf(path, sizeof path, "%s/mboold.sqlite", folder);
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(fstat(fd, &there), 0);
    for (off_t page = 0; page < there.st_size; page += PAGE) {
        off_t at = page == 0 ? 100 : page; /* behind the header of the file */
        ck_assert_int_eq(pread(fd, was, sizeof was, at), sizeof was);
        ck_assert_int_eq(pwrite(fd, "\xff\xff\xff\xff\xff\xff\xff\xff", sizeof was, at),
                         sizeof was);
        ck_assert_msg(mbd_store_open(folder, &s, &err) != MB_OK, "page %d",
                      (int) (page / PAGE));
        ck_assert_ptr_nonnull(strstr(err.what, "mboold.sqlite"));
        ck_assert_int_eq(pwrite(fd, was, sizeof was, at), sizeof was);
    }
    for (off_t size = 0; size < there.st_size; size += PAGE) {
        char copy[320];
        (void) snprintf(copy, sizeof copy, "cp '%s' '%s.whole'", path, path);
        ck_assert_int_eq(system(copy), 0);
        ck_assert_int_eq(truncate(path, size), 0);
        ck_assert_msg(mbd_store_open(folder, &s, &err) != MB_OK, "%d bytes", (int) size);
        (void) snprintf(copy, sizeof copy, "cat '%s.whole' >'%s'", path, path);
        ck_assert_int_eq(system(copy), 0);
    }
    (void) close(fd);
    mb_assert_ok(mbd_store_open(folder, &s, &err), &err);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *t = tcase_create("store");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, files_are_kept);
    tcase_add_test(t, jobs_are_kept);
    tcase_add_test(t, events_come_in_pages);
    tcase_add_test(t, checkpoints_names_and_keys);
    tcase_add_test(t, what_is_rolled_back_is_not_there);
    tcase_add_test(t, a_folder_is_one_daemons);
    tcase_add_test(t, damage_is_refused);
    suite_add_tcase(suite, t);
    return mb_run_suite(suite);
}
