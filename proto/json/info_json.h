/* What GET /version and GET /v1/mbool/info say.
 *
 * Owns:    what is returned is malloc'ed and the caller's; NULL when memory is refused.
 * Threads: pure. */
#ifndef MB_PROTO_INFO_JSON_H
#define MB_PROTO_INFO_JSON_H

#include <stddef.h>
#include <stdint.h>

struct mb_info_model {
    const char *id, *fingerprint;
    int64_t created;
    uint64_t epoch; /* the digest of all that affects its output: 16 hexadecimal digits */
    uint32_t n_layers, width, n_heads, n_kv_heads, head_width, ffn_width, n_vocab, context,
        window;
    uint32_t n_planes;                 /* bits of a coded activation */
    uint32_t kernels_min, kernels_max; /* of its Boolean matrices */
    double bits_per_weight;            /* of all matrices, scales and coefficients included */
    uint32_t context_max;              /* positions of a sequence here */
    uint32_t sequences_max, kv_blocks, kv_block_positions;
};

struct mb_info {
    const char *version;
    const char *isa; /* "avx512", ...: what the kernels use */
    uint32_t threads;
    uint64_t body_max, queue_tokens;
    uint32_t queue_requests, step_tokens, default_max_tokens;
    const struct mb_info_model *models;
    size_t n_models;
};

char *mb_version_encode(const char *version);
char *mb_info_encode(const struct mb_info *i);

#endif
