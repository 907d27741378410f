#include "tests/wire/daemon.h"

#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/support/model_file.h"

enum { PATIENCE_S = 60, CONTEXT = 65536 };

static char folder[] = "/tmp/mboold-wire-XXXXXX";
static char model[64], logs[64];

/* ---- the folder -------------------------------------------------------------------------- */

void wire_folder_make(void)
{
    if (!mkdtemp(folder)) {
        perror(folder);
        abort();
    }
    (void) snprintf(model, sizeof model, "%s/tiny.mbool", folder);
    (void) snprintf(logs, sizeof logs, "%s/log", folder);
    model_file_write(model, CONTEXT, model_file_template);
}

void wire_folder_remove(void)
{
    (void) unlink(model);
    (void) unlink(logs);
    (void) rmdir(folder);
}

const char *wire_model_path(void)
{
    return model;
}

char *wire_log(void)
{
    FILE *f = fopen(logs, "r");
    char *text = calloc(1, 4u << 20);
    ck_assert(f && text);
    (void) !fread(text, 1, (4u << 20) - 1, f);
    (void) fclose(f);
    return text;
}

/* ---- the daemon -------------------------------------------------------------------------- */

static void run_mboold(const char *const *flags, int out, int error, const char *listen)
{
    static char path[1024], option[128];
    const char *argv[48];
    size_t n = 0;
    (void) snprintf(path, sizeof path, "%s/server/mboold", getenv("MB_BUILD"));
    argv[n++] = path;
    if (listen) {
        (void) snprintf(option, sizeof option, "--model=tiny=%s", model);
        argv[n++] = option;
        argv[n++] = listen;
        argv[n++] = "--no-pin"; /* many tests share few processors */
        argv[n++] = "--threads=2";
    }
    for (; *flags && n < 47; flags++) {
        argv[n++] = *flags;
    }
    argv[n] = NULL;
    (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void) dup2(out, STDOUT_FILENO);
    (void) dup2(error, STDERR_FILENO);
    (void) execv(path, (char *const *) argv);
    _exit(127);
}

struct wire_daemon wire_start(const char *const *flags)
{
    struct wire_daemon d = { 0 };
    int out[2], error = open(logs, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    ck_assert_int_ge(error, 0);
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    d.pid = fork();
    if (d.pid == 0) {
        run_mboold(flags, out[1], error, "--listen=127.0.0.1:0");
    }
    (void) close(out[1]);
    (void) close(error);
    char line[512] = "";
    FILE *f = fdopen(out[0], "r");
    char *got = fgets(line, sizeof line, f);
    const char *port = got ? strstr(line, "127.0.0.1:") : NULL;
    if (!port) {
        ck_abort_msg("mboold did not start: %s", wire_log());
    }
    d.port = atoi(port + strlen("127.0.0.1:"));
    const char *ops = strstr(line, "operations on http://127.0.0.1:");
    d.ops_port = ops ? atoi(ops + strlen("operations on http://127.0.0.1:")) : 0;
    (void) fclose(f);
    return d;
}

int wire_run(const char *const *flags, char *ret, size_t n)
{
    int out[2], status;
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        run_mboold(flags, out[1], out[1], NULL);
    }
    (void) close(out[1]);
    size_t at = 0;
    for (ssize_t k; at < n - 1 && (k = read(out[0], ret + at, n - 1 - at)) > 0;) {
        at += (size_t) k;
    }
    ret[at] = '\0';
    (void) close(out[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status), "mboold died: %s", ret);
    return WEXITSTATUS(status);
}

static void sleep_ms(int ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000L };
    (void) nanosleep(&t, NULL);
}

int wire_wait(struct wire_daemon *d, int ms)
{
    int status;
    for (int waited = 0; waited <= ms; waited += 10) {
        pid_t got = waitpid(d->pid, &status, WNOHANG);
        ck_assert_int_ge(got, 0);
        if (got == d->pid) {
            d->pid = 0;
            return status;
        }
        sleep_ms(10);
    }
    ck_abort_msg("mboold did not end within %d ms: %s", ms, wire_log());
}

