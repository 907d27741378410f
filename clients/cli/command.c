#include "clients/cli/command.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What getopt_long returns for option i is LONG + i: above every character, so that a wrong
 * short option is told from a long one. */
enum { OPTIONS_MAX = 48, LONG = 256, HELP = LONG + OPTIONS_MAX };

static void print_help(const struct mbc_command *c)
{
    printf("usage: mbool %s %s\n\n%s\n", c->name, c->arguments, c->summary);
    if (c->details) {
        printf("\n%s\n", c->details);
    }
    printf("\noptions:\n");
    for (const struct mbc_option *o = c->options; o->name; o++) {
        char left[64];
        (void) snprintf(left, sizeof left, "%s--%s%s%s",
                        strcmp(o->name, "output") == 0 ? "-o, " : "", o->name,
                        o->value ? " " : "", o->value ? o->value : "");
        printf("  %-26s %s\n", left, o->help);
    }
    printf("  %-26s %s\n", "--help", "print this and exit");
}

/* getopt's own messages name the command as a program. c is what getopt_long returned. */
static int wrong_option(const struct mbc_command *c, int found, const struct option *longs,
                        const char *text)
{
    if (found == ':') {
        return mbc_usage_error(c, "option '%s' wants a value", text);
    }
    if (optopt >= LONG) {
        return mbc_usage_error(c, "option '--%s' takes no value", longs[optopt - LONG].name);
    }
    if (optopt > 0) {
        return mbc_usage_error(c, "there is no option '-%c'", optopt);
    }
    size_t n = strcspn(text + 2, "="), n_alike = 0;
    for (const struct option *o = longs; o->name; o++) {
        n_alike += strncmp(o->name, text + 2, n) == 0;
    }
    return n_alike > 1 ? mbc_usage_error(c, "option '%s' could be any of %zu", text, n_alike)
                       : mbc_usage_error(c, "there is no option '%s'", text);
}

int mbc_next_option(const struct mbc_command *c, int argc, char **argv, const char **ret_value,
                    int *ret_first, int *ret_status)
{
    struct option longs[OPTIONS_MAX + 2];
    size_t n = 0;
    int output = -1;
    for (; c->options[n].name && n < OPTIONS_MAX; n++) {
        const struct mbc_option *o = &c->options[n];
        longs[n] = (struct option) { o->name, o->value ? required_argument : no_argument, NULL,
                                     LONG + (int) n };
        if (strcmp(o->name, "output") == 0) {
            output = (int) n;
        }
    }
    longs[n] = (struct option) { "help", no_argument, NULL, HELP };
    longs[n + 1] = (struct option) { 0 };

    opterr = 0;
    int found = getopt_long(argc, argv, output >= 0 ? ":ho:" : ":h", longs, NULL);
    if (found == -1) {
        *ret_first = optind;
        return MBC_OPT_END;
    }
    if (found == HELP || found == 'h') {
        print_help(c);
        *ret_status = MBC_DONE;
        return MBC_OPT_EXIT;
    }
    if (found == '?' || found == ':') {
        *ret_status = wrong_option(c, found, longs, argv[optind - 1]);
        return MBC_OPT_EXIT;
    }
    *ret_value = optarg;
    return found == 'o' ? output : found - LONG;
}

bool mbc_parse_line(const struct mbc_command *c, int argc, char **argv, const char *wanted,
                    bool (*take)(void *arguments, int option, const char *value),
                    void *arguments, const char **ret_argument, int *ret_status)
{
    const char *value = NULL;
    int first = 0, option;
    while ((option = mbc_next_option(c, argc, argv, &value, &first, ret_status)) >= 0) {
        if (!take(arguments, option, value)) {
            *ret_status = MBC_USAGE;
            return false;
        }
    }
    if (option == MBC_OPT_EXIT) {
        return false;
    }
    if (argc - first != 1) {
        *ret_status =
            mbc_usage_error(c, "wants one argument, %s; got %d", wanted, argc - first);
        return false;
    }
    *ret_argument = argv[first];
    return true;
}

bool mbc_parse_options(const struct mbc_command *c, int argc, char **argv,
                       bool (*take)(void *arguments, int option, const char *value),
                       void *arguments, int *ret_status)
{
    const char *value = NULL;
    int first = 0, option;
    while ((option = mbc_next_option(c, argc, argv, &value, &first, ret_status)) >= 0) {
        if (!take(arguments, option, value)) {
            *ret_status = MBC_USAGE;
            return false;
        }
    }
    if (option == MBC_OPT_END && argc > first) {
        *ret_status = mbc_usage_error(c, "wants no argument; got '%s'", argv[first]);
        return false;
    }
    return option == MBC_OPT_END;
}

int mbc_usage_error(const struct mbc_command *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fprintf(stderr, "mbool %s: ", c->name);
    vfprintf(stderr, fmt, args);
    fprintf(stderr, "\nsee: mbool %s --help\n", c->name);
    va_end(args);
    return MBC_USAGE;
}

