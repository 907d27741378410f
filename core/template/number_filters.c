/* Filters of numbers, and from strings to numbers. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/template/call.h"
#include "core/template/text.h"

enum { NUMBER_TEXT_MAX = 320 }; /* bytes of a number: the longest float has some 310 digits */

/* Text without the blanks around it and the underscores between digits, terminated. */
static bool plain_number(struct mb_render *r, struct mb_jinja_value text,
                         char ret[NUMBER_TEXT_MAX])
{
    size_t n = 0;
    if (!mb_text_strip(r, text, mb_jinja_value_none(), MB_LEFT | MB_RIGHT, &text)) {
        return false;
    }
    for (size_t i = 0; i < text.n; i++) {
        char c = text.text[i];
        bool between = i > 0 && i + 1 < text.n && text.text[i - 1] != '_';
        if (c == '_' && !between) {
            return false;
        }
        if (n + 1 == NUMBER_TEXT_MAX || c == '\0') {
            return false;
        }
        if (c != '_') {
            ret[n++] = c;
        }
    }
    ret[n] = '\0';
    return n > 0;
}

static bool int_of_text(struct mb_render *r, struct mb_jinja_value text, int64_t base,
                        int64_t *ret)
{
    char plain[NUMBER_TEXT_MAX];
    if (!plain_number(r, text, plain)) {
        return false;
    }
    const char *digits = plain + (plain[0] == '-' || plain[0] == '+');
    bool prefixed = digits[0] == '0' && strchr("xXoObB", digits[1]) && digits[1];
    static const struct {
        const char *letters;
        int base;
    } prefixes[] = { { "xX", 16 }, { "oO", 8 }, { "bB", 2 } };
    char cleaned[NUMBER_TEXT_MAX];
    (void) snprintf(cleaned, sizeof cleaned, "%s", plain);
    if (prefixed) {
        for (size_t k = 0; k < 3; k++) {
            if (strchr(prefixes[k].letters, digits[1]) &&
                (base == 0 || base == prefixes[k].base)) {
                base = prefixes[k].base;
                (void) snprintf(cleaned, sizeof cleaned, "%s%s", plain[0] == '-' ? "-" : "",
                                digits + 2);
                break;
            }
        }
    }
    const char *from = cleaned + (cleaned[0] == '-' || cleaned[0] == '+');
    if (!((*from >= '0' && *from <= '9') || (*from >= 'a' && *from <= 'z') ||
          (*from >= 'A' && *from <= 'Z'))) {
        return false;
    }
    char *end;
    errno = 0;
    long long v = strtoll(cleaned, &end, base == 0 ? 10 : (int) base);
    *ret = v;
    return errno == 0 && *end == '\0';
}

static bool float_of_text(struct mb_render *r, struct mb_jinja_value text, double *ret)
{
    char plain[NUMBER_TEXT_MAX];
    if (!plain_number(r, text, plain)) {
        return false;
    }
    const char *digits = plain + (plain[0] == '-' || plain[0] == '+');
    bool word = strcasecmp(digits, "inf") == 0 || strcasecmp(digits, "infinity") == 0 ||
                strcasecmp(digits, "nan") == 0;
    if (!word && strspn(plain, "0123456789+-.eE") != strlen(plain)) {
        return false; /* strtod knows hexadecimal numbers, too */
    }
    char *end;
    *ret = strtod(plain, &end);
    return *end == '\0' && end != plain;
}

/* Toward zero; false when it does not fit. */
static bool whole_of(double x, int64_t *ret)
{
    if (!(x >= -9223372036854775808.0 && x < 9223372036854775808.0)) {
        return false;
    }
    *ret = (int64_t) x;
    return true;
}

static bool to_int(struct mb_render *r, struct mb_jinja_value in,
                   const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    int64_t i, base = 10;
    double x;
    if (in.kind == MB_VALUE_UNDEFINED) {
        return mb_render_fail_undefined(r, in);
    }
    if (at[1].kind != MB_VALUE_ABSENT &&
        (!mb_jinja_value_integer(at[1], &base) || base < 0 || base == 1 || base > 36)) {
        return mb_render_fail(r, MB_E_INVALID, "int: base is 0 or 2 to 36");
    }
    bool ok = mb_jinja_value_integer(in, &i);
    if (in.kind == MB_VALUE_FLOAT) {
        ok = whole_of(in.real, &i);
    } else if (in.kind == MB_VALUE_STRING) {
        ok = int_of_text(r, in, base, &i) || (float_of_text(r, in, &x) && whole_of(x, &i));
    }
    *ret = ok                              ? mb_jinja_value_int(i)
           : at[0].kind == MB_VALUE_ABSENT ? mb_jinja_value_int(0)
                                           : at[0];
    return r->status == MB_OK;
}

