/* Goal:   the memory limit is the least of the machine and of every control group above us.
 * Method: a hierarchy of files made for the test. */
#include "server/engine/memory_limit.h"

#include <sys/stat.h>
#include <unistd.h>

#include "tests/check_main.h"

static char dir[] = "/tmp/mbool-test-XXXXXX";

static const char *in_dir(const char *name)
{
    static char path[128];
    (void) snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(in_dir(name), "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    (void) fclose(f);
}

static uint64_t limit(void)
{
    char self[128];
    (void) snprintf(self, sizeof self, "%s", in_dir("self"));
    return mbd_cgroup_memory_limit(self, dir);
}

START_TEST(the_least_of_all_groups_counts)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_uint_eq(limit(), UINT64_MAX); /* no cgroups at all */
    (void) mkdir(in_dir("a"), 0700);
    (void) mkdir(in_dir("a/b"), 0700);
    write_file("self", "12:memory:/old\n0::/a/b\n");
    ck_assert_uint_eq(limit(), UINT64_MAX);
    write_file("a/b/memory.max", "max\n");
    ck_assert_uint_eq(limit(), UINT64_MAX);
    write_file("a/memory.max", "5000\n");
    ck_assert_uint_eq(limit(), 5000);
    write_file("a/b/memory.max", "7000\n");
    ck_assert_uint_eq(limit(), 5000);
    write_file("a/b/memory.max", "4000\n");
    ck_assert_uint_eq(limit(), 4000);
    write_file("memory.max", "3000\n"); /* the root of what this process can see */
    ck_assert_uint_eq(limit(), 3000);
    write_file("self", "0::/\n");
    ck_assert_uint_eq(limit(), 3000);
    write_file("self", "1:name=systemd:/a\n");
    ck_assert_uint_eq(limit(), UINT64_MAX);
    static const char *const names[] = { "self", "memory.max", "a/memory.max",
                                         "a/b/memory.max" };
    for (size_t i = 0; i < 4; i++) {
        (void) unlink(in_dir(names[i]));
    }
    (void) rmdir(in_dir("a/b"));
    (void) rmdir(in_dir("a"));
    (void) rmdir(dir);
}
END_TEST

START_TEST(this_machine_has_some_memory)
{
    ck_assert_uint_gt(mbd_memory_limit(), 1u << 20);
    ck_assert_uint_lt(mbd_memory_limit(), UINT64_MAX);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("memory_limit");
    TCase *t = tcase_create("memory_limit");
    tcase_add_test(t, the_least_of_all_groups_counts);
    tcase_add_test(t, this_machine_has_some_memory);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
