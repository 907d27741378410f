/* Load for a server of completions, and what its clients see of it.
 *
 * Closed loop (rate 0): n_clients clients, each of which sends its next request when the last has
 * ended. It finds what a server can do, but hides how it fails: a slow server is asked less.
 * Open loop (rate above 0): requests come as a Poisson process of that rate, whatever became of
 * those before, as from a crowd that does not know of each other. Times then count from when a
 * request was due, so that a generator which falls behind does not hide the wait.
 *
 * Requests that are under way when the time is over are left out, but those that failed.
 *
 * Threads: one at a time; it runs in the caller's. */
#ifndef MBC_LOAD_GENERATOR_H
#define MBC_LOAD_GENERATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "clients/http/transport.h"

enum { MBC_LOAD_CLIENTS_MAX = 4096 };

struct mbc_load_options {
    const char *model;
    uint32_t
        n_clients;  /* at once; in an open loop the bound, beyond which a request is "unsent" */
    double rate;    /* requests per second of an open loop, or 0 */
    double seconds; /* for so long */
    uint64_t n_requests_max; /* or until so many were sent; 0: no such bound */
    uint32_t n_prompt;       /* tokens; prompts differ, so that none is in a cache */
    uint32_t max_tokens;     /* that every answer has: the end of the sequence does not count */
    uint64_t seed;
};

/* Times in seconds, ascending once the run is over. */
struct mbc_load_times {
    double *at;
    size_t n, cap;
};

/* An error and how often: an HTTP status ("429"), a failure of the transport ("connect"), "stream"
 * for one that came within a stream, "unsent". */
struct mbc_load_kind {
    char name[16];
    uint64_t n;
};
enum { MBC_LOAD_KINDS_MAX = 16 };

struct mbc_load_results {
    uint64_t n_sent, n_done, n_failed, n_cut_off; /* cut off: under way at the end */
    uint64_t prompt_tokens, completion_tokens;    /* of those done */
    uint64_t chunks;                              /* with text: seldom fewer than tokens */
    double seconds;                               /* that it took */
    struct mbc_load_times first, between, total;
    struct mbc_load_kind kinds[MBC_LOAD_KINDS_MAX];
    size_t n_kinds;
    char message[200]; /* of the first error */
};
void mbc_load_results_fini(struct mbc_load_results *r);

/* The time that a share p (0..1) of all stays within: the smallest such one of them. NaN when
 * there are none. */
double mbc_load_percentile(const struct mbc_load_times *t, double p);

/* Errors: MB_E_CANCELLED when keep_on said false; *ret then has what was until there, and is the
 * caller's to fini in any case. MB_E_NOMEM, MB_E_IO. */
enum mb_status mbc_load_run(struct mbc_transport *t, const struct mbc_load_options *o,
                            bool (*keep_on)(void), struct mbc_load_results *ret,
                            struct mb_error *err);

#endif
