#include "core/template/number.h"

#include <math.h>
#include <string.h>

#include "core/template/render.h"

static const char *const signs[] = { "+", "-", "*", "/", "//", "%", "**" };

static bool too_large(struct mb_render *r)
{
    return mb_render_fail(r, MB_E_INVALID, "a number is beyond 64 bits");
}

static bool by_zero(struct mb_render *r)
{
    return mb_render_fail(r, MB_E_INVALID, "division by zero");
}

static bool no_operation(struct mb_render *r, enum mb_operator op, struct mb_jinja_value a,
                         struct mb_jinja_value b)
{
    if (a.kind == MB_VALUE_UNDEFINED || b.kind == MB_VALUE_UNDEFINED) {
        return mb_render_fail_undefined(r, a.kind == MB_VALUE_UNDEFINED ? a : b);
    }
    return mb_render_fail(r, MB_E_INVALID, "a %s %s a %s is not defined",
                          mb_jinja_value_type(a), signs[op], mb_jinja_value_type(b));
}

/* ---- ints -------------------------------------------------------------------------------- */

/* Rounds toward minus infinity; the remainder has the divisor's sign. */
static bool divide_ints(struct mb_render *r, int64_t a, int64_t b, int64_t *ret_quotient,
                        int64_t *ret_remainder)
{
    if (b == 0) {
        return by_zero(r);
    }
    if (a == INT64_MIN && b == -1) {
        return too_large(r);
    }
    int64_t q = a / b, m = a % b;
    if (m != 0 && (m < 0) != (b < 0)) {
        q--;
        m += b;
    }
    *ret_quotient = q;
    *ret_remainder = m;
    return true;
}

static bool raise_int(struct mb_render *r, int64_t base, int64_t exponent,
                      struct mb_jinja_value *ret)
{
    int64_t power = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(power, base, &power)) {
            return too_large(r);
        }
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
            return too_large(r);
        }
    }
    *ret = mb_jinja_value_int(power);
    return true;
}

static bool compute_ints(struct mb_render *r, enum mb_operator op, int64_t a, int64_t b,
                         struct mb_jinja_value *ret)
{
    int64_t c = 0, remainder = 0;
    bool over = false;
    switch (op) {
    case MB_ADD:
        over = __builtin_add_overflow(a, b, &c);
        break;
    case MB_SUBTRACT:
        over = __builtin_sub_overflow(a, b, &c);
        break;
    case MB_MULTIPLY:
        over = __builtin_mul_overflow(a, b, &c);
        break;
    case MB_FLOOR_DIVIDE:
    case MB_MODULO:
        if (!divide_ints(r, a, b, &c, &remainder)) {
            return false;
        }
        c = op == MB_MODULO ? remainder : c;
        break;
    case MB_POWER:
        return raise_int(r, a, b, ret);
    case MB_DIVIDE:
        break; /* gives a float: not here */
    }
    *ret = mb_jinja_value_int(c);
    return !over || too_large(r);
}

/* ---- floats ------------------------------------------------------------------------------ */

static double modulo(double a, double b)
{
    double m = fmod(a, b);
    if (m != 0 && (m < 0) != (b < 0)) {
        m += b;
    }
    return m == 0 ? copysign(0, b) : m;
}

static double floor_divide(double a, double b)
{
    double m = fmod(a, b);
    double q = (a - m) / b;
    if (m != 0 && (m < 0) != (b < 0)) {
        q -= 1;
    }
    double whole = floor(q);
    return whole + (q - whole > 0.5 ? 1 : 0);
}

static bool compute_floats(struct mb_render *r, enum mb_operator op, double a, double b,
                           struct mb_jinja_value *ret)
{
    double c = 0;
    if (b == 0 && (op == MB_DIVIDE || op == MB_FLOOR_DIVIDE || op == MB_MODULO)) {
        return by_zero(r);
    }
    switch (op) {
    case MB_ADD:
        c = a + b;
        break;
    case MB_SUBTRACT:
        c = a - b;
        break;
    case MB_MULTIPLY:
        c = a * b;
        break;
    case MB_DIVIDE:
        c = a / b;
        break;
    case MB_FLOOR_DIVIDE:
        c = floor_divide(a, b);
        break;
    case MB_MODULO:
        c = modulo(a, b);
        break;
    case MB_POWER:
        if (a == 0 && b < 0) {
            return by_zero(r);
        }
        c = pow(a, b);
        if (isfinite(a) && isfinite(b) && !isfinite(c)) {
            return mb_render_fail(r, MB_E_INVALID, "a power is no real number");
        }
        break;
    }
    *ret = mb_jinja_value_float(c);
    return true;
}

