/* Filters of collections. */
#include <string.h>

#include "core/template/call.h"
#include "core/template/number.h"
#include "core/template/text.h"

/* What an element counts as where case may not matter, and where only a part of it does. */
static bool key_of(struct mb_render *r, struct mb_jinja_value v,
                   struct mb_jinja_value attribute, bool case_matters,
                   struct mb_jinja_value *ret)
{
    if (attribute.kind > MB_VALUE_NONE && !mb_jinja_value_path(r, v, attribute, &v)) {
        return false;
    }
    *ret = v;
    return case_matters || v.kind != MB_VALUE_STRING ||
           mb_text_recase(r, v, MB_CASE_LOWER, ret);
}

/* ---- sorting ----------------------------------------------------------------------------- */

struct keyed {
    struct mb_jinja_value key, value;
};

/* Merges two sorted runs; the left one first where keys are the same. */
static bool merge(struct mb_render *r, const struct keyed *a, size_t n_a, const struct keyed *b,
                  size_t n_b, bool reverse, struct keyed *ret)
{
    while (n_a > 0 && n_b > 0) {
        int k;
        if (!mb_jinja_value_order(r, b->key, a->key, &k)) {
            return false;
        }
        if (reverse ? k == 1 : k == -1) {
            *ret++ = *b++;
            n_b--;
        } else {
            *ret++ = *a++;
            n_a--;
        }
    }
    memcpy(ret, n_a > 0 ? a : b, (n_a + n_b) * sizeof *ret);
    return mb_render_work(r, n_a + n_b);
}

/* Stable. at and scratch change places; *ret is the one that holds the result. */
static bool sort_keyed(struct mb_render *r, struct keyed *at, struct keyed *scratch, size_t n,
                       bool reverse, struct keyed **ret)
{
    for (size_t run = 1; run < n; run *= 2) {
        for (size_t i = 0; i < n; i += 2 * run) {
            size_t n_a = n - i < run ? n - i : run;
            size_t n_b = n - i - n_a < run ? n - i - n_a : run;
            if (!merge(r, at + i, n_a, at + i + n_a, n_b, reverse, scratch + i)) {
                return false;
            }
        }
        struct keyed *other = at;
        at = scratch;
        scratch = other;
    }
    *ret = at;
    return true;
}

static bool keyed_of(struct mb_render *r, size_t n, struct keyed **ret,
                     struct keyed **ret_scratch)
{
    *ret = mb_render_alloc(r, n, sizeof **ret);
    *ret_scratch = mb_render_alloc(r, n, sizeof **ret);
    return *ret && *ret_scratch;
}

/* A key of several attributes, "a,b", is the list of them. */
static bool keys_of(struct mb_render *r, struct mb_jinja_value v,
                    struct mb_jinja_value attributes, bool case_matters,
                    struct mb_jinja_value *ret)
{
    if (attributes.kind != MB_VALUE_STRING || !memchr(attributes.text, ',', attributes.n)) {
        return key_of(r, v, attributes, case_matters, ret);
    }
    struct mb_jinja_value parts, key;
    if (!mb_text_split(r, attributes, mb_jinja_value_literal(","), -1, false, &parts) ||
        !mb_list_new(r, MB_LIST, parts.list->len, ret)) {
        return false;
    }
    for (size_t i = 0; i < parts.list->len; i++) {
        if (!key_of(r, v, parts.list->at[i], case_matters, &key) ||
            !mb_list_push(r, ret->list, key)) {
            return false;
        }
    }
    return true;
}

static bool sort(struct mb_render *r, struct mb_jinja_value in, const struct mb_jinja_value *at,
                 struct mb_jinja_value *ret)
{
    struct mb_list l;
    struct keyed *keyed, *scratch;
    if (!mb_jinja_value_elements(r, in, &l) || !keyed_of(r, l.len, &keyed, &scratch)) {
        return false;
    }
    for (size_t i = 0; i < l.len; i++) {
        keyed[i].value = l.at[i];
        if (!keys_of(r, l.at[i], at[2], mb_jinja_value_is_true(at[1]), &keyed[i].key)) {
            return false;
        }
    }
    if (!sort_keyed(r, keyed, scratch, l.len, mb_jinja_value_is_true(at[0]), &keyed) ||
        !mb_list_new(r, MB_LIST, l.len, ret)) {
        return false;
    }
    for (size_t i = 0; i < l.len; i++) {
        if (!mb_list_push(r, ret->list, keyed[i].value)) {
            return false;
        }
    }
    return true;
}