int mbc_report_error(const struct mbc_command *c, const struct mb_error *err)
{
    if (err->code == MB_E_CANCELLED) {
        fprintf(stderr, "mbool %s: interrupted\n", c->name);
        return MBC_INTERRUPTED;
    }
    fprintf(stderr, "mbool %s: %s\n", c->name, err->what);
    return MBC_FAILED;
}

bool mbc_parse_u64(const struct mbc_command *c, const char *option, const char *text,
                   uint64_t min, uint64_t max, uint64_t *ret)
{
    errno = 0;
    unsigned long long v = strtoull(text, NULL, 10);
    /* Digits alone: strtoull takes spaces and signs, and makes a large number of " -5". */
    bool digits = *text && strspn(text, "0123456789") == strlen(text);
    if (errno || !digits || v < min || v > max) {
        (void) mbc_usage_error(c, "--%s: '%s' is not an integer in %llu..%llu", option, text,
                               (unsigned long long) min, (unsigned long long) max);
        return false;
    }
    *ret = v;
    return true;
}

bool mbc_parse_f64(const struct mbc_command *c, const char *option, const char *text,
                   double min, double max, double *ret)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (errno || end == text || *end || !isfinite(v) || v < min || v > max) {
        (void) mbc_usage_error(c, "--%s: '%s' is not a number in %g..%g", option, text, min,
                               max);
        return false;
    }
    *ret = v;
    return true;
}

uint64_t mbc_processors(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) {
        return 1;
    }
    int n = CPU_COUNT(&set);
    return n > 0 ? (uint64_t) n : 1;
}

/* The one bar, and the one flag that a signal may set. */
static struct {
    const char *title;
    bool shown;
    double started_s, drawn_s;
    struct sigaction before;
} bar;
static volatile sig_atomic_t interrupted;
static char interrupted_line[64]; /* complete before the handler that writes it is set */

/* The system may hand the signal to any thread (OpenBLAS has some of its own); only in the main
 * one does it end a wait. */
static void on_interrupt(int sig)
{
    if (gettid() != getpid()) {
        (void) tgkill(getpid(), getpid(), sig);
        return;
    }
    if (interrupted) { /* the second one is meant */
        _exit(MBC_INTERRUPTED);
    }
    interrupted = 1;
}

static void end_at_once(int sig)
{
    ssize_t n = write(STDERR_FILENO, interrupted_line, strlen(interrupted_line));
    (void) n;
    _exit(MBC_INTERRUPTED);
}

void mbc_end_on_interrupt(const struct mbc_command *c)
{
    (void) snprintf(interrupted_line, sizeof interrupted_line, "mbool %s: interrupted\n",
                    c->name);
    struct sigaction act = { .sa_handler = end_at_once };
    (void) sigaction(SIGINT, &act, NULL);
}

static double now_s(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static bool draw(void *self, const char *what, uint64_t done, uint64_t total)
{
    double now = now_s();
    if (bar.shown && total > 0 && (now - bar.drawn_s > 0.1 || done == total)) {
        enum { CELLS = 30, LEFT_S_MAX = 999 * 60 + 59 };
        double part = (double) done / (double) total;
        int full = (int) (part * CELLS);
        double elapsed = now - bar.started_s;
        double left_s = done > 0 ? elapsed / part - elapsed : 0;
        int left = (int) fmin(left_s, LEFT_S_MAX);
        fprintf(stderr, "\r%s [%.*s%.*s] %3.0f%%  %d:%02d left  %.40s\033[K", bar.title, full,
                "##############################", CELLS - full,
                "..............................", part * 100, left / 60, left % 60, what);
        fflush(stderr);
        bar.drawn_s = now;
    }
    return !interrupted;
}

struct mb_progress mbc_progress_begin(const char *title)
{
    bar.title = title;
    bar.shown = isatty(STDERR_FILENO);
    bar.started_s = now_s();
    bar.drawn_s = 0;
    struct sigaction act = { .sa_handler = on_interrupt };
    (void) sigaction(SIGINT, &act, &bar.before);
    return (struct mb_progress) { .report = draw };
}

void mbc_progress_end(void)
{
    if (bar.shown) {
        fprintf(stderr, "\r\033[K");
    }
    (void) sigaction(SIGINT, &bar.before, NULL);
}

void mbc_catch_interrupt(void)
{
    struct sigaction act = { .sa_handler = on_interrupt };
    (void) sigaction(SIGINT, &act, NULL);
}

bool mbc_interrupted(void)
{
    return interrupted;
}

void mbc_forget_interrupt(void)
{
    interrupted = 0;
}

bool mbc_wait_input(void)
{
    sigset_t ctrl_c, before;
    sigemptyset(&ctrl_c);
    sigaddset(&ctrl_c, SIGINT);
    (void) sigprocmask(SIG_BLOCK, &ctrl_c, &before);
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
    while (!interrupted && ppoll(&input, 1, NULL, &before) < 0 && errno == EINTR) {
    }
    (void) sigprocmask(SIG_SETMASK, &before, NULL);
    return !interrupted;
}
