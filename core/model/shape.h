/* What a decoder-only model is made of: widths, heads, layers, and the few numbers that change
 * its arithmetic. Validated once; everything downstream may rely on the bounds here.
 *
 * Threads: a value. */
#ifndef MB_CORE_SHAPE_H
#define MB_CORE_SHAPE_H

#include <stddef.h>
#include <stdint.h>

#include "proto/status.h"

#define MB_LAYERS_MAX     1024
#define MB_HEADS_MAX      1024
#define MB_HEAD_WIDTH_MAX 512
#define MB_WIDTH_MAX      (1u << 17)
#define MB_VOCAB_MAX      (1u << 20)
#define MB_CONTEXT_MAX    (1u << 20)
#define MB_EOS_MAX        16

struct mb_shape {
    uint32_t n_layers;
    uint32_t width;   /* D: the residual stream */
    uint32_t n_heads; /* H: query heads; a multiple of n_kv_heads */
    uint32_t n_kv_heads;
    uint32_t head_width; /* d: even; H * d need not be D */
    uint32_t ffn_width;  /* F */
    uint32_t n_vocab;    /* V */
    uint32_t context;    /* positions the model was made for */
    uint32_t window;     /* sliding attention window in positions, 0 for none: position i sees
                            j with i - window < j <= i */
    uint32_t n_planes;   /* P of coded activations: 1 or 4..8 */
    float norm_eps;
    uint32_t tied_head; /* 1: the head is the embedding */
};

/* Errors: MB_E_INVALID, naming the field and its range. */
enum mb_status mb_shape_check(const struct mb_shape *s, struct mb_error *err);

/* What a file that a shape was read from calls its fields. */
struct mb_shape_names {
    const char *n_layers, *width, *n_heads, *n_kv_heads, *head_width, *ffn_width, *n_vocab,
        *context, *window, *n_planes, *norm_eps, *tied_head;
};

/* The same for a reader of other people's files: an error names the field as the file does. */
enum mb_status mb_shape_check_as(const struct mb_shape *s, const struct mb_shape_names *names,
                                 struct mb_error *err);

static inline size_t mb_shape_q_width(const struct mb_shape *s)
{
    return (size_t) s->n_heads * s->head_width;
}

static inline size_t mb_shape_kv_width(const struct mb_shape *s)
{
    return (size_t) s->n_kv_heads * s->head_width;
}

#endif
