#include "core/import/json.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/file.h"
#include "proto/json_tally.h"

enum { INTEGER_DIGITS_MAX = 18, INTEGER_DIGITS_KEPT = 8 }; /* 64 bits hold any 18 digits */

/* The next integer of more than 18 digits at or after i, outside strings: [*ret_at, + *ret_n) are
 * its digits. False when there is none. */
static bool next_long_integer(const uint8_t *at, size_t n, size_t i, size_t *ret_at,
                              size_t *ret_n)
{
    bool in_string = false;
    while (i < n) {
        if (in_string || at[i] == '"') {
            in_string = at[i] == '"' ? !in_string : in_string;
            i += at[i] == '\\' ? 2 : 1;
            continue;
        }
        size_t digits = 0;
        while (i + digits < n && at[i + digits] >= '0' && at[i + digits] <= '9') {
            digits++;
        }
        bool part_of_real = (i > 0 && memchr(".eE+", at[i - 1], 4)) ||
                            (i + digits < n && memchr(".eE", at[i + digits], 3));
        if (digits > INTEGER_DIGITS_MAX && at[i] != '0' && !part_of_real) {
            *ret_at = i;
            *ret_n = digits;
            return true;
        }
        i += digits ? digits : 1;
    }
    return false;
}

/* jansson refuses integers beyond 64 bits, and transformers writes "model_max_length":
 * 1000000000000000019884624838656 for "no limit". Such an integer becomes a real of the same first
 * digits and the same length, in a copy; *ret is NULL when there is none. */
static enum mb_status integers_to_reals(const uint8_t *at, size_t n, const char *file,
                                        uint8_t **ret, struct mb_error *err)
{
    uint8_t *copy = NULL;
    size_t i = 0, digits;
    while (next_long_integer(at, n, i, &i, &digits)) {
        if (!copy) {
            copy = malloc(n);
            if (!copy) {
                return mb_fail(err, MB_E_NOMEM, 0, "%s: no memory", file);
            }
            memcpy(copy, at, n);
        }
        char exponent[24];
        int len = snprintf(exponent, sizeof exponent, "e%zu", digits - INTEGER_DIGITS_KEPT);
        memset(copy + i + INTEGER_DIGITS_KEPT, ' ', digits - INTEGER_DIGITS_KEPT);
        memcpy(copy + i + INTEGER_DIGITS_KEPT, exponent, (size_t) len);
        i += digits;
    }
    *ret = copy;
    return MB_OK;
}

enum mb_status mb_json_parse(const uint8_t *at, size_t n, const char *file, json_t **ret,
                             struct mb_error *err)
{
    if (n > MB_JSON_BYTES_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "%s: %zu bytes are more than the %u that are read",
                       file, n, MB_JSON_BYTES_MAX);
    }
    struct mb_json_tally tally = { 0 };
    mb_json_tally((const char *) at, n, &tally); /* jansson recurses once a level */
    if (tally.depth > MB_JSON_DEPTH_MAX) {
        return mb_fail(err, MB_E_LIMIT, 0, "%s: nested deeper than %d", file,
                       MB_JSON_DEPTH_MAX);
    }
    uint8_t *copy = NULL;
    enum mb_status st = integers_to_reals(at, n, file, &copy, err);
    if (st != MB_OK) {
        return st;
    }
    json_error_t why;
    const uint8_t *text = copy ? copy : at;
    json_t *root = json_loadb(n ? (const char *) text : "", n, JSON_REJECT_DUPLICATES, &why);
    free(copy);
    if (!root) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: line %d, column %d: %s", file, why.line,
                       why.column, why.text);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return mb_fail(err, MB_E_FORMAT, 0, "%s: not a JSON object", file);
    }
    *ret = root;
    return MB_OK;
}

enum mb_status mb_json_load(const char *path, json_t **ret, struct mb_error *err)
{
    struct mb_file_map m;
    enum mb_status st = mb_file_map(path, &m, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_json_parse(m.at, m.n, path, ret, err);
    mb_file_unmap(&m);
    return st;
}

enum mb_status mb_json_where(enum mb_status st, const char *where, struct mb_error *err)
{
    if (st != MB_OK && err) {
        char what[sizeof err->what];
        (void) snprintf(what, sizeof what, "%s", err->what);
        (void) snprintf(err->what, sizeof err->what, "%.150s: %.240s", where, what);
    }
    return st;
}

/* *ret is the field, or NULL when it is absent or null and need not be there. */
static enum mb_status get(const json_t *obj, const char *field, enum mb_json_need need,
                          const json_t **ret, struct mb_error *err)
{
    const json_t *v = json_object_get(obj, field);
    if (!v || json_is_null(v)) {
        if (need == MB_JSON_REQUIRED) {
            return mb_fail(err, MB_E_FORMAT, 0, "%s: missing", field);
        }
        v = NULL;
    }
    *ret = v;
    return MB_OK;
}

enum mb_status mb_json_u32(const json_t *obj, const char *field, enum mb_json_need need,
                           uint32_t min, uint32_t max, uint32_t *ret, struct mb_error *err)
{
    const json_t *v;
    enum mb_status st = get(obj, field, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (!json_is_integer(v)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: not an integer", field);
    }
    json_int_t i = json_integer_value(v);
    if (i < (json_int_t) min || i > (json_int_t) max) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: %lld is outside %u..%u", field, (long long) i,
                       min, max);
    }
    *ret = (uint32_t) i;
    return MB_OK;
}

enum mb_status mb_json_f64(const json_t *obj, const char *field, enum mb_json_need need,
                           double min, double max, double *ret, struct mb_error *err)
{
    const json_t *v;
    enum mb_status st = get(obj, field, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (!json_is_number(v)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: not a number", field);
    }
    double x = json_number_value(v);
    if (!(x >= min && x <= max)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: %g is outside %g..%g", field, x, min, max);
    }
    *ret = x;
    return MB_OK;
}

enum mb_status mb_json_bool(const json_t *obj, const char *field, enum mb_json_need need,
                            int *ret, struct mb_error *err)
{
    const json_t *v;
    enum mb_status st = get(obj, field, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (!json_is_boolean(v)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: neither true nor false", field);
    }
    *ret = json_is_true(v);
    return MB_OK;
}

enum mb_status mb_json_text(const json_t *obj, const char *field, enum mb_json_need need,
                            const char **ret, struct mb_error *err)
{
    const json_t *v;
    enum mb_status st = get(obj, field, need, &v, err);
    if (st != MB_OK || !v) {
        return st;
    }
    if (!json_is_string(v)) {
        return mb_fail(err, MB_E_FORMAT, 0, "%s: not a string", field);
    }
    *ret = json_string_value(v);
    return MB_OK;
}
