/* The merges of byte-pair encoding (Sennrich et al. 2016): of all neighbours that have a merge,
 * the one of lowest rank is merged, the leftmost first, until none is left.
 *
 * Cost: O(n log n) for a piece of n symbols, by a linked list of symbols and a heap of merges.
 *       A piece that no splitting pattern cut (the SentencePiece family: a whole text) is first
 *       cut where no merge joins the two characters that meet, so that lists and heaps are a
 *       word long.
 *
 * Life:    mb_merges _init/_fini, borrows the spec, immutable. mb_bpe is scratch: a zeroed one
 *          is initialized, one thread at a time. */
#ifndef MB_CORE_BPE_H
#define MB_CORE_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/tokenizer/spec.h"

/* First and last character of a token's text. */
struct mb_edges {
    uint32_t first, last;
};

/* The merge of two ids, by open addressing. */
struct mb_merges {
    const struct mb_bpe_merge *at; /* by rank */
    struct mb_merge_slot *slots;
    size_t mask;
    struct mb_edges *edges; /* of each token */
    uint64_t *joints; /* a bit for the hash of each two characters that some merge joins */
};

/* Errors: MB_E_NOMEM; MB_E_FORMAT for a table of colliding keys. Of two merges of the same
 * pair, the later one holds, as in the tokenizers library. */
enum mb_status mb_merges_init(struct mb_merges *m, const struct mb_bpe_spec *spec,
                              struct mb_error *err);
void mb_merges_fini(struct mb_merges *m);

/* The rank of (left, right), or MB_NO_ID. */
uint32_t mb_merges_rank(const struct mb_merges *m, uint32_t left, uint32_t right);

struct mb_symbol {
    uint32_t id;
    uint32_t previous, next; /* indexes while merging, MB_NO_ID at the ends */
    uint32_t rank;           /* of the merge with next, or MB_NO_ID */
};

struct mb_bpe {
    struct mb_symbol *symbols;
    size_t n, cap;
    uint64_t *heap; /* rank and index of the left symbol: the smallest is the next merge */
    size_t n_heap, heap_cap;
};

void mb_bpe_fini(struct mb_bpe *b);

/* A piece: clear, push its symbols, merge; the ids are then those of symbols[0, n).
 * push and merge give false when memory is refused. At most UINT32_MAX - 1 symbols. */
void mb_bpe_clear(struct mb_bpe *b);
bool mb_bpe_push(struct mb_bpe *b, uint32_t id);
bool mb_bpe_merge(struct mb_bpe *b, const struct mb_merges *m);

#endif
