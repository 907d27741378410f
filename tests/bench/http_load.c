/* Load for a mboold, and what its clients see of it: tokens a second over all streams, and the
 * time between the tokens of one.
 *
 *     http_load PORT MODEL [--streams N] [--prompt P] [--tokens T]
 *               [--late-prompt L] [--late-after SECONDS] [--json]
 *
 * N clients stream T tokens each after prompts of P tokens. With --late-prompt one more client
 * comes after that many seconds of streaming, whose prompt has L tokens; the times between
 * tokens are then told apart: while its prompt was read, and otherwise.
 *
 * One thread that sleeps in poll: on a machine whose processors are all computing, it takes as
 * little from them as a client can. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS_MAX = 1024, READ = 32 * 1024, LATE_TOKENS = 8 };

struct arguments {
    uint16_t port;
    const char *model;
    uint32_t n_streams, n_prompt, n_tokens, late_prompt;
    double late_after_s;
    bool json;
};

struct stream {
    int fd;
    uint32_t n_events; /* chunks with text: seldom fewer than tokens */
    uint32_t n_tokens; /* as the usage says at the end */
    uint64_t sent_ns, first_ns, last_ns;
    size_t n_read;
    char read[READ + 1]; /* what came of events that are not whole yet */
};

/* Times between tokens, in nanoseconds. */
struct gaps {
    uint64_t *at;
    size_t n, cap;
};

struct load {
    struct arguments a;
    struct stream streams[STREAMS_MAX + 1]; /* the last one comes late */
    struct pollfd polls[STREAMS_MAX + 1];
    uint32_t n, n_ended;
    struct gaps alone, beside; /* while no late prompt was read, and while it was */
    uint64_t all_began_ns, first_end_ns;
    uint32_t events_at_begin, events_at_end; /* of all streams, at these two times */
};

static void fail(const char *what)
{
    fprintf(stderr, "http_load: %s%s%s\n", what, errno ? ": " : "",
            errno ? strerror(errno) : "");
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

static void add_gap(struct gaps *g, uint64_t ns)
{
    if (g->n == g->cap) {
        g->cap = g->cap ? 2 * g->cap : 4096;
        g->at = realloc(g->at, g->cap * sizeof g->at[0]);
        if (!g->at) {
            fail("no memory");
        }
    }
    g->at[g->n++] = ns;
}

static int order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;
    return x < y ? -1 : x > y;
}

static double percentile_ms(const struct gaps *g, double p)
{
    size_t i = (size_t) (p * (double) (g->n - 1) + 0.5);
    return g->n > 0 ? (double) g->at[i] * 1e-6 : 0;
}

/* --- clients --- */

/* Prompts differ, so that nothing can be shared between them. */
static void send_request(const struct load *l, struct stream *s, uint32_t n_prompt,
                         uint32_t n_tokens, uint32_t seed)
{
    char *body = NULL, head[256];
    size_t n = 0;
    FILE *f = open_memstream(&body, &n);
    if (!f) {
        fail("no memory");
    }
    fprintf(f,
            "{\"model\":\"%s\",\"max_tokens\":%u,\"ignore_eos\":true,\"temperature\":0,"
            "\"stream\":true,\"stream_options\":{\"include_usage\":true},\"prompt\":[",
            l->a.model, n_tokens);
    for (uint32_t i = 0; i < n_prompt; i++) {
        fprintf(f, "%s%u", i ? "," : "", 40 + (i * 37 + i * i * 11 + seed * 101) % 80);
    }
    fprintf(f, "]}");
    if (fclose(f) != 0) {
        fail("no memory");
    }
    int m = snprintf(head, sizeof head,
                     "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                     "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                     n);
    if (write(s->fd, head, (size_t) m) != m || write(s->fd, body, n) != (ssize_t) n) {
        fail("send");
    }
    free(body);
    s->sent_ns = now_ns();
}

