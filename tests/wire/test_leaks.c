/* Goal:   after many requests of every kind, memory and descriptors are where they were.
 * Method: requests that end well, that are refused, that are left in the middle of everything,
 * in a mix that a seed decides; then /proc is read. $MB_LEAK_REQUESTS of them, 600 unless it
 * says otherwise; 10000 is the promise. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/check_main.h"
#include "tests/wire/daemon.h"

enum {
    AT_ONCE = 8,
    WARM_UP = 200,        /* allocators and caches have what they want by then */
    GROWTH_KIB_MAX = 512, /* of heap noise; a leaked completion a request is far more */
};

static struct wire_daemon d;
static uint64_t state = 88172645463325252u;

static unsigned draw(unsigned n)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned) (state % n);
}

/* One request; whoever leaves does so before the answer. Returns the socket. */
static int begin(unsigned kind)
{
    static const char *const bodies[] = {
        "{\"prompt\":\"hello\",\"max_tokens\":8,\"ignore_eos\":true}",
        "{\"prompt\":\"hello\",\"max_tokens\":8,\"stream\":true,\"logprobs\":3}",
        "{\"prompt\":[1,2,3],\"max_tokens\":8,\"echo\":true,\"stop\":[\"ab\",\"c\"]}",
        "{\"prompt\":\"hello\",\"logprobs\":5,\"temperature\":0}",
        "{\"prompt\":\"hello\",\"max_tokens\":999999}",
        "{\"prompt\":[\"a\",\"b\"],\"model\":\"none\",\"stop\":[\"x\"]}",
        "{\"model\":\"none\",\"prompt\":\"a long enough text\",\"stop\":[\"x\",\"y\"]}",
        "{\"prompt\":\"broken",
        "{\"prompt\":\"hello\",\"max_tokens\":200,\"ignore_eos\":true}",
        "{\"prompt\":\"hello\",\"max_tokens\":200,\"ignore_eos\":true,\"stream\":true}",
    };
    int fd = wire_open(&d);
    switch (kind) {
    case 10:
        wire_send(fd, "GET /v1/models/tiny HTTP/1.1\r\nHost: localhost\r\n\r\n");
        break;
    case 11:
        wire_send(fd, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        break;
    case 12:
        wire_send(
            fd,
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n");
        break;
    case 14: { /* tokenized elsewhere, and refused */
        char json[20100];
        size_t n = (size_t) sprintf(json, "{\"prompt\":\"");
        memset(json + n, 'a', 20000);
        strcpy(json + n + 20000, "\"}");
        wire_post(fd, "/v1/completions", json);
        break;
    }
    case 13:
        wire_send(fd,
                  "PATCH /nowhere HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: mine\r\n\r\n");
        break;
    default:
        wire_post(fd, "/v1/completions", bodies[kind]);
    }
    return fd;
}

static void end(int fd, unsigned how)
{
    if (how == 0) { /* leaves at once */
        struct linger hard = { .l_onoff = 1, .l_linger = 0 };
        if (draw(2)) {
            (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        }
    } else if (how == 1) { /* leaves after the first byte */
        char byte;
        (void) !recv(fd, &byte, 1, 0);
    } else {
        struct wire_reply r = wire_read(fd, false);
        ck_assert_msg(r.status >= 200 && r.whole, "%s%s", r.head, r.body);
        wire_reply_free(&r);
    }
    (void) close(fd);
}

static void ask(long n)
{
    int fds[AT_ONCE];
    for (long i = 0; i < n; i += AT_ONCE) {
        for (int k = 0; k < AT_ONCE; k++) {
            fds[k] = begin(draw(15));
        }
        for (int k = 0; k < AT_ONCE; k++) {
            end(fds[k], draw(5));
        }
    }
    (void) wire_metric_becomes(&d, "mboold_requests_running", 0);
    (void) wire_metric_becomes(&d, "mboold_requests_waiting", 0);
    (void) wire_metric_becomes(&d, "mboold_kv_used_ratio", 0);
}

static long settled_descriptors(long want)
{
    for (int i = 0; wire_descriptors(&d) != want && i < 500; i++) {
        (void) usleep(10000);
    }
    return wire_descriptors(&d);
}

START_TEST(nothing_is_left_behind)
{
    static const char *const flags[] = { "--max-sequences=4", "--queue-requests=4",
                                         "--context=256",     "--kv-memory=512K",
                                         "--log-level=error", NULL };
    const char *text = getenv("MB_LEAK_REQUESTS");
    long n = text ? atol(text) : 600;
    d = wire_start(flags);
    ask(WARM_UP);
    (void) usleep(300000);
    long descriptors = wire_descriptors(&d), kib = wire_anonymous_kib(&d);
    ask(n);
    long kib_after = wire_anonymous_kib(&d);
    printf("%ld requests: RssAnon %ld KiB, then %ld KiB; %ld descriptors\n", n, kib, kib_after,
           descriptors);
    ck_assert_int_eq(settled_descriptors(descriptors), descriptors);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    /* A sanitizer keeps what was freed; the one for leaks speaks at the end of the daemon. */
#else
    ck_assert_msg(kib_after - kib <= GROWTH_KIB_MAX, "%ld KiB became %ld", kib, kib_after);
#endif
    wire_stop(&d);
}
END_TEST

int main(void)
{
    wire_folder_make();
    Suite *s = suite_create("wire leaks");
    TCase *t = tcase_create("leaks");
    tcase_set_timeout(t, 1800);
    tcase_add_test(t, nothing_is_left_behind);
    suite_add_tcase(s, t);
    int status = mb_run_suite(s);
    wire_folder_remove();
    return status;
}
