/* The mbool command: one subcommand, one file, one exported entry.
 *
 * Exit statuses: 0 done; 1 it failed (a line on standard error says why); 2 the command line
 * was wrong; 130 interrupted. */
#ifndef MBC_COMMAND_H
#define MBC_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/base/progress.h"
#include "proto/status.h"

enum { MBC_DONE = 0, MBC_FAILED = 1, MBC_USAGE = 2, MBC_INTERRUPTED = 130 };

/* One option of a command: what --help prints and what getopt_long parses come from here. */
struct mbc_option {
    const char *name;  /* "kernels", for --kernels */
    const char *value; /* "K", or NULL for a switch */
    const char *help;  /* "sign matrices per weight, 1..4 (default 3)" */
};

struct mbc_command {
    const char *name;
    const char *arguments;             /* "DIR -o FILE" */
    const char *summary;               /* one line */
    const char *details;               /* more lines for --help, or NULL */
    const struct mbc_option *options;  /* ends with a NULL name */
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
};

extern const struct mbc_command mbc_convert, mbc_inspect, mbc_verify, mbc_eval, mbc_generate,
    mbc_bench, mbc_finetune, mbc_synth, mbc_pretrain, mbc_delta, mbc_run, mbc_chat,
    mbc_complete, mbc_models, mbc_ps, mbc_files, mbc_jobs, mbc_epochs, mbc_export, mbc_promote,
    mbc_rollback, mbc_pin;

/* All of them, in the order of the help; ends with NULL. */
extern const struct mbc_command *const mbc_commands[];

/* Walks the options of argv after the table c->options. Returns the next option's index, or
 * MBC_OPT_END with *ret_first the index of the first argument that is no option, or
 * MBC_OPT_EXIT with *ret_status set: help was printed (MBC_DONE) or the line was wrong
 * (MBC_USAGE, and said so). "-o" means "--output" wherever a command has that option. */
enum { MBC_OPT_END = -1, MBC_OPT_EXIT = -2 };
int mbc_next_option(const struct mbc_command *c, int argc, char **argv, const char **ret_value,
                    int *ret_first, int *ret_status);

/* A whole line of options and one argument, such as "a checkpoint": take is told each option (an
 * index of c->options) with its value, and returns false after saying what is wrong. Returns
 * true with *ret_argument, or false with the exit status, when there is nothing to do. */
bool mbc_parse_line(const struct mbc_command *c, int argc, char **argv, const char *wanted,
                    bool (*take)(void *arguments, int option, const char *value),
                    void *arguments, const char **ret_argument, int *ret_status);

/* The same of a line that has options and no argument. */
bool mbc_parse_options(const struct mbc_command *c, int argc, char **argv,
                       bool (*take)(void *arguments, int option, const char *value),
                       void *arguments, int *ret_status);

/* Prints "mbool NAME: ..." and how to get help; returns MBC_USAGE. */
int mbc_usage_error(const struct mbc_command *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints "mbool NAME: <err.what>"; returns MBC_FAILED, or MBC_INTERRUPTED for MB_E_CANCELLED. */
int mbc_report_error(const struct mbc_command *c, const struct mb_error *err);

/* Values of options; an integer is digits, nothing else. false, after saying what is allowed, when text is no number in range. */
bool mbc_parse_u64(const struct mbc_command *c, const char *option, const char *text,
                   uint64_t min, uint64_t max, uint64_t *ret);
bool mbc_parse_f64(const struct mbc_command *c, const char *option, const char *text,
                   double min, double max, double *ret);

/* Processors this process may use; what --threads defaults to. */
uint64_t mbc_processors(void);

/* Ctrl-C says "mbool NAME: interrupted" and ends the program with MBC_INTERRUPTED, at once: how
 * every command begins. A command that leaves something to be undone catches it, below. */
void mbc_end_on_interrupt(const struct mbc_command *c);

/* A progress bar with rate and ETA on standard error, when that is a terminal; silent otherwise.
 * report stops the work (returns false) after Ctrl-C. One at a time. */
struct mb_progress mbc_progress_begin(const char *title);
void mbc_progress_end(void);

/* From here on the first Ctrl-C only makes mbc_interrupted true; a second one ends the program.
 * For commands that run until they are told to stop, and show no bar. */
void mbc_catch_interrupt(void);
bool mbc_interrupted(void);
void mbc_forget_interrupt(void); /* what it was for has ended; the next is the first again */
/* Waits until there is something to read on standard input, or it has ended; false after a caught
 * Ctrl-C, also one that came just before: between a look at mbc_interrupted and a read it would be
 * lost. */
bool mbc_wait_input(void);

#endif
