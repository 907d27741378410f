/* What is learned from: examples of tokens, each token marked as to be predicted or only read; and
 * batches of them, in an order that is a function of the seed alone.
 *
 * Text gives an example per window of a document (documents as in windows.h: BOS, the text, the
 * end of sequence), each window beginning with the last token of the one before, so that no token
 * goes unpredicted. A conversation gives one example, in which prompts are only read.
 *
 * Life:    _fini; a zeroed one is empty. Threads: one at a time. */
#ifndef MB_CORE_FINETUNE_DATASET_H
#define MB_CORE_FINETUNE_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/finetune/gradient.h"
#include "core/tokenizer/tokenizer.h"

struct mb_dataset {
    struct mb_ids ids; /* of all examples, end to end */
    uint8_t *learn;    /* [ids.len]: 1 for a token that is to be predicted */
    size_t learn_cap;
    size_t *start; /* [n + 1]: example i is ids [start[i], start[i + 1]), at least 2 */
    size_t n, start_cap;
    uint64_t n_learned; /* tokens to be predicted */
};

void mb_dataset_fini(struct mb_dataset *d);

/* Documents of text, cut into windows of at most window tokens, 2 or more.
 * Errors: MB_E_INVALID when the text gives nothing, MB_E_NOMEM. */
enum mb_status mb_dataset_add_text(struct mb_dataset *d, const struct mb_tokenizer *t,
                                   const char *text, size_t n, size_t window,
                                   struct mb_error *err);
/* One example; what is beyond window is left out. With nothing to predict, none is added, and
 * *ret_added is false. Errors: MB_E_NOMEM. */
enum mb_status mb_dataset_add(struct mb_dataset *d, const uint32_t *ids, const uint8_t *learn,
                              size_t n, size_t window, bool *ret_added, struct mb_error *err);

/* An example and its place in an epoch. */
struct mb_drawn {
    uint64_t key;
    uint32_t example;
};

/* Batches of whole examples in random order, each example once per epoch. A plain value but for
 * its memory; to go on later, keep epoch and at. */
struct mb_batches {
    const struct mb_dataset *data; /* borrowed for life */
    uint64_t seed, epoch;
    size_t at;         /* examples of this epoch that are used up */
    uint32_t tokens;   /* of a batch, at most */
    uint32_t examples; /* the same; 0: any number. Set after _init, before the first batch */
    struct mb_drawn *order; /* [data->n] of this epoch */
    uint32_t *start, *token, *target;
    float *weight;
};

/* tokens is at least the longest example less one. Errors: MB_E_INVALID, MB_E_NOMEM. */
enum mb_status mb_batches_init(struct mb_batches *b, const struct mb_dataset *data,
                               uint32_t tokens, uint64_t seed, struct mb_error *err);
void mb_batches_fini(struct mb_batches *b); /* a zeroed one is allowed */
/* As many examples as fit; the last batch of an epoch may be short. Borrowed until the next call. */
struct mb_train_batch mb_batches_next(struct mb_batches *b);
/* How many batches the first n_epochs are; where it stands then is as after _init. */
uint64_t mb_batches_count(struct mb_batches *b, uint32_t n_epochs);
/* Goes to where another one was. false when there is no such place. */
bool mb_batches_seek(struct mb_batches *b, uint64_t epoch, size_t at);

#endif
