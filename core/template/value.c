#include "core/template/value.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/template/render.h"

/* ---- making ------------------------------------------------------------------------------ */

bool mb_list_new(struct mb_render *r, enum mb_list_shape shape, size_t cap,
                 struct mb_jinja_value *ret)
{
    struct mb_list *l = mb_render_alloc(r, 1, sizeof *l);
    struct mb_jinja_value *at = mb_render_alloc(r, cap, sizeof *at);
    if (!l || !at) {
        return false;
    }
    *l = (struct mb_list) { .shape = shape, .at = at, .cap = cap };
    *ret = (struct mb_jinja_value) { .kind = MB_VALUE_LIST, .list = l };
    return true;
}

bool mb_list_push(struct mb_render *r, struct mb_list *l, struct mb_jinja_value v)
{
    if (l->len == l->cap) {
        size_t cap = 2 * l->cap + 4;
        struct mb_jinja_value *at = mb_render_alloc(r, cap, sizeof *at);
        if (!at) {
            return false;
        }
        if (l->len > 0) {
            memcpy(at, l->at, l->len * sizeof *at);
        }
        l->at = at;
        l->cap = cap;
    }
    l->at[l->len++] = v;
    return mb_render_work(r, 1);
}

bool mb_pair_new(struct mb_render *r, struct mb_jinja_value a, struct mb_jinja_value b,
                 struct mb_jinja_value *ret)
{
    return mb_list_new(r, MB_TUPLE, 2, ret) && mb_list_push(r, ret->list, a) &&
           mb_list_push(r, ret->list, b);
}

bool mb_dict_new(struct mb_render *r, size_t cap, struct mb_jinja_value *ret)
{
    struct mb_dict *d = mb_render_alloc(r, 1, sizeof *d);
    struct mb_entry *at = mb_render_alloc(r, cap, sizeof *at);
    if (!d || !at) {
        return false;
    }
    *d = (struct mb_dict) { .at = at, .cap = cap };
    *ret = (struct mb_jinja_value) { .kind = MB_VALUE_DICT, .dict = d };
    return true;
}

static bool may_be_key(struct mb_jinja_value v)
{
    return v.kind == MB_VALUE_NONE || v.kind == MB_VALUE_STRING ||
           mb_jinja_value_is_number(v) ||
           (v.kind == MB_VALUE_LIST && v.list->shape == MB_TUPLE);
}

bool mb_dict_add(struct mb_render *r, struct mb_dict *d, struct mb_jinja_value key,
                 struct mb_jinja_value v)
{
    if (!may_be_key(key)) {
        return mb_render_fail(r, MB_E_INVALID, "a %s can not be a key",
                              mb_jinja_value_type(key));
    }
    if (d->len == d->cap) {
        size_t cap = 2 * d->cap + 4;
        struct mb_entry *at = mb_render_alloc(r, cap, sizeof *at);
        if (!at) {
            return false;
        }
        if (d->len > 0) {
            memcpy(at, d->at, d->len * sizeof *at);
        }
        d->at = at;
        d->cap = cap;
    }
    d->at[d->len++] = (struct mb_entry) { key, v };
    return mb_render_work(r, 1);
}

bool mb_dict_set(struct mb_render *r, struct mb_dict *d, struct mb_jinja_value key,
                 struct mb_jinja_value v)
{
    struct mb_jinja_value *place = mb_dict_find(r, d, key);
    if (!place) {
        return mb_dict_add(r, d, key, v);
    }
    *place = v;
    return true;
}

/* ---- asking ------------------------------------------------------------------------------ */

