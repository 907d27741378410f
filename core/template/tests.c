/* What stands after "is". */
#include <string.h>

#include "core/template/call.h"
#include "core/template/number.h"
#include "core/template/text.h"
#include "core/tokenizer/unicode.h"

/* arg is what the test is given, absent when nothing. */
typedef bool test_fn(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                     bool *ret);

static bool is_defined(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                       bool *ret)
{
    *ret = v.kind != MB_VALUE_UNDEFINED;
    return true;
}

static bool is_undefined(struct mb_render *r, struct mb_jinja_value v,
                         struct mb_jinja_value arg, bool *ret)
{
    *ret = v.kind == MB_VALUE_UNDEFINED;
    return true;
}

static bool is_none(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                    bool *ret)
{
    *ret = v.kind == MB_VALUE_NONE;
    return true;
}

static bool is_boolean(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                       bool *ret)
{
    *ret = v.kind == MB_VALUE_BOOL;
    return true;
}

static bool is_exactly_true(struct mb_render *r, struct mb_jinja_value v,
                            struct mb_jinja_value arg, bool *ret)
{
    *ret = v.kind == MB_VALUE_BOOL && v.truth;
    return true;
}

static bool is_exactly_false(struct mb_render *r, struct mb_jinja_value v,
                             struct mb_jinja_value arg, bool *ret)
{
    *ret = v.kind == MB_VALUE_BOOL && !v.truth;
    return true;
}

static bool is_integer(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                       bool *ret)
{
    *ret = v.kind == MB_VALUE_INT;
    return true;
}

static bool is_float(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                     bool *ret)
{
    *ret = v.kind == MB_VALUE_FLOAT;
    return true;
}

static bool is_number(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                      bool *ret)
{
    *ret = mb_jinja_value_is_number(v); /* a bool is one, in Python */
    return true;
}

static bool is_string(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                      bool *ret)
{
    *ret = v.kind == MB_VALUE_STRING;
    return true;
}

static bool is_mapping(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                       bool *ret)
{
    *ret = v.kind == MB_VALUE_DICT;
    return true;
}

static bool is_sequence(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                        bool *ret)
{
    *ret = v.kind == MB_VALUE_STRING || v.kind == MB_VALUE_DICT ||
           v.kind == MB_VALUE_UNDEFINED ||
           (v.kind == MB_VALUE_LIST && v.list->shape <= MB_RANGE);
    return true;
}

static bool is_iterable(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                        bool *ret)
{
    *ret = v.kind == MB_VALUE_STRING || v.kind == MB_VALUE_DICT || v.kind == MB_VALUE_LIST ||
           v.kind == MB_VALUE_UNDEFINED || v.kind == MB_VALUE_LOOP;
    return true;
}

static bool is_callable(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                        bool *ret)
{
    *ret = v.kind == MB_VALUE_CALLABLE || v.kind == MB_VALUE_UNDEFINED;
    return true;
}

static bool is_escaped(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                       bool *ret)
{
    *ret = false;
    return true;
}

static bool is_filter(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                      bool *ret)
{
    *ret = v.kind == MB_VALUE_STRING && mb_filter_exists(v);
    return true;
}

static bool is_test(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                    bool *ret)
{
    *ret = v.kind == MB_VALUE_STRING && mb_test_exists(v);
    return true;
}

static bool has_case(struct mb_render *r, struct mb_jinja_value v, bool upper, bool *ret)
{
    if (!mb_jinja_value_text(r, v, &v)) {
        return false;
    }
    *ret = upper ? mb_text_is_cased(v, mb_is_upper, mb_is_lower)
                 : mb_text_is_cased(v, mb_is_lower, mb_is_upper);
    return mb_render_work(r, v.n / 8);
}

static bool is_upper(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                     bool *ret)
{
    return has_case(r, v, true, ret);
}

static bool is_lower(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                     bool *ret)
{
    return has_case(r, v, false, ret);
}

static bool remainder_is(struct mb_render *r, struct mb_jinja_value v,
                         struct mb_jinja_value divisor, int64_t wanted, bool *ret)
{
    struct mb_jinja_value left;
    return mb_jinja_value_compute(r, MB_MODULO, v, divisor, &left) &&
           mb_jinja_value_equal(r, left, mb_jinja_value_int(wanted), ret);
}

static bool is_odd(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                   bool *ret)
{
    return remainder_is(r, v, mb_jinja_value_int(2), 1, ret);
}

static bool is_even(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                    bool *ret)
{
    return remainder_is(r, v, mb_jinja_value_int(2), 0, ret);
}

