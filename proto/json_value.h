/* Any JSON value as a plain tree, for layers that may not know a JSON library: a schema, the
 * members of a chat message. The codec is proto/json/value_json.h.
 *
 * Life:    a zeroed value is null; _fini frees what is below it, in time and stack bounded by
 *          the depth that the codec allows.
 * Memory:  children lie in one array of their parent, so that a pointer to a value stays good
 *          for as long as the root does.
 * Threads: a value. */
#ifndef MB_PROTO_JSON_VALUE_H
#define MB_PROTO_JSON_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mb_json_kind {
    MB_JSON_NULL,
    MB_JSON_BOOL,
    MB_JSON_INTEGER,
    MB_JSON_REAL,
    MB_JSON_STRING,
    MB_JSON_ARRAY,
    MB_JSON_OBJECT,
    MB_JSON_KINDS
};

struct mb_json_member;

struct mb_json_value {
    enum mb_json_kind kind;
    size_t n; /* bytes of a string; elements of an array; members of an object */
    union {
        bool boolean;
        int64_t integer;
        double real;                    /* finite */
        char *text;                     /* UTF-8, n bytes, terminated; may hold zeros */
        struct mb_json_value *items;    /* [n] */
        struct mb_json_member *members; /* [n], in the order of the text; names are distinct */
    };
};

struct mb_json_member {
    char *name; /* UTF-8, n_name bytes, terminated */
    size_t n_name;
    struct mb_json_value value;
};

void mb_json_value_fini(struct mb_json_value *v); /* leaves null */

/* The member of an object, or NULL when there is none or v is no object. */
const struct mb_json_value *mb_json_value_get(const struct mb_json_value *v, const char *name);

bool mb_json_value_is_text(const struct mb_json_value *v, const char *text);
/* As JSON Schema compares: 1 equals 1.0, and the order of members does not matter. */
bool mb_json_value_equal(const struct mb_json_value *a, const struct mb_json_value *b);

#endif
