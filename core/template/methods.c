/* Methods of strings, lists and dicts: those of Python's that change nothing, and append. */
#include <string.h>

#include "core/template/call.h"
#include "core/template/text.h"
#include "core/tokenizer/unicode.h"

/* ---- arguments --------------------------------------------------------------------------- */

static bool text_arg(struct mb_render *r, struct mb_jinja_value v)
{
    return v.kind == MB_VALUE_STRING ||
           mb_render_fail(r, MB_E_INVALID, "the argument is a str, not a %s",
                          mb_jinja_value_type(v));
}

static bool int_arg(struct mb_render *r, struct mb_jinja_value v, int64_t otherwise,
                    int64_t *ret)
{
    *ret = otherwise;
    return v.kind == MB_VALUE_ABSENT || mb_jinja_value_integer(v, ret) ||
           mb_render_fail(r, MB_E_INVALID, "the argument is an int, not a %s",
                          mb_jinja_value_type(v));
}

/* ---- strings ----------------------------------------------------------------------------- */

#define RECASE(name, to)                                                          \
    static bool name(struct mb_render *r, struct mb_jinja_value in,               \
                     const struct mb_jinja_value *at, struct mb_jinja_value *ret) \
    {                                                                             \
        return mb_text_recase(r, in, to, ret);                                    \
    }
RECASE(upper, MB_CASE_UPPER)
RECASE(lower, MB_CASE_LOWER)
RECASE(swapcase, MB_CASE_SWAPPED)
RECASE(capitalize, MB_CASE_CAPITAL)
RECASE(title, MB_CASE_TITLE)

#define STRIP(name, sides)                                                        \
    static bool name(struct mb_render *r, struct mb_jinja_value in,               \
                     const struct mb_jinja_value *at, struct mb_jinja_value *ret) \
    {                                                                             \
        return mb_text_strip(r, in, at[0], sides, ret);                           \
    }
STRIP(strip, MB_LEFT | MB_RIGHT)
STRIP(lstrip, MB_LEFT)
STRIP(rstrip, MB_RIGHT)

static bool is_alphanumeric(uint32_t c)
{
    return mb_is_letter(c) || mb_is_digit(c);
}

#define ALL_ARE(name, property)                                                   \
    static bool name(struct mb_render *r, struct mb_jinja_value in,               \
                     const struct mb_jinja_value *at, struct mb_jinja_value *ret) \
    {                                                                             \
        *ret = mb_jinja_value_bool(mb_text_all(in, property));                    \
        return mb_render_work(r, in.n / 8);                                       \
    }
ALL_ARE(all_letters, mb_is_letter)
ALL_ARE(all_digits, mb_is_digit)
ALL_ARE(all_alphanumeric, is_alphanumeric)
ALL_ARE(all_blank, mb_text_is_blank)

static bool has_upper_only(struct mb_render *r, struct mb_jinja_value in,
                           const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    *ret = mb_jinja_value_bool(mb_text_is_cased(in, mb_is_upper, mb_is_lower));
    return mb_render_work(r, in.n / 8);
}

static bool has_lower_only(struct mb_render *r, struct mb_jinja_value in,
                           const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    *ret = mb_jinja_value_bool(mb_text_is_cased(in, mb_is_lower, mb_is_upper));
    return mb_render_work(r, in.n / 8);
}

/* A prefix or a suffix, or a tuple of them. */
static bool begins(struct mb_render *r, struct mb_jinja_value in, struct mb_jinja_value part,
                   bool (*has)(struct mb_jinja_value, struct mb_jinja_value),
                   struct mb_jinja_value *ret)
{
    bool tuple = part.kind == MB_VALUE_LIST && part.list->shape == MB_TUPLE;
    size_t n = tuple ? part.list->len : 1;
    *ret = mb_jinja_value_bool(false);
    for (size_t i = 0; i < n; i++) {
        struct mb_jinja_value one = tuple ? part.list->at[i] : part;
        if (!text_arg(r, one) || !mb_render_work(r, one.n / 16)) {
            return false;
        }
        ret->truth = ret->truth || has(in, one);
    }
    return true;
}

static bool startswith(struct mb_render *r, struct mb_jinja_value in,
                       const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return begins(r, in, at[0], mb_text_starts, ret);
}

