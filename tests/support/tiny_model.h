/* Random Boolean models, small enough to be made in memory by every test. */
#ifndef MB_TESTS_TINY_MODEL_H
#define MB_TESTS_TINY_MODEL_H

#include <stdbool.h>

#include "core/model/model.h"

struct tiny_spec {
    const char *name;
    struct mb_shape shape;
    uint32_t n_kernels; /* of the blocks' layers: layer l of a block has 1 + (K - 1 + l) % K */
    uint32_t group;
    bool half_embed;   /* embedding and head in float16, else Boolean with 4 kernels */
    bool input_scales; /* a t for every input */
};

/* Shapes that cover what can go wrong: ragged widths, odd groups, short heads, few planes. */
extern const struct tiny_spec tiny_specs[];
enum { TINY_SPECS = 5 };

/* The same weights for the same spec and seed. Aborts when memory is refused. */
struct mb_model *tiny_model_new(const struct tiny_spec *spec, uint64_t seed);

/* Adds all tensors of m. */
struct mb_checkpoint_writer;
enum mb_status tiny_model_add(struct mb_checkpoint_writer *w, const struct mb_model *m,
                              struct mb_error *err);

/* Writes a Boolean model (made above, or read) as a checkpoint without a tokenizer. */
enum mb_status tiny_model_write(const struct mb_model *m, const char *path,
                                struct mb_error *err);

#endif
