/* Values of the template language: what Python's None, bool, int, float, str, list, tuple, dict
 * are to a template, and the few things that only templates have.
 *
 * Life:    everything lives in the arena of one render (render.h) or of the compiled template;
 *          nothing is freed alone.
 * Threads: those of a template are shared and never change; those of a render are one
 *          thread's. */
#ifndef MB_CORE_TEMPLATE_VALUE_H
#define MB_CORE_TEMPLATE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mb_render;
struct mb_list;
struct mb_dict;
struct mb_loop;
struct mb_callable;

enum mb_jinja_value_kind {
    MB_VALUE_ABSENT,    /* an argument that was not given; no expression has it */
    MB_VALUE_UNDEFINED, /* a name or a key that is not there; text says which */
    MB_VALUE_NONE,
    MB_VALUE_BOOL,
    MB_VALUE_INT, /* 64 bits; beyond them is an error, as Python's have no end */
    MB_VALUE_FLOAT,
    MB_VALUE_STRING, /* well-formed UTF-8; its unit is the character */
    MB_VALUE_LIST,
    MB_VALUE_DICT,
    MB_VALUE_NAMESPACE, /* a dict whose entries {% set %} can change */
    MB_VALUE_LOOP,      /* the variable loop */
    MB_VALUE_CALLABLE,  /* a macro, a function, a method of a value */
};

/* 16 bytes, passed by value. */
struct mb_jinja_value {
    enum mb_jinja_value_kind kind;
    uint32_t n; /* bytes of text */
    union {
        bool truth;
        int64_t integer;
        double real;
        const char *text; /* not terminated */
        struct mb_list *list;
        struct mb_dict *dict;
        struct mb_loop *loop;
        const struct mb_callable *callable;
    };
};

/* What Python would make of it: which decides how it prints, whether it has a length, equals a
 * list, and is true when empty. */
enum mb_list_shape {
    MB_LIST,
    MB_TUPLE,
    MB_RANGE,
    MB_ITERATOR, /* what select, map and their like give: gone once it was walked over */
    MB_KEYS,
    MB_VALUES,
    MB_ITEMS,
};

struct mb_list {
    enum mb_list_shape shape;
    struct mb_jinja_value *at;
    size_t len, cap;
    size_t taken; /* of an iterator: elements that are gone */
};

struct mb_entry {
    struct mb_jinja_value key, value;
};

/* In order of insertion. Searched one by one: what a chat holds is small, and the work is
 * counted. */
struct mb_dict {
    struct mb_entry *at;
    size_t len, cap;
};

static inline struct mb_jinja_value mb_jinja_value_none(void)
{
    return (struct mb_jinja_value) { .kind = MB_VALUE_NONE };
}
static inline struct mb_jinja_value mb_jinja_value_bool(bool truth)
{
    return (struct mb_jinja_value) { .kind = MB_VALUE_BOOL, .truth = truth };
}
static inline struct mb_jinja_value mb_jinja_value_int(int64_t integer)
{
    return (struct mb_jinja_value) { .kind = MB_VALUE_INT, .integer = integer };
}
static inline struct mb_jinja_value mb_jinja_value_float(double real)
{
    return (struct mb_jinja_value) { .kind = MB_VALUE_FLOAT, .real = real };
}
/* Borrows text. */
static inline struct mb_jinja_value mb_jinja_value_string(const char *text, size_t n)
{
    return (struct mb_jinja_value) { .kind = MB_VALUE_STRING, .n = (uint32_t) n, .text = text };
}
/* Of a string constant. */
#define mb_jinja_value_literal(text) mb_jinja_value_string(text, sizeof(text) - 1)

static inline struct mb_jinja_value mb_jinja_value_undefined(const char *name, size_t n)
{
    return (
        struct mb_jinja_value) { .kind = MB_VALUE_UNDEFINED, .n = (uint32_t) n, .text = name };
}

/* ---- making; false and a told error when memory, work or output is at its bound ------------ */

