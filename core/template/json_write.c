#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/template/json.h"
#include "core/template/number.h"
#include "core/template/render.h"
#include "core/tokenizer/utf8.h"

struct writer {
    struct mb_render *r;
    const struct mb_json_style *style;
    struct mb_jinja_value between, after_key; /* separators */
    bool lines;                               /* is there an indent? */
    uint32_t level;
};

static bool put_unit(struct mb_render *r, uint32_t unit)
{
    char text[8];
    (void) snprintf(text, sizeof text, "\\u%04x", unit & 0xffff);
    return mb_render_put(r, text, 6);
}

static bool put_escaped(struct writer *w, uint32_t c, const char *at, size_t n)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *p = c > 0 && c < 0x80 ? strchr(from, (int) c) : NULL;
    if (p) {
        char text[2] = { '\\', to[p - from] };
        return mb_render_put(w->r, text, 2);
    }
    if (c >= 0x20 && (c < 0x7f || !w->style->ascii)) {
        return mb_render_put(w->r, at, n);
    }
    if (c < 0x10000) {
        return put_unit(w->r, c);
    }
    return put_unit(w->r, 0xd800 + ((c - 0x10000) >> 10)) &&
           put_unit(w->r, 0xdc00 + ((c - 0x10000) & 0x3ff));
}

static bool put_string(struct writer *w, struct mb_jinja_value v)
{
    bool ok = mb_render_put(w->r, "\"", 1);
    for (size_t i = 0; i < v.n && ok;) {
        size_t plain = i; /* most text needs nothing */
        while (plain < v.n && v.text[plain] >= 0x20 && v.text[plain] != '"' &&
               v.text[plain] != '\\' && v.text[plain] != 0x7f) {
            plain++;
        }
        ok = mb_render_put(w->r, v.text + i, plain - i);
        i = plain;
        if (i < v.n && ok) {
            struct mb_utf8 u = mb_utf8_first((const uint8_t *) v.text + i, v.n - i);
            ok = put_escaped(w, u.c, v.text + i, u.n) && mb_render_work(w->r, 1);
            i += u.n;
        }
    }
    return ok && mb_render_put(w->r, "\"", 1);
}

static bool put_value(struct writer *w, struct mb_jinja_value v);

/* A line break and the indent of this level, when there are lines. */
static bool put_line(struct writer *w)
{
    if (!w->lines) {
        return true;
    }
    bool ok = mb_render_put(w->r, "\n", 1);
    struct mb_jinja_value indent = w->style->indent;
    for (uint32_t i = 0; i < w->level && ok; i++) {
        if (indent.kind == MB_VALUE_STRING) {
            ok = mb_render_put(w->r, indent.text, indent.n);
        }
        for (int64_t k = 0; indent.kind == MB_VALUE_INT && k < indent.integer && ok; k++) {
            ok = mb_render_put(w->r, " ", 1) && mb_render_work(w->r, 1);
        }
    }
    return ok;
}

static bool put_list(struct writer *w, const struct mb_list *l)
{
    if (l->len == 0) {
        return mb_render_put(w->r, "[]", 2);
    }
    bool ok = mb_render_put(w->r, "[", 1);
    w->level++;
    for (size_t i = 0; i < l->len && ok; i++) {
        ok = (i == 0 || mb_render_put(w->r, w->between.text, w->between.n)) && put_line(w) &&
             put_value(w, l->at[i]);
    }
    w->level--;
    return ok && put_line(w) && mb_render_put(w->r, "]", 1);
}

/* A key is written as a string; numbers and constants as the strings of their JSON. */
static bool put_key(struct writer *w, struct mb_jinja_value key)
{
    if (key.kind == MB_VALUE_STRING) {
        return put_string(w, key);
    }
    if (key.kind != MB_VALUE_NONE && !mb_jinja_value_is_number(key)) {
        return mb_render_fail(w->r, MB_E_INVALID, "tojson: a %s can not be a key",
                              mb_jinja_value_type(key));
    }
    return mb_render_put(w->r, "\"", 1) && put_value(w, key) && mb_render_put(w->r, "\"", 1);
}

