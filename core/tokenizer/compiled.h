/* What a spec becomes to be used: tables. Between tokenizer.c, which builds it, encode.c and
 * decode.c.
 *
 * Threads: immutable once mb_tokenizer_new returns. */
#ifndef MB_CORE_COMPILED_H
#define MB_CORE_COMPILED_H

#include "core/tokenizer/added.h"
#include "core/tokenizer/bpe.h"
#include "core/tokenizer/spec.h"
#include "core/tokenizer/split.h"
#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/vocabulary.h"

struct mb_tokenizer {
    struct mb_bpe_spec *spec; /* owned; the tables below borrow from it */
    struct mb_vocabulary vocabulary;
    struct mb_merges merges;
    struct mb_splitter splitter;
    struct mb_added added[MB_ADDED_NORMALIZED + 1]; /* by enum mb_added_place */
    uint32_t
        byte_ids[256]; /* of each byte's token in byte-level and byte-fallback vocabularies */

    struct mb_bytes decoded;        /* all tokens' bytes, decoded */
    struct mb_bpe_text *decoded_of; /* [n_tokens], in decoded */
    bool strips_first;              /* one leading strip_byte is not text */
    uint8_t strip_byte;
};

/* Fills decoded, decoded_of and strips_first from the decoder's steps. Errors: MB_E_NOMEM,
 * MB_E_LIMIT when the decoded tokens are far longer than the vocabulary. */
enum mb_status mb_decode_compile(struct mb_tokenizer *t, struct mb_error *err);

#endif
