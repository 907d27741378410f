/* JSON: what tojson writes, byte for byte as Python's json.dumps, and what a variable is read
 * from. Private to the template engine.
 *
 * Threads: one render's. */
#ifndef MB_CORE_TEMPLATE_JSON_H
#define MB_CORE_TEMPLATE_JSON_H

#include "core/template/value.h"

#define MB_JSON_NESTING_MAX 100 /* levels of a document that is read */

struct mb_json_style {
    bool ascii;                   /* \uXXXX for what is not ASCII */
    struct mb_jinja_value indent; /* of each level: an int of blanks, or a str; else one line */
    struct mb_jinja_value
        separators; /* a pair of str: between elements, after keys; else the usual */
    bool sorted;    /* members by key */
};

/* Puts v into the output. Errors: something in it has no JSON. */
bool mb_json_put(struct mb_render *r, struct mb_jinja_value v,
                 const struct mb_json_style *style);

/* The value of a document. Errors: MB_E_FORMAT when it is none, MB_E_LIMIT. */
bool mb_json_read(struct mb_render *r, const char *text, size_t n, struct mb_jinja_value *ret);

#endif
