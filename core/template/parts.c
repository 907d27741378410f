/* Parts of values: elements, attributes, items, slices. */
#include <string.h>

#include "core/template/call.h"
#include "core/template/loop.h"
#include "core/tokenizer/utf8.h"

static bool characters(struct mb_render *r, struct mb_jinja_value text, struct mb_list *ret)
{
    struct mb_jinja_value v;
    if (!mb_list_new(r, MB_LIST, text.n / 2 + 1, &v)) {
        return false;
    }
    for (size_t i = 0; i < text.n;) {
        size_t n = mb_utf8_len((uint8_t) text.text[i]);
        if (!mb_list_push(r, v.list, mb_jinja_value_string(text.text + i, n))) {
            return false;
        }
        i += n;
    }
    *ret = *v.list;
    return true;
}

bool mb_jinja_value_elements(struct mb_render *r, struct mb_jinja_value v, struct mb_list *ret)
{
    *ret = (struct mb_list) { .shape = MB_LIST };
    switch (v.kind) {
    case MB_VALUE_UNDEFINED:
        return true;
    case MB_VALUE_STRING:
        return characters(r, v, ret);
    case MB_VALUE_LOOP:
        *ret = v.loop->items;
        return true;
    case MB_VALUE_LIST:
        *ret = *v.list;
        if (v.list->shape == MB_ITERATOR) {
            ret->at += v.list->taken;
            ret->len -= v.list->taken;
            v.list->taken = v.list->len;
        }
        return true;
    case MB_VALUE_DICT: {
        struct mb_jinja_value keys;
        if (!mb_list_new(r, MB_LIST, v.dict->len, &keys)) {
            return false;
        }
        for (size_t i = 0; i < v.dict->len; i++) {
            if (!mb_list_push(r, keys.list, v.dict->at[i].key)) {
                return false;
            }
        }
        *ret = *keys.list;
        return true;
    }
    default:
        return mb_render_fail(r, MB_E_INVALID, "a %s can not be walked over",
                              mb_jinja_value_type(v));
    }
}

/* What v has by this name that is no item of it. */
static bool own_attribute(struct mb_render *r, struct mb_jinja_value v,
                          struct mb_jinja_value name, bool *ret_found,
                          struct mb_jinja_value *ret)
{
    if (v.kind == MB_VALUE_LOOP) {
        return mb_loop_attribute(r, v.loop, name, ret_found, ret);
    }
    if (v.kind == MB_VALUE_NAMESPACE) {
        const struct mb_jinja_value *place = mb_dict_find(r, v.dict, name);
        *ret_found = place != NULL;
        *ret = place ? *place : *ret;
        return r->status == MB_OK;
    }
    return mb_method_find(r, v, name, ret_found, ret);
}

static bool at_index(struct mb_jinja_value v, int64_t i, struct mb_jinja_value *ret)
{
    if (v.kind == MB_VALUE_LIST) {
        const struct mb_list *l = v.list;
        bool indexed = l->shape == MB_LIST || l->shape == MB_TUPLE || l->shape == MB_RANGE;
        i += i < 0 ? (int64_t) l->len : 0;
        if (!indexed || i < 0 || i >= (int64_t) l->len) {
            return false;
        }
        *ret = l->at[i];
        return true;
    }
    return false;
}

/* The item of v under key, when there is one. */
static bool own_item(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value key,
                     bool *ret_found, struct mb_jinja_value *ret)
{
    int64_t i;
    *ret_found = false;
    if (v.kind == MB_VALUE_DICT) {
        const struct mb_jinja_value *place = mb_dict_find(r, v.dict, key);
        *ret_found = place != NULL;
        *ret = place ? *place : *ret;
    } else if (v.kind == MB_VALUE_LIST && mb_jinja_value_integer(key, &i)) {
        *ret_found = at_index(v, i, ret);
    } else if (v.kind == MB_VALUE_STRING && mb_jinja_value_integer(key, &i)) {
        int64_t n;
        if (!mb_jinja_value_length(r, v, &n)) {
            return false;
        }
        i += i < 0 ? n : 0;
        if (i >= 0 && i < n) {
            struct mb_jinja_value bounds[3] = { mb_jinja_value_int(i),
                                                mb_jinja_value_int(i + 1),
                                                { 0 } };
            *ret_found = true;
            return mb_jinja_value_slice(r, v, bounds, ret);
        }
    }
    return r->status == MB_OK;
}

static bool is_there(struct mb_render *r, struct mb_jinja_value v)
{
    return v.kind != MB_VALUE_UNDEFINED || mb_render_fail_undefined(r, v);
}

static struct mb_jinja_value missing(struct mb_jinja_value key)
{
    return key.kind == MB_VALUE_STRING ? mb_jinja_value_undefined(key.text, key.n)
                                       : mb_jinja_value_undefined("an element", 10);
}

bool mb_jinja_value_attribute(struct mb_render *r, struct mb_jinja_value v,
                              struct mb_jinja_value name, struct mb_jinja_value *ret)
{
    bool found;
    if (!is_there(r, v) || !own_attribute(r, v, name, &found, ret) ||
        (!found && !own_item(r, v, name, &found, ret))) {
        return false;
    }
    if (!found) {
        *ret = missing(name);
    }
    return mb_render_work(r, 1);
}

