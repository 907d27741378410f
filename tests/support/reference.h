/* The forward pass as a textbook has it, in float64: no cache, no batch, no kernels. It shares
 * with core only what defines a weight (mb_bool_row) and the model's own numbers.
 *
 * It comes in stages, so that a test of a Boolean model can start each of them from what the
 * engine had there: a code that falls on the other side of a boundary, by a rounding of
 * float32, would otherwise set the two computations apart for good. All sizes are of n tokens
 * of one sequence from position 0. Everything aborts when memory is refused. */
#ifndef MB_TESTS_REFERENCE_H
#define MB_TESTS_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/model/model.h"

void reference_embed(const struct mb_model *m, const uint32_t *tokens, size_t n, double *x);

/* An input of a block's linear layers, from what comes before it: MB_IN_ATTN and MB_IN_FFN from
 * the residual stream, MB_IN_ATTN_O from MB_IN_ATTN, MB_IN_FFN_DOWN from MB_IN_FFN. half_kv
 * rounds keys and values to float16, as a float16 cache does. */
void reference_input(const struct mb_model *m, uint32_t layer, enum mb_block_input i,
                     const double *from, size_t n, bool half_kv, double *ret);

/* x = x + W in, for MB_ATTN_O or MB_FFN_DOWN. */
void reference_add(const struct mb_model *m, uint32_t layer, enum mb_block_linear l,
                   const double *in, size_t n, double *x);

void reference_head(const struct mb_model *m, const double *x, size_t n, double *logits);

/* All of it: logits after every token, [n][n_vocab]. */
void reference_logits(const struct mb_model *m, const uint32_t *tokens, size_t n, bool half_kv,
                      double *ret);

#endif
