/* JSON strings of bytes that may be anything.
 *
 * Threads: pure. Private to proto/json. */
#ifndef MB_PROTO_TEXT_JSON_H
#define MB_PROTO_TEXT_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "proto/wire_error.h"

/* How every document leaves: compact, and nine digits bring any float32 back as it was. */
#define MB_JSON_DUMP (JSON_COMPACT | JSON_REAL_PRECISION(9))

/* A request's body, within the bounds of completion_json.h, as an object. NULL, with *err filled, for
 * anything else; the caller's to decref. */
json_t *mb_json_load_body(const char *text, size_t n, struct mb_wire_error *err);

bool mb_json_is_utf8(const char *text, size_t n);

/* A string of text; each byte that belongs to no UTF-8 character becomes U+FFFD. NULL when
 * memory is refused. */
json_t *mb_json_string_of(const char *text, size_t n);

#endif
