/* Filters of strings. What is no string is written as one first, where Jinja does so. */
#include "core/template/call.h"
#include "core/template/json.h"
#include "core/template/number.h"
#include "core/template/text.h"

static bool recase(struct mb_render *r, struct mb_jinja_value in, enum mb_letter_case to,
                   struct mb_jinja_value *ret)
{
    return mb_jinja_value_text(r, in, &in) && mb_text_recase(r, in, to, ret);
}

static bool upper(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return recase(r, in, MB_CASE_UPPER, ret);
}

static bool lower(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return recase(r, in, MB_CASE_LOWER, ret);
}

static bool title(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return recase(r, in, MB_CASE_HEADING, ret);
}

static bool capitalize(struct mb_render *r, struct mb_jinja_value in,
                       const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return recase(r, in, MB_CASE_CAPITAL, ret);
}

static bool trim(struct mb_render *r, struct mb_jinja_value in, const struct mb_jinja_value *at,
                 struct mb_jinja_value *ret)
{
    return mb_jinja_value_text(r, in, &in) &&
           mb_text_strip(r, in, at[0], MB_LEFT | MB_RIGHT, ret);
}

static bool replace(struct mb_render *r, struct mb_jinja_value in,
                    const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    struct mb_jinja_value old, other;
    int64_t times = -1;
    if (at[2].kind > MB_VALUE_NONE && !mb_jinja_value_integer(at[2], &times)) {
        return mb_render_fail(r, MB_E_INVALID, "replace: count is an int, not a %s",
                              mb_jinja_value_type(at[2]));
    }
    return mb_jinja_value_text(r, in, &in) && mb_jinja_value_text(r, at[0], &old) &&
           mb_jinja_value_text(r, at[1], &other) &&
           mb_text_replace(r, in, old, other, times, ret);
}

static bool string(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return mb_jinja_value_text(r, in, ret);
}

static bool escape(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return mb_jinja_value_text(r, in, &in) && mb_text_escape(r, in, ret);
}

static bool center(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    int64_t width = 80;
    if (at[0].kind != MB_VALUE_ABSENT && !mb_jinja_value_integer(at[0], &width)) {
        return mb_render_fail(r, MB_E_INVALID, "center: width is an int");
    }
    return mb_jinja_value_text(r, in, &in) &&
           mb_text_pad(r, in, width, mb_jinja_value_literal(" "), MB_LEFT | MB_RIGHT, ret);
}

/* What indent puts before a line: width blanks, or width itself when it is a string. */
static bool take_indent(struct mb_render *r, struct mb_jinja_value width,
                        struct mb_jinja_value *ret)
{
    int64_t n = 4;
    if (width.kind == MB_VALUE_STRING) {
        *ret = width;
        return true;
    }
    if (width.kind != MB_VALUE_ABSENT && !mb_jinja_value_integer(width, &n)) {
        return mb_render_fail(r, MB_E_INVALID, "indent: width is an int or a str, not a %s",
                              mb_jinja_value_type(width));
    }
    return mb_jinja_value_compute(r, MB_MULTIPLY, mb_jinja_value_literal(" "),
                                  mb_jinja_value_int(n), ret);
}

static bool indent(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    struct mb_jinja_value before, lines;
    bool first = mb_jinja_value_is_true(at[1]), blank = mb_jinja_value_is_true(at[2]);
    if (!take_indent(r, at[0], &before)) {
        return false;
    }
    if (in.kind != MB_VALUE_STRING) {
        return mb_render_fail(r, MB_E_INVALID, "indent: needs a str, not a %s",
                              mb_jinja_value_type(in));
    }
    /* One more line break, so that a text that ends in one has an empty line last. */
    size_t mark = mb_render_mark(r);
    if (!mb_render_put(r, in.text, in.n) || !mb_render_put(r, "\n", 1) ||
        !mb_render_cut(r, mark, &in) || !mb_text_lines(r, in, false, &lines)) {
        return false;
    }
    bool ok = !first || mb_render_put(r, before.text, before.n);
    for (size_t i = 0; i < lines.list->len && ok; i++) {
        struct mb_jinja_value line = lines.list->at[i];
        bool indented = i > 0 && (line.n > 0 || blank);
        ok = (i == 0 || mb_render_put(r, "\n", 1)) &&
             (!indented || mb_render_put(r, before.text, before.n)) &&
             mb_render_put(r, line.text, line.n);
    }
    return ok && mb_render_cut(r, mark, ret);
}

/* s cut to length characters, end included, unless it is longer by at most leeway. */
static bool truncate(struct mb_render *r, struct mb_jinja_value in,
                     const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    int64_t length = 255, leeway = 5, n, n_end;
    struct mb_jinja_value end =
        at[2].kind == MB_VALUE_STRING ? at[2] : mb_jinja_value_literal("...");
    if ((at[0].kind != MB_VALUE_ABSENT && !mb_jinja_value_integer(at[0], &length)) ||
        (at[3].kind > MB_VALUE_NONE && !mb_jinja_value_integer(at[3], &leeway))) {
        return mb_render_fail(r, MB_E_INVALID, "truncate: lengths are ints");
    }
    if (in.kind != MB_VALUE_STRING) {
        return mb_render_fail(r, MB_E_INVALID, "truncate: needs a str, not a %s",
                              mb_jinja_value_type(in));
    }
    if (!mb_jinja_value_length(r, in, &n) || !mb_jinja_value_length(r, end, &n_end)) {
        return false;
    }
    if (length < n_end || leeway < 0) {
        return mb_render_fail(r, MB_E_INVALID, "truncate: the end does not fit");
    }
    if (leeway >= n || n - leeway <= length) {
        *ret = in;
        return true;
    }
    struct mb_jinja_value bounds[3] = { { 0 }, mb_jinja_value_int(length - n_end), { 0 } };
    if (!mb_jinja_value_slice(r, in, bounds, &in)) {
        return false;
    }
    ptrdiff_t blank = mb_text_find(in, mb_jinja_value_literal(" "), true);
    if (blank >= 0 && !mb_jinja_value_is_true(at[1])) {
        in.n = (uint32_t) blank;
    }
    return mb_jinja_value_compute(r, MB_ADD, in, end, ret);
}

static bool itself(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    *ret = in; /* "safe" from escapes that are never made */
    return true;
}

static bool tojson(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    struct mb_json_style style = {
        .ascii = mb_jinja_value_is_true(at[0]),
        .indent = at[1],
        .separators = at[2],
        .sorted = mb_jinja_value_is_true(at[3]),
    };
    size_t mark = mb_render_mark(r);
    return mb_json_put(r, in, &style) && mb_render_cut(r, mark, ret);
}

const struct mb_function mb_text_filters[] = {
    { "capitalize", capitalize, "" },
    { "center", center, "width" },
    { "e", escape, "" },
    { "escape", escape, "" },
    { "forceescape", escape, "" },
    { "indent", indent, "width,first,blank" },
    { "lower", lower, "" },
    { "replace", replace, "!old,!new,count" },
    { "safe", itself, "" },
    { "string", string, "" },
    { "title", title, "" },
    { "tojson", tojson, "ensure_ascii,indent,separators,sort_keys" },
    { "trim", trim, "chars" },
    { "truncate", truncate, "length,killwords,end,leeway" },
    { "upper", upper, "" },
    { 0 },
};
