/* A completion request as the wire means it (OpenAI's POST /v1/completions), decoded and in
 * bounds: fields, defaults, limits. JSON is in proto/json.
 *
 * Life:    _init sets the defaults; _fini frees what the decoder allocated.
 * Threads: a value. */
#ifndef MB_PROTO_COMPLETION_H
#define MB_PROTO_COMPLETION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/response_format.h"
#include "proto/status.h"

/* Bounds of the wire, each with its reason. */
#define MB_BODY_BYTES_MAX          (8u << 20) /* a 1M-token prompt as text */
#define MB_STOPS_MAX               4          /* OpenAI's limit */
#define MB_STOP_BYTES_MAX          1024       /* held back while it may still match */
#define MB_COMPLETION_LOGPROBS_MAX 5          /* OpenAI's limit on completions */
#define MB_MODEL_NAME_MAX          128
#define MB_MAX_TOKENS_DEFAULT      16         /* OpenAI's default */
#define MB_MAX_TOKENS_MAX          (1u << 20) /* no context is longer */
#define MB_PROMPT_IDS_MAX          (1u << 20) /* the same */

struct mb_completion {
    char *model;  /* NULL: the only one there is */
    char *prompt; /* UTF-8, n_prompt bytes, terminated; NULL when ids are given */
    size_t n_prompt;
    uint32_t *prompt_ids; /* NULL when text is given */
    size_t n_prompt_ids;

    bool has_max_tokens; /* false: max_tokens is a default, and may be cut to what fits */
    uint32_t max_tokens;
    float temperature, top_p, min_p;
    uint32_t top_k;
    float presence_penalty, frequency_penalty, repetition_penalty;
    bool has_seed;
    uint64_t seed;
    char *stop[MB_STOPS_MAX];
    size_t n_stop_bytes[MB_STOPS_MAX];
    size_t n_stops;
    bool has_logprobs;
    uint32_t logprobs; /* 0..MB_COMPLETION_LOGPROBS_MAX */
    bool echo;
    bool ignore_eos;
    struct mb_response_format response_format;
    bool stream, include_usage;
};

void mb_completion_init(struct mb_completion *c);
void mb_completion_fini(struct mb_completion *c);

/* Why a sequence ended. */
enum mb_finish { MB_FINISH_NONE, MB_FINISH_STOP, MB_FINISH_LENGTH };
const char *mb_finish_name(enum mb_finish f); /* "stop", "length"; NULL for none */

#endif