static bool endswith(struct mb_render *r, struct mb_jinja_value in,
                     const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return begins(r, in, at[0], mb_text_ends, ret);
}

static bool removeprefix(struct mb_render *r, struct mb_jinja_value in,
                         const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    size_t n = at[0].n;
    *ret = in;
    if (text_arg(r, at[0]) && mb_text_starts(in, at[0])) {
        *ret = mb_jinja_value_string(in.text + n, in.n - n);
    }
    return mb_render_work(r, n / 16);
}

static bool removesuffix(struct mb_render *r, struct mb_jinja_value in,
                         const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    *ret = in;
    if (text_arg(r, at[0]) && mb_text_ends(in, at[0])) {
        ret->n -= at[0].n;
    }
    return mb_render_work(r, at[0].n / 16);
}

static bool replace(struct mb_render *r, struct mb_jinja_value in,
                    const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    int64_t times;
    return text_arg(r, at[0]) && text_arg(r, at[1]) && int_arg(r, at[2], -1, &times) &&
           mb_text_replace(r, in, at[0], at[1], times, ret);
}

static bool split(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    int64_t times;
    return int_arg(r, at[1], -1, &times) && mb_text_split(r, in, at[0], times, false, ret);
}

static bool rsplit(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    int64_t times;
    return int_arg(r, at[1], -1, &times) && mb_text_split(r, in, at[0], times, true, ret);
}

static bool splitlines(struct mb_render *r, struct mb_jinja_value in,
                       const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return mb_text_lines(r, in, mb_jinja_value_is_true(at[0]), ret);
}

/* Before, separator, after. */
static bool part(struct mb_render *r, struct mb_jinja_value in, struct mb_jinja_value separator,
                 bool backward, struct mb_jinja_value *ret)
{
    if (!text_arg(r, separator) ||
        !mb_render_work(r, mb_text_find_work(in, separator, backward))) {
        return false;
    }
    if (separator.n == 0) {
        return mb_render_fail(r, MB_E_INVALID, "a separator is a str that is not empty");
    }
    struct mb_jinja_value empty = mb_jinja_value_literal("");
    struct mb_jinja_value parts[3] = { backward ? empty : in, empty, backward ? in : empty };
    ptrdiff_t found = mb_text_find(in, separator, backward);
    if (found >= 0) {
        size_t end = (size_t) found + separator.n;
        parts[0] = mb_jinja_value_string(in.text, (size_t) found);
        parts[1] = separator;
        parts[2] = mb_jinja_value_string(in.text + end, in.n - end);
    }
    return mb_list_new(r, MB_TUPLE, 3, ret) && mb_list_push(r, ret->list, parts[0]) &&
           mb_list_push(r, ret->list, parts[1]) && mb_list_push(r, ret->list, parts[2]);
}

static bool partition(struct mb_render *r, struct mb_jinja_value in,
                      const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return part(r, in, at[0], false, ret);
}

static bool rpartition(struct mb_render *r, struct mb_jinja_value in,
                       const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return part(r, in, at[0], true, ret);
}

/* The character where it is found, or -1. */
static bool place_of(struct mb_render *r, struct mb_jinja_value in, struct mb_jinja_value sub,
                     bool backward, bool must, struct mb_jinja_value *ret)
{
    if (!text_arg(r, sub) || !mb_render_work(r, mb_text_find_work(in, sub, backward))) {
        return false;
    }
    ptrdiff_t byte = mb_text_find(in, sub, backward);
    int64_t place = -1;
    if (byte < 0 && must) {
        return mb_render_fail(r, MB_E_INVALID, "a substring was not found");
    }
    if (byte >= 0 &&
        !mb_jinja_value_length(r, mb_jinja_value_string(in.text, (size_t) byte), &place)) {
        return false;
    }
    *ret = mb_jinja_value_int(place);
    return true;
}

static bool find(struct mb_render *r, struct mb_jinja_value in, const struct mb_jinja_value *at,
                 struct mb_jinja_value *ret)
{
    return place_of(r, in, at[0], false, false, ret);
}

static bool rfind(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return place_of(r, in, at[0], true, false, ret);
}

static bool index_of_text(struct mb_render *r, struct mb_jinja_value in,
                          const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return place_of(r, in, at[0], false, true, ret);
}

