/* Added tokens: found as a whole in the text, leftmost first, the longest of those.
 *
 * Cost: a few steps a byte of text, at most MB_BPE_ADDED_BYTES_MAX.
 * Life: _init/_fini. Threads: immutable after _init. */
#ifndef MB_CORE_ADDED_H
#define MB_CORE_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/tokenizer/normalize.h"
#include "core/tokenizer/spec.h"

struct mb_added_token {
    struct mb_bpe_text text; /* in texts */
    uint32_t id, flags;
};

struct mb_added {
    struct mb_added_token *tokens; /* by text, bytewise */
    size_t n;
    struct mb_bytes texts;
    bool leads[256]; /* bytes that some token starts with */
};

/* Where an added token is searched for: special tokens always in the raw text, so that "</s>"
 * is found behind a word also where the normalizer would change its spelling. */
enum mb_added_place { MB_ADDED_PLAIN, MB_ADDED_PLAIN_OR_SPECIAL, MB_ADDED_NORMALIZED };

/* Errors: MB_E_NOMEM, MB_E_LIMIT. */
enum mb_status mb_added_init(struct mb_added *a, const struct mb_bpe_spec *spec,
                             enum mb_added_place place, struct mb_error *err);
void mb_added_fini(struct mb_added *a);

/* The next token in text at or after from: bytes [*ret_start, *ret_end), with the white space
 * that it takes along, but none before from. False when there is none. */
bool mb_added_next(const struct mb_added *a, struct mb_text text, size_t from,
                   size_t *ret_start, size_t *ret_end, uint32_t *ret_id);

#endif
