/* A checkpoint of random weights in the shape of a known model: what it takes to measure speed
 * without anyone's weights. Nothing in it is zero or otherwise kind to a processor, and its
 * scales are those of trained models, so that activations stay finite and logits within a few
 * units.
 *
 *     signs         independent, each as likely as the other
 *     coefficients  falling by about half from kernel to kernel, as in fits to normal weights,
 *                   with sum at most 127; they and s vary from group to group
 *     size          the root mean square of a weight is n^-1/2 for n inputs, over
 *                   (2 layers)^1/2 where the output is added to the residual stream
 *     t             of every input of a block, 3/4 to 5/4
 *     tokenizer     the 256 bytes, <s>, </s>, and an invented word for every other id
 *
 * Exact:   the same options give the same bytes.
 * Memory:  the largest tensor, embedding or head.
 * Threads: one caller; nothing is shared. */
#ifndef MB_CORE_SYNTH_H
#define MB_CORE_SYNTH_H

#include "core/base/progress.h"
#include "core/model/model.h"
#include "core/model/shape.h"

#define MB_SYNTH_VOCAB_MIN 258 /* the bytes, <s> and </s> */

struct mb_synth_options {
    struct mb_shape shape;
    double rope_theta;
    uint32_t n_kernels;    /* K, 1..MB_KERNELS_MAX, of the blocks' layers */
    uint32_t head_kernels; /* of embedding and head; 0 is float16 */
    uint32_t group;        /* G, a multiple of 32; 0 is a whole row */
    uint64_t seed;
};

/* A published model's sizes, under the name that people know it by. */
struct mb_synth_model {
    const char *name;
    struct mb_shape shape;
    double rope_theta;
};

/* The ith of them, or NULL. */
const struct mb_synth_model *mb_synth_model_at(size_t i);
/* By name, or NULL. */
const struct mb_synth_model *mb_synth_model_find(const char *name);

/* Writes path, replacing it whole or not at all. Progress is in bytes.
 * Errors: MB_E_INVALID naming an option, MB_E_NOMEM, MB_E_IO, MB_E_CANCELLED. */
enum mb_status mb_synth(const char *path, const struct mb_synth_options *o,
                        const struct mb_progress *progress, struct mb_error *err);

#endif