static void start(struct load *l, uint32_t n_prompt, uint32_t n_tokens)
{
    struct stream *s = &l->streams[l->n];
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(l->a.port) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (s->fd < 0 || connect(s->fd, (struct sockaddr *) &to, sizeof to) < 0) {
        fail("connect");
    }
    l->polls[l->n] = (struct pollfd) { .fd = s->fd, .events = POLLIN };
    send_request(l, s, n_prompt, n_tokens, l->n);
    l->n++;
}

static uint32_t all_events(const struct load *l)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < l->a.n_streams; i++) {
        n += l->streams[i].n_events;
    }
    return n;
}

static bool late_is_read(const struct load *l)
{
    return l->n > l->a.n_streams && l->streams[l->a.n_streams].first_ns == 0;
}

static void token_came(struct load *l, struct stream *s)
{
    uint64_t now = now_ns();
    bool is_late = s == &l->streams[l->a.n_streams];
    if (s->first_ns == 0) {
        s->first_ns = now;
    } else if (!is_late && l->all_began_ns != 0 && l->first_end_ns == 0) {
        /* Between two tokens that came together lies one step, of which they share the time. */
        add_gap(late_is_read(l) ? &l->beside : &l->alone, now - s->last_ns);
    }
    s->last_ns = now;
    s->n_events++;
    if (l->all_began_ns == 0 && !is_late) {
        for (uint32_t i = 0; i < l->a.n_streams; i++) {
            if (l->streams[i].first_ns == 0) {
                return;
            }
        }
        l->all_began_ns = now;
        l->events_at_begin = all_events(l);
    }
}

static void stream_ended(struct load *l, struct stream *s)
{
    l->n_ended++;
    l->polls[s - l->streams].fd = -1;
    (void) close(s->fd);
    if (l->first_end_ns == 0 && s != &l->streams[l->a.n_streams]) {
        l->first_end_ns = s->last_ns;
        l->events_at_end = all_events(l);
    }
}

/* Counts what is in whole events. */
static void look_through(struct load *l, struct stream *s, const char *at)
{
    static const char text[] = "\"text\":\"", usage[] = "\"completion_tokens\":";
    for (const char *p = at; (p = strstr(p, text)); p += sizeof text - 1) {
        if (p[sizeof text - 1] != '"') { /* the last one says only why it ended */
            token_came(l, s);
        }
    }
    const char *p = strstr(at, usage);
    if (p) {
        s->n_tokens = (uint32_t) strtoul(p + sizeof usage - 1, NULL, 10);
    }
    if (strstr(at, "data: [DONE]")) {
        stream_ended(l, s);
    }
}

static void take(struct load *l, struct stream *s)
{
    ssize_t n = recv(s->fd, s->read + s->n_read, READ - s->n_read, 0);
    if (n <= 0) {
        fail("a stream ended early");
    }
    s->n_read += (size_t) n;
    s->read[s->n_read] = '\0';
    if (strncmp(s->read, "HTTP/1.1 ", 9) == 0 && strncmp(s->read + 9, "200", 3) != 0) {
        errno = 0;
        fail(s->read);
    }
    char *end = NULL;
    for (char *p = s->read; (p = strstr(p, "\n\n")); p += 2) {
        end = p;
    }
    if (end) {
        *end = '\0';
        look_through(l, s, s->read);
        s->n_read -= (size_t) (end + 2 - s->read);
        memmove(s->read, end + 2, s->n_read + 1);
    }
}

/* --- what it was like --- */

static void print_gaps(const struct load *l, const char *name, struct gaps *g)
{
    if (g->n == 0) {
        return;
    }
    qsort(g->at, g->n, sizeof g->at[0], order);
    printf(l->a.json ? ", \"%s_ms\": {\"n\": %zu, \"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, "
                       "\"max\": %.2f}"
                     : "between tokens, %s: n %zu  p50 %.2f  p90 %.2f  p99 %.2f  max %.2f ms\n",
           name, g->n, percentile_ms(g, 0.5), percentile_ms(g, 0.9), percentile_ms(g, 0.99),
           percentile_ms(g, 1));
}

