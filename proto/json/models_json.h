/* What GET /v1/models says.
 *
 * Owns:    what is returned is malloc'ed and the caller's; NULL when memory is refused.
 * Threads: pure. */
#ifndef MB_PROTO_MODELS_JSON_H
#define MB_PROTO_MODELS_JSON_H

#include <stddef.h>
#include <stdint.h>

struct mb_model_card {
    const char *id;
    int64_t created; /* seconds since 1970, when it became what it is: was loaded, or swapped */
    uint32_t context_max; /* positions of a sequence: max_model_len on the wire, as in vLLM */
    const char *fingerprint;
};

char *mb_model_card_encode(const struct mb_model_card *card);
char *mb_model_list_encode(const struct mb_model_card *cards, size_t n);

#endif