static bool last_index_of_text(struct mb_render *r, struct mb_jinja_value in,
                               const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return place_of(r, in, at[0], true, true, ret);
}

static bool count_text(struct mb_render *r, struct mb_jinja_value in,
                       const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    int64_t n = 0;
    if (!text_arg(r, at[0]) || !mb_render_work(r, in.n / 8)) {
        return false;
    }
    if (at[0].n == 0) {
        bool ok = mb_jinja_value_length(r, in, &n);
        *ret = mb_jinja_value_int(n + 1);
        return ok;
    }
    for (ptrdiff_t p; (p = mb_text_find(in, at[0], false)) >= 0; n++) {
        size_t end = (size_t) p + at[0].n;
        in = mb_jinja_value_string(in.text + end, in.n - end);
    }
    *ret = mb_jinja_value_int(n);
    return true;
}

static bool join(struct mb_render *r, struct mb_jinja_value in, const struct mb_jinja_value *at,
                 struct mb_jinja_value *ret)
{
    struct mb_list l;
    if (!mb_jinja_value_elements(r, at[0], &l)) {
        return false;
    }
    size_t mark = mb_render_mark(r);
    for (size_t i = 0; i < l.len; i++) {
        if (!text_arg(r, l.at[i]) || (i > 0 && !mb_render_put(r, in.text, in.n)) ||
            !mb_render_put(r, l.at[i].text, l.at[i].n) || !mb_render_work(r, 1)) {
            return false;
        }
    }
    return mb_render_cut(r, mark, ret);
}

static bool pad(struct mb_render *r, struct mb_jinja_value in, const struct mb_jinja_value *at,
                unsigned sides, struct mb_jinja_value *ret)
{
    int64_t width;
    struct mb_jinja_value fill =
        at[1].kind == MB_VALUE_ABSENT ? mb_jinja_value_literal(" ") : at[1];
    return int_arg(r, at[0], 0, &width) && text_arg(r, fill) &&
           mb_text_pad(r, in, width, fill, sides, ret);
}

static bool ljust(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return pad(r, in, at, MB_RIGHT, ret);
}

static bool rjust(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return pad(r, in, at, MB_LEFT, ret);
}

static bool center(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return pad(r, in, at, MB_LEFT | MB_RIGHT, ret);
}

/* Zeros after the sign. */
static bool zfill(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    int64_t width;
    bool sign = in.n > 0 && (in.text[0] == '+' || in.text[0] == '-');
    struct mb_jinja_value digits = mb_jinja_value_string(in.text + sign, in.n - sign);
    if (!int_arg(r, at[0], 0, &width) || width < 1) {
        *ret = in;
        return r->status == MB_OK;
    }
    if (!mb_text_pad(r, digits, width - sign, mb_jinja_value_literal("0"), MB_LEFT, &digits)) {
        return false;
    }
    size_t mark = mb_render_mark(r);
    return mb_render_put(r, in.text, sign) && mb_render_put(r, digits.text, digits.n) &&
           mb_render_cut(r, mark, ret);
}

const struct mb_function mb_string_methods[] = {
    { "capitalize", capitalize, "" },
    { "casefold", lower, "" },
    { "center", center, "!width,fillchar" },
    { "count", count_text, "!sub" },
    { "endswith", endswith, "!suffix" },
    { "find", find, "!sub" },
    { "index", index_of_text, "!sub" },
    { "isalnum", all_alphanumeric, "" },
    { "isalpha", all_letters, "" },
    { "isdecimal", all_digits, "" },
    { "isdigit", all_digits, "" },
    { "islower", has_lower_only, "" },
    { "isnumeric", all_digits, "" },
    { "isspace", all_blank, "" },
    { "isupper", has_upper_only, "" },
    { "join", join, "!iterable" },
    { "ljust", ljust, "!width,fillchar" },
    { "lower", lower, "" },
    { "lstrip", lstrip, "chars" },
    { "partition", partition, "!sep" },
    { "removeprefix", removeprefix, "!prefix" },
    { "removesuffix", removesuffix, "!suffix" },
    { "replace", replace, "!old,!new,count" },
    { "rfind", rfind, "!sub" },
    { "rindex", last_index_of_text, "!sub" },
    { "rjust", rjust, "!width,fillchar" },
    { "rpartition", rpartition, "!sep" },
    { "rsplit", rsplit, "sep,maxsplit" },
    { "rstrip", rstrip, "chars" },
    { "split", split, "sep,maxsplit" },
    { "splitlines", splitlines, "keepends" },
    { "startswith", startswith, "!prefix" },
    { "strip", strip, "chars" },
    { "swapcase", swapcase, "" },
    { "title", title, "" },
    { "upper", upper, "" },
    { "zfill", zfill, "!width" },
    { 0 },
};