static void print(struct load *l)
{
    uint64_t tokens = 0, events = 0;
    for (uint32_t i = 0; i < l->a.n_streams; i++) {
        tokens += l->streams[i].n_tokens;
        events += l->streams[i].n_events;
    }
    if (l->all_began_ns == 0 || l->all_began_ns >= l->first_end_ns) {
        errno = 0;
        fail("the first stream ended before the last began: give more --tokens");
    }
    double seconds = (double) (l->first_end_ns - l->all_began_ns) * 1e-9;
    double rate = (double) (l->events_at_end - l->events_at_begin) / seconds *
                  ((double) tokens / (double) events); /* a token need not be an event */
    printf(l->a.json ? "{\"streams\": %u, \"tokens_per_s\": %.2f, \"seconds\": %.2f"
                     : "%u streams: %.2f tokens/s over %.2f s\n",
           l->a.n_streams, rate, seconds);
    print_gaps(l, "alone", &l->alone);
    print_gaps(l, "beside_a_prompt", &l->beside);
    if (l->a.late_prompt > 0) {
        const struct stream *s = &l->streams[l->a.n_streams];
        printf(l->a.json ? ", \"late_first_token_s\": %.3f"
                         : "first token of the late prompt: %.3f s\n",
               (double) (s->first_ns - s->sent_ns) * 1e-9);
    }
    printf(l->a.json ? "}\n" : "");
}

/* --- the command line --- */

static void parse(int argc, char **argv, struct arguments *a)
{
    *a = (struct arguments) {
        .n_streams = 16, .n_prompt = 128, .n_tokens = 128, .late_after_s = 1
    };
    if (argc < 3) {
        fail("usage: http_load PORT MODEL [--streams N] [--prompt P] [--tokens T] "
             "[--late-prompt L] [--late-after SECONDS] [--json]");
    }
    a->port = (uint16_t) atoi(argv[1]);
    a->model = argv[2];
    for (int i = 3; i < argc; i++) {
        const char *o = argv[i], *v = i + 1 < argc ? argv[i + 1] : "0";
        if (strcmp(o, "--json") == 0) {
            a->json = true;
            continue;
        }
        uint32_t n = (uint32_t) strtoul(v, NULL, 10);
        if (strcmp(o, "--streams") == 0 && n >= 1 && n <= STREAMS_MAX) {
            a->n_streams = n;
        } else if (strcmp(o, "--prompt") == 0) {
            a->n_prompt = n;
        } else if (strcmp(o, "--tokens") == 0) {
            a->n_tokens = n;
        } else if (strcmp(o, "--late-prompt") == 0) {
            a->late_prompt = n;
        } else if (strcmp(o, "--late-after") == 0) {
            a->late_after_s = strtod(v, NULL);
        } else {
            fail("there is no such option, or its value is out of range");
        }
        i++;
    }
}

int main(int argc, char **argv)
{
    static struct load l;
    errno = 0;
    parse(argc, argv, &l.a);
    for (uint32_t i = 0; i < l.a.n_streams; i++) {
        start(&l, l.a.n_prompt, l.a.n_tokens);
    }
    while (l.n_ended < l.n) {
        bool due = l.a.late_prompt > 0 && l.n == l.a.n_streams && l.all_began_ns != 0;
        uint64_t at = l.all_began_ns + (uint64_t) (l.a.late_after_s * 1e9), now = now_ns();
        if (due && now >= at) {
            start(&l, l.a.late_prompt, LATE_TOKENS);
            due = false;
        }
        if (poll(l.polls, l.n, due ? (int) ((at - now) / 1000000) + 1 : -1) < 0) {
            fail("poll");
        }
        for (uint32_t i = 0; i < l.n; i++) {
            if (l.polls[i].revents) {
                take(&l, &l.streams[i]);
            }
        }
    }
    print(&l);
    return 0;
}
