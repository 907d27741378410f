/* What run, chat and complete have in common: their options, and one answer, asked for and shown
 * as it comes. */
#ifndef MBC_ASKING_H
#define MBC_ASKING_H

#include <stdio.h>

#include "clients/cli/command.h"
#include "clients/http/transport.h"
#include "proto/completion.h"
#include "proto/json/request_json.h"

/* The options that begin the table of each of these commands, in this order. */
enum mbc_asking_option {
    MBC_ASKING_HOST,
    MBC_ASKING_MAX_TOKENS,
    MBC_ASKING_TEMPERATURE,
    MBC_ASKING_TOP_K,
    MBC_ASKING_TOP_P,
    MBC_ASKING_MIN_P,
    MBC_ASKING_REPETITION,
    MBC_ASKING_PRESENCE,
    MBC_ASKING_FREQUENCY,
    MBC_ASKING_SEED,
    MBC_ASKING_STOP,
    MBC_ASKING_IGNORE_EOS,
    MBC_ASKING_JSON,
    MBC_ASKING_OPTIONS
};

#define MBC_HOST_OPTION                                                                   \
    {                                                                                     \
        "host", "HOST", "HOST:PORT or URL (default $MBOOL_HOST, or " MBC_HOST_DEFAULT ")" \
    }

/* clang-format off */
#define MBC_ASKING_TABLE                                                                      \
    [MBC_ASKING_HOST] = MBC_HOST_OPTION,                                                      \
    [MBC_ASKING_MAX_TOKENS] = { "max-tokens", "N", "stop after N tokens (default the daemon's)" }, \
    [MBC_ASKING_TEMPERATURE] = { "temperature", "T", "0 is greedy, up to 2 (default 1)" },    \
    [MBC_ASKING_TOP_K] = { "top-k", "K", "draw from the K likeliest tokens; 0 is off (default 0)" }, \
    [MBC_ASKING_TOP_P] = { "top-p", "P", "draw from the likeliest that hold P of the mass (default 1)" }, \
    [MBC_ASKING_MIN_P] = { "min-p", "P", "drop what is less than P times as likely as the best (default 0)" }, \
    [MBC_ASKING_REPETITION] = { "repetition-penalty", "R", "divide logits of tokens seen by R (default 1)" }, \
    [MBC_ASKING_PRESENCE] = { "presence-penalty", "X", "subtract X for tokens in the output (default 0)" }, \
    [MBC_ASKING_FREQUENCY] = { "frequency-penalty", "X", "subtract X each time they were (default 0)" }, \
    [MBC_ASKING_SEED] = { "seed", "S", "same seed, same text (default: drawn)" },             \
    [MBC_ASKING_STOP] = { "stop", "TEXT", "end before this text; up to 4 times" },            \
    [MBC_ASKING_IGNORE_EOS] = { "ignore-eos", NULL, "go on after the model's end of text" },  \
    [MBC_ASKING_JSON] = { "json", NULL, "print one JSON object for each answer, when it is whole" }
/* clang-format on */

enum { MBC_ASKING_NUMBERS_MAX = 16 };

struct mbc_asking {
    const struct mbc_command *command;
    const char *host; /* NULL: the environment's, or the default */
    struct mb_request_number numbers[MBC_ASKING_NUMBERS_MAX];
    size_t n_numbers;
    const char *stops[MB_STOPS_MAX];
    size_t n_stops;
    bool ignore_eos, json;
};

/* Takes an option of the table above; false after saying what is wrong. */
bool mbc_asking_take(struct mbc_asking *a, int option, const char *value);

/* The host that text names, or the environment (MBOOL_HOST) when text is NULL, with what it says of
 * the key (MBOOL_API_KEY) and of whom to believe (MBOOL_CACERT), and a transport to it that Ctrl-C interrupts. */
enum mb_status mbc_reach(const char *text, struct mbc_transport **ret, struct mb_error *err);

/* GET path; *ret holds the body, which is the caller's to fini, when the status was 200.
 * Errors: also what an answer with another status says. */
enum mb_status mbc_get(struct mbc_transport *t, const char *path, struct mb_bytes *ret,
                       struct mb_error *err);

/* Any request. */
enum mb_status mbc_send(struct mbc_transport *t, const struct mbc_request *r,
                        struct mb_bytes *ret, struct mb_error *err);
/* The body of an answer, in the parts in which it comes; body says false to leave. */
enum mb_status mbc_download(struct mbc_transport *t, const char *path, mbc_body_fn *body,
                            void *self, struct mb_error *err);

/* The same of a POST of json. */
enum mb_status mbc_post(struct mbc_transport *t, const char *path, const char *json,
                        struct mb_bytes *ret, struct mb_error *err);

/* One answer. */
struct mbc_said {
    struct mb_bytes text; /* all of it, also when it broke off */
    char finish[24];      /* "interrupted" after Ctrl-C */
    char code[48];        /* of the daemon's error, or "" */
    char model[MB_MODEL_NAME_MAX + 1];
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    double first_s, total_s; /* from the request to the first text, and to the end */
};
void mbc_said_fini(struct mbc_said *s);

/* Sends r, which this fills with what a says, and shows the text as it comes unless a->json: on a
 * terminal without control characters. Ctrl-C ends the answer, not the program: MB_OK.
 * Errors: MB_E_NOTFOUND, MB_E_INVALID, ... as the daemon says; MB_E_IO. */
enum mb_status mbc_ask(struct mbc_transport *t, const struct mbc_asking *a,
                       struct mb_request *r, struct mbc_said *ret, struct mb_error *err);

/* After an answer: a line feed, and on a terminal what it took; or the object of --json. */
void mbc_said_print(const struct mbc_asking *a, const struct mbc_said *s);

/* All of standard input, without the line feed at its end. Bound: MB_BODY_BYTES_MAX. */
enum mb_status mbc_read_input(struct mb_bytes *ret, struct mb_error *err);

#endif