static bool dictsort(struct mb_render *r, struct mb_jinja_value in,
                     const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    bool by_value = mb_jinja_value_is_text(at[1], "value");
    if (in.kind != MB_VALUE_DICT ||
        (at[1].kind != MB_VALUE_ABSENT && !by_value && !mb_jinja_value_is_text(at[1], "key"))) {
        return mb_render_fail(r, MB_E_INVALID, "dictsort: sorts a dict by 'key' or by 'value'");
    }
    struct keyed *keyed, *scratch;
    struct mb_jinja_value none = { 0 };
    size_t n = in.dict->len;
    if (!keyed_of(r, n, &keyed, &scratch)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        struct mb_entry e = in.dict->at[i];
        if (!mb_pair_new(r, e.key, e.value, &keyed[i].value) ||
            !key_of(r, by_value ? e.value : e.key, none, mb_jinja_value_is_true(at[0]),
                    &keyed[i].key)) {
            return false;
        }
    }
    if (!sort_keyed(r, keyed, scratch, n, mb_jinja_value_is_true(at[2]), &keyed) ||
        !mb_list_new(r, MB_LIST, n, ret)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!mb_list_push(r, ret->list, keyed[i].value)) {
            return false;
        }
    }
    return true;
}

/* ---- one of many ------------------------------------------------------------------------- */

static bool extreme(struct mb_render *r, struct mb_jinja_value in,
                    const struct mb_jinja_value *at, int wanted, struct mb_jinja_value *ret)
{
    struct mb_list l;
    struct mb_jinja_value best = { 0 }, key;
    if (!mb_jinja_value_elements(r, in, &l)) {
        return false;
    }
    *ret = mb_jinja_value_undefined("an element of nothing", 21);
    for (size_t i = 0; i < l.len; i++) {
        int k = wanted;
        if (!key_of(r, l.at[i], at[1], mb_jinja_value_is_true(at[0]), &key) ||
            (i > 0 && !mb_jinja_value_order(r, key, best, &k))) {
            return false;
        }
        if (k == wanted) {
            best = key;
            *ret = l.at[i];
        }
    }
    return true;
}

static bool least(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return extreme(r, in, at, -1, ret);
}

static bool greatest(struct mb_render *r, struct mb_jinja_value in,
                     const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    return extreme(r, in, at, 1, ret);
}

static bool first(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    *ret = mb_jinja_value_undefined("the first of nothing", 20);
    if (in.kind == MB_VALUE_LIST && in.list->shape == MB_ITERATOR) {
        struct mb_list *l = in.list;
        if (l->taken < l->len) {
            *ret = l->at[l->taken++];
        }
        return true;
    }
    if (in.kind == MB_VALUE_STRING && in.n > 0) {
        return mb_jinja_value_item(r, in, mb_jinja_value_int(0), ret);
    }
    struct mb_list l;
    if (!mb_jinja_value_elements(r, in, &l)) {
        return false;
    }
    if (l.len > 0) {
        *ret = l.at[0];
    }
    return true;
}

static bool last(struct mb_render *r, struct mb_jinja_value in, const struct mb_jinja_value *at,
                 struct mb_jinja_value *ret)
{
    struct mb_list l;
    if (in.kind == MB_VALUE_STRING && in.n > 0) {
        return mb_jinja_value_item(r, in, mb_jinja_value_int(-1), ret);
    }
    if (!mb_jinja_value_elements(r, in, &l)) {
        return false;
    }
    *ret = l.len > 0 ? l.at[l.len - 1] : mb_jinja_value_undefined("the last of nothing", 19);
    return true;
}

/* ---- all of them ------------------------------------------------------------------------- */

static bool copy_list(struct mb_render *r, struct mb_jinja_value in, enum mb_list_shape shape,
                      bool backward, struct mb_jinja_value *ret)
{
    struct mb_list l;
    if (!mb_jinja_value_elements(r, in, &l) || !mb_list_new(r, shape, l.len, ret)) {
        return false;
    }
    for (size_t i = 0; i < l.len; i++) {
        if (!mb_list_push(r, ret->list, l.at[backward ? l.len - 1 - i : i])) {
            return false;
        }
    }
    return true;
}

static bool list(struct mb_render *r, struct mb_jinja_value in, const struct mb_jinja_value *at,
                 struct mb_jinja_value *ret)
{
    return copy_list(r, in, MB_LIST, false, ret);
}

static bool reverse(struct mb_render *r, struct mb_jinja_value in,
                    const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    struct mb_jinja_value bounds[3] = { { 0 }, { 0 }, mb_jinja_value_int(-1) };
    return in.kind == MB_VALUE_STRING ? mb_jinja_value_slice(r, in, bounds, ret)
                                      : copy_list(r, in, MB_ITERATOR, true, ret);
}

static bool items(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    if (in.kind != MB_VALUE_DICT && in.kind != MB_VALUE_UNDEFINED) {
        return mb_render_fail(r, MB_E_INVALID, "items: a %s has none", mb_jinja_value_type(in));
    }
    size_t n = in.kind == MB_VALUE_DICT ? in.dict->len : 0;
    if (!mb_list_new(r, MB_ITERATOR, n, ret)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        struct mb_jinja_value pair;
        if (!mb_pair_new(r, in.dict->at[i].key, in.dict->at[i].value, &pair) ||
            !mb_list_push(r, ret->list, pair)) {
            return false;
        }
    }
    return true;
}

static bool length(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    int64_t n;
    if (!mb_jinja_value_length(r, in, &n)) {
        return false;
    }
    *ret = mb_jinja_value_int(n);
    return true;
}

