/* Pre-tokenization: a text into the pieces within which merges may happen.
 *
 * Life:    mb_splitter _init/_fini, borrows the spec, immutable. mb_pieces is scratch: a zeroed
 *          one is initialized, one thread at a time. */
#ifndef MB_CORE_SPLIT_H
#define MB_CORE_SPLIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/tokenizer/normalize.h"
#include "core/tokenizer/pattern.h"
#include "core/tokenizer/spec.h"

struct mb_splitter {
    const struct mb_bpe_spec *spec;
    struct mb_pattern *patterns[MB_BPE_STEPS_MAX]; /* of step i; NULL when it needs none */
    bool byte_level;                               /* pieces are bytes, not characters */
};

/* Errors: MB_E_FORMAT for a broken pattern, MB_E_NOMEM. */
enum mb_status mb_splitter_init(struct mb_splitter *s, const struct mb_bpe_spec *spec,
                                struct mb_error *err);
void mb_splitter_fini(struct mb_splitter *s);

/* Bytes [at, at + n) of the text, n > 0, at character boundaries, ascending. */
struct mb_piece {
    uint32_t at, n;
};

struct mb_piece_list {
    struct mb_piece *at;
    size_t len, cap;
};

struct mb_pieces {
    struct mb_text text; /* the split text, perhaps rewritten */
    struct mb_piece_list list;
    struct mb_piece_list spare;
    struct mb_rewrite rewrite;
};

void mb_pieces_fini(struct mb_pieces *p);

/* Fills p with the pieces of text, which is well-formed UTF-8 and outlives their use. first:
 * the text stands at the start of what is encoded. Errors: MB_E_LIMIT, MB_E_NOMEM. */
enum mb_status mb_split(const struct mb_splitter *s, struct mb_text text, bool first,
                        struct mb_matcher *m, struct mb_pieces *p, struct mb_error *err);

#endif
