/* Filters by name, and those that apply other filters and tests to elements. */
#include <string.h>

#include "core/template/call.h"
#include "core/template/number.h"

typedef bool raw_filter_fn(struct mb_render *r, struct mb_jinja_value in,
                           const struct mb_args *args, struct mb_jinja_value *ret);

static struct mb_args rest_of(const struct mb_args *args, size_t from)
{
    struct mb_args rest = *args;
    rest.at += from < rest.n ? from : rest.n;
    rest.n -= from < rest.n ? from : rest.n;
    return rest;
}

static const struct mb_jinja_value *named(const struct mb_args *args, const char *name)
{
    for (size_t i = 0; i < args->n_named; i++) {
        if (mb_jinja_value_is_text(args->named[i].name, name)) {
            return &args->named[i].value;
        }
    }
    return NULL;
}

/* What is false has no elements here, even None and 0, as in Jinja. */
static bool elements_into(struct mb_render *r, struct mb_jinja_value in,
                          struct mb_list *ret_elements, struct mb_jinja_value *ret)
{
    *ret_elements = (struct mb_list) { 0 };
    return (!mb_jinja_value_is_true(in) || mb_jinja_value_elements(r, in, ret_elements)) &&
           mb_list_new(r, MB_ITERATOR, ret_elements->len, ret);
}

/* map(attribute="a.b", default=...) */
static bool map_attribute(struct mb_render *r, struct mb_jinja_value in,
                          const struct mb_args *args, struct mb_jinja_value path,
                          struct mb_jinja_value *ret)
{
    const struct mb_jinja_value *otherwise = named(args, "default");
    struct mb_list l;
    if (args->n_named > (otherwise ? 2u : 1u)) {
        return mb_render_fail(r, MB_E_INVALID, "map: takes attribute and default only");
    }
    if (!elements_into(r, in, &l, ret)) {
        return false;
    }
    for (size_t i = 0; i < l.len; i++) {
        struct mb_jinja_value v;
        if (!mb_jinja_value_path(r, l.at[i], path, &v) ||
            !mb_list_push(r, ret->list,
                          v.kind == MB_VALUE_UNDEFINED && otherwise ? *otherwise : v)) {
            return false;
        }
    }
    return true;
}

static bool map(struct mb_render *r, struct mb_jinja_value in, const struct mb_args *args,
                struct mb_jinja_value *ret)
{
    const struct mb_jinja_value *path = named(args, "attribute");
    if (args->n == 0 && path) {
        return map_attribute(r, in, args, *path, ret);
    }
    struct mb_list l;
    if (args->n == 0 || args->at[0].kind != MB_VALUE_STRING) {
        return mb_render_fail(r, MB_E_INVALID,
                              "map: needs the name of a filter, or an attribute");
    }
    struct mb_args rest = rest_of(args, 1);
    if (!elements_into(r, in, &l, ret)) {
        return false;
    }
    for (size_t i = 0; i < l.len; i++) {
        struct mb_jinja_value v;
        if (!mb_filter_apply(r, args->at[0], l.at[i], &rest, &v) ||
            !mb_list_push(r, ret->list, v)) {
            return false;
        }
    }
    return true;
}

/* Those elements of which the test, or truth without one, is wanted; looked at whole or by one
 * attribute, which the first argument names. */
static bool choose(struct mb_render *r, struct mb_jinja_value in, const struct mb_args *args,
                   bool by_attribute, bool wanted, struct mb_jinja_value *ret)
{
    struct mb_list l;
    size_t at = by_attribute;
    if (args->n < at) {
        return mb_render_fail(r, MB_E_INVALID, "selectattr and rejectattr need an attribute");
    }
    struct mb_args rest = rest_of(args, at + 1);
    if (!elements_into(r, in, &l, ret)) {
        return false;
    }
    for (size_t i = 0; i < l.len; i++) {
        struct mb_jinja_value v = l.at[i];
        if (by_attribute && !mb_jinja_value_path(r, v, args->at[0], &v)) {
            return false;
        }
        bool holds = mb_jinja_value_is_true(v);
        if ((args->n > at && !mb_test_apply(r, args->at[at], v, &rest, &holds)) ||
            (holds == wanted && !mb_list_push(r, ret->list, l.at[i]))) {
            return false;
        }
    }
    return true;
}