static bool join(struct mb_render *r, struct mb_jinja_value in, const struct mb_jinja_value *at,
                 struct mb_jinja_value *ret)
{
    struct mb_list l;
    struct mb_jinja_value between = mb_jinja_value_literal("");
    if (!mb_jinja_value_elements(r, in, &l) ||
        (at[0].kind != MB_VALUE_ABSENT && !mb_jinja_value_text(r, at[0], &between))) {
        return false;
    }
    size_t mark = mb_render_mark(r);
    for (size_t i = 0; i < l.len; i++) {
        struct mb_jinja_value v = l.at[i];
        if ((at[1].kind > MB_VALUE_NONE && !mb_jinja_value_path(r, v, at[1], &v)) ||
            (i > 0 && !mb_render_put(r, between.text, between.n)) ||
            !mb_jinja_value_print(r, v) || !mb_render_work(r, 1)) {
            return false;
        }
    }
    return mb_render_cut(r, mark, ret);
}

static bool sum(struct mb_render *r, struct mb_jinja_value in, const struct mb_jinja_value *at,
                struct mb_jinja_value *ret)
{
    struct mb_list l;
    struct mb_jinja_value total = at[1].kind == MB_VALUE_ABSENT ? mb_jinja_value_int(0) : at[1];
    if (!mb_jinja_value_elements(r, in, &l)) {
        return false;
    }
    for (size_t i = 0; i < l.len; i++) {
        struct mb_jinja_value v = l.at[i];
        if ((at[0].kind > MB_VALUE_NONE && !mb_jinja_value_path(r, v, at[0], &v)) ||
            !mb_jinja_value_compute(r, MB_ADD, total, v, &total)) {
            return false;
        }
    }
    *ret = total;
    return true;
}

static bool unique(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    struct mb_list l;
    struct mb_jinja_value seen, key;
    if (!mb_jinja_value_elements(r, in, &l) || !mb_list_new(r, MB_LIST, l.len, &seen) ||
        !mb_list_new(r, MB_ITERATOR, 4, ret)) {
        return false;
    }
    for (size_t i = 0; i < l.len; i++) {
        bool known;
        if (!key_of(r, l.at[i], at[1], mb_jinja_value_is_true(at[0]), &key) ||
            !mb_jinja_value_contains(r, seen, key, &known)) {
            return false;
        }
        if (!known &&
            (!mb_list_push(r, seen.list, key) || !mb_list_push(r, ret->list, l.at[i]))) {
            return false;
        }
    }
    return true;
}

static bool default_value(struct mb_render *r, struct mb_jinja_value in,
                          const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    bool missing = in.kind == MB_VALUE_UNDEFINED ||
                   (mb_jinja_value_is_true(at[1]) && !mb_jinja_value_is_true(in));
    struct mb_jinja_value other =
        at[0].kind == MB_VALUE_ABSENT ? mb_jinja_value_literal("") : at[0];
    *ret = missing ? other : in;
    return true;
}

static bool attribute(struct mb_render *r, struct mb_jinja_value in,
                      const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    struct mb_jinja_value name;
    return mb_jinja_value_text(r, at[0], &name) && mb_jinja_value_attribute(r, in, name, ret);
}

/* Lists of n elements; the last is filled up when there is something to fill it with. */
static bool batch(struct mb_render *r, struct mb_jinja_value in,
                  const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    struct mb_list l;
    int64_t n;
    struct mb_jinja_value row = { 0 };
    if (!mb_jinja_value_integer(at[0], &n) || n < 1) {
        return mb_render_fail(r, MB_E_INVALID, "batch: linecount is an int above 0");
    }
    if (!mb_jinja_value_elements(r, in, &l) || !mb_list_new(r, MB_ITERATOR, 4, ret)) {
        return false;
    }
    for (size_t i = 0; i < l.len; i++) {
        bool new_row = i % (size_t) n == 0;
        if ((new_row &&
             (!mb_list_new(r, MB_LIST, 4, &row) || !mb_list_push(r, ret->list, row))) ||
            !mb_list_push(r, row.list, l.at[i])) {
            return false;
        }
    }
    while (l.len > 0 && at[1].kind > MB_VALUE_NONE && row.list->len < (size_t) n) {
        if (!mb_list_push(r, row.list, at[1])) {
            return false;
        }
    }
    return true;
}

const struct mb_function mb_list_filters[] = {
    { "attr", attribute, "!name" },
    { "batch", batch, "!linecount,fill_with" },
    { "count", length, "" },
    { "d", default_value, "default_value,boolean" },
    { "default", default_value, "default_value,boolean" },
    { "dictsort", dictsort, "case_sensitive,by,reverse" },
    { "first", first, "" },
    { "items", items, "" },
    { "join", join, "d,attribute" },
    { "last", last, "" },
    { "length", length, "" },
    { "list", list, "" },
    { "max", greatest, "case_sensitive,attribute" },
    { "min", least, "case_sensitive,attribute" },
    { "reverse", reverse, "" },
    { "sort", sort, "reverse,case_sensitive,attribute" },
    { "sum", sum, "attribute,start" },
    { "unique", unique, "case_sensitive,attribute" },
    { 0 },
};
