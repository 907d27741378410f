/* Inside the gradient engine: what a forward pass keeps for the way back, and the steps that the
 * files of the engine share. Letters as in core/README.md, with Q = H d and C = kv heads * d. */
#ifndef MB_CORE_FINETUNE_TAPE_H
#define MB_CORE_FINETUNE_TAPE_H

#include "core/finetune/gradient.h"
#include "core/finetune/product.h"

/* Of one block. Inputs of linear layers are kept as the layers see them, scaled by t. */
struct mb_kept {
    float *attn_rms, *ffn_rms;      /* [T]: 1 / rms of the norms' inputs */
    float *attn_in, *mid, *ffn_in;  /* [T][D]; mid is the stream between the two halves */
    float *q, *attn_o_in;           /* [T][Q]; q and k are turned already */
    float *k, *v;                   /* [T][C] */
    float *lse;                     /* [T][H] */
    float *gate, *up, *ffn_down_in; /* [T][F] */
};

struct mb_gradient {
    struct mb_gradient_options o;
    struct mb_shape shape;
    size_t widest; /* input of a linear layer */
    size_t chunk;  /* tokens whose logits are held at once */

    struct mb_kept *kept; /* [n_layers], or one with recompute */
    float **stream;       /* [n_layers + 1][T][D]: block inputs, and the last one's output */
    uint32_t *position;   /* [T] */
    float *cos, *sin;     /* [positions][d/2] */
    float *w, *dw;        /* of the largest linear layer, the head included */
    float *dembed;        /* [V][D]; NULL until the embedding's gradient is wanted */
    float *t;             /* [widest]: an input scale in float32 */
    float *logits;        /* [chunk][V] */
    float *head_in;       /* [chunk][D] */
    float *head_rms;      /* [chunk] */
    float *ends;          /* [2][D]: gradients of final norm and head scale */
    float *dx;            /* [T][D]: of the stream */
    float *din;           /* [T][widest]: of a linear layer's input */
    float *dq, *dk, *dv;  /* [T][Q], [T][C] */
    float *dgate, *dup;   /* [T][F] */
    float *scratch;       /* [threads][attention] */
    float *partial;       /* [parts of rows][max(widest, 2 D)]: sums over tokens, to be added */
    float *vector;        /* as wide: a vector's gradient */
    struct mb_token_loss *token_loss; /* [chunk] */
    float *row_match;                 /* [T] */

    /* NULL until there is a teacher. */
    float **teacher;  /* [n_layers + 1][T][D]; two that take turns, unless they are matched */
    float *teacher_w; /* [V][D]: its head */
    float *teacher_logits; /* [chunk][V] */

    uint64_t (*now_ns)(void);
    uint64_t lap_ns, times_ns[MB_GRADIENT_PHASES];
};

/* The time since the last lap goes to phase. */
void mb_gradient_lap(struct mb_gradient *g, enum mb_gradient_phase phase);

/* Runs fn for [from, to) rows of tokens in parts of fixed size. */
enum { MB_GRADIENT_ROWS = 32 };
typedef void mb_rows_fn(void *args, size_t from, size_t to, size_t part);
void mb_gradient_rows(struct mb_gradient *g, size_t n, mb_rows_fn *fn, void *args);
/* ret[i] = sum over the parts of n rows of partial[part][i], in order. */
void mb_gradient_sum_parts(struct mb_gradient *g, size_t n, size_t width, float *ret);

/* t as float32 in g->t, or NULL. */
const float *mb_gradient_scale(struct mb_gradient *g, const uint16_t *t, size_t n);

/* y = x W^T for T tokens. */
void mb_gradient_linear(struct mb_gradient *g, const struct mb_linear *l, const float *x,
                        size_t n_tokens, float *y, float beta);

/* Does attention of all sequences, on the pool; forward, or backward when dout is not NULL. */
void mb_gradient_attend(struct mb_gradient *g, const struct mb_train_batch *b,
                        const struct mb_kept *k, float *out, const float *dout);

void mb_gradient_embed(struct mb_gradient *g, const struct mb_model *m,
                       const struct mb_train_batch *b, float *x);
/* From the stream's block input into what is kept, and its output. */
void mb_gradient_block(struct mb_gradient *g, const struct mb_model *m, uint32_t layer,
                       const struct mb_train_batch *b, struct mb_kept *k, const float *x,
                       float *ret);
/* g->dx from a block's output to its input; gradients to the sink. */
enum mb_status mb_gradient_block_back(struct mb_gradient *g, const struct mb_model *m,
                                      uint32_t layer, const struct mb_train_batch *b,
                                      const struct mb_kept *k, const float *x,
                                      const struct mb_sink *sink, struct mb_error *err);
/* Losses, and g->dx at the last block's output when sink is not NULL. */
enum mb_status mb_gradient_head(struct mb_gradient *g, const struct mb_model *m,
                                const struct mb_model *teacher, const struct mb_train_batch *b,
                                const struct mb_sink *sink, struct mb_losses *ret,
                                struct mb_error *err);

#endif