void wire_stop(struct wire_daemon *d)
{
    (void) kill(d->pid, SIGTERM);
    int status = wire_wait(d, PATIENCE_S * 1000);
    char *log = wire_log();
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x: %s",
                  (unsigned) status, log);
    static const char *const never[] = { "Sanitizer", "runtime error", "Fatal error in",
                                         "API violation" };
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        ck_assert_msg(!strstr(log, never[i]), "%s", log);
    }
    free(log);
}

/* ---- a connection ------------------------------------------------------------------------ */

int wire_open(const struct wire_daemon *d)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_port = htons((uint16_t) d->port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval patience = { .tv_sec = PATIENCE_S };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;
    ck_assert_int_ge(fd, 0);
    (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    ck_assert_msg(connect(fd, (struct sockaddr *) &at, sizeof at) == 0, "connect: %s",
                  strerror(errno));
    return fd;
}

/* A daemon that hangs up meanwhile is not this side's failure: the reply tells. */
void wire_send_bytes(int fd, const void *at, size_t n)
{
    while (n > 0) {
        ssize_t k = send(fd, at, n, MSG_NOSIGNAL);
        if (k <= 0) {
            ck_assert_msg(errno == EPIPE || errno == ECONNRESET, "send: %s", strerror(errno));
            return;
        }
        at = (const char *) at + k;
        n -= (size_t) k;
    }
}

void wire_send(int fd, const char *fmt, ...)
{
    char *text;
    va_list args;
    va_start(args, fmt);
    int n = vasprintf(&text, fmt, args);
    va_end(args);
    ck_assert_int_ge(n, 0);
    wire_send_bytes(fd, text, (size_t) n);
    free(text);
}

void wire_post(int fd, const char *path, const char *json)
{
    wire_send(fd,
              "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
              "Content-Length: %zu\r\n\r\n%s",
              path, strlen(json), json);
}

/* ---- replies ----------------------------------------------------------------------------- */

struct incoming {
    int fd;
    char *at;
    size_t n, cap;
};

/* Puts what comes behind what there is, at most max bytes of it; in->n stays. 0 at the end. */
static size_t receive(struct incoming *in, size_t max, int flags)
{
    enum { PART = 4096 };
    max = max < PART ? max : PART;
    if (in->n + max + 1 > in->cap) {
        in->cap = 2 * in->cap + PART + 1;
        in->at = realloc(in->at, in->cap);
        ck_assert_ptr_nonnull(in->at);
    }
    ssize_t k;
    do { /* with a timeout set, a stop of the whole process interrupts even without a signal */
        k = recv(in->fd, in->at + in->n, max, flags);
    } while (k < 0 && errno == EINTR);
    ck_assert_msg(k >= 0 || errno == ECONNRESET, "recv: %s", strerror(errno));
    k = k < 0 ? 0 : k;
    in->at[in->n + (size_t) k] = '\0';
    return (size_t) k;
}

static bool exactly(struct incoming *in, size_t n)
{
    size_t k = 1;
    for (; n > 0 && k > 0; n -= k) {
        k = receive(in, n, 0);
        in->n += k;
    }
    return n == 0;
}

/* What follows end on the connection stays in the socket: it is only looked at. */
static bool until(struct incoming *in, const char *end)
{
    size_t n = strlen(end), k;
    while ((k = receive(in, SIZE_MAX, MSG_PEEK)) > 0) {
        size_t from = in->n >= n - 1 ? in->n - (n - 1) : 0;
        const char *found = memmem(in->at + from, in->n + k - from, end, n);
        k = found ? (size_t) (found + n - in->at) - in->n : k;
        in->at[in->n] = '\0';
        if (!exactly(in, k)) {
            return false;
        }
        if (found) {
            return true;
        }
    }
    return false;
}

static bool read_chunks(int fd, struct incoming *body)
{
    for (;;) {
        struct incoming line = { .fd = fd };
        bool ok = until(&line, "\r\n");
        size_t n = ok ? strtoul(line.at, NULL, 16) : 0;
        free(line.at);
        if (!ok) {
            return false;
        }
        ok = exactly(body, n + 2);
        if (!ok) {
            return false;
        }
        body->n -= 2; /* the end of the line after the chunk */
        body->at[body->n] = '\0';
        if (n == 0) {
            return true;
        }
    }
}

bool wire_header(const struct wire_reply *r, const char *name, char *ret, size_t n)
{
    size_t n_name = strlen(name);
    for (const char *line = strstr(r->head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, n_name) == 0 && line[n_name] == ':') {
            line += n_name + 1 + strspn(line + n_name + 1, " ");
            (void) snprintf(ret, n, "%.*s", (int) strcspn(line, "\r"), line);
            return true;
        }
    }
    return false;
}

