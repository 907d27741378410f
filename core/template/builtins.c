/* The functions that every template has. */
#include <stdio.h>
#include <string.h>

#include "core/template/call.h"

enum {
    RANGE_MAX = 100000, /* elements, as in Jinja's sandbox */
    TIME_TEXT_MAX = 512,
};

static bool range(struct mb_render *r, const struct mb_callable *self,
                  const struct mb_args *args, struct mb_jinja_value *ret)
{
    int64_t at[3] = { 0, 0, 1 }, n = 0;
    if (args->n < 1 || args->n > 3 || args->n_named > 0) {
        return mb_render_fail(r, MB_E_INVALID, "range takes one to three ints");
    }
    for (size_t i = 0; i < args->n; i++) {
        if (!mb_jinja_value_integer(args->at[i], &at[args->n == 1 ? 1 : i])) {
            return mb_render_fail(r, MB_E_INVALID, "range takes ints, not a %s",
                                  mb_jinja_value_type(args->at[i]));
        }
    }
    if (at[2] == 0) {
        return mb_render_fail(r, MB_E_INVALID, "the step of a range is 0");
    }
    if (!mb_list_new(r, MB_RANGE, 4, ret)) {
        return false;
    }
    for (int64_t i = at[0]; at[2] > 0 ? i < at[1] : i > at[1]; n++) {
        if (n == RANGE_MAX) {
            return mb_render_fail(r, MB_E_LIMIT, "a range of more than %d elements", RANGE_MAX);
        }
        if (!mb_list_push(r, ret->list, mb_jinja_value_int(i))) {
            return false;
        }
        if (__builtin_add_overflow(i, at[2], &i)) {
            break;
        }
    }
    return true;
}

/* A dict of the pairs or of the dict given, and of the named arguments. */
static bool dict(struct mb_render *r, const struct mb_callable *self,
                 const struct mb_args *args, struct mb_jinja_value *ret)
{
    struct mb_list l;
    if (args->n > 1) {
        return mb_render_fail(r, MB_E_INVALID, "%s takes one argument without a name at most",
                              self->name);
    }
    if (!mb_dict_new(r, args->n_named, ret)) {
        return false;
    }
    if (args->n == 1 && args->at[0].kind == MB_VALUE_DICT) {
        const struct mb_dict *d = args->at[0].dict;
        for (size_t i = 0; i < d->len; i++) {
            if (!mb_dict_add(r, ret->dict, d->at[i].key, d->at[i].value)) {
                return false;
            }
        }
    } else if (args->n == 1) {
        if (!mb_jinja_value_elements(r, args->at[0], &l)) {
            return false;
        }
        for (size_t i = 0; i < l.len; i++) {
            struct mb_list pair;
            if (!mb_jinja_value_elements(r, l.at[i], &pair)) {
                return false;
            }
            if (pair.len != 2) {
                return mb_render_fail(r, MB_E_INVALID, "%s takes pairs", self->name);
            }
            if (!mb_dict_set(r, ret->dict, pair.at[0], pair.at[1])) {
                return false;
            }
        }
    }
    for (size_t i = 0; i < args->n_named; i++) {
        if (!mb_dict_set(r, ret->dict, args->named[i].name, args->named[i].value)) {
            return false;
        }
    }
    return true;
}

static bool namespace(struct mb_render *r, const struct mb_callable *self,
                      const struct mb_args *args, struct mb_jinja_value *ret)
{
    bool ok = dict(r, self, args, ret);
    ret->kind = MB_VALUE_NAMESPACE;
    return ok;
}

/* How a template says that the messages are not as its model needs them. */
static bool raise_exception(struct mb_render *r, const struct mb_callable *self,
                            const struct mb_args *args, struct mb_jinja_value *ret)
{
    struct mb_jinja_value text = mb_jinja_value_literal("the template refuses these messages");
    if (args->n > 0 && !mb_jinja_value_text(r, args->at[0], &text)) {
        return false;
    }
    return mb_render_fail(r, MB_E_INVALID, "%.*s", (int) (text.n < 280 ? text.n : 280),
                          text.text);
}

static bool strftime_now(struct mb_render *r, const struct mb_callable *self,
                         const struct mb_args *args, struct mb_jinja_value *ret)
{
    char format[TIME_TEXT_MAX], text[TIME_TEXT_MAX];
    if (args->n != 1 || args->at[0].kind != MB_VALUE_STRING ||
        args->at[0].n >= sizeof format - 1) {
        return mb_render_fail(r, MB_E_INVALID,
                              "strftime_now takes a format of less than %d bytes",
                              TIME_TEXT_MAX - 1);
    }
    /* With one character more, a text that is empty can be told from one that does not fit. */
    (void) snprintf(format, sizeof format, "%.*s.", (int) args->at[0].n, args->at[0].text);
    size_t n = strftime(text, sizeof text, format, r->now);
    if (n == 0) {
        return mb_render_fail(r, MB_E_LIMIT, "strftime_now: more than %d bytes",
                              TIME_TEXT_MAX - 2);
    }
    size_t mark = mb_render_mark(r);
    return mb_render_put(r, text, n - 1) && mb_render_cut(r, mark, ret);
}

static const struct mb_callable builtins[] = {
    { .name = "dict", .call = dict },
    { .name = "namespace", .call = namespace },
    { .name = "raise_exception", .call = raise_exception },
    { .name = "range", .call = range },
    { .name = "strftime_now", .call = strftime_now },
};

bool mb_builtin_find(const struct mb_render *r, struct mb_jinja_value name,
                     struct mb_jinja_value *ret)
{
    for (size_t i = 0; i < sizeof builtins / sizeof builtins[0]; i++) {
        if (mb_jinja_value_is_text(name, builtins[i].name) &&
            (builtins[i].call != strftime_now || r->now)) {
            *ret =
                (struct mb_jinja_value) { .kind = MB_VALUE_CALLABLE, .callable = &builtins[i] };
            return true;
        }
    }
    return false;
}
