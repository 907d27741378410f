#include "server/engine/engine_check.h"

#include <stddef.h>

#include "core/base/parallel.h"

static enum mb_status check_option(const char *name, uint64_t value, uint64_t most,
                                   struct mb_error *err)
{
    if (value < 1 || value > most) {
        return mb_fail(err, MB_E_INVALID, 0, "%s: %llu is outside 1..%llu", name,
                       (unsigned long long) value, (unsigned long long) most);
    }
    return MB_OK;
}

static enum mb_status check_options(const struct mbd_engine_options *o,
                                    const struct mb_shape *shape, struct mb_error *err)
{
    const struct {
        const char *name;
        uint64_t value, most;
    } options[] = {
        { "threads", o->threads, MB_THREADS_MAX },
        { "sequences_max", o->sequences_max, MBD_SEQUENCES_MAX },
        { "step_tokens_max", o->step_tokens_max, MBD_STEP_TOKENS_MAX },
        { "queue_requests_max", o->queue_requests_max, MBD_QUEUE_REQUESTS_MAX },
        { "queue_tokens_max", o->queue_tokens_max, UINT64_MAX },
        { "context_max", o->context_max, shape->context },
    };
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < sizeof options / sizeof options[0] && st == MB_OK; i++) {
        st = check_option(options[i].name, options[i].value, options[i].most, err);
    }
    return st;
}

static enum mb_status check_tokens(const struct mb_tokenizer *t, struct mb_error *err)
{
    uint32_t n_vocab = mb_tokenizer_n_vocab(t);
    for (uint32_t id = 0; id < n_vocab; id++) {
        size_t n;
        (void) mb_tokenizer_token_bytes(t, id, &n);
        if (n > MBD_TOKEN_BYTES_MAX) {
            return mb_fail(err, MB_E_UNSUPPORTED, 0,
                           "tokenizer: token %u has %zu bytes; at most %u", (unsigned) id, n,
                           (unsigned) MBD_TOKEN_BYTES_MAX);
        }
    }
    return MB_OK;
}

enum mb_status mbd_engine_check(const struct mbd_engine_options *o,
                                const struct mb_shape *shape,
                                const struct mb_tokenizer *tokenizer, struct mb_error *err)
{
    enum mb_status st = check_options(o, shape, err);
    return st == MB_OK ? check_tokens(tokenizer, err) : st;
}
