/* POST /v1/completions: bytes to struct mb_completion, and replies to bytes. What replies of
 * completions and chats have in common is here, too.
 *
 * Bound:   before parsing, the text is scanned once: at most MB_JSON_DEPTH_MAX levels,
 *          MB_JSON_CONTAINERS_MAX arrays and objects, MB_JSON_MEMBERS_MAX members of objects,
 *          MB_JSON_VALUES_MAX values, and as much again in the arguments of tool calls, which
 *          are documents within strings; so a body of n bytes never costs more than
 *          n + 200 MB to take apart.
 * Owns:    what an encoder returns is malloc'ed, terminated, and the caller's; NULL when memory
 *          is refused.
 * Threads: pure, once mb_json_init has run. */
#ifndef MB_PROTO_COMPLETION_JSON_H
#define MB_PROTO_COMPLETION_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/completion.h"
#include "proto/wire_error.h"

#define MB_JSON_DEPTH_MAX      72    /* a schema's 64, and what is around it */
#define MB_JSON_CONTAINERS_MAX 16384 /* a schema of 5,000 properties; a message is one, too */
#define MB_JSON_MEMBERS_MAX    65536 /* a message has two or three */
#define MB_JSON_VALUES_MAX     (MB_PROMPT_IDS_MAX + 1024)

/* Seeds the hash of JSON objects, so that nobody outside can choose names that collide. Once,
 * before the first thread. */
void mb_json_init(void);

/* Takes a request's body apart. ret was _init'ed, and changes on success only. Fields that are
 * null count as absent, unknown ones are ignored, as OpenAI does; fields that are known and not
 * offered are refused by name.
 * Errors: MB_E_INVALID (HTTP 400) or MB_E_NOMEM, with *err filled. */
enum mb_status mb_completion_decode(const char *text, size_t n, struct mb_completion *ret,
                                    struct mb_wire_error *err);

struct mb_usage {
    uint32_t prompt_tokens, completion_tokens, cached_tokens;
};

/* A token's text is its own bytes, which need not be whole characters: then it is shown as
 * "bytes:\xe2\x82", as OpenAI does. */
struct mb_wire_logprob {
    const char *text;
    size_t n_text;
    float logprob; /* -inf and NaN are sent as -9999, which JSON can say */
};
struct mb_wire_token {
    struct mb_wire_logprob token;
    bool no_logprob;      /* the first of a prompt: nothing says how likely it is */
    uint32_t text_offset; /* in characters, from the start of the choice's text */
    uint32_t n_top;
    struct mb_wire_logprob top[MB_CHAT_LOGPROBS_MAX];
};

/* A function that a chat's answer calls. */
struct mb_wire_tool_call {
    char id[40];
    char *name;      /* terminated */
    char *arguments; /* JSON, terminated */
};

/* One of the answers, or what is new of it. */
struct mb_wire_choice {
    uint32_t index;
    const char *text; /* n_text bytes */
    size_t n_text;
    enum mb_finish finish; /* NONE is null on the wire */
    bool has_logprobs;     /* else "logprobs":null */
    const struct mb_wire_token *tokens;
    size_t n_tokens;
    bool has_ids; /* "token_ids" is told */
    const uint32_t *ids;
    size_t n_ids;
    const uint32_t *prompt_ids; /* "prompt_token_ids"; NULL: not told */
    size_t n_prompt_ids;

    /* Of chats: */
    bool begins; /* of a chunk: it brings the role */
    const struct mb_wire_tool_call *calls;
    size_t n_calls;
};

/* A whole reply, or a chunk of a stream: the same shape. */
struct mb_completion_reply {
    const char *id, *model, *fingerprint;
    int64_t created;
    const struct mb_wire_choice *choices; /* none in the chunk that brings the usage */
    size_t n_choices;
    bool usage_null;              /* "usage":null */
    const struct mb_usage *usage; /* NULL: no usage, or null */
};
char *mb_completion_encode(const struct mb_completion_reply *r);

#endif
