/* How much a key may do: requests at once, requests a minute, tokens a minute.
 *
 * The last two are buckets. Each holds what a minute allows, is full at first, and fills evenly: so
 * much may be used at once, and over time no more than the limit. Tokens of a prompt are taken when it is
 * admitted, and those of its completion as they are drawn. How long a completion will be nobody knows
 * before, and to take max_tokens would refuse most of what is well within the limit: so completions may
 * bring the bucket below nothing, by what runs at once, and then prompts wait until that is paid.
 *
 * A limit that the file changes is a bucket of another size, with what was used of it.
 *
 * Threads: the control thread; pure: time is an argument, in the nanoseconds of mbd_now_ns. */
#ifndef MBD_LIMITER_H
#define MBD_LIMITER_H

#include "server/access/key.h"

enum mbd_limit {
    MBD_LIMIT_NONE, /* all is well */
    MBD_LIMIT_CONCURRENT,
    MBD_LIMIT_REQUESTS,
    MBD_LIMIT_TOKENS,
};

/* A request begins: it is counted, unless a limit is reached; then *ret_retry_ns is how long until it is
 * not, if nothing else is asked meanwhile. Each that began has to end. */
enum mbd_limit mbd_key_begin(struct mbd_key *k, uint64_t now_ns, uint64_t *ret_retry_ns);
void mbd_key_end(struct mbd_key *k);

/* Tokens of prompts, all or none. More than a minute's take a full bucket, and leave it owing. */
enum mbd_limit mbd_key_take_prompt(struct mbd_key *k, uint64_t n, uint64_t now_ns,
                                   uint64_t *ret_retry_ns);
void mbd_key_take(struct mbd_key *k, uint64_t n, uint64_t now_ns); /* of completions */
void mbd_key_give_back(struct mbd_key *k, uint64_t n); /* of a prompt that was not admitted */

/* What is left, rounded down, and how long until the bucket is full. limit 0: there is none. */
struct mbd_limit_state {
    uint64_t limit, remaining, reset_ns;
};
struct mbd_limit_state mbd_key_requests(const struct mbd_key *k, uint64_t now_ns);
struct mbd_limit_state mbd_key_tokens(const struct mbd_key *k, uint64_t now_ns);

/* As OpenAI writes it: "120ms", "1.5s", "6m0s". */
enum { MBD_DURATION_TEXT = 32 };
void mbd_duration_text(uint64_t ns, char ret[MBD_DURATION_TEXT]);

#endif
