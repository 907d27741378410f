/* From a token's text to its id.
 *
 * Life:    _init/_fini; borrows the spec. Threads: immutable after _init. */
#ifndef MB_CORE_VOCABULARY_H
#define MB_CORE_VOCABULARY_H

#include <stddef.h>
#include <stdint.h>

#include "core/tokenizer/spec.h"

/* Both tables of a tokenizer are open hashes at most half full. A run of taken slots longer
 * than this does not happen by chance: someone chose keys that collide, and is refused. */
#define MB_PROBES_MAX 1024u

struct mb_vocabulary {
    const struct mb_bpe_spec *spec;
    uint32_t *slots; /* ids, MB_NO_ID where free */
    size_t mask;     /* slots - 1, a power of two less one */
};

/* Errors: MB_E_FORMAT for two tokens of one text, MB_E_NOMEM. */
enum mb_status mb_vocabulary_init(struct mb_vocabulary *v, const struct mb_bpe_spec *spec,
                                  struct mb_error *err);
void mb_vocabulary_fini(struct mb_vocabulary *v);

/* The id of the token with this text, or MB_NO_ID. */
uint32_t mb_vocabulary_find(const struct mb_vocabulary *v, const uint8_t *at, size_t n);

#endif
