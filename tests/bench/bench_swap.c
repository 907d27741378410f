/* What a swap costs those who stream meanwhile: the times between their tokens with swaps, and without,
 * in one run.
 *
 *     bench_swap MBOOLD MODEL.mbool [--streams N] [--tokens T] [--phase SECONDS] [--phases N]
 *                [--every SECONDS] [--flips F] [--flag=MBOOLD'S FLAG]...
 *
 * N clients stream T tokens each, again and again, of a model whose name is, by turns of SECONDS, left
 * alone, and changed every so many seconds from one flip delta of the checkpoint to another and back.
 * The first phase is not counted. Exit status 1 when an answer failed or was cut.
 *
 * One thread that sleeps in poll: it takes as little from the daemon's processors as a client can.
 * For a machine that does nothing else. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/delta_file.h"

enum { STREAMS_MAX = 256, READ = 64 * 1024, FLAGS_MAX = 16, DELTAS = 2, CONTROL = STREAMS_MAX };

static struct {
    const char *mboold, *model;
    uint32_t n_streams, n_tokens, n_phases, n_flips;
    double phase_s, every_s;
    const char *flags[FLAGS_MAX];
    size_t n_flags;
} a = { .n_streams = 16,
        .n_tokens = 64,
        .n_phases = 5,
        .n_flips = 100000,
        .phase_s = 3,
        .every_s = 0.25 };

struct stream {
    int fd;
    uint64_t last_ns; /* when its last token came; 0: none yet */
    size_t n_read;
    char read[READ + 1];
};
struct times {
    uint64_t *at;
    size_t n, cap;
};

static struct stream streams[STREAMS_MAX + 1]; /* the last one asks for swaps */
static struct times gaps[2];                   /* without swaps, with them */
static size_t n_answers, n_failed, n_swaps, n_tokens_of[2];
static double seconds_of[2];
static uint16_t port;
static pid_t daemon_pid;
static char dir[] = "/tmp/mboold-bench-swap-XXXXXX", delta[DELTAS][64];

static uint64_t now_ns(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- the daemon -------------------------------------------------------------------------- */

static void start_daemon(void)
{
    char model[512], epoch[DELTAS][256], line[512];
    const char *argv[FLAGS_MAX + 16] = { a.mboold, "--listen", "127.0.0.1:0", "--log-level",
                                         "warn" };
    size_t n = 5;
    int out[2];
    (void) snprintf(model, sizeof model, "--model=m=%s", a.model);
    argv[n++] = model;
    for (int i = 0; i < DELTAS; i++) {
        (void) snprintf(delta[i], sizeof delta[i], "%s/%d", dir, i);
        delta_file_write(a.model, delta[i], (uint64_t) i + 1, a.n_flips);
        (void) snprintf(epoch[i], sizeof epoch[i], "--epoch=ft:%d=m+%s", i, delta[i]);
        argv[n++] = epoch[i];
    }
    for (size_t i = 0; i < a.n_flags; i++) {
        argv[n++] = a.flags[i];
    }
    if (pipe(out) < 0 || (daemon_pid = fork()) < 0) {
        die("fork");
    }
    if (daemon_pid == 0) {
        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) dup2(out[1], STDOUT_FILENO);
        (void) execv(a.mboold, (char *const *) (uintptr_t) argv);
        die(a.mboold);
    }
    (void) close(out[1]);
    FILE *f = fdopen(out[0], "r");
    const char *colon = f && fgets(line, sizeof line, f) ? strstr(line, "127.0.0.1:") : NULL;
    if (!colon) {
        (void) fprintf(stderr, "mboold did not start\n");
        exit(1);
    }
    port = (uint16_t) atoi(colon + strlen("127.0.0.1:"));
}

static void stop_daemon(void)
{
    int status;
    (void) kill(daemon_pid, SIGTERM);
    (void) waitpid(daemon_pid, &status, 0);
    for (int i = 0; i < DELTAS; i++) {
        (void) unlink(delta[i]);
    }
    (void) rmdir(dir);
}

