/* Goal:   with --ops-listen, probes and metrics are on a port of their own, and are answered there
 *         whatever happens on the other; liveness tells of an engine that hangs.
 * Method: a daemon with two ports; crowds, work and a drain on the first, questions on the second. */
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/check_main.h"
#include "tests/wire/daemon.h"

enum { CONNECTIONS = 16, STREAMS = 12, PROBES = 100 };

static struct wire_daemon d, ops;

/* The same daemon by its other port. */
static void start(const char *flag)
{
    /* A test machine may stand still for longer than an engine should. */
    d = wire_start(
        (const char *[]) { "--ops-listen=127.0.0.1:0", "--heartbeat-timeout=600", flag, NULL });
    ck_assert_int_gt(d.ops_port, 0);
    ops = d;
    ops.port = d.ops_port;
}

static void assert_status(const struct wire_daemon *at, const char *path, const char *json,
                          int status)
{
    struct wire_reply r = wire_ask(at, path, json);
    ck_assert_msg(r.status == status, "%s: %d, not %d", path, r.status, status);
    wire_reply_free(&r);
}

START_TEST(each_port_has_its_paths)
{
    static const char *const asked[] = { "/healthz", "/readyz", "/metrics" };
    start("--connections=1024");
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        assert_status(&ops, asked[i], NULL, 200);
        assert_status(&d, asked[i], NULL, 404);
        assert_status(&d, asked[i], "{}", 404); /* not 405: it is not there at all */
    }
    assert_status(&d, "/v1/models", NULL, 200);
    assert_status(&ops, "/v1/models", NULL, 200); /* operators ask that too */
    assert_status(&ops, "/none", NULL, 404);
    assert_status(&d, "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}", 200);
    assert_status(&ops, "/v1/completions", "{\"prompt\":\"a\",\"max_tokens\":1}", 404);
    assert_status(&ops, "/v1/completions", NULL, 404);
    wire_stop(&d);
}
END_TEST

static int stream(void)
{
    int fd = wire_open(&d);
    wire_post(fd, "/v1/completions",
              "{\"prompt\":\"x\",\"max_tokens\":60000,\"ignore_eos\":true,\"stream\":true}");
    free(wire_read_until(fd, "data: "));
    return fd;
}

/* Connections of which each makes its answer are never closed to make room. */
START_TEST(a_crowd_does_not_keep_out_a_probe)
{
    int fd[CONNECTIONS];
    start("--connections=16");
    for (int i = 0; i < CONNECTIONS; i++) {
        fd[i] = stream();
    }
    assert_status(&ops, "/healthz", NULL, 200);
    ck_assert(wire_metric(&ops, "mboold_requests_running") == CONNECTIONS);
    for (int i = 0; i < CONNECTIONS; i++) {
        (void) close(fd[i]);
    }
    wire_metric_becomes(&ops, "mboold_requests_running", 0);
    wire_stop(&d);
}
END_TEST

static double now_ms(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec * 1e3 + (double) t.tv_nsec * 1e-6;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

/* The bound is for machines that do something else as well; alone it is a millisecond. */
START_TEST(work_does_not_delay_a_probe)
{
    int fd[STREAMS];
    double ms[PROBES];
    start("--connections=1024");
    for (int i = 0; i < STREAMS; i++) {
        fd[i] = stream();
    }
    for (int i = 0; i < PROBES; i++) {
        double began = now_ms();
        assert_status(&ops, "/readyz", NULL, 200);
        ms[i] = now_ms() - began;
    }
    qsort(ms, PROBES, sizeof ms[0], compare);
    printf("probes while %d stream: median %.2f ms, longest %.2f ms\n", STREAMS, ms[PROBES / 2],
           ms[PROBES - 1]);
    ck_assert_msg(ms[PROBES / 2] < 100, "the median of a probe is %g ms", ms[PROBES / 2]);
    for (int i = 0; i < STREAMS; i++) {
        (void) close(fd[i]);
    }
    wire_metric_becomes(&ops, "mboold_requests_running", 0);
    wire_stop(&d);
}
END_TEST

START_TEST(a_drain_is_told_to_its_end)
{
    start("--connections=1024");
    int fd = stream();
    (void) kill(d.pid, SIGTERM);
    int status = 200;
    for (int i = 0; i < 500 && status == 200; i++) {
        struct wire_reply r = wire_ask(&ops, "/readyz", NULL);
        status = r.status;
        ck_assert_msg(status == 200 || strcmp(r.body, "draining\n") == 0, "%s", r.body);
        wire_reply_free(&r);
        (void) usleep(10000);
    }
    ck_assert_int_eq(status, 503);
    assert_status(&ops, "/healthz", NULL, 200);
    assert_status(&ops, "/metrics", NULL, 200);
    (void) close(fd);
    status = wire_wait(&d, 60000);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* Stops every thread of the daemon but the one that answers, or lets them go on. */
static void stop_engine(bool stop)
{
    char path[64];
    (void) snprintf(path, sizeof path, "/proc/%d/task", (int) d.pid);
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (const struct dirent *e; (e = readdir(dir));) {
        pid_t thread = (pid_t) atoi(e->d_name);
        if (thread == 0 || thread == d.pid) {
            continue;
        }
        if (stop) {
            ck_assert_int_eq(ptrace(PTRACE_SEIZE, thread, 0, 0), 0);
            ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, thread, 0, 0), 0);
            ck_assert_int_eq(waitpid(thread, NULL, __WALL), thread);
        } else {
            ck_assert_int_eq(ptrace(PTRACE_DETACH, thread, 0, 0), 0);
        }
    }
    (void) closedir(dir);
}

