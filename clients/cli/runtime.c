#include "clients/cli/runtime.h"

#include <assert.h>
#include <time.h>

#include "clients/cli/command.h"

enum mb_status mbc_processor_open(const char *isa, size_t n_threads, struct mb_kernels *ret,
                                  struct mb_pool **ret_pool, struct mb_error *err)
{
    mb_cpu_flags cpu = 0;
    enum mb_status st = mb_cpu_narrow(isa, mb_cpu_detect(), &cpu, err);
    if (st == MB_OK) {
        mb_kernels_select(ret, cpu);
        st = mb_pool_new(n_threads, 0, ret_pool, err);
    }
    return st;
}

enum mb_status mbc_runtime_open(struct mbc_runtime *r, const struct mb_model *m,
                                const struct mbc_runtime_options *o, struct mb_error *err)
{
    *r = (struct mbc_runtime) { 0 };
    enum mb_status st = mb_cpu_narrow(o->isa, mb_cpu_detect(), &r->cpu, err);
    if (st != MB_OK) {
        return st;
    }
    uint32_t n_blocks =
        o->n_blocks > 0 ? o->n_blocks : o->n_seqs * mb_kv_blocks_for(o->positions_max);
    mb_kernels_select(&r->kernels, r->cpu);
    st = mb_pool_new(o->n_threads, 1, &r->pool, err);
    if (st == MB_OK) {
        mb_pool_pin_caller(r->pool);
        st = mb_kv_new(&m->shape, o->kv_type, n_blocks, o->n_seqs, o->positions_max, &r->kv,
                       err);
    }
    if (st == MB_OK) {
        struct mb_stepper_options so = {
            .kernels = &r->kernels,
            .pool = r->pool,
            .tokens_max = o->tokens_max,
            .logits_max = o->logits_max,
        };
        st = mb_stepper_new(m, &so, &r->stepper, err);
    }
    if (st != MB_OK) {
        mbc_runtime_close(r);
    }
    return st;
}

void mbc_runtime_close(struct mbc_runtime *r)
{
    mb_stepper_free(r->stepper);
    mb_kv_free(r->kv);
    mb_pool_unpin_caller(r->pool);
    mb_pool_free(r->pool);
    *r = (struct mbc_runtime) { 0 };
}

enum { CHUNK_MAX = 512 };

enum mb_status mbc_runtime_feed(struct mbc_runtime *r, const struct mb_model *m, uint32_t seq,
                                const uint32_t *tokens, uint32_t n, uint32_t tokens_max,
                                float *logits, struct mb_error *err)
{
    uint32_t position[CHUNK_MAX], seqs[CHUNK_MAX];
    uint32_t chunk = tokens_max < CHUNK_MAX ? tokens_max : CHUNK_MAX;
    uint32_t first = mb_kv_seq(r->kv, seq)->n_positions;
    assert(chunk > 0);
    enum mb_status st = mb_kv_reserve(r->kv, seq, first + n, err);
    for (uint32_t at = 0, here; st == MB_OK && at < n; at += here) {
        if (mbc_interrupted()) {
            return mb_fail(err, MB_E_CANCELLED, 0, "interrupted");
        }
        here = n - at < chunk ? n - at : chunk;
        for (uint32_t i = 0; i < here; i++) {
            position[i] = first + at + i;
            seqs[i] = seq;
        }
        uint32_t last = here - 1;
        struct mb_batch b = {
            .n_tokens = here,
            .token = tokens + at,
            .position = position,
            .seq = seqs,
            .n_logits = at + here == n, /* only the last token of all is asked */
            .logits_of = &last,
        };
        st = mb_step(r->stepper, m, r->kv, &b, NULL, logits, err);
    }
    return st;
}

double mbc_now_s(void)
{
    struct timespec t;
    (void) clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}