/* ---- requests ---------------------------------------------------------------------------- */

static void post(struct stream *s, const char *path, const char *json)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    char text[1024];
    s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || connect(s->fd, (const struct sockaddr *) &to, sizeof to) < 0) {
        die("connect");
    }
    int n = snprintf(text, sizeof text,
                     "POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                     path, strlen(json), json);
    if (send(s->fd, text, (size_t) n, MSG_NOSIGNAL) != n) {
        die("send");
    }
    s->n_read = 0;
    s->last_ns = 0;
}

static void ask(size_t i)
{
    char json[256];
    (void) snprintf(json, sizeof json,
                    "{\"model\":\"m\",\"prompt\":[%zu,2,3,4,5,6,7,8],\"max_tokens\":%u,"
                    "\"stream\":true,\"ignore_eos\":true,\"seed\":%zu}",
                    i + 1, a.n_tokens, i);
    post(&streams[i], "/v1/completions", json);
}

static void swap(void)
{
    char json[64];
    (void) snprintf(json, sizeof json, "{\"to\":\"ft:%zu\"}", n_swaps++ % DELTAS);
    post(&streams[CONTROL], "/v1/mbool/models/m/promote", json);
}

static void add(struct times *t, uint64_t ns)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? 2 * t->cap : 1 << 16;
        t->at = realloc(t->at, t->cap * sizeof t->at[0]);
        if (!t->at) {
            die("memory");
        }
    }
    t->at[t->n++] = ns;
}

/* A token came: one chunk is one. phase -1: it is not counted. */
static void take_token(struct stream *s, uint64_t now, int phase)
{
    if (phase >= 0 && s->last_ns > 0) {
        add(&gaps[phase], now - s->last_ns);
        n_tokens_of[phase]++;
    }
    s->last_ns = now;
}

/* Whole lines of what was read; returns true when the answer is over. */
static bool take_lines(struct stream *s, uint64_t now, int phase)
{
    char *at = s->read, *end;
    bool over = false;
    s->read[s->n_read] = '\0';
    while ((end = strchr(at, '\n'))) {
        *end = '\0';
        over |= strncmp(at, "data: [DONE]", 12) == 0;
        if (strstr(at, "\"finish_reason\":null")) {
            take_token(s, now, phase);
        }
        at = end + 1;
    }
    s->n_read -= (size_t) (at - s->read);
    memmove(s->read, at, s->n_read);
    return over;
}

/* Returns true while there is more to come. */
static bool read_some(struct stream *s, int phase, bool *ret_over)
{
    ssize_t n = recv(s->fd, s->read + s->n_read, READ - s->n_read, 0);
    *ret_over = false;
    if (n <= 0) {
        return false;
    }
    s->n_read += (size_t) n;
    *ret_over = take_lines(s, now_ns(), phase);
    return !*ret_over;
}

static void on_stream(size_t i, int phase)
{
    bool over;
    if (read_some(&streams[i], phase, &over)) {
        return;
    }
    n_answers++;
    n_failed += !over;
    (void) close(streams[i].fd);
    ask(i);
}

