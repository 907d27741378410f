/* Everything that one step needs, put together for tests. */
#ifndef MB_TESTS_RIG_H
#define MB_TESTS_RIG_H

#include "core/infer/step.h"
#include "core/kernels/kernels.h"

struct rig {
    const struct mb_model *model; /* borrowed */
    struct mb_kernels kernels;
    struct mb_pool *pool;
    struct mb_kv_cache *kv;
    struct mb_stepper *stepper;
};

enum { RIG_TOKENS_MAX = 512, RIG_SEQS = 20, RIG_POSITIONS_MAX = 1280 };

/* Instruction sets to try, best first, ending with NULL: names of mb_cpu_narrow, and "no gfni" and
 * "no vbmi", which are this processor without those. What it lacks anyway rig_open refuses. */
extern const char *const rig_isas[];

/* false when this processor lacks the instruction set. Aborts on any other failure. */
bool rig_open(struct rig *r, const struct mb_model *m, const char *isa, size_t n_threads,
              enum mb_kv_type type);
void rig_close(struct rig *r);

/* Appends n tokens to a sequence in one step; logits [n][V] after each of them. */
void rig_feed(struct rig *r, uint32_t seq, const uint32_t *tokens, uint32_t n, float *logits);

/* The largest of n, the first of equals. */
uint32_t rig_argmax(const float *logits, uint32_t n);

#endif
