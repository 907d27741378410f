/* A request for a completion as the wire means it (OpenAI's POST /v1/completions, and POST
 * /v1/chat/completions, which is a completion whose prompt the model's template writes),
 * decoded and in bounds: fields, defaults, limits. JSON is in proto/json.
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
#define MB_STOP_IDS_MAX            16         /* looked through for every token */
#define MB_COMPLETION_LOGPROBS_MAX 5          /* OpenAI's limit on completions */
#define MB_CHAT_LOGPROBS_MAX       20         /* and on chats */
#define MB_LOGIT_BIAS_MAX          1024       /* tokens; applied to every row of logits */
#define MB_CACHE_SALT_MAX          1024       /* bytes */
#define MB_CHOICES_MAX             128        /* sequences of a request: OpenAI's limit on n */
#define MB_BEST_OF_MAX             20         /* OpenAI's limit */
#define MB_TIME_LIMIT_MAX          86400      /* seconds */
#define MB_TOOLS_MAX               128        /* OpenAI's limit */
#define MB_TOOL_NAME_MAX           64         /* bytes, OpenAI's limit */
#define MB_MODEL_NAME_MAX          128
#define MB_MAX_TOKENS_DEFAULT      16         /* OpenAI's default */
#define MB_MAX_TOKENS_MAX          (1u << 20) /* no context is longer */
#define MB_PROMPT_IDS_MAX          (1u << 20) /* the same */

/* Text or token ids: the other is NULL. */
struct mb_prompt {
    char *text; /* UTF-8, n_text bytes, terminated */
    size_t n_text;
    uint32_t *ids;
    size_t n_ids;
};

struct mb_logit_bias {
    uint32_t token;
    float bias; /* -100..100, added to the logit */
};

enum mb_tool_choice { MB_TOOLS_NONE, MB_TOOLS_AUTO };

/* What a chat has in place of prompts. JSON documents as text, terminated. */
struct mb_chat {
    char *messages;  /* an array of objects with a role; content is a string or null, and the
                       arguments of tool calls are objects where they are JSON */
    char *tools;     /* an array of OpenAI's tools; NULL: none */
    char *variables; /* an object: chat_template_kwargs; NULL: none */
    enum mb_tool_choice tool_choice;
};

struct mb_completion {
    bool is_chat;
    char *model;               /* NULL: the only one there is */
    struct mb_prompt *prompts; /* each gets n choices; NULL for a chat */
    size_t n_prompts;
    struct mb_chat chat;

    bool has_max_tokens; /* false: max_tokens is a default, and may be cut to what fits */
    uint32_t max_tokens, min_tokens;
    float temperature, top_p, min_p;
    uint32_t top_k;
    float presence_penalty, frequency_penalty, repetition_penalty;
    struct mb_logit_bias *bias; /* [n_bias], each token once */
    size_t n_bias;
    bool has_seed;
    uint64_t seed;
    char *stop[MB_STOPS_MAX];
    size_t n_stop_bytes[MB_STOPS_MAX];
    size_t n_stops;
    uint32_t stop_ids[MB_STOP_IDS_MAX];
    size_t n_stop_ids;
    bool ignore_eos;
    uint32_t n, best_of; /* best_of is 0 when it was not given; else n <= best_of */
    bool has_logprobs;
    uint32_t logprobs; /* how many alternatives: at most MB_COMPLETION_LOGPROBS_MAX, or
                          MB_CHAT_LOGPROBS_MAX for a chat */
    bool echo, return_token_ids;
    double time_limit; /* seconds; 0: none */
    bool low_priority; /* it may wait for others */
    char *cache_salt;  /* only who has the same shares its prefixes; NULL: none */
    struct mb_response_format response_format;
    bool stream, include_usage;
};

/* 1 to MB_MODEL_NAME_MAX of A-Z a-z 0-9 . _ : / - */
bool mb_is_model_name(const char *name, size_t n);

void mb_completion_init(struct mb_completion *c);
void mb_completion_fini(struct mb_completion *c);

/* Why a sequence ended. */
enum mb_finish { MB_FINISH_NONE, MB_FINISH_STOP, MB_FINISH_LENGTH, MB_FINISH_TOOL_CALLS };
const char *mb_finish_name(enum mb_finish f); /* "stop", "length"...; NULL for none */

#endif