static bool put_dict(struct writer *w, const struct mb_dict *d)
{
    if (d->len == 0) {
        return mb_render_put(w->r, "{}", 2);
    }
    bool ok = mb_render_put(w->r, "{", 1);
    w->level++;
    for (size_t i = 0; i < d->len && ok; i++) {
        ok = (i == 0 || mb_render_put(w->r, w->between.text, w->between.n)) && put_line(w) &&
             put_key(w, d->at[i].key) &&
             mb_render_put(w->r, w->after_key.text, w->after_key.n) &&
             put_value(w, d->at[i].value);
    }
    w->level--;
    return ok && put_line(w) && mb_render_put(w->r, "}", 1);
}

/* A copy of d by key; insertion, since such dicts are small and the work is counted. */
static bool sort_dict(struct mb_render *r, const struct mb_dict *d, struct mb_dict *ret)
{
    struct mb_jinja_value v;
    if (!mb_dict_new(r, d->len, &v)) {
        return false;
    }
    struct mb_entry *at = v.dict->at;
    for (size_t i = 0; i < d->len; i++) {
        size_t j = i;
        for (int k = 1; j > 0; j--) {
            if (!mb_jinja_value_order(r, at[j - 1].key, d->at[i].key, &k)) {
                return false;
            }
            if (k <= 0) {
                break;
            }
            at[j] = at[j - 1];
        }
        at[j] = d->at[i];
    }
    v.dict->len = d->len;
    *ret = *v.dict;
    return true;
}

static bool put_float(struct writer *w, double x)
{
    char text[MB_FLOAT_TEXT_MAX];
    if (isfinite(x)) {
        return mb_render_put(w->r, text, mb_float_text(x, text));
    }
    return mb_render_put_text(w->r, isnan(x) ? "NaN" : x < 0 ? "-Infinity" : "Infinity");
}

static bool put_plain(struct writer *w, struct mb_jinja_value v)
{
    switch (v.kind) {
    case MB_VALUE_NONE:
        return mb_render_put_text(w->r, "null");
    case MB_VALUE_BOOL:
        return mb_render_put_text(w->r, v.truth ? "true" : "false");
    case MB_VALUE_INT:
        return mb_jinja_value_print(w->r, v);
    case MB_VALUE_FLOAT:
        return put_float(w, v.real);
    case MB_VALUE_STRING:
        return put_string(w, v);
    case MB_VALUE_UNDEFINED:
        return mb_render_fail_undefined(w->r, v);
    default:
        return mb_render_fail(w->r, MB_E_INVALID, "tojson: a %s has no JSON",
                              mb_jinja_value_type(v));
    }
}

static bool put_value(struct writer *w, struct mb_jinja_value v)
{
    if (!mb_render_enter(w->r)) {
        return false;
    }
    bool ok;
    if (v.kind == MB_VALUE_LIST && v.list->shape <= MB_TUPLE) {
        ok = put_list(w, v.list);
    } else if (v.kind == MB_VALUE_DICT) {
        struct mb_dict sorted = *v.dict;
        ok = (!w->style->sorted || sort_dict(w->r, v.dict, &sorted)) && put_dict(w, &sorted);
    } else {
        ok = put_plain(w, v);
    }
    mb_render_leave(w->r);
    return ok;
}

bool mb_json_put(struct mb_render *r, struct mb_jinja_value v,
                 const struct mb_json_style *style)
{
    struct writer w = {
        .r = r,
        .style = style,
        .lines = style->indent.kind == MB_VALUE_INT || style->indent.kind == MB_VALUE_STRING,
        .after_key = mb_jinja_value_literal(": "),
    };
    w.between = w.lines ? mb_jinja_value_literal(",") : mb_jinja_value_literal(", ");
    struct mb_jinja_value pair = style->separators;
    if (pair.kind > MB_VALUE_NONE) {
        if (pair.kind != MB_VALUE_LIST || pair.list->len != 2 ||
            pair.list->at[0].kind != MB_VALUE_STRING ||
            pair.list->at[1].kind != MB_VALUE_STRING) {
            return mb_render_fail(r, MB_E_INVALID, "tojson: separators are two str");
        }
        w.between = pair.list->at[0];
        w.after_key = pair.list->at[1];
    }
    return put_value(&w, v);
}