/* ---- lists ------------------------------------------------------------------------------- */

/* transformers forbids it, since a list may be shared there; some templates are written for
 * engines that do not, and here every list belongs to the render. */
static bool append(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    *ret = mb_jinja_value_none();
    return mb_list_push(r, in.list, at[0]);
}

static bool index_of(struct mb_render *r, struct mb_jinja_value in,
                     const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    for (size_t i = 0; i < in.list->len; i++) {
        bool same;
        if (!mb_jinja_value_equal(r, in.list->at[i], at[0], &same)) {
            return false;
        }
        if (same) {
            *ret = mb_jinja_value_int((int64_t) i);
            return true;
        }
    }
    return mb_render_fail(r, MB_E_INVALID, "a value is not in the list");
}

static bool count(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    *ret = mb_jinja_value_int(0);
    for (size_t i = 0; i < in.list->len; i++) {
        bool same;
        if (!mb_jinja_value_equal(r, in.list->at[i], at[0], &same)) {
            return false;
        }
        ret->integer += same;
    }
    return true;
}

static bool copy_list(struct mb_render *r, struct mb_jinja_value in,
                      const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    if (!mb_list_new(r, MB_LIST, in.list->len, ret)) {
        return false;
    }
    for (size_t i = 0; i < in.list->len; i++) {
        if (!mb_list_push(r, ret->list, in.list->at[i])) {
            return false;
        }
    }
    return true;
}

const struct mb_function mb_list_methods[] = {
    { "append", append, "!object" },
    { "copy", copy_list, "" },
    { "count", count, "!value" },
    { "index", index_of, "!value" },
    { 0 },
};

const struct mb_function mb_tuple_methods[] = {
    { "count", count, "!value" },
    { "index", index_of, "!value" },
    { 0 },
};

/* ---- dicts ------------------------------------------------------------------------------- */

static bool get(struct mb_render *r, struct mb_jinja_value in, const struct mb_jinja_value *at,
                struct mb_jinja_value *ret)
{
    const struct mb_jinja_value *v = mb_dict_find(r, in.dict, at[0]);
    *ret = v ? *v : at[1].kind == MB_VALUE_ABSENT ? mb_jinja_value_none() : at[1];
    return r->status == MB_OK;
}

static bool view(struct mb_render *r, const struct mb_dict *d, enum mb_list_shape shape,
                 struct mb_jinja_value *ret)
{
    if (!mb_list_new(r, shape, d->len, ret)) {
        return false;
    }
    for (size_t i = 0; i < d->len; i++) {
        struct mb_jinja_value v = shape == MB_KEYS ? d->at[i].key : d->at[i].value;
        if ((shape == MB_ITEMS && !mb_pair_new(r, d->at[i].key, d->at[i].value, &v)) ||
            !mb_list_push(r, ret->list, v)) {
            return false;
        }
    }
    return true;
}

static bool keys(struct mb_render *r, struct mb_jinja_value in, const struct mb_jinja_value *at,
                 struct mb_jinja_value *ret)
{
    return view(r, in.dict, MB_KEYS, ret);
}

static bool values(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return view(r, in.dict, MB_VALUES, ret);
}

static bool items(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return view(r, in.dict, MB_ITEMS, ret);
}

static bool copy_dict(struct mb_render *r, struct mb_jinja_value in,
                      const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    if (!mb_dict_new(r, in.dict->len, ret)) {
        return false;
    }
    for (size_t i = 0; i < in.dict->len; i++) {
        if (!mb_dict_add(r, ret->dict, in.dict->at[i].key, in.dict->at[i].value)) {
            return false;
        }
    }
    return true;
}

const struct mb_function mb_dict_methods[] = {
    { "copy", copy_dict, "" }, { "get", get, "!key,default" }, { "items", items, "" },
    { "keys", keys, "" },      { "values", values, "" },       { 0 },
};