static void on_control(void)
{
    struct stream *s = &streams[CONTROL];
    char text[4096];
    ssize_t n = recv(s->fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    if (n > 0 && strncmp(text, "HTTP/1.1 200", 12) != 0) {
        (void) fprintf(stderr, "a swap: %s\n", text);
        n_failed++;
    }
    if (n <= 0) {
        (void) close(s->fd);
        s->fd = -1;
    }
}

/* ---- the run ----------------------------------------------------------------------------- */

static void run_phase(int phase, bool swaps)
{
    uint64_t began = now_ns(), end = began + (uint64_t) (a.phase_s * 1e9), next = began;
    struct pollfd polls[STREAMS_MAX + 1];
    for (uint64_t now = began; now < end; now = now_ns()) {
        if (swaps && now >= next && streams[CONTROL].fd < 0) {
            swap();
            next += (uint64_t) (a.every_s * 1e9);
        }
        for (size_t i = 0; i <= a.n_streams; i++) {
            size_t k = i < a.n_streams ? i : CONTROL;
            polls[i] = (struct pollfd) { .fd = streams[k].fd, .events = POLLIN };
        }
        if (poll(polls, a.n_streams + 1, 2) < 0 && errno != EINTR) {
            die("poll");
        }
        for (size_t i = 0; i < a.n_streams; i++) {
            if (polls[i].revents) {
                on_stream(i, phase);
            }
        }
        if (polls[a.n_streams].fd >= 0 && polls[a.n_streams].revents) {
            on_control();
        }
    }
    if (phase >= 0) {
        seconds_of[phase] += (double) (now_ns() - began) / 1e9;
    }
}

static int compare(const void *x, const void *y)
{
    uint64_t p = *(const uint64_t *) x, q = *(const uint64_t *) y;
    return (p > q) - (p < q);
}

/* Milliseconds; the smallest that the share stays within. */
static double quantile(struct times *t, double q)
{
    size_t i = (size_t) (q * (double) t->n);
    return t->n == 0 ? 0 : (double) t->at[i < t->n ? i : t->n - 1] / 1e6;
}

static void print(void)
{
    static const char *const names[] = { "without", "with" };
    double p99[2];
    printf("%-8s  %10s  %8s  %8s  %8s  %8s\n", "swaps", "tokens/s", "p50 ms", "p95 ms",
           "p99 ms", "max ms");
    for (int k = 0; k < 2; k++) {
        qsort(gaps[k].at, gaps[k].n, sizeof gaps[k].at[0], compare);
        p99[k] = quantile(&gaps[k], 0.99);
        printf("%-8s  %10.1f  %8.2f  %8.2f  %8.2f  %8.2f\n", names[k],
               (double) n_tokens_of[k] / seconds_of[k], quantile(&gaps[k], 0.5),
               quantile(&gaps[k], 0.95), p99[k], quantile(&gaps[k], 1));
    }
    printf("p99 with / without %.2f; %zu swaps, %zu answers, %zu failed\n", p99[1] / p99[0],
           n_swaps, n_answers, n_failed);
}

static void parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strncmp(argv[i], "--flag=", 7) == 0 && a.n_flags < FLAGS_MAX) {
            a.flags[a.n_flags++] = argv[i] + 7;
        } else if (strncmp(argv[i], "--", 2) != 0) {
            *(a.mboold ? &a.model : &a.mboold) = argv[i];
        } else {
            double v = atof(value);
            const char *name = argv[i++] + 2;
            strcmp(name, "streams") == 0  ? (void) (a.n_streams = (uint32_t) v)
            : strcmp(name, "tokens") == 0 ? (void) (a.n_tokens = (uint32_t) v)
            : strcmp(name, "phase") == 0  ? (void) (a.phase_s = v)
            : strcmp(name, "phases") == 0 ? (void) (a.n_phases = (uint32_t) v)
            : strcmp(name, "every") == 0  ? (void) (a.every_s = v)
            : strcmp(name, "flips") == 0  ? (void) (a.n_flips = (uint32_t) v)
                                          : exit(2);
        }
    }
    if (!a.mboold || !a.model || a.n_streams < 1 || a.n_streams > STREAMS_MAX) {
        (void) fprintf(stderr, "usage: bench_swap MBOOLD MODEL.mbool [--OPTION VALUE]...\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    if (!mkdtemp(dir)) {
        die(dir);
    }
    start_daemon();
    streams[CONTROL].fd = -1;
    for (size_t i = 0; i < a.n_streams; i++) {
        ask(i);
    }
    for (uint32_t k = 0; k < a.n_phases; k++) {
        run_phase(k == 0 ? -1 : k % 2 == 0, k % 2 == 0 && k > 0);
    }
    stop_daemon();
    print();
    return n_failed > 0;
}
