/* A whole mboold, and the plainest client there is: bytes into a socket and bytes out, so that
 * a test can do everything that a client may, and what it may not. Everything fails the running
 * test when it goes wrong. */
#ifndef MB_TESTS_DAEMON_H
#define MB_TESTS_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Writes the model that every daemon of this program serves as "tiny", into a folder of its
 * own. */
void wire_folder_make(void);
void wire_folder_remove(void);
const char *wire_model_path(void);

struct wire_daemon {
    pid_t pid;
    int port, ops_port; /* ops_port 0: no --ops-listen */
};

/* Starts one on a free port with flags, a NULL-terminated list, and waits until it listens. It
 * dies with the test. */
struct wire_daemon wire_start(const char *const *flags);
/* SIGTERM, and it must end well: exit status 0 and nothing from a sanitizer in its log. */
void wire_stop(struct wire_daemon *d);
/* Waits up to ms for it to end, and returns the status of waitpid. */
int wire_wait(struct wire_daemon *d, int ms);
/* Runs mboold to its end; returns its exit status, and what it wrote to both outputs in ret. */
int wire_run(const char *const *flags, char *ret, size_t n);
/* What all daemons of this test logged; malloc'ed. */
char *wire_log(void);

int wire_open(const struct wire_daemon *d); /* a connection */
void wire_send(int fd, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void wire_send_bytes(int fd, const void *at, size_t n);
/* A whole POST of JSON. */
void wire_post(int fd, const char *path, const char *json);

struct wire_reply {
    int status;
    char *head; /* status line and headers */
    char *body; /* terminated; chunks put together */
    size_t n_body;
    bool whole; /* it ended as HTTP says; else the connection ended first */
};
/* Reads one reply; head tells of a HEAD request, whose reply has no body. status 0: the
 * connection ended before any. */
struct wire_reply wire_read(int fd, bool head);
/* Reads until want stands in what came; returns all of it, malloc'ed. */
char *wire_read_until(int fd, const char *want);
bool wire_closed(int fd, int ms); /* does the other side close within ms? */
void wire_reply_free(struct wire_reply *r);
/* The value of a header in ret; false when there is none. */
bool wire_header(const struct wire_reply *r, const char *name, char *ret, size_t n);

/* One connection, one request, one reply. json NULL: GET. */
struct wire_reply wire_ask(const struct wire_daemon *d, const char *path, const char *json);

/* A number of /metrics; 0 when the series is not there. */
double wire_metric(const struct wire_daemon *d, const char *series);
/* Waits until it is so; fails after five seconds. Returns how many milliseconds it took. */
int wire_metric_becomes(const struct wire_daemon *d, const char *series, double value);

/* Numbers of /proc: RssAnon in KiB, and open descriptors. */
long wire_anonymous_kib(const struct wire_daemon *d);
long wire_descriptors(const struct wire_daemon *d);

#endif
