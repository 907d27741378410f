/* text % values: the places that Python's printf-like formatting knows. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/template/number.h"
#include "core/template/render.h"
#include "core/tokenizer/utf8.h"

enum { WIDTH_MAX = 1000 }; /* of a place: nobody fills a prompt with blanks by the thousand */

struct place {
    char flags[6]; /* of "#0- +", terminated */
    int width;     /* 0 when none is given */
    int precision; /* -1 when none is given */
    char kind;
};

struct filling {
    struct mb_render *r;
    struct mb_jinja_value values; /* a tuple, a dict, or one value */
    size_t next;                  /* of the tuple */
    const char *at, *end;
};

static bool malformed(struct filling *f)
{
    return mb_render_fail(f->r, MB_E_INVALID, "a place of the format is malformed");
}

static bool is_tuple(struct mb_jinja_value v)
{
    return v.kind == MB_VALUE_LIST && v.list->shape == MB_TUPLE;
}

static bool next_value(struct filling *f, struct mb_jinja_value *ret)
{
    size_t n = is_tuple(f->values) ? f->values.list->len : 1;
    if (f->next == n) {
        return mb_render_fail(f->r, MB_E_INVALID, "the format has more places than values");
    }
    *ret = is_tuple(f->values) ? f->values.list->at[f->next] : f->values;
    f->next++;
    return true;
}

/* (name) after the percent sign. */
static bool named_value(struct filling *f, bool *ret_named, struct mb_jinja_value *ret)
{
    *ret_named = f->at < f->end && *f->at == '(';
    if (!*ret_named) {
        return true;
    }
    const char *close = memchr(f->at, ')', (size_t) (f->end - f->at));
    if (!close || f->values.kind != MB_VALUE_DICT) {
        return malformed(f);
    }
    struct mb_jinja_value key = mb_jinja_value_string(f->at + 1, (size_t) (close - f->at - 1));
    const struct mb_jinja_value *v = mb_dict_find(f->r, f->values.dict, key);
    f->at = close + 1;
    if (v) {
        *ret = *v;
    }
    return v ||
           mb_render_fail(f->r, MB_E_INVALID, "the format asks for '%.*s', which is missing",
                          (int) key.n, key.text);
}

static bool digits(struct filling *f, int *ret)
{
    int n = 0;
    for (; f->at < f->end && *f->at >= '0' && *f->at <= '9'; f->at++) {
        n = n * 10 + (*f->at - '0');
        if (n > WIDTH_MAX) {
            return mb_render_fail(f->r, MB_E_LIMIT, "a place of the format is wider than %d",
                                  WIDTH_MAX);
        }
    }
    *ret = n;
    return true;
}

static bool read_place(struct filling *f, struct place *ret)
{
    size_t n = 0;
    *ret = (struct place) { .precision = -1 };
    for (; f->at < f->end && memchr("#0- +", *f->at, 5); f->at++) {
        if (!strchr(ret->flags, *f->at)) {
            ret->flags[n++] = *f->at;
        }
    }
    if (!digits(f, &ret->width)) {
        return false;
    }
    if (f->at < f->end && *f->at == '.') {
        f->at++;
        if (!digits(f, &ret->precision)) {
            return false;
        }
    }
    if (f->at == f->end) {
        return malformed(f);
    }
    ret->kind = *f->at++;
    return true;
}

static bool put_padded(struct mb_render *r, const struct place *p, struct mb_jinja_value text)
{
    int64_t n;
    if (p->precision >= 0) {
        struct mb_jinja_value bounds[3] = { { 0 }, mb_jinja_value_int(p->precision), { 0 } };
        if (!mb_jinja_value_slice(r, text, bounds, &text)) {
            return false;
        }
    }
    if (!mb_jinja_value_length(r, text, &n)) {
        return false;
    }
    bool left = strchr(p->flags, '-') != NULL,
         ok = !left || mb_render_put(r, text.text, text.n);
    for (int64_t i = n; i < p->width && ok; i++) {
        ok = mb_render_put(r, " ", 1);
    }
    return ok && (left || mb_render_put(r, text.text, text.n));
}