bool mb_jinja_value_item(struct mb_render *r, struct mb_jinja_value v,
                         struct mb_jinja_value key, struct mb_jinja_value *ret)
{
    bool found;
    if (!is_there(r, v) || !own_item(r, v, key, &found, ret) ||
        (!found && key.kind == MB_VALUE_STRING && !own_attribute(r, v, key, &found, ret))) {
        return false;
    }
    if (!found) {
        *ret = missing(key);
    }
    return mb_render_work(r, 1);
}

/* ---- slices ------------------------------------------------------------------------------ */

struct slice {
    int64_t start, stop, step;
};

static int64_t clamp(int64_t i, int64_t low, int64_t high)
{
    return i < low ? low : i > high ? high : i;
}

/* Where a bound lies among n elements, as Python's slice.indices has it. */
static bool bound(struct mb_render *r, struct mb_jinja_value v, int64_t n, bool backward,
                  int64_t otherwise, int64_t *ret)
{
    *ret = otherwise;
    if (v.kind == MB_VALUE_ABSENT || v.kind == MB_VALUE_NONE) {
        return true;
    }
    int64_t i;
    if (!mb_jinja_value_integer(v, &i)) {
        return mb_render_fail(r, MB_E_INVALID, "a slice needs ints, not a %s",
                              mb_jinja_value_type(v));
    }
    i = i < 0 ? (i < -n ? -1 - n : i) + n : i;
    *ret = backward ? clamp(i, -1, n - 1) : clamp(i, 0, n);
    return true;
}

static bool take_slice(struct mb_render *r, const struct mb_jinja_value bounds[3], int64_t n,
                       struct slice *ret)
{
    ret->step = 1;
    if (bounds[2].kind != MB_VALUE_ABSENT && bounds[2].kind != MB_VALUE_NONE &&
        !mb_jinja_value_integer(bounds[2], &ret->step)) {
        return mb_render_fail(r, MB_E_INVALID, "a slice needs ints, not a %s",
                              mb_jinja_value_type(bounds[2]));
    }
    if (ret->step == 0) {
        return mb_render_fail(r, MB_E_INVALID, "the step of a slice is 0");
    }
    ret->step = clamp(ret->step, -n - 1, n + 1); /* so that no index overflows */
    bool backward = ret->step < 0;
    return bound(r, bounds[0], n, backward, backward ? n - 1 : 0, &ret->start) &&
           bound(r, bounds[1], n, backward, backward ? -1 : n, &ret->stop);
}

static bool within(const struct slice *s, int64_t i)
{
    return s->step > 0 ? i < s->stop : i > s->stop;
}

static bool slice_list(struct mb_render *r, const struct mb_list *l, const struct slice *s,
                       struct mb_jinja_value *ret)
{
    if (!mb_list_new(r, l->shape, 4, ret)) {
        return false;
    }
    for (int64_t i = s->start; within(s, i); i += s->step) {
        if (!mb_list_push(r, ret->list, l->at[i])) {
            return false;
        }
    }
    return true;
}

/* The byte at which character i starts. */
static size_t byte_of(struct mb_jinja_value text, int64_t i)
{
    size_t at = 0;
    for (; i > 0 && at < text.n; i--) {
        at += mb_utf8_len((uint8_t) text.text[at]);
    }
    return at;
}

static bool slice_text(struct mb_render *r, struct mb_jinja_value text, const struct slice *s,
                       struct mb_jinja_value *ret)
{
    if (s->step == 1) {
        size_t from = byte_of(text, s->start), to = byte_of(text, s->stop);
        *ret = mb_jinja_value_string(text.text + from, to > from ? to - from : 0);
        return mb_render_work(r, text.n / 16);
    }
    struct mb_list all;
    if (!characters(r, text, &all)) {
        return false;
    }
    size_t mark = mb_render_mark(r);
    for (int64_t i = s->start; within(s, i); i += s->step) {
        if (!mb_render_put(r, all.at[i].text, all.at[i].n)) {
            return false;
        }
    }
    return mb_render_cut(r, mark, ret);
}

bool mb_jinja_value_slice(struct mb_render *r, struct mb_jinja_value v,
                          const struct mb_jinja_value bounds[3], struct mb_jinja_value *ret)
{
    bool listed = v.kind == MB_VALUE_LIST && v.list->shape <= MB_RANGE;
    if (!is_there(r, v)) {
        return false;
    }
    if (!listed && v.kind != MB_VALUE_STRING) {
        return mb_render_fail(r, MB_E_INVALID, "a %s has no slices", mb_jinja_value_type(v));
    }
    int64_t n;
    struct slice s;
    if (!mb_jinja_value_length(r, v, &n) || !take_slice(r, bounds, n, &s)) {
        return false;
    }
    return listed ? slice_list(r, v.list, &s, ret) : slice_text(r, v, &s, ret);
}
