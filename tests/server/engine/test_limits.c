/* Goal:   limits are the least of the machine and of every control group above us, of version 1 and
 *         of version 2.
 * Method: a hierarchy of files made for the test. */
#include "server/engine/limits.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/check_main.h"

static char dir[64];

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

static void make_dir(const char *name)
{
    ck_assert_int_eq(mkdir(in_dir(name), 0700), 0);
}

static uint64_t limit(uint64_t (*of)(const char *self, const char *root))
{
    char self[128];
    (void) snprintf(self, sizeof self, "%s", in_dir("self"));
    return of(self, dir);
}

static uint64_t memory(void)
{
    return limit(mbd_cgroup_memory_limit);
}

static uint64_t millicpus(void)
{
    return limit(mbd_cgroup_millicpus);
}

static void setup(void)
{
    (void) snprintf(dir, sizeof dir, "/tmp/mbool-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
    (void) st;
    (void) type;
    (void) where;
    return remove(path);
}

static void teardown(void)
{
    ck_assert_int_eq(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

START_TEST(the_least_of_all_groups_counts)
{
    ck_assert_uint_eq(memory(), UINT64_MAX); /* no cgroups at all */
    make_dir("a");
    make_dir("a/b");
    write_file("self", "12:memory:/old\n0::/a/b\n");
    ck_assert_uint_eq(memory(), UINT64_MAX);
    write_file("a/b/memory.max", "max\n");
    ck_assert_uint_eq(memory(), UINT64_MAX);
    write_file("a/memory.max", "5000\n");
    ck_assert_uint_eq(memory(), 5000);
    write_file("a/b/memory.max", "7000\n");
    ck_assert_uint_eq(memory(), 5000);
    write_file("a/b/memory.max", "4000\n");
    ck_assert_uint_eq(memory(), 4000);
    write_file("memory.max", "3000\n"); /* the root of what this process can see */
    ck_assert_uint_eq(memory(), 3000);
    write_file("self", "0::/\n");
    ck_assert_uint_eq(memory(), 3000);
    write_file("self", "1:name=systemd:/a\n");
    ck_assert_uint_eq(memory(), UINT64_MAX);
}
END_TEST

START_TEST(quotas_are_parts_of_processors)
{
    ck_assert_uint_eq(millicpus(), UINT64_MAX);
    make_dir("a");
    write_file("self", "0::/a\n");
    write_file("a/cpu.max", "max 100000\n");
    ck_assert_uint_eq(millicpus(), UINT64_MAX);
    write_file("a/cpu.max", "150000 100000\n");
    ck_assert_uint_eq(millicpus(), 1500);
    write_file("cpu.max", "50000 50000\n");
    ck_assert_uint_eq(millicpus(), 1000);
    /* Nonsense is no limit, and no division by zero. */
    (void) unlink(in_dir("cpu.max"));
    static const char *const nonsense[] = { "",           "\n",    "150000\n",
                                            "150000 0\n", "x y\n", "18446744073709551615 1\n" };
    for (size_t i = 0; i < sizeof nonsense / sizeof nonsense[0]; i++) {
        write_file("a/cpu.max", nonsense[i]);
        ck_assert_uint_eq(millicpus(), UINT64_MAX);
    }
}
END_TEST

/* Each controller has a hierarchy of its own; the list of a line may name several. */
START_TEST(version_1_counts_too)
{
    write_file("self", "5:cpu,cpuacct:/docker/1234\n4:memory:/docker/1234\n"
                       "3:cpuset:/\n1:name=systemd:/\n0::/\n");
    ck_assert_uint_eq(memory(), UINT64_MAX);
    ck_assert_uint_eq(millicpus(), UINT64_MAX);
    make_dir("memory");
    make_dir("cpu");
    write_file("cpu/cpu.cfs_quota_us", "-1\n");
    write_file("cpu/cpu.cfs_period_us", "100000\n");
    ck_assert_uint_eq(millicpus(), UINT64_MAX);
    /* As a container sees it: its path is the host's, and the root is its own group. */
    write_file("cpu/cpu.cfs_quota_us", "250000\n");
    write_file("memory/memory.limit_in_bytes", "6000\n");
    ck_assert_uint_eq(millicpus(), 2500);
    ck_assert_uint_eq(memory(), 6000);
    /* As the host does. */
    make_dir("memory/docker");
    make_dir("memory/docker/1234");
    write_file("memory/docker/memory.limit_in_bytes", "9223372036854771712\n");
    write_file("memory/docker/1234/memory.limit_in_bytes", "5000\n");
    ck_assert_uint_eq(memory(), 5000);
    /* cpuacct and cpuset are not cpu. */
    write_file("self", "5:cpuacct:/docker/1234\n3:cpuset:/\n");
    ck_assert_uint_eq(millicpus(), UINT64_MAX);
}
END_TEST

START_TEST(quotas_are_rounded)
{
    ck_assert_uint_eq(mbd_processors_for(UINT64_MAX, 64), 64);
    ck_assert_uint_eq(mbd_processors_for(100, 64), 1);
    ck_assert_uint_eq(mbd_processors_for(1100, 64), 1);
    ck_assert_uint_eq(mbd_processors_for(1500, 64), 2);
    ck_assert_uint_eq(mbd_processors_for(2000, 64), 2);
    ck_assert_uint_eq(mbd_processors_for(99000, 64), 64);
}
END_TEST

START_TEST(this_machine_has_something)
{
    ck_assert_uint_gt(mbd_memory_limit(), 1u << 20);
    ck_assert_uint_lt(mbd_memory_limit(), UINT64_MAX);
    ck_assert_uint_eq(mbd_processor_limit(1), 1);
    ck_assert_uint_ge(mbd_processor_limit(4), 1);
    ck_assert_uint_le(mbd_processor_limit(4), 4);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("limits");
    TCase *t = tcase_create("limits");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, the_least_of_all_groups_counts);
    tcase_add_test(t, quotas_are_parts_of_processors);
    tcase_add_test(t, version_1_counts_too);
    tcase_add_test(t, quotas_are_rounded);
    tcase_add_test(t, this_machine_has_something);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