static bool select_filter(struct mb_render *r, struct mb_jinja_value in,
                          const struct mb_args *args, struct mb_jinja_value *ret)
{
    return choose(r, in, args, false, true, ret);
}

static bool reject(struct mb_render *r, struct mb_jinja_value in, const struct mb_args *args,
                   struct mb_jinja_value *ret)
{
    return choose(r, in, args, false, false, ret);
}

static bool selectattr(struct mb_render *r, struct mb_jinja_value in,
                       const struct mb_args *args, struct mb_jinja_value *ret)
{
    return choose(r, in, args, true, true, ret);
}

static bool rejectattr(struct mb_render *r, struct mb_jinja_value in,
                       const struct mb_args *args, struct mb_jinja_value *ret)
{
    return choose(r, in, args, true, false, ret);
}

static bool format(struct mb_render *r, struct mb_jinja_value in, const struct mb_args *args,
                   struct mb_jinja_value *ret)
{
    struct mb_jinja_value values;
    if (args->n > 0 && args->n_named > 0) {
        return mb_render_fail(r, MB_E_INVALID,
                              "format: takes values or named values, not both");
    }
    if (!mb_jinja_value_text(r, in, &in)) {
        return false;
    }
    if (args->n_named == 0) {
        if (!mb_list_new(r, MB_TUPLE, args->n, &values)) {
            return false;
        }
        for (size_t i = 0; i < args->n; i++) {
            if (!mb_list_push(r, values.list, args->at[i])) {
                return false;
            }
        }
        return mb_text_format(r, in, values, ret);
    }
    if (!mb_dict_new(r, args->n_named, &values)) {
        return false;
    }
    for (size_t i = 0; i < args->n_named; i++) {
        if (!mb_dict_set(r, values.dict, args->named[i].name, args->named[i].value)) {
            return false;
        }
    }
    return mb_text_format(r, in, values, ret);
}

static const struct {
    const char *name;
    raw_filter_fn *call;
} raw_filters[] = {
    { "format", format },        { "map", map },
    { "reject", reject },        { "rejectattr", rejectattr },
    { "select", select_filter }, { "selectattr", selectattr },
};

static raw_filter_fn *find_raw(struct mb_jinja_value name)
{
    for (size_t i = 0; i < sizeof raw_filters / sizeof raw_filters[0]; i++) {
        if (mb_jinja_value_is_text(name, raw_filters[i].name)) {
            return raw_filters[i].call;
        }
    }
    return NULL;
}

static const struct mb_function *find(struct mb_jinja_value name)
{
    const struct mb_function *f = mb_function_find(mb_text_filters, name);
    f = f ? f : mb_function_find(mb_list_filters, name);
    return f ? f : mb_function_find(mb_number_filters, name);
}

bool mb_filter_exists(struct mb_jinja_value name)
{
    return find_raw(name) || find(name);
}

bool mb_filter_apply(struct mb_render *r, struct mb_jinja_value name, struct mb_jinja_value in,
                     const struct mb_args *args, struct mb_jinja_value *ret)
{
    raw_filter_fn *raw = find_raw(name);
    const struct mb_function *f = raw ? NULL : find(name);
    if (!raw && !f) {
        return mb_render_fail(r, MB_E_INVALID, "there is no filter '%.*s'",
                              (int) (name.n < 40 ? name.n : 40), name.text);
    }
    if (!mb_render_enter(r)) { /* map may apply itself */
        return false;
    }
    bool ok = raw ? raw(r, in, args, ret) : mb_function_apply(r, f, in, args, ret);
    mb_render_leave(r);
    return ok;
}
