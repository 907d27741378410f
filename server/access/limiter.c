#include "server/access/limiter.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

#include "server/clock.h"

static const double MINUTE_NS = 60.0 * MBD_SECOND_NS;

/* What was used and has not come back yet at now; below size when something is left. */
static double used(const struct mbd_bucket *b, double size, uint64_t now_ns)
{
    double back = size * (double) (now_ns - b->at_ns) / MINUTE_NS;
    return b->used > back ? b->used - back : 0;
}

static void use(struct mbd_bucket *b, double size, double n, uint64_t now_ns)
{
    b->used = used(b, size, now_ns) + n;
    b->at_ns = now_ns;
}

/* Until n fit; 0: they do. */
static uint64_t wait_ns(const struct mbd_bucket *b, double size, double n, uint64_t now_ns)
{
    double over = used(b, size, now_ns) - (size > n ? size - n : 0);
    return over > 0 ? (uint64_t) ceil(over * MINUTE_NS / size) : 0;
}

enum mbd_limit mbd_key_begin(struct mbd_key *k, uint64_t now_ns, uint64_t *ret_retry_ns)
{
    double size = k->limits.requests_per_minute;
    if (k->limits.concurrent > 0 && k->running >= k->limits.concurrent) {
        *ret_retry_ns = MBD_SECOND_NS; /* nobody knows */
        return MBD_LIMIT_CONCURRENT;
    }
    uint64_t wait = size > 0 ? wait_ns(&k->requests, size, 1, now_ns) : 0;
    if (wait > 0) {
        *ret_retry_ns = wait;
        return MBD_LIMIT_REQUESTS;
    }
    if (size > 0) {
        use(&k->requests, size, 1, now_ns);
    }
    k->running++;
    return MBD_LIMIT_NONE;
}

void mbd_key_end(struct mbd_key *k)
{
    assert(k->running > 0);
    k->running--;
}

enum mbd_limit mbd_key_take_prompt(struct mbd_key *k, uint64_t n, uint64_t now_ns,
                                   uint64_t *ret_retry_ns)
{
    double size = (double) k->limits.tokens_per_minute;
    uint64_t wait = size > 0 ? wait_ns(&k->tokens, size, (double) n, now_ns) : 0;
    if (wait > 0) {
        *ret_retry_ns = wait;
        return MBD_LIMIT_TOKENS;
    }
    mbd_key_take(k, n, now_ns);
    return MBD_LIMIT_NONE;
}

void mbd_key_take(struct mbd_key *k, uint64_t n, uint64_t now_ns)
{
    if (k->limits.tokens_per_minute > 0) {
        use(&k->tokens, (double) k->limits.tokens_per_minute, (double) n, now_ns);
    }
}

void mbd_key_give_back(struct mbd_key *k, uint64_t n)
{
    k->tokens.used = k->tokens.used > (double) n ? k->tokens.used - (double) n : 0;
}

static struct mbd_limit_state state_of(const struct mbd_bucket *b, uint64_t limit,
                                       uint64_t now_ns)
{
    struct mbd_limit_state s = { .limit = limit };
    if (limit > 0) {
        double size = (double) limit, gone = used(b, size, now_ns);
        s.remaining = gone < size ? (uint64_t) (size - gone) : 0;
        s.reset_ns = (uint64_t) ceil(gone * MINUTE_NS / size);
    }
    return s;
}

struct mbd_limit_state mbd_key_requests(const struct mbd_key *k, uint64_t now_ns)
{
    return state_of(&k->requests, k->limits.requests_per_minute, now_ns);
}

struct mbd_limit_state mbd_key_tokens(const struct mbd_key *k, uint64_t now_ns)
{
    return state_of(&k->tokens, k->limits.tokens_per_minute, now_ns);
}

void mbd_duration_text(uint64_t ns, char ret[MBD_DURATION_TEXT])
{
    uint64_t ms = ns / (MBD_SECOND_NS / 1000) + (ns % (MBD_SECOND_NS / 1000) != 0);
    uint64_t minutes = ms / 60000, left = ms % 60000;
    if (ms < 1000) {
        (void) snprintf(ret, MBD_DURATION_TEXT, "%llums", (unsigned long long) ms);
        return;
    }
    int n = minutes > 0
                ? snprintf(ret, MBD_DURATION_TEXT, "%llum", (unsigned long long) minutes)
                : 0;
    (void) snprintf(ret + n, (size_t) (MBD_DURATION_TEXT - n), "%.10gs", (double) left / 1e3);
}