const char *mb_jinja_value_type(struct mb_jinja_value v)
{
    static const char *const lists[] = {
        [MB_LIST] = "list",          [MB_TUPLE] = "tuple",    [MB_RANGE] = "range",
        [MB_ITERATOR] = "generator", [MB_KEYS] = "dict_keys", [MB_VALUES] = "dict_values",
        [MB_ITEMS] = "dict_items",
    };
    static const char *const kinds[] = {
        [MB_VALUE_ABSENT] = "nothing",
        [MB_VALUE_UNDEFINED] = "Undefined",
        [MB_VALUE_NONE] = "NoneType",
        [MB_VALUE_BOOL] = "bool",
        [MB_VALUE_INT] = "int",
        [MB_VALUE_FLOAT] = "float",
        [MB_VALUE_STRING] = "str",
        [MB_VALUE_DICT] = "dict",
        [MB_VALUE_NAMESPACE] = "Namespace",
        [MB_VALUE_LOOP] = "LoopContext",
        [MB_VALUE_CALLABLE] = "function",
    };
    return v.kind == MB_VALUE_LIST ? lists[v.list->shape] : kinds[v.kind];
}

bool mb_jinja_value_is_text(struct mb_jinja_value v, const char *text)
{
    return v.kind == MB_VALUE_STRING && v.n == strlen(text) && memcmp(v.text, text, v.n) == 0;
}

bool mb_jinja_value_is_true(struct mb_jinja_value v)
{
    switch (v.kind) {
    case MB_VALUE_ABSENT:
    case MB_VALUE_UNDEFINED:
    case MB_VALUE_NONE:
        return false;
    case MB_VALUE_BOOL:
        return v.truth;
    case MB_VALUE_INT:
        return v.integer != 0;
    case MB_VALUE_FLOAT:
        return v.real != 0;
    case MB_VALUE_STRING:
        return v.n > 0;
    case MB_VALUE_LIST:
        return v.list->shape == MB_ITERATOR || v.list->len > 0;
    case MB_VALUE_DICT:
        return v.dict->len > 0;
    case MB_VALUE_NAMESPACE:
    case MB_VALUE_LOOP:
    case MB_VALUE_CALLABLE:
        break;
    }
    return true;
}

bool mb_jinja_value_is_number(struct mb_jinja_value v)
{
    return v.kind == MB_VALUE_BOOL || v.kind == MB_VALUE_INT || v.kind == MB_VALUE_FLOAT;
}

bool mb_jinja_value_integer(struct mb_jinja_value v, int64_t *ret)
{
    if (v.kind == MB_VALUE_BOOL) {
        *ret = v.truth;
        return true;
    }
    if (v.kind == MB_VALUE_INT) {
        *ret = v.integer;
        return true;
    }
    return false;
}

double mb_jinja_value_real(struct mb_jinja_value v)
{
    int64_t i;
    if (mb_jinja_value_integer(v, &i)) {
        return (double) i;
    }
    assert(v.kind == MB_VALUE_FLOAT);
    return v.real;
}

bool mb_jinja_value_length(struct mb_render *r, struct mb_jinja_value v, int64_t *ret)
{
    size_t n = 0;
    if (v.kind == MB_VALUE_STRING) {
        for (size_t i = 0; i < v.n; i++) {
            n += ((unsigned char) v.text[i] & 0xc0) != 0x80;
        }
    } else if (v.kind == MB_VALUE_LIST && v.list->shape != MB_ITERATOR) {
        n = v.list->len;
    } else if (v.kind == MB_VALUE_DICT) {
        n = v.dict->len;
    } else if (v.kind != MB_VALUE_UNDEFINED) {
        return mb_render_fail(r, MB_E_INVALID, "a %s has no length", mb_jinja_value_type(v));
    }
    *ret = (int64_t) n;
    return mb_render_work(r, v.kind == MB_VALUE_STRING ? v.n / 16 : 1);
}

/* ---- comparing --------------------------------------------------------------------------- */

