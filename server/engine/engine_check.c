#include "server/engine/engine_check.h"

#include <stddef.h>

#include "core/base/parallel.h"
#include "server/engine/limits.h"

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
        const char *name; /* as whoever starts the daemon knows it */
        uint64_t value, most;
    } options[] = {
        { "--threads", o->threads, MB_THREADS_MAX },
        { "--max-sequences", o->sequences_max, MBD_SEQUENCES_MAX },
        { "--step-tokens", o->step_tokens_max, MBD_STEP_TOKENS_MAX },
        { "--queue-requests", o->queue_requests_max, MBD_QUEUE_REQUESTS_MAX },
        { "--queue-tokens", o->queue_tokens_max, UINT64_MAX },
        { "--context", mbd_engine_context(o, shape), shape->context },
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

uint32_t mbd_engine_context(const struct mbd_engine_options *o, const struct mb_shape *shape)
{
    return o->context_max != 0 ? o->context_max : shape->context;
}

enum mb_status mbd_engine_blocks(const struct mbd_engine_options *o,
                                 const struct mb_shape *shape, uint32_t *ret,
                                 struct mb_error *err)
{
    uint64_t block = mb_kv_block_bytes(shape, MB_KV_F16);
    uint64_t wanted =
        (uint64_t) o->sequences_max * mb_kv_blocks_for(mbd_engine_context(o, shape));
    uint64_t bytes = o->kv_bytes != 0 ? o->kv_bytes : mbd_memory_limit() / 4;
    uint64_t n = bytes / block < wanted ? bytes / block : wanted;
    if (n == 0) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "--kv-memory: %llu is below one block of %llu bytes",
                       (unsigned long long) bytes, (unsigned long long) block);
    }
    *ret = n < UINT32_MAX ? (uint32_t) n : UINT32_MAX;
    return MB_OK;
}

enum mb_status mbd_engine_check(const struct mbd_engine_options *o,
                                const struct mb_shape *shape,
                                const struct mb_tokenizer *tokenizer, struct mb_error *err)
{
    uint32_t n_blocks;
    enum mb_status st = check_options(o, shape, err);
    if (st == MB_OK) {
        st = mbd_engine_blocks(o, shape, &n_blocks, err);
    }
    return st == MB_OK ? check_tokens(tokenizer, err) : st;
}
