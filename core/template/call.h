/* What can be called, and what it is called with. Private to the template engine.
 *
 * Threads: the tables are constant; the rest belongs to one render. */
#ifndef MB_CORE_TEMPLATE_CALL_H
#define MB_CORE_TEMPLATE_CALL_H

#include "core/template/render.h"

struct mb_named {
    struct mb_jinja_value name, value;
};

struct mb_args {
    struct mb_jinja_value *at;
    size_t n;
    struct mb_named *named;
    size_t n_named;
};

#define MB_PARAMS_MAX 6

typedef bool mb_call_fn(struct mb_render *r, const struct mb_callable *self,
                        const struct mb_args *args, struct mb_jinja_value *ret);

struct mb_callable {
    const char *name;
    mb_call_fn *call;
    const struct mb_function *method; /* of a method: which, and what it is called on */
    struct mb_jinja_value self;
    const struct mb_node *macro; /* of a macro: its definition, and where it stood */
    struct mb_scope *scope;
};

/* A function of values: a filter or a method. in is what it is applied to; at holds its
 * parameters in the order of params, absent where none was given. */
typedef bool mb_function_fn(struct mb_render *r, struct mb_jinja_value in,
                            const struct mb_jinja_value *at, struct mb_jinja_value *ret);

struct mb_function {
    const char *name;
    mb_function_fn *call;
    const char
        *params; /* "width,first": names in order; a leading ! marks what must be given */
};

/* Calls f on in with args, which are put in the order of its parameters first. */
bool mb_function_apply(struct mb_render *r, const struct mb_function *f,
                       struct mb_jinja_value in, const struct mb_args *args,
                       struct mb_jinja_value *ret);

/* Calls what a template calls with parentheses. */
bool mb_jinja_value_call(struct mb_render *r, struct mb_jinja_value callee,
                         const struct mb_args *args, struct mb_jinja_value *ret);

/* Filters and tests by name. Errors: there is none of this name; what they refuse. */
bool mb_filter_exists(struct mb_jinja_value name);
bool mb_filter_apply(struct mb_render *r, struct mb_jinja_value name, struct mb_jinja_value in,
                     const struct mb_args *args, struct mb_jinja_value *ret);
bool mb_test_exists(struct mb_jinja_value name);
bool mb_test_apply(struct mb_render *r, struct mb_jinja_value name, struct mb_jinja_value in,
                   const struct mb_args *args, bool *ret);

/* The method of this name that v has. */
bool mb_method_find(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value name,
                    bool *ret_found, struct mb_jinja_value *ret);

/* The function that every template has under this name, or false. */
bool mb_builtin_find(const struct mb_render *r, struct mb_jinja_value name,
                     struct mb_jinja_value *ret);

/* The tables, by file. Each ends with a row without a name. */
extern const struct mb_function mb_text_filters[], mb_list_filters[], mb_number_filters[];
extern const struct mb_function mb_string_methods[], mb_list_methods[], mb_tuple_methods[],
    mb_dict_methods[];
const struct mb_function *mb_function_find(const struct mb_function *table,
                                           struct mb_jinja_value name);

/* v.a.b of "a.b" and v[0] of 0: how filters name what of an element they mean. */
bool mb_jinja_value_path(struct mb_render *r, struct mb_jinja_value v,
                         struct mb_jinja_value path, struct mb_jinja_value *ret);

#endif
