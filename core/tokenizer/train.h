/* Learns a tokenizer from a text: byte-level, split by GPT-2's pattern, merging the most
 * frequent pair of neighbours over and over (Sennrich, Haddow, Birch 2016).
 *
 * Threads: pure. Cost: O(merges * symbols of the distinct words). */
#ifndef MB_CORE_TOKENIZER_TRAIN_H
#define MB_CORE_TOKENIZER_TRAIN_H

#include "core/tokenizer/spec.h"

#define MB_BPE_TRAIN_VOCAB_MAX (1u << 16)
#define MB_BPE_TRAIN_BYTES_MAX ((size_t) 1 << 30)

struct mb_bpe_train {
    uint32_t n_vocab; /* special tokens, 256 bytes, and as many merges as it takes; fewer when
                         the text has no pair left that occurs twice and makes no token of
                         more than MB_BPE_TOKEN_BYTES_MAX bytes */
    const char *const *special; /* [n_special], ids from 0 */
    uint32_t n_special;
    uint32_t bos, eos; /* ids of special tokens, or MB_NO_ID; bos is put before a text */
};

/* The same text and options give the same tokenizer; of pairs that are equally frequent the one
 * with smaller ids is merged first. *ret passes mb_bpe_spec_check.
 * Errors: MB_E_INVALID (n_vocab out of range, text is not UTF-8), MB_E_LIMIT, MB_E_NOMEM. */
enum mb_status mb_bpe_train(const struct mb_bpe_train *o, const uint8_t *text, size_t n,
                            struct mb_bpe_spec **ret, struct mb_error *err);

#endif
