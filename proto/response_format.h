/* What the text of an answer must be: "response_format" of OpenAI's chat completions, and here of
 * completions too.
 *
 * Life:    zeroed is text, anything; _fini frees the schema.
 * Threads: a value. */
#ifndef MB_PROTO_RESPONSE_FORMAT_H
#define MB_PROTO_RESPONSE_FORMAT_H

#include "proto/json_value.h"

enum mb_response_format_kind {
    MB_RESPONSE_TEXT,
    MB_RESPONSE_JSON_OBJECT, /* any object */
    MB_RESPONSE_JSON_SCHEMA, /* valid under schema */
};

struct mb_response_format {
    enum mb_response_format_kind kind;
    struct mb_json_value schema;
};

void mb_response_format_fini(struct mb_response_format *f); /* leaves text */

#endif
