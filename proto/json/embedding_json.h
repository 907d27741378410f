/* POST /v1/embeddings.
 *
 * Owns:    _fini frees what the decoder allocated; what the encoder returns is malloc'ed and the
 *          caller's, NULL when memory is refused.
 * Threads: pure, once mb_json_init has run. */
#ifndef MB_PROTO_EMBEDDING_JSON_H
#define MB_PROTO_EMBEDDING_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/wire_error.h"

#define MB_EMBEDDING_INPUTS_MAX 2048 /* OpenAI's limit */

struct mb_embedding_input {
    char *text; /* UTF-8, n bytes; NULL when ids are given */
    uint32_t *ids;
    size_t n; /* bytes or ids, at least one */
};

struct mb_embedding {
    char *model; /* NULL: the only one there is */
    struct mb_embedding_input *inputs;
    size_t n_inputs;
    bool base64;         /* encoding_format: little-endian float32 in base64, else numbers */
    uint32_t dimensions; /* 0: not said; another number than the model's width is not offered */
};

/* ret is written on success only. Errors: MB_E_INVALID or MB_E_NOMEM, with *err filled. */
enum mb_status mb_embedding_decode(const char *text, size_t n, struct mb_embedding *ret,
                                   struct mb_wire_error *err);
void mb_embedding_fini(struct mb_embedding *e);

struct mb_embedding_reply {
    const char *model;
    const float *vectors; /* [n][width] */
    size_t n;
    uint32_t width;
    bool base64;
    uint64_t prompt_tokens;
};
char *mb_embedding_encode(const struct mb_embedding_reply *r);

#endif
