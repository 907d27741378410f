/* What a client asks for, to bytes: the body of POST /v1/completions or /v1/chat/completions.
 * Only fields that are set are written, so that the daemon's defaults hold for all others.
 *
 * Owns:    what is returned is malloc'ed, terminated, and the caller's; NULL when memory is
 *          refused.
 * Threads: pure. */
#ifndef MB_PROTO_REQUEST_JSON_H
#define MB_PROTO_REQUEST_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A number of the request by its name on the wire: "temperature", "max_tokens". */
struct mb_request_number {
    const char *name;
    bool is_integer;
    union {
        double real; /* finite */
        int64_t integer;
    };
};

struct mb_request_message {
    const char *role, *content; /* content is n_content bytes */
    size_t n_content;
};

struct mb_request {
    const char *model; /* NULL: the only one there is */

    /* One of these: a chat, a text to complete, or its ids. */
    const struct mb_request_message *messages;
    size_t n_messages;
    const char *prompt; /* n_prompt bytes */
    size_t n_prompt;
    const uint32_t *prompt_ids;
    size_t n_prompt_ids;

    const struct mb_request_number *numbers;
    size_t n_numbers;
    const char *const *stops; /* terminated */
    size_t n_stops;
    bool ignore_eos;
    bool stream; /* with its usage at the end */
};

/* Bytes of texts that are not UTF-8 are sent as U+FFFD. */
char *mb_request_encode(const struct mb_request *r);

#endif
