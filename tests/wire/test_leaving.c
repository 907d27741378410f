/* Goal:   who leaves is let go at once, in every state; who is slow holds up nobody; who is
 * told to leave, leaves in order. Method: the whole daemon, over sockets that are closed, not
 * read, or kept; /metrics tells whether a slot is free again. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/check_main.h"
#include "tests/wire/daemon.h"

#define RUNNING   "mboold_requests_running"
#define WAITING   "mboold_requests_waiting"
#define CANCELLED "mboold_requests_total{outcome=\"cancelled\"}"
#define LENGTH    "mboold_requests_total{outcome=\"length\"}"

/* Minutes of work for the tiny model. */
#define LONG   "\"max_tokens\":60000,\"ignore_eos\":true"
#define STREAM "{\"prompt\":\"x\",\"stream\":true," LONG "}"
#define WHOLE  "{\"prompt\":\"x\"," LONG "}"

enum { TIMEOUT_S = 300 }; /* of one test: check gives four seconds otherwise */

static struct wire_daemon d;

static void start(void)
{
    /* A drain may last: a machine that is busy, or stands still, ends no request early. */
    static const char *const flags[] = { "--max-sequences=1",
                                         "--queue-requests=2",
                                         "--step-tokens=1",
                                         "--kv-memory=64M",
                                         "--drain-timeout=250",
                                         "--ping-interval=0.2",
                                         NULL };
    d = wire_start(flags);
}

static void stop(void)
{
    if (d.pid) {
        wire_stop(&d);
    }
}

