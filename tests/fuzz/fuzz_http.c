/* Any bytes on a connection of the real listener: every request is answered in the shape of HTTP or its
 * connection is closed, nothing is left behind, and nothing is held for longer than a moment.
 *
 * The first byte of the input says how the others are cut into pieces, each of which the listener
 * reads before the next is sent: 0 is not at all. There is no model, so that a body that is right is
 * answered 404; all that comes before is the daemon's: libmicrohttpd driven from outside, framing, Host,
 * Origin, keys, routes. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/json/completion_json.h"
#include "server/access/keyring.h"
#include "server/http/listener.h"
#include "server/http/routes/completions.h"
#include "server/http/routes/embeddings.h"
#include "tests/fuzz/fuzz.h"

enum {
    TURN_MS = 1,       /* at most */
    TURNS_REPLY = 4,   /* for what was sent to be answered */
    TURNS_MAX = 60000, /* for everything that was begun to end */
    REPLY_MAX = 1 << 16,
    INPUT_MAX = 1 << 16,
};

static struct mbd_options options;
static struct mbd_log sink;
static struct mbd_service service;
static struct mbd_listener *listener;
static char reply[REPLY_MAX + 1];

static void nothing(void *arg)
{
    (void) arg;
}

static void must(enum mb_status st)
{
    fuzz_assert(st == MB_OK);
}

/* One key, which seeds of the corpus have: sixteen times "fuzz". */
static void write_keys(const char *path)
{
    char line[MBD_KEY_LINE_MAX];
    struct mb_error err;
    must(mbd_key_line("a", "fuzzfuzzfuzzfuzzfuzzfuzzfuzzfuzzfuzzfuzzfuzzfuzzfuzzfuzzfuzzfuzz",
                      line, &err));
    FILE *f = fopen(path, "w");
    fuzz_assert(f && fprintf(f, "%s\n", line) > 0 && fclose(f) == 0);
}

static void start(void)
{
    char path[] = "/tmp/fuzz-http-XXXXXX";
    struct mb_error err;
    struct mbd_timer *tick;
    struct mbd_registry_options r = { .log = &sink };
    int fd = mkstemp(path);
    fuzz_assert(fd >= 0 && close(fd) == 0);
    mb_json_init();
    mbd_options_init(&options);
    options.listen.port = 0;
    options.cors_origins = strdup("https://app.example");
    sink = (struct mbd_log) { .level = MBD_LOG_ERROR, .fd = open("/dev/null", O_WRONLY) };
    service = (struct mbd_service) { .options = &options, .log = &sink, .isa = "c" };
    write_keys(path);
    must(mbd_loop_new(&service.loop, &err));
    must(mbd_timer_new(service.loop, nothing, NULL, &tick, &err));
    mbd_timer_start(tick, TURN_MS, TURN_MS);
    must(mbd_metrics_new(&service.metrics, &err));
    must(mbd_registry_new(&r, &service.registry, &err));
    must(mbd_keyring_new(path, &service.keys, &err));
    must(mbd_completions_new(&service, &service.completions, &err));
    must(mbd_embeddings_new(&service, &service.embeddings, &err));
    must(mbd_listener_new(&service, MBD_LISTEN_ALL, &listener, &err));
    (void) unlink(path);
}

static int open_connection(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_port = htons(mbd_listener_port(listener)),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fuzz_assert(fd >= 0 && connect(fd, (struct sockaddr *) &at, sizeof at) == 0);
    fuzz_assert(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
    return fd;
}

/* Reads what there is; true when the other side has ended. What is beyond the buffer is let go. */
static bool read_some(int fd, size_t *n)
{
    char more[4096];
    for (;;) {
        bool room = *n < REPLY_MAX;
        ssize_t k = recv(fd, room ? reply + *n : more, room ? REPLY_MAX - *n : sizeof more, 0);
        if (k <= 0) {
            return k == 0 || errno != EAGAIN;
        }
        *n += room ? (size_t) k : 0;
    }
}

/* One piece, and a turn in which it may be read. */
static bool send_piece(int fd, const uint8_t *at, size_t n, size_t *n_reply)
{
    while (n > 0) {
        ssize_t k = send(fd, at, n, MSG_NOSIGNAL);
        if (k < 0 && errno != EAGAIN) {
            return false;
        }
        at += k > 0 ? k : 0;
        n -= k > 0 ? (size_t) k : 0;
        mbd_loop_turn(service.loop);
        if (read_some(fd, n_reply)) {
            return false;
        }
    }
    return true;
}

/* Every reply begins as one, and says a status that there is. */
static void check_reply(size_t n)
{
    reply[n] = '\0';
    fuzz_assert(n == 0 || (n >= 12 && memcmp(reply, "HTTP/1.", 7) == 0 && reply[9] >= '1' &&
                           reply[9] <= '5'));
}

int LLVMFuzzerTestOneInput(const uint8_t *at, size_t n)
{
    if (!listener) {
        start();
    }
    if (n == 0 || n > INPUT_MAX) {
        return 0;
    }
    size_t piece = at[0] == 0 ? n : at[0], n_reply = 0;
    int fd = open_connection();
    bool open = true;
    for (size_t done = 1; done < n && open; done += piece) {
        open = send_piece(fd, at + done, n - done < piece ? n - done : piece, &n_reply);
    }
    for (int turns = 0; turns < TURNS_REPLY && open; turns++) {
        mbd_loop_turn(service.loop);
        open = !read_some(fd, &n_reply);
    }
    /* What is not whole would be waited for: it ends by a reset. */
    struct linger hard = { .l_onoff = 1, .l_linger = 0 };
    (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    (void) close(fd);
    check_reply(n_reply);
    for (unsigned turns = 0; mbd_listener_exchanges(listener) > 0; turns++) {
        fuzz_assert(turns < TURNS_MAX); /* one is stuck */
        mbd_loop_turn(service.loop);
    }
    return 0;
}
