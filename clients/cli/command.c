#include "clients/cli/command.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OPTIONS_MAX = 48, HELP = 1000 };

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

int mbc_next_option(const struct mbc_command *c, int argc, char **argv, const char **ret_value,
                    int *ret_first, int *ret_status)
{
    struct option longs[OPTIONS_MAX + 2];
    size_t n = 0;
    int output = -1;
    for (; c->options[n].name && n < OPTIONS_MAX; n++) {
        const struct mbc_option *o = &c->options[n];
        longs[n] = (struct option) { o->name, o->value ? required_argument : no_argument, NULL,
                                     (int) n };
        if (strcmp(o->name, "output") == 0) {
            output = (int) n;
        }
    }
    longs[n] = (struct option) { "help", no_argument, NULL, HELP };
    longs[n + 1] = (struct option) { 0 };

    int found = getopt_long(argc, argv, output >= 0 ? "ho:" : "h", longs, NULL);
    if (found == -1) {
        *ret_first = optind;
        return MBC_OPT_END;
    }
    if (found == HELP || found == 'h') {
        print_help(c);
        *ret_status = MBC_DONE;
        return MBC_OPT_EXIT;
    }
    if (found == '?') {
        fprintf(stderr, "see: mbool %s --help\n", c->name);
        *ret_status = MBC_USAGE;
        return MBC_OPT_EXIT;
    }
    *ret_value = optarg;
    return found == 'o' ? output : found;
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
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || v < min || v > max) {
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

static void on_interrupt(int sig)
{
    if (interrupted) { /* the second one is meant */
        _exit(MBC_INTERRUPTED);
    }
    interrupted = 1;
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
        enum { CELLS = 30 };
        double part = (double) done / (double) total;
        int full = (int) (part * CELLS);
        double elapsed = now - bar.started_s;
        double left = done > 0 ? elapsed / part - elapsed : 0;
        fprintf(stderr, "\r%s [%.*s%.*s] %3.0f%%  %d:%02d left  %.40s\033[K", bar.title, full,
                "##############################", CELLS - full,
                "..............................", part * 100, (int) left / 60, (int) left % 60,
                what);
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
