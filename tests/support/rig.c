#include "tests/support/rig.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const rig_isas[] = { "auto", "no gfni", "no vbmi", "avx512", "avx2", "c", NULL };

/* Processors that were or are built, by what they lack of this one: with other pairs of products,
 * which cross elsewhere. */
static const struct lack {
    const char *name;
    mb_cpu_flags flags;
} lacks[] = {
    { "no gfni", MB_CPU_GFNI },
    { "no vbmi", MB_CPU_GFNI | MB_CPU_VBMI },
};

static enum mb_status narrow(const char *isa, mb_cpu_flags *ret, struct mb_error *err)
{
    mb_cpu_flags have = mb_cpu_detect();
    for (size_t i = 0; i < sizeof lacks / sizeof lacks[0]; i++) {
        if (strcmp(isa, lacks[i].name) == 0) {
            *ret = have & ~lacks[i].flags;
            return *ret != have ? MB_OK : MB_E_UNSUPPORTED;
        }
    }
    return mb_cpu_narrow(isa, have, ret, err);
}

static void need(enum mb_status st, const struct mb_error *err)
{
    if (st != MB_OK) {
        fprintf(stderr, "rig: %s\n", err->what);
        abort();
    }
}

bool rig_open(struct rig *r, const struct mb_model *m, const char *isa, size_t n_threads,
              enum mb_kv_type type)
{
    struct mb_error err = { 0 };
    mb_cpu_flags cpu;
    enum mb_status st = narrow(isa, &cpu, &err);
    if (st == MB_E_UNSUPPORTED) {
        return false;
    }
    need(st, &err);
    *r = (struct rig) { .model = m };
    mb_kernels_select(&r->kernels, cpu);
    need(mb_pool_new(n_threads, 0, &r->pool, &err), &err);
    uint32_t n_blocks = RIG_SEQS * mb_kv_blocks_for(RIG_POSITIONS_MAX);
    need(mb_kv_new(&m->shape, type, n_blocks, RIG_SEQS, RIG_POSITIONS_MAX, &r->kv, &err), &err);
    struct mb_stepper_options o = {
        .kernels = &r->kernels,
        .pool = r->pool,
        .tokens_max = RIG_TOKENS_MAX,
        .logits_max = RIG_TOKENS_MAX,
    };
    need(mb_stepper_new(m, &o, &r->stepper, &err), &err);
    mb_stepper_set_part_work(r->stepper, 1); /* use all threads, however small the model */
    return true;
}

void rig_close(struct rig *r)
{
    mb_stepper_free(r->stepper);
    mb_kv_free(r->kv);
    mb_pool_free(r->pool);
}

void rig_feed(struct rig *r, uint32_t seq, const uint32_t *tokens, uint32_t n, float *logits)
{
    struct mb_error err = { 0 };
    uint32_t position[RIG_TOKENS_MAX], seqs[RIG_TOKENS_MAX], all[RIG_TOKENS_MAX];
    assert(n <= RIG_TOKENS_MAX);
    uint32_t first = mb_kv_seq(r->kv, seq)->n_positions;
    for (uint32_t i = 0; i < n; i++) {
        position[i] = first + i;
        seqs[i] = seq;
        all[i] = i;
    }
    struct mb_batch b = { n, tokens, position, seqs, n, all };
    need(mb_kv_reserve(r->kv, seq, first + n, &err), &err);
    need(mb_step(r->stepper, r->model, r->kv, &b, NULL, logits, &err), &err);
}

uint32_t rig_argmax(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++) {
        best = logits[i] > logits[best] ? i : best;
    }
    return best;
}
