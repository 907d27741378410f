/* "response_format" of a request's body.
 *
 *     {"type": "text"}   {"type": "json_object"}
 *     {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}, "strict": ...}}
 *
 * "strict" makes no difference: the output is valid either way. "name" and "description" are
 * looked at no further.
 *
 * Threads: pure. Private to proto/json. */
#ifndef MB_PROTO_RESPONSE_FORMAT_JSON_H
#define MB_PROTO_RESPONSE_FORMAT_JSON_H

#include <jansson.h>
#include <stdbool.h>

#include "proto/response_format.h"
#include "proto/wire_error.h"

/* Takes v, which is not null, apart; *ret changes on success only. false, with *err filled, when it may
 * not be. Whether the schema can be honoured is for who compiles it to say. */
bool mb_response_format_take(const json_t *v, struct mb_response_format *ret,
                             struct mb_wire_error *err);

#endif