struct wire_reply wire_read(int fd, bool head)
{
    struct incoming in = { .fd = fd }, body = { .fd = fd };
    struct wire_reply r = { 0 };
    char value[64];
    bool ok = until(&in, "\r\n\r\n");
    r.head = in.at;
    if (!ok || sscanf(r.head, "HTTP/1.%*d %d", &r.status) != 1) {
        r.status = 0;
        r.body = strdup("");
        return r;
    }
    if (r.status == 100) {
        wire_reply_free(&r);
        return wire_read(fd, head);
    }
    if (head || r.status == 204) {
        r.whole = true;
    } else if (wire_header(&r, "Transfer-Encoding", value, sizeof value)) {
        r.whole = read_chunks(fd, &body);
    } else if (wire_header(&r, "Content-Length", value, sizeof value)) {
        r.whole = exactly(&body, strtoul(value, NULL, 10));
    } else {
        r.whole = !exactly(&body, SIZE_MAX);
    }
    r.body = body.at ? body.at : strdup("");
    r.n_body = body.n;
    return r;
}

void wire_reply_free(struct wire_reply *r)
{
    free(r->head);
    free(r->body);
    *r = (struct wire_reply) { 0 };
}

char *wire_read_until(int fd, const char *want)
{
    struct incoming in = { .fd = fd };
    bool came = until(&in, want);
    size_t n = in.at ? strlen(in.at) : 0;
    ck_assert_msg(came, "'%s' did not come, but %zu bytes that end in: %s", want, n,
                  n > 500 ? in.at + n - 500
                  : n > 0 ? in.at
                          : "");
    return in.at;
}

bool wire_closed(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char buffer[4096];
    for (;;) {
        if (poll(&p, 1, ms) <= 0) {
            return false;
        }
        if (recv(fd, buffer, sizeof buffer, 0) <= 0) {
            return true;
        }
    }
}

struct wire_reply wire_ask(const struct wire_daemon *d, const char *path, const char *json)
{
    int fd = wire_open(d);
    if (json) {
        wire_post(fd, path, json);
    } else {
        wire_send(fd, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    }
    struct wire_reply r = wire_read(fd, false);
    (void) close(fd);
    return r;
}

/* ---- what it says of itself -------------------------------------------------------------- */

double wire_metric(const struct wire_daemon *d, const char *series)
{
    struct wire_reply r = wire_ask(d, "/metrics", NULL);
    ck_assert_int_eq(r.status, 200);
    size_t n = strlen(series);
    double x = 0;
    for (const char *line = r.body; *line; line = strchr(line, '\n') + 1) {
        if (strncmp(line, series, n) == 0 && line[n] == ' ') {
            x = strtod(line + n + 1, NULL);
        }
    }
    wire_reply_free(&r);
    return x;
}

int wire_metric_becomes(const struct wire_daemon *d, const char *series, double value)
{
    double x = 0;
    for (int ms = 0; ms < PATIENCE_S * 1000; ms += 5) {
        x = wire_metric(d, series);
        if (x == value) {
            return ms;
        }
        sleep_ms(5);
    }
    ck_abort_msg("%s is %g, not %g", series, x, value);
}

long wire_anonymous_kib(const struct wire_daemon *d)
{
    char path[64], line[256];
    long kib = -1;
    (void) snprintf(path, sizeof path, "/proc/%d/status", (int) d->pid);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f)) {
        (void) sscanf(line, "RssAnon: %ld", &kib);
    }
    (void) fclose(f);
    ck_assert_int_ge(kib, 0);
    return kib;
}

long wire_descriptors(const struct wire_daemon *d)
{
    char path[64];
    long n = 0;
    (void) snprintf(path, sizeof path, "/proc/%d/fd", (int) d->pid);
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (const struct dirent *e; (e = readdir(dir));) {
        n += e->d_name[0] != '.';
    }
    (void) closedir(dir);
    return n;
}
