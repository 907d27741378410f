#include "clients/cli/own_daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clients/cli/command.h"

enum { STOP_PATIENCE_MS = 5000, TURN_MS = 100 };

/* mboold's place: ret is a path, or a name to be looked for in PATH. */
static void find_program(char *ret, size_t n)
{
    static const char *const places[] = { "mboold", "../server/mboold" }; /* installed, built */
    char own[4096];
    ssize_t len = readlink("/proc/self/exe", own, sizeof own - 1);
    own[len > 0 ? len : 0] = '\0';
    char *slash = strrchr(own, '/');
    for (size_t i = 0; slash && i < sizeof places / sizeof places[0]; i++) {
        int k = snprintf(ret, n, "%.*s/%s", (int) (slash - own), own, places[i]);
        if (k > 0 && (size_t) k < n && access(ret, X_OK) == 0) {
            return;
        }
    }
    (void) snprintf(ret, n, "mboold");
}

/* In the child. It gets a group of its own, so that Ctrl-C ends an answer and not the daemon, and
 * is told to end when its parent is gone, however that went. */
static void become_daemon(const char *program, const char *model, int out, int log,
                          pid_t parent)
{
    char *const argv[] = { (char *) program,       (char *) "--model",
                           (char *) model,         (char *) "--listen",
                           (char *) "127.0.0.1:0", (char *) "--log-level",
                           (char *) "warn",        NULL };
    (void) setpgid(0, 0);
    (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent || dup2(out, STDOUT_FILENO) < 0 || dup2(log, STDERR_FILENO) < 0) {
        _exit(127);
    }
    (void) execvp(program, argv);
    fprintf(stderr, "%s: %s\n", program, strerror(errno));
    _exit(127);
}

/* The last line of its log into *err. */
static enum mb_status report_death(const struct mbc_own_daemon *d, struct mb_error *err)
{
    char text[2048];
    off_t size = lseek(d->log, 0, SEEK_END);
    off_t from = size > (off_t) sizeof text - 1 ? size - (off_t) sizeof text + 1 : 0;
    ssize_t n = size > 0 ? pread(d->log, text, sizeof text - 1, from) : 0;
    while (n > 0 && text[n - 1] == '\n') {
        n--;
    }
    text[n > 0 ? n : 0] = '\0';
    const char *line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    return mb_fail(err, MB_E_IO, 0, "the daemon did not start: %s", *line ? line : "no reason");
}

/* Reads the line in which the daemon says where it listens. */
static enum mb_status read_address(struct mbc_own_daemon *d, int from, struct mb_error *err)
{
    char line[512];
    size_t n = 0;
    while (n < sizeof line - 1) {
        struct pollfd p = { .fd = from, .events = POLLIN };
        int ready = poll(&p, 1, TURN_MS);
        if (mbc_interrupted()) {
            return mb_fail(err, MB_E_CANCELLED, 0, "interrupted");
        }
        if (ready <= 0) {
            continue;
        }
        ssize_t k = read(from, line + n, sizeof line - 1 - n);
        if (k < 0 && errno == EINTR) {
            continue;
        }
        if (k <= 0) {
            break;
        }
        n += (size_t) k;
        line[n] = '\0';
        const char *url = strstr(line, "http://");
        if (url && strchr(url, ',')) {
            (void) snprintf(d->host, sizeof d->host, "%.*s",
                            (int) (strchr(url, ',') - (url + 7)), url + 7);
            return MB_OK;
        }
    }
    return report_death(d, err);
}

enum mb_status mbc_own_daemon_start(const char *program, const char *name, const char *file,
                                    struct mbc_own_daemon *ret, struct mb_error *err)
{
    struct mbc_own_daemon d = { .log = -1 };
    char found[4200];
    int out[2];
    if (!program) {
        find_program(found, sizeof found);
        program = found;
    }
    size_t n_model = strlen(name) + strlen(file) + 2;
    char *model = malloc(n_model);
    if (!model || pipe2(out, O_CLOEXEC) != 0) {
        free(model);
        return mb_fail(err, MB_E_IO, errno, "no pipe for a daemon");
    }
    (void) snprintf(model, n_model, "%s=%s", name, file);
    d.log = memfd_create("mboold-log", MFD_CLOEXEC);
    pid_t parent = getpid();
    d.pid = d.log >= 0 ? fork() : -1;
    if (d.pid == 0) {
        become_daemon(program, model, out[1], d.log, parent);
    }
    int sys = errno;
    (void) close(out[1]);
    free(model);
    enum mb_status st = d.pid > 0 ? read_address(&d, out[0], err)
                                  : mb_fail(err, MB_E_IO, sys, "no process for a daemon");
    (void) close(out[0]);
    if (st != MB_OK) {
        mbc_own_daemon_stop(&d);
        return st;
    }
    *ret = d;
    return MB_OK;
}

void mbc_own_daemon_stop(struct mbc_own_daemon *d)
{
    if (d->pid > 0) {
        (void) kill(d->pid, SIGTERM);
        pid_t gone = 0;
        for (int waited = 0; gone == 0 && waited < STOP_PATIENCE_MS; waited += 10) {
            struct timespec t = { .tv_nsec = 10 * 1000000L };
            (void) nanosleep(&t, NULL);
            gone = waitpid(d->pid, NULL, WNOHANG);
        }
        if (gone == 0) {
            (void) kill(d->pid, SIGKILL);
            (void) waitpid(d->pid, NULL, 0);
        }
        d->pid = 0;
    }
    if (d->log > 0) {
        (void) close(d->log);
    }
    d->log = -1;
}