/* Exact, as Python compares an int with a float: 64 bits of mantissa hold either. */
static int order_numbers(struct mb_jinja_value a, struct mb_jinja_value b, bool *ret_ordered)
{
    int64_t i, j;
    *ret_ordered = true;
    if (mb_jinja_value_integer(a, &i) && mb_jinja_value_integer(b, &j)) {
        return i < j ? -1 : i > j;
    }
    long double x = a.kind == MB_VALUE_FLOAT ? (long double) a.real
                                             : (mb_jinja_value_integer(a, &i), (long double) i);
    long double y = b.kind == MB_VALUE_FLOAT ? (long double) b.real
                                             : (mb_jinja_value_integer(b, &j), (long double) j);
    *ret_ordered = !isunordered(x, y);
    return x < y ? -1 : x > y;
}

static int order_texts(struct mb_jinja_value a, struct mb_jinja_value b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int k = n ? memcmp(a.text, b.text, n) : 0; /* UTF-8 sorts as its characters do */
    return k != 0 ? k : a.n < b.n ? -1 : a.n > b.n;
}

static bool equal_lists(struct mb_render *r, const struct mb_list *a, const struct mb_list *b,
                        bool *ret)
{
    *ret = a == b;
    bool alike = a->shape == b->shape && (a->shape == MB_LIST || a->shape == MB_TUPLE ||
                                          a->shape == MB_RANGE || a->shape == MB_KEYS);
    if (*ret || !alike || a->len != b->len) {
        return true;
    }
    *ret = true;
    for (size_t i = 0; i < a->len && *ret; i++) {
        if (!mb_jinja_value_equal(r, a->at[i], b->at[i], ret)) {
            return false;
        }
    }
    return true;
}

static bool equal_dicts(struct mb_render *r, const struct mb_dict *a, const struct mb_dict *b,
                        bool *ret)
{
    *ret = a == b || a->len == b->len;
    for (size_t i = 0; a != b && i < a->len && *ret; i++) {
        const struct mb_jinja_value *other = mb_dict_find(r, b, a->at[i].key);
        *ret = other != NULL;
        if (other && !mb_jinja_value_equal(r, a->at[i].value, *other, ret)) {
            return false;
        }
    }
    return r->status == MB_OK;
}

bool mb_jinja_value_equal(struct mb_render *r, struct mb_jinja_value a, struct mb_jinja_value b,
                          bool *ret)
{
    if (!mb_render_enter(r)) {
        return false;
    }
    bool ok = true;
    if (mb_jinja_value_is_number(a) && mb_jinja_value_is_number(b)) {
        bool ordered;
        *ret = order_numbers(a, b, &ordered) == 0 && ordered;
    } else if (a.kind != b.kind) {
        *ret = false;
    } else if (a.kind == MB_VALUE_STRING) {
        *ret = a.n == b.n && order_texts(a, b) == 0;
        ok = mb_render_work(r, a.n == b.n ? a.n / 16 : 0);
    } else if (a.kind == MB_VALUE_LIST) {
        ok = equal_lists(r, a.list, b.list, ret);
    } else if (a.kind == MB_VALUE_DICT) {
        ok = equal_dicts(r, a.dict, b.dict, ret);
    } else { /* None and undefined have one value each; the rest are themselves */
        *ret = a.kind <= MB_VALUE_NONE || (a.kind == MB_VALUE_LOOP && a.loop == b.loop) ||
               (a.kind == MB_VALUE_NAMESPACE && a.dict == b.dict) ||
               (a.kind == MB_VALUE_CALLABLE && a.callable == b.callable);
    }
    mb_render_leave(r);
    return ok;
}

/* By the first element that differs, else by length. */
static bool order_lists(struct mb_render *r, const struct mb_list *a, const struct mb_list *b,
                        int *ret)
{
    size_t n = a->len < b->len ? a->len : b->len;
    for (size_t i = 0; i < n; i++) {
        bool same;
        if (!mb_jinja_value_equal(r, a->at[i], b->at[i], &same)) {
            return false;
        }
        if (!same) {
            return mb_jinja_value_order(r, a->at[i], b->at[i], ret);
        }
    }
    *ret = a->len < b->len ? -1 : a->len > b->len;
    return true;
}

