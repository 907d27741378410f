/* Bodies of requests: bounded before they are parsed, then taken apart field by field along a
 * table. Private to proto/json.
 *
 * Threads: pure, once mb_json_init has run. */
#ifndef MB_PROTO_FIELD_H
#define MB_PROTO_FIELD_H

#include <jansson.h>

#include "proto/completion.h"
#include "proto/json/input_json.h"
#include "proto/json_tally.h"

struct mb_field;

/* Puts v into c. false, with err filled, when it may not be. v is never null. */
typedef bool mb_take_fn(const struct mb_field *f, const json_t *v, struct mb_completion *c,
                        struct mb_wire_error *err);

struct mb_field {
    const char *name;
    mb_take_fn *take;
    size_t offset;   /* in struct mb_completion, for the plain ones */
    double min, max; /* both allowed */
};

/* Tables, of n rows each. */
struct mb_fields {
    const struct mb_field *at;
    size_t n;
};

/* The fields that completions and chats share. */
extern const struct mb_fields mb_sampling_fields;

/* Parses a body and puts the fields of both tables into *ret, which was _init'ed and changes on
 * success only; agree says what one field alone can not. Fields that are null count as absent,
 * unknown ones are ignored.
 * Errors: MB_E_INVALID (HTTP 400) or MB_E_NOMEM, with *err filled. */
typedef bool mb_agree_fn(const json_t *root, struct mb_completion *c,
                         struct mb_wire_error *err);
enum mb_status mb_body_decode(const char *text, size_t n, const struct mb_fields *own,
                              mb_agree_fn *agree, struct mb_completion *ret,
                              struct mb_wire_error *err);

/* stream_options goes with stream only, min_tokens not above max_tokens. */
mb_agree_fn mb_agree_stream;

/* Adds a text that is to be parsed to *t; false, with err filled, when with it more than the bounds
 * of completion_json.h came together. */
bool mb_json_bounded(const char *text, size_t n, struct mb_json_tally *t,
                     struct mb_wire_error *err);

mb_take_fn mb_take_bool, mb_take_u32, mb_take_float, mb_take_max_tokens;
/* Known, not offered, and harmless when empty. */
mb_take_fn mb_take_nothing;

/* The text of a document, as the template engine reads it. */
bool mb_copy_json(const json_t *v, char **ret, struct mb_wire_error *err);

#endif