static bool to_float(struct mb_render *r, struct mb_jinja_value in,
                     const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    double x;
    if (in.kind == MB_VALUE_UNDEFINED) {
        return mb_render_fail_undefined(r, in);
    }
    if (mb_jinja_value_is_number(in)) {
        *ret = mb_jinja_value_float(mb_jinja_value_real(in));
    } else if (in.kind == MB_VALUE_STRING && float_of_text(r, in, &x)) {
        *ret = mb_jinja_value_float(x);
    } else {
        *ret = at[0].kind == MB_VALUE_ABSENT ? mb_jinja_value_float(0) : at[0];
    }
    return r->status == MB_OK;
}

static bool absolute(struct mb_render *r, struct mb_jinja_value in,
                     const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    int64_t i;
    if (!mb_jinja_value_is_number(in)) {
        return mb_render_fail(r, MB_E_INVALID, "abs: needs a number, not a %s",
                              mb_jinja_value_type(in));
    }
    if (!mb_jinja_value_integer(in, &i)) {
        *ret = mb_jinja_value_float(fabs(in.real));
        return true;
    }
    *ret = mb_jinja_value_int(i < 0 && i != INT64_MIN ? -i : i);
    return i != INT64_MIN || mb_render_fail(r, MB_E_INVALID, "a number is beyond 64 bits");
}

/* Half to even of the exact value, as printf and Python do. */
static double round_to(double x, int64_t digits)
{
    char text[NUMBER_TEXT_MAX + 40];
    if (digits < 0) {
        double unit = pow(10, (double) -digits);
        return nearbyint(x / unit) * unit;
    }
    int n = snprintf(text, sizeof text, "%.*f", (int) (digits < 30 ? digits : 30), x);
    return n > 0 && (size_t) n < sizeof text ? strtod(text, NULL) : x;
}

/* i to a multiple of 10^places, half to even; false when it does not fit. */
static bool round_int(int64_t i, int64_t places, int64_t *ret)
{
    uint64_t size = i < 0 ? -(uint64_t) i : (uint64_t) i, unit = 1;
    *ret = places > 0 ? 0 : i;
    if (places <= 0 || places > 19) { /* half of 10^20 is more than 64 bits hold */
        return true;
    }
    for (; places > 0; places--) {
        unit *= 10;
    }
    uint64_t n = size / unit, rest = size % unit;
    n += rest > unit - rest || (rest == unit - rest && n % 2 == 1);
    if (n > INT64_MAX / unit) {
        return false;
    }
    *ret = i < 0 ? -(int64_t) (n * unit) : (int64_t) (n * unit);
    return true;
}

static bool round_number(struct mb_render *r, struct mb_jinja_value in,
                         const struct mb_jinja_value *at, struct mb_jinja_value *ret)
{
    int64_t digits = 0;
    bool up = mb_jinja_value_is_text(at[1], "ceil"),
         down = mb_jinja_value_is_text(at[1], "floor");
    if (at[1].kind != MB_VALUE_ABSENT && !up && !down &&
        !mb_jinja_value_is_text(at[1], "common")) {
        return mb_render_fail(r, MB_E_INVALID, "round: method is common, ceil or floor");
    }
    if (!mb_jinja_value_is_number(in) ||
        (at[0].kind != MB_VALUE_ABSENT && !mb_jinja_value_integer(at[0], &digits)) ||
        digits < -300 || digits > 300) {
        return mb_render_fail(r, MB_E_INVALID,
                              "round: needs a number, and an int for precision");
    }
    double x = mb_jinja_value_real(in);
    if (up || down) {
        double unit = pow(10, (double) digits);
        *ret = mb_jinja_value_float((up ? ceil(x * unit) : floor(x * unit)) / unit);
        return true;
    }
    int64_t i;
    if (!mb_jinja_value_integer(in, &i)) {
        *ret = mb_jinja_value_float(round_to(x, digits));
        return true;
    }
    bool fits = round_int(i, -digits, &i);
    *ret = mb_jinja_value_int(i);
    return fits || mb_render_fail(r, MB_E_INVALID, "a number is beyond 64 bits");
}

const struct mb_function mb_number_filters[] = {
    { "abs", absolute, "" },
    { "float", to_float, "default" },
    { "int", to_int, "default,base" },
    { "round", round_number, "precision,method" },
    { 0 },
};
