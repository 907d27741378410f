/* What replies of completions and of chats share. Private to proto/json.
 *
 * Owns:    what is returned is the caller's; NULL when memory is refused, and NULL that is
 *          handed on gives NULL.
 * Threads: pure. */
#ifndef MB_PROTO_REPLY_JSON_H
#define MB_PROTO_REPLY_JSON_H

#include <jansson.h>

#include "proto/json/completion_json.h"

/* A token's text, and a logprob that JSON can say. */
json_t *mb_json_token(const struct mb_wire_logprob *t);
json_t *mb_json_logprob(float x);

/* choice with the token ids that are to be told. */
json_t *mb_json_with_ids(json_t *choice, const struct mb_wire_choice *c);

/* The document: object is its type, choice makes one of its choices. */
char *mb_reply_encode(const struct mb_completion_reply *r, const char *object,
                      json_t *(*choice)(const struct mb_wire_choice *c));

#endif
