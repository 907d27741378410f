/* How well a model predicts a text, and how far it is from another one.
 *
 *     nll   mean over predicted tokens of -ln p(token | tokens before it in its window)
 *     ppl   exp(nll)
 *     kl    mean over the same places of sum_v r(v) ln(r(v) / p(v)), r the reference
 *     top1  share of places where both would say the same token
 *
 * Exact:   the same figures for any number of threads and any instruction set of the kernels;
 *          the softmax here is in double, by the C library, with sums that ascend.
 * Memory:  logits of a few tokens; the KV cache of one window per model. */
#ifndef MB_CORE_EVALUATE_H
#define MB_CORE_EVALUATE_H

#include "core/base/parallel.h"
#include "core/base/progress.h"
#include "core/infer/windows.h"
#include "core/kernels/kernels.h"
#include "core/model/model.h"

struct mb_evaluation {
    uint64_t n_tokens; /* predicted */
    double nll, ppl;
    double kl, top1; /* 0 without a reference */
};

/* reference may be NULL; else it has the same vocabulary.
 * Errors: MB_E_INVALID (a token outside the vocabulary, different vocabularies), MB_E_NOMEM,
 * MB_E_CANCELLED when progress asks. */
enum mb_status mb_evaluate(const struct mb_model *m, const struct mb_model *reference,
                           const struct mb_windows *w, const struct mb_kernels *kernels,
                           struct mb_pool *pool, const struct mb_progress *progress,
                           struct mb_evaluation *ret, struct mb_error *err);

#endif
