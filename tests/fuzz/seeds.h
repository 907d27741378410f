/* The checkpoints of the corpus: what they are called and what they are made of. */
#ifndef MB_TESTS_SEEDS_H
#define MB_TESTS_SEEDS_H

#include "tests/core/checkpoint/tiny_checkpoint.h"

#define SMALL(tied, window_)                                                             \
    {                                                                                    \
        .n_layers = 1, .width = 8, .n_heads = 2, .n_kv_heads = 1, .head_width = 4,       \
        .ffn_width = 33, .n_vocab = 20, .context = 16, .window = window_, .n_planes = 8, \
        .norm_eps = 1e-5f, .tied_head = tied                                             \
    }

static const struct {
    const char *name;
    struct tiny_options options;
} seeds[] = {
    { "small_full", { SMALL(0, 0), 2, 32, true, false } },
    { "small_tied", { SMALL(1, 4), 1, 64, false, false } },
    { "small_half", { SMALL(0, 0), 3, 32, false, true } },
};
enum { N_SEEDS = sizeof seeds / sizeof seeds[0] };

#endif
