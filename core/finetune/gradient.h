/* The gradient engine: a batch of sequences forward through a model, a loss, and backward. Weights
 * of any kind are expanded to float32 one linear layer at a time; a layer's weight gradient is
 * handed to a sink at once, which may change the layer in place, and is then forgotten.
 *
 *     loss = ce * cross-entropy + kl * KL(teacher || model) + match * hidden distance
 *
 * cross-entropy and KL are means over predicted tokens, weighed by the batch; the distance is the
 * mean over blocks and tokens of |x - x_teacher|^2 / |x_teacher|^2, x a block's output.
 *
 * Inputs of Boolean layers are coded by P planes in inference. With code_inputs they are here
 * too, and the derivative of coding is taken for 1; at P = 8 it makes no difference worth its
 * time (README.md).
 *
 * Memory:  T tokens of a batch: per block T (4 D + 2 Q + 2 C + 3 F + H + 2) floats (Q = H d, C the
 *          width of keys), and with recompute T D per block and the rest once; T D per block
 *          more for a teacher that is matched; the largest weight matrix twice; two chunks of logits.
 * Exact:   the same from the same on one kind of processor, whatever the threads.
 * Threads: one caller at a time; the pool's workers run inside. */
#ifndef MB_CORE_FINETUNE_GRADIENT_H
#define MB_CORE_FINETUNE_GRADIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/parallel.h"
#include "core/finetune/ops.h"
#include "core/model/model.h"

/* Sequences end to end, each from position 0. */
struct mb_train_batch {
    uint32_t n_tokens, n_seqs;
    const uint32_t *start;  /* [n_seqs + 1]: sequence i is tokens [start[i], start[i + 1]) */
    const uint32_t *token;  /* [n_tokens] */
    const uint32_t *target; /* [n_tokens]: what should follow */
    const float *weight;    /* [n_tokens]: of that prediction, 0 for a masked one */
};

/* What a gradient is of. */
enum mb_param_kind {
    MB_PARAM_EMBED, /* V x D; of a tied head too */
    MB_PARAM_HEAD,  /* V x D */
    MB_PARAM_HEAD_SCALE,
    MB_PARAM_FINAL_NORM,
    MB_PARAM_LINEAR,      /* index: enum mb_block_linear */
    MB_PARAM_INPUT_SCALE, /* index: enum mb_block_input */
    MB_PARAM_ATTN_NORM,
    MB_PARAM_FFN_NORM,
};
struct mb_param {
    enum mb_param_kind kind;
    uint32_t layer, index; /* 0 where they say nothing */
};

/* Who takes the gradients, from the last parameter to the first. dw is d loss / d W of W as the
 * linear layer holds it ([n_rows][n_cols]), or of the vector; take may overwrite it. What take
 * changes is used from the next forward pass on. */
struct mb_sink {
    bool (*wants)(void *self, const struct mb_param *p);
    enum mb_status (*take)(void *self, const struct mb_param *p, float *dw,
                           struct mb_error *err);
    void *self;
};

struct mb_gradient_options {
    struct mb_pool *pool;           /* borrowed for life; NULL is one thread */
    const struct mb_train_ops *ops; /* borrowed for life */
    uint32_t tokens_max;            /* of a batch */
    uint32_t positions_max;         /* of a sequence */
    bool recompute; /* a block's activations on the way back: a third more time */
    bool code_inputs;
    float ce, kl, match; /* weights of the loss; kl and match need a teacher */
};

struct mb_losses {
    double total, cross_entropy, divergence, match;
    double weight; /* sum of the batch's weights */
};

struct mb_gradient;

/* For models of m's shape; the embedding and linear layers may be of any kind.
 * Errors: MB_E_INVALID, MB_E_NOMEM. */
enum mb_status mb_gradient_new(const struct mb_model *m, const struct mb_gradient_options *o,
                               struct mb_gradient **ret, struct mb_error *err);
void mb_gradient_free(struct mb_gradient *g); /* NULL is allowed */

/* Can teacher teach m? Errors: MB_E_INVALID. */
enum mb_status mb_gradient_check_teacher(const struct mb_model *m,
                                         const struct mb_model *teacher, struct mb_error *err);

/* Forward, and backward when sink is not NULL. teacher may be NULL; else it has m's shape, but
 * for planes. Errors: MB_E_INVALID for a batch out of bounds, a token outside the vocabulary,
 * no weight at all, a loss that is not finite; what take returns. */
enum mb_status mb_gradient_run(struct mb_gradient *g, const struct mb_model *m,
                               const struct mb_model *teacher, const struct mb_train_batch *b,
                               const struct mb_sink *sink, struct mb_losses *ret,
                               struct mb_error *err);

/* Where the time went, in nanoseconds, when the engine was given a clock. */
enum mb_gradient_phase {
    MB_GRADIENT_EXPAND,
    MB_GRADIENT_PRODUCT,
    MB_GRADIENT_ATTEND,
    MB_GRADIENT_POINTWISE,
    MB_GRADIENT_LOSS,
    MB_GRADIENT_SINK,
    MB_GRADIENT_PHASES
};
void mb_gradient_set_clock(struct mb_gradient *g, uint64_t (*now_ns)(void));
void mb_gradient_times(const struct mb_gradient *g, uint64_t ret_ns[MB_GRADIENT_PHASES]);
const char *mb_gradient_phase_name(enum mb_gradient_phase p);

#endif
