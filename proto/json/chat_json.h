/* POST /v1/chat/completions: bytes to struct mb_completion, and replies to bytes.
 *
 * Bound:   those of completion_json.h.
 * Owns:    as there.
 * Threads: pure, once mb_json_init has run. */
#ifndef MB_PROTO_CHAT_JSON_H
#define MB_PROTO_CHAT_JSON_H

#include "proto/json/completion_json.h"

/* As mb_completion_decode. Messages come out as templates expect them: text parts as one
 * string, arguments of tool calls as objects. */
enum mb_status mb_chat_decode(const char *text, size_t n, struct mb_completion *ret,
                              struct mb_wire_error *err);

char *mb_chat_encode(const struct mb_completion_reply *r);       /* chat.completion */
char *mb_chat_chunk_encode(const struct mb_completion_reply *r); /* chat.completion.chunk */

#endif
