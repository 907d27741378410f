/* A model: one immutable set of weights that any number of sequences read at once.
 *
 * The weights are views: into a mapped checkpoint (Boolean, or float16 for embedding and
 * head), or into mapped safetensors (the float model, the yardstick of conversion).
 *
 * Life:    an opener builds it; each user holds a reference; the last one closes the mapping.
 * Threads: reading and reference counts from any thread. S1: never changes once built. */
#ifndef MB_CORE_MODEL_H
#define MB_CORE_MODEL_H

#include <stdatomic.h>
#include <stdint.h>

#include "core/model/shape.h"
#include "core/tensor/bool_matrix.h"

enum mb_linear_kind {
    MB_LINEAR_BOOL,
    MB_LINEAR_F32,
    MB_LINEAR_F16,
    MB_LINEAR_BF16,
};

/* y = W x. dense is row-major [n_rows][n_cols] of the kind's element, any alignment. */
struct mb_linear {
    enum mb_linear_kind kind;
    uint32_t n_rows, n_cols;
    const void *dense;             /* NULL for MB_LINEAR_BOOL */
    struct mb_bool_matrix boolean; /* for MB_LINEAR_BOOL */
};

/* The linear layers of a decoder block. Order is the order of computation. */
enum mb_block_linear {
    MB_ATTN_Q,
    MB_ATTN_K,
    MB_ATTN_V,
    MB_ATTN_O,
    MB_FFN_GATE,
    MB_FFN_UP,
    MB_FFN_DOWN,
    MB_BLOCK_LINEARS
};

/* Their inputs: what is coded once and shared. attn_in feeds q, k, v; ffn_in gate and up. */
enum mb_block_input { MB_IN_ATTN, MB_IN_ATTN_O, MB_IN_FFN, MB_IN_FFN_DOWN, MB_BLOCK_INPUTS };

struct mb_block {
    const float *attn_norm, *ffn_norm; /* [D] */
    struct mb_linear linear[MB_BLOCK_LINEARS];
    const uint16_t *input_scale[MB_BLOCK_INPUTS]; /* t, float16 [width of the input], or NULL */
};

struct mb_model {
    struct mb_shape shape;
    const double *inv_freq; /* [head_width / 2], rope frequencies, scaling already applied */
    struct mb_linear embed; /* V x D */
    struct mb_linear head;  /* V x D; equals embed when tied */
    const uint16_t *head_input_scale; /* t of the head, or NULL */
    const float *final_norm;          /* [D] */
    struct mb_block *blocks;          /* [n_layers] */
    uint64_t digest; /* of everything that affects output; 0 for a float model */

    /* Life. release frees whatever the views point into; owner is its argument. */
    atomic_uint n_refs;
    void (*release)(void *owner);
    void *owner;
};

/* "attn_q", ..., as in the checkpoint's section names. */
const char *mb_block_linear_name(enum mb_block_linear l);
const char *mb_block_input_name(enum mb_block_input i); /* "attn_in", "attn_o_in", ... */
const char *mb_block_scale_name(enum mb_block_input i); /* "attn_in.t", ... */
enum mb_block_input mb_block_linear_input(enum mb_block_linear l);

/* Names of what a model is made of, the same in checkpoints and in messages:
 *
 *     embed  head  head_in.t  final_norm  rope.inv_freq
 *     blocks.<layer>.<part>    part: attn_norm, ffn_norm, a linear's name, the name of an
 *                              input's scale
 *
 * Writes "blocks.<layer>.<part>" and returns ret. */
#define MB_TENSOR_NAME_MAX 56 /* with the terminator */
const char *mb_block_tensor_name(char ret[MB_TENSOR_NAME_MAX], uint32_t layer,
                                 const char *part);

/* Rows and columns that linear l of a block must have, and the width of an input. */
void mb_block_linear_size(const struct mb_shape *s, enum mb_block_linear l, uint32_t *ret_rows,
                          uint32_t *ret_cols);
uint32_t mb_block_input_width(const struct mb_shape *s, enum mb_block_input i);

/* A model with the shape set, blocks allocated and zeroed, one reference; the opener fills the
 * views and then calls mb_model_check. */
enum mb_status mb_model_new(const struct mb_shape *shape, struct mb_model **ret,
                            struct mb_error *err);
struct mb_model *mb_model_ref(struct mb_model *m);
void mb_model_unref(struct mb_model *m); /* NULL is allowed */

/* Every linear present and of the size the shape asks for; linears that share an input agree
 * on their groups. Errors: MB_E_FORMAT, naming the tensor. */
enum mb_status mb_model_check(const struct mb_model *m, struct mb_error *err);

struct mb_checkpoint;
/* Takes its own reference on nothing: takes ownership of c on success, and closes it with the
 * last reference. Errors: MB_E_FORMAT when a section is missing or misshapen, MB_E_NOMEM. */
enum mb_status mb_model_from_checkpoint(struct mb_checkpoint *c, struct mb_model **ret,
                                        struct mb_error *err);

/* The checkpoint that m's weights are views into, which lives as long as m; NULL for others. */
const struct mb_checkpoint *mb_model_checkpoint(const struct mb_model *m);

/* Frequencies are 0..this: positions stay below MB_CONTEXT_MAX = 2^20, and mb_sincos takes angles
 * below 2^31. */
#define MB_INV_FREQ_MAX 1024.0

/* scale of rope: inv_freq[i] = theta^(-2i/d), i < d/2, then the Llama-3 correction when factor
 * is not 0 (Llama 3.1's config.json: factor, low_freq_factor, high_freq_factor,
 * original_max_position_embeddings). */
struct mb_rope_params {
    double theta, factor, low_freq_factor, high_freq_factor, original_context;
    double linear_factor; /* "linear" scaling: frequencies divided by it; 0 for none */
};
void mb_rope_frequencies(const struct mb_rope_params *p, uint32_t head_width, double *ret);

#endif
