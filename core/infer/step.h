/* One step of inference: a batch of tokens, each at a position of a sequence, through the
 * model; logits for those that ask.
 *
 * A1: a token's logits depend on its sequence's tokens alone. Not on what else is in the batch,
 * how a prompt was cut into steps, the number of threads, or the instruction set.
 *
 * Memory:  a stepper owns all scratch, sized at _new; a step allocates nothing.
 * Threads: one step at a time per stepper; the pool's workers run inside it. */
#ifndef MB_CORE_STEP_H
#define MB_CORE_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/parallel.h"
#include "core/infer/kv_cache.h"
#include "core/model/model.h"

/* The tokens of a step, in any order but: tokens of one sequence ascend in position and stand
 * after all its earlier positions, which are stored already or stand before them in the batch. */
struct mb_batch {
    uint32_t n_tokens;
    const uint32_t *token;    /* [n_tokens], below n_vocab */
    const uint32_t *position; /* [n_tokens] */
    const uint32_t *seq;      /* [n_tokens], index of a sequence of the cache */
    uint32_t n_logits;
    const uint32_t *logits_of; /* [n_logits], ascending indexes into the above */
};

struct mb_stepper;

#define MB_STEP_TOKENS_MAX (1u << 16) /* far above what a step gains anything by */

struct mb_stepper_options {
    const struct mb_kernels *kernels; /* borrowed for life */
    struct mb_pool *pool;             /* borrowed for life; NULL is one thread */
    uint32_t tokens_max;              /* of a step, 1..MB_STEP_TOKENS_MAX */
    uint32_t logits_max;              /* of a step, 0..tokens_max */
};

/* Scratch for any model of this shape whose groups are at least as in model (the scratch of a
 * stepper fits the model that it was made with and its later versions, S4). */
enum mb_status mb_stepper_new(const struct mb_model *m, const struct mb_stepper_options *o,
                              struct mb_stepper **ret, struct mb_error *err);
void mb_stepper_free(struct mb_stepper *s);

/* How many multiply-adds are worth handing to a thread; what is smaller the caller's thread does
 * alone. No effect on any bit. The default is a microsecond or two of a product: what it costs
 * to call a thread that spins, and to fetch what it wrote, if it is on another chip of the
 * processor. See core/kernels/README.md, "How many threads". */
#define MB_STEP_PART_WORK ((size_t) 1 << 17)
void mb_stepper_set_part_work(struct mb_stepper *s, size_t work);

/* Runs the batch. Reserves no blocks: every position must be reserved in kv. On success the
 * sequences' n_positions have grown, and logits is [n_logits][n_vocab].
 * Errors: MB_E_INVALID for a token, position or sequence out of range (nothing was changed);
 * MB_E_CANCELLED when *cancel became true between layers (the positions of this step are then
 * not counted; cancel may be NULL). */
enum mb_status mb_step(struct mb_stepper *s, const struct mb_model *m, struct mb_kv_cache *kv,
                       const struct mb_batch *b, const atomic_bool *cancel, float *logits,
                       struct mb_error *err);

/* Sees the inputs of a block's linear layers as they pass: x is [n_tokens][width], float32,
 * after the input scale t. For calibration. Returns false to stop the step, which then
 * ends with MB_E_CANCELLED. */
struct mb_tap {
    bool (*see)(void *self, uint32_t layer, enum mb_block_input input, const float *x,
                uint32_t n_tokens, uint32_t width);
    void *self;
};

/* The parts of a step, for callers that walk the layers themselves (conversion). x is
 * [n_tokens][D], the residual stream. They check the batch as mb_step does, but do not count
 * its positions as stored, so that one layer after the other may pass over them; kv_layer is
 * where in the cache this layer keeps its K and V. */
enum mb_status mb_step_embed(struct mb_stepper *s, const struct mb_model *m,
                             const struct mb_batch *b, float *x, struct mb_error *err);
enum mb_status mb_step_block(struct mb_stepper *s, const struct mb_model *m, uint32_t layer,
                             struct mb_kv_cache *kv, uint32_t kv_layer,
                             const struct mb_batch *b, const struct mb_tap *tap, float *x,
                             struct mb_error *err);
/* Final norm and head of n rows of x. */
enum mb_status mb_step_head(struct mb_stepper *s, const struct mb_model *m, const float *x,
                            uint32_t n, float *logits, struct mb_error *err);

/* Token i of the last step's batch behind the last block, after the final norm: what the head would
 * read but for its input scale. Until the next step. ret is [D], of any alignment. */
void mb_step_hidden(const struct mb_stepper *s, const struct mb_model *m, uint32_t i,
                    float *ret);

/* Where the time of the steps since set_clock went, in nanoseconds, when the stepper was given
 * a clock (core itself reads none). The pool gets the same clock, see mb_pool_waited_ns. */
enum mb_phase {
    MB_PHASE_EMBED,
    MB_PHASE_NORM,
    MB_PHASE_CODE,
    MB_PHASE_PRODUCT,
    MB_PHASE_ATTEND,
    MB_PHASE_GATE,
    MB_PHASE_HEAD,
    MB_PHASE_BARRIER, /* threads waiting for each other, taken out of the others */
    MB_PHASES
};
void mb_stepper_set_clock(struct mb_stepper *s, uint64_t (*now_ns)(void));
void mb_stepper_times(const struct mb_stepper *s, uint64_t ret_ns[MB_PHASES]);
const char *mb_phase_name(enum mb_phase p);

#endif