static bool is_divisible(struct mb_render *r, struct mb_jinja_value v,
                         struct mb_jinja_value arg, bool *ret)
{
    return remainder_is(r, v, arg, 0, ret);
}

static bool is_equal(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                     bool *ret)
{
    return mb_jinja_value_equal(r, v, arg, ret);
}

static bool is_unequal(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                       bool *ret)
{
    bool ok = mb_jinja_value_equal(r, v, arg, ret);
    *ret = ok && !*ret;
    return ok;
}

static bool is_below(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                     bool *ret)
{
    int k = 2;
    bool ok = mb_jinja_value_order(r, v, arg, &k);
    *ret = k == -1;
    return ok;
}

static bool is_above(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                     bool *ret)
{
    int k = 2;
    bool ok = mb_jinja_value_order(r, v, arg, &k);
    *ret = k == 1;
    return ok;
}

static bool is_at_most(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                       bool *ret)
{
    int k = 2;
    bool ok = mb_jinja_value_order(r, v, arg, &k);
    *ret = k <= 0;
    return ok;
}

static bool is_at_least(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                        bool *ret)
{
    int k = 2;
    bool ok = mb_jinja_value_order(r, v, arg, &k);
    *ret = k == 0 || k == 1;
    return ok;
}

static bool is_in(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                  bool *ret)
{
    return mb_jinja_value_contains(r, arg, v, ret);
}

/* Python's "is": of the same kind and equal for what has no parts, the very same for the
 * rest. */
static bool is_same(struct mb_render *r, struct mb_jinja_value v, struct mb_jinja_value arg,
                    bool *ret)
{
    *ret = false;
    if (v.kind != arg.kind) {
        return true;
    }
    if (v.kind == MB_VALUE_LIST || v.kind == MB_VALUE_DICT) {
        *ret = v.kind == MB_VALUE_LIST ? v.list == arg.list : v.dict == arg.dict;
        return true;
    }
    return mb_jinja_value_equal(r, v, arg, ret);
}

static const struct {
    const char *name;
    test_fn *call;
    bool takes; /* an argument */
} tests[] = {
    { "!=", is_unequal, true },
    { "<", is_below, true },
    { "<=", is_at_most, true },
    { "==", is_equal, true },
    { ">", is_above, true },
    { ">=", is_at_least, true },
    { "boolean", is_boolean, false },
    { "callable", is_callable, false },
    { "defined", is_defined, false },
    { "divisibleby", is_divisible, true },
    { "eq", is_equal, true },
    { "equalto", is_equal, true },
    { "escaped", is_escaped, false },
    { "even", is_even, false },
    { "false", is_exactly_false, false },
    { "filter", is_filter, false },
    { "float", is_float, false },
    { "ge", is_at_least, true },
    { "greaterthan", is_above, true },
    { "gt", is_above, true },
    { "in", is_in, true },
    { "integer", is_integer, false },
    { "iterable", is_iterable, false },
    { "le", is_at_most, true },
    { "lessthan", is_below, true },
    { "lower", is_lower, false },
    { "lt", is_below, true },
    { "mapping", is_mapping, false },
    { "ne", is_unequal, true },
    { "none", is_none, false },
    { "number", is_number, false },
    { "odd", is_odd, false },
    { "sameas", is_same, true },
    { "sequence", is_sequence, false },
    { "string", is_string, false },
    { "test", is_test, false },
    { "true", is_exactly_true, false },
    { "undefined", is_undefined, false },
    { "upper", is_upper, false },
};
enum { N_TESTS = sizeof tests / sizeof tests[0] };

static size_t find(struct mb_jinja_value name)
{
    size_t i = 0;
    while (i < N_TESTS && !mb_jinja_value_is_text(name, tests[i].name)) {
        i++;
    }
    return i;
}

bool mb_test_exists(struct mb_jinja_value name)
{
    return find(name) < N_TESTS;
}

bool mb_test_apply(struct mb_render *r, struct mb_jinja_value name, struct mb_jinja_value in,
                   const struct mb_args *args, bool *ret)
{
    size_t i = find(name);
    if (i == N_TESTS) {
        return mb_render_fail(r, MB_E_INVALID, "there is no test '%.*s'",
                              (int) (name.n < 40 ? name.n : 40), name.text);
    }
    if (args->n_named > 0 || args->n != tests[i].takes) {
        return mb_render_fail(r, MB_E_INVALID, "the test '%s' takes %s argument", tests[i].name,
                              tests[i].takes ? "one" : "no");
    }
    struct mb_jinja_value none = { 0 };
    return mb_render_work(r, 1) && tests[i].call(r, in, args->n > 0 ? args->at[0] : none, ret);
}
