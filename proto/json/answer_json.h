/* What a daemon answers, from bytes: a reply or a chunk of a stream of either kind of
 * completion, an error, the list of models. What a client needs of them, and no more: unknown
 * members are passed over, so that answers of other servers of OpenAI's protocol do too.
 *
 * Bound:   jansson's depth; the caller bounds the bytes.
 * Threads: pure, once mb_json_init has run. */
#ifndef MB_PROTO_ANSWER_JSON_H
#define MB_PROTO_ANSWER_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/completion.h"
#include "proto/status.h"
#include "proto/wire_error.h"

/* One chunk, or a whole reply. Of several choices it is the first. */
struct mb_answer {
    char *text; /* what is new, n_text bytes, terminated; never NULL */
    size_t n_text;
    char finish[24]; /* "stop", "length", ...; "" while it goes on */
    bool has_usage;
    uint64_t prompt_tokens, completion_tokens, cached_tokens;
    char model[MB_MODEL_NAME_MAX + 1];
};
void mb_answer_fini(struct mb_answer *a);

/* *ret is written on success only, and the caller's to fini. An error in place of an answer
 * ({"error": ...}, as it comes within a stream) is MB_E_UNAVAILABLE, with its message in err.
 * Errors: also MB_E_FORMAT for what is no answer; MB_E_NOMEM. */
enum mb_status mb_answer_decode(const char *text, size_t n, struct mb_answer *ret,
                                struct mb_error *err);

/* The body of an answer whose status is http, not 200. Fills err in words, whatever came, and
 * code (room for n_code bytes) with the error's, or "". */
void mb_answer_error(int http, const char *text, size_t n, char *code, size_t n_code,
                     struct mb_error *err);

struct mb_model_listed {
    char id[MB_MODEL_NAME_MAX + 1];
    int64_t created;      /* seconds since 1970; 0: not said */
    uint32_t context_max; /* 0: not said */
    char fingerprint[64]; /* "": not said */
};

/* GET /v1/models. *ret is an array of *ret_n, malloc'ed, the caller's to free; NULL for none.
 * Errors: MB_E_FORMAT, MB_E_NOMEM. */
enum mb_status mb_models_decode(const char *text, size_t n, struct mb_model_listed **ret,
                                size_t *ret_n, struct mb_error *err);

#endif
