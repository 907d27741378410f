#include "proto/json_value.h"

#include <stdlib.h>
#include <string.h>

void mb_json_value_fini(struct mb_json_value *v)
{
    if (v->kind == MB_JSON_STRING) {
        free(v->text);
    } else if (v->kind == MB_JSON_ARRAY) {
        for (size_t i = 0; i < v->n; i++) {
            mb_json_value_fini(&v->items[i]);
        }
        free(v->items);
    } else if (v->kind == MB_JSON_OBJECT) {
        for (size_t i = 0; i < v->n; i++) {
            free(v->members[i].name);
            mb_json_value_fini(&v->members[i].value);
        }
        free(v->members);
    }
    *v = (struct mb_json_value) { 0 };
}

static const struct mb_json_value *get(const struct mb_json_value *v, const char *name,
                                       size_t n)
{
    for (size_t i = 0; v->kind == MB_JSON_OBJECT && i < v->n; i++) {
        if (v->members[i].n_name == n && memcmp(v->members[i].name, name, n) == 0) {
            return &v->members[i].value;
        }
    }
    return NULL;
}

const struct mb_json_value *mb_json_value_get(const struct mb_json_value *v, const char *name)
{
    return get(v, name, strlen(name));
}

bool mb_json_value_is_text(const struct mb_json_value *v, const char *text)
{
    return v->kind == MB_JSON_STRING && v->n == strlen(text) &&
           memcmp(v->text, text, v->n) == 0;
}

static bool is_number(const struct mb_json_value *v)
{
    return v->kind == MB_JSON_INTEGER || v->kind == MB_JSON_REAL;
}

static double number(const struct mb_json_value *v)
{
    return v->kind == MB_JSON_INTEGER ? (double) v->integer : v->real;
}

static bool equal_objects(const struct mb_json_value *a, const struct mb_json_value *b)
{
    for (size_t i = 0; i < a->n; i++) {
        const struct mb_json_value *other = get(b, a->members[i].name, a->members[i].n_name);
        if (!other || !mb_json_value_equal(&a->members[i].value, other)) {
            return false;
        }
    }
    return a->n == b->n;
}

bool mb_json_value_equal(const struct mb_json_value *a, const struct mb_json_value *b)
{
    if (a->kind != b->kind) {
        return is_number(a) && is_number(b) && number(a) == number(b);
    }
    switch (a->kind) {
    case MB_JSON_BOOL:
        return a->boolean == b->boolean;
    case MB_JSON_INTEGER:
        return a->integer == b->integer;
    case MB_JSON_REAL:
        return a->real == b->real;
    case MB_JSON_STRING:
        return a->n == b->n && memcmp(a->text, b->text, a->n) == 0;
    case MB_JSON_ARRAY:
        for (size_t i = 0; i < a->n && a->n == b->n; i++) {
            if (!mb_json_value_equal(&a->items[i], &b->items[i])) {
                return false;
            }
        }
        return a->n == b->n;
    case MB_JSON_OBJECT:
        return equal_objects(a, b);
    default:
        return true;
    }
}
