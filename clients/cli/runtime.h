/* What it takes to run a model from the command line: kernels, threads, cache and scratch. */
#ifndef MBC_RUNTIME_H
#define MBC_RUNTIME_H

#include "core/infer/step.h"
#include "core/kernels/kernels.h"

#define MBC_ISA_OPTION                                                      \
    {                                                                       \
        "isa", "NAME", "auto, avx512vnni, avx512, avx2 or c (default auto)" \
    }

struct mbc_runtime {
    mb_cpu_flags cpu; /* what the kernels may use */
    struct mb_kernels kernels;
    struct mb_pool *pool;
    struct mb_kv_cache *kv;
    struct mb_stepper *stepper;
};

/* Kernels of the instruction set isa (as mb_cpu_narrow has it), and threads that are not
 * pinned. Errors: MB_E_INVALID for an isa that there is not; the pool's. */
enum mb_status mbc_processor_open(const char *isa, size_t n_threads, struct mb_kernels *ret,
                                  struct mb_pool **ret_pool, struct mb_error *err);

struct mbc_runtime_options {
    const char *isa; /* as mb_cpu_narrow has it */
    size_t n_threads;
    enum mb_kv_type kv_type;
    uint32_t n_seqs, positions_max;  /* every sequence can have them all, unless */
    uint32_t n_blocks;               /* so many blocks are for all together; 0: no such bound */
    uint32_t tokens_max, logits_max; /* of a step */
};

/* r may not move while it is open: the stepper borrows the kernels. */
enum mb_status mbc_runtime_open(struct mbc_runtime *r, const struct mb_model *m,
                                const struct mbc_runtime_options *o, struct mb_error *err);
void mbc_runtime_close(struct mbc_runtime *r); /* a zeroed one is allowed */

/* Appends n tokens to a sequence, at most tokens_max a step; logits [V] after the last of them.
 * Errors: MB_E_CANCELLED after Ctrl-C. */
enum mb_status mbc_runtime_feed(struct mbc_runtime *r, const struct mb_model *m, uint32_t seq,
                                const uint32_t *tokens, uint32_t n, uint32_t tokens_max,
                                float *logits, struct mb_error *err);

/* Seconds of the steady clock. */
double mbc_now_s(void);

#endif
