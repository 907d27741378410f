#include "core/template/call.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

const struct mb_function *mb_function_find(const struct mb_function *table,
                                           struct mb_jinja_value name)
{
    for (; table->name; table++) {
        if (mb_jinja_value_is_text(name, table->name)) {
            return table;
        }
    }
    return NULL;
}

/* ---- parameters -------------------------------------------------------------------------- */

struct param {
    const char *name;
    size_t n;
    bool required;
};

/* Takes "!old,!new,count" apart. */
static size_t params_of(const struct mb_function *f, struct param ret[MB_PARAMS_MAX])
{
    size_t n = 0;
    for (const char *p = f->params; *p;) {
        bool required = *p == '!';
        p += required;
        size_t len = strcspn(p, ",");
        assert(n < MB_PARAMS_MAX);
        ret[n++] = (struct param) { p, len, required };
        p += len + (p[len] == ',');
    }
    return n;
}

static bool bind_named(struct mb_render *r, const struct mb_function *f,
                       const struct param *params, size_t n, const struct mb_named *a,
                       struct mb_jinja_value *ret)
{
    for (size_t i = 0; i < n; i++) {
        if (a->name.n != params[i].n || memcmp(a->name.text, params[i].name, a->name.n) != 0) {
            continue;
        }
        if (ret[i].kind != MB_VALUE_ABSENT) {
            break;
        }
        ret[i] = a->value;
        return true;
    }
    return mb_render_fail(r, MB_E_INVALID,
                          "%s: there is no argument '%.*s', or it stands twice", f->name,
                          (int) (a->name.n < 40 ? a->name.n : 40), a->name.text);
}

bool mb_function_apply(struct mb_render *r, const struct mb_function *f,
                       struct mb_jinja_value in, const struct mb_args *args,
                       struct mb_jinja_value *ret)
{
    struct param params[MB_PARAMS_MAX];
    struct mb_jinja_value at[MB_PARAMS_MAX] = { 0 };
    size_t n = params_of(f, params);
    if (args->n > n) {
        return mb_render_fail(r, MB_E_INVALID, "%s takes %zu arguments at most, not %zu",
                              f->name, n, args->n);
    }
    if (args->n > 0) {
        memcpy(at, args->at, args->n * sizeof at[0]);
    }
    for (size_t i = 0; i < args->n_named; i++) {
        if (!bind_named(r, f, params, n, &args->named[i], at)) {
            return false;
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (params[i].required && at[i].kind == MB_VALUE_ABSENT) {
            return mb_render_fail(r, MB_E_INVALID, "%s needs the argument '%.*s'", f->name,
                                  (int) params[i].n, params[i].name);
        }
    }
    return mb_render_work(r, 1) && f->call(r, in, at, ret);
}

/* ---- what is called ---------------------------------------------------------------------- */

bool mb_jinja_value_call(struct mb_render *r, struct mb_jinja_value callee,
                         const struct mb_args *args, struct mb_jinja_value *ret)
{
    if (callee.kind == MB_VALUE_UNDEFINED) {
        return mb_render_fail_undefined(r, callee);
    }
    if (callee.kind != MB_VALUE_CALLABLE) {
        return mb_render_fail(r, MB_E_INVALID, "a %s can not be called",
                              mb_jinja_value_type(callee));
    }
    return callee.callable->call(r, callee.callable, args, ret);
}

static bool call_method(struct mb_render *r, const struct mb_callable *self,
                        const struct mb_args *args, struct mb_jinja_value *ret)
{
    return mb_function_apply(r, self->method, self->self, args, ret);
}

static const struct mb_function *methods_of(struct mb_jinja_value v)
{
    switch (v.kind) {
    case MB_VALUE_STRING:
        return mb_string_methods;
    case MB_VALUE_DICT:
        return mb_dict_methods;
    case MB_VALUE_LIST:
        return v.list->shape == MB_LIST    ? mb_list_methods
               : v.list->shape == MB_TUPLE ? mb_tuple_methods
                                           : NULL;
    default:
        return NULL;
    }
}

bool mb_method_find(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value name,
                    bool *ret_found, struct mb_jinja_value *ret)
{
    const struct mb_function *table = methods_of(v);
    const struct mb_function *f = table ? mb_function_find(table, name) : NULL;
    *ret_found = f != NULL;
    if (!f) {
        return true;
    }
    struct mb_callable *c = mb_render_alloc(r, 1, sizeof *c);
    if (!c) {
        return false;
    }
    *c = (struct mb_callable) { .name = f->name, .call = call_method, .method = f, .self = v };
    *ret = (struct mb_jinja_value) { .kind = MB_VALUE_CALLABLE, .callable = c };
    return true;
}

/* ---- paths ------------------------------------------------------------------------------- */

static bool is_index(const char *at, size_t n, int64_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < n; i++) {
        if (at[i] < '0' || at[i] > '9' || n > 9) {
            return false;
        }
        *ret = *ret * 10 + (at[i] - '0');
    }
    return n > 0;
}

bool mb_jinja_value_path(struct mb_render *r, struct mb_jinja_value v,
                         struct mb_jinja_value path, struct mb_jinja_value *ret)
{
    if (path.kind != MB_VALUE_STRING) {
        return mb_jinja_value_item(r, v, path, ret);
    }
    const char *at = path.text, *end = path.text + path.n;
    while (at <= end) {
        const char *dot = memchr(at, '.', (size_t) (end - at));
        size_t n = (size_t) ((dot ? dot : end) - at);
        int64_t i;
        struct mb_jinja_value key =
            is_index(at, n, &i) ? mb_jinja_value_int(i) : mb_jinja_value_string(at, n);
        if (!mb_jinja_value_item(r, v, key, &v)) {
            return false;
        }
        at += n + 1;
    }
    *ret = v;
    return true;
}
