/* A budget of bits: how many kernels each linear layer of a model's blocks gets.
 *
 *     choose K of each layer so that  sum harm(layer, K)  is small
 *     while  sum bits(layer, K) <= budget * number of weights
 *
 * Bits are those of signs, group scales and coefficients of the blocks' linear layers, as
 * stored, padding included; not the embedding and head, whose K is given, nor norms and input
 * scales, which do not depend on K.
 *
 * With a text, harm is measured in the float model: the KL divergence from it when this layer
 * alone is replaced by a quick fit of K = 2 (error feedback, no descent, no following), times
 * e(K) / e(2), where e is the error of a quick fit's output: KL is quadratic in a small error.
 * Without one, it is the quick fit's error relative to the weights, times their number.
 *
 * Exact:   the same choice for the same model, text and options, whatever the threads.
 * Threads: one caller at a time per pool. */
#ifndef MB_CORE_BUDGET_H
#define MB_CORE_BUDGET_H

#include "core/convert/convert.h"
#include "core/infer/windows.h"

#define MB_BUDGET_KERNELS_MAX 4

/* One layer: index K - 1 is for K kernels. */
struct mb_budget_item {
    double harm[MB_BUDGET_KERNELS_MAX];
    uint64_t bytes[MB_BUDGET_KERNELS_MAX];
};

/* From K = 1 for all, one more kernel at a time goes where it undoes the most harm for its
 * bytes and still fits, the first of equals; until none fits or helps. What all of K = 1 take
 * must fit. Shapes: ret_kernels is [n]. */
void mb_budget_spend(const struct mb_budget_item *items, size_t n, uint64_t bytes_max,
                     uint8_t *ret_kernels);

/* Chooses for o->bits. m is a float model; w is the calibration text, or NULL.
 * Shapes: ret_kernels is [n_layers * MB_BLOCK_LINEARS].
 * Errors: MB_E_INVALID when K = 1 is above the budget already, for options, and for weights that
 * are not finite; MB_E_NOMEM, MB_E_CANCELLED. */
enum mb_status mb_budget_choose(const struct mb_model *m, const struct mb_windows *w,
                                const struct mb_convert_options *o,
                                const struct mb_kernels *kernels, struct mb_pool *pool,
                                const struct mb_progress *progress, uint8_t *ret_kernels,
                                struct mb_error *err);

#endif