static long now_ms(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int post(const char *json)
{
    int fd = wire_open(&d);
    wire_post(fd, "/v1/completions", json);
    return fd;
}

/* A request that holds the only slot, and streams. */
static int hold_the_slot(void)
{
    int fd = post(STREAM);
    free(wire_read_until(fd, "data: {"));
    return fd;
}

/* ---- clients that leave ------------------------------------------------------------------ */

static void assert_all_free(double cancelled)
{
    (void) wire_metric_becomes(&d, CANCELLED, cancelled);
    (void) wire_metric_becomes(&d, RUNNING, 0);
    (void) wire_metric_becomes(&d, WAITING, 0);
    (void) wire_metric_becomes(&d, "mboold_kv_used_ratio", 0);
}

START_TEST(while_decoding_a_stream)
{
    int fd = hold_the_slot();
    (void) close(fd);
    assert_all_free(1);
}
END_TEST

START_TEST(while_decoding_a_whole)
{
    int fd = post(WHOLE);
    (void) wire_metric_becomes(&d, RUNNING, 1);
    (void) close(fd);
    assert_all_free(1);
}
END_TEST

/* By a reset rather than by an end. */
START_TEST(by_a_reset)
{
    struct linger hard = { .l_onoff = 1, .l_linger = 0 };
    int fds[2] = { post(WHOLE), -1 };
    (void) wire_metric_becomes(&d, RUNNING, 1);
    (void) setsockopt(fds[0], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    (void) close(fds[0]);
    assert_all_free(1);
    fds[1] = hold_the_slot();
    (void) setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    (void) close(fds[1]);
    assert_all_free(2);
}
END_TEST

/* One token a step: a prompt of 20000 takes far longer than this test. */
START_TEST(while_the_prompt_is_read)
{
    static const char start_of[] = "{\"max_tokens\":9%s,\"prompt\":\"";
    for (int stream = 0; stream < 2; stream++) {
        char *json = malloc(20100);
        size_t n = (size_t) sprintf(json, start_of, stream ? ",\"stream\":true" : "");
        memset(json + n, 'a', 20000);
        strcpy(json + n + 20000, "\"}");
        int fd = post(json);
        (void) wire_metric_becomes(&d, RUNNING, 1);
        (void) close(fd);
        assert_all_free(stream + 1);
        free(json);
    }
    ck_assert(wire_metric(&d, "mboold_generation_tokens_total") == 0);
}
END_TEST

/* Ten prompts of megabytes, one thread that tokenizes them: most never begin. */
START_TEST(while_the_prompt_is_tokenized)
{
    enum { BYTES = 4 << 20, CLIENTS = 10 };
    int fds[CLIENTS];
    char *json = malloc(BYTES + 100);
    ck_assert_ptr_nonnull(json);
    size_t n = (size_t) sprintf(json, "{\"prompt\":\"");
    memset(json + n, 'a', BYTES);
    strcpy(json + n + BYTES, "\"}");
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = post(json);
    }
    for (int i = 1; i < CLIENTS; i++) {
        (void) close(fds[i]);
    }
    struct wire_reply r = wire_read(fds[0], false); /* far beyond the context */
    ck_assert_int_eq(r.status, 400);
    wire_reply_free(&r);
    /* The rest is left to the end of the daemon, which has to wait for one of them. */
    fds[1] = post(json);
    fds[2] = post(json);
    (void) kill(d.pid, SIGTERM);
    (void) close(fds[0]);
    (void) close(fds[1]);
    (void) close(fds[2]);
    int status = wire_wait(&d, 30000);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    free(json);
}
END_TEST

START_TEST(while_queued)
{
    int first = hold_the_slot();
    int fds[2] = { post(STREAM), post(WHOLE) };
    (void) wire_metric_becomes(&d, WAITING, 2);
    (void) close(fds[0]);
    (void) close(fds[1]);
    (void) wire_metric_becomes(&d, WAITING, 0);
    ck_assert(wire_metric(&d, RUNNING) == 1);
    (void) close(first);
    assert_all_free(3);
}
END_TEST

START_TEST(in_the_middle_of_a_request)
{
    static const char *const starts[] = {
        "",
        "POST /v1/comp",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{\"prompt\"",
        "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    };
    long before = wire_descriptors(&d);
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        for (int k = 0; k < 5; k++) { /* the end may come with the bytes or after them */
            int fd = wire_open(&d);
            wire_send(fd, "%s", starts[i]);
            (void) usleep(k * 1000);
            (void) close(fd);
        }
    }
    for (int i = 0; wire_descriptors(&d) != before && i < 500; i++) {
        (void) usleep(10000);
    }
    ck_assert_int_eq(wire_descriptors(&d), before);
}
END_TEST

/* The end of sending, nothing more: an answer that is ready is still sent, one that takes time
 * is not waited for (connection.h says why). */
START_TEST(by_halves)
{
    int fd = wire_open(&d);
    wire_send(fd, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    (void) shutdown(fd, SHUT_WR);
    struct wire_reply r = wire_read(fd, false);
    ck_assert_int_eq(r.status, 200);
    wire_reply_free(&r);
    (void) close(fd);

    fd = post(WHOLE);
    (void) shutdown(fd, SHUT_WR);
    assert_all_free(1);
    ck_assert(wire_closed(fd, 5000));
    (void) close(fd);
}
END_TEST

/* Of several in one connection, too. */
START_TEST(with_requests_behind)
{
    int fd = post(WHOLE);
    wire_post(fd, "/v1/completions", WHOLE);
    wire_post(fd, "/v1/completions", WHOLE);
    (void) wire_metric_becomes(&d, RUNNING, 1);
    (void) close(fd);
    assert_all_free(1);
}
END_TEST

/* ---- the queue --------------------------------------------------------------------------- */

START_TEST(a_full_queue_says_429)
{
    int fds[3] = { hold_the_slot() };
    fds[1] = post(STREAM);
    fds[2] = post(STREAM);
    (void) wire_metric_becomes(&d, WAITING, 2);
    for (int stream = 0; stream < 2; stream++) {
        char after[16];
        struct wire_reply r = wire_ask(&d, "/v1/completions", stream ? STREAM : WHOLE);
        ck_assert_msg(r.status == 429, "%s%s", r.head, r.body);
        ck_assert(wire_header(&r, "Retry-After", after, sizeof after));
        ck_assert_int_ge(atoi(after), 1);
        ck_assert_ptr_nonnull(strstr(r.body, "\"type\":\"rate_limit_error\""));
        ck_assert_ptr_nonnull(strstr(r.body, "\"code\":\"queue_full\""));
        wire_reply_free(&r);
    }
    ck_assert(wire_metric(&d, "mboold_requests_total{outcome=\"refused\"}") == 2);
    for (int i = 0; i < 3; i++) {
        (void) close(fds[i]);
    }
    assert_all_free(3);
}
END_TEST

START_TEST(who_waits_is_told_so)
{
    int first = hold_the_slot(), second = post(STREAM);
    char *text = wire_read_until(second, ":\n\n\r\n"); /* a comment, a chunk of its own */
    ck_assert_ptr_nonnull(strstr(text, "200 OK"));
    ck_assert_ptr_null(strstr(text, "data:"));
    free(text);
    free(wire_read_until(second, ":\n\n\r\n"));
    (void) close(first);
    free(wire_read_until(second, "data: {"));
    (void) close(second);
    assert_all_free(2);
}
END_TEST

/* A tiny receive buffer is filled by a segment, and the sender then waits for a timer of TCP: a quarter
 * of a megabyte takes minutes when the machine is busy. */
static void read_fast(int fd)
{
    int large = 1 << 20;
    (void) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &large, sizeof large);
}

/* ---- slow readers ------------------------------------------------------------------------ */

/* One that reads nothing fills its ring and waits; others pass it by; when it reads at last,
 * all is there. */
START_TEST(a_slow_reader_holds_up_nobody)
{
    struct wire_daemon two =
        wire_start((const char *[]) { "--max-sequences=2", "--kv-memory=64M", NULL });
    int small = 4096, slow = wire_open(&two);
    (void) setsockopt(slow, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    wire_post(slow, "/v1/completions",
              "{\"prompt\":\"x\",\"seed\":1,\"stream\":true,\"max_tokens\":4000,"
              "\"ignore_eos\":true,\"stream_options\":{\"include_usage\":true}}");
    double tokens = -1, before;
    do { /* until it does not advance any more */
        before = tokens;
        (void) usleep(300000);
        tokens = wire_metric(&two, "mboold_generation_tokens_total");
    } while (tokens != before || tokens == 0);
    ck_assert_msg(tokens < 4000, "it did not stop: %g", tokens);
    ck_assert(wire_metric(&two, RUNNING) == 1);

    long at = now_ms();
    for (int i = 0; i < 5; i++) {
        struct wire_reply r =
            wire_ask(&two, "/v1/completions",
                     "{\"prompt\":\"y\",\"max_tokens\":20,\"ignore_eos\":true}");
        ck_assert_int_eq(r.status, 200);
        wire_reply_free(&r);
    }
    ck_assert_int_lt(now_ms() - at, 20000);

    read_fast(slow);
    struct wire_reply r = wire_read(slow, false);
    ck_assert(r.whole);
    ck_assert_ptr_nonnull(strstr(r.body, "\"completion_tokens\":4000,"));
    ck_assert_ptr_nonnull(strstr(r.body, "data: [DONE]\n\n"));
    wire_reply_free(&r);
    (void) close(slow);
    wire_stop(&two);
}
END_TEST

/* One that never reads is let go after the idle time. */
START_TEST(a_reader_that_stopped_is_let_go)
{
    struct wire_daemon quick =
        wire_start((const char *[]) { "--idle-timeout=1", "--header-timeout=0.5",
                                      "--body-timeout=0.5", "--kv-memory=64M", NULL });
    int small = 4096, slow = wire_open(&quick), idle = wire_open(&quick);
    (void) setsockopt(slow, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    wire_post(slow, "/v1/completions", STREAM);
    wire_send(idle, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    struct wire_reply r = wire_read(idle, false);
    wire_reply_free(&r);
    (void) wire_metric_becomes(&quick, CANCELLED, 1);
    (void) wire_metric_becomes(&quick, RUNNING, 0);
    ck_assert(wire_closed(idle, 3000));
    (void) close(slow);
    (void) close(idle);
    wire_stop(&quick);
}
END_TEST

/* ---- being told to leave ----------------------------------------------------------------- */

static void assert_draining(void)
{
    char after[16];
    struct wire_reply r = wire_ask(&d, "/readyz", NULL);
    ck_assert_int_eq(r.status, 503);
    ck_assert_str_eq(r.body, "draining\n");
    wire_reply_free(&r);
    r = wire_ask(&d, "/healthz", NULL);
    ck_assert_int_eq(r.status, 200);
    wire_reply_free(&r);
    r = wire_ask(&d, "/v1/completions", WHOLE);
    ck_assert_int_eq(r.status, 503);
    ck_assert(wire_header(&r, "Retry-After", after, sizeof after));
    wire_reply_free(&r);
}

START_TEST(sigterm_lets_requests_end)
{
    /* The stream can not end before it is read: it is longer than all the buffers on its way. */
    int small = 4096, idle = wire_open(&d), stream = wire_open(&d);
    (void) setsockopt(stream, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    wire_post(stream, "/v1/completions",
              "{\"prompt\":\"x\",\"stream\":true,\"max_tokens\":1500,\"ignore_eos\":true}");
    int whole = post("{\"prompt\":\"y\",\"max_tokens\":50,\"ignore_eos\":true}"); /* queued */
    free(wire_read_until(stream, "data: {"));
    (void) wire_metric_becomes(&d, WAITING, 1);
    (void) kill(d.pid, SIGTERM);
    (void) usleep(50000);
    assert_draining();
    read_fast(stream);
    free(wire_read_until(stream, "data: [DONE]\n\n"));
    struct wire_reply r = wire_read(whole, false);
    ck_assert_int_eq(r.status, 200);
    ck_assert_ptr_nonnull(strstr(r.body, "\"completion_tokens\":50,"));
    wire_reply_free(&r);
    int status = wire_wait(&d, 10000);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void) close(idle);
    (void) close(stream);
    (void) close(whole);
}
END_TEST

START_TEST(sigterm_with_nothing_to_do)
{
    int idle = wire_open(&d);
    wire_send(idle, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    struct wire_reply r = wire_read(idle, false);
    wire_reply_free(&r);
    (void) kill(d.pid, SIGINT);
    int status = wire_wait(&d, 5000);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert(wire_closed(idle, 1000));
    (void) close(idle);
}
END_TEST

/* What is not whole was never accepted. A terminal that closes is no reason to drop what runs. */
START_TEST(half_requests_do_not_hold_up_a_drain)
{
    static const char *const halves[] = {
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{\"prompt\"",
        "GET /healthz HTTP/1.1\r\nHost:",
    };
    /* It can not end before it is read: it is longer than all the buffers on its way. */
    int fds[2], small = 4096, running = wire_open(&d);
    (void) setsockopt(running, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    wire_post(running, "/v1/completions",
              "{\"prompt\":\"x\",\"stream\":true,\"max_tokens\":1500,\"ignore_eos\":true}");
    for (int i = 0; i < 2; i++) {
        fds[i] = wire_open(&d);
        wire_send(fds[i], "%s", halves[i]);
    }
    (void) wire_metric_becomes(&d, RUNNING, 1);
    (void) kill(d.pid, SIGINT);
    read_fast(running);
    free(wire_read_until(running, "data: [DONE]\n\n"));
    int status = wire_wait(&d, 3000); /* the drain's own bound is 20 s */
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void) close(fds[0]);
    (void) close(fds[1]);
    (void) close(running);
}
END_TEST

START_TEST(sigterm_without_standard_input)
{
    const char *const flags[] = { NULL };
    (void) close(STDIN_FILENO);
    struct wire_daemon bare = wire_start(flags);
    char path[64], target[64] = "";
    (void) snprintf(path, sizeof path, "/proc/%d/fd/0", (int) bare.pid);
    ck_assert_int_gt(readlink(path, target, sizeof target - 1), 0);
    ck_assert_str_eq(target, "/dev/null");
    wire_stop(&bare);
}
END_TEST

START_TEST(a_drain_has_an_end)
{
    struct wire_daemon quick = wire_start((const char *[]) {
        "--drain-timeout=0.3", "--kv-memory=64M", "--max-sequences=2", NULL });
    int stream = wire_open(&quick), whole = wire_open(&quick), queued = wire_open(&quick);
    wire_post(stream, "/v1/completions", STREAM);
    wire_post(whole, "/v1/completions", WHOLE);
    (void) wire_metric_becomes(&quick, RUNNING, 2);
    wire_post(queued, "/v1/completions", STREAM);
    (void) wire_metric_becomes(&quick, WAITING, 1);
    (void) kill(quick.pid, SIGTERM);

    char *text = wire_read_until(stream, "data: {\"error\":{");
    ck_assert_ptr_null(strstr(text, "[DONE]"));
    free(text);
    text = wire_read_until(stream, "\r\n0\r\n\r\n"); /* the end of the body, and no [DONE] */
    ck_assert_ptr_null(strstr(text, "[DONE]"));
    free(text);
    char after[16];
    struct wire_reply r = wire_read(whole, false);
    ck_assert_int_eq(r.status, 503);
    ck_assert(wire_header(&r, "Retry-After", after, sizeof after));
    ck_assert_str_eq(after, "5"); /* as for those that came later */
    wire_reply_free(&r);
    r = wire_read(queued, false);
    ck_assert_ptr_nonnull(strstr(r.body, "data: {\"error\":{"));
    wire_reply_free(&r);
    int status = wire_wait(&quick, 10000);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void) close(stream);
    (void) close(whole);
    (void) close(queued);
}
END_TEST

START_TEST(a_second_signal_ends_it_at_once)
{
    int fd = hold_the_slot();
    (void) kill(d.pid, SIGTERM);
    (void) usleep(100000);
    ck_assert_int_eq(waitpid(d.pid, NULL, WNOHANG), 0);
    long at = now_ms();
    (void) kill(d.pid, SIGTERM);
    int status = wire_wait(&d, 5000);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    ck_assert_int_lt(now_ms() - at, 2000);
    (void) close(fd);
}
END_TEST

int main(void)
{
    wire_folder_make();
    Suite *s = suite_create("wire leaving");
    TCase *t = tcase_create("leaving");
    tcase_set_timeout(t, TIMEOUT_S);
    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, while_decoding_a_stream);
    tcase_add_test(t, while_decoding_a_whole);
    tcase_add_test(t, by_a_reset);
    tcase_add_test(t, while_the_prompt_is_read);
    tcase_add_test(t, while_the_prompt_is_tokenized);
    tcase_add_test(t, while_queued);
    tcase_add_test(t, in_the_middle_of_a_request);
    tcase_add_test(t, by_halves);
    tcase_add_test(t, with_requests_behind);
    tcase_add_test(t, a_full_queue_says_429);
    tcase_add_test(t, who_waits_is_told_so);
    tcase_add_test(t, sigterm_lets_requests_end);
    tcase_add_test(t, sigterm_with_nothing_to_do);
    tcase_add_test(t, half_requests_do_not_hold_up_a_drain);
    tcase_add_test(t, sigterm_without_standard_input);
    tcase_add_test(t, a_second_signal_ends_it_at_once);
    suite_add_tcase(s, t);
    t = tcase_create("others");
    tcase_set_timeout(t, TIMEOUT_S);
    tcase_add_test(t, a_slow_reader_holds_up_nobody);
    tcase_add_test(t, a_reader_that_stopped_is_let_go);
    tcase_add_test(t, a_drain_has_an_end);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    wire_folder_remove();
    return status;
}
