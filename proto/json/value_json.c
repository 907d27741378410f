#include "proto/json/value_json.h"

#include <stdlib.h>
#include <string.h>

#include "proto/json/value_from_json.h"

static enum mb_json_copy copy(const json_t *v, unsigned depth, struct mb_json_value *ret);

static char *copy_text(const char *text, size_t n)
{
    char *p = malloc(n + 1);
    if (p) {
        memcpy(p, text, n);
        p[n] = '\0';
    }
    return p;
}

static enum mb_json_copy copy_array(const json_t *v, unsigned depth, struct mb_json_value *ret)
{
    size_t n = json_array_size(v);
    ret->items = calloc(n ? n : 1, sizeof *ret->items);
    if (!ret->items) {
        return MB_JSON_NO_MEMORY;
    }
    ret->kind = MB_JSON_ARRAY;
    ret->n = n; /* those not yet copied are null */
    enum mb_json_copy st = MB_JSON_COPIED;
    for (size_t i = 0; i < n && st == MB_JSON_COPIED; i++) {
        st = copy(json_array_get(v, i), depth + 1, &ret->items[i]);
    }
    return st;
}

static enum mb_json_copy copy_object(const json_t *v, unsigned depth, struct mb_json_value *ret)
{
    size_t n = json_object_size(v);
    ret->members = calloc(n ? n : 1, sizeof *ret->members);
    if (!ret->members) {
        return MB_JSON_NO_MEMORY;
    }
    ret->kind = MB_JSON_OBJECT;
    enum mb_json_copy st = MB_JSON_COPIED;
    json_t *object = (json_t *) v; /* jansson's iterators are not const; nothing is changed */
    for (void *at = json_object_iter(object); at && st == MB_JSON_COPIED;
         at = json_object_iter_next(object, at)) {
        struct mb_json_member *m = &ret->members[ret->n];
        const char *name = json_object_iter_key(at);
        m->n_name = strlen(name);
        m->name = copy_text(name, m->n_name);
        if (!m->name) {
            return MB_JSON_NO_MEMORY;
        }
        ret->n++;
        st = copy(json_object_iter_value(at), depth + 1, &m->value);
    }
    return st;
}

static enum mb_json_copy copy(const json_t *v, unsigned depth, struct mb_json_value *ret)
{
    *ret = (struct mb_json_value) { 0 };
    switch (json_typeof(v)) {
    case JSON_NULL:
        return MB_JSON_COPIED;
    case JSON_TRUE:
    case JSON_FALSE:
        ret->kind = MB_JSON_BOOL;
        ret->boolean = json_is_true(v);
        return MB_JSON_COPIED;
    case JSON_INTEGER:
        ret->kind = MB_JSON_INTEGER;
        ret->integer = json_integer_value(v);
        return MB_JSON_COPIED;
    case JSON_REAL:
        ret->kind = MB_JSON_REAL;
        ret->real = json_real_value(v);
        return MB_JSON_COPIED;
    case JSON_STRING:
        ret->text = copy_text(json_string_value(v), json_string_length(v));
        if (!ret->text) {
            return MB_JSON_NO_MEMORY;
        }
        ret->kind = MB_JSON_STRING;
        ret->n = json_string_length(v);
        return MB_JSON_COPIED;
    default:
        break;
    }
    if (depth >= MB_JSON_VALUE_DEPTH_MAX) {
        return MB_JSON_TOO_DEEP;
    }
    return json_is_array(v) ? copy_array(v, depth, ret) : copy_object(v, depth, ret);
}

enum mb_json_copy mb_json_value_of(const json_t *v, struct mb_json_value *ret)
{
    struct mb_json_value value;
    enum mb_json_copy st = copy(v, 0, &value);
    if (st == MB_JSON_COPIED) {
        *ret = value;
    } else {
        mb_json_value_fini(&value);
    }
    return st;
}

enum mb_status mb_json_value_parse(const char *text, size_t n, struct mb_json_value *ret,
                                   struct mb_error *err)
{
    json_error_t where;
    json_t *root =
        json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    if (!root) {
        return mb_fail(err, MB_E_INVALID, 0, "not JSON: line %d, column %d: %s", where.line,
                       where.column, where.text);
    }
    enum mb_json_copy st = mb_json_value_of(root, ret);
    json_decref(root);
    if (st == MB_JSON_NO_MEMORY) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a JSON value");
    }
    if (st == MB_JSON_TOO_DEEP) {
        return mb_fail(err, MB_E_INVALID, 0, "the value has more than %d levels",
                       MB_JSON_VALUE_DEPTH_MAX);
    }
    return MB_OK;
}