static void becomes(const char *path, int status)
{
    for (int i = 0; i < 3000; i++) {
        struct wire_reply r = wire_ask(&ops, path, NULL);
        int got = r.status;
        ck_assert_msg(got == 200 || strcmp(r.body, "an engine does not move\n") == 0, "%s",
                      r.body);
        wire_reply_free(&r);
        if (got == status) {
            return;
        }
        (void) usleep(10000);
    }
    ck_abort_msg("%s is not %d", path, status);
}

START_TEST(an_engine_that_hangs_is_told)
{
    start("--heartbeat-timeout=2");
    int fd = stream();
    becomes("/healthz", 200);
    stop_engine(true);
    becomes("/healthz", 503);
    becomes("/readyz", 503);
    stop_engine(false);
    becomes("/healthz", 200);
    becomes("/readyz", 200);
    free(wire_read_until(fd, "data: ")); /* and the stream goes on */
    (void) close(fd);
    wire_stop(&d);
}
END_TEST

START_TEST(a_taken_port_is_named)
{
    char out[4096], model[128], listen[64], twice[64];
    start("--connections=1024");
    (void) snprintf(model, sizeof model, "--model=a=%s", wire_model_path());
    (void) snprintf(listen, sizeof listen, "--listen=127.0.0.1:0");
    (void) snprintf(twice, sizeof twice, "--ops-listen=127.0.0.1:%d", d.ops_port);
    ck_assert_int_eq(wire_run((const char *[]) { model, listen, twice, NULL }, out, sizeof out),
                     1);
    ck_assert_msg(strstr(out, "ops-listen: 127.0.0.1 port ") != NULL, "%s", out);
    wire_stop(&d);
}
END_TEST

/* The program asks by the options that the daemon has, models or not. */
START_TEST(health_is_asked_by_the_program)
{
    char out[4096], at[64];
    const char *ask[] = { "--check-health", at, NULL };
    start("--connections=1024");
    (void) snprintf(at, sizeof at, "--ops-listen=127.0.0.1:%d", d.ops_port);
    ck_assert_int_eq(wire_run(ask, out, sizeof out), 0);
    ck_assert_str_eq(out, "");
    (void) snprintf(at, sizeof at, "--ops-listen=0.0.0.0:%d", d.ops_port);
    ck_assert_int_eq(wire_run(ask, out, sizeof out), 0);
    (void) snprintf(at, sizeof at, "--listen=127.0.0.1:%d", d.port); /* it is not there */
    ck_assert_int_eq(wire_run(ask, out, sizeof out), 1);
    ck_assert_msg(strstr(out, "check-health: HTTP/1.1 404 Not Found: {") != NULL, "%s", out);
    (void) kill(d.pid, SIGSTOP);
    (void) snprintf(at, sizeof at, "--ops-listen=127.0.0.1:%d", d.ops_port);
    ck_assert_int_eq(wire_run(ask, out, sizeof out), 1);
    (void) kill(d.pid, SIGCONT);
    wire_stop(&d);
    ck_assert_int_eq(wire_run(ask, out, sizeof out), 1);
    ck_assert_msg(strstr(out, "Connection refused") != NULL, "%s", out);
    (void) snprintf(at, sizeof at, "--listen=127.0.0.1:0");
    ck_assert_int_eq(wire_run(ask, out, sizeof out), 1);
    ck_assert_msg(strstr(out, "port 0") != NULL, "%s", out);
}
END_TEST

int main(void)
{
    wire_folder_make();
    Suite *s = suite_create("wire operations");
    TCase *t = tcase_create("operations");
    tcase_add_test(t, each_port_has_its_paths);
    tcase_add_test(t, a_crowd_does_not_keep_out_a_probe);
    tcase_add_test(t, work_does_not_delay_a_probe);
    tcase_add_test(t, a_drain_is_told_to_its_end);
    tcase_add_test(t, an_engine_that_hangs_is_told);
    tcase_add_test(t, a_taken_port_is_named);
    tcase_add_test(t, health_is_asked_by_the_program);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    wire_folder_remove();
    return status;
}
