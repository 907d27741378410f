/* Values as text, as Python's str and repr write them. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/template/number.h"
#include "core/template/render.h"
#include "core/tokenizer/unicode.h"
#include "core/tokenizer/utf8.h"

/* The digits that bring x back and are fewest, and the exponent of the first of them. */
static int shortest_digits(double x, char digits[20], int *ret_exponent)
{
    char text[40];
    for (int n = 1; n <= 17; n++) {
        (void) snprintf(text, sizeof text, "%.*e", n - 1, x);
        if (strtod(text, NULL) == x) {
            break;
        }
    }
    int n = 0;
    const char *p = text;
    for (; *p && *p != 'e'; p++) {
        if (*p >= '0' && *p <= '9') {
            digits[n++] = *p;
        }
    }
    *ret_exponent = atoi(p + 1);
    return n;
}

size_t mb_float_text(double x, char ret[MB_FLOAT_TEXT_MAX])
{
    if (!isfinite(x)) {
        const char *name = isnan(x) ? "nan" : x < 0 ? "-inf" : "inf";
        return (size_t) snprintf(ret, MB_FLOAT_TEXT_MAX, "%s", name);
    }
    char d[20];
    int e, n = shortest_digits(fabs(x), d, &e);
    const char *sign = signbit(x) ? "-" : "";
    if (e < -4 || e >= 16) {
        return (size_t) snprintf(ret, MB_FLOAT_TEXT_MAX, "%s%c%s%.*se%c%02d", sign, d[0],
                                 n > 1 ? "." : "", n - 1, d + 1, e < 0 ? '-' : '+', abs(e));
    }
    if (e < 0) {
        return (size_t) snprintf(ret, MB_FLOAT_TEXT_MAX, "%s0.%.*s%.*s", sign, -e - 1, "000", n,
                                 d);
    }
    int whole = n < e + 1 ? n : e + 1;
    return (size_t) snprintf(ret, MB_FLOAT_TEXT_MAX, "%s%.*s%.*s.%s%.*s", sign, whole, d,
                             e + 1 - whole, "000000000000000", n > whole ? "" : "0", n - whole,
                             d + whole);
}

/* ---- strings ----------------------------------------------------------------------------- */

static bool put_escaped(struct mb_render *r, uint32_t c)
{
    char text[12];
    const char *form = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
    switch (c) {
    case '\n':
        return mb_render_put_text(r, "\\n");
    case '\r':
        return mb_render_put_text(r, "\\r");
    case '\t':
        return mb_render_put_text(r, "\\t");
    default:
        (void) snprintf(text, sizeof text, form, c);
        return mb_render_put_text(r, text);
    }
}

static bool print_quoted(struct mb_render *r, struct mb_jinja_value v)
{
    bool doubled = memchr(v.text, '\'', v.n) && !memchr(v.text, '"', v.n);
    const char *quote = doubled ? "\"" : "'";
    bool ok = mb_render_put(r, quote, 1);
    for (size_t i = 0; i < v.n && ok;) {
        struct mb_utf8 u = mb_utf8_first((const uint8_t *) v.text + i, v.n - i);
        if (u.c == '\\' || u.c == (uint8_t) quote[0]) {
            ok = mb_render_put(r, "\\", 1) && mb_render_put(r, v.text + i, 1);
        } else if (mb_is_printable(u.c)) {
            ok = mb_render_put(r, v.text + i, u.n);
        } else {
            ok = put_escaped(r, u.c);
        }
        i += u.n;
    }
    return ok && mb_render_put(r, quote, 1);
}

/* ---- collections ------------------------------------------------------------------------- */

static bool print_list(struct mb_render *r, const struct mb_list *l)
{
    static const char *const opening[] = {
        "[", "(", "", "", "dict_keys([", "dict_values([", "dict_items(["
    };
    static const char *const closing[] = { "]", ")", "", "", "])", "])", "])" };
    if (l->shape == MB_ITERATOR) {
        return mb_render_put_text(r, "<generator object>");
    }
    bool ok = mb_render_put_text(r, opening[l->shape]);
    for (size_t i = 0; i < l->len && ok; i++) {
        ok = (i == 0 || mb_render_put_text(r, ", ")) && mb_jinja_value_print_repr(r, l->at[i]);
    }
    if (l->shape == MB_TUPLE && l->len == 1) {
        ok = ok && mb_render_put_text(r, ",");
    }
    return ok && mb_render_put_text(r, closing[l->shape]);
}

static bool print_dict(struct mb_render *r, const struct mb_dict *d)
{
    bool ok = mb_render_put_text(r, "{");
    for (size_t i = 0; i < d->len && ok; i++) {
        ok = (i == 0 || mb_render_put_text(r, ", ")) &&
             mb_jinja_value_print_repr(r, d->at[i].key) && mb_render_put_text(r, ": ") &&
             mb_jinja_value_print_repr(r, d->at[i].value);
    }
    return ok && mb_render_put_text(r, "}");
}

static bool print_other(struct mb_render *r, struct mb_jinja_value v)
{
    char text[MB_FLOAT_TEXT_MAX];
    switch (v.kind) {
    case MB_VALUE_ABSENT:
    case MB_VALUE_UNDEFINED:
        return true;
    case MB_VALUE_NONE:
        return mb_render_put_text(r, "None");
    case MB_VALUE_BOOL:
        return mb_render_put_text(r, v.truth ? "True" : "False");
    case MB_VALUE_INT:
        (void) snprintf(text, sizeof text, "%" PRId64, v.integer);
        return mb_render_put_text(r, text);
    case MB_VALUE_FLOAT:
        return mb_render_put(r, text, mb_float_text(v.real, text));
    case MB_VALUE_LIST:
        return v.list->shape == MB_RANGE
                   ? mb_render_fail(r, MB_E_INVALID, "a range can not be written")
                   : print_list(r, v.list);
    case MB_VALUE_DICT:
        return print_dict(r, v.dict);
    case MB_VALUE_NAMESPACE:
        return mb_render_put_text(r, "<Namespace ") && print_dict(r, v.dict) &&
               mb_render_put_text(r, ">");
    default:
        return mb_render_fail(r, MB_E_INVALID, "a %s can not be written",
                              mb_jinja_value_type(v));
    }
}

bool mb_jinja_value_print_repr(struct mb_render *r, struct mb_jinja_value v)
{
    if (!mb_render_enter(r)) {
        return false;
    }
    bool ok = v.kind == MB_VALUE_STRING      ? print_quoted(r, v)
              : v.kind == MB_VALUE_UNDEFINED ? mb_render_put_text(r, "Undefined")
                                             : print_other(r, v);
    mb_render_leave(r);
    return ok;
}

bool mb_jinja_value_print(struct mb_render *r, struct mb_jinja_value v)
{
    return v.kind == MB_VALUE_STRING ? mb_render_put(r, v.text, v.n) : print_other(r, v);
}

bool mb_jinja_value_text(struct mb_render *r, struct mb_jinja_value v,
                         struct mb_jinja_value *ret)
{
    if (v.kind == MB_VALUE_STRING) {
        *ret = v;
        return true;
    }
    size_t mark = mb_render_mark(r);
    return mb_jinja_value_print(r, v) && mb_render_cut(r, mark, ret);
}