/* What has no order tells 2: neither below nor above, and not the same. */
bool mb_jinja_value_order(struct mb_render *r, struct mb_jinja_value a, struct mb_jinja_value b,
                          int *ret)
{
    if (a.kind == MB_VALUE_UNDEFINED || b.kind == MB_VALUE_UNDEFINED) {
        return mb_render_fail_undefined(r, a.kind == MB_VALUE_UNDEFINED ? a : b);
    }
    if (mb_jinja_value_is_number(a) && mb_jinja_value_is_number(b)) {
        bool ordered;
        int k = order_numbers(a, b, &ordered);
        *ret = ordered ? k : 2;
        return mb_render_work(r, 1);
    }
    if (a.kind == MB_VALUE_STRING && b.kind == MB_VALUE_STRING) {
        *ret = order_texts(a, b);
        *ret = *ret < 0 ? -1 : *ret > 0;
        return mb_render_work(r, (a.n < b.n ? a.n : b.n) / 16);
    }
    if (a.kind == MB_VALUE_LIST && b.kind == MB_VALUE_LIST && a.list->shape == b.list->shape &&
        (a.list->shape == MB_LIST || a.list->shape == MB_TUPLE)) {
        if (!mb_render_enter(r)) {
            return false;
        }
        bool ok = order_lists(r, a.list, b.list, ret);
        mb_render_leave(r);
        return ok;
    }
    return mb_render_fail(r, MB_E_INVALID, "a %s and a %s have no order",
                          mb_jinja_value_type(a), mb_jinja_value_type(b));
}

struct mb_jinja_value *mb_dict_find(struct mb_render *r, const struct mb_dict *d,
                                    struct mb_jinja_value key)
{
    for (size_t i = 0; i < d->len; i++) {
        struct mb_jinja_value k = d->at[i].key;
        bool same = false;
        if (k.kind == MB_VALUE_STRING && key.kind == MB_VALUE_STRING) {
            same = k.n == key.n && (k.text == key.text || memcmp(k.text, key.text, k.n) == 0);
            if (k.n == key.n && !mb_render_work(r, k.n / 16)) {
                return NULL;
            }
        } else if (!mb_jinja_value_equal(r, k, key, &same)) {
            return NULL;
        }
        if (same) {
            return mb_render_work(r, i / 4) ? &d->at[i].value : NULL;
        }
    }
    (void) mb_render_work(r, d->len / 4);
    return NULL;
}

bool mb_jinja_value_contains(struct mb_render *r, struct mb_jinja_value whole,
                             struct mb_jinja_value part, bool *ret)
{
    if (whole.kind == MB_VALUE_STRING) {
        if (part.kind != MB_VALUE_STRING) {
            return mb_render_fail(r, MB_E_INVALID, "a %s can not be in a str",
                                  mb_jinja_value_type(part));
        }
        *ret = memmem(whole.text, whole.n, part.text, part.n) != NULL || part.n == 0;
        return mb_render_work(r, whole.n / 16);
    }
    if (whole.kind == MB_VALUE_DICT) {
        if (!may_be_key(part) && part.kind != MB_VALUE_UNDEFINED) {
            return mb_render_fail(r, MB_E_INVALID, "a %s can not be a key",
                                  mb_jinja_value_type(part));
        }
        *ret = mb_dict_find(r, whole.dict, part) != NULL;
        return r->status == MB_OK;
    }
    struct mb_list elements;
    if (!mb_jinja_value_elements(r, whole, &elements)) {
        return false;
    }
    *ret = false;
    for (size_t i = 0; i < elements.len && !*ret; i++) {
        if (!mb_jinja_value_equal(r, elements.at[i], part, ret) || !mb_render_work(r, 1)) {
            return false;
        }
    }
    return true;
}