static bool put_number(struct filling *f, const struct place *p, struct mb_jinja_value v)
{
    char form[32], text[2 * WIDTH_MAX + 400];
    int64_t i;
    int n;
    bool whole = memchr("diuxXo", p->kind, 6) != NULL;
    if (!mb_jinja_value_is_number(v) ||
        (memchr("xXo", p->kind, 3) && v.kind == MB_VALUE_FLOAT)) {
        return mb_render_fail(f->r, MB_E_INVALID, "%%%c of the format needs a number, not a %s",
                              p->kind, mb_jinja_value_type(v));
    }
    int precision = p->precision < 0 && !whole ? 6 : p->precision;
    if (whole) {
        if (!mb_jinja_value_integer(v, &i)) {
            double x = v.real;
            if (!(x > -9.2e18 && x < 9.2e18)) {
                return mb_render_fail(f->r, MB_E_INVALID, "a number is beyond 64 bits");
            }
            i = (int64_t) x;
        }
        bool negative = memchr("xXo", p->kind, 3) && i < 0;
        if (negative) {
            return mb_render_fail(f->r, MB_E_INVALID, "%%%c of the format needs no sign",
                                  p->kind);
        }
        (void) snprintf(form, sizeof form, "%%%s*.*" PRId64, p->flags);
        form[strlen(form) - 1] = p->kind == 'u' ? 'd' : p->kind;
        n = snprintf(text, sizeof text, form, p->width, precision, i);
    } else {
        (void) snprintf(form, sizeof form, "%%%s*.*%c", p->flags, p->kind);
        n = snprintf(text, sizeof text, form, p->width, precision, mb_jinja_value_real(v));
    }
    return n >= 0 && (size_t) n < sizeof text ? mb_render_put(f->r, text, (size_t) n)
                                              : malformed(f);
}

static bool put_character(struct filling *f, const struct place *p, struct mb_jinja_value v)
{
    int64_t c, n;
    uint8_t bytes[MB_UTF8_MAX];
    if (mb_jinja_value_integer(v, &c)) {
        if (c < 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
            return mb_render_fail(f->r, MB_E_INVALID, "%%c of the format is no character");
        }
        return put_padded(
            f->r, p, mb_jinja_value_string((char *) bytes, mb_utf8_put((uint32_t) c, bytes)));
    }
    if (v.kind != MB_VALUE_STRING || !mb_jinja_value_length(f->r, v, &n) || n != 1) {
        return mb_render_fail(f->r, MB_E_INVALID, "%%c of the format needs one character");
    }
    return put_padded(f->r, p, v);
}

static bool put_place(struct filling *f)
{
    struct place p;
    struct mb_jinja_value v = mb_jinja_value_none();
    bool named;
    if (!named_value(f, &named, &v) || !read_place(f, &p)) {
        return false;
    }
    if (p.kind == '%') {
        return mb_render_put(f->r, "%", 1);
    }
    if (!named && !next_value(f, &v)) {
        return false;
    }
    if (p.kind == 's' || p.kind == 'r') {
        size_t mark = mb_render_mark(f->r);
        return (p.kind == 's' ? mb_jinja_value_print(f->r, v)
                              : mb_jinja_value_print_repr(f->r, v)) &&
               mb_render_cut(f->r, mark, &v) && put_padded(f->r, &p, v);
    }
    if (p.kind == 'c') {
        return put_character(f, &p, v);
    }
    return memchr("diuxXofFeEgG", p.kind, 12) ? put_number(f, &p, v) : malformed(f);
}

bool mb_text_format(struct mb_render *r, struct mb_jinja_value text,
                    struct mb_jinja_value values, struct mb_jinja_value *ret)
{
    struct filling f = { .r = r, .values = values, .at = text.text, .end = text.text + text.n };
    size_t mark = mb_render_mark(r);
    while (f.at < f.end) {
        const char *sign = memchr(f.at, '%', (size_t) (f.end - f.at));
        const char *stop = sign ? sign : f.end;
        if (!mb_render_put(r, f.at, (size_t) (stop - f.at))) {
            return false;
        }
        f.at = sign ? sign + 1 : f.end;
        if (sign && !put_place(&f)) {
            return false;
        }
    }
    /* As in Python, what has items (a list, a dict, undefined) need not be written at all. */
    bool whole = !is_tuple(values) && values.kind != MB_VALUE_LIST &&
                 values.kind != MB_VALUE_DICT && values.kind != MB_VALUE_UNDEFINED;
    size_t n = is_tuple(values) ? values.list->len : whole ? 1 : f.next;
    if (f.next != n) {
        return mb_render_fail(r, MB_E_INVALID, "the format has fewer places than values");
    }
    return mb_render_cut(r, mark, ret);
}