static bool compute_numbers(struct mb_render *r, enum mb_operator op, struct mb_jinja_value a,
                            struct mb_jinja_value b, struct mb_jinja_value *ret)
{
    int64_t i, j;
    bool ints = mb_jinja_value_integer(a, &i) && mb_jinja_value_integer(b, &j);
    if (ints && op != MB_DIVIDE && !(op == MB_POWER && j < 0)) {
        return compute_ints(r, op, i, j, ret);
    }
    return compute_floats(r, op, mb_jinja_value_real(a), mb_jinja_value_real(b), ret);
}

/* ---- strings and lists ------------------------------------------------------------------- */

static bool repeat_text(struct mb_render *r, struct mb_jinja_value text, int64_t times,
                        struct mb_jinja_value *ret)
{
    size_t mark = mb_render_mark(r);
    for (int64_t i = 0; i < times && text.n > 0; i++) {
        if (!mb_render_put(r, text.text, text.n)) {
            return false;
        }
    }
    return mb_render_cut(r, mark, ret);
}

static bool append_list(struct mb_render *r, const struct mb_list *from, struct mb_list *to)
{
    for (size_t i = 0; i < from->len; i++) {
        if (!mb_list_push(r, to, from->at[i])) {
            return false;
        }
    }
    return true;
}

static bool repeat_list(struct mb_render *r, const struct mb_list *l, int64_t times,
                        struct mb_jinja_value *ret)
{
    if (!mb_list_new(r, l->shape, l->len, ret)) {
        return false;
    }
    for (int64_t i = 0; i < times && l->len > 0; i++) {
        if (!append_list(r, l, ret->list)) {
            return false;
        }
    }
    return true;
}

static bool is_plain_list(struct mb_jinja_value v)
{
    return v.kind == MB_VALUE_LIST && (v.list->shape == MB_LIST || v.list->shape == MB_TUPLE);
}

static bool add_sequences(struct mb_render *r, struct mb_jinja_value a, struct mb_jinja_value b,
                          struct mb_jinja_value *ret)
{
    if (a.kind == MB_VALUE_STRING && b.kind == MB_VALUE_STRING) {
        size_t mark = mb_render_mark(r);
        return mb_render_put(r, a.text, a.n) && mb_render_put(r, b.text, b.n) &&
               mb_render_cut(r, mark, ret);
    }
    if (!is_plain_list(a) || !is_plain_list(b) || a.list->shape != b.list->shape) {
        return no_operation(r, MB_ADD, a, b);
    }
    struct mb_list left = *a.list, right = *b.list;
    return mb_list_new(r, left.shape, left.len + right.len, ret) &&
           append_list(r, &left, ret->list) && append_list(r, &right, ret->list);
}

static bool multiply_sequence(struct mb_render *r, struct mb_jinja_value a,
                              struct mb_jinja_value b, struct mb_jinja_value *ret)
{
    int64_t times;
    if (mb_jinja_value_integer(a, &times)) {
        struct mb_jinja_value whole = b;
        b = a;
        a = whole;
    }
    if (mb_jinja_value_integer(b, &times) && a.kind == MB_VALUE_STRING) {
        return repeat_text(r, a, times, ret);
    }
    if (mb_jinja_value_integer(b, &times) && is_plain_list(a)) {
        return repeat_list(r, a.list, times, ret);
    }
    return no_operation(r, MB_MULTIPLY, a, b);
}

bool mb_jinja_value_compute(struct mb_render *r, enum mb_operator op, struct mb_jinja_value a,
                            struct mb_jinja_value b, struct mb_jinja_value *ret)
{
    if (mb_jinja_value_is_number(a) && mb_jinja_value_is_number(b)) {
        return compute_numbers(r, op, a, b, ret);
    }
    if (op == MB_ADD) {
        return add_sequences(r, a, b, ret);
    }
    if (op == MB_MULTIPLY) {
        return multiply_sequence(r, a, b, ret);
    }
    if (op == MB_MODULO && a.kind == MB_VALUE_STRING) {
        return mb_text_format(r, a, b, ret);
    }
    return no_operation(r, op, a, b);
}

bool mb_jinja_value_negate(struct mb_render *r, struct mb_jinja_value v,
                           struct mb_jinja_value *ret)
{
    int64_t i;
    if (v.kind == MB_VALUE_FLOAT) {
        *ret = mb_jinja_value_float(-v.real);
        return true;
    }
    if (mb_jinja_value_integer(v, &i)) {
        *ret = mb_jinja_value_int(i == INT64_MIN ? i : -i);
        return i != INT64_MIN || too_large(r);
    }
    return v.kind == MB_VALUE_UNDEFINED
               ? mb_render_fail_undefined(r, v)
               : mb_render_fail(r, MB_E_INVALID, "a %s has no negative",
                                mb_jinja_value_type(v));
}