bool mb_list_new(struct mb_render *r, enum mb_list_shape shape, size_t cap,
                 struct mb_jinja_value *ret);
bool mb_list_push(struct mb_render *r, struct mb_list *l, struct mb_jinja_value v);
bool mb_pair_new(struct mb_render *r, struct mb_jinja_value a, struct mb_jinja_value b,
                 struct mb_jinja_value *ret);
bool mb_dict_new(struct mb_render *r, size_t cap, struct mb_jinja_value *ret);
/* Sets, in place when the key is there. A key must be None, a bool, a number, a string or a
 * tuple. */
bool mb_dict_set(struct mb_render *r, struct mb_dict *d, struct mb_jinja_value key,
                 struct mb_jinja_value v);
/* Adds a key that is known not to be there. */
bool mb_dict_add(struct mb_render *r, struct mb_dict *d, struct mb_jinja_value key,
                 struct mb_jinja_value v);

/* ---- asking -------------------------------------------------------------------------------- */

/* The name of its type as Python says it, for messages: "str", "list", "NoneType". */
const char *mb_jinja_value_type(struct mb_jinja_value v);
bool mb_jinja_value_is_text(struct mb_jinja_value v, const char *text);
bool mb_jinja_value_is_true(struct mb_jinja_value v);
/* A bool, an int or a float. */
bool mb_jinja_value_is_number(struct mb_jinja_value v);
/* As a float; for numbers only. */
double mb_jinja_value_real(struct mb_jinja_value v);
/* A bool or an int, as an int. */
bool mb_jinja_value_integer(struct mb_jinja_value v, int64_t *ret);

/* NULL when the key is not there. */
struct mb_jinja_value *mb_dict_find(struct mb_render *r, const struct mb_dict *d,
                                    struct mb_jinja_value key);

/* ==, < and "in" as Python decides them. order is below, at or above 0.
 * Errors: types that have no order; anything that has no contents; nesting too deep. */
bool mb_jinja_value_equal(struct mb_render *r, struct mb_jinja_value a, struct mb_jinja_value b,
                          bool *ret);
bool mb_jinja_value_order(struct mb_render *r, struct mb_jinja_value a, struct mb_jinja_value b,
                          int *ret);
bool mb_jinja_value_contains(struct mb_render *r, struct mb_jinja_value whole,
                             struct mb_jinja_value part, bool *ret);

/* len(). Errors: it has none. */
bool mb_jinja_value_length(struct mb_render *r, struct mb_jinja_value v, int64_t *ret);

/* What a loop over v walks over: elements, keys, or characters. An iterator is used up by it.
 * The result is v's own memory where that can not change; it is not to be changed. */
bool mb_jinja_value_elements(struct mb_render *r, struct mb_jinja_value v, struct mb_list *ret);

/* ---- parts --------------------------------------------------------------------------------- */

/* v.name, and v[key]: what is not there is undefined. Errors: v is itself undefined. */
bool mb_jinja_value_attribute(struct mb_render *r, struct mb_jinja_value v,
                              struct mb_jinja_value name, struct mb_jinja_value *ret);
bool mb_jinja_value_item(struct mb_render *r, struct mb_jinja_value v,
                         struct mb_jinja_value key, struct mb_jinja_value *ret);
/* v[start:stop:step], each of which may be absent or None. Errors: v is no string, list,
 * tuple or range. */
bool mb_jinja_value_slice(struct mb_render *r, struct mb_jinja_value v,
                          const struct mb_jinja_value bounds[3], struct mb_jinja_value *ret);

/* ---- text ---------------------------------------------------------------------------------- */

/* Puts str(v) or repr(v) into the render's output. */
bool mb_jinja_value_print(struct mb_render *r, struct mb_jinja_value v);
bool mb_jinja_value_print_repr(struct mb_render *r, struct mb_jinja_value v);
/* str(v); strings are themselves. */
bool mb_jinja_value_text(struct mb_render *r, struct mb_jinja_value v,
                         struct mb_jinja_value *ret);

#endif
